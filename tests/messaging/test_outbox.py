"""The relay publishes every row, in order for each person and topic, also after failures."""

import asyncio
from collections.abc import Sequence

import pytest
from aiokafka import AIOKafkaProducer
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from services.messaging import outbox, relay
from services.messaging.outbox import OutboxMessage
from services.messaging.packets import SHARDS
from services.messaging.relay import RecordBatch, Relay, Waiting
from tests.faulty_database import make_sessions_read_only, read_only_server
from tests.messaging.running import an_event, drained, everything_on, put, running, unpublished, until


async def test_a_row_that_is_committed_late_is_published(engine: AsyncEngine, bootstrap: str, topic: str) -> None:
    async with running(Relay(engine, "tried", bootstrap)):
        async with engine.begin() as late:
            await outbox.add(late, "tried", [OutboxMessage(topic, an_event("late", 1))])
            await put(engine, OutboxMessage(topic, an_event("early", 1)))

            async def early_is_out() -> bool:
                return await unpublished(engine) == 0

            await until(early_is_out)
        await drained(engine)
    assert sorted(await everything_on(bootstrap, topic)) == [("early", 1), ("late", 1)]


async def test_two_relays_keep_the_order_of_every_person(engine: AsyncEngine, bootstrap: str, topic: str) -> None:
    async with running(first := Relay(engine, "tried", bootstrap), second := Relay(engine, "tried", bootstrap)):
        for number in range(1, 31):
            await put(engine, *(OutboxMessage(topic, an_event(f"person{person}", number)) for person in range(20)))
            (first if number % 2 else second).wake()
        await drained(engine)
    seen = await everything_on(bootstrap, topic)
    assert len(seen) == 600
    for person in range(20):
        assert [number for key, number in seen if key == f"person{person}"] == list(range(1, 31))


async def test_a_relay_killed_between_publish_and_mark_repeats_records_but_loses_none(
    engine: AsyncEngine, bootstrap: str, topic: str
) -> None:
    class DiesBeforeMarking(Relay):
        async def _mark(self, *_: object) -> None:
            raise SystemExit

    for number in range(1, 6):
        await put(engine, OutboxMessage(topic, an_event("person", number)))
    with pytest.raises(SystemExit):
        await DiesBeforeMarking(engine, "tried", bootstrap)._round()
    async with running(Relay(engine, "tried", bootstrap)):
        await drained(engine)
    seen = [number for _, number in await everything_on(bootstrap, topic)]
    assert seen == [1, 2, 3, 4, 5, 1, 2, 3, 4, 5]
    assert list(dict.fromkeys(seen)) == [1, 2, 3, 4, 5]


async def test_nothing_is_published_while_it_could_not_be_marked(
    engine: AsyncEngine, bootstrap: str, topic: str
) -> None:
    await put(engine, OutboxMessage(topic, an_event("person", 1)))
    refused = Relay(engine, "tried", bootstrap)
    async with read_only_server(engine):
        await make_sessions_read_only(engine)
        for _ in range(2):
            with pytest.raises(DBAPIError):
                await refused._round()
    async with running(refused):
        await drained(engine)
    assert await everything_on(bootstrap, topic) == [("person", 1)]


async def test_a_failing_topic_does_not_delay_others(engine: AsyncEngine, bootstrap: str, topic: str) -> None:
    await put(engine, *(OutboxMessage("no.such.topic", an_event("person", number)) for number in range(1, 4)))
    await put(engine, *(OutboxMessage(topic, an_event("person", number)) for number in range(1, 101)))
    async with running(Relay(engine, "tried", bootstrap)):

        async def only_the_failing_are_left() -> bool:
            return await unpublished(engine) == 3

        await until(only_the_failing_are_left, 30)
    assert [number for _, number in await everything_on(bootstrap, topic)] == list(range(1, 101))


async def test_topics_that_are_held_share_a_round_equally_without_a_paused_one(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "ROUND", 4)
    for number in range(1, 11):
        await put(engine, OutboxMessage("long", an_event("person", number)))
    await put(engine, OutboxMessage("short", an_event("person", 1)))
    async with engine.begin() as tx:
        await tx.execute(
            text("""with held as (insert into tried.packet_held (shard, target, id, places)
                                            select shard, targets[1], id, array[0] from tried.packet returning 1)
                                 update tried.packet set published_at = now()""")
        )
        found = await relay.read(tx, "tried", range(SHARDS), [])
        others = await relay.read(tx, "tried", range(SHARDS), ["long"])
    assert [(target, packet) for _, target, packet in found.held] == [
        *(("long", packet) for packet in range(1, 5)),
        ("short", 11),
    ]
    assert {target for _, target in found.blocked} == {"long"}
    assert found.more
    assert [target for _, target, _ in others.held] == ["short"]
    assert not others.more


async def test_after_a_batch_that_fails_the_order_of_each_person_is_kept(
    engine: AsyncEngine, bootstrap: str, topic: str
) -> None:
    class FailsOnce(Relay):
        failed = False

        async def _send(self, producer: AIOKafkaProducer, batch: RecordBatch) -> object:
            if not self.failed and "unlucky" in {one.message.person_key for one in batch.messages}:
                self.failed = True
                raise ConnectionError
            return await super()._send(producer, batch)

    await put(engine, *(OutboxMessage(topic, an_event(key, n)) for n in range(1, 6) for key in ("unlucky", "lucky")))
    async with running(FailsOnce(engine, "tried", bootstrap)):
        await drained(engine)
    seen = await everything_on(bootstrap, topic)
    assert [number for key, number in seen if key == "unlucky"] == [1, 2, 3, 4, 5]


async def test_an_event_too_large_for_its_topic_is_refused_before_it_is_stored(engine: AsyncEngine, topic: str) -> None:
    large = an_event().data.model_copy(update={"reference": "x" * 1_000_000})
    with pytest.raises(outbox.TooLarge, match="bytes"):
        await put(engine, OutboxMessage(topic, an_event().model_copy(update={"data": large})))
    assert await unpublished(engine) == 0


async def test_a_slow_kafka_ends_the_round_before_the_idle_timeout_of_its_transaction(
    engine: AsyncEngine, bootstrap: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Relay):
        async def _acknowledged(self, producer: AIOKafkaProducer, batches: Sequence[RecordBatch]) -> list[object]:
            await asyncio.sleep(0.2)
            return await super()._acknowledged(producer, batches)

    monkeypatch.setattr(relay, "SENDING_SECONDS", 0.3)
    monkeypatch.setattr(relay, "BATCH_BYTES", 100)
    await put(engine, *(OutboxMessage(topic, an_event("person", number)) for number in range(1, 6)))
    slow = Slow(engine, "tried", bootstrap)
    await slow._round()
    assert 0 < await unpublished(engine) < 5
    async with running(slow):
        await drained(engine)
    assert [number for _, number in await everything_on(bootstrap, topic)] == [1, 2, 3, 4, 5]


async def test_a_producer_that_does_not_respond_is_replaced_and_closed(
    engine: AsyncEngine, bootstrap: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class WedgedOnce(Relay):
        wedged = 0

        async def _started_producer(self) -> AIOKafkaProducer:
            producer = await super()._started_producer()
            if self.wedged < 2:
                self.wedged += 1
                monkeypatch.setattr(producer.client, "send", never_answers)
            return producer

    async def never_answers(*_: object, **__: object) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setattr(relay, "ACK_TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(relay, "PRODUCER_STOP_SECONDS", 0.2)
    await put(engine, *(OutboxMessage(topic, an_event("person", number)) for number in range(1, 4)))
    async with running(WedgedOnce(engine, "tried", bootstrap)):
        await drained(engine)
    assert [number for _, number in await everything_on(bootstrap, topic)] == [1, 2, 3]
    left = {task.get_coro().__qualname__ for task in asyncio.all_tasks()}  # type: ignore[union-attr]
    assert not [name for name in left if "Sender" in name or "Accumulator" in name]


async def test_a_relay_that_is_stopped_finishes_its_round_and_publishes_the_last_commits(
    engine: AsyncEngine, bootstrap: str, topic: str
) -> None:
    entered = asyncio.Event()

    class Slow(Relay):
        async def _publish(self, messages: Sequence[Waiting]) -> set[Waiting]:
            published = await super()._publish(messages)
            entered.set()
            await asyncio.sleep(0.2)
            return published

    await put(engine, OutboxMessage(topic, an_event("person", 1)))
    slow = Slow(engine, "tried", bootstrap)
    async with running(slow):
        await entered.wait()
        await put(engine, OutboxMessage(topic, an_event("person", 2)))
        slow.wake()
    assert await unpublished(engine) == 0
    assert [number for _, number in await everything_on(bootstrap, topic)] == [1, 2]
