"""Rebuild the router's state from its inputs, in their order, with the stored times, edits and directories."""

# ruff: noqa: S608 - schema and table names are constants

import hashlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.operations import replay
from infra.operations.replay import CannotReplay, Line, Lines, Progress, Proof, ReplayTarget
from schemas.topics import REFERRAL_EVENT
from services.messaging import packets
from services.messaging.cloudevents import KafkaRecord
from services.messaging.packets import Message, Packet, Place, shard_of
from services.reference import directory as directories
from services.reference.directory import Directory
from services.router import directory_versions, store, stored_state
from services.router.consumer import Batches
from services.runtime import tracing
from services.runtime.compression import decompress
from services.runtime.database import Transaction

SCHEMA, OTHER = "router", "replay_router"
TABLES = (
    "person_key",
    "person",
    '"case"',
    "referral",
    "input",
    "case_event",
    "packet",
    "packet_held",
    "dead_letter",
    "dead_letter_group",
    "dead_letter_edit",
)

READ_AT_ONCE = 100
"""Rows of the history whose packets are in memory at the same time."""

APART = 10_000
"""Largest distance between two inputs of one batch in the order of positions: other processes apply inputs in between."""

PASSES = 5
"""Number of passes. Person keys with inputs that are not replayed after the last one are left out of the comparison."""


@dataclass(slots=True)
class AppliedBatch:
    """The inputs that one batch applied together, at one time, with one version of the directory, as rows."""

    time: datetime
    version: str
    inputs: list[Any] = field(default_factory=list)
    last: int = 0


async def run(url: str, folder: Path, progress: Progress, *, keep: bool = False, replace: bool = False) -> Proof:
    """Replay the router's inputs and compare the result with the stored state. Raises CannotReplay.

    `folder`: the current directory, for inputs that were decided before versions were stored.
    """
    async with replay.replay_schema(ReplayTarget(url, SCHEMA, OTHER, TABLES, keep, replace)) as (source, target):
        async with source.begin() as tx:
            await tx.execute(text(_POSTCODE))
        return await _prove(source, target, _as_of(target), folder, progress)


_POSTCODE = f"""
    create view {OTHER}.postcode as
    with before as (
        select distinct on (postcode) postcode, district from {SCHEMA}.postcode_history
        where until > current_setting('lightbulb.as_of')::timestamptz order by postcode, until
    )
    select postcode, district from {SCHEMA}.postcode where not exists (select from before where before.postcode = postcode.postcode)
    union all
    select postcode, district from before where district is not null"""
"""The districts that postcodes had at the time of the replayed batch."""


def _as_of(engine: AsyncEngine) -> dict[str, datetime]:
    """Return the time (`now`) as of which this engine reads postcodes; set it before each batch."""
    at: dict[str, datetime] = {}

    @event.listens_for(engine.sync_engine, "begin")
    def began(connection: Any) -> None:
        connection.execute(text("select set_config('lightbulb.as_of', :at, true)"), {"at": at["now"].isoformat()})

    return at


async def _prove(
    source: AsyncEngine, target: AsyncEngine, as_of: dict[str, datetime], folder: Path, progress: Progress
) -> Proof:
    done, seconds = 0, 0.0
    for number in range(PASSES + 1):
        async with replay.snapshot(source) as tx:
            total = int(await tx.scalar(text(f"select count(*) {_MISSING}")) or 0)
            if total == 0 or number == PASSES:
                return await _compared(tx, done, seconds)
            begun = time.perf_counter()
            by_version = await _directories(tx, folder)
            async for batch in batches(tx):
                as_of["now"] = batch.time
                records = await _records(tx, batch.inputs)
                await Batches(target, by_version[batch.version], clock=lambda at=batch.time: at).receive(records)  # type: ignore[misc]  # a lambda's default
                done += len(records)
                progress(done, done - len(records) + total)
                total -= len(records)
            seconds += time.perf_counter() - begun
    raise AssertionError


_MISSING = f"""
    from {SCHEMA}.input where not exists (
        select from {OTHER}.input as replayed
        where replayed.person_key = input.person_key and replayed.topic = input.topic and replayed.id = input.id)
    and not exists (
        select from {OTHER}.dead_letter as failed
        where failed.person_key = input.person_key and failed.topic = input.topic and failed.event_id = input.id)"""


async def _directories(tx: Transaction, folder: Path) -> Mapping[str, Directory]:
    today = directories.load(folder)
    by_version = {today.version: today} | await directory_versions.stored_directories(tx)
    required = await tx.scalars(text(f"select distinct directory_version {_MISSING}"))
    if unknown := sorted(set(required) - by_version.keys()):
        raise CannotReplay(
            f"Inputs were decided with directory version {', '.join(unknown)}, which the database does not hold (it stores"
            " versions since the first start of this release). Give the folder of that version: --directory DIR."
        )
    return by_version


async def batches(tx: Transaction) -> AsyncIterator[AppliedBatch]:
    """Yield the inputs that are not replayed yet, in the batches in which they were applied.

    A batch holds the locks of its keys while it numbers its inputs, so batches that share a key never overlap in position. Sorted by
    their first input, they are therefore in the order in which they changed each key.
    """
    waiting: dict[tuple[datetime, str], AppliedBatch] = {}
    columns = "position, person_key, topic, id, time, directory_version, packet, place"
    rows = await tx.stream(text(f"select {columns} {_MISSING} order by position"))
    place = 0
    async for row in rows:
        place += 1
        batch = waiting.setdefault((row.time, row.directory_version), AppliedBatch(row.time, row.directory_version))
        batch.inputs.append(row)
        batch.last = place
        while (first := next(iter(waiting.values()))).last + APART < place:
            yield waiting.pop((first.time, first.version))
    for batch in waiting.values():
        yield batch


async def _records(tx: Transaction, inputs: Sequence[Any]) -> list[KafkaRecord]:
    """Return the records of these inputs. They stand in the few packets of the transaction that applied them."""
    places = [(one.person_key, Place(one.packet, one.place)) for one in inputs]
    contents = await packets.contents(tx, SCHEMA, places)
    return [_record(one, *contents[place]) for one, place in zip(inputs, places, strict=True)]


def _record(row: Any, headers: bytes, value: bytes) -> KafkaRecord:
    return KafkaRecord(row.topic, 0, row.position, row.person_key.encode(), value, store.stored_headers(headers))


# ---- comparing ------------------------------------------------------------------------------------------------------


async def _compared(tx: Transaction, done: int, seconds: float) -> Proof:
    left_out = f"select person_key {_MISSING}"
    keys, fingerprint, differing = await replay.compare(tx, (SCHEMA, OTHER), LINES, left_out)
    count = int(await tx.scalar(text(f"select count(distinct person_key) {_MISSING}")) or 0)
    return Proof(done, seconds, keys, fingerprint, differing, count)


def _rows(table: str, *states: str, without: Sequence[str] = ()) -> Callable[[Transaction, str], AsyncIterator[Line]]:
    """Return what yields the rows of a table, with their states as JSON: compressed bytes may differ between versions of the library."""

    async def lines(tx: Transaction, schema: str) -> AsyncIterator[Line]:
        query = f"""
            select person_key, (to_jsonb(t) - cast(:without as text[]))::text as row, array[{", ".join(states)}] as states
            from {schema}.{table} as t"""
        async for row in await tx.stream(text(query), {"without": [*states, *without]}):
            decoded = [replay.canonical(decompress(one, stored_state.STATE_BYTES)) for one in row.states]
            yield Line(row.person_key, " ".join([row.row, *decoded]))

    return lines


async def _sequences(tx: Transaction, schema: str) -> AsyncIterator[Line]:
    query = f"""
        select person_key, concat_ws(' ', last_sequence, persons, verified_persons, undoubted) as line from {schema}.person_key
        where last_sequence > 0"""
    async for row in await tx.stream(text(query)):
        yield Line(row.person_key, row.line)


async def _case_events(tx: Transaction, schema: str) -> AsyncIterator[Line]:
    """Yield the history with the event that each row points at, instead of the place where it stands."""
    query = f"select person_key, packet, place, (to_jsonb(t) - '{{packet, place}}'::text[])::text as row from {schema}.case_event as t"
    rows = await tx.stream(text(f"{query} order by packet, place"))
    async for part in rows.partitions(READ_AT_ONCE):
        found = await packets.read(tx, schema, {(shard_of(row.person_key), row.packet) for row in part})
        for row in part:
            message = _message(found.get((shard_of(row.person_key), row.packet)), row.place)
            yield Line(row.person_key, f"{row.row} {message and (message.target, _digest(message.value))}")


def _message(packet: Packet | None, place: int) -> Message | None:
    return packet.messages[place] if packet and place < len(packet.messages) else None


def _digest(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()


async def _messages(tx: Transaction, schema: str) -> AsyncIterator[Line]:
    """Yield the messages of each key in order, without those of the schedule, which are inputs, and without their trace contexts.

    A trace context differs if either the router or the replay was not traced.
    """
    rows = await tx.stream(text(f"select content from {schema}.packet where not republished order by shard, id"))
    place = 0
    async for row in rows:
        for message in packets.decode(row.content).messages:
            place += 1
            if message.target != REFERRAL_EVENT:
                headers = [(name, value) for name, value in message.headers if name != tracing.HEADER]
                yield Line(message.person_key, f"{message.target} {headers} {_digest(message.value)}", place)


LINES: Lines = {
    "person": _rows("person", "state"),
    "case": _rows('"case"', "state", "tally"),
    # Without the marks of the schedule, which is not an input.
    "referral": _rows("referral", "state", without=("overdue_on", "overdue_held")),
    "case_event": _case_events,
    "sequence": _sequences,
    "message": _messages,
}
