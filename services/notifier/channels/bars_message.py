"""Renders a feedback as a BaRS-shaped message (FHIR R4): `servicerequest-response` in a Bundle.

BaRS-shaped, not BaRS: no BaRS use case exists for housing. Sources: NHS England BaRS Core 1.5.0, and SDOH
Clinical Care 3.0 for the Task that carries findings and completed actions. Resources keep their ids over all messages of a referral
(schemas.fhir); the ids of the Bundle and its MessageHeader derive from the feedback's id, and times are the event's, so the same
feedback always gives the same bytes. Plain dictionaries for speed; tests validate them.
"""

import re
from collections.abc import Mapping
from datetime import date
from typing import Any
from uuid import UUID, uuid5

import orjson

from schemas.case import CaseStatus
from schemas.events import PersonBrief
from schemas.fhir import HOME_VISIT, LOCAL, OURS, REFERENCE_SYSTEM, USE_CASE, derived_id, organization_part, resource_id
from schemas.nhs_number import VerificationStatus
from services.notifier.compose import (
    Coded,
    CompletedAction,
    Feedback,
    FeedbackType,
    HubContact,
    NeedOutcome,
    ReportedFinding,
)
from services.notifier.templates import SenderDetails
from services.runtime import metrics

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
TELLS_STATUS = frozenset({FeedbackType.ON_HOLD, FeedbackType.REJECTED, FeedbackType.CANCELLED})
"""Types of feedback whose reason is that of the status; another reason is that of a need, in Task.output."""
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
VERIFICATION_DISPLAYS: Mapping[str, str] = {
    VerificationStatus.VERIFIED: "Number present and verified",
    VerificationStatus.NOT_TRACED: "Number present but not traced",
    VerificationStatus.TRACE_REQUIRED: "Trace required",
    VerificationStatus.NO_OR_MANY_MATCHES: "Trace attempted - No match or multiple match found",
    VerificationStatus.TO_BE_RESOLVED: "Trace needs to be resolved - (NHS Number or patient detail conflict)",
    VerificationStatus.TRACE_IN_PROGRESS: "Trace in progress",
    VerificationStatus.NOT_PRESENT: "Number not present and trace not required",
    VerificationStatus.POSTPONED: "Trace postponed (baby under six weeks old)",
}
SOFTWARE_VERSION = metrics.version()
FHIR_ID = re.compile(r"^[A-Za-z0-9.-]{1,64}$")

Resource = dict[str, Any]


def message(feedback: Feedback, sender_details: SenderDetails) -> bytes:
    """Return the Bundle as JSON bytes."""
    return orjson.dumps(_BundleWriter(feedback, sender_details).bundle())


def bundle_id(feedback: Feedback) -> str:
    """Return the Bundle.id of the message for this feedback."""
    return derived_id(UUID(feedback.id), "bundle")


class _BundleWriter:
    """Writer of one message; its resources refer to each other by their fullUrl."""

    def __init__(self, feedback: Feedback, sender_details: SenderDetails) -> None:
        self._feedback = feedback
        self._sender_details = sender_details
        self._at = feedback.at.isoformat()
        recipient = feedback.recipient
        self._receiver = organization_part(recipient.ods or recipient.id)
        self._performer = organization_part(feedback.hub.id) if feedback.hub else OURS
        self._ids: dict[str, str] = {"MessageHeader": derived_id(UUID(feedback.id), "header")}

    def bundle(self) -> Resource:
        resources = [
            self._header(),
            self._service_request(),
            self._encounter(),
            self._task(),
            self._patient(),
            self._organization(OURS, self._sender_details.name, self._sender_details.ods, None),
            self._organization(self._receiver, self._feedback.recipient.name, self._feedback.recipient.ods, None),
            *self._hubs(),
            *(self._procedure(part, actions) for part, actions in self._procedures().items()),
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
            "entry": [self._entry(resource) for resource in resources],
        }

    def _entry(self, resource: Resource) -> Resource:
        """Return the entry. Its fullUrl is the resource's UUID; the ServiceRequest's id is our reference instead."""
        is_request = resource["resourceType"] == "ServiceRequest"
        return {
            "fullUrl": f"urn:uuid:{self._id('ServiceRequest') if is_request else resource['id']}",
            "resource": resource | {"id": self._feedback.reference} if is_request else resource,
        }

    def _id(self, part: str) -> str:
        if part not in self._ids:
            self._ids[part] = resource_id(self._feedback.reference, part)
        return self._ids[part]

    def _refer(self, part: str) -> Resource:
        return {"reference": "urn:uuid:" + self._id(part)}

    def _resource(self, part: str, profile: str | None, **elements: Any) -> Resource:
        """Return a resource. `part` begins with its type."""
        meta: Resource = {"lastUpdated": self._at}
        if profile:
            meta["profile"] = [profile]
        present = {name: value for name, value in elements.items() if value not in (None, [], {})}
        return {"resourceType": part.partition(" ")[0], "id": self._id(part), "meta": meta, **present}

    def _header(self) -> Resource:
        recipient = self._feedback.recipient
        endpoint = f"{ODS}|{recipient.ods}" if recipient.ods else f"{LOCAL}/Id/partner|{recipient.id}"
        return self._resource(
            "MessageHeader",
            "https://fhir.nhs.uk/StructureDefinition/BARSMessageHeader-servicerequest-response",
            eventCoding={"system": f"{BARS}/message-events-bars", "code": "servicerequest-response"},
            destination=[{"endpoint": endpoint, "receiver": self._refer(self._receiver)}],
            sender=self._refer(OURS),
            source={
                "name": self._sender_details.short_name,
                "software": "Lightbulb referral hub",
                "version": SOFTWARE_VERSION,
                "contact": _phone(self._feedback.hub),
                "endpoint": f"{ODS}|{self._sender_details.ods}",
            },
            reason={"coding": [{"system": f"{BARS}/message-reason-bars", "code": "new"}]},
            response={"identifier": _original_id(self._feedback), "code": "ok"},
            focus=[self._refer("ServiceRequest")],
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
                        USE_CASE,
                    ]
                }
            ],
            subject=self._refer("Patient"),
            encounter=self._refer("Encounter"),
            authoredOn=_day(self._feedback.referred_on),
            requester=self._refer(self._receiver),
            performer=[self._refer(self._performer)],
        )

    def _encounter(self) -> Resource:
        return self._resource(
            "Encounter",
            "https://fhir.hl7.org.uk/StructureDefinition/UKCore-Encounter",
            identifier=self._identifiers()[:1],
            status=ENCOUNTER[self._feedback.status],
            **{"class": HOME_VISIT},
            subject=self._refer("Patient"),
            episodeOfCare=[{"reference": f"EpisodeOfCare/{self._id('EpisodeOfCare')}"}],
            period={"start": _day(self._feedback.referred_on)} if self._feedback.referred_on else None,
            reasonCode=self._rejected(),
            serviceProvider=self._refer(OURS),
        )

    def _rejected(self) -> list[Resource]:
        reason = self._feedback.reason
        if reason is None or not self._feedback.returns_needs:
            return []
        code, display = DOS_REJECTED.get(reason.code, ("99", "Other"))
        bars = {"system": f"{BARS}/dos-rejected-reasons-bars", "code": code, "display": display}
        return [{"coding": [bars, _coding("end-reason", reason)], "text": reason.text}]

    def _task(self) -> Resource:
        feedback = self._feedback
        return self._resource(
            "Task",
            "https://fhir.hl7.org.uk/StructureDefinition/UKCore-Task",
            identifier=self._identifiers()[:1],
            status=feedback.status.value,
            statusReason=self._status_reason(),
            businessStatus=self._business_status(),
            intent="order",
            code={"coding": [{"system": "http://hl7.org/fhir/CodeSystem/task-code", "code": "fulfill"}]},
            focus=self._refer("ServiceRequest"),
            **{"for": self._refer("Patient")},
            authoredOn=_day(feedback.referred_on),
            lastModified=self._at,
            requester=self._refer(self._receiver),
            owner=self._refer(self._performer),
            note=[{"time": self._at, "text": "\n".join(feedback.text)}],
            restriction={"period": {"end": _day(feedback.until)}} if feedback.until else None,
            output=[*map(_finding, feedback.findings), *self._outcomes(), *self._done()],
        )

    def _status_reason(self) -> Resource | None:
        feedback = self._feedback
        if feedback.reason is not None and feedback.feedback_type in TELLS_STATUS:
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

    def _procedures(self) -> dict[str, list[CompletedAction]]:
        """Return the actions that have a date by the Procedure that each becomes; the others are in Task.output only.

        The same action of a service on one day is one Procedure, with each provider as a performer, in any order of the list.
        """
        procedures: dict[str, list[CompletedAction]] = {}
        for done in self._feedback.completed_actions:
            if done.on is not None:
                procedures.setdefault(_procedure_of(done), []).append(done)
        return procedures

    def _outcomes(self) -> list[Resource]:
        """Return how each need ended, unless all did in one way, which is the Task's status."""
        feedback = self._feedback
        is_whole = feedback.feedback_type.value == feedback.status.value
        return [] if is_whole else [_outcome(one) for one in (*feedback.ended_before, *feedback.ended)]

    def _done(self) -> list[Resource]:
        kind = {"coding": [{"system": f"{LOCAL}/CodeSystem/output", "code": "done"}], "text": "Done"}
        undated = (done for done in self._feedback.completed_actions if done.on is None)
        return [
            *({"type": kind, "valueReference": self._refer(part)} for part in self._procedures()),
            *({"type": kind, "valueCodeableConcept": _concept("service", done.service)} for done in undated),
        ]

    def _procedure(self, part: str, actions: list[CompletedAction]) -> Resource:
        done = actions[0]
        return self._resource(
            part,
            None,
            basedOn=[self._refer("ServiceRequest")],
            status="completed",
            category=_concept("service", done.service),
            code={"text": done.action or done.service.text},
            subject=self._refer("Patient"),
            performedDateTime=_day(done.on),
            performer=[{"actor": {"display": action.provider}} for action in actions if action.provider],
        )

    def _patient(self) -> Resource:
        """Return the Patient as the referrer stated it, or without demographics in a status-only message."""
        feedback = self._feedback
        person = feedback.person if feedback.full else None
        return self._resource(
            "Patient",
            "https://fhir.hl7.org.uk/StructureDefinition/UKCore-Patient",
            **(_demographics(person) if person else {}),
        )

    def _organization(self, part: str, name: str | None, ods: str | None, hub: HubContact | None) -> Resource:
        return self._resource(
            part,
            "https://fhir.hl7.org.uk/StructureDefinition/UKCore-Organization",
            identifier=[{"system": ODS, "value": ods}] if ods else [],
            name=name or "Referrer",
            telecom=_telecom(hub),
        )

    def _hubs(self) -> list[Resource]:
        contacts = (self._feedback.hub, self._feedback.refer_to)
        hubs = {organization_part(hub.id): hub for hub in contacts if hub is not None}
        return [self._organization(part, hub.name, None, hub) for part, hub in hubs.items()]


def _procedure_of(done: CompletedAction) -> str:
    """Return the identity of an action: service, reviewed action and date, all of which the message shows."""
    return f"Procedure {done.service.code} {done.action or ''} {done.on}"


def _day(day: date | None) -> str | None:
    return day.isoformat() if day else None


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


def _outcome(outcome: NeedOutcome) -> Resource:
    """Return how a need ended, and why."""
    coding = [{"system": f"{LOCAL}/CodeSystem/need-outcome", "code": outcome.status.value}]
    reason = [_coding("reason", outcome.reason)] if outcome.reason else []
    return {"type": _concept("service", outcome.need), "valueCodeableConcept": {"coding": [*coding, *reason]}}


def _phone(hub: HubContact | None) -> Resource | None:
    return {"system": "phone", "value": hub.phone} if hub and hub.phone else None


def _telecom(hub: HubContact | None) -> list[Resource]:
    if hub is None:
        return []
    contacts = (("phone", hub.phone), ("email", hub.email))
    return [{"system": system, "value": value, "use": "work"} for system, value in contacts if value]


def _demographics(person: PersonBrief) -> Resource:
    text = " ".join((*person.given_names, person.family_name or "")).strip()
    names = {"use": "official", "text": text, "family": person.family_name, "given": list(person.given_names)}
    return {
        "identifier": [_nhs_number(person)] if person.nhs_number else [],
        "name": [{key: value for key, value in names.items() if value}] if text else [],
        "birthDate": _day(person.birth_date),
    }


def _nhs_number(person: PersonBrief) -> Resource:
    number: Resource = {"system": NHS_NUMBER, "value": person.nhs_number}
    if person.nhs_number_status in VERIFICATION_DISPLAYS:
        status = person.nhs_number_status
        coding = {"system": VERIFICATION_CODES, "code": status, "display": VERIFICATION_DISPLAYS[status]}
        number["extension"] = [{"url": VERIFICATION, "valueCodeableConcept": {"coding": [coding]}}]
    return number
