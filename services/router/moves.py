"""Commands that move a case: triage and the hospital team assign, a holder transfers."""

from schemas.case import CaseStatus, RoutingReason
from schemas.events import Assign, CaseAssigned, CaseTransferred, Transfer
from schemas.model import HubId
from services.directory import Hub
from services.router import endings
from services.router.change import Change, moved_hubs, place, placed_at
from services.router.seat import Refused, Seat, hearing, refuse, served_by
from services.router.state import KnownReferral, Leg
from services.router.work import at_hub


def assign(change: Change, seat: Seat, command: Assign) -> Refused | None:
    """Triage or the hospital team says which hub it is for."""
    directory = change.grounds.directory
    to, outside = directory.hub(command.to_hub), directory.authority(command.to_hub)
    if seat.hub.kind == "locality":
        return refuse(seat, "not-permitted", "Only triage and the hospital team assign; a hub transfers.")
    if to is None and outside is None:
        return refuse(seat, "unknown-hub", "to_hub is not a hub or an authority of the directory.")
    if seat.hub.kind == "hospital":
        return _assign_follow_on(change, seat, command.to_hub, to)
    if to is None:
        endings.send_outside(change, seat.case, change.open_of(seat.case.case_id), command.to_hub)
        return None
    return _assign_from_triage(change, seat, to)


def _assign_follow_on(change: Change, seat: Seat, to_hub: HubId, to: Hub | None) -> Refused | None:
    """The hospital team says which home hub, or authority elsewhere, follows on."""
    if seat.case.home.accepted:
        return refuse(seat, "impossible", "The home hub has accepted the case: transfer it instead.")
    if to is not None and to.kind == "hospital":
        return refuse(seat, "impossible", "A hospital team cannot follow on: transfer instead.")
    case = seat.case.model_copy(update={"home": placed_at(change, to_hub)})
    told = [at_hub(known, to_hub) for known in served_by(change, seat)]
    change.keep(*told)
    moved = {**hearing(change, seat), **moved_hubs(change, seat.case, case)}
    change.happen(CaseAssigned, case, told, moved, settles=True)
    return None


def _assign_from_triage(change: Change, seat: Seat, to: Hub) -> Refused | None:
    if to.id == seat.hub.id:
        return refuse(seat, "impossible", "The case is with triage already.")
    if to.kind == "hospital":
        return _assign_to_hospital(change, seat)
    case = seat.case.model_copy(update={"home": placed_at(change, to.id)})
    told = [_waiting_at(known, to.id, ()) for known in change.open_of(case.case_id)]
    change.keep(*told)
    change.happen(CaseAssigned, case, told, moved_hubs(change, seat.case, case), settles=True)
    return None


def _assign_to_hospital(change: Change, seat: Seat) -> Refused | None:
    """Triage has looked at a doubtful number: the rules take the stay as any other."""
    doubtful = [known for known in change.open_of(seat.case.case_id) if known.in_stay and not known.nhs_number_checked]
    if not doubtful:
        return refuse(seat, "impossible", "No open referral of the case tells of a stay in hospital.")
    change.keep(*(known.model_copy(update={"nhs_number_checked": True}) for known in doubtful))
    home = seat.case.home.model_copy(update={"assigned_by_person": False})
    case, _ = place(change, seat.case.model_copy(update={"home": home}))
    change.happen(CaseAssigned, case, (), moved_hubs(change, seat.case, case), settles=True)
    return None


def _waiting_at(known: KnownReferral, hub: HubId, reasons: tuple[RoutingReason, ...]) -> KnownReferral:
    return known.model_copy(update={"home_hub": hub, "reasons": reasons, "status": CaseStatus.REQUESTED})


def transfer(change: Change, seat: Seat, command: Transfer) -> Refused | None:
    """The holder gives the case to another hub."""
    to = change.grounds.directory.hub(command.to_hub)
    if to is None:
        return refuse(seat, "unknown-hub", "to_hub is not a hub; for an authority elsewhere, reject with refer_to.")
    if to.id == seat.hub.id:
        return refuse(seat, "impossible", "The case is with this hub already.")
    if to.kind == "hospital" and not seat.in_stay:
        return refuse(seat, "impossible", "No open referral of the case tells of a stay in hospital.")
    if to.kind == "hospital":
        _transfer_stay(change, seat, to)
    else:
        _transfer_home(change, seat, to)
    return None


def _transfer_stay(change: Change, seat: Seat, to: Hub) -> None:
    """From one hospital team to another: the stay goes on."""
    stay = Leg(hub=to.id, assigned_by_person=True, pathway=seat.leg.pathway, reasons=seat.leg.reasons)
    case = seat.case.model_copy(update={"stay": stay})
    told = [
        known.model_copy(
            update={
                "status": CaseStatus.REQUESTED,
                "hospital_hub": to.id,
                "restricted": known.restricted or to.restricted,
            }
        )
        for known in served_by(change, seat)
    ]
    change.keep(*told)
    moved = moved_hubs(change, seat.case, case)
    change.happen(CaseTransferred, case, (), moved, settles=True, from_hub=seat.hub.id, to_hub=to.id)


def _transfer_home(change: Change, seat: Seat, to: Hub) -> None:
    """To a home hub; by a hospital team before the discharge was told, this is the hand-over."""
    reasons = (RoutingReason.TRANSFERRED,)
    served = {known.reference for known in served_by(change, seat)}
    case = seat.case.model_copy(update={"stay": None, "home": placed_at(change, to.id, reasons)})
    told = [
        _waiting_at(known, to.id, reasons).model_copy(update=_left_the_ward(known))
        for known in change.open_of(case.case_id)
        if known.reference in served or known.home_hub != to.id
    ]
    change.keep(*told)
    moved = moved_hubs(change, seat.case, case)
    change.happen(CaseTransferred, case, told, moved, settles=True, from_hub=seat.hub.id, to_hub=to.id)


def _left_the_ward(known: KnownReferral) -> dict[str, object]:
    return {"in_stay": False, "transferred_before_discharge": True} if known.in_stay else {}
