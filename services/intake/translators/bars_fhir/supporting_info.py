"""Consents, risk flags and documents of a BaRS message."""

import base64
import binascii
from collections.abc import Iterator
from typing import Any, Literal

from services.intake.translators.bars_fhir.bundle_index import BundleIndex, code_in, display_text, line
from services.intake.translators.bars_fhir.contact_details import full_name
from services.intake.translators.bars_fhir.models import (
    Binary,
    DocumentReference,
    FhirAttachment,
    FhirConsent,
    Flag,
    Organization,
    Practitioner,
    Reference,
)
from services.intake.translators.inbound_message import InboundMessage, document
from services.intake.translators.translator import AttachmentContent, drop_empty, parse_date

CONSENT = "https://lightbulb.example.org/CodeSystem/consent"
DIRECT_CARE = "https://fhir.nhs.uk/CodeSystem/consent-categories-bars"
POLICY = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
FLAGS = "https://fhir.nhs.uk/CodeSystem/flag-categories-bars"

ConsentAnswer = Literal["yes", "no", "not-recorded"]
QUESTIONS = ("referral", "feedback", "evaluation")


def consents(message: BundleIndex) -> dict[str, Any]:
    """Return the answers to the three consent questions; none is inferred from another.

    Of two answers to one question the later counts, and 'no' if both are of the same day. BaRS' Direct Care consent
    (DRC) counts for the referral only if it is explicit: implied consent does not cover a housing authority.
    """
    by_question: dict[str, dict[str, Any]] = {}
    for consent in message.all(FhirConsent):
        question = _question(consent)
        if question is None or consent.status not in ("active", "rejected"):
            continue
        if question not in QUESTIONS:
            message.add_issue(consent, ("category",), "value", "is not a code of " + CONSENT)
            continue
        answer = drop_empty(
            {"answer": _answer(consent), "on": parse_date(consent.dateTime), "by": _by(message, consent.performer)}
        )
        if question not in by_question or _rank(answer) > _rank(by_question[question]):
            by_question[question] = answer
    return by_question


def _question(consent: FhirConsent) -> str | None:
    code = code_in(consent.category, CONSENT)
    return code or ("referral" if code_in(consent.category, DIRECT_CARE) == "DRC" else None)


def consent_denial_place(message: BundleIndex) -> str:
    """Return the place of the refused consent to the referral."""
    refusing = (one for one in message.all(FhirConsent) if _question(one) == "referral" and _answer(one) == "no")
    return next((message.at(one) for one in refusing), "Bundle.entry")


def _rank(answer: dict[str, Any]) -> tuple[bool, str, bool]:
    return answer["answer"] != "not-recorded", str(answer.get("on", "")), answer["answer"] == "no"


def _answer(consent: FhirConsent) -> ConsentAnswer:
    policy = code_in([consent.policyRule] if consent.policyRule else [], POLICY)
    provision = consent.provision.type if consent.provision else None
    if consent.status == "rejected" or provision == "deny" or policy in ("OPTOUT", "OPTOUTE"):
        return "no"
    return "yes" if provision == "permit" or policy in ("OPTIN", "OPTINR") else "not-recorded"


def _by(message: BundleIndex, performers: list[Reference]) -> str | None:
    for reference in performers:
        practitioner = message.find(reference, Practitioner)
        organisation = message.find(reference, Organization)
        named = (
            full_name(practitioner.name, message.time) if practitioner else organisation.name if organisation else None
        )
        if line(named) or line(reference.display):
            return line(named) or line(reference.display)
    return None


def risk_flags(message: BundleIndex) -> list[dict[str, Any]]:
    """Return the active flags: the BaRS category, else the flag's own code, and the sender's text."""
    flags = []
    for flag in message.all(Flag):
        if flag.status == "active":
            own = next((coding.code for coding in flag.code.coding if coding.code), None)
            code = code_in(flag.category, FLAGS) or own or "flag"
            flags.append(drop_empty({"code": code, "text": display_text(flag.code)}))
    return flags


def documents(
    message: BundleIndex, inbound: InboundMessage, referral_id: str
) -> list[tuple[dict[str, Any], AttachmentContent]]:
    """Return each current document, as the referral names it and as it is stored."""
    by_reference: dict[str, tuple[dict[str, Any], AttachmentContent]] = {}
    current = [reference for reference in message.all(DocumentReference) if reference.status == "current"]
    for reference in current:
        for index, content in enumerate(reference.content):
            bytes_and_type = _content(message, reference, index, content.attachment)
            if bytes_and_type is None:
                continue
            stored = document(inbound, referral_id, *bytes_and_type)
            title = line(content.attachment.title) or line(reference.description)
            by_reference.setdefault(stored.reference, (_named(stored, title), stored))
    return list(by_reference.values())


def _named(stored: AttachmentContent, title: str | None) -> dict[str, Any]:
    size = len(stored.content)
    return drop_empty(
        {"reference": stored.reference, "sha256": stored.sha256, "media_type": stored.media_type, "title": title}
    ) | {"size": size}


def _content(
    message: BundleIndex, reference: DocumentReference, index: int, attachment: FhirAttachment
) -> tuple[bytes, str | None] | None:
    place = ("content", index, "attachment")
    for data, media_type, kind in _sources(message, attachment):
        try:
            return base64.b64decode("".join(data.split()), validate=True), media_type
        except (binascii.Error, ValueError):
            message.add_issue(reference, place, "value", f"the document's {kind} is not valid base64")
            return None
    message.add_issue(reference, place, "not-supported", "the document must be in the message, as data or as a Binary")
    return None


def _sources(message: BundleIndex, attachment: FhirAttachment) -> Iterator[tuple[str, str | None, str]]:
    if attachment.data:
        yield attachment.data, attachment.contentType, "data"
    binary = message.find(Reference(reference=attachment.url), Binary) if attachment.url else None
    if binary and binary.data:
        yield binary.data, binary.contentType, "Binary"
