"""Workbooks through the whole of intake: rows by the sheet's own numbers, stored as sent, while other requests are served."""

import asyncio
import hashlib
import threading
from datetime import date, datetime

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from services.intake import limits
from services.intake.translators.council_csv.prescan import Prescan
from tests.builders.csv import COUNCILS, GOOD, a_file, a_row
from tests.builders.workbook import MEDIA_TYPE, Cell, a_sheet, a_workbook
from tests.intake.council_client import counts, outcomes, upload
from tests.intake.running import InProcess, Reply, rows, stored_messages


def blaby_rows(number: int) -> list[dict[str, Cell]]:
    born, changed = date(1944, 2, 29), datetime(2026, 11, 3, 16, 5)
    return [
        {**a_row("blaby", Case_Ref=f"BDC/{at}", NHS_No=""), "DOB": born, "Last Changed": changed}
        for at in range(1, number + 1)
    ]


async def send(
    intake: InProcess, council: str, body: bytes, media_type: str = MEDIA_TYPE, accept: str = "*/*"
) -> Reply:
    return await upload(intake, council, body, accept=accept, content_type=media_type)


async def test_a_workbook_of_every_council_is_received_and_the_same_rows_as_csv_are_held(intake: InProcess) -> None:
    assert COUNCILS
    for council in COUNCILS:
        assert counts(await send(intake, council, a_workbook(council))) == {"rows": 1, "received": 1}
        assert counts(await upload(intake, council, a_file(council))) == {"rows": 1, "already-held": 1}


@pytest.mark.parametrize("media_type", ["application/vnd.ms-excel", "application/octet-stream", "text/csv"])
async def test_the_content_decides_that_a_file_is_a_workbook(intake: InProcess, media_type: str) -> None:
    assert counts(await send(intake, "blaby", a_workbook("blaby"), media_type)) == {"rows": 1, "received": 1}


async def test_rows_are_reported_by_the_numbers_of_the_sheet_across_windows(
    intake: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WINDOW_ROWS", 2)
    monkeypatch.setattr(limits, "PART_BYTES", 1_000)
    found = blaby_rows(5)
    body = a_workbook("blaby", [*found[:3], {}, found[3] | {"Sex": "woman"}, found[4], found[1]], at=(4, 2))
    reply = await send(intake, "blaby", body)
    assert [row["row"] for row in reply.json()["rows"]] == [6, 7, 8, 10, 11, 12]
    assert [said for _, said in outcomes(reply)] == [*["received"] * 3, "refused", "received", "already-held"]
    assert reply.json()["rows"][3]["faults"][0]["column"] == "Sex"


async def test_a_workbook_is_stored_as_sent_and_a_row_as_csv_with_its_header(
    intake: InProcess, engine: AsyncEngine
) -> None:
    body = a_workbook("hinckley-bosworth")
    await send(intake, "hinckley-bosworth", body)
    (message,) = await stored_messages(engine)
    header, row, rest = message.body.decode("utf-8-sig").split("\r\n")
    assert header == ",".join(COUNCILS["hinckley-bosworth"].headers.values())
    assert row.startswith('12045,L,WARD,JOAN,MRS,11-09-1947,9990000034,"2 ""The Limes""",')
    assert (rest, message.media_type) == ("", MEDIA_TYPE)
    (whole,) = await rows(
        engine,
        """select string_agg(bytes, ''::bytea order by number) as bytes, sha256, state
           from intake.upload join intake.upload_part on upload = id group by sha256, state""",
    )
    assert (whole.bytes, whole.sha256, whole.state) == (body, hashlib.sha256(body).hexdigest(), "reported")


async def test_the_csv_report_of_a_workbook_has_its_columns_in_utf_8(intake: InProcess) -> None:
    reply = await send(intake, "melton", a_workbook("melton"), accept="text/csv")
    assert reply.headers["content-type"].startswith("text/csv; charset=utf-8")
    header, row = (line.split(",") for line in reply.body.decode("utf-8-sig").splitlines()[:2])
    assert header[:2] == ["Grant No", "Applicant"]
    assert row[0] == GOOD["melton"]["Grant No"]


async def test_a_value_that_the_workbook_lost_refuses_its_row(intake: InProcess) -> None:
    def errors(_: object, sheet: object) -> None:
        sheet.write_formula(1, 4, "=1/0", None, "#DIV/0!")  # type: ignore[attr-defined]

    lost = blaby_rows(2)
    lost[1]["UPRN"] = 1000304123451234567
    reply = await send(intake, "blaby", a_workbook("blaby", lost, more=errors))
    faults = [(row["faults"][0]["column"], row["faults"][0]["explanation"]) for row in reply.json()["rows"]]
    assert [column for column, _ in faults] == ["Surname", "UPRN"]
    assert "a spreadsheet error instead of a value" in faults[0][1]
    assert "was rounded by the spreadsheet" in faults[1][1]


async def test_an_unreadable_workbook_is_refused_and_stored(intake: InProcess, engine: AsyncEngine) -> None:
    for body, status in ((a_workbook("blaby")[:900], 400), (a_sheet([["zebra"]]), 400)):
        reply = await send(intake, "blaby", body)
        assert (reply.status, b"zebra" in reply.body) == (status, False)
    states = await rows(engine, "select state from intake.upload")
    assert [one.state for one in states] == ["refused", "refused"]


async def test_a_workbook_is_refused_for_now_if_too_many_are_open(intake: InProcess, engine: AsyncEngine) -> None:
    intake.intake.memory_budget.workbooks_left = 0
    assert (await send(intake, "blaby", a_workbook("blaby"))).status == 503
    assert await rows(engine, "select 1 from intake.upload") == []
    intake.intake.memory_budget.workbooks_left = 1
    assert counts(await send(intake, "blaby", a_workbook("blaby"))) == {"rows": 1, "received": 1}
    assert intake.intake.memory_budget.workbooks_left == 1


async def test_other_requests_are_served_while_a_workbook_is_opened(
    intake: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end, end = threading.Event(), Prescan.end

    def waits(scan: Prescan) -> None:
        assert may_end.wait(10)
        end(scan)

    monkeypatch.setattr(Prescan, "end", waits)
    opened = asyncio.create_task(send(intake, "blaby", a_workbook("blaby")))
    assert (await upload(intake, "blaby", b"", content_type="application/json")).status == 415
    assert not opened.done()
    may_end.set()
    assert counts(await opened) == {"rows": 1, "received": 1}
