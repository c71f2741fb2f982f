"""A good HL7 v2 message of University Hospitals of Leicester, and a model of what its messages have said, unit by unit.

The model is what tests expect of the product; it shares no code with it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from tests.field.variants import Sent
from tests.field.variants.draw import LONDON, Draw

PRECISIONS = ("minute", "second", "fraction", "offset")
NULL = '""'


def stamp(draw: Draw, minutes_ago: int, precision: str = "second") -> str:
    """Return the time so many minutes before now as MSH-7, in London's time unless it has an offset."""
    at = draw.now.replace(second=0) - timedelta(minutes=minutes_ago)
    local = at.astimezone(LONDON)
    match precision:
        case "minute":
            return f"{local:%Y%m%d%H%M}"
        case "fraction":
            return f"{local:%Y%m%d%H%M%S}.{draw.between(0, 999_999):06d}"
        case "offset":
            return f"{at:%Y%m%d%H%M%S}+0000"
        case _:
            return f"{local:%Y%m%d%H%M%S}"


def segment(name: str, fields: Mapping[int, str]) -> str:
    """A segment by its numbered fields."""
    return "|".join([name, *(fields.get(number, "") for number in range(1, max(fields, default=0) + 1))])


class Ward:
    """A REF^I12 about a new inpatient.

    `fields`: the segments that occur once; `observations`: OBX with their notes, before PV1 (HL7 v2.5 11.3.2); `behind`: what follows
    PV1 and PV2.
    """

    def __init__(self, draw: Draw, *, stays: bool = True) -> None:
        self.draw = draw
        self.family, self.number = draw.word(), draw.nhs_number()
        self.hospital_number, self.visit, self.referral_id = (draw.code(one) for one in ("S", "V", "R"))
        self.control_id = draw.code("M")
        self.event, self.minutes_ago, self.precision = "I12", 4000, "second"
        self.header = {3: "UHL_EPR", 4: "RWE", 5: "LIGHTBULB", 6: "LIGHTBULB", 11: "P", 12: "2.5", 18: "UNICODE UTF-8"}
        self.fields: dict[str, dict[int, str]] = {
            "RF1": {1: "A", 2: "R", 3: "ADAPT", 6: self.referral_id, 7: "20261105", 10: "FALLS^Fell twice at home"},
            "PRD": {1: "RP", 2: "Okafor^Chidi^^^Mr", 4: "^^^RWE"},
            "PID": self.identity,
            "PV1": {1: "1", 2: "I" if stays else "O", 3: "WARD 23^B^4^LRI", 19: self.visit, 44: "20261028"},
        }
        self.observations, self.behind = ["OBX|1|CE|LB-CONSENT||Y^Yes||||||F"], list[str]()

    @property
    def identity(self) -> dict[int, str]:
        return {
            1: "1",
            3: f"{self.hospital_number}^^^UHL^MRN~{self.number}^^^^NHS",
            5: f"{self.family}^Iris^^^MRS^^L",
            7: "19480611",
            8: "F",
            11: "4 Beacon Rise^^LOUGHBOROUGH^^LE11 5AA^^H",
            13: "0116 496 0311^PRN^PH",
            32: "NSTS01",
        }

    @property
    def segments(self) -> list[str]:
        kind = "REF" if self.event.startswith("I") else "ADT"
        made = {7: stamp(self.draw, self.minutes_ago, self.precision), 9: f"{kind}^{self.event}", 10: self.control_id}
        header = {number - 1: text for number, text in {**self.header, **made}.items()} | {1: "^~\\&"}
        written = {name: segment(name, said) for name, said in self.fields.items()}
        stay = [written.pop(name) for name in ("PV1", "PV2") if name in written]
        return [segment("MSH", header), *written.values(), *self.observations, *stay, *self.behind]

    def sent(self, end: str = "\r", encoding: str = "utf-8") -> Sent:
        return Sent("".join(one + end for one in self.segments).encode(encoding), "uhl", path="")

    def later(self, event: str, minutes_ago: int, **fields: Mapping[int, str]) -> "Ward":
        """Return another message of the same referral and visit that says who it is about, and these fields, and no more."""
        made = Ward.__new__(Ward)
        made.__dict__.update(self.__dict__)
        made.control_id = self.draw.code("M")
        made.event, made.minutes_ago, made.precision = event, minutes_ago, self.draw.one_of(PRECISIONS)
        known = {
            3: f"{self.hospital_number}^^^UHL^MRN~{self.number}^^^^NHS",
            5: f"{self.family}^Iris^^^MRS^^L",
            7: "19480611",
        }
        start: dict[str, dict[int, str]] = (
            {"RF1": {6: self.referral_id}} if event.startswith("I") else {"EVN": {1: event}}
        )
        start["PID"] = {1: "1", **known}
        made.fields = {name: {**start.get(name, {}), **fields.get(name, {})} for name in [*start, *fields]}
        made.observations, made.behind = [], []
        return made


# ---- what was said when -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Unit:
    """A field, or a group of one key, that a message says, deletes or leaves unsaid.

    `values` draws its HL7 text and what it means; `check` is what must be read of it, if it is said, or deleted (None), or no
    longer said (`before`: everything else that it meant earlier). `adds`: a value stands next to earlier ones, until all are deleted.
    """

    place: str
    values: Callable[[Draw], tuple[str, Any]]
    path: str
    check: Callable[[Any, list[Any]], dict[str, list[Any]]]
    deletable: bool = True
    adds: bool = False


def _is(meaning: Any, _: list[Any]) -> dict[str, list[Any]]:
    return {"is": [meaning]}


def _is_or(default: Any) -> Callable[[Any, list[Any]], dict[str, list[Any]]]:
    return lambda meaning, _: {"is": [default if meaning is None else meaning]}


def _holds(meaning: Any, before: list[Any]) -> dict[str, list[Any]]:
    said = [] if meaning is None else meaning if isinstance(meaning, list) else [meaning]
    gone = [one for other in before for one in (other if isinstance(other, list) else [other]) if one not in said]
    return {"has": said, "lacks": gone}


def _one_of(**options: Any) -> Callable[[Draw], tuple[str, Any]]:
    return lambda draw: draw.one_of(list(options.items()))


def _day(draw: Draw) -> tuple[str, str]:
    day = draw.between(10, 28)
    return f"202810{day}", f"2028-10-{day}"


def _phones(draw: Draw) -> tuple[str, list[str]]:
    numbers = [f"{draw.phone()}{draw.between(10, 99)}" for _ in range(draw.between(1, 2))]
    return "~".join(f"{one}^PRN^PH" for one in numbers), numbers


def _word(draw: Draw) -> tuple[str, str]:
    word = draw.word()
    return word, word


def _needs(draw: Draw) -> tuple[str, list[str]]:
    chosen = draw.shuffled(list(NEEDS))[: draw.between(1, 3)]
    return "~".join(chosen), [NEEDS[one] for one in chosen]


def _place(draw: Draw) -> tuple[str, str]:
    ward = draw.word().upper()
    return f"{ward}^B^4^{draw.one_of(['LRI', 'GH'])}", ward


def _address(draw: Draw) -> tuple[str, str]:
    street = draw.word()
    return f"7 {street} Row^^LOUGHBOROUGH^^{draw.postcode()}^^H", street


def _practice(draw: Draw) -> tuple[str, str]:
    code = draw.one_of(["C82991", "C82992", "C82993"])
    return f"Surgery^^^^^^^^^{code}", code


NEEDS = {
    "ADAPT": "minor-adaptations",
    "WARM": "affordable-warmth",
    "HANDY": "handyperson",
    "CLEAR": "house-clearance",
    "FURN": "furniture",
}

UNITS = (
    Unit("RF1-2", _one_of(URGENT="urgent", R="routine", A="asap", S="stat"), "referral.priority", _is_or("routine")),
    Unit("RF1-3", _needs, "referral.needs[].service", _holds, deletable=False),
    Unit("PID-11", _address, "referral.person.address", _holds),
    Unit("PID-13", _phones, "referral.person", _holds),
    Unit("PID-14", _phones, "referral.person", _holds),
    Unit("PID-15", _one_of(ENG="en", GUJ="gu", POL="pl"), "referral.person.language", _is),
    Unit("PD1-3", _practice, "referral.registered_practice.ods", _is),
    Unit("PV1-3", _place, "referral.hospital.ward", _is, deletable=False),
    Unit("PV2-9", _day, "referral.expected_discharge_on", _is),
    Unit("NK1", _word, "referral.contacts", _holds, deletable=False),
    Unit("NTE", _word, "referral.reason.text", _holds),
    Unit("NTE ACC", _word, "referral.person.communication_needs[]", _holds),
    Unit("OBX LB-DOG", _one_of(Y="dog"), "referral.risk_flags[].code", _holds),
    Unit("OBX LB-RISK", _word, "referral.risk_flags", _holds, adds=True),
    Unit("OBX LB-INTERP", _one_of(Y=True, N=False), "referral.person.interpreter_needed", _is),
    Unit("OBX LB-CONSENT-GP", _one_of(Y="yes", N="no"), "referral.consents.feedback.answer", _is_or("not-recorded")),
    Unit("OBX LB-PATHWAY", _one_of(P0=0, P1=1, P2=2, P3=3), "referral.hospital.pathway", _is),
    Unit("OBX LB-RFT", _day, "referral.ready_for_transfer_on", _is),
    Unit("OBX LB-KEYSAFE", _one_of(Y="home-security"), "referral.needs[].service", _holds),
)
BY_PLACE = {unit.place: unit for unit in UNITS}
ADT_PLACES = ("PID-11", "PID-13", "PID-14", "PID-15", "PV1-3", "PV2-9")
"""Units that an ADT may say."""


@dataclass
class Held:
    """What the messages of one referral have said: for each unit its meaning, with the time of the message that said it last."""

    said: dict[str, tuple[int, Any]] = field(default_factory=dict)
    """By place: minutes before now, and the meaning; None if it was deleted."""
    added: dict[str, list[tuple[int, Any]]] = field(default_factory=dict)
    """The same for units whose values stand next to each other: everything that was said."""
    meant: dict[str, list[Any]] = field(default_factory=dict)
    """By place: everything that was meant in any message."""

    def apply(self, minutes_ago: int, units: Mapping[str, Any]) -> None:
        """Take what a message says of each unit, unless a later message has said it."""
        for place, meaning in units.items():
            if meaning is not None:
                self.meant.setdefault(place, []).append(meaning)
            if BY_PLACE[place].adds:
                self._add(place, minutes_ago, meaning)
            elif place not in self.said or self.said[place][0] >= minutes_ago:
                self.said[place] = minutes_ago, meaning

    def _add(self, place: str, minutes_ago: int, meaning: Any) -> None:
        """Take a value that stands next to others; a deletion deletes those of earlier messages."""
        told = self.added.setdefault(place, [])
        told.append((minutes_ago, meaning))
        deleted = min((ago for ago, one in told if one is None), default=None)
        left = [one for ago, one in told if one is not None and (deleted is None or ago < deleted)]
        self.said[place] = minutes_ago, left

    def reading(self) -> dict[str, dict[str, list[Any]]]:
        """Return what must be read, as an expectation of the newest event."""
        checks: dict[str, dict[str, list[Any]]] = {}
        now = {path: self._now(path) for path in {BY_PLACE[place].path for place in self.said}}
        for place, (_, meaning) in self.said.items():
            unit = BY_PLACE[place]
            before = [one for one in self._meant(unit.path) if one not in now[unit.path]]
            for name, values in unit.check(meaning, before).items():
                known = checks.setdefault(unit.path, {}).setdefault(name, [])
                known += [one for one in values if one not in known]
        return checks

    def _now(self, path: str) -> list[Any]:
        return _flat(meaning for place, (_, meaning) in self.said.items() if BY_PLACE[place].path == path)

    def _meant(self, path: str) -> list[Any]:
        return _flat(one for place, all_ in self.meant.items() if BY_PLACE[place].path == path for one in all_)


def _flat(meanings: Iterable[Any]) -> list[Any]:
    return [one for said in meanings if said is not None for one in (said if isinstance(said, list) else [said])]


def say(message: Ward, texts: Mapping[str, str | None]) -> None:
    """Write units into a message: a field, or the segments of a group. None deletes it."""
    for place, text in texts.items():
        name, _, key = (
            place.replace("-", " ", 1).partition(" ") if place[:3] not in ("OBX", "NTE") else place.partition(" ")
        )
        if name == "OBX":
            message.observations.append(_observation(message.draw, key, text))
        elif name == "NTE":
            message.fields.setdefault("PV1", {1: "1"})
            message.behind.append(f"NTE|1||{NULL if text is None else text}" + (f"|{key}" if key else ""))
        elif name == "NK1":
            message.fields["NK1"] = {1: "1", 2: f"{text}^JUNE", 3: "SIS^Sister"}
        else:
            message.fields.setdefault(name, {1: "1"} if name in ("PV1", "PID") else {})[int(key)] = (
                NULL if text is None else text
            )


def _observation(draw: Draw, code: str, text: str | None) -> str:
    if text is None and draw.chance():
        return f"OBX|1|ST|{code}||||||||{draw.one_of('DW')}"
    return f"OBX|1|ST|{code}||{NULL if text is None else text}||||||F"
