"""Fillers: what people and systems enter if they do not know a number, a date or a name. Reviewed data of one installation."""

from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from schemas import text
from schemas.model import ShortText, StrictInput
from schemas.nhs_number import NhsNumber
from services.reference import yaml_files
from services.reference.directory.model import Day

FILE = "fillers.yaml"
_EDGES = " .,:;!?*-_()[]<>\"'"


def _folded(name: str) -> str:
    return text.fold(name).strip(_EDGES)


def _has_letters(name: str) -> str:
    if not any(map(str.isalnum, name)):
        raise ValueError("has no letter or digit: such a name counts as not given without being listed")
    return name


class Fillers(StrictInput):
    """The file fillers.yaml. Ten equal digits are never an NHS number, and are not listed."""

    nhs_numbers: tuple[NhsNumber, ...] = Field(
        (), description="NHS numbers that pass the check and belong to no person"
    )
    dates: tuple[Day, ...] = Field((), description="Dates that are entered if none is known")
    names: tuple[Annotated[ShortText, AfterValidator(_has_letters)], ...] = Field(
        (), description="Names that are entered if none is known; case and punctuation around them do not count"
    )

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(map(_folded, self.names))

    def is_number(self, digits: str) -> bool:
        """Return whether ten digits are a filler."""
        return digits in self.nhs_numbers

    def is_date(self, day: date) -> bool:
        """Return whether a date is a filler."""
        return day in self.dates

    def is_name(self, name: str) -> bool:
        """Return whether a whole name is a filler, or consists of fillers: `Unknown.`, `(unknown)`, `UNKNOWN, UNKNOWN`, `FNU LNU`."""
        if not self.names:
            return False
        words = name.replace(",", " ").split()
        return _folded(name) in self._names or (bool(words) and all(_folded(word) in self._names for word in words))


NO_FILLERS = Fillers()
"""Nothing is a filler."""


def load(folder: Path) -> Fillers:
    """Load the fillers of a folder of reviewed data. Raise ConfigError."""
    file = yaml_files.load(folder / FILE, Fillers)
    if issues := [
        file.issue((name, place), f"{values[place]} is listed twice")
        for name, values in (
            ("nhs_numbers", file.value.nhs_numbers),
            ("dates", file.value.dates),
            ("names", [_folded(one) for one in file.value.names]),
        )
        for place in yaml_files.duplicates(values)
    ]:
        raise yaml_files.ConfigError(issues)
    return file.value
