"""Decides what a sender's message does: a referral that is new, changed or taken back."""

from typing import assert_never

from schemas.case import BusinessStatus, CaseStatus, EndReason, Pathway, RoutingReason
from schemas.events import (
    CancellationRefused,
    CaseAssigned,
    CaseJoined,
    CaseOpened,
    CaseTransferred,
    CaseUpdated,
    ReferralCancelled,
    ReferralEvent,
    ReferralReceived,
    ReferralUpdated,
    UpdateRefused,
)
from schemas.model import HubId, Reference
from schemas.referral import INFORMATION_ADVICE, GrantProgress, Referral, ServiceCode
from services.directory import UnknownService
from services.router import endings, matching
from services.router.assignment import Assignment, Request, hospital_of, what_is_read
from services.router.change import (
    Change,
    assign_alone,
    assign_one,
    by_itself,
    case_id_of,
    moved_hubs,
    place,
    placed_at,
    put,
)
from services.router.matching import Candidate, Description, Doubt, Match
from services.router.state import Case, KnownPerson, KnownReferral, Leg, Role
from services.router.views import is_restricted


class UnknownReferral(Exception):
    """A cancel of a referral that never came: something before it is missing."""


def arrive(change: Change, event: ReferralEvent) -> None:
    """Apply a sender's message to the state."""
    known = change.referrals.get(event.reference)
    match event:
        case ReferralReceived() | ReferralUpdated():
            _check_services(change, event.referral)
            if known is None:
                _receive(change, event)
            elif event.version > known.version:
                _update(change, known, event)
        case ReferralCancelled():
            if known is None:
                raise UnknownReferral
            if event.version > known.version:
                _take_back(change, known.model_copy(update={"version": event.version}), event.reason)
        case _:
            assert_never(event)


def _check_services(change: Change, referral: Referral) -> None:
    """Raise UnknownService if a need is not in the catalogue: the record waits until the catalogue has it."""
    if not all(change.grounds.directory.offers(need.service) for need in referral.needs):
        raise UnknownService


# ---- a new referral -------------------------------------------------------------------------------------------------


def _receive(change: Change, event: ReferralReceived | ReferralUpdated) -> None:
    matched = matching.match(event.referral.person, _candidates(change))
    person_no = matched.person_no or max(change.persons, default=0) + 1
    if matched.person_no is None:
        change.keep(KnownPerson(person_no=person_no, provisional=matched.provisional, tracing_reasons=matched.doubts))
    case = next((case for case in change.cases.values() if case.person_no == person_no and not case.ended), None)
    alone = assign_one(change, Request.of(event.reference, event.referral))
    known = _known(change, event, person_no, alone)
    if event.referral.consents.referral.answer == "no":
        _refuse_consent(change, known, alone)
    elif alone.pathway is Pathway.OUTSIDE and not _stays_in(case, event.referral):
        _return(change, known, alone)
    elif case is None:
        _open(change, known, alone)
    else:
        _join(change, case, known)
    _doubt(change, matched)


def _candidates(change: Change) -> list[Candidate]:
    return [Candidate(number, _descriptions(change, number)) for number in change.persons]


def _descriptions(change: Change, person_no: int, besides: Reference | None = None) -> tuple[Description, ...]:
    return tuple(
        Description.of(known.referral.person)
        for known in change.referrals.values()
        if known.person_no == person_no and known.reference != besides
    )


def _known(
    change: Change, event: ReferralReceived | ReferralUpdated, person_no: int, alone: Assignment
) -> KnownReferral:
    referral = event.referral
    hospital_hub = _hospital_hub(change, referral)
    return KnownReferral(
        reference=event.reference,
        version=event.version,
        person_no=person_no,
        case_id=case_id_of(change.person_key, event.reference),
        correlation_id=change.cause.correlation_id,
        message_id=referral.message.message_id,
        referral=referral,
        open_needs=_raised(referral),
        home_hub=alone.home_hub or alone.holder,
        reasons=alone.reasons,
        hospital_hub=hospital_hub,
        restricted=is_restricted(hospital_hub, change.grounds.directory),
        in_stay=referral.is_inpatient,
    )


def _raised(referral: Referral) -> tuple[ServiceCode, ...]:
    """The needs to be met; advice, where none was named, so that the referral can end."""
    return tuple(need.service for need in referral.needs) or (INFORMATION_ADVICE,)


def _hospital_hub(change: Change, referral: Referral) -> HubId | None:
    return hospital_of(referral, change.grounds.directory)[0].id if referral.hospital is not None else None


def _stays_in(case: Case | None, referral: Referral) -> bool:
    """A hub of the county has the person already, and the person did not name an authority elsewhere."""
    return case is not None and case.is_settled and referral.named_authority is None


def _new_case(change: Change, known: KnownReferral, home: Leg, alone: Assignment) -> Case:
    return Case(
        case_id=known.case_id,
        person_no=known.person_no,
        home=home,
        district=alone.district,
        directory_version=change.grounds.directory.version,
    )


def _open(change: Change, known: KnownReferral, alone: Assignment) -> None:
    change.keep(known)
    case = put(change, _new_case(change, known, Leg(hub=None), alone), alone)
    case = change.happen(CaseOpened, _with_grant(case, known.referral.grant), [known])
    change.happen(CaseAssigned, case, [known], change.roles(case), settles=True)


def _return(change: Change, known: KnownReferral, alone: Assignment) -> None:
    """Outside the county: a case of its own, opened and rejected, whatever else the person has here."""
    change.keep(known)
    home = Leg(hub=alone.home_hub, pathway=alone.pathway, reasons=alone.reasons)
    case = change.happen(CaseOpened, _new_case(change, known, home, alone), [known])
    endings.send_outside(change, case, [known], alone.home_hub)


def _refuse_consent(change: Change, known: KnownReferral, alone: Assignment) -> None:
    """Intake refuses such a referral; one that came all the same is shown to no hub."""
    change.keep(known)
    case = change.happen(CaseOpened, _new_case(change, known, Leg(hub=None, reasons=alone.reasons), alone), [known])
    endings.cancel(change, case, known, EndReason.CONSENT_WITHDRAWN)


def _join(change: Change, case: Case, known: KnownReferral) -> None:
    before = case
    known = known.model_copy(update={"case_id": case.case_id})
    change.keep(known)
    named = _named_elsewhere(change, case, known.referral)
    if named is not None:
        reasons = (RoutingReason.NAMED_AUTHORITY, RoutingReason.TRANSFERRED)
        case = case.model_copy(update={"home": placed_at(change, named, reasons)})
    elif case.home.assigned_by_person:
        case = _open_already(case)
    case, _ = place(change, _with_stay_of(case, None, known))
    known = _told_at_joining(case, known, named)
    change.keep(case, known)
    moved = moved_hubs(change, before, case)
    staying = {hub: role for hub, role in change.seeing(case, known).items() if hub not in moved}
    case = change.happen(CaseJoined, case, [known], staying, settles=True, joined=known.reference)
    if named is None:
        change.happen(CaseAssigned, case, [known], moved, settles=True)
    else:
        _transfer(change, case, before.home.hub, named, known, moved)


def _open_already(case: Case) -> Case:
    reasons = tuple(dict.fromkeys((*case.home.reasons, RoutingReason.ALREADY_OPEN)))
    return case.model_copy(update={"home": case.home.model_copy(update={"reasons": reasons})})


def _with_stay_of(case: Case, before: KnownReferral | None, known: KnownReferral) -> Case:
    """A stay in another hospital moves the case, also where the first team has accepted it."""
    moved = before is None or before.hospital_hub != known.hospital_hub
    if case.stay is None or not known.in_stay or not moved or known.hospital_hub == case.stay.hub:
        return case
    return case.model_copy(update={"stay": case.stay.model_copy(update={"assigned_by_person": False})})


def _told_at_joining(case: Case, known: KnownReferral, named: HubId | None) -> KnownReferral:
    """Where a home hub has accepted, the referrer is told of that hub; otherwise of the one that the referral gives by itself."""
    if named is not None:
        reasons = (RoutingReason.NAMED_AUTHORITY, RoutingReason.TRANSFERRED)
        return known.model_copy(update={"home_hub": named, "reasons": reasons})
    if case.is_settled and known.home_hub != case.home.hub:
        return known.model_copy(update={"home_hub": case.home.hub, "reasons": ()})
    return known


def _named_elsewhere(change: Change, case: Case, referral: Referral) -> HubId | None:
    """Duty to refer: the hub of the authority that the person named, with consent, while the case was placed with another."""
    if (
        referral.named_authority is None
        or referral.consents.referral.answer != "yes"
        or not case.home.assigned_by_person
    ):
        return None
    hub = change.grounds.directory.hub_for_district(referral.named_authority, change.grounds.on)
    return hub.id if hub is not None and hub.id != case.home.hub else None


def _transfer(
    change: Change, case: Case, from_hub: HubId | None, to_hub: HubId, by: KnownReferral, moved: dict[HubId, Role]
) -> None:
    """The case goes to the authority that the person named. During a stay the other referrers do not hear of it."""
    others = [known for known in change.open_of(case.case_id) if known.reference != by.reference]
    told = [] if case.stay else [known.model_copy(update=_waits_at(to_hub)) for known in others]
    change.keep(*told)
    change.happen(CaseTransferred, case, [by, *told], moved, settles=True, from_hub=from_hub, to_hub=to_hub)


def _waits_at(hub: HubId) -> dict[str, object]:
    return {"home_hub": hub, "reasons": (RoutingReason.TRANSFERRED,), "status": CaseStatus.REQUESTED}


def _doubt(change: Change, matched: Match) -> None:
    """Known persons whom the newcomer makes doubtful: whoever works with them is told to check who it is."""
    for number in matched.doubted:
        _now_doubtful(change, number, "does-not-match")


def _now_doubtful(change: Change, person_no: int, doubt: Doubt) -> bool:
    person = change.persons[person_no]
    if doubt in person.tracing_reasons:
        return False
    change.keep(person.model_copy(update={"provisional": True, "tracing_reasons": (*person.tracing_reasons, doubt)}))
    for case in [case for case in change.cases.values() if case.person_no == person_no and not case.ended]:
        change.happen(CaseUpdated, case, (), change.roles(case), settles=True)
    return True


# ---- a changed referral ---------------------------------------------------------------------------------------------


def _update(change: Change, known: KnownReferral, event: ReferralReceived | ReferralUpdated) -> None:
    case = change.cases[known.case_id]
    new = known.model_copy(update={"version": event.version, "referral": event.referral})
    if not known.is_open:
        _refuse_update(change, case, new)
    elif event.referral.consents.referral.answer == "no":
        change.keep(new)
        endings.cancel(change, case, new, EndReason.CONSENT_WITHDRAWN)
    else:
        _check_person(change, known, new)
        _apply(change, change.cases[known.case_id], known, new)


def _refuse_update(change: Change, case: Case, known: KnownReferral) -> None:
    """Kept, its last holder told, nothing opened again."""
    change.keep(known)
    change.happen(UpdateRefused, case, [known], change.seeing(case, known), settles=False, refused=known.reference)


def _check_person(change: Change, known: KnownReferral, new: KnownReferral) -> None:
    """Nothing moves by machine: a number that changed, or a person who no longer agrees, goes to the tracing queue."""
    told, others = Description.of(new.referral.person), _descriptions(change, known.person_no, known.reference)
    if told.nhs_number != known.referral.person.nhs_number:
        _now_doubtful(change, known.person_no, "number-changed")
    elif others and not any(matching.same_person(told, other) for other in others):
        _now_doubtful(change, known.person_no, "no-longer-matches")


def _apply(change: Change, case: Case, known: KnownReferral, new: KnownReferral) -> None:
    in_stay = new.referral.is_inpatient and not known.transferred_before_discharge
    new = _in_hospital(change, known, _with_needs(new)).model_copy(update={"in_stay": in_stay})
    change.keep(new)
    alone = assign_alone(change, new)
    if known.in_stay and not in_stay and _stays_with_hospital(change, case, new, alone):
        new = new.model_copy(update={"in_stay": True})
    new = _told_after(change, case, new, alone, moved=what_is_read(known.referral) != what_is_read(new.referral))
    change.keep(new)
    case = _with_stay_of(_with_grant(case, new.referral.grant), known, new)
    case = change.happen(CaseUpdated, case, [new], change.seeing(case, new), settles=True, updated=new.reference)
    _after_update(change, case, known, new, alone)


def _in_hospital(change: Change, known: KnownReferral, new: KnownReferral) -> KnownReferral:
    """The hospital team is another only where the hospital tells of another place; what was restricted stays so."""
    hub = _hospital_hub(change, new.referral)
    if hub is None or hub == _hospital_hub(change, known.referral):
        return new
    return new.model_copy(
        update={"hospital_hub": hub, "restricted": known.restricted or is_restricted(hub, change.grounds.directory)}
    )


def _with_needs(new: KnownReferral) -> KnownReferral:
    """The needs as told now; what has ended stays ended."""
    needs = tuple(need for need in _raised(new.referral) if need not in new.ended_needs)
    return new.model_copy(update={"open_needs": needs or new.open_needs})


def _stays_with_hospital(change: Change, case: Case, known: KnownReferral, alone: Assignment) -> bool:
    """Somebody from outside the county, whom the hospital team took on, stays with it after the discharge too."""
    only = len(change.open_of(case.case_id)) == 1
    return only and alone.pathway is Pathway.OUTSIDE and case.stay is not None and case.stay.accepted


def _told_after(change: Change, case: Case, new: KnownReferral, alone: Assignment, *, moved: bool) -> KnownReferral:
    if not moved or case.is_settled:
        return new
    return by_itself(new, alone)


def _after_update(change: Change, case: Case, known: KnownReferral, new: KnownReferral, alone: Assignment) -> None:
    """The rules run again where anything that they read has changed."""
    dropped = all(need in new.ended_needs or need not in _raised(new.referral) for need in new.open_needs)
    if dropped:
        endings.cancel(change, case, new, EndReason.CANCELLED_BY_REFERRER)
        return
    if what_is_read(known.referral) == what_is_read(new.referral):
        return
    if _belongs_outside(case, new, alone):
        endings.send_outside(change, case, [new], alone.home_hub)
        return
    endings.regroup(change, case, [new] if new.home_hub != known.home_hub else [])


def _belongs_outside(case: Case, new: KnownReferral, alone: Assignment) -> bool:
    return alone.pathway is Pathway.OUTSIDE and new.hospital_hub is None and not case.is_settled


def _take_back(change: Change, known: KnownReferral, reason: EndReason) -> None:
    case = change.cases[known.case_id]
    change.keep(known)
    if known.is_open:
        endings.cancel(change, case, known, reason)
    else:
        change.happen(CancellationRefused, case, [known], refused=known.reference)


# ---- a grant that a council reports ---------------------------------------------------------------------------------

STAGES: tuple[tuple[str, BusinessStatus], ...] = (
    ("completion_on", BusinessStatus.DFG_COMPLETION),
    ("works_on", BusinessStatus.DFG_WORKS),
    ("approval_on", BusinessStatus.DFG_APPROVAL),
    ("application_on", BusinessStatus.DFG_APPLICATION),
    ("ss127_on", BusinessStatus.DFG_SS127),
    ("ot_assessment_on", BusinessStatus.DFG_OT_ASSESSMENT),
)
"""Steps of a disabled facilities grant, the last first."""


def _with_grant(case: Case, grant: GrantProgress | None) -> Case:
    """The case standing where the council says that the grant stands."""
    reached = next((status for field, status in STAGES if grant is not None and getattr(grant, field)), None)
    if reached is None:
        return case
    return case.model_copy(update={"home": case.home.model_copy(update={"business_status": reached})})
