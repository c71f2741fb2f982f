"""Read a partner's observations (OBX) and local fields, per its reviewed file, into places of the referral."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from services.intake.translators import cleaning
from services.intake.translators.hl7v2 import field_paths
from services.intake.translators.hl7v2.contact_details import full_professional
from services.intake.translators.hl7v2.dates import read_date
from services.intake.translators.hl7v2.er7 import Hl7Message, Repetition, Segment
from services.intake.translators.hl7v2.partner_profile import ObservationMeaning, PartnerProfile, fold
from services.intake.translators.hl7v2.targets import TARGETS, YES_NO
from services.intake.translators.translator import drop_empty, unique

RequestedNeed = tuple[str, str | None, list[dict[str, Any]]]
"""A need: its service, text and SNOMED CT codings."""

_CODED = ("CE", "CWE", "CNE", "CF", "IS", "ID")
_PROSE = ("TX", "FT")
_RETRACTED = ("D", "X", "W", "N")
"""OBX-11 of an observation that was deleted, not obtained, wrong or not asked."""

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
    """One value: its codes (or its whole text), and the observation that it is of."""

    one: Repetition
    component: int = 1
    observation: Segment | None = None

    @property
    def place(self) -> str:
        return self.one.place_of(self.component)

    @property
    def is_coded(self) -> bool:
        return self.observation is None or self.observation.table_code(2) in _CODED

    @property
    def codes(self) -> list[str]:
        """What may be an agreed code: the codes; of a text, the whole, and its code if it is written as a coded element."""
        if self.is_coded:
            return field_paths.codes(self.one, self.component)
        prose = self.one.prose()
        is_prose = self.observation is not None and self.observation.table_code(2) in _PROSE
        return unique([*([prose] if prose else []), *([] if is_prose else field_paths.codes(self.one))])

    @property
    def display_text(self) -> str | None:
        """The text for people, if it is not a code alone."""
        if not self.is_coded:
            return self.one.prose()
        return field_paths.display_text(self.one) if self.component == 1 else None

    @property
    def shown(self) -> str:
        """The text for people, or the code."""
        return self.display_text or next(iter(self.codes), "")

    def to_read(self) -> None:
        """Leave the value to a person."""
        self.one.reading.to_read(self.place, "value", self.one.prose())

    def meanings(self, table: Mapping[str, Any]) -> list[Any]:
        """Return its different meanings in a table by folded codes."""
        return field_paths.meanings(self.codes, table)

    def meaning(self, table: Mapping[str, Any]) -> Any:
        """Return its meaning, or None; codes with different meanings are a part to be read."""
        matches = self.meanings(table)
        if len(matches) > 1:
            self.to_read()
        return matches[0] if len(matches) == 1 else None


def read_local_values(message: Hl7Message, profile: PartnerProfile) -> LocalValues:
    """Read all values that the partner's file defines. The last value for a place counts, and a person reads another."""
    local_values = LocalValues()
    for place, meaning in profile.fields.items():
        component = field_paths.split(place)[2]
        for one, _ in field_paths.coded(message, place):
            _take(local_values, profile, meaning, LocalValue(one, component))
    for observation in observations(message):
        observed = meaning_of(observation, profile)
        if observed is not None:
            _observe(local_values, profile, observed, observation)
    return local_values


def observations(message: Hl7Message) -> list[Segment]:
    """Return the observations that are not retracted."""
    return [one for one in message.all("OBX") if not _is_retracted(one)]


def _is_retracted(observation: Segment) -> bool:
    return observation.table_code(11) in _RETRACTED


def meaning_of(observation: Segment, profile: PartnerProfile) -> ObservationMeaning | None:
    """Return the agreed meaning of an observation, by either code of OBX-3."""
    named = observation.first(3)
    return field_paths.meaning(named, profile.observation_meanings) if named else None


def is_read(observation: Segment, profile: PartnerProfile) -> bool:
    """Return whether an observation is read: an agreed one, or a document, that is not retracted."""
    is_document = observation.table_code(2) in ("ED", "RP")
    return not _is_retracted(observation) and (is_document or meaning_of(observation, profile) is not None)


def _observe(
    local_values: LocalValues, profile: PartnerProfile, meaning: ObservationMeaning, observation: Segment
) -> None:
    """Read one observation. An embedded document means yes; a reference to a document (RP) means nothing."""
    if observation.table_code(2) in ("ED", "RP"):
        if observation.table_code(2) == "ED" and TARGETS.get(meaning.to or "") == "yes-no" and observation.all(5):
            local_values.values[meaning.to or ""] = True
        return
    for one in observation.all(5):
        value = LocalValue(one, observation=observation)
        if value.codes:
            _take(local_values, profile, meaning, value)


def _take(local_values: LocalValues, profile: PartnerProfile, meaning: ObservationMeaning, value: LocalValue) -> None:
    if meaning.need or meaning.flag:
        _add_need_or_flag(local_values, meaning, value)
        return
    place = meaning.to or ""
    match TARGETS[place]:
        case "needs":
            _need(local_values, profile, value)
        case "reason":
            _reason(local_values, profile, value)
        case "flags":
            local_values.flags.append(_flag(meaning, value))
        case "lines":
            local_values.lines.append(cleaning.line(str(value.meaning(meaning.meanings) or value.shown)))
        case "prose":
            local_values.texts.append(f"{meaning.label}: {value.meaning(meaning.meanings) or value.shown}")
        case "consent":
            _consent(local_values, place, meaning, value)
        case kind:
            read = _value(meaning, value, kind)
            if read is not None:
                if local_values.values.get(place, read) != read:
                    value.to_read()
                local_values.values[place], local_values.sources[place] = read, value.place


def _value(meaning: ObservationMeaning, value: LocalValue, kind: str) -> Any:
    if kind == "date":
        return read_date(value.one, value.component, decides=True)
    if kind == "text":
        return value.meaning(meaning.meanings) or " ".join(value.codes[0].split()) or None
    return _decided(meaning, value, YES_NO if kind == "yes-no" else {})


def _decided(meaning: ObservationMeaning, value: LocalValue, without: dict[str, bool]) -> Any:
    """Return the meaning of a code that decides; any other is `otherwise` of the partner's file, or a part to be read."""
    matches = value.meanings(meaning.meanings or without)
    if not matches and meaning.otherwise is not None:
        return meaning.otherwise
    if len(matches) != 1:
        value.to_read()
        return None
    return matches[0]


def _add_need_or_flag(local_values: LocalValues, meaning: ObservationMeaning, value: LocalValue) -> None:
    """Add the need or flag of a meaning if the value is a code for yes, or any text."""
    if value.is_coded or meaning.values or value.meanings(YES_NO):
        if _decided(meaning, value, YES_NO) is not True:
            return
        words = field_paths.display_text(value.one) if value.is_coded else None
        is_yes = fold(words or "") in {**YES_NO, **meaning.meanings}
        text = meaning.label if is_yes else field_paths.labelled(meaning.label, words)
    else:
        text = f"{meaning.label}: {value.display_text}"
    if meaning.need:
        local_values.needs.append((meaning.need, text, snomed(value.one)))
    else:
        local_values.flags.append({"code": meaning.flag, "text": text})


_LONGEST_CODE = 300


def _flag(meaning: ObservationMeaning, value: LocalValue) -> dict[str, Any]:
    """Return a risk flag by its agreed code, or as sent; with agreed codes, any other is a part to be read too."""
    matches = value.meanings(meaning.meanings)
    if len(matches) > 1 or (meaning.meanings and not matches):
        value.to_read()
    code = str(matches[0] if matches else value.codes[0])
    if len(code) > _LONGEST_CODE:
        code = meaning.label
    return drop_empty({"code": code, "text": value.display_text if value.display_text != code else None})


def _need(local_values: LocalValues, profile: PartnerProfile, value: LocalValue) -> None:
    need = value.meaning(profile.needs.meanings)
    if need is None:
        value.to_read()
        local_values.texts.append(value.shown)
        return
    texts = [text for text in (need.label, value.display_text) if text and text not in value.codes]
    local_values.needs.append((need.service, ": ".join(unique(texts)) or None, snomed(value.one)))


def _reason(local_values: LocalValues, profile: PartnerProfile, value: LocalValue) -> None:
    code = value.meaning(profile.reasons.meanings)
    local_values.reason = local_values.reason or code
    if code is None or (value.display_text and value.display_text not in value.codes):
        local_values.texts.append(value.shown)


def _consent(local_values: LocalValues, place: str, meaning: ObservationMeaning, value: LocalValue) -> None:
    """Store a consent. Of two answers the later counts, and 'no' if both are of the same day (as in bars_fhir)."""
    answer = _decided(meaning, value, {})
    if answer is None:
        return
    observation = value.observation
    words = field_paths.display_text(value.one) if value.is_coded else None
    if words and fold(words) not in {**YES_NO, **meaning.meanings}:
        local_values.texts.append(f"{meaning.label}: {words}")
    on, by = (
        (read_date(observation.first(14)), full_professional(observation.first(16))) if observation else (None, None)
    )
    now = {"answer": answer, "on": on, "by": by}
    before = local_values.values.get(place)
    if before is None or _rank(now) >= _rank(before):
        local_values.values[place] = {name: one for name, one in now.items() if one}
        local_values.sources[place] = value.place


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
