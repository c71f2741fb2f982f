"""Write HL7 v2 responses with the separators, the version and the character set of the message that they answer.

Sources: HL7 v2.4 and v2.5, chapters 2 (MSH, MSA, ERR) and 11 (RRI). Only the ids of the sender, of its message and of its referral
are echoed, nothing else of the message.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from services.intake.translators.hl7v2.header import Header, codec

LIGHTBULB_APPLICATION = "LIGHTBULB"
"""Our application name if MSH-5 of the message is empty, and the assigner of our references."""

MEANINGS = {
    "100": "Segment sequence error",
    "101": "Required field missing",
    "102": "Data type error",
    "103": "Table value not found",
    "200": "Unsupported message type",
    "201": "Unsupported event code",
    "202": "Unsupported processing id",
    "203": "Unsupported version id",
    "204": "Unknown key identifier",
    "205": "Duplicate key identifier",
    "206": "Application record locked",
    "207": "Application error",
}
"""Table 0357, with the wording of version 2.8 for 207, which is not only for internal errors."""


@dataclass(frozen=True, slots=True)
class Error:
    """One error: its place as a translator names it, such as `PID-3(2).1`, its code of table 0357, and an explanation.

    `severity` (table 0516): E, or W for a part of an accepted message. Before version 2.5 there is no place for it.
    """

    place: str
    code: str
    explanation: str
    severity: Literal["E", "W"] = "E"


@dataclass(frozen=True, slots=True)
class ReplySeparators:
    """The characters that structure a message: MSH-1, and MSH-2 in its order."""

    field: str = "|"
    encoding: str = "^~\\&"

    def text(self, plain: str) -> str:
        """Return text for a field, with the separators in it escaped."""
        component, repetition, escape, subcomponent = tuple(self.encoding[:4])
        letters = {escape: "E", self.field: "F", component: "S", repetition: "R", subcomponent: "T"}
        return "".join(f"{escape}{letters[one]}{escape}" if one in letters else one for one in plain if one >= " ")

    def components(self, *texts: str) -> str:
        """Return texts as the components of one field."""
        return self.encoding[0].join(map(self.text, texts)).rstrip(self.encoding[0])

    def subcomponents(self, *texts: str) -> str:
        """Return texts as the subcomponents of one component."""
        return self.encoding[3].join(map(self.text, texts))


@dataclass(frozen=True, slots=True)
class ReplyContext:
    """What a response takes from the message that it answers. `header` is None if it has no readable header."""

    header: Header | None
    separators: ReplySeparators
    encoding: str
    at: datetime
    seed: str

    @property
    def is_v25(self) -> bool:
        """True from version 2.5 on: each error has an ERR segment, and MSH-9 names the message structure."""
        return tuple(map(int, self.version.split("."))) >= (2, 5)

    @property
    def version(self) -> str:
        """The sender's version if it is valid, else 2.4, which readers of any version understand."""
        version = self.header.version if self.header else ""
        return version if _VERSION.fullmatch(version) else "2.4"

    def mirrored(self, named: str) -> str:
        """Return a field of the header as it was sent; escaped as text if the response uses other separators."""
        value = str(getattr(self.header, named)) if self.header else ""
        return value if self.separators == _separators(self.header) else self.separators.text(value)


_VERSION = re.compile(r"2\.[1-9](\.\d)?")


def reply_context(header: Header | None, body: bytes, partner: str, at: datetime) -> ReplyContext:
    """Return the context of a response to these bytes. Its MSH-10 depends only on the bytes and the time."""
    seed = f"{partner} {at.isoformat()} {hashlib.sha256(body).hexdigest()}"
    encoding = header.encoding if header else "latin-1"
    return ReplyContext(header, _separators(header) or ReplySeparators(), encoding, at, seed)


def _separators(read: Header | None) -> ReplySeparators | None:
    """Return the sender's separators if they are usable: at least five, all different, none a letter, digit or blank."""
    if read is None:
        return None
    used = read.field_separator + read.encoding_characters
    fit = len(used) >= 5 and len(set(used)) == len(used) and re.fullmatch(r"[!-/:-@\[-`{-~]+", used)
    return ReplySeparators(read.field_separator, read.encoding_characters) if fit else None


# ---- messages -------------------------------------------------------------------------------------------------------


def acknowledgement(to: ReplyContext, code: str, text: str, errors: Sequence[Error]) -> bytes:
    """Write an ACK: MSH, MSA, ERR."""
    return _written(to, [_msh(to, "ACK", "ACK", code), _msa(to, code, text), *_err(to, errors)])


def rri(to: ReplyContext, text: str, reference: str, originating_id: Sequence[str], *, cancelled: bool) -> bytes:
    """Write an RRI: MSH, MSA, RF1 with the sender's id of the referral (RF1-6, its components) and our reference (RF1-11).

    RF1-1 is P (pending), since a hub has not accepted the referral yet, or R after a cancel.
    """
    one = to.separators
    status = one.text("R" if cancelled else "P")
    external_id = one.components(reference, LIGHTBULB_APPLICATION)
    rf1 = one.field.join(["RF1", status, *[""] * 4, one.components(*originating_id), *[""] * 4, external_id])
    return _written(to, [_msh(to, "RRI", "RRI_I12", "RRI"), _msa(to, "AA", text), rf1])


def _written(to: ReplyContext, segments: Sequence[str]) -> bytes:
    return "".join(f"{segment}\r" for segment in segments).encode(to.encoding, "replace")


def _msh(to: ReplyContext, kind: str, structure: str, purpose: str) -> str:
    one = to.separators
    fields = [
        to.mirrored("receiving_application") or LIGHTBULB_APPLICATION,
        to.mirrored("receiving_facility"),
        to.mirrored("sending_application"),
        to.mirrored("sending_facility"),
        to.at.astimezone(UTC).strftime("%Y%m%d%H%M%S+0000"),
        "",
        one.components(kind, _trigger(to), structure if to.is_v25 else ""),
        _control_id(to, purpose),
        _processing_id(to),
        to.version,
        *[""] * 5,
        one.text(_character_set(to)),
    ]
    return one.field.join(["MSH" + one.field + one.encoding, *fields]).rstrip(one.field)


def _trigger(to: ReplyContext) -> str:
    trigger_event = to.header.trigger_event if to.header else ""
    return trigger_event if re.fullmatch(r"[A-Z][A-Z0-9]{2}", trigger_event) else ""


def _control_id(to: ReplyContext, purpose: str) -> str:
    """Return our MSH-10, at most 20 characters, derived from the message, its time and the kind of response."""
    return "LB" + hashlib.sha256(f"{to.seed} {purpose}".encode()).hexdigest()[:18].upper()


def _processing_id(to: ReplyContext) -> str:
    processing_id = to.header.processing_id if to.header else ""
    return processing_id if processing_id in ("P", "T", "D") else "P"


def _character_set(to: ReplyContext) -> str:
    """Return MSH-18 as it was sent, if it is a known character set."""
    character_set = to.header.character_set if to.header else ""
    return character_set if codec(character_set, "") is not None else ""


def _msa(to: ReplyContext, code: str, text: str) -> str:
    one = to.separators
    return one.field.join(["MSA", code, to.mirrored("control_id"), one.text(text)]).rstrip(one.field)


# ---- ERR ------------------------------------------------------------------------------------------------------------

_PLACE = re.compile(
    r"(?P<segment>[A-Z][A-Z0-9]{2})(?:\[(?P<sequence>\d+)\])?"
    r"(?:-(?P<field>\d+)(?:\((?P<repetition>\d+)\))?(?:\.(?P<component>\d+))?)?"
)


def _err(to: ReplyContext, errors: Sequence[Error]) -> list[str]:
    """Return the ERR segments: before 2.5 one with a repetition for each error, and no warnings; from 2.5 on one for each."""
    one = to.separators
    errors = [error for error in errors if to.is_v25 or error.severity == "E"]
    if not errors:
        return []
    if not to.is_v25:
        return [one.field.join(["ERR", one.encoding[1].join(_before_25(one, error) for error in errors)])]
    return [_from_25(one, error) for error in errors]


def _before_25(one: ReplySeparators, error: Error) -> str:
    """Return one repetition of ERR-1: segment, its number, field, and the code as subcomponents."""
    location = [one.text(part) for part in (*_location(error.place), "", "", "")[:3]]
    return one.encoding[0].join([*location, one.subcomponents(error.code, MEANINGS[error.code], "HL70357")])


def _from_25(one: ReplySeparators, error: Error) -> str:
    """Return an ERR segment: ERR-2 location, ERR-3 code, ERR-4 severity, ERR-8 user message."""
    coded = one.components(error.code, MEANINGS[error.code], "HL70357")
    location = one.components(*_location(error.place))
    return one.field.join(["ERR", "", location, coded, error.severity, "", "", "", one.text(error.explanation)])


def _location(place: str) -> tuple[str, ...]:
    """Return segment, sequence, field, repetition and component of a place; MSH for what concerns the whole message."""
    match = _PLACE.fullmatch(place)
    if match is None:
        return ("MSH", "1")
    named = match.groupdict()
    repetition = named["repetition"] or ("1" if named["component"] else "")
    parts = (named["segment"], named["sequence"] or "1", named["field"], repetition, named["component"])
    return tuple(part or "" for part in parts)
