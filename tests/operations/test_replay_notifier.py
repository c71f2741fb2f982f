"""A replay composes the same feedback again, bytes and ids, and sends nothing; what was not told stays untold."""

import dataclasses
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.operations import corrections, queries, replay_notifier
from infra.operations.audit_log import Operator
from infra.operations.queries import Filters
from infra.operations.replay import CannotReplay, Proof
from schemas.events import Accept
from schemas.topics import CASE_EVENT
from services.messaging.cloudevents import KafkaRecord
from services.notifier import compose as decisions
from services.notifier import template_versions
from services.notifier.consumer import CaseEventConsumer
from services.notifier.template_versions import Source, TemplateVersionMissing
from services.reference import partners
from services.router.decide.transition import case_id_of
from services.runtime.settings import Settings
from tests.notifier.builders import FOLDER, GP
from tests.operations.test_dead_letters import discard, resubmit
from tests.operations.test_replay_router import Router, some_records, work
from tests.router.builders import FORM as OTHER
from tests.router.builders import GP as ROUTED
from tests.router.builders import KEY, a_referral, received
from tests.router.records import a_command, a_record

SOURCE = Source(template_versions.texts(FOLDER), reached=(GP,), mailbox="LIGHTBULB1")
"""What is composed with, where a test does not care."""


async def proof(engine: AsyncEngine, today: Source = SOURCE) -> Proof:
    url = engine.url.render_as_string(hide_password=False)
    return await replay_notifier.run(url, today, lambda done, of: None)


async def published(engine: AsyncEngine) -> list[KafkaRecord]:
    """What the router's relay would have put on case.event."""
    async with engine.connect() as connection:
        rows = await connection.execute(
            text("select id, person_key, headers, value from router.outbox where target = 'case.event' order by id")
        )
        return [
            KafkaRecord(CASE_EVENT, 0, row.id, row.person_key.encode(), row.value, tuple(_headers(row.headers)))
            for row in rows
        ]


def _headers(kept: str) -> Sequence[tuple[str, bytes]]:
    return [(name, value.encode()) for name, value in json.loads(kept).items()]


@pytest.fixture
async def events(engine: AsyncEngine) -> list[KafkaRecord]:
    await work(Router(engine), some_records(5), seed=3)
    return await published(engine)


@asynccontextmanager
async def a_receiver(engine: AsyncEngine, source: Source = SOURCE) -> AsyncIterator[CaseEventConsumer]:
    """As a notifier that started with these files has it."""
    await template_versions.store_source(engine, source, source.files)
    async with template_versions.composer_of(source) as composing:
        yield CaseEventConsumer(engine, composing)


async def told(engine: AsyncEngine, events: Sequence[KafkaRecord], source: Source = SOURCE) -> None:
    async with a_receiver(engine, source) as receiver:
        await receiver.receive(events)


async def count(engine: AsyncEngine, query: str) -> Any:
    async with engine.connect() as connection:
        return await connection.scalar(text(query))


async def test_the_same_feedback_is_composed_again_and_nothing_is_sent(
    engine: AsyncEngine, events: list[KafkaRecord]
) -> None:
    await told(engine, events)
    composed = await count(engine, "select count(*) from notifier.feedback")
    before = await count(engine, "select count(*) from notifier.outbox")
    found = await proof(engine)

    assert composed > 6
    assert found.is_equal, found.differing
    assert found.inputs == len(events)
    assert await count(engine, "select count(*) from notifier.outbox") == before


async def test_what_the_notifier_did_not_take_in_yet_is_not_told(
    engine: AsyncEngine, events: list[KafkaRecord]
) -> None:
    await told(engine, events[:10])
    found = await proof(engine)

    assert (found.is_equal, found.inputs) == (True, 10)


async def test_a_key_that_differs_is_named_with_its_table(engine: AsyncEngine, events: list[KafkaRecord]) -> None:
    await told(engine, events)
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
    engine: AsyncEngine, events: list[KafkaRecord]
) -> None:
    await told(engine, events)
    async with engine.begin() as tx:
        await tx.execute(
            text(
                """update notifier.feedback set content = content || '{"is_restatement": true}', body = 'other' where ordinal = 2"""
            )
        )
    assert (await proof(engine)).is_equal


@pytest.fixture
def second_event_of(events: list[KafkaRecord]) -> KafkaRecord:
    """An event about two referrals, if there is one, else any with a later one of the same person."""
    concerned = [record for record in events if record.value.count(b'"feedback_consent"') > 1]
    return concerned[0] if concerned else events[1]


async def test_what_was_discarded_or_is_parked_stays_untold(
    engine: AsyncEngine, events: list[KafkaRecord], second_event_of: KafkaRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one event about two referrals one could not be told: its later ones wait, the other's are told."""
    bad = json.loads(second_event_of.value)["referral_contexts"][-1]["reference"]
    bad_id = dict(second_event_of.headers)["ce_id"].decode()
    compose = decisions.compose_for

    def composing(event: Any, concern: Any, *given: Any) -> Any:
        if event.id == bad_id and concern.reference == bad:
            raise KeyError
        return compose(event, concern, *given)

    async with a_receiver(engine) as receiver:
        with monkeypatch.context() as patched:
            patched.setattr(decisions, "compose_for", composing)
            await receiver.receive(events)
        assert await count(engine, "select count(*) from notifier.dead_letter") > 0
        assert (await proof(engine)).is_equal
        head = [row for row in await queries.find(engine, Filters()) if not row.waiting]
        await discard(engine, head)
        await receiver.release()
    assert await count(engine, "select count(*) from notifier.dead_letter where resolved_at is null") == 0
    assert (await proof(engine)).is_equal


async def test_an_edited_event_is_told_as_it_was_edited(engine: AsyncEngine, events: list[KafkaRecord]) -> None:
    at = next(place for place, record in enumerate(events) if b"case.assigned" in dict(record.headers)["ce_type"])
    data = json.loads(events[at].value)
    broken = dataclasses.replace(events[at], value=json.dumps({**data, "case_id": 1}).encode())
    data["referral_contexts"][0]["referral_id"] = "corrected"
    async with a_receiver(engine) as receiver:
        await receiver.receive([*events[:at], broken, *events[at + 1 :]])
        [row, *_] = await queries.find(engine, Filters())
        await resubmit(engine, [await corrections.edit(engine, row, json.dumps(data).encode(), {}, Operator("w", "y"))])
        await receiver.release()

    assert (
        await count(engine, "select count(*) from notifier.feedback where content ->> 'referral_id' = 'corrected'") > 0
    )
    assert (await proof(engine)).is_equal


async def test_what_cannot_be_composed_in_the_replay_is_a_difference(
    engine: AsyncEngine, events: list[KafkaRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    await told(engine, events)

    def failing(*_: Any) -> Any:
        raise KeyError

    monkeypatch.setattr(decisions, "compose_for", failing)
    found = await proof(engine)

    assert (found.is_equal, found.left_out) == (False, 0)


# ---- as of then -------------------------------------------------------------------------------------------------------


def changed(file: str, old: str, new: str) -> Source:
    """Files in which somebody has written something else since."""
    assert old in SOURCE.files[file]
    return Source({**SOURCE.files, file: SOURCE.files[file].replace(old, new)}, SOURCE.reached, SOURCE.mailbox)


REWORDED = changed("templates/feedback.yaml", "Your referral", "What you asked for,")
SINCE_THEN = {
    "words": REWORDED,
    "contacts of hubs": changed("hubs.yaml", "phone: 0116 496", "phone: 0116 497"),
    "names of partners": changed("partners.yaml", "channel: fhir", "channel: mailbox"),
    "who is reached": Source(SOURCE.files, (), SOURCE.mailbox),
}


@pytest.mark.parametrize("since", SINCE_THEN.values(), ids=SINCE_THEN)
async def test_each_feedback_is_composed_again_with_what_it_was_composed_with(
    engine: AsyncEngine, events: list[KafkaRecord], since: Source
) -> None:
    half = len(events) // 2
    await told(engine, events[:half])
    await told(engine, events[half:], since)

    assert (await proof(engine, since)).is_equal
    await _forget_versions(engine)
    assert not (await proof(engine, since)).is_equal


async def _forget_versions(engine: AsyncEngine) -> None:
    async with engine.begin() as tx:
        for table in ("input", "feedback"):
            await tx.execute(text(f"update notifier.{table} set template_version = null"))


async def test_what_was_composed_before_versions_were_kept_is_composed_as_today(
    engine: AsyncEngine, events: list[KafkaRecord]
) -> None:
    await told(engine, events)
    await _forget_versions(engine)

    assert (await proof(engine)).is_equal
    assert not (await proof(engine, REWORDED)).is_equal


async def test_of_one_event_each_referral_is_told_in_the_words_of_its_own_time(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One could be told at once; the other only after it was put back, when the words had changed."""
    await Router(engine).apply(a_record(received(ROUTED, a_referral())), a_record(received(OTHER, a_referral())))
    await Router(engine).apply(a_command("blaby", Accept, case_id_of(KEY, ROUTED), expected_version=2))
    events = await published(engine)
    both = next(record for record in events if record.value.count(b'"feedback_consent"') > 1)
    id_of_both, compose = dict(both.headers)["ce_id"].decode(), decisions.compose_for

    def composing(event: Any, concern: Any, *given: Any) -> Any:
        if event.id == id_of_both and concern.reference == OTHER:
            raise KeyError
        return compose(event, concern, *given)

    with monkeypatch.context() as patched:
        patched.setattr(decisions, "compose_for", composing)
        await told(engine, events)
    await resubmit(engine, await queries.find(engine, Filters()))
    async with a_receiver(engine, REWORDED) as receiver:
        await receiver.release()
    versions = "select count(distinct template_version) from notifier.feedback where caused_by = "

    assert await count(engine, f"{versions}'{id_of_both}'") == 2
    assert (await proof(engine)).is_equal


async def test_a_version_that_is_not_kept_or_was_changed_is_named(
    engine: AsyncEngine, events: list[KafkaRecord]
) -> None:
    await told(engine, events)
    async with engine.begin() as tx:
        await tx.execute(text("""update notifier.template_version set source = source || '{"mailbox": "ANOTHER"}'"""))
    with pytest.raises(CannotReplay, match=SOURCE.version):
        await proof(engine)
    async with engine.begin() as tx:
        await tx.execute(text("delete from notifier.template_version"))
    with pytest.raises(CannotReplay, match=f"{SOURCE.version}, which notifier.template_version does not keep"):
        await proof(engine)


async def test_files_that_change_while_they_are_read_are_not_kept(engine: AsyncEngine) -> None:
    with pytest.raises(TemplateVersionMissing, match="Start again"):
        await template_versions.store_source(engine, REWORDED, SOURCE.files)
    assert await count(engine, "select count(*) from notifier.template_version") == 0


async def test_nothing_secret_and_no_address_is_kept(tmp_path: Path) -> None:
    deployment = tmp_path / "deployment.yaml"
    deployment.write_text(
        f"partners:\n  {GP}: {{feedback_url: 'http://an.address.example.org/', token_sha256: ['{'5e' * 32}']}}\n"
    )
    config = Settings(
        database="postgresql+asyncpg://x", kafka="none", secret_file=tmp_path, directory=FOLDER, deployment=deployment
    )
    found = template_versions.source(config, partners.load(FOLDER, deployment))

    assert found.reached == (GP,)
    assert not [word for word in ("an.address", "5e5e") if word in json.dumps(dataclasses.asdict(found))]
