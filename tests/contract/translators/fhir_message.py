"""Build a BaRS message with a resource of every type that we read, and every reference between them that we read."""

import copy
import json
from collections.abc import Iterator
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from services.intake.translators.translator import Rejection, Translated, fhir_path
from tests.contract.translators.adapters import ATTACHMENT_KEY, BARS, RECEIVED_AT, InboundMessage, a_partner

OURS = "https://lightbulb.example.org/CodeSystem/"
TERMINOLOGY = "http://terminology.hl7.org/CodeSystem/"
ODS = "https://fhir.nhs.uk/Id/ods-organization-code"
DOS = "https://fhir.nhs.uk/Id/dos-service-id"

Json = dict[str, Any]


def uuid_of(name: str) -> str:
    return str(uuid5(NAMESPACE_URL, f"https://lightbulb.example.org/tests/{name}"))


def to(name: str) -> Json:
    """Return a reference to the resource of this name."""
    return {"reference": f"urn:uuid:{uuid_of(name)}"}


def coded(system: str, code: str, **more: Any) -> Json:
    return {"coding": [{"system": system, "code": code}], **more}


def a_full_message() -> Json:
    """Return a message that is accepted. Its resources are named as in `RESOURCES`."""
    entries = [
        {"fullUrl": f"urn:uuid:{uuid_of(name)}", "resource": {"id": uuid_of(name), **copy.deepcopy(resource)}}
        for name, resource in RESOURCES.items()
    ]
    return {
        "resourceType": "Bundle",
        "id": uuid_of("bundle"),
        "type": "message",
        "timestamp": "2026-11-05T09:30:00+00:00",
        "entry": entries,
    }


def resource_in(message: Json, name: str) -> Json:
    """Return the resource of this name in a message."""
    found: Json = message["entry"][list(RESOURCES).index(name)]["resource"]
    return found


def changed(name: str, **elements: Any) -> Json:
    """Return the full message with these elements of one resource set, or removed if None."""
    message = a_full_message()
    resource = resource_in(message, name)
    for element, value in elements.items():
        resource[element.rstrip("_")] = value
    for element in [element for element, value in resource.items() if value is None]:
        del resource[element]
    return message


def translated(message: Json, conformance: str = "full", sender: str = "gp-alder-lane") -> Translated | Rejection:
    body = json.dumps(message).encode()
    return BARS(InboundMessage(a_partner(sender, conformance), body, RECEIVED_AT, ATTACHMENT_KEY))


def accepted(message: Json) -> Translated:
    """Return the translation of a message that must be accepted, and be the same at either conformance."""
    outcome = translated(message, "full")
    assert isinstance(outcome, Translated), outcome
    assert outcome == translated(message, "subset")
    return outcome


def faults(message: Json, **how: Any) -> dict[str, str]:
    """Return the faults of a message that must be refused: kinds by place."""
    outcome = translated(message, **how)
    assert isinstance(outcome, Rejection), outcome
    return {issue.place: issue.kind for issue in outcome.issues}


def place(name: str, *loc: int | str) -> str:
    """Return the FHIRPath of a place in the resource of this name."""
    return fhir_path("Bundle", ("entry", list(RESOURCES).index(name), "resource", *loc))


def objects_in(value: Any, at: tuple[int | str, ...] = ()) -> Iterator[tuple[tuple[int | str, ...], Json]]:
    """Yield every JSON object in a value, with its place."""
    if isinstance(value, dict):
        yield at, value
        for name, inner in value.items():
            yield from objects_in(inner, (*at, name))
    if isinstance(value, list):
        for index, inner in enumerate(value):
            yield from objects_in(inner, (*at, index))


def _consent(question: str, **more: Any) -> Json:
    return {
        "resourceType": "Consent",
        "status": "active",
        "scope": coded(TERMINOLOGY + "consentscope", "patient-privacy"),
        "category": [coded(OURS + "consent", question)],
        "patient": to("patient"),
        "dateTime": "2026-11-05",
        "performer": [to("doctor")],
        "policyRule": coded(TERMINOLOGY + "v3-ActCode", "OPTIN"),
        **more,
    }


RESOURCES: dict[str, Json] = {
    "header": {
        "resourceType": "MessageHeader",
        "eventCoding": {
            "system": "https://fhir.nhs.uk/CodeSystem/message-events-bars",
            "code": "servicerequest-request",
        },
        "destination": [{"endpoint": f"{DOS}|2000099999", "receiver": to("housing")}],
        "source": {"name": "A practice system", "endpoint": f"{ODS}|C82991"},
        "reason": coded("https://fhir.nhs.uk/CodeSystem/message-reason-bars", "new"),
        "focus": [to("request")],
    },
    "request": {
        "resourceType": "ServiceRequest",
        "status": "active",
        "intent": "plan",
        "doNotPerform": False,
        "category": [
            coded("https://fhir.nhs.uk/CodeSystem/message-category-servicerequest", "referral"),
            coded(OURS + "usecase", "housing"),
        ],
        "basedOn": [to("plan")],
        "orderDetail": [coded(OURS + "service", "minor-adaptations", text="a rail")],
        "subject": to("patient"),
        "encounter": to("stay"),
        "requester": to("doctor"),
        "performer": [to("council"), to("housing")],
        "reasonReference": [to("condition")],
    },
    "patient": {
        "resourceType": "Patient",
        "active": True,
        "identifier": [{"system": "https://fhir.nhs.uk/Id/nhs-number", "value": "9990000018"}],
        "name": [{"use": "official", "family": "Vance", "given": ["Ada"]}],
        "telecom": [{"system": "phone", "value": "0116 496 0001", "use": "home"}],
        "birthDate": "1944-02-29",
        "address": [{"use": "home", "line": ["1 Any Lane"], "postalCode": "LE11 5AA"}],
        "contact": [{"name": {"text": "Any Contact"}, "relationship": [{"text": "daughter"}]}],
        "generalPractitioner": [to("role")],
        "link": [{"type": "seealso", "other": {"display": "an older record"}}],
    },
    "plan": {
        "resourceType": "CarePlan",
        "status": "active",
        "intent": "plan",
        "subject": to("patient"),
        "addresses": [to("addressed")],
        "activity": [
            {"detail": {"status": "scheduled", "doNotPerform": False, "code": coded(OURS + "service", "hoarding")}},
            {"reference": to("task")},
        ],
    },
    "task": {
        "resourceType": "Task",
        "status": "requested",
        "intent": "order",
        "for": to("patient"),
        "code": coded(OURS + "service", "home-security"),
    },
    "condition": {
        "resourceType": "Condition",
        "clinicalStatus": coded(TERMINOLOGY + "condition-clinical", "active"),
        "verificationStatus": coded(TERMINOLOGY + "condition-ver-status", "confirmed"),
        "subject": to("patient"),
        "code": coded("http://snomed.info/sct", "161898004", text="Falls"),
    },
    "addressed": {
        "resourceType": "Condition",
        "subject": to("patient"),
        "code": {"text": "Unsteady"},
    },
    "stay": {
        "resourceType": "Encounter",
        "status": "in-progress",
        "class": {"system": TERMINOLOGY + "v3-ActCode", "code": "IMP"},
        "subject": to("patient"),
        "period": {"start": "2026-11-01T10:00:00Z"},
        "location": [{"status": "active", "location": to("ward")}],
    },
    "ward": {
        "resourceType": "Location",
        "status": "active",
        "name": "Ward 7",
        "physicalType": coded(TERMINOLOGY + "location-physical-type", "wa"),
        "partOf": to("site"),
    },
    "site": {
        "resourceType": "Location",
        "name": "Any Hospital",
        "physicalType": coded(TERMINOLOGY + "location-physical-type", "si"),
    },
    "role": {
        "resourceType": "PractitionerRole",
        "active": True,
        "period": {"start": "2019"},
        "practitioner": to("doctor"),
        "organization": to("practice"),
    },
    "doctor": {
        "resourceType": "Practitioner",
        "active": True,
        "identifier": [{"system": "https://fhir.hl7.org.uk/Id/gmc-number", "value": "C9999991"}],
        "name": [{"use": "official", "family": "Okafor", "prefix": ["Dr"]}],
        "telecom": [{"system": "phone", "value": "0116 496 0002", "use": "work"}],
    },
    "practice": {
        "resourceType": "Organization",
        "active": True,
        "identifier": [{"system": ODS, "value": "C82991"}],
        "name": "Alder Lane Surgery",
    },
    "council": {
        "resourceType": "Organization",
        "identifier": [{"system": "https://statistics.data.gov.uk/id/statistical-geography", "value": "E07000130"}],
        "name": "Any Council",
    },
    "housing": {
        "resourceType": "HealthcareService",
        "active": True,
        "identifier": [{"system": DOS, "value": "2000099999"}],
    },
    "consent": _consent(
        "referral",
        provision={
            "type": "permit",
            "provision": [
                {
                    "type": "permit",
                    "actor": [
                        {"role": coded(TERMINOLOGY + "v3-ParticipationType", "PRCP"), "reference": to("housing")}
                    ],
                }
            ],
        },
    ),
    "feedback": _consent("feedback"),
    "flag": {
        "resourceType": "Flag",
        "status": "active",
        "category": [coded("https://fhir.nhs.uk/CodeSystem/flag-categories-bars", "SG")],
        "code": {"text": "a dog"},
        "subject": to("patient"),
    },
    "document": {
        "resourceType": "DocumentReference",
        "status": "current",
        "docStatus": "final",
        "subject": to("patient"),
        "content": [{"attachment": {"contentType": "text/plain", "url": f"urn:uuid:{uuid_of('binary')}"}}],
    },
    "binary": {"resourceType": "Binary", "contentType": "text/plain", "data": "YW55"},
    "observation": {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "not read"},
        "subject": to("patient"),
    },
}
"""The resources by name. `observation` is of a type that we do not read."""


NOT_READ = (place("patient", "link", 0, "other"), place("observation"))
"""What of the full message is passed over."""
