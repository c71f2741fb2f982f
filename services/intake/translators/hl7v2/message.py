"""A delivered body as a message: its header judged, its text decoded and taken apart. Every fault of the header is found at once."""

from collections.abc import Iterator

from services.intake import limits
from services.intake.translators.contract import Delivery, Fault, Refusal
from services.intake.translators.hl7v2 import header as headers
from services.intake.translators.hl7v2 import segments
from services.intake.translators.hl7v2.dates import parsed
from services.intake.translators.hl7v2.header import LONGEST, Header
from services.intake.translators.hl7v2.mapping import Mapping, fold
from services.intake.translators.hl7v2.segments import Message, Reading, Wanted

VERSIONS = ("2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1")
TRIGGERS = ("I12", "I13", "I14")

LONGEST_ID = limits.HL7_ID_CHARACTERS
"""Characters of each part of a message's identity, which is a key of a table."""


def message_of(delivery: Delivery, mapping: Mapping, wanted: Wanted) -> tuple[Header, Message] | Refusal:
    """The header and the segments of a message that may be read further; else everything that its header has wrong."""
    header = headers.read(delivery.body, mapping.encoding)
    if header is None:
        return Refusal((Fault("MSH", "invalid", "a message begins with MSH and its separators, such as MSH|^~\\&|"),))
    separators = segments.separators(header)
    if isinstance(separators, Fault):
        return Refusal((separators,))
    faults = list(_header_faults(delivery, header, mapping))
    encoding = _encoding(delivery.body, header, mapping)
    text = _decoded(delivery.body, encoding)
    if isinstance(text, Fault):
        return Refusal((*faults, text))
    message = segments.read(text, Reading(separators, encoding or mapping.encoding), wanted)
    if isinstance(message, Fault):
        return Refusal((*faults, message))
    faults += _sender_faults(message, mapping)
    if any(fault.kind == "not-supported" for fault in faults):
        return Refusal(tuple(faults))
    message.reading.faults[:0] = faults
    return header, message


def _encoding(body: bytes, header: Header, mapping: Mapping) -> str | None:
    return headers.codec(header.character_set, headers.default_of(body, mapping.encoding))


def _decoded(body: bytes, encoding: str | None) -> str | Fault:
    if encoding is None:
        expected = "ASCII, 8859/1 to 8859/16 or UNICODE UTF-8"
        return Fault("MSH-18", "value", f"is not a supported character set: {expected}")
    try:
        return body[headers.begins(body) :].decode(encoding)
    except UnicodeDecodeError:
        explanation = "the message holds bytes that this character set, or the one agreed, does not have"
        return Fault("MSH-18", "invalid", explanation)


def _header_faults(delivery: Delivery, header: Header, mapping: Mapping) -> Iterator[Fault]:
    if len(headers.msh_of(delivery.body) or b"") == LONGEST:
        yield Fault("MSH", "too-long", f"at most {LONGEST - 1} bytes are taken")
    yield from _required(header)
    if header.message_code not in ("", "REF"):
        yield Fault("MSH-9.1", "not-supported", "unsupported message type: only REF is supported")
    elif header.trigger_event not in ("", *TRIGGERS):
        yield Fault("MSH-9.2", "not-supported", "I12 (new), I13 (update) or I14 (cancel) is expected")
    ids = {"MSH-3": header.sending_application, "MSH-4": header.sending_facility, "MSH-10": header.control_id}
    for place, said in ids.items():
        if len(said) > LONGEST_ID:
            yield Fault(place, "too-long", f"at most {LONGEST_ID} characters are taken")
    if header.processing_id not in ("", *mapping.processing):
        yield Fault("MSH-11", "not-supported", f"{' or '.join(mapping.processing)} is expected")
    if header.version not in ("", *VERSIONS):
        yield Fault("MSH-12", "not-supported", f"one of {', '.join(VERSIONS)} is expected")
    if header.made_at and header.made_at != '""' and parsed(header.made_at) is None:
        yield Fault("MSH-7", "value", "must be a date and time such as 20261105093000 or 20261105093000+0000")


def _required(header: Header) -> Iterator[Fault]:
    needed = {
        "MSH-9.1": header.message_code,
        "MSH-9.2": header.trigger_event,
        "MSH-10": header.control_id,
        "MSH-11": header.processing_id,
        "MSH-12": header.version,
    }
    for place, said in needed.items():
        if said in ("", '""'):
            yield Fault(place, "required", "is required")


def _sender_faults(message: Message, mapping: Mapping) -> Iterator[Fault]:
    application, facility = message.text("MSH", 3), message.text("MSH", 4)
    if application is None and facility is None:
        yield Fault("MSH-3", "required", "the sending application or facility is required")
    elif mapping.senders and not any(
        _is(s.application, application) and _is(s.facility, facility) for s in mapping.senders
    ):
        yield Fault("MSH-3", "forbidden", "this sending application and facility are not agreed with the partner")
    for again in message.all("MSH")[1:]:
        yield Fault(again.place, "invariant", "one message is taken at a time")
    if message.all("DSC") or message.first("MSH", 14):
        yield Fault("MSH-14", "processing", "a message in several parts is not taken: send it whole")


def _is(agreed: str | None, said: str | None) -> bool:
    return agreed is None or (said is not None and fold(agreed) == fold(said))
