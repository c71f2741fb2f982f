"""The commands as people type them: what they say, how they refuse, and their exit codes."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from typer.testing import CliRunner, Result

from infra.cli import app
from infra.migrations import migrate
from infra.terminal import Refused, console
from services.messaging import database as databases
from services.router.batch import Batches
from tests.conftest import execute
from tests.router.builders import DIRECTORY, GP, KEY, WARD, a_form, a_referral, cancelled, received, updated
from tests.router.conftest import emptied
from tests.router.records import NOW, a_record

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
        first = await connection.scalar(text("select min(id) from router.quarantine"))
    await engine.dispose()
    return int(first or 0)


def lightbulb(*words: str) -> Result:
    return run("quarantine", *words)


def run(*words: str) -> Result:
    console.width = 200
    return CliRunner().invoke(app, words)


def test_list_show_dry_run_and_discard(parked: str) -> None:
    listed = json.loads(lightbulb("list", "--json", "--chain", GP).stdout)
    assert [(row["id"] == parked, row["state"]) for row in listed] == [(True, "parked"), (False, "waits")]
    assert "decision: UnknownReferral" in lightbulb("list").stdout
    assert json.loads(lightbulb("show", parked).stdout)["value"]["reference"] == GP

    dry = json.loads(lightbulb("resubmit", "--all", "--reason", "decision", "--dry-run", "--json").stdout)
    assert [(one["id"] == parked, one["will"]) for one in dry["planned"]] == [(True, "resubmit"), (False, "follows")]
    assert "Nothing was touched" in lightbulb("discard", parked, "--who", "A", "--why", "b", "--dry-run").stdout
    assert [row["state"] for row in json.loads(lightbulb("list", "--json").stdout)] == ["parked", "waits"]

    assert lightbulb("discard", parked, "--who", "A", "--why", "b").exit_code == 0
    assert [row["state"] for row in json.loads(lightbulb("list", "--json").stdout)] == ["waits"]


def test_resubmit_with_an_edit_says_that_nobody_took_it_yet(parked: str, tmp_path: Path) -> None:
    (tmp_path / "edit.json").write_bytes(GOOD.value)
    header = ("--header", "ce_type=uk.lightbulb.referral.received.v1")
    told = lightbulb(
        "resubmit", parked, "--edit", str(tmp_path / "edit.json"), *header, "--who", "A", "--why", "b", "--wait", "0"
    )
    assert told.exit_code == 0
    assert "no service has tried yet" in told.output
    assert "asked" in told.output


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
    ],
)
def test_wrong_usage_exits_with_2(words: tuple[str, ...]) -> None:
    assert lightbulb(*words).exit_code == 2


def test_an_id_that_names_nothing_is_refused_in_a_sentence(parked: str) -> None:
    told = lightbulb("show", "router:0")
    assert isinstance(told.exception, Refused)
    assert "router:0 is not in quarantine" in str(told.exception)


def test_replay_says_how_fast_and_whether_it_is_equal_and_exits_with_1_where_it_is_not(
    parked: str, database: str
) -> None:
    asyncio.run(_on(database, Batches.receive, [a_record(received(WARD, a_referral()))]))
    told = run("replay", "router")
    assert (told.exit_code, "1 inputs replayed" in told.stdout, "Equal." in told.stdout) == (0, True, True)

    execute(database, "update router.person set provisional = true")
    told = run("replay", "router", "--json")
    assert told.exit_code == 1
    assert json.loads(told.stdout)["differing"] == [[KEY, ["person"]]]


def test_republish_says_what_would_go_again_and_then_does_it(parked: str, database: str) -> None:
    asyncio.run(_on(database, Batches.receive, [a_record(received(WARD, a_referral()))]))
    words = ("republish", "--hub", "blaby", "--since", "2026-01-01")
    assert "1 events about 1 persons would go to hub.blaby.case again" in run(*words, "--dry-run").stdout
    assert json.loads(run(*words, "--json").stdout)["events"] == 1


@pytest.mark.parametrize(
    "words", [("--hub", "nowhere", "--since", "2026-01-01"), ("--hub", "blaby", "--since", "then")]
)
def test_republish_refuses_a_hub_or_a_time_that_is_none(words: tuple[str, ...]) -> None:
    assert run("republish", *words).exit_code == 2


async def _on(url: str, do: Any, records: Any) -> None:
    engine = databases.connect(url)
    await do(Batches(engine, DIRECTORY, clock=lambda: NOW), records)
    await engine.dispose()
