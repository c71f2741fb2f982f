"""Kafka through FastStream, set up for at-least-once delivery: brokers, subscriptions, topics.

FastStream's defaults acknowledge before the work is done and start at the latest offset. Here a batch is acknowledged after its
transaction, a new group starts at the earliest offset, and records are raw bytes that we decode (see docs/decisions).
"""

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any

from aiokafka import ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code
from faststream import AckPolicy
from faststream.kafka import KafkaBroker

from schemas.topics import Topic
from services.messaging.cloudevents import KafkaRecord
from services.messaging.dead_letter_share import PAUSE_SECONDS
from services.runtime import NotYet, StartupError, database, metrics, signals
from services.runtime.backlog import BacklogSnapshot
from services.runtime.logs import log
from services.runtime.positions import Positions
from services.runtime.settings import Settings
from services.runtime.watchdog import WatchedTask

BATCH = 500
ACK_POLICY = AckPolicy.NACK_ON_ERROR
"""Acknowledge a batch after its transaction; after an error Kafka delivers it again."""

BATCH_RETRY_SECONDS = 60.0
"""How long the handler retries a batch before Kafka delivers it again; far below max.poll.interval.ms (300 s)."""

AT_ONCE = (1, 500)
"""Fewest bytes that Kafka returns, and how many milliseconds it waits for them. These are the defaults: a fetch ends with a record."""

FOR_ENOUGH = (200_000, 100)
"""The same while records come fast: batches are larger, and fewer."""

PACE_SECONDS, FAST_RECORDS = 0.25, 25
"""More records than FAST_RECORDS in PACE_SECONDS come fast."""

SESSION_MS = 10_000

GRACEFUL_SECONDS = 5.0
"""How long the current batch may take to finish after a stop signal."""

STOP_SECONDS = 12.0
"""How long the client may take to finish the current batch and to leave the consumer group."""

LISTED_DIFFERENCES = 5
"""How many differences of topics one message lists; it states the number of the others."""


def create(settings: Settings, *, name: str) -> KafkaBroker:
    """Create a broker that creates no topics, converts no types and logs no message content."""
    return KafkaBroker(
        settings.kafka.split(","),  # FastStream reads one string as one server, even with commas in it
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
    receive: "Receive",
    positions: Positions | None = None,
) -> "Subscription":
    """Pass batches of `topics` to `receive`, in order for each partition. Commit offsets after it returns.

    `receive` is one transaction and drops duplicates. If it raises, it is called again after growing pauses: nothing is skipped.
    Topics that it returns pause in this consumer and are tried again after PAUSE_SECONDS, from their first record in the batch.
    """
    handler = _BatchHandler(receive, positions)
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
    handler.consumer = lambda: subscriber.consumer
    return Subscription(subscriber, handler)


class Subscription:
    """A consumer's backlog and progress: the committed offsets of its assigned partitions."""

    def __init__(self, subscriber: Any, handler: "_BatchHandler") -> None:
        self._subscriber = subscriber
        self._handler = handler

    def loops(self) -> list[WatchedTask]:
        """Return the tasks for the watchdog.

        A member counts as stalled for the partitions that it does not have only if none of them moves, and after twice the time:
        after a topic was made again, its partitions may be assigned to no member.
        """
        return [
            WatchedTask("consumer", self._assigned_positions),
            WatchedTask("consumer of other partitions", self._other_positions, times=2),
        ]

    def unmet_conditions(self) -> list[str]:
        """Return what readiness lacks: the membership of the consumer group, and each topic that is paused."""
        membership = [] if self._handler.joined else ["consumer group membership"]
        return membership + [
            f"topic {topic}: paused, too many of its records would become dead letters"
            for topic in sorted(self._handler.paused)
        ]

    def _assigned(self) -> frozenset[TopicPartition]:
        consumer = self._subscriber.consumer
        return consumer.assignment() if consumer is not None else frozenset()

    def _assigned_positions(self, snapshot: BacklogSnapshot) -> Mapping[TopicPartition, int]:
        assigned = self._assigned()
        return {one: at for one, at in self._positions(snapshot).items() if one in assigned}

    def _other_positions(self, snapshot: BacklogSnapshot) -> Mapping[TopicPartition, int]:
        assigned = self._assigned()
        return {one: at for one, at in self._positions(snapshot).items() if one not in assigned}

    def _positions(self, snapshot: BacklogSnapshot) -> dict[TopicPartition, int]:
        paused = snapshot.paused | self._handler.paused
        return {one: lag.committed for one, lag in snapshot.lags.items() if lag.records and one.topic not in paused}


async def _parse(records: Any, original: Callable[[Any], Awaitable[Any]]) -> Any:
    """Hide the headers from FastStream and keep the records unchanged.

    FastStream decodes headers as UTF-8, and would fail outside the handler.
    """
    message = await original(tuple(dataclasses.replace(record, headers=()) for record in records))
    message.raw_message = records
    return message


async def _raw(message: Any) -> Any:
    return message.raw_message


Receive = Callable[[Sequence[KafkaRecord]], Awaitable[Collection[str] | None]]
"""Applies a batch; returns the topics of which it applied nothing more, because too many records would become dead letters."""


class _BatchHandler(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    """The handler of one subscriber, and the rebalance listener that lets it finish its batch before a revocation.

    `joined`: this member got its first assignment. `paused`: topics that wait to be tried again.
    """

    def __init__(self, receive: Receive, positions: Positions | None = None) -> None:
        self._receive = receive
        self._positions = positions
        if positions is not None:
            positions.end_of = self._end_of
        self.consumer: Callable[[], Any] = lambda: None
        self.paused: frozenset[str] = frozenset()
        self._pace = _FetchPace(lambda: self.consumer())
        self._busy = asyncio.Lock()
        self._revoked = False
        self.joined = False

    async def handle(self, records: tuple[ConsumerRecord[bytes, bytes], ...]) -> None:
        async with self._busy:
            self._revoked = False
            self._pace.count(len(records))
            began = time.monotonic()
            held = await self._until_received([_record(record) for record in records])
            self._pause(held, {record.topic for record in records})
            metrics.BATCH_RECORDS.observe(len(records))
            metrics.BATCH_SECONDS.observe(time.monotonic() - began)

    async def _until_received(self, records: Sequence[KafkaRecord]) -> dict[TopicPartition, int]:
        """Apply the records in order; halve the batch size after each error.

        A batch that is too large for one transaction under load passes in parts. Return the first offset that was not applied of
        each partition whose topic has to pause.
        """
        pause, remaining, size = 0.1, BATCH_RETRY_SECONDS, len(records)
        held: dict[TopicPartition, int] = {}
        while records:
            try:
                topics = await self._apply(records[:size])
                for record in records:
                    if record.topic in topics:
                        held.setdefault(TopicPartition(record.topic, record.partition), record.offset)
                records = [record for record in records[size:] if record.topic not in topics]
                continue
            except Exception as error:
                log.warning("batch_retrying", reason=database.reason_class(error), records=len(records), seconds=pause)
                metrics.BATCH_RETRIES.labels(database.error_kind(error)).inc()
                if self._revoked or remaining <= 0:
                    raise
            await asyncio.sleep(pause)
            remaining -= pause
            pause, size = min(pause * 2, 10.0), max(1, size // 2)
        return held

    async def _apply(self, records: Sequence[KafkaRecord]) -> Collection[str]:
        """Apply these records, and store their positions. Return the topics that have to pause."""
        applying = self._receive(records) if self._positions is None else self._positions.keep(records, self._receive)
        return await applying or ()

    def _end_of(self, partition: TopicPartition) -> int | None:
        """Return the end of a partition as of the last records; None if it is not assigned."""
        consumer = self.consumer()
        assigned = consumer is not None and partition in consumer.assignment()
        return consumer.highwater(partition) if assigned else None

    def _pause(self, held: Mapping[TopicPartition, int], received: Collection[str]) -> None:
        """Pause the topics of these partitions, back at these offsets; topics that were received otherwise are no longer paused.

        The acknowledgement commits the positions of all partitions, so that this comes before it.
        """
        topics = {partition.topic for partition in held}
        self._set_paused((self.paused - set(received)) | topics)
        if topics and (consumer := self.consumer()) is not None:
            log.error("topics_paused", topics=sorted(topics), seconds=PAUSE_SECONDS)
            assigned = consumer.assignment()
            for partition in held.keys() & assigned:
                consumer.seek(partition, held[partition])
            consumer.pause(*(partition for partition in assigned if partition.topic in topics))
            asyncio.get_running_loop().call_later(PAUSE_SECONDS, self._resume, topics)

    def _resume(self, topics: Collection[str]) -> None:
        """Fetch these topics again: one that still has too many dead letters pauses again."""
        if (consumer := self.consumer()) is not None:
            consumer.resume(*(partition for partition in consumer.paused() if partition.topic in topics))

    def _set_paused(self, topics: Collection[str]) -> None:
        for topic in self.paused | set(topics):
            metrics.TOPIC_PAUSED.labels(topic).set(topic in topics)
        self.paused = frozenset(topics)

    async def on_partitions_revoked(self, revoked: Any) -> None:
        self._revoked = True
        try:
            async with asyncio.timeout(SESSION_MS / 1000 * 0.8):
                await self._busy.acquire()
                self._busy.release()
        except TimeoutError:
            log.warning(
                "rebalance_timed_out", reason="the current batch did not finish in time; its repeat will be dropped"
            )

    async def on_partitions_assigned(self, assigned: Any) -> None:
        self.joined = True
        if self._positions is not None:
            self._positions.forget()
        self._set_paused(self.paused & {partition.topic for partition in assigned})
        log.info("partitions_assigned", partitions=len(assigned))


class _FetchPace:
    """Lets the fetches of a consumer wait for enough while records come fast, and for the first one otherwise."""

    def __init__(self, consumer: Callable[[], Any]) -> None:
        self._consumer = consumer
        self._counted = 0
        self._timer: asyncio.TimerHandle | None = None

    def count(self, records: int) -> None:
        """Count the records of a batch."""
        self._counted += records
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PACE_SECONDS, self._set)

    def _set(self) -> None:
        """Set how the following fetches wait; aiokafka reads it for each."""
        is_fast, self._counted, self._timer = self._counted > FAST_RECORDS, 0, None
        if (consumer := self._consumer()) is not None:
            fetcher = consumer._fetcher
            fetcher._fetch_min_bytes, fetcher._fetch_max_wait_ms = FOR_ENOUGH if is_fast else AT_ONCE
        if is_fast:
            self.count(0)


def _record(record: "ConsumerRecord[bytes, bytes]") -> KafkaRecord:
    return KafkaRecord(
        record.topic, record.partition, record.offset, record.key, record.value or b"", tuple(record.headers)
    )


class TopicsDiffer(StartupError):
    """The topics differ from their declaration; the text lists the differences, and where it is written what to do."""


class TopicsMissing(TopicsDiffer, NotYet):
    """Topics are missing, and no other differs; `lightbulb migrate` creates them."""


async def create_topics(kafka: str, topics: Sequence[Topic], *, replication: int) -> None:
    """Create missing topics as declared. Existing topics stay unchanged; see check_topics."""
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
            raise for_code(code)(f"cannot create topic {name}")


async def check_topics(kafka: str, topics: Sequence[Topic], *, replication: int) -> None:
    """Raise TopicsDiffer if partitions, replication or limits of a topic are not as declared, TopicsMissing if only topics are missing."""
    existing, configs = await _existing_topics(kafka, [topic.name for topic in topics])
    missing = [topic.name for topic in topics if existing.get(topic.name, {"error_code": 1})["error_code"] != 0]
    there = [topic for topic in topics if topic.name not in missing]
    differences = [line for topic in there for line in _differences(topic, existing, configs, replication)]
    lines = _first([*(f"{name}: missing" for name in missing), *differences])
    if differences:
        raise TopicsDiffer(f"Topics are not as declared: {lines}. See docs/operate.md, Topics that differ.")
    if missing:
        raise TopicsMissing(f"Topics are not as declared: {lines}; run `lightbulb migrate`.")


def _first(lines: Sequence[str]) -> str:
    """Join the first few of these lines, and the number of the others."""
    others = len(lines) - LISTED_DIFFERENCES
    return "; ".join(lines[:LISTED_DIFFERENCES]) + (f"; and {others} more" if others > 0 else "")


async def _existing_topics(
    kafka: str, names: Sequence[str]
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, str]]]:
    """Return all topics, and the configurations of the named ones, by name."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        every = await admin.describe_topics()  # all: a request by name may create the topic
        return {topic["topic"]: topic for topic in every}, await _existing_configs(admin, names)
    finally:
        await admin.close()


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
    partitions, settings = existing[topic.name]["partitions"], configs.get(topic.name, {})
    declared_settings = _configs(topic, replication).items()
    pairs = {
        "partitions": (str(topic.partitions), str(len(partitions))),
        "replication": (str(replication), str(min((len(p["replicas"]) for p in partitions), default=0))),
        **{name: (want, settings.get(name, "unknown")) for name, want in declared_settings},
    }
    return [f"{topic.name}: {name} is {have}, declared {want}" for name, (want, have) in pairs.items() if want != have]


async def run(
    broker: KafkaBroker | None, *background: Coroutine[Any, Any, None], stopped: Coroutine[Any, Any, None] | None = None
) -> None:
    """Start the broker and the background work. When `stopped` returns, finish the current batch and stop.

    Without `stopped` that is at SIGTERM or SIGINT. If a background task ends or fails, the process ends and its supervisor restarts it.
    """
    consuming = [asyncio.create_task(_consume(broker))] if broker is not None else []
    others = list(map(asyncio.create_task, (stopped or _until_signal(), *background)))
    try:
        await asyncio.wait([*consuming, *others], return_when=asyncio.FIRST_COMPLETED)
    finally:
        ended = [task for task in (*consuming, *others) if task.done()]
        await _cancel(consuming)
        await _cancel(others)  # the relay last, so that it also publishes what the last batch committed
    for task in ended:
        task.result()


async def _until_signal() -> None:
    await signals.stop_event().wait()


async def _consume(broker: KafkaBroker) -> None:
    try:
        await broker.start()
        await asyncio.Event().wait()
    finally:
        await _leave(broker)


async def _leave(broker: KafkaBroker) -> None:
    """Finish the current batch, commit, and leave the group; give up after STOP_SECONDS if Kafka is unreachable."""
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await broker.stop()
    except TimeoutError:
        log.warning("kafka_stop_timed_out")


async def _cancel(tasks: Sequence["asyncio.Task[Any]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
