"""How needs, referrals and cases end, and what becomes of a case when a stay does. What has ended is never opened again."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from schemas.case import CaseStatus, Ended, EndReason, Pathway, RoutingReason
from schemas.events import CaseAssigned, CaseCancelled, CaseEvent, CaseRejected
from schemas.model import HubId
from schemas.referral import ServiceCode
from services.router.change import Change, assign_alone, by_itself, moved_hubs, place
from services.router.state import Case, KnownReferral, Role

ENDS = {CaseStatus.COMPLETED: 0, CaseStatus.REJECTED: 1, CaseStatus.CANCELLED: 2}
"""How something ended as a whole: completed where any part was, else rejected where any was, else cancelled."""


def overall(ends: Iterable[CaseStatus]) -> CaseStatus:
    """How something ended whose parts ended so."""
    return min(ends, key=lambda end: ENDS[end])


def without(known: KnownReferral, needs: Sequence[ServiceCode], how: CaseStatus) -> KnownReferral:
    """The referral with these needs ended; ended itself where none is left."""
    left = tuple(need for need in known.open_needs if need not in needs)
    ended = {**known.ended_needs, **dict.fromkeys(needs, how)}
    status = known.status if left else overall(ended.values())
    return known.model_copy(update={"open_needs": left, "ended_needs": ended, "status": status})


def whole(known: KnownReferral) -> Ended:
    """All that is open of a referral."""
    return Ended(reference=known.reference, needs=known.open_needs)


def end(
    change: Change, case: Case, event: type[CaseEvent], ended: Sequence[Ended], how: CaseStatus, **data: Any
) -> Case:
    """End these needs: their referrers hear of it, and the hubs that may. The case ends with its last referral, the stay with its own."""
    known = [without(change.referrals[one.reference], one.needs, how) for one in ended]
    change.keep(*known)
    if not change.open_of(case.case_id):
        case = case.model_copy(update={"ended": overall(one.status for one in change.of_case(case.case_id))})
    case = change.happen(event, case, known, _hearing(change, case, known), settles=True, ended=tuple(ended), **data)
    return case if case.ended else regroup(change, case)


def _hearing(change: Change, case: Case, known: Sequence[KnownReferral]) -> dict[HubId, Role]:
    if case.ended:
        return change.roles(case)
    return {hub: role for one in known for hub, role in change.seeing(case, one).items()}


def cancel(change: Change, case: Case, known: KnownReferral, reason: EndReason) -> Case:
    """A sender takes a referral back."""
    return end(change, case, CaseCancelled, [whole(known)], CaseStatus.CANCELLED, reason=reason)


def send_outside(change: Change, case: Case, known: Sequence[KnownReferral], refer_to: HubId | None) -> Case:
    """Return referrals to their referrers, with the authority to go to."""
    ended = [whole(one) for one in known]
    reason = EndReason.OUTSIDE_COUNTY
    return end(change, case, CaseRejected, ended, CaseStatus.REJECTED, reason=reason, refer_to=refer_to)


def regroup(change: Change, case: Case, hearing: Sequence[KnownReferral] = ()) -> Case:
    """After the referrals changed: the case as the rules have it now. Whoever gains or loses it hears, and `hearing`."""
    before = case
    if case.stay and not any(known.in_stay for known in change.open_of(case.case_id)):
        return _hand_over(change, case)
    case, found = place(change, case)
    if found.pathway is Pathway.OUTSIDE:
        return _all_outside(change, case)
    moved = moved_hubs(change, before, case)
    change.keep(case)
    return change.happen(CaseAssigned, case, hearing, moved, settles=True) if moved or hearing else case


def _hand_over(change: Change, case: Case) -> Case:
    """The stay is over: the home hub holds the case, the hospital team had it."""
    before = case
    home = case.home
    if home.assigned_by_person and change.grounds.directory.hub(home.hub) is None:
        home = home.model_copy(update={"assigned_by_person": False})
    case, found = place(change, case.model_copy(update={"stay": None, "home": home}))
    if found.pathway is Pathway.OUTSIDE:
        return _all_outside(change, case)
    reasons = (*case.home.reasons, RoutingReason.HANDED_OVER)
    case = case.model_copy(update={"home": case.home.model_copy(update={"reasons": reasons})})
    told = [_handed_over(known, case) for known in change.open_of(case.case_id)]
    concerned = [new for new in told if new != change.referrals[new.reference]]
    change.keep(*concerned)
    return change.happen(CaseAssigned, case, concerned, moved_hubs(change, before, case), settles=True)


def _handed_over(known: KnownReferral, case: Case) -> KnownReferral:
    """A referral of the stay waits for the home hub; one of the community hears only if its home hub is another than it was told."""
    if known.hospital_hub is not None:
        reasons = tuple(dict.fromkeys((*known.reasons, RoutingReason.HANDED_OVER)))
        update: Mapping[str, Any] = {"home_hub": case.home.hub, "reasons": reasons, "status": CaseStatus.REQUESTED}
        return known.model_copy(update=update)
    if known.home_hub != case.home.hub:
        return known.model_copy(update={"home_hub": case.home.hub, "reasons": ()})
    return known


def _all_outside(change: Change, case: Case) -> Case:
    """Nobody in the county is to have what is left: returned, with where to go."""
    known = [by_itself(one, assign_alone(change, one)) for one in change.open_of(case.case_id)]
    change.keep(*known)
    return send_outside(change, case, known, case.home.hub)
