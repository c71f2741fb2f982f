"""Commands that move a case: triage and the hospital team assign, a holder transfers."""

from schemas.case import CaseStatus, RoutingReason
from schemas.events import Assign, CaseAssigned, CaseTransferred, Transfer
from schemas.model import HubId
from services.reference.directory.model import Hub
from services.router.decide import closures
from services.router.decide.acting_hub import ActingHub, CommandRejection, audience, reject, served_by
from services.router.decide.model import ReferralRecord, Responsibility
from services.router.decide.progress import with_home_hub
from services.router.decide.transition import Transition, assign_case, assigned_to, moved_hubs


def assign(transition: Transition, acting: ActingHub, command: Assign) -> CommandRejection | None:
    """Assign the case to the home hub that triage or the hospital team names."""
    directory = transition.context.directory
    to, outside = directory.hub(command.to_hub), directory.authority(command.to_hub)
    if acting.hub.kind not in acting.rule.kinds:
        return reject(acting, "not-permitted", "Only triage and hospital teams can assign. Send transfer instead.")
    if to is None and outside is None:
        return reject(
            acting,
            "unknown-hub",
            "to_hub is not a hub or an authority in the directory. Use an identifier in the directory.",
        )
    if acting.hub.kind == "hospital":
        return _assign_follow_on(transition, acting, command.to_hub, to)
    if to is None:
        closures.send_outside(transition, acting.case, transition.open_of(acting.case.case_id), command.to_hub)
        return None
    return _assign_from_triage(transition, acting, to)


def _assign_follow_on(
    transition: Transition, acting: ActingHub, to_hub: HubId, to: Hub | None
) -> CommandRejection | None:
    """Assign the hub, or authority outside the county, that follows on after the stay."""
    if rejection := _reject_follow_on(acting, to):
        return rejection
    case = acting.case.model_copy(update={"home": assigned_to(transition, to_hub)})
    records = [with_home_hub(record, to_hub) for record in served_by(transition, acting)]
    transition.keep(*records)
    moved = {**audience(transition, acting), **moved_hubs(transition, acting.case, case)}
    transition.emit(CaseAssigned, case, records, moved)
    return None


def _reject_follow_on(acting: ActingHub, to: Hub | None) -> CommandRejection | None:
    if acting.case.home.accepted:
        return reject(acting, "impossible", "The home hub has accepted the case. Send transfer instead of assign.")
    if to is not None and to.kind == "hospital":
        return reject(
            acting, "impossible", "A hospital team cannot follow on after a stay. Send transfer instead of assign."
        )
    return None


def _assign_from_triage(transition: Transition, acting: ActingHub, to: Hub) -> CommandRejection | None:
    if to.id == acting.hub.id:
        return reject(acting, "impossible", "The case is already with central triage.")
    if to.kind == "hospital":
        return _assign_to_hospital(transition, acting)
    case = acting.case.model_copy(update={"home": assigned_to(transition, to.id)})
    records = [_requested_at(record, to.id, ()) for record in transition.open_of(case.case_id)]
    transition.keep(*records)
    transition.emit(CaseAssigned, case, records, moved_hubs(transition, acting.case, case))
    return None


def _assign_to_hospital(transition: Transition, acting: ActingHub) -> CommandRejection | None:
    """Set the NHS number of each open stay to checked, so that the rules assign the stay to a hospital team."""
    unchecked = [
        record for record in transition.open_of(acting.case.case_id) if record.in_stay and not record.nhs_number_checked
    ]
    if not unchecked:
        return reject(
            acting,
            "impossible",
            "No open referral of the case is a hospital stay that waits for triage. Choose another hub.",
        )
    transition.keep(*(record.model_copy(update={"nhs_number_checked": True}) for record in unchecked))
    home = acting.case.home.model_copy(update={"assigned_by_person": False})
    case, _ = assign_case(transition, acting.case.model_copy(update={"home": home}))
    transition.emit(CaseAssigned, case, (), moved_hubs(transition, acting.case, case))
    return None


def _requested_at(record: ReferralRecord, hub: HubId, reasons: tuple[RoutingReason, ...]) -> ReferralRecord:
    return record.model_copy(update={"home_hub": hub, "reasons": reasons, "status": CaseStatus.REQUESTED})


def transfer(transition: Transition, acting: ActingHub, command: Transfer) -> CommandRejection | None:
    """Transfer the case to another hub."""
    to = transition.context.directory.hub(command.to_hub)
    if to is None:
        return reject(
            acting,
            "unknown-hub",
            "to_hub is not a hub in the directory. For an authority outside the county, send reject with refer_to.",
        )
    if to.id == acting.hub.id:
        return reject(acting, "impossible", "The case is already with this hub. Choose another hub.")
    if to.kind == "hospital" and not acting.in_stay:
        return reject(
            acting,
            "impossible",
            "Only a hospital team can transfer to another hospital team. Choose another hub; triage can send assign.",
        )
    if to.kind == "hospital":
        _transfer_stay(transition, acting, to)
    else:
        _transfer_home(transition, acting, to)
    return None


def _transfer_stay(transition: Transition, acting: ActingHub, to: Hub) -> None:
    """Transfer the stay from one hospital team to another."""
    stay = Responsibility(
        hub=to.id, assigned_by_person=True, pathway=acting.responsibility.pathway, reasons=acting.responsibility.reasons
    )
    case = acting.case.model_copy(update={"stay": stay})
    records = [
        record.model_copy(
            update={
                "status": CaseStatus.REQUESTED,
                "hospital_hub": to.id,
                "restricted": record.restricted or to.restricted,
            }
        )
        for record in served_by(transition, acting)
    ]
    transition.keep(*records)
    moved = moved_hubs(transition, acting.case, case)
    transition.emit(CaseTransferred, case, (), moved, from_hub=acting.hub.id, to_hub=to.id)


def _transfer_home(transition: Transition, acting: ActingHub, to: Hub) -> None:
    """Transfer the case to a home hub; from a hospital team this ends the stay before a discharge date arrives."""
    reasons = (RoutingReason.TRANSFERRED,)
    served = {record.reference for record in served_by(transition, acting)}
    case = acting.case.model_copy(update={"stay": None, "home": assigned_to(transition, to.id, reasons)})
    records = [
        _requested_at(record, to.id, reasons).model_copy(update=_with_stay_ended(record))
        for record in transition.open_of(case.case_id)
        if record.reference in served or record.home_hub != to.id
    ]
    transition.keep(*records)
    moved = moved_hubs(transition, acting.case, case)
    transition.emit(CaseTransferred, case, records, moved, from_hub=acting.hub.id, to_hub=to.id)


def _with_stay_ended(record: ReferralRecord) -> dict[str, object]:
    return {"in_stay": False, "transferred_before_discharge": True} if record.in_stay else {}
