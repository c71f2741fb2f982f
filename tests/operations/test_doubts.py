"""`lightbulb person doubts` lists who has to be traced, since when, and which hubs have the cases; no personal data."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from infra.cli.terminal import CommandError
from infra.operations import doubts
from infra.operations.doubts import DOUBTS
from services.router.consumer import Batches
from services.runtime import database as databases
from tests.builders.events import KEY, NOW, a_record, cancelled, received, updated
from tests.builders.reference_data import AT_MELTON, DIRECTORY
from tests.builders.referrals import FORM, GP, WARD, a_bradgate_referral, a_person, a_referral, an_address
from tests.operations.command_line import run
from tests.router.conftest import emptied

OTHER, LAST = "0a" * 16, "0b" * 16
NO_NUMBER = a_person(nhs_number=None, nhs_number_status="not-stated")
NUMBER, NAME = "9990000026", "Vickers"


@pytest.fixture
def doubted(migrated: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three persons in doubt: one at Blaby and the restricted team, one at Melton an hour later, and one whose case has ended."""
    monkeypatch.setenv("LIGHTBULB_DATABASE", migrated)
    asyncio.run(_prepare(migrated))


async def _prepare(url: str) -> None:
    engine = databases.connect(url)
    await emptied(engine, "router", "notifier")
    first = [
        a_record(received(GP, a_referral())),
        a_record(received(WARD, a_bradgate_referral())),
        a_record(updated(GP, a_referral(person=a_person(nhs_number="9990000034")))),
        a_record(received(FORM, a_referral(person=NO_NUMBER)), key=LAST),
        a_record(cancelled(FORM), key=LAST),
    ]
    at_melton = a_person(**{**NO_NUMBER.model_dump(exclude={"address"}), "address": an_address(AT_MELTON)})
    clock = iter([NOW, NOW + timedelta(hours=1), NOW + timedelta(hours=2)])
    batches = Batches(engine, DIRECTORY, clock=lambda: next(clock))
    await batches.receive(first)
    await batches.receive([a_record(received(FORM, a_referral(person=at_melton)), key=OTHER)])
    await batches.receive([a_record(updated(GP, a_referral(person=a_person(nhs_number=None)), version=3))])
    await engine.dispose()


def listed(*words: str) -> dict[str, Any]:
    result = run("person", "doubts", "--json", *words)
    assert result.exit_code == 0
    return json.loads(result.stdout)


@pytest.mark.usefixtures("doubted")
def test_persons_with_an_open_case_are_listed_by_the_age_of_their_first_doubt() -> None:
    entries = listed()["entries"]

    assert [(one["person_key"], one["doubts"], one["since"]) for one in entries] == [
        (KEY, ["number-changed"], NOW.isoformat()),
        (OTHER, ["no-number"], (NOW + timedelta(hours=1)).isoformat()),
    ]
    (case,) = entries[0]["cases"]
    assert (case["holder"], case["home_hub"], case["open"]) == ("hospital-housing-bradgate", "blaby", True)


@pytest.mark.usefixtures("doubted")
def test_the_list_is_filtered_and_bounded_and_says_if_there_is_more() -> None:
    assert [one["person_key"] for one in listed("--doubt", "no-number")["entries"]] == [OTHER]
    assert [one["person_key"] for one in listed("--doubt", "no-number", "--ended")["entries"]] == [LAST, OTHER]
    bounded = listed("--limit", "1")
    assert ([one["person_key"] for one in bounded["entries"]], bounded["more"]) == ([KEY], True)
    assert listed()["more"] is False
    told = run("person", "doubts", "--limit", "1")
    assert (told.exit_code, "There are more than 1" in told.stderr) == (0, True)


@pytest.mark.usefixtures("doubted")
def test_the_table_names_no_person() -> None:
    shown = run("person", "doubts", "--ended").stdout

    for word in (f"{KEY}/1", "number-changed", "hospital-housing-bradgate, blaby", "2026-11-23 12:00", "(ended)"):
        assert word in shown
    assert NUMBER not in shown
    assert NAME not in shown


def test_an_empty_list_is_no_error(migrated: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTBULB_DATABASE", migrated)

    async def empty() -> None:
        engine = databases.connect(migrated)
        await emptied(engine, "router", "notifier")
        await engine.dispose()

    asyncio.run(empty())
    assert listed() == {"entries": [], "more": False}
    assert "No person is in doubt." in run("person", "doubts").stdout


@pytest.mark.parametrize("words", [("--limit", "0"), ("--limit", "1001"), ("--doubt", "any"), ("--colour", "red")])
def test_wrong_usage_exits_with_2(words: tuple[str, ...]) -> None:
    assert run("person", "doubts", *words).exit_code == 2


def test_a_database_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTBULB_DATABASE", "postgresql+asyncpg://nobody@127.0.0.1:1/none")

    error = run("person", "doubts").exception
    assert isinstance(error, CommandError)
    assert "not reachable" in str(error)


def test_the_help_explains_every_doubt() -> None:
    told = run("person", "doubts", "--help").stdout
    assert DOUBTS
    assert [doubt for doubt in DOUBTS if doubt not in told] == []


async def test_no_query_reads_the_history(migrated: str) -> None:
    """With many ended cases and few open ones, both lists use an index whose size is that of the work."""
    engine = databases.connect(migrated)
    await emptied(engine, "router", "notifier")
    async with engine.begin() as tx:
        await tx.execute(text(_MANY))
        await tx.execute(text('analyze router."case"'))
        await tx.execute(text("analyze router.person"))
    async with engine.connect() as tx:
        plans = [await _plan(tx, query) for query in (doubts._OF_OPEN_CASES, doubts._ALL)]
    await emptied(engine, "router", "notifier")
    await engine.dispose()
    assert [node for plan in plans for node in plan if "Seq Scan" in node] == []


_MANY = """
    with numbers as (select n, lpad(to_hex(n), 32, '0') as key from generate_series(1, 20000) as n), persons as (
        insert into router.person (person_key, person_no, referrals, verified, provisional, tracing_reasons, doubted_since,
            check_before_contact, state, updated_at)
        select key, 1, 1, 0, true, '{no-number}', now() + make_interval(secs => n), false, '', now() from numbers
    )
    insert into router."case" (person_key, case_id, person_no, status, business_status, pathway, reasons, directory_version, tally, state,
        opened_at, updated_at, ended_at)
    select key, key, 1, 'completed', 'assessed', 'housing-mot', '{}', 'v', '', '', now(), now(), case when n % 1000 > 0 then now() end
    from numbers"""


async def _plan(tx: databases.Transaction, query: str) -> list[str]:
    literal = query.replace(":doubt", "null::text").replace(":limit", "100")
    return list((await tx.exec_driver_sql(f"explain {literal}")).scalars())
