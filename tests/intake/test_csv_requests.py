"""How a council's file may be sent: media types and charsets, multipart/form-data; and what is noted of the file as a whole."""

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from services.intake import limits
from services.intake.csv_upload.endpoint import XLSX
from tests.builders.csv import a_file, a_row
from tests.intake.council_client import counts, in_pieces, outcomes, table, upload
from tests.intake.running import InProcess, Reply, rows

BOUNDARY = "----WebKitFormBoundaryx9"
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"


def a_part(content: bytes, disposition: str = 'name="file"; filename="export.csv"', media_type: str = "") -> bytes:
    named = f"\r\nContent-Type: {media_type}" if media_type else ""
    return f"--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}{named}\r\n\r\n".encode() + content + b"\r\n"


def a_form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


async def sent_as(intake: InProcess, content_type: str, body: bytes, council: str = "blaby", query: str = "") -> Reply:
    return await upload(intake, council, body, content_type=content_type, query=query)


# ---- media types ----------------------------------------------------------------------------------------------------

READ = [
    ("blaby", "text/csv"),
    ("blaby", "Text/CSV; header=present; charset=UTF-8"),
    ("blaby", 'text/csv; charset="utf-8"'),
    ("blaby", "text/csv; charset=us-ascii"),
    ("blaby", "application/octet-stream"),
    ("blaby", "application/vnd.ms-excel"),
    ("blaby", XLSX),
    ("blaby", f"{XLSX}; charset=utf-16"),
    ("melton", "text/csv; charset=windows-1252"),
    ("melton", "text/csv; charset=iso-8859-1"),
]


async def test_a_file_is_read_by_its_content_under_each_media_type_that_senders_give(intake: InProcess) -> None:
    for council, content_type in READ:
        reply = await sent_as(intake, content_type, a_file(council), council)
        assert counts(reply)["rows"] == 1, content_type


REFUSED = [
    ("blaby", "", "send text/csv"),
    ("blaby", "application/json", "send text/csv"),
    ("blaby", "application/x-www-form-urlencoded", "send text/csv"),
    ("blaby", "multipart/mixed; boundary=x", "send text/csv"),
    ("blaby", "text/csv; charset=utf-16", "must be utf-8|not that of this council's files, utf-8"),
    ("blaby", "text/csv; charset=windows-1252", "not that of this council's files"),
    ("blaby", "application/vnd.ms-excel; charset=iso-8859-15", "not that of this council's files"),
    ("melton", "text/csv; charset=utf-8", "not that of this council's files, windows-1252"),
]


async def test_another_media_type_or_a_charset_that_contradicts_the_mapping_is_refused(
    intake: InProcess, engine: AsyncEngine
) -> None:
    for council, content_type, says in REFUSED:
        for sent, body in (
            (content_type, a_file(council)),
            (MULTIPART, a_form(a_part(a_file(council), media_type=content_type or "x/y"))),
        ):
            reply = await sent_as(intake, sent, body, council)
            detail = reply.json()["detail"]
            expected = says if sent != MULTIPART or not content_type.startswith("multipart/") else "a multipart inside"
            assert any(words in detail for words in expected.split("|")), (sent, content_type, detail)
            assert reply.status == (400 if "a multipart inside" in expected else 415)
    assert await rows(engine, "select 1 from intake.upload") == []


# ---- multipart ------------------------------------------------------------------------------------------------------


async def test_a_file_in_a_form_is_stored_and_read_as_if_it_had_been_sent_alone(
    intake: InProcess, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PART_BYTES", 100)
    file = a_file("blaby", [a_row("blaby", Case_Ref=f"BDC/{at}", NHS_No="") for at in range(5)])
    for media_type in ("text/csv; charset=utf-8", "application/vnd.ms-excel", ""):
        reply = await sent_as(intake, MULTIPART, a_form(a_part(file, media_type=media_type)))
        assert counts(reply)["rows"] == 5
    kept = await rows(
        engine,
        """select string_agg(bytes, ''::bytea order by number) as bytes, size, media_type from intake.upload
           join intake.upload_part on upload = id group by id, size, media_type, received_at order by received_at""",
    )
    assert {(one.bytes, one.size) for one in kept} == {(file, len(file))}
    assert [one.media_type for one in kept] == ["text/csv; charset=utf-8", "application/vnd.ms-excel", "text/plain"]


async def test_a_dry_run_of_a_file_in_a_form_keeps_nothing(intake: InProcess, engine: AsyncEngine) -> None:
    reply = await sent_as(intake, MULTIPART, a_form(a_part(a_file("blaby"))), query="?dry-run=true")
    assert outcomes(reply) == [("BDC/26/0107", "received")]
    assert await rows(engine, "select 1 from intake.upload") == []


FORMS = {
    "two files": a_form(a_part(a_file("blaby")), a_part(a_file("blaby"))),
    "a field behind the file": a_form(a_part(a_file("blaby")), a_part(b"true", 'name="dry-run"')),
    "no part": a_form(),
    "cut off": a_form(a_part(a_file("blaby")))[:-10],
    "base64": a_form(a_part(a_file("blaby"))).replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: base64\r\n\r\n", 1),
    "no form": a_file("blaby"),
    "text behind": a_form(a_part(a_file("blaby"))) + b"more",
}


@pytest.mark.parametrize("what", FORMS)
async def test_a_form_that_is_not_one_file_is_refused_and_nothing_is_kept(
    what: str, intake: InProcess, engine: AsyncEngine
) -> None:
    reply = await sent_as(intake, MULTIPART, FORMS[what])
    assert reply.status == 400
    assert reply.json()["detail"].startswith("no row was accepted: the body ")
    assert await rows(engine, "select 1 from intake.upload") == []
    assert await rows(engine, "select 1 from intake.message") == []


async def test_a_field_before_the_file_is_refused(intake: InProcess) -> None:
    reply = await sent_as(intake, MULTIPART, a_form(a_part(b"true", 'name="dry-run"'), a_part(a_file("blaby"))))
    assert reply.status == 400


async def test_the_bounds_of_a_file_count_for_the_whole_form(
    intake: InProcess, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = a_form(a_part(a_file("blaby"))) + b"\r\n" * 500
    monkeypatch.setattr(limits, "FILE_BYTES", len(body) - 1)
    assert (await sent_as(intake, MULTIPART, body)).status == 413
    assert await rows(engine, "select 1 from intake.upload") == []


# ---- notes ----------------------------------------------------------------------------------------------------------


def a_number_of_rows(number: int) -> bytes:
    return a_file("blaby", [a_row("blaby", Case_Ref=f"BDC/{at}", NHS_No="") for at in range(number)])


async def test_a_file_with_less_than_half_the_rows_of_the_last_one_has_a_note(intake: InProcess) -> None:
    assert "notes" not in (await upload(intake, "blaby", a_number_of_rows(24))).json()
    assert "notes" not in (await upload(intake, "melton", a_file("melton"))).json()
    for number, is_noted in ((12, False), (11, True)):
        reply = await upload(intake, "blaby", a_number_of_rows(number), query="?dry-run=true")
        assert ("notes" in reply.json()) is is_noted, number
    reply = await upload(intake, "blaby", a_number_of_rows(11))
    (note,) = reply.json()["notes"]
    assert note["kind"] == "fewer-rows"
    assert "the number of rows is 11; that of the last file, of 20" in note["explanation"]
    assert note["explanation"].endswith("was 24: check that the export is complete")
    assert counts(reply) == {"rows": 11, "already-held": 11}


async def test_a_note_of_the_csv_report_is_a_header(intake: InProcess) -> None:
    await upload(intake, "blaby", a_number_of_rows(20))
    reply = await upload(intake, "blaby", a_number_of_rows(1), accept="text/csv")
    assert "the number of rows is 1;" in reply.headers["lightbulb-note"]
    assert len(table("blaby", reply)) == 2


async def test_a_file_is_compared_with_the_last_one_that_was_reported_whole_and_not_with_a_small_one(
    intake: InProcess,
) -> None:
    await upload(intake, "blaby", a_number_of_rows(19))
    assert "notes" not in (await upload(intake, "blaby", a_number_of_rows(1))).json()
    await upload(intake, "blaby", a_number_of_rows(30))
    assert (await upload(intake, "blaby", a_file("harborough"))).status == 400
    cut_off = await in_pieces(intake, "blaby", [a_number_of_rows(1)[:-20]], breaks_off=True)
    assert cut_off is not None
    assert cut_off.status == 400
    await upload(intake, "blaby", a_number_of_rows(2), query="?dry-run=true")
    await upload(intake, "blaby", a_number_of_rows(30))
    assert "notes" in (await upload(intake, "blaby", a_number_of_rows(2))).json()
