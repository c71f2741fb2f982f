"""Decide whether a referral is about a person under the same key, or about another person.

The result does not depend on the order of arrival. On disagreement there are two persons under one key, and the less certain one is
provisional.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from schemas.nhs_number import VerificationStatus
from schemas.referral import Person
from schemas.text import fold_name

Doubt = Literal[
    "no-number",
    "number-failed-check",
    "does-not-match",
    "number-changed",
    "no-longer-matches",
    "contradicted",
    "merge-proposed",
]
"""Why a person must be traced: an entry of the tracing queue. The last two do not make a person provisional: a message said it
that was not applied, so nothing that is known of the person has changed."""


@dataclass(frozen=True, slots=True)
class Description:
    """Identity of the person as one referral gives it."""

    nhs_number: str | None
    verified: bool
    birth_date: date | None
    surname: str

    @classmethod
    def of(cls, person: Person) -> "Description":
        """Return the identity of `person`, with the surname folded."""
        verified = person.nhs_number is not None and person.nhs_number_status is VerificationStatus.VERIFIED
        return cls(person.nhs_number, verified, person.birth_date, fold_name(person.family_name))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A person under the key, as that person's referrals describe them."""

    person_no: int
    descriptions: tuple[Description, ...]

    @property
    def verified(self) -> bool:
        """True if at least one sender had verified the number."""
        return any(description.verified for description in self.descriptions)


@dataclass(frozen=True, slots=True)
class Match:
    """Person that a referral is about. `person_no` None: a new one. `doubted`: persons who become provisional."""

    person_no: int | None
    tracing_reasons: tuple[Doubt, ...] = ()
    doubted: tuple[int, ...] = ()

    @property
    def provisional(self) -> bool:
        """True if the person of the referral is not certain."""
        return bool(self.tracing_reasons)


def match(person: Person, candidates: Sequence[Candidate]) -> Match:
    """Return which of the persons under the referral's key it is about; verified ones are compared first."""
    if person.nhs_number is None:
        failed = person.nhs_number_status is VerificationStatus.FAILED_CHECK
        return Match(None, ("number-failed-check" if failed else "no-number",))
    sought = Description.of(person)
    for candidate in sorted(candidates, key=lambda existing: (not existing.verified, existing.person_no)):
        if any(same_person(sought, description) for description in candidate.descriptions):
            return Match(candidate.person_no)
    return _separate_person(sought, candidates)


def _separate_person(description: Description, candidates: Sequence[Candidate]) -> Match:
    """Return a new person.

    Of two persons, the verified one is certain; if both or neither are verified, both are provisional.
    """
    if not candidates:
        return Match(None)
    existing_is_certain = any(candidate.verified for candidate in candidates)
    certain = description.verified and not existing_is_certain
    doubted = tuple(existing.person_no for existing in candidates if not existing.verified or description.verified)
    return Match(None, () if certain else ("does-not-match",), doubted)


def same_person(one: Description, other: Description) -> bool:
    """Return True if number and birth date agree and, unless both numbers are verified, the surname too.

    A missing value does not agree with anything.
    """
    if one.nhs_number is None or one.nhs_number != other.nhs_number:
        return False
    if one.birth_date is None or one.birth_date != other.birth_date:
        return False
    if one.verified and other.verified:
        return True
    return bool(one.surname) and one.surname == other.surname
