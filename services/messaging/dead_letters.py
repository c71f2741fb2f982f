"""Dead Letter Channel and Invalid Message Channel: records that cannot be processed, with their reason class.

A dead letter leaves no duplicate mark, so that it can be resubmitted (resubmit.py). Later records of its message group (a referral,
or the commands of a case) wait behind it in order; all other records are processed.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import TextClause, text

from services.messaging.cloudevents import KafkaRecord
from services.runtime.database import Transaction

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
    if unique:
        await tx.execute(_insert(schema), _columns(list(reversed(unique.values()))))


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
        on conflict (person_key, topic, partition, "offset", content)
        do update set attempts = parked.attempts + 1, last_at = clock_timestamp()""")  # noqa: S608 - schema names are constants


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


# ---- status for new records -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class QuarantineStatus:
    """The dead letters under some person keys: groups with an open one, and records of closed ones."""

    message_groups: set[MessageGroup]
    positions: set[tuple[str, tuple[str, int, int, str]]]
    discarded: set[tuple[str, str, str | None]]
    applied: set[tuple[str, str, str | None, str]]

    def is_closed(self, person_key: str, record: KafkaRecord) -> bool:
        """Return whether a record belongs to a closed dead letter and must be dropped.

        That is the record of a closed dead letter if Kafka delivers it again, any repeat of the event of a discarded one, and a
        repeat with the same bytes of one that was applied, even if it was edited before.
        """
        if not (self.positions or self.discarded or self.applied):
            return False
        position = _position(record)
        repeated = (person_key, record.topic, event_id(record))
        return (
            (person_key, position) in self.positions
            or repeated in self.discarded
            or (*repeated, position[-1]) in self.applied
        )


async def status_of(
    tx: Transaction, schema: str, person_keys: Iterable[str], records: Sequence[KafkaRecord]
) -> QuarantineStatus:
    """Return the dead letters that matter for these records and person keys."""
    columns = {
        "keys": list(set(person_keys)),
        "topics": [record.topic for record in records],
        "partitions": [record.partition for record in records],
        "offsets": [record.offset for record in records],
        "events": [event_id(record) or "" for record in records],
    }
    status = QuarantineStatus(set(), set(), set(), set())
    for row in await tx.execute(_select_status(schema), columns):
        if row.resolved_at is None:
            status.message_groups.update((row.person_key, group) for group in (row.message_group, *row.other_groups))
            continue
        status.positions.add((row.person_key, (row.topic, row.partition, row.offset, row.content)))
        if row.event_id and row.resolution == "discarded":
            status.discarded.add((row.person_key, row.topic, row.event_id))
        elif row.event_id:
            status.applied.add((row.person_key, row.topic, row.event_id, row.content))
    return status


def _select_status(schema: str) -> TextClause:
    return text(f"""
        with given as (
            select * from unnest(cast(:topics as text[]), cast(:partitions as integer[]), cast(:offsets as bigint[]),
                                 cast(:events as text[])) as record (topic, partition, "offset", event_id)
        )
        select person_key, message_group, other_groups, topic, partition, "offset", content, event_id, resolved_at, resolution
        from {schema}.dead_letter
        where person_key = any(cast(:keys as text[]))
          and (resolved_at is null or (topic, partition, "offset") in (select topic, partition, "offset" from given)
               or (topic, event_id) in (select topic, event_id from given))""")  # noqa: S608 - schema names are constants


async def find_relocated(
    tx: Transaction, schema: str, person_key: str, records: Sequence[KafkaRecord]
) -> set[KafkaRecord]:
    """Return those of `records` that an edit moved from `person_key` to another person key."""
    if not records:
        return set()
    rows = await tx.execute(
        text(f"""
            select topic, partition, "offset", content from {schema}.dead_letter
            where person_key <> :key and (topic, partition, "offset") in (
                select * from unnest(cast(:topics as text[]), cast(:partitions as integer[]), cast(:offsets as bigint[])))"""),  # noqa: S608 - schema names are constants
        {
            "key": person_key,
            "topics": [record.topic for record in records],
            "partitions": [record.partition for record in records],
            "offsets": [record.offset for record in records],
        },
    )
    positions = {tuple(row) for row in rows}
    return {record for record in records if _position(record) in positions}
