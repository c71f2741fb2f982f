"""The relay publishes every row, in order for each person and topic, also after failures."""

import asyncio
import uuid
from collections.abc import Sequence

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from schemas.topics import Topic
from services.messaging import broker, outbox, relay
from services.messaging.outbox import OutboxMessage
from services.messaging.packets import SHARDS, shard_of
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
    engine: AsyncEngine, bootstrap: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(*_: object) -> None:
        raise SystemExit

    for number in range(1, 6):
        await put(engine, OutboxMessage(topic, an_event("person", number)))
    with monkeypatch.context() as patched:
        patched.setattr(relay, "mark", dies)
        with pytest.raises(SystemExit):
            await Relay(engine, "tried", bootstrap)._round()
    async with running(Relay(engine, "tried", bootstrap)):
        await drained(engine)
    seen = [number for _, number in await everything_on(bootstrap, topic)]
    assert seen == [1, 2, 3, 4, 5, 1, 2, 3, 4, 5]
    assert list(dict.fromkeys(seen)) == [1, 2, 3, 4, 5]


async def test_a_relay_whose_shards_are_all_locked_reads_nothing(
    engine: AsyncEngine, bootstrap: str, topic: str
) -> None:
    await put(engine, OutboxMessage(topic, an_event("person", 1)))
    async with engine.begin() as tx:
        assert len(await relay.lock_shards(tx, "tried")) == SHARDS
        assert await Relay(engine, "tried", bootstrap)._round() == (False, False)
    assert await unpublished(engine) == 1


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


async def held(engine: AsyncEngine) -> list[tuple[str, int, list[int]]]:
    """Return topic, packet and places of each held row."""
    async with engine.begin() as tx:
        rows = await tx.execute(text("select target, id, places from tried.packet_held order by shard, target, id"))
        return [tuple(row) for row in rows]


async def test_a_topic_refused_for_long_keeps_its_order_and_holds_up_only_itself(
    engine: AsyncEngine, bootstrap: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "ROUND", 3)
    refused = f"tried.{uuid.uuid4().hex[:8]}"
    async with running(Relay(engine, "tried", bootstrap), other := Relay(engine, "tried", bootstrap)):
        for number in range(1, 21):
            messages = [OutboxMessage(target, an_event("person", number)) for target in (refused, topic, refused)]
            await put(engine, *messages)
            other.wake()

        async def only_the_refused_wait() -> bool:
            return await unpublished(engine) == 40

        await until(only_the_refused_wait, 60)
        assert await everything_on(bootstrap, topic) == [("person", number) for number in range(1, 21)]
        assert [places for _, _, places in await held(engine)] == [[0, 2]] * 20
        await broker.create_topics(bootstrap, [Topic(refused, 3)], replication=1)
        await drained(engine, 60)
        await put(engine, OutboxMessage(refused, an_event("person", 21)))
        await drained(engine, 60)
    seen = [number for _, number in await everything_on(bootstrap, refused)]
    assert list(dict.fromkeys(seen)) == list(range(1, 22))
    assert seen == sorted(seen)
    assert await held(engine) == []


async def test_of_a_packet_that_is_half_acknowledged_the_rest_is_put_back_and_nothing_is_repeated(
    engine: AsyncEngine, bootstrap: str, topic: str
) -> None:
    class FailsOnce(Relay):
        failed: relay.Partition | None = None

        async def _send(self, producer: AIOKafkaProducer, batch: RecordBatch) -> object:
            if self.failed is None:
                self.failed = (batch.topic, batch.partition)
                raise ConnectionError
            return await super()._send(producer, batch)

    keys = [key for key in (f"person{number}" for number in range(200)) if shard_of(key) == 0]
    await put(engine, *(OutboxMessage(topic, an_event(key, number)) for number in range(1, 4) for key in keys))
    halves = FailsOnce(engine, "tried", bootstrap)
    await halves._round()
    acknowledged = await everything_on(bootstrap, topic)
    [(target, _, places)] = await held(engine)
    assert target == topic
    assert 0 < len(places) == 3 * len(keys) - len(acknowledged)
    async with engine.begin() as tx:
        assert await tx.scalar(text("select count(*) from tried.packet where published_at is null")) == 0
    await put(engine, *(OutboxMessage(topic, an_event(key, 4)) for key in keys))
    async with running(halves):
        await drained(engine)
    seen = await everything_on(bootstrap, topic)
    for key in keys:
        assert [number for one, number in seen if one == key] == [1, 2, 3, 4]
    assert await held(engine) == []


async def test_a_held_row_keeps_what_is_not_acknowledged_yet(
    engine: AsyncEngine, bootstrap: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "BATCH_BYTES", 100)
    monkeypatch.setattr(relay, "SENDING_SECONDS", 0.0)
    await put(engine, *(OutboxMessage(topic, an_event("person", number)) for number in range(1, 4)))
    one_wave = Relay(engine, "tried", bootstrap)
    for places in ([1, 2], [2]):
        await one_wave._round()
        assert [row[2] for row in await held(engine)] == [places]
    await put(engine, OutboxMessage(topic, an_event("person", 4)))
    for _ in range(2):
        await one_wave._round()
    await one_wave._replace_producer()
    assert await held(engine) == []
    assert await everything_on(bootstrap, topic) == [("person", number) for number in range(1, 5)]


async def test_nothing_is_sent_to_a_paused_topic(engine: AsyncEngine, bootstrap: str, topic: str) -> None:
    class NeverSends(Relay):
        async def _send(self, producer: AIOKafkaProducer, batch: RecordBatch) -> object:
            raise AssertionError("sent")

    paused = NeverSends(engine, "tried", bootstrap)
    paused._paused[topic] = asyncio.get_running_loop().time() + 60
    await put(engine, OutboxMessage(topic, an_event("person", 1)))
    for _ in range(2):
        assert await paused._round() == (False, True)
    assert await held(engine) == [(topic, 1, [0])]


async def test_a_message_larger_than_a_batch_is_a_batch_of_its_own(
    engine: AsyncEngine, bootstrap: str, topic: str
) -> None:
    large = an_event("person", 2)
    large = large.model_copy(update={"data": large.data.model_copy(update={"reference": "x" * 600_000})})
    await put(engine, *(OutboxMessage(topic, one) for one in (an_event("person", 1), large, an_event("person", 3))))
    async with running(Relay(engine, "tried", bootstrap)):
        await drained(engine)
    assert await everything_on(bootstrap, topic) == [("person", number) for number in range(1, 4)]


async def test_a_round_reads_no_more_than_its_bytes_however_small_they_are_compressed(
    engine: AsyncEngine, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = an_event("person")
    large = large.model_copy(update={"data": large.data.model_copy(update={"reference": "x" * 300_000})})
    for _ in range(5):
        await put(engine, OutboxMessage(topic, large))
    monkeypatch.setattr(relay, "ROUND_BYTES", SHARDS * 600_000)
    async with engine.begin() as tx:
        found = await relay.read(tx, "tried", range(SHARDS), [])
    assert [packet for _, packet in found.packets] == [1, 2]
    assert found.more


async def test_a_corrupt_packet_holds_up_its_shard_only(engine: AsyncEngine, bootstrap: str, topic: str) -> None:
    other = next(key for key in (f"other{number}" for number in range(100)) if shard_of(key) != shard_of("person"))
    for number in (1, 2):
        await put(engine, *(OutboxMessage(topic, an_event(key, number)) for key in ("person", other)))
    async with engine.begin() as tx:
        corrupt = text("update tried.packet set content = content || '\\x00' where id = 1 returning shard")
        assert await tx.scalar(corrupt) == shard_of("person")
    tried = Relay(engine, "tried", bootstrap)
    await tried._round()
    await tried._replace_producer()
    assert await everything_on(bootstrap, topic) == [(other, 1), (other, 2)]


@given(st.text(), st.sampled_from([1, 3, 12]))
def test_a_key_goes_to_the_partition_that_the_producer_would_choose(key: str, count: int) -> None:
    partitions = list(range(count))
    assert relay._hash(key) % count == DefaultPartitioner()(key.encode(), partitions, partitions)


async def test_a_relay_waits_for_further_commits_only_after_a_large_round(
    engine: AsyncEngine, bootstrap: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited, sleep = [], asyncio.sleep

    async def record(seconds: float) -> None:
        waited.append(seconds)
        await sleep(seconds)

    monkeypatch.setattr(asyncio, "sleep", record)
    monkeypatch.setattr(relay, "POLL_SECONDS", 3600.0)
    monkeypatch.setattr(relay, "BUSY", 3)
    monkeypatch.setattr(relay, "LINGER_SECONDS", 0.0123)
    async with running(busy := Relay(engine, "tried", bootstrap)):
        for count, expected in ((1, 0), (1, 0), (3, 0), (1, 1), (1, 1)):
            await put(engine, *(OutboxMessage(topic, an_event("person", number)) for number in range(1, count + 1)))
            busy.wake()
            await drained(engine)
            await until(lambda: _is_idle(busy))
            assert waited.count(0.0123) == expected


async def _is_idle(one: Relay) -> bool:
    return not one._woken.is_set()
