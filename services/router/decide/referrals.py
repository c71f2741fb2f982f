"""Decide what a sender's message does: receive, update or cancel a referral."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date
from typing import assert_never

from schemas.case import BusinessStatus, CaseStatus, EndReason, Pathway, RoutingReason
from schemas.events import (
    CancellationRefused,
    CaseAssigned,
    CaseJoined,
    CaseOpened,
    CaseTransferred,
    CaseUpdated,
    DischargeOverdue,
    ReferralCancellationNotApplied,
    ReferralCancelled,
    ReferralEvent,
    ReferralMergeProposed,
    ReferralReceived,
    ReferralUpdated,
    ReferralUpdateNotApplied,
    UpdateRefused,
)
from schemas.model import HubId, Reference
from schemas.referral import (
    INFORMATION_ADVICE,
    DeathReport,
    GrantProgress,
    HousingNeed,
    Referral,
    ServiceCode,
    UnreadPart,
)
from services.reference.directory.model import UnknownService
from services.router.decide import closures, deaths, matching, stays, tasks
from services.router.decide.assignment import Assignment, Request, hospital_of, restricted_reader, what_is_read
from services.router.decide.disclosure import is_restricted
from services.router.decide.matching import Description, Doubt, Match
from services.router.decide.model import (
    CaseRecord,
    NeedsCorrection,
    PersonRecord,
    ReferralRecord,
    Responsibility,
    Role,
    parts_of,
    parts_without,
)
from services.router.decide.transition import (
    Transition,
    assign_case,
    assign_one,
    assign_separately,
    assigned_to,
    case_id_of,
    moved_hubs,
    with_assignment,
    with_own_assignment,
)

EventOfKnownReferral = (
    ReferralCancelled
    | ReferralCancellationNotApplied
    | ReferralUpdateNotApplied
    | ReferralMergeProposed
    | DischargeOverdue
)


class UnknownReferral(Exception):
    """An event names a referral that was never received: an earlier message is missing."""


def apply_referral_event(transition: Transition, event: ReferralEvent) -> None:
    """Apply a sender's message; one that is older than the stored version changes nothing.

    Raises UnknownReferral, UnknownService.
    """
    record = transition.referrals.get(event.reference)
    if isinstance(event, ReferralReceived | ReferralUpdated):
        _check_services(transition, event.referral)
        event = event.model_copy(update={"referral": stays.as_of(event.referral, transition.context.on)})
        if record is None:
            _receive(transition, event)
        elif event.version > record.version:
            _update(transition, record, event)
    elif record is None:
        raise UnknownReferral
    elif isinstance(event, DischargeOverdue) or event.version > record.version:
        _apply_to_known(transition, record, event)


def _apply_to_known(transition: Transition, record: ReferralRecord, event: EventOfKnownReferral) -> None:
    match event:
        case ReferralCancelled():
            _cancel_referral(transition, record, event)
        case ReferralCancellationNotApplied():
            _note_unapplied(transition, record, event)
            _ask(transition, record, tasks.check_cancellation)
        case ReferralUpdateNotApplied():
            _note_unapplied(transition, record, event)
            _note_doubt(transition, record.person_no, "contradicted")
            _ask(transition, record, tasks.check_person)
        case ReferralMergeProposed():
            transition.keep(record.model_copy(update={"version": event.version}))
            _note_doubt(transition, record.person_no, "merge-proposed")
            _ask(transition, record, tasks.check_person)
        case DischargeOverdue():
            _ask_about_discharge(transition, record, event.expected_on)
        case _:
            assert_never(event)


def _check_services(transition: Transition, referral: Referral) -> None:
    """Raise UnknownService if a need is not in the service catalogue; the record becomes a dead letter."""
    if not all(transition.context.directory.offers(need.service) for need in referral.needs):
        raise UnknownService


# ---- a new referral -------------------------------------------------------------------------------------------------


def _receive(transition: Transition, event: ReferralReceived | ReferralUpdated) -> None:
    person = event.referral.person
    matched = matching.match(person, transition.candidates(Description.of(person)))
    person_no = matched.person_no or transition.tally.persons + 1
    if matched.person_no is None:
        transition.keep(
            PersonRecord(person_no=person_no, provisional=matched.provisional, tracing_reasons=matched.tracing_reasons)
        )
    _note_restriction(transition, person_no, event.reference, event.referral)
    case = next(iter(transition.open_cases(person_no)), None)
    in_stay = _begins_in_stay(transition, person_no, event.referral)
    request = replace(Request.of(event.reference, event.referral), in_stay=in_stay)
    own_assignment = assign_one(transition, person_no, request)
    record = _new_record(transition, event, person_no, own_assignment, in_stay=in_stay)
    if event.referral.consents.referral.answer == "no":
        _cancel_without_consent(transition, record, own_assignment)
    elif own_assignment.pathway is Pathway.OUTSIDE and not _keeps_home_hub(case, event.referral):
        _return_outside(transition, record, own_assignment)
    elif case is None:
        _open(transition, record, own_assignment)
    else:
        _join(transition, case, record)
    _raise_doubts(transition, matched)
    _check_before_contact(transition, transition.referrals[event.reference])
    _ask_to_read(transition, record.unread, event.reference)


def _begins_in_stay(transition: Transition, person_no: int, referral: Referral) -> bool:
    """Return True if a hospital team works on a new referral; a restricted team works on all that it has to read.

    A death that the message, or one before, reports and that is not confirmed comes before a discharge.
    """
    if restricted_reader(referral, transition.context.directory, unread=bool(referral.to_be_read)):
        return True
    person = transition.persons[person_no]
    reports = referral.person.death_reported is not None and not person.death_confirmed
    return stays.begins(referral, death_reported=reports or person.death_is_unconfirmed)


def _check_before_contact(transition: Transition, record: ReferralRecord) -> None:
    """Apply the report of a death in a new referral; raise a task for a new case of a person who was reported dead before."""
    held = transition.persons[record.person_no].check_before_contact
    if record.referral.person.death_reported is not None:
        deaths.note_report(transition, record.person_no, record.reference)
    opened = record.case_id == case_id_of(transition.person_key, record.reference)
    if held and opened and record.is_open:
        tasks.check_before_contact(transition, transition.cases[record.case_id])


def _note_restriction(transition: Transition, person_no: int, reference: Reference, referral: Referral) -> None:
    """Store whether a referral's message restricts the person's data; silence, and other referrals, change nothing."""
    person, restricted = transition.persons[person_no], referral.person.restricted_access
    if restricted in (None, reference in person.restricted_by):
        return
    others = tuple(other for other in person.restricted_by if other != reference)
    restricted_by = (*others, reference) if restricted else others
    transition.keep(person.model_copy(update={"restricted_by": restricted_by}))


def _new_record(
    transition: Transition,
    event: ReferralReceived | ReferralUpdated,
    person_no: int,
    own_assignment: Assignment,
    *,
    in_stay: bool,
) -> ReferralRecord:
    referral = event.referral
    unread = bool(referral.to_be_read)
    hospital_hub = _hospital_hub(transition, referral, unread=unread)
    record = ReferralRecord(
        reference=event.reference,
        version=event.version,
        person_no=person_no,
        case_id=case_id_of(transition.person_key, event.reference),
        correlation_id=transition.trigger.correlation_id,
        message_id=referral.message.message_id,
        referral=referral,
        open_needs=_requested_needs(referral),
        home_hub=None if unread else own_assignment.home_hub or own_assignment.holder,
        reasons=() if unread else own_assignment.reasons,
        hospital_hub=hospital_hub,
        restricted=is_restricted(hospital_hub, transition.context.directory),
        in_stay=in_stay,
    )
    return _held_for_reading(transition, record)


def _held_for_reading(transition: Transition, record: ReferralRecord) -> ReferralRecord:
    """Return an unread referral as a stay of the restricted team, if a trust of that team sent or made it."""
    team = restricted_reader(record.referral, transition.context.directory, unread=bool(record.unread))
    if team is None:
        return record
    return record.model_copy(update={"in_stay": True, "hospital_hub": team.id, "restricted": True})


def _requested_needs(referral: Referral) -> tuple[ServiceCode, ...]:
    """Return the needs of a referral; advice if it names none, so that the referral can end."""
    return tuple(need.service for need in referral.needs) or (INFORMATION_ADVICE,)


def _hospital_hub(transition: Transition, referral: Referral, *, unread: bool) -> HubId | None:
    if referral.hospital is None:
        return None
    return hospital_of(referral, transition.context.directory, unread=unread)[0].id


def _keeps_home_hub(case: CaseRecord | None, referral: Referral) -> bool:
    """Return True if a hub of the county already has the case, and the referral does not name an authority."""
    return case is not None and case.has_confirmed_home and referral.named_authority is None


def _new_case(
    transition: Transition, record: ReferralRecord, home: Responsibility, own_assignment: Assignment
) -> CaseRecord:
    return CaseRecord(
        case_id=record.case_id,
        person_no=record.person_no,
        home=home,
        district=own_assignment.district,
        directory_version=transition.context.directory.version,
    )


def _open(transition: Transition, record: ReferralRecord, own_assignment: Assignment) -> None:
    transition.keep(record)
    case = with_assignment(
        transition, _new_case(transition, record, Responsibility(hub=None), own_assignment), own_assignment
    )
    case = stays.with_moved(_with_grant(case, record.referral.grant), transition.tally_of(case.case_id))
    transition.emit(CaseOpened, case, [record], transition.roles(case))


def _return_outside(transition: Transition, record: ReferralRecord, own_assignment: Assignment) -> None:
    """Open and reject a separate case for a referral outside the county, also if the person has an open case."""
    transition.keep(record)
    home = Responsibility(hub=own_assignment.home_hub, pathway=own_assignment.pathway, reasons=own_assignment.reasons)
    case = transition.emit(CaseOpened, _new_case(transition, record, home, own_assignment), [record])
    closures.send_outside(transition, case, [record], own_assignment.home_hub)


def _cancel_without_consent(transition: Transition, record: ReferralRecord, own_assignment: Assignment) -> None:
    """Open and cancel a case without sending it to any hub; intake already refuses referrals without consent."""
    transition.keep(record)
    case = transition.emit(
        CaseOpened,
        _new_case(transition, record, Responsibility(hub=None, reasons=own_assignment.reasons), own_assignment),
        [record],
    )
    closures.cancel(transition, case, record, EndReason.CONSENT_WITHDRAWN)


def _join(transition: Transition, case: CaseRecord, record: ReferralRecord) -> None:
    before = case
    record = record.model_copy(update={"case_id": case.case_id})
    transition.keep(record)
    named = None if record.unread else _named_elsewhere(transition, case, record.referral)
    if named is not None:
        case = case.model_copy(update={"home": assigned_to(transition, named, _NAMED)})
    elif case.home.assigned_by_person:
        case = _open_already(case)
    case, _ = _without_superseded_stays(transition, _with_stay_of(case, None, record))
    case = stays.with_moved(assign_case(transition, case)[0], transition.tally_of(case.case_id))
    record = _reported_when_joining(case, record, named)
    transition.keep(case, record)
    moved = moved_hubs(transition, before, case)
    staying = {hub: role for hub, role in transition.visible_to(case, record).items() if hub not in moved}
    case = transition.emit(CaseJoined, case, [record], staying, joined=record.reference)
    if named is None:
        transition.emit(CaseAssigned, case, [record], moved)
    else:
        _transfer(transition, case, before.home.hub, named, record, moved)


def move_to_named_authority(transition: Transition, reference: Reference) -> None:
    """Transfer the case to the authority that the person named, after a person has read the referral that joined it."""
    record = transition.referrals[reference]
    before = transition.cases[record.case_id]
    named = _named_elsewhere(transition, before, record.referral) if record.is_open else None
    if named is None:
        return
    case, _ = assign_case(transition, before.model_copy(update={"home": assigned_to(transition, named, _NAMED)}))
    record = _reported_when_joining(case, record, named)
    transition.keep(case, record)
    _transfer(transition, case, before.home.hub, named, record, moved_hubs(transition, before, case))


def _open_already(case: CaseRecord) -> CaseRecord:
    reasons = tuple(dict.fromkeys((*case.home.reasons, RoutingReason.ALREADY_OPEN)))
    return case.model_copy(update={"home": case.home.model_copy(update={"reasons": reasons})})


def _with_stay_of(case: CaseRecord, before: ReferralRecord | None, record: ReferralRecord) -> CaseRecord:
    """Return the case so that a stay in another hospital moves it, even if the first team has accepted it."""
    moved = before is None or before.hospital_hub != record.hospital_hub
    if case.stay is None or not record.in_stay or not moved or record.hospital_hub == case.stay.hub:
        return case
    return case.model_copy(update={"stay": case.stay.model_copy(update={"assigned_by_person": False})})


def _reported_when_joining(case: CaseRecord, record: ReferralRecord, named: HubId | None) -> ReferralRecord:
    """Return the referral with the home hub that feedback names.

    That is the hub that has accepted the case, otherwise the one that this referral alone gives.
    """
    if record.unread:
        return record
    if named is not None:
        return record.model_copy(update={"home_hub": named, "reasons": _NAMED})
    if case.has_confirmed_home and record.home_hub != case.home.hub:
        return record.model_copy(update={"home_hub": case.home.hub, "reasons": ()})
    return record


_NAMED = (RoutingReason.NAMED_AUTHORITY, RoutingReason.TRANSFERRED)


def _named_elsewhere(transition: Transition, case: CaseRecord, referral: Referral) -> HubId | None:
    """Return the hub of the authority that the person named with consent, if a person placed the case elsewhere.

    Duty to refer: Housing Act 1996 s.213B.
    """
    if (
        referral.named_authority is None
        or referral.consents.referral.answer != "yes"
        or not case.home.assigned_by_person
    ):
        return None
    hub = transition.context.directory.hub_for_district(referral.named_authority, transition.context.on)
    return hub.id if hub is not None and hub.id != case.home.hub else None


def _transfer(
    transition: Transition,
    case: CaseRecord,
    from_hub: HubId | None,
    to_hub: HubId,
    by: ReferralRecord,
    moved: dict[HubId, Role],
) -> None:
    """Transfer the case to the authority that the person named.

    During a stay the other referrers receive no feedback about it.
    """
    others = [] if case.stay else [one for one in transition.open_of(case.case_id) if one.reference != by.reference]
    records = [record.model_copy(update=_transferred_to(to_hub)) for record in others]
    transition.keep(*records)
    transition.emit(
        CaseTransferred,
        case,
        [by, *records],
        moved,
        from_hub=from_hub,
        to_hub=to_hub,
    )


def _transferred_to(hub: HubId) -> dict[str, object]:
    return {"home_hub": hub, "reasons": (RoutingReason.TRANSFERRED,), "status": CaseStatus.REQUESTED}


def _raise_doubts(transition: Transition, matched: Match) -> None:
    """Make the persons that the new referral casts doubt on provisional, and inform their hubs."""
    for number in matched.doubted:
        _raise_doubt(transition, number, "does-not-match")


def _note_doubt(transition: Transition, person_no: int, doubt: Doubt) -> bool:
    """Add a person to the tracing queue, and return whether the doubt is new; nothing that others receive changes."""
    person = transition.persons[person_no]
    if doubt in person.tracing_reasons:
        return False
    transition.keep(person.model_copy(update={"tracing_reasons": (*person.tracing_reasons, doubt)}))
    return True


def _raise_doubt(transition: Transition, person_no: int, doubt: Doubt) -> None:
    """Make a person provisional, and inform the hubs of the person's cases."""
    if not _note_doubt(transition, person_no, doubt):
        return
    transition.keep(transition.persons[person_no].model_copy(update={"provisional": True}))
    for case in transition.open_cases(person_no):
        transition.emit(CaseUpdated, case, (), transition.roles(case))


# ---- a changed referral ---------------------------------------------------------------------------------------------


def _update(transition: Transition, record: ReferralRecord, event: ReferralReceived | ReferralUpdated) -> None:
    new = _with_message(record, event)
    _note_restriction(transition, record.person_no, record.reference, event.referral)
    if _reports_death(record, event.referral.person.death_reported):
        deaths.note_report(transition, record.person_no, record.reference)
    case = transition.cases[record.case_id]
    if not record.is_open and isinstance(event, ReferralUpdated) and event.about_visit:
        transition.keep(new)
    elif not record.is_open:
        _refuse_update(transition, case, new)
    elif event.referral.consents.referral.answer == "no":
        transition.keep(new)
        closures.cancel(transition, case, new, EndReason.CONSENT_WITHDRAWN)
    else:
        _check_person(transition, record, new)
        apply_change(transition, record, new)
        _ask_about_update(transition, record, new, event.referral)


def _with_message(record: ReferralRecord, event: ReferralReceived | ReferralUpdated) -> ReferralRecord:
    """Return the referral with a new message, and with the stay that it does not mention.

    Parts that the message does not have any more are forgotten.
    """
    referral = stays.with_stay_kept(record.referral, event.referral)
    parts = parts_of(referral)
    parts_read = parts_without(parts, parts_without(parts, record.parts_read))
    stated = tuple(need.service for need in referral.needs)
    correction = record.correction if parts_read or _is_corrected(stated, record) else None
    if correction is not None:
        referral = with_needs_of(referral, _corrected(stated, correction))
    update = {"version": event.version, "referral": referral, "parts_read": parts_read, "correction": correction}
    return record.model_copy(update=update)


def _is_corrected(stated: Sequence[ServiceCode], record: ReferralRecord) -> bool:
    """Return True if the sender states the needs that a person corrected: the correction lasts.

    It also lasts while the message has a part that the person has read.
    """
    return record.correction is not None and set(stated) == set(record.correction.stated)


def _corrected(stated: Sequence[ServiceCode], correction: NeedsCorrection) -> list[ServiceCode]:
    """Return the needs of a message, without those that a person removed, and with those that a person added."""
    removed = set(correction.stated) - set(correction.needs)
    kept = [need for need in stated if need not in removed]
    return [*kept, *(need for need in correction.needs if need not in correction.stated and need not in kept)]


def with_needs_of(referral: Referral, services: Iterable[ServiceCode]) -> Referral:
    """Return the referral with needs of these services; what the sender wrote about one that it has stays."""
    stated = {need.service: need for need in referral.needs}
    needs = tuple(stated.get(service) or HousingNeed(service=service) for service in services)
    return referral.model_copy(update={"needs": needs})


def _refuse_update(transition: Transition, case: CaseRecord, record: ReferralRecord) -> None:
    """Store the update and inform the last holder; do not reopen the referral."""
    transition.keep(record)
    transition.emit(
        UpdateRefused,
        case,
        [record],
        transition.visible_to(case, record),
        refused=record.reference,
    )


def _check_person(transition: Transition, record: ReferralRecord, new: ReferralRecord) -> None:
    """Add a person to the tracing queue if the number changed or the identity no longer matches.

    The referral stays with that person: only people move it.
    """
    description, tally = Description.of(new.referral.person), transition.person_tallies[record.person_no]
    if description.nhs_number != record.referral.person.nhs_number:
        _raise_doubt(transition, record.person_no, "number-changed")
    elif tally.referrals > 1 and not transition.agrees_with_another(record, description):
        _raise_doubt(transition, record.person_no, "no-longer-matches")


def _ask_about_update(transition: Transition, record: ReferralRecord, new: ReferralRecord, message: Referral) -> None:
    """Raise the tasks that an applied update makes: to read its new parts, and to ask once about the end of another visit."""
    _ask_to_read(transition, parts_without(new.unread, record.unread), record.reference)
    visit = message.hospital.visit if message.hospital else None
    if visit != record.asked_about_visit and stays.ends_another_visit(record.referral, message):
        transition.keep(transition.referrals[new.reference].model_copy(update={"asked_about_visit": visit}))
        _ask(transition, new, tasks.discharge_overdue)


def _ask_to_read(transition: Transition, parts: Sequence[UnreadPart], reference: Reference) -> None:
    """Ask the hub that works on a referral to read its unread parts."""
    record = transition.referrals[reference]
    if parts and record.is_open:
        tasks.read_message(transition, transition.cases[record.case_id], record)


def apply_change(transition: Transition, record: ReferralRecord, new: ReferralRecord) -> None:
    """Replace a referral by its new state, inform the hubs that see it, and route it again if what the rules read has changed."""
    case = transition.cases[record.case_id]
    new, own_assignment = _continued(transition, case, record, new)
    case = _with_stay_of(_with_grant(case, new.referral.grant), record, new)
    case, superseded = _without_superseded_stays(transition, case)
    stay_changed = superseded or record.in_stay != new.in_stay
    if stay_changed or stays.state_of(record.referral) != stays.state_of(new.referral):
        case = stays.with_moved(case, transition.tally_of(case.case_id))
    case = transition.emit(
        CaseUpdated,
        case,
        [new],
        transition.visible_to(case, new),
        updated=new.reference,
    )
    reassigned = stay_changed or _is_routed_again(record, new)
    _after_update(transition, case, record, new, own_assignment, reassigned=reassigned)


def _continued(
    transition: Transition, case: CaseRecord, record: ReferralRecord, new: ReferralRecord
) -> tuple[ReferralRecord, Assignment]:
    """Store the referral after a message, inside or outside a stay, and return it with its separate assignment."""
    held = transition.persons[record.person_no].death_is_unconfirmed
    in_stay = stays.continues(record, new.referral, death_reported=held)
    new = stays.with_stay(_in_hospital(transition, record, _with_needs(new)), in_stay=in_stay)
    new = _held_until_read(case, record, _held_for_reading(transition, new))
    transition.keep(new)
    own_assignment = assign_separately(transition, new)
    if record.in_stay and not in_stay and closures.stays_with_hospital(transition, case, new, own_assignment):
        new = stays.with_stay(new, in_stay=True)
    new = _reported_after(transition, case, new, own_assignment, moved=_is_routed_again(record, new))
    transition.keep(new)
    return new, own_assignment


def _without_superseded_stays(transition: Transition, case: CaseRecord) -> tuple[CaseRecord, bool]:
    """End each stay that another hospital continues; return the case, and whether there were any.

    The rules then assign the case to that hospital's team.
    """
    if not stays.may_be_superseded(transition.tally_of(case.case_id)):
        return case, False
    left = [stays.with_stay(one, in_stay=False) for one in stays.superseded(transition.open_of(case.case_id))]
    transition.keep(*left)
    staying = {category.hospital_hub for category in transition.tally_of(case.case_id).categories if category.in_stay}
    if not left or case.stay is None or case.stay.hub in staying:
        return case, bool(left)
    return case.model_copy(update={"stay": case.stay.model_copy(update={"assigned_by_person": False})}), True


def _is_routed_again(record: ReferralRecord, new: ReferralRecord) -> bool:
    """Return True if a change concerns what the rules read."""
    return what_is_read(record.referral) != what_is_read(new.referral) or bool(record.unread) != bool(new.unread)


def _held_until_read(case: CaseRecord, record: ReferralRecord, new: ReferralRecord) -> ReferralRecord:
    """Return the referral in its stay if the hospital team that has accepted it has still to read a part: it hands over afterwards."""
    accepted = case.stay is not None and case.stay.assigned_by_person
    return new.model_copy(update={"in_stay": True}) if new.unread and record.in_stay and accepted else new


def _in_hospital(transition: Transition, record: ReferralRecord, new: ReferralRecord) -> ReferralRecord:
    """Return the referral with the hospital team of its new place; a restricted referral stays restricted."""
    hub = _hospital_hub(transition, new.referral, unread=bool(new.unread))
    if hub is None or hub == _hospital_hub(transition, record.referral, unread=bool(record.unread)):
        return new
    return new.model_copy(
        update={
            "hospital_hub": hub,
            "restricted": record.restricted or is_restricted(hub, transition.context.directory),
        }
    )


def _with_needs(new: ReferralRecord) -> ReferralRecord:
    """Return the referral with the needs of the new message; ended needs stay ended."""
    needs = tuple(need for need in _requested_needs(new.referral) if need not in new.ended_needs)
    return new.model_copy(update={"open_needs": needs or new.open_needs})


def _reported_after(
    transition: Transition, case: CaseRecord, new: ReferralRecord, own_assignment: Assignment, *, moved: bool
) -> ReferralRecord:
    """Return the referral with the home hub that feedback names; until a person has read it, that is none, or the one before."""
    if not moved or new.unread or (case.has_confirmed_home and new.home_hub is not None):
        return new
    if case.has_confirmed_home:
        return new.model_copy(update={"home_hub": case.home.hub, "reasons": ()})
    return with_own_assignment(new, own_assignment)


def _after_update(
    transition: Transition,
    case: CaseRecord,
    record: ReferralRecord,
    new: ReferralRecord,
    own_assignment: Assignment,
    *,
    reassigned: bool,
) -> None:
    """Cancel, return or reassign after an update; `reassigned`: something that the rules read has changed."""
    dropped = all(need in new.ended_needs or need not in _requested_needs(new.referral) for need in new.open_needs)
    if dropped:
        closures.cancel(transition, case, new, EndReason.CANCELLED_BY_REFERRER)
    elif reassigned and _belongs_outside(case, new, own_assignment):
        closures.send_outside(transition, case, [new], own_assignment.home_hub)
    elif reassigned:
        closures.reassign(transition, case, [new] if new.home_hub != record.home_hub else [])


def _belongs_outside(case: CaseRecord, new: ReferralRecord, own_assignment: Assignment) -> bool:
    return own_assignment.pathway is Pathway.OUTSIDE and new.hospital_hub is None and not case.has_confirmed_home


def _reports_death(record: ReferralRecord, reported: DeathReport | None) -> bool:
    """Return True if a message reports a death that the referral's last message did not report."""
    return reported not in (None, record.referral.person.death_reported)


def _cancel_referral(transition: Transition, record: ReferralRecord, event: ReferralCancelled) -> None:
    """End the referral. A death that the cancel reports holds contact for the person's other open referrals."""
    new = _as_cancelled(record, event)
    is_reported = _reports_death(record, event.death_reported)
    held = is_reported and deaths.keep_report(transition, record.person_no, record.reference)
    case = transition.cases[record.case_id]
    transition.keep(new)
    if record.is_open:
        closures.cancel(transition, case, new, event.reason)
    else:
        transition.emit(CancellationRefused, case, [new], refused=record.reference)
    if held:
        deaths.announce_hold(transition, record.person_no)


def _as_cancelled(record: ReferralRecord, event: ReferralCancelled) -> ReferralRecord:
    """Return the referral with what a cancel says of it: its version, and a death that it reports."""
    referral = record.referral
    if event.death_reported is not None:
        person = referral.person.model_copy(update={"death_reported": event.death_reported})
        referral = referral.model_copy(update={"person": person})
    return record.model_copy(update={"version": event.version, "referral": referral})


def _note_unapplied(
    transition: Transition, record: ReferralRecord, event: ReferralCancellationNotApplied | ReferralUpdateNotApplied
) -> None:
    """Store that a message came and was not applied; a death that it reports holds contact, as in any message."""
    transition.keep(record.model_copy(update={"version": event.version}))
    if _reports_death(record, event.death_reported):
        deaths.note_report(transition, record.person_no, record.reference)


def _ask_about_discharge(transition: Transition, record: ReferralRecord, expected_on: date) -> None:
    """Ask the hospital team whether the person is still in hospital, once for each expected date."""
    if stays.is_expected_on(record, expected_on) and record.asked_about != expected_on:
        transition.keep(record.model_copy(update={"asked_about": expected_on}))
        _ask(transition, record, tasks.discharge_overdue)


def _ask(transition: Transition, record: ReferralRecord, task: tasks.TaskAboutReferral) -> None:
    """Ask the hub that works on an open referral to decide; a referral that has ended needs no decision."""
    record = transition.referrals[record.reference]
    if record.is_open:
        task(transition, transition.cases[record.case_id], record)


# ---- a grant that a council reports ---------------------------------------------------------------------------------

STAGES: tuple[tuple[str, BusinessStatus], ...] = (
    ("completion_on", BusinessStatus.DFG_COMPLETION),
    ("works_on", BusinessStatus.DFG_WORKS),
    ("approval_on", BusinessStatus.DFG_APPROVAL),
    ("application_on", BusinessStatus.DFG_APPLICATION),
    ("ss127_on", BusinessStatus.DFG_SS127),
    ("ot_assessment_on", BusinessStatus.DFG_OT_ASSESSMENT),
)
"""Stages of a disabled facilities grant, the last first."""


def _with_grant(case: CaseRecord, grant: GrantProgress | None) -> CaseRecord:
    """Return the case with the business status of the last stage that the council reports."""
    reached = next((status for field, status in STAGES if grant is not None and getattr(grant, field)), None)
    if reached is None:
        return case
    return case.model_copy(update={"home": case.home.model_copy(update={"business_status": reached})})
