"""Message Translator for BaRS messages (FHIR R4 `servicerequest-request`: new, update, delete).

BaRS-shaped: no BaRS use case exists for housing, so what housing needs is said in BaRS' own places with code systems of ours.

| canonical | where it is read |
|---|---|
| message id, referral id | Bundle.id and X-Request-Id; ServiceRequest.id, else its fullUrl's uuid |
| cancel | ServiceRequest.status revoked or entered-in-error, whatever the reason code says |
| needs | codes of `https://lightbulb.example.org/CodeSystem/service` in ServiceRequest.code, ServiceRequest.orderDetail, CarePlan.activity (detail.code, outcomeCodeableConcept) and Task.code; text and SNOMED CT of the same concept go with the need. None of ours: one need `information-advice` with all of the words and codes |
| reason | codes of `https://lightbulb.example.org/CodeSystem/reason` in reasonCode; words of reasonCode, note and Conditions |
| priority, referred_on | ServiceRequest.priority, authoredOn |
| referred_by | requester: PractitionerRole, Practitioner (its role is looked for), Organization, RelatedPerson (family, carer) or Patient (self) |
| registered_practice | Patient.generalPractitioner |
| named_authority | a performer that is identified by its ONS code (`https://statistics.data.gov.uk/id/statistical-geography`) |
| person | Patient, with UK Core's NHSNumberVerificationStatus (both code systems), AddressKey (UPRN), patient-interpreterRequired |
| hospital | the request's Encounter where its class is a stay (IMP, ACUTE, NONAC, SS): period, location (ward, site), extensions `expected-discharge`, `ready-for-transfer`, `discharge-pathway`, `delay-attributed-to`, `trusted-assessment-suitable` below `https://lightbulb.example.org/StructureDefinition/` |
| consents | Consent with a category of `https://lightbulb.example.org/CodeSystem/consent` (referral, feedback, evaluation), permitted or denied; BaRS' DRC counts for the referral where it is explicit |
| risk_flags | active Flags: BaRS flag category and words |
| attachments | DocumentReference with data, or with a Binary in the message |
"""  # noqa: E501 - a table

from dataclasses import replace
from typing import Any
from uuid import UUID, uuid5

from pydantic import ValidationError

from schemas.case import EndReason
from schemas.referral import Referral
from services.directory import Catalogue
from services.intake.translators.bars_fhir import beside, conformance
from services.intake.translators.bars_fhir.message import Message, code_in, codes, is_system, read
from services.intake.translators.bars_fhir.models import Encounter, MessageHeader, Patient, Resource, ServiceRequest
from services.intake.translators.bars_fhir.person import NO_FIXED_ABODE, contacts, number_and_status, person
from services.intake.translators.bars_fhir.referrer import referred_by, registered_practice
from services.intake.translators.bars_fhir.request import named_authority, needs, reason, stay
from services.intake.translators.contract import (
    CONSENT_REFUSED,
    CancelReason,
    Delivery,
    Document,
    Fault,
    Intent,
    Refusal,
    Translated,
    Translator,
    cancel_hash,
    content_hash,
    day,
    faults_of,
    fhir_path,
    instant,
    refuse,
    unnamed,
)

EVENTS = "https://fhir.nhs.uk/CodeSystem/message-events-bars"
REASONS = "https://fhir.nhs.uk/CodeSystem/message-reason-bars"
CATEGORIES = "https://fhir.nhs.uk/CodeSystem/message-category-servicerequest"

CONVERSATION = UUID("6f1c2d5e-6d1b-5b44-9a44-3c1d3f0a7e11")
"""Namespace of correlation ids that we make where a sender gave none."""


def translator(services: Catalogue) -> Translator:
    """Return the translator of BaRS messages: they name services by the codes of the catalogue."""
    return lambda delivery: _translate(delivery, services)


def _translate(delivery: Delivery, services: Catalogue) -> Translated | Refusal:
    """A BaRS message as a Referral, or what is wrong with it."""
    found = read(delivery.body)
    if isinstance(found, Refusal):
        return found
    message, raw = found
    asked = request_in(message)
    if isinstance(asked, Refusal):
        return asked
    if delivery.partner.conformance == "full" and (faults := conformance.faults(raw)):
        return Refusal(faults)
    translated = _translated(message, asked[0], asked[1], delivery, services)
    if isinstance(translated, Refusal):
        return translated
    return replace(translated, encounter=_encounter(message, asked[1], raw))


ENCOUNTER_IN_BRIEF = ("resourceType", "id", "meta", "identifier", "status", "class")


def _encounter(message: Message, request: ServiceRequest, raw: Any) -> dict[str, Any] | None:
    """The sender's own Encounter without what refers to others: the answer repeats it before ours (BaRS: ours is the second)."""
    found = message.find(request.encounter, Encounter)
    if found is None:
        return None
    told = raw["entry"][message.index(found)]["resource"]
    return {name: told[name] for name in ENCOUNTER_IN_BRIEF if name in told}


def request_in(message: Message) -> tuple[MessageHeader, ServiceRequest] | Refusal:
    """The header and the request that it is about, where the message asks for a referral."""
    header = next(message.all(MessageHeader), None)
    if header is None or not message.at(header).startswith("Bundle.entry[0]."):
        return refuse(Fault("Bundle.entry[0].resource", "invariant", "a message begins with its MessageHeader"))
    if fault := _event_fault(message, header):
        return refuse(fault)
    request = next(message.found(header.focus, ServiceRequest), None)
    if request is None:
        place = message.at(header, "focus")
        return refuse(Fault(place, "required", "names the ServiceRequest, which must be in the message"))
    return header, request


def _event_fault(message: Message, header: MessageHeader) -> Fault | None:
    event = header.eventCoding
    if event is None or event.code is None:
        return Fault(message.at(header, "eventCoding"), "required", "the event is required: servicerequest-request")
    if event.code != "servicerequest-request" or not is_system(event.system, EVENTS):
        place = message.at(header, "eventCoding", "code")
        return Fault(place, "not-supported", "of the BaRS events only servicerequest-request is taken here")
    given = codes(header.reason, REASONS)
    if not given:
        return Fault(message.at(header, "reason"), "required", "a code of " + REASONS + " is required")
    if given[0] not in ("new", "update", "delete"):
        return Fault(message.at(header, "reason"), "value", "new, update or delete is expected")
    return None


def _translated(
    message: Message, header: MessageHeader, request: ServiceRequest, delivery: Delivery, services: Catalogue
) -> Translated | Refusal:
    referral_id = _referral_id(message, request)
    cancels = request.status in ("revoked", "entered-in-error")
    intent: Intent = "new" if codes(header.reason, REASONS)[0] == "new" else "update"
    _check_request(message, header, request, cancels)
    if cancels:
        return _cancel(message, request, delivery, referral_id)
    consents = beside.consents(message)
    if consents.get("referral", {}).get("answer") == "no":
        if intent == "new":
            return refuse(*message.faults, Fault(beside.refusal_place(message), "business-rule", CONSENT_REFUSED))
        return _cancel(message, request, delivery, referral_id)
    documents = beside.documents(message, delivery, referral_id)
    content = _content(message, header, request, delivery, services) | {
        "consents": consents,
        "attachments": [named for named, _ in documents],
        "message": _identity(message, delivery, referral_id),
    }
    return _accepted(message, content, intent, delivery, [kept for _, kept in documents])


def _referral_id(message: Message, request: ServiceRequest) -> str:
    url = (message.full_url(request) or "").removeprefix("urn:uuid:")
    if request.id is None and not url:
        message.fault(request, ("id",), "required", "an id is required, of the resource or as the entry's fullUrl")
    return (request.id or url)[:300]


def _check_request(message: Message, header: MessageHeader, request: ServiceRequest, cancels: bool) -> None:
    """What each code allows is in the models; how they go together is here."""
    if not cancels and request.status != "active":
        message.fault(
            request, ("status",), "not-supported", "active is expected, or revoked or entered-in-error to cancel"
        )
    if not cancels and codes(header.reason, REASONS)[0] == "delete":
        message.fault(request, ("status",), "invariant", "to delete, the status is revoked or entered-in-error")
    if not cancels and code_in(request.category, CATEGORIES) not in (None, "referral"):
        message.fault(request, ("category",), "not-supported", "only the category referral is taken here")


def _cancel(message: Message, request: ServiceRequest, delivery: Delivery, referral_id: str) -> Translated | Refusal:
    patient = message.find(request.subject, Patient)
    if patient:
        number_and_status(message, patient)
    if message.faults:
        return Refusal(tuple(message.faults))
    why = _why(message, request)
    discharged_on = stay(message, request).get("discharged_on")
    return Translated(
        message_ids=_message_ids(message, delivery),
        referral_id=referral_id,
        intent="cancel",
        content_hash=cancel_hash(why, discharged_on),
        cancel_reason=why,
        discharged_on=discharged_on,
        sent_at=_sent_at(message),
        correlation_id=_correlation_id(message, delivery),
    )


def _why(message: Message, request: ServiceRequest) -> CancelReason:
    if beside.consents(message).get("referral", {}).get("answer") == "no":
        return EndReason.CONSENT_WITHDRAWN
    return EndReason.REFERRED_IN_ERROR if request.status == "entered-in-error" else EndReason.CANCELLED_BY_REFERRER


def _content(
    message: Message, header: MessageHeader, request: ServiceRequest, delivery: Delivery, services: Catalogue
) -> dict[str, Any]:
    patient = message.find(request.subject, Patient)
    if patient is None:
        message.fault(request, ("subject",), "required", "names the Patient, who must be in the message")
        return {}
    why = reason(message, request)
    homeless = any(coding["code"] == NO_FIXED_ABODE for coding in why.get("snomed", ()))
    return {
        "sent_by": delivery.partner.sender,
        "referred_by": referred_by(message, request, header, delivery.partner),
        "registered_practice": registered_practice(message, patient),
        "person": person(message, patient, homeless=homeless),
        "contacts": contacts(patient),
        "needs": needs(message, request, services),
        "reason": why,
        "priority": request.priority or "routine",
        "named_authority": named_authority(message, request),
        "risk_flags": beside.risk_flags(message),
        "referred_on": day(request.authoredOn),
        **stay(message, request),
    }


def _identity(message: Message, delivery: Delivery, referral_id: str) -> dict[str, Any]:
    return unnamed(
        {
            "format": "bars-fhir",
            "message_id": message.bundle.id,
            "referral_id": referral_id,
            "sent_at": _sent_at(message),
        }
    )


def _accepted(
    message: Message, content: dict[str, Any], intent: Intent, delivery: Delivery, documents: list[Document]
) -> Translated | Refusal:
    if message.faults:
        return Refusal(tuple(message.faults[:50]))
    try:
        referral = Referral.model_validate(content)
    except ValidationError as error:
        return Refusal(faults_of(error, lambda loc: _canonical_place(message, loc)))
    return Translated(
        message_ids=_message_ids(message, delivery),
        referral_id=referral.message.referral_id,
        intent=intent,
        content_hash=content_hash(referral),
        referral=referral,
        sent_at=_sent_at(message),
        correlation_id=_correlation_id(message, delivery),
        documents=tuple(documents),
    )


def _canonical_place(message: Message, loc: tuple[int | str, ...]) -> str:
    """Where a value that the canonical model refuses (mostly: too long) comes from."""
    sources: dict[str, type[Resource]] = {
        "person": Patient,
        "contacts": Patient,
        "registered_practice": Patient,
        "message": MessageHeader,
    }
    resource = next(iter(message.all(sources.get(str(loc[0]), ServiceRequest))), None)
    below = f" ({fhir_path(str(loc[0]), loc[1:])})"
    return (message.at(resource) if resource else "Bundle") + below


def _message_ids(message: Message, delivery: Delivery) -> tuple[str, ...]:
    bundle = f"bundle:{message.bundle.id}"
    return (bundle, f"request:{delivery.request_id}") if delivery.request_id else (bundle,)


def _sent_at(message: Message) -> Any:
    meta = message.bundle.meta
    return instant(message.bundle.timestamp) or instant(meta.lastUpdated if meta else None)


def _correlation_id(message: Message, delivery: Delivery) -> str:
    return delivery.correlation_id or str(uuid5(CONVERSATION, f"{delivery.partner.id} {message.bundle.id}"))
