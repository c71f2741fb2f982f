"""What the notifier told, again from the case events that it took in: the same feedback, with the same bytes and ids; nothing is sent."""

# ruff: noqa: S608 - every schema and table is a name of ours

import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.operate import replay
from infra.operate.replay import CannotReplay, Lines, Place, Progress, Proof
from schemas.events import Concern, Event
from schemas.topics import CASE_EVENT
from services import partners
from services.messaging.cloudevents import Record
from services.messaging.database import Transaction
from services.messaging.quarantine import event_id, headers_of
from services.messaging.settings import Settings
from services.notifier import kept
from services.notifier.composing import Composed, Composing
from services.notifier.kept import Source
from services.notifier.receiver import Receiver
from services.router.batch import SOURCE

SCHEMA, OTHER = "notifier", "replay_notifier"
TABLES = ("input", "feedback", "conversation", "outbox", "dead_letter", "dead_letter_edit")
BATCH = 500
PASSES = 5

LINES: Lines = {
    # A feedback that restates the whole position was composed again when an earlier one had failed: its ids are the same.
    "feedback": f"""
        select person_key, concat_ws(' ', feedback_id, reference, caused_by, recipient, channel, feedback_type, status, ordinal,
            correlation_id, case when exists (
                select from {SCHEMA}.feedback as restated where restated.person_key = told.person_key
                and restated.feedback_id = told.feedback_id and restated.content ->> 'is_restatement' = 'true')
            then 'restated' else md5(content::text) || md5(body) || ids::text end) as line
        from {{schema}}.feedback as told""",
    "conversation": """
        select person_key, concat_ws(' ', reference, recipient, channel, last) as line from {schema}.conversation""",
}


@dataclass(slots=True)
class _Otherwise:
    """Where the notifier told something else than the event says: edited ones, and referrals that it was not told about."""

    edits: dict[str, Record] = field(default_factory=dict)
    untold: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))


@dataclass(slots=True)
class AsThen:
    """Implements `Composer` with the versions of then.

    An event that was taken in is composed with the version of its input. What was told of it before, of a referral that could be
    told while another could not, was composed with an earlier one: the feedback says with which.
    """

    by_version: Mapping[str | None, Composing]
    told: Mapping[tuple[str, str], Sequence[str | None]] = field(default_factory=dict)
    taken: Mapping[str, str | None] = field(default_factory=dict)
    version: str | None = None

    def compose(self, event: Event, concern: Concern) -> list[Composed]:
        found: dict[str, Composed] = {}
        for version in self._versions(event.id, concern.reference):
            for one in self.by_version[version].compose(event, concern):
                found.setdefault(one.feedback.id, one)
        return list(found.values())

    def _versions(self, event_id: str, reference: str) -> Sequence[str | None]:
        told = self.told.get((event_id, reference), ())
        return told or ((self.taken[event_id],) if event_id in self.taken else ())


async def run_with(config: Settings, progress: Progress, *, keep: bool = False, replace: bool = False) -> Proof:
    """Replay and compare. What was composed before versions were kept is composed with the files and partners of these settings."""
    today = kept.source(config, partners.load(config.directory, config.deployment))
    return await run(config.database, today, progress, keep=keep, replace=replace)


async def run(url: str, today: Source, progress: Progress, *, keep: bool = False, replace: bool = False) -> Proof:
    """Replay and compare. `today`: for what was composed before versions were kept. Raises CannotReplay."""
    async with (
        replay.beside(Place(url, SCHEMA, OTHER, TABLES, keep, replace)) as (source, target),
        AsyncExitStack() as opened,
    ):
        return await _prove(source, target, today, opened, progress)


async def _prove(
    source: AsyncEngine, target: AsyncEngine, today: Source, opened: AsyncExitStack, progress: Progress
) -> Proof:
    done, seconds = 0, 0.0
    known: dict[str | None, Composing] = {}
    for number in range(PASSES + 1):
        async with replay.snapshot(source) as tx:
            total = done + int(await tx.scalar(text(f"select count(*) {_MISSING}")) or 0)
            if total == done or number == PASSES:
                return await _compared(tx, done, seconds)
            begun = time.perf_counter()
            for version, found in (await _sources(tx, today)).items():
                if version not in known:
                    known[version] = await opened.enter_async_context(kept.composing(found))
            async for records in _batches(tx, await _otherwise(tx)):
                await Receiver(target, await _as_then(tx, known, records)).receive(records)
                done += len(records)
                progress(done, total)
            seconds += time.perf_counter() - begun
    raise AssertionError


async def _sources(tx: Transaction, today: Source) -> dict[str | None, Source]:
    found: dict[str | None, Source] = {None: today}
    try:
        found.update(await kept.kept_sources(tx))
    except kept.NotKept as fault:
        raise CannotReplay(str(fault)) from None
    if unknown := sorted(set(await tx.scalars(text(_VERSIONS))) - found.keys()):
        raise CannotReplay(
            f"Feedback was composed with version {', '.join(unknown)}, which notifier.template_version does not keep."
            " Nothing else holds its words: without that row it cannot be composed again."
        )
    return found


_VERSIONS = f"""
    select template_version from {SCHEMA}.input where template_version is not null
    union select template_version from {SCHEMA}.feedback where template_version is not null"""


async def _as_then(tx: Transaction, by_version: Mapping[str | None, Composing], records: Sequence[Record]) -> AsThen:
    given = {"ids": [event_id(record) for record in records], "keys": [(r.key or b"").decode() for r in records]}
    told: defaultdict[tuple[str, str], list[str | None]] = defaultdict(list)
    for row in await tx.execute(text(_TOLD), given):
        told[row.caused_by, row.reference].append(row.template_version)
    taken = {row.event_id: row.template_version for row in await tx.execute(text(_TAKEN), given)}
    return AsThen(by_version, told, taken)


_TOLD = f"""
    select caused_by, reference, template_version from {SCHEMA}.feedback
    where person_key = any(cast(:keys as text[])) and caused_by = any(cast(:ids as text[]))
    group by 1, 2, 3 order by min(composed_at)"""
_TAKEN = f"""
    select event_id, template_version from {SCHEMA}.input
    where person_key = any(cast(:keys as text[])) and event_id = any(cast(:ids as text[]))"""

_MISSING = f"""
    from router.case_event as event
    where (exists (select from {SCHEMA}.input as taken where taken.person_key = event.person_key and taken.event_id = event.id)
           or exists (select from {SCHEMA}.feedback where feedback.person_key = event.person_key and caused_by = event.id))
      and not exists (
        select from {OTHER}.input as taken where taken.person_key = event.person_key and taken.event_id = event.id)
      and not exists (
        select from {OTHER}.dead_letter as failed where failed.person_key = event.person_key and failed.event_id = event.id)"""


async def _otherwise(tx: Transaction) -> _Otherwise:
    found = _Otherwise()
    for row in await tx.execute(
        text(f"""select event_id, message_group, other_groups from {SCHEMA}.dead_letter
                 where event_id is not null and (resolved_at is null or resolution = 'discarded')""")
    ):
        found.untold[row.event_id].update((row.message_group, *row.other_groups))
    for row in await tx.execute(
        text(f"""select parked.key, edit.headers, edit.value from {SCHEMA}.dead_letter as parked
                 join {SCHEMA}.dead_letter_edit as edit on edit.person_key = parked.person_key and dead_letter_id = parked.id
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
