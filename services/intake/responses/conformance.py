"""What the FHIR server states of itself: CapabilityStatement, MessageDefinition and CodeSystem.

Sources: FHIR R4 (http://hl7.org/fhir/R4/capabilitystatement.html, messagedefinition.html, codesystem.html); BaRS API, `GET /metadata`
and `GET /MessageDefinition?context=`.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

import orjson

from schemas.case import BusinessStatus, EndReason, HoldReason, RoutingReason
from schemas.fhir import LOCAL, USE_CASE
from schemas.referral import ReasonCode
from services.intake.translators.bars_fhir.for_us import EVENTS, is_ours
from services.runtime import metrics

CodeSystems = Mapping[str, Mapping[str, str | None]]
"""Our code systems by the last part of their URL: codes with their display, None if the code is its display."""

GUIDE = "https://simplifier.net/guide/nhsbookingandreferralstandard"
PUBLISHED = "2026-11-29"
"""Date of the definitions here (FHIR date)."""


def code_systems(services: Mapping[str, str]) -> CodeSystems:
    """Return our code systems. `services`: the catalogue's codes with their labels."""
    return {
        "service": services,
        "usecase": {USE_CASE["code"]: USE_CASE["display"]},
        "reason": dict.fromkeys(ReasonCode),
        "consent": {
            "referral": "Referral to Lightbulb and sharing of the data that it needs",
            "feedback": "Feedback to the GP practice",
            "evaluation": "Evaluation of the service",
        },
        "end-reason": dict.fromkeys(EndReason),
        "hold-reason": dict.fromkeys(HoldReason),
        "routing-reason": dict.fromkeys(RoutingReason),
        "business-status": dict.fromkeys(BusinessStatus),
    }


def code_system(name: str, codes: Mapping[str, str | None]) -> dict[str, Any]:
    """Return one CodeSystem."""
    return {
        "resourceType": "CodeSystem",
        "id": name,
        "url": f"{LOCAL}/CodeSystem/{name}",
        "version": metrics.version(),
        "name": name.title().replace("-", ""),
        "status": "active",
        "date": PUBLISHED,
        "publisher": "Lightbulb",
        "caseSensitive": True,
        "content": "complete",
        "count": len(codes),
        "concept": [{"code": str(code), "display": shown or str(code)} for code, shown in codes.items()],
    }


def message_definitions(service_ids: Collection[str], context: str | None) -> list[dict[str, Any]]:
    """Return the messages that the service takes; none if `context` (`system|value`) names another service."""
    if context is not None and not is_ours(context, service_ids):
        return []
    return [_message_definition(name, title, service_ids) for name, title in RECEIVED.items()]


RECEIVED = {
    "bars-message-servicerequest-request-referral": "Referral request: new or changed",
    "bars-message-servicerequest-request-cancelled": "Referral request: cancelled",
}
"""BaRS' MessageDefinitions that are received, by the last part of their URL."""


def _message_definition(name: str, title: str, service_ids: Collection[str]) -> dict[str, Any]:
    return {
        "resourceType": "MessageDefinition",
        "id": name,
        "url": _url(name),
        "title": title,
        "status": "active",
        "date": PUBLISHED,
        "publisher": "Lightbulb",
        "useContext": [_context("workflow", valueCodeableConcept={"coding": [USE_CASE]}), *_venues(service_ids)],
        "eventCoding": {
            "system": EVENTS,
            "code": "servicerequest-request",
        },
        "category": "consequence",
        "focus": [{"code": "ServiceRequest", "min": 1, "max": "1"}],
        "responseRequired": "always",
        "allowedResponse": [{"message": _url("bars-message-servicerequest-response-referral")}],
    }


def _url(name: str) -> str:
    return f"https://fhir.nhs.uk/MessageDefinition/{name}"


def _venues(service_ids: Collection[str]) -> Iterator[dict[str, Any]]:
    for system, _, value in (one.rpartition("|") for one in service_ids):
        yield _context("venue", valueReference={"identifier": {"system": system, "value": value}})


def _context(code: str, **value: Any) -> dict[str, Any]:
    return {"code": {"system": "http://terminology.hl7.org/CodeSystem/usage-context-type", "code": code}, **value}


def searchset(base_url: str, found: Iterable[dict[str, Any]]) -> bytes:
    """Return the Bundle that answers a search."""
    entries = [
        {
            "fullUrl": f"{base_url}/{resource['resourceType']}/{resource['id']}",
            "resource": resource,
            "search": {"mode": "match"},
        }
        for resource in found
    ]
    content: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset", "total": len(entries)}
    return orjson.dumps(content | ({"entry": entries} if entries else {}))


def capability(base_url: str, started_at: datetime) -> bytes:
    """Return the CapabilityStatement."""
    return orjson.dumps(
        {
            "resourceType": "CapabilityStatement",
            "name": "LightbulbIntake",
            "version": metrics.version(),
            "status": "active",
            "date": started_at.date().isoformat(),
            "publisher": "Lightbulb",
            "kind": "instance",
            "software": {"name": "Lightbulb referral hub", "version": metrics.version()},
            "implementation": {
                "description": "Referrals to Lightbulb. BaRS-shaped: no BaRS use case exists for housing.",
                "url": base_url,
            },
            "fhirVersion": "4.0.1",
            "format": ["json"],
            "implementationGuide": [GUIDE],
            "rest": [_rest()],
            "messaging": [{"supportedMessage": [{"mode": "receiver", "definition": _url(name)} for name in RECEIVED]}],
        }
    )


def _rest() -> dict[str, Any]:
    referral = {"identifier": "As system|value: our reference, or an identifier of the sender", "_id": "As in a read"}
    return {
        "mode": "server",
        "security": {"description": "A bearer token for each partner"},
        "resource": [
            _resource("ServiceRequest", "Own referrals, by our reference or by the sender's id", "versioned", referral),
            _resource("MessageDefinition", "Messages that are received", "no-version", {"context": "As system|value"}),
            _resource("CodeSystem", "Lightbulb's codes", "no-version", {"url": "Canonical URL"}),
        ],
        "operation": [{"name": "process-message", "definition": _PROCESS_MESSAGE}],
    }


_PROCESS_MESSAGE = "http://hl7.org/fhir/OperationDefinition/MessageHeader-process-message"


def _resource(kind: str, documentation: str, versioning: str, parameters: Mapping[str, str]) -> dict[str, Any]:
    return {
        "type": kind,
        "documentation": documentation,
        "interaction": [{"code": "read"}, {"code": "search-type"}],
        "versioning": versioning,
        "searchParam": [
            {"name": name, "type": "uri" if name == "url" else "token", "documentation": text}
            for name, text in parameters.items()
        ],
    }
