"""The registry of field cases.

A case is a function of the addresses of a running installation (the parsed addresses.json). It returns if the product answers rightly,
raises `Wrong` if it does not, and `Unplayed` if it could not find out. Any other exception counts as unplayed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Play = Callable[[dict[str, Any]], None]


class Wrong(Exception):
    """The product's answer is wrong; the text says what was expected and what was seen."""


class Unplayed(Exception):
    """The case could not be played; the text says why."""


@dataclass(frozen=True)
class Case:
    name: str
    """`format/slug`, for example `fhir/do-not-perform`."""
    play: Play
    destructive: bool = False
    """It leaves the installation unusable for other cases: it is played last, in an installation of its own."""


CASES: dict[str, Case] = {}


def case(name: str, *, destructive: bool = False) -> Callable[[Play], Play]:
    """Register a function as the field case `name`."""

    def register(play: Play) -> Play:
        if name in CASES:
            raise ValueError(f"Two field cases are named {name}")
        CASES[name] = Case(name, play, destructive)
        return play

    return register
