"""Decide whether a referral is about a person under the same key, or about another person.

The result does not depend on the order of arrival. On disagreement there are two persons under one key, and the less certain one is
provisional.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
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
    """Identity of the person as one referral gives it.

    Two descriptions are of one person if `by_name` or `by_verification` is the same. Each is a hash of what it compares, None if a part
    is missing.
    """

    nhs_number: str | None
    verified: bool
    by_name: str | None
    """Number, birth date and surname without accents, case and hyphens."""
    by_verification: str | None
    """Number and birth date, if the number is verified."""

    @classmethod
    def of(cls, person: Person) -> "Description":
        """Return the identity of `person`."""
        number, birth_date, surname = person.nhs_number, person.birth_date, fold_name(person.family_name)
        verified = number is not None and person.nhs_number_status is VerificationStatus.VERIFIED
        comparable = number is not None and birth_date is not None
        by_name = _hash(number, birth_date, surname) if comparable and surname else None
        return cls(number, verified, by_name, _hash(number, birth_date) if comparable and verified else None)

    @property
    def keys(self) -> tuple[str, ...]:
        """Values that are the same in another description of the person."""
        return tuple(filter(None, (self.by_verification, self.by_name)))


def _hash(*parts: object) -> str:
    return blake2b("|".join(map(str, parts)).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Candidates:
    """The persons under a key, as a new referral is compared with them.

    `matching`: the one that it is about. `exist`: there are some. `verified`: a sender verified the number of one. `undoubted`: those who
    do not differ from another, each with whether a sender verified the number.
    """

    matching: int | None = None
    exist: bool = False
    verified: bool = False
    undoubted: Mapping[int, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Match:
    """Person that a referral is about. `person_no` None: a new one. `doubted`: persons of whom it makes doubtful who they are."""

    person_no: int | None
    tracing_reasons: tuple[Doubt, ...] = ()
    doubted: tuple[int, ...] = ()

    @property
    def provisional(self) -> bool:
        """True if the person of the referral is not certain."""
        return bool(self.tracing_reasons)


def match(person: Person, candidates: Candidates) -> Match:
    """Return which of the persons under the referral's key it is about."""
    if person.nhs_number is None:
        failed = person.nhs_number_status is VerificationStatus.FAILED_CHECK
        return Match(None, ("number-failed-check" if failed else "no-number",))
    if candidates.matching is not None:
        return Match(candidates.matching)
    return _separate_person(Description.of(person), candidates)


def _separate_person(description: Description, candidates: Candidates) -> Match:
    """Return a new person.

    Of two persons, the verified one is certain; if both or neither are verified, both are provisional.
    """
    if not candidates.exist:
        return Match(None)
    certain = description.verified and not candidates.verified
    doubted = tuple(number for number, verified in candidates.undoubted.items() if not verified or description.verified)
    return Match(None, () if certain else ("does-not-match",), doubted)
