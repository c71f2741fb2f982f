"""A hub's events go out again with their ids and bytes, in order for each person, before anything newer of that person."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.operations import republish
from infra.operations.audit_log import Operator
from tests.operations.operator_actions import SINCE, actions
from tests.operations.replays import Router, proof, some_records, work
from tests.router.stored import rows

BY = Operator("A. Operator", "blaby was away")
ORIGINALS = "select id, person_key, headers, value from router.outbox where target = 'hub.blaby.case' and republished_from is null order by id"  # noqa: E501
COPIES = "select republished_from, person_key, headers, value from router.outbox where republished_from is not null order by id"


def by_person(found: list[tuple[Any, ...]]) -> dict[str, list[tuple[Any, ...]]]:
    return {key: [row for row in found if row[1] == key] for key in {row[1] for row in found}}


async def test_every_event_of_the_hub_is_republished_unchanged_and_no_event_of_other_hubs(engine: AsyncEngine) -> None:
    await work(Router(engine), some_records(4), seed=5)
    async with engine.begin() as tx:
        await tx.execute(text("update router.outbox set published_at = now()"))
    again = await republish.run(engine, "blaby", SINCE, BY)
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
    assert (await republish.plan(engine, "blaby", later)).events == 0
    assert (await republish.run(engine, "blaby", later, BY)).events == 0
    assert (await republish.plan(engine, "blaby", SINCE)).events > 0
    assert await rows(engine, COPIES) == []


async def test_a_repeated_republish_copies_only_originals_and_a_replay_is_still_equal(engine: AsyncEngine) -> None:
    await work(Router(engine), some_records(3), seed=5)
    counts = [(await republish.run(engine, "blaby", SINCE, BY)).events for _ in range(2)]

    assert counts[0] == counts[1]
    assert len(await rows(engine, COPIES)) == 2 * counts[0]
    assert (await proof(engine)).is_equal


async def test_republish_waits_for_concurrent_transactions_of_the_person(engine: AsyncEngine) -> None:
    """So that what happens meanwhile is either copied in its order, or comes after the copies."""
    await work(Router(engine), some_records(1), seed=5)
    async with engine.begin() as tx:
        await tx.execute(text("select from router.person_key for update"))
        running = asyncio.create_task(republish.run(engine, "blaby", SINCE, BY))
        await _until_somebody_waits(engine)
        assert await rows(engine, COPIES) == []
        assert not running.done()
    await running
    assert len(await rows(engine, COPIES)) > 0


async def _until_somebody_waits(engine: AsyncEngine) -> None:
    waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    async with asyncio.timeout(10):
        while await rows(engine, waiting) == [(0,)]:
            await asyncio.sleep(0.02)
