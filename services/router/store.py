"""Tables of the router: person key locks, applied inputs, state and history. Statements are set-based.

Every write holds the lock of its person key; locks are taken first and in key order.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from sqlalchemy import TextClause, text

from schemas.events import CaseEvent, CommandRefused, Event
from schemas.model import OnsCode, PersonKey, Reference
from services.messaging import dead_letters
from services.messaging.cloudevents import OWN_HEADERS, KafkaRecord, value_of
from services.router.decide.aggregate import PersonAggregate
from services.router.decide.matching import Description
from services.router.decide.model import (
    CaseRecord,
    CaseTally,
    Category,
    KeyTally,
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


@dataclass(slots=True)
class Locked:
    """Locked person keys of a batch: the last sequence number and the tally of each, and which keys are new."""

    last: dict[PersonKey, int]
    tallies: dict[PersonKey, KeyTally] = field(default_factory=dict)
    new: set[PersonKey] = field(default_factory=set)

    def next(self, key: PersonKey) -> int:
        """Return the next sequence number of a key."""
        self.last[key] += 1
        return self.last[key]


async def lock(tx: Transaction, keys: Iterable[PersonKey]) -> Locked:
    """Lock these person keys in key order; new ones are inserted."""
    ordered = sorted(set(keys))
    new = set((await tx.execute(_INSERT_KEYS, {"keys": ordered})).scalars())
    rows = (await tx.execute(LOCK_KEYS, {"keys": ordered})).all()
    tallies = {PersonKey(row.person_key): KeyTally(row.persons, row.verified_persons) for row in rows}
    return Locked({PersonKey(row.person_key): row.last_sequence for row in rows}, tallies, new)


_INSERT_KEYS = text("""
    insert into router.person_key (person_key)
    select key from unnest(cast(:keys as text[])) as given (key) order by key
    on conflict do nothing returning person_key""")
LOCK_KEYS = text("""
    select person_key, last_sequence, persons, verified_persons from router.person_key
    where person_key = any(cast(:keys as text[])) order by person_key for update""")


async def save_keys(
    tx: Transaction, locked: Locked, before: Mapping[PersonKey, int], states: Mapping[PersonKey, PersonAggregate]
) -> None:
    """Store the last sequence number and the tally of each key that changed."""
    tallies = {key: state.tally for key, state in states.items()}
    moved = [key for key in tallies if (before[key], locked.tallies[key]) != (locked.last[key], tallies[key])]
    if moved:
        columns = {
            "keys": moved,
            "numbers": [locked.last[key] for key in moved],
            "persons": [tallies[key].persons for key in moved],
            "verified": [tallies[key].verified for key in moved],
        }
        await tx.execute(_UPDATE_KEYS, columns)


_UPDATE_KEYS = text("""
    update router.person_key set last_sequence = given.number, persons = given.persons, verified_persons = given.verified
    from unnest(cast(:keys as text[]), cast(:numbers as bigint[]), cast(:persons as integer[]), cast(:verified as integer[]))
        as given (key, number, persons, verified)
    where person_key = given.key""")


# ---- inputs ---------------------------------------------------------------------------------------------------------


async def record_inputs(tx: Transaction, inputs: Sequence[Input], now: datetime, directory: str) -> set[InputIdentity]:
    """Store these inputs in order; returns the identities of those that are new, without duplicates."""
    if not inputs:
        return set()
    columns = {
        "keys": [one.person_key for one in inputs],
        "topics": [one.record.topic for one in inputs],
        "ids": [one.event.id for one in inputs],
        "types": [one.event.data.TYPE for one in inputs],
        "correlations": [one.event.correlation_id for one in inputs],
        "headers": [_headers(one) for one in inputs],
        "values": [one.record.value for one in inputs],
    }
    rows = await tx.execute(_INSERT_INPUTS, {**columns, "now": now, "directory": directory})
    return {(row.person_key, row.topic, row.id) for row in rows}


_INSERT_INPUTS = text("""
    insert into router.input (person_key, topic, id, type, correlation_id, time, directory_version, headers, value)
    select key, topic, id, type, correlation, cast(:now as timestamptz), cast(:directory as text), headers, value
    from unnest(cast(:keys as text[]), cast(:topics as text[]), cast(:ids as text[]), cast(:types as text[]),
                cast(:correlations as text[]), cast(:headers as text[]), cast(:values as bytea[]))
         with ordinality as input (key, topic, id, type, correlation, headers, value, place)
    order by place
    on conflict do nothing returning person_key, topic, id""")


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


def stored_headers(headers: str) -> tuple[tuple[str, bytes], ...]:
    """Return the headers of a stored input."""
    decoded = json.loads(headers)
    if isinstance(decoded, list):
        return dead_letters.decode_headers(headers)
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


async def forget_inputs(tx: Transaction, inputs: Sequence[Input]) -> None:
    """Delete the stored inputs of dead letters, and of what is applied in a later transaction."""
    if inputs:
        await tx.execute(_DELETE_INPUTS, _identities(inputs))


_DELETE_INPUTS = text("""
    delete from router.input as input
    using unnest(cast(:keys as text[]), cast(:topics as text[]), cast(:ids as text[])) as parked (key, topic, id)
    where input.person_key = parked.key and input.topic = parked.topic and input.id = parked.id""")


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


def to_json(model: PersonRecord | CaseRecord | ReferralRecord) -> str:
    """Return JSON without None values: a field that can be None must have the default None."""
    return model.__pydantic_serializer__.to_json(model, exclude_none=True).decode()


def _person_columns(persons: Sequence[tuple[PersonKey, PersonRecord, PersonTally]]) -> dict[str, list[Any]]:
    return {
        "keys": [key for key, _, _ in persons],
        "numbers": [person.person_no for _, person, _ in persons],
        "referrals": [tally.referrals for _, _, tally in persons],
        "verified": [tally.verified for _, _, tally in persons],
        "provisional": [person.provisional for _, person, _ in persons],
        "tracing_reasons": [",".join(person.tracing_reasons) for _, person, _ in persons],
        "states": [to_json(person) for _, person, _ in persons],
    }


_WRITE_PERSONS = text("""
    insert into router.person as known (person_key, person_no, referrals, verified, provisional, tracing_reasons, doubted_since,
        undoubted_key, state, updated_at)
    select key, number, referrals, verified, provisional, string_to_array(tracing_reasons, ','),
        case when tracing_reasons <> '' then cast(:now as timestamptz) end,
        case when not 'does-not-match' = any(string_to_array(tracing_reasons, ',')) then key end,
        cast(state as jsonb), cast(:now as timestamptz)
    from unnest(cast(:keys as text[]), cast(:numbers as integer[]), cast(:referrals as integer[]), cast(:verified as integer[]),
                cast(:provisional as boolean[]), cast(:tracing_reasons as text[]), cast(:states as text[]))
        as given (key, number, referrals, verified, provisional, tracing_reasons, state)
    on conflict (person_key, person_no) do update set referrals = excluded.referrals, verified = excluded.verified,
        provisional = excluded.provisional, tracing_reasons = excluded.tracing_reasons,
        doubted_since = case when excluded.doubted_since is not null then coalesce(known.doubted_since, excluded.doubted_since) end,
        undoubted_key = excluded.undoubted_key, state = excluded.state, updated_at = excluded.updated_at""")


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
        "tallies": [tally.model_dump_json() for _, _, tally in cases],
        "states": [to_json(case) for _, case, _ in cases],
    }


_WRITE_CASES = text("""
    insert into router."case" as known (person_key, case_id, person_no, status, business_status, home_hub, holder, pathway,
        reasons, district, directory_version, tally, state, opened_at, updated_at, requested_since, ended_at)
    select key, id, person, status, business, nullif(home, cast(:triage as text)), holder, pathway,
        string_to_array(reasons, ','), district, version, cast(tally as jsonb), cast(state as jsonb),
        cast(:now as timestamptz), cast(:now as timestamptz),
        case when status = 'requested' and holder is not null then cast(:now as timestamptz) end,
        case when ended then cast(:now as timestamptz) end
    from unnest(cast(:keys as text[]), cast(:ids as text[]), cast(:persons as integer[]), cast(:statuses as text[]),
                cast(:business as text[]), cast(:homes as text[]), cast(:holders as text[]), cast(:pathways as text[]),
                cast(:reasons as text[]), cast(:districts as text[]), cast(:versions as text[]), cast(:ended as boolean[]),
                cast(:tallies as text[]), cast(:states as text[]))
        as given (key, id, person, status, business, home, holder, pathway, reasons, district, version, ended, tally, state)
    on conflict (person_key, case_id) do update set status = excluded.status, business_status = excluded.business_status,
        home_hub = excluded.home_hub, holder = excluded.holder, pathway = excluded.pathway, reasons = excluded.reasons,
        district = excluded.district, directory_version = excluded.directory_version, tally = excluded.tally, state = excluded.state,
        updated_at = excluded.updated_at, ended_at = coalesce(known.ended_at, excluded.ended_at),
        requested_since = case when known.holder = excluded.holder and excluded.requested_since is not null
            then coalesce(known.requested_since, excluded.requested_since) else excluded.requested_since end""")


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
        "categories": [json.dumps(category) if category else None for _, _, category in referrals],
        "referred": [record.referral.referred_on for _, record, _ in referrals],
        "admitted": [stay.admitted_on if stay else None for stay in stays],
        "names": [description.by_name for description in descriptions],
        "verifications": [description.by_verification for description in descriptions],
        "states": [to_json(record) for _, record, _ in referrals],
    }


_WRITE_REFERRALS = text("""
    insert into router.referral (person_key, reference, case_id, person_no, status, version, home_hub, correlation_id,
        overdue_on, category, referred_on, admitted_on, by_name, by_verification, state, received_at, updated_at)
    select key, reference, "case", person, status, version, home, correlation, overdue, category, referred, admitted, name,
        verification, cast(state as jsonb), cast(:now as timestamptz), cast(:now as timestamptz)
    from unnest(cast(:keys as text[]), cast(:references as text[]), cast(:cases as text[]), cast(:persons as integer[]),
                cast(:statuses as text[]), cast(:versions as integer[]), cast(:homes as text[]),
                cast(:correlations as text[]), cast(:overdue as date[]), cast(:categories as text[]), cast(:referred as date[]),
                cast(:admitted as date[]), cast(:names as text[]), cast(:verifications as text[]), cast(:states as text[]))
        as given (key, reference, "case", person, status, version, home, correlation, overdue, category, referred, admitted, name,
                  verification, state)
    on conflict (person_key, reference) do update set case_id = excluded.case_id, status = excluded.status,
        version = excluded.version, home_hub = excluded.home_hub, overdue_on = excluded.overdue_on, category = excluded.category,
        referred_on = excluded.referred_on, admitted_on = excluded.admitted_on, by_name = excluded.by_name,
        by_verification = excluded.by_verification, state = excluded.state, updated_at = excluded.updated_at""")


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
            select person.state ?| array['death_reported_by', 'death_confirmed'] from router.person
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


async def append_history(tx: Transaction, events: Sequence[tuple[Event, Sequence[str], Sequence[str]]]) -> None:
    """Store these case events as published, with the references that each is about and the hubs that received it."""
    if events:
        await tx.execute(_INSERT_EVENTS, _event_columns(events))


def _event_columns(events: Sequence[tuple[Event, Sequence[str], Sequence[str]]]) -> dict[str, list[Any]]:
    data = [one.data for one, _, _ in events if isinstance(one.data, CaseEvent)]
    return {
        "keys": [one.person_key for one, _, _ in events],
        "sequences": [one.sequence for one, _, _ in events],
        "ids": [one.id for one, _, _ in events],
        "types": [one.data.TYPE for one, _, _ in events],
        "references": [",".join(references) for _, references, _ in events],
        "hubs": [",".join(hubs) for _, _, hubs in events],
        "correlations": [one.correlation_id for one, _, _ in events],
        "causes": [one.causation_id for one, _, _ in events],
        "times": [one.time for one, _, _ in events],
        "cases": [one.case_id for one in data],
        "deciders": [one.decided_by for one in data],
        **_position_columns(data),
        "data": [value_of(one) for one, _, _ in events],
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
        case_id, decided_by, status, business_status, home_hub, holder, pathway, reasons, district, directory_version, data)
    select key, sequence, id, type, string_to_array("references", ','), string_to_array(hubs, ','), correlation, cause, time,
        "case", decider, status, business, home, holder, pathway, string_to_array(reasons, ','), district, version, data
    from unnest(cast(:keys as text[]), cast(:sequences as bigint[]), cast(:ids as text[]), cast(:types as text[]),
                cast(:references as text[]), cast(:hubs as text[]), cast(:correlations as text[]), cast(:causes as text[]),
                cast(:times as timestamptz[]), cast(:cases as text[]), cast(:deciders as text[]), cast(:statuses as text[]),
                cast(:business as text[]), cast(:homes as text[]), cast(:holders as text[]), cast(:pathways as text[]),
                cast(:reasons as text[]), cast(:districts as text[]), cast(:versions as text[]), cast(:data as bytea[]))
        as given (key, sequence, id, type, "references", hubs, correlation, cause, time, "case", decider, status, business,
                  home, holder, pathway, reasons, district, version, data)""")
