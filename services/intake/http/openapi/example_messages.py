"""A complete conversation in BaRS messages, for the OpenAPI document and its tests: a new referral, its update and its cancel.

The person, the practice and all ids are invented; NHS numbers that begin with 999 are never issued. BaRS Core 1.5 has the shape.
"""

import copy
from typing import Any
from uuid import UUID, uuid5

from schemas.fhir import LOCAL
from schemas.referral import ReasonCode
from services.intake.translators.bars_fhir.consent import CONSENT, QUESTIONS
from services.intake.translators.bars_fhir.referrer import ODS
from services.intake.translators.bars_fhir.request import REASON, SERVICE

Message = dict[str, Any]

YOUR_ODS_CODE = "EXAMPLE"
"""The sender's ODS code in the examples: a developer replaces it everywhere by their own."""

EXAMPLE_REFERENCE = "LB-7K3M-9Q2X-4TDW"
REQUEST_ID = "6f1c2e0a-2b1d-4c53-9d0e-0a4a3a8f1c11"
CORRELATION_ID = "0d9b4a52-91a7-4c3e-8a0f-5a9f1f0f6b22"

_IDS = UUID("4e4a2b6e-0c57-5c1f-9d1b-7f0a4f5d2a10")
_SENT_AT = "2026-03-02T09:30:00+00:00"
_UPDATED_AT = "2026-03-04T14:05:00+00:00"
_BARS = "https://fhir.nhs.uk"
_UK_CORE = "https://fhir.hl7.org.uk"
_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"


def new_referral(service: str, destination: str) -> Message:
    """Return a new referral. `service`: a code of the catalogue; `destination`: the endpoint of this server's service.

    Its ServiceRequest has no id: that is given by the response (BaRS Core 1.5, payload tables).
    """
    resources = [
        _header(destination),
        _request(service),
        _encounter(),
        _patient(),
        *_referrer(),
        _organization("lightbulb", "Lightbulb", None),
        *(_consent(question) for question in QUESTIONS),
        _flag(),
        _letter(),
    ]
    profile = f"{_BARS}/StructureDefinition/BARSBundleMessage"
    return {
        "resourceType": "Bundle",
        "id": _id("bundle"),
        "meta": {"versionId": "1.0.0", "lastUpdated": _SENT_AT, "profile": [profile]},
        "type": "message",
        "timestamp": _SENT_AT,
        "entry": [{"fullUrl": f"urn:uuid:{one.get('id', _id('request'))}", "resource": one} for one in resources],
    }


def update(new: Message, reference: str) -> Message:
    """Return the update of a referral: the whole message, by the ServiceRequest id of the response, with another telephone."""
    changed = _later(new, "update", reference)
    resource(changed, "Patient")["telecom"][0]["value"] = "01632 960599"
    return changed


def cancel(new: Message, reference: str) -> Message:
    """Return the cancel of a referral: its ServiceRequest revoked."""
    changed = _later(new, "update", reference)
    resource(changed, "ServiceRequest")["status"] = "revoked"
    return changed


def resource(message: Message, kind: str) -> dict[str, Any]:
    """Return the first resource of this type."""
    found: dict[str, Any] = next(e["resource"] for e in message["entry"] if e["resource"]["resourceType"] == kind)
    return found


def _later(new: Message, reason: str, reference: str) -> Message:
    """Return the message with a later time, another reason, and the id that the response gave its ServiceRequest."""
    changed = copy.deepcopy(new)
    changed["timestamp"] = changed["meta"]["lastUpdated"] = _UPDATED_AT
    resource(changed, "MessageHeader")["reason"] = _concept(f"{_BARS}/CodeSystem/message-reason-bars", reason)
    resource(changed, "ServiceRequest")["id"] = reference
    return changed


def _header(destination: str) -> dict[str, Any]:
    return {
        **_named("MessageHeader", "header"),
        "eventCoding": {"system": f"{_BARS}/CodeSystem/message-events-bars", "code": "servicerequest-request"},
        "destination": [{"endpoint": destination, "receiver": _refer("lightbulb")}],
        "sender": _refer("practice"),
        "source": {
            "name": "Example Surgery",
            "software": "Example GP system",
            "version": "1.0",
            "endpoint": f"{ODS[0]}|{YOUR_ODS_CODE}",
        },
        "reason": _concept(f"{_BARS}/CodeSystem/message-reason-bars", "new"),
        "focus": [_refer("request")],
        "definition": f"{_BARS}/MessageDefinition/bars-message-servicerequest-request-referral",
    }


def _request(service: str) -> dict[str, Any]:
    referral = {
        "system": f"{_BARS}/CodeSystem/message-category-servicerequest",
        "code": "referral",
        "display": "Transfer of Care",
    }
    housing = {"system": f"{LOCAL}/CodeSystem/usecase", "code": "housing", "display": "Housing support"}
    return {
        "resourceType": "ServiceRequest",
        "status": "active",
        "intent": "plan",
        "priority": "routine",
        "category": [{"coding": [referral, housing]}],
        "orderDetail": [_concept(SERVICE, service) | {"text": "In the referrer's words: what the person needs."}],
        "subject": _refer("patient"),
        "encounter": _refer("encounter"),
        "authoredOn": _SENT_AT,
        "requester": _refer("role"),
        "performer": [_refer("lightbulb")],
        "reasonCode": [_concept(REASON, ReasonCode.FALLS) | {"text": "In the referrer's words: why now."}],
    }


def _encounter() -> dict[str, Any]:
    return {
        **_named("Encounter", "encounter"),
        "status": "finished",
        "class": {"system": f"{_TERMINOLOGY}/v3-ActCode", "code": "AMB", "display": "ambulatory"},
        "subject": _refer("patient"),
        "period": {"start": _SENT_AT, "end": _SENT_AT},
    }


def _patient() -> dict[str, Any]:
    verified = _concept(f"{_UK_CORE}/CodeSystem/UKCore-NHSNumberVerificationStatusEngland", "01")
    status = {
        "url": f"{_UK_CORE}/StructureDefinition/Extension-UKCore-NHSNumberVerificationStatus",
        "valueCodeableConcept": verified,
    }
    return {
        **_named("Patient", "patient"),
        "identifier": [{"extension": [status], "system": f"{_BARS}/Id/nhs-number", "value": "9991234519"}],
        "name": [{"use": "official", "family": "Specimen", "given": ["Iris"], "prefix": ["Mrs"]}],
        "telecom": [{"system": "phone", "value": "01632 960500", "use": "home"}],
        "gender": "female",
        "birthDate": "1944-02-29",
        "address": [{"use": "home", "line": ["1 Sample Street"], "city": "Sample Town", "postalCode": "LE11 5AA"}],
        "contact": [
            {
                "relationship": [_concept(f"{_TERMINOLOGY}/v2-0131", "N")],
                "name": {"family": "Specimen", "given": ["Ivor"]},
                "telecom": [{"system": "phone", "value": "07700 900500", "use": "mobile"}],
            }
        ],
        "generalPractitioner": [_refer("practice")],
    }


def _referrer() -> list[dict[str, Any]]:
    return [
        {
            **_named("PractitionerRole", "role"),
            "practitioner": _refer("doctor"),
            "organization": _refer("practice"),
            "telecom": [{"system": "phone", "value": "01632 960800", "use": "work"}],
        },
        {
            **_named("Practitioner", "doctor"),
            "name": [{"use": "official", "family": "Sample", "given": ["Olu"], "prefix": ["Dr"]}],
        },
        _organization("practice", "Example Surgery", YOUR_ODS_CODE),
    ]


def _organization(part: str, name: str, ods: str | None) -> dict[str, Any]:
    identifier = {"identifier": [{"system": ODS[0], "value": ods}]} if ods else {}
    return {**_named("Organization", part), **identifier, "name": name}


def _consent(question: str) -> dict[str, Any]:
    return {
        **_named("Consent", question),
        "status": "active",
        "scope": _concept(f"{_TERMINOLOGY}/consentscope", "patient-privacy"),
        "category": [_concept(CONSENT, question)],
        "patient": _refer("patient"),
        "dateTime": _SENT_AT[:10],
        "policyRule": _concept(f"{_TERMINOLOGY}/v3-ActCode", "OPTIN"),
        "provision": {"type": "permit"},
    }


def _flag() -> dict[str, Any]:
    return {
        **_named("Flag", "flag"),
        "status": "active",
        "category": [_concept(f"{_BARS}/CodeSystem/flag-categories-bars", "RA")],
        "code": {"text": "Hard of hearing: please knock loudly."},
        "subject": _refer("patient"),
    }


def _letter() -> dict[str, Any]:
    attachment = {"contentType": "text/plain", "data": "QSBsZXR0ZXIgYWJvdXQgdGhlIGhvbWUu", "title": "Letter"}
    return {
        **_named("DocumentReference", "letter"),
        "status": "current",
        "subject": _refer("patient"),
        "content": [{"attachment": attachment}],
    }


def _named(kind: str, part: str) -> dict[str, Any]:
    return {"resourceType": kind, "id": _id(part)}


def _id(part: str) -> str:
    return str(uuid5(_IDS, part))


def _refer(part: str) -> dict[str, str]:
    return {"reference": f"urn:uuid:{_id(part)}"}


def _concept(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}
