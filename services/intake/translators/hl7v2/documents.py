"""Documents in a message: observations of type ED contain them; type RP only refers to them."""

import base64
import binascii
import re
from typing import Any

from services.intake.translators.hl7v2.er7 import Hl7Message, Repetition, Segment
from services.intake.translators.hl7v2.local_fields import observations
from services.intake.translators.inbound_message import InboundMessage, document
from services.intake.translators.translator import AttachmentContent, Issue, drop_empty

NamedAttachment = tuple[dict[str, Any], AttachmentContent]


def documents(message: Hl7Message, inbound: InboundMessage, referral_id: str) -> list[NamedAttachment]:
    """Return each embedded document, as the referral names it and as it is stored."""
    by_reference: dict[str, NamedAttachment] = {}
    for observation in observations(message):
        for one in observation.all(5) if observation.text(2) == "ED" else ():
            content = _content(one)
            if content:
                stored = document(inbound, referral_id, content, _media_type(one))
                by_reference.setdefault(stored.reference, (_named(stored, _title(observation)), stored))
    return list(by_reference.values())


def elsewhere(message: Hl7Message) -> list[str]:
    """Return texts for documents that the message only refers to; they are not fetched from the sender's system."""
    titles = [_title(one) for one in observations(message) if one.text(2) == "RP" and one.all(5)]
    return [f"Document not sent: {title}" if title else "A document was not sent" for title in titles]


def _title(observation: Segment) -> str | None:
    return observation.text(3, 2) or observation.text(3)


def _named(stored: AttachmentContent, title: str | None) -> dict[str, Any]:
    named = {"reference": stored.reference, "sha256": stored.sha256, "media_type": stored.media_type, "title": title}
    return drop_empty(named) | {"size": len(stored.content)}


def _content(one: Repetition) -> bytes | None:
    """Decode ED.5 by its encoding in ED.4: base64, hexadecimal or plain text."""
    data = one.reading.text(one.raw(5))
    if data is None:
        one.reading.issues.append(Issue(f"{one.place}.5", "required", "the document must be in the message, in ED.5"))
        return None
    try:
        match (one.text(4) or "").casefold():
            case "base64":
                return base64.b64decode("".join(data.split()), validate=True)
            case "hex":
                return binascii.unhexlify("".join(data.split()))
            case "a" | "":
                return data.encode()
    except (binascii.Error, ValueError):
        one.reading.issues.append(Issue(f"{one.place}.5", "value", "is not in the encoding of ED.4"))
        return None
    one.reading.issues.append(Issue(f"{one.place}.4", "value", "must be Base64, Hex or A (table 0299)"))
    return None


_KINDS = {"ap": "application", "im": "image", "au": "audio", "tx": "text", "ft": "text"}
_MEDIA_TYPE = re.compile(r"(application|audio|image|text|multipart)/[a-z0-9][a-z0-9.+-]{0,100}")


def _media_type(one: Repetition) -> str | None:
    """Return ED.2 and ED.3 (application^pdf, AP^PDF, ^PDF) as a media type, or None if they are not one."""
    kind, subtype = (one.text(2) or "application").casefold(), (one.text(3) or "").casefold()
    if kind in ("text", "tx", "ft") and not subtype:
        subtype = "plain"
    media_type = f"{_KINDS.get(kind, kind)}/{subtype}"
    return media_type if _MEDIA_TYPE.fullmatch(media_type) else None
