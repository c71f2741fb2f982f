"""A completed form: the request to `/forms/{form}`. Without a `form` field it is the first form of its sender."""

from collections.abc import Iterator, Mapping
from typing import Any

from infra.partner_simulators.send.answers import ParsedResponse, ResponseIssue
from infra.partner_simulators.send.fhir import derived
from infra.partner_simulators.send.outgoing import REFERENCE, NotSent, OutgoingMessage, as_json, of_status
from services.reference.partners import Partner


def forms_of(partner: Partner) -> list[str]:
    """Return the forms that a partner may send."""
    return [name.removeprefix("form:") for name in partner.formats if name.startswith("form:")]


def build_request(body: bytes, partner: Partner) -> OutgoingMessage:
    """Return the request for a form. Raise NotSent for a partner that does not send forms."""
    forms = forms_of(partner)
    if not forms:
        raise NotSent(f"{partner.id} may not send forms, and the file is not a FHIR Bundle.")
    named = as_json(body).get("form")
    form = named if isinstance(named, str) and named in forms else forms[0]
    headers = {"Content-Type": "application/json", "X-Correlation-Id": derived("form", body)}
    return OutgoingMessage(f"form {form}", f"/forms/{form}", headers, body, parse_response)


def parse_response(status: int, body: bytes) -> ParsedResponse:
    """Parse the response to a form."""
    issues = tuple(parse_issues(as_json(body)))
    outcome = of_status(status, {issue.kind for issue in issues})
    reference = REFERENCE.search(body.decode(errors="replace"))
    shown = () if outcome in ("accepted", "duplicate") else issues
    return ParsedResponse(outcome, reference and reference[0], shown, by=f"HTTP {status}")


def parse_issues(content: Mapping[str, Any]) -> Iterator[ResponseIssue]:
    """Yield the faults of a form's response, or of problem details (RFC 9457)."""
    for entry in content.get("faults", []):
        place = entry.get("place") or entry.get("field") or entry.get("column") or ""
        yield ResponseIssue(str(place), str(entry.get("kind", "")), str(entry.get("explanation", "")))
    if "detail" in content and not content.get("faults"):
        yield ResponseIssue("", str(content.get("type", "")), str(content["detail"]))
