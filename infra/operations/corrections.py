"""Correct a dead letter: store an edit next to the original; the service applies the edit instead."""

import json
from collections.abc import Mapping
from dataclasses import replace

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.operations import reasons
from infra.operations.audit_log import Operator, record_action
from infra.operations.queries import DeadLetterRow
from schemas.events import CASE_EVENTS, CaseEvent, CommandRefused
from services.messaging import cloudevents, dead_letters
from services.messaging.cloudevents import KafkaRecord, Undecodable
from services.messaging.dead_letters import decode_headers, encode_headers
from services.router.consumer import UNKNOWN, Unreadable, read_record
from services.runtime.database import Transaction


class EditRefused(Exception):
    """The edit cannot be applied; the text names the place and never quotes a value."""


async def edit(
    engine: AsyncEngine,
    row: DeadLetterRow,
    value: bytes | None,
    headers: Mapping[str, str],
    by: Operator,
    *,
    dry_run: bool = False,
) -> DeadLetterRow:
    """Store an edit next to the original, with operator and reason; return the row as it then waits.

    What it does not give stays as in the latest edit, or as in the original: `value` None corrects headers only.
    A row without a person key or message group moves to those of the edited record. Raise EditRefused.
    """
    if row.resolved_at is not None:
        raise EditRefused(f"{row.name} is already {row.state}; nothing was stored")
    latest = await _latest(engine, row)
    corrected = latest.value if value is None else value
    record = _keyed(replace(latest, value=corrected, headers=_merged(latest.headers, headers)))
    person_key, message_groups = belongs(row, record)
    moved = replace(row, person_key=person_key, message_groups=message_groups or row.message_groups)
    if not dry_run:
        async with engine.begin() as tx:
            await _move(tx, row, moved)
            await _keep(tx, moved, record, by)
            await record_action(tx, row.service, "edit", by, {"ids": [row.id]})
    return moved


async def _latest(engine: AsyncEngine, row: DeadLetterRow) -> KafkaRecord:
    """Return the record as it would be applied now: the latest edit, else the original."""
    query = f"""select key, headers, value from {row.service}.dead_letter_edit
        where person_key = :key and dead_letter_id = :id order by id desc limit 1"""  # noqa: S608 - a constant name
    async with engine.connect() as tx:
        edit = (await tx.execute(text(query), {"key": row.person_key, "id": row.id})).first()
    if edit is None:
        return row.record
    return replace(row.record, key=edit.key or row.record.key, headers=decode_headers(edit.headers), value=edit.value)


async def _keep(tx: Transaction, row: DeadLetterRow, record: KafkaRecord, by: Operator) -> None:
    await tx.execute(
        text(f"""insert into {row.service}.dead_letter_edit (person_key, dead_letter_id, key, headers, value, operator, reason)
                 values (:person_key, :id, :key, :headers, :value, :operator, :reason)"""),  # noqa: S608 - a constant name
        {
            "person_key": row.person_key,
            "id": row.id,
            "key": record.key if record.key != row.record.key else None,
            "headers": encode_headers(record.headers),
            "value": record.value,
            "operator": by.operator,
            "reason": by.reason,
        },
    )


def _keyed(record: KafkaRecord) -> KafkaRecord:
    """Return a hub's command with the person key in its value as record key, instead of the hub's own key."""
    if not record.topic.endswith(".command"):
        return record
    try:
        named = json.loads(record.value)["person_key"]
    except (ValueError, RecursionError, TypeError, LookupError):
        return record
    return replace(record, key=named.encode()) if isinstance(named, str) and named.isascii() else record


def _merged(original: tuple[tuple[str, bytes], ...], changes: Mapping[str, str]) -> tuple[tuple[str, bytes], ...]:
    unchanged = [(name, value) for name, value in original if name not in changes]
    return (*unchanged, *((name, value.encode()) for name, value in changes.items()))


def belongs(row: DeadLetterRow, record: KafkaRecord) -> tuple[str, tuple[str, ...]]:
    """Return (person_key, message_groups) of an edited record.

    Raise EditRefused if it cannot be read, or belongs to another person.
    """
    person_key, message_groups = _read(row.service, record)
    if person_key != row.person_key and row.person_key != UNKNOWN:
        raise EditRefused(
            f"{row.name}: the edit has another person key; a record keeps its person key."
            " Discard it, and ask its sender to send it again."
        )
    return person_key, message_groups


def _read(service: str, record: KafkaRecord) -> tuple[str, tuple[str, ...]]:
    if service == "router":
        read = read_record(record)
        if isinstance(read, Unreadable):
            raise _unreadable(read.reason)
        if isinstance(read.event.data, CommandRefused):
            raise _unreadable("; ".join(read.event.data.places))
        return read.person_key, (read.message_group,)
    try:
        event = cloudevents.decode(record, CASE_EVENTS)
    except Undecodable as error:
        raise _unreadable(error.reason) from None
    assert isinstance(event.data, CaseEvent)
    return event.person_key, tuple(dict.fromkeys(context.reference for context in event.data.referral_contexts))


def _unreadable(reason: str) -> EditRefused:
    """Return the error for an edit that cannot be decoded; a wrong record key cannot be corrected."""
    message = f"the edit cannot be read: {reasons.in_words(reason)}"
    if reason.startswith(("key:", "person_key:")):
        message += (
            ". An edit corrects value and headers. A command takes its record key from the person_key in its value; the hub sets the"
            " key of every other record, so this record did not come from the hub. Discard it."
        )
    return EditRefused(message)


async def _move(tx: Transaction, row: DeadLetterRow, to: DeadLetterRow) -> None:
    parameters = {"new": to.person_key, "key": row.person_key, "id": row.id}
    await dead_letters.lock_groups(tx, row.service, (row.person_key, to.person_key))
    await dead_letters.unlink(tx, row.service, [(row.person_key, row.id)])
    moved = await tx.scalar(
        text(f"""update {row.service}.dead_letter set person_key = :new, message_group = :message_group, other_groups = :other_groups
                 where person_key = :key and id = :id and resolved_at is null returning id"""),  # noqa: S608 - a constant name
        {**parameters, "message_group": to.message_groups[0], "other_groups": list(to.message_groups[1:])},
    )
    if moved is None:
        raise EditRefused(f"{row.name} was resolved by another process; nothing was stored")
    await tx.execute(
        text(f"update {row.service}.dead_letter_edit set person_key = :new where person_key = :key and dead_letter_id = :id"),  # noqa: S608 - a constant name
        parameters,
    )  # fmt: skip
    await dead_letters.link(tx, row.service, [(to.person_key, row.id)])
