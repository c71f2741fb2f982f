"""One delivered message, which every translator takes."""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from services.intake.translators.translator import AttachmentContent, Rejection, Translated
from services.reference.fillers import NO_FILLERS, Fillers
from services.reference.partners import Partner


@dataclass(frozen=True, slots=True)
class InboundMessage:
    """One message as delivered: the authenticated partner, the bytes, the time and the ids of its envelope."""

    partner: Partner
    body: bytes
    received_at: datetime
    attachment_key: bytes
    request_id: str | None = None
    correlation_id: str | None = None
    traceparent: str | None = None
    adt_only: bool = False
    """True if its credential allows ADT only (HL7 v2)."""

    fillers: Fillers = NO_FILLERS
    """What senders enter for what they do not know, in this installation; by default nothing is a filler."""


Translator = Callable[[InboundMessage], Translated | Rejection]
"""A pure function from one delivered message to its translation or its rejection."""


def document(inbound: InboundMessage, referral_id: str, content: bytes, media_type: str | None) -> AttachmentContent:
    """Return a document with its reference: 128 bits of a keyed hash, unguessable, and the same for the same bytes."""
    digest = hashlib.sha256(content).hexdigest()
    named = f"attachment:{inbound.partner.id}:{referral_id}:{digest}".encode()
    reference = hmac.new(inbound.attachment_key, named, hashlib.sha256).hexdigest()[:32]
    return AttachmentContent(reference, content, digest, media_type)
