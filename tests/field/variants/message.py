"""A good BaRS message with everything that the hub reads, and the changes that variants make to it."""

import base64
import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.field.variants import Sent
from tests.field.variants.draw import Draw

OURS = "https://lightbulb.example.org/CodeSystem/"
NHS = "https://fhir.nhs.uk/CodeSystem/"
UK_CORE = "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-"
NHS_NUMBER = "https://fhir.nhs.uk/Id/nhs-number"
ODS = "https://fhir.nhs.uk/Id/ods-organization-code"
SNOMED = "http://snomed.info/sct"
CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"

Resource = dict[str, Any]

PRACTICE = {"gp-alder-lane": "C82991", "gp-brook-street": "C82992", "gp-castle-view": "C82993"}

CAN_BE_LEFT_OUT = {
    "CarePlan": "Lock for the garden door",
    "Task": "Clear the hallway of boxes",
    "Condition": "Osteoarthritis of both knees",
    "Flag": "The dog bites",
    "DocumentReference": "Letter of the physiotherapist",
}
"""Words of the good message that stand in the referral because of one resource only."""


class Message:
    """A message about a new person. `resources` is the list of its resources; each one's entry is named urn:uuid and its id."""

    def __init__(self, draw: Draw, sender: str = "gp-alder-lane", ods: str | None = None) -> None:
        self.draw, self.sender = draw, sender
        self.headers: dict[str, str | None] = {}
        self.family, self.number = draw.word(), draw.nhs_number()
        self.bundle_id = draw.uuid()
        self.sent_at = draw.at(minutes=10)
        self.urls: dict[str, str] = {}
        self.request_url: str | None = None
        self._ids = {name: draw.uuid() for name in NAMES}
        self.resources: list[Resource] = _resources(self, ods or PRACTICE.get(sender, "C82991"))

    # ---- finding

    def get(self, resource_type: str, number: int = 0) -> Resource:
        return [one for one in self.resources if one["resourceType"] == resource_type][number]

    def to(self, name: str) -> dict[str, str]:
        """A reference to the resource with this name."""
        return {"reference": f"urn:uuid:{self._ids[name]}"}

    def id_of(self, name: str) -> str:
        return self._ids[name]

    @property
    def request(self) -> Resource:
        return self.get("ServiceRequest")

    @property
    def patient(self) -> Resource:
        return self.get("Patient")

    @property
    def header(self) -> Resource:
        return self.get("MessageHeader")

    @property
    def focus_url(self) -> str:
        """The fullUrl of the request's entry."""
        return self.header["focus"][0]["reference"]

    # ---- changing

    def focus_at(self, url: str) -> None:
        """Give the request's entry this fullUrl, whatever the request's id."""
        for one in references(self.resources):
            if one["reference"] == self.focus_url and one is not self.header["focus"][0]:
                one["reference"] = url
        self.header["focus"] = [{"reference": url}]
        self.request_url = url

    def add(self, resource_type: str, **elements: Any) -> dict[str, str]:
        """Add a resource; return a reference to it."""
        made = {"resourceType": resource_type, "id": self.draw.uuid(), **elements}
        self.resources.append(made)
        return {"reference": f"urn:uuid:{made['id']}"}

    def another_patient(self, **elements: Any) -> dict[str, str]:
        """Add a patient who is somebody else; return a reference."""
        return self.add("Patient", name=[{"family": self.draw.word(), "given": ["Some"]}], **elements)

    def remove(self, resource: Resource) -> None:
        self.resources = [one for one in self.resources if one is not resource]

    def reason(self, code: str) -> "Message":
        self.header["reason"]["coding"][0]["code"] = code
        return self

    def later(self, minutes: int = 1, *, reason: str = "update") -> "Message":
        """Return a copy as the next message of the conversation: other Bundle.id, so many minutes later."""
        made = copy.copy(self)
        made.resources, made.urls, made.headers = copy.deepcopy(self.resources), dict(self.urls), {}
        made.bundle_id = self.draw.uuid()
        made.sent_at = self.draw.at(minutes=10 - minutes)
        return made.reason(reason)

    def cancelled(self, status: str = "revoked", reason: str = "delete") -> "Message":
        """Turn it into a cancel."""
        self.request["status"] = status
        return self.reason(reason)

    # ---- sending

    @property
    def tree(self) -> dict[str, Any]:
        return {
            "resourceType": "Bundle",
            "id": self.bundle_id,
            "meta": {"versionId": "1.0.0", "lastUpdated": self.sent_at},
            "type": "message",
            "timestamp": self.sent_at,
            "entry": [self._entry(one) for one in self.resources],
        }

    def _entry(self, resource: Resource) -> dict[str, Any]:
        url = self.urls.get(str(resource.get("id")), f"urn:uuid:{resource.get('id')}")
        if resource["resourceType"] == "ServiceRequest" and self.request_url:
            url = self.request_url
        return {"fullUrl": url, "resource": resource} if url else {"resource": resource}

    @property
    def body(self) -> bytes:
        return json.dumps(self.tree, ensure_ascii=False).encode()

    def sent(self, body: bytes | None = None, **headers: str | None) -> Sent:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        ids = {"x-request-id": self.draw.uuid(), "x-correlation-id": self.draw.uuid()}
        return Sent(body or self.body, self.sender, {**ids, **self.headers, **named})

    def shuffle(self) -> None:
        """Put the entries behind the header in another order."""
        self.resources = [self.header, *self.draw.shuffled([one for one in self.resources if one is not self.header])]


NAMES = (
    *("header", "request", "plan", "task", "condition", "encounter", "patient", "role", "doctor", "practice"),
    *("lightbulb", "referral", "feedback", "flag", "document"),
)


def concept(system: str, code: str, text: str | None = None) -> dict[str, Any]:
    """Return a CodeableConcept."""
    made: dict[str, Any] = {"coding": [{"system": system, "code": code}]}
    return made | ({"text": text} if text else {})


def references(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every Reference that stands in a value."""
    if isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield value
        for one in value.values():
            yield from references(one)
    elif isinstance(value, list):
        for one in value:
            yield from references(one)


def status_extension(code: str = "01", system: str = "UKCore-NHSNumberVerificationStatusEngland") -> dict[str, Any]:
    """Return the extension with the verification status of an NHS number."""
    return {
        "url": UK_CORE + "NHSNumberVerificationStatus",
        "valueCodeableConcept": concept(f"https://fhir.hl7.org.uk/CodeSystem/{system}", code),
    }


# ---- the good message ---------------------------------------------------------------------------------------------------


def _resources(message: Message, ods: str) -> list[Resource]:
    made = {**_about_the_request(message), **_about_the_person(message), **_about_the_sender(message, ods)}
    return [{"resourceType": kind, "id": message.id_of(name), **made[name]} for name, kind in _TYPES.items()]


_TYPES: Mapping[str, str] = {
    "header": "MessageHeader",
    "request": "ServiceRequest",
    "plan": "CarePlan",
    "task": "Task",
    "condition": "Condition",
    "encounter": "Encounter",
    "patient": "Patient",
    "role": "PractitionerRole",
    "doctor": "Practitioner",
    "practice": "Organization",
    "lightbulb": "Organization",
    "referral": "Consent",
    "feedback": "Consent",
    "flag": "Flag",
    "document": "DocumentReference",
}


def _about_the_request(message: Message) -> dict[str, Resource]:
    patient = message.to("patient")
    return {
        "request": {
            "status": "active",
            "intent": "plan",
            "category": [
                {
                    "coding": [
                        {"system": NHS + "message-category-servicerequest", "code": "referral"},
                        {"system": OURS + "usecase", "code": "housing"},
                    ]
                }
            ],
            "priority": "routine",
            "orderDetail": [concept(OURS + "service", "minor-adaptations", "Two falls at the back step")],
            "basedOn": [message.to("plan")],
            "subject": patient,
            "encounter": message.to("encounter"),
            "authoredOn": message.sent_at,
            "requester": message.to("role"),
            "performer": [message.to("lightbulb")],
            "reasonCode": [concept(OURS + "reason", "falls", "Unsteady since the summer")],
            "reasonReference": [message.to("condition")],
        },
        "plan": {
            "status": "active",
            "intent": "plan",
            "subject": patient,
            "activity": [
                {
                    "detail": {
                        "status": "not-started",
                        "code": concept(OURS + "service", "home-security", CAN_BE_LEFT_OUT["CarePlan"]),
                    }
                },
                {"reference": message.to("task")},
            ],
        },
        "task": {
            "status": "requested",
            "intent": "plan",
            "code": concept(OURS + "service", "hoarding", CAN_BE_LEFT_OUT["Task"]),
            "for": patient,
        },
        "condition": {
            "code": concept(SNOMED, "396275006", CAN_BE_LEFT_OUT["Condition"]),
            "clinicalStatus": concept("http://terminology.hl7.org/CodeSystem/condition-clinical", "active"),
            "verificationStatus": concept("http://terminology.hl7.org/CodeSystem/condition-ver-status", "confirmed"),
            "subject": patient,
        },
        "encounter": {
            "status": "finished",
            "class": {"system": ACT_CODE, "code": "AMB"},
            "subject": patient,
            "period": {"start": message.sent_at},
        },
        "document": {
            "status": "current",
            "subject": patient,
            "content": [
                {
                    "attachment": {
                        "contentType": "text/plain",
                        "title": CAN_BE_LEFT_OUT["DocumentReference"],
                        "data": base64.b64encode(f"About {message.family}".encode()).decode(),
                    }
                }
            ],
        },
    }


def _about_the_person(message: Message) -> dict[str, Resource]:
    return {
        "patient": {
            "identifier": [{"extension": [status_extension()], "system": NHS_NUMBER, "value": message.number}],
            "name": [{"use": "official", "family": message.family, "given": ["Iris"], "prefix": ["Mrs"]}],
            "telecom": [{"system": "phone", "value": message.draw.phone(), "use": "home"}],
            "gender": "female",
            "birthDate": f"19{message.draw.between(30, 99)}-{message.draw.between(1, 12):02d}-11",
            "address": [
                {
                    "use": "home",
                    "line": ["7 Lantern Row"],
                    "city": "Loughborough",
                    "postalCode": message.draw.postcode(),
                }
            ],
            "generalPractitioner": [message.to("practice")],
        },
        "referral": _consent(message, "referral"),
        "feedback": _consent(message, "feedback"),
        "flag": {
            "status": "active",
            "category": [concept(NHS + "flag-categories-bars", "safeguarding")],
            "code": {"text": CAN_BE_LEFT_OUT["Flag"]},
            "subject": message.to("patient"),
        },
    }


def _consent(message: Message, question: str) -> Resource:
    return {
        "status": "active",
        "scope": concept("http://terminology.hl7.org/CodeSystem/consentscope", "patient-privacy"),
        "category": [concept(OURS + "consent", question)],
        "patient": message.to("patient"),
        "dateTime": message.sent_at[:10],
        "policyRule": concept(ACT_CODE, "OPTIN"),
    }


def _about_the_sender(message: Message, ods: str) -> dict[str, Resource]:
    return {
        "header": {
            "eventCoding": {"system": NHS + "message-events-bars", "code": "servicerequest-request"},
            "sender": message.to("practice"),
            "source": {"name": "A surgery", "software": "Variants", "endpoint": f"{ODS}|{ods}"},
            "reason": concept(NHS + "message-reason-bars", "new"),
            "focus": [message.to("request")],
            "definition": "https://fhir.nhs.uk/MessageDefinition/bars-message-servicerequest-request-referral",
        },
        "role": {"practitioner": message.to("doctor"), "organization": message.to("practice")},
        "doctor": {
            "identifier": [{"system": "https://fhir.hl7.org.uk/Id/gmp-number", "value": "G9999981"}],
            "name": [{"family": "Okafor", "given": ["Ngozi"], "prefix": ["Dr"]}],
        },
        "practice": {"identifier": [{"system": ODS, "value": ods}], "name": "A surgery"},
        "lightbulb": {"name": "Lightbulb"},
    }
