"""Parse a message into segments in order, and their selected fields into components, with the `hl7` package.

Only selected fields with parts go through the package, because it takes about three microseconds for each part, even
an empty one (docs/performance.md, "Reading HL7 v2"). No segment is lost: each is either parsed or named in `left`.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import hl7

from services.intake import limits
from services.intake.translators.hl7v2.escapes import unescape
from services.intake.translators.hl7v2.header import Header
from services.intake.translators.translator import Issue

FieldSelection = Mapping[str, tuple[int, ...]]
"""Numbers of the fields to read, by segment."""

_NAME = re.compile(r"[A-Z][A-Z0-9]{2}")
_LINE = re.compile(r"([^\r\n]*)(\r\n|\r|\n|$)")


@dataclass(slots=True)
class Reading:
    """State of reading values: the separators, the encoding and the faults found."""

    separators: "Separators"
    encoding: str
    issues: list[Issue] = field(default_factory=list)

    def text(self, raw: str, place: str) -> str | None:
        """Return an unescaped text, or None if it is not given. An invalid escape sequence is a fault."""
        if raw.isprintable() and self.separators.escape not in raw:
            stripped = raw.strip()
            return stripped if stripped not in ("", '""') else None
        if raw.strip() in ("", '""'):
            return None
        resolved = unescape(raw, self.separators.escape, self.separators.meanings, self.encoding)
        if resolved is None:
            self.issues.append(Issue(place, "invalid", "contains an invalid escape sequence or a control character"))
        return resolved.strip() or None if resolved else None


@dataclass(slots=True)
class Repetition:
    """One repetition of a field. `parts`: the first subcomponent of each component; `whole`: the text as sent."""

    place: str
    whole: str
    parts: tuple[str, ...]
    reading: Reading

    def text(self, component: int = 1) -> str | None:
        """Return a component on one line, or None if it is not given."""
        if component > len(self.parts):
            return None
        value = self.reading.text(self.parts[component - 1], f"{self.place}.{component}")
        return " ".join(value.split()) or None if value else None

    def prose(self) -> str | None:
        """Return the whole repetition as multi-line text, so that an unescaped separator does not cut it off."""
        return self.reading.text(self.whole, self.place)


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment. `place`: its name, with a number from the second of the same name on."""

    name: str
    place: str
    fields: Mapping[int, tuple[Repetition, ...]]

    def all(self, number: int) -> tuple[Repetition, ...]:
        """Return the repetitions of a field that have a value."""
        return self.fields.get(number, ())

    def first(self, number: int) -> Repetition | None:
        """Return the first repetition of a field that has a value, or None."""
        return next(iter(self.all(number)), None)

    def text(self, number: int, component: int = 1) -> str | None:
        """Return a component of the first repetition, on one line."""
        repetition = self.first(number)
        return repetition.text(component) if repetition else None


@dataclass(frozen=True)
class Separators:
    """MSH-1 and MSH-2, with the standard's separators for missing ones."""

    field: str
    component: str
    repetition: str
    escape: str
    subcomponent: str

    @cached_property
    def meanings(self) -> dict[str, str]:
        return {
            "F": self.field,
            "S": self.component,
            "R": self.repetition,
            "E": self.escape,
            "T": self.subcomponent,
        }


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

    def all(self, name: str) -> list[Segment]:
        """Return the segments of this name, in order."""
        return [segment for segment in self.segments if segment.name == name]

    def repetitions(self, name: str, number: int) -> list[Repetition]:
        """Return the repetitions of a field that have a value, over all segments of this name."""
        return [one for segment in self.all(name) for one in segment.all(number)]

    def first(self, name: str, number: int) -> Repetition | None:
        """Return the first repetition of a field that has a value, over all segments of this name."""
        return next(iter(self.repetitions(name, number)), None)

    def text(self, name: str, number: int, component: int = 1) -> str | None:
        """Return a component of the first repetition that has a value."""
        repetition = self.first(name, number)
        return repetition.text(component) if repetition else None


def read(text: str, reading: Reading, selection: FieldSelection) -> Hl7Message | Issue:
    """Return the segments of a text that begins with MSH, or a fault if a line is invalid or a limit is exceeded."""
    lines = _lines(text, reading.separators.field)
    if isinstance(lines, Issue):
        return lines
    by = reading.separators.field
    # MSH-1 is the separator, so MSH-3 is the third field, as in any other segment.
    split = [("MSH", ["MSH", by, *lines[0].split(by)[1:]]), *((line[:3], line.split(by)) for line in lines[1:])]
    selected = [(name, _select(fields, selection[name])) for name, fields in split if name in selection]
    parsed = _parsed([text for _, raw_fields in selected for _, text in raw_fields], reading.separators)
    if isinstance(parsed, Issue):
        return parsed
    segments, counts = [], Counter[str]()
    for name, raw_fields in selected:
        counts[name] += 1
        place = name if counts[name] == 1 else f"{name}[{counts[name]}]"
        fields = {
            number: _repetitions(text, parsed.get(text), f"{place}-{number}", reading) for number, text in raw_fields
        }
        segments.append(Segment(name, place, fields))
    return Hl7Message(tuple(segments), tuple(name for name, _ in split if name not in selection), reading)


def _lines(text: str, separator: str) -> list[str] | Issue:
    """Return the segment lines. If they end with a carriage return, a line feed belongs to the text."""
    lines: list[str] = []
    ended = ends = ""
    for match in _LINE.finditer(text):
        line = match[1]
        if _NAME.fullmatch(line[:3]) and (line[3:4] in ("", separator) or not line[3:].strip()):
            if len(lines) == limits.HL7_SEGMENTS:
                return Issue("message", "too-long", f"has more than {limits.HL7_SEGMENTS} segments")
            lines.append(line)
            ends = ends or match[2]
        elif line.strip() and ended == "\n" and ends == "\r" and lines:
            lines[-1] += "\n" + line
        elif line.strip():
            return Issue(f"segment {len(lines) + 1}", "invalid", "must begin with a segment name")
        ended = match[2]
    return lines


def _select(fields: list[str], numbers: tuple[int, ...]) -> list[tuple[int, str]]:
    return [(n, fields[n]) for n in numbers if n < len(fields) and fields[n] and not fields[n].isspace()]


def _parsed(texts: list[str], by: Separators) -> dict[str, hl7.Field] | Issue:
    """Parse the fields that have parts, all as one segment, with the package."""
    inner = (by.repetition, by.component, by.subcomponent)
    parted = list(dict.fromkeys(text for text in texts if any(mark in text for mark in inner)))
    if sum(text.count(mark) for text in parted for mark in inner) > limits.HL7_PARTS:
        return Issue("message", "too-long", f"has more than {limits.HL7_PARTS} repetitions and components")
    characters = by.component + by.repetition + by.escape + by.subcomponent
    tree = hl7.parse(f"MSH{by.field}{characters}{by.field}\r" + by.field.join(["ANY", *parted]) + by.field)
    return dict(zip(parted, tree[1][1:], strict=False))


def _repetitions(text: str, parsed: hl7.Field | None, place: str, reading: Reading) -> tuple[Repetition, ...]:
    if parsed is None:
        return (Repetition(place, text, (text,), reading),) if text.strip() != '""' else ()
    repetitions = []
    for index, one in enumerate(parsed, 1):
        whole = text if len(parsed) == 1 else str(one)
        if whole.strip() not in ("", '""'):
            at = place if index == 1 else f"{place}({index})"
            repetitions.append(Repetition(at, whole, tuple(map(_first, one)), reading))
    return tuple(repetitions)


def _first(component: hl7.Component | str) -> str:
    """Return the first subcomponent. A separator after a blank is an unescaped ampersand and does not separate."""
    if isinstance(component, str):
        return component
    first: str = component[0]
    return str(component) if len(component) > 1 and first.endswith(" ") else first
