"""The commands as an operator types them: output, errors and exit codes."""

import asyncio
import getpass
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from infra.cli.terminal import CommandError
from infra.database.migrations import migrate
from infra.operations import dead_letters
from infra.operations.replay import ReplayTarget, replay_schema
from services.router.consumer import Batches
from services.runtime import database as databases
from tests.builders.events import KEY, NOW, a_record, cancelled, received, updated
from tests.builders.reference_data import DIRECTORY
from tests.builders.referrals import GP, WARD, a_form, a_referral
from tests.conftest import execute
from tests.operations.command_line import lightbulb, run
from tests.router.conftest import emptied

GOOD = a_record(received(GP, a_referral()))


@pytest.fixture
def parked(database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A record that no decision can be made on, and one that waits behind it; the name of the first."""
    monkeypatch.setenv("LIGHTBULB_DATABASE", database)
    migrate(database)
    return f"router:{asyncio.run(_park(database))}"


async def _park(url: str) -> int:
    engine = databases.connect(url)
    await emptied(engine, "router", "notifier")
    await Batches(engine, DIRECTORY, clock=lambda: NOW).receive(
        [a_record(cancelled(GP)), a_record(updated(GP, a_form()))]
    )
    async with engine.connect() as connection:
        first = await connection.scalar(text("select min(id) from router.dead_letter"))
    await engine.dispose()
    return int(first or 0)


def test_dead_letters_can_be_listed_shown_planned_and_discarded(parked: str) -> None:
    listed = json.loads(lightbulb("list", "--json", "--group", GP).stdout)
    assert [(row["id"] == parked, row["state"]) for row in listed] == [(True, "open"), (False, "waiting")]
    shown = lightbulb("list").stdout
    assert "the referral that it names is not known" in shown
    assert "(decision: UnknownReferral)" in shown
    assert json.loads(lightbulb("show", parked).stdout)["value"]["reference"] == GP

    dry = json.loads(lightbulb("resubmit", "--all", "--reason", "decision", "--dry-run", "--json").stdout)
    assert [(one["id"] == parked, one["will"]) for one in dry["planned"]] == [(True, "resubmit"), (False, "follows")]
    assert "Nothing was changed" in lightbulb("discard", parked, "--who", "A", "--why", "b", "--dry-run").stdout
    assert [row["state"] for row in json.loads(lightbulb("list", "--json").stdout)] == ["open", "waiting"]

    assert lightbulb("discard", parked, "--who", "A", "--why", "b").exit_code == 0
    assert [row["state"] for row in json.loads(lightbulb("list", "--json").stdout)] == ["waiting"]


def test_resubmit_with_an_edit_reports_that_no_service_has_tried_it_yet(parked: str, tmp_path: Path) -> None:
    (tmp_path / "edit.json").write_bytes(GOOD.value)
    header = ("--header", "ce_type=uk.lightbulb.referral.received.v1")
    told = lightbulb(
        "resubmit", parked, "--edit", str(tmp_path / "edit.json"), *header, "--who", "A", "--why", "b", "--wait", "0"
    )
    assert told.exit_code == 0
    assert "no service has tried it yet" in told.output
    assert "resubmitting" in told.output


def test_a_header_alone_is_corrected_and_later_corrections_keep_earlier_ones(parked: str, database: str) -> None:
    who = ("--who", "A", "--why", "b", "--wait", "0")
    for header in ("ce_id=another-id", "ce_source=another/source"):
        assert lightbulb("resubmit", parked, "--header", header, *who).exit_code == 0
    original, *_, latest = json.loads(lightbulb("show", parked).stdout)["edits"]
    assert (original["headers"]["ce_id"], latest["headers"]["ce_id"]) == ("another-id", "another-id")
    assert latest["headers"]["ce_source"] == "another/source"
    assert latest["value"]["reference"] == GP
    assert lightbulb("resubmit", parked, "--header", "ce_id=x").exit_code == 2


@pytest.mark.parametrize(
    "words",
    [
        ("resubmit",),
        ("resubmit", "router:1", "--all"),
        ("resubmit", "router:1", "--reason", "x"),
        ("resubmit", "router:1", "--edit", "README.md"),
        ("resubmit", "router:1", "--header", "ce_type"),
        ("discard", "router:1"),
        ("discard", "router:1", "--who", " ", "--why", " "),
        ("show", "router:1", "--personal"),
        ("show", "router:1", "--personal", "--who", "A"),
        ("list", "--service", "intake"),
        ("list", "--since", "yesterday"),
        ("list", "--since", ""),
        ("list", "--since", "2026-13-01"),
        ("list", "--until", "0001-01-01T00:00+23:00"),
        ("list", "--since", "2026-11-23", "--until", "2026-11-23"),
        ("resubmit", "--all", "--since", "2026-11-23", "--until", "2026-11-22"),
    ],
)
def test_wrong_usage_of_quarantine_commands_exits_with_2(words: tuple[str, ...]) -> None:
    assert lightbulb(*words).exit_code == 2


@pytest.mark.parametrize("name", ["router:0", f"router:{10**20}", "intake:1", "17"])
@pytest.mark.parametrize("command", [("show",), ("resubmit",), ("discard", "--who", "A", "--why", "b")])
def test_an_unknown_id_is_refused_with_an_error_message(parked: str, command: tuple[str, ...], name: str) -> None:
    told = lightbulb(*command, name)
    assert isinstance(told.exception, CommandError)
    assert f"{name} is" in str(told.exception)
    assert "lightbulb quarantine list" in str(told.exception)


def test_one_unknown_id_among_others_prevents_every_change(parked: str) -> None:
    assert isinstance(lightbulb("resubmit", parked, "router:0").exception, CommandError)
    assert states() == ["open", "waiting"]


def test_a_user_without_a_name_must_give_one(parked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr(getpass, "getuser", unknown)
    assert lightbulb("resubmit", parked, "--wait", "0").exit_code == 2
    assert lightbulb("resubmit", parked, "--wait", "0", "--who", "A. Operator").exit_code == 0


def states() -> list[str]:
    return [row["state"] for row in json.loads(lightbulb("list", "--json").stdout)]


@pytest.mark.parametrize("words", [("list",), ("resubmit", "--all"), ("discard", "--all", "--who", "A", "--why", "b")])
def test_an_empty_result_is_reported_with_exit_code_0(parked: str, words: tuple[str, ...]) -> None:
    told = lightbulb(*words, "--reason", "no such reason")
    assert (told.exit_code, "No matching dead letters" in told.stdout) == (0, True)
    told = lightbulb(*words, "--reason", "no such reason", "--json")
    assert json.loads(told.stdout) in ([], {"dry_run": False, "planned": [], "now": []})


def test_a_dry_run_of_an_edit_stores_nothing(parked: str, tmp_path: Path, database: str) -> None:
    (tmp_path / "edit.json").write_bytes(GOOD.value)
    edit = ("--edit", str(tmp_path / "edit.json"), "--header", "ce_type=uk.lightbulb.referral.received.v1")
    before = dump(database)
    told = lightbulb("resubmit", parked, *edit, "--who", "A", "--why", "b", "--dry-run", "--json")

    assert [one["will"] for one in json.loads(told.stdout)["planned"]] == ["resubmit", "follows"]
    assert dump(database) == before


def dump(url: str) -> list[Any]:
    """Everything that a command about quarantine may write."""
    tables = ("dead_letter", "dead_letter_edit", "operator_action")
    queries = [f"select * from {schema}.{table}" for schema in ("router", "notifier") for table in tables]

    async def everything() -> list[Any]:
        engine = databases.connect(url)
        async with engine.connect() as tx:
            found = [tuple(row) for query in queries for row in await tx.execute(text(query))]
        await engine.dispose()
        return found

    return asyncio.run(everything())


# ---- servers that are away ------------------------------------------------------------------------------------------

ASKING = [
    ("quarantine", "list"),
    ("quarantine", "show", "router:1"),
    ("quarantine", "resubmit", "--all"),
    ("quarantine", "discard", "--all", "--who", "A", "--why", "b"),
    ("replay", "router"),
    ("republish", "--hub", "blaby", "--since", "2026-01-01"),
    ("trace", "LB-0000-0000-0000"),
    ("find", "FCP-2026-11834"),
    ("find", "--partner", "gp-alder-lane"),
]


@pytest.mark.parametrize("words", ASKING, ids=" ".join)
def test_an_unavailable_database_is_reported_with_the_next_step(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIGHTBULB_DATABASE", "postgresql+asyncpg://nobody:none@127.0.0.1:1/none")
    told = run(*words)
    assert isinstance(told.exception, CommandError)
    assert "The database is not reachable (ConnectionRefusedError). Start it" in str(told.exception)


def test_the_error_for_a_database_without_tables_names_the_migrate_command(
    new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIGHTBULB_DATABASE", new_database())
    for words in ASKING:
        told = run(*words)
        assert isinstance(told.exception, CommandError)
        assert "run `lightbulb migrate`" in str(told.exception)


def test_an_invalid_database_address_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTBULB_DATABASE", "mysql://nowhere")
    assert "LIGHTBULB_DATABASE: postgresql+asyncpg://" in str(lightbulb("list").exception)


def test_while_kafka_is_unavailable_only_publishing_is_delayed(
    parked: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands need the database alone; what they ask for waits there until a service can do it."""
    monkeypatch.setenv("LIGHTBULB_KAFKA", "127.0.0.1:1")
    asyncio.run(_on(database, Batches.receive, [a_record(received(WARD, a_referral()))]))
    assert lightbulb("resubmit", parked, "--wait", "0").exit_code == 0
    assert states() == ["resubmitting", "waiting"]
    assert json.loads(run("republish", "--hub", "blaby", "--since", "2026-01-01", "--json").stdout)["events"] == 1
    assert run("replay", "router").exit_code == 0


@pytest.mark.parametrize("fault", [ConnectionResetError(), TimeoutError()])
def test_a_database_failure_during_a_command_leaves_no_partial_change(
    parked: str, database: str, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    """The rows are marked already when the record of who did it fails."""

    async def failing(*_: Any) -> None:
        raise fault

    before = dump(database)
    with monkeypatch.context() as patched:
        patched.setattr(dead_letters, "record_action", failing)
        told = [lightbulb("resubmit", "--all"), lightbulb("discard", "--all", "--who", "A", "--why", "b")]

    assert all(isinstance(one.exception, CommandError) for one in told)
    assert dump(database) == before


# ---- replays that stand in each other's way -------------------------------------------------------------------------


def test_a_concurrent_second_replay_is_refused_and_does_not_disturb_the_first(parked: str, database: str) -> None:
    async def while_one_runs() -> Any:
        place = ReplayTarget(database, "router", "replay_router", ("input",))
        async with replay_schema(place) as (source, _):
            told = await asyncio.to_thread(run, "replay", "router")
            async with source.connect() as tx:
                assert await tx.scalar(text("select count(*) from replay_router.input")) == 0
            return told.exception

    refused = asyncio.run(while_one_runs())
    assert "Another replay of the router is running" in str(refused)
    assert run("replay", "router").exit_code == 0


def test_kept_tables_of_a_replay_are_replaced_only_on_request(parked: str, database: str) -> None:
    assert run("replay", "router", "--keep").exit_code == 0
    refused = run("replay", "router")
    assert isinstance(refused.exception, CommandError)
    assert "The schema replay_router exists" in str(refused.exception)
    assert "--replace" in str(refused.exception)
    assert run("replay", "router", "--replace").exit_code == 0
    assert run("replay", "router").exit_code == 0


def test_tables_that_a_killed_replay_left_do_not_prevent_the_next(parked: str, database: str) -> None:
    execute(database, "create schema replay_router")
    assert run("replay", "router").exit_code == 0


def test_replay_reports_rate_and_equality_and_exits_with_1_on_a_difference(parked: str, database: str) -> None:
    asyncio.run(_on(database, Batches.receive, [a_record(received(WARD, a_referral()))]))
    told = run("replay", "router")
    assert (told.exit_code, "1 inputs replayed" in told.stdout, "Equal." in told.stdout) == (0, True, True)

    execute(database, "update router.person set provisional = true")
    told = run("replay", "router", "--json")
    assert told.exit_code == 1
    assert json.loads(told.stdout)["differing"] == [[KEY, ["person"]]]


def test_republish_without_events_reports_that_and_changes_nothing(parked: str, database: str) -> None:
    told = run("republish", "--hub", "blaby", "--since", "2126-01-01")
    assert (told.exit_code, "There are no events of hub.blaby.case since 2126-01-01 00:00 (UTC)" in told.stdout) == (
        0,
        True,
    )
    assert not [row for row in dump(database) if "republish" in row]


def test_a_dry_run_of_republish_reports_the_events_that_republish_then_sends(parked: str, database: str) -> None:
    asyncio.run(_on(database, Batches.receive, [a_record(received(WARD, a_referral()))]))
    words = ("republish", "--hub", "blaby", "--since", "2026-01-01")
    assert "1 events about 1 persons would be published to hub.blaby.case again" in run(*words, "--dry-run").stdout
    assert json.loads(run(*words, "--json").stdout)["events"] == 1


@pytest.mark.parametrize(
    "words",
    [
        ("--hub", "nowhere", "--since", "2026-01-01"),
        ("--hub", "blaby", "--since", "then"),
        ("--hub", "blaby", "--since", ""),
        ("--hub", "blaby"),
    ],
)
def test_republish_refuses_an_unknown_hub_and_an_invalid_time(words: tuple[str, ...]) -> None:
    assert run("republish", *words).exit_code == 2


async def _on(url: str, do: Any, records: Any) -> None:
    engine = databases.connect(url)
    await do(Batches(engine, DIRECTORY, clock=lambda: NOW), records)
    await engine.dispose()
