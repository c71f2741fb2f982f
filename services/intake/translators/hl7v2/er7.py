"""Read a message in ER7, the encoding of HL7 v2 with separators (chapter 2): segments, fields, repetitions and components.

A part is split when it is asked for, once. Words are read leniently and never refuse a message; `Repetition.code` reads
ids and codes strictly. No segment is lost: each is either in `segments` or named in `left`, and text that does not begin
with a segment name continues the segment before it.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from schemas.referral import UnreadPart
from services.intake import limits
from services.intake.translators import cleaning
from services.intake.translators.hl7v2.header import Header
from services.intake.translators.translator import Issue, IssueKind
from services.reference.fillers import NO_FILLERS, Fillers

FieldSelection = Mapping[str, tuple[int, ...]]
"""Numbers of the fields to read, by segment."""

# ---- values ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Separators:
    """MSH-1 and MSH-2, with the standard's separators for missing ones."""

    field: str
    component: str
    repetition: str
    escape: str
    subcomponent: str

    @cached_property
    def escapes(self) -> re.Pattern[str]:
        """Match an escape sequence that has a meaning; adjacent hexadecimal data as one, because it may be one character."""
        mark = re.escape(self.escape)
        return re.compile(
            rf"(?P<hexadecimal>(?:{mark}X(?:[0-9A-Fa-f]{{2}})+{mark})+)"
            rf"|{mark}(?:(?P<separator>[FSTRE])|(?P<line>\.br|\.ce|\.sp(?:[+-]?[0-9]{{1,3}})?)|(?P<skip>\.sk[+-]?[0-9]{{1,3}})"
            rf"|H|N|\.fi|\.nf|\.(?:in|ti)[+-]?[0-9]{{1,3}}){mark}"
        )

    @cached_property
    def meanings(self) -> dict[str, str]:
        """The separators by the letters of their escape sequences."""
        return {
            "F": self.field,
            "S": self.component,
            "R": self.repetition,
            "E": self.escape,
            "T": self.subcomponent,
        }


_MOST = 50
"""Greatest number of parts to be read, as in `Referral.to_be_read`, and of warnings."""

_LONGEST = 10_000
"""Greatest number of characters of a part to be read."""

_NOT_UNDERSTOOD = "was accepted, but is not understood; a person has to read it"


@dataclass(slots=True)
class Reading:
    """State of reading values: the separators, the encoding, the fillers and what was found.

    `issues` refuse the message. `warnings` do not; those of `unread` parts have to be read by a person.
    """

    separators: Separators
    encoding: str
    fillers: Fillers = NO_FILLERS
    issues: list[Issue] = field(default_factory=list)
    unread: list[UnreadPart] = field(default_factory=list)
    warnings: list[Issue] = field(default_factory=list)
    lines: dict[str, str | None] = field(default_factory=dict)

    def to_read(self, place: str, kind: IssueKind, text: str | None) -> None:
        """Record a part that could change the meaning and that no rule understands: a person reads it."""
        shown = cleaning.prose(text) if text else ""
        if len(shown) > _LONGEST:
            shown = f"{shown[: _LONGEST - 20]}\n[the rest is cut]"
        part = UnreadPart(place=place, kind=kind, text=shown or None)
        if part not in self.unread and len(self.unread) < _MOST:
            self.unread.append(part)
            self.warn(Issue(place, kind, _NOT_UNDERSTOOD))

    def warn(self, issue: Issue) -> None:
        """Record a fault that refuses nothing and needs no reading."""
        if issue not in self.warnings and len(self.warnings) < _MOST:
            self.warnings.append(issue)

    def warn_of(self, one: "Repetition") -> None:
        """Warn if words were spoilt on the way."""
        for explanation in cleaning.warnings(self._resolved(one.whole)):
            self.warn(Issue(one.place, "value", explanation))

    def text(self, raw: str) -> str | None:
        r"""Return words with their line breaks, cleaned, or None if there are none; `""` is none.

        Unknown escape sequences and single escape characters stay as written.
        """
        cleaned = cleaning.prose(self._resolved(raw))
        return None if cleaned in ("", '""') else cleaned

    def _resolved(self, raw: str) -> str:
        return self.separators.escapes.sub(self.meaning, raw) if self.separators.escape in raw else raw

    def line(self, raw: str) -> str | None:
        """Return words on one line, or None if there are none."""
        if " " not in raw and raw.isprintable() and self.separators.escape not in raw:
            value = None if raw in ("", '""') else raw
        elif value := self.text(raw):
            value = " ".join(value.split())
        self.lines[raw] = value
        return value

    def code(self, raw: str) -> str | None:
        """Return an id or code, or None for an unknown escape sequence, and for a control or undefined character."""
        if self.separators.escape not in raw:
            return cleaning.code(raw)
        escapes = self.separators.escapes
        known = all(self.meaning(one) != one[0] for one in escapes.finditer(raw))
        is_left = not known or self.separators.escape in escapes.sub("", raw)
        return None if is_left else cleaning.code(escapes.sub(self.meaning, raw))

    def meaning(self, sequence: re.Match[str]) -> str:
        """Return what an escape sequence means; hexadecimal data that is not text in the message's encoding stays as written."""
        match sequence.lastgroup:
            case "separator":
                return self.separators.meanings[sequence["separator"]]
            case "line":
                return "\n"
            case "skip":
                return " "
            case "hexadecimal":
                return self._hexadecimal(sequence[0])
        return ""

    def _hexadecimal(self, written: str) -> str:
        r"""Decode data such as `\XC3\\XA9\` in the message's encoding; `\X000D\`, with pairs of two bytes, is UTF-16."""
        data = [one[1:] for one in written.split(self.separators.escape) if one]
        try:
            if all(one.startswith("00") and len(one) % 4 == 0 for one in data):
                return "".join(bytes.fromhex(one).decode("utf-16-be") for one in data)
            return bytes.fromhex("".join(data)).decode(self.encoding)
        except UnicodeDecodeError:
            return written


class Repetition:
    """One repetition of a field. `place`: its HL7 path; `whole`: the text as sent."""

    __slots__ = ("_parts", "place", "reading", "whole")

    def __init__(self, place: str, whole: str, reading: Reading) -> None:
        self.place = place
        self.whole = whole
        self.reading = reading
        self._parts: list[str] | None = None

    @property
    def parts(self) -> list[str]:
        """The components as sent."""
        if self._parts is None:
            self._parts = self.whole.split(self.reading.separators.component)
        return self._parts

    def place_of(self, component: int) -> str:
        """Return the HL7 path of a component; that of the first is the path of the field."""
        return self.place if component == 1 else f"{self.place}.{component}"

    def raw(self, component: int = 1) -> str:
        """Return a component as sent, "" if omitted."""
        parts = self.parts
        return parts[component - 1] if component <= len(parts) else ""

    def text(self, component: int = 1) -> str | None:
        """Return a component on one line, with its subcomponents as written, or None if it is not given."""
        reading = self.reading
        if self._parts is None:
            self._parts = self.whole.split(reading.separators.component)
        try:
            raw = self._parts[component - 1]
            return reading.lines[raw] if raw else None
        except IndexError:
            return None
        except KeyError:
            return reading.line(raw)

    def subcomponents(self, component: int = 1) -> tuple[str, ...]:
        """Return the subcomponents of a component in order, each on one line; "" for one that is not given.

        After a blank, the separator is an ampersand of a text.
        """
        raw, separator = self.raw(component), self.reading.separators.subcomponent
        if f" {separator}" in raw:
            return (self.text(component) or "",)
        return tuple(self.reading.line(one) or "" for one in raw.split(separator))

    def code(self, component: int = 1) -> str | None:
        """Return an id or code, or None; with an invalid escape sequence or a control character it is a part to be read."""
        value = self.text(component)
        code = self.reading.code(self.raw(component)) if value is not None else None
        if value is not None and code is None:
            self.reading.to_read(f"{self.place}.{component}", "invalid", value)
        return code

    def table_code(self, component: int = 1) -> str:
        """Return a code of a table of the standard in upper case, "" if it is not given."""
        return (self.text(component) or "").upper()

    def prose(self) -> str | None:
        """Return the whole repetition as multi-line text, so that an unescaped separator does not cut it off."""
        return self.reading.text(self.whole)


def is_null(raw: str) -> bool:
    """Return whether a whole field is `""`, which deletes it."""
    return '""' in raw and raw.strip() == '""'


# ---- segments --------------------------------------------------------------------------------------------------------


class Segment:
    """A segment. `place`: its name, with a number from the second of the same name on.

    `parent`: the segment that it belongs to, by the groups of REF_I12: the OBX or OBR of an NTE, the OBR of an OBX.
    """

    __slots__ = ("_raw", "_read", "name", "parent", "place", "reading")

    def __init__(self, place: str, raw: Mapping[int, str], parent: "Segment | None", reading: Reading) -> None:
        self.name = place[:3]
        self.place = place
        self.parent = parent
        self.reading = reading
        self._raw = raw
        self._read: dict[int, tuple[Repetition, ...]] = {}

    @property
    def fields(self) -> tuple[int, ...]:
        """Numbers of the fields that were sent and may be read, also as `""`."""
        return tuple(self._raw)

    def raw(self, number: int) -> str:
        """Return a field as sent, "" if it is omitted."""
        return self._raw.get(number, "")

    def sent_fields(self) -> Mapping[int, str]:
        """Return the fields that were sent and may be read, as sent, by number."""
        return self._raw

    def all(self, number: int) -> tuple[Repetition, ...]:
        """Return the repetitions of a field that have a value."""
        try:
            return self._read[number]
        except KeyError:
            self._read[number] = repetitions = self._repetitions(number)
            return repetitions

    def _repetitions(self, number: int) -> tuple[Repetition, ...]:
        raw = self.raw(number)
        if not raw or is_null(raw):
            return ()
        place, mark = f"{self.place}-{number}", self.reading.separators.repetition
        if mark not in raw:
            return (Repetition(place, raw, self.reading),)
        repeated = enumerate(raw.split(mark), 1)
        return tuple(
            Repetition(place if index == 1 else f"{place}({index})", one, self.reading)
            for index, one in repeated
            if one.strip() not in ("", '""')
        )

    def first(self, number: int) -> Repetition | None:
        """Return the first repetition of a field that has a value, or None."""
        repetitions = self.all(number)
        return repetitions[0] if repetitions else None

    def text(self, number: int, component: int = 1) -> str | None:
        """Return a component of the first repetition, on one line."""
        repetitions = self.all(number)
        return repetitions[0].text(component) if repetitions else None

    def table_code(self, number: int) -> str:
        """Return a code of a table of the standard in upper case, "" if it is not given."""
        first = self.first(number)
        return first.table_code() if first else ""


def separators(header: Header) -> Separators | Issue:
    """Return the separators of a message, or a fault if two are equal or one is a letter, digit or blank."""
    encoding_characters = header.encoding_characters
    whole = header.field_separator + (encoding_characters + "^~\\&"[len(encoding_characters) :])[:4]
    if (
        not 1 <= len(encoding_characters) <= 5
        or len(set(whole)) != 5
        or any(c.isalnum() or not "!" <= c <= "~" for c in whole)
    ):
        return Issue(
            "MSH-2",
            "invalid",
            "the separators must be five different characters, not letters or digits, such as |^~\\&",
        )
    return Separators(*whole)


@dataclass(frozen=True)
class Hl7Message:
    """A whole message by segments. `left`: names of the segments that were not read, in order."""

    segments: tuple[Segment, ...]
    left: tuple[str, ...]
    reading: Reading

    @cached_property
    def _by_name(self) -> dict[str, list[Segment]]:
        by_name = defaultdict[str, list[Segment]](list)
        for segment in self.segments:
            by_name[segment.name].append(segment)
        return by_name

    def all(self, name: str) -> list[Segment]:
        """Return the segments of this name, in order."""
        return self._by_name[name]

    def repetitions(self, name: str, number: int) -> list[Repetition]:
        """Return the repetitions of a field that have a value, over all segments of this name."""
        return [one for segment in self.all(name) for one in segment.all(number)]

    def first(self, name: str, number: int) -> Repetition | None:
        """Return the first repetition of a field that has a value, over all segments of this name."""
        for segment in self.all(name):
            if repetitions := segment.all(number):
                return repetitions[0]
        return None

    def text(self, name: str, number: int, component: int = 1) -> str | None:
        """Return a component of the first repetition that has a value."""
        repetition = self.first(name, number)
        return repetition.text(component) if repetition else None


# ---- a message -------------------------------------------------------------------------------------------------------

_OUTSIDE = "MSH SFT UAC EVN RF1 AUT CTD PRD PID PD1 ARV ROL NK1 GT1 IN1 IN2 IN3 ACC DG1 DRG AL1 PR1 PV1 PV2 DSC"
_OTHER_GROUPS = frozenset(_OUTSIDE.split())
"""Segments outside the group of an observation (OBR, OBX and their NTE): they end it."""

_NAMES = _OTHER_GROUPS | {"OBR", "OBX", "NTE", "ADD"}
"""Names that are a segment also without fields. Any other, such as `DNR`, is then text; those with Z are local segments."""

_OF_OTHER_MESSAGES = """
ABS ADJ AFF AIG AIL AIP AIS APR BHS BLC BLG BPO BPX BTS BTX BUI CDM CDO CER CM0 CM1 CM2 CNS CON CSP CSR CSS CTI CTR DB1 DEV DMI DON
DPS DSP DST ECD ECR EDU EQP EQU ERR FAC FHS FT1 FTS GOL GP1 GP2 IAM IAR IIM ILT INV IPC IPR ISD ITM IVC IVT LAN LCC LCH LDP LOC LRL
MCP MFA MFE MFI MRG MSA NCK NDS NPU NSC NST ODS ODT OH1 OH2 OH3 OH4 OM1 OM2 OM3 OM4 OM5 OM6 OM7 OM8 OMC ORC ORG ORO OVR PAC PCE PCR
PDA PDC PEO PES PKG PM1 PMT PRA PRB PRC PRT PSG PSH PSL PSS PTH PYE QAK QID QPD QRD QRF QRI RCP RDF RDT REL RFI RGS RMI RQ1 RQD RXA
RXC RXD RXE RXG RXO RXR RXV SAC SCD SCH SCP SDD SGH SGT SHP SID SLT SPM SPR STF STZ TCC TCD TQ1 TQ2 TXA UB1 UB2 URD URS VAR VND VTQ
"""
_STANDARD = _NAMES | frozenset(_OF_OTHER_MESSAGES.split())
"""Names of the segments of HL7 v2.2 to 2.8.2. A line with any other may be words."""

_WORDS = (("NTE", 3), ("OBX", 5))
"""Fields of words, in which a line end without a segment name after it is a line break."""

_NAME = re.compile(r"[A-Z][A-Z0-9]{2}")


def read(text: str, reading: Reading, selection: FieldSelection) -> Hl7Message | Issue:
    """Return the segments of a text that begins with MSH, or a fault if a limit is exceeded."""
    end = _segment_end(text)
    lines = _lines(text, end, reading.separators.field, selection)
    if isinstance(lines, Issue):
        return lines
    segments = _segments(lines, reading, selection)
    for segment, pieces in zip(segments, lines, strict=True):
        if segment.name not in _STANDARD and segment.name not in selection and segment.name[0] != "Z":
            _note_unknown(segment, pieces, end)
    if (
        _parts(text, reading.separators) > limits.HL7_PARTS
        and sum(_parts(segment.raw(number), reading.separators) for segment in segments for number in segment.fields)
        > limits.HL7_PARTS
    ):
        return Issue("message", "too-long", f"has more than {limits.HL7_PARTS} repetitions and components")
    read = tuple(segment for segment in segments if segment.name in selection)
    return Hl7Message(read, tuple(one.name for one in segments if one.name not in selection), reading)


def _parts(text: str, by: Separators) -> int:
    return text.count(by.component) + text.count(by.repetition) + text.count(by.subcomponent)


def _segment_end(text: str) -> str:
    """Return what ends the first segment. If it is a carriage return, a line feed alone ends no segment and belongs to the text."""
    returns, feeds = text.find("\r"), text.find("\n")
    return "\r" if feeds < 0 or 0 <= returns < feeds else "\n"


def _lines(text: str, end: str, separator: str, selection: FieldSelection) -> list[list[str]] | Issue:
    """Return the pieces of each segment: its line, what an ADD adds, and lines without a segment name after a line feed."""
    sent = text.replace("\r\n", end).replace("\r", end).split(end)
    if len(sent) > limits.HL7_PARTS:
        return Issue("message", "too-long", f"has more than {limits.HL7_PARTS} lines")
    lines: list[list[str]] = []
    for line in map(_stripped, sent):
        if line[3:4] == separator and _NAME.match(line):
            if line[:3] == "ADD" and lines:
                lines[-1].append(line[4:])
            else:
                lines.append([line])
        elif name := line.strip():
            _without_fields(name, line, lines, selection)
    too_many = Issue("message", "too-long", f"has more than {limits.HL7_SEGMENTS} segments")
    return lines if len(lines) <= limits.HL7_SEGMENTS else too_many


def _stripped(line: str) -> str:
    """Return a line without the NULs and blank lines around it."""
    if "\0" in line:
        line = line.rstrip("\0 \t\n")
    return line.lstrip("\n") if line[:1] == "\n" else line


def _without_fields(name: str, line: str, lines: list[list[str]], selection: FieldSelection) -> None:
    """Add a line that is only a segment name, or text that continues the segment before it."""
    if _NAME.fullmatch(name) and (name in _NAMES or name in selection or name[0] == "Z"):
        lines.append([name])
        return
    names = []
    while len(lines) > 1 and len(lines[-1]) == 1 and len(lines[-1][0]) == 3:
        names.append(lines.pop()[0])
    lines[-1].append("\n".join(["", *reversed(names), line]))


def _segments(lines: list[list[str]], reading: Reading, selection: FieldSelection) -> list[Segment]:
    """Return a segment for each line, with its parent."""
    by = reading.separators.field
    segments: list[Segment] = []
    counts: dict[str, int] = {}
    order: Segment | None = None
    holder: Segment | None = None
    for pieces in lines:
        first, *others = pieces
        line = _joined(pieces, by) if others else first
        name = first[:3]
        counts[name] = number = counts[name] + 1 if name in counts else 1
        place = name if number == 1 else f"{name}[{number}]"
        parent = holder if name == "NTE" else order if name == "OBX" else None
        segment = Segment(place, _raw(line, selection.get(name, ()), by), parent, reading)
        segments.append(segment)
        if others:
            _note_continued(segment, pieces, is_read=name in selection)
        if "\n" in line:
            _note_hidden(segment, line)
        if name in _OTHER_GROUPS:
            order = holder = None
        elif name == "OBR":
            order = holder = segment
        elif name == "OBX":
            holder = segment
    return segments


def _raw(line: str, numbers: tuple[int, ...], by: str) -> dict[int, str]:
    """Return the fields with these numbers that were sent. MSH-1 is the separator, so the field after the name is MSH-2."""
    if not numbers:
        return {}
    fields = ["MSH", *line.split(by)] if line[:3] == "MSH" else line.split(by)
    most = len(fields)
    return {number: one for number in numbers if number < most and (one := fields[number]) and not one.isspace()}


def _joined(pieces: list[str], by: str) -> str:
    """Join a segment; further lines without a field separator only if they continue words, so that they spoil no date or code."""
    if _is_words(pieces, by) or any(by in piece for piece in pieces if piece[0:1] == "\n"):
        return "".join(pieces)
    return "".join(piece for piece in pieces if piece[0:1] != "\n")


def _is_words(pieces: list[str], by: str) -> bool:
    return (pieces[0][:3], pieces[0].count(by)) in _WORDS


def _note_unknown(segment: Segment, pieces: list[str], end: str) -> None:
    """Warn of a segment that is not of the standard; in a message of lines it may be words, which a person has to read."""
    if end == "\n":
        segment.reading.to_read(segment.place, "invalid", "".join(pieces))
    else:
        segment.reading.warn(Issue(segment.place, "not-supported", "is not a segment of HL7 v2 and was not read"))


def _note_continued(segment: Segment, pieces: list[str], *, is_read: bool) -> None:
    """Warn of lines that were read as words of a segment; a person has to read what continues anything else."""
    reading = segment.reading
    text = "".join(piece for piece in pieces if piece[0:1] == "\n").strip()
    if not text.strip(reading.separators.field):
        return
    if _is_words(pieces, reading.separators.field) and is_read:
        explanation = "a line that does not begin with a segment name was read as words of the segment before it"
        reading.warn(Issue(segment.place, "invalid", explanation))
    else:
        reading.to_read(segment.place, "invalid", text)


_AFTER_FEED = re.compile(r"\n([A-Z][A-Z0-9]{2})(?=(.))")


def _note_hidden(segment: Segment, line: str) -> None:
    """Let a person read what may be a segment after a line feed, in a message whose segments end with carriage returns."""
    by = segment.reading.separators.field
    for found in _AFTER_FEED.finditer(line):
        if found[2] == by and (found[1] in _STANDARD or found[1][0] == "Z"):
            segment.reading.to_read(segment.place, "invalid", line[found.start() :])
            return
