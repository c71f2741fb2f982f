"""How a hospital stay is identified: by its visit number, else by hospital number, site and day of admission.

An NHS number never identifies a stay: it is the person's, who may be in another hospital.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from schemas import nhs_number
from services.intake import limits
from services.intake.translators.hl7v2.dates import read_date
from services.intake.translators.hl7v2.er7 import Hl7Message, Repetition
from services.intake.translators.hl7v2.partner_profile import PartnerProfile, fold
from services.intake.translators.hl7v2.person import is_national, system_of
from services.intake.translators.hl7v2.visit import is_stay, site_at

AssignedId = tuple[str, str]
"""An assigning authority and an identifier that is unique within it."""


@dataclass(frozen=True, slots=True)
class StayIdentity:
    """The visit numbers and hospital numbers of a message or of a referral, the sites and the day of admission.

    `is_test`: of a test message, whose stays are kept apart. `sites` has two in a transfer: the new one and the one before.
    """

    visits: frozenset[AssignedId] = frozenset()
    numbers: frozenset[AssignedId] = frozenset()
    sites: frozenset[str] = frozenset()
    admitted_on: date | None = None
    is_test: bool = False

    def is_same(self, held: "StayIdentity") -> bool:
        """Return whether both are one stay. Two visit numbers of one authority that differ are two stays."""
        if self.visits and held.visits:
            if self.visits & held.visits:
                return True
            if {authority for authority, _ in self.visits} & {authority for authority, _ in held.visits}:
                return False
        is_same_day = self.admitted_on is not None and self.admitted_on == held.admitted_on
        return is_same_day and bool(self.sites & held.sites) and bool(self.numbers & held.numbers)

    @property
    def stay_keys(self) -> frozenset[str]:
        """Keys by which the referrals of this stay are found."""
        visits = {self._key("visit", *visit) for visit in self.visits}
        if self.admitted_on is None:
            return frozenset(visits)
        day = self.admitted_on.isoformat()
        by_number = {self._key("stay", *one, site, day) for one in self.numbers for site in self.sites}
        return frozenset(visits | by_number)

    @property
    def number_keys(self) -> frozenset[str]:
        """Keys by which the referrals of a person with one of these hospital numbers are found."""
        return frozenset(self._key("number", *one) for one in self.numbers)

    def _key(self, *parts: str) -> str:
        named = "\n".join(("test" if self.is_test else "", *parts))
        return hashlib.sha256(named.encode("utf-8", "surrogatepass")).hexdigest()


def of_message(
    message: Hl7Message, profile: PartnerProfile, *, is_test: bool = False, places: tuple[str, ...] = ("PV1-3",)
) -> StayIdentity:
    """Return what identifies the stay in a message or in the state of a referral; of no stay, only the hospital numbers.

    `places`: the fields of the location.
    """
    numbers = frozenset(hospital_numbers(message.repetitions("PID", 3), profile))
    if not message.all("PV1") or not is_stay(message, profile):
        return StayIdentity(numbers=numbers, is_test=is_test)
    sites = (site_at(message, profile, place) for place in places)
    return StayIdentity(
        visits=frozenset(_visits(message)),
        numbers=numbers,
        sites=frozenset(fold(site) for site in sites if site),
        admitted_on=read_date(message.first("PV1", 44)),
        is_test=is_test,
    )


def _visits(message: Hl7Message) -> Iterator[AssignedId]:
    for one in message.repetitions("PV1", 19)[: limits.HL7_VISIT_IDS]:
        if number := one.code():
            yield _authority(one), number


def hospital_numbers(identifiers: list[Repetition], profile: PartnerProfile) -> Iterator[AssignedId]:
    """Yield each identifier (CX) that is not an NHS number and whose authority is known, by CX-4 or by an agreed type."""
    for one in identifiers[: limits.HL7_VISIT_IDS]:
        number = one.code()
        authority = _authority(one) or system_of(one, profile)
        if number and authority and not is_national(one, profile) and not _may_be_national(number):
            yield authority, number


def _may_be_national(number: str) -> bool:
    return nhs_number.is_valid(nhs_number.normalise(number))


def _authority(one: Repetition) -> str:
    """Return the first part of CX-4 that is given; "" is the partner."""
    return fold(next(filter(None, one.subcomponents(4)), ""))
