"""The fields that are read from every message, and those that a partner's file adds."""

from collections.abc import Iterator
from itertools import chain

from services.intake.translators.hl7v2.er7 import FieldSelection, Hl7Message, Repetition
from services.intake.translators.hl7v2.partner_profile import PartnerProfile

READ: FieldSelection = {
    "MSH": (3, 4, 14),
    "DSC": (),
    "RF1": (1, 2, 3, 6, 7, 9, 10),
    "PRD": (1, 2, 5, 7),
    "PID": (3, 5, 7, 8, 11, 13, 14, 15, 29, 30, 32, 40),
    "PD1": (3, 4, 12),
    "ARV": (2, 3),
    "ROL": (3, 4),
    "NK1": (2, 3, 5, 6),
    "PV1": (2, 3, 36, 37, 44, 45),
    "PV2": (9,),
    "DG1": (3,),
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


def texts(message: Hl7Message, place: str) -> Iterator[tuple[Repetition, str]]:
    """Yield each repetition in which this place has a value, with the value."""
    name, number, component = split(place)
    for one in message.repetitions(name, number):
        if value := one.text(component):
            yield one, value


def coded(message: Hl7Message, place: str) -> Iterator[tuple[Repetition, str]]:
    """Yield as `texts`; for a coded element (CE) without a code, the value is its text."""
    name, number, component = split(place)
    for one in message.repetitions(name, number):
        if value := one.text(component) or (one.text(2) if component == 1 else None):
            yield one, value


def text(message: Hl7Message, *paths: str) -> str | None:
    """Return the value of the first of these places that has one, or None."""
    return next((value for _, value in chain.from_iterable(texts(message, place) for place in paths)), None)
