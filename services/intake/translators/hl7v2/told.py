"""What a partner says in observations (OBX) and fields of its own, by its reviewed file: values for places of the referral."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from services.intake.translators.contract import Fault, unnamed
from services.intake.translators.hl7v2 import places
from services.intake.translators.hl7v2.dates import day
from services.intake.translators.hl7v2.fills import FILLS, YES_NO
from services.intake.translators.hl7v2.mapping import Mapping, Told, fold
from services.intake.translators.hl7v2.person import full_professional
from services.intake.translators.hl7v2.segments import Message, Repetition, Segment

Asked = tuple[str, str | None, list[dict[str, Any]]]
"""A need: its service, words, SNOMED CT codings."""

_CODED = ("CE", "CWE", "CNE", "CF")
_TAKEN_BACK = ("D", "X", "W")
"""OBX-11 of an observation that was deleted, could not be made, or was wrong."""

SNOMED = "http://snomed.info/sct"


@dataclass(slots=True)
class Filled:
    """What the partner's file makes of a message. `places`: the place of the message that fed a place of the referral."""

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    needs: list[Asked] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    flags: list[dict[str, Any]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Given:
    """One value: its code (or whole text), its words, when and by whom it was observed."""

    code: str
    words: str | None
    one: Repetition
    is_coded: bool = True
    component: int = 1
    on: date | None = None
    by: str | None = None

    @property
    def place(self) -> str:
        return self.one.place if self.component == 1 else f"{self.one.place}.{self.component}"


def filled(message: Message, mapping: Mapping) -> Filled:
    """Everything that the partner's file tells of this message. Where a place is told twice the later holds."""
    found = Filled()
    for place, told in mapping.fields.items():
        component = places.split(place)[2]
        for one, said in places.texts(message, place):
            _take(found, mapping, told, Given(said, None, one, component=component))
    for observation in observations(message):
        told_of = mapping.told.get(fold(observation.text(3) or ""))
        if told_of is not None:
            _observe(found, mapping, told_of, observation)
    return found


def observations(message: Message) -> list[Segment]:
    """The observations that stand."""
    return [one for one in message.all("OBX") if one.text(11) not in _TAKEN_BACK]


def _observe(found: Filled, mapping: Mapping, told: Told, observation: Segment) -> None:
    """An embedded document says yes by being there; a pointer to one elsewhere says nothing."""
    if observation.text(2) in ("ED", "RP"):
        if observation.text(2) == "ED" and FILLS.get(told.to or "") == "yes-no" and observation.all(5):
            found.values[told.to or ""] = True
        return
    for given in _given(observation):
        _take(found, mapping, told, given)


def _given(observation: Segment) -> Iterator[Given]:
    kind = observation.text(2)
    on, by = day(observation.first(14)), full_professional(observation.first(16))
    for one in observation.all(5):
        if kind in _CODED or kind == "IS":
            yield Given(one.text() or one.text(2) or "", one.text(2), one, on=on, by=by)
        elif said := one.prose():
            yield Given(said, said, one, is_coded=False, on=on, by=by)


def _take(found: Filled, mapping: Mapping, told: Told, given: Given) -> None:
    if told.need or told.flag:
        _raise(found, told, given)
        return
    place = told.to or ""
    match FILLS[place]:
        case "needs":
            _need(found, mapping, given)
        case "reason":
            _reason(found, mapping, given)
        case "flags":
            code = told.meanings.get(fold(given.code)) or given.code
            found.flags.append(unnamed({"code": str(code), "text": given.words if given.words != code else None}))
        case "lines":
            found.lines.append(str(told.meanings.get(fold(given.code)) or given.words or given.code))
        case "prose":
            found.words.append(f"{told.label}: {told.meanings.get(fold(given.code)) or given.words or given.code}")
        case "consent":
            _consent(found, place, told, given)
        case kind:
            value = _value(told, given, kind)
            if value is not None:
                found.values[place], found.places[place] = value, given.place


def _value(told: Told, given: Given, kind: str) -> Any:
    if kind == "date":
        return day(given.one, given.component)
    if kind == "text":
        said = told.meanings.get(fold(given.code)) or " ".join(given.code.split())
        return said or None
    return _meaning(told, given, YES_NO if kind == "yes-no" else {})


def _meaning(told: Told, given: Given, without: dict[str, bool]) -> Any:
    """What a code means; a code that the partner's file has not is a fault, unless the file says what any other means."""
    meanings = told.meanings or without
    found = meanings.get(fold(given.code), told.otherwise)
    if found is None:
        given.one.reading.faults.append(Fault(given.place, "value", "is not one of the codes agreed for this field"))
    return found


def _raise(found: Filled, told: Told, given: Given) -> None:
    """A need or a flag of its own: raised by a code that says so, or by any words."""
    if given.is_coded or told.values or fold(given.code) in YES_NO:
        if _meaning(told, given, YES_NO) is not True:
            return
        said = told.label
    else:
        said = f"{told.label}: {given.words}"
    if told.need:
        found.needs.append((told.need, said, snomed(given.one)))
    else:
        found.flags.append({"code": told.flag, "text": said})


def _need(found: Filled, mapping: Mapping, given: Given) -> None:
    asked = mapping.needs.meanings.get(fold(given.code))
    said = given.words if given.words != given.code else None
    if asked is None:
        found.words.append(given.words or given.code)
        return
    words = [text for text in (asked.label, said) if text]
    found.needs.append((asked.service, ": ".join(dict.fromkeys(words)) or None, snomed(given.one)))


def _reason(found: Filled, mapping: Mapping, given: Given) -> None:
    code = mapping.reasons.meanings.get(fold(given.code))
    found.reason = found.reason or code
    if code is None or (given.words and given.words != given.code):
        found.words.append(given.words or given.code)


def _consent(found: Filled, place: str, told: Told, given: Given) -> None:
    """Where one was asked twice, the later day holds, and 'no' on the same day (as bars_fhir)."""
    answer = _meaning(told, given, {})
    if answer is None:
        return
    now = {"answer": answer, "on": given.on, "by": given.by}
    before = found.values.get(place)
    if before is None or _rank(now) >= _rank(before):
        found.values[place], found.places[place] = {name: one for name, one in now.items() if one}, given.place


def _rank(answer: dict[str, Any]) -> tuple[bool, str, bool]:
    return answer["answer"] != "not-recorded", str(answer.get("on") or ""), answer["answer"] == "no"


_SNOMED_NAMES = ("SCT", "SNM", "SNM3", "SNOMEDCT", "SNOMED-CT", SNOMED)


def snomed(one: Repetition) -> list[dict[str, Any]]:
    """SNOMED CT codings of a coded element: of its first and of its alternative three components."""
    codings = []
    for first in (1, 4):
        code, system = one.text(first), one.text(first + 2)
        if code and system and fold(system) in {fold(name) for name in _SNOMED_NAMES}:
            said = one.text(first + 1)
            codings.append({"system": SNOMED, "code": code, **({"display": said} if said else {})})
    return codings
