"""Feedback that failed is listed, shown and sent again as an operator does it, with the same ids and bytes."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.operations.reconcile import notifier
from services.runtime import database
from tests.conftest import empty
from tests.notifier.builders import GP, GP_MAILBOX, GP_MESH, a_life, by_gp, the_recipients
from tests.notifier.gp_system import Answer, GpSystem, outcome
from tests.notifier.running import a_notifier, contents, rows, until_rows
from tests.operations.command_line import run

WHO = ("--who", "A. Operator", "--why", "the endpoint was repaired")
ALL = "select * from notifier.feedback order by reference, recipient, ordinal"
DONE = "select * from notifier.feedback where state = 'accepted'"

Do = Callable[[Callable[[AsyncEngine], Coroutine[Any, Any, Any]]], Any]


@pytest.fixture
def do(migrated: str, monkeypatch: pytest.MonkeyPatch) -> Do:
    """Run a coroutine with an engine of an empty database, to which the commands connect too."""
    url = empty(migrated, "notifier")
    monkeypatch.setenv("LIGHTBULB_DATABASE", url)

    def done(work: Callable[[AsyncEngine], Coroutine[Any, Any, Any]]) -> Any:
        return asyncio.run(_with_engine(url, work))

    return done


async def _with_engine(url: str, work: Callable[[AsyncEngine], Coroutine[Any, Any, Any]]) -> Any:
    engine = database.connect(url)
    try:
        return await work(engine)
    finally:
        await engine.dispose()


async def _bodies(engine: AsyncEngine) -> dict[str, bytes]:
    stored = await rows(engine, ALL)
    return {str(row.feedback_id): one.body for row, one in zip(stored, await contents(engine, stored), strict=True)}


def listed(*words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("feedback", "list", "--json", *words).stdout)["feedback"]
    return found


async def _a_lost_conversation(engine: AsyncEngine) -> None:
    """Its home-hub feedback was rejected; the next one, which restates, waits for a busy endpoint. Another practice's is kept."""
    async with GpSystem() as gp:
        gp.first(Answer(422, outcome("invalid")), *[Answer(503, headers={"Retry-After": "600"})] * 9)
        async with a_notifier(engine, the_recipients({GP: gp.url})) as notifier:
            await notifier.receive(*a_life(by_gp(reference="LB-LOST"), "life"))
            await notifier.receive(*a_life(by_gp(GP_MAILBOX, reference="LB-KEPT"), "kept", "b" * 32))
            await until_rows(engine, "select * from notifier.attempt", 2)


async def _delivered(engine: AsyncEngine, count: int) -> list[bytes]:
    """Deliver at once until this many were accepted; return the bodies in the order of arrival."""
    async with engine.begin() as tx:
        await tx.execute(text("delete from notifier.endpoint"))
        await tx.execute(text("update notifier.conversation set due_at = now() where due_at is not null"))
    async with GpSystem() as gp, a_notifier(engine, the_recipients({GP: gp.url})):
        await until_rows(engine, DONE, count)
        assert [headers["x-request-id"] for headers, _ in gp.received] == list(gp.kept)
    return [body for _, body in gp.received]


def test_failed_feedback_is_found_by_its_filters(do: Do) -> None:
    do(_a_lost_conversation)
    [failed] = listed("--failed")
    assert (failed["recipient"], failed["feedback_type"], failed["reason"]) == (GP, "home-hub", "http 422")
    [waiting] = listed("--waiting")
    assert (waiting["feedback_type"], waiting["reason"]) == ("completed", "http 503")
    assert waiting["held_by"].startswith("its next attempt at")
    assert [one["reference"] for one in listed("--unfetched")] == ["LB-KEPT"] * 2
    assert [one["state"] for one in listed()] == ["failed", "waiting"]
    assert [one["state"] for one in listed("--reference", "lb-lost")] == ["failed", "waiting"]
    assert listed("--failed", "--partner", GP, "--channel", "fhir", "--reason", "http 4") == [failed]
    for other in (("--partner", GP_MESH), ("--channel", "mesh"), ("--reason", "gave up"), ("--until", "2026-01-01")):
        assert listed("--failed", *other) == []
    lines = run("feedback", "list").stdout.splitlines()
    assert any(failed["id"] in line for line in lines)
    assert f"  to {GP} (fhir): http 503; waits for its next attempt at" in " ".join(lines)


def test_feedback_is_shown_masked_and_with_personal_data_on_record(do: Do) -> None:
    do(_a_lost_conversation)
    [failed] = listed("--failed")
    masked = run("feedback", "show", failed["id"])
    assert "Vantongeren" not in masked.stdout
    assert json.loads(masked.stdout)["content"]["feedback_type"] == "home-hub"
    assert [one["outcome"] for one in json.loads(masked.stdout)["tried"]] == ["failed"]
    assert run("feedback", "show", failed["id"], "--personal").exit_code == 2
    personal = json.loads(run("feedback", "show", failed["id"], "--personal", *WHO).stdout)
    assert personal["content"]["person"]["family_name"] == "Vantongeren"
    assert "Vantongeren" in personal["body"]
    assert json.loads(run("feedback", "show", failed["id"]).stdout)["actions"][0]["action"] == "show personal"


def test_failed_feedback_is_sent_again_with_the_same_bytes_before_what_waits(do: Do) -> None:
    do(_a_lost_conversation)
    before = do(_bodies)
    [failed], [waiting] = listed("--failed"), listed("--waiting")
    dry = json.loads(run("feedback", "resend", failed["id"], waiting["id"], "--dry-run", "--json", *WHO).stdout)
    assert [one["will"] for one in dry["planned"]] == ["resend", "stays"]
    assert dry["planned"][1]["because"].startswith("it is waiting for its next attempt")
    assert listed("--failed") == [failed]

    assert run("feedback", "resend", "--all", "--partner", GP, *WHO).exit_code == 0
    assert listed("--failed") == []
    assert run("feedback", "resend", failed["id"], *WHO).exit_code == 0  # it is waiting now: nothing changes
    bodies = do(lambda engine: _delivered(engine, 2))
    assert bodies == [before[failed["feedback_id"]], before[waiting["feedback_id"]]]
    shown = json.loads(run("feedback", "show", failed["id"]).stdout)
    assert (shown["state"], shown["attempts"]) == ("accepted", 2)
    assert [row.attempts for row in do(lambda engine: rows(engine, DONE))] == [2, 2]
    assert [(one["action"], one["operator"], one["reason"]) for one in shown["actions"]] == [
        ("resend feedback", WHO[1], WHO[3])
    ]
    [conversation] = do(lambda engine: rows(engine, "select * from notifier.conversation where recipient = :r", r=GP))
    assert (conversation.next, conversation.resend, conversation.due_at) == (3, None, None)


def test_an_outcome_from_before_a_resend_does_not_end_it(do: Do) -> None:
    do(_a_lost_conversation)
    [failed] = listed("--failed")
    run("feedback", "resend", failed["id"], *WHO)
    [row] = do(lambda engine: rows(engine, f"{FIRST} where state = 'waiting' and ordinal = 1"))
    moments = {"before": row.resent - timedelta(milliseconds=1), "after": row.resent + timedelta(milliseconds=1)}
    for when, at in moments.items():
        known = {(row.person_key, str(row.feedback_id)): {"outcome": "failed", "reason": "http 422", "at": at}}
        assert do(partial(notifier.unknown, known=known)) == (known if when == "after" else {}), when


FIRST = "select person_key, feedback_id, resent_at as resent from notifier.feedback"


def test_accepted_feedback_is_sent_again_by_its_id_only_and_what_is_kept_is_not(do: Do) -> None:
    do(_a_lost_conversation)
    do(lambda engine: _delivered(engine, 1))
    [accepted] = [one for one in listed("--reference", "LB-LOST") if one["state"] == "accepted"]
    run("feedback", "resend", "--all", "--reference", "LB-KEPT", *WHO)
    assert [one["will"] for one in _planned(listed("--unfetched")[0]["id"])] == ["stays"]
    assert [one["because"] for one in _planned(accepted["id"])] == ["it was accepted"]
    assert len(do(lambda engine: _delivered(engine, 1))) == 1


def _planned(*ids: str) -> list[dict[str, Any]]:
    planned: list[dict[str, Any]] = json.loads(run("feedback", "resend", *ids, "--json", *WHO).stdout)["planned"]
    return planned


@pytest.mark.parametrize(
    "words",
    [
        ("resend",),
        ("resend", "LB-1:aa", "--all"),
        ("resend", "LB-1:aa", "--partner", GP),
        ("list", "--channel", "post"),
        ("list", "--since", "yesterday"),
        ("list", "--limit", "0"),
    ],
)
def test_wrong_usage_is_said(words: tuple[str, ...]) -> None:
    assert run("feedback", *words).exit_code == 2


@pytest.mark.parametrize("name", ["LB-1", "LB-1:aaaaaaaa", "nonsense"])
def test_an_id_that_names_no_feedback_is_refused(do: Do, name: str) -> None:
    refused = run("feedback", "show", name)
    assert refused.exit_code == 1
    assert name in str(refused.exception)
