"""Decides whether a referral is about a person that we know under the same key, or about somebody else.

Symmetric: who comes first does not matter. On disagreement there are two persons under one key, and the less certain is provisional.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from schemas.nhs_number import VerificationStatus
from schemas.referral import Person

Doubt = Literal["no-number", "number-failed-check", "does-not-match", "number-changed", "no-longer-matches"]
"""Why somebody must find out who a person is: an entry of the tracing queue."""


@dataclass(frozen=True, slots=True)
class Description:
    """What one referral says of who the person is."""

    nhs_number: str | None
    verified: bool
    birth_date: date | None
    surname: str

    @classmethod
    def of(cls, person: Person) -> "Description":
        """What `person` says, with the surname folded."""
        verified = person.nhs_number is not None and person.nhs_number_status is VerificationStatus.VERIFIED
        return cls(person.nhs_number, verified, person.birth_date, fold_name(person.family_name))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A person under the key, as the referrals that are theirs describe them."""

    person_no: int
    descriptions: tuple[Description, ...]

    @property
    def verified(self) -> bool:
        """True where at least one sender had verified the number."""
        return any(description.verified for description in self.descriptions)


@dataclass(frozen=True, slots=True)
class Match:
    """Who it is about. `person_no` none: a person of their own. `doubted`: known persons who are provisional from now on."""

    person_no: int | None
    tracing_reasons: tuple[Doubt, ...] = ()
    doubted: tuple[int, ...] = ()

    @property
    def provisional(self) -> bool:
        """True where the person of the referral is not certain."""
        return bool(self.tracing_reasons)


def match(person: Person, candidates: Sequence[Candidate]) -> Match:
    """Which of `candidates` (the persons under the referral's key) it is about; verified ones are asked first."""
    if person.nhs_number is None:
        failed = person.nhs_number_status is VerificationStatus.FAILED_CHECK
        return Match(None, ("number-failed-check" if failed else "no-number",))
    sought = Description.of(person)
    for candidate in sorted(candidates, key=lambda existing: (not existing.verified, existing.person_no)):
        if any(same_person(sought, description) for description in candidate.descriptions):
            return Match(candidate.person_no)
    return _separate_person(sought, candidates)


def _separate_person(description: Description, candidates: Sequence[Candidate]) -> Match:
    """The verified one of two is certain; where both are, or neither is, nobody is."""
    if not candidates:
        return Match(None)
    existing_is_certain = any(candidate.verified for candidate in candidates)
    certain = description.verified and not existing_is_certain
    doubted = tuple(existing.person_no for existing in candidates if not existing.verified or description.verified)
    return Match(None, () if certain else ("does-not-match",), doubted)


def same_person(one: Description, other: Description) -> bool:
    """Two verified numbers: number and birth date decide. Otherwise the surname must agree too. What is missing does not agree."""
    if one.nhs_number is None or one.nhs_number != other.nhs_number:
        return False
    if one.birth_date is None or one.birth_date != other.birth_date:
        return False
    if one.verified and other.verified:
        return True
    return bool(one.surname) and one.surname == other.surname


def fold_name(name: str | None) -> str:
    """A surname without what people write differently: accents, case, hyphens, apostrophes, blanks."""
    if name is None:
        return ""
    if name.isascii():
        return "".join(filter(str.isalnum, name.lower()))
    spread = unicodedata.normalize("NFKD", name.translate(_LETTERS)).casefold()
    return "".join(letter for letter in unicodedata.normalize("NFKD", spread) if letter.isalnum())


_LETTERS = str.maketrans(
    {"ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "ı": "i", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE"}
)
"""Letters that Unicode does not take apart into a letter and a mark."""
