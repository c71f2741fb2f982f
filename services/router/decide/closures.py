"""End needs, referrals and cases, and reassign a case when a stay ends. Nothing that has ended is reopened."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from schemas.case import CaseStatus, Ended, EndReason, Pathway, RoutingReason
from schemas.events import CaseAssigned, CaseCancelled, CaseEvent, CaseRejected
from schemas.model import HubId
from schemas.referral import ServiceCode
from services.router.decide import stays
from services.router.decide.assignment import Assignment
from services.router.decide.model import CaseRecord, ReferralRecord, Responsibility, Role
from services.router.decide.transition import (
    Transition,
    assign_case,
    assign_separately,
    moved_hubs,
    with_own_assignment,
)

ENDS = {CaseStatus.COMPLETED: 0, CaseStatus.REJECTED: 1, CaseStatus.CANCELLED: 2}
"""Precedence of end statuses: completed if any part was completed, else rejected if any was, else cancelled."""


def overall_status(ends: Iterable[CaseStatus]) -> CaseStatus:
    """Return the end status of a whole from those of its parts."""
    return min(ends, key=lambda end: ENDS[end])


def with_needs_ended(record: ReferralRecord, needs: Sequence[ServiceCode], how: CaseStatus) -> ReferralRecord:
    """Return the referral with these needs ended; the referral ends with its last need."""
    left = tuple(need for need in record.open_needs if need not in needs)
    ended = {**record.ended_needs, **dict.fromkeys(needs, how)}
    status = record.status if left else overall_status(ended.values())
    return record.model_copy(update={"open_needs": left, "ended_needs": ended, "status": status})


def all_open_needs(record: ReferralRecord) -> Ended:
    """Return all open needs of a referral."""
    return Ended(reference=record.reference, needs=record.open_needs)


def end(
    transition: Transition,
    case: CaseRecord,
    event: type[CaseEvent],
    ended: Sequence[Ended],
    how: CaseStatus,
    **data: Any,
) -> CaseRecord:
    """End these needs, inform their referrers and the hubs that may see them, and return the case.

    The case ends with its last referral, a stay with the last referral of the stay.
    """
    records = [with_needs_ended(transition.referrals[one.reference], one.needs, how) for one in ended]
    transition.keep(*records)
    tally = transition.tally_of(case.case_id)
    if not tally.open:
        case = case.model_copy(update={"ended": overall_status(tally.end_statuses)})
    case = transition.emit(
        event,
        case,
        records,
        _audience(transition, case, records),
        ended=tuple(ended),
        **data,
    )
    return case if case.ended else reassign(transition, case)


def _audience(transition: Transition, case: CaseRecord, records: Sequence[ReferralRecord]) -> dict[HubId, Role]:
    if case.ended:
        had: dict[HubId, Role] = {hub: "former" for hub, one in case.cursors.items() if one.role != "former"}
        return {**had, **transition.roles(case)}
    return {hub: role for one in records for hub, role in transition.visible_to(case, one).items()}


def cancel(transition: Transition, case: CaseRecord, record: ReferralRecord, reason: EndReason) -> CaseRecord:
    """Cancel a referral as a whole."""
    return end(transition, case, CaseCancelled, [all_open_needs(record)], CaseStatus.CANCELLED, reason=reason)


def send_outside(
    transition: Transition, case: CaseRecord, records: Sequence[ReferralRecord], refer_to: HubId | None
) -> CaseRecord:
    """Return referrals to their referrers, with the authority to refer to."""
    ended = [all_open_needs(one) for one in records]
    reason = EndReason.OUTSIDE_COUNTY
    return end(transition, case, CaseRejected, ended, CaseStatus.REJECTED, reason=reason, refer_to=refer_to)


def stays_with_hospital(
    transition: Transition, case: CaseRecord, record: ReferralRecord, own_assignment: Assignment
) -> bool:
    """Return True if the case stays with the hospital team after discharge.

    That is so for a person from outside the county whose only referral the team has accepted.
    """
    only = transition.tally_of(case.case_id).open_count == 1
    return only and own_assignment.pathway is Pathway.OUTSIDE and case.stay is not None and case.stay.accepted


def reassign(transition: Transition, case: CaseRecord, notified: Sequence[ReferralRecord] = ()) -> CaseRecord:
    """Apply the rules again after the referrals changed, and return the case.

    Hubs that gain or lose the case are informed, and the referrers of `notified`.
    """
    before = case
    if case.stay and not any(category.in_stay for category in transition.tally_of(case.case_id).categories):
        return _hand_over(transition, case)
    case, assignment = assign_case(transition, case)
    if assignment.pathway is Pathway.OUTSIDE:
        return _all_outside(transition, case)
    moved = moved_hubs(transition, before, case)
    transition.keep(case)
    if not moved and not notified:
        return case
    return transition.emit(CaseAssigned, case, notified, moved)


def end_stays_that_are_over(transition: Transition, case: CaseRecord) -> CaseRecord:
    """Hand over what was not handed over while a death was reported, and return the case."""
    waiting = [
        one
        for one in transition.open_of(case.case_id)
        if one.in_stay and not one.unread and stays.state_of(one.referral) in stays.IS_OVER
    ]
    for record in waiting:
        transition.keep(stays.with_stay(record, in_stay=False))
    for record in waiting:
        own = assign_separately(transition, transition.referrals[record.reference])
        if stays_with_hospital(transition, case, record, own):
            transition.keep(record)
    return reassign(transition, case) if waiting else case


def _hand_over(transition: Transition, case: CaseRecord) -> CaseRecord:
    """End the stay: the home hub becomes the holder, the hospital team a former one."""
    before, home = case, _home_after_stay(transition, case)
    case, assignment = assign_case(transition, case.model_copy(update={"stay": None, "home": home}))
    if assignment.pathway is Pathway.OUTSIDE:
        return _all_outside(transition, case)
    cancelled = stays.only_cancelled(transition.open_of(case.case_id))
    reasons = case.home.reasons if cancelled else (*case.home.reasons, RoutingReason.HANDED_OVER)
    case = case.model_copy(update={"home": case.home.model_copy(update={"reasons": reasons})})
    records = [_handed_over(transition, record, case) for record in transition.open_of(case.case_id)]
    concerned = [new for new in records if new != transition.referrals[new.reference]]
    transition.keep(*concerned)
    moved = moved_hubs(transition, before, case)
    return transition.emit(CaseAssigned, case, concerned, moved)


def _home_after_stay(transition: Transition, case: CaseRecord) -> Responsibility:
    """Return the home hub of a case; the rules decide again if a person assigned one that is not in the directory."""
    home = case.home
    if home.assigned_by_person and transition.context.directory.hub(home.hub) is None:
        return home.model_copy(update={"assigned_by_person": False})
    return home


def _handed_over(transition: Transition, record: ReferralRecord, case: CaseRecord) -> ReferralRecord:
    """Return a referral after the hand-over.

    One with a stay waits for the home hub; another changes only if its home hub does.
    """
    if record.hospital_hub is not None:
        reasons = _reasons_after_stay(transition, record, case)
        update: Mapping[str, Any] = {"home_hub": case.home.hub, "reasons": reasons, "status": CaseStatus.REQUESTED}
        return record.model_copy(update=update)
    if record.home_hub != case.home.hub:
        return record.model_copy(update={"home_hub": case.home.hub, "reasons": ()})
    return record


def _reasons_after_stay(transition: Transition, record: ReferralRecord, case: CaseRecord) -> tuple[RoutingReason, ...]:
    """Return the reasons of a referral after its stay; after a cancelled admission they are as if there had been none."""
    if stays.state_of(record.referral) is not stays.StayState.ADMISSION_CANCELLED:
        return tuple(dict.fromkeys((*record.reasons, RoutingReason.HANDED_OVER)))
    own_assignment = assign_separately(transition, record)
    return own_assignment.reasons if own_assignment.home_hub == case.home.hub else ()


def _all_outside(transition: Transition, case: CaseRecord) -> CaseRecord:
    """Return the remaining referrals to their referrers, with the authority to refer to."""
    records = [with_own_assignment(one, assign_separately(transition, one)) for one in transition.open_of(case.case_id)]
    transition.keep(*records)
    return send_outside(transition, case, records, case.home.hub)
