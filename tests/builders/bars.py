"""Build BaRS messages of synthetic people (999 numbers only)."""

import copy
import json
from typing import Any
from uuid import UUID, uuid4, uuid5

from schemas.referral import Referral

OURS = "https://lightbulb.example.org/"
SERVICE = "https://fhir.nhs.uk/Id/dos-service-id|2000099999"
"""The service id of the installation that the tests and the demonstration run."""

SPACE = UUID("3b5f6d0c-0d8c-5f0e-8f36-1d2c9f0a4b11")


def a_bars_message(referral: Referral | None = None, **changes: Any) -> dict[str, Any]:
    """Return a practice's message for one person, that of `referral` if given. `changes`: see the keywords used below."""
    changes = (_of(referral) if referral else {}) | changes
    ids = {name: str(uuid5(SPACE, f"{changes.get('seed', uuid4())} {name}")) for name in _PARTS}
    if "referral_id" in changes:
        ids["request"] = str(uuid5(SPACE, changes["referral_id"]))
    bundle_id = changes.get("bundle_id", str(uuid4()))
    sent_at = changes.get("sent_at", "2026-11-05T09:30:00+00:00")
    resources = [
        _header(ids, changes.get("reason", "new"), sent_at),
        _request(ids, changes),
        _patient(ids, changes),
        *_people(ids, changes),
        *(
            [
                _consent(ids, q, a)
                for q, a in changes.get("consents", {"referral": "permit", "feedback": "permit"}).items()
            ]
        ),
        *changes.get("more", []),
    ]
    return {
        "resourceType": "Bundle",
        "id": bundle_id,
        "meta": {"lastUpdated": sent_at, "profile": ["https://fhir.nhs.uk/StructureDefinition/BARSBundleMessage"]},
        "type": "message",
        "timestamp": sent_at,
        "entry": [
            {"fullUrl": f"urn:uuid:{resource['id']}", "resource": resource} for resource in copy.deepcopy(resources)
        ],
    }


def _of(referral: Referral) -> dict[str, Any]:
    person = referral.person
    address = {"use": "home", "line": list(person.address.lines), "postalCode": person.address.postcode}
    return {
        "referral_id": referral.message.referral_id,
        "nhs_number": person.nhs_number,
        "needs": {need.service: need.text for need in referral.needs},
        "patient": {
            "name": [{"use": "official", "family": person.family_name, "given": list(person.given_names)}],
            "birthDate": str(person.birth_date),
            "address": [address],
        },
    }


_PARTS = ("header", "request", "patient", "role", "doctor", "practice", "sender", "referral", "feedback", "evaluation")


def _header(ids: dict[str, str], reason: str, sent_at: str) -> dict[str, Any]:
    return {
        "resourceType": "MessageHeader",
        "id": ids["header"],
        "eventCoding": {
            "system": "https://fhir.nhs.uk/CodeSystem/message-events-bars",
            "code": "servicerequest-request",
        },
        "destination": [{"endpoint": SERVICE}],
        "source": {"name": "A practice system", "endpoint": "https://fhir.nhs.uk/Id/dos-service-id|2222222222"},
        "sender": {"reference": f"urn:uuid:{ids['practice']}"},
        "reason": {"coding": [{"system": "https://fhir.nhs.uk/CodeSystem/message-reason-bars", "code": reason}]},
        "focus": [{"reference": f"urn:uuid:{ids['request']}"}],
        "definition": "https://fhir.nhs.uk/MessageDefinition/bars-message-servicerequest-request-referral",
    }


def _request(ids: dict[str, str], changes: dict[str, Any]) -> dict[str, Any]:
    request: dict[str, Any] = {
        "resourceType": "ServiceRequest",
        "id": ids["request"],
        "status": changes.get("status", "active"),
        "intent": "plan",
        "priority": "routine",
        "category": [
            {
                "coding": [
                    {"system": "https://fhir.nhs.uk/CodeSystem/message-category-servicerequest", "code": "referral"},
                    {"system": OURS + "CodeSystem/usecase", "code": "housing"},
                ]
            }
        ],
        "orderDetail": [
            {"coding": [{"system": OURS + "CodeSystem/service", "code": code}], "text": text}
            for code, text in changes.get("needs", {"minor-adaptations": "grab rails by the back door"}).items()
        ],
        "subject": {"reference": f"urn:uuid:{ids['patient']}"},
        "authoredOn": "2026-11-05",
        "requester": {"reference": f"urn:uuid:{ids['role']}"},
        "reasonCode": [
            {"coding": [{"system": OURS + "CodeSystem/reason", "code": "falls"}], "text": "two falls this year"}
        ],
    }
    return request | changes.get("request", {})


def _patient(ids: dict[str, str], changes: dict[str, Any]) -> dict[str, Any]:
    number = changes.get("nhs_number", "9990000018")
    verified = "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-NHSNumberVerificationStatus"
    status = {
        "url": verified,
        "valueCodeableConcept": {
            "coding": [
                {
                    "system": "https://fhir.hl7.org.uk/CodeSystem/UKCore-NHSNumberVerificationStatusEngland",
                    "code": "01",
                }
            ]
        },
    }
    identifier = {"extension": [status], "system": "https://fhir.nhs.uk/Id/nhs-number", "value": number}
    patient: dict[str, Any] = {
        "resourceType": "Patient",
        "id": ids["patient"],
        "identifier": [identifier] if number else [],
        "name": [{"use": "official", "family": changes.get("family", "Vance"), "given": ["Ada"], "prefix": ["Mrs"]}],
        "telecom": [{"system": "phone", "value": "0116 496 0001", "use": "home"}],
        "gender": "female",
        "birthDate": "1944-02-29",
        "address": [{"use": "home", "line": ["1 Any Lane"], "city": "Loughborough", "postalCode": "LE11 5AA"}],
        "generalPractitioner": [{"reference": f"urn:uuid:{ids['practice']}"}],
    }
    if not number:
        del patient["identifier"]
    return patient | changes.get("patient", {})


def _people(ids: dict[str, str], changes: dict[str, Any]) -> list[dict[str, Any]]:
    ods = changes.get("ods", "C82991")
    return [
        {
            "resourceType": "PractitionerRole",
            "id": ids["role"],
            "practitioner": {"reference": f"urn:uuid:{ids['doctor']}"},
            "organization": {"reference": f"urn:uuid:{ids['practice']}"},
        },
        {
            "resourceType": "Practitioner",
            "id": ids["doctor"],
            "identifier": [{"system": "https://fhir.hl7.org.uk/Id/gmc-number", "value": "C9999991"}],
            "name": [{"family": "Okafor", "given": ["Ngozi"], "prefix": ["Dr"]}],
            "telecom": changes.get("doctor_telecom", [{"system": "phone", "value": "0116 496 0002", "use": "work"}]),
        },
        {
            "resourceType": "Organization",
            "id": ids["practice"],
            "identifier": [{"system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": ods}],
            "name": "Alder Lane Surgery",
        },
    ]


def _consent(ids: dict[str, str], question: str, provision: str) -> dict[str, Any]:
    return {
        "resourceType": "Consent",
        "id": ids[question],
        "status": "active",
        "scope": {
            "coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]
        },
        "category": [{"coding": [{"system": OURS + "CodeSystem/consent", "code": question}]}],
        "patient": {"reference": f"urn:uuid:{ids['patient']}"},
        "dateTime": "2026-11-05",
        "policyRule": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "OPTIN"}]},
        "provision": {"type": provision},
    }


def as_bytes(message: Any) -> bytes:
    return json.dumps(message).encode()
