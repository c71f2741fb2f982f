"""Renders a feedback as a GP Connect Send Document message: an ITK3 Bundle (FHIR STU3, XML) with the letter.

XML because the published example is XML and every receiver must accept it (GP Connect Send Document 1.3.2, which also allows
text/html attachments). Element order follows STU3, unlike parts of the published example. Patient, author and organisations keep their
ids over all letters of a referral (schemas.fhir); all other ids derive from the feedback's id.
"""

import base64
import re
from typing import Any
from uuid import UUID, uuid5
from xml.sax.saxutils import quoteattr

from schemas.events import PersonBrief
from schemas.fhir import resource_id
from services.notifier.channels import letter
from services.notifier.compose import Feedback
from services.notifier.templates import SenderDetails

Resource = dict[str, Any]

NHS = "https://fhir.nhs.uk/STU3"
CARE_CONNECT = "https://fhir.hl7.org.uk/STU3/StructureDefinition"
ODS = "https://fhir.nhs.uk/Id/ods-organization-code"
NHS_NUMBER = "https://fhir.nhs.uk/Id/nhs-number"
UUIDS = "https://tools.ietf.org/html/rfc4122"
VERIFICATION_CODES = "https://fhir.hl7.org.uk/STU3/CodeSystem/CareConnect-NHSNumberVerificationStatus-1"
AUTHOR = "author"
LASTING = frozenset({"patient", AUTHOR, "custodian", "header-sender"})
"""Resources that keep their ids over all letters of a referral; the author is a hub's team, so its id is one for each hub."""

NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def bundle(feedback: Feedback, sender_details: SenderDetails, mailbox: str) -> Resource:
    """Return the message as FHIR JSON. `mailbox`: our MESH mailbox, for the practice's acknowledgements."""
    return _LetterWriter(feedback, sender_details, mailbox).bundle()


def bundle_id(feedback: Feedback) -> str:
    """Return the Bundle.id of the message for this feedback."""
    return str(uuid5(UUID(feedback.id), "itk3 bundle"))


def as_xml(resource: Resource) -> bytes:
    """Return a resource as FHIR XML."""
    inside = _resource_xml(resource).replace(">", ' xmlns="http://hl7.org/fhir">', 1)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + inside.encode()


def _resource_xml(resource: Resource) -> str:
    kind = resource["resourceType"]
    inside = "".join(_element(name, value) for name, value in resource.items() if name != "resourceType")
    return f"<{kind}>{inside}</{kind}>"


def _element(name: str, value: Any) -> str:
    match value:
        case list():
            return "".join(_element(name, one) for one in value)
        case {"resourceType": _}:
            return f"<{name}>{_resource_xml(value)}</{name}>"
        case dict():
            return _complex_element(name, value)
        case str() if name == "div":
            return value
        case bool():
            return f'<{name} value="{str(value).lower()}"/>'
        case _:
            return f"<{name} value={quoteattr(NOT_IN_XML.sub('', str(value)))}/>"


def _complex_element(name: str, value: dict[str, Any]) -> str:
    attributes = f" url={quoteattr(value['url'])}" if name == "extension" else ""
    inside = "".join(_element(part, one) for part, one in value.items() if part != "url" or not attributes)
    return f"<{name}{attributes}>{inside}</{name}>"


class _LetterWriter:
    """Writer of one message."""

    def __init__(self, feedback: Feedback, sender_details: SenderDetails, mailbox: str) -> None:
        self._feedback = feedback
        self._sender_details = sender_details
        self._mailbox = mailbox
        self._at = feedback.at.isoformat()

    def bundle(self) -> Resource:
        return self._bundle(
            bundle_id(self._feedback),
            "ITK-Message-Bundle-1",
            "message",
            [self._header(), self._sender("header-sender", "CareConnect-ITK-Header-Organization-1"), self._document()],
        )

    def _bundle(self, own_id: str, profile: str, kind: str, resources: list[Resource]) -> Resource:
        return {
            "resourceType": "Bundle",
            "id": own_id,
            "meta": {"lastUpdated": self._at, "profile": [f"{NHS}/StructureDefinition/{profile}"]},
            "identifier": {"system": UUIDS, "value": own_id},
            "type": kind,
            "entry": [{"fullUrl": f"urn:uuid:{one['id']}", "resource": one} for one in resources],
        }

    def _id(self, part: str) -> str:
        if part in LASTING:
            hub = self._feedback.hub
            return resource_id(self._feedback.reference, f"itk3 {part} {hub.id if hub and part == AUTHOR else ''}")
        return str(uuid5(UUID(self._feedback.id), f"itk3 {part}"))

    def _refer(self, part: str) -> Resource:
        return {"reference": f"urn:uuid:{self._id(part)}"}

    def _resource(self, kind: str, part: str, profile: str, **elements: Any) -> Resource:
        present = {name: value for name, value in elements.items() if value not in (None, [], {})}
        return {"resourceType": kind, "id": self._id(part), "meta": {"profile": [profile]}, **present}

    def _header(self) -> Resource:
        return self._resource(
            "MessageHeader",
            "header",
            f"{NHS}/StructureDefinition/ITK-MessageHeader-2",
            extension=[
                {"url": f"{NHS}/StructureDefinition/Extension-ITK-MessageHandling-2", "extension": self._handling()}
            ],
            event={
                "system": f"{NHS}/CodeSystem/ITK-MessageEvent-2",
                "code": "ITK007C",
                "display": "ITK GP Connect Send Document",
            },
            sender=self._refer("header-sender"),
            timestamp=self._at,
            source={"endpoint": self._mailbox},
            focus=[self._refer("document")],
        )

    def _handling(self) -> list[Resource]:
        definition = f"{NHS}/MessageDefinition/ITK-GPConnectSendDocument-MessageDefinition-1"
        recipient = {"system": f"{NHS}/CodeSystem/ITK-RecipientType-1", "code": "FA", "display": "For Action"}
        return [
            {"url": "BusAckRequested", "valueBoolean": True},
            {"url": "InfAckRequested", "valueBoolean": True},
            {"url": "RecipientType", "valueCoding": recipient},
            {"url": "MessageDefinition", "valueReference": {"reference": definition}},
            {"url": "SenderReference", "valueString": self._feedback.id},
            {"url": "LocalExtension", "valueString": "Lightbulb-HousingSupportFeedback"},
        ]

    def _sender(self, part: str, profile: str) -> Resource:
        return self._resource(
            "Organization",
            part,
            f"{NHS}/StructureDefinition/{profile}",
            identifier=[{"system": ODS, "value": self._sender_details.ods}],
        )

    def _document(self) -> Resource:
        parts = [self._composition(), self._attachment(), self._author(), self._custodian(), self._patient()]
        return self._bundle(self._id("document"), "ITK-Document-Bundle-1", "document", parts)

    def _composition(self) -> Resource:
        inside = letter.content(self._feedback, self._sender_details)
        return self._resource(
            "Composition",
            "composition",
            f"{CARE_CONNECT}/CareConnect-Composition-1",
            text=_narrative(f"<p>{letter.TITLE}: {self._feedback.reference}</p>"),
            identifier={"system": UUIDS, "value": self._feedback.id},
            status="final",
            type={
                "coding": [
                    {
                        "system": "http://snomed.info/sct",
                        "code": "371531000",
                        "display": "Report of clinical encounter",
                    }
                ]
            },
            subject=self._refer("patient"),
            date=self._at,
            author=[self._refer(AUTHOR)],
            title=letter.TITLE,
            confidentiality="N",
            custodian=self._refer("custodian"),
            section=[{"title": letter.TITLE, "text": _narrative(inside), "entry": [self._refer("letter")]}],
        )

    def _attachment(self) -> Resource:
        page = letter.page(self._feedback, self._sender_details).encode()
        return self._resource(
            "Binary",
            "letter",
            f"{NHS}/StructureDefinition/ITK-Attachment-Binary-1",
            contentType="text/html",
            content=base64.b64encode(page).decode(),
        )

    def _author(self) -> Resource:
        """Return the team as a Practitioner: STU3 does not allow an organisation as author."""
        hub = self._feedback.hub
        return self._resource(
            "Practitioner",
            AUTHOR,
            f"{CARE_CONNECT}/CareConnect-Practitioner-1",
            name=[{"text": f"Housing support coordinators, {hub.name if hub else self._sender_details.name}"}],
            telecom=self._telecom(),
        )

    def _custodian(self) -> Resource:
        return self._resource(
            "Organization",
            "custodian",
            f"{CARE_CONNECT}/CareConnect-Organization-1",
            identifier=[{"system": ODS, "value": self._sender_details.ods}],
            name=self._sender_details.name,
            telecom=self._telecom(),
        )

    def _telecom(self) -> list[Resource]:
        hub = self._feedback.hub
        return [{"system": "phone", "value": hub.phone, "use": "work"}] if hub and hub.phone else []

    def _patient(self) -> Resource:
        person = self._feedback.person
        return self._resource(
            "Patient",
            "patient",
            f"{CARE_CONNECT}/CareConnect-Patient-1",
            **(_demographics(person) if person else {}),
        )


def _narrative(inside: str) -> Resource:
    return {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{inside}</div>'}


def _demographics(person: PersonBrief) -> Resource:
    names: Resource = {"use": "official", "family": person.family_name, "given": list(person.given_names)}
    name = {part: value for part, value in names.items() if value}
    return {
        "identifier": [_nhs_number(person)] if person.nhs_number else [],
        "active": True,
        "name": [name] if len(name) > 1 else [],
        "birthDate": person.birth_date.isoformat() if person.birth_date else None,
    }


def _nhs_number(person: PersonBrief) -> Resource:
    """Return the NHS number, with its verification status if the sender stated one."""
    number: Resource = {"system": NHS_NUMBER, "value": person.nhs_number}
    if not person.nhs_number_status.isdigit():
        return number
    url = f"{CARE_CONNECT}/Extension-CareConnect-NHSNumberVerificationStatus-1"
    coding = {"system": VERIFICATION_CODES, "code": person.nhs_number_status}
    return {"extension": [{"url": url, "valueCodeableConcept": {"coding": [coding]}}], **number}
