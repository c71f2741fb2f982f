"""A hub's events are republished with their ids and bytes, in order for each person, before newer events of that person."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from aiokafka import TopicPartition
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.operations import republish
from infra.operations.audit_log import Operator
from schemas.model import Reference
from schemas.topics import CASE_EVENT, REFERRAL_EVENT
from services.messaging import outbox
from services.messaging.outbox import OutboxMessage
from services.runtime import positions
from services.runtime.positions import Gap
from tests.builders.events import a_record, an_event, received
from tests.builders.referrals import a_referral, keys
from tests.conftest import emptying
from tests.operations.operator_actions import SINCE, actions
from tests.operations.replays import Router, proof, some_records, work
from tests.router.stored import rows

BLABY = "hub.blaby.case"
BY = Operator("A. Operator", "blaby was away")
ORIGINALS = "select id, person_key, headers, value from router.outbox where target = 'hub.blaby.case' and republished_from is null order by id"  # noqa: E501
COPIES = "select republished_from, person_key, headers, value from router.outbox where republished_from is not null order by id"


def by_person(found: list[tuple[Any, ...]]) -> dict[str, list[tuple[Any, ...]]]:
    return {key: [row for row in found if row[1] == key] for key in {row[1] for row in found}}


async def test_every_event_of_the_hub_is_republished_unchanged_and_no_event_of_other_hubs(engine: AsyncEngine) -> None:
    await work(Router(engine), some_records(4), seed=5)
    await _published(engine)
    again = await republish.run(engine, BLABY, SINCE, BY)
    originals, copies = await rows(engine, ORIGINALS), await rows(engine, COPIES)

    assert again.events == len(originals) > 4
    assert by_person(copies) == by_person(originals)
    assert await rows(engine, "select distinct target from router.outbox where published_at is null") == [
        ("hub.blaby.case",)
    ]
    assert [(action, who, why) for action, who, why, _ in await actions(engine)] == [
        ("republish", BY.operator, BY.reason)
    ]


async def test_only_events_since_the_given_time_are_republished_and_a_dry_run_changes_nothing(
    engine: AsyncEngine,
) -> None:
    await work(Router(engine), some_records(2), seed=5)
    later = datetime.now(UTC) + timedelta(hours=1)
    assert (await republish.plan(engine, BLABY, later)).events == 0
    assert (await republish.run(engine, BLABY, later, BY)).events == 0
    assert (await republish.plan(engine, BLABY, SINCE)).events > 0
    assert await rows(engine, COPIES) == []


async def test_a_repeated_republish_copies_only_originals_and_a_replay_is_still_equal(engine: AsyncEngine) -> None:
    await work(Router(engine), some_records(3), seed=5)
    counts = [(await republish.run(engine, BLABY, SINCE, BY)).events for _ in range(2)]

    assert counts[0] == counts[1]
    assert len(await rows(engine, COPIES)) == 2 * counts[0]
    assert (await proof(engine)).is_equal


async def test_republish_waits_for_concurrent_transactions_of_the_person(engine: AsyncEngine) -> None:
    """So that concurrent events are either copied in order, or published after the copies."""
    await work(Router(engine), some_records(1), seed=5)
    async with engine.begin() as tx:
        await tx.execute(text("select from router.person_key for update"))
        running = asyncio.create_task(republish.run(engine, BLABY, SINCE, BY))
        await _until_somebody_waits(engine)
        assert await rows(engine, COPIES) == []
        assert not running.done()
    await running
    assert len(await rows(engine, COPIES)) > 0


async def _published(engine: AsyncEngine) -> None:
    async with engine.begin() as tx:
        await tx.execute(text("update router.outbox set published_at = now()"))


async def test_an_internal_topic_gets_what_its_reader_lacks_and_the_gap_is_resolved(engine: AsyncEngine) -> None:
    await work(Router(engine), some_records(3), seed=5)
    await _published(engine)
    place = TopicPartition(CASE_EVENT, 0)
    await positions.save(engine, "notifier", {}, [Gap(place, 0, 5)])
    events = await rows(
        engine,
        "select person_key, headers::jsonb ->> 'ce_id' from router.outbox where target = 'case.event' order by id",
    )
    async with engine.begin() as tx:
        for key, event in events[:-4]:
            await tx.execute(
                text("insert into notifier.input (person_key, event_id) values (:key, :event)"),
                {"key": key, "event": event},
            )
    again = await republish.run(engine, CASE_EVENT, None, BY)

    copies = [(key, json.loads(headers)["ce_id"]) for _, key, headers, _ in await rows(engine, COPIES)]
    assert sorted(copies) == sorted(events[-4:])
    assert again.events == 4
    assert await rows(engine, "select topic from notifier.records_gone where resolved_at is null") == []
    assert (await republish.run(engine, CASE_EVENT, None, BY)).events == 0


async def test_referrals_that_the_router_lacks_are_published_again_with_their_ids_and_bytes(
    engine: AsyncEngine,
) -> None:
    async with engine.begin() as tx:
        await tx.execute(text(emptying("intake")))
    given = [
        an_event(received(Reference(f"LB-A-{number}"), a_referral()), id=f"id-{number}", key=key)
        for number, key in enumerate(keys(3))
    ]
    async with engine.begin() as tx:
        await outbox.add(tx, "intake", [OutboxMessage(REFERRAL_EVENT, one) for one in given])
        await tx.execute(text("update intake.outbox set published_at = now()"))
    await Router(engine).apply(a_record(given[0].data, id="id-0", key=given[0].person_key))
    assert (await republish.run(engine, REFERRAL_EVENT, None, BY)).events == 2
    kept = await rows(
        engine,
        """select copy.headers = origin.headers and copy.value = origin.value, origin.headers::jsonb ->> 'ce_id'
           from intake.outbox as copy join intake.outbox as origin on origin.id = copy.republished_from order by 2""",
    )
    assert kept == [(True, "id-1"), (True, "id-2")]


async def _until_somebody_waits(engine: AsyncEngine) -> None:
    waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    async with asyncio.timeout(10):
        while await rows(engine, waiting) == [(0,)]:
            await asyncio.sleep(0.02)
