"""Check the header of a delivered body, decode its text and parse its segments. All header faults are found at once."""

import re
from collections.abc import Iterator

from schemas.dates import LONDON
from services.intake import limits
from services.intake.translators.hl7v2 import er7
from services.intake.translators.hl7v2 import header as headers
from services.intake.translators.hl7v2.dates import parse_timestamp
from services.intake.translators.hl7v2.er7 import FieldSelection, Hl7Message, Reading
from services.intake.translators.hl7v2.header import LONGEST, Header
from services.intake.translators.hl7v2.partner_profile import PartnerProfile, fold
from services.intake.translators.inbound_message import InboundMessage
from services.intake.translators.translator import Issue, Rejection

VERSIONS = ("2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.7.1", "2.8", "2.8.1", "2.8.2")
"""Later ones are read as 2.5.1: REF_I12 did not change, and what they added is not read."""
TRIGGERS = ("I12", "I13", "I14")

LONGEST_ID = limits.HL7_ID_CHARACTERS
"""Maximum number of characters of each part of a message's identity, which is a table key."""


def message_of(
    inbound: InboundMessage, header: Header, profile: PartnerProfile, selection: FieldSelection
) -> Hl7Message | Rejection:
    """Return the segments of a message that may be read further, or a rejection with every issue of its header."""
    separators = er7.separators(header)
    if isinstance(separators, Issue):
        return Rejection((separators,))
    issues = list(_header_issues(inbound, header, profile))
    encoding = headers.codec(header.character_set, headers.default_of(inbound.body, profile.encoding))
    reading = Reading(separators, encoding or "", inbound.fillers)
    text = _decoded(inbound.body, reading)
    message = text if isinstance(text, Issue) else er7.read(text, reading, selection)
    if isinstance(message, Issue):
        return Rejection((*issues, message))
    _note_time(header, reading)
    issues += [*_sender_issues(message, profile), *_receiver_issues(header, profile)]
    if any(issue.kind == "not-supported" for issue in issues):
        return Rejection(tuple(issues))
    message.reading.issues[:0] = issues
    return message


def _decoded(body: bytes, reading: Reading) -> str | Issue:
    """Return the text from MSH on, or a fault if its character set is unknown, or if it is not valid UTF-8 as it should be."""
    body = body[headers.begins(body) :]
    if not reading.encoding:
        return Issue("MSH-18", "value", "must be ASCII, 8859/1 to 8859/16, WINDOWS-1252 or UNICODE UTF-8")
    if reading.encoding != "utf-8":
        return _decoded_single_bytes(body, reading)
    try:
        return body.decode()
    except UnicodeDecodeError:
        explanation = "the message has bytes that are not valid in this, or the agreed, character set"
        return Issue("MSH-18", "invalid", explanation)


def _decoded_single_bytes(body: bytes, reading: Reading) -> str:
    """Decode a message that should have a single-byte character set; warn if it has another."""
    if not body.isascii() and headers.is_utf_8(body):
        reading.encoding = "utf-8"
        explanation = "the message is UTF-8 and was read as such: this, or the agreed, character set is another"
        reading.warn(Issue("MSH-18", "value", explanation))
        return body.decode()
    text = body.decode(reading.encoding, "replace")
    if "\ufffd" in text:
        explanation = "the message has bytes that are not defined in this, or the agreed, character set"
        reading.warn(Issue("MSH-18", "invalid", explanation))
    return text


def _note_time(header: Header, reading: Reading) -> None:
    if header.made_at and parse_timestamp(header.made_at) is None:
        explanation = "must be a date and time such as 20261105093000 or 20261105093000+0000"
        reading.warn(Issue("MSH-7", "value", explanation))


def _header_issues(inbound: InboundMessage, header: Header, profile: PartnerProfile) -> Iterator[Issue]:
    if len(headers.msh_of(inbound.body) or b"") == LONGEST:
        yield Issue("MSH", "too-long", f"is too long: at most {LONGEST - 1} bytes")
    yield from _required(header)
    if _ANOTHER_FRAME.search(inbound.body):
        yield Issue("MSH[2]", "invariant", "only one message at a time is supported")
    yield from _type_issues(inbound, header)
    ids = {"MSH-3": header.sending_application, "MSH-4": header.sending_facility, "MSH-10": header.control_id}
    for place, value in ids.items():
        if len(value) > LONGEST_ID:
            yield Issue(place, "too-long", f"is too long: at most {LONGEST_ID} characters")
    if header.processing_id not in ("", "P") and not _may_test(inbound, header, profile):
        yield Issue("MSH-11", "not-supported", "must be P; T and D, for test messages, only until the agreed day")
    if header.version not in ("", *VERSIONS):
        yield Issue("MSH-12", "not-supported", f"must be one of {', '.join(VERSIONS)}")


_ANOTHER_FRAME = re.compile(rb"\x1c[\r\n]*\x0b[\r\n]*MSH")


def _may_test(inbound: InboundMessage, header: Header, profile: PartnerProfile) -> bool:
    """Return whether a message is a test, and the partner may send tests today."""
    today = inbound.received_at.astimezone(LONDON).date()
    return header.processing_id in ("T", "D") and profile.test_until is not None and today <= profile.test_until


def _type_issues(inbound: InboundMessage, header: Header) -> Iterator[Issue]:
    """Yield what is wrong with MSH-9. A feed of ADT has many trigger events, of which none is refused."""
    match header.message_code:
        case "ADT" if inbound.partner.hl7v2.adt:
            return
        case code if code and inbound.adt_only:
            yield Issue("MSH-9.1", "not-supported", "unsupported message type: this connection is for ADT only")
        case "" | "REF":
            if header.trigger_event not in ("", *TRIGGERS):
                yield Issue("MSH-9.2", "not-supported", "must be I12 (new), I13 (update) or I14 (cancel)")
        case _:
            yield Issue("MSH-9.1", "not-supported", "unsupported message type: only REF is supported")


def _required(header: Header) -> Iterator[Issue]:
    needed = {
        "MSH-9.1": header.message_code,
        "MSH-9.2": header.trigger_event,
        "MSH-10": header.control_id,
        "MSH-11": header.processing_id,
        "MSH-12": header.version,
    }
    for place, value in needed.items():
        if not value:
            yield Issue(place, "required", "is required")


def _sender_issues(message: Hl7Message, profile: PartnerProfile) -> Iterator[Issue]:
    application, facility = message.text("MSH", 3), message.text("MSH", 4)
    if application is None and facility is None:
        yield Issue("MSH-3", "required", "the sending application or facility is required")
    elif profile.senders and not any(
        _is(s.application, application) and _is(s.facility, facility) for s in profile.senders
    ):
        yield Issue("MSH-3", "forbidden", "this sending application and facility are not agreed with the partner")
    for duplicate in message.all("MSH")[1:]:
        yield Issue(duplicate.place, "invariant", "only one message at a time is supported")
    if message.all("DSC") or message.first("MSH", 14):
        yield Issue("MSH-14", "processing", "messages in several parts are not supported: send the whole message")


def _receiver_issues(header: Header, profile: PartnerProfile) -> Iterator[Issue]:
    """Yield a fault if the message names a receiver that is not agreed."""
    named = [header.receiving_application, header.receiving_facility]
    application, facility = (one.partition(header.encoding_characters[:1] or "^")[0].strip() or None for one in named)
    agreed = (
        _is(one.application, application or one.application) and _is(one.facility, facility or one.facility)
        for one in profile.receivers
    )
    if profile.receivers and not any(agreed):
        yield Issue("MSH-5", "forbidden", "this message is for another application or facility")


def _is(agreed: str | None, actual: str | None) -> bool:
    return agreed is None or (actual is not None and fold(agreed) == fold(actual))
