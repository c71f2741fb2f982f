"""NHS number: ten digits with a modulus 11 check, and the verification status that the sender stated."""

from enum import StrEnum
from typing import Annotated

from nhs_number.validate import is_valid as _passes_check
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
    digits = len(value) == 10 and value.isascii() and value.isdigit() and len(set(value)) > 1
    return digits and bool(_passes_check(value))


def _checked(value: str) -> str:
    digits = normalise(value)
    if not is_valid(digits):
        raise ValueError("not a valid NHS number: ten digits with a modulus 11 check digit are expected")
    return digits


NhsNumber = Annotated[str, AfterValidator(_checked)]
"""Ten digits, no blanks."""
