"""A topic of which too many records would become dead letters pauses alone: nothing of it is stored, and it is tried again."""

import asyncio
import dataclasses
from collections.abc import Sequence

import pytest
from aiokafka import TopicPartition
from faststream.kafka import KafkaBroker

from schemas.topics import Topic
from services.messaging import broker
from services.messaging.cloudevents import KafkaRecord
from services.messaging.dead_letter_share import (
    DEAD_LETTER_SAMPLE,
    DeadLetterShare,
    TooManyDeadLetters,
    apply_within_share,
)
from services.messaging.dead_letters import DeadLetter
from services.runtime import metrics
from services.runtime.backlog import BacklogSnapshot, Lag
from services.runtime.settings import Settings
from tests.messaging.running import publish


def records(topic: str, count: int) -> list[KafkaRecord]:
    return [KafkaRecord(topic, 0, offset, b"k", b"", ()) for offset in range(count)]


def letters(of: Sequence[KafkaRecord], *, waiting: bool = False) -> list[DeadLetter]:
    return [DeadLetter(record, "p", ("g",), "reason", None, waiting) for record in of]


def exceeded(share: DeadLetterShare, given: Sequence[KafkaRecord], dead: Sequence[DeadLetter]) -> set[str]:
    try:
        share.check(given, dead)
    except TooManyDeadLetters as error:
        return set(error.topics)
    share.count_checked()
    return set()


def test_a_topic_exceeds_the_share_only_with_enough_records_of_its_own() -> None:
    share = DeadLetterShare(0.5)
    few = records("a", DEAD_LETTER_SAMPLE - 1)
    assert exceeded(share, [*few, *records("b", 500)], letters(few)) == set()
    assert exceeded(share, records("a", 1), letters(records("a", 1))) == {"a"}
    assert exceeded(share, records("b", 1), letters(records("b", 1))) == set()


@pytest.mark.parametrize(("dead", "expected"), [(50, set()), (51, {"a"}), (100, {"a"})])
def test_the_share_is_taken_of_the_latest_records(dead: int, expected: set[str]) -> None:
    one_by_one = DeadLetterShare(0.5)
    assert exceeded(one_by_one, records("a", 1_000), []) == set()
    found = [exceeded(one_by_one, [record], letters([record])) for record in records("a", dead)]
    assert found[-1] == expected

    at_once = records("a", 100)
    assert exceeded(DeadLetterShare(0.5), at_once, letters(at_once[:dead])) == expected


def test_records_that_wait_do_not_count_and_a_share_of_one_pauses_nothing() -> None:
    given = records("a", 500)
    assert exceeded(DeadLetterShare(0.5), given, letters(given, waiting=True)) == set()
    assert exceeded(DeadLetterShare(1), given, letters(given)) == set()


def test_a_paused_topic_is_applied_again_when_nothing_of_it_fails_and_not_in_small_batches_before() -> None:
    share, given = DeadLetterShare(0.5), records("a", 500)
    assert exceeded(share, given, letters(given)) == {"a"}
    for _ in range(3):
        assert exceeded(share, given[:5], letters(given[:5])) == {"a"}
    assert exceeded(share, given[:5], []) == set()


def test_records_of_a_transaction_that_fails_count_once_when_they_come_again() -> None:
    share, one = DeadLetterShare(0.5), records("a", 1)
    for _ in range(2 * DEAD_LETTER_SAMPLE):
        share.check(one, letters(one))  # and then the commit fails
    assert exceeded(share, one, letters(one)) == set()

    few, flood = records("a", DEAD_LETTER_SAMPLE - 2), records("b", DEAD_LETTER_SAMPLE)
    assert exceeded(share, [*few, *flood], letters([*few, *flood])) == {"b"}
    assert exceeded(share, few, letters(few)) == set()


@pytest.mark.parametrize("fault_of_data", [False, True])
async def test_the_other_topics_of_a_batch_are_applied(fault_of_data: bool) -> None:
    """Also if single transactions fail, so that each record of the topic is refused on its own."""
    share, applied = DeadLetterShare(0.5), list[KafkaRecord]()
    given = [record for pair in zip(records("a", 400), records("b", 400), strict=True) for record in pair]

    async def act(part: Sequence[KafkaRecord]) -> None:
        failing = [record for record in part if record.topic == "a"]
        if fault_of_data and failing:
            raise ZeroDivisionError
        share.check(part, letters(failing))
        share.count_checked()
        applied.extend(part)

    async def refuse(record: KafkaRecord, reason: str) -> None:
        share.check([record], letters([record]))
        share.count_checked()
        applied.append(record)

    assert await apply_within_share(given, act, refuse) == {"a"}
    stored = [record for record in applied if record.topic == "a"]
    assert len(stored) == (DEAD_LETTER_SAMPLE - 1 if fault_of_data else 0)
    assert [record for record in applied if record.topic == "b"] == records("b", 400)


@pytest.fixture
def settings(bootstrap: str) -> Settings:
    return Settings(database="postgresql+asyncpg://nobody@localhost/none", kafka=bootstrap, secret_file="/dev/null")


async def test_a_topic_pauses_at_its_first_record_and_is_tried_again_while_others_continue(
    settings: Settings, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "PAUSE_SECONDS", 0.3)
    other = f"{topic}.other"
    await broker.create_topics(settings.kafka, [Topic(other, 3)], replication=1)
    listener, tries, applied, healed = broker.create(settings, name="t"), 0, list[str](), asyncio.Event()

    async def receive(given: Sequence[KafkaRecord]) -> set[str]:
        nonlocal tries
        tries += any(record.topic == topic for record in given)
        held = set() if healed.is_set() else {topic}
        applied.extend(record.topic for record in given if record.topic not in held)
        return held & {record.topic for record in given}

    group = f"g-{topic}"
    subscription = broker.subscribe(listener, [topic, other], group=group, receive=receive)
    await publish(settings.kafka, topic, [b"1", b"2"])
    await listener.start()
    try:
        async with asyncio.timeout(60):
            while tries < 2:
                await asyncio.sleep(0.02)
            await publish(settings.kafka, other, [b"3"])
            while other not in applied:
                await asyncio.sleep(0.02)
            assert applied == [other]
            [condition] = subscription.unmet_conditions()
            assert topic in condition
            assert _paused(topic) == 1
            lags = {TopicPartition(topic, number): Lag(0, 1) for number in range(3)}
            for watched in subscription.loops():
                assert watched.progress_by_key(BacklogSnapshot(database=True, kafka=True, lags=lags)) == {}
            healed.set()
            while len(applied) < 3:
                await asyncio.sleep(0.02)
            assert (applied, subscription.unmet_conditions()) == ([other, topic, topic], [])
            assert _paused(topic) == 0
    finally:
        await listener.stop()


def _paused(topic: str) -> float | None:
    return metrics.REGISTRY.get_sample_value("lightbulb_topic_paused", {"topic": topic})


async def test_a_paused_topic_loses_no_record_in_a_rebalance_or_a_restart(
    settings: Settings, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "PAUSE_SECONDS", 0.3)
    healed, applied, tries = asyncio.Event(), list[bytes](), [0, 0]

    async def member(number: int) -> KafkaBroker:
        async def receive(given: Sequence[KafkaRecord]) -> set[str]:
            tries[number] += 1
            if not healed.is_set():
                return {topic}
            applied.extend(record.value for record in given)
            return set()

        listener = broker.create(settings, name="t")
        broker.subscribe(listener, [topic], group=f"g-{topic}", receive=receive)
        await listener.start()
        return listener

    await publish(settings.kafka, topic, [b"%d" % number for number in range(20)])
    running = [await member(0)]
    try:
        async with asyncio.timeout(90):
            while tries[0] < 2:
                await asyncio.sleep(0.02)
            running.append(await member(1))
            before = tries[0]
            while tries[0] + tries[1] < before + 3:
                await asyncio.sleep(0.02)
            await running.pop(0).stop()
            healed.set()
            while len(applied) < 20:
                await asyncio.sleep(0.02)
    finally:
        for one in running:
            await one.stop()
    assert applied == [b"%d" % number for number in range(20)]


def test_a_topic_that_another_process_has_paused_is_not_a_stall(settings: Settings) -> None:
    subscription = broker.subscribe(broker.create(settings, name="t"), ["a", "b"], group="g", receive=_nothing)
    lags = {TopicPartition(name, 0): Lag(0, 1) for name in ("a", "b")}
    snapshot = BacklogSnapshot(database=True, kafka=True, lags=lags, paused=frozenset({"a"}))
    positions = [set(watched.progress_by_key(snapshot)) for watched in subscription.loops()]

    assert positions == [set(), {TopicPartition("b", 0)}]
    everything = subscription.loops()[1].progress_by_key(dataclasses.replace(snapshot, paused=frozenset()))
    assert set(everything) == set(lags)


async def _nothing(_: Sequence[KafkaRecord]) -> None:
    pass
