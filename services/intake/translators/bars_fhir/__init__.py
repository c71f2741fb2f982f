"""Message Translator for BaRS messages (FHIR R4 `servicerequest-request`: new, update, delete).

BaRS-shaped: no BaRS use case exists for housing, so housing needs use BaRS elements with Lightbulb's code systems.

| canonical | source |
|---|---|
| message id, referral id | X-Request-Id; our reference, ServiceRequest.id, ServiceRequest.identifier, Bundle.id, then fullUrl, of the organisation that asks |
| cancel | ServiceRequest.status revoked or entered-in-error, with any reason code |
| needs | codes of `https://lightbulb.example.org/CodeSystem/service` in ServiceRequest.code, ServiceRequest.orderDetail, CarePlan.activity (detail.code, outcomeCodeableConcept) and Task.code; text and SNOMED CT of the same concept go with the need. Without such a code, and with our use case or destination: one need `information-advice` with all texts and SNOMED CT codes |
| reason | codes of `https://lightbulb.example.org/CodeSystem/reason` in reasonCode; texts of reasonCode, note and Conditions (with their status, if it is in doubt or over); SNOMED CT codes of reasonCode and of present Conditions |
| priority, referred_on | ServiceRequest.priority, authoredOn |
| referred_by | requester: PractitionerRole, Practitioner (with its PractitionerRole, if any), Organization, RelatedPerson (family, carer) or Patient (self) |
| registered_practice | Patient.generalPractitioner: an Organization, or that of a PractitionerRole or Practitioner in force |
| named_authority | a performer with an ONS code (`https://statistics.data.gov.uk/id/statistical-geography`) |
| person | Patient, at the time of the message: entries of use old, ended and future ones do not count. What does not count, and each further name, address and language, is listed in the answer as not read. UK Core's extensions are read under `https://fhir.hl7.org.uk` and `https://fhir.nhs.uk/R4` |
| person: NHS number, status | the identifier of system `https://fhir.nhs.uk/Id/nhs-number` (or `https://fhir.nhs.net/Id/nhs-number`) that is in force, and its NHSNumberVerificationStatus, by either kind of code; a code that UK Core does not have, two numbers and two statuses are refused |
| person: name | of several the official one, then usual, then one without use, temp, anonymous; never old, maiden or nickname. Without a family name in force: refused |
| person: birth_date | birthDate, a whole date not in the future and at most 130 years ago; otherwise refused |
| person: address, temporary_address | of several the home, then one without use, then temp; never work, billing or of type postal. If there is a home, a temp one is the temporary address; UPRN by AddressKey |
| person: phone, email, other_contact_points | telecom, and a contact with relationship ONESELF: by rank, then use. Every further one is carried: sms, pager, fax, textphone (OtherContactSystem) |
| person: language, interpreter, preferred_contact | communication, NHSCommunication, patient-interpreterRequired, ContactPreference |
| person: restricted_access | meta.security: Confidentiality R, V or any label stricter than N; false without one |
| person: death_reported | deceased[x], a DeathNotificationStatus other than U, or a discharge disposition of death (`exp`, 79); the date of death, if it is a whole date; read in a cancel too |
| contacts | Patient.contact in force, by ContactRank |
| hospital | the request's Encounter if its class is an inpatient stay (IMP, ACUTE, NONAC, SS): period, location (ward, site), extensions `expected-discharge`, `ready-for-transfer`, `discharge-pathway`, `delay-attributed-to`, `trusted-assessment-suitable` below `https://lightbulb.example.org/StructureDefinition/` |
| consents | Consent with a category of `https://lightbulb.example.org/CodeSystem/consent` (referral, feedback, evaluation): policyRule and the provisions nested in it; BaRS' DRC counts for the referral if it is explicit |
| risk_flags | active Flags whose period holds: each BaRS flag category, with the text |
| attachments | DocumentReference with data, or with a Binary in the message |
"""  # noqa: E501 - a table

from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import UUID, uuid5

import orjson
from pydantic import ValidationError

from schemas.case import EndReason
from schemas.referral import Referral
from services.intake import limits
from services.intake.translators import json_text, plausibility
from services.intake.translators.bars_fhir import (
    compiled,
    consent,
    decode,
    for_us,
    identity,
    modifiers,
    passed_over,
    supporting_info,
    unused,
    validation,
)
from services.intake.translators.bars_fhir.bundle_index import BundleIndex, codes, is_system
from services.intake.translators.bars_fhir.contact_details import contacts
from services.intake.translators.bars_fhir.for_us import EVENTS, REASONS
from services.intake.translators.bars_fhir.models import (
    Encounter,
    MessageHeader,
    Organization,
    Patient,
    Resource,
    ServiceRequest,
)
from services.intake.translators.bars_fhir.person import NO_FIXED_ABODE, death, person
from services.intake.translators.bars_fhir.referrer import organisation, referred_by, registered_practice
from services.intake.translators.bars_fhir.request import (
    died_in_hospital,
    named_authority,
    needs,
    reason,
    requested_by,
    stay,
)
from services.intake.translators.inbound_message import InboundMessage, Translator
from services.intake.translators.translator import (
    CONSENT_REFUSED,
    CancelReason,
    Intent,
    Issue,
    ReferralName,
    Rejection,
    Subject,
    Translated,
    cancel_hash,
    content_hash,
    death_report,
    drop_empty,
    fhir_path,
    issues_of,
    parse_instant,
    reject,
)
from services.reference.directory import Catalogue

CONVERSATION = UUID("6f1c2d5e-6d1b-5b44-9a44-3c1d3f0a7e11")
"""Namespace of the correlation ids that we make for messages without one."""


def translator(services: Catalogue, service_ids: Collection[str] = ()) -> Translator:
    """Return the translator of BaRS messages, whose needs are codes of the service catalogue.

    `service_ids`: the identifiers of the installation as a destination, as `system|value`; see for_us.py.
    """
    compiled.prepare()
    return lambda delivery: _translate(delivery, services, service_ids)


def _translate(delivery: InboundMessage, services: Catalogue, service_ids: Collection[str]) -> Translated | Rejection:
    decoded = decode.read(delivery.body, whole=delivery.partner.conformance == "full")
    if isinstance(decoded, Rejection):
        return decoded
    message, raw = BundleIndex(decoded, delivery.received_at, delivery.fillers), decoded.tree
    asked = request_in(message)
    if isinstance(asked, Rejection):
        return asked
    if not decoded.conforms and (faults := validation.find_issues(raw)):
        return Rejection(faults)
    message.issues += _future_issues(message, delivery)
    message.issues += _unread_modifiers(delivery.body, raw)
    message.issues += for_us.issues(message, *asked, service_ids)
    translated = _translated(message, asked[0], asked[1], delivery, services)
    if isinstance(translated, Rejection):
        return translated
    encounter = _encounter(message, asked[1], delivery.body)
    message.left_out += unused.places(message)
    if translated.intent == "cancel":
        message.left_out += unused.of_cancel(message, asked[1])
    return replace(translated, encounter=encounter, passed_over=passed_over.places(raw, message, asked[0]))


def _unread_modifiers(body: bytes, raw: Any) -> Iterator[Issue]:
    if modifiers.may_be_refused_everywhere(body):
        explanation = "can change the meaning of what it stands in, and is not supported"
        for place in islice(modifiers.refused_everywhere(raw), 50):
            yield Issue(fhir_path("Bundle", place), "not-supported", explanation)


ENCOUNTER_IN_BRIEF = ("resourceType", "id", "meta", "identifier", "status", "class")


def _encounter(message: BundleIndex, request: ServiceRequest, body: bytes) -> bytes | None:
    """Return the sender's Encounter without its references; BaRS responses repeat it as the first Encounter."""
    encounter = message.find(request.encounter, Encounter)
    if encounter is None:
        return None
    resource = json_text.as_sent(body, message.location(encounter))
    return orjson.dumps({name: resource[name] for name in ENCOUNTER_IN_BRIEF if name in resource})


def sent_request(body: bytes, received_at: datetime) -> dict[str, Any] | None:
    """Return the ServiceRequest of an accepted message as it was sent (see json_text.as_sent).

    Return None if this version cannot read the message.
    """
    decoded = decode.read(body)
    if isinstance(decoded, Rejection):
        return None
    message = BundleIndex(decoded, received_at)
    asked = request_in(message)
    if isinstance(asked, Rejection):
        return None
    resource: dict[str, Any] = json_text.as_sent(body, message.location(asked[1]))
    return resource


def request_in(message: BundleIndex) -> tuple[MessageHeader, ServiceRequest] | Rejection:
    """Return the header and its ServiceRequest, or a rejection if the message is not a referral request."""
    header, *others = [*message.all(MessageHeader), None]
    if header is None or message.location(header) != ("entry", 0, "resource"):
        return reject(Issue("Bundle.entry[0].resource", "invariant", "the first entry must be the MessageHeader"))
    if others[0] is not None:
        return reject(Issue(message.at(others[0]), "invariant", "a message has one MessageHeader"))
    if issue := _event_issue(message, header):
        return reject(issue)
    requests = {id(one): one for one in message.find_all(header.focus, ServiceRequest)}
    if len(requests) == 1:
        request = next(iter(requests.values()))
        message.patient = message.find(request.subject, Patient)
        return header, request
    place = message.at(header, "focus")
    if requests:
        return reject(Issue(place, "not-supported", "must refer to one ServiceRequest: send one message for each"))
    return reject(
        *message.issues[: limits.ISSUES] or [Issue(place, "required", "must refer to a ServiceRequest in the message")]
    )


def _event_issue(message: BundleIndex, header: MessageHeader) -> Issue | None:
    event = header.eventCoding
    if event is None or event.code is None:
        return Issue(message.at(header, "eventCoding"), "required", "is required: servicerequest-request")
    if event.code != "servicerequest-request" or not is_system(event.system, EVENTS):
        place = message.at(header, "eventCoding", "code")
        return Issue(place, "not-supported", "unsupported event: only servicerequest-request is supported")
    reasons = codes(header.reason, REASONS)
    if not reasons:
        return Issue(message.at(header, "reason"), "required", "must have a code of " + REASONS)
    if len(set(reasons)) > 1 or reasons[0] not in ("new", "update", "delete"):
        return Issue(message.at(header, "reason"), "value", "must be one of new, update and delete")
    return None


def _translated(
    message: BundleIndex, header: MessageHeader, request: ServiceRequest, inbound: InboundMessage, services: Catalogue
) -> Translated | Rejection:
    referrer = referred_by(message, request, header, inbound.partner)
    found = identity.names(message, request, _authority(message, header, referrer, inbound))
    _check_version(message)
    cancels = request.status in for_us.CANCELS
    intent: Intent = "new" if codes(header.reason, REASONS)[0] == "new" else "update"
    _check_request(message, header, request, cancels)
    consents = consent.answers(message, header, request)
    refused_at = consent.refusal_place(consents)
    if refused_at and intent == "new" and not cancels:
        return reject(*message.issues[:49], Issue(refused_at, "business-rule", CONSENT_REFUSED))
    if cancels or refused_at:
        return _cancel(message, header, request, inbound, found, withdrawn=refused_at is not None)
    documents = supporting_info.documents(message, inbound, _referral_id(found))
    content = _content(message, request, inbound, services) | {
        "referred_by": referrer,
        "consents": consent.canonical(consents),
        "attachments": [named for named, _ in documents],
        "message": _identity(message, found),
    }
    translated = _accepted(message, content, intent, inbound, found)
    if isinstance(translated, Rejection):
        return translated
    documents_sent = tuple(document for _, document in documents)
    return replace(translated, documents=documents_sent, reply=identity.reply(message, header, request))


def _check_version(message: BundleIndex) -> None:
    meta = message.bundle.meta
    if meta and not identity.is_supported_version(meta.versionId):
        explanation = "unsupported version of BaRS: only 1 is supported"
        message.issues.append(Issue(identity.VERSION_PLACE, "not-supported", explanation))


def _authority(message: BundleIndex, header: MessageHeader, referrer: dict[str, Any], inbound: InboundMessage) -> str:
    """Return the ODS code within which the sender's ids are unique; empty if that is the partner itself.

    It is that of the referrer, else of the sender: a partner may send for many organisations, and each numbers its own.
    """
    ods = referrer.get("organisation", {}).get("ods")
    if ods is None and (sender := message.find(header.sender, Organization)):
        ods = organisation(message, sender).get("ods")
    return "" if ods is None or ods == inbound.partner.ods else str(ods)


def _referral_id(found: tuple[ReferralName, ...]) -> str:
    """Return the key of the best name that the sender made: the identity of the referral if no name is known."""
    return next(name.key for name in found if name.kind != "reference")


def _check_request(message: BundleIndex, header: MessageHeader, request: ServiceRequest, cancels: bool) -> None:
    """Check how status and reason go together; the models check each code."""
    if not cancels and request.status != "active":
        message.add_issue(
            request, ("status",), "not-supported", "must be active, or revoked or entered-in-error to cancel"
        )
    if not cancels and codes(header.reason, REASONS)[0] == "delete":
        message.add_issue(request, ("status",), "invariant", "must be revoked or entered-in-error for a delete")


def _cancel(
    message: BundleIndex,
    header: MessageHeader,
    request: ServiceRequest,
    inbound: InboundMessage,
    found: tuple[ReferralName, ...],
    *,
    withdrawn: bool,
) -> Translated | Rejection:
    subject = identity.subject(message, message.patient)
    sent_at = _stated_time(message)
    discharged_on = stay(message, request).get("discharged_on")
    death_reported = death_report(_death(message, request))
    if message.issues:
        return Rejection(tuple(message.issues[: limits.ISSUES]))
    cancel_reason = _cancel_reason(request, withdrawn)
    return Translated(
        message_ids=_message_ids(inbound),
        referral_id=_referral_id(found),
        intent="cancel",
        content_hash=cancel_hash(cancel_reason, discharged_on, death_reported),
        cancel_reason=cancel_reason,
        discharged_on=discharged_on,
        death_reported=death_reported,
        sent_at=sent_at,
        correlation_id=_correlation_id(message, inbound),
        names=found,
        subject=subject,
        reply=identity.reply(message, header, request),
    )


def _death(message: BundleIndex, request: ServiceRequest) -> dict[str, Any]:
    """Return the report of a death that the Patient, or the discharge disposition of the Encounter, states."""
    stated = death(message, message.patient) if message.patient else {}
    return stated or ({"death_reported": {}} if died_in_hospital(message, request) else {})


def _cancel_reason(request: ServiceRequest, withdrawn: bool) -> CancelReason:
    if withdrawn:
        return EndReason.CONSENT_WITHDRAWN
    return EndReason.REFERRED_IN_ERROR if request.status == "entered-in-error" else EndReason.CANCELLED_BY_REFERRER


def _content(
    message: BundleIndex, request: ServiceRequest, inbound: InboundMessage, services: Catalogue
) -> dict[str, Any]:
    patient = message.patient
    if patient is None:
        message.add_issue(request, ("subject",), "required", "must refer to a Patient in the message")
        return {}
    requested = requested_by(message, request)
    coded_reason = reason(message, request, requested)
    homeless = any(coding["code"] == NO_FIXED_ABODE for coding in coded_reason.get("snomed", ()))
    return {
        "sent_by": inbound.partner.sender,
        "registered_practice": registered_practice(message, patient),
        "person": {
            **person(message, patient, homeless=homeless),
            **_death(message, request),
            "vouched_by": inbound.partner.vouches,
        },
        "contacts": contacts(patient, message.time),
        "needs": needs(message, request, requested, services),
        "reason": coded_reason,
        "priority": request.priority or "routine",
        "named_authority": named_authority(message, request),
        "risk_flags": supporting_info.risk_flags(message),
        "referred_on": message.day(request, ("authoredOn",), "referred_on", request.authoredOn),
        **stay(message, request),
    }


def _identity(message: BundleIndex, found: tuple[ReferralName, ...]) -> dict[str, Any]:
    return drop_empty(
        {
            "format": "bars-fhir",
            "message_id": message.bundle.id,
            "referral_id": identity.given_id(found)[:300],
            "sent_at": _stated_time(message),
        }
    )


def _accepted(
    message: BundleIndex,
    content: dict[str, Any],
    intent: Intent,
    inbound: InboundMessage,
    found: tuple[ReferralName, ...],
) -> Translated | Rejection:
    sent_at = _stated_time(message)
    if message.issues:
        return Rejection(tuple(message.issues[: limits.ISSUES]))
    try:
        referral = Referral.model_validate(content)
    except ValidationError as error:
        return Rejection(issues_of(error, lambda loc: _canonical_place(message, loc)))
    return Translated(
        message_ids=_message_ids(inbound),
        referral_id=_referral_id(found),
        intent=intent,
        content_hash=content_hash(referral),
        referral=referral,
        sent_at=sent_at,
        correlation_id=_correlation_id(message, inbound),
        warnings=tuple(message.warnings[: limits.ISSUES]),
        names=found,
        subject=Subject.of(referral.person),
    )


def _canonical_place(message: BundleIndex, loc: tuple[int | str, ...]) -> str:
    """Return the source of a value that the canonical model rejects (usually because it is too long)."""
    sources: dict[str, type[Resource]] = {
        "person": Patient,
        "contacts": Patient,
        "registered_practice": Patient,
        "message": MessageHeader,
    }
    resource = next(iter(message.all(sources.get(str(loc[0]), ServiceRequest))), None)
    below = f" ({fhir_path(str(loc[0]), loc[1:])})"
    return (message.at(resource) if resource else "Bundle") + below


def _message_ids(inbound: InboundMessage) -> tuple[str, ...]:
    """Return what decides repeats: X-Request-Id (BaRS Core 1.5, Transactional integrity). Bundle.id is a name of the referral."""
    return (f"request:{inbound.request_id}",) if inbound.request_id else ()


def _future_issues(message: BundleIndex, inbound: InboundMessage) -> list[Issue]:
    """Return a fault if the message was made ahead of our clock: it would make all its corrections look old."""
    if plausibility.is_ahead(_stated_time(message), inbound.received_at):
        return [Issue("Bundle.timestamp", "value", plausibility.IS_AHEAD)]
    return []


def _stated_time(message: BundleIndex) -> datetime | None:
    meta = message.bundle.meta
    return parse_instant(message.bundle.timestamp) or parse_instant(meta.lastUpdated if meta else None)


def _correlation_id(message: BundleIndex, inbound: InboundMessage) -> str:
    return inbound.correlation_id or str(uuid5(CONVERSATION, f"{inbound.partner.id} {message.bundle.id}"))
