"""The schedule on real PostgreSQL: each overdue discharge is published once, by one of any number of processes."""

import asyncio
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from schemas.events import ReportDeath, Transfer, WithdrawDeathReport
from schemas.referral import HospitalStay, Referral
from schemas.topics import REFERRAL_EVENT
from services.messaging.cloudevents import KafkaRecord
from services.router import overdue, store
from services.router.overdue import OverdueDischarges
from tests.builders.events import NOW, TODAY, a_command, a_record, cancelled, received, updated
from tests.builders.referrals import WARD, a_ward_referral, keys, reference
from tests.router.stored import apply, case_id, events, rows, sent

HOSPITAL = "hospital-housing"
LAST_WEEK, TOMORROW = TODAY - timedelta(days=5), TODAY + timedelta(days=1)
DUE = "select reference, overdue_on from router.referral where overdue_on is not null order by reference"


def a_schedule(engine: AsyncEngine, now: datetime = NOW) -> OverdueDischarges:
    return OverdueDischarges(engine, seconds=600, clock=lambda: now)


def expected(on: date, **given: Any) -> Referral:
    return a_ward_referral(expected_discharge_on=on, **given)


async def published(engine: AsyncEngine) -> list[KafkaRecord]:
    """Return the records that a relay publishes for the schedule."""
    return [
        KafkaRecord(one.target, 0, number, one.person_key.encode(), one.value, one.headers)
        for number, one in enumerate(await sent(engine, target=REFERRAL_EVENT))
    ]


@pytest.mark.parametrize(("days", "count"), [(0, 0), (1, 0), (2, 1), (3, 1)])
async def test_a_discharge_is_overdue_two_days_after_its_expected_date(
    engine: AsyncEngine, days: int, count: int
) -> None:
    await apply(engine, a_record(received(WARD, expected(TODAY))))

    assert await a_schedule(engine, NOW + timedelta(days=days)).publish_due() == count
    assert len(await published(engine)) == count


async def test_the_hospital_team_gets_one_task_for_each_expected_date(engine: AsyncEngine) -> None:
    await apply(engine, a_record(received(WARD, expected(LAST_WEEK))))
    assert [await a_schedule(engine).publish_due() for _ in range(2)] == [1, 0]
    (record,) = await published(engine)
    await apply(engine, record, record)
    await apply(engine, a_record(updated(WARD, expected(LAST_WEEK, priority="urgent"))))
    assert await a_schedule(engine).publish_due() == 0
    assert (await events(engine)).count("task-raised") == 1

    await apply(engine, a_record(updated(WARD, expected(LAST_WEEK + timedelta(days=1)), version=3)))
    assert await a_schedule(engine).publish_due() == 1
    await apply(engine, (await published(engine))[-1])
    assert (await events(engine)).count("task-raised") == 2
    tasks = [message.target for message in await sent(engine, kind="task-raised")]
    assert tasks == ["case.event", f"hub.{HOSPITAL}.case"] * 2


async def test_an_event_that_is_published_again_has_the_same_id(engine: AsyncEngine) -> None:
    ids = []
    for _ in range(2):
        await apply(engine, a_record(received(WARD, expected(LAST_WEEK))))
        await a_schedule(engine).publish_due()
        ids.append(dict((await published(engine))[-1].headers)["ce_id"])
        async with engine.begin() as tx:
            await tx.execute(text('truncate router.referral, router."case", router.person, router.input'))

    assert ids[0] == ids[1]


async def test_the_event_of_a_stay_that_has_ended_meanwhile_raises_no_task(engine: AsyncEngine) -> None:
    await apply(engine, a_record(received(WARD, expected(LAST_WEEK))))
    await a_schedule(engine).publish_due()
    await apply(engine, a_record(updated(WARD, expected(LAST_WEEK, discharged_on=TODAY))), *await published(engine))

    assert "task-raised" not in await events(engine)


MOVED = HospitalStay(site="LRI", moved_to="Kettering General Hospital")


@pytest.mark.parametrize(
    "over",
    [
        a_record(updated(WARD, expected(LAST_WEEK, discharged_on=TODAY))),
        a_record(updated(WARD, expected(LAST_WEEK, discharged_on=TODAY, hospital=MOVED))),
        a_record(updated(WARD, expected(LAST_WEEK, hospital=HospitalStay(site="LRI", admission_cancelled=True)))),
        a_record(updated(WARD, expected(TOMORROW))),
        a_record(cancelled(WARD)),
    ],
    ids=["discharged", "moved", "admission cancelled", "expected later", "cancelled"],
)
async def test_nothing_is_overdue_once_the_hospital_has_given_word(engine: AsyncEngine, over: KafkaRecord) -> None:
    await apply(engine, a_record(received(WARD, expected(LAST_WEEK))), over)

    assert await a_schedule(engine).publish_due() == 0


async def test_nothing_is_overdue_once_the_team_has_handed_over(engine: AsyncEngine) -> None:
    await apply(engine, a_record(received(WARD, expected(LAST_WEEK))))
    await apply(engine, a_command(HOSPITAL, Transfer, await case_id(engine), to_hub="blaby"))

    assert await rows(engine, DUE) == []


async def test_a_reported_death_stops_the_clock_until_it_is_withdrawn(engine: AsyncEngine) -> None:
    await apply(engine, a_record(received(WARD, expected(LAST_WEEK))))
    await apply(engine, a_command(HOSPITAL, ReportDeath, await case_id(engine)))
    assert await a_schedule(engine).publish_due() == 0

    await apply(engine, a_command(HOSPITAL, WithdrawDeathReport, await case_id(engine), expected_version=3))
    assert await a_schedule(engine).publish_due() == 1


async def test_a_batch_that_holds_the_person_key_is_not_waited_for(engine: AsyncEngine) -> None:
    await apply(engine, a_record(received(WARD, expected(LAST_WEEK))))
    async with engine.begin() as tx:
        await tx.execute(text("select from router.person_key for update"))
        assert await a_schedule(engine).publish_due() == 0

    assert await a_schedule(engine).publish_due() == 1


async def test_several_schedules_publish_each_event_once_in_bounded_rounds(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overdue, "ROUND", 7)
    count = 60
    await apply(
        engine,
        *(
            a_record(received(reference(number), expected(LAST_WEEK)), key=key)
            for number, key in enumerate(keys(count))
        ),
    )
    schedules = [a_schedule(engine) for _ in range(4)]
    async with asyncio.timeout(60):
        while await rows(engine, DUE):
            await asyncio.gather(*(schedule.publish_due() for schedule in schedules))

    ids = [dict(record.headers)["ce_id"] for record in await published(engine)]
    assert (len(ids), len(set(ids))) == (count, count)


async def test_the_statement_reads_only_what_is_due(engine: AsyncEngine) -> None:
    """Its cost does not grow with the referrals that are stored."""
    await apply(
        engine,
        *(a_record(received(reference(number), a_ward_referral()), key=key) for number, key in enumerate(keys(300))),
    )
    async with engine.begin() as tx:
        await tx.execute(text("analyze router.referral"))
        given = {"today": TODAY, "limit": overdue.ROUND}
        plan = "\n".join(await tx.scalars(text(f"explain {store._TAKE_OVERDUE.text}"), given))
    assert "referral_overdue" in plan
    assert "Seq Scan on referral" not in plan
