"""Read a partner's observations (OBX) and local fields, per its reviewed file, into places of the referral."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from services.intake.translators.hl7v2 import field_paths
from services.intake.translators.hl7v2.dates import read_date
from services.intake.translators.hl7v2.er7 import Hl7Message, Repetition, Segment
from services.intake.translators.hl7v2.partner_profile import ObservationMeaning, PartnerProfile, fold
from services.intake.translators.hl7v2.person import full_professional
from services.intake.translators.hl7v2.targets import TARGETS, YES_NO
from services.intake.translators.translator import Issue, drop_empty

RequestedNeed = tuple[str, str | None, list[dict[str, Any]]]
"""A need: its service, text and SNOMED CT codings."""

_CODED = ("CE", "CWE", "CNE", "CF")
_RETRACTED = ("D", "X", "W")
"""OBX-11 of an observation that was deleted, not obtained or wrong."""

SNOMED = "http://snomed.info/sct"


@dataclass(slots=True)
class LocalValues:
    """Values read per the partner's file. `sources`: the place of the message that filled a place of the referral."""

    values: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    needs: list[RequestedNeed] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    flags: list[dict[str, Any]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class LocalValue:
    """One value: its code (or whole text), its text, the date and the observer."""

    code: str
    text: str | None
    one: Repetition
    is_coded: bool = True
    component: int = 1
    on: date | None = None
    by: str | None = None

    @property
    def place(self) -> str:
        return self.one.place if self.component == 1 else f"{self.one.place}.{self.component}"


def read_local_values(message: Hl7Message, profile: PartnerProfile) -> LocalValues:
    """Read all values that the partner's file defines. The last value for a place counts."""
    local_values = LocalValues()
    for place, meaning in profile.fields.items():
        component = field_paths.split(place)[2]
        for one, value in field_paths.texts(message, place):
            _take(local_values, profile, meaning, LocalValue(value, None, one, component=component))
    for observation in observations(message):
        observed = profile.observation_meanings.get(fold(observation.text(3) or ""))
        if observed is not None:
            _observe(local_values, profile, observed, observation)
    return local_values


def observations(message: Hl7Message) -> list[Segment]:
    """Return the observations that are not retracted."""
    return [one for one in message.all("OBX") if one.text(11) not in _RETRACTED]


def _observe(
    local_values: LocalValues, profile: PartnerProfile, meaning: ObservationMeaning, observation: Segment
) -> None:
    """Read one observation. An embedded document means yes; a reference to a document (RP) means nothing."""
    if observation.text(2) in ("ED", "RP"):
        if observation.text(2) == "ED" and TARGETS.get(meaning.to or "") == "yes-no" and observation.all(5):
            local_values.values[meaning.to or ""] = True
        return
    for local_value in _observed_values(observation):
        _take(local_values, profile, meaning, local_value)


def _observed_values(observation: Segment) -> Iterator[LocalValue]:
    kind = observation.text(2)
    on, by = read_date(observation.first(14)), full_professional(observation.first(16))
    for one in observation.all(5):
        if kind in _CODED or kind == "IS":
            yield LocalValue(one.text() or one.text(2) or "", one.text(2), one, on=on, by=by)
        elif prose := one.prose():
            yield LocalValue(prose, prose, one, is_coded=False, on=on, by=by)


def _take(
    local_values: LocalValues, profile: PartnerProfile, meaning: ObservationMeaning, local_value: LocalValue
) -> None:
    if meaning.need or meaning.flag:
        _raise(local_values, meaning, local_value)
        return
    text = str(meaning.meanings.get(fold(local_value.code)) or local_value.text or local_value.code)
    place = meaning.to or ""
    match TARGETS[place]:
        case "needs":
            _need(local_values, profile, local_value)
        case "reason":
            _reason(local_values, profile, local_value)
        case "flags":
            code = meaning.meanings.get(fold(local_value.code)) or local_value.code
            local_values.flags.append(
                drop_empty({"code": str(code), "text": local_value.text if local_value.text != code else None})
            )
        case "lines":
            local_values.lines.append(text)
        case "prose":
            local_values.texts.append(f"{meaning.label}: {text}")
        case "consent":
            _consent(local_values, place, meaning, local_value)
        case kind:
            value = _value(meaning, local_value, kind)
            if value is not None:
                local_values.values[place], local_values.sources[place] = value, local_value.place


def _value(meaning: ObservationMeaning, local_value: LocalValue, kind: str) -> Any:
    if kind == "date":
        return read_date(local_value.one, local_value.component)
    if kind == "text":
        text = meaning.meanings.get(fold(local_value.code)) or " ".join(local_value.code.split())
        return text or None
    return _meaning(meaning, local_value, YES_NO if kind == "yes-no" else {})


def _meaning(meaning: ObservationMeaning, local_value: LocalValue, without: dict[str, bool]) -> Any:
    """Return the meaning of a code; an unknown code is a fault unless the partner's file defines `otherwise`."""
    meanings = meaning.meanings or without
    resolved = meanings.get(fold(local_value.code), meaning.otherwise)
    if resolved is None:
        local_value.one.reading.issues.append(
            Issue(local_value.place, "value", "is not one of the codes agreed for this field")
        )
    return resolved


def _raise(local_values: LocalValues, meaning: ObservationMeaning, local_value: LocalValue) -> None:
    """Add the need or flag of a meaning if the value is a code for yes, or any text."""
    if local_value.is_coded or meaning.values or fold(local_value.code) in YES_NO:
        if _meaning(meaning, local_value, YES_NO) is not True:
            return
        text = meaning.label
    else:
        text = f"{meaning.label}: {local_value.text}"
    if meaning.need:
        local_values.needs.append((meaning.need, text, snomed(local_value.one)))
    else:
        local_values.flags.append({"code": meaning.flag, "text": text})


def _need(local_values: LocalValues, profile: PartnerProfile, local_value: LocalValue) -> None:
    need = profile.needs.meanings.get(fold(local_value.code))
    value_text = local_value.text if local_value.text != local_value.code else None
    if need is None:
        local_values.texts.append(local_value.text or local_value.code)
        return
    parts = [text for text in (need.label, value_text) if text]
    local_values.needs.append((need.service, ": ".join(dict.fromkeys(parts)) or None, snomed(local_value.one)))


def _reason(local_values: LocalValues, profile: PartnerProfile, local_value: LocalValue) -> None:
    code = profile.reasons.meanings.get(fold(local_value.code))
    local_values.reason = local_values.reason or code
    if code is None or (local_value.text and local_value.text != local_value.code):
        local_values.texts.append(local_value.text or local_value.code)


def _consent(local_values: LocalValues, place: str, meaning: ObservationMeaning, local_value: LocalValue) -> None:
    """Store a consent. Of two answers the later counts, and 'no' if both are of the same day (as in bars_fhir)."""
    answer = _meaning(meaning, local_value, {})
    if answer is None:
        return
    now = {"answer": answer, "on": local_value.on, "by": local_value.by}
    before = local_values.values.get(place)
    if before is None or _rank(now) >= _rank(before):
        local_values.values[place], local_values.sources[place] = (
            {name: one for name, one in now.items() if one},
            local_value.place,
        )


def _rank(answer: dict[str, Any]) -> tuple[bool, str, bool]:
    return answer["answer"] != "not-recorded", str(answer.get("on") or ""), answer["answer"] == "no"


_SNOMED_NAMES = ("SCT", "SNM", "SNM3", "SNOMEDCT", "SNOMED-CT", SNOMED)


def snomed(one: Repetition) -> list[dict[str, Any]]:
    """Return the SNOMED CT codings of a coded element: from its first and its alternative three components."""
    codings = []
    for first in (1, 4):
        code, system = one.text(first), one.text(first + 2)
        if code and system and fold(system) in {fold(name) for name in _SNOMED_NAMES}:
            display = one.text(first + 1)
            codings.append({"system": SNOMED, "code": code, **({"display": display} if display else {})})
    return codings
