"""Compare PostgreSQL with what Kafka still holds, after either was restored from an older copy or lost, and repair both.

If PostgreSQL is older: what intake holds of referrals is rebuilt from their events, the router applies again what it had applied, the
notifier reads its case events again, and the outcomes of feedback are kept. If Kafka is older: what its readers, or hubs' topics,
lack is published again from the outboxes. Repeating it is harmless: each step looks for what is missing.
"""

import contextlib
import math
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiokafka import TopicPartition
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.operations import republish
from infra.operations.audit_log import Operator, record_action
from infra.operations.reconcile import intake, kafka, notifier, router
from infra.operations.reconcile.kafka import BATCH, KafkaTopics, KeptRecord, Report
from infra.operations.reconcile.notifier import Outcomes
from infra.operations.reconcile.router import Evidence
from infra.operations.republish import EventStream, OutboxEvent
from schemas.topics import CASE_EVENT, FEEDBACK_EVENT, REFERRAL_EVENT, declared, hub_case, hub_command
from services.reference import directory as directories
from services.reference.directory import Directory
from services.router import directory_versions
from services.runtime import positions
from services.runtime.database import SERVICE_ROLES
from services.runtime.positions import Gap

GROUPS = ("router", "notifier")

MARGIN = timedelta(days=1)
"""Events that are nearly as old as a topic's retention are not missed on it."""


class ServicesRun(Exception):
    """Services, or another reconcile, run while something has to be taken in; the text names them."""


@dataclass(slots=True)
class Missing:
    """What Kafka has and PostgreSQL lacks, and the other way round. What is published after `began` is not missed on Kafka."""

    began: datetime

    kept_from: Mapping[TopicPartition, int]
    """The first offset of each partition when it began."""

    referrals: list[KeptRecord] = field(default_factory=list)
    """Events of intake that its outbox lacks."""

    inputs: list[KeptRecord] = field(default_factory=list)
    """What the router had read and its database lacks."""

    case_events: list[KeptRecord] = field(default_factory=list)
    """What the notifier had read and its database lacks."""

    outcomes: Outcomes = field(default_factory=dict)
    """Outcomes of feedback that the database lacks."""

    on_kafka: dict[str, set[str]] = field(default_factory=dict)
    """Ids of the events on each topic."""

    to_publish: dict[EventStream, list[OutboxEvent]] = field(default_factory=dict)
    """Events that their reader or hub lacks."""

    lost_commands: dict[str, int] = field(default_factory=dict)
    """Commands of hubs that were deleted unread, by topic: only the hub has them. 0: Kafka still has those that were not read."""

    @property
    def must_be_taken_in(self) -> bool:
        return bool(self.referrals or self.inputs or self.case_events or self.outcomes)


@dataclass(frozen=True, slots=True)
class ReconcileSummary:
    """What was missing, and was repaired unless it is a dry run: numbers of events.

    `differing`: events that the router decided otherwise than those that Kafka has. `without_documents`: references of referrals whose
    documents are lost. `lost_commands`: commands that were deleted unread, by topic of the hub, which has to send them again.
    """

    referral_events: int = 0
    router_inputs: int = 0
    case_events: int = 0
    feedback_outcomes: int = 0
    published_again: Mapping[str, int] = field(default_factory=dict)
    gaps_resolved: int = 0
    differing: int = 0
    without_documents: Sequence[str] = ()
    lost_commands: Mapping[str, int] = field(default_factory=dict)

    def is_left(self, dry_run: bool) -> bool:
        """Return whether something is missing that was not repaired."""
        counts = (self.referral_events, self.router_inputs, self.case_events, self.feedback_outcomes)
        missing = any(counts) or any(self.published_again.values())
        return bool(self.differing or self.without_documents or self.lost_commands or (dry_run and missing))


@dataclass(frozen=True, slots=True)
class ReconcileContext:
    """What reconcile works on."""

    engine: AsyncEngine
    kafka: KafkaTopics
    directory: Directory
    folder: Path
    report: Report

    @property
    def hubs(self) -> list[str]:
        return [hub.id for hub in self.directory.hubs]


async def run(
    engine: AsyncEngine, bootstrap: str, folder: Path, by: Operator, *, dry_run: bool, report: Report = lambda *_: None
) -> ReconcileSummary:
    """Compare, and repair unless it is a dry run. Raise ServicesRun if something has to be taken in while services run."""
    async with kafka.opened(bootstrap) as topics:
        on = ReconcileContext(engine, topics, directories.load(folder), folder, report)
        if dry_run:
            found = await _compare(on)
            await _find_unpublished(on, found)
            return _summary(found)
        async with _alone(engine):
            found = await _compare(on)
            if found.must_be_taken_in:
                await _require_stopped(on)
            async with engine.begin() as tx:
                await record_action(tx, "router", "reconcile", by, {"taken_in": _counts(found)})
            return await _repair(on, found)


@contextlib.asynccontextmanager
async def _alone(engine: AsyncEngine) -> AsyncIterator[None]:
    """Raise ServicesRun if another reconcile repairs: both would take in the same."""
    lock = "hashtextextended('lightbulb reconcile', 0)"
    async with engine.connect() as session:
        if not await session.scalar(text(f"select pg_try_advisory_lock({lock})")):
            raise ServicesRun("Another `lightbulb reconcile` repairs this installation. Nothing was changed.")
        await session.commit()
        try:
            yield
        finally:
            await session.execute(text(f"select pg_advisory_unlock({lock})"))


def _counts(found: Missing) -> dict[str, int]:
    return {
        "referral_events": len(found.referrals),
        "router_inputs": len(found.inputs),
        "case_events": len(found.case_events),
        "feedback_outcomes": len(found.outcomes),
    }


def _summary(found: Missing, resolved: int = 0, differing: int = 0, documents: Sequence[str] = ()) -> ReconcileSummary:
    again = {stream.topic: len(rows) for stream, rows in found.to_publish.items() if rows}
    return ReconcileSummary(
        **_counts(found),
        published_again=again,
        gaps_resolved=resolved,
        differing=differing,
        without_documents=documents,
        lost_commands={topic: count for topic, count in found.lost_commands.items() if count},
    )


async def _require_stopped(on: ReconcileContext) -> None:
    async with on.engine.connect() as tx:
        roles = await tx.scalars(
            text("""select distinct usename::text from pg_stat_activity
                    where datname = current_database() and usename = any(cast(:roles as text[]))"""),
            {"roles": list(SERVICE_ROLES.values())},
        )
        connected = set(roles)
    running = {name for name, role in SERVICE_ROLES.items() if role in connected}
    running |= set(await on.kafka.with_members(GROUPS))
    if running:
        raise ServicesRun(
            f"Stop all services first: {', '.join(sorted(running))} run, and what Kafka has and the database lacks can only be"
            " taken in while they do not. Nothing was changed."
        )


# ---- compare --------------------------------------------------------------------------------------------------------


async def _compare(on: ReconcileContext) -> Missing:
    async with on.engine.connect() as tx:
        began: datetime = await tx.scalar(text("select clock_timestamp()"))
    kept_from = await on.kafka.firsts([CASE_EVENT, REFERRAL_EVENT, *map(hub_command, on.hubs)])
    found = Missing(began, kept_from, lost_commands=await _lost_commands(on))
    await _compare_inputs(on, found)
    read = await on.kafka.committed("notifier")
    async for records in on.kafka.read([CASE_EVENT], on.report):
        _note(found, records)
        before = [one for one in records if one.record.offset < read.get(one.partition, math.inf)]
        found.case_events += await notifier.missing(on.engine, before)
    async for records in on.kafka.read([FEEDBACK_EVENT], on.report):
        found.outcomes |= await notifier.unknown(on.engine, notifier.outcomes(records))
    for hub in on.hubs:
        async for records in on.kafka.read([hub_case(hub)], on.report):
            _note(found, records)
    return found


async def _lost_commands(on: ReconcileContext) -> dict[str, int]:
    """Return the number of commands that were deleted before the router read them, by topic; 0 if Kafka still has them."""
    async with on.engine.connect() as tx:
        gaps = (await positions.stored(tx, "router", ())).gone
    gaps = [gap for gap in gaps if gap.partition.topic != REFERRAL_EVENT]
    kept_from = await on.kafka.firsts({gap.partition.topic for gap in gaps})
    lost: Counter[str] = Counter()
    for gap in gaps:
        lost[gap.partition.topic] += _before(gap, kept_from.get(gap.partition, gap.next))
    return dict(lost)


def _before(gap: Gap, offset: int) -> int:
    """Return how many records of a gap are before this offset; 1 if the topic was made again, so that it is not known."""
    return 1 if gap.next < gap.first else max(0, min(gap.next, offset) - gap.first)


async def _compare_inputs(on: ReconcileContext, found: Missing) -> None:
    """Find what intake and the router lack. What is unread yet will be read; a group without positions has lost them."""
    read = await on.kafka.committed("router")
    async for records in on.kafka.read([REFERRAL_EVENT, *map(hub_command, on.hubs)], on.report):
        referrals = [one for one in records if one.record.topic == REFERRAL_EVENT]
        _note(found, referrals)
        found.referrals += await intake.missing(on.engine, intake.of_intake(referrals))
        before = [one for one in records if one.record.offset < read.get(one.partition, math.inf)]
        found.inputs += await router.missing(on.engine, before)


def _note(found: Missing, records: Sequence[KeptRecord]) -> None:
    for one in records:
        found.on_kafka.setdefault(one.record.topic, set()).add(one.header("ce_id"))


async def _find_unpublished(on: ReconcileContext, found: Missing) -> None:
    """Find events of the outboxes that neither their reader nor Kafka has, or that a hub's topic lacks."""
    for topic in (REFERRAL_EVENT, CASE_EVENT):
        for stream in republish.streams(topic):
            await _find(on, found, stream, republish.EARLIEST)
    kept = {one.name: timedelta(milliseconds=one.retention_ms) - MARGIN for one in declared(on.hubs)}
    for hub in map(hub_case, on.hubs):
        await _find(on, found, republish.streams(hub)[0], datetime.now(UTC) - kept[hub])


async def _find(on: ReconcileContext, found: Missing, stream: EventStream, since: datetime) -> None:
    kept = found.on_kafka.get(stream.topic, set())
    rows = republish.find(on.engine, stream, since, unread=True, until=found.began, report=on.report)
    found.to_publish[stream] = [row async for row in rows if row.event_id not in kept]


# ---- repair ---------------------------------------------------------------------------------------------------------


async def _repair(on: ReconcileContext, found: Missing) -> ReconcileSummary:
    documents: list[str] = []
    for part in _parts(found.referrals):
        documents += await intake.rebuild(on.engine, part)
        on.report("referral events taken in", len(part))
    differing = await _apply_inputs(on, found)
    for outcomes in _outcome_parts(found.outcomes):
        await notifier.save_outcomes(on.engine, outcomes)
    await _set_positions(on, found)
    await _find_unpublished(on, found)
    for stream, rows in found.to_publish.items():
        await republish.copy(on.engine, stream, rows)
    resolved = await republish.resolve(on.engine, [REFERRAL_EVENT, CASE_EVENT, *found.lost_commands])
    return _summary(found, resolved, differing, sorted(set(documents)))


def _parts(records: Sequence[KeptRecord]) -> list[Sequence[KeptRecord]]:
    return [records[at : at + BATCH] for at in range(0, len(records), BATCH)]


def _outcome_parts(outcomes: Outcomes) -> list[Outcomes]:
    items = list(outcomes.items())
    return [dict(items[at : at + BATCH]) for at in range(0, len(items), BATCH)]


async def _apply_inputs(on: ReconcileContext, found: Missing) -> int:
    """Let the router's code apply what it had applied. Return how many of its events differ from those on Kafka."""
    if not found.inputs:
        return 0
    await directory_versions.store_directory(on.engine, on.folder, on.directory.version)
    evidence = Evidence(router.person_keys(found.inputs))
    async for records in on.kafka.read([CASE_EVENT], on.report):
        evidence.add(records)
    for hub in on.hubs:
        async for records in on.kafka.read([hub_case(hub)], on.report):
            evidence.add(records)
    return await router.apply(on.engine, on.directory, found.inputs, evidence, on.report)


async def _set_positions(on: ReconcileContext, found: Missing) -> None:
    """Let the notifier read again from the first event that it lacks, and keep the positions of both as Kafka has them.

    What was deleted before is repaired, so that their readers begin with the first offset that Kafka had.
    """
    back = notifier.earliest(found.case_events)
    if back:
        await on.kafka.commit("notifier", back)
    topics = {"router": [REFERRAL_EVENT, *map(hub_command, on.hubs)], "notifier": [CASE_EVENT]}
    for group, of in topics.items():
        ends, read = await on.kafka.ends(of), await on.kafka.committed(group)
        at = {
            one: max(found.kept_from.get(one, 0), min(offset, ends[one]))
            for one, offset in (read | (back if group == "notifier" else {})).items()
            if one in ends
        }
        if not await on.kafka.with_members([group]):
            await notifier.set_positions(on.engine, group, at)
