"""Dead Letter Channel and Invalid Message Channel: records that cannot be processed, with their reason class.

A dead letter leaves no duplicate mark, so that it can be resubmitted (resubmit.py). Later records of its message group (a referral,
or the commands of a case) wait behind it in order; all other records are processed.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import TextClause, text

from services.messaging.cloudevents import KafkaRecord
from services.runtime.database import Transaction
from services.runtime.logs import log

WAITING = "waits behind an earlier message of its group"

MessageGroup = tuple[str, str]
"""(person_key, message_group)."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record to store as a dead letter.

    `message_groups`: the groups that wait behind it, its own first. `reason`: an error class, without personal data.
    """

    record: KafkaRecord
    person_key: str
    message_groups: tuple[str, ...]
    reason: str
    correlation_id: str | None = None
    waiting: bool = False


async def add(tx: Transaction, schema: str, dead_letters: Sequence[DeadLetter]) -> None:
    """Store these records in `<schema>.dead_letter`, in order; count an attempt if a record is already stored."""
    unique = {(one.person_key, _position(one.record)): one for one in reversed(dead_letters)}
    for one in unique.values():
        log_dead_letter(one)
    if unique:
        await lock_groups(tx, schema, (one.person_key for one in unique.values()))
        rows = await tx.execute(_insert(schema), _columns(list(reversed(unique.values()))))
        await link(tx, schema, [(row.person_key, row.id) for row in rows if row.attempts == 1])


def log_dead_letter(one: DeadLetter) -> None:
    """Log a record that cannot be applied; no text of it but an id."""
    log.warning(
        "record_dead_lettered",
        topic=one.record.topic,
        partition=one.record.partition,
        offset=one.record.offset,
        reason=one.reason,
        waiting=one.waiting,
        correlation_id=one.correlation_id,
    )


def _columns(dead_letters: Sequence[DeadLetter]) -> dict[str, list[Any]]:
    records = [one.record for one in dead_letters]
    return {
        "keys": [one.person_key for one in dead_letters],
        "message_groups": [one.message_groups[0] for one in dead_letters],
        "other_groups": [json.dumps(one.message_groups[1:]) for one in dead_letters],
        "topics": [record.topic for record in records],
        "partitions": [record.partition for record in records],
        "offsets": [record.offset for record in records],
        "events": [event_id(record) for record in records],
        "record_keys": [record.key for record in records],
        "headers": [encode_headers(record.headers) for record in records],
        "values": [record.value for record in records],
        "reasons": [one.reason for one in dead_letters],
        "correlations": [one.correlation_id for one in dead_letters],
        "waiting": [one.waiting for one in dead_letters],
    }


def _insert(schema: str) -> TextClause:
    return text(f"""
        insert into {schema}.dead_letter as parked
            (person_key, message_group, other_groups, topic, partition, "offset", event_id, key, headers, value, reason,
             correlation_id, waiting)
        select person_key, message_group, array(select jsonb_array_elements_text(cast(other_groups as jsonb))), topic, partition, "offset",
               event_id, key, headers, value, reason, correlation_id, waiting
        from unnest(cast(:keys as text[]), cast(:message_groups as text[]), cast(:other_groups as text[]), cast(:topics as text[]),
                    cast(:partitions as integer[]), cast(:offsets as bigint[]), cast(:events as text[]),
                    cast(:record_keys as bytea[]), cast(:headers as text[]), cast(:values as bytea[]),
                    cast(:reasons as text[]), cast(:correlations as text[]), cast(:waiting as boolean[])) with ordinality
             as one (person_key, message_group, other_groups, topic, partition, "offset", event_id, key, headers, value, reason,
                     correlation_id, waiting, place)
        order by place
        on conflict (topic, partition, "offset", content, person_key)
        do update set attempts = parked.attempts + 1, last_at = clock_timestamp()
        returning person_key, id, attempts""")  # noqa: S608 - schema names are constants


def encode_headers(headers: Iterable[tuple[str, bytes | None]]) -> str:
    """Return headers as the table stores them: a JSON list with values in hexadecimal, or null for Kafka's null."""
    return json.dumps([[name, None if value is None else value.hex()] for name, value in headers])


def decode_headers(encoded: str) -> tuple[tuple[str, bytes], ...]:
    """Return the headers that `encode_headers` encoded."""

    def value_of(hex_value: str | None) -> Any:
        return None if hex_value is None else bytes.fromhex(hex_value)

    return tuple((name, value_of(hex_value)) for name, hex_value in json.loads(encoded))


def event_id(record: KafkaRecord) -> str | None:
    """Return the event id in the record's headers, or None if it is missing or cannot be stored."""
    raw = next((value for name, value in record.headers if name == "ce_id" and value is not None), b"")
    decoded = raw.decode("utf-8", "replace")
    return decoded if decoded.isprintable() and 0 < len(decoded) <= 300 else None


def correlation_id(record: KafkaRecord) -> str | None:
    """Return the correlation id in the headers of an undecodable record.

    Return None if it does not look like an id, or may contain an NHS number.
    """
    raw = next((value for name, value in record.headers if name == "ce_correlationid" and value is not None), b"")
    decoded = raw.decode("utf-8", "replace")
    return decoded if _AN_ID.fullmatch(decoded) and not _NHS_NUMBER.search(decoded) else None


_AN_ID = re.compile(r"(?=.*\d)[A-Za-z0-9][A-Za-z0-9._:/+-]{7,119}")
_NHS_NUMBER = re.compile(r"(?<!\d)\d{3}-?\d{3}-?\d{4}(?!\d)")


def _position(record: KafkaRecord) -> tuple[str, int, int, str]:
    return record.topic, record.partition, record.offset, hashlib.sha256(record.value).hexdigest()


# ---- the order within groups ------------------------------------------------------------------------------------------
#
# An unresolved dead letter points to the last earlier one that has one of its groups (`behind`). One that points to none may be
# applied, and is found by an index, however many wait.

LetterId = tuple[str, int]
"""(person_key, id) of a dead letter."""


async def lock_groups(tx: Transaction, schema: str, person_keys: Iterable[str]) -> None:
    """Let no other transaction change the groups of these persons' dead letters until this one ends."""
    await tx.execute(_LOCK_GROUPS, {"keys": sorted({f"{schema} {key}" for key in person_keys})})


_LOCK_GROUPS = text("""
    select pg_advisory_xact_lock(hashtextextended(key, 0)) from unnest(cast(:keys as text[])) as given (key)""")


async def link(tx: Transaction, schema: str, letters: Collection[LetterId]) -> None:
    """Put unresolved dead letters into their groups; the next one of each group then waits behind them."""
    if not letters:
        return
    await tx.execute(
        text(f"""
            insert into {schema}.dead_letter_group (person_key, message_group, dead_letter_id)
            select person_key, own, id from {_these(schema)} cross join {_OWN_GROUPS} on conflict do nothing"""),  # noqa: S608 - schema names are constants
        letter_columns(letters),
    )
    later = await tx.execute(
        text(f"""
            select distinct next.person_key, next.dead_letter_id from {_these(schema)} cross join {_OWN_GROUPS} cross join lateral (
                select person_key, dead_letter_id from {schema}.dead_letter_group as held
                where held.person_key = parked.person_key and held.message_group = own and held.dead_letter_id > parked.id
                order by dead_letter_id limit 1) as next"""),  # noqa: S608 - schema names are constants
        letter_columns(letters),
    )
    await _point(tx, schema, {*letters, *((row.person_key, row.dead_letter_id) for row in later)})


async def unlink(tx: Transaction, schema: str, letters: Collection[LetterId]) -> None:
    """Take dead letters out of their groups; what waited behind them waits behind what is before them, or for nothing."""
    if not letters:
        return
    await tx.execute(
        text(f"""
            delete from {schema}.dead_letter_group as held using {_these(schema)}
            where held.person_key = parked.person_key and held.dead_letter_id = parked.id
              and held.message_group = any(array[parked.message_group] || parked.other_groups)"""),  # noqa: S608 - schema names are constants
        letter_columns(letters),
    )
    followers = await tx.execute(
        text(f"""
            select follower.person_key, follower.id
            from unnest(cast(:keys as text[]), cast(:ids as bigint[])) as given (key, given_id) cross join lateral (
                select person_key, id from {schema}.dead_letter
                where person_key = given.key and behind = given.given_id and resolved_at is null offset 0) as follower"""),  # noqa: S608 - schema names are constants
        letter_columns(letters),
    )
    await _point(tx, schema, {(row.person_key, row.id) for row in followers})


async def _point(tx: Transaction, schema: str, letters: Collection[LetterId]) -> None:
    """Let these dead letters point to the last earlier one of their groups."""
    if letters:
        await tx.execute(_set_behind(schema), letter_columns(sorted(letters)))


def _set_behind(schema: str) -> TextClause:
    return text(f"""
        update {schema}.dead_letter as pointing set behind = (
            select max(earlier.dead_letter_id)
            from unnest(array[pointing.message_group] || pointing.other_groups) as own cross join lateral (
                select dead_letter_id from {schema}.dead_letter_group as held
                where held.person_key = pointing.person_key and held.message_group = own
                  and held.dead_letter_id < pointing.id
                order by dead_letter_id desc limit 1) as earlier)
        from unnest(cast(:keys as text[]), cast(:ids as bigint[])) as given (key, given_id)
        where pointing.person_key = given.key and pointing.id = given.given_id""")  # noqa: S608 - schema names are constants


def _these(schema: str) -> str:
    """Return an SQL relation `parked`: the dead letters of the parameters `keys` and `ids`."""
    return f"""(
        select parked.* from unnest(cast(:keys as text[]), cast(:ids as bigint[])) as given (key, given_id)
        join {schema}.dead_letter as parked on parked.person_key = given.key and parked.id = given.given_id) as parked"""  # noqa: S608 - schema names are constants


_OWN_GROUPS = "lateral unnest(array[parked.message_group] || parked.other_groups) as own"


def letter_columns(letters: Collection[LetterId]) -> dict[str, list[Any]]:
    """Return these dead letters as the parameters `keys` and `ids`."""
    return {"keys": [person_key for person_key, _ in letters], "ids": [number for _, number in letters]}


# ---- status for new records -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class QuarantineStatus:
    """What dead letters mean for a batch: groups with an unresolved one, and records of closed ones, each with its person key."""

    message_groups: set[MessageGroup]
    closed: set[tuple[str, KafkaRecord]]

    def is_closed(self, person_key: str, record: KafkaRecord) -> bool:
        """Return whether a record belongs to a closed dead letter and must be dropped.

        That is the record of a closed dead letter if Kafka delivers it again, any repeat of the event of a discarded one, and a
        repeat with the same bytes of one that was applied, even if it was edited before.
        """
        return (person_key, record) in self.closed


async def status_of(
    tx: Transaction, schema: str, groups: Iterable[MessageGroup], records: Sequence[tuple[str, KafkaRecord]]
) -> QuarantineStatus:
    """Return which of these groups have an unresolved dead letter, and which of these records belong to a closed one.

    `records`: each with its person key.
    """
    unique = list(set(groups))
    columns = {
        "group_keys": [person_key for person_key, _ in unique],
        "groups": [group for _, group in unique],
        "keys": [person_key for person_key, _ in records],
        "topics": [record.topic for _, record in records],
        "partitions": [record.partition for _, record in records],
        "offsets": [record.offset for _, record in records],
        "contents": [hashlib.sha256(record.value).hexdigest() for _, record in records],
        "events": [event_id(record) for _, record in records],
    }
    status = QuarantineStatus(set(), set())
    for kind, place in await tx.execute(_select_status(schema), columns):
        if kind == "group":
            status.message_groups.add(unique[place - 1])
        else:
            status.closed.add(records[place - 1])
    return status


def _select_status(schema: str) -> TextClause:
    return text(f"""
        select 'group', place
        from unnest(cast(:group_keys as text[]), cast(:groups as text[])) with ordinality as wanted (person_key, message_group, place)
        cross join lateral (
            select from {schema}.dead_letter_group as held
            where held.person_key = wanted.person_key and held.message_group = wanted.message_group limit 1) as held
        union all
        select 'record', place
        from unnest(cast(:keys as text[]), cast(:topics as text[]), cast(:partitions as integer[]), cast(:offsets as bigint[]),
                    cast(:contents as text[]), cast(:events as text[])) with ordinality
            as given (key, topic, partition, "offset", content, event, place)
        cross join lateral (
            (select from {schema}.dead_letter as parked
             where parked.topic = given.topic and parked.partition = given.partition and parked."offset" = given."offset"
               and parked.content = given.content and parked.person_key = given.key and resolved_at is not null limit 1)
            union all
            (select from {schema}.dead_letter as parked
             where parked.person_key = given.key and parked.topic = given.topic and parked.event_id = given.event
               and (resolution = 'discarded' or parked.content = given.content) and resolved_at is not null limit 1)) as closed""")  # noqa: S608 - schema names are constants


async def find_relocated(
    tx: Transaction, schema: str, person_key: str, records: Sequence[KafkaRecord]
) -> set[KafkaRecord]:
    """Return those of `records` that an edit moved from `person_key` to another person key."""
    if not records:
        return set()
    rows = await tx.execute(
        text(f"""
            select topic, partition, "offset", content from {schema}.dead_letter
            join unnest(cast(:topics as text[]), cast(:partitions as integer[]), cast(:offsets as bigint[]))
                as given (topic, partition, "offset") using (topic, partition, "offset")
            where person_key <> :key"""),  # noqa: S608 - schema names are constants
        {
            "key": person_key,
            "topics": [record.topic for record in records],
            "partitions": [record.partition for record in records],
            "offsets": [record.offset for record in records],
        },
    )
    positions = {tuple(row) for row in rows}
    return {record for record in records if _position(record) in positions}
