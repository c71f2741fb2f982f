"""A replay composes the same feedback again, bytes and ids, and sends nothing; what was not told stays untold."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.operate import edits, finding, replay_notifier
from infra.operate.finding import Filters
from infra.operate.recorded import By
from infra.operate.replay import Proof
from infra.operate.replay_notifier import Composing
from schemas.topics import CASE_EVENT
from services.messaging.cloudevents import Record
from services.notifier import feedback as decisions
from services.notifier.channels.mailbox import Mailbox
from tests.notifier.builders import the_recipients
from tests.notifier.running import WORDS, Notifier
from tests.operate.test_quarantine import discard, resubmit
from tests.operate.test_replay_router import Router, some_records, work

CHANNELS = {"fhir": Mailbox(), "mailbox": Mailbox(), "mesh": Mailbox()}


async def proof(engine: AsyncEngine) -> Proof:
    url = engine.url.render_as_string(hide_password=False)
    return await replay_notifier.run(url, Composing(the_recipients(), WORDS, CHANNELS), lambda done, of: None)


async def published(engine: AsyncEngine) -> list[Record]:
    """What the router's relay would have put on case.event."""
    async with engine.connect() as connection:
        rows = await connection.execute(
            text("select id, person_key, headers, value from router.outbox where target = 'case.event' order by id")
        )
        return [
            Record(CASE_EVENT, 0, row.id, row.person_key.encode(), row.value, tuple(_headers(row.headers)))
            for row in rows
        ]


def _headers(kept: str) -> Sequence[tuple[str, bytes]]:
    return [(name, value.encode()) for name, value in json.loads(kept).items()]


@pytest.fixture
async def events(engine: AsyncEngine) -> list[Record]:
    await work(Router(engine), some_records(5), seed=3)
    return await published(engine)


def a_notifier(engine: AsyncEngine) -> Notifier:
    return Notifier(engine, the_recipients(), CHANNELS)


async def count(engine: AsyncEngine, query: str) -> Any:
    async with engine.connect() as connection:
        return await connection.scalar(text(query))


async def test_the_same_feedback_is_composed_again_and_nothing_is_sent(
    engine: AsyncEngine, events: list[Record]
) -> None:
    await a_notifier(engine).receiver.receive(events)
    told = await count(engine, "select count(*) from notifier.feedback")
    before = await count(engine, "select count(*) from notifier.outbox")
    found = await proof(engine)

    assert told > 6
    assert found.is_equal, found.differing
    assert found.inputs == len(events)
    assert await count(engine, "select count(*) from notifier.outbox") == before


async def test_what_the_notifier_did_not_take_in_yet_is_not_told(engine: AsyncEngine, events: list[Record]) -> None:
    await a_notifier(engine).receiver.receive(events[:10])
    found = await proof(engine)

    assert (found.is_equal, found.inputs) == (True, 10)


async def test_a_key_that_differs_is_named_with_its_table(engine: AsyncEngine, events: list[Record]) -> None:
    await a_notifier(engine).receiver.receive(events)
    async with engine.connect() as connection:
        one, two, three = await connection.scalars(
            text("select distinct person_key from notifier.feedback order by 1 limit 3")
        )
    async with engine.begin() as tx:
        body = "update notifier.feedback set body = body || 'x'::bytea where ordinal = 1 and person_key = :key"
        await tx.execute(text(body), {"key": one})
        recipient = "update notifier.feedback set recipient = 'another' where ordinal = 1 and person_key = :key"
        await tx.execute(text(recipient), {"key": two})
        await tx.execute(text("update notifier.conversation set last = 9 where person_key = :key"), {"key": three})

    assert (await proof(engine)).differing == ((one, ("feedback",)), (two, ("feedback",)), (three, ("conversation",)))


async def test_a_feedback_that_restated_the_position_is_the_same_feedback(
    engine: AsyncEngine, events: list[Record]
) -> None:
    await a_notifier(engine).receiver.receive(events)
    async with engine.begin() as tx:
        await tx.execute(
            text(
                """update notifier.feedback set said = said || '{"restates": true}', body = 'other' where ordinal = 2"""
            )
        )
    assert (await proof(engine)).is_equal


@pytest.fixture
def second_event_of(events: list[Record]) -> Record:
    """An event about two referrals, if there is one, else any with a later one of the same person."""
    concerned = [record for record in events if record.value.count(b'"feedback_consent"') > 1]
    return concerned[0] if concerned else events[1]


async def test_what_was_discarded_or_is_parked_stays_untold(
    engine: AsyncEngine, events: list[Record], second_event_of: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one event about two referrals one could not be told: its later ones wait, the other's are told."""
    bad = json.loads(second_event_of.value)["concerns"][-1]["reference"]
    bad_id = dict(second_event_of.headers)["ce_id"].decode()
    compose = decisions.compose_for

    def composing(event: Any, concern: Any, *given: Any) -> Any:
        if event.id == bad_id and concern.reference == bad:
            raise KeyError
        return compose(event, concern, *given)

    notifier = a_notifier(engine)
    with monkeypatch.context() as patched:
        patched.setattr(decisions, "compose_for", composing)
        await notifier.receiver.receive(events)
    assert await count(engine, "select count(*) from notifier.quarantine") > 0
    assert (await proof(engine)).is_equal
    head = [row for row in await finding.find(engine, Filters()) if not row.waiting]
    await discard(engine, head)
    await notifier.receiver.release()
    assert await count(engine, "select count(*) from notifier.quarantine where resolved_at is null") == 0
    assert (await proof(engine)).is_equal


async def test_an_edited_event_is_told_as_it_was_edited(engine: AsyncEngine, events: list[Record]) -> None:
    at = next(place for place, record in enumerate(events) if b"case.assigned" in dict(record.headers)["ce_type"])
    data = json.loads(events[at].value)
    broken = dataclasses.replace(events[at], value=json.dumps({**data, "case_id": 1}).encode())
    data["concerns"][0]["referral_id"] = "corrected"
    notifier = a_notifier(engine)
    await notifier.receiver.receive([*events[:at], broken, *events[at + 1 :]])
    [row, *_] = await finding.find(engine, Filters())
    await resubmit(engine, [await edits.edit(engine, row, json.dumps(data).encode(), {}, By("w", "y"))])
    await notifier.receiver.release()

    assert await count(engine, "select count(*) from notifier.feedback where said ->> 'referral_id' = 'corrected'") > 0
    assert (await proof(engine)).is_equal


async def test_what_cannot_be_composed_in_the_replay_is_a_difference(
    engine: AsyncEngine, events: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    await a_notifier(engine).receiver.receive(events)

    def failing(*_: Any) -> Any:
        raise KeyError

    monkeypatch.setattr(decisions, "compose_for", failing)
    found = await proof(engine)

    assert (found.is_equal, found.left_out) == (False, 0)
