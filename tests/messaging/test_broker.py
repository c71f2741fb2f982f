"""A subscriber loses nothing: not what fails, not what was there before it, not what it cannot read."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

import pytest
from faststream import AckPolicy

from schemas.topics import Topic
from services.messaging import broker
from services.messaging.cloudevents import KafkaRecord
from services.runtime.settings import Settings
from tests.messaging.running import Seen, publish


@pytest.fixture
def settings(bootstrap: str) -> Settings:
    return Settings(database="postgresql+asyncpg://nobody@localhost/none", kafka=bootstrap, secret_file="/dev/null")


@contextlib.asynccontextmanager
async def subscribed(
    settings: Settings, topic: str, receive: Callable[[Sequence[KafkaRecord]], Awaitable[None]]
) -> AsyncIterator[None]:
    kafka = broker.create(settings, name="tests")
    broker.subscribe(kafka, [topic], group=f"group-{topic}", receive=receive)
    await kafka.start()
    try:
        yield
    finally:
        await kafka.stop()


async def test_what_was_published_before_the_first_start_is_read(settings: Settings, topic: str) -> None:
    await publish(settings.kafka, topic, [b"1", b"2", b"3"])
    seen = Seen()

    async def receive(records: Sequence[KafkaRecord]) -> None:
        seen.extend(record.value for record in records)

    async with subscribed(settings, topic, receive):
        await seen.until(3)
    assert seen == [b"1", b"2", b"3"]


async def test_several_bootstrap_servers_may_be_set(settings: Settings, topic: str) -> None:
    await publish(settings.kafka, topic, [b"1"])
    seen = Seen()

    async def receive(records: Sequence[KafkaRecord]) -> None:
        seen.extend(record.value for record in records)

    several = settings.model_copy(update={"kafka": f"{settings.kafka},{settings.kafka},127.0.0.1:1"})
    async with subscribed(several, topic, receive):
        await seen.until(1)
    assert seen == [b"1"]


async def test_fetches_wait_for_enough_only_while_records_come_fast(settings: Settings, topic: str) -> None:
    await publish(settings.kafka, topic, [b"1"] * 100)
    kafka = broker.create(settings, name="tests")

    async def receive(_: Sequence[KafkaRecord]) -> None: ...

    subscription = broker.subscribe(kafka, [topic], group=f"group-{topic}", receive=receive)
    await kafka.start()
    fetcher = subscription._subscriber.consumer._fetcher
    try:
        async with asyncio.timeout(60):
            for expected in (broker.AT_ONCE, broker.FOR_ENOUGH, broker.AT_ONCE):
                while (fetcher._fetch_min_bytes, fetcher._fetch_max_wait_ms) != expected:
                    await asyncio.sleep(0.01)
    finally:
        await kafka.stop()


async def test_a_failed_batch_is_retried_with_growing_delays_until_it_succeeds(settings: Settings, topic: str) -> None:
    await publish(settings.kafka, topic, [b"1", b"2"])
    seen, failures = Seen(), []

    async def receive(records: Sequence[KafkaRecord]) -> None:
        if len(failures) < 3:
            failures.append(asyncio.get_running_loop().time())
            raise ConnectionError
        seen.extend(record.value for record in records)

    async with subscribed(settings, topic, receive):
        await seen.until(2)
    assert seen == [b"1", b"2"]
    assert failures[2] - failures[1] > failures[1] - failures[0] > 0.09


async def test_a_batch_too_large_for_one_transaction_is_processed_in_parts_and_in_order(
    settings: Settings, topic: str
) -> None:
    await publish(settings.kafka, topic, [b"%d" % number for number in range(9)])
    seen = Seen()

    async def receive(records: Sequence[KafkaRecord]) -> None:
        if len(records) > 2:
            raise TimeoutError
        seen.extend(record.value for record in records)

    async with subscribed(settings, topic, receive):
        await seen.until(9)
    assert seen == [b"%d" % number for number in range(9)]


async def test_a_batch_interrupted_by_a_stop_is_redelivered(settings: Settings, topic: str) -> None:
    await publish(settings.kafka, topic, [b"1"])
    entered = asyncio.Event()

    async def never_ends(records: Sequence[KafkaRecord]) -> None:
        entered.set()
        raise ConnectionError

    async with subscribed(settings, topic, never_ends):
        await asyncio.wait_for(entered.wait(), 30)
    seen = Seen()

    async def receive(records: Sequence[KafkaRecord]) -> None:
        seen.extend(record.value for record in records)

    async with subscribed(settings, topic, receive):
        await seen.until(1)
    assert seen == [b"1"]


@pytest.mark.parametrize("value", [b"", b"\xff\xfe", b"1", b'{"a": NaN}'])
async def test_undecodable_bytes_are_received_unchanged(settings: Settings, topic: str, value: bytes) -> None:
    await publish(settings.kafka, topic, [value], headers=[("ce_id", b"\xff"), ("content-type", b"application/json")])
    seen = Seen()

    async def receive(records: Sequence[KafkaRecord]) -> None:
        seen.extend(record.value for record in records)
        assert records[0].headers[0] == ("ce_id", b"\xff")

    async with subscribed(settings, topic, receive):
        await seen.until(1)
    assert seen == [value]


async def test_a_rebalance_waits_for_the_current_batch(settings: Settings, topic: str) -> None:
    await publish(settings.kafka, topic, [b"1"])
    first, second = Seen(), Seen()

    async def slowly(records: Sequence[KafkaRecord]) -> None:
        first.extend(record.value for record in records)
        await asyncio.sleep(3)

    async def at_once(records: Sequence[KafkaRecord]) -> None:
        second.extend(record.value for record in records)

    async with subscribed(settings, topic, slowly):
        await first.until(1)
        async with subscribed(settings, topic, at_once):
            await asyncio.sleep(5)
    assert (first, second) == ([b"1"], [])


def test_every_subscriber_acknowledges_after_processing(settings: Settings) -> None:
    kafka = broker.create(settings, name="tests")

    async def receive(records: Sequence[KafkaRecord]) -> None: ...

    broker.subscribe(kafka, ["a"], group="g", receive=receive)
    assert [subscriber.ack_policy for subscriber in kafka.subscribers] == [AckPolicy.NACK_ON_ERROR]


async def test_topics_that_differ_from_their_declaration_are_named(bootstrap: str, topic: str) -> None:
    await broker.check_topics(bootstrap, [Topic(topic, 3)], replication=1)
    with pytest.raises(broker.TopicsDiffer) as refused:
        await broker.check_topics(bootstrap, [Topic(topic, 12), Topic("not.there", 1)], replication=1)
    assert f"{topic}: partitions is 3, declared 12" in str(refused.value)
    assert "not.there: missing" in str(refused.value)


@pytest.fixture
def signals() -> Iterator[None]:
    """`broker.run` gives the second signal back to the kernel: this process keeps its own."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


async def test_a_stop_waits_until_the_current_batch_is_processed_and_committed(
    settings: Settings, topic: str, signals: None
) -> None:
    await publish(settings.kafka, topic, [b"1"])
    entered, applied, again = asyncio.Event(), Seen(), Seen()

    async def slowly(records: Sequence[KafkaRecord]) -> None:
        entered.set()
        await asyncio.sleep(0.3)
        applied.extend(record.value for record in records)

    async def receive(records: Sequence[KafkaRecord]) -> None:
        again.extend(record.value for record in records)

    kafka = broker.create(settings, name="tests")
    broker.subscribe(kafka, [topic], group=f"group-{topic}", receive=slowly)
    running = asyncio.create_task(broker.run(kafka))
    await asyncio.wait_for(entered.wait(), 30)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(running, 30)
    assert applied == [b"1"]
    await publish(settings.kafka, topic, [b"2"])
    async with subscribed(settings, topic, receive):
        await again.until(1)
    assert again == [b"2"], "the offset of the first was committed"
