"""Commands during the work: accept, hold, book, start, assess, record."""

from collections import Counter
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
from services.router.decide.acting_hub import (
    ActingHub,
    CommandRejection,
    audience,
    emit_to,
    not_accepted,
    not_workable,
    reject,
    served_by,
    with_status,
)
from services.router.decide.model import CaseRecord, ReferralRecord
from services.router.decide.transition import Transition


def accept(transition: Transition, acting: ActingHub) -> CommandRejection | None:
    """Accept the case, or the referrals that joined since the hub accepted it."""
    responsibility, served = acting.responsibility, served_by(transition, acting)
    resumes = responsibility.status in (CaseStatus.REQUESTED, CaseStatus.ON_HOLD)
    accepted = served if resumes else [record for record in served if record.status is CaseStatus.REQUESTED]
    if not accepted:
        return reject(acting, "impossible", "The hub has already accepted the case, and no referral has joined since.")
    status = CaseStatus.ACCEPTED if resumes else responsibility.status
    case = acting.with_responsibility(status=status, accepted=True, assigned_by_person=True)
    accepted_records = with_status(accepted, CaseStatus.ACCEPTED)
    emit_to(
        transition,
        acting,
        CaseAccepted,
        case,
        accepted_records if acting.in_stay else [with_home_hub(record, acting.hub.id) for record in accepted_records],
    )
    return None


def with_home_hub(record: ReferralRecord, hub: HubId) -> ReferralRecord:
    """Return the referral with this hub as its home hub, which feedback then names."""
    return record if record.home_hub == hub else record.model_copy(update={"home_hub": hub, "reasons": ()})


def hold(transition: Transition, acting: ActingHub, command: Hold) -> CommandRejection | None:
    """Put the case on hold."""
    waits = command.reason is HoldReason.WAITING_LIST
    business = BusinessStatus.WAITING_LIST if waits else acting.responsibility.business_status
    case = acting.with_responsibility(status=CaseStatus.ON_HOLD, business_status=business)
    records = with_status(served_by(transition, acting), CaseStatus.ON_HOLD)
    emit_to(transition, acting, CaseHeld, case, records, reason=command.reason, until=command.until)
    return None


def book(transition: Transition, acting: ActingHub, command: Book) -> CommandRejection | None:
    """Book a Housing MOT visit."""
    rejection = not_accepted(acting)
    if rejection is None:
        case = _working(acting, BusinessStatus.MOT_BOOKED)
        emit_to(transition, acting, CaseBooked, case, _at_work(transition, acting), visit_at=command.visit_at)
    return rejection


def start(transition: Transition, acting: ActingHub) -> CommandRejection | None:
    """Start the work."""
    rejection = not_accepted(acting)
    begun = (
        acting.responsibility.status is CaseStatus.IN_PROGRESS
        and acting.responsibility.business_status not in _BEFORE_WORK
    )
    if rejection is None and begun:
        rejection = reject(acting, "impossible", "Work on the case has already begun.")
    if rejection is None:
        emit_to(
            transition,
            acting,
            CaseStarted,
            _working(acting, acting.responsibility.business_status),
            _at_work(transition, acting),
        )
    return rejection


_BEFORE_WORK = (BusinessStatus.MOT_BOOKED, BusinessStatus.NO_CONTACT)
"""Business statuses of a case in progress before work begins."""


def _working(acting: ActingHub, business: BusinessStatus) -> CaseRecord:
    """Return the case in progress; a part that is not accepted yet (a follow-on's) keeps its status."""
    status = CaseStatus.IN_PROGRESS if acting.responsibility.accepted else acting.responsibility.status
    return acting.with_responsibility(status=status, business_status=business)


def _at_work(transition: Transition, acting: ActingHub) -> list[ReferralRecord]:
    """Return the referrals that the hub works on, in progress; one that joined since waits until it is accepted."""
    served = served_by(transition, acting)
    if not acting.responsibility.accepted:
        return served
    return [
        record
        if record.status is CaseStatus.REQUESTED
        else record.model_copy(update={"status": CaseStatus.IN_PROGRESS})
        for record in served
    ]


def assess(transition: Transition, acting: ActingHub, command: Assess) -> CommandRejection | None:
    """Record the Housing MOT; each referrer receives the findings on its own referral only."""
    references = {finding.reference for finding in command.findings}
    rejection = not_workable(transition, acting, references) or not_accepted(acting)
    if rejection is None:
        records = _at_work(transition, acting)
        transition.keep(*records)
        assessed = [record for record in records if record.reference in references]
        case = _working(acting, BusinessStatus.ASSESSED)
        hubs = audience(transition, acting)
        transition.emit(CaseAssessed, case, assessed, hubs, findings=command.findings, scores=command.scores)
    return rejection


def record(transition: Transition, acting: ActingHub, command: Record) -> CommandRejection | None:
    """Record interventions, a grant's stage or a failed contact."""
    rejection = _nothing_recorded(acting, command) or reject_interventions(transition, acting, command.interventions)
    if rejection is None and (command.interventions or command.dfg):
        rejection = not_accepted(acting)
    if rejection is not None:
        return rejection
    updated = [with_interventions(record, command.interventions) for record in _at_work(transition, acting)]
    transition.keep(*updated)
    case = _working(acting, _recorded_status(command))
    data: dict[str, Any] = {
        "interventions": command.interventions,
        "dfg": command.dfg,
        "no_contact_on": command.no_contact_on,
    }
    transition.emit(CaseRecorded, case, _recorded_for(command, updated), audience(transition, acting), **data)
    return None


def _nothing_recorded(acting: ActingHub, command: Record) -> CommandRejection | None:
    if command.interventions or command.dfg or command.no_contact_on:
        return None
    return reject(acting, "impossible", "The command records nothing. Give interventions, dfg or no_contact_on.")


MAX_INTERVENTIONS = 200
"""Largest number of interventions of one referral, so that its events fit on their topics."""


def reject_interventions(
    transition: Transition, acting: ActingHub, interventions: Sequence[Intervention]
) -> CommandRejection | None:
    """Return a refusal if an intervention is for a referral that the hub may not work on, or that has too many of them."""
    added = Counter(done.reference for done in interventions)
    if rejection := not_workable(transition, acting, added):
        return rejection
    if all(len(transition.referrals[one].interventions) + count <= MAX_INTERVENTIONS for one, count in added.items()):
        return None
    return reject(acting, "impossible", f"A referral can have at most {MAX_INTERVENTIONS} interventions.")


def with_interventions(record: ReferralRecord, interventions: Sequence[Intervention]) -> ReferralRecord:
    """Return the referral with its own interventions added."""
    own = tuple(done for done in interventions if done.reference == record.reference)
    return record.model_copy(update={"interventions": (*record.interventions, *own)}) if own else record


def _recorded_for(command: Record, records: list[ReferralRecord]) -> list[ReferralRecord]:
    """Return the referrals that a record is about.

    Those it names; for a DFG stage those with an open grant need; for a failed contact all.
    """
    named = {done.reference for done in command.interventions}
    return [
        one
        for one in records
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
