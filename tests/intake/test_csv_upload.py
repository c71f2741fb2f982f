"""Councils' files through the whole of intake, on a real database: what is taken, what is refused, and what is told of it."""

import asyncio
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.intake import limits
from tests.builders.csv import COUNCILS, DIRECTORY, GOOD, a_file, a_row, as_line, header_of, row_of
from tests.intake.conftest import a_database
from tests.intake.council_client import counts, in_pieces, outcomes, table, upload
from tests.intake.running import InProcess, events, install, kind_of, published, rows, stored_messages


@pytest.fixture(scope="module")
def database_url(template: tuple[str, str]) -> Iterator[str]:
    """One database for all of these tests: making one takes longer than most of them."""
    with a_database(template) as url:
        yield url


@pytest.fixture(autouse=True)
async def _nothing_is_held(engine: AsyncEngine) -> None:
    async with engine.begin() as tx:
        for table_name in ("message", "referral", "packet", "upload"):
            await tx.execute(text(f"delete from intake.{table_name}"))


def blaby_rows(number: int, **changes: str) -> list[dict[str, str]]:
    return [a_row("blaby", Case_Ref=f"BDC/{at}", NHS_No="", **changes) for at in range(1, number + 1)]


async def kept(engine: AsyncEngine) -> list[Any]:
    return sorted(await stored_messages(engine), key=lambda row: (row.received_at, row.referral_id or ""))


async def types(engine: AsyncEngine) -> list[str]:
    return [kind_of(one).removeprefix("referral.") for one in await published(engine)]


# ---- rows -----------------------------------------------------------------------------------------------------------


async def test_a_good_row_of_every_council_is_received_and_its_event_holds_its_values(
    intake: InProcess, engine: AsyncEngine
) -> None:
    assert COUNCILS
    for council in COUNCILS:
        reply = await upload(intake, council, a_file(council))
        (row,) = reply.json()["rows"]
        assert (row["outcome"], row["faults"]) == ("received", [])
        (event,) = await events(engine, row["reference"])
        assert event["referral"]["referred_by"]["kind"] == "council"
        assert event["referral"]["sent_by"]["partner"] == COUNCILS[council].partner


async def test_each_row_is_accepted_or_rejected_separately_with_its_line_and_columns(intake: InProcess) -> None:
    good, bad = GOOD["blaby"], a_row("blaby", Case_Ref="BDC/2", NHS_No="999 000 0019", Sex="woman")
    reply = await upload(intake, "blaby", a_file("blaby", [good, bad, good | {"Case Ref": "BDC/3"}]))
    assert [row["row"] for row in reply.json()["rows"]] == [2, 4, 6]
    assert outcomes(reply) == [("BDC/26/0107", "received"), ("BDC/2", "refused"), ("BDC/3", "received")]
    faults = reply.json()["rows"][1]["faults"]
    assert {(fault["column"], fault["kind"]) for fault in faults} == {("NHS No", "value"), ("Sex", "value")}
    assert "9990000019" not in reply.body.decode().replace(" ", "")
    assert counts(reply) == {"rows": 3, "received": 2, "refused": 1}


async def test_a_row_is_stored_with_the_header_byte_for_byte_and_the_file_unchanged(
    intake: InProcess, engine: AsyncEngine
) -> None:
    for council in ("charnwood", "harborough", "hinckley-bosworth"):
        file = a_file(council)
        await upload(intake, council, file)
        assert [row.body for row in await stored_messages(engine) if row.partner == COUNCILS[council].partner] == [file]
        (whole,) = await rows(
            engine,
            """select string_agg(bytes, ''::bytea order by number) as bytes, sha256, size, state
               from intake.upload join intake.upload_part on upload = id where council = :council
               group by sha256, size, state""",
            council=council,
        )
        assert (whole.bytes, whole.sha256, whole.size) == (file, hashlib.sha256(file).hexdigest(), len(file))
        assert whole.state == "reported"


async def test_the_same_file_again_stores_nothing_new_and_no_row_twice(intake: InProcess, engine: AsyncEngine) -> None:
    file = a_file("blaby", blaby_rows(3))
    first, again = await upload(intake, "blaby", file), await upload(intake, "blaby", file)
    assert counts(again) == {"rows": 3, "already-held": 3}
    references = [[row["reference"] for row in reply.json()["rows"]] for reply in (first, again)]
    assert references[0] == references[1]
    assert await types(engine) == ["received"] * 3
    assert len(await kept(engine)) == 3
    assert len(await rows(engine, "select 1 from intake.upload where state = 'reported'")) == 2


async def test_a_changed_row_is_an_update_and_a_missing_row_cancels_nothing(
    intake: InProcess, engine: AsyncEngine
) -> None:
    one, two, three = blaby_rows(3)
    await upload(intake, "blaby", a_file("blaby", [one, two, three]))
    reply = await upload(intake, "blaby", a_file("blaby", [one, two | {"Tel": "0116 496 0199"}]))
    assert outcomes(reply) == [("BDC/1", "already-held"), ("BDC/2", "updated")]
    assert await types(engine) == ["received", "received", "received", "updated"]


async def test_an_older_change_never_overwrites_a_newer_one(intake: InProcess, engine: AsyncEngine) -> None:
    newer = a_row("blaby", Last_Changed="04/11/2026 09:00", Tel="0116 496 0111")
    older = a_row("blaby", Last_Changed="03/11/2026 09:00", Tel="0116 496 0122")
    await upload(intake, "blaby", a_file("blaby", [newer]))
    reply = await upload(intake, "blaby", a_file("blaby", [older]))
    assert outcomes(reply) == [("BDC/26/0107", "superseded")]
    assert await types(engine) == ["received"]


async def test_without_a_changed_on_column_the_last_file_counts(intake: InProcess) -> None:
    await upload(intake, "melton", a_file("melton"))
    reply = await upload(intake, "melton", a_file("melton", [a_row("melton", SS127="01/09/2026")]))
    assert counts(reply) == {"rows": 1, "updated": 1}


async def test_a_status_that_means_cancelled_cancels_the_referral_once(intake: InProcess, engine: AsyncEngine) -> None:
    await upload(intake, "blaby", a_file("blaby"))
    withdrawn = a_file("blaby", [a_row("blaby", Case_Status="Withdrawn", Last_Changed="04/11/2026 10:00")])
    assert counts(await upload(intake, "blaby", withdrawn)) == {"rows": 1, "cancelled": 1}
    assert counts(await upload(intake, "blaby", withdrawn)) == {"rows": 1, "already-held": 1}
    assert await types(engine) == ["received", "cancelled"]


async def test_a_row_that_cancels_and_is_older_than_a_change_is_left_to_a_person_once(
    intake: InProcess, engine: AsyncEngine
) -> None:
    for day, more in ((3, {}), (5, {"Tel": "0116 496 0199"}), (4, {"Case_Status": "Withdrawn"})):
        row = a_row("blaby", Last_Changed=f"0{day}/11/2026 09:00", **more)
        reply = await upload(intake, "blaby", a_file("blaby", [row]))
    assert counts(reply) == {"rows": 1, "not-applied": 1}
    assert counts(await upload(intake, "blaby", a_file("blaby", [row]))) == {"rows": 1, "already-held": 1}
    assert await types(engine) == ["received", "updated", "cancellation-not-applied"]


async def test_a_cancelled_row_that_was_never_sent_is_not_held(intake: InProcess, engine: AsyncEngine) -> None:
    reply = await upload(intake, "blaby", a_file("blaby", [a_row("blaby", Case_Status="Withdrawn")]))
    assert counts(reply) == {"rows": 1, "not-held": 1}
    assert reply.json()["rows"][0]["reference"] is None
    assert await types(engine) == []


async def test_a_refused_consent_is_rejected_by_its_column_or_cancels_the_referral(
    intake: InProcess,
) -> None:
    refused = await upload(intake, "blaby", a_file("blaby", [a_row("blaby", Consent_Share="N")]))
    (fault,) = refused.json()["rows"][0]["faults"]
    assert (fault["column"], fault["kind"]) == ("Consent Share", "business-rule")
    assert "do not refer" in fault["explanation"]
    await upload(intake, "blaby", a_file("blaby"))
    later = a_row("blaby", Consent_Share="N", Last_Changed="04/11/2026 10:00")
    assert counts(await upload(intake, "blaby", a_file("blaby", [later]))) == {"rows": 1, "cancelled": 1}


async def test_a_reference_twice_is_one_row_with_equal_content_and_rejected_twice_with_other_content(
    intake: InProcess, engine: AsyncEngine
) -> None:
    one, two, three = blaby_rows(3)
    other = one | {"Case Ref": '="BDC/1"', "Tel": "0116 496 0199"}
    file = a_file("blaby", [one, two, three, other, two])
    for _ in range(2):
        reply = await upload(intake, "blaby", file)
        said = outcomes(reply)
        assert (said[0], said[3]) == (("BDC/1", "refused"), ("BDC/1", "refused"))
        (fault,) = reply.json()["rows"][3]["faults"]
        assert (fault["column"], fault["kind"]) == ("Case Ref", "invariant")
        assert "lines 2, 8" in fault["explanation"]
    assert said[1:3] + said[4:] == [("BDC/2", "already-held"), ("BDC/3", "already-held"), ("BDC/2", "already-held")]
    assert await types(engine) == ["received", "received"]


async def test_rows_are_reported_in_file_order_across_windows_and_blank_rows_are_skipped(
    intake: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WINDOW_ROWS", 3)
    monkeypatch.setattr(limits, "PART_BYTES", 40)
    mapping, found = COUNCILS["blaby"], blaby_rows(8)
    blank = as_line(mapping, [""] * len(mapping.headers)) + b"\r\n"
    body = header_of(mapping) + b"".join(row_of(mapping, row) + blank for row in found)
    reply = await upload(intake, "blaby", body)
    assert outcomes(reply) == [(row["Case Ref"], "received") for row in found]
    lines = [row["row"] for row in reply.json()["rows"]]
    assert lines == sorted(lines)
    assert lines[:2] == [2, 6]


# ---- the report as CSV ----------------------------------------------------------------------------------------------


async def test_the_csv_report_has_the_councils_own_columns_and_three_more(intake: InProcess) -> None:
    for council in ("blaby", "charnwood", "harborough"):
        reply = await upload(intake, council, a_file(council), accept="text/csv, application/json;q=0.5")
        assert reply.headers["content-type"].startswith("text/csv; charset=")
        *above, header, row = table(council, reply)
        assert len(above) == COUNCILS[council].file.lines_above
        assert header == [
            *COUNCILS[council].headers.values(),
            "lightbulb_reference",
            "lightbulb_outcome",
            "lightbulb_warnings",
        ]
        own = dict(zip(header, row, strict=True))
        assert all(own[column] == value for column, value in GOOD[council].items())
        assert own["lightbulb_reference"].startswith("LB-")
        assert own["lightbulb_outcome"] == "received"
        assert own["lightbulb_warnings"] == ""


async def test_a_rejected_row_has_its_reason_in_the_csv_report(intake: InProcess) -> None:
    reply = await upload(intake, "blaby", a_file("blaby", [a_row("blaby", Sex="woman")]), accept="text/csv")
    assert table("blaby", reply)[1][-3:] == ["", "refused: Sex: must be one of M, F, X, NK", ""]


EXECUTED = [
    "=1+1",
    "+44 7700 900107",
    "-2+3",
    "@SUM(A1)",
    "\t=1+1",
    " =1+1",
    '"=1+1',
    "'=1+1",
    "\u00a0=1",
    "\uff1d1+1",
    '="01"',
]


async def test_no_cell_that_a_spreadsheet_executes_is_written(intake: InProcess) -> None:
    found = [a_row("blaby", Notes=cell, Case_Ref=cell) for cell in EXECUTED]
    reply = await upload(intake, "blaby", a_file("blaby", found), accept="text/csv")
    for cell, row in zip(EXECUTED, table("blaby", reply)[1:], strict=True):
        assert f"'{cell}" in row
        for written in row:
            assert written[:1] not in {"=", "+", "-", "@", "\t", "\r"}
            assert written.lstrip(' \u00a0"')[:1] not in {"=", "+", "-", "@", "\uff1d"}


# ---- files as programs leave them ----------------------------------------------------------------------------------

HEADER = header_of(COUNCILS["blaby"])


def as_left(rows_of_file: list[dict[str, str]]) -> dict[str, bytes]:
    """A file of Blaby's with these rows, as different programs leave it."""
    plain = a_file("blaby", rows_of_file)
    first, *rest = (row_of(COUNCILS["blaby"], row) for row in rows_of_file)
    return {
        "LF": a_file("blaby", rows_of_file, "\n"),
        "CR": a_file("blaby", rows_of_file, "\r"),
        "LF CR": a_file("blaby", rows_of_file, "\n\r"),
        "CR CR LF": a_file("blaby", rows_of_file, "\r\r\n"),
        "CR and CR LF": HEADER + first.replace(b"\r\n", b"\r") + b"".join(rest),
        "sep": b"sep=,\r\n" + plain,
        "blank rows above": b"\r\n,,\r\n" + plain,
        "a title, and nine rows above": b'"Cases, all"\r\n' + b"\r\n" * 8 + plain,
        "a byte order mark and a quoted header": b"\xef\xbb\xbf" + b'"Case Ref"' + plain.removeprefix(b"Case Ref"),
        "empty columns": plain.replace(b"Budget Code\r\n", b"Budget Code,,\r\n").replace(b",,,\r\n", b",,,,,\r\n"),
        "a comma after every row": plain.replace(b",\r\n", b",,\r\n"),
        "a curly apostrophe": plain.replace(b"SS127 Rec'd", "SS127 Rec’d".encode()),
    }


async def test_a_file_is_read_as_different_programs_leave_it_with_the_rows_that_the_report_names(
    intake: InProcess, engine: AsyncEngine
) -> None:
    found = [row | {"Notes": ""} for row in blaby_rows(3)]
    files = as_left(found)
    assert files
    for what, file in files.items():
        reply = await upload(intake, "blaby", file)
        assert [said for _, said in outcomes(reply)] in (["received"] * 3, ["already-held"] * 3), (what, reply.body)
        above = {"sep": 1, "blank rows above": 2, "a title, and nine rows above": 9}.get(what, 0)
        assert [row["row"] for row in reply.json()["rows"]] == [2 + above, 3 + above, 4 + above], what
    assert len(await kept(engine)) == 3


async def test_a_row_below_a_title_is_stored_with_all_that_stands_above_it(
    intake: InProcess, engine: AsyncEngine
) -> None:
    file = b"sep=,\r\n\r\n" + a_file("blaby")
    await upload(intake, "blaby", file)
    (message,) = await kept(engine)
    assert message.body == file


async def test_a_row_with_a_comma_too_many_is_refused_even_if_its_last_cell_is_empty(intake: InProcess) -> None:
    shifted = row_of(COUNCILS["melton"], a_row("melton", Cost="", Property="1 Any Road LE13 0GR")).replace(
        b"Lives alone \x96", b"Fell, needs rail"
    )
    good = a_file("melton", [a_row("melton", Grant_No=f"DFG/{at}") for at in range(2)])
    for file in (header_of(COUNCILS["melton"]) + shifted, good + shifted):
        reply = await upload(intake, "melton", file)
        row = reply.json()["rows"][-1]
        assert row["outcome"] == "refused"
        assert "a cell may contain a comma without quote marks" in row["faults"][0]["explanation"]


async def test_a_comma_too_many_in_every_row_is_no_empty_column(intake: InProcess) -> None:
    found = [a_row("melton", Grant_No=f"DFG/{at}", Cost="", Property="1 Any Road LE13 0GR") for at in range(3)]
    rows_of_file = [row_of(COUNCILS["melton"], row).replace(b"Lives alone \x96", b"Fell, needs rail") for row in found]
    reply = await upload(intake, "melton", header_of(COUNCILS["melton"]) + b"".join(rows_of_file))
    assert [said for _, said in outcomes(reply)] == ["refused"] * 3


async def test_rows_between_two_stray_quote_marks_are_not_taken_for_a_note(
    intake: InProcess, engine: AsyncEngine
) -> None:
    found = [row | {"Notes": note} for row, note in zip(blaby_rows(4), ("@said", "", "so@", ""), strict=True)]
    reply = await upload(intake, "blaby", a_file("blaby", found).replace(b"@", b'"'))
    assert [said for _, said in outcomes(reply)] == ["refused", "received"]
    (fault,) = reply.json()["rows"][0]["faults"]
    assert "in which other rows stand" in fault["explanation"]
    assert len(await kept(engine)) == 2


async def test_a_row_that_a_line_break_without_quote_marks_cut_is_refused(intake: InProcess) -> None:
    one, two, three = blaby_rows(3, Notes="")
    body = a_file("blaby", [one, two | {"Budget Code": "cut"}, three]).replace(b"cut", b"4\nof 7")
    reply = await upload(intake, "blaby", body)
    assert [said for _, said in outcomes(reply)] == ["received", "refused", "refused", "received"]
    (fault,) = reply.json()["rows"][1]["faults"]
    assert "ends with LF, not with CR LF" in fault["explanation"]


async def test_a_file_of_many_rows_that_line_breaks_may_have_cut_is_refused_once(
    intake: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "UNCERTAIN_ROWS", 2)
    found = [row | {"Budget Code": "cut", "Notes": ""} for row in blaby_rows(3)]
    reply = await upload(intake, "blaby", a_file("blaby", found).replace(b"cut", b"4\nof 7"))
    assert (reply.status, "many rows that end with LF, not with CR LF" in reply.json()["detail"]) == (400, True)


async def test_only_the_rows_of_another_encoding_are_refused(intake: InProcess) -> None:
    found = [a_row("melton", Grant_No=f"DFG/{at}", Applicant="Miss Zoë Marsh") for at in range(3)]
    lines = [row_of(COUNCILS["melton"], row) for row in found]
    lines[1] = lines[1].replace(b"\xeb", "ë".encode())
    reply = await upload(intake, "melton", header_of(COUNCILS["melton"]) + b"".join(lines))
    assert [said for _, said in outcomes(reply)] == ["received", "refused", "received"]
    assert "is written in UTF-8, unlike the rest of the file" in reply.json()["rows"][1]["faults"][0]["explanation"]
    lines = [row_of(COUNCILS["blaby"], row | {"Surname": "Zoë"}) for row in blaby_rows(3)]
    reply = await upload(intake, "blaby", HEADER + lines[0] + lines[1].replace("ë".encode(), b"\xeb") + lines[2])
    assert [said for _, said in outcomes(reply)] == ["received", "refused", "received"]
    assert "is not written in utf-8" in reply.json()["rows"][1]["faults"][0]["explanation"]


async def test_a_row_that_is_too_long_refuses_itself_only(
    intake: InProcess, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PART_BYTES", 10_000)
    one, two, three = blaby_rows(3, Notes="")
    for note in ("so, " * 20_000, "line\r\n" * 12_000):
        reply = await upload(intake, "blaby", a_file("blaby", [one, two | {"Notes": note}, three]))
        said = reply.json()["rows"]
        assert [row["outcome"] for row in said] in (
            ["received", "refused", "received"],
            ["already-held", "refused", "already-held"],
        )
        assert (said[1]["row"], said[1]["faults"][0]["kind"]) == (3, "too-long")
        assert said[2]["row"] == 4 + note.count("\n")
        as_csv = await upload(intake, "blaby", a_file("blaby", [one, two | {"Notes": note}, three]), accept="text/csv")
        assert table("blaby", as_csv)[2][0] == ""
    assert all(len(message.body) < 70_000 for message in await kept(engine))


# ---- whole files that are refused -----------------------------------------------------------------------------------

UNREADABLE = {
    "empty": (b"", "is empty"),
    "blank": (b"\r\n \r\n", "is empty"),
    "a header and no row": (header_of(COUNCILS["blaby"]), "has a header but no rows"),
    "another council's": (a_file("harborough"), "Harborough case system"),
    "an unknown header": (b"zebra,giraffe\r\n1,2\r\n", "unknown columns: 2"),
    "a column too many": (a_file("blaby").replace(b"Budget Code", b"Budget Code,zebra"), "unknown columns: 1"),
    "a column twice": (a_file("blaby").replace(b"Budget Code", b"surname"), "repeats columns: Surname"),
    "a header on row 11": (b"\r\n" * 10 + a_file("blaby"), "is not within the first 10 rows"),
    "long titles": (
        b"x" * 40_000 + b"\r\n" + b"y" * 40_000 + b"\r\n" + a_file("blaby"),
        "a row of more than 65536 bytes",
    ),
    "another delimiter": (a_file("blaby").replace(b",", b";"), "with a comma between cells"),
    "UTF-16": ("Case Ref,zebra".encode("utf-16"), "UTF-16"),
    "a workbook": (b"PK\x03\x04" + b"zebra" * 20, "is damaged, or not an .xlsx workbook"),
    "another encoding": (
        a_file("blaby", [a_row("blaby", Surname="Zoë")]).replace("ë".encode(), b"\xeb"),
        "not written in utf-8, in every row",
    ),
    "NUL": (a_file("blaby") + b"\x00", "NUL"),
    "a quote that never ends": (a_file("blaby") + b'"zebra' + b"x" * 70_000, "quote mark may be missing"),
}


async def test_a_file_of_another_format_gets_one_rejection_that_names_the_expected_format(
    intake: InProcess, engine: AsyncEngine
) -> None:
    for what, (body, says) in UNREADABLE.items():
        reply = await upload(intake, "blaby", body)
        assert reply.status in (400, 413), what
        assert reply.headers["content-type"] == "application/problem+json"
        assert says in reply.json()["detail"], (what, reply.json()["detail"])
        assert reply.json()["expected_columns"] == list(COUNCILS["blaby"].headers.values())
        assert b"zebra" not in reply.body, what
    assert await kept(engine) == []
    records = await rows(engine, "select state, size, issues from intake.upload order by received_at")
    assert [record.size for record in records] == [len(body) for body, _ in UNREADABLE.values()]
    assert all(record.state == "refused" and len(record.issues) == 1 for record in records)


async def test_utf_8_instead_of_windows_1252_is_reported_even_if_every_byte_can_be_decoded(
    intake: InProcess,
) -> None:
    file = a_file("melton", [a_row("melton", Applicant="Miss Zoë Marsh", Remarks="")])
    reply = await upload(intake, "melton", file.replace(b"\xeb", "ë".encode()))
    assert (reply.status, "is written in UTF-8" in reply.json()["detail"]) == (400, True)


STRANGERS = [
    ("blaby", None, 401),
    ("nowhere", None, 401),
    ("nowhere", "council-blaby", 404),
    ("charnwood", "council-blaby", 403),
    ("blaby", "first-contact", 403),
]


async def test_only_the_councils_own_credential_is_accepted(intake: InProcess, engine: AsyncEngine) -> None:
    for council, sender, status in STRANGERS:
        reply = await upload(intake, council, a_file("blaby"), sender=sender)
        assert (reply.status, reply.headers["content-type"]) == (status, "application/problem+json")
    assert await rows(engine, "select 1 from intake.upload") == []


UNSERVED = [
    ({"content_type": "application/json"}, 415),
    ({"content_encoding": "gzip"}, 415),
    ({"accept": "text/html"}, 406),
    ({"accept": "text/csv;q=0, application/json;q=0"}, 406),
    ({"content_length": "many"}, 400),
    ({"content_length": "99999999999"}, 413),
]


async def test_a_request_that_cannot_be_served_is_rejected_before_the_file(
    intake: InProcess, engine: AsyncEngine
) -> None:
    for headers, status in UNSERVED:
        assert (await upload(intake, "blaby", a_file("blaby"), **headers)).status == status, headers
    assert await rows(engine, "select 1 from intake.upload") == []


async def test_more_bytes_or_rows_than_the_limit_are_rejected(
    intake: InProcess, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = a_file("blaby", blaby_rows(4))
    monkeypatch.setattr(limits, "FILE_ROWS", 3)
    reply = await upload(intake, "blaby", file)
    assert (reply.status, "more than 3 rows" in reply.json()["detail"]) == (413, True)
    monkeypatch.setattr(limits, "FILE_BYTES", len(file) - 1)
    monkeypatch.setattr(limits, "PART_BYTES", 100)
    assert (await upload(intake, "blaby", file)).status == 413
    assert len(await rows(engine, "select 1 from intake.upload")) == 1
    assert await kept(engine) == []


# ---- a client's manners ---------------------------------------------------------------------------------------------


async def test_an_incomplete_file_is_rejected_and_not_stored(intake: InProcess, engine: AsyncEngine) -> None:
    reply = await in_pieces(intake, "blaby", [a_file("blaby")[:400]], breaks_off=True)
    assert reply is not None
    assert reply.status == 400
    assert await rows(engine, "select 1 from intake.upload") == []


async def test_a_stalled_file_times_out(
    intake: InProcess, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PART_SECONDS", 0.05)
    reply = await upload(intake, "blaby", a_file("blaby"), **{"-body-ends": ""})
    assert (reply.status, reply.headers["retry-after"]) == (408, str(limits.RETRY_SECONDS))
    assert await rows(engine, "select 1 from intake.upload") == []


async def test_after_a_disconnect_committed_rows_stay_and_the_file_can_be_sent_again(
    intake: InProcess, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WINDOW_ROWS", 4)
    file = a_file("blaby", blaby_rows(20))

    async def leaves(_: int) -> bool:
        return False

    await in_pieces(intake, "blaby", [file], at_piece=leaves)
    taken = len(await types(engine))
    assert 4 <= taken < 20
    assert [row.state for row in await rows(engine, "select state from intake.upload")] == ["broken-off"]
    again = counts(await upload(intake, "blaby", file))
    assert again["already-held"] >= taken
    assert again["received"] + again["already-held"] == 20
    assert await types(engine) == ["received"] * 20


async def test_two_councils_and_one_file_twice_at_the_same_time_are_applied_once_each(
    intake: InProcess, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WINDOW_ROWS", 5)
    blaby = a_file("blaby", blaby_rows(20))
    melton = a_file("melton", [a_row("melton", Grant_No=f"DFG/{at}") for at in range(20)])
    replies = await asyncio.gather(
        upload(intake, "blaby", blaby), upload(intake, "melton", melton), upload(intake, "blaby", blaby)
    )
    assert counts(replies[1]) == {"rows": 20, "received": 20}
    both = [counts(replies[0]), counts(replies[2])]
    assert sum(one.get("received", 0) for one in both) == 20
    assert sum(one.get("already-held", 0) for one in both) == 20
    assert await types(engine) == ["received"] * 40


# ---- an eighth council ----------------------------------------------------------------------------------------------


async def test_an_eighth_council_is_added_by_files_alone(
    database_url: str, engine: AsyncEngine, tmp_path: Path
) -> None:
    folder = tmp_path / "directory"
    shutil.copytree(DIRECTORY, folder)
    (folder / "councils" / "rutland.yaml").write_text(RUTLAND)
    known = yaml.safe_load((folder / "partners.yaml").read_text())
    entry = {"id": "council-rutland", "name": "Rutland County Council", "kind": "council", "council": "E06000017"}
    known["partners"].append(entry | {"formats": ["council-csv"]})
    (folder / "partners.yaml").write_text(yaml.safe_dump(known))
    installation = install(database_url, tmp_path, directory=folder)
    async with InProcess(installation, engine) as intake:
        headers = {"content-type": "text/csv"}
        body = "Key|Person|Birth date|Wish\n17|HALL, Ann|1944-02-29|rails\n".encode("cp1252")
        reply = await intake.call("POST", "/councils/rutland/referrals", body, "council-rutland", headers)
    assert counts(reply) == {"rows": 1, "received": 1}
    (event,) = await events(engine, reply.json()["rows"][0]["reference"])
    assert event["referral"]["person"]["family_name"] == "HALL"
    assert event["referral"]["person"]["address"]["district"] == "E06000017"


RUTLAND = """
council: rutland
partner: council-rutland
title: Rutland list
file: {encoding: windows-1252, delimiter: pipe, dates: [yyyy-mm-dd]}
district: own
columns:
  Key: {to: reference, required: true}
  Person: {to: name, order: surname-first}
  Birth date: {to: person.birth_date}
  Wish: {to: needs, needs: {rails: {service: minor-adaptations}}}
"""


# ---- another person under a known reference -------------------------------------------------------------------------


async def test_a_row_about_another_person_is_refused_and_a_correction_is_applied(
    intake: InProcess, engine: AsyncEngine
) -> None:
    await upload(intake, "blaby", a_file("blaby"))
    other = a_row("blaby", NHS_No="999 000 0026", Surname="Zimmer", DOB="05/06/1950")
    refused = (await upload(intake, "blaby", a_file("blaby", [other]))).json()["rows"][0]
    assert (refused["outcome"], refused["reference"], refused["warnings"]) == ("refused", None, [])
    (fault,) = refused["faults"]
    assert (fault["column"], fault["kind"]) == ("Case Ref", "business-rule")
    assert "send it under a new reference" in fault["explanation"]
    assert len(await published(engine)) == 1
    corrected = a_row("blaby", Surname="Ashdown-Hall")
    assert counts(await upload(intake, "blaby", a_file("blaby", [corrected]))) == {"rows": 1, "updated": 1}
    withdrawn = a_row("blaby", NHS_No="999 000 0026", Surname="Zimmer", DOB="05/06/1950", Consent_Share="N")
    assert counts(await upload(intake, "blaby", a_file("blaby", [withdrawn]))) == {"rows": 1, "cancelled": 1}


async def test_a_warning_is_reported_with_the_row_in_both_reports_and_kept_with_its_message(
    intake: InProcess, engine: AsyncEngine
) -> None:
    body = a_file("blaby", [a_row("blaby", Surname="O?Dowd", Postcode="LE1O 1DU")])
    (row,) = (await upload(intake, "blaby", body)).json()["rows"]
    assert (row["outcome"], row["faults"]) == ("received", [])
    assert [(warning["column"], warning["kind"]) for warning in row["warnings"]] == [
        ("Surname", "value"),
        ("Postcode", "value"),
    ]
    stored = await rows(engine, "select issues::text from intake.message")
    assert len(stored) == 1
    assert "Surname" in str(stored[0])
    assert "Dowd" not in str(stored[0])
    reply = await upload(intake, "blaby", body, accept="text/csv")
    assert table("blaby", reply)[1][-1] == "; ".join(
        f"{one['column']}: {one['explanation']}" for one in row["warnings"]
    )
