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

from infra.operations import replay
from infra.operations.replay import CannotReplay, Lines, Progress, Proof, ReplayTarget
from schemas.events import Event, ReferralContext
from schemas.topics import CASE_EVENT
from services.messaging.cloudevents import KafkaRecord
from services.messaging.dead_letters import decode_headers, event_id
from services.notifier import template_versions
from services.notifier.composer import FeedbackComposer, RenderedFeedback
from services.notifier.consumer import CaseEventConsumer
from services.notifier.template_versions import Source
from services.reference import partners
from services.router.consumer import SOURCE
from services.runtime.database import Transaction
from services.runtime.settings import Settings

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
class _Corrections:
    """Where the notifier told something else than the event says: edited ones, and referrals that it was not told about."""

    edits: dict[str, KafkaRecord] = field(default_factory=dict)
    untold: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))


@dataclass(slots=True)
class HistoricalComposer:
    """Implements `Composer` with the versions of then.

    An event that was taken in is composed with the version of its input. What was told of it before, of a referral that could be
    told while another could not, was composed with an earlier one: the feedback says with which.
    """

    by_version: Mapping[str | None, FeedbackComposer]
    feedback_versions: Mapping[tuple[str, str], Sequence[str | None]] = field(default_factory=dict)
    input_versions: Mapping[str, str | None] = field(default_factory=dict)
    version: str | None = None

    def compose(self, event: Event, context: ReferralContext) -> list[RenderedFeedback]:
        rendered: dict[str, RenderedFeedback] = {}
        for version in self._versions(event.id, context.reference):
            for one in self.by_version[version].compose(event, context):
                rendered.setdefault(one.feedback.id, one)
        return list(rendered.values())

    def _versions(self, event_id: str, reference: str) -> Sequence[str | None]:
        versions = self.feedback_versions.get((event_id, reference), ())
        return versions or ((self.input_versions[event_id],) if event_id in self.input_versions else ())


async def run_with(config: Settings, progress: Progress, *, keep: bool = False, replace: bool = False) -> Proof:
    """Replay and compare. What was composed before versions were kept is composed with the files and partners of these settings."""
    today = template_versions.source(config, partners.load(config.directory, config.deployment))
    return await run(config.database, today, progress, keep=keep, replace=replace)


async def run(url: str, today: Source, progress: Progress, *, keep: bool = False, replace: bool = False) -> Proof:
    """Replay and compare. `today`: for what was composed before versions were kept. Raises CannotReplay."""
    async with (
        replay.replay_schema(ReplayTarget(url, SCHEMA, OTHER, TABLES, keep, replace)) as (source, target),
        AsyncExitStack() as opened,
    ):
        return await _prove(source, target, today, opened, progress)


async def _prove(
    source: AsyncEngine, target: AsyncEngine, today: Source, opened: AsyncExitStack, progress: Progress
) -> Proof:
    done, seconds = 0, 0.0
    composers: dict[str | None, FeedbackComposer] = {}
    for number in range(PASSES + 1):
        async with replay.snapshot(source) as tx:
            total = done + int(await tx.scalar(text(f"select count(*) {_MISSING}")) or 0)
            if total == done or number == PASSES:
                return await _compared(tx, done, seconds)
            begun = time.perf_counter()
            for version, version_source in (await _sources(tx, today)).items():
                if version not in composers:
                    composers[version] = await opened.enter_async_context(template_versions.composer_of(version_source))
            async for records in _batches(tx, await _corrections(tx)):
                await CaseEventConsumer(target, await _historical_composer(tx, composers, records)).receive(records)
                done += len(records)
                progress(done, total)
            seconds += time.perf_counter() - begun
    raise AssertionError


async def _sources(tx: Transaction, today: Source) -> dict[str | None, Source]:
    sources: dict[str | None, Source] = {None: today}
    try:
        sources.update(await template_versions.stored_sources(tx))
    except template_versions.TemplateVersionMissing as error:
        raise CannotReplay(str(error)) from None
    if unknown := sorted(set(await tx.scalars(text(_VERSIONS))) - sources.keys()):
        raise CannotReplay(
            f"Feedback was composed with version {', '.join(unknown)}, which notifier.template_version does not keep."
            " Nothing else holds its words: without that row it cannot be composed again."
        )
    return sources


_VERSIONS = f"""
    select template_version from {SCHEMA}.input where template_version is not null
    union select template_version from {SCHEMA}.feedback where template_version is not null"""


async def _historical_composer(
    tx: Transaction, by_version: Mapping[str | None, FeedbackComposer], records: Sequence[KafkaRecord]
) -> HistoricalComposer:
    parameters = {"ids": [event_id(record) for record in records], "keys": [(r.key or b"").decode() for r in records]}
    feedback_versions: defaultdict[tuple[str, str], list[str | None]] = defaultdict(list)
    for row in await tx.execute(text(_FEEDBACK_VERSIONS), parameters):
        feedback_versions[row.caused_by, row.reference].append(row.template_version)
    input_versions = {row.event_id: row.template_version for row in await tx.execute(text(_INPUT_VERSIONS), parameters)}
    return HistoricalComposer(by_version, feedback_versions, input_versions)


_FEEDBACK_VERSIONS = f"""
    select caused_by, reference, template_version from {SCHEMA}.feedback
    where person_key = any(cast(:keys as text[])) and caused_by = any(cast(:ids as text[]))
    group by 1, 2, 3 order by min(composed_at)"""
_INPUT_VERSIONS = f"""
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


async def _corrections(tx: Transaction) -> _Corrections:
    corrections = _Corrections()
    for row in await tx.execute(
        text(f"""select event_id, message_group, other_groups from {SCHEMA}.dead_letter
                 where event_id is not null and (resolved_at is null or resolution = 'discarded')""")
    ):
        corrections.untold[row.event_id].update((row.message_group, *row.other_groups))
    for row in await tx.execute(
        text(f"""select parked.key, edit.headers, edit.value from {SCHEMA}.dead_letter as parked
                 join {SCHEMA}.dead_letter_edit as edit on edit.person_key = parked.person_key and dead_letter_id = parked.id
                 where resolution = 'applied' order by edit.id""")
    ):
        record = KafkaRecord(CASE_EVENT, 0, 0, row.key, row.value, decode_headers(row.headers))
        corrections.edits[event_id(record) or ""] = record
    return corrections


async def _batches(tx: Transaction, corrections: _Corrections) -> AsyncIterator[list[KafkaRecord]]:
    """The events in the order of each person key, as the notifier took them."""
    rows = await tx.stream(text(f"select event.* {_MISSING} order by person_key, sequence"))
    async for page in rows.partitions(BATCH):
        yield [_record(row, corrections) for row in page]


def _record(row: Any, corrections: _Corrections) -> KafkaRecord:
    record = KafkaRecord(CASE_EVENT, 0, row.sequence, row.person_key.encode(), row.data, _headers(row))
    if (edited := corrections.edits.get(row.id)) is not None:
        record = replace(record, value=edited.value, headers=edited.headers)
    untold = corrections.untold.get(row.id)
    return replace(record, value=_without(record.value, untold)) if untold else record


def _headers(row: Any) -> tuple[tuple[str, bytes], ...]:
    fields = {
        "ce_id": row.id,
        "ce_type": row.type,
        "ce_source": SOURCE,
        "ce_time": row.time.isoformat(),
        "ce_correlationid": row.correlation_id,
        "ce_causationid": row.causation_id,
        "ce_sequence": str(row.sequence),
        "ce_district": row.district,
    }
    return tuple((name, value.encode()) for name, value in fields.items() if value is not None)


def _without(value: bytes, references: set[str]) -> bytes:
    data = json.loads(value)
    data["referral_contexts"] = [
        context for context in data.get("referral_contexts", ()) if context["reference"] not in references
    ]
    return json.dumps(data).encode()


async def _compared(tx: Transaction, done: int, seconds: float) -> Proof:
    left_out = f"select event.person_key {_MISSING}"
    keys, fingerprint, differing = await replay.compare(tx, SCHEMA, OTHER, LINES, left_out)
    count = int(await tx.scalar(text(f"select count(distinct event.person_key) {_MISSING}")) or 0)
    return Proof(done, seconds, keys, fingerprint, differing, count)
