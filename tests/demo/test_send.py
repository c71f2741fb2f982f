"""Which request a file becomes, and how its answer is read."""

import json
from pathlib import Path
from typing import Any

import pytest

from infra.demo.examples import EXAMPLES
from infra.partner_simulators import send
from infra.partner_simulators.send import NotSent, OutgoingMessage, council_csv, hl7v2
from infra.partner_simulators.send.outgoing import of_status
from services.reference import partners
from services.runtime.settings import CHECKOUT
from tests.builders.workbook import a_workbook

KNOWN = partners.load(CHECKOUT / "infra" / "reference_data", None)


def a_letter(name: str, sender: str = "gp-alder-lane", **options: Any) -> OutgoingMessage:
    partner = KNOWN.by_id(sender)
    assert partner is not None
    return send.prepare(name, (EXAMPLES / name).read_bytes(), partner, **options)


def test_a_bundle_is_posted_to_process_message_with_bars_headers() -> None:
    letter = a_letter("mrs-v.json")
    assert letter.path == "/fhir/$process-message"
    assert {"X-Request-Id", "X-Correlation-Id", "NHSD-Target-Identifier", "use-context"} <= letter.headers.keys()
    assert letter.headers["use-context"].endswith("|new")


def test_a_file_that_is_sent_again_gives_the_same_request() -> None:
    assert a_letter("repeat.json").headers == a_letter("repeat.json").headers


def test_an_update_has_a_new_request_id_and_the_same_correlation_id() -> None:
    first, second = a_letter("update-1-new.json").headers, a_letter("update-2-changed.json").headers
    assert first["X-Request-Id"] != second["X-Request-Id"]
    assert first["X-Correlation-Id"] == second["X-Correlation-Id"]


def test_a_form_is_posted_to_the_form_of_its_sender() -> None:
    assert a_letter("mr-c.json", "first-contact").path == "/forms/first-contact-plus"


def test_a_truncated_bundle_is_still_sent_as_a_bundle() -> None:
    assert a_letter("unreadable.json").path == "/fhir/$process-message"


def test_a_form_of_a_partner_without_a_form_is_not_sent() -> None:
    with pytest.raises(NotSent, match="may not send forms"):
        a_letter("mr-c.json", "gp-alder-lane")


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"null", b"[1]", b'{"entry":5}', b'{"resourceType":"Bundle","entry":[{"resource":7}]}']
)
def test_any_bytes_give_a_request(body: bytes) -> None:
    partner = KNOWN.by_id("uhl")
    assert partner is not None
    assert send.prepare("any", body, partner).body == body


@pytest.mark.parametrize(
    ("status", "kinds", "outcome"),
    [
        (200, set(), "accepted"),
        (202, set(), "accepted"),
        (409, {"duplicate"}, "duplicate"),
        (409, {"conflict"}, "conflict"),
        (409, set(), "conflict"),
        (400, {"value"}, "refused"),
        (401, {"login"}, "not allowed"),
        (403, {"forbidden"}, "not allowed"),
        (503, {"transient"}, "unavailable"),
        (408, {"timeout"}, "unavailable"),
        (429, set(), "unavailable"),
    ],
)
def test_kinds_of_responses_are_distinguished(status: int, kinds: set[str], outcome: str) -> None:
    assert of_status(status, kinds) == outcome


async def test_sending_without_an_installation_gives_an_error(tmp_path: Path) -> None:
    addresses = {"intake": "http://127.0.0.1:9", "partners": {"gp-alder-lane": {"token": "t"}}}
    [answer] = await send.send([EXAMPLES / "mrs-v.json"], None, addresses)
    assert (answer.outcome, answer.sender, answer.accepted) == ("unavailable", "gp-alder-lane", False)


async def test_a_file_without_a_sender_is_not_sent(tmp_path: Path) -> None:
    (tmp_path / "any.json").write_text(json.dumps({"reference": "1"}))
    [answer] = await send.send([tmp_path / "any.json"], None, {"intake": "", "partners": {}})
    assert answer.outcome == "not sent"
    assert "--sender" in answer.line()


# ---- HL7 ------------------------------------------------------------------------------------------------------------

MSH = "MSH|^~\\&|LIGHTBULB|LIGHTBULB|EPR|RWE|20261116||ACK^I12|1|P|2.4\r"


@pytest.mark.parametrize(
    "body",
    [
        b"MSH|^~\\&|A|RWE|||20261116||REF^I12|1|P|2.4\r",
        b"\x0bMSH|^~\\&|A|RWE|||20261116||REF^I12|1|P|2.4\r\x1c\r",
        b"\x0bMSH|^~\\&|A|RWE|||20261116||REF^I12|1|P|2.4\r\n\x1c\r\n",
    ],
)
def test_the_sender_of_an_hl7_message_is_its_facility_and_the_files_framing_is_removed(body: bytes) -> None:
    partner = KNOWN.by_ods(hl7v2.sender_ods(body))
    assert partner is not None
    letter = send.prepare("any", body, partner)
    assert (partner.id, letter.over, letter.body[:3], b"\x1c" in letter.body) == ("uhl", "mllp", b"MSH", False)
    assert send.prepare("any", body, partner, http=True).path == "/hl7v2"


@pytest.mark.parametrize(
    ("kind", "over"), [("REF^I13", "mllp"), ("ADT^A03", "adt_mllp"), ("ADT", "adt_mllp"), ("", "mllp")]
)
def test_adt_goes_to_the_listener_for_adt(kind: str, over: str) -> None:
    partner = KNOWN.by_id("uhl")
    assert partner is not None
    body = f"MSH|^~\\&|ADT|RWE|||20261116||{kind}|1|P|2.4\r".encode()
    assert send.prepare("any", body, partner).over == over


def test_a_file_with_several_hl7_messages_is_not_sent() -> None:
    partner = KNOWN.by_id("uhl")
    assert partner is not None
    with pytest.raises(NotSent, match="put each into its own file"):
        send.prepare("two.hl7", b"MSH|^~\\&|A\rPID|1\rMSH|^~\\&|A\r", partner)


@pytest.mark.parametrize(
    ("answers", "outcome", "faults"),
    [
        ("MSA|AA|1", "accepted", []),
        ("MSA|CA|1", "accepted", []),
        (
            "MSA|AE|1\rERR||RF1^1^6|205^Duplicate key^HL70357|E||||held with other content",
            "conflict",
            [("RF1-6", "205")],
        ),
        ("MSA|AE|1\rERR||PID^1^3|101|E||||required", "refused", [("PID-3", "101")]),
        ("MSA|AE|1\rERR|NTE^2^3^102&Data type error", "refused", [("NTE[2]-3", "102")]),
        ("MSA|CR|1\rERR||MSH^1^12|203|E", "refused", [("MSH-12", "203")]),
        ("MSA|AR|1", "refused", []),
    ],
)
def test_an_acknowledgement_is_parsed(answers: str, outcome: str, faults: list[tuple[str, str]]) -> None:
    said = hl7v2.parse_response(0, f"{MSH}{answers}\r".encode())
    assert (said.outcome, [(fault.place, fault.kind) for fault in said.issues]) == (outcome, faults)


def test_the_negative_one_of_two_acknowledgements_is_used() -> None:
    both = f"{MSH}MSA|CA|1\r{MSH}MSA|AE|1\rERR||PID^1^5|101|E\r"
    assert hl7v2.parse_response(0, both.encode()).outcome == "refused"


@pytest.mark.parametrize(("status", "body"), [(0, b""), (200, b""), (503, b"{}"), (0, b"\xff")])
def test_a_message_without_an_acknowledgement_is_not_accepted(status: int, body: bytes) -> None:
    assert hl7v2.parse_response(status, body).outcome == "unavailable"


# ---- CSV ------------------------------------------------------------------------------------------------------------

REFUSED_ROW = {"row": 3, "reference_given": "B/2", "outcome": "refused", "reference": None}
REFUSED_ROW |= {"faults": [{"column": "NHS No", "kind": "value", "explanation": "fails its check"}]}
TAKEN_ROW = {"row": 2, "reference_given": "B/1", "outcome": "received", "reference": "LB-AAAA-BBBB-CCCC", "faults": []}


def a_report(*rows: dict[str, object]) -> bytes:
    refused = sum(row["outcome"] == "refused" for row in rows)
    lines = ",\n".join(json.dumps(row) for row in rows)
    summary = json.dumps({"rows": len(rows), "received": len(rows) - refused, "refused": refused})
    return f'{{"council": "blaby", "rows": [\n{lines}],\n"summary": {summary}}}'.encode()


@pytest.mark.parametrize(
    ("rows", "outcome"),
    [([TAKEN_ROW], "accepted"), ([TAKEN_ROW, REFUSED_ROW], "in part"), ([REFUSED_ROW], "refused"), ([], "accepted")],
)
def test_a_report_is_parsed_row_by_row(rows: list[dict[str, object]], outcome: str) -> None:
    assert council_csv.parse_response(200, a_report(*rows)).outcome == outcome


def test_a_refused_row_is_reported_with_line_column_and_fault() -> None:
    said = council_csv.parse_response(200, a_report(TAKEN_ROW, REFUSED_ROW))
    answer = send.SendResult(Path("b.csv"), "CSV of blaby", said.outcome, "council-blaby", said.by, rows=said.rows)
    first, second = answer.line().splitlines()
    assert first.endswith("2 rows: 1 received, 1 refused")
    assert second.strip() == "row 3 (B/2) · NHS No · value · fails its check"
    assert not answer.accepted


def test_a_row_with_warnings_is_accepted_and_printed() -> None:
    warning = {"column": "Surname", "kind": "value", "explanation": "has lost a letter"}
    said = council_csv.parse_response(200, a_report(TAKEN_ROW | {"warnings": [warning]}))
    answer = send.SendResult(Path("b.csv"), "CSV of blaby", said.outcome, "council-blaby", said.by, rows=said.rows)
    first, second = answer.line().splitlines()
    assert first.endswith("1 rows: 1 received; 1 with warnings")
    assert second.strip() == "warning · row 2 (B/1) · Surname · value · has lost a letter"
    assert answer.accepted


def test_the_notes_on_a_file_are_printed() -> None:
    body = a_report(TAKEN_ROW).replace(b'"summary"', b'"notes": [{"kind": "k", "explanation": "few rows"}], "summary"')
    said = council_csv.parse_response(200, body)
    assert said.notes == ("few rows",)
    assert "note · few rows" in send.SendResult(Path("b.csv"), "", said.outcome, notes=said.notes).line()


def a_csv_report(*outcomes: tuple[str, str]) -> bytes:
    lines = [b"Case Ref,Notes,lightbulb_reference,lightbulb_outcome,lightbulb_warnings"]
    return b"\r\n".join([*lines, *(f'1,"a\nb",,{out},{warned}'.encode() for out, warned in outcomes), b""])


@pytest.mark.parametrize(
    ("rows", "outcome"),
    [
        ([("received", "Surname: doubtful")], "accepted"),
        ([("received", ""), ("refused: Sex: must be M or F", "")], "in part"),
        ([("not-processed: row of line 2; send the file again", "")], "refused"),
    ],
)
def test_a_report_as_csv_is_counted(rows: list[tuple[str, str]], outcome: str) -> None:
    request = a_letter("council-blaby.csv", "council-blaby", report="text/csv")
    said = request.read(200, a_csv_report(*rows))
    assert said.outcome == outcome
    assert said.rows is not None
    assert (said.rows.counts["rows"], said.rows.warnings) == (len(rows), sum(bool(warned) for _, warned in rows))


def test_a_csv_report_that_breaks_off_is_no_answer() -> None:
    request = a_letter("council-blaby.csv", "council-blaby", report="text/csv")
    assert request.read_part is not None
    assert request.read_part(200, a_csv_report(("received", ""))).outcome == "unavailable"
    assert request.read(200, b"").outcome == "unavailable"


def test_a_workbook_is_sent_as_one() -> None:
    partner = KNOWN.by_id("council-blaby")
    assert partner is not None
    letter = send.prepare("export.xlsx", b"PK\x03\x04rest", partner)
    assert (letter.path, letter.headers["Content-Type"]) == ("/councils/blaby/referrals", council_csv.XLSX)


def test_a_dry_run_is_asked_for_in_the_address_and_only_of_a_councils_file() -> None:
    letter = a_letter("council-blaby.csv", "council-blaby", dry_run=True)
    assert letter.path == "/councils/blaby/referrals?dry-run=true"
    with pytest.raises(NotSent, match="only a council's file can have a dry run"):
        a_letter("mrs-v.json", dry_run=True)


def test_a_truncated_report_gives_the_number_of_rows_that_it_contains() -> None:
    said = council_csv.parse_response(200, a_report(TAKEN_ROW, REFUSED_ROW)[:-60])
    assert said.outcome == "unavailable"
    assert "after 2 rows" in said.issues[0].explanation


def test_a_workbook_is_sent_by_the_council_whose_header_it_has() -> None:
    body = a_workbook("melton")
    assert send.sender(Path("export.xlsx"), body, None, KNOWN).id == "council-melton"
