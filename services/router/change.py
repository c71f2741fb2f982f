"""A decision in the making: a working copy of the state under one key, what happened to it, and who hears of it."""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from schemas.case import BusinessStatus, CasePosition, Pathway, RoutingReason
from schemas.events import CaseEvent, CommandRefused, Concern
from schemas.model import CaseId, HubId, PersonKey, Reference
from services.directory import Directory
from services.router import views
from services.router.assignment import Assignment, Postcodes, Request, assign, is_doubtful
from services.router.state import Case, HubCursor, KeyState, KnownPerson, KnownReferral, Leg, Role

CASES = uuid.UUID("0c5b1d7e-5f0a-5d0b-9a36-3d3f3f2f7a11")
"""Namespace of case ids (RFC 9562 UUID version 5)."""


@dataclass(frozen=True, slots=True)
class Grounds:
    """What a decision is made on besides the state and the input."""

    directory: Directory
    postcodes: Postcodes
    on: date


@dataclass(frozen=True, slots=True)
class Cause:
    """What led to the decision: a sender's message, or a hub's command."""

    correlation_id: str
    hub: HubId | None = None
    command_id: str | None = None


@dataclass(frozen=True, slots=True)
class Happening:
    """One event of a case: `data` for the internal topic, and what each hub concerned may read of it."""

    data: CaseEvent
    correlation_id: str
    hubs: tuple[tuple[HubId, CaseEvent], ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """A command that is refused: told to the commanding hub, and nobody else."""

    hub: HubId
    data: CommandRefused
    correlation_id: str


@dataclass(frozen=True, slots=True)
class Decision:
    """The state after an input, and what happened, in order."""

    state: KeyState
    happenings: tuple[Happening | Refusal, ...] = ()


def case_id_of(person_key: PersonKey, opened_by: Reference) -> CaseId:
    """A case is named by its person key and the referral that opened it, so that a replay names it the same."""
    return CaseId(str(uuid.uuid5(CASES, f"{person_key}/{opened_by}")))


class Change:
    """The working copy. Everything in it is replaced, nothing is changed in place; the state it was made from stays as it was."""

    def __init__(self, state: KeyState, grounds: Grounds, cause: Cause) -> None:
        self.grounds = grounds
        self.cause = cause
        self.person_key = state.person_key
        self.persons: dict[int, KnownPerson] = dict(state.persons)
        self.cases: dict[CaseId, Case] = dict(state.cases)
        self.referrals: dict[Reference, KnownReferral] = dict(state.referrals)
        self.happenings: list[Happening | Refusal] = []
        self._positions: dict[CaseId, tuple[Case, CasePosition]] = {}
        self._concerns: dict[Reference, tuple[KnownReferral, KnownPerson, Concern]] = {}

    def decision(self) -> Decision:
        """What came of it."""
        state = KeyState(self.person_key, self.persons, self.cases, self.referrals)
        return Decision(state, tuple(self.happenings))

    def keep(self, *kept: Case | KnownReferral | KnownPerson) -> None:
        """Put these in the place of what was known before."""
        for one in kept:
            match one:
                case Case():
                    self.cases[one.case_id] = one
                case KnownReferral():
                    self.referrals[one.reference] = one
                case KnownPerson():
                    self.persons[one.person_no] = one

    def of_case(self, case_id: CaseId) -> list[KnownReferral]:
        """Every referral of a case."""
        return [known for known in self.referrals.values() if known.case_id == case_id]

    def open_of(self, case_id: CaseId) -> list[KnownReferral]:
        """The open referrals of a case."""
        return [known for known in self.of_case(case_id) if known.is_open]

    def happen(
        self,
        event: type[CaseEvent],
        case: Case,
        concerns: Iterable[KnownReferral] = (),
        hubs: Mapping[HubId, Role] | None = None,
        *,
        settles: bool = False,
        **data: Any,
    ) -> Case:
        """Something happened to `case`: it is kept, `concerns` and `hubs` hear of it. Returns the case with its new versions.

        `settles`: commands of these hubs that expect an earlier version are stale.
        """
        happened = event(
            case_id=case.case_id,
            person_key=self.person_key,
            case=self._position(case),
            decided_by=self.cause.hub,
            command_id=self.cause.command_id,
            concerns=tuple(map(self._concern, concerns)),
            **data,
        )
        case = _advance_cursors(case, hubs or {}, settles)
        self.keep(case)
        self.happenings.append(
            Happening(happened, self.cause.correlation_id, self._for_hubs(happened, case, hubs or {}))
        )
        return case

    def _position(self, case: Case) -> CasePosition:
        """Where the case stands; made once for events that follow each other."""
        made = self._positions.get(case.case_id)
        if made is not None and _stands_alike(made[0], case):
            return made[1]
        new = views.whole_position(case, self.grounds.directory)
        self._positions[case.case_id] = (case, new)
        return new

    def _concern(self, known: KnownReferral) -> Concern:
        """What its referrer may hear; made once for events that follow each other."""
        person = self.persons[known.person_no]
        made = self._concerns.get(known.reference)
        if made is not None and made[0] is known and made[1] is person:
            return made[2]
        new = views.concern(known, person)
        self._concerns[known.reference] = (known, person, new)
        return new

    def _for_hubs(self, data: CaseEvent, case: Case, hubs: Mapping[HubId, Role]) -> tuple[tuple[HubId, CaseEvent], ...]:
        referrals, directory = self.of_case(case.case_id), self.grounds.directory
        return tuple(
            (hub, views.hub_event(data, case, hub, role, case.cursors[hub].version, referrals, self.persons, directory))
            for hub, role in hubs.items()
        )

    def roles(self, case: Case) -> dict[HubId, Role]:
        """Who hears of the case now."""
        return views.roles(case, self.grounds.directory)

    def seeing(self, case: Case, known: KnownReferral) -> dict[HubId, Role]:
        """The hubs that may know of one referral of the case."""
        return {hub: role for hub, role in self.roles(case).items() if views.sees(case, known, hub, role)}


def _stands_alike(one: Case, other: Case) -> bool:
    """True where two states of a case differ at most in what hubs were told."""
    same_legs = one.home is other.home and one.stay is other.stay and one.ended == other.ended
    return same_legs and (one.district, one.directory_version) == (other.district, other.directory_version)


def _advance_cursors(case: Case, hubs: Mapping[HubId, Role], settles: bool) -> Case:
    cursors = dict(case.cursors)
    for hub, role in hubs.items():
        before = cursors.get(hub)
        version = before.version + 1 if before else 1
        earliest = version if settles or before is None or before.role != role else before.min_expected_version
        cursors[hub] = HubCursor(version=version, min_expected_version=earliest, role=role)
    return case.model_copy(update={"cursors": cursors}) if hubs else case


# ---- where a case is placed -----------------------------------------------------------------------------------------


def request_of(known: KnownReferral) -> Request:
    """A referral as the routing rules read it."""
    doubtful = is_doubtful(known.referral) and not known.nhs_number_checked
    return Request(known.reference, known.referral, known.in_stay, doubtful)


def assign_alone(change: Change, known: KnownReferral) -> Assignment:
    """Where a referral would belong by itself: what its referrer is told until a home hub has accepted."""
    return assign_one(change, request_of(known))


def assign_one(change: Change, request: Request) -> Assignment:
    """Where one request would belong by itself."""
    grounds = change.grounds
    return assign([request], grounds.directory, grounds.postcodes, grounds.on)


def by_itself(known: KnownReferral, alone: Assignment) -> KnownReferral:
    """The referral with what its referrer is told: by itself."""
    return known.model_copy(update={"home_hub": alone.home_hub or alone.holder, "reasons": alone.reasons})


def place(change: Change, case: Case) -> tuple[Case, Assignment]:
    """The case where the rules, or the person who placed it, put it: by its open referrals as a set."""
    grounds = change.grounds
    placed = case.home.hub if case.home.assigned_by_person else None
    stay_placed = case.stay.hub if case.stay and case.stay.assigned_by_person else None
    requests = map(request_of, change.open_of(case.case_id))
    found = assign(requests, grounds.directory, grounds.postcodes, grounds.on, placed=placed, stay_placed=stay_placed)
    return put(change, case, found), found


def put(change: Change, case: Case, found: Assignment) -> Case:
    """The case where `found` says that it belongs."""
    stay = _leg(case.stay, found.holder, found, found.reasons) if found.pathway is Pathway.HOSPITAL else None
    home = _home_in_stay(change, case, found) if stay else _leg(case.home, _home(found), found, found.reasons)
    update = {"home": home, "stay": stay, "district": found.district}
    return case.model_copy(update={**update, "directory_version": change.grounds.directory.version})


def _home(found: Assignment) -> HubId | None:
    return found.home_hub if found.pathway is Pathway.OUTSIDE else found.holder


def _home_in_stay(change: Change, case: Case, found: Assignment) -> Leg:
    """The home hub's part during a stay: its pathway and reasons are those that the referrals of the community give."""
    grounds, known = change.grounds, change.open_of(case.case_id)
    community = [request_of(one) for one in known if not one.in_stay and one.hospital_hub is None]
    alone = Assignment()
    if community:
        alone = assign(community, grounds.directory, grounds.postcodes, grounds.on)
    same = alone.home_hub is not None and alone.home_hub == found.home_hub
    shown = alone if same else Assignment()
    return _leg(case.home, found.home_hub or _placed_triage(case, change), shown, shown.reasons)


def _placed_triage(case: Case, change: Change) -> HubId | None:
    return (
        case.home.hub if case.home.assigned_by_person and case.home.hub == change.grounds.directory.triage.id else None
    )


def _leg(before: Leg | None, hub: HubId | None, found: Assignment, reasons: tuple[RoutingReason, ...]) -> Leg:
    """The part of `hub`: as it was, where it had the case already."""
    if before is None or before.hub != hub:
        return Leg(
            hub=hub,
            business_status=_beginning(found.pathway),
            pathway=found.pathway,
            reasons=reasons,
            worklist=found.worklist,
        )
    if before.assigned_by_person:
        return before
    begun = before.business_status not in _NOT_BEGUN
    return before.model_copy(
        update={
            "business_status": before.business_status if begun else _beginning(found.pathway),
            "pathway": found.pathway,
            "reasons": reasons,
            "worklist": found.worklist,
        }
    )


def placed_at(change: Change, hub: HubId, reasons: tuple[RoutingReason, ...] = ()) -> Leg:
    """The home hub's part of a case that a person put there: nobody there has accepted it yet."""
    triage = hub == change.grounds.directory.triage.id
    pathway = Pathway.TRIAGE if triage else Pathway.HOUSING_MOT
    return Leg(hub=hub, assigned_by_person=True, reasons=reasons, pathway=pathway, business_status=_beginning(pathway))


_NOT_BEGUN = (BusinessStatus.AWAITING_HUB, BusinessStatus.TRIAGE, BusinessStatus.WAITING_LIST)


def _beginning(pathway: Pathway) -> BusinessStatus:
    match pathway:
        case Pathway.TRIAGE:
            return BusinessStatus.TRIAGE
        case Pathway.WAITING_LIST:
            return BusinessStatus.WAITING_LIST
        case _:
            return BusinessStatus.AWAITING_HUB


def moved_hubs(change: Change, before: Case, after: Case) -> dict[HubId, Role]:
    """The hubs for which the case is another than it was: a new role, another pathway, or it is gone."""
    told = {hub: told.role for hub, told in before.cursors.items() if told.role != "former"}
    now = change.roles(after)
    gone: dict[HubId, Role] = {hub: "former" for hub in told if hub not in now}
    new: dict[HubId, Role] = {
        hub: role for hub, role in now.items() if told.get(hub) != role or _leg_moved(before, after, hub)
    }
    return {**gone, **new}


def _leg_moved(before: Case, after: Case, hub: HubId) -> bool:
    one, other = _leg_of(before, hub), _leg_of(after, hub)
    return one is None or other is None or one.pathway != other.pathway


def _leg_of(case: Case, hub: HubId) -> Leg | None:
    return next((leg for leg in (case.stay, case.home) if leg is not None and leg.hub == hub), None)
