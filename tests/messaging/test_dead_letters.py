"""A dead letter is stored with its bytes and offset; it is resubmitted on request, in order and once, by any process."""

import asyncio
from collections.abc import Sequence

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.messaging import dead_letters, resubmit
from services.messaging.cloudevents import KafkaRecord
from services.messaging.dead_letters import DeadLetter
from services.messaging.resubmit import ReleasableLetter


def a_record(offset: int, value: bytes = b"\xff\x00", id: bytes | None = b"e") -> KafkaRecord:
    return KafkaRecord("t", 1, offset, b"k", value, (("ce_id", id),))  # type: ignore[arg-type]  # Kafka has null headers


def parked(offset: int, *message_groups: str, waiting: bool = False, record: KafkaRecord | None = None) -> DeadLetter:
    return DeadLetter(
        record or a_record(offset, id=None), "p", message_groups or ("LB-1",), "ValueError", None, waiting
    )


async def park(engine: AsyncEngine, *parkings: DeadLetter) -> None:
    async with engine.begin() as tx:
        await dead_letters.add(tx, "tried", parkings)


async def ask(engine: AsyncEngine, *offsets: int) -> None:
    async with engine.begin() as tx:
        await tx.execute(
            text("""update tried.dead_letter set resubmit_at = now() where "offset" = any(:offsets)"""),
            {"offsets": list(offsets)},
        )


async def ready(engine: AsyncEngine) -> list[ReleasableLetter]:
    async with engine.begin() as tx:
        return await resubmit.ready(tx, "tried")


async def resolve(engine: AsyncEngine, rows: Sequence[ReleasableLetter], resolution: str = "applied") -> None:
    async with engine.begin() as tx:
        await resubmit.resolve(tx, "tried", await resubmit.take(tx, "tried", rows), resolution)


def offsets(rows: Sequence[ReleasableLetter]) -> list[int]:
    return [row.record.offset for row in rows]


async def test_a_dead_letter_is_stored_once_with_its_bytes_and_its_group_waits(engine: AsyncEngine) -> None:
    one = parked(7, record=a_record(7))
    await park(engine, one, one)
    await park(engine, one)
    async with engine.begin() as tx:
        standing = await dead_letters.status_of(tx, "tried", [("p", "LB-1"), ("q", "LB-1")], [])
        rows = (await tx.execute(text("select value, attempts, event_id from tried.dead_letter"))).all()
    assert standing.message_groups == {("p", "LB-1")}
    assert [tuple(row) for row in rows] == [(b"\xff\x00", 2, "e")]


async def test_null_and_invalid_headers_are_restored_unchanged(engine: AsyncEngine) -> None:
    record = KafkaRecord("t", 0, 1, None, b"", (("a", None), ("b", b"\xff\x00"), ("c", b"")))  # type: ignore[arg-type]
    await park(engine, parked(1, record=record))
    await ask(engine, 1)
    assert (await ready(engine))[0].record == record


async def test_another_record_at_the_same_offset_is_a_separate_dead_letter(engine: AsyncEngine) -> None:
    """A topic that was created again begins at offset 0."""
    await park(engine, parked(1), parked(1, record=a_record(1, b"another")))
    async with engine.connect() as connection:
        assert await connection.scalar(text("select count(*) from tried.dead_letter")) == 2


async def test_no_dead_letter_is_resubmitted_without_a_request(engine: AsyncEngine) -> None:
    await park(engine, parked(1), parked(2, waiting=True))
    assert await ready(engine) == []


async def test_waiting_records_follow_the_first_of_their_group_one_by_one(engine: AsyncEngine) -> None:
    await park(engine, parked(1), parked(2, waiting=True), parked(3, waiting=True), parked(4, "LB-2"))
    await ask(engine, 1)
    seen = []
    while rows := await ready(engine):
        seen.append(offsets(rows))
        await resolve(engine, rows)
    assert seen == [[1], [2], [3]]


async def test_one_dead_letter_can_block_several_groups(engine: AsyncEngine) -> None:
    await park(
        engine,
        parked(1, "LB-1", "LB-2"),
        parked(2, "LB-2", waiting=True),
        parked(3, "LB-3", "LB-1", waiting=True),
        parked(4, "LB-4"),
    )
    await ask(engine, 4)
    assert offsets(await ready(engine)) == [4]
    await ask(engine, 1)
    assert offsets(await ready(engine)) == [1, 4]
    await resolve(engine, (await ready(engine))[:1])
    assert offsets(await ready(engine)) == [2, 3, 4]


async def test_a_dead_letter_that_fails_again_has_the_new_reason_and_waits_for_the_next_resubmit(
    engine: AsyncEngine,
) -> None:
    await park(engine, parked(1), parked(2, waiting=True))
    await ask(engine, 1)
    [row] = await ready(engine)
    async with engine.begin() as tx:
        await resubmit.reject_resubmitted(tx, "tried", row, DeadLetter(row.record, "p", ("LB-1",), "another"))
    assert await ready(engine) == []
    async with engine.connect() as connection:
        found = (await connection.execute(text("select reason, attempts from tried.dead_letter order by id"))).first()
    assert found == ("another", 2)


async def test_the_latest_edit_is_applied_instead_of_the_original(engine: AsyncEngine) -> None:
    await park(engine, parked(1))
    await ask(engine, 1)
    async with engine.begin() as tx:
        for value in (b"first", b"second"):
            await tx.execute(
                text("""insert into tried.dead_letter_edit (person_key, dead_letter_id, headers, value, operator, reason)
                        select person_key, id, :headers, :value, 'w', 'y' from tried.dead_letter"""),
                {"headers": dead_letters.encode_headers((("ce_id", b"x"),)), "value": value},
            )
    assert (await ready(engine))[0].record == KafkaRecord("t", 1, 1, b"k", b"second", (("ce_id", b"x"),))


async def test_a_dead_letter_is_taken_by_one_of_two_processes(engine: AsyncEngine) -> None:
    await park(engine, *(parked(number, f"LB-{number}") for number in range(20)))
    await ask(engine, *range(20))
    rows = await ready(engine)

    async def take() -> int:
        async with engine.begin() as tx:
            taken = await resubmit.take(tx, "tried", rows)
            await resubmit.resolve(tx, "tried", taken, "applied")
            return len(taken)

    assert sorted(await asyncio.gather(take(), take(), take())) == [0, 0, 20]


async def test_a_redelivered_record_that_was_resolved_needs_no_work(engine: AsyncEngine) -> None:
    """And every repeat of a discarded one, wherever it stands; another person's event of the same id is not."""
    await park(engine, parked(1), parked(2, "LB-2", record=a_record(2, id=b"gone")), parked(3, "LB-3"))
    await ask(engine, 1, 2)
    rows = await ready(engine)
    await resolve(engine, rows[:1])
    await resolve(engine, rows[1:], "discarded")
    brought = [a_record(1, id=None), a_record(9, b"again", id=b"gone"), a_record(3, id=None), a_record(1, b"other")]
    async with engine.begin() as tx:
        standing = await dead_letters.status_of(tx, "tried", [], [("p", record) for record in brought])
    assert [standing.is_closed("p", record) for record in brought] == [True, True, False, False]
    assert not standing.is_closed("q", brought[1])


async def test_resubmission_continues_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resubmit, "RESUBMIT_SECONDS", 0.001)
    answers = iter([ConnectionError(), 0, TimeoutError()])
    tried = asyncio.Event()

    async def release() -> int:
        answer = next(answers, None)
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            tried.set()
        return 0

    going_on = asyncio.create_task(resubmit.run_resubmitter(release))
    await asyncio.wait_for(tried.wait(), 10)
    assert not going_on.done()
    going_on.cancel()
