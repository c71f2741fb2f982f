"""Working copy of the state under one person key during a decision, and the events that it emits."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from schemas.case import BusinessStatus, CasePosition, Pathway, RoutingReason
from schemas.events import CaseAssigned, CaseEvent, CaseTransferred, CaseUpdated, CommandRefused, ReferralContext
from schemas.model import CaseId, HubId, PersonKey, Reference
from services.reference.directory.model import Directory
from services.router.decide import disclosure, hub_events
from services.router.decide.aggregate import OrderedReferrals, PersonAggregate
from services.router.decide.assignment import Assignment, Postcodes, Request, assign, category_of, request_of
from services.router.decide.disclosure import HubView
from services.router.decide.hub_events import HubMessage, Parts
from services.router.decide.matching import Candidates, Description
from services.router.decide.model import (
    CaseRecord,
    CaseTally,
    Category,
    HubCursor,
    NotLoaded,
    PersonRecord,
    PersonTally,
    ReferralRecord,
    Responsibility,
    Role,
)

CASES = uuid.UUID("0c5b1d7e-5f0a-5d0b-9a36-3d3f3f2f7a11")
"""Namespace of case ids (RFC 9562 UUID version 5)."""


@dataclass(frozen=True, slots=True)
class DecisionContext:
    """Reference data and date of a decision."""

    directory: Directory
    postcodes: Postcodes
    on: date


@dataclass(frozen=True, slots=True)
class Trigger:
    """Message or command that caused the decision."""

    correlation_id: str
    hub: HubId | None = None
    command_id: str | None = None


@dataclass(frozen=True, slots=True)
class EmittedEvent:
    """One event of a case: `data` for the internal topic; `hubs`: what each hub receives of it, and `snapshots` what follows.

    `conversations`: correlation ids for hubs that may not learn in which conversation the event was caused.
    """

    data: CaseEvent
    correlation_id: str
    hubs: tuple[tuple[HubId, CaseEvent], ...] = ()
    conversations: Mapping[HubId, str] = field(default_factory=dict)
    snapshots: Mapping[HubId, Parts] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EmittedRejection:
    """Refusal of a command, for the commanding hub only."""

    hub: HubId
    data: CommandRefused
    correlation_id: str


@dataclass(frozen=True, slots=True)
class CaseDecision:
    """State after an input, and the emitted events in order."""

    state: PersonAggregate
    emitted: tuple[EmittedEvent | EmittedRejection, ...] = ()


def case_id_of(person_key: PersonKey, opened_by: Reference) -> CaseId:
    """Derive a case id from the person key and the referral that opened the case, so that a replay repeats it."""
    return CaseId(str(uuid.uuid5(CASES, f"{person_key}/{opened_by}")))


class Transition:
    """Working copy of a PersonAggregate. Records are replaced, never changed in place: the original stays unchanged."""

    def __init__(self, state: PersonAggregate, context: DecisionContext, trigger: Trigger) -> None:
        self.context = context
        self.trigger = trigger
        self.person_key = state.person_key
        self.persons: dict[int, PersonRecord] = dict(state.persons)
        self.cases: dict[CaseId, CaseRecord] = dict(state.cases)
        self.referrals: dict[Reference, ReferralRecord] = dict(state.referrals)
        self.case_tallies: dict[CaseId, CaseTally] = dict(state.case_tallies)
        self.person_tallies: dict[int, PersonTally] = dict(state.person_tallies)
        self.tally = state.tally
        self.index = state.index.copy()
        self.emitted: list[EmittedEvent | EmittedRejection] = []
        self._earlier = state
        self._changed: dict[Reference, None] = {}
        self._changed_persons: dict[int, None] = {}
        self._informed: dict[tuple[HubId, Reference], ReferralRecord] = {}
        self._positions: dict[CaseId, tuple[CaseRecord, PersonRecord, CasePosition]] = {}
        self._contexts: dict[Reference, tuple[ReferralRecord, PersonRecord, ReferralContext]] = {}

    def decision(self) -> CaseDecision:
        """Return the new state and the emitted events; inform hubs of what has changed for them without an event."""
        for case in self._touched_cases():
            self._inform(case)
        return CaseDecision(self._state(), tuple(self.emitted))

    def _state(self) -> PersonAggregate:
        return PersonAggregate(
            self.person_key,
            self.persons,
            self.cases,
            self.referrals,
            self.case_tallies,
            self.person_tallies,
            self.tally,
            self.index,
        )

    def keep(self, *entries: CaseRecord | ReferralRecord | PersonRecord) -> None:
        """Store these records in place of earlier ones with the same id."""
        for entry in entries:
            match entry:
                case CaseRecord():
                    self.cases[entry.case_id] = entry
                    self.index.put_case(entry)
                case ReferralRecord():
                    before = self.referrals.get(entry.reference)
                    self.referrals[entry.reference] = entry
                    self._changed[entry.reference] = None
                    self._count_in_case(before, entry)
                    self._count_of_person(before, entry)
                case PersonRecord():
                    self.persons[entry.person_no] = entry
                    self._changed_persons[entry.person_no] = None
                    self.index.put_person(entry)
                    self.tally = self.tally._replace(persons=max(self.tally.persons, entry.person_no))

    def _count_in_case(self, before: ReferralRecord | None, after: ReferralRecord) -> None:
        context, tally = self.context, self.tally_of(after.case_id)
        earlier = self.index.categories.get(after.reference)
        category = category_of(after, context.directory, context.postcodes, context.on) if after.is_open else None
        self.index.put_referral(before, after, category)
        if earlier != category:
            tally = tally.with_open(earlier, -1) if earlier else tally
            tally = tally.with_open(category, 1) if category else tally
        self.case_tallies[after.case_id] = tally if category else tally.with_ended(after)

    def _count_of_person(self, before: ReferralRecord | None, after: ReferralRecord) -> None:
        if before is not None and before.referral.person is after.referral.person:
            return
        number, description = after.person_no, Description.of(after.referral.person)
        tally = self.person_tallies.get(number, PersonTally())
        new = PersonTally(tally.referrals + (before is None), tally.verified + description.verified)
        self.index.count_description(description, number, 1)
        if before is not None:
            earlier = Description.of(before.referral.person)
            self.index.count_description(earlier, number, -1)
            new = new._replace(verified=new.verified - earlier.verified)
        self.person_tallies[number] = new
        change = (new.verified > 0) - (tally.verified > 0)
        self.tally = self.tally._replace(verified=self.tally.verified + change)

    def tally_of(self, case_id: CaseId) -> CaseTally:
        """Return what is counted of the referrals of a case."""
        return self.case_tallies.get(case_id, CaseTally())

    def open_of(self, case_id: CaseId) -> list[ReferralRecord]:
        """Return all open referrals of a case, by reference; for decisions that change each of them.

        Raises NotLoaded.
        """
        tally = self.tally_of(case_id)
        loaded = [one for each in tally.categories for one in self._ordered(case_id, each).by_reference]
        if len(loaded) != tally.open_count:
            raise NotLoaded(case_id)
        return [self.referrals[reference] for reference in sorted(loaded)]

    def representatives_of(self, case_id: CaseId) -> list[ReferralRecord]:
        """Return the open referrals of a case that decide for all, by reference: of each category the first by each order.

        A rule that reads categories, and the first of an order, gives the same for them as for all open referrals of the case.
        """
        first = {one for each in self.tally_of(case_id).categories for one in self._ordered(case_id, each).first}
        return [self.referrals[reference] for reference in sorted(first)]

    def _ordered(self, case_id: CaseId, category: Category) -> OrderedReferrals:
        return self.index.ordered[case_id, category]

    def candidates(self, description: Description) -> Candidates:
        """Return the persons under the key, as a new referral is compared with them."""
        return self._state().candidates(description)

    def agrees_with_another(self, record: ReferralRecord, description: Description) -> bool:
        """Return True if another referral of the same person describes the person so."""
        own = Description.of(record.referral.person).keys
        counts = ((key, self.index.described.get(key, {}).get(record.person_no, 0)) for key in description.keys)
        return any(count > (key in own) for key, count in counts)

    def emit(
        self,
        event: type[CaseEvent],
        case: CaseRecord,
        records: Iterable[ReferralRecord] = (),
        hubs: Mapping[HubId, Role] | None = None,
        *,
        conversations: Mapping[HubId, str] | None = None,
        **data: Any,
    ) -> CaseRecord:
        """Emit an event of `case` about `records` to `hubs`; store the case and return it with its new versions.

        `conversations`: correlation ids for single hubs, in place of the trigger's.
        """
        whole = event(
            case_id=case.case_id,
            person_key=self.person_key,
            case=self._position(case),
            decided_by=self.trigger.hub,
            command_id=self.trigger.command_id,
            **data,
        )
        contexts = [self._referral_context(one) for one in records if self._may_hear(event, one)]
        messages = {hub: self._for_hub(whole, case, hub, role) for hub, role in sorted((hubs or {}).items())}
        self._add_emitted(hub_events.with_contexts(whole, contexts), messages, conversations or {})
        case = self._with_cursors(case, messages)
        self.keep(case)
        return case

    def _add_emitted(
        self, parts: Sequence[CaseEvent], messages: Mapping[HubId, HubMessage], conversations: Mapping[HubId, str]
    ) -> None:
        """Add an event to the emitted ones; if it has parts, hubs receive it with the first."""
        correlation_id, (first, *others) = self.trigger.correlation_id, parts
        of_hubs = tuple((hub, data) for hub, (data, _) in messages.items())
        snapshots = {hub: further for hub, (_, further) in messages.items() if further}
        self.emitted.append(EmittedEvent(first, correlation_id, of_hubs, conversations, snapshots))
        self.emitted += (EmittedEvent(part, correlation_id) for part in others)

    def _may_hear(self, event: type[CaseEvent], record: ReferralRecord) -> bool:
        """Return False for a later move of the case if the person's data are restricted: it discloses that the person moved."""
        moves = event in (CaseAssigned, CaseTransferred) and record.reference in self._earlier.referrals
        return not (moves and self.persons[record.person_no].restricted_access)

    def _position(self, case: CaseRecord) -> CasePosition:
        """Return the position of the case; reuse the last one if it is the same."""
        person = self.persons[case.person_no]
        cached = self._positions.get(case.case_id)
        if cached is not None and cached[1] is person and _same_position(cached[0], case):
            return cached[2]
        new = disclosure.whole_position(case, person, self.context.directory)
        self._positions[case.case_id] = (case, person, new)
        return new

    def _referral_context(self, record: ReferralRecord) -> ReferralContext:
        """Return the data for feedback on a referral; reuse the last one if nothing has changed."""
        person = self.persons[record.person_no]
        cached = self._contexts.get(record.reference)
        if cached is not None and cached[0] is record and cached[1] is person:
            return cached[2]
        new = disclosure.referral_context(record, person)
        self._contexts[record.reference] = (record, person, new)
        return new

    # ---- what hubs receive

    def _for_hub(self, whole: CaseEvent, case: CaseRecord, hub: HubId, role: Role) -> HubMessage:
        """Return what a hub receives of an event: every open referral if it was not informed of all that it may see now."""
        cursor, directory = case.cursors.get(hub), self.context.directory
        view = self._view(whole, case, hub, role, complete=self._needs_every_referral(case, hub, role, cursor))
        self._informed |= {(hub, record.reference): record for record in self._changed_of(case)}
        data = disclosure.hub_event(whole, view, directory)
        data = data.model_copy(update={"hub_version": cursor.version + 1 if cursor else 1})
        return hub_events.with_referrals(data, disclosure.hub_referrals(view, directory))

    def _view(self, whole: CaseEvent, case: CaseRecord, hub: HubId, role: Role, *, complete: bool) -> HubView:
        shown = {one.reference: one for one in self._changed_of(case) if disclosure.may_see(case, one, hub, role)}
        if complete:
            shown |= {one.reference: one for one in disclosure.visible(self.open_of(case.case_id), case, hub, role)}
        named = [self.referrals[reference] for reference in disclosure.named_in(whole) if reference in self.referrals]
        others = (one for one in self.first_open_of(case) if one.reference not in shown)
        return HubView(
            hub=hub,
            role=role,
            case=case,
            person=self.persons[case.person_no],
            restricted=bool(self.restricted_teams(case) - {hub}),
            open_count=self.count_open(case, hub, role),
            named={one.reference for one in named if disclosure.may_see(case, one, hub, role)},
            shown=[shown[reference] for reference in sorted(shown)],
            others=disclosure.visible(list(others), case, hub, role)[: hub_events.MAX_OTHERS],
        )

    def _needs_every_referral(self, case: CaseRecord, hub: HubId, role: Role, cursor: HubCursor | None) -> bool:
        """Return True if a hub sees another part of the case than at its last event, or fewer open referrals."""
        if role == "former":
            return False
        if cursor is None or cursor.role != role:
            return True
        restricted = self.persons[case.person_no].restricted_access
        if role != "holder" and cursor.restricted != restricted:
            return True
        return any(
            record.is_open and self._was_visible(case, record, hub) and not disclosure.may_see(case, record, hub, role)
            for record in self._not_informed(case, hub)
        )

    def _inform(self, case: CaseRecord) -> None:
        """Inform the hubs for which a case has changed without an event."""
        cursors = {hub: cursor for hub, cursor in case.cursors.items() if cursor.role != "former"}
        hubs = {hub: cursor.role for hub, cursor in cursors.items() if self._is_uninformed(case, hub, cursor)}
        if hubs:
            self.emit(CaseUpdated, case, (), hubs)

    def _is_uninformed(self, case: CaseRecord, hub: HubId, cursor: HubCursor) -> bool:
        """Return True if what a hub sees of the open referrals of a case has changed since its last event."""
        if any(self._differs(case, record, hub, cursor.role) for record in self._not_informed(case, hub)):
            return True
        restricted = self.persons[case.person_no].restricted_access
        return cursor.restricted != restricted and self.count_open(case, hub, cursor.role) > 0

    def _differs(self, case: CaseRecord, record: ReferralRecord, hub: HubId, role: Role) -> bool:
        """Return True if a hub sees another state of a referral than before this decision."""
        before = self._earlier.referrals.get(record.reference)
        visible = record.is_open and disclosure.may_see(case, record, hub, role)
        if visible != self._was_visible(case, record, hub):
            return True
        return visible and before is not None and not _same_for_hubs(before, record)

    def _was_visible(self, case: CaseRecord, record: ReferralRecord, hub: HubId) -> bool:
        """Return True if a hub saw a referral, and that it was open, before this decision."""
        earlier, before = self._earlier.cases.get(case.case_id), self._earlier.referrals.get(record.reference)
        cursor = earlier.cursors.get(hub) if earlier else None
        if earlier is None or before is None or cursor is None or not before.is_open:
            return False
        return disclosure.may_see(earlier, before, hub, cursor.role)

    def _not_informed(self, case: CaseRecord, hub: HubId) -> list[ReferralRecord]:
        """Return the changed referrals of a case that no event of this decision has brought to a hub."""
        changed = self._changed_of(case)
        return [record for record in changed if self._informed.get((hub, record.reference)) is not record]

    def _changed_of(self, case: CaseRecord) -> list[ReferralRecord]:
        """Return the referrals of a case that this decision has changed."""
        changed = (self.referrals[reference] for reference in self._changed)
        return [record for record in changed if record.case_id == case.case_id]

    def _touched_cases(self) -> list[CaseRecord]:
        """Return the cases of which hubs may see something else after this decision."""
        touched = {self.referrals[reference].case_id: None for reference in self._changed}
        for number in self._changed_persons:
            before = self._earlier.persons.get(number)
            if before is not None and before.restricted_access != self.persons[number].restricted_access:
                touched |= {case.case_id: None for case in self.open_cases(number)}
        return [self.cases[case_id] for case_id in touched if case_id in self.cases]

    def _with_cursors(self, case: CaseRecord, messages: Mapping[HubId, HubMessage]) -> CaseRecord:
        restricted = self.persons[case.person_no].restricted_access
        cursors = dict(case.cursors)
        for hub, (data, parts) in messages.items():
            cursors[hub] = _advanced(data, len(parts), restricted)
        return case.model_copy(update={"cursors": cursors}) if messages else case

    def first_open_of(self, case: CaseRecord) -> list[ReferralRecord]:
        """Return open referrals of a case by reference: at least as many as an event summarises, if there are."""
        most = hub_events.MAX_OTHERS + len(self._changed)
        categories = self.tally_of(case.case_id).categories
        first = {one for each in categories for one in self._ordered(case.case_id, each).by_reference[:most]}
        return [self.referrals[reference] for reference in sorted(first)]

    def count_open(self, case: CaseRecord, hub: HubId, role: Role) -> int:
        """Return how many open referrals of a case a hub may see."""
        counts = self.tally_of(case.case_id).open
        return sum(count for category, count in counts if disclosure.may_see(case, category, hub, role))

    def restricted_teams(self, case: CaseRecord) -> set[HubId | None]:
        """Return the hospital teams of the restricted stays that are or were on a case."""
        tally = self.tally_of(case.case_id)
        return {*tally.restricted_hubs, *(one.hospital_hub for one in tally.categories if one.restricted)}

    def roles(self, case: CaseRecord) -> dict[HubId, Role]:
        """Return the hubs that receive events of the case, with their roles."""
        return disclosure.roles(case, self.context.directory)

    def open_cases(self, person_no: int) -> list[CaseRecord]:
        """Return the open cases of a person."""
        return [self.cases[case_id] for case_id in self.index.open_cases.get(person_no, ())]

    def visible_to(self, case: CaseRecord, record: ReferralRecord) -> dict[HubId, Role]:
        """Return the hubs that may see one referral of the case, with their roles."""
        return {hub: role for hub, role in self.roles(case).items() if disclosure.may_see(case, record, hub, role)}


def _same_position(one: CaseRecord, other: CaseRecord) -> bool:
    """Return True if two states of a case differ at most in their cursors."""
    same_parts = one.home is other.home and one.stay is other.stay and one.ended == other.ended
    return same_parts and (one.district, one.directory_version) == (other.district, other.directory_version)


def _same_for_hubs(one: ReferralRecord, other: ReferralRecord) -> bool:
    """Return True if two states of a referral differ at most in what no hub receives, or in the number of a message."""
    return all(getattr(one, name) == getattr(other, name) for name in _FOR_HUBS)


_FOR_HUBS = ("status", "open_needs", "referral", "in_stay", "hospital_hub", "restricted", "parts_read")


def _advanced(data: CaseEvent, parts: int, restricted: bool) -> HubCursor:
    """Return the cursor of a hub after an event and its snapshots."""
    version, role = data.hub_version or 1, data.role or "former"
    return HubCursor(version=version + parts, min_expected_version=version, role=role, restricted=restricted)


# ---- assignment of a case -------------------------------------------------------------------------------------------


def assign_separately(transition: Transition, record: ReferralRecord) -> Assignment:
    """Assign a referral as if it were alone on its case: feedback names that hub until a home hub has accepted."""
    return assign_one(transition, record.person_no, request_of(record))


def assign_one(transition: Transition, person_no: int, request: Request) -> Assignment:
    """Assign one request of a person as if it were alone on its case."""
    context, death_confirmed = transition.context, transition.persons[person_no].death_confirmed
    return assign([request], context.directory, context.postcodes, context.on, death_confirmed=death_confirmed)


def with_own_assignment(record: ReferralRecord, own_assignment: Assignment) -> ReferralRecord:
    """Return the referral with the home hub and reasons of its separate assignment, for feedback."""
    return record.model_copy(
        update={"home_hub": own_assignment.home_hub or own_assignment.holder, "reasons": own_assignment.reasons}
    )


def assign_case(transition: Transition, case: CaseRecord) -> tuple[CaseRecord, Assignment]:
    """Assign a case by its open referrals as a set; a hub that a person chose stays."""
    context = transition.context
    assigned_hub = case.home.hub if case.home.assigned_by_person else None
    assigned_stay_hub = case.stay.hub if case.stay and case.stay.assigned_by_person else None
    requests = map(request_of, transition.representatives_of(case.case_id))
    assignment = assign(
        requests,
        context.directory,
        context.postcodes,
        context.on,
        assigned_hub=assigned_hub,
        assigned_stay_hub=assigned_stay_hub,
        death_confirmed=transition.persons[case.person_no].death_confirmed,
    )
    return with_assignment(transition, case, assignment), assignment


def with_assignment(transition: Transition, case: CaseRecord, assignment: Assignment) -> CaseRecord:
    """Return the case with its home and hospital parts set by an assignment."""
    stay = (
        _responsibility(case.stay, assignment.holder, assignment, assignment.reasons)
        if assignment.pathway is Pathway.HOSPITAL
        else None
    )
    home = (
        _home_in_stay(transition, case, assignment)
        if stay
        else _responsibility(case.home, _home(assignment), assignment, assignment.reasons)
    )
    update = {"home": home, "stay": stay, "district": assignment.district}
    return case.model_copy(update={**update, "directory_version": transition.context.directory.version})


def _home(assignment: Assignment) -> HubId | None:
    return assignment.home_hub if assignment.pathway is Pathway.OUTSIDE else assignment.holder


def _home_in_stay(transition: Transition, case: CaseRecord, assignment: Assignment) -> Responsibility:
    """Return the home hub's part during a stay; pathway and reasons come from referrals without a stay alone."""
    context, records = transition.context, transition.representatives_of(case.case_id)
    community = [request_of(one) for one in records if not one.in_stay and one.hospital_hub is None]
    own_assignment = Assignment()
    if community:
        own_assignment = assign(community, context.directory, context.postcodes, context.on)
    place = own_assignment.home_hub or own_assignment.holder
    same = place is not None and place == assignment.home_hub
    shown = own_assignment if same else Assignment()
    return _responsibility(case.home, assignment.home_hub or _assigned_triage(case, transition), shown, shown.reasons)


def _assigned_triage(case: CaseRecord, transition: Transition) -> HubId | None:
    return (
        case.home.hub
        if case.home.assigned_by_person and case.home.hub == transition.context.directory.triage.id
        else None
    )


def _responsibility(
    before: Responsibility | None, hub: HubId | None, assignment: Assignment, reasons: tuple[RoutingReason, ...]
) -> Responsibility:
    """Return the part of `hub`; progress and a person's decision are kept if it already had the case."""
    if before is None or before.hub != hub:
        return Responsibility(
            hub=hub,
            business_status=_initial_status(assignment.pathway),
            pathway=assignment.pathway,
            reasons=reasons,
            worklist=assignment.worklist,
        )
    if before.assigned_by_person:
        worklist = assignment.worklist if assignment.pathway is Pathway.HOSPITAL else None
        return before.model_copy(update={"worklist": worklist}) if worklist else before
    begun = before.business_status not in _INITIAL_STATUSES
    return before.model_copy(
        update={
            "business_status": before.business_status if begun else _initial_status(assignment.pathway),
            "pathway": assignment.pathway,
            "reasons": reasons,
            "worklist": assignment.worklist,
        }
    )


def assigned_to(transition: Transition, hub: HubId, reasons: tuple[RoutingReason, ...] = ()) -> Responsibility:
    """Return the home hub's part of a case that a person placed there, not accepted yet."""
    triage = hub == transition.context.directory.triage.id
    pathway = Pathway.TRIAGE if triage else Pathway.HOUSING_MOT
    return Responsibility(
        hub=hub, assigned_by_person=True, reasons=reasons, pathway=pathway, business_status=_initial_status(pathway)
    )


_INITIAL_STATUSES = (BusinessStatus.AWAITING_HUB, BusinessStatus.TRIAGE, BusinessStatus.WAITING_LIST)


def _initial_status(pathway: Pathway) -> BusinessStatus:
    match pathway:
        case Pathway.TRIAGE:
            return BusinessStatus.TRIAGE
        case Pathway.WAITING_LIST:
            return BusinessStatus.WAITING_LIST
        case _:
            return BusinessStatus.AWAITING_HUB


def moved_hubs(transition: Transition, before: CaseRecord, after: CaseRecord) -> dict[HubId, Role]:
    """Return the hubs whose role or pathway changed, and those that no longer have the case (as former)."""
    earlier = {hub: cursor.role for hub, cursor in before.cursors.items() if cursor.role != "former"}
    now = transition.roles(after)
    gone: dict[HubId, Role] = {hub: "former" for hub in earlier if hub not in now}
    new: dict[HubId, Role] = {
        hub: role
        for hub, role in now.items()
        if earlier.get(hub) != role or _responsibility_changed(before, after, hub)
    }
    return {**gone, **new}


def _responsibility_changed(before: CaseRecord, after: CaseRecord, hub: HubId) -> bool:
    one, other = _responsibility_of(before, hub), _responsibility_of(after, hub)
    if one is None or other is None or one.pathway != other.pathway:
        return True
    return one is before.stay and one.worklist != other.worklist


def _responsibility_of(case: CaseRecord, hub: HubId) -> Responsibility | None:
    return next(
        (
            responsibility
            for responsibility in (case.stay, case.home)
            if responsibility is not None and responsibility.hub == hub
        ),
        None,
    )
