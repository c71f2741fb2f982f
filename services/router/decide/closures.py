"""How needs, referrals and cases end, and what becomes of a case when a stay does. What has ended is never opened again."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from schemas.case import CaseStatus, Ended, EndReason, Pathway, RoutingReason
from schemas.events import CaseAssigned, CaseCancelled, CaseEvent, CaseRejected
from schemas.model import HubId
from schemas.referral import ServiceCode
from services.router.decide.model import CaseRecord, ReferralRecord, Role
from services.router.decide.transition import (
    Transition,
    assign_case,
    assign_separately,
    moved_hubs,
    with_own_assignment,
)

ENDS = {CaseStatus.COMPLETED: 0, CaseStatus.REJECTED: 1, CaseStatus.CANCELLED: 2}
"""How something ended as a whole: completed where any part was, else rejected where any was, else cancelled."""


def overall(ends: Iterable[CaseStatus]) -> CaseStatus:
    """How something ended whose parts ended so."""
    return min(ends, key=lambda end: ENDS[end])


def without(record: ReferralRecord, needs: Sequence[ServiceCode], how: CaseStatus) -> ReferralRecord:
    """The referral with these needs ended; ended itself where none is left."""
    left = tuple(need for need in record.open_needs if need not in needs)
    ended = {**record.ended_needs, **dict.fromkeys(needs, how)}
    status = record.status if left else overall(ended.values())
    return record.model_copy(update={"open_needs": left, "ended_needs": ended, "status": status})


def everything_open(record: ReferralRecord) -> Ended:
    """All that is open of a referral."""
    return Ended(reference=record.reference, needs=record.open_needs)


def end(
    transition: Transition,
    case: CaseRecord,
    event: type[CaseEvent],
    ended: Sequence[Ended],
    how: CaseStatus,
    **data: Any,
) -> CaseRecord:
    """End these needs: their referrers hear of it, and the hubs that may. The case ends with its last referral, the stay with its own."""
    records = [without(transition.referrals[one.reference], one.needs, how) for one in ended]
    transition.keep(*records)
    if not transition.open_of(case.case_id):
        case = case.model_copy(update={"ended": overall(one.status for one in transition.of_case(case.case_id))})
    case = transition.emit(
        event,
        case,
        records,
        _audience(transition, case, records),
        invalidates_pending_commands=True,
        ended=tuple(ended),
        **data,
    )
    return case if case.ended else reassign(transition, case)


def _audience(transition: Transition, case: CaseRecord, records: Sequence[ReferralRecord]) -> dict[HubId, Role]:
    if case.ended:
        return transition.roles(case)
    return {hub: role for one in records for hub, role in transition.visible_to(case, one).items()}


def cancel(transition: Transition, case: CaseRecord, record: ReferralRecord, reason: EndReason) -> CaseRecord:
    """A sender takes a referral back."""
    return end(transition, case, CaseCancelled, [everything_open(record)], CaseStatus.CANCELLED, reason=reason)


def send_outside(
    transition: Transition, case: CaseRecord, records: Sequence[ReferralRecord], refer_to: HubId | None
) -> CaseRecord:
    """Return referrals to their referrers, with the authority to go to."""
    ended = [everything_open(one) for one in records]
    reason = EndReason.OUTSIDE_COUNTY
    return end(transition, case, CaseRejected, ended, CaseStatus.REJECTED, reason=reason, refer_to=refer_to)


def reassign(transition: Transition, case: CaseRecord, notified: Sequence[ReferralRecord] = ()) -> CaseRecord:
    """After the referrals changed: the case as the rules have it now. Whoever gains or loses it hears, and `hearing`."""
    before = case
    if case.stay and not any(record.in_stay for record in transition.open_of(case.case_id)):
        return _hand_over(transition, case)
    case, assignment = assign_case(transition, case)
    if assignment.pathway is Pathway.OUTSIDE:
        return _all_outside(transition, case)
    moved = moved_hubs(transition, before, case)
    transition.keep(case)
    return (
        transition.emit(CaseAssigned, case, notified, moved, invalidates_pending_commands=True)
        if moved or notified
        else case
    )


def _hand_over(transition: Transition, case: CaseRecord) -> CaseRecord:
    """The stay is over: the home hub holds the case, the hospital team had it."""
    before = case
    home = case.home
    if home.assigned_by_person and transition.context.directory.hub(home.hub) is None:
        home = home.model_copy(update={"assigned_by_person": False})
    case, assignment = assign_case(transition, case.model_copy(update={"stay": None, "home": home}))
    if assignment.pathway is Pathway.OUTSIDE:
        return _all_outside(transition, case)
    reasons = (*case.home.reasons, RoutingReason.HANDED_OVER)
    case = case.model_copy(update={"home": case.home.model_copy(update={"reasons": reasons})})
    records = [_handed_over(record, case) for record in transition.open_of(case.case_id)]
    concerned = [new for new in records if new != transition.referrals[new.reference]]
    transition.keep(*concerned)
    return transition.emit(
        CaseAssigned, case, concerned, moved_hubs(transition, before, case), invalidates_pending_commands=True
    )


def _handed_over(record: ReferralRecord, case: CaseRecord) -> ReferralRecord:
    """A referral of the stay waits for the home hub; one of the community hears only if its home hub is another than it was told."""
    if record.hospital_hub is not None:
        reasons = tuple(dict.fromkeys((*record.reasons, RoutingReason.HANDED_OVER)))
        update: Mapping[str, Any] = {"home_hub": case.home.hub, "reasons": reasons, "status": CaseStatus.REQUESTED}
        return record.model_copy(update=update)
    if record.home_hub != case.home.hub:
        return record.model_copy(update={"home_hub": case.home.hub, "reasons": ()})
    return record


def _all_outside(transition: Transition, case: CaseRecord) -> CaseRecord:
    """Nobody in the county is to have what is left: returned, with where to go."""
    records = [with_own_assignment(one, assign_separately(transition, one)) for one in transition.open_of(case.case_id)]
    transition.keep(*records)
    return send_outside(transition, case, records, case.home.hub)
