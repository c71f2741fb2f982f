"""Responses to BaRS senders: the synchronous servicerequest-response, and OperationOutcome with BaRS' error codes.

Sources: BaRS Core 1.5 (response message, error handling), BaRS API (http-error-codes).
"""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from services.intake.batch import MessageDecision, ProtocolResponse
from services.intake.deduplication import Verdict
from services.intake.translators.inbound_message import InboundMessage
from services.intake.translators.translator import CONSENT_REFUSED, Issue, Rejection, Translated

MEDIA_TYPE = "application/fhir+json"
ERROR_CODES = "https://fhir.nhs.uk/CodeSystem/http-error-codes"
REFERENCE = "https://lightbulb.example.org/Id/referral-reference"
"""Identifier system of our references, in the response's Encounter and in feedback."""

PROFILES = "https://fhir.hl7.org.uk/StructureDefinition/UKCore-"
CODES = {
    400: "REC_BAD_REQUEST",
    401: "REC_UNAUTHORIZED",
    403: "REC_FORBIDDEN",
    404: "REC_NOT_FOUND",
    405: "REC_METHOD_NOT_ALLOWED",
    406: "REC_NOT_ACCEPTABLE",
    408: "REC_TIMEOUT",
    409: "REC_CONFLICT",
    413: "REC_BAD_REQUEST",
    415: "REC_UNSUPPORTED_MEDIA_TYPE",
    422: "REC_UNPROCESSABLE_ENTITY",
    429: "REC_TOO_MANY_REQUESTS",
    500: "REC_SERVER_ERROR",
    503: "REC_UNAVAILABLE",
}


def answer(_: InboundMessage, outcome: Translated | Rejection, decision: MessageDecision) -> ProtocolResponse:
    """Return the response to a message."""
    reference = decision.reference
    match decision.verdict:
        case Verdict.RECEIVED | Verdict.UPDATED | Verdict.CANCELLED | Verdict.STALE:
            assert isinstance(outcome, Translated)
            return ProtocolResponse(200, _response(outcome, decision))
        case Verdict.REPEAT:
            explanation = f"this message has been processed already; our reference is {reference}"
            return problem(409, [_issue(409, "duplicate", explanation)])
        case Verdict.CONFLICT:
            explanation = f"{reference} has one of these ids with different content: use new ids, or send an update"
            return problem(409, [_issue(409, "conflict", explanation)])
        case Verdict.UNKNOWN if decision.withdraws:
            return refused([Issue("Bundle.entry", "business-rule", CONSENT_REFUSED)])
        case Verdict.UNKNOWN:
            return problem(
                404,
                [_issue(404, "not-found", "no referral of this sender has this ServiceRequest id; nothing to cancel")],
            )
        case _:
            return refused(decision.issues)


def refused(issues: Sequence[Issue]) -> ProtocolResponse:
    """Return 400, 403 or 422 with every issue by its place."""
    kinds = {issue.kind for issue in issues}
    status = 403 if "forbidden" in kinds else 422 if kinds & {"business-rule", "processing"} else 400
    outcome_issues = [
        _issue(status, issue.kind, f"{issue.place}: {issue.explanation}", issue.place) for issue in issues
    ]
    return problem(status, outcome_issues)


def error(status: int, kind: str, explanation: str) -> ProtocolResponse:
    """Return one error outside the message: credentials, media types, size, time, availability."""
    return problem(status, [_issue(status, kind, explanation)])


def problem(status: int, issues: Iterable[dict[str, Any]]) -> ProtocolResponse:
    """Return an OperationOutcome."""
    outcome = {
        "resourceType": "OperationOutcome",
        "meta": {"profile": [PROFILES + "OperationOutcome"]},
        "issue": list(issues),
    }
    return ProtocolResponse(status, orjson.dumps(outcome))


def _issue(status: int, kind: str, explanation: str, place: str | None = None) -> dict[str, Any]:
    issue = {
        "severity": "error",
        "code": kind,
        "details": {"coding": [{"system": ERROR_CODES, "code": CODES[status]}]},
        "diagnostics": explanation,
    }
    return issue | {"expression": [place]} if place and place.startswith("Bundle") and "(" not in place else issue


def _response(translated: Translated, decision: MessageDecision) -> bytes:
    """Return the response message. Its second Encounter (the first is the sender's) has our reference."""
    original = str(translated.reply["message_id"])
    now = decision.received_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    ids = _ids(f"{decision.reference} {decision.version} {original}")
    return orjson.dumps(
        {
            "resourceType": "Bundle",
            "id": ids[0],
            "meta": {"lastUpdated": now, "profile": ["https://fhir.nhs.uk/StructureDefinition/BARSBundleMessage"]},
            "type": "message",
            "timestamp": now,
            "entry": [
                {"fullUrl": f"urn:uuid:{ids[1]}", "resource": _header(ids, original, now)},
                *_of_the_sender(translated),
                {"fullUrl": f"urn:uuid:{ids[2]}", "resource": _encounter(ids[2], translated, decision, now)},
            ],
        }
    )


def _of_the_sender(translated: Translated) -> list[dict[str, Any]]:
    encounter = translated.encounter
    if not encounter or not {"status", "class", "id"} <= encounter.keys():
        return []
    return [{"fullUrl": f"urn:uuid:{encounter['id']}", "resource": encounter}]


def _ids(named: str) -> list[str]:
    """Derive three UUIDs (version 8, RFC 9562) from a name, so that the same response has the same ids."""
    digest = hashlib.sha512(named.encode()).hexdigest()
    parts = (digest[at : at + 32] for at in (0, 32, 64))
    return [f"{one[:8]}-{one[8:12]}-8{one[13:16]}-a{one[17:20]}-{one[20:]}" for one in parts]


def _header(ids: Sequence[str], original: str, now: str) -> dict[str, Any]:
    profile = "https://fhir.nhs.uk/StructureDefinition/BARSMessageHeader-servicerequest-response"
    event = {"system": "https://fhir.nhs.uk/CodeSystem/message-events-bars", "code": "servicerequest-response"}
    return {
        "resourceType": "MessageHeader",
        "id": ids[1],
        "meta": {"lastUpdated": now, "profile": [profile]},
        "eventCoding": event,
        "source": {"name": "Lightbulb referral hub", "endpoint": "https://lightbulb.example.org/fhir"},
        "reason": {"coding": [{"system": "https://fhir.nhs.uk/CodeSystem/message-reason-bars", "code": "new"}]},
        "response": {"identifier": original, "code": "ok"},
        "focus": [{"reference": f"urn:uuid:{ids[2]}"}],
        "definition": "https://fhir.nhs.uk/MessageDefinition/bars-message-servicerequest-response-referral",
    }


def _encounter(own_id: str, translated: Translated, decision: MessageDecision, now: str) -> dict[str, Any]:
    return {
        "resourceType": "Encounter",
        "id": own_id,
        "meta": {"lastUpdated": now, "profile": [PROFILES + "Encounter"]},
        "identifier": [{"system": REFERENCE, "value": decision.reference}],
        "status": "planned",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "FLD", "display": "field"},
        "basedOn": [{"reference": f"ServiceRequest/{translated.referral_id}"}],
    }


def capability(base_url: str, started_at: datetime) -> bytes:
    """Return the CapabilityStatement. It declares no read of a ServiceRequest, so a cancel needs no read before it."""
    return orjson.dumps(
        {
            "resourceType": "CapabilityStatement",
            "status": "active",
            "date": started_at.date().isoformat(),
            "publisher": "Lightbulb",
            "kind": "instance",
            "software": {"name": "Lightbulb referral hub"},
            "implementation": {
                "description": "Referrals to Lightbulb. BaRS-shaped: no BaRS use case exists for housing.",
                "url": base_url,
            },
            "fhirVersion": "4.0.1",
            "format": ["json"],
            "rest": [
                {
                    "mode": "server",
                    "security": {"description": "A bearer token for each partner"},
                    "operation": [{"name": "process-message", "definition": _PROCESS_MESSAGE}],
                }
            ],
            "messaging": [{"supportedMessage": [{"mode": "receiver", "definition": _REFERRAL_MESSAGE}]}],
        }
    )


_PROCESS_MESSAGE = "http://hl7.org/fhir/OperationDefinition/MessageHeader-process-message"
_REFERRAL_MESSAGE = "https://fhir.nhs.uk/MessageDefinition/bars-message-servicerequest-request-referral"
