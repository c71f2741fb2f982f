"""A district council's file: the request to `/councils/{council}/referrals`, and its report on each row."""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from infra.partner_simulators.send.answers import Outcome, ParsedResponse, RejectedRow, ResponseIssue, UploadReport
from infra.partner_simulators.send.fhir import derived
from infra.partner_simulators.send.form import parse_issues
from infra.partner_simulators.send.outgoing import OutgoingMessage, as_json, of_status
from services.intake.translators import council_csv as translator
from services.reference import directory

REFUSED = frozenset({"refused", "not-processed", "not-held"})
"""Outcomes of a row that the council must correct."""

BEGIN = 65_536
"""Bytes of a file in which its header is looked for."""

ONE_ROW = b'\n{"row"'


def build_request(body: bytes, council: str) -> OutgoingMessage:
    """Return the request for a council's file."""
    headers = {"Content-Type": "text/csv", "Accept": "application/json", "X-Correlation-Id": derived("csv", body)}
    return OutgoingMessage(
        f"CSV of {council}", f"/councils/{council}/referrals", headers, body, parse_response, counts=ONE_ROW
    )


def parse_response(status: int, body: bytes) -> ParsedResponse:
    """Parse a report; one that breaks off gives the known rows and what to do."""
    if status >= 300:
        issues = tuple(parse_issues(as_json(body)))
        return ParsedResponse(of_status(status, {issue.kind for issue in issues}), issues=issues, by=f"HTTP {status}")
    report = as_json(body)
    if "summary" not in report:
        return _broken_off(status, body)
    entries = list(_entries(report))
    rows = UploadReport(
        report["summary"], tuple(_row(one) for one in entries if one["outcome"] in REFUSED), _references(entries)
    )
    return ParsedResponse(_outcome(rows), rows=rows, by=f"HTTP {status}")


def _outcome(rows: UploadReport) -> Outcome:
    if not rows.rejected:
        return "accepted"
    return "in part" if len(rows.rejected) < rows.counts.get("rows", 0) else "refused"


def _entries(report: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from report.get("rows", [])


def _references(entries: list[Mapping[str, Any]]) -> dict[str, str]:
    return {str(one["reference_given"]): str(one["reference"]) for one in entries if one.get("reference")}


def _row(one: Mapping[str, Any]) -> RejectedRow:
    issues = tuple(
        ResponseIssue(f.get("column") or "", f.get("kind", ""), f.get("explanation", "")) for f in one["faults"]
    )
    return RejectedRow(one["row"], str(one.get("reference_given") or ""), one["outcome"], issues)


def _broken_off(status: int, body: bytes) -> ParsedResponse:
    done = body.count(ONE_ROW)
    explanation = (
        f"the report broke off after {done} rows; send the file again: accepted rows will be reported as already held"
    )
    return ParsedResponse("unavailable", issues=(ResponseIssue("", "", explanation),), by=f"HTTP {status}")


# ---- sender of a file -----------------------------------------------------------------------------------------------


def council_of(partner: str, folder: Path) -> str | None:
    """Return the council that a partner sends for, by the reviewed mapping files."""
    return next((one.council for one in _mappings(folder) if one.partner == partner), None)


def partner_of(body: bytes, folder: Path) -> str | None:
    """Return the partner whose council's header is at the beginning of the file."""
    mapping = translator.whose(_mappings(folder), body[:BEGIN])
    return mapping.partner if mapping else None


@cache
def _mappings(folder: Path) -> tuple[translator.CouncilMapping, ...]:
    return tuple(translator.load(folder, directory.catalogue(folder.parent)).values())
