"""A hub's events are republished with their ids and bytes, in order for each person, before newer events of that person."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from aiokafka import TopicPartition
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.operations import republish
from infra.operations.audit_log import Operator
from schemas.model import Reference
from schemas.topics import CASE_EVENT, REFERRAL_EVENT
from services.messaging import outbox, packets
from services.messaging.outbox import OutboxMessage
from services.messaging.packets import Message
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


async def stored(engine: AsyncEngine, *, copies: bool, schema: str = "router", topic: str = BLABY) -> list[Message]:
    """Return the events of a topic in an outbox, the originals or the copies."""
    async with engine.connect() as tx:
        return [one.message for one in await packets.published(tx, schema, topic) if one.republished == copies]


def by_person(found: list[Message]) -> dict[str, list[Message]]:
    return {key: [one for one in found if one.person_key == key] for key in {one.person_key for one in found}}


def ids(found: list[Message]) -> list[tuple[str, str]]:
    return [(one.person_key, dict(one.headers)["ce_id"].decode()) for one in found]


async def test_every_event_of_the_hub_is_republished_unchanged_and_no_event_of_other_hubs(engine: AsyncEngine) -> None:
    await work(Router(engine), some_records(4), seed=5)
    await _published(engine)
    again = await republish.run(engine, BLABY, SINCE, BY)
    originals, copies = await stored(engine, copies=False), await stored(engine, copies=True)

    assert (again.events, again.persons) == (len(originals), 4)
    assert len(originals) > 4
    assert by_person(copies) == by_person(originals)
    assert await rows(engine, "select distinct targets from router.packet where published_at is null") == [([BLABY],)]
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
    assert await stored(engine, copies=True) == []


async def test_the_events_of_few_persons_are_held_at_a_time(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await work(Router(engine), some_records(8), seed=5)
    monkeypatch.setattr(republish, "PERSONS", 1)
    monkeypatch.setattr(republish, "PAGE", 2)
    selection = republish.Selection(republish.streams(BLABY))
    held = [len(page.by_person) async for page in republish.pages(engine, selection)]
    assert (max(held), sum(held)) == (2, 8)
    await republish.run(engine, BLABY, SINCE, BY)
    assert by_person(await stored(engine, copies=True)) == by_person(await stored(engine, copies=False))


async def test_a_repeated_republish_copies_only_originals_and_a_replay_is_still_equal(engine: AsyncEngine) -> None:
    await work(Router(engine), some_records(3), seed=5)
    counts = [(await republish.run(engine, BLABY, SINCE, BY)).events for _ in range(2)]

    assert counts[0] == counts[1]
    assert len(await stored(engine, copies=True)) == 2 * counts[0]
    assert (await proof(engine)).is_equal


async def test_republish_waits_for_concurrent_transactions_of_the_person(engine: AsyncEngine) -> None:
    """So that concurrent events are either copied in order, or published after the copies."""
    await work(Router(engine), some_records(1), seed=5)
    async with engine.begin() as tx:
        await tx.execute(text("select from router.person_key for update"))
        running = asyncio.create_task(republish.run(engine, BLABY, SINCE, BY))
        await _until_somebody_waits(engine)
        assert await stored(engine, copies=True) == []
        assert not running.done()
    await running
    assert len(await stored(engine, copies=True)) > 0


async def _published(engine: AsyncEngine) -> None:
    async with engine.begin() as tx:
        await tx.execute(text("update router.packet set published_at = now() where published_at is null"))


async def test_an_internal_topic_gets_what_its_reader_lacks_and_the_gap_is_resolved(engine: AsyncEngine) -> None:
    await work(Router(engine), some_records(3), seed=5)
    await _published(engine)
    place = TopicPartition(CASE_EVENT, 0)
    await positions.save(engine, "notifier", {}, [Gap(place, 0, 5)])
    events = ids(await stored(engine, copies=False, topic=CASE_EVENT))
    async with engine.begin() as tx:
        for key, event in events[:-4]:
            await tx.execute(
                text("insert into notifier.input (person_key, event_id) values (:key, :event)"),
                {"key": key, "event": event},
            )
    again = await republish.run(engine, CASE_EVENT, None, BY)

    assert sorted(ids(await stored(engine, copies=True, topic=CASE_EVENT))) == sorted(events[-4:])
    assert again.events == 4
    assert await rows(engine, "select topic from notifier.records_gone where resolved_at is null") == []
    assert (await republish.run(engine, CASE_EVENT, None, BY)).events == 0
    await _published(engine)
    assert (await republish.plan(engine, CASE_EVENT, None)).events == 4
    async with engine.begin() as tx:
        await tx.execute(text(_HOLD_ONE_COPY))
    assert (await republish.plan(engine, CASE_EVENT, None)).events == 3


_HOLD_ONE_COPY = """
    insert into router.packet_held (shard, target, id, places)
    select shard, 'case.event', id, '{0}' from router.packet where republished limit 1"""


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
        await tx.execute(text("update intake.packet set published_at = now()"))
    await Router(engine).apply(a_record(given[0].data, id="id-0", key=given[0].person_key))
    assert (await republish.run(engine, REFERRAL_EVENT, None, BY)).events == 2
    originals, copies = [
        await stored(engine, copies=one, schema="intake", topic=REFERRAL_EVENT) for one in (False, True)
    ]
    assert sorted(copies) == sorted(one for one in originals if b"id-0" not in dict(one.headers)["ce_id"])


async def _until_somebody_waits(engine: AsyncEngine) -> None:
    waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    async with asyncio.timeout(10):
        while await rows(engine, waiting) == [(0,)]:
            await asyncio.sleep(0.02)
