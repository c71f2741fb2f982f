"""What may go wrong while a council's file is worked on, and whatever a council may send: one answer, and the truth about each row."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.intake import limits
from services.runtime import database
from tests.builders.csv import COUNCILS, a_file, a_row, header_of, row_of
from tests.contract.translators.mutations_csv import spoiled
from tests.intake.council_client import counts, in_pieces, upload
from tests.intake.proxy import Wire
from tests.intake.running import InProcess, Installation, Reply, rows

CANARY = "Verdigris8"


def three_windows() -> bytes:
    return a_file("blaby", [a_row("blaby", Case_Ref=f"BDC/{at}") for at in range(15)])


@pytest.fixture
def _small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WINDOW_ROWS", 5)
    monkeypatch.setattr(limits, "ROW_PAUSES", ())


@pytest.mark.usefixtures("_small_windows")
async def test_a_database_outage_in_the_middle_leaves_the_rest_not_processed_and_sending_again_is_safe(
    installation: Installation, database_url: str, engine: AsyncEngine
) -> None:
    async with Wire(database_url) as wire:
        through = database.connect(wire.url)
        async with InProcess(installation, through) as intake:

            async def cut(piece: int) -> bool:
                if piece == 1:
                    await wire.cut()
                return True

            reply = await in_pieces(intake, "blaby", [three_windows()], at_piece=cut)
            assert reply is not None
            assert reply.status == 200
            said = reply.json()
            assert said["complete"] is False
            assert "Send the whole file again" in said["attention"]
            assert counts(reply) == {"rows": 15, "received": 5, "not-processed": 10}
            assert len({row["row"] for row in said["rows"]}) == 15
            assert len(await rows(engine, "select 1 from intake.message")) == 5
            await wire.mend()
            again = await _until_taken(intake, three_windows())
            assert counts(again) == {"rows": 15, "received": 10, "already-held": 5}
            assert again.json()["complete"] is True
        await through.dispose()


@pytest.mark.usefixtures("_small_windows")
async def test_a_database_outage_in_the_middle_is_on_every_line_of_the_csv_report(
    installation: Installation, database_url: str
) -> None:
    async with Wire(database_url) as wire:
        through = database.connect(wire.url)
        async with InProcess(installation, through) as intake:

            async def cut(_: int) -> bool:
                await wire.cut()
                return True

            reply = await in_pieces(intake, "blaby", [three_windows()], at_piece=cut, accept="text/csv")
        await through.dispose()
    assert reply is not None
    assert reply.body.count(b"not-processed: row of line") == 10


@pytest.mark.usefixtures("_small_windows")
async def test_a_stop_does_not_wait_for_a_long_file_and_reports_the_rows_not_processed(
    installation: Installation, engine: AsyncEngine
) -> None:
    async with InProcess(installation, engine) as intake:

        async def stop(_: int) -> bool:
            intake.intake.stopping.set()
            return True

        reply = await in_pieces(intake, "blaby", [three_windows()], at_piece=stop)
        assert reply is not None
        assert counts(reply) == {"rows": 15, "received": 5, "not-processed": 10}
        assert (await upload(intake, "blaby", three_windows())).status == 503


async def test_a_database_outage_before_the_first_byte_is_503_and_nothing_is_stored(
    installation: Installation, database_url: str, engine: AsyncEngine
) -> None:
    async with Wire(database_url) as wire:
        through = database.connect(wire.url)
        async with InProcess(installation, through) as intake:
            await wire.cut()
            reply = await upload(intake, "blaby", a_file("blaby"))
            assert reply.status == 503
            assert reply.headers["retry-after"]
        await through.dispose()
    assert await rows(engine, "select 1 from intake.upload") == []


async def _until_taken(intake: InProcess, body: bytes) -> Reply:
    for _ in range(20):
        reply = await upload(intake, "blaby", body)
        if reply.status != 503:
            return reply
    raise AssertionError("never taken")


# ---- whatever they send ---------------------------------------------------------------------------------------------


def answers(installation: Installation, bodies: list[bytes]) -> tuple[list[Reply], int]:
    """The answers to these files, sent one after the other, and how many uploads were kept of them."""

    async def one_by_one() -> tuple[list[Reply], int]:
        engine = database.connect(installation.database)
        count = text("select count(*) from intake.upload")
        async with InProcess(installation, engine) as intake, engine.connect() as connection:
            before = (await connection.execute(count)).scalar_one()
            replies = [await upload(intake, "blaby", body) for body in bodies]
            after = (await connection.execute(count)).scalar_one()
        await engine.dispose()
        return replies, after - before

    return asyncio.run(one_by_one())


quickly = settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
GOOD = a_file("blaby")
files = st.binary(max_size=200) | st.builds(
    lambda body, at, put: body[: at % len(body)] + put + body[at % len(body) :],
    st.just(GOOD),
    st.integers(0, len(GOOD)),
    st.binary(max_size=8),
)


@given(bodies=st.lists(files, min_size=1, max_size=12))
@quickly
def test_any_bytes_as_a_file_get_one_answer_and_one_record(installation: Installation, bodies: list[bytes]) -> None:
    replies, kept = answers(installation, bodies)
    assert all(reply.status in (200, 400, 413) for reply in replies), [reply.status for reply in replies]
    for reply in replies:
        said = reply.json()
        assert said["title"] if reply.status != 200 else said["summary"]["rows"] == len(said["rows"])
    assert kept == len(bodies)


cells = st.sampled_from(spoiled) | st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=15)
places = st.dictionaries(st.sampled_from(list(COUNCILS["blaby"].headers.values())), cells | st.just(CANARY), max_size=4)


@given(changes=st.lists(places, min_size=1, max_size=12))
@quickly
def test_any_cells_in_good_rows_get_one_outcome_each_and_no_error_repeats_one(
    installation: Installation, changes: list[dict[str, str]]
) -> None:
    mapping = COUNCILS["blaby"]
    found = [a_row("blaby", Case_Ref=f"BDC/{at}") | row for at, row in enumerate(changes)]
    body = header_of(mapping) + b"".join(row_of(mapping, row) for row in found)
    (reply,), _ = answers(installation, [body])
    assert reply.status == 200, reply.body
    said: list[dict[str, Any]] = reply.json()["rows"]
    assert len(said) == len(found)
    assert CANARY not in json.dumps([row["faults"] for row in said])
