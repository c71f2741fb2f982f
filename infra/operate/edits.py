"""Corrects a parked record: the edit is kept beside the original, with who and why, and is applied in its place."""

from collections.abc import Mapping
from dataclasses import replace

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.operate.finding import Row
from infra.operate.recorded import By, record_action
from schemas.events import CASE_EVENTS, CaseEvent
from services.messaging import cloudevents
from services.messaging.cloudevents import Record, Undecodable
from services.messaging.database import Transaction
from services.messaging.quarantine import headers_kept
from services.router.batch import Unreadable, read_record

UNKNOWN = "unknown"
"""The person key that the router parks a record under that names nobody."""


class EditRefused(Exception):
    """An edit that cannot be applied; the text says where it is wrong, never what it says."""


async def edit(
    engine: AsyncEngine, row: Row, value: bytes, headers: Mapping[str, str], by: By, *, dry_run: bool = False
) -> Row:
    """Keep an edit beside the original, with who and why; returns the row as it waits then. Raises EditRefused.

    A row that named nobody, or no chain, waits where the edited record belongs.
    """
    record = replace(row.record, value=value, headers=_merged(row.record.headers, headers))
    person_key, chains = belongs(row, record)
    if dry_run:
        return replace(row, person_key=person_key, chains=chains or row.chains)
    async with engine.begin() as tx:
        await _move(tx, row, person_key, chains)
        await tx.execute(
            text(f"""insert into {row.service}.quarantine_edit (person_key, quarantine_id, headers, value, who, why)
                     values (:key, :id, :headers, :value, :who, :why)"""),  # noqa: S608 - a name of ours
            {
                "key": person_key,
                "id": row.id,
                "headers": headers_kept(record.headers),
                "value": value,
                "who": by.who,
                "why": by.why,
            },
        )
        await record_action(tx, row.service, "edit", by, {"ids": [row.id]})
    return replace(row, person_key=person_key, chains=chains or row.chains)


def _merged(original: tuple[tuple[str, bytes], ...], given: Mapping[str, str]) -> tuple[tuple[str, bytes], ...]:
    kept = [(name, value) for name, value in original if name not in given]
    return (*kept, *((name, value.encode()) for name, value in given.items()))


def belongs(row: Row, record: Record) -> tuple[str, tuple[str, ...]]:
    """(person_key, chains) of an edited record; raises EditRefused where it cannot be read, or is another person's."""
    person_key, chains = _read(row.service, record)
    if person_key != row.person_key and row.person_key != UNKNOWN:
        raise EditRefused(f"{row.name}: the edit names another person key; a record stays with the person it came for")
    return person_key, chains


def _read(service: str, record: Record) -> tuple[str, tuple[str, ...]]:
    if service == "router":
        read = read_record(record)
        if isinstance(read, Unreadable):
            raise EditRefused(f"the edit cannot be read: {read.reason}")
        return read.person_key, (read.chain,)
    try:
        event = cloudevents.decode(record, CASE_EVENTS)
    except Undecodable as fault:
        raise EditRefused(f"the edit cannot be read: {fault.reason}") from None
    assert isinstance(event.data, CaseEvent)
    return event.person_key, tuple(dict.fromkeys(concern.reference for concern in event.data.concerns))


async def _move(tx: Transaction, row: Row, person_key: str, chains: tuple[str, ...]) -> None:
    given = {"new": person_key, "key": row.person_key, "id": row.id}
    moved = await tx.scalar(
        text(f"""update {row.service}.quarantine set person_key = :new, chain = :chain, also = :also
                 where person_key = :key and id = :id and resolved_at is null returning id"""),  # noqa: S608 - a name of ours
        {**given, "chain": (chains or row.chains)[0], "also": list((chains or row.chains)[1:])},
    )
    if moved is None:
        raise EditRefused(f"{row.name} was resolved meanwhile; nothing was kept")
    await tx.execute(
        text(f"update {row.service}.quarantine_edit set person_key = :new where person_key = :key and quarantine_id = :id"),  # noqa: S608 - a name of ours
        given,
    )  # fmt: skip
