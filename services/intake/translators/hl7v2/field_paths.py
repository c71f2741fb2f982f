"""The fields that are read from every message, those that a partner's file adds, and what their codes mean."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import TypeVar

from services.intake.translators.hl7v2.er7 import FieldSelection, Hl7Message, Repetition
from services.intake.translators.hl7v2.partner_profile import PartnerProfile, fold

T = TypeVar("T")

READ: FieldSelection = {
    "MSH": (3, 4, 7, 12, 14),
    "DSC": (),
    "RF1": (1, 2, 3, 6, 7, 9, 10),
    "PRD": (1, 2, 5, 7, 8, 9),
    "PID": (2, 3, 4, 5, 7, 8, 11, 13, 14, 15, 29, 30, 32, 40),
    "PD1": (3, 4, 12, 13),
    "ARV": (2, 3, 6),
    "ROL": (3, 4, 5, 6),
    "NK1": (2, 3, 5, 6, 8, 9),
    "PV1": (2, 3, 16, 19, 36, 37, 44, 45),
    "PV2": (9,),
    "DG1": (3, 4, 18, 21),
    "OBX": (2, 3, 5, 11, 14, 16),
    "NTE": (3, 4),
}
"""header.py reads the rest of MSH. Other segments are not read: AUT, CTD, EVN, IN1, AL1, SFT and so on."""


def select_fields(profile: PartnerProfile) -> FieldSelection:
    """Return the fields that are read for a partner, by segment."""
    selection = {name: set(numbers) for name, numbers in READ.items()}
    for place in profile.field_paths:
        name, number, _ = split(place)
        selection.setdefault(name, set()).add(number)
    return {name: tuple(sorted(numbers)) for name, numbers in selection.items()}


def split(place: str) -> tuple[str, int, int]:
    """Split a field path: PV1-3.4 is ('PV1', 3, 4), PV1-3 its first component."""
    name, _, rest = place.partition("-")
    number, _, component = rest.partition(".")
    return name, int(number), int(component or 1)


# ---- texts -----------------------------------------------------------------------------------------------------------


def texts(message: Hl7Message, place: str) -> Iterator[tuple[Repetition, str]]:
    """Yield each repetition in which this place has a value, with the value."""
    name, number, component = split(place)
    for one in message.repetitions(name, number):
        if value := one.text(component):
            yield one, value


def text(message: Hl7Message, *paths: str) -> str | None:
    """Return the value of the first of these places that has one, or None."""
    return next((value for _, value in chain.from_iterable(texts(message, place) for place in paths)), None)


def only(message: Hl7Message, name: str, number: int) -> Repetition | None:
    """Return the value of a field that has one; another, different one is a part to be read."""
    given = message.repetitions(name, number)
    for other in given[1:]:
        if other.whole.strip() != given[0].whole.strip():
            other.reading.to_read(other.place, "invariant", other.prose())
    return given[0] if given else None


def parts(message: Hl7Message, place: str) -> Iterator[str]:
    """Yield each subcomponent at this place that has a value, such as the parts of an authority (HD)."""
    name, number, component = split(place)
    for one in message.repetitions(name, number):
        yield from filter(None, one.subcomponents(component))


# ---- codes -----------------------------------------------------------------------------------------------------------


def coded(message: Hl7Message, place: str) -> Iterator[tuple[Repetition, list[str]]]:
    """Yield each repetition in which this place has codes or words, with them."""
    name, number, component = split(place)
    for one in message.repetitions(name, number):
        if here := codes(one, component):
            yield one, here


def codes(one: Repetition, component: int = 1) -> list[str]:
    """Return the code and the alternative code of a coded element (CE, CWE), or its words if it has no code.

    Of a component other than the first, return its text.
    """
    if component != 1:
        return [value] if (value := one.text(component)) else []
    coded = [code for number in (1, 4) if (code := one.text(number))]
    return coded or [text for number in (2, 5) if (text := one.text(number))]


def destinations(message: Hl7Message, *numbers: int) -> list[str]:
    """Return the codes of PV1-36 or PV1-37. From 2.7 on, a location (DLD) is a coded element in subcomponents."""
    given = [one for number in numbers for one in message.repetitions("PV1", number)]
    return [code for one in given for code in (*codes(one), *one.subcomponents()) if code]


def display_text(one: Repetition) -> str | None:
    """Return the words of a coded element: its text, alternative text and original text (CWE.9), each if it says more."""
    said: list[str] = []
    for number in (2, 5, 9):
        text = one.text(number)
        if text and not any(fold(text) in fold(other) for other in said):
            said = [*(other for other in said if fold(other) not in fold(text)), text]
    return "; ".join(said) or None


def labelled(label: str, words: str | None) -> str:
    """Return a label, with the words that were sent with its code, unless the label has them."""
    return f"{label}: {words}" if words and fold(words) not in fold(label) else label


def meanings(codes: Iterable[str], table: Mapping[str, T]) -> list[T]:
    """Return the different meanings that these codes have in a table by folded codes."""
    different: list[T] = []
    for code in codes:
        means = table.get(fold(code))
        if means is not None and means not in different:
            different.append(means)
    return different


def meaning(one: Repetition, table: Mapping[str, T], component: int = 1, *, decides: bool = False) -> T | None:
    """Return the agreed meaning of a coded element, or None.

    Codes with different meanings, and an unknown code where a code decides, are a part to be read.
    """
    matches = meanings(codes(one, component), table)
    if len(matches) > 1 or (decides and not matches):
        one.reading.to_read(one.place_of(component), "value", one.prose())
    return matches[0] if len(matches) == 1 else None
