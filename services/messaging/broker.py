"""Kafka through FastStream: the one place that makes brokers, subscribers and topics, with the settings that lose nothing.

FastStream's defaults acknowledge before the work is done and read from the latest record; here a batch is acknowledged after its
transaction, from the earliest, as raw bytes that we decode ourselves (see docs/decisions).
"""

import asyncio
import dataclasses
import signal
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from aiokafka import ConsumerRebalanceListener, ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code
from faststream import AckPolicy
from faststream.kafka import KafkaBroker

from schemas.topics import Topic
from services.messaging import database
from services.messaging.cloudevents import Record
from services.messaging.settings import Settings
from services.messaging.telemetry import log

BATCH = 500
PATIENCE_SECONDS = 60.0
"""How long a batch is retried inside the handler before Kafka delivers it again; far below max.poll.interval (300 s)."""

SESSION_MS = 10_000


def create(settings: Settings, *, name: str) -> KafkaBroker:
    """A broker that creates no topics, types nothing and logs nothing of what it carries."""
    return KafkaBroker(
        settings.kafka.split(","),  # FastStream takes a text for one server, whatever commas it holds
        client_id=f"lightbulb-{name}",
        allow_auto_create_topics=False,
        acks="all",
        ack_policy=AckPolicy.NACK_ON_ERROR,
        graceful_timeout=5.0,
        apply_types=False,
        logger=None,
    )


def subscribe(
    broker: KafkaBroker, topics: Sequence[str], *, group: str, receive: Callable[[Sequence[Record]], Awaitable[None]]
) -> None:
    """Give batches of `topics` to `receive`, in order for each partition. Offsets are committed after it has returned.

    `receive` is one transaction and drops duplicates. What it raises is retried here with growing pauses: nothing is skipped.
    """
    work = _Work(receive)
    broker.subscriber(
        *topics,
        batch=True,
        group_id=group,
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.NACK_ON_ERROR,
        max_records=BATCH,
        batch_timeout_ms=100,
        session_timeout_ms=SESSION_MS,
        listener=work,
        parser=_parse,
        decoder=_raw,
    )(work.handle)


async def _parse(records: Any, original: Callable[[Any], Awaitable[Any]]) -> Any:
    """FastStream decodes headers as UTF-8 and fails outside the handler: give it none, and keep the records as they came."""
    message = await original(tuple(dataclasses.replace(record, headers=()) for record in records))
    message.raw_message = records
    return message


async def _raw(message: Any) -> Any:
    return message.raw_message


class _Work(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    """One subscriber's handler, and the listener that lets it finish before its partitions go to somebody else."""

    def __init__(self, receive: Callable[[Sequence[Record]], Awaitable[None]]) -> None:
        self._receive = receive
        self._busy = asyncio.Lock()
        self._revoked = False

    async def handle(self, records: tuple[ConsumerRecord[bytes, bytes], ...]) -> None:
        async with self._busy:
            self._revoked = False
            await self._until_received([_record(record) for record in records])

    async def _until_received(self, records: Sequence[Record]) -> None:
        pause, patience = 0.1, PATIENCE_SECONDS
        while True:
            try:
                return await self._receive(records)
            except Exception as error:
                log.warning(
                    "receive_backs_off", reason=database.reason_class(error), records=len(records), seconds=pause
                )
                if self._revoked or patience <= 0:
                    raise
            await asyncio.sleep(pause)
            patience -= pause
            pause = min(pause * 2, 10.0)

    async def on_partitions_revoked(self, revoked: Any) -> None:
        self._revoked = True
        try:
            async with asyncio.timeout(SESSION_MS / 1000 * 0.8):
                await self._busy.acquire()
                self._busy.release()
        except TimeoutError:
            log.warning("rebalance_did_not_wait", reason="a batch was still being applied; its repeat will be dropped")

    async def on_partitions_assigned(self, assigned: Any) -> None:
        log.info("partitions_assigned", partitions=len(assigned))


def _record(record: "ConsumerRecord[bytes, bytes]") -> Record:
    return Record(record.topic, record.partition, record.offset, record.key, record.value or b"", tuple(record.headers))


class TopicsDiffer(Exception):
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
        found = {topic["topic"]: topic for topic in await admin.describe_topics([topic.name for topic in topics])}
        configs = await _found_configs(admin, [topic.name for topic in topics])
    finally:
        await admin.close()
    differences = [line for topic in topics for line in _differences(topic, found, configs, replication)]
    if differences:
        raise TopicsDiffer(
            "Topics are not as declared in schemas/topics.py:\n" + "\n".join(f"  {line}" for line in differences)
        )


async def _found_configs(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    answers = await admin.describe_configs(resources)
    return {
        resource[3]: {entry[0]: entry[1] for entry in resource[4]}
        for answer in answers
        for resource in answer.resources
    }


def _differences(
    topic: Topic, found: dict[str, Any], configs: dict[str, dict[str, str]], replication: int
) -> list[str]:
    actual = found.get(topic.name)
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

    A background task that ends or fails ends the process: its supervisor starts it anew.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    tasks = [asyncio.create_task(work) for work in background]
    waiting = asyncio.create_task(stopping.wait())
    try:
        if broker is not None:
            await broker.start()
        await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
    finally:
        if broker is not None:
            await broker.stop()
        await _cancel([waiting, *tasks])


async def _cancel(tasks: Sequence["asyncio.Task[Any]"]) -> None:
    ended = [task for task in tasks if task.done() and not task.cancelled()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in ended:
        task.result()
