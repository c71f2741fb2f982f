"""`lightbulb find` and `lightbulb trace`: a referral is found by what a caller can name, and its position says what it waits for."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from typer.testing import CliRunner, Result

from infra.cli.main import app
from infra.cli.terminal import CommandError
from infra.operations import feedback, find, trace
from infra.operations.audit_log import Operator
from infra.operations.find import SearchFilters, WrongSecret
from infra.operations.referral_position import ReferralPosition
from infra.operations.trace import Trace, TraceStep
from schemas.events import Accept
from schemas.topics import CASE_EVENT, REFERRAL_EVENT
from services.messaging import dead_letters, packets
from services.messaging.cloudevents import KafkaRecord
from services.messaging.dead_letters import DeadLetter
from services.messaging.packets import shard_of
from services.router.consumer import Batches
from services.runtime import database as databases
from tests.builders.bars import a_bars_message
from tests.builders.events import NOW, a_command
from tests.builders.forms import a_form
from tests.builders.reference_data import DIRECTORY
from tests.builders.referrals import an_nhs_number
from tests.intake.running import SECRET, InProcess, install
from tests.notifier.builders import GP, the_recipients
from tests.notifier.running import a_notifier
from tests.operations.command_line import run
from tests.router.conftest import emptied
from tests.router.stored import rows


def person_key(nhs_number: str) -> str:
    return find.identifiers.person_key(SECRET, nhs_number, "", "")


BY = Operator("A. Operator", "the practice asked")
NUMBER = "9990000026"
WARNINGS = ", ".join(["person.address.postcode code-invalid"] * 4)
PERSONAL = (NUMBER, "999 000 0026", "Castle", "Carl", "1950", "Any Street", "le10", "LE10")


class Installation:
    """Intake, router and notifier on one database; records go from one to the next when a test says so."""

    def __init__(self, engine: AsyncEngine, intake: InProcess) -> None:
        self.engine, self.intake = engine, intake

    async def refer(self, reference: str = "FCP-2026-11834", **changed: Any) -> str:
        """Send a form, and return our reference."""
        reply = await self.intake.form(a_form(reference=reference, **changed))
        assert reply.status == 202, reply.body
        return str(reply.json()["reference"])

    async def publish(self, service: str, *targets: str) -> list[KafkaRecord]:
        """Publish what waits of these topics in an outbox, and return it."""
        async with self.engine.begin() as tx:
            waiting = [one for one in await packets.published(tx, service) if one.published_at is None]
            left = [one for one in waiting if one.message.target not in targets]
            await tx.execute(text(f"update {service}.packet set published_at = now()"))
            await tx.execute(text(f"delete from {service}.packet_held"))
            await tx.execute(
                text(f"""
                    insert into {service}.packet_held (shard, target, id, places)
                    select shard, target, id, array_agg(place order by place)
                    from unnest(cast(:shards as smallint[]), cast(:targets as text[]), cast(:ids as bigint[]), cast(:places as integer[]))
                        as left_over (shard, target, id, place) group by shard, target, id"""),
                {
                    "shards": [one.shard for one in left],
                    "targets": [one.message.target for one in left],
                    "ids": [one.packet for one in left],
                    "places": [one.place for one in left],
                },
            )
        sent = [(number, one.message) for number, one in enumerate(waiting) if one.message.target in targets]
        return [
            KafkaRecord(one.target, 0, number, one.person_key.encode(), one.value, one.headers) for number, one in sent
        ]

    async def decide(self, *records: KafkaRecord) -> None:
        await Batches(self.engine, DIRECTORY, clock=lambda: NOW).receive(records)

    async def waits(self, reference: str) -> list[str]:
        position = (await trace.path(self.url, reference)).now
        assert position is not None
        return list(position.waits_for)

    @property
    def url(self) -> str:
        return self.engine.url.render_as_string(hide_password=False)

    async def find(self, name: str, **limits: Any) -> list[str | None]:
        return [hit.reference for hit in (await find.by_name(self.engine, name, SearchFilters(**limits))).hits]


@pytest.fixture
async def installed(migrated: str, tmp_path: Path) -> AsyncIterator[Installation]:
    engine = databases.connect(migrated)
    await emptied(engine, "intake", "router", "notifier")
    async with engine.begin() as tx:
        await tx.execute(
            text("insert into intake.secret_check (value) values (:value)"),
            {"value": find.identifiers.check_value(SECRET)},
        )
    async with InProcess(install(migrated, tmp_path), engine) as intake:
        yield Installation(engine, intake)
    await engine.dispose()


# ---- find -----------------------------------------------------------------------------------------------------------


async def test_a_referral_is_found_by_every_name_that_a_caller_has(installed: Installation) -> None:
    reference, other = await installed.refer(), await installed.refer("FCP-2026-11835")
    sent = await installed.intake.bars(
        a_bars_message(referral_id="a practice's"), x_correlation_id="0b0c7c1e-6c0a-4f59-9c39-00000000000a"
    )
    assert sent.status == 200
    assert await installed.find("fcp-2026-11834 ") == [reference] == await installed.find(reference.lower())
    [[_, bars_id]] = await rows(
        installed.engine, "select reference, sender_reference from intake.referral where partner = :p", p=GP
    )
    assert await installed.find(bars_id.upper()) == await installed.find("0b0c7c1e-6c0a-4f59-9c39-00000000000a") != []
    assert await installed.find("FCP-2026-1183") == []
    await installed.decide(*await installed.publish("intake", REFERRAL_EVENT))
    [[case]] = await rows(installed.engine, "select case_id from router.referral where reference = :r", r=reference)
    assert set(await installed.find(case)) == {reference, other}
    assert await installed.find(case, limit=1) != await installed.find(case, partner=GP) == []


async def test_a_search_by_nhs_number_is_recorded_and_finds_also_what_is_not_decided_yet(
    installed: Installation,
) -> None:
    reference = await installed.refer()
    await installed.decide(*await installed.publish("intake", REFERRAL_EVENT))
    undecided = await installed.refer("FCP-2026-11835")
    found = await find.by_nhs_number(installed.engine, SECRET, NUMBER, SearchFilters(), BY)
    assert {(hit.reference, hit.status) for hit in found.hits} == {(reference, "requested"), (undecided, None)}
    columns = "action, operator, reason, details"
    [(*recorded, details)] = await rows(installed.engine, f"select {columns} from router.operator_action")
    assert recorded == ["find by NHS number", "A. Operator", "the practice asked"]
    assert set(details["references"]) == {reference, undecided}
    assert not any(secret in json.dumps([hit.as_dict() for hit in found.hits]) + str(details) for secret in PERSONAL)
    limited = await find.by_nhs_number(installed.engine, SECRET, NUMBER, SearchFilters(limit=1), BY)
    assert (len(limited.hits), limited.more) == (1, True)
    with pytest.raises(WrongSecret):
        await find.by_nhs_number(installed.engine, b"another secret of 32 bytes or more", NUMBER, SearchFilters(), BY)


async def test_messages_are_found_by_partner_and_time_refused_ones_too(installed: Installation) -> None:
    began = datetime.now(UTC) - timedelta(minutes=1)
    reference = await installed.refer()
    assert (await installed.intake.form(a_form(needs={}))).status == 400
    assert (await installed.intake.bars(a_bars_message())).status == 200
    hits = (await find.messages(installed.engine, SearchFilters("first-contact", began))).hits
    assert [(hit.verdict, hit.reference) for hit in hits] == [("refused", None), ("received", reference)]
    assert len((await find.messages(installed.engine, SearchFilters(since=began))).hits) == 3
    assert (await find.messages(installed.engine, SearchFilters("first-contact", until=began))).hits == []


async def test_each_search_uses_an_index(installed: Installation) -> None:
    await installed.refer()
    limits = {
        "partner": "p",
        "since": NOW,
        "until": NOW,
        "limit": 5,
        "name": "n",
        "folded": "n",
        "reference": "r",
        "key": "k",
    }
    limits |= find._ids(SearchFilters("p", NOW, NOW))
    async with installed.engine.connect() as tx:
        await tx.execute(text("set enable_seqscan = off"))
        for statement in (find._BY_NAME, find._BY_KEY, find._MESSAGES):
            asked = {name: value for name, value in limits.items() if f":{name}" in statement.text}
            plan = "\n".join((await tx.execute(text(f"explain {statement.text}"), asked)).scalars())
            assert "Seq Scan" not in plan, plan


@pytest.fixture
def command(migrated: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The reference of a referral, in a database and with the secret that the command reads."""
    (tmp_path / "secret").write_bytes(SECRET)
    monkeypatch.setenv("LIGHTBULB_DATABASE", migrated)
    monkeypatch.setenv("LIGHTBULB_SECRET_FILE", str(tmp_path / "secret"))
    return asyncio.run(_referred(migrated, tmp_path))


async def _referred(url: str, folder: Path) -> str:
    engine = databases.connect(url)
    await emptied(engine, "intake", "router", "notifier")
    async with engine.begin() as tx:
        await tx.execute(
            text("insert into intake.secret_check (value) values (:value)"),
            {"value": find.identifiers.check_value(SECRET)},
        )
    async with InProcess(install(url, folder), engine) as intake:
        reference = await Installation(engine, intake).refer()
    await engine.dispose()
    return reference


def test_the_command_reads_the_number_from_standard_input_and_never_as_an_argument(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(number: str) -> Result:
        return CliRunner().invoke(app, ["find", "--nhs-number", "--who", "A. Operator", "--json"], input=f"{number}\n")

    assert [hit["reference"] for hit in json.loads(asked("999 000 0026").stdout)["found"]] == [command]
    assert asked("999 000 0027").exit_code == 2
    refused = run("find", "999 000 0026")
    assert (refused.exit_code, "--nhs-number" in refused.output) == (2, True)
    assert run("find", "--reference", "9990000026").stdout == "Nothing was found.\n"
    monkeypatch.setenv("LIGHTBULB_SECRET_FILE", "/nowhere")
    assert "LIGHTBULB_SECRET_FILE: /nowhere" in str(asked("999 000 0026").exception)


def test_the_command_shows_two_lines_and_no_personal_data_and_trace_names_it(command: str) -> None:
    told = run("find", "FCP-2026-11834").stdout
    first, second = told.splitlines()
    assert first.startswith(f"{command}  ")
    assert second == "  form:first-contact-plus; not decided on yet"
    assert not any(secret in told for secret in PERSONAL)
    assert run("find").exit_code == run("find", command, "--nhs-number").exit_code == 2
    assert run("find", command, "--reference", "FCP-1").exit_code == 2
    unknown = run("trace", "FCP-2026-11834").exception
    assert isinstance(unknown, CommandError)
    assert "`lightbulb find`" in str(unknown)


# ---- where it is now ------------------------------------------------------------------------------------------------


async def test_the_position_says_what_a_referral_waits_for_at_every_stage(installed: Installation) -> None:
    reference = await installed.refer()
    [unpublished] = await installed.waits(reference)
    assert unpublished.startswith("Kafka: 1 not published on referral.event, the oldest since 20")

    records = await installed.publish("intake", REFERRAL_EVENT)
    assert await installed.waits(reference) == ["the router, which has not decided on version 1"]

    await installed.decide(*records)
    waits = await installed.waits(reference)
    assert [wait.split(", the oldest")[0] for wait in waits[:3]] == [
        "Kafka: 1 not published on case.event",
        "Kafka: 1 not published on hub.triage.case",
        "the notifier, which has not read 1 event(s)",
    ]
    assert waits[3:] == ["hub triage, to accept it"]

    events = await installed.publish("router", CASE_EVENT, "hub.triage.case")
    async with a_notifier(installed.engine, the_recipients(), delivering=False) as notifier:
        await notifier.receiver.receive([one for one in events if one.topic == CASE_EVENT])
    due, kept, hub = await installed.waits(reference)
    assert due == f"feedback received and 1 more to {GP} by fhir: due"
    assert kept.startswith("first-contact, to fetch 1 feedback(s), the oldest of 20")
    assert hub == "hub triage, to accept it"

    async with installed.engine.begin() as tx:
        await tx.execute(
            text("update notifier.feedback set state = 'failed', reason = 'http 422' where state = 'waiting'")
        )
    failed = [wait for wait in await installed.waits(reference) if wait.startswith("a person: feedback")]
    assert failed
    for command in (wait.partition("; ")[2] for wait in failed):
        [shown] = await feedback.named(installed.engine, [command.removeprefix("lightbulb feedback show ")])
        assert (shown.reference, shown.state) == (reference, "failed")


async def test_a_trace_has_the_messages_of_its_referral_and_opens_no_packet_of_others(installed: Installation) -> None:
    key = person_key(NUMBER)
    neighbour = next(number for number in iter(an_nhs_number, "") if shard_of(person_key(number)) == shard_of(key))
    reference, other = await installed.refer(), await installed.refer("FCP-2026-11835", nhs_number=neighbour)
    await installed.decide(*await installed.publish("intake", REFERRAL_EVENT))
    [[case]] = await rows(installed.engine, "select case_id from router.referral where reference = :r", r=reference)
    await installed.publish("router", CASE_EVENT, "hub.triage.case")
    await installed.decide(a_command("triage", Accept, case, key=key, expected_version=9))
    async with installed.engine.begin() as tx:
        assert await tx.scalar(text("select count(distinct packet) from router.case_event")) == 1
        opened = (
            "insert into router.packet (shard, messages, targets, content) values (:shard, 1, :targets, 'not a packet')"
        )
        await tx.execute(text(opened), {"shard": shard_of(key), "targets": [CASE_EVENT]})

    for one, waits in ((reference, 1), (other, 0)):
        found = await trace.path(installed.url, one)
        assert [(step.place, step.what) for step in found.steps if "." in step.place] == [
            ("referral.event", "referral.received"),
            ("hub.triage.case", "case.opened"),
        ]
        assert found.now is not None
        unpublished = [wait for wait in found.now.waits_for if wait.startswith("Kafka")]
        assert len(unpublished) == waits
        assert all(wait.startswith("Kafka: 1 not published on hub.triage.case") for wait in unpublished)


async def test_the_position_names_a_dead_letter_of_a_command_for_its_case(installed: Installation) -> None:
    reference = await installed.refer()
    await installed.decide(*await installed.publish("intake", REFERRAL_EVENT))
    [[case, key]] = await rows(installed.engine, "select case_id, person_key from router.referral")
    command = a_command("triage", Accept, case, key=key)
    async with installed.engine.begin() as tx:
        letter = DeadLetter(command, key, (f"{command.topic}/{case}",), "decision: KeyError", None, False)
        await dead_letters.add(tx, "router", [letter])
    dead = next(wait for wait in await installed.waits(reference) if wait.startswith("dead letter"))
    assert "the router failed on it (KeyError): report the defect (lightbulb quarantine show router:" in dead


def test_a_trace_reads_well_at_80_columns() -> None:
    at = datetime(2026, 11, 16, 13, 5, 2, tzinfo=UTC)
    position = ReferralPosition(
        "LB-7K3M-9Q2X-4TDW", "lightbulb-website", at, "in-progress", "a0a93a82-00f5-5b03-ba98-3939a88b722d", "in-progress",
        "intervention-completed", "hospital-housing-bradgate", "hinckley-bosworth",
        ("feedback accepted and 2 more to gp-alder-lane by fhir: attempt 3 failed (http 503), next 2026-11-16 13:10:00",),
    )  # fmt: skip
    steps = [
        TraceStep(at, "intake", "form:self from lightbulb-website: received, version 1", "answered 202; warnings: " + WARNINGS),
        TraceStep(at, "hub.hospital-housing-bradgate.case", "case.assigned"),
        TraceStep(
            at + timedelta(days=400), "router, event 12", "case.assigned",
            "by hospital-housing-bradgate; requested / awaiting-hub; holder hinckley-bosworth, home hub hinckley-bosworth;"
            " handed-over-at-discharge, community-postcode (directory 5d41402abc4b)",
        ),
        TraceStep(at + timedelta(days=400), "notifier, mailbox", "cancellation-refused to neighbourhood-teams: kept"),
    ]  # fmt: skip
    screen = Console(width=80, file=io.StringIO())
    screen.print(trace.shown(Trace(position.reference, position, steps)))
    lines = screen.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= 80
    words = {word for line in lines for word in line.split()}
    given = " ".join([*position.waits_for, *(f"{one.place} {one.what} {one.detail}" for one in steps)])
    assert {word.rstrip(";") for word in given.split()} <= {word.rstrip(";") for word in words}
    assert lines[2].split() == ["status", "in-progress"]
    names = [line.split("  ")[0] for line in lines[2:9]]
    assert list(filter(None, names)) == ["status", "case", "hubs", "last", "waits for"]
