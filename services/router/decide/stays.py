"""The life of a hospital stay: what each message of a referral says of it, and when the team's part in it is over.

A stay belongs to one visit. It ends by a statement (a discharge of that visit, a cancelled admission, a hand-over by the team, a
confirmed death), never because a message does not mention it, and never by the cancel of another referral.
"""

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from enum import StrEnum

from schemas.referral import HospitalStay, Referral
from services.router.decide.model import CaseRecord, CaseTally, ReferralRecord

OVERDUE_AFTER = timedelta(days=2)
"""How long after the expected date of discharge the hospital team is asked, if the hospital does not say that the stay is over."""


class StayState(StrEnum):
    """What the hospital has said of the stay of a referral."""

    NONE = "none"
    IN_HOSPITAL = "in-hospital"
    MOVED = "moved"
    """Discharged to a hospital of another organisation."""
    DISCHARGED = "discharged"
    ADMISSION_CANCELLED = "admission-cancelled"


IS_OVER = frozenset({StayState.DISCHARGED, StayState.ADMISSION_CANCELLED})


def state_of(referral: Referral) -> StayState:
    """Return what a referral says of the stay. Its date of discharge is not in the future: `as_of` sees to it."""
    stay = referral.hospital
    if stay is None:
        return StayState.NONE
    if stay.admission_cancelled:
        return StayState.ADMISSION_CANCELLED
    if referral.discharged_on is None:
        return StayState.IN_HOSPITAL
    return StayState.DISCHARGED if stay.moved_to is None else StayState.MOVED


# ---- what a message says ------------------------------------------------------------------------------------------------


def as_of(referral: Referral, on: date) -> Referral:
    """Return a referral in which a discharge after `on` is expected, not done."""
    if referral.discharged_on is None or referral.discharged_on <= on:
        return referral
    return referral.model_copy(update={"expected_discharge_on": referral.discharged_on, "discharged_on": None})


def with_stay_kept(held: Referral, message: Referral) -> Referral:
    """Return a later message with the stay that is held, if the message does not say anything of it or ends another visit's."""
    if held.hospital is None:
        return message
    if ends_another_visit(held, message):
        return message.model_copy(update={"hospital": held.hospital, **{name: getattr(held, name) for name in _DATES}})
    if message.hospital not in (None, HospitalStay()):
        return message.model_copy(update={"discharged_on": None}) if _repeats_a_discharge(held, message) else message
    dates = {name: getattr(message, name) or getattr(held, name) for name in _DATES}
    return message.model_copy(update={"hospital": held.hospital, **dates})


_DATES = ("ready_for_transfer_on", "expected_discharge_on", "discharged_on")
"""Fields of a referral that belong to its stay."""


def ends_another_visit(held: Referral, message: Referral) -> bool:
    """Return True if a message says the end of a visit that is not the one during which the person is in hospital."""
    return (
        state_of(held) is StayState.IN_HOSPITAL and state_of(message) in IS_OVER and not _is_same_visit(held, message)
    )


def _repeats_a_discharge(held: Referral, message: Referral) -> bool:
    """Return True if a message says another visit with the earlier one's discharge, which was before the new admission."""
    stay, discharged_on = message.hospital, message.discharged_on
    if stay is None or stay.admitted_on is None or discharged_on is None or _is_same_visit(held, message):
        return False
    return discharged_on == held.discharged_on and discharged_on < stay.admitted_on


def _is_same_visit(one: Referral, other: Referral) -> bool:
    """Return False if two messages of one sender name different visits; a message that names none is about the same visit.

    Numbers of two authorities are of one visit if the day of admission is the same.
    """
    stays = [referral.hospital for referral in (one, other) if referral.hospital and referral.hospital.visit]
    visits = [stay.visit for stay in stays if stay.visit]
    if len({visit.value for visit in visits}) < 2:
        return True
    days = {stay.admitted_on for stay in stays}
    return len({visit.system for visit in visits}) > 1 and len(days) == 1 and None not in days


# ---- whether the hospital team has the referral -------------------------------------------------------------------------


def begins(referral: Referral, *, death_reported: bool) -> bool:
    """Return whether a new referral is one of a stay; see `continues`."""
    return referral.is_inpatient or (state_of(referral) in IS_OVER and death_reported)


def continues(record: ReferralRecord, message: Referral, *, death_reported: bool) -> bool:
    """Return whether a referral is one of a stay after a later message.

    After the team transferred the case, only another visit begins a stay. A move to another hospital leaves the referral where it is.
    While a death is reported, and neither confirmed nor withdrawn, nothing is handed over.
    """
    if record.transferred_before_discharge and _is_same_visit(record.referral, message):
        return False
    match state_of(message):
        case StayState.IN_HOSPITAL:
            return True
        case StayState.MOVED:
            return record.in_stay or state_of(record.referral) is not StayState.MOVED
        case StayState.NONE:
            return False
        case _:
            return record.in_stay and death_reported


def with_stay(record: ReferralRecord, *, in_stay: bool) -> ReferralRecord:
    """Return a referral inside or outside a stay; a new stay is not one that the team transferred."""
    transferred = record.transferred_before_discharge and not in_stay
    return record.model_copy(update={"in_stay": in_stay, "transferred_before_discharge": transferred})


def superseded(records: Iterable[ReferralRecord]) -> list[ReferralRecord]:
    """Return the referrals of a case whose stay another hospital continues: it has referred the person too."""
    in_stay = [record for record in records if record.in_stay and record.is_open]
    here = [record for record in in_stay if state_of(record.referral) is not StayState.MOVED]
    return [
        record
        for record in in_stay
        if state_of(record.referral) is StayState.MOVED and any(not _is_same_stay(record, other) for other in here)
    ]


def _is_same_stay(one: ReferralRecord, other: ReferralRecord) -> bool:
    return one.referral.sent_by.partner == other.referral.sent_by.partner and _is_same_visit(
        one.referral, other.referral
    )


def may_be_superseded(tally: CaseTally) -> bool:
    """Return True if an open case has both a stay that was moved to another hospital and one that was not."""
    return len({category.moved for category in tally.categories if category.in_stay}) > 1


def with_moved(case: CaseRecord, tally: CaseTally) -> CaseRecord:
    """Return the case with whether the person of the team's stay was moved to another organisation's hospital."""
    states = {category.moved for category in tally.categories if category.in_stay}
    moved = states == {True}
    if case.stay is None or case.stay.moved == moved:
        return case
    return case.model_copy(update={"stay": case.stay.model_copy(update={"moved": moved})})


def only_cancelled(records: Sequence[ReferralRecord]) -> bool:
    """Return True if these referrals had a stay, and the hospital cancelled the admission of each."""
    states = [state_of(record.referral) for record in records if record.hospital_hub is not None]
    return bool(states) and all(state is StayState.ADMISSION_CANCELLED for state in states)


# ---- an expected discharge ----------------------------------------------------------------------------------------------


def is_expected_on(record: ReferralRecord, expected_on: date) -> bool:
    """Return True if the person of an open referral is in hospital, and expected to leave it on this day."""
    in_hospital = record.is_open and record.in_stay and state_of(record.referral) is StayState.IN_HOSPITAL
    return in_hospital and record.referral.expected_discharge_on == expected_on


def overdue_on(record: ReferralRecord) -> date | None:
    """Return the day from which the discharge is overdue; None if none is expected, or the team was asked about this date."""
    expected_on = record.referral.expected_discharge_on
    if expected_on is None or expected_on == record.asked_about or not is_expected_on(record, expected_on):
        return None
    return expected_on + OVERDUE_AFTER
