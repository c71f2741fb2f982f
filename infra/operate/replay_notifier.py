"""What the notifier told, again from the case events that it took in: the same feedback, with the same bytes and ids; nothing is sent."""

# ruff: noqa: S608 - every schema and table is a name of ours

import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.operate import replay
from infra.operate.replay import Lines, Progress, Proof
from schemas.topics import CASE_EVENT
from services import directory as directories
from services import partners
from services.messaging import database
from services.messaging.cloudevents import Record
from services.messaging.database import Transaction
from services.messaging.quarantine import event_id, headers_of
from services.messaging.settings import Settings
from services.notifier import words
from services.notifier.app import carriers
from services.notifier.channels import Channel
from services.notifier.feedback import Recipients, Words
from services.notifier.receiver import Receiver
from services.notifier.recipients import KnownPartners
from services.router.batch import SOURCE

SCHEMA, OTHER = "notifier", "replay_notifier"
TABLES = ("input", "feedback", "conversation", "outbox", "quarantine", "quarantine_edit")
BATCH = 500
PASSES = 5

LINES: Lines = {
    # A feedback that restates the whole position was composed again when an earlier one had failed: its ids are the same.
    "feedback": f"""
        select person_key, concat_ws(' ', feedback_id, reference, caused_by, recipient, channel, told, status, ordinal, correlation_id,
            case when exists (
                select from {SCHEMA}.feedback as restated where restated.person_key = told.person_key
                and restated.feedback_id = told.feedback_id and restated.said ->> 'restates' = 'true')
            then 'restated' else md5(said::text) || md5(body) || ids::text end) as line
        from {{schema}}.feedback as told""",
    "conversation": """
        select person_key, concat_ws(' ', reference, recipient, channel, last) as line from {schema}.conversation""",
}


@dataclass(frozen=True, slots=True)
class Composing:
    """What feedback is composed with: as the notifier has it today."""

    recipients: Recipients
    words: Words
    channels: Mapping[str, Channel]


@dataclass(slots=True)
class _Otherwise:
    """Where the notifier told something else than the event says: edited ones, and referrals that it was not told about."""

    edits: dict[str, Record] = field(default_factory=dict)
    untold: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))


async def run_with(config: Settings, progress: Progress, *, keep: bool = False) -> Proof:
    """Replay and compare, with the directory, partners and carriers of these settings."""
    reviewed = words.load(config.directory, directories.load(config.directory))
    recipients = KnownPartners(partners.load(config.directory, config.deployment), mesh=config.mesh_url is not None)
    async with carriers(config, recipients, reviewed) as channels:
        return await run(config.database, Composing(recipients, reviewed, channels), progress, keep=keep)


async def run(url: str, composing: Composing, progress: Progress, *, keep: bool = False) -> Proof:
    """Replay and compare."""
    source = database.connect(url, pool=2, patience=None)
    async with AsyncExitStack() as at_the_end:
        at_the_end.push_async_callback(source.dispose)
        if not keep:
            at_the_end.push_async_callback(replay.drop, source, OTHER)
        await replay.make(source, SCHEMA, OTHER, TABLES)
        target = await at_the_end.enter_async_context(replay.elsewhere(url, SCHEMA, OTHER))
        receiver = Receiver(target, composing.recipients, composing.words, composing.channels)
        return await _prove(source, receiver, progress)


async def _prove(source: AsyncEngine, receiver: Receiver, progress: Progress) -> Proof:
    done, seconds = 0, 0.0
    for number in range(PASSES + 1):
        async with replay.snapshot(source) as tx:
            total = done + int(await tx.scalar(text(f"select count(*) {_MISSING}")) or 0)
            if total == done or number == PASSES:
                return await _compared(tx, done, seconds)
            begun = time.perf_counter()
            async for records in _batches(tx, await _otherwise(tx)):
                await receiver.receive(records)
                done += len(records)
                progress(done, total)
            seconds += time.perf_counter() - begun
    raise AssertionError


_MISSING = f"""
    from router.case_event as event
    where (exists (select from {SCHEMA}.input as taken where taken.person_key = event.person_key and taken.event_id = event.id)
           or exists (select from {SCHEMA}.feedback where feedback.person_key = event.person_key and caused_by = event.id))
      and not exists (
        select from {OTHER}.input as taken where taken.person_key = event.person_key and taken.event_id = event.id)
      and not exists (
        select from {OTHER}.quarantine as failed where failed.person_key = event.person_key and failed.event_id = event.id)"""


async def _otherwise(tx: Transaction) -> _Otherwise:
    found = _Otherwise()
    for row in await tx.execute(
        text(f"""select event_id, chain, also from {SCHEMA}.quarantine
                 where event_id is not null and (resolved_at is null or resolution = 'discarded')""")
    ):
        found.untold[row.event_id].update((row.chain, *row.also))
    for row in await tx.execute(
        text(f"""select parked.key, edit.headers, edit.value from {SCHEMA}.quarantine as parked
                 join {SCHEMA}.quarantine_edit as edit on edit.person_key = parked.person_key and quarantine_id = parked.id
                 where resolution = 'applied' order by edit.id""")
    ):
        record = Record(CASE_EVENT, 0, 0, row.key, row.value, headers_of(row.headers))
        found.edits[event_id(record) or ""] = record
    return found


async def _batches(tx: Transaction, otherwise: _Otherwise) -> AsyncIterator[list[Record]]:
    """The events in the order of each person key, as the notifier took them."""
    rows = await tx.stream(text(f"select event.* {_MISSING} order by person_key, sequence"))
    async for page in rows.partitions(BATCH):
        yield [_record(row, otherwise) for row in page]


def _record(row: Any, otherwise: _Otherwise) -> Record:
    record = Record(CASE_EVENT, 0, row.sequence, row.person_key.encode(), row.data, _headers(row))
    if (edited := otherwise.edits.get(row.id)) is not None:
        record = replace(record, value=edited.value, headers=edited.headers)
    untold = otherwise.untold.get(row.id)
    return replace(record, value=_without(record.value, untold)) if untold else record


def _headers(row: Any) -> tuple[tuple[str, bytes], ...]:
    told = {
        "ce_id": row.id,
        "ce_type": row.type,
        "ce_source": SOURCE,
        "ce_time": row.time.isoformat(),
        "ce_correlationid": row.correlation_id,
        "ce_causationid": row.causation_id,
        "ce_sequence": str(row.sequence),
        "ce_district": row.district,
    }
    return tuple((name, value.encode()) for name, value in told.items() if value is not None)


def _without(value: bytes, references: set[str]) -> bytes:
    data = json.loads(value)
    data["concerns"] = [concern for concern in data.get("concerns", ()) if concern["reference"] not in references]
    return json.dumps(data).encode()


async def _compared(tx: Transaction, done: int, seconds: float) -> Proof:
    left_out = f"select event.person_key {_MISSING}"
    keys, fingerprint, differing = await replay.compare(tx, SCHEMA, OTHER, LINES, left_out)
    count = int(await tx.scalar(text(f"select count(distinct event.person_key) {_MISSING}")) or 0)
    return Proof(done, seconds, keys, fingerprint, differing, count)
