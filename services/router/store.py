"""Tables of the router: person key locks, applied inputs, state and history. Statements are set-based.

Every write holds the lock of its person key; locks are taken first and in key order.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, NamedTuple

from sqlalchemy import TextClause, text

from schemas.events import CaseEvent, CommandRefused, Event
from schemas.model import HubId, OnsCode, PersonKey, Reference
from services.messaging import dead_letters
from services.messaging.cloudevents import OWN_HEADERS, KafkaRecord
from services.messaging.packets import Content, Place
from services.router import stored_state
from services.router.decide.aggregate import PersonAggregate
from services.router.decide.matching import Description
from services.router.decide.model import (
    CaseRecord,
    CaseTally,
    Category,
    PersonRecord,
    PersonTally,
    ReferralRecord,
)
from services.router.decide.stays import OVERDUE_AFTER, overdue_on
from services.runtime import tracing
from services.runtime.database import Transaction

SCHEMA = "router"


InputIdentity = tuple[str, str, str]
"""Person key, topic and event id."""


@dataclass(frozen=True, slots=True)
class Input:
    """Event or command to apply, with its record. `message_group`: group that waits if this becomes a dead letter.

    `event.data` is a CommandRefused if the record is not a valid command but can be answered: the input is the refusal, and its id
    derives from headers and value, so that only the same record is a duplicate of it.
    """

    record: KafkaRecord
    event: Event
    person_key: PersonKey
    message_group: str
    unknown_fields: tuple[str, ...] = ()

    @property
    def identity(self) -> InputIdentity:
        """Identity of the input for the Idempotent Receiver; the topic identifies a commanding hub."""
        return self.person_key, self.record.topic, self.event.id


class KeyRow(NamedTuple):
    """Row of a person key: the sequence number of its last event, its tally, and the persons who do not differ from another."""

    last_sequence: int = 0
    persons: int = 0
    verified_persons: int = 0
    undoubted: tuple[int, ...] = ()


class ConcurrentInsert(TimeoutError):
    """Another transaction has inserted a person key that was new to this one, which must begin again."""


@dataclass(slots=True)
class Locked:
    """Person keys of a batch: the last sequence number of each, and the rows as they were read; a new key has none."""

    last: dict[PersonKey, int]
    rows: Mapping[PersonKey, KeyRow]

    def next(self, key: PersonKey) -> int:
        """Return the next sequence number of a key."""
        self.last[key] += 1
        return self.last[key]


async def lock(tx: Transaction, keys: Iterable[PersonKey]) -> Locked:
    """Lock these person keys in key order. A new key has no row to lock: `save_keys` inserts it."""
    ordered = sorted(set(keys))
    result = await tx.execute(LOCK_KEYS, {"keys": ordered})
    rows = {PersonKey(key): KeyRow._make([*numbers, tuple(undoubted)]) for key, *numbers, undoubted in result}
    return Locked({key: rows.get(key, KeyRow()).last_sequence for key in ordered}, rows)


LOCK_KEYS = text("""
    select person_key, last_sequence, persons, verified_persons, undoubted from router.person_key
    where person_key = any(cast(:keys as text[])) order by person_key for update""")


async def save_keys(
    tx: Transaction,
    locked: Locked,
    keys: Iterable[PersonKey],
    states: Mapping[PersonKey, PersonAggregate] | None = None,
) -> None:
    """Insert those of `keys` that are new, and update those that changed. `keys`: all under which this transaction writes.

    It precedes every other write: from then on new keys are locked too. Raises ConcurrentInsert if another transaction has inserted one of
    them since `lock`: what was read under it is out of date.
    """
    rows = {key: _key_row(key, locked, states or {}) for key in sorted(set(keys))}
    new = {key: row for key, row in rows.items() if key not in locked.rows}
    changed = {key: row for key, row in rows.items() if locked.rows.get(key, row) != row}
    if new and (await tx.execute(_INSERT_KEYS, _key_columns(new))).rowcount != len(new):
        raise ConcurrentInsert
    if changed:
        await tx.execute(_UPDATE_KEYS, _key_columns(changed))


def _key_row(key: PersonKey, locked: Locked, states: Mapping[PersonKey, PersonAggregate]) -> KeyRow:
    row = locked.rows.get(key, KeyRow())
    if key not in states:
        return row
    state = states[key]
    undoubted = {*state.index.undoubted, *(number for number in row.undoubted if number not in state.persons)}
    return KeyRow(locked.last[key], *state.tally, tuple(sorted(undoubted)))


def _key_columns(rows: Mapping[PersonKey, KeyRow]) -> dict[str, list[Any]]:
    return {
        "keys": list(rows),
        "numbers": [row.last_sequence for row in rows.values()],
        "persons": [row.persons for row in rows.values()],
        "verified": [row.verified_persons for row in rows.values()],
        "undoubted": [",".join(map(str, row.undoubted)) for row in rows.values()],
    }


_GIVEN_KEYS = """
    unnest(cast(:keys as text[]), cast(:numbers as bigint[]), cast(:persons as integer[]), cast(:verified as integer[]),
           cast(:undoubted as text[])) as given (key, number, persons, verified, undoubted)"""

_INSERT_KEYS = text(f"""
    insert into router.person_key (person_key, last_sequence, persons, verified_persons, undoubted)
    select key, number, persons, verified, cast(string_to_array(undoubted, ',') as integer[]) from {_GIVEN_KEYS} order by key
    on conflict do nothing""")  # noqa: S608 - constants
_UPDATE_KEYS = text(f"""
    update router.person_key set last_sequence = given.number, persons = given.persons, verified_persons = given.verified,
        undoubted = cast(string_to_array(given.undoubted, ',') as integer[])
    from {_GIVEN_KEYS} where person_key = given.key""")  # noqa: S608 - constants


# ---- inputs ---------------------------------------------------------------------------------------------------------


async def record_inputs(
    tx: Transaction, inputs: Sequence[Input], contents: Sequence[Place], now: datetime, directory: str
) -> None:
    """Store these inputs as applied, in order; `contents`: where their `content_of` is. None of them is stored yet (`applied`)."""
    if inputs:
        columns = {
            **_identities(inputs),
            "types": [one.event.data.TYPE for one in inputs],
            "correlations": [one.event.correlation_id for one in inputs],
            "packets": [content.packet for content in contents],
            "places": [content.place for content in contents],
        }
        await tx.execute(INSERT_INPUTS, {**columns, "now": now, "directory": directory})


INSERT_INPUTS = text("""
    insert into router.input (person_key, topic, id, type, correlation_id, time, directory_version, packet, place)
    select key, topic, id, type, correlation, cast(:now as timestamptz), cast(:directory as text), packet, place
    from unnest(cast(:keys as text[]), cast(:topics as text[]), cast(:ids as text[]), cast(:types as text[]),
                cast(:correlations as text[]), cast(:packets as bigint[]), cast(:places as integer[]))
         with ordinality as input (key, topic, id, type, correlation, packet, place, number)
    order by number""")


def content_of(one: Input) -> Content:
    """Return the bytes of an input: its headers, which `stored_headers` reads, and its value."""
    return Content(one.person_key, (_headers(one).encode(), one.record.value))


def _headers(one: Input) -> str:
    """Return the CloudEvents headers and the trace context as JSON; those of a refused record as dead letters store them.

    Other headers may hold any text and are not stored.
    """
    if isinstance(one.event.data, CommandRefused):
        return dead_letters.encode_headers(own_headers(one.record))
    headers = {name: value.decode() for name, value in own_headers(one.record) if value is not None}
    if context := tracing.extract(one.record.headers):
        headers[tracing.HEADER] = context
    return json.dumps(headers)


def own_headers(record: KafkaRecord) -> tuple[tuple[str, bytes], ...]:
    """Return the headers of a record that are ours."""
    return tuple((name, value) for name, value in record.headers if name.startswith(OWN_HEADERS))


def stored_headers(encoded: bytes) -> tuple[tuple[str, bytes], ...]:
    """Return the headers of a stored input, the first part of its content."""
    decoded = json.loads(encoded)
    if isinstance(decoded, list):
        return dead_letters.decode_headers(encoded.decode())
    return tuple((name, value.encode()) for name, value in decoded.items())


async def applied(tx: Transaction, inputs: Sequence[Input]) -> set[InputIdentity]:
    """Return the identities of those inputs that were applied before."""
    if not inputs:
        return set()
    rows = await tx.execute(_SELECT_INPUTS, _identities(inputs))
    return {(row.person_key, row.topic, row.id) for row in rows}


def _identities(inputs: Sequence[Input]) -> dict[str, list[str]]:
    keys, topics, ids = ([one.identity[place] for one in inputs] for place in range(3))
    return {"keys": keys, "topics": topics, "ids": ids}


_SELECT_INPUTS = text("""
    select known.person_key, known.topic, known.id
    from unnest(cast(:keys as text[]), cast(:topics as text[]), cast(:ids as text[])) as sought (key, topic, id)
    cross join lateral (
        select person_key, topic, id from router.input
        where person_key = sought.key and topic = sought.topic and id = sought.id offset 0) as known""")


# ---- state ----------------------------------------------------------------------------------------------------------


async def districts(tx: Transaction, postcodes: Iterable[str | None]) -> dict[str, OnsCode]:
    """Return the districts of these postcodes (capitals, no blanks); unknown postcodes are left out."""
    requested = sorted({postcode for postcode in postcodes if postcode})
    if not requested:
        return {}
    rows = await tx.execute(_DISTRICTS, {"postcodes": requested})
    return {row.postcode: row.district for row in rows}


_DISTRICTS = text("""
    select postcode, district from router.postcode where postcode = any(cast(:postcodes as text[]))""")


@dataclass(slots=True)
class Changed:
    """Records that a batch changed, with their person keys, and with their tallies or categories."""

    persons: list[tuple[PersonKey, PersonRecord, PersonTally]] = field(default_factory=list)
    cases: list[tuple[PersonKey, CaseRecord, CaseTally]] = field(default_factory=list)
    referrals: list[tuple[PersonKey, ReferralRecord, Category | None]] = field(default_factory=list)
    released: list[tuple[PersonKey, int]] = field(default_factory=list)
    """Persons whose reported death was withdrawn."""

    def add(self, before: PersonAggregate, after: PersonAggregate) -> None:
        """Add the records that differ between `before` and `after`."""
        key, persons, cases = after.person_key, after.person_tallies, after.case_tallies
        self.persons += [
            (key, new, persons[number])
            for number, new in after.persons.items()
            if before.persons.get(number) is not new or before.person_tallies[number] != persons[number]
        ]
        self.released += [
            (key, number)
            for number, old in before.persons.items()
            if old.check_before_contact and not after.persons[number].check_before_contact
        ]
        self.cases += [
            (key, new, cases[case_id])
            for case_id, new in after.cases.items()
            if before.cases.get(case_id) is not new or before.case_tallies[case_id] != cases[case_id]
        ]
        self.referrals += [
            (key, new, after.index.categories.get(reference))
            for reference, new in after.referrals.items()
            if before.referrals.get(reference) is not new
        ]


async def write(tx: Transaction, changed: Changed, now: datetime, triage: str) -> None:
    """Store what changed; a case whose home hub is `triage` is stored without a home hub."""
    if changed.persons:
        await tx.execute(_WRITE_PERSONS, {"now": now, **_person_columns(changed.persons)})
    if changed.released:
        keys, numbers = zip(*changed.released, strict=True)
        await tx.execute(_RELEASE_OVERDUE, {"keys": list(keys), "numbers": list(numbers)})
    if changed.cases:
        await tx.execute(_WRITE_CASES, {"now": now, "triage": triage, **_case_columns(changed.cases)})
    if changed.referrals:
        await tx.execute(_WRITE_REFERRALS, {"now": now, **_referral_columns(changed.referrals)})


def _person_columns(persons: Sequence[tuple[PersonKey, PersonRecord, PersonTally]]) -> dict[str, list[Any]]:
    return {
        "keys": [key for key, _, _ in persons],
        "numbers": [person.person_no for _, person, _ in persons],
        "referrals": [tally.referrals for _, _, tally in persons],
        "verified": [tally.verified for _, _, tally in persons],
        "provisional": [person.provisional for _, person, _ in persons],
        "tracing_reasons": [",".join(person.tracing_reasons) for _, person, _ in persons],
        "checks": [person.check_before_contact for _, person, _ in persons],
        "states": [stored_state.encode(person) for _, person, _ in persons],
    }


_WRITE_PERSONS = text("""
    merge into router.person as known
    using (
        select key, number, referrals, verified, provisional, string_to_array(reasons, ',') as reasons, checks, state,
            case when reasons <> '' then cast(:now as timestamptz) end as doubted_since
        from unnest(cast(:keys as text[]), cast(:numbers as integer[]), cast(:referrals as integer[]), cast(:verified as integer[]),
                    cast(:provisional as boolean[]), cast(:tracing_reasons as text[]), cast(:checks as boolean[]),
                    cast(:states as bytea[]))
            as given (key, number, referrals, verified, provisional, reasons, checks, state)
    ) as given on known.person_key = given.key and known.person_no = given.number
    when matched then update set referrals = given.referrals, verified = given.verified, provisional = given.provisional,
        tracing_reasons = given.reasons, check_before_contact = given.checks, state = given.state, updated_at = :now,
        doubted_since = case when given.doubted_since is not null then coalesce(known.doubted_since, given.doubted_since) end
    when not matched then insert (person_key, person_no, referrals, verified, provisional, tracing_reasons, doubted_since,
        check_before_contact, state, updated_at)
    values (key, number, given.referrals, given.verified, given.provisional, given.reasons, given.doubted_since,
        checks, given.state, :now)""")


def _case_columns(cases: Sequence[tuple[PersonKey, CaseRecord, CaseTally]]) -> dict[str, list[Any]]:
    responsibilities = [case.holding for _, case, _ in cases]
    return {
        "keys": [key for key, _, _ in cases],
        "ids": [case.case_id for _, case, _ in cases],
        "persons": [case.person_no for _, case, _ in cases],
        "statuses": [
            case.ended or responsibility.status
            for responsibility, (_, case, _) in zip(responsibilities, cases, strict=True)
        ],
        "business": [responsibility.progress for responsibility in responsibilities],
        "homes": [case.home.hub for _, case, _ in cases],
        "holders": [responsibility.hub for responsibility in responsibilities],
        "pathways": [responsibility.pathway for responsibility in responsibilities],
        "reasons": [",".join(responsibility.reasons) for responsibility in responsibilities],
        "districts": [case.district for _, case, _ in cases],
        "versions": [case.directory_version for _, case, _ in cases],
        "ended": [case.ended is not None for _, case, _ in cases],
        "tallies": [stored_state.encode(tally) for _, _, tally in cases],
        "states": [stored_state.encode(case) for _, case, _ in cases],
    }


_WRITE_CASES = text("""
    merge into router."case" as known
    using (
        select key, id, person, status, business, nullif(home, cast(:triage as text)) as home, holder, pathway,
            string_to_array(reasons, ',') as reasons, district, version, tally, state,
            case when status = 'requested' and holder is not null then cast(:now as timestamptz) end as requested_since,
            case when ended then cast(:now as timestamptz) end as ended_at
        from unnest(cast(:keys as text[]), cast(:ids as text[]), cast(:persons as integer[]), cast(:statuses as text[]),
                    cast(:business as text[]), cast(:homes as text[]), cast(:holders as text[]), cast(:pathways as text[]),
                    cast(:reasons as text[]), cast(:districts as text[]), cast(:versions as text[]), cast(:ended as boolean[]),
                    cast(:tallies as bytea[]), cast(:states as bytea[]))
            as given (key, id, person, status, business, home, holder, pathway, reasons, district, version, ended, tally, state)
    ) as given on known.person_key = given.key and known.case_id = given.id
    when matched then update set status = given.status, business_status = business, home_hub = home, holder = given.holder,
        pathway = given.pathway, reasons = given.reasons, district = given.district, directory_version = version,
        tally = given.tally, state = given.state, updated_at = :now, ended_at = coalesce(known.ended_at, given.ended_at),
        requested_since = case when known.holder = given.holder and given.requested_since is not null
            then coalesce(known.requested_since, given.requested_since) else given.requested_since end
    when not matched then insert (person_key, case_id, person_no, status, business_status, home_hub, holder, pathway,
        reasons, district, directory_version, tally, state, opened_at, updated_at, requested_since, ended_at)
    values (key, id, person, given.status, business, home, given.holder, given.pathway, given.reasons, given.district, version,
        given.tally, given.state, :now, :now, given.requested_since, given.ended_at)""")


def _referral_columns(referrals: Sequence[tuple[PersonKey, ReferralRecord, Category | None]]) -> dict[str, list[Any]]:
    descriptions = [Description.of(record.referral.person) for _, record, _ in referrals]
    stays = [record.referral.hospital if record.in_stay else None for _, record, _ in referrals]
    return {
        "keys": [key for key, _, _ in referrals],
        "references": [record.reference for _, record, _ in referrals],
        "cases": [record.case_id for _, record, _ in referrals],
        "persons": [record.person_no for _, record, _ in referrals],
        "statuses": [record.status for _, record, _ in referrals],
        "versions": [record.version for _, record, _ in referrals],
        "homes": [record.home_hub for _, record, _ in referrals],
        "correlations": [record.correlation_id for _, record, _ in referrals],
        "overdue": [overdue_on(record) for _, record, _ in referrals],
        "categories": [stored_state.encode_category(category) if category else None for _, _, category in referrals],
        "referred": [record.referral.referred_on for _, record, _ in referrals],
        "admitted": [stay.admitted_on if stay else None for stay in stays],
        "names": [description.by_name for description in descriptions],
        "verifications": [description.by_verification for description in descriptions],
        "states": [stored_state.encode(record) for _, record, _ in referrals],
    }


_WRITE_REFERRALS = text("""
    merge into router.referral as known
    using unnest(cast(:keys as text[]), cast(:references as text[]), cast(:cases as text[]), cast(:persons as integer[]),
                 cast(:statuses as text[]), cast(:versions as integer[]), cast(:homes as text[]),
                 cast(:correlations as text[]), cast(:overdue as date[]), cast(:categories as text[]), cast(:referred as date[]),
                 cast(:admitted as date[]), cast(:names as text[]), cast(:verifications as text[]), cast(:states as bytea[]))
        as given (key, reference, "case", person, status, version, home, correlation, overdue, category, referred, admitted, name,
                  verification, state)
    on known.person_key = given.key and known.reference = given.reference
    when matched then update set case_id = given."case", status = given.status, version = given.version, home_hub = home,
        overdue_on = overdue, category = given.category, referred_on = referred, admitted_on = admitted, by_name = name,
        by_verification = verification, state = given.state, updated_at = cast(:now as timestamptz)
    when not matched then insert (person_key, reference, case_id, person_no, status, version, home_hub, correlation_id,
        overdue_on, category, referred_on, admitted_on, by_name, by_verification, state, received_at, updated_at)
    values (key, given.reference, "case", person, given.status, given.version, home, correlation, overdue, given.category, referred,
        admitted, name, verification, given.state, :now, :now)""")


# ---- overdue discharges ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ExpectedDischarge:
    """A referral of a stay, and the date on which the person was expected to leave hospital."""

    person_key: PersonKey
    reference: Reference
    correlation_id: str
    expected_on: date


async def take_overdue(tx: Transaction, today: date, limit: int) -> list[ExpectedDischarge]:
    """Return referrals whose discharge is overdue, lock their person keys, and mark them as taken.

    Left out: person keys that another transaction has locked, and persons whose death is reported or confirmed; their referrals are
    set aside until the report is withdrawn, so that no later round reads them.
    """
    while True:
        rows = (await tx.execute(_TAKE_OVERDUE, {"today": today, "limit": limit})).all()
        due = [row for row in rows if not row.held]
        if due or not rows:
            break
    return [
        ExpectedDischarge(row.person_key, row.reference, row.correlation_id, row.overdue_on - OVERDUE_AFTER)
        for row in due
    ]


_TAKE_OVERDUE = text("""
    with due as (
        select referral.person_key, referral.reference, referral.overdue_on, coalesce((
            select check_before_contact from router.person
            where person.person_key = referral.person_key and person.person_no = referral.person_no), false) as held
        from router.referral join router.person_key as locked on locked.person_key = referral.person_key
        where referral.overdue_on <= cast(:today as date) and not referral.overdue_held
        order by referral.overdue_on limit :limit
        for update of locked skip locked
    )
    update router.referral set overdue_on = case when due.held then referral.overdue_on end, overdue_held = due.held from due
    where referral.person_key = due.person_key and referral.reference = due.reference and referral.overdue_on = due.overdue_on
    returning due.person_key, due.reference, referral.correlation_id, due.overdue_on, due.held""")


_RELEASE_OVERDUE = text("""
    update router.referral set overdue_held = false
    from unnest(cast(:keys as text[]), cast(:numbers as integer[])) as released (person_key, person_no)
    where referral.person_key = released.person_key and referral.person_no = released.person_no and referral.overdue_held""")


# ---- history --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """A case event, the references that it is about, the hubs that received it, and its index among the messages of its batch."""

    event: Event
    references: Sequence[Reference]
    hubs: Sequence[HubId]
    message: int


async def append_history(tx: Transaction, entries: Sequence[HistoryEntry], messages: Sequence[Place]) -> None:
    """Store these case events; each points to the message that publishes it. `messages`: the places of the batch's messages."""
    if entries:
        await tx.execute(_INSERT_EVENTS, _event_columns(entries, messages))


def _event_columns(entries: Sequence[HistoryEntry], messages: Sequence[Place]) -> dict[str, list[Any]]:
    events = [entry.event for entry in entries]
    data = [event.data for event in events if isinstance(event.data, CaseEvent)]
    published = [messages[entry.message] for entry in entries]
    return {
        "keys": [event.person_key for event in events],
        "sequences": [event.sequence for event in events],
        "ids": [event.id for event in events],
        "types": [event.data.TYPE for event in events],
        "references": [",".join(entry.references) for entry in entries],
        "hubs": [",".join(entry.hubs) for entry in entries],
        "correlations": [event.correlation_id for event in events],
        "causes": [event.causation_id for event in events],
        "times": [event.time for event in events],
        "cases": [one.case_id for one in data],
        "deciders": [one.decided_by for one in data],
        **_position_columns(data),
        "packets": [message.packet for message in published],
        "places": [message.place for message in published],
    }


def _position_columns(data: Sequence[CaseEvent]) -> dict[str, list[Any]]:
    return {
        "statuses": [one.case.status for one in data],
        "business": [one.case.business_status for one in data],
        "homes": [one.case.home_hub for one in data],
        "holders": [one.case.holder for one in data],
        "pathways": [one.case.pathway for one in data],
        "reasons": [",".join(one.case.reasons) for one in data],
        "districts": [one.case.district for one in data],
        "versions": [one.case.directory_version for one in data],
    }


_INSERT_EVENTS: TextClause = text("""
    insert into router.case_event (person_key, sequence, id, type, "references", hubs, correlation_id, causation_id, time,
        case_id, decided_by, status, business_status, home_hub, holder, pathway, reasons, district, directory_version, packet, place)
    select key, sequence, id, type, string_to_array("references", ','), string_to_array(hubs, ','), correlation, cause, time,
        "case", decider, status, business, home, holder, pathway, string_to_array(reasons, ','), district, version, packet, place
    from unnest(cast(:keys as text[]), cast(:sequences as bigint[]), cast(:ids as text[]), cast(:types as text[]),
                cast(:references as text[]), cast(:hubs as text[]), cast(:correlations as text[]), cast(:causes as text[]),
                cast(:times as timestamptz[]), cast(:cases as text[]), cast(:deciders as text[]), cast(:statuses as text[]),
                cast(:business as text[]), cast(:homes as text[]), cast(:holders as text[]), cast(:pathways as text[]),
                cast(:reasons as text[]), cast(:districts as text[]), cast(:versions as text[]), cast(:packets as bigint[]),
                cast(:places as integer[]))
        as given (key, sequence, id, type, "references", hubs, correlation, cause, time, "case", decider, status, business,
                  home, holder, pathway, reasons, district, version, packet, place)""")
