"""Risk flags and documents of a BaRS message."""

import base64
import binascii
from collections.abc import Iterator
from typing import Any

from services.intake.translators.bars_fhir.bundle_index import BundleIndex, codes, line, written
from services.intake.translators.bars_fhir.in_force import holds
from services.intake.translators.bars_fhir.models import (
    Binary,
    DocumentReference,
    FhirAttachment,
    Flag,
    Period,
)
from services.intake.translators.inbound_message import InboundMessage, document
from services.intake.translators.translator import AttachmentContent, drop_empty, unique

FLAGS = "https://fhir.nhs.uk/CodeSystem/flag-categories-bars"


def risk_flags(message: BundleIndex) -> list[dict[str, Any]]:
    """Return the active flags that are in force: each BaRS category, else the flag's own code, and the sender's text."""
    flags = []
    for flag in message.all_that_count(Flag):
        if not _is_in_force(message, flag):
            message.left_out.append(message.at(flag))
            continue
        own = next((coding.code for coding in flag.code.coding if coding.code), None)
        categories = unique([code for concept in flag.category for code in codes(concept, FLAGS)])
        for code in categories or [own or "flag"]:
            flags.append(drop_empty({"code": code, "text": written(flag.code)}))
    return flags


def _is_in_force(message: BundleIndex, flag: Flag) -> bool:
    """Return whether a flag counts. A period of one moment says when the concern was raised, not until when."""
    period = flag.period
    if period is not None and period.start is not None and period.start == period.end:
        period = Period(start=period.start)
    return holds(period, message.time)


def documents(
    message: BundleIndex, inbound: InboundMessage, referral_id: str
) -> list[tuple[dict[str, Any], AttachmentContent]]:
    """Return each current document, as the referral names it and as it is stored."""
    by_reference: dict[str, tuple[dict[str, Any], AttachmentContent]] = {}
    for reference in message.all_that_count(DocumentReference):
        for index, content in enumerate(reference.content):
            bytes_and_type = _content(message, reference, index, content.attachment)
            if bytes_and_type is None:
                continue
            stored = document(inbound, referral_id, *bytes_and_type)
            title = line(content.attachment.title) or line(reference.description)
            if reference.docStatus == "preliminary":
                title = f"{title or 'document'} (preliminary)"
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
    binary = message.find_url(attachment.url, Binary) if attachment.url else None
    if binary and binary.data:
        yield binary.data, binary.contentType, "Binary"
