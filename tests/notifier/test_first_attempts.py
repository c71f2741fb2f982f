"""New feedback is leased by the transaction that stores it, and attempted from memory after its commit, once."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.messaging import dead_letters
from services.notifier import circuits, delivery, leases
from services.notifier.channels import Delivered, DeliveryRequest, Outcome
from services.notifier.channels.mailbox import Mailbox
from services.notifier.circuits import OPENS_AFTER, Endpoint, Sighting
from services.notifier.leases import Acquired
from tests.notifier.builders import GP, a_life, by_gp, the_recipients
from tests.notifier.gp_system import Answer, GpSystem, outcome
from tests.notifier.running import Notifier, a_notifier, rows, until, until_rows

ACCEPTED = "select * from notifier.feedback where state = 'accepted' order by reference, ordinal"
WAITING = "select * from notifier.conversation where due_at is not null order by reference"


class HeldChannel(Mailbox):
    """Counts its attempts, which end when `released` is set."""

    def __init__(self) -> None:
        self.told: Counter[str] = Counter()
        self.released = asyncio.Event()

    async def deliver(self, request: DeliveryRequest) -> Outcome:
        self.told[request.feedback_id] += 1
        await self.released.wait()
        return Delivered()


async def compose(notifier: Notifier, *numbers: int) -> None:
    """Compose the home-hub feedback of each of these referrals, of different persons, in one batch."""
    await notifier.receive(
        *(a_life(by_gp(reference=f"LB-{number:04}"), f"life-{number}", f"{number:032x}")[1] for number in numbers)
    )


async def leased(engine: AsyncEngine) -> Sequence[Any]:
    return [row for row in await rows(engine, WAITING) if row.lease is not None]


async def test_new_feedback_is_delivered_without_a_statement_that_leases_it(
    engine: AsyncEngine, gp: GpSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_: object, **__: object) -> Acquired:
        return Acquired([], more=False)

    monkeypatch.setattr(leases, "acquire", nothing)
    async with a_notifier(engine, the_recipients({GP: gp.url})) as notifier:
        await compose(notifier, 1, 2)
        accepted = await until_rows(engine, ACCEPTED, 2)
        await compose(notifier, 3)
        await until_rows(engine, ACCEPTED, 3)
    assert [row.attempts for row in accepted] == [1, 1]
    assert all(count == 1 for count in gp.times.values())


async def test_new_feedback_has_the_lease_that_acquiring_it_would_give(engine: AsyncEngine) -> None:
    held = HeldChannel()
    of_lease = (
        "select person_key, attempts, first_attempt_at is not null, due_at - first_attempt_at, reason, next, last"
    )
    async with a_notifier(engine, the_recipients(), more={"fhir": held}) as notifier:
        await compose(notifier, 1)
        born = await rows(engine, f"{of_lease} from notifier.conversation where lease is not null")
        held.released.set()
        await until_rows(engine, ACCEPTED, 1)
    async with a_notifier(engine, the_recipients(), delivering=False) as notifier:
        await compose(notifier, 2)
        assert len((await notifier.delivery._acquire_leases(10)).leases) == 1
    acquired = await rows(engine, f"{of_lease} from notifier.conversation where lease is not null")
    for one in (*born, *acquired):
        assert tuple(one)[1:3] == (1, True)
        assert 29 < one[3].total_seconds() < 31
    assert [tuple(one)[4:] for one in born] == [tuple(one)[4:] for one in acquired]


async def test_nothing_is_attempted_before_the_commit_and_nothing_after_a_rollback(
    engine: AsyncEngine, gp: GpSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        await asyncio.sleep(0.1)
        assert gp.received == []
        raise ConnectionResetError

    async with a_notifier(engine, the_recipients({GP: gp.url})) as notifier:
        with monkeypatch.context() as patched:
            patched.setattr(dead_letters, "add", away)
            with pytest.raises(ConnectionResetError):
                await compose(notifier, 1)
        assert await rows(engine, "select * from notifier.feedback") == []
        await compose(notifier, 1)
        await until_rows(engine, ACCEPTED, 1)
        assert (notifier.delivery._reserved, notifier.delivery._by_recipient.total()) == (0, 0)
    assert len(gp.received) == 1


async def test_after_a_crash_between_commit_and_first_attempt_feedback_is_told_once_when_the_lease_ends(
    engine: AsyncEngine, gp: GpSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_notifier(engine, the_recipients({GP: gp.url}), lease_seconds=1.0) as dying:
        monkeypatch.setattr(dying.delivery, "_start", lambda lease: None)
        await compose(dying, 1)
    async with a_notifier(engine, the_recipients({GP: gp.url}), lease_seconds=1.0):
        [accepted] = await until_rows(engine, ACCEPTED, 1)
    assert len(gp.received) == 1
    assert accepted.attempts == 2
    assert (accepted.sent_at - accepted.first_attempt_at).total_seconds() >= 1.0


async def test_after_a_commit_so_slow_that_the_lease_may_end_first_feedback_is_told_once_when_it_has_ended(
    engine: AsyncEngine, gp: GpSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "FIRST_SECONDS", 0.0)
    async with a_notifier(engine, the_recipients({GP: gp.url}), lease_seconds=1.0) as notifier:
        await compose(notifier, 1)
        [accepted] = await until_rows(engine, ACCEPTED, 1)
        assert (notifier.delivery._reserved, notifier.delivery._by_recipient.total()) == (0, 0)
    assert len(gp.received) == 1
    assert (accepted.sent_at - accepted.first_attempt_at).total_seconds() >= 1.0


async def test_leased_feedback_is_not_given_to_another_process(engine: AsyncEngine) -> None:
    held = HeldChannel()
    async with (
        a_notifier(engine, the_recipients(), more={"fhir": held}) as one,
        a_notifier(engine, the_recipients(), more={"fhir": held}) as two,
    ):
        await compose(one, *range(20))
        await until(lambda: len(held.told) == 20)
        assert (await two.delivery._acquire_leases(100)).leases == []
        assert (await one.delivery._acquire_leases(100)).leases == []
        held.released.set()
        await until_rows(engine, ACCEPTED, 20)
    assert set(held.told.values()) == {1}


@pytest.mark.parametrize(("limit", "seconds"), [("EACH", 20), ("AT_ONCE", 20)])
async def test_a_transaction_leases_no_more_than_there_is_room_for(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch, limit: str, seconds: float
) -> None:
    monkeypatch.setattr(delivery, limit, 3)
    held = HeldChannel()
    async with a_notifier(engine, the_recipients(), more={"fhir": held}) as notifier:
        await compose(notifier, *range(2))
        await compose(notifier, *range(2, 8))
        assert len(await leased(engine)) == 3
        await until(lambda: len(held.told) == 3)
        held.released.set()
        await until_rows(engine, ACCEPTED, 8, seconds)
    assert set(held.told.values()) == {1}


async def test_feedback_to_an_endpoint_that_fails_waits_for_its_circuit(engine: AsyncEngine) -> None:
    held, endpoint = HeldChannel(), Endpoint("fhir", GP)
    async with a_notifier(engine, the_recipients(), more={"fhir": held}) as notifier:
        for failures in (
            [Sighting(endpoint, "LB-1", False, "http 429", 600.0)],
            [_failure(n) for n in range(OPENS_AFTER)],
        ):
            async with engine.begin() as tx:
                await tx.execute(text("delete from notifier.endpoint"))
                await circuits.record(tx, failures)
            await compose(notifier, len(failures))
            assert await leased(engine) == []
        [one, *_] = await rows(engine, WAITING)
        assert (one.attempts, one.first_attempt_at, one.due_at == one.due_since) == (0, None, True)
    assert held.told == {}


def _failure(number: int) -> Sighting:
    return Sighting(Endpoint("fhir", GP), f"LB-{number}", False, "http 503")


async def test_feedback_waits_behind_an_earlier_one_of_its_conversation(engine: AsyncEngine) -> None:
    held, life = HeldChannel(), a_life(by_gp(), "life")
    async with a_notifier(engine, the_recipients(), more={"fhir": held}) as notifier:
        await notifier.receive(life[1])
        [first] = await leased(engine)
        await notifier.receive(life[2])
        [both] = await leased(engine)
        assert (both.lease, both.due_at, both.attempts, both.last) == (first.lease, first.due_at, 1, 2)
        assert len(held.told) == 1
        held.released.set()
        await until_rows(engine, ACCEPTED, 2)
    assert set(held.told.values()) == {1}


async def test_feedback_composed_after_a_final_failure_states_the_whole_position(
    engine: AsyncEngine, gp: GpSystem
) -> None:
    life = a_life(by_gp(), "life")
    gp.first(Answer(422, outcome("invalid")))
    async with a_notifier(engine, the_recipients({GP: gp.url})) as notifier:
        await notifier.receive(life[1])
        await until_rows(engine, "select * from notifier.feedback where state = 'failed'", 1)
        await notifier.receive(life[2])
        await until_rows(engine, ACCEPTED, 1)
    assert b"An earlier message about this referral could not be delivered" in gp.received[-1][1]


async def test_feedback_with_a_known_outcome_is_not_attempted(engine: AsyncEngine, gp: GpSystem) -> None:
    life = a_life(by_gp(), "life")
    async with a_notifier(engine, the_recipients({GP: gp.url}), delivering=False) as before:
        await before.receive(life[1])
    async with engine.begin() as tx:  # what an older database lacks, and feedback.event says
        known = "insert into notifier.known_outcome select person_key, feedback_id, 'accepted', null, now() from notifier.feedback"
        await tx.execute(text(known))
        for table in ("feedback", "conversation", "input"):
            await tx.execute(text(f"delete from notifier.{table}"))
    async with a_notifier(engine, the_recipients({GP: gp.url})) as notifier:
        await notifier.receive(*life)
        await until_rows(engine, ACCEPTED, 2)
    assert gp.told == ["completed"]
