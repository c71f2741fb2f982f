"""Backlog of a service and reachability of database and Kafka, measured with clients that do no other work.

A blocked client does not show whether its server is reachable. These clients are therefore separate: the database is asked in a new
session each time, Kafka by clients that are discarded after any failure, so that both see what a newly started process would see. The
database is reachable only if this session can write. One snapshot serves the metrics, readiness and the watchdog.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.runtime import database, metrics, positions, unread
from services.runtime.database import Transaction
from services.runtime.logs import log
from services.runtime.positions import Gap, StoredPositions
from services.runtime.settings import Settings

POLL_TIMEOUT_SECONDS = 5.0
"""Time limit for each server; then it counts as unreachable."""

FETCH_SECONDS = 1.0
"""Time limit for the first unread records, which are fetched for their time alone."""

ROW_COUNT_LIMIT = 1_000
"""Maximum number of rows of one kind that are counted, so that a long queue does not cost more."""

QUEUE_COUNT_LIMIT = 100
"""Maximum number of unpublished packets that are counted of each shard, and of held rows of each topic and shard."""

SHARDS = 8
"""Shards of an outbox; one relay at a time publishes a shard."""

T = TypeVar("T")

BacklogQuery = Callable[[Transaction], Awaitable[bool]]
"""Query of a service on its own tables, which sets its own metrics; returns True if work is due now."""


def held_queues(schema: str) -> str:
    """Return the common table expression `queue (shard, target)` for `with recursive`: each shard and topic of which messages are held."""
    return f"""queue (shard, target) as (
        (select shard, target from {schema}.packet_held order by shard, target limit 1)
        union all
        select next.shard, next.target from queue cross join lateral (
            select shard, target from {schema}.packet_held
            where (shard, target) > (queue.shard, queue.target) order by shard, target limit 1
        ) as next
    )"""  # noqa: S608 - schema names are constants


@dataclass(frozen=True, slots=True)
class Lag:
    """Position of a consumer group on one partition: the next offset to read, and the number of records left.

    `group`: the offset that the group committed, if it has. `first`, `end`: the offsets that Kafka has.
    """

    committed: int
    records: int
    group: int | None = None
    first: int = 0
    end: int = 0


@dataclass(frozen=True, slots=True)
class BacklogSnapshot:
    """One measurement.

    `publishable`: outbox rows whose topics accept records now. `due`: result of the service's query. `paused`: topics of which a
    process of this service applies nothing for now. `gone`: records that were deleted before this service read them.
    """

    database: bool = False
    kafka: bool = False
    lags: Mapping[TopicPartition, Lag] = field(default_factory=dict)
    publishable: int = 0
    due: bool = False
    paused: frozenset[str] = frozenset()
    gone: Sequence[Gap] = ()

    @property
    def unreachable(self) -> list[str]:
        return [name for name, there in (("database", self.database), ("kafka", self.kafka)) if not there]


class BacklogMonitor:
    """Measures one service's schema, and its consumer group if it has one."""

    def __init__(
        self,
        settings: Settings,
        schema: str,
        *,
        group: str | None = None,
        topics: Sequence[str] = (),
        query: BacklogQuery | None = None,
        quarantine: bool = True,
    ) -> None:
        self._settings = settings
        self._schema = schema
        self._group = group
        self._topics = topics
        self._query = query
        self._quarantine = quarantine
        self._engine: AsyncEngine | None = None
        self._kafka = _KafkaProbe(settings.kafka)
        self._positions = StoredPositions()
        self._suspected: frozenset[Gap] = frozenset()
        self.snapshot = BacklogSnapshot()

    def unmet_conditions(self) -> list[str]:
        """Return the unmet readiness conditions of a service that cannot work without Kafka, and the topics of which it missed records."""
        return ([] if self.snapshot.kafka else ["kafka"]) + [
            f"topic {topic}: records were deleted before they were read: run lightbulb reconcile"
            for topic in sorted({gap.partition.topic for gap in self.snapshot.gone})
        ]

    async def poll(self) -> BacklogSnapshot:
        """Measure everything once. Never raises: a server that does not respond is unreachable."""
        rows, lags = await asyncio.gather(
            self._measure("database", self._rows(), self._forget_database),
            self._measure("kafka", self._lags(), self._kafka.forget),
        )
        waiting, due, paused = rows if rows is not None else ({}, False, frozenset())
        reachable = None
        if rows is not None and lags is not None:
            await self._measure("database", self._compare(lags), self._forget_database)
        if lags is not None:
            reachable = await self._measure("kafka", self._kafka.writable(sorted(waiting)), self._kafka.forget)
        self.snapshot = BacklogSnapshot(
            database=rows is not None,
            kafka=lags is not None and reachable is not None,
            lags=lags or {},
            publishable=sum(waiting[topic] for topic in reachable or ()),
            due=due,
            paused=paused,
            gone=self._positions.gone,
        )
        self._set_gauges()
        return self.snapshot

    async def close(self) -> None:
        """Close the connections."""
        await self._kafka.forget()
        await self._forget_database()

    async def _measure(self, what: str, measurement: Awaitable[T], forget: Callable[[], Awaitable[None]]) -> T | None:
        try:
            async with asyncio.timeout(POLL_TIMEOUT_SECONDS):
                return await measurement
        except Exception as error:
            log.warning("dependency_unreachable", dependency=what, reason=database.reason_class(error))
            with contextlib.suppress(Exception):
                async with asyncio.timeout(2):
                    await forget()
            return None

    def _set_gauges(self) -> None:
        for name in ("database", "kafka"):
            metrics.DEPENDENCY_UP.labels(name).set(name not in self.snapshot.unreachable)
        metrics.LAG.clear()
        by_topic: Counter[str] = Counter()
        for partition, lag in self.snapshot.lags.items():
            by_topic[partition.topic] += lag.records
        for topic, records in by_topic.items():
            metrics.LAG.labels(topic).set(records)
        self._set_ages(by_topic)
        gone: Counter[str] = Counter()
        for gap in self.snapshot.gone:
            gone[gap.partition.topic] += gap.records
        for topic in self._topics:
            metrics.RECORDS_GONE.labels(topic).set(gone[topic])

    def _set_ages(self, unread: Mapping[str, int]) -> None:
        metrics.OLDEST_UNAPPLIED.clear()
        for topic, records in unread.items():
            if not records:
                metrics.OLDEST_UNAPPLIED.labels(topic).set(0)
            elif times := [at for partition, at in self._kafka.waiting_since.items() if partition.topic == topic]:
                metrics.OLDEST_UNAPPLIED.labels(topic).set(max(0.0, time.time() - min(times)))

    # ---- PostgreSQL

    async def _rows(self) -> tuple[dict[str, int], bool, frozenset[str]]:
        """Return the number of unpublished rows by topic, the result of the service's query, and the paused topics."""
        if self._engine is None:
            self._engine = database.connect(self._settings.database, pool=1)
        await self._engine.dispose()  # a new session, as a new process would have
        async with self._engine.connect() as connection:
            await database.check_writable(connection, self._schema)
            waiting = await self._unpublished(connection)
            if self._quarantine:
                await self._quarantined(connection)
            paused = await self._paused(connection) if self._quarantine else frozenset()
            due = await self._query(connection) if self._query else False
            if self._group:
                self._positions = await positions.stored(connection, self._schema, self._topics)
        return waiting, due, paused

    async def _paused(self, connection: Transaction) -> frozenset[str]:
        query = f"select topic from {self._schema}.paused_topic where until > clock_timestamp()"  # noqa: S608 - the schema is a constant
        return frozenset(await connection.scalars(text(query)))

    async def _unpublished(self, connection: Transaction) -> dict[str, int]:
        """Return the number of packets or held rows by topic that wait; set the gauges of their messages."""
        rows = list(await connection.execute(_select_waiting(self._schema)))
        metrics.UNPUBLISHED.set(sum(messages for _, messages, _ in rows))
        metrics.OLDEST_UNPUBLISHED.set(max((float(age) for _, _, age in rows), default=0.0))
        return Counter(target for targets, _, _ in rows for target in targets)

    async def _quarantined(self, connection: Transaction) -> None:
        result = await connection.execute(
            text(f"""
                select reason, count(*) from (
                    select reason from {self._schema}.dead_letter where resolved_at is null order by id limit {ROW_COUNT_LIMIT}
                ) as counted group by reason""")  # noqa: S608 - the schema is a constant
        )
        kinds: Counter[str] = Counter()
        for reason, count in result:
            kinds[kind_of(reason)] += count
        metrics.DEAD_LETTERS.clear()
        for kind, count in kinds.items():
            metrics.DEAD_LETTERS.labels(kind).set(count)

    async def _compare(self, lags: Mapping[TopicPartition, Lag]) -> None:
        """Store the position of each new partition, and gaps that two measurements in a row have shown."""
        known = self._positions.next
        new = {one: min(lag.committed, lag.end) for one, lag in lags.items() if one not in known}
        found = (
            positions.find_gap(one, known[one], lag.group, lag.first, lag.end)
            for one, lag in lags.items()
            if one in known
        )
        suspected = frozenset(gap for gap in found if gap is not None)
        confirmed = {(gap.partition, gap.first) for gap in self._suspected}
        self._suspected = suspected
        stored = set(self._positions.gone)  # a group that stays ahead shows its gap at each measurement
        missed = [gap for gap in suspected - stored if (gap.partition, gap.first) in confirmed]
        if self._engine is not None and (new or missed):
            await positions.save(self._engine, self._schema, new, missed)

    async def _forget_database(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.dispose()

    # ---- Kafka

    async def _lags(self) -> dict[TopicPartition, Lag]:
        if self._group is None:
            return {}
        lags = await self._kafka.lags(self._group, self._topics)
        await self._kafka.look_at_waiting({one: lag.committed for one, lag in lags.items() if lag.records})
        return lags


def _select_waiting(schema: str) -> TextClause:
    """Return a query of the topics, number of messages and age of what waits; QUEUE_COUNT_LIMIT rows of each shard, and held queue."""
    return text(f"""
        with recursive {held_queues(schema)}
        select targets, messages, extract(epoch from clock_timestamp() - created_at) as age
        from generate_series(0, {SHARDS - 1}) as shards (shard) cross join lateral (
            select targets, messages, created_at from {schema}.packet
            where published_at is null and shard = shards.shard order by id limit {QUEUE_COUNT_LIMIT}
        ) as waiting
        union all
        select array[queue.target], cardinality(held.places), extract(epoch from clock_timestamp() - packet.created_at)
        from queue cross join lateral (
            select id, places from {schema}.packet_held
            where shard = queue.shard and target = queue.target order by id limit {QUEUE_COUNT_LIMIT}
        ) as held join {schema}.packet on packet.shard = queue.shard and packet.id = held.id""")  # noqa: S608 - the schema is a constant


class _KafkaProbe:
    """An admin client and a consumer without a group, created on first use."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._clients: tuple[AIOKafkaAdminClient, AIOKafkaConsumer] | None = None
        self._one_at_a_time = asyncio.Lock()
        self._looked_at: Mapping[TopicPartition, int] = {}
        self.waiting_since: Mapping[TopicPartition, float] = {}

    async def look_at_waiting(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Set the time of the record at each of these offsets. One that was looked at before is not fetched again."""
        kept = {one: at for one, at in self.waiting_since.items() if self._looked_at.get(one) == offsets.get(one)}
        new = {one: offset for one, offset in offsets.items() if one not in kept}
        if new:
            _, consumer = await self._started()
            kept |= await unread.timestamps(consumer, new, seconds=FETCH_SECONDS)
        self.waiting_since, self._looked_at = kept, offsets

    async def lags(self, group: str, topics: Sequence[str]) -> dict[TopicPartition, Lag]:
        """Return the lag of each partition of `topics`."""
        admin, consumer = await self._started()
        partitions = [
            TopicPartition(topic["topic"], partition["partition"])
            for topic in await admin.describe_topics()  # all topics, because a request by name may create one
            if topic["topic"] in topics
            for partition in topic["partitions"]
        ]
        committed = await admin.list_consumer_group_offsets(group)
        first, end = await asyncio.gather(consumer.beginning_offsets(partitions), consumer.end_offsets(partitions))
        return {one: _lag(committed.get(one), first[one], end[one]) for one in partitions}

    async def writable(self, topics: Sequence[str]) -> list[str]:
        """Return those of `topics` that accept records on every partition. Raises if Kafka does not respond."""
        admin, _ = await self._started()
        return [topic["topic"] for topic in await admin.describe_topics() if topic["topic"] in topics and _takes(topic)]

    async def forget(self) -> None:
        clients, self._clients = self._clients, None
        if clients is not None:
            await asyncio.gather(clients[0].close(), clients[1].stop(), return_exceptions=True)

    async def _started(self) -> tuple[AIOKafkaAdminClient, AIOKafkaConsumer]:
        async with self._one_at_a_time:
            if self._clients is None:
                admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
                consumer = AIOKafkaConsumer(
                    bootstrap_servers=self._bootstrap, max_partition_fetch_bytes=unread.FETCH_BYTES
                )
                self._clients = (admin, consumer)
                await asyncio.gather(admin.start(), consumer.start())
            return self._clients


def _lag(committed: Any, first: int, end: int) -> Lag:
    """Return the lag; from the earliest record if no offset is committed, or one older than the retention."""
    group = committed.offset if committed is not None and committed.offset >= 0 else None
    at = max(first, group or 0)
    return Lag(at, max(0, end - at), group, first, end)


def _takes(topic: Mapping[str, Any]) -> bool:
    """Return True if every partition has a leader and enough in-sync replicas for our topics: all but one."""
    return topic["error_code"] == 0 and all(
        one["leader"] >= 0 and len(one["isr"]) >= max(1, len(one["replicas"]) - 1) for one in topic["partitions"]
    )


def kind_of(reason: str) -> str:
    """Return the kind of a dead letter's reason for a metric label: one of six, without the reason's place."""
    beginnings = {"decision": "decision", "compose": "compose", "waits": "waiting", "sqlstate": "database"}
    for beginning, kind in beginnings.items():
        if reason.startswith(beginning):
            return kind
    return "unreadable" if ":" in reason else "other"
