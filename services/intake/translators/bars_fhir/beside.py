"""What comes beside the request: consents, risk flags, documents."""

import base64
import binascii
from collections.abc import Iterator
from typing import Any, Literal

from services.intake.translators.bars_fhir.message import Message, code_in, line, words
from services.intake.translators.bars_fhir.models import (
    Attachment,
    Binary,
    Consent,
    DocumentReference,
    Flag,
    Organization,
    Practitioner,
    Reference,
)
from services.intake.translators.bars_fhir.person import full_name
from services.intake.translators.contract import Delivery, Document, day, document, unnamed

CONSENT = "https://lightbulb.example.org/CodeSystem/consent"
DIRECT_CARE = "https://fhir.nhs.uk/CodeSystem/consent-categories-bars"
POLICY = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
FLAGS = "https://fhir.nhs.uk/CodeSystem/flag-categories-bars"

Answer = Literal["yes", "no", "not-recorded"]
QUESTIONS = ("referral", "feedback", "evaluation")


def consents(message: Message) -> dict[str, Any]:
    """Three answers, none inferred from another; where one was asked twice, the later day holds, and 'no' on the same day.

    BaRS' Direct Care consent (DRC) answers the question of the referral only where it is explicit: an implied consent to
    direct care says nothing about sharing with a housing authority.
    """
    found: dict[str, dict[str, Any]] = {}
    for consent in message.all(Consent):
        question = _question(consent)
        if question is None or consent.status not in ("active", "rejected"):
            continue
        if question not in QUESTIONS:
            message.fault(consent, ("category",), "value", "is not a code of " + CONSENT)
            continue
        given = unnamed(
            {"answer": _answer(consent), "on": day(consent.dateTime), "by": _by(message, consent.performer)}
        )
        if question not in found or _rank(given) > _rank(found[question]):
            found[question] = given
    return found


def _question(consent: Consent) -> str | None:
    asked = code_in(consent.category, CONSENT)
    return asked or ("referral" if code_in(consent.category, DIRECT_CARE) == "DRC" else None)


def refusal_place(message: Message) -> str:
    """Where the person's 'no' to the referral stands."""
    refusing = (one for one in message.all(Consent) if _question(one) == "referral" and _answer(one) == "no")
    return next((message.at(one) for one in refusing), "Bundle.entry")


def _rank(answer: dict[str, Any]) -> tuple[bool, str, bool]:
    return answer["answer"] != "not-recorded", str(answer.get("on", "")), answer["answer"] == "no"


def _answer(consent: Consent) -> Answer:
    policy = code_in([consent.policyRule] if consent.policyRule else [], POLICY)
    provision = consent.provision.type if consent.provision else None
    if consent.status == "rejected" or provision == "deny" or policy in ("OPTOUT", "OPTOUTE"):
        return "no"
    return "yes" if provision == "permit" or policy in ("OPTIN", "OPTINR") else "not-recorded"


def _by(message: Message, performers: list[Reference]) -> str | None:
    for reference in performers:
        practitioner = message.find(reference, Practitioner)
        organisation = message.find(reference, Organization)
        named = full_name(practitioner.name) if practitioner else organisation.name if organisation else None
        if line(named) or line(reference.display):
            return line(named) or line(reference.display)
    return None


def risk_flags(message: Message) -> list[dict[str, Any]]:
    """Active flags: the BaRS category, else the flag's own code, and the sender's words."""
    flags = []
    for flag in message.all(Flag):
        if flag.status == "active":
            own = next((coding.code for coding in flag.code.coding if coding.code), None)
            code = code_in(flag.category, FLAGS) or own or "flag"
            flags.append(unnamed({"code": code, "text": words(flag.code)}))
    return flags


def documents(message: Message, delivery: Delivery, referral_id: str) -> list[tuple[dict[str, Any], Document]]:
    """Each current document with its bytes, as the referral names it and as it is kept."""
    found: dict[str, tuple[dict[str, Any], Document]] = {}
    for reference in message.all(DocumentReference):
        if reference.status != "current":
            continue
        for index, content in enumerate(reference.content):
            bytes_and_type = _content(message, reference, index, content.attachment)
            if bytes_and_type is None:
                continue
            kept = document(delivery, referral_id, *bytes_and_type)
            title = line(content.attachment.title) or line(reference.description)
            found.setdefault(kept.reference, (_named(kept, title), kept))
    return list(found.values())


def _named(kept: Document, title: str | None) -> dict[str, Any]:
    size = len(kept.content)
    return unnamed(
        {"reference": kept.reference, "sha256": kept.sha256, "media_type": kept.media_type, "title": title}
    ) | {"size": size}


def _content(
    message: Message, reference: DocumentReference, index: int, attachment: Attachment
) -> tuple[bytes, str | None] | None:
    place = ("content", index, "attachment")
    for data, media_type, kind in _sources(message, attachment):
        try:
            return base64.b64decode("".join(data.split()), validate=True), media_type
        except (binascii.Error, ValueError):
            message.fault(reference, place, "value", f"the {kind} of the document is not base64")
            return None
    message.fault(reference, place, "not-supported", "send the document in the message, as data or as a Binary")
    return None


def _sources(message: Message, attachment: Attachment) -> Iterator[tuple[str, str | None, str]]:
    if attachment.data:
        yield attachment.data, attachment.contentType, "data"
    binary = message.find(Reference(reference=attachment.url), Binary) if attachment.url else None
    if binary and binary.data:
        yield binary.data, binary.contentType, "Binary"
