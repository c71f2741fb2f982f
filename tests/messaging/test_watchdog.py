"""A process that has work and gets no further ends itself; one that is slow, or whose servers are away, is left alone."""

import asyncio
import contextlib
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import SimpleNamespace

import pytest
from aiokafka import TopicPartition
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from services.messaging import broker
from services.messaging import relay as relays
from services.messaging.cloudevents import KafkaRecord
from services.messaging.outbox import OutboxMessage
from services.messaging.relay import Relay
from services.runtime import watchdog
from services.runtime.backlog import BacklogMonitor, BacklogSnapshot, Lag
from services.runtime.settings import Settings
from services.runtime.watchdog import ProgressByKey, StallDetector, Stalled, Watchdog, WatchedTask, _LoopHeartbeat
from tests.messaging.running import Seen as Values
from tests.messaging.running import an_event, publish, put, running, unpublished

WELL = BacklogSnapshot(database=True, kafka=True)


@pytest.fixture(autouse=True)
def ends(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """This process must not be ended: the times that it was given are collected instead."""
    given: list[float] = []
    monkeypatch.setattr(watchdog, "force_exit", given.append)
    return given


# ---- judging, by values -----------------------------------------------------------------------------------------------


def test_a_task_that_makes_progress_is_never_stalled() -> None:
    still = StallDetector()
    assert [still.update(now, {"a": now}) for now in (0.0, 100.0, 200.0)] == [(0, 0)] * 3


def test_a_task_without_work_is_not_stalled() -> None:
    still = StallDetector()
    assert [still.update(now, {}) for now in (0.0, 100.0)] == [(0, 0)] * 2
    assert still.update(200.0, {"a": 1}) == (0, 0)


def test_new_work_does_not_reset_the_time_of_a_stalled_loop() -> None:
    still = StallDetector()
    lanes = [still.update(10.0 * n, {f"lane {lane}": 1 for lane in range(n + 1)}) for n in range(4)]
    assert lanes == [(0, 0), (10, 10), (20, 20), (30, 30)]


def test_one_stalled_task_among_others_has_ten_times_longer() -> None:
    dog = Watchdog(None, [WatchedTask("tried", lambda _: {"still": 1, "moving": next(turns)})], seconds=60)  # type: ignore[arg-type]
    turns = iter(range(100))
    for now in range(0, 600, 10):
        dog.check(WELL, now)
    with pytest.raises(Stalled, match="tried"):
        dog.check(WELL, 600)


@pytest.mark.parametrize("away", [BacklogSnapshot(kafka=True), BacklogSnapshot(database=True), BacklogSnapshot()])
def test_a_process_that_waits_for_a_server_is_not_stopped_and_its_time_starts_again_on_return(
    away: BacklogSnapshot, ends: list[float]
) -> None:
    dog = Watchdog(None, [WatchedTask("tried", lambda _: {"a": 1})], seconds=60)  # type: ignore[arg-type]
    dog.check(WELL, 0)
    for now in (30, 300, 3_000):
        dog.check(away, now)
    dog.check(WELL, 3_010)
    dog.check(WELL, 3_060)
    with pytest.raises(Stalled, match="60 s"):
        dog.check(WELL, 3_070)
    assert ends == [watchdog.LAST_SECONDS]


def test_an_event_loop_is_blocked_if_only_its_heartbeat_stopped() -> None:
    pulse = _LoopHeartbeat(60)
    start = pulse._last
    assert not any(pulse.blocked_for(start + second) for second in range(60))
    assert pulse.blocked_for(start + 61) == pytest.approx(61)


def test_a_suspended_process_gets_its_full_time_again() -> None:
    pulse = _LoopHeartbeat(60)
    start = pulse._last
    assert pulse.blocked_for(start + 1_000) == 0
    assert not any(pulse.blocked_for(start + 1_000 + second) for second in range(60))
    assert pulse.blocked_for(start + 1_061) == pytest.approx(61)


# ---- planted stalls ---------------------------------------------------------------------------------------------------


@pytest.fixture
def settings(bootstrap: str, database: str) -> Settings:
    return Settings(database=database, kafka=bootstrap, secret_file="/dev/null")


@contextlib.asynccontextmanager
async def watched(
    settings: Settings, topic: str, receive: Callable[[Sequence[KafkaRecord]], Awaitable[None]], seconds: float = 1.0
) -> AsyncIterator["asyncio.Task[None]"]:
    """A consumer of `topic`, and the task of its watchdog."""
    kafka = broker.create(settings, name="tests")
    consumer = broker.subscribe(kafka, [topic], group=f"group-{topic}", receive=receive)
    dog = Watchdog(
        BacklogMonitor(settings, "tried", group=f"group-{topic}", topics=[topic]), consumer.loops(), seconds=seconds
    )
    await kafka.start()
    watching = asyncio.create_task(dog.run())
    try:
        yield watching
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await kafka.stop()


async def test_a_consumer_that_is_stuck_on_its_batch_is_stopped(
    settings: Settings, engine: AsyncEngine, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(records: Sequence[KafkaRecord]) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(broker, "GRACEFUL_SECONDS", 0.1)
    await publish(settings.kafka, topic, [b"1"])
    async with watched(settings, topic, never) as watching:
        with pytest.raises(Stalled, match="consumer"):
            await asyncio.wait_for(watching, 180)


async def test_a_consumer_that_no_longer_fetches_is_stopped(
    settings: Settings, engine: AsyncEngine, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Values()

    async def receive(records: Sequence[KafkaRecord]) -> None:
        seen.extend(record.value for record in records)

    broken = asyncio.Event()

    async def fetches_nothing(*_: object, **__: object) -> dict[object, object]:
        broken.set()
        await asyncio.sleep(0.1)
        return {}

    await publish(settings.kafka, topic, [b"1"])
    async with watched(settings, topic, receive) as watching:
        await seen.until(1)
        monkeypatch.setattr("aiokafka.AIOKafkaConsumer.getmany", fetches_nothing)
        await asyncio.wait_for(broken.wait(), 180)  # a fetch that began before would bring the next record
        await publish(settings.kafka, topic, [b"2"])
        with pytest.raises(Stalled, match="consumer"):
            await asyncio.wait_for(watching, 180)


async def test_a_slow_consumer_is_not_stopped(
    settings: Settings, engine: AsyncEngine, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Values()

    async def slowly(records: Sequence[KafkaRecord]) -> None:
        await asyncio.sleep(0.5)
        seen.extend(record.value for record in records)

    monkeypatch.setattr(broker, "BATCH", 1)
    await publish(settings.kafka, topic, [b"%d" % number for number in range(8)])
    async with watched(settings, topic, slowly, seconds=3.0) as watching:
        await seen.until(8)
        assert not watching.done()


async def test_a_consumer_whose_attempts_the_database_refuses_makes_no_progress(engine: AsyncEngine) -> None:
    """A new session may do better: that of the monitor says whether it does."""
    failures = [ConnectionError(), await _refused(engine)]

    async def receive(records: Sequence[KafkaRecord]) -> None:
        seen.append(ours.progress_by_key(behind))
        if failures:
            raise failures.pop()

    partition = TopicPartition("tried", 0)
    behind = BacklogSnapshot(database=True, kafka=True, lags={partition: Lag(7, records=3)})
    work = broker._BatchHandler(receive)
    [ours, of_all] = broker.Subscription(a_member(partition), work).loops()
    seen: list[ProgressByKey] = []
    await work._until_received([KafkaRecord("tried", 0, 7, b"key", b"1", ())])
    assert seen == [{partition: 7}] * 3
    assert of_all.progress_by_key(behind) == {}


async def _refused(engine: AsyncEngine) -> DBAPIError:
    with pytest.raises(DBAPIError) as refused:
        async with engine.begin() as tx:
            await tx.execute(text("do $$ begin raise sqlstate '25006'; end $$"))
    return refused.value


@pytest.mark.parametrize("own", [(), (TopicPartition("other", 0),)])
async def test_a_member_is_stalled_if_none_of_the_partitions_that_it_lacks_moves(
    own: tuple[TopicPartition, ...],
) -> None:
    """A topic that was deleted and made again may be assigned to no member, while all have others."""

    async def receive(records: Sequence[KafkaRecord]) -> None: ...

    partition = TopicPartition("tried", 0)
    behind = BacklogSnapshot(
        database=True, kafka=True, lags={partition: Lag(7, records=3), TopicPartition("tried", 1): Lag(9, 0)}
    )
    [ours, of_all] = broker.Subscription(a_member(*own), broker._BatchHandler(receive)).loops()
    assert ours.progress_by_key(behind) == {}
    assert of_all.progress_by_key(behind) == {partition: 7}
    assert of_all.times == 2


def a_member(*partitions: TopicPartition) -> SimpleNamespace:
    return SimpleNamespace(consumer=SimpleNamespace(assignment=lambda: frozenset(partitions)))


async def test_a_relay_that_is_stuck_is_stopped(
    settings: Settings, engine: AsyncEngine, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stuck(Relay):
        async def _publish(self, rows: object) -> list[object]:  # type: ignore[override]
            await asyncio.Event().wait()
            return []

    await put(engine, OutboxMessage(topic, an_event("person", 1)))
    relay = Stuck(engine, "tried", settings.kafka)
    dog = Watchdog(BacklogMonitor(settings, "tried"), [relay.loop()], seconds=1.0)
    monkeypatch.setattr(relays, "LAST_SECONDS", 0.1)
    async with running(relay):
        with pytest.raises(Stalled, match="relay"):
            await asyncio.wait_for(dog.run(), 60)


async def test_a_relay_whose_topic_is_missing_is_not_stopped(settings: Settings, engine: AsyncEngine) -> None:
    await put(engine, OutboxMessage("no.such.topic", an_event("person", 1)))
    relay = Relay(engine, "tried", settings.kafka)
    sight = BacklogMonitor(settings, "tried")
    async with running(relay):
        seen = await sight.poll()
    await sight.close()
    assert not seen.unreachable
    assert not relay.loop().progress_by_key(seen)
    assert await unpublished(engine) == 1


# ---- as a process -----------------------------------------------------------------------------------------------------

BLOCKED = "import time; time.sleep(30)"
HOLDS_THE_INTERPRETER = "import re; re.match(r'(a+)+$', 'a' * 60 + 'b')"

BLOCKS = """
from services.runtime import process

async def main(_):
    {blocks}

process.run("tried", main)
"""


async def ran(code: str, environment: dict[str, str]) -> tuple[int | None, str]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, env=environment, stderr=asyncio.subprocess.PIPE
    )
    try:
        _, said = await asyncio.wait_for(child.communicate(), 30)
    finally:
        if child.returncode is None:
            child.kill()
    return child.returncode, said.decode()


async def test_a_process_whose_event_loop_is_blocked_exits(environment: dict[str, str]) -> None:
    told = environment | {"LIGHTBULB_STALL_SECONDS": "0.5"}
    (code, said), (held, dumped) = await asyncio.gather(
        ran(BLOCKS.format(blocks=BLOCKED), told), ran(BLOCKS.format(blocks=HOLDS_THE_INTERPRETER), told)
    )
    assert code == watchdog.STALLED
    assert "event_loop_blocked" in said
    assert "<string>:5 main" in said
    assert held == 1, "no thread of Python runs: the interpreter's own timer ends it"
    assert "Timeout" in dumped


WORKS = """
import asyncio, sys
from services.messaging import broker
from services.runtime import process
from services.runtime.logs import log

async def work():
    try:
        log.info("works")
        await asyncio.Event().wait()
    finally:
        {last}

async def main(_):
    await broker.run(None, work())

process.run("tried", main)
"""


async def stopped_twice(last: str, environment: dict[str, str]) -> tuple[int | None, str]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WORKS.format(last=last), env=environment, stderr=asyncio.subprocess.PIPE
    )
    assert child.stderr
    for word in (b"works", b"stopping"):
        while word not in (line := await asyncio.wait_for(child.stderr.readline(), 30)):
            assert line
        child.send_signal(signal.SIGTERM)
    try:
        _, said = await asyncio.wait_for(child.communicate(), 30)
    finally:
        if child.returncode is None:
            child.kill()
    return child.returncode, said.decode()


async def test_a_second_signal_ends_the_process_at_once(environment: dict[str, str]) -> None:
    code, said = await stopped_twice("await asyncio.sleep(3600)", environment)
    assert code == -signal.SIGTERM
    assert "Traceback" not in said


def test_a_process_that_cannot_stop_exits_after_its_grace_period(monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []
    monkeypatch.undo()
    monkeypatch.setattr(watchdog.os, "_exit", codes.append)
    watchdog.force_exit(0.0)
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join(5)
    assert codes == [watchdog.STALLED]
