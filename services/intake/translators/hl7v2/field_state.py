"""What the messages of one referral have said, unit by unit, so that an update changes only what it says.

An omitted field leaves the value as it was; `""` deletes it (HL7 v2.5 chapter 2, 2.5.3). A unit is a field of a segment that occurs
once, or the whole group of a repeating segment: OBX by code, NTE by what it belongs to and its type, others by name. A risk flag
that is not named again stays, so each value of a code for risk flags is a unit.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec

from schemas.referral import UnreadPart
from services.intake.translators.hl7v2 import er7
from services.intake.translators.hl7v2.dates import Interval, parse_days
from services.intake.translators.hl7v2.er7 import FieldSelection, Hl7Message, Reading, Segment, Separators
from services.intake.translators.hl7v2.partner_profile import PartnerProfile, fold
from services.intake.translators.hl7v2.standard_fields import READS
from services.intake.translators.hl7v2.targets import TARGETS
from services.reference.fillers import Fillers

REPEATING = frozenset(("PRD", "CTD", "NK1", "ROL", "DG1", "AL1", "ARV", "GT1", "IN1", "PR1"))
"""Segments whose repetitions are replaced together. OBX and NTE have units of their own; any other segment occurs once."""

STANDARD = Separators("|", "^", "~", "\\", "&")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_MADE = "made"
"""Unit of MSH-7 of the first message that made the referral."""

_UNREAD = "unread\t"
"""Begin of the units of parts that a person has to read and that belong to no field, such as a second referral id."""

ADMISSION = "EVN-1"
"""Unit of the last event that says whether the admission stands: A01, or A11 (cancelled). Only ADT says it."""

_DELETED, _NOT_SAID = ("D", "W"), ("X", "N")
"""OBX-11 (table 0085): deleted or wrong; not obtained or not asked, which says nothing of the observation."""

_LOCATION, _VISIT, _ADMITTED = "PV1-3", "PV1-19", "PV1-44"
_DISCHARGE = "PV1-45"
_ENDS = ("PV1-36", "PV1-37", _DISCHARGE, ADMISSION)
"""Units that say that a visit has ended."""

_EXPECTED = f"{_DISCHARGE} expected"
"""Unit of a discharge that was in the future when its message came; deleted if it was not."""

_OF_ADT = ("MSH", "PID", "PD1", "ARV", "PV1", "PV2", "EVN")
"""Segments of which ADT says something too."""


class Unit(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What was said of one unit.

    `at`: start of the interval in which the last message that said it was sent, in microseconds since 1970. `first`: the same of the
    first one, and its place there, for the order. `lines`: the field, or its segments; None if it was deleted. `documents`:
    attachments of the referral that the segments contained.
    """

    at: int
    first: tuple[int, int]
    lines: tuple[str, ...] | None
    documents: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class FieldState:
    """The units by key. `until`: end of the interval in which the message was sent; 0 if several have been merged."""

    units: Mapping[str, Unit]
    until: int = 0

    @property
    def made(self) -> str:
        """MSH-7 of the first message that made the referral, or an empty text."""
        unit = self.units.get(_MADE)
        return unit.lines[0] if unit and unit.lines else ""

    @property
    def documents(self) -> list[dict[str, Any]]:
        """The attachments that came with the segments, each once."""
        return each_once(one for unit in sorted(self.units.values(), key=_first) for one in unit.documents)

    @property
    def unread(self) -> list[UnreadPart]:
        """The parts that a person has to read and that belong to no field."""
        parts = sorted(
            (unit.first, unit.lines) for key, unit in self.units.items() if key.startswith(_UNREAD) and unit.lines
        )
        return [UnreadPart(place=place, kind=kind, text=text or None) for _, (place, kind, text) in parts]

    @property
    def expects_discharge(self) -> bool:
        """Whether the day of discharge was in the future when it was said last: that day alone does not end the stay."""
        expected, discharge = self.units.get(_EXPECTED), self.units.get(_DISCHARGE)
        if expected is None or discharge is None:
            return False
        return expected.lines is not None and expected.lines == discharge.lines

    def is_said_after_discharge(self, keys: Iterable[str]) -> bool:
        """Return whether one of these units was said after the discharge."""
        discharge = self.units.get(_DISCHARGE)
        said = (unit.at for key in keys if (unit := self.units.get(key)) and unit.lines)
        return discharge is not None and any(at > discharge.at for at in said)

    def encode(self) -> bytes:
        """Return the state as bytes (MessagePack)."""
        return msgspec.msgpack.encode(self.units)

    def message(self, selection: FieldSelection, fillers: Fillers) -> Hl7Message:
        """Return the state as one message, with the standard's separators, to be read as any message."""
        reading = Reading(STANDARD, "utf-8", fillers)
        message = er7.read(
            "\r".join(_written(self.units)), reading, {**selection, "EVN": (1,), "OBX": (1, *selection["OBX"])}
        )
        if isinstance(message, Hl7Message):
            return message
        reading.issues.append(message)
        return Hl7Message((), (), reading)


def _first(unit: Unit) -> tuple[int, int]:
    return unit.first


def each_once(attachments: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the attachments in order, each once; of two names of one, the first."""
    by_reference: dict[str, dict[str, Any]] = {}
    for one in attachments:
        by_reference.setdefault(one["reference"], one)
    return list(by_reference.values())


def decode(encoded: bytes) -> FieldState:
    """Return the state that `FieldState.encode` wrote."""
    return FieldState(_DECODER.decode(encoded))


_DECODER = msgspec.msgpack.Decoder(dict[str, Unit])


# ---- merge -----------------------------------------------------------------------------------------------------------


def merged(held: FieldState, later: FieldState) -> FieldState:
    """Return the held state with what one message says, except units that a message sent certainly later has said.

    `later`: of one message, which arrived later and may have been sent earlier.
    """
    units, stated = _of_one_visit(held, later)
    for key, unit in sorted(stated.items()):
        _apply(units, key, unit, later.until)
    return FieldState(units)


_FIELDS = {
    target: [read.field for read in READS if target in read.to]
    for target, kind in TARGETS.items()
    if kind in ("date", "code")
}
"""The standard's fields of each day and code that a partner's file may read elsewhere too."""


def current(state: FieldState, profile: PartnerProfile) -> FieldState:
    """Return what counts of a state: without local values of a day or code that a field of the standard has said later."""
    units, local = state.units, _local_targets(profile)
    later = [
        key
        for key, unit in units.items()
        if any(units[one].at > unit.at for one in _FIELDS.get(local.get(key, ""), ()) if one in units)
    ]
    return FieldState({key: unit for key, unit in units.items() if key not in later}) if later else state


def _local_targets(profile: PartnerProfile) -> dict[str, str]:
    """Return the places that observations and local segments fill, by the key of their unit."""
    fields = {key: meaning.to or "" for key, meaning in profile.fields.items() if key[0] == "Z" and "." not in key}
    return fields | {f"OBX\t{code}": meaning.to or "" for code, meaning in profile.observation_meanings.items()}


def replaced(held: FieldState, whole: FieldState, profile: PartnerProfile) -> FieldState:
    """Return the state of a message that says everything, or the held one if a referral was certainly sent later.

    A stay and risk flags that the message does not mention stay: silence ends neither. So does what ADT has certainly said later.
    """
    made = [one for state in (held, whole) if (one := state.units.get(_MADE))]
    first = {_MADE: min(made, key=lambda one: one.at)} if made else {}
    later = {key: unit for key, unit in held.units.items() if unit.at >= whole.until}
    if any(key[:3] not in _OF_ADT for key in later):
        return FieldState({**held.units, **first})
    kept, stated = _of_one_visit(held, whole)
    names = {key[:3] for key in stated}
    units = {
        key: unit
        for key, unit in kept.items()
        if (key[:3] in ("PV1", "PV2", "EVN") and key[:3] not in names) or _is_flag(key, profile)
    }
    for key, unit in sorted(stated.items()):
        _apply(units, key, unit, whole.until)
    return FieldState({**units, **later, **first})


def _is_flag(key: str, profile: PartnerProfile) -> bool:
    """Return whether a unit says a risk flag, by the partner's file."""
    meaning = profile.observation_meanings.get(key.split("\t")[1]) if key.startswith("OBX\t") else None
    local = [one for place, one in profile.fields.items() if place.partition(".")[0] == key]
    return any(one is not None and (one.flag or one.to == "risk_flags") for one in (meaning, *local))


def _of_one_visit(held: FieldState, stated: FieldState) -> tuple[dict[str, Unit], dict[str, Unit]]:
    """Return the held units and those of a message; if they name two visits (PV1-19), without the end of the earlier one."""
    before, now = held.units.get(_VISIT), stated.units.get(_VISIT)
    if not (before and before.lines and now and now.lines) or _is_one_visit(held, stated):
        return dict(held.units), dict(stated.units)
    if before.at >= stated.until:
        return dict(held.units), {key: one for key, one in stated.units.items() if key not in _ENDS}
    ended = {key for key in _ENDS if key in held.units and held.units[key].at < stated.until}
    return {key: one for key, one in held.units.items() if key not in ended}, dict(stated.units)


def with_discharge_judged(stated: FieldState, received_on: date) -> FieldState:
    """Return a message with whether the discharge that it says is in the future."""
    unit = stated.units.get(_DISCHARGE)
    if unit is None or unit.lines is None:
        return stated
    try:
        days = parse_days(unit.lines[0].partition("^")[0].strip())
    except ValueError:
        return stated
    is_expected = days is not None and days[0] == days[1] > received_on
    judged = Unit(unit.at, unit.first, unit.lines if is_expected else None)
    return FieldState({**stated.units, _EXPECTED: judged}, stated.until)


def without_other_visit(stated: FieldState, held: FieldState, profile: PartnerProfile) -> FieldState:
    """Return a message without what does not say anything of the held stay.

    That is a visit that is not a stay (PV1-2) with its site, and a sender (MSH-4) that names no site if there is no location either.
    """
    if not any(key[:3] == "PV1" for key in held.units) or _is_of_no_stay(held, profile):
        return stated
    is_other = _is_of_no_stay(stated, profile)
    dropped = {key for key in stated.units if is_other and key[:3] in ("PV1", "PV2")}
    if profile.site and (is_other or not says_site(stated, profile.site.read_from)):
        dropped.add(profile.site.read_from.partition(".")[0])
    return FieldState({key: one for key, one in stated.units.items() if key not in dropped}, stated.until)


def says_site(stated: FieldState, path: str) -> bool:
    """Return whether a message says at which site the person is: it gives a location (PV1-3), or the component of the site."""
    key, _, component = path.partition(".")
    unit = stated.units.get(key)
    if unit is None or unit.lines is None or _LOCATION in stated.units:
        return unit is not None
    return bool("".join(_components(stated, key)[int(component or 1) - 1 :][:1]).strip())


def _is_of_no_stay(state: FieldState, profile: PartnerProfile) -> bool:
    unit = state.units.get("PV1-2")
    codes = [one.partition("^")[0].strip() for one in unit.lines[0].split("~")] if unit and unit.lines else []
    agreed = [
        any(profile.is_one(classes, one) for one in codes)
        for classes in (profile.stay_classes, profile.not_stay_classes)
    ]
    return agreed == [False, True]


def _is_one_visit(held: FieldState, stated: FieldState) -> bool:
    """Return whether the visit numbers are equal, or of two authorities (PV1-19.4) and the day of admission (PV1-44) is the same."""
    (before, first), (now, second) = (_visit_of(state, _VISIT) for state in (held, stated))
    days = {_visit_of(state, _ADMITTED)[0][:8] for state in (held, stated)}
    return before == now or (bool(first and second) and first != second and len(days) == 1 and "" not in days)


def _visit_of(state: FieldState, key: str) -> tuple[str, str]:
    """Return the first part of a field, and its authority."""
    parts = _components(state, key)
    return parts[0].strip(), fold(parts[3].partition("&")[0]) if len(parts) > 3 else ""


def _components(state: FieldState, key: str) -> list[str]:
    """Return the components of the first repetition of a field, at least one; it is empty if the field is not given."""
    unit = state.units.get(key)
    return unit.lines[0].partition("~")[0].split("^") if unit and unit.lines else [""]


def _apply(units: dict[str, Unit], key: str, unit: Unit, until: int) -> None:
    """Apply one unit of a message. The deletion of a code for risk flags deletes all its values that were said before."""
    code = _code_of_value(key)
    if code and (deletion := units.get(code)) and deletion.at >= until:
        unit = Unit(deletion.at, unit.first, None)
    if key == _MADE:
        held = units.get(key)
        units[key] = min(held, unit, key=lambda one: one.at) if held else unit
        return
    _say(units, key, unit, until)
    if unit.lines is None and not code:
        for value in [one for one in units if _code_of_value(one) == key]:
            _say(units, value, Unit(unit.at, units[value].first, None), until)


def _say(units: dict[str, Unit], key: str, unit: Unit, until: int) -> None:
    held = units.get(key)
    if held is None:
        units[key] = unit
        return
    kept = held if held.at >= until else unit
    units[key] = Unit(kept.at, min(held.first, unit.first), kept.lines, kept.documents)


def _code_of_value(key: str) -> str:
    """Return the key of the code, if this is a value of a code for risk flags, else an empty text."""
    parts = key.split("\t")
    return "\t".join(parts[:2]) if parts[0] == "OBX" and len(parts) > 2 else ""


# ---- what a message says ---------------------------------------------------------------------------------------------


def said_by(
    message: Hl7Message,
    sent: Interval,
    profile: PartnerProfile,
    *,
    made: str = "",
    documents: Mapping[str, tuple[dict[str, Any], ...]] | None = None,
    unread: Iterable[UnreadPart] = (),
) -> FieldState:
    """Return what one message says of the fields that are read.

    `made`: its MSH-7, if it makes a referral. `documents`: attachments by the place of the segment that contains them. `unread`: parts
    to be read that belong to no field.
    """
    is_standard = message.reading.separators == STANDARD and message.reading.encoding == "utf-8"
    statement = _Statement(profile, microseconds(sent.start), documents or {}, is_standard)
    for position, segment in enumerate(message.segments):
        statement.add(segment, position)
    if made:
        statement.say(_MADE, 0, made)
    for position, part in enumerate(unread):
        statement.say(f"{_UNREAD}{part.kind}\t{part.text}", position, part.place, part.kind, part.text or "")
    return FieldState(statement.units, microseconds(sent.end))


def microseconds(at: datetime) -> int:
    """Return a time as in `Unit.at`."""
    return (at - EPOCH) // timedelta(microseconds=1)


@dataclass(slots=True)
class _Statement:
    """Collect the units of one message."""

    profile: PartnerProfile
    at: int
    documents: Mapping[str, tuple[dict[str, Any], ...]]
    is_standard: bool
    units: dict[str, Unit] = field(default_factory=dict)
    keys: dict[Segment, str] = field(default_factory=dict)

    def add(self, segment: Segment, position: int) -> None:
        name = segment.name
        fields = segment.sent_fields()
        if not self.is_standard:
            prose = 3 if name == "NTE" else 5 if name == "OBX" and segment.table_code(2) in ("TX", "FT") else None
            fields = {n: _standard(raw, segment.reading, is_prose=n == prose) for n, raw in fields.items()}
        if name == "OBX":
            self._observation(segment, fields, position)
        elif name == "NTE":
            self._group(self._key_of_note(segment), name, fields, position, (3,))
        elif name in REPEATING:
            self._group(name, name, fields, position, tuple(fields))
        elif not (name == "PID" and segment.place != "PID"):
            self._fields(name, fields)

    def say(self, key: str, position: int, *lines: str, documents: tuple[dict[str, Any], ...] = ()) -> None:
        """Add lines to a unit; without any, it is deleted, unless the message says something of it too."""
        before = self.units.get(key)
        if before is None or not lines:
            self.units.setdefault(key, Unit(self.at, (self.at, position), lines or None, documents))
        else:
            together = (*(before.lines or ()), *lines)
            self.units[key] = Unit(self.at, before.first, together, (*before.documents, *documents))

    def _fields(self, name: str, fields: Mapping[int, str]) -> None:
        """Say each field of a segment that occurs once. If it occurs again, its fields are further repetitions."""
        first = (self.at, 0)
        for number, raw in fields.items():
            key = f"{name}-{number}"
            before = self.units.get(key)
            if er7.is_null(raw):
                self.say(key, 0)
            elif _is_stated(raw):
                lines = (f"{before.lines[0]}~{raw}",) if before and before.lines else (raw,)
                self.units[key] = Unit(self.at, first, lines)

    def _group(self, key: str, name: str, fields: Mapping[int, str], position: int, numbers: tuple[int, ...]) -> None:
        """Say a segment of a group. Only these fields say something: the group is deleted if all that were sent are null."""
        sent = [fields[number] for number in numbers if number in fields and _is_stated(fields[number])]
        if sent and all(map(er7.is_null, sent)):
            self.say(key, position)
        elif sent:
            self.say(key, position, _line(name, fields))

    def _observation(self, segment: Segment, fields: Mapping[int, str], position: int) -> None:
        key, status, value = self._key(segment), segment.table_code(11), fields.get(5, "")
        self.keys[segment] = key
        is_deleted = status in _DELETED
        meaning = self.profile.observation_meanings.get(key.partition("\t")[2])
        if status in _NOT_SAID or not (is_deleted or _is_stated(value)):
            return
        if meaning is not None and meaning.to == "risk_flags" and segment.all(5):
            self._risks(segment, fields, position, is_deleted=is_deleted)
        elif is_deleted or er7.is_null(value):
            self.say(key, position)
        elif (documents := self.documents.get(segment.place, ())) and len(documents) == len(segment.all(5)):
            self.say(key, position, _line("OBX", {**fields, 1: IN_ATTACHMENTS, 5: IN_ATTACHMENTS}), documents=documents)
        else:
            self.say(key, position, _line("OBX", fields))

    def _risks(self, segment: Segment, fields: Mapping[int, str], position: int, *, is_deleted: bool) -> None:
        """Say each value of a code for risk flags as a unit."""
        key = self.keys[segment]
        for one in segment.all(5):
            self.keys[segment] = value = f"{key}\t{fold(one.text() or one.text(2) or '')}"
            line = _line("OBX", {**fields, 5: _standard(one.whole, segment.reading)})
            self.say(value, position, *(() if is_deleted else (line,)))

    def _key_of_note(self, note: Segment) -> str:
        parent = self.keys.get(note.parent, note.parent.name) if note.parent else ""
        return f"NTE\t{fold(note.text(4) or note.text(4, 2) or '')}\t{parent}"

    def _key(self, segment: Segment) -> str:
        """Return the key of an observation: the agreed code of either triplet of OBX-3, else its own."""
        codes = [fold(code) for code in (segment.text(3), segment.text(3, 4)) if code]
        agreed = (code for code in codes if code in self.profile.observation_meanings)
        return f"OBX\t{next(agreed, next(iter(codes), ''))}"


def _is_stated(raw: str) -> bool:
    return bool(raw.strip(" ^~&"))


def _line(name: str, fields: Mapping[int, str]) -> str:
    """Return a segment with these fields."""
    line = [name, *[""] * max(fields, default=0)]
    for number, raw in fields.items():
        line[number] = raw
    return "|".join(line)


IN_ATTACHMENTS = "in-attachments"
"""OBX-1, which is read in a state only, and OBX-5, if the documents of an observation are in the attachments of its unit."""


# ---- the standard's separators ---------------------------------------------------------------------------------------


_LITERAL = {"|": "\\F\\", "^": "\\S\\", "~": "\\R\\", "\\": "\\E\\", "&": "\\T\\"}


def _standard(raw: str, reading: Reading, *, is_prose: bool = False) -> str:
    """Return a field as sent, but with the standard's separators, and hexadecimal data in UTF-8.

    In prose a separator of components is a character of the text.
    """
    by = reading.separators
    if by == STANDARD and (reading.encoding == "utf-8" or "\\X" not in raw):
        return raw
    written, end = [], 0
    for sequence in by.escapes.finditer(raw):
        written += [_plain(raw[end : sequence.start()], by, is_prose), _sequence(sequence, reading)]
        end = sequence.end()
    return "".join([*written, _plain(raw[end:], by, is_prose)])


def _plain(text: str, by: Separators, is_prose: bool) -> str:
    roles = {by.repetition: "~"} if is_prose else {by.component: "^", by.repetition: "~", by.subcomponent: "&"}
    return "".join(roles.get(one) or _LITERAL.get(one, one) for one in text)


def _sequence(sequence: Any, reading: Reading) -> str:
    mark = reading.separators.escape
    if letter := sequence["separator"]:
        meaning = reading.separators.meanings[letter]
        return _LITERAL.get(meaning, meaning)
    if sequence["hexadecimal"] is None:
        return str(sequence[0]).replace(mark, "\\")
    meant = reading.meaning(sequence)
    if meant == sequence[0]:
        return meant.replace(mark, "\\")
    return f"\\X{meant.replace(chr(0), ' ').encode().hex().upper()}\\"


# ---- write -----------------------------------------------------------------------------------------------------------


def _written(units: Mapping[str, Unit]) -> Iterator[str]:
    """Yield the lines of a message: MSH, the message's own notes, segments that occur once, groups with their notes."""
    once: dict[str, dict[int, str]] = {"MSH": {}}
    groups: list[str] = []
    notes: dict[str, list[str]] = {}
    for key, unit in sorted(units.items(), key=lambda one: (one[1].first, one[0])):
        if unit.lines is None or key in (_MADE, _EXPECTED) or key.startswith(_UNREAD):
            continue
        if key[3:4] == "-":
            once.setdefault(key[:3], {})[int(key[4:])] = unit.lines[0]
        elif key.startswith("NTE\t"):
            notes.setdefault(key.split("\t", 2)[2], []).extend(unit.lines)
        else:
            groups.append(key)
    yield _msh(once.pop("MSH"))
    yield from notes.pop("", [])
    yield from (_line(name, fields) for name, fields in sorted(once.items()))
    for key in groups:
        yield from (*(units[key].lines or ()), *notes.pop(key, []))
    for parent, lines in notes.items():
        if parent not in units:
            yield from (_stub(parent), *lines)


def _stub(key: str) -> str:
    """Return a segment with its code only, for the notes of one that was not kept."""
    name, *codes = key.split("\t")
    return f"{name}|||{''.join(_LITERAL.get(one, one) for one in codes[0])}" if codes else name


def _msh(fields: Mapping[int, str]) -> str:
    """Write MSH. MSH-1 is the separator itself, so MSH-3 is the third field."""
    return "|".join(["MSH", "^~\\&", *(fields.get(number, "") for number in range(3, max(fields, default=2) + 1))])
