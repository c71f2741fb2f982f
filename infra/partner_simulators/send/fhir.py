"""A FHIR message: the request to `/fhir/$process-message`, with the HTTP headers of NHS England's BaRS API.

The X-Request-Id is derived from the whole message, so sending a file again repeats the same request; Bundle.id is kept by updates.
"""

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID, uuid5

from infra.partner_simulators.send.answers import ParsedResponse, ResponseIssue
from infra.partner_simulators.send.outgoing import REFERENCE, OutgoingMessage, as_json, of_status
from services.reference.partners import Partner

NAMESPACE = UUID("c5b1bd6c-5a2e-5a55-a7a0-bb3e2a4f9c61")
FHIR_JSON = "application/fhir+json; version=1.0.0"
ODS = "https://fhir.nhs.uk/Id/ods-organization-code"


def is_fhir(body: bytes) -> bool:
    """Return True for a FHIR resource, or the beginning of one."""
    content = as_json(body)
    return "resourceType" in content or (not content and b'"resourceType"' in body[:500])


def build_request(body: bytes, partner: Partner) -> OutgoingMessage:
    """Return the request for a Bundle."""
    headers = _headers(as_json(body), body, partner)
    return OutgoingMessage("FHIR message", "/fhir/$process-message", headers, body, parse_response)


def sender_ods(body: bytes) -> str | None:
    """Return the ODS code in the endpoint of the MessageHeader's source."""
    header: dict[str, Any] = next(iter(_resources(as_json(body))), {})
    system, _, value = str((header.get("source") or {}).get("endpoint", "")).partition("|")
    return value if system == ODS else None


def parse_response(status: int, body: bytes) -> ParsedResponse:
    """Parse a response with an OperationOutcome."""
    issues = tuple(_issues(as_json(body)))
    outcome = of_status(status, {issue.kind for issue in issues})
    reference = REFERENCE.search(body.decode(errors="replace"))
    shown = () if outcome in ("accepted", "duplicate") else issues
    return ParsedResponse(outcome, reference and reference[0], shown, by=f"HTTP {status}")


def _issues(content: Mapping[str, Any]) -> Iterator[ResponseIssue]:
    for issue in content.get("issue", []):
        place = ", ".join(issue.get("expression", []))
        yield ResponseIssue(
            place, str(issue.get("code", "")), str(issue.get("diagnostics", "")).removeprefix(f"{place}: ")
        )


# ---- headers --------------------------------------------------------------------------------------------------------


def _resources(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    entries = content.get("entry")
    candidates = (
        [entry.get("resource") for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    )
    return [resource for resource in candidates if isinstance(resource, dict)]


def _headers(content: Mapping[str, Any], body: bytes, partner: Partner) -> dict[str, str]:
    resources = _resources(content)
    header: dict[str, Any] = next(iter(resources), {})
    request = next((one for one in resources if one.get("resourceType") == "ServiceRequest"), {})
    system, _, value = str(_first(header.get("destination")).get("endpoint", "")).partition("|")
    reason = _first((header.get("reason") or {}).get("coding")).get("code", "new")
    organisation = {"resourceType": "Organization", "identifier": [{"system": ODS, "value": partner.ods}]}
    software = {"resourceType": "Device", "deviceName": [{"name": "lightbulb send", "type": "manufacturer-name"}]}
    target = {"NHSD-Target-Identifier": _base64({"system": system, "value": value})} if value else {}
    return target | {
        "Content-Type": FHIR_JSON,
        "Accept": FHIR_JSON,
        "X-Request-Id": derived("request", body),
        "X-Correlation-Id": derived("conversation", str(request.get("id") or body).encode()),
        "NHSD-End-User-Organisation": _base64(organisation | {"name": partner.name}),
        "NHSD-Requesting-Software": _base64(software),
        "use-context": f"housing|referral|servicerequest-request|{reason}",
    }


def _first(entries: Any) -> dict[str, Any]:
    """Return the first object of a list; an empty one if there is none."""
    first = entries[0] if isinstance(entries, list) and entries else None
    return first if isinstance(first, dict) else {}


def derived(what: str, source: bytes) -> str:
    """Return an id that is always the same for the same source."""
    return str(uuid5(NAMESPACE, f"{what} {source.hex()}"))


def _base64(data: object) -> str:
    return base64.b64encode(json.dumps(data).encode()).decode()
