"""`lightbulb status`: what it finds in PostgreSQL, on Kafka and in files, and what of it is wrong."""

import base64
import copy
import json
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.cli.terminal import console
from infra.operations import hub_topics, not_applied, status, status_check
from infra.operations.ends import ends
from infra.operations.not_applied import HOPS
from infra.operations.status_check import Limits, Problem
from schemas.events import Accept, Event, Transfer
from schemas.model import Reference
from schemas.topics import REFERRAL_EVENT, Topic, hub_case
from services.messaging import broker, outbox
from services.messaging.outbox import OutboxMessage
from services.notifier import backlog as notifier_backlog
from services.router import backlog
from services.router.consumer import Batches
from services.runtime import database as databases
from services.runtime.expiry import EndUnknown, Expiring
from tests.builders.events import a_command, a_record, an_event, in_record, received
from tests.builders.reference_data import DIRECTORY
from tests.builders.referrals import GP, a_referral
from tests.end_to_end import commands
from tests.intake.certificates import Authority
from tests.messaging.running import publish, value
from tests.operations.command_line import run
from tests.router.conftest import emptied
from tests.router.stored import apply, case_id, rows

INTAKE, ROUTER = HOPS
AT_REST = {name: hub_topics.Unread(name, 0, 0) for name in ("router", "notifier", "hub.blaby.case")}


@pytest.fixture
async def engine(migrated: str) -> AsyncIterator[AsyncEngine]:
    engine = databases.connect(migrated)
    await emptied(engine, "intake", "router", "notifier")
    yield engine
    await engine.dispose()


# ---- accepted and undecided -----------------------------------------------------------------------------------------


KEYS = [key for key in (f"{number:032}" for number in range(200)) if outbox.shard_of(key) == 3]
"""Person keys of one shard, by the number of their referral."""


def an_accepted(number: int, key: str) -> OutboxMessage:
    return OutboxMessage(
        REFERRAL_EVENT, an_event(received(Reference(f"LB-AAAA-AAAA-000{number}"), a_referral()), key=key)
    )


async def accepted(engine: AsyncEngine, *numbers: int, keys: Sequence[str] = KEYS) -> list[Event]:
    """Write the events of new referrals to intake's outbox, each in a packet of its own, as published an hour ago; return them."""
    messages = [an_accepted(one, keys[one]) for one in numbers]
    for message in messages:
        async with engine.begin() as tx:
            await outbox.add(tx, "intake", [message])
            await tx.execute(
                text("""
                    update intake.packet set published_at = now(), created_at = created_at - interval '1 hour'
                    where published_at is null""")
            )
    return [message.event for message in messages]


async def decided(engine: AsyncEngine, *events: Event) -> None:
    await apply(engine, *(in_record(one, REFERRAL_EVENT) for one in events))


async def undecided(engine: AsyncEngine) -> str | None:
    """Return the number of the oldest undecided referral."""
    subject = (await not_applied.oldest(engine, INTAKE)).subject
    return subject and subject[-1]


async def test_the_oldest_accepted_and_undecided_referral_is_found_and_what_is_decided_is_compared_once(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(not_applied, "BATCH", 2)
    events = await accepted(engine, *range(1, 8))
    await decided(engine, *events[:3], *events[5:])  # as if the records of two were deleted from Kafka
    found = await not_applied.oldest(engine, INTAKE)
    assert (found.subject, found.published) == ("LB-AAAA-AAAA-0004", True)
    assert 3_600 <= (found.age or 0) < 4_000
    assert await rows(engine, "select shard, id from intake.outbox_applied") == await rows(
        engine, "select 3, min(id) + 2 from intake.packet"
    )
    await decided(engine, events[3])
    assert await undecided(engine) == "5"
    await decided(engine, events[4])
    assert await undecided(engine) is None
    before = await rows(engine, "select id from intake.outbox_applied")
    await accepted(engine, 8)
    assert await undecided(engine) == "8"
    assert await rows(engine, "select id from intake.outbox_applied") == before


async def test_dead_letters_are_counted_apart_from_undecided_referrals(engine: AsyncEngine) -> None:
    first, second = await accepted(engine, 1, 2)
    await Batches(engine, DIRECTORY)._refuse(in_record(first, REFERRAL_EVENT), "decision: of a test")
    assert await undecided(engine) == "2"
    await decided(engine, second)
    assert await undecided(engine) is None


async def test_what_a_running_transaction_may_still_add_is_compared_again(engine: AsyncEngine) -> None:
    async with engine.begin() as running:
        await outbox.add(running, "intake", [an_accepted(1, KEYS[1])])
        async with engine.begin() as tx:
            await outbox.add(tx, "intake", [later := an_accepted(2, KEYS[2])])
        await decided(engine, later.event)
        assert await undecided(engine) is None
    found = await not_applied.oldest(engine, INTAKE)
    assert (found.subject, found.published) == ("LB-AAAA-AAAA-0001", False)
    assert await rows(engine, "select id from intake.outbox_applied") == []


async def test_the_oldest_of_all_shards_is_found_and_each_continues_from_its_own_end(engine: AsyncEngine) -> None:
    other = [key for key in (f"{number:032}" for number in range(200)) if outbox.shard_of(key) == 5]
    first = await accepted(engine, 1)
    await accepted(engine, 2, keys=other)
    second = await accepted(engine, 3)
    assert await undecided(engine) == "1"
    await decided(engine, *first, *second)
    assert await undecided(engine) == "2"
    assert await rows(engine, "select id from intake.outbox_applied where shard = 3") == await rows(
        engine, "select max(id) from intake.packet where shard = 3"
    )


async def test_what_a_topic_refused_is_not_published(engine: AsyncEngine) -> None:
    await accepted(engine, 1)
    async with engine.begin() as tx:
        held = "insert into intake.packet_held (shard, target, id, places) select shard, :target, id, '{0}' from intake.packet"
        await tx.execute(text(held), {"target": REFERRAL_EVENT})
    assert (await not_applied.oldest(engine, INTAKE)).published is False


async def test_a_comparison_that_takes_too_long_says_until_when_and_goes_on_from_there(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(not_applied, "BATCH", 2)
    monkeypatch.setattr(not_applied, "SECONDS", -1.0)
    events = await accepted(engine, 1, 2, 3)
    await decided(engine, *events[:2])
    first = await not_applied.oldest(engine, INTAKE)
    assert (first.subject, first.compared_until is not None) == (None, True)
    assert await undecided(engine) == "3"


async def test_a_reader_without_the_right_to_write_gets_the_same_answer(engine: AsyncEngine, migrated: str) -> None:
    await decided(engine, *await accepted(engine, 1))
    await accepted(engine, 2)
    reading = databases.connect(migrated).execution_options(postgresql_readonly=True)
    assert await undecided(reading) == "2"
    assert await rows(engine, "select id from intake.outbox_applied") == []
    await reading.dispose()


async def test_a_decision_that_the_notifier_lacks_is_found(engine: AsyncEngine) -> None:
    await decided(engine, *await accepted(engine, 1))
    found = await not_applied.oldest(engine, ROUTER)
    assert found.subject == await case_id(engine, KEYS[1])
    async with engine.begin() as tx:
        await tx.execute(
            text("insert into notifier.input (person_key, event_id) select person_key, id from router.case_event")
        )
    assert (await not_applied.oldest(engine, ROUTER)).subject is None


# ---- hubs that do not accept ----------------------------------------------------------------------------------------


async def test_a_case_counts_as_not_accepted_since_its_hub_has_it(engine: AsyncEngine) -> None:
    async def requested() -> list[tuple[str, int, float]]:
        async with engine.connect() as tx:
            return [(one.hub, one.cases, one.seconds) for one in await backlog.requested_cases(tx)]

    def router(days: int) -> Batches:
        return Batches(engine, DIRECTORY, clock=lambda: datetime.now(UTC) - timedelta(days=days))

    await router(5).receive([a_record(received(GP, a_referral()))])
    await router(3).receive([a_record(received(Reference("LB-AAAA-AAAA-0001"), a_referral()), key="1" * 32)])
    [(hub, cases, seconds)] = await requested()
    assert (hub, cases, seconds // 86_400) == ("blaby", 2, 5)
    case = await case_id(engine)
    await router(2).receive([a_command("blaby", Accept, case)])
    assert [cases for _, cases, _ in await requested()] == [1]
    await router(1).receive([a_command("blaby", Transfer, case, expected_version=2, to_hub="melton")])
    assert [(hub, cases, seconds // 86_400) for hub, cases, seconds in await requested()] == [
        ("blaby", 1, 3),
        ("melton", 1, 1),
    ]
    await router(0).receive([a_command("melton", Accept, case, expected_version=1)])
    async with engine.connect() as tx:
        assert not await backlog.measure(tx)
    ages = {hub: value("lightbulb_case_requested_oldest_age_seconds", hub=hub) for hub in ("blaby", "melton")}
    assert ages == {"blaby": pytest.approx(3 * 86_400, abs=600), "melton": None}


# ---- hubs that do not read ------------------------------------------------------------------------------------------


async def read(bootstrap: str, topic: str, group: str, records: int) -> None:
    """Commit that a hub's system has read this many records of the topic's first partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False)
    await consumer.start()
    partition = TopicPartition(topic, 0)
    consumer.assign([partition])
    await consumer.commit({partition: records})
    await consumer.stop()


async def delete_before(bootstrap: str, topic: str, offset: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=offset)})
    await admin.close()


async def test_a_hub_topic_is_unread_by_the_group_that_has_read_furthest_or_by_none(kafka: str) -> None:
    topic, own, old = hub_case(f"of-{uuid.uuid4().hex}"), uuid.uuid4().hex, uuid.uuid4().hex
    await broker.create_topics(kafka, [Topic(topic, 1)], replication=1)
    assert (await hub_topics.look(kafka))[topic] == hub_topics.Unread(None, 0, 0, None)
    began = time.time()
    await publish(kafka, topic, [b"1", b"2", b"3", b"4"])
    unread = (await hub_topics.look(kafka))[topic]
    assert (unread.group, unread.records, unread.deleted) == (None, 4, 0)
    assert unread.oldest is not None
    assert 0 <= unread.oldest <= time.time() - began + 1
    await read(kafka, topic, old, 1)
    await read(kafka, topic, own, 2)
    assert ((await hub_topics.look(kafka))[topic].group, (await hub_topics.look(kafka))[topic].records) == (own, 2)
    await delete_before(kafka, topic, 3)
    unread = (await hub_topics.look(kafka))[topic]
    assert (unread.records, unread.deleted) == (1, 1)
    await read(kafka, topic, own, 4)
    assert (await hub_topics.look(kafka))[topic] == hub_topics.Unread(own, 0, 0, None)


# ---- feedback, and records that are gone ----------------------------------------------------------------------------

FEEDBACK = """
    insert into notifier.feedback (person_key, feedback_id, reference, caused_by, recipient, channel, feedback_type, ordinal,
        state, packet, place, composed_at, failed_at)
    select 'a', gen_random_uuid(), 'LB-' || number, 'e', 'gp', channel, 'received', 1, state, 0, 0, now() - days * interval '1 day',
        case when state = 'failed' then now() end
    from (values (1, 'fhir', 'waiting', 2), (2, 'fhir', 'failed', 13), (3, 'fhir', 'failed', 15), (4, 'mailbox', 'kept', 8),
                 (5, 'mailbox', 'kept', 6)) as given (number, channel, state, days)"""
COLLECTED = """
    insert into notifier.feedback (person_key, feedback_id, reference, caused_by, recipient, channel, feedback_type, ordinal,
        state, packet, place, composed_at, collected_at)
    values ('a', gen_random_uuid(), 'LB-6', 'e', 'gp', 'mailbox', 'received', 1, 'collected', 0, 0, now() - interval '9 days', now())"""
WAITING = """
    insert into notifier.conversation (person_key, reference, recipient, channel, last, next, resend, due_at, due_since)
    values ('a', 'LB-1', 'gp', 'fhir', 3, 3, array[1], now(), now() - interval '2 days'),
           ('a', 'LB-7', 'gp', 'fhir', 1, 2, null, null, null)"""
ENDPOINTS = """
    insert into notifier.endpoint (channel, recipient, failures, reason, failing_since, opened_at)
    values ('fhir', 'gp-a', 9, 'http 302', now() - interval '2 hours', now()), ('fhir', 'gp-b', 2, 'http 503', now(), null),
           ('fhir', 'gp-c', 9, 'no-address', now(), now())"""
UNADDRESSED = "insert into notifier.unaddressed (partner, channel, reason) values ('gp-c', 'fhir', 'no-address')"
GONE = """
    insert into router.records_gone (topic, partition, first_offset, next_offset, resolved_at)
    values ('referral.event', 0, 1, 30, null), ('referral.event', 1, 7, 0, null), ('hub.blaby.command', 0, 1, 9, now())"""


async def test_feedback_that_does_not_arrive_and_records_that_are_gone_are_problems(
    engine: AsyncEngine, migrated: str
) -> None:
    async with engine.begin() as tx:
        for statement in (FEEDBACK, COLLECTED, WAITING, ENDPOINTS, UNADDRESSED, GONE):
            await tx.execute(text(statement))
    position = status.assembled(await status.in_postgresql(migrated), AT_REST)
    names = ("waiting", "failed", "failed lately", "kept to be fetched", "not fetched for too long")
    assert [position["notifier"][f"feedback {name}"] for name in names] == [2, 2, 1, 2, 1]
    assert [str(one) for one in status_check.problems(position, Limits())] == [
        "router: Kafka deleted records before they were read: referral.event 30: lightbulb reconcile --dry-run",
        "notifier: feedback on LB-1 waits for 2 d 0 h: lightbulb trace LB-1",
        "notifier: 1 feedback failed: lightbulb feedback list --failed",
        "notifier: 1 feedback is kept and was not fetched: lightbulb feedback list --unfetched",
        "notifier: the fhir endpoint of gp-a fails for 2 h 0 min (http 302): see docs/operate.md, Feedback and MESH",
        "notifier: gp-c has no fhir address (no-address): add feedback_url to deployment.yaml",
    ]
    async with engine.connect() as tx:
        await notifier_backlog.measure(tx)
    assert {state: value("lightbulb_feedback", state=state) for state in ("waiting", "failed", "unfetched")} == {
        "waiting": 2,
        "failed": 1,
        "unfetched": 1,
    }
    assert value("lightbulb_partner_unaddressed", channel="fhir", partner="gp-c") == 1
    assert value("lightbulb_endpoint_failing", channel="fhir", partner="gp-b") is None
    assert not any(map(unknown_commands, status_check.problems(position, Limits())))
    with console.capture() as shown:
        console.print(status.table({**position, "ends": []}), width=80)
    assert "- fhir of gp-a for 2 h 0 min, http 302" in " ".join(shown.get().split())
    assert max(map(len, shown.get().splitlines())) <= 80


# ---- what ends ------------------------------------------------------------------------------------------------------


def a_token(**claims: Any) -> str:
    parts = ({"alg": "none"}, claims)
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + ".x"


def test_the_end_of_a_certificate_chain_is_its_earliest_and_of_a_token_its_exp(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    short, long = (
        authority.issue("short", days=5)[0],
        authority.issue("long", days=40_000)[0],
    )  # after 2049: another type
    both = tmp_path / "chain.pem"
    both.write_text(f"the chain of ours:\n{long.read_text()}{short.read_text()}")
    assert 4 <= (Expiring("x", both).end() - datetime.now(UTC)).days <= 5
    assert 39_999 <= (Expiring("x", long).end() - datetime.now(UTC)).days <= 40_000
    token = tmp_path / "token"
    token.write_text(a_token(exp=2_000_000_000) + "\n")
    assert Expiring("x", token).end() == datetime.fromtimestamp(2_000_000_000, UTC)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"an opaque token", "the token does not state its end"),
        (a_token().encode(), "the token does not state its end"),
        (a_token(exp="soon").encode(), "the token does not state its end"),
        (b"a.b.c", "the token does not state its end"),
        (b"\xff\xfe", "the token does not state its end"),
        (b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----", "the file has no certificate"),
        (b"-----BEGIN CERTIFICATE-----\nMAAA\n-----END CERTIFICATE-----", "a certificate of the file cannot be read"),
        (None, "the file cannot be read: No such file or directory"),
    ],
)
def test_what_cannot_be_known_of_an_end_is_stated(content: bytes | None, why: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "file").write_bytes(content)
    with pytest.raises(EndUnknown, match=f"^{why}$"):
        Expiring("x", tmp_path / "file").end()


def test_ends_are_read_from_the_files_that_settings_and_deployment_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, _, digest = Authority(tmp_path, "authority").issue("hub", days=9)
    monkeypatch.setenv("LIGHTBULB_MLLP_CERTIFICATE", str(certificate))
    assert [one.get("unknown") for one in ends(None)] == [None, "LIGHTBULB_DEPLOYMENT is not set here"]
    (tmp_path / "token").write_text(a_token(exp=time.time() - 60))
    deployment = tmp_path / "deployment.yaml"
    deployment.write_text(f"""
partners:
  gp: {{feedback_url: "http://127.0.0.1:1/", feedback_token_file: {tmp_path / "token"}}}
  uhl: {{certificate_sha256: [{digest}]}}
""")
    stated = ends(deployment)
    assert [(one["use"], one.get("partner"), one.get("days"), one.get("unknown")) for one in stated] == [
        ("mllp-certificate", None, 8, None),
        ("feedback-token", "gp", -1, None),
        ("client-certificate", "uhl", None, "only its hash is stored"),
    ]
    found = status_check.problems({"ends": stated}, Limits())
    assert [str(one).partition(" (")[0] for one in found] == [
        "mllp-certificate: ends in 8 days",
        "feedback-token of gp: has ended",
    ]
    deployment.write_text("partners: [")
    assert ends(deployment)[-1]["unknown"] == "the file cannot be read"


def unknown_commands(found: Problem) -> list[str]:
    """Return what is wrong with the command that a problem leads to."""
    command = found.do.partition("; else ")[2] or found.do
    return commands.wrong_in(command) if command.startswith("lightbulb ") else []


# ---- what is wrong --------------------------------------------------------------------------------------------------


def test_topics_that_do_not_exist_are_named() -> None:
    readers = {**AT_REST, "notifier": hub_topics.Unread("notifier", 0, 0, missing="case.event")}
    position = status.assembled({"hubs": {"blaby": {}, "melton": {}}}, readers)
    assert position["lag"]["topics missing"] == "case.event, hub.melton.case"
    assert status.assembled({"hubs": {"blaby": {}}}, AT_REST)["lag"]["topics missing"] == "none"


def test_check_is_silent_about_an_installation_at_rest(
    migrated: str, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look(_: str) -> dict[str, hub_topics.Unread]:
        return AT_REST

    monkeypatch.setenv("LIGHTBULB_DATABASE", migrated)
    monkeypatch.setenv("LIGHTBULB_KAFKA", "127.0.0.1:1")
    monkeypatch.setattr(status, "look", look)
    told = run("status", "--check")
    assert (told.output, told.exit_code) == ("", 0)


UNDECIDED, LACKING = (status.OLDEST_NOT_APPLIED[hop] for hop in ("intake", "router"))
WRONG = [
    ("intake", "oldest unpublished, seconds", 901, "intake: an event is not published for 15 min"),
    ("router", "dead letters", 2, "router: 2 dead letters"),
    ("router", "topics paused", "hub.blaby.command", "router: paused: hub.blaby.command"),
    ("intake", f"{UNDECIDED}, seconds", 90_000, f"intake: {UNDECIDED}: LB-X, published, 1 d 1 h old"),
    ("router", f"{LACKING}, seconds", 901, f"router: {LACKING}: a-case, published, 15 min old"),
    ("lag", "router", 10_001, "router: 10,001 records behind"),
    ("lag", "topics missing", "case.event", "kafka: these topics do not exist: case.event"),
    ("lag", "notifier, oldest unread, seconds", 901, "notifier: a record is not read for 15 min"),
    ("hubs", "oldest case not accepted, seconds", 4 * 86_400, "hub blaby: case a-case is not accepted for 4 d 0 h"),
    ("hubs", "oldest unread, seconds", 25 * 3_600, "hub blaby: no group has read any of its 7 events, the oldest for 1 d 1 h"),
    ("hubs", "deleted unread", 3, "hub blaby: 3 events were deleted before None read them"),
]  # fmt: skip


async def test_what_is_wrong_is_one_line_with_what_to_do(migrated: str, engine: AsyncEngine) -> None:
    at_rest = status.assembled(await status.in_postgresql(migrated), {})
    at_rest["hubs"] = {"blaby": {"unread": 7, "read by group": None, "oldest case not accepted, case": "a-case"}}
    at_rest["intake"] |= {f"{UNDECIDED}, reference": "LB-X", f"{UNDECIDED}, where": "published"}
    at_rest["router"] |= {f"{LACKING}, case_id": "a-case", f"{LACKING}, where": "published"}
    assert status_check.problems(at_rest, Limits()) == []
    for part, name, answer, line in WRONG:
        position = copy.deepcopy(at_rest)
        (position["hubs"]["blaby"] if part == "hubs" else position[part])[name] = answer
        [found] = status_check.problems(position, Limits())
        assert str(found).startswith(f"{line}: ")
        assert unknown_commands(found) == []
        if isinstance(answer, int) and name not in ("dead letters", "deleted unread"):
            assert status_check.problems(position, Limits(0, 0, 0, 0, 0, 0)) == [], line


def test_check_prints_servers_that_do_not_answer_and_exits_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTBULB_DATABASE", "postgresql+asyncpg://nobody:none@127.0.0.1:1/none")
    monkeypatch.setenv("LIGHTBULB_KAFKA", "127.0.0.1:1")
    told = run("status", "--check")
    assert told.exit_code == 1
    assert [line.partition(" (")[0] for line in told.stdout.splitlines()] == [
        "database: cannot be asked: The database is not reachable",
        "kafka: does not answer",
    ]
    assert [one["of"] for one in json.loads(run("status", "--check", "--json").stdout)] == ["database", "kafka"]
