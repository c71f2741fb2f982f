"""What waits, and whether database and Kafka answer: measured by clients of its own, apart from those that do the work.

A client that has wedged says nothing about its server. So these are other clients, thrown away after any failure: what they see is
what a process that starts now would see. One look serves the metrics, readiness and the watchdog.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.runtime import database, metrics
from services.runtime.database import Transaction
from services.runtime.logs import log
from services.runtime.settings import Settings

POLL_TIMEOUT_SECONDS = 5.0
"""How long either server may take to tell; then it counts as away."""

ROW_COUNT_LIMIT = 10_001
"""Unpublished rows that are counted at most: a long queue must not cost more the longer it is."""

T = TypeVar("T")

BacklogQuery = Callable[[Transaction], Awaitable[bool]]
"""What a service asks of its own tables, to set its own metrics; true where something waits that could be done now."""


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a group is on one partition: the next offset that it will read, and how many records are behind that."""

    committed: int
    records: int


@dataclass(frozen=True, slots=True)
class BacklogSnapshot:
    """One look. `publishable`: rows of the outbox whose topics Kafka would take them for now. `due`: what the service asked."""

    database: bool = False
    kafka: bool = False
    lags: Mapping[TopicPartition, Lag] = field(default_factory=dict)
    publishable: int = 0
    due: bool = False

    @property
    def unreachable(self) -> list[str]:
        return [name for name, there in (("database", self.database), ("kafka", self.kafka)) if not there]


class BacklogMonitor:
    """Looks at one service's schema, and at its consumer group where it has one."""

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
        self._silent: set[str] = set()
        self.snapshot = BacklogSnapshot()

    def unmet_conditions(self) -> list[str]:
        """For readiness of a service that cannot work without Kafka."""
        return [] if self.snapshot.kafka else ["kafka"]

    async def poll(self) -> BacklogSnapshot:
        """Measure everything once. Never raises: what does not answer is away."""
        rows, lags = await asyncio.gather(
            self._measure("database", self._rows(), self._forget_database),
            self._measure("kafka", self._lags(), self._kafka.forget),
        )
        waiting, due = rows if rows is not None else ({}, False)
        reachable = None
        if lags is not None:
            reachable = await self._measure("kafka", self._kafka.writable(sorted(waiting)), self._kafka.forget)
        self.snapshot = BacklogSnapshot(
            database=rows is not None,
            kafka=lags is not None and reachable is not None,
            lags=lags or {},
            publishable=sum(waiting[topic] for topic in reachable or ()),
            due=due,
        )
        self._set_gauges()
        return self.snapshot

    async def close(self) -> None:
        """Give the connections back."""
        await self._kafka.forget()
        await self._forget_database()

    async def _measure(self, what: str, measurement: Awaitable[T], forget: Callable[[], Awaitable[None]]) -> T | None:
        try:
            async with asyncio.timeout(POLL_TIMEOUT_SECONDS):
                result = await measurement
            self._silent.discard(what)
            return result
        except Exception as error:
            if what not in self._silent:
                log.warning("dependency_unreachable", dependency=what, reason=database.reason_class(error))
            self._silent.add(what)
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

    # ---- PostgreSQL

    async def _rows(self) -> tuple[dict[str, int], bool]:
        """Unpublished rows by topic, and the service's own answer."""
        if self._engine is None:
            self._engine = database.connect(self._settings.database, pool=1)
        async with self._engine.connect() as connection:
            waiting = await self._unpublished(connection)
            if self._quarantine:
                await self._quarantined(connection)
            due = await self._query(connection) if self._query else False
        return waiting, due

    async def _unpublished(self, connection: Transaction) -> dict[str, int]:
        result = await connection.execute(
            text(f"""
                select target, count(*), extract(epoch from clock_timestamp() - min(created_at))
                from (select target, created_at from {self._schema}.outbox
                      where published_at is null order by id limit {ROW_COUNT_LIMIT}) as waiting
                group by target""")  # noqa: S608 - the schema is a name of ours
        )
        rows = [(str(target), int(count), float(age)) for target, count, age in result]
        metrics.UNPUBLISHED.set(sum(count for _, count, _ in rows))
        metrics.OLDEST_UNPUBLISHED.set(max((age for _, _, age in rows), default=0.0))
        return {target: count for target, count, _ in rows}

    async def _quarantined(self, connection: Transaction) -> None:
        result = await connection.execute(
            text(f"select reason, count(*) from {self._schema}.dead_letter where resolved_at is null group by reason")  # noqa: S608 - a name of ours
        )
        kinds: Counter[str] = Counter()
        for reason, count in result:
            kinds[kind_of(reason)] += count
        metrics.DEAD_LETTERS.clear()
        for kind, count in kinds.items():
            metrics.DEAD_LETTERS.labels(kind).set(count)

    async def _forget_database(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.dispose()

    # ---- Kafka

    async def _lags(self) -> dict[TopicPartition, Lag]:
        return await self._kafka.lags(self._group, self._topics) if self._group else {}


class _KafkaProbe:
    """An admin client and a consumer without a group, made when they are needed."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._clients: tuple[AIOKafkaAdminClient, AIOKafkaConsumer] | None = None
        self._one_at_a_time = asyncio.Lock()

    async def lags(self, group: str, topics: Sequence[str]) -> dict[TopicPartition, Lag]:
        """For each partition of `topics`."""
        admin, consumer = await self._started()
        partitions = [
            TopicPartition(topic["topic"], partition["partition"])
            for topic in await admin.describe_topics()  # of all: asked for one by name, a broker may create it
            if topic["topic"] in topics
            for partition in topic["partitions"]
        ]
        committed = await admin.list_consumer_group_offsets(group)
        first, end = await asyncio.gather(consumer.beginning_offsets(partitions), consumer.end_offsets(partitions))
        return {one: _lag(committed.get(one), first[one], end[one]) for one in partitions}

    async def writable(self, topics: Sequence[str]) -> list[str]:
        """Those of `topics` that would take a record on any partition now; raises where Kafka does not answer."""
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
                consumer = AIOKafkaConsumer(bootstrap_servers=self._bootstrap)
                self._clients = (admin, consumer)
                await asyncio.gather(admin.start(), consumer.start())
            return self._clients


def _lag(committed: Any, first: int, end: int) -> Lag:
    """A group that has committed nothing begins with the earliest record; one that is behind retention, too."""
    at = max(first, committed.offset if committed is not None else 0)
    return Lag(at, max(0, end - at))


def _takes(topic: Mapping[str, Any]) -> bool:
    """Every partition has a leader, and as many replicas in sync as our topics ask for: all of them but one."""
    return topic["error_code"] == 0 and all(
        one["leader"] >= 0 and len(one["isr"]) >= max(1, len(one["replicas"]) - 1) for one in topic["partitions"]
    )


def kind_of(reason: str) -> str:
    """The kind of a dead letter's reason, for a label: reasons name places, of which there are many; kinds are these six."""
    beginnings = {"decision": "decision", "compose": "compose", "waits": "waiting", "sqlstate": "database"}
    for beginning, kind in beginnings.items():
        if reason.startswith(beginning):
            return kind
    return "unreadable" if ":" in reason else "other"
