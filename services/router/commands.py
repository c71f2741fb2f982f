"""Decides what a hub's command does to a case. Who commands is the topic that it came by, never a field of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, assert_never

from schemas.case import BusinessStatus, CaseStatus, Ended, HoldReason, Intervention, RoutingReason
from schemas.events import (
    Accept,
    Assess,
    Assign,
    Book,
    Cancel,
    CaseAccepted,
    CaseAssessed,
    CaseAssigned,
    CaseBooked,
    CaseCancelled,
    CaseCompleted,
    CaseEvent,
    CaseHeld,
    CaseRecorded,
    CaseRejected,
    CaseStarted,
    CaseTransferred,
    Complete,
    Hold,
    HubCommand,
    Record,
    Reject,
    Start,
    Transfer,
)
from schemas.model import HubId, Reference
from schemas.referral import Service
from services.directory import Hub
from services.router import endings, views
from services.router.change import Change, moved_hubs, place
from services.router.state import Case, KnownReferral, Leg, Role

Why = Literal["unknown-case", "stale", "not-permitted", "impossible", "unknown-need", "unknown-hub"]


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a command is refused, and what its hub should do."""

    reason: Why
    explanation: str
    hub_version: int | None = None


@dataclass(frozen=True, slots=True)
class Seat:
    """The hub that commands, in its part of the case."""

    hub: Hub
    case: Case
    role: Role

    @property
    def in_stay(self) -> bool:
        """True for the hospital team that holds the case during a stay."""
        return self.case.stay is not None and self.role == "holder"

    @property
    def leg(self) -> Leg:
        """Its part of the case."""
        return self.case.stay if self.in_stay and self.case.stay else self.case.home

    def with_leg(self, **update: Any) -> Case:
        """The case with its part changed."""
        leg = self.leg.model_copy(update=update)
        return self.case.model_copy(update={"stay" if self.in_stay else "home": leg})

    def serves(self, known: KnownReferral) -> bool:
        """During a stay the hospital team works on the hospital's referrals, and the home hub on the community's."""
        return self.case.stay is None or known.in_stay == self.in_stay


def obey(change: Change, command: HubCommand) -> Refused | None:
    """Apply a command, or say why not."""
    found = _seat(change, command)
    if isinstance(found, Refused):
        return found
    match command:
        case Assign():
            return _assign(change, found, command)
        case Accept():
            return _accept(change, found)
        case Hold():
            return _hold(change, found, command)
        case Book():
            return _book(change, found, command)
        case Start():
            return _start(change, found)
        case Assess():
            return _assess(change, found, command)
        case Record():
            return _record(change, found, command)
        case Complete():
            return _complete(change, found, command)
        case Reject():
            return _reject(change, found, command)
        case Cancel():
            return _cancel(change, found, command)
        case Transfer():
            return _transfer(change, found, command)
        case _:
            assert_never(command)


# ---- may it ---------------------------------------------------------------------------------------------------------


def _seat(change: Change, command: HubCommand) -> Seat | Refused:
    """The commanding hub in its part of the case; refused where it has none, or decided on what is no longer so."""
    hub = change.grounds.directory.hub(change.cause.hub)
    case = change.cases.get(command.case_id)
    told = case.told.get(hub.id) if case and hub else None
    if case is None or hub is None or told is None:
        return Refused("unknown-case", "No such case was ever given to this hub: check case_id and person_key.")
    refused = _not_now(case, told.role, command, told.settled, told.version)
    return refused or Seat(hub, case, told.role)


def _not_now(case: Case, role: Role, command: HubCommand, settled: int, version: int) -> Refused | None:
    if role == "former":
        return Refused("not-permitted", "The case is no longer with this hub.", version)
    if case.ended:
        return Refused("impossible", "The case has ended; a new need is a new referral.", version)
    if command.decided_on < settled:
        return Refused("stale", "The case changed since: read the latest event and decide anew.", version)
    if command.decided_on > version:
        return Refused("impossible", "decided_on names a version that this hub was never sent.", version)
    if role == "follow-on" and not isinstance(command, Assess | Record):
        return Refused(
            "not-permitted", "The case is held elsewhere: until then this hub may assess and record.", version
        )
    return None


def _refused(seat: Seat, reason: Why, explanation: str) -> Refused:
    return Refused(reason, explanation, seat.case.told[seat.hub.id].version)


def _not_accepted(seat: Seat) -> Refused | None:
    return None if seat.leg.accepted else _refused(seat, "impossible", "The hub has not accepted the case yet.")


def _not_ours(change: Change, seat: Seat, references: Iterable[Reference]) -> Refused | None:
    """References that this hub may not work on: those it cannot see are unknown to it."""
    for reference in references:
        known = change.referrals.get(reference)
        if known is None or known.case_id != seat.case.case_id or not known.is_open or not _sees(seat, known):
            return _refused(seat, "unknown-need", "A referral that the command names is not open on this case.")
        if not seat.serves(known):
            return _refused(
                seat, "not-permitted", "During a stay a referral of the community goes on with its home hub."
            )
    return None


def _sees(seat: Seat, known: KnownReferral) -> bool:
    return views.sees(seat.case, known, seat.hub.id, seat.role)


def _served(change: Change, seat: Seat) -> list[KnownReferral]:
    return [known for known in change.open_of(seat.case.case_id) if seat.serves(known)]


def _with_status(known: Iterable[KnownReferral], status: CaseStatus) -> list[KnownReferral]:
    return [one.model_copy(update={"status": status}) for one in known]


def _hearing(change: Change, seat: Seat) -> dict[HubId, Role]:
    """Who hears of a command: the hub itself, and the holder of the case. A follow-on hears nothing of the holder's."""
    roles = change.roles(seat.case)
    return {hub: role for hub, role in roles.items() if hub == seat.hub.id or role == "holder"}


def _happen(
    change: Change, seat: Seat, event: type[CaseEvent], case: Case, told: list[KnownReferral], **data: Any
) -> None:
    change.keep(*told)
    change.happen(event, case, told, _hearing(change, seat), **data)


# ---- commands that move the work on ---------------------------------------------------------------------------------


def _accept(change: Change, seat: Seat) -> Refused | None:
    leg, served = seat.leg, _served(change, seat)
    resumes = leg.status in (CaseStatus.REQUESTED, CaseStatus.ON_HOLD)
    taken_on = served if resumes else [known for known in served if known.status is CaseStatus.REQUESTED]
    if not taken_on:
        return _refused(seat, "impossible", "The hub has accepted the case already.")
    status = CaseStatus.ACCEPTED if resumes else leg.status
    case = seat.with_leg(status=status, accepted=True, placed=True)
    told = _with_status(taken_on, CaseStatus.ACCEPTED)
    _happen(change, seat, CaseAccepted, case, told if seat.in_stay else [_at(known, seat.hub.id) for known in told])
    return None


def _at(known: KnownReferral, hub: HubId) -> KnownReferral:
    """The referral whose referrer is told of the hub that really has it."""
    return known if known.home_hub == hub else known.model_copy(update={"home_hub": hub, "reasons": ()})


def _hold(change: Change, seat: Seat, command: Hold) -> Refused | None:
    waits = command.reason is HoldReason.WAITING_LIST
    business = BusinessStatus.WAITING_LIST if waits else seat.leg.business_status
    case = seat.with_leg(status=CaseStatus.ON_HOLD, business_status=business)
    told = _with_status(_served(change, seat), CaseStatus.ON_HOLD)
    _happen(change, seat, CaseHeld, case, told, reason=command.reason, until=command.until)
    return None


def _book(change: Change, seat: Seat, command: Book) -> Refused | None:
    refused = _not_accepted(seat)
    if refused is None:
        case = _working(seat, BusinessStatus.MOT_BOOKED)
        _happen(change, seat, CaseBooked, case, _at_work(change, seat), visit_at=command.visit_at)
    return refused


def _start(change: Change, seat: Seat) -> Refused | None:
    refused = _not_accepted(seat)
    begun = seat.leg.status is CaseStatus.IN_PROGRESS and seat.leg.business_status not in _BEFORE_WORK
    if refused is None and begun:
        refused = _refused(seat, "impossible", "Work has begun already.")
    if refused is None:
        _happen(change, seat, CaseStarted, _working(seat, seat.leg.business_status), _at_work(change, seat))
    return refused


_BEFORE_WORK = (BusinessStatus.MOT_BOOKED, BusinessStatus.NO_CONTACT)
"""The case is in progress, and nobody has worked on it yet."""


def _working(seat: Seat, business: BusinessStatus) -> Case:
    """The case at work; a part that nobody has accepted yet (a follow-on's) stays requested."""
    status = CaseStatus.IN_PROGRESS if seat.leg.accepted else seat.leg.status
    return seat.with_leg(status=status, business_status=business)


def _at_work(change: Change, seat: Seat) -> list[KnownReferral]:
    """The referrals that work goes on for. One that joined since waits until the hub accepts it too."""
    served = _served(change, seat)
    if not seat.leg.accepted:
        return served
    return [
        known if known.status is CaseStatus.REQUESTED else known.model_copy(update={"status": CaseStatus.IN_PROGRESS})
        for known in served
    ]


def _assess(change: Change, seat: Seat, command: Assess) -> Refused | None:
    references = {finding.reference for finding in command.findings}
    refused = _not_ours(change, seat, references) or _may_work(seat)
    if refused is None:
        told = _at_work(change, seat)
        change.keep(*told)
        heard = [known for known in told if known.reference in references]
        case = _working(seat, BusinessStatus.ASSESSED)
        hubs = _hearing(change, seat)
        change.happen(CaseAssessed, case, heard, hubs, findings=command.findings, scores=command.scores)
    return refused


def _may_work(seat: Seat) -> Refused | None:
    """A holder accepts first; a follow-on cannot accept during a stay, and may work all the same."""
    return None if seat.role == "follow-on" else _not_accepted(seat)


def _record(change: Change, seat: Seat, command: Record) -> Refused | None:
    refused = _nothing_recorded(seat, command) or _not_ours(change, seat, (i.reference for i in command.interventions))
    if refused is None and (command.interventions or command.dfg):
        refused = _may_work(seat)
    if refused is not None:
        return refused
    done = [_with_done(known, command.interventions) for known in _at_work(change, seat)]
    change.keep(*done)
    case = _working(seat, _recorded_status(command))
    data: dict[str, Any] = {
        "interventions": command.interventions,
        "dfg": command.dfg,
        "no_contact_on": command.no_contact_on,
    }
    change.happen(CaseRecorded, case, _named_by(command, done), _hearing(change, seat), **data)
    return None


def _nothing_recorded(seat: Seat, command: Record) -> Refused | None:
    if command.interventions or command.dfg or command.no_contact_on:
        return None
    return _refused(seat, "impossible", "Nothing is recorded: give interventions, dfg or no_contact_on.")


def _with_done(known: KnownReferral, interventions: Sequence[Intervention]) -> KnownReferral:
    ours = tuple(done for done in interventions if done.reference == known.reference)
    return known.model_copy(update={"interventions": (*known.interventions, *ours)}) if ours else known


def _named_by(command: Record, known: list[KnownReferral]) -> list[KnownReferral]:
    """The referrals that a record is about: those it names; a DFG step, those that asked for a grant; no contact, all."""
    named = {done.reference for done in command.interventions}
    grant = Service.DISABLED_FACILITIES_GRANT
    return [
        one
        for one in known
        if one.reference in named or command.no_contact_on or (command.dfg and grant in one.open_needs)
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


# ---- commands that end needs ----------------------------------------------------------------------------------------


def _complete(change: Change, seat: Seat, command: Complete) -> Refused | None:
    refused = (
        _not_accepted(seat)
        or _not_open(change, seat, command.ended)
        or _not_ours(change, seat, (done.reference for done in command.interventions))
    )
    if refused is None:
        change.keep(*(_with_done(known, command.interventions) for known in _served(change, seat)))
        _end(change, seat, CaseCompleted, command.ended, CaseStatus.COMPLETED, scores=command.scores)
    return refused


def _reject(change: Change, seat: Seat, command: Reject) -> Refused | None:
    refused = _not_open(change, seat, command.ended)
    if refused is None and command.refer_to and change.grounds.directory.contact(command.refer_to) is None:
        refused = _refused(seat, "unknown-hub", "refer_to names no hub and no authority of the directory.")
    if refused is None and any(_is_at_work(change, ended) for ended in command.ended):
        refused = _refused(seat, "impossible", "Work has begun: cancel with a reason instead of rejecting.")
    if refused is None:
        data: dict[str, Any] = {"reason": command.reason, "refer_to": command.refer_to}
        _end(change, seat, CaseRejected, command.ended, CaseStatus.REJECTED, **data)
    return refused


def _is_at_work(change: Change, ended: Ended) -> bool:
    return change.referrals[ended.reference].status is CaseStatus.IN_PROGRESS


def _cancel(change: Change, seat: Seat, command: Cancel) -> Refused | None:
    refused = _not_open(change, seat, command.ended)
    if refused is None:
        _end(change, seat, CaseCancelled, command.ended, CaseStatus.CANCELLED, reason=command.reason)
    return refused


def _not_open(change: Change, seat: Seat, ended: Sequence[Ended]) -> Refused | None:
    refused = _not_ours(change, seat, (one.reference for one in ended))
    if refused is None and any(set(one.needs) - set(change.referrals[one.reference].open_needs) for one in ended):
        refused = _refused(seat, "unknown-need", "A need that the command names is not open on its referral.")
    return refused


def _end(
    change: Change, seat: Seat, event: type[CaseEvent], ended: Sequence[Ended], how: CaseStatus, **data: Any
) -> None:
    endings.end(change, seat.case, event, _each_once(ended), how, **data)


def _each_once(ended: Sequence[Ended]) -> list[Ended]:
    needs: dict[Reference, dict[Service, None]] = {}
    for one in ended:
        needs.setdefault(one.reference, {}).update(dict.fromkeys(one.needs))
    return [Ended(reference=reference, needs=tuple(named)) for reference, named in needs.items()]


# ---- commands that move the case ------------------------------------------------------------------------------------


def _assign(change: Change, seat: Seat, command: Assign) -> Refused | None:
    directory = change.grounds.directory
    to, outside = directory.hub(command.to_hub), directory.authority(command.to_hub)
    if seat.hub.kind == "locality":
        return _refused(seat, "not-permitted", "Only triage and the hospital team assign; a hub transfers.")
    if to is None and outside is None:
        return _refused(seat, "unknown-hub", "to_hub names no hub and no authority of the directory.")
    if seat.hub.kind == "hospital":
        return _assign_follow_on(change, seat, command.to_hub, to)
    if to is None:
        endings.send_outside(change, seat.case, change.open_of(seat.case.case_id), command.to_hub)
        return None
    return _assign_from_triage(change, seat, to)


def _assign_follow_on(change: Change, seat: Seat, to_hub: HubId, to: Hub | None) -> Refused | None:
    """The hospital team says which home hub, or authority elsewhere, follows on."""
    if seat.case.home.accepted:
        return _refused(seat, "impossible", "The home hub has accepted the case: transfer it instead.")
    if to is not None and to.kind == "hospital":
        return _refused(seat, "impossible", "A hospital team cannot follow on: transfer instead.")
    case = seat.case.model_copy(update={"home": Leg(hub=to_hub, placed=True)})
    told = [_at(known, to_hub) for known in _served(change, seat)]
    change.keep(*told)
    moved = {**_hearing(change, seat), **moved_hubs(change, seat.case, case)}
    change.happen(CaseAssigned, case, told, moved, settles=True)
    return None


def _assign_from_triage(change: Change, seat: Seat, to: Hub) -> Refused | None:
    if to.id == seat.hub.id:
        return _refused(seat, "impossible", "The case is with triage already.")
    if to.kind == "hospital":
        return _assign_to_hospital(change, seat)
    case = seat.case.model_copy(update={"home": Leg(hub=to.id, placed=True)})
    told = [_waiting_at(known, to.id, ()) for known in change.open_of(case.case_id)]
    change.keep(*told)
    change.happen(CaseAssigned, case, told, moved_hubs(change, seat.case, case), settles=True)
    return None


def _assign_to_hospital(change: Change, seat: Seat) -> Refused | None:
    """Triage has looked at a doubtful number: the rules take the stay as any other."""
    doubtful = [known for known in change.open_of(seat.case.case_id) if known.in_stay and not known.cleared]
    if not doubtful:
        return _refused(seat, "impossible", "No open referral of the case tells of a stay in hospital.")
    change.keep(*(known.model_copy(update={"cleared": True}) for known in doubtful))
    home = seat.case.home.model_copy(update={"placed": False})
    case, _ = place(change, seat.case.model_copy(update={"home": home}))
    change.happen(CaseAssigned, case, (), moved_hubs(change, seat.case, case), settles=True)
    return None


def _waiting_at(known: KnownReferral, hub: HubId, reasons: tuple[RoutingReason, ...]) -> KnownReferral:
    return known.model_copy(update={"home_hub": hub, "reasons": reasons, "status": CaseStatus.REQUESTED})


def _transfer(change: Change, seat: Seat, command: Transfer) -> Refused | None:
    to = change.grounds.directory.hub(command.to_hub)
    if to is None:
        return _refused(seat, "unknown-hub", "to_hub names no hub; for an authority elsewhere, reject with refer_to.")
    if to.id == seat.hub.id:
        return _refused(seat, "impossible", "The case is with this hub already.")
    if to.kind == "hospital" and not seat.in_stay:
        return _refused(seat, "impossible", "No open referral of the case tells of a stay in hospital.")
    if to.kind == "hospital":
        _transfer_stay(change, seat, to)
    else:
        _transfer_home(change, seat, to)
    return None


def _transfer_stay(change: Change, seat: Seat, to: Hub) -> None:
    """From one hospital team to another: the stay goes on."""
    stay = Leg(hub=to.id, placed=True, pathway=seat.leg.pathway, reasons=seat.leg.reasons)
    case = seat.case.model_copy(update={"stay": stay})
    told = [
        known.model_copy(
            update={
                "status": CaseStatus.REQUESTED,
                "hospital_hub": to.id,
                "secret": known.secret or to.restricted,
            }
        )
        for known in _served(change, seat)
    ]
    change.keep(*told)
    moved = moved_hubs(change, seat.case, case)
    change.happen(CaseTransferred, case, (), moved, settles=True, from_hub=seat.hub.id, to_hub=to.id)


def _transfer_home(change: Change, seat: Seat, to: Hub) -> None:
    """To a home hub; by a hospital team before the discharge was told, this is the hand-over."""
    reasons = (RoutingReason.TRANSFERRED,)
    served = {known.reference for known in _served(change, seat)}
    case = seat.case.model_copy(update={"stay": None, "home": Leg(hub=to.id, placed=True, reasons=reasons)})
    told = [
        _waiting_at(known, to.id, reasons).model_copy(update=_left_the_ward(known))
        for known in change.open_of(case.case_id)
        if known.reference in served or known.home_hub != to.id
    ]
    change.keep(*told)
    moved = moved_hubs(change, seat.case, case)
    change.happen(CaseTransferred, case, told, moved, settles=True, from_hub=seat.hub.id, to_hub=to.id)


def _left_the_ward(known: KnownReferral) -> dict[str, object]:
    return {"in_stay": False, "handed_over": True} if known.in_stay else {}
