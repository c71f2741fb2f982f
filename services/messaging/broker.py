"""Kafka through FastStream: the one place that makes brokers, subscribers and topics, with the settings that lose nothing.

FastStream's defaults acknowledge before the work is done and read from the latest record; here a batch is acknowledged after its
transaction, from the earliest, as raw bytes that we decode ourselves (see docs/decisions).
"""

import asyncio
import dataclasses
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

from aiokafka import ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code
from faststream import AckPolicy
from faststream.kafka import KafkaBroker

from schemas.topics import Topic
from services.messaging.cloudevents import KafkaRecord
from services.runtime import StartupError, database, metrics
from services.runtime.backlog import BacklogSnapshot
from services.runtime.logs import log
from services.runtime.settings import Settings
from services.runtime.watchdog import WatchedTask

BATCH = 500
ACK_POLICY = AckPolicy.NACK_ON_ERROR
"""Acknowledge a batch after its transaction; an error makes Kafka deliver it again."""

BATCH_RETRY_SECONDS = 60.0
"""How long a batch is retried inside the handler before Kafka delivers it again; far below max.poll.interval (300 s)."""

SESSION_MS = 10_000

GRACEFUL_SECONDS = 5.0
"""How long the batch in hand may take to end, once we are told to stop."""

STOP_SECONDS = 12.0
"""How long the client may take for that and for leaving Kafka."""


def create(settings: Settings, *, name: str) -> KafkaBroker:
    """A broker that creates no topics, types nothing and logs nothing of what it carries."""
    return KafkaBroker(
        settings.kafka.split(","),  # FastStream takes a text for one server, whatever commas it holds
        client_id=f"lightbulb-{name}",
        allow_auto_create_topics=False,
        acks="all",
        ack_policy=ACK_POLICY,
        graceful_timeout=GRACEFUL_SECONDS,
        apply_types=False,
        logger=None,
    )


def subscribe(
    broker: KafkaBroker,
    topics: Sequence[str],
    *,
    group: str,
    receive: Callable[[Sequence[KafkaRecord]], Awaitable[None]],
) -> "Subscription":
    """Give batches of `topics` to `receive`, in order for each partition. Offsets are committed after it has returned.

    `receive` is one transaction and drops duplicates. What it raises is retried here with growing pauses: nothing is skipped.
    """
    handler = _BatchHandler(receive)
    subscriber = broker.subscriber(
        *topics,
        batch=True,
        group_id=group,
        auto_offset_reset="earliest",
        ack_policy=ACK_POLICY,
        max_records=BATCH,
        batch_timeout_ms=100,
        session_timeout_ms=SESSION_MS,
        listener=handler,
        parser=_parse,
        decoder=_raw,
    )
    subscriber(handler.handle)
    return Subscription(subscriber, handler)


class Subscription:
    """What a consumer has to do, and how far it is: offsets that Kafka holds, against the partitions that it was given."""

    def __init__(self, subscriber: Any, handler: "_BatchHandler") -> None:
        self._subscriber = subscriber
        self._handler = handler

    def loops(self) -> list[WatchedTask]:
        """For the watchdog. A member without partitions stands still with its whole group only: others have longer to see to it."""
        return [
            WatchedTask("consumer", self._assigned_positions),
            WatchedTask("consumer without partitions", self._positions_if_unassigned, times=2),
        ]

    def unmet_conditions(self) -> list[str]:
        """For readiness: a member of its group, or not yet."""
        return [] if self._handler.joined else ["its place in the consumer group"]

    def _assigned(self) -> frozenset[TopicPartition]:
        consumer = self._subscriber.consumer
        return consumer.assignment() if consumer is not None else frozenset()

    def _assigned_positions(self, snapshot: BacklogSnapshot) -> Mapping[TopicPartition, tuple[int, int]]:
        assigned = self._assigned()
        return {one: at for one, at in self._positions(snapshot).items() if one in assigned}

    def _positions_if_unassigned(self, snapshot: BacklogSnapshot) -> Mapping[TopicPartition, tuple[int, int]]:
        return {} if self._assigned() else self._positions(snapshot)

    def _positions(self, snapshot: BacklogSnapshot) -> dict[TopicPartition, tuple[int, int]]:
        database_errors = self._handler.database_errors
        return {one: (lag.committed, database_errors) for one, lag in snapshot.lags.items() if lag.records}


async def _parse(records: Any, original: Callable[[Any], Awaitable[Any]]) -> Any:
    """FastStream decodes headers as UTF-8 and fails outside the handler: give it none, and keep the records as they came."""
    message = await original(tuple(dataclasses.replace(record, headers=()) for record in records))
    message.raw_message = records
    return message


async def _raw(message: Any) -> Any:
    return message.raw_message


class _BatchHandler(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    """One subscriber's handler, and the listener that lets it finish before its partitions go to somebody else.

    `refusals`: attempts that the database itself refused. `joined`: the group gave this member its place.
    """

    def __init__(self, receive: Callable[[Sequence[KafkaRecord]], Awaitable[None]]) -> None:
        self._receive = receive
        self._busy = asyncio.Lock()
        self._revoked = False
        self.database_errors = 0
        self.joined = False

    async def handle(self, records: tuple[ConsumerRecord[bytes, bytes], ...]) -> None:
        async with self._busy:
            self._revoked = False
            began = time.monotonic()
            await self._until_received([_record(record) for record in records])
            metrics.BATCH_RECORDS.observe(len(records))
            metrics.BATCH_SECONDS.observe(time.monotonic() - began)

    async def _until_received(self, records: Sequence[KafkaRecord]) -> None:
        """In order; after a fault in halves, so that what is too much for one transaction under load gets through all the same."""
        pause, remaining, size = 0.1, BATCH_RETRY_SECONDS, len(records)
        while records:
            try:
                await self._receive(records[:size])
                records = records[size:]
                continue
            except Exception as error:
                log.warning("batch_retrying", reason=database.reason_class(error), records=len(records), seconds=pause)
                metrics.BATCH_RETRIES.labels(database.error_kind(error)).inc()
                self.database_errors += database.sqlstate(error) is not None
                if self._revoked or remaining <= 0:
                    raise
            await asyncio.sleep(pause)
            remaining -= pause
            pause, size = min(pause * 2, 10.0), max(1, size // 2)

    async def on_partitions_revoked(self, revoked: Any) -> None:
        self._revoked = True
        try:
            async with asyncio.timeout(SESSION_MS / 1000 * 0.8):
                await self._busy.acquire()
                self._busy.release()
        except TimeoutError:
            log.warning("rebalance_timed_out", reason="a batch was still being applied; its repeat will be dropped")

    async def on_partitions_assigned(self, assigned: Any) -> None:
        self.joined = True
        log.info("partitions_assigned", partitions=len(assigned))


def _record(record: "ConsumerRecord[bytes, bytes]") -> KafkaRecord:
    return KafkaRecord(
        record.topic, record.partition, record.offset, record.key, record.value or b"", tuple(record.headers)
    )


class TopicsDiffer(StartupError):
    """The topics are not as declared; the text lists how."""


async def create_topics(kafka: str, topics: Sequence[Topic], *, replication: int) -> None:
    """Create what does not exist yet, as declared. Topics that exist are left alone; check_topics judges them."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        existing = set(await admin.list_topics())
        missing = [_new(topic, replication) for topic in topics if topic.name not in existing]
        if missing:
            _raise_failures(await admin.create_topics(missing))
    finally:
        await admin.close()


def _new(topic: Topic, replication: int) -> NewTopic:
    return NewTopic(topic.name, topic.partitions, replication, topic_configs=_configs(topic, replication))


def _configs(topic: Topic, replication: int) -> dict[str, str]:
    return {
        "retention.ms": str(topic.retention_ms),
        "max.message.bytes": str(topic.max_message_bytes),
        "min.insync.replicas": str(max(1, replication - 1)),
    }


def _raise_failures(response: Any) -> None:
    for name, code, *_ in response.topic_errors:
        if code not in (0, TopicAlreadyExistsError.errno):
            raise for_code(code)(f"topic {name} could not be created")


async def check_topics(kafka: str, topics: Sequence[Topic], *, replication: int) -> None:
    """Raise TopicsDiffer where a topic is missing or has other partitions, replication or limits than declared."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        existing = {
            topic["topic"]: topic for topic in await admin.describe_topics()
        }  # of all: asked by name, it may create one
        configs = await _existing_configs(admin, [topic.name for topic in topics])
    finally:
        await admin.close()
    differences = [line for topic in topics for line in _differences(topic, existing, configs, replication)]
    if differences:
        raise TopicsDiffer(
            "Topics are not as declared in schemas/topics.py:\n" + "\n".join(f"  {line}" for line in differences)
        )


async def _existing_configs(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    answers = await admin.describe_configs(resources)
    return {
        resource[3]: {entry[0]: entry[1] for entry in resource[4]}
        for answer in answers
        for resource in answer.resources
    }


def _differences(
    topic: Topic, existing: dict[str, Any], configs: dict[str, dict[str, str]], replication: int
) -> list[str]:
    actual = existing.get(topic.name)
    if actual is None or actual["error_code"] != 0:
        return [f"{topic.name}: missing; run `lightbulb migrate`"]
    partitions = actual["partitions"]
    pairs = {
        "partitions": (str(topic.partitions), str(len(partitions))),
        "replication": (str(replication), str(min((len(p["replicas"]) for p in partitions), default=0))),
        **{
            name: (want, configs.get(topic.name, {}).get(name, "unknown"))
            for name, want in _configs(topic, replication).items()
        },
    }
    return [f"{topic.name}: {name} is {have}, declared {want}" for name, (want, have) in pairs.items() if want != have]


async def run(broker: KafkaBroker | None, *background: Coroutine[Any, Any, None]) -> None:
    """Start the broker and the background work; on SIGTERM or SIGINT finish the batch in hand and stop.

    A second signal ends the process at once, as a kill would: what is unfinished is rolled back, and done again by whoever comes next.
    A background task that ends or fails ends the process: its supervisor starts it anew.
    """
    stopping = asyncio.Event()
    _stop_on_signal(stopping)
    consuming = [asyncio.create_task(_consume(broker))] if broker is not None else []
    others = [asyncio.create_task(stopping.wait()), *map(asyncio.create_task, background)]
    try:
        await asyncio.wait([*consuming, *others], return_when=asyncio.FIRST_COMPLETED)
    finally:
        ended = [task for task in (*consuming, *others) if task.done()]
        await _cancel(consuming)
        await _cancel(others)  # the relay last: what the last batch committed is published, too
    for task in ended:
        task.result()


async def _consume(broker: KafkaBroker) -> None:
    try:
        await broker.start()
        await asyncio.Event().wait()
    finally:
        await _leave(broker)


def _stop_on_signal(stopping: asyncio.Event) -> None:
    """The first signal is ours; from then on they are the kernel's, which needs nothing of us to end a process."""
    loop = asyncio.get_running_loop()
    stop_signals = (signal.SIGTERM, signal.SIGINT)

    def on_signal() -> None:
        for number in stop_signals:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        log.info("stopping")
        stopping.set()

    for number in stop_signals:
        loop.add_signal_handler(number, on_signal)


async def _leave(broker: KafkaBroker) -> None:
    """Finish the batch in hand, commit, and leave the group; while Kafka is away that could take for ever."""
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await broker.stop()
    except TimeoutError:
        log.warning("kafka_stop_timed_out")


async def _cancel(tasks: Sequence["asyncio.Task[Any]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
