"""Commands that move the work on: accept, hold, book, start, assess, record."""

from collections.abc import Mapping, Sequence
from typing import Any

from schemas.case import BusinessStatus, CaseStatus, HoldReason, Intervention
from schemas.events import (
    Assess,
    Book,
    CaseAccepted,
    CaseAssessed,
    CaseBooked,
    CaseHeld,
    CaseRecorded,
    CaseStarted,
    Hold,
    Record,
)
from schemas.model import HubId
from schemas.referral import DISABLED_FACILITIES_GRANT
from services.router.change import Change
from services.router.seat import Refused, Seat, hearing, not_accepted, not_ours, refuse, served_by, tell, with_status
from services.router.state import Case, KnownReferral


def accept(change: Change, seat: Seat) -> Refused | None:
    """The hub takes the case on, or what joined it since."""
    leg, served = seat.leg, served_by(change, seat)
    resumes = leg.status in (CaseStatus.REQUESTED, CaseStatus.ON_HOLD)
    taken_on = served if resumes else [known for known in served if known.status is CaseStatus.REQUESTED]
    if not taken_on:
        return refuse(seat, "impossible", "The hub has accepted the case already.")
    status = CaseStatus.ACCEPTED if resumes else leg.status
    case = seat.with_leg(status=status, accepted=True, assigned_by_person=True)
    told = with_status(taken_on, CaseStatus.ACCEPTED)
    tell(change, seat, CaseAccepted, case, told if seat.in_stay else [at_hub(known, seat.hub.id) for known in told])
    return None


def at_hub(known: KnownReferral, hub: HubId) -> KnownReferral:
    """The referral whose referrer is told of the hub that really has it."""
    return known if known.home_hub == hub else known.model_copy(update={"home_hub": hub, "reasons": ()})


def hold(change: Change, seat: Seat, command: Hold) -> Refused | None:
    """The case waits."""
    waits = command.reason is HoldReason.WAITING_LIST
    business = BusinessStatus.WAITING_LIST if waits else seat.leg.business_status
    case = seat.with_leg(status=CaseStatus.ON_HOLD, business_status=business)
    told = with_status(served_by(change, seat), CaseStatus.ON_HOLD)
    tell(change, seat, CaseHeld, case, told, reason=command.reason, until=command.until)
    return None


def book(change: Change, seat: Seat, command: Book) -> Refused | None:
    """A Housing MOT visit is booked."""
    refused = not_accepted(seat)
    if refused is None:
        case = _working(seat, BusinessStatus.MOT_BOOKED)
        tell(change, seat, CaseBooked, case, _at_work(change, seat), visit_at=command.visit_at)
    return refused


def start(change: Change, seat: Seat) -> Refused | None:
    """Work begins."""
    refused = not_accepted(seat)
    begun = seat.leg.status is CaseStatus.IN_PROGRESS and seat.leg.business_status not in _BEFORE_WORK
    if refused is None and begun:
        refused = refuse(seat, "impossible", "Work has begun already.")
    if refused is None:
        tell(change, seat, CaseStarted, _working(seat, seat.leg.business_status), _at_work(change, seat))
    return refused


_BEFORE_WORK = (BusinessStatus.MOT_BOOKED, BusinessStatus.NO_CONTACT)
"""The case is in progress, and nobody has worked on it yet."""


def _working(seat: Seat, business: BusinessStatus) -> Case:
    """The case at work; a part that nobody has accepted yet (a follow-on's) stays requested."""
    status = CaseStatus.IN_PROGRESS if seat.leg.accepted else seat.leg.status
    return seat.with_leg(status=status, business_status=business)


def _at_work(change: Change, seat: Seat) -> list[KnownReferral]:
    """The referrals that work goes on for. One that joined since waits until the hub accepts it too."""
    served = served_by(change, seat)
    if not seat.leg.accepted:
        return served
    return [
        known if known.status is CaseStatus.REQUESTED else known.model_copy(update={"status": CaseStatus.IN_PROGRESS})
        for known in served
    ]


def assess(change: Change, seat: Seat, command: Assess) -> Refused | None:
    """The Housing MOT was done; each referrer hears what was found on its own."""
    references = {finding.reference for finding in command.findings}
    refused = not_ours(change, seat, references) or _may_work(seat)
    if refused is None:
        told = _at_work(change, seat)
        change.keep(*told)
        heard = [known for known in told if known.reference in references]
        case = _working(seat, BusinessStatus.ASSESSED)
        hubs = hearing(change, seat)
        change.happen(CaseAssessed, case, heard, hubs, findings=command.findings, scores=command.scores)
    return refused


def _may_work(seat: Seat) -> Refused | None:
    """A holder accepts first; a follow-on cannot accept during a stay, and may work all the same."""
    return None if seat.role == "follow-on" else not_accepted(seat)


def record(change: Change, seat: Seat, command: Record) -> Refused | None:
    """Something was done, a grant's stage was reached, or nobody could be reached."""
    refused = _nothing_recorded(seat, command) or not_ours(change, seat, (i.reference for i in command.interventions))
    if refused is None and (command.interventions or command.dfg):
        refused = _may_work(seat)
    if refused is not None:
        return refused
    done = [with_done(known, command.interventions) for known in _at_work(change, seat)]
    change.keep(*done)
    case = _working(seat, _recorded_status(command))
    data: dict[str, Any] = {
        "interventions": command.interventions,
        "dfg": command.dfg,
        "no_contact_on": command.no_contact_on,
    }
    change.happen(CaseRecorded, case, _named_by(command, done), hearing(change, seat), **data)
    return None


def _nothing_recorded(seat: Seat, command: Record) -> Refused | None:
    if command.interventions or command.dfg or command.no_contact_on:
        return None
    return refuse(seat, "impossible", "Nothing is recorded: give interventions, dfg or no_contact_on.")


def with_done(known: KnownReferral, interventions: Sequence[Intervention]) -> KnownReferral:
    """The referral with what was done for it."""
    ours = tuple(done for done in interventions if done.reference == known.reference)
    return known.model_copy(update={"interventions": (*known.interventions, *ours)}) if ours else known


def _named_by(command: Record, known: list[KnownReferral]) -> list[KnownReferral]:
    """The referrals that a record is about: those it names; a DFG step, those that asked for a grant; no contact, all."""
    named = {done.reference for done in command.interventions}
    return [
        one
        for one in known
        if one.reference in named
        or command.no_contact_on
        or (command.dfg and DISABLED_FACILITIES_GRANT in one.open_needs)
    ]


DFG_STATUS: Mapping[str, BusinessStatus] = {
    "ot-assessment": BusinessStatus.DFG_OT_ASSESSMENT,
    "ss127-recommendation": BusinessStatus.DFG_SS127,
    "application": BusinessStatus.DFG_APPLICATION,
    "approval": BusinessStatus.DFG_APPROVAL,
    "works": BusinessStatus.DFG_WORKS,
    "completion": BusinessStatus.DFG_COMPLETION,
}


def _recorded_status(command: Record) -> BusinessStatus:
    if command.dfg is not None:
        return DFG_STATUS[command.dfg.stage]
    return BusinessStatus.INTERVENTION_COMPLETED if command.interventions else BusinessStatus.NO_CONTACT
