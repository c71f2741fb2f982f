"""Documents in a message: observations of type ED contain them; type RP only refers to them."""

import base64
import binascii
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from services.intake.translators.hl7v2.er7 import Hl7Message, Repetition, Segment
from services.intake.translators.hl7v2.local_fields import observations
from services.intake.translators.hl7v2.partner_profile import fold
from services.intake.translators.inbound_message import InboundMessage, document
from services.intake.translators.translator import AttachmentContent, drop_empty

NamedAttachment = tuple[dict[str, Any], AttachmentContent]


def embedded_in(observation: Segment, inbound: InboundMessage, referral_id: str) -> list[NamedAttachment]:
    """Return each document in an observation of type ED, as the referral names it and as it is stored."""
    by_reference: dict[str, NamedAttachment] = {}
    for one in observation.all(5):
        content = _content(one)
        if content:
            stored = document(inbound, referral_id, content, _embedded(one).media_type)
            by_reference.setdefault(stored.reference, (_named(stored, _title(observation)), stored))
    return list(by_reference.values())


def elsewhere(message: Hl7Message) -> list[str]:
    """Return texts for documents that the message only refers to; they are not fetched from the sender's system."""
    titles = [_title(one) for one in observations(message) if one.table_code(2) == "RP" and one.all(5)]
    return [f"Document not sent: {title}" if title else "A document was not sent" for title in titles]


_MOST_CHARACTERS = 9_900
"""Characters of a text in the referral, with the words that say that it continues, less than a LongText has."""


def long_reason(content: dict[str, Any], inbound: InboundMessage, referral_id: str) -> list[NamedAttachment]:
    """Shorten a reason that is too long to its first lines, and return the whole text as a document."""
    text = content.get("reason", {}).get("text") or ""
    if len(text) <= _MOST_CHARACTERS:
        return []
    stored = document(inbound, referral_id, text.encode(), "text/plain; charset=utf-8")
    beginning = text[:_MOST_CHARACTERS]
    end = max(beginning.rfind("\n"), beginning.rfind(" "))
    shortened = (
        f"{beginning[: end if end > 0 else None].rstrip()}\n(Continues in the attached document: {_WHOLE_TEXT}.)"
    )
    content["reason"] = {**content["reason"], "text": shortened}
    return [(_named(stored, _WHOLE_TEXT), stored)]


_WHOLE_TEXT = "Whole text of the reason"


def _title(observation: Segment) -> str | None:
    return observation.text(3, 2) or observation.text(3)


def _named(stored: AttachmentContent, title: str | None) -> dict[str, Any]:
    named = {"reference": stored.reference, "sha256": stored.sha256, "media_type": stored.media_type, "title": title}
    return drop_empty(named) | {"size": len(stored.content)}


class _Embedded(NamedTuple):
    """The parts of an embedded document (ED)."""

    media_type: str | None
    encoding: str
    data: str | None


def _embedded(one: Repetition) -> _Embedded:
    """Read ED: source^type^subtype^encoding^data, or a shorter form with the whole media type in one component."""
    at = next((n for n in (4, 2, 3) if fold(one.text(n) or "") in ("base64", "hex")), 4)
    data = one.reading.separators.component.join(one.parts[at:])
    return _Embedded(_media_type(one, at), fold(one.text(at) or ""), one.reading.text(data))


def _content(one: Repetition) -> bytes | None:
    """Decode the data by its encoding: base64, hexadecimal or plain text. A document that cannot be decoded is to be read."""
    embedded = _embedded(one)
    decode = _DECODERS.get(embedded.encoding)
    if embedded.data is None:
        one.reading.to_read(f"{one.place}.5", "required", None)
    elif decode is None:
        one.reading.to_read(f"{one.place}.4", "value", None)
    else:
        try:
            return decode(embedded.data)
        except ValueError:
            one.reading.to_read(f"{one.place}.5", "value", None)
    return None


_DECODERS: dict[str, Callable[[str], bytes]] = {
    "base64": lambda data: base64.b64decode("".join(data.split()), validate=True),
    "hex": lambda data: binascii.unhexlify("".join(data.split())),
    "a": str.encode,
    "": str.encode,
}
"""Decoders by the encoding of the data (table 0299), in lower case."""

_KINDS = {"ap": "application", "im": "image", "au": "audio", "tx": "text", "ft": "text"}
_MEDIA_TYPE = re.compile(r"(application|audio|image|text|multipart)/[a-z0-9][a-z0-9.+-]{0,100}")


def _media_type(one: Repetition, before: int) -> str | None:
    """Return ED.2 and ED.3 (application^pdf, AP^PDF, ^PDF), or one component with both, as a media type, or None."""
    texts = [(one.text(n) or "").casefold() for n in range(1, before)]
    whole = next((text for text in texts if _MEDIA_TYPE.fullmatch(text)), None)
    kind, subtype = texts[1:3] if len(texts) == 3 else ("", "")
    kind = kind or "application"
    if kind in ("text", "tx", "ft") and not subtype:
        subtype = "plain"
    media_type = whole or f"{_KINDS.get(kind, kind)}/{subtype}"
    return media_type if _MEDIA_TYPE.fullmatch(media_type) else None
