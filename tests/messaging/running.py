"""Records on a topic, relays at work on an outbox, and the answers of the health endpoints."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette
from starlette.middleware import Middleware

from schemas.events import Event, ReferralCancelled
from schemas.model import Reference
from services.messaging import outbox, packets
from services.messaging.outbox import OutboxMessage
from services.messaging.relay import Relay
from services.runtime import health, metrics
from tests.builders import events


def an_event(key: str = "a" * 32, number: int = 1, id: str | None = None) -> Event:
    """Return any event with this sequence number."""
    data = ReferralCancelled(reference=Reference("LB-0000-0000-0000"), version=number)
    return events.an_event(data, id=id or uuid.uuid4().hex, key=key, correlation_id="c1", sequence=number)


async def publish(
    bootstrap: str, topic: str, values: Sequence[bytes], headers: Sequence[tuple[str, bytes]] = ()
) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, compression_type="lz4")
    await producer.start()
    for value in values:
        await producer.send_and_wait(topic, value, key=b"person", headers=list(headers))
    await producer.stop()


class Seen(list[bytes]):
    """Collects values; `until(n)` waits until there are n."""

    async def until(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self) < count:
                await asyncio.sleep(0.02)


async def everything_on(bootstrap: str, topic: str, *, at_least: int = 0) -> Sequence[tuple[str, int]]:
    """Return (key, sequence) of every record of a topic, partition by partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(3)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        total, records = sum(ends.values()), []
        while len(records) < total:
            for batch in (await consumer.getmany(timeout_ms=500)).values():
                records += batch
    finally:
        await consumer.stop()
    assert len(records) >= at_least
    return [(record.key.decode(), int(dict(record.headers)["ce_sequence"])) for record in records]


@contextlib.asynccontextmanager
async def running(*relays: Relay) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(relay.run()) for relay in relays]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def put(engine: AsyncEngine, *messages: OutboxMessage) -> None:
    async with engine.begin() as tx:
        await outbox.add(tx, "tried", messages)


async def unpublished(engine: AsyncEngine) -> int:
    async with engine.begin() as tx:
        return sum(one.published_at is None for one in await packets.published(tx, "tried"))


async def until(claim: Callable[[], "asyncio.Future[bool]"] | object, seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        while not await claim():  # type: ignore[operator]
            await asyncio.sleep(0.02)


async def drained(engine: AsyncEngine, seconds: float = 15.0) -> None:
    async def nothing_left() -> bool:
        return await unpublished(engine) == 0

    await until(nothing_left, seconds)


def value(name: str, **labels: str) -> float | None:
    return metrics.REGISTRY.get_sample_value(name, labels)


async def answer(path: str, engine: AsyncEngine, lacks: tuple[str, ...] = ()) -> tuple[int, str]:
    """Return (status, body) of a GET, without a socket."""
    app = Starlette(
        routes=health.routes(engine, "tried", lambda: lacks), middleware=[Middleware(health.StatusCounterMiddleware)]
    )
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    asked = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [], "root_path": ""}
    await app(asked, receive, send)
    return sent[0]["status"], b"".join(part["body"] for part in sent[1:]).decode()
