"""HL7 v2 messages of ours, written with the separators, the version and the character set of the message that they answer.

Sources: HL7 v2.4 and v2.5, chapters 2 (MSH, MSA, ERR) and 11 (RRI). What is repeated of a message is what its sender named itself,
its message and its referral with; nothing else of it comes back.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from services.intake.translators.hl7v2 import header
from services.intake.translators.hl7v2.header import Header

LIGHTBULB_APPLICATION = "LIGHTBULB"
"""What we are called where the sender does not say whom it writes to, and as assigner of our references."""

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
    "207": "Application internal error",
}
"""Table 0357."""


@dataclass(frozen=True, slots=True)
class Error:
    """What is wrong: where (as a translator names places, `PID-3(2).1`), by table 0357, and in words."""

    place: str
    code: str
    explanation: str


@dataclass(frozen=True, slots=True)
class ReplySeparators:
    """The characters that structure a message: MSH-1, and MSH-2 in its order."""

    field: str = "|"
    encoding: str = "^~\\&"

    def text(self, plain: str) -> str:
        """Words of ours in a field: what would be taken for structure is escaped."""
        component, repetition, escape, subcomponent = tuple(self.encoding[:4])
        letters = {escape: "E", self.field: "F", component: "S", repetition: "R", subcomponent: "T"}
        return "".join(f"{escape}{letters[one]}{escape}" if one in letters else one for one in plain if one >= " ")

    def components(self, *texts: str) -> str:
        """Texts as the components of one field."""
        return self.encoding[0].join(map(self.text, texts)).rstrip(self.encoding[0])

    def subcomponents(self, *texts: str) -> str:
        """Texts as the subcomponents of one component."""
        return self.encoding[3].join(map(self.text, texts))


@dataclass(frozen=True, slots=True)
class ReplyContext:
    """Whom a message of ours answers. `header` is none where the message that it answers has none that can be read."""

    header: Header | None
    separators: ReplySeparators
    encoding: str
    at: datetime
    seed: str

    @property
    def is_v25(self) -> bool:
        """True from version 2.5 on: ERR has fields of its own, and MSH-9 names the structure."""
        return tuple(map(int, self.version.split("."))) >= (2, 5)

    @property
    def version(self) -> str:
        """The sender's version, where it is one; a reader of any version understands 2.4."""
        version = self.header.version if self.header else ""
        return version if _VERSION.fullmatch(version) else "2.4"

    def mirrored(self, named: str) -> str:
        """A field of the header as it was sent; where its separators are not those of the answer, as text."""
        value = str(getattr(self.header, named)) if self.header else ""
        return value if self.separators == _separators(self.header) else self.separators.text(value)


_VERSION = re.compile(r"2\.[1-9](\.\d)?")


def reply_context(body: bytes, partner: str, at: datetime) -> ReplyContext:
    """Whom an answer to these bytes goes to. The same bytes at the same time get an answer with the same id."""
    line = header.msh_of(body) or b""
    read = header.read(body, _default_encoding(line))
    encoding = header.codec(read.character_set, _default_encoding(line)) if read else None
    digest = hashlib.sha256(body).hexdigest()
    seed = f"{partner} {at.isoformat()} {digest}"
    return ReplyContext(read, _separators(read) or ReplySeparators(), encoding or "latin-1", at, seed)


def _default_encoding(line: bytes) -> str:
    """What a header that names no character set is written in: so it comes back as it was, whatever the partner's own set is."""
    try:
        line.decode()
    except UnicodeDecodeError:
        return "windows-1252"
    return "utf-8"


def _separators(read: Header | None) -> ReplySeparators | None:
    """The sender's, where they can structure an answer: at least four, all different, none that stands in words."""
    if read is None:
        return None
    used = read.field_separator + read.encoding_characters
    fit = len(used) >= 5 and len(set(used)) == len(used) and re.fullmatch(r"[!-/:-@\[-`{-~]+", used)
    return ReplySeparators(read.field_separator, read.encoding_characters) if fit else None


# ---- messages -------------------------------------------------------------------------------------------------------


def acknowledgement(to: ReplyContext, code: str, text: str, errors: Sequence[Error]) -> bytes:
    """ACK: MSH, MSA, ERR."""
    return _written(to, [_msh(to, "ACK", "ACK", code), _msa(to, code, text), *_err(to, errors)])


def rri(to: ReplyContext, text: str, reference: str, originating_id: str, *, cancelled: bool) -> bytes:
    """RRI: MSH, MSA, RF1 with the sender's id of the referral (6) and ours (11). Received is pending: a hub has yet to accept."""
    one = to.separators
    status = one.text("R" if cancelled else "P")
    external_id = one.components(reference, LIGHTBULB_APPLICATION)
    rf1 = one.field.join(["RF1", status, *[""] * 4, one.text(originating_id), *[""] * 4, external_id])
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
    """MSH-10 of ours, at most 20 characters: of the message that it answers, when, and which answer it is."""
    return "LB" + hashlib.sha256(f"{to.seed} {purpose}".encode()).hexdigest()[:18].upper()


def _processing_id(to: ReplyContext) -> str:
    processing_id = to.header.processing_id if to.header else ""
    return processing_id if processing_id in ("P", "T", "D") else "P"


def _character_set(to: ReplyContext) -> str:
    """MSH-18 as it was sent, where it is a set that this answer is written in."""
    character_set = to.header.character_set if to.header else ""
    return character_set if header.codec(character_set, "") is not None else ""


def _msa(to: ReplyContext, code: str, text: str) -> str:
    one = to.separators
    return one.field.join(["MSA", code, to.mirrored("control_id"), one.text(text)]).rstrip(one.field)


# ---- ERR ------------------------------------------------------------------------------------------------------------

_PLACE = re.compile(
    r"(?P<segment>[A-Z][A-Z0-9]{2})(?:\[(?P<sequence>\d+)\])?"
    r"(?:-(?P<field>\d+)(?:\((?P<repetition>\d+)\))?(?:\.(?P<component>\d+))?)?"
)


def _err(to: ReplyContext, errors: Sequence[Error]) -> list[str]:
    """Before 2.5 one segment with a repetition for each error; from then on a segment for each, with the words for its reader."""
    one = to.separators
    if not errors:
        return []
    if not to.is_v25:
        return [one.field.join(["ERR", one.encoding[1].join(_before_25(one, error) for error in errors)])]
    return [_from_25(one, error) for error in errors]


def _before_25(one: ReplySeparators, error: Error) -> str:
    """ERR-1: segment, its number, field, and the code as subcomponents."""
    location = [one.text(part) for part in (*_location(error.place), "", "", "")[:3]]
    return one.encoding[0].join([*location, one.subcomponents(error.code, MEANINGS[error.code], "HL70357")])


def _from_25(one: ReplySeparators, error: Error) -> str:
    """ERR-2 location, ERR-3 code, ERR-4 severity, ERR-8 words for the user."""
    coded = one.components(error.code, MEANINGS[error.code], "HL70357")
    location = one.components(*_location(error.place))
    return one.field.join(["ERR", "", location, coded, "E", "", "", "", one.text(error.explanation)])


def _location(place: str) -> tuple[str, ...]:
    """Segment, number of the segment, field, repetition, component, as far as the place says; empty for a place of another kind."""
    match = _PLACE.fullmatch(place)
    if match is None:
        return ()
    named = match.groupdict()
    repetition = named["repetition"] or ("1" if named["component"] else "")
    parts = (named["segment"], named["sequence"] or "1", named["field"], repetition, named["component"])
    return tuple(part or "" for part in parts)
