"""A district council's file: the request to `/councils/{council}/referrals`, and its report on each row."""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from infra.partner_simulators.send.answers import (
    REFUSED_ROWS,
    Outcome,
    ParsedResponse,
    ReportedRow,
    ResponseIssue,
    UploadReport,
)
from infra.partner_simulators.send.fhir import derived
from infra.partner_simulators.send.form import parse_issues
from infra.partner_simulators.send.outgoing import OutgoingMessage, as_json, of_status
from services.intake.translators import council_csv as translator
from services.reference import directory

ONE_ROW = b'\n{"row"'
JSON, CSV = "application/json", "text/csv"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


def build_request(
    body: bytes, mapping: translator.CouncilMapping, *, dry_run: bool = False, report: str = JSON
) -> OutgoingMessage:
    """Return the request for a council's file. `report`: the media type of the report."""
    media_type = XLSX if is_workbook(body) else CSV
    headers = {"Content-Type": media_type, "Accept": report, "X-Correlation-Id": derived("csv", body)}
    kind, written_by = ("workbook", mapping.as_workbook) if media_type == XLSX else ("CSV", mapping)
    one_row = ONE_ROW if report == JSON else b"\n"
    return OutgoingMessage(
        f"{'dry run of ' if dry_run else ''}{kind} of {mapping.council}",
        f"/councils/{mapping.council}/referrals" + ("?dry-run=true" if dry_run else ""),
        headers,
        body,
        parse_response if report == JSON else partial(_parse_csv, written_by),
        counts=one_row,
        read_part=partial(_broken_off, one_row),
    )


def is_workbook(body: bytes) -> bool:
    """Return True for the beginning of an .xlsx workbook."""
    return body.startswith(b"PK\x03\x04")


def parse_response(status: int, body: bytes) -> ParsedResponse:
    """Parse a report in JSON; one that breaks off gives the known rows and what to do."""
    if status >= 300:
        issues = tuple(parse_issues(as_json(body)))
        return ParsedResponse(of_status(status, {issue.kind for issue in issues}), issues=issues, by=f"HTTP {status}")
    report = as_json(body)
    if "summary" not in report:
        return _broken_off(ONE_ROW, status, body)
    entries = list(_entries(report))
    warned = tuple(_row(one, "warnings") for one in entries if one.get("warnings"))
    rejected = tuple(_row(one, "faults") for one in entries if one["outcome"] in REFUSED_ROWS)
    rows = UploadReport(report["summary"], rejected, _references(entries), warned, len(warned))
    notes = tuple(str(note["explanation"]) for note in report.get("notes", []))
    return ParsedResponse(_outcome(rows), rows=rows, by=f"HTTP {status}", notes=notes)


def _parse_csv(mapping: translator.CouncilMapping, status: int, body: bytes) -> ParsedResponse:
    """Parse a report as CSV: the number of rows by outcome. Its text is for people."""
    if status >= 300:
        return parse_response(status, body)
    lines = _read_csv(mapping, body)
    columns = next((line for line in lines if "lightbulb_reference" in line), None)
    if columns is None:
        return _broken_off(b"\n", status, body)
    at = columns.index("lightbulb_reference") + 1
    cells = [(line[at].partition(":")[0], line[at + 1]) for line in lines if len(line) > at + 1]
    counts = Counter(outcome for outcome, _ in cells)
    warnings = sum(1 for _, warning in cells if warning)
    rows = UploadReport({"rows": len(cells), **counts}, (), {}, warnings=warnings)
    return ParsedResponse(_outcome(rows), rows=rows, by=f"HTTP {status}")


def _read_csv(mapping: translator.CouncilMapping, body: bytes) -> Iterator[Sequence[str]]:
    file = mapping.file
    text = io.StringIO(body.decode(file.codec, "replace"), newline="")
    if file.quoting == "none":
        return csv.reader(text, delimiter=file.separator, quoting=csv.QUOTE_NONE)
    return csv.reader(text, delimiter=file.separator)


def _outcome(rows: UploadReport) -> Outcome:
    if not rows.refused:
        return "accepted"
    return "in part" if rows.refused < rows.counts.get("rows", 0) else "refused"


def _entries(report: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from report.get("rows", [])


def _references(entries: list[Mapping[str, Any]]) -> dict[str, str]:
    return {str(one["reference_given"]): str(one["reference"]) for one in entries if one.get("reference")}


def _row(one: Mapping[str, Any], what: str) -> ReportedRow:
    issues = tuple(ResponseIssue(f.get("column") or "", f.get("kind", ""), f.get("explanation", "")) for f in one[what])
    return ReportedRow(one["row"], str(one.get("reference_given") or ""), one["outcome"], issues)


def _broken_off(one_row: bytes, status: int, body: bytes) -> ParsedResponse:
    done = body.count(one_row)
    explanation = (
        f"the report broke off after {done} rows; send the file again: accepted rows will be reported as already held"
    )
    return ParsedResponse("unavailable", issues=(ResponseIssue("", "", explanation),), by=f"HTTP {status}")


# ---- sender of a file -----------------------------------------------------------------------------------------------


def mapping_of(partner: str, folder: Path) -> translator.CouncilMapping | None:
    """Return the mapping of the council that a partner sends for, from the reviewed files."""
    return next((one for one in _mappings(folder) if one.partner == partner), None)


def partner_of(body: bytes, folder: Path) -> str | None:
    """Return the partner whose council's header the file has."""
    mapping = translator.whose(_mappings(folder), body)
    return mapping.partner if mapping else None


@cache
def _mappings(folder: Path) -> tuple[translator.CouncilMapping, ...]:
    return tuple(translator.load(folder, directory.catalogue(folder.parent)).values())
