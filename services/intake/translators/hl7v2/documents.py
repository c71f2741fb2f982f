"""Documents in a message: observations of type ED hold their bytes; one of type RP only says where they are."""

import base64
import binascii
import re
from typing import Any

from services.intake.translators.contract import Delivery, Document, Fault, document, unnamed
from services.intake.translators.hl7v2.segments import Message, Repetition, Segment
from services.intake.translators.hl7v2.told import observations

Kept = tuple[dict[str, Any], Document]


def documents(message: Message, delivery: Delivery, referral_id: str) -> list[Kept]:
    """Each embedded document, as the referral names it and as it is kept."""
    found: dict[str, Kept] = {}
    for observation in observations(message):
        for one in observation.all(5) if observation.text(2) == "ED" else ():
            content = _content(one)
            if content:
                kept = document(delivery, referral_id, content, _media_type(one))
                found.setdefault(kept.reference, (_named(kept, _title(observation)), kept))
    return list(found.values())


def elsewhere(message: Message) -> list[str]:
    """Words for documents that the message only points to: nothing is fetched from a sender's system."""
    titles = [_title(one) for one in observations(message) if one.text(2) == "RP" and one.all(5)]
    return [f"Document not sent: {title}" if title else "A document was not sent" for title in titles]


def _title(observation: Segment) -> str | None:
    return observation.text(3, 2) or observation.text(3)


def _named(kept: Document, title: str | None) -> dict[str, Any]:
    named = {"reference": kept.reference, "sha256": kept.sha256, "media_type": kept.media_type, "title": title}
    return unnamed(named) | {"size": len(kept.content)}


def _content(one: Repetition) -> bytes | None:
    """ED.5 by its encoding, ED.4: base64, hexadecimal, or plain text."""
    data = one.reading.text(one.parts[4], f"{one.place}.5") if len(one.parts) > 4 else None
    if data is None:
        one.reading.faults.append(Fault(f"{one.place}.5", "required", "the document must be in the message, in ED.5"))
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
        one.reading.faults.append(Fault(f"{one.place}.5", "value", "is not in the encoding that ED.4 says"))
        return None
    one.reading.faults.append(Fault(f"{one.place}.4", "value", "Base64, Hex or A is expected (table 0299)"))
    return None


_KINDS = {"ap": "application", "im": "image", "au": "audio", "tx": "text", "ft": "text"}
_MEDIA_TYPE = re.compile(r"(application|audio|image|text|multipart)/[a-z0-9][a-z0-9.+-]{0,100}")


def _media_type(one: Repetition) -> str | None:
    """ED.2 and ED.3 as a media type, where they say one (application^pdf, AP^PDF, ^PDF)."""
    kind, subtype = (one.text(2) or "application").casefold(), (one.text(3) or "").casefold()
    if kind in ("text", "tx", "ft") and not subtype:
        subtype = "plain"
    said = f"{_KINDS.get(kind, kind)}/{subtype}"
    return said if _MEDIA_TYPE.fullmatch(said) else None
