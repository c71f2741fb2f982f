"""A dry run says of each row what a real upload would, and leaves everything as it was."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.intake import limits
from services.runtime import database
from tests.builders.csv import Row, a_file, a_row
from tests.builders.workbook import MEDIA_TYPE, a_workbook
from tests.intake.council_client import counts, in_pieces, outcomes, table, upload
from tests.intake.proxy import Wire
from tests.intake.running import InProcess, Installation, Reply, rows

DRY = "?dry-run=true"


async def everything(engine: AsyncEngine) -> dict[str, list[str]]:
    """Every row of every table of intake, and the next value of every sequence."""
    async with engine.connect() as connection:
        found = await connection.execute(
            text("""
                select relname, relkind::text from pg_class where relnamespace = 'intake'::regnamespace
                and relkind in ('r', 'p', 'S')""")
        )
        names = sorted(found.all())
        assert len(names) > 6
        contents = {}
        for name, kind in names:
            shown = "last_value || ' ' || is_called" if kind == "S" else "one::text"
            read = await connection.execute(text(f'select {shown} from intake."{name}" as one order by 1'))
            contents[name] = list(read.scalars())
    return contents


async def test_a_dry_run_of_a_workbook_stores_nothing_and_has_the_outcomes_of_the_upload(
    intake: InProcess, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WINDOW_ROWS", 2)
    good, bad = a_row("blaby"), a_row("blaby", Case_Ref="BDC/9", Sex="woman")
    workbook = a_workbook("blaby", [good, bad, good], title=["Our export"])
    before = await everything(engine)
    dry = await upload(intake, "blaby", workbook, query=DRY, content_type=MEDIA_TYPE)
    assert await everything(engine) == before
    real = await upload(intake, "blaby", workbook, content_type=MEDIA_TYPE)
    said = [[(row["row"], row["outcome"], row["faults"]) for row in reply.json()["rows"]] for reply in (dry, real)]
    assert said[0] == said[1]
    assert [outcome for _, outcome, _ in said[0]] == ["received", "refused", "already-held"]


def blaby_rows(number: int, **changes: str) -> list[Row]:
    return [a_row("blaby", Case_Ref=f"BDC/{at}", NHS_No="", **changes) for at in range(1, number + 1)]


async def held(intake: InProcess) -> None:
    """Two referrals, of which the second is cancelled."""
    await upload(intake, "blaby", a_file("blaby", blaby_rows(2)))
    cancelled = blaby_rows(2, Case_Status="Withdrawn", Last_Changed="04/11/2026 10:00")[1:]
    assert counts(await upload(intake, "blaby", a_file("blaby", cancelled))) == {"rows": 1, "cancelled": 1}


async def test_a_dry_run_reports_new_changed_repeated_and_refused_rows_and_gives_new_ones_no_reference(
    intake: InProcess,
) -> None:
    await held(intake)
    same, _, new, other = blaby_rows(4)
    bad = a_row("blaby", Case_Ref="BDC/9", Sex="woman")
    file = a_file("blaby", [same, new, new, other, other | {"Tel": "0116 496 0199"}, bad])
    reply = await upload(intake, "blaby", file, query=DRY)
    assert reply.json()["dry_run"] is True
    assert outcomes(reply) == [
        ("BDC/1", "already-held"),
        ("BDC/3", "received"),
        ("BDC/3", "already-held"),
        ("BDC/4", "refused"),
        ("BDC/4", "refused"),
        ("BDC/9", "refused"),
    ]
    references = [row["reference"] for row in reply.json()["rows"]]
    assert references[0].startswith("LB-")
    assert references[1:] == [None] * 5
    assert [fault["column"] for fault in reply.json()["rows"][-1]["faults"]] == ["Sex"]
    assert counts(reply) == {"rows": 6, "received": 1, "already-held": 2, "refused": 3}


async def test_after_a_dry_run_every_table_is_as_before(
    intake: InProcess, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WINDOW_ROWS", 2)
    await held(intake)
    before = await everything(engine)
    changed = a_file("blaby", blaby_rows(7, Tel="0116 496 0199", Last_Changed="05/11/2026 10:00"))
    assert counts(await upload(intake, "blaby", changed, query=DRY))["received"] == 5
    assert (await upload(intake, "blaby", changed, query=DRY, accept="text/csv")).status == 200
    assert (await upload(intake, "blaby", a_file("harborough"), query=DRY)).status == 400
    cut_off = await in_pieces(intake, "blaby", [changed[:-1]], query=DRY, breaks_off=True)
    assert cut_off is not None
    assert "incomplete" in cut_off.json()["detail"]
    assert await everything(engine) == before


async def test_a_dry_run_that_its_client_leaves_is_deleted(
    intake: InProcess, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WINDOW_ROWS", 2)
    before = await everything(engine)

    async def leaves(_: int) -> bool:
        assert len(await rows(engine, "select 1 from intake.upload")) == 1
        return False

    reply = await in_pieces(intake, "blaby", [a_file("blaby", blaby_rows(20))], query=DRY, at_piece=leaves)
    assert reply is not None
    assert reply.body.endswith(b"}")
    assert await everything(engine) == before


async def test_a_real_upload_is_not_held_up_by_a_dry_run_of_the_same_rows(
    intake: InProcess, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WINDOW_ROWS", 2)
    file = a_file("blaby", blaby_rows(12))
    taken: list[Reply] = []

    async def uploads(piece: int) -> bool:
        if piece == 2:
            taken.append(await upload(intake, "blaby", file))
        return True

    reply = await in_pieces(intake, "blaby", [file], query=DRY, at_piece=uploads)
    assert counts(taken[0]) == {"rows": 12, "received": 12}
    assert reply is not None
    assert counts(reply) == {"rows": 12, "received": 4, "already-held": 8}


async def test_a_dry_run_waits_for_no_lock(intake: InProcess, engine: AsyncEngine) -> None:
    await held(intake)
    async with engine.begin() as tx:
        await tx.execute(text("select 1 from intake.referral for update"))
        async with asyncio.timeout(5):
            reply = await upload(intake, "blaby", a_file("blaby", blaby_rows(1)), query=DRY)
    assert counts(reply) == {"rows": 1, "already-held": 1}


async def test_the_csv_report_of_a_dry_run_cannot_be_taken_for_a_real_one(intake: InProcess) -> None:
    reply = await upload(intake, "blaby", a_file("blaby"), query=DRY, accept="text/csv")
    header, row = table("blaby", reply)
    assert (header[-2], row[-3:]) == ("lightbulb_dry_run_outcome", ["", "received", ""])


async def test_a_real_report_says_that_it_is_not_a_dry_run(intake: InProcess) -> None:
    for query in ("", "?dry-run=false"):
        assert (await upload(intake, "blaby", a_file("blaby"), query=query)).json()["dry_run"] is False


async def test_a_database_outage_leaves_the_rest_of_a_dry_run_unchecked_and_says_that_nothing_was_accepted(
    installation: Installation, database_url: str, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WINDOW_ROWS", 5)
    monkeypatch.setattr(limits, "ROW_PAUSES", ())
    async with Wire(database_url) as wire:
        through = database.connect(wire.url)
        async with InProcess(installation, through) as intake:

            async def cut(piece: int) -> bool:
                if piece == 1:
                    await wire.cut()
                return True

            reply = await in_pieces(intake, "blaby", [a_file("blaby", blaby_rows(15))], query=DRY, at_piece=cut)
        await through.dispose()
    assert reply is not None
    assert counts(reply) == {"rows": 15, "received": 5, "not-processed": 10}
    assert "No row was accepted" in reply.json()["attention"]
    assert await rows(engine, "select 1 from intake.message") == []


MISTYPED = {
    "?dryrun=true": "unknown query parameter 'dryrun'",
    "?dry_run=true": "unknown query parameter 'dry_run'",
    "?Dry-Run=true": "unknown query parameter 'Dry-Run'",
    "?dry-run=true&verbose=1": "unknown query parameter 'verbose'",
    "?Mrs+Smith=1": "unknown query parameter: only",
    "?dry-run": "must be given once, as true or false",
    "?dry-run=": "must be given once, as true or false",
    "?dry-run=True": "must be given once, as true or false",
    "?dry-run=1": "must be given once, as true or false",
    "?dry-run=true&dry-run=true": "must be given once, as true or false",
    "?dry-run=false&dry-run=true": "must be given once, as true or false",
}


@pytest.mark.parametrize("query", MISTYPED)
async def test_a_mistyped_query_is_refused_and_nothing_is_accepted(
    query: str, intake: InProcess, engine: AsyncEngine
) -> None:
    reply = await upload(intake, "blaby", a_file("blaby"), query=query)
    assert (reply.status, MISTYPED[query] in reply.json()["detail"]) == (400, True), reply.body
    assert await rows(engine, "select 1 from intake.message") == []


# ---- the same outcomes as a real upload -------------------------------------------------------------------------------

CHANGES: list[Row] = [
    {},
    {},
    {"Tel": "0116 496 0199"},
    {"Case Status": "Withdrawn"},
    {"Consent Share": "N"},
    {"Last Changed": "02/11/2026 09:00"},
    {"Last Changed": "05/11/2026 09:00", "Tel": "0116 496 0144"},
    {"Sex": "woman"},
    {"NHS No": "999 000 0018"},
    {"Surname": "Oakley", "DOB": "01/02/1939", "NHS No": "999 000 0026"},
    {"Case Ref": ""},
]


def a_random_file(chance: random.Random) -> bytes:
    """Rows of a few references, some of them several times, some equal and some not."""
    made = [
        a_row("blaby", Case_Ref=f"BDC/{chance.randrange(9)}", NHS_No="") | chance.choice(CHANGES)
        for _ in range(chance.randrange(1, 12))
    ]
    return a_file("blaby", [*made, *chance.sample(made, min(3, len(made)))])


async def differences(installation: Installation, chances: list[random.Random]) -> AsyncIterator[tuple[Reply, Reply]]:
    """Yield the answer to a dry run of a file, and to the file itself, for one file after the other."""
    engine = database.connect(installation.database)
    async with InProcess(installation, engine) as intake:
        for chance in chances:
            file = a_random_file(chance)
            before = await everything(engine)
            dry = await upload(intake, "blaby", file, query=DRY)
            assert await everything(engine) == before
            yield dry, await upload(intake, "blaby", file)
    await engine.dispose()


def without_new_references(reply: Reply, known: set[str]) -> list[dict[str, object]]:
    return [
        row | {"reference": row["reference"] if row["reference"] in known else None} for row in reply.json()["rows"]
    ]


@given(chances=st.lists(st.randoms(use_true_random=False), min_size=2, max_size=6))
@settings(
    max_examples=16, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_a_real_upload_then_has_exactly_the_outcomes_that_the_dry_run_said(
    installation: Installation, chances: list[random.Random]
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(limits, "WINDOW_ROWS", 3)

        async def compare() -> None:
            async for dry, real in differences(installation, chances):
                known = {row["reference"] for row in dry.json()["rows"]} - {None}
                assert dry.json()["rows"] == without_new_references(real, known)
                assert dry.json()["summary"] == real.json()["summary"]

        asyncio.run(compare())
