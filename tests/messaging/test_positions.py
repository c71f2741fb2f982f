"""Records that were deleted from Kafka before a group read them are noticed: by the next record, or without one by the monitor."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.messaging import broker
from services.messaging.cloudevents import KafkaRecord
from services.runtime import positions
from services.runtime.backlog import BacklogMonitor
from services.runtime.positions import Gap, Positions, find_gap
from services.runtime.settings import Settings
from tests.messaging.running import Seen, publish, value

PLACE = TopicPartition("t", 0)


@pytest.mark.parametrize(
    ("at", "committed", "first", "end", "gap"),
    [
        (5, 5, 0, 9, None),
        (5, None, 0, 5, None),
        (5, 3, 0, 9, None),  # applied, and not committed: what comes again is dropped
        (5, 5, 7, 9, (5, 7)),  # deleted by retention
        (5, 9, 0, 9, (5, 9)),  # offsets moved ahead, or the database restored from an older copy
        (5, 5, 0, 4, (5, 0)),  # the topic was made again
        (5, 20, 0, 4, (5, 0)),
    ],
)
def test_a_position_is_compared_with_what_kafka_has(
    at: int, committed: int | None, first: int, end: int, gap: tuple[int, int] | None
) -> None:
    assert find_gap(PLACE, at, committed, first, end) == (gap and Gap(PLACE, *gap))


def records(*offsets: int, topic: str = "t") -> list[KafkaRecord]:
    return [KafkaRecord(topic, 0, offset, b"k", b"v", ()) for offset in offsets]


async def applied(_: Sequence[KafkaRecord]) -> Collection[str]:
    return ()


async def gaps(engine: AsyncEngine) -> list[tuple[int, int]]:
    async with engine.connect() as tx:
        return [(gap.first, gap.next) for gap in (await positions.stored(tx, "tried", ["t"])).gone]


async def test_a_record_that_does_not_follow_the_last_one_is_a_gap(engine: AsyncEngine) -> None:
    first = Positions(engine, "tried")
    await first.keep(records(7, 8), applied)  # where a group begins is not known to be a gap
    await first.keep(records(9, 10), applied)
    assert await gaps(engine) == []
    await first.keep(records(13, 14), applied)
    first.forget()
    await first.keep(records(14, 15), applied)  # after a rebalance a record comes again
    assert await gaps(engine) == [(11, 13)]
    await Positions(engine, "tried").keep(records(20), applied)  # of a process that starts later
    assert await gaps(engine) == [(11, 13), (16, 20)]


async def test_a_topic_that_was_made_again_is_a_gap_and_is_followed_from_its_first_record(engine: AsyncEngine) -> None:
    group = Positions(engine, "tried")
    await group.keep(records(30), applied)
    group.end_of = lambda _: 2
    await group.keep(records(0), applied)
    await group.keep(records(1), applied)
    group.end_of = lambda _: 4
    await group.keep(records(3), applied)
    assert await gaps(engine) == [(31, 0), (2, 3)]


async def test_a_batch_that_was_not_applied_or_was_held_moves_no_position(engine: AsyncEngine) -> None:
    group = Positions(engine, "tried")
    await group.keep(records(1), applied)

    async def fails(_: Sequence[KafkaRecord]) -> Collection[str]:
        raise TimeoutError

    async def holds(_: Sequence[KafkaRecord]) -> Collection[str]:
        return {"t"}

    with pytest.raises(TimeoutError):
        await group.keep(records(5), fails)
    await group.keep(records(5), holds)
    assert await gaps(engine) == []
    await group.keep(records(5), applied)
    assert await gaps(engine) == [(2, 5)]


async def test_a_gap_that_was_resolved_stays_so_until_it_grows(engine: AsyncEngine) -> None:
    for following, shown in ((7, [(5, 7)]), (7, []), (9, [(5, 9)])):
        await positions.save(engine, "tried", {}, [Gap(PLACE, 5, following)])
        assert await gaps(engine) == shown
        async with engine.begin() as tx:
            await tx.execute(text("update tried.records_gone set resolved_at = clock_timestamp()"))


@asynccontextmanager
async def a_group(settings: Settings, engine: AsyncEngine, topic: str, seen: Seen) -> AsyncIterator[None]:
    async def receive(batch: Sequence[KafkaRecord]) -> None:
        seen.extend(record.value for record in batch)

    kafka = broker.create(settings, name="tests")
    broker.subscribe(kafka, [topic], group=f"g-{topic}", receive=receive, positions=Positions(engine, "tried"))
    await kafka.start()
    try:
        yield
    finally:
        await kafka.stop()


async def test_deleted_records_are_reported_before_and_after_the_next_one_comes(
    engine: AsyncEngine, database: str, bootstrap: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[str] = []
    monkeypatch.setattr(positions.log, "error", lambda event, **_: logged.append(event))
    settings, seen = Settings(database=database, kafka=bootstrap, secret_file="/dev/null"), Seen()
    monitor = BacklogMonitor(settings, "tried", group=f"g-{topic}", topics=[topic])
    await _polled(monitor, lambda: len(monitor.snapshot.lags) == 3)  # before its first record the group has a position
    await publish(bootstrap, topic, [b"1", b"2"])
    await _delete(bootstrap, topic)
    await _polled(monitor, lambda: bool(monitor.snapshot.gone))
    assert [(gap.first, gap.next) for gap in monitor.snapshot.gone] == [(0, 2)]
    assert [reason for reason in monitor.unmet_conditions() if topic in reason]
    assert value("lightbulb_records_gone", topic=topic) == 2
    for _ in range(3):
        await monitor.poll()
    assert logged == ["records_gone"], "once, not at each measurement"
    await publish(bootstrap, topic, [b"3"])
    async with a_group(settings, engine, topic, seen):
        await seen.until(1)
    assert (seen, await gaps(engine)) == ([b"3"], [(0, 2)])
    await monitor.close()


async def _polled(monitor: BacklogMonitor, claim: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not claim():
            await monitor.poll()
            await asyncio.sleep(0.05)


async def _delete(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.delete_records(
        {TopicPartition(topic, number): RecordsToDelete(before_offset=-1) for number in range(3)}
    )
    await admin.close()
