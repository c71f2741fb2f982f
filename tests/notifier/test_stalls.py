"""A deliverer that gets no further is ended; one whose carrier is slow is left alone."""

import asyncio

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from services.notifier import backlog
from services.notifier.channels import Delivered, DeliveryRequest, Outcome, Rendered
from services.notifier.compose import Feedback
from services.notifier.delivery import Deliverer
from services.runtime import watchdog
from services.runtime.backlog import BacklogSnapshot
from services.runtime.watchdog import Stalled, Watchdog
from tests.notifier.builders import GP, a_life, by_gp, the_recipients
from tests.notifier.running import WORDS, a_notifier, rows, until_rows

ACCEPTED = "select * from notifier.feedback where state = 'accepted'"


@pytest.fixture(autouse=True)
def this_process_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "force_exit", lambda seconds: None)


class DatabaseOnly:
    """Looks at the database; Kafka always answers."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def poll(self) -> BacklogSnapshot:
        async with self._engine.connect() as connection:
            return BacklogSnapshot(database=True, kafka=True, due=await backlog.measure(connection))

    async def close(self) -> None: ...


class Carrier:
    """Takes so many seconds for each parcel."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def render(self, feedback: Feedback) -> Rendered:
        raise NotImplementedError

    async def deliver(self, parcel: DeliveryRequest) -> Outcome:
        await asyncio.sleep(self._seconds)
        return Delivered()


async def composed(engine: AsyncEngine, referrals: int) -> None:
    async with a_notifier(engine, the_recipients({GP: "http://127.0.0.1:9/"}), delivering=False) as notifier:
        for number in range(referrals):
            await notifier.hears(*a_life(by_gp(reference=f"LB-{number}"), f"life {number}"))


async def delivered_by(engine: AsyncEngine, carrier: Carrier, seconds: float, wanted: int) -> None:
    """Deliver until `wanted` feedbacks are accepted; raise Stalled if the watchdog stops the process."""
    delivery = Deliverer(engine, {"fhir": carrier}, WORDS, lease_seconds=20)
    dog = Watchdog(DatabaseOnly(engine), [delivery.loop()], seconds=seconds)  # type: ignore[arg-type]
    running = [asyncio.create_task(delivery.run()), asyncio.create_task(dog.run())]
    accepted = asyncio.create_task(until_rows(engine, ACCEPTED, wanted, 30))
    try:
        done, _ = await asyncio.wait([*running, accepted], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (*running, accepted):
            task.cancel()
        await asyncio.gather(*running, accepted, return_exceptions=True)
    for task in done:
        task.result()


async def test_a_notifier_whose_attempts_never_end_is_stopped(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def not_at_all(_: object) -> None: ...

    monkeypatch.setattr(Deliverer, "_finish", not_at_all)
    await composed(engine, 1)
    with pytest.raises(Stalled, match="deliverer"):
        await delivered_by(engine, Carrier(3600), 0.5, wanted=1)


async def test_a_notifier_that_no_longer_leases_feedback_is_stopped(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Deliverer, "_acquire_leases", never)
    await composed(engine, 1)
    with pytest.raises(Stalled, match="deliverer"):
        await delivered_by(engine, Carrier(0), 0.5, wanted=1)


async def test_a_notifier_with_a_slow_channel_is_not_stopped(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.notifier.delivery.EACH", 1)  # one after the other
    await composed(engine, 3)
    await delivered_by(engine, Carrier(0.7), 2.5, wanted=6)
    assert len(await rows(engine, ACCEPTED)) == 6
