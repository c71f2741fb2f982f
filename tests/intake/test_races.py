"""Processes that get the same new referral, id or name at the same time: one is first, and the others judge again."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from services.intake import limits, store
from tests.intake.conversations import Message, fault, named, sent
from tests.intake.running import InProcess, Installation, Reply, events, reference_of, rows

PROCESSES = 8


@pytest.fixture
async def processes(
    installation: Installation, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[list[InProcess]]:
    """Processes whose senders wait for as long as a busy machine takes."""
    monkeypatch.setattr(limits, "HTTP_ANSWER_SECONDS", 60.0)
    monkeypatch.setattr(limits, "COMMIT_SECONDS", 60.0)
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(InProcess(installation, engine)) for _ in range(PROCESSES)]


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many attempts there were, and how many of them another process won."""
    record, counted = store.record, Counter[str]()

    async def counting(*given: object) -> object:
        counted["all"] += 1
        try:
            return await record(*given)  # type: ignore[arg-type]
        except store.ConcurrentUpdate:
            counted["lost"] += 1
            raise

    monkeypatch.setattr(store, "record", counting)
    return counted


async def test_new_referrals_that_every_process_gets_at_once_in_another_order_are_one_referral_each(
    processes: list[InProcess], engine: AsyncEngine, attempts: Counter[str]
) -> None:
    """A batch may lose once for each of the other processes, and is then answered: no sender is told to come again."""
    messages = [named(id=f"r-{number}", bundle=f"b-{number}", seed=number) for number in range(8)]
    ids, order = [str(uuid4()) for _ in messages], random.Random(17)
    sending = [
        (number, sent(intake, messages[number], request_id=ids[number]))
        for intake in processes
        for number in order.sample(range(len(messages)), len(messages))
    ]
    replies = await asyncio.gather(*(reply for _, reply in sending))
    answered: dict[int, list[Reply]] = {}
    for (number, _), reply in zip(sending, replies, strict=True):
        answered.setdefault(number, []).append(reply)
    assert len(answered) == len(messages)
    for each in answered.values():
        assert Counter(reply.status for reply in each) == {200: 1, 409: PROCESSES - 1}
        assert {fault(reply) for reply in each if reply.status == 409} == {(409, "duplicate")}
        (reference,) = {reference_of(reply) for reply in each}
        assert [event["version"] for event in await events(engine, reference)] == [1]
    assert attempts["lost"] > 0, "no process met another"
    assert limits.COMMIT_ATTEMPTS > PROCESSES


@pytest.mark.parametrize("round_", range(3))
async def test_a_name_that_two_new_referrals_give_at_once_is_of_the_first_and_the_other_is_a_conflict(
    processes: list[InProcess], engine: AsyncEngine, round_: int
) -> None:
    def message(number: int) -> Message:
        return named(id=f"r-{number}", bundle=f"b-{round_}", seed=number, family=f"Name{number}")

    replies = await asyncio.gather(*(sent(intake, message(number)) for number, intake in enumerate(processes)))
    assert Counter(map(outcome, replies)) == {"accepted": 1, "conflict": PROCESSES - 1}
    assert len(await rows(engine, "select 1 from intake.referral")) == 1


def outcome(reply: Reply) -> str:
    return "accepted" if reply.status == 200 else fault(reply)[1]


async def test_a_url_that_several_new_referrals_give_at_once_finds_none_of_them(
    processes: list[InProcess], engine: AsyncEngine
) -> None:
    url = "urn:uuid:236bb75d-90ef-461f-b71e-fde7f899802c"
    replies = await asyncio.gather(
        *(sent(intake, named(url=url, seed=at, family=f"Name{at}")) for at, intake in enumerate(processes))
    )
    assert {reply.status for reply in replies} == {200}
    assert len({reference_of(reply) for reply in replies}) == PROCESSES
    assert fault(await sent(processes[0], named(url=url, reason="update", family="Name0"))) == (409, "multiple-matches")
    kept = await rows(engine, "select url_is_shared from intake.message_key where url_name is not null")
    assert [row.url_is_shared for row in kept] == [True]


async def test_further_names_of_a_kind_have_rows_of_their_own_and_each_finds_the_referral(
    processes: list[InProcess], engine: AsyncEngine
) -> None:
    numbers = [{"system": "https://alder.example/ids", "value": f"A-{number}"} for number in range(3)]
    first = named(bundle="b-1", sent_at="2026-11-05T09:00:00Z")
    first["entry"][1]["resource"]["identifier"] = numbers
    reference = reference_of(await sent(processes[0], first))
    for hour, number in enumerate(numbers, start=10):
        update = named(identifier=number, reason="update", family=f"Name{hour}", sent_at=f"2026-11-05T{hour}:00:00Z")
        assert (await sent(processes[hour % 2], update)).status == 200
    assert [event["version"] for event in await events(engine, reference)] == [1, 2, 3, 4]
    of_first = await rows(
        engine,
        "select message_name is not null as is_first, identifier_name from intake.message_key where identifier_name is not null",
    )
    assert Counter(row.is_first for row in of_first) == {True: 1, False: 2}


async def test_a_repeat_that_is_decided_after_a_later_message_was_accepted_is_a_repeat(
    processes: list[InProcess], engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids are read before the referral is locked. Meanwhile another process accepts the same message, and one that changes the referral."""
    message, request = named(id="r-1", bundle="b-1", sent_at="2026-11-05T09:00:00Z"), str(uuid4())
    later = named(id="r-1", reason="update", family="Later", sent_at="2026-11-05T10:00:00Z")
    read_keys, waiting = store.read_keys, [(message, request), (later, str(uuid4()))]
    statuses: list[int] = []

    async def reading(*given: object) -> object:
        found = await read_keys(*given)  # type: ignore[arg-type]
        while waiting:
            one, id_ = waiting.pop(0)
            now, waiting[:] = waiting[:], []
            statuses.append((await sent(processes[1], one, request_id=id_)).status)
            waiting[:] = now
        return found

    monkeypatch.setattr(store, "read_keys", reading)
    assert fault(await sent(processes[0], message, request_id=request)) == (409, "duplicate")
    assert statuses == [200, 200]
