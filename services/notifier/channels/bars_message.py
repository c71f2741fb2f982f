"""Renders a feedback as a BaRS-shaped message (FHIR R4): `servicerequest-response` in a Bundle.

BaRS-shaped, not BaRS: no BaRS use case exists for housing. Sources: NHS England BaRS Core 1.5.0, and SDOH
Clinical Care 3.0 for the Task that carries findings and completed actions. Ids derive from the feedback's id and times are the
event's, so the same feedback always gives the same bytes. Plain dictionaries for speed; tests validate them.
"""

import hashlib
import re
from typing import Any
from uuid import UUID, uuid5

import orjson

from schemas.case import CaseStatus
from schemas.events import PersonBrief
from services.notifier.compose import Coded, CompletedAction, Feedback, FeedbackType, HubContact, ReportedFinding
from services.notifier.templates import SenderDetails

LOCAL = "https://lightbulb.example.org"
REFERENCE_SYSTEM = f"{LOCAL}/Id/referral-reference"
SERVICES = f"{LOCAL}/CodeSystem/service"
ODS = "https://fhir.nhs.uk/Id/ods-organization-code"
NHS_NUMBER = "https://fhir.nhs.uk/Id/nhs-number"
BARS = "https://fhir.nhs.uk/CodeSystem"

SERVICE_REQUEST = {
    CaseStatus.REQUESTED: "active",
    CaseStatus.ACCEPTED: "active",
    CaseStatus.IN_PROGRESS: "active",
    CaseStatus.ON_HOLD: "active",
    CaseStatus.REJECTED: "revoked",
    CaseStatus.CANCELLED: "revoked",
    CaseStatus.FAILED: "revoked",
    CaseStatus.COMPLETED: "completed",
    CaseStatus.ENTERED_IN_ERROR: "entered-in-error",
}
ENCOUNTER = {
    CaseStatus.REQUESTED: "planned",
    CaseStatus.ACCEPTED: "planned",
    CaseStatus.IN_PROGRESS: "in-progress",
    CaseStatus.ON_HOLD: "in-progress",
    CaseStatus.REJECTED: "cancelled",
    CaseStatus.CANCELLED: "cancelled",
    CaseStatus.FAILED: "cancelled",
    CaseStatus.COMPLETED: "finished",
    CaseStatus.ENTERED_IN_ERROR: "entered-in-error",
}
NEEDS_REASON = frozenset({CaseStatus.REJECTED, CaseStatus.CANCELLED, CaseStatus.ON_HOLD, CaseStatus.FAILED})
DOS_REJECTED = {
    "outside-county": ("40", "Not eligible"),
    "not-eligible": ("40", "Not eligible"),
    "no-capacity": ("22", "Capacity"),
    "could-not-contact": ("27", "Could not be contacted"),
    "person-declined": ("26", "Patient choice"),
}
"""Codes of dos-rejected-reasons-bars; any other reason is 99, other."""

VERIFICATION = "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-NHSNumberVerificationStatus"
VERIFICATION_CODES = "https://fhir.hl7.org.uk/CodeSystem/UKCore-NHSNumberVerificationStatusEngland"
FHIR_ID = re.compile(r"^[A-Za-z0-9.-]{1,64}$")

Resource = dict[str, Any]


def message(feedback: Feedback, sender_details: SenderDetails) -> bytes:
    """Return the Bundle as JSON bytes."""
    return orjson.dumps(_BundleWriter(feedback, sender_details).bundle())


def bundle_id(feedback: Feedback) -> str:
    """Return the Bundle.id of the message for this feedback."""
    return str(uuid5(UUID(feedback.id), "bundle"))


class _BundleWriter:
    """Writer of one message; its resources refer to each other by derived urn:uuid."""

    def __init__(self, feedback: Feedback, sender_details: SenderDetails) -> None:
        self._feedback = feedback
        self._sender_details = sender_details
        self._namespace = UUID(feedback.id).bytes
        self._at = feedback.at.isoformat()
        self._ids: dict[str, str] = {}

    def bundle(self) -> Resource:
        resources = [
            self._header(),
            self._service_request(),
            self._encounter(),
            self._task(),
            self._patient(),
            self._organization("sender", self._sender_details.name, self._sender_details.ods, None),
            self._organization("receiver", self._feedback.recipient.name, self._feedback.recipient.ods, None),
            *self._hub(),
            *(self._procedure(number, done) for number, done in self._quoted()),
        ]
        return {
            "resourceType": "Bundle",
            "id": bundle_id(self._feedback),
            "meta": {
                "versionId": "1.0.0",
                "lastUpdated": self._at,
                "profile": ["https://fhir.nhs.uk/StructureDefinition/BARSBundleMessage"],
            },
            "type": "message",
            "timestamp": self._at,
            "entry": [{"fullUrl": f"urn:uuid:{resource['id']}", "resource": resource} for resource in resources],
        }

    def _id(self, part: str) -> str:
        if part not in self._ids:
            self._ids[part] = _derived(self._namespace, part)
        return self._ids[part]

    def _refer(self, part: str) -> Resource:
        return {"reference": "urn:uuid:" + self._id(part)}

    def _resource(self, kind: str, part: str, profile: str | None, **elements: Any) -> Resource:
        meta: Resource = {"lastUpdated": self._at}
        if profile:
            meta["profile"] = [profile]
        present = {name: value for name, value in elements.items() if value not in (None, [], {})}
        return {"resourceType": kind, "id": self._id(part), "meta": meta, **present}

    def _header(self) -> Resource:
        recipient = self._feedback.recipient
        endpoint = f"{ODS}|{recipient.ods}" if recipient.ods else f"{LOCAL}/Id/partner|{recipient.id}"
        return self._resource(
            "MessageHeader",
            "header",
            "https://fhir.nhs.uk/StructureDefinition/BARSMessageHeader-servicerequest-response",
            eventCoding={"system": f"{BARS}/message-events-bars", "code": "servicerequest-response"},
            destination=[{"endpoint": endpoint, "receiver": self._refer("receiver")}],
            sender=self._refer("sender"),
            source={
                "name": self._sender_details.short_name,
                "software": "Lightbulb referral hub",
                "endpoint": f"{ODS}|{self._sender_details.ods}",
            },
            reason={"coding": [{"system": f"{BARS}/message-reason-bars", "code": "new"}]},
            response={"identifier": _original_id(self._feedback), "code": "ok"},
            focus=[self._refer("service-request")],
            definition="https://fhir.nhs.uk/MessageDefinition/bars-message-servicerequest-response-referral",
        )

    def _identifiers(self) -> list[Resource]:
        return [
            {"system": REFERENCE_SYSTEM, "value": self._feedback.reference},
            {"value": self._feedback.referral_id},
        ]

    def _service_request(self) -> Resource:
        return self._resource(
            "ServiceRequest",
            "service-request",
            "https://fhir.nhs.uk/StructureDefinition/BARSServiceRequest-request-referral",
            identifier=self._identifiers(),
            status=SERVICE_REQUEST[self._feedback.status],
            intent="plan",
            category=[
                {
                    "coding": [
                        {
                            "system": f"{BARS}/message-category-servicerequest",
                            "code": "referral",
                            "display": "Transfer of Care",
                        },
                        {"system": f"{LOCAL}/CodeSystem/usecase", "code": "housing", "display": "Housing support"},
                    ]
                }
            ],
            subject=self._refer("patient"),
            encounter=self._refer("encounter"),
            requester=self._refer("receiver"),
            performer=[self._refer("hub" if self._feedback.hub else "sender")],
        )

    def _encounter(self) -> Resource:
        return self._resource(
            "Encounter",
            "encounter",
            "https://fhir.hl7.org.uk/StructureDefinition/UKCore-Encounter",
            identifier=self._identifiers()[:1],
            status=ENCOUNTER[self._feedback.status],
            **{"class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "HH"}},
            subject=self._refer("patient"),
            reasonCode=self._rejected(),
            serviceProvider=self._refer("sender"),
        )

    def _rejected(self) -> list[Resource]:
        reason = self._feedback.reason
        if reason is None or self._feedback.feedback_type is not FeedbackType.REJECTED:
            return []
        code, display = DOS_REJECTED.get(reason.code, ("99", "Other"))
        bars = {"system": f"{BARS}/dos-rejected-reasons-bars", "code": code, "display": display}
        return [{"coding": [bars, _coding("end-reason", reason)], "text": reason.text}]

    def _task(self) -> Resource:
        feedback = self._feedback
        return self._resource(
            "Task",
            "task",
            "https://fhir.hl7.org.uk/StructureDefinition/UKCore-Task",
            identifier=self._identifiers()[:1],
            status=feedback.status.value,
            statusReason=self._status_reason(),
            businessStatus=self._business_status(),
            intent="order",
            code={"coding": [{"system": "http://hl7.org/fhir/CodeSystem/task-code", "code": "fulfill"}]},
            focus=self._refer("service-request"),
            **{"for": self._refer("patient")},
            authoredOn=self._at,
            lastModified=self._at,
            requester=self._refer("receiver"),
            owner=self._refer("hub" if feedback.hub else "sender"),
            note=[{"time": self._at, "text": "\n".join(feedback.text)}],
            restriction={"period": {"end": feedback.until.isoformat()}} if feedback.until else None,
            output=[*map(_finding, feedback.findings), *self._done()],
        )

    def _status_reason(self) -> Resource | None:
        feedback = self._feedback
        if feedback.reason is not None:
            return {"coding": [_coding("reason", feedback.reason)], "text": feedback.reason.text}
        if feedback.routing_reasons:
            text = "; ".join(reason.text for reason in feedback.routing_reasons)
            return {"coding": [_coding("routing-reason", reason) for reason in feedback.routing_reasons], "text": text}
        if feedback.status in NEEDS_REASON:
            return {"text": "Not stated here; please ask the home hub"}
        return None

    def _business_status(self) -> Resource | None:
        """Return the feedback type and its first paragraph, or None in a status-only message."""
        if not self._feedback.full:
            return None
        coding = {"system": f"{LOCAL}/CodeSystem/feedback-type", "code": self._feedback.feedback_type.value}
        return {"coding": [coding], "text": self._feedback.text[0]}

    def _quoted(self) -> list[tuple[int, CompletedAction]]:
        """Return the numbered actions that have a date: each becomes a Procedure, the others only Task.output."""
        return [(number, done) for number, done in enumerate(self._feedback.completed_actions) if done.on is not None]

    def _done(self) -> list[Resource]:
        kind = {"coding": [{"system": f"{LOCAL}/CodeSystem/output", "code": "done"}], "text": "Done"}
        return [
            {"type": kind, "valueReference": self._refer(f"procedure {number}")}
            if done.on is not None
            else {"type": kind, "valueCodeableConcept": _concept("service", done.service)}
            for number, done in enumerate(self._feedback.completed_actions)
        ]

    def _procedure(self, number: int, done: CompletedAction) -> Resource:
        assert done.on is not None
        return self._resource(
            "Procedure",
            f"procedure {number}",
            None,
            basedOn=[self._refer("service-request")],
            status="completed",
            category=_concept("service", done.service),
            code={"text": done.action or done.service.text},
            subject=self._refer("patient"),
            performedDateTime=done.on.isoformat(),
            performer=[{"actor": {"display": done.provider}}] if done.provider else None,
        )

    def _patient(self) -> Resource:
        """Return the Patient as the referrer stated it, or without demographics in a status-only message."""
        feedback = self._feedback
        person = feedback.person if feedback.full else None
        return self._resource(
            "Patient",
            "patient",
            "https://fhir.hl7.org.uk/StructureDefinition/UKCore-Patient",
            **(_demographics(person) if person else {}),
        )

    def _organization(self, part: str, name: str | None, ods: str | None, hub: HubContact | None) -> Resource:
        return self._resource(
            "Organization",
            part,
            "https://fhir.hl7.org.uk/StructureDefinition/UKCore-Organization",
            identifier=[{"system": ODS, "value": ods}] if ods else [],
            name=name or "Referrer",
            telecom=_telecom(hub),
        )

    def _hub(self) -> list[Resource]:
        feedback = self._feedback
        hubs = [("hub", feedback.hub), ("refer-to", feedback.refer_to)]
        return [self._organization(part, hub.name, None, hub) for part, hub in hubs if hub is not None]


def _derived(namespace: bytes, name: str) -> str:
    """Return str(uuid5(namespace, name)) in a third of the time; a message has a dozen of them."""
    digest = bytearray(hashlib.sha1(namespace + name.encode(), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _original_id(feedback: Feedback) -> str:
    """Return the Bundle.id of the referral's message, or an id derived from its message id in another format."""
    if feedback.format == "bars-fhir" and FHIR_ID.match(feedback.message_id):
        return feedback.message_id
    return str(uuid5(UUID(int=0), f"{feedback.format}|{feedback.message_id}"))


def _coding(system: str, coded: Coded) -> Resource:
    return {"system": f"{LOCAL}/CodeSystem/{system}", "code": coded.code, "display": coded.text}


def _concept(system: str, coded: Coded) -> Resource:
    return {"coding": [_coding(system, coded)], "text": coded.text}


def _finding(finding: ReportedFinding) -> Resource:
    return {"type": _concept("service", finding.service), "valueCodeableConcept": _concept("finding", finding.finding)}


def _telecom(hub: HubContact | None) -> list[Resource]:
    if hub is None:
        return []
    contacts = (("phone", hub.phone), ("email", hub.email))
    return [{"system": system, "value": value, "use": "work"} for system, value in contacts if value]


def _demographics(person: PersonBrief) -> Resource:
    names = {"use": "official", "family": person.family_name, "given": list(person.given_names)}
    name = {key: value for key, value in names.items() if value}
    return {
        "identifier": [_nhs_number(person)] if person.nhs_number else [],
        "name": [name] if len(name) > 1 else [],
        "birthDate": person.birth_date.isoformat() if person.birth_date else None,
    }


def _nhs_number(person: PersonBrief) -> Resource:
    number: Resource = {"system": NHS_NUMBER, "value": person.nhs_number}
    if person.nhs_number_status.isdigit():
        coding = {"system": VERIFICATION_CODES, "code": person.nhs_number_status}
        number["extension"] = [{"url": VERIFICATION, "valueCodeableConcept": {"coding": [coding]}}]
    return number
