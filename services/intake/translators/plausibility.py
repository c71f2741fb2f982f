"""Judge whether dates and postcodes are plausible: the same rules in every format, by the place of the referral that a date fills."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal

from schemas.dates import in_england
from services.intake.translators import cleaning
from services.reference.fillers import Fillers

OLDEST = 130
"""Greatest age in years that is plausible."""

AHEAD = timedelta(minutes=5)
"""How far the clock of a sender may be ahead."""

EXPECTED_YEARS = 2
"""How many years ahead an expected date may lie."""

EARLIEST_YEAR = 1900
"""Year of the earliest date, except of a birth."""

DateKind = Literal["birth", "past", "expected"]

KINDS: Mapping[str, DateKind] = {
    "person.birth_date": "birth",
    "person.death_reported.died_on": "past",
    "consents.referral.on": "past",
    "consents.feedback.on": "past",
    "consents.evaluation.on": "past",
    "enquired_on": "past",
    "referred_on": "past",
    "hospital.admitted_on": "past",
    "grant.ot_assessment_on": "past",
    "grant.ss127_on": "past",
    "grant.application_on": "past",
    "grant.approval_on": "past",
    "grant.works_on": "past",
    "grant.completion_on": "past",
    "person.address.since": "expected",
    "person.address.until": "expected",
    "person.temporary_address.since": "expected",
    "person.temporary_address.until": "expected",
    "ready_for_transfer_on": "expected",
    "expected_discharge_on": "expected",
    "discharged_on": "expected",
}
"""What a date of the referral is, by its place: of a birth, of what has happened, or of what may be expected."""

IMPLAUSIBLE_BIRTH = f"must not be in the future or more than {OLDEST} years ago"
FILLER_BIRTH = "is a date that is entered if the birth date is not known: leave it empty, or send the birth date"
FILLER_DATE = "is a date that is entered if none is known: it was read as not given"
FILLER_NUMBER = "is a number that is entered if the NHS number is not known: leave it empty, or send the number"
NOT_A_NUMBER = "is not a valid NHS number: ten digits with a modulus 11 check digit"
FILLER_NAME = "is a word that is entered if the name is not known: it was read as not given"
NOT_PAST = f"must be from {EARLIEST_YEAR} to today"
NOT_EXPECTED = f"must be from {EARLIEST_YEAR} to at most {EXPECTED_YEARS} years ahead"
IMPLAUSIBLE: Mapping[DateKind, str] = {"birth": IMPLAUSIBLE_BIRTH, "past": NOT_PAST, "expected": NOT_EXPECTED}
DISCHARGE_AHEAD = "is in the future: it was read as the expected discharge"
IS_AHEAD = "is more than five minutes in the future: correct the clock of the system that sent it"


@dataclass(frozen=True, slots=True)
class DateDoubt:
    """Why a date is not taken. `refuses`: the message is refused; otherwise the date counts as not given, with a warning."""

    explanation: str
    refuses: bool = True


def doubt(place: str, day: date, today: date, fillers: Fillers) -> DateDoubt | None:
    """Return why a date cannot stand at a place of the referral, such as `grant.approval_on`, or None.

    `today`: the day in London on which the message was received. A place without a rule raises KeyError.
    """
    kind = KINDS[place]
    if fillers.is_date(day):
        return DateDoubt(FILLER_BIRTH) if kind == "birth" else DateDoubt(FILLER_DATE, refuses=False)
    earliest = today.year - OLDEST if kind == "birth" else EARLIEST_YEAR
    latest = (today.year + (EXPECTED_YEARS if kind == "expected" else 0), today.month, today.day)
    is_plausible = earliest <= day.year and (day.year, day.month, day.day) <= latest
    return None if is_plausible else DateDoubt(IMPLAUSIBLE[kind])


def is_ahead(sent_at: datetime | None, received_at: datetime) -> bool:
    """Return whether a message claims to be made more than five minutes after it was received."""
    return sent_at is not None and sent_at > received_at + AHEAD


def today(received_at: datetime) -> date:
    """Return the day in London on which a message was received."""
    return in_england(received_at)


# ---- names -----------------------------------------------------------------------------------------------------------

_PLACE_OF_NAME = re.compile(r"person\.(family_name|given_names)|contacts\.[0-9]+\.name|referred_by\.name")


def is_place_of_name(place: str) -> bool:
    """Return whether a name fills a place of the referral."""
    return _PLACE_OF_NAME.fullmatch(place) is not None


def can_be_name(text: str, fillers: Fillers) -> bool:
    """Return whether cleaned words can be a name: they have a letter or digit, and are not a filler."""
    return not cleaning.is_nothing(text) and not fillers.is_name(text)


# ---- postcodes -------------------------------------------------------------------------------------------------------

NO_POSTCODE_FORM = "has the form of no postcode: check its letters and digits, such as O and 0"
"""Warning about a postcode that was taken as it is."""

_POSTCODE = re.compile(
    r"(?:[A-PR-UWYZ](?:[0-9]{1,2}|[0-9][A-HJKPSTUW]|[A-HK-Y][0-9]{1,2}|[A-HK-Y][0-9][ABEHMNPRVWXY]) [0-9][ABD-HJLNP-UW-Z]{2}"
    r"|ZZ99 [0-9][A-Z]{2})"
)


def has_postcode_form(postcode: str) -> bool:
    """Return whether a postcode, in capitals and with its blank, has letters and digits where postcodes have them.

    Sources: BS 7666, Royal Mail's Programmer's Guide to the PAF; ZZ99 is the NHS' own (NHS Data Dictionary, POSTCODE).
    """
    return _POSTCODE.fullmatch(postcode) is not None
