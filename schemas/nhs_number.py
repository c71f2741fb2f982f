"""NHS number: ten digits with a modulus 11 check, and the verification status that the sender stated."""

from enum import StrEnum
from operator import mul
from typing import Annotated

from pydantic import AfterValidator


class VerificationStatus(StrEnum):
    """How far the sender verified the number; never assumed. Codes of UK Core's NHSNumberVerificationStatusEngland.

    The last two codes are additions: not stated, and failed its check (accepted from HL7 senders only).
    """

    VERIFIED = "01"
    NOT_TRACED = "02"
    TRACE_REQUIRED = "03"
    NO_OR_MANY_MATCHES = "04"
    TO_BE_RESOLVED = "05"
    TRACE_IN_PROGRESS = "06"
    NOT_PRESENT = "07"
    POSTPONED = "08"
    NOT_STATED = "not-stated"
    FAILED_CHECK = "failed-check"


def normalise(value: str) -> str:
    """Remove the blanks and hyphens that people write: '943 476 5919' becomes '9434765919'."""
    return value.replace(" ", "").replace("-", "")


def is_valid(value: str) -> bool:
    """Return True for ten digits that end in their modulus 11 check digit (NHS Data Dictionary, NHS NUMBER).

    Ten equal digits, such as 9999999999, pass the check and are typed if there is no number: they are not one.
    """
    if len(value) != 10 or not value.isascii() or not value.isdigit() or len(set(value)) == 1:
        return False
    weighted: int = sum(map(mul, _WEIGHTS, map(int, value)))
    return weighted % 11 == 0


_WEIGHTS = range(10, 0, -1)
"""Weights of the digits; that of the check digit is 1."""


def _checked(value: str) -> str:
    digits = normalise(value)
    if not is_valid(digits):
        raise ValueError("not a valid NHS number: ten digits with a modulus 11 check digit are expected")
    return digits


NhsNumber = Annotated[str, AfterValidator(_checked)]
"""Ten digits, no blanks."""
