"""Decide the home hub and the holder of a case from its open referrals as a set: docs/architecture.md, Routing."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import NamedTuple

from schemas.case import Pathway, RoutingReason
from schemas.model import HubId, OnsCode, Reference
from schemas.nhs_number import VerificationStatus
from schemas.referral import Referral
from services.reference.directory.model import Directory, Hub
from services.router.decide import stays
from services.router.decide.model import Category, ReferralRecord

Postcodes = Mapping[str, OnsCode]
"""District of residence by postcode, in capitals without blanks."""


@dataclass(frozen=True, slots=True)
class Request:
    """One open referral, with what the rules read of it."""

    reference: Reference
    referral: Referral
    in_stay: bool
    needs_tracing: bool
    """Its NHS number failed the check digit, and triage is still to check it."""
    unread: bool = False
    """A person has still to read a part of it."""

    @classmethod
    def of(cls, reference: Reference, referral: Referral) -> "Request":
        """Return the request of a referral that has just arrived."""
        return cls(reference, referral, referral.is_inpatient, needs_tracing(referral), bool(referral.to_be_read))

    @property
    def order(self) -> tuple[date, Reference]:
        """Sort key: `referred_on`, then the reference."""
        return referred_on(self.referral), self.reference


def request_of(record: ReferralRecord) -> Request:
    """Return the request of a stored referral, for the routing rules."""
    unchecked = needs_tracing(record.referral) and not record.nhs_number_checked
    return Request(record.reference, record.referral, record.in_stay, unchecked, bool(record.unread))


class Assignment(NamedTuple):
    """Home hub, holder and pathway of a case.

    `home_hub` may be an authority outside the county; None: central triage must decide.
    """

    home_hub: HubId | None = None
    holder: HubId | None = None
    pathway: Pathway = Pathway.HOUSING_MOT
    reasons: tuple[RoutingReason, ...] = ()
    district: OnsCode | None = None
    worklist: str | None = None

    def with_reason(self, reason: RoutingReason) -> tuple[RoutingReason, ...]:
        return (*self.reasons, reason)


@dataclass(frozen=True, slots=True)
class RoutingInput:
    """Input of the rules. `assigned_hub`, `assigned_stay_hub`: hubs that a person chose; no rule changes them.

    `death_confirmed`: the person's death was confirmed before these referrals came.
    """

    requests: Sequence[Request]
    directory: Directory
    postcodes: Postcodes
    on: date
    assigned_hub: HubId | None = None
    assigned_stay_hub: HubId | None = None
    death_confirmed: bool = False

    @property
    def is_taken_on(self) -> bool:
        """True if a hub other than triage has accepted the case, or a person placed it there."""
        return self.assigned_stay_hub is not None or self.assigned_hub not in (None, self.directory.triage.id)

    @property
    def stays(self) -> list[Request]:
        """Stays for which a hospital team holds the case.

        A person who needs tracing, and an unread referral of a case that no hub has taken on, goes to triage instead, except from a
        restricted unit.
        """
        return [
            request
            for request in self.requests
            if request.in_stay and (self._is_decided(request) or _hospital(request, self.directory)[0].restricted)
        ]

    def _is_decided(self, request: Request) -> bool:
        return not request.needs_tracing and (self.is_taken_on or not request.unread)

    @property
    def to_be_read(self) -> list[Request]:
        """Referrals that triage has to read: the unread ones, except those that a hospital team works on."""
        in_stay = self.stays
        return [request for request in self.requests if request.unread and not (in_stay and request.in_stay)]


Rule = Callable[[Assignment, RoutingInput], Assignment]


def assign(
    requests: Iterable[Request],
    directory: Directory,
    postcodes: Postcodes,
    on: date,
    *,
    assigned_hub: HubId | None = None,
    assigned_stay_hub: HubId | None = None,
    death_confirmed: bool = False,
    rules: Sequence[Rule] | None = None,
) -> Assignment:
    """Apply the rules to the open referrals of a case on a day; their order of arrival does not matter."""
    ordered = sorted(requests, key=lambda request: request.order)
    inputs = RoutingInput(ordered, directory, postcodes, on, assigned_hub, assigned_stay_hub, death_confirmed)
    assignment = Assignment()
    for rule in RULES if rules is None else rules:
        assignment = rule(assignment, inputs)
    if assignment.holder is None and assignment.pathway is not Pathway.OUTSIDE:
        assignment = assignment._replace(holder=assignment.home_hub)
    return assignment


def what_is_read(referral: Referral) -> tuple[object, ...]:
    """Return what the rules read of a referral: an update that leaves all of it unchanged does not move the case."""
    address, stay = referral.person.address, referral.hospital
    return (
        referral.referred_on,
        referral.named_authority,
        referral.consents.referral.answer,
        (address.district, address.postcode, address.no_fixed_abode) if address else None,
        (stay.site, stay.ward, stay.admitted_on) if stay else None,
        referral.is_inpatient,
        frozenset(need.service for need in referral.needs),
        needs_tracing(referral),
        (referral.sent_by, referral.referred_by.kind),
    )


def needs_tracing(referral: Referral) -> bool:
    """Return True for a number that failed its check digit (HL7 only; other formats refuse it)."""
    return referral.person.nhs_number_status is VerificationStatus.FAILED_CHECK


def postcode_of(referral: Referral) -> str | None:
    """Return the postcode to look up, in capitals without blanks; None for no fixed abode."""
    address = referral.person.address
    if address is None or address.postcode is None or address.no_fixed_abode:
        return None
    return address.postcode.replace(" ", "").upper()


# ---- the rules, in their order --------------------------------------------------------------------------------------


def inpatient(assignment: Assignment, inputs: RoutingInput) -> Assignment:
    """Make the hospital team the holder during a stay (rule 1)."""
    in_stay = inputs.stays
    if not in_stay:
        return assignment
    latest = min(in_stay, key=lambda stay: _precedence(stay, inputs.directory))
    hub, worklist = _hospital(latest, inputs.directory)
    holder = inputs.assigned_stay_hub or hub.id
    return assignment._replace(
        holder=holder,
        pathway=Pathway.HOSPITAL,
        reasons=(*assignment.reasons, *_reasons_of_stay(latest)),
        worklist=worklist if holder == hub.id else None,
    )


def _reasons_of_stay(stay: Request) -> tuple[RoutingReason, ...]:
    """Return why the team holds the case: it has to read the referral, whose person may not be in hospital, or only for the stay."""
    if not stay.unread:
        return (RoutingReason.INPATIENT,)
    stated = (RoutingReason.INPATIENT,) if stay.referral.is_inpatient else ()
    return (*stated, RoutingReason.TO_BE_READ)


def already_open(assignment: Assignment, inputs: RoutingInput) -> Assignment:
    """Leave a case that a hub has accepted, or that a person placed, at that hub (rule 2)."""
    if inputs.assigned_hub is None:
        return assignment
    if inputs.assigned_hub == inputs.directory.triage.id:
        if assignment.holder is not None:
            return assignment
        return assignment._replace(holder=inputs.assigned_hub, pathway=Pathway.TRIAGE, worklist=_desk(inputs))
    return assignment._replace(home_hub=inputs.assigned_hub, reasons=assignment.with_reason(RoutingReason.ALREADY_OPEN))


def housing_authority(assignment: Assignment, inputs: RoutingInput) -> Assignment:
    """Choose by named authority, else a council's district, else a community referral's postcode, else a hospital's (rule 3)."""
    districts = list(_districts(inputs, [request for request in inputs.requests if not request.needs_tracing]))
    residence = next((code for reason, code in districts if reason is not RoutingReason.NAMED_AUTHORITY), None)
    assignment = assignment._replace(district=residence or next((code for _, code in districts), None))
    if inputs.assigned_hub is not None:
        return assignment
    for reason, code in _districts(inputs, [request for request in inputs.requests if inputs._is_decided(request)]):
        home = _home_of(code, inputs)
        if home is not None:
            return assignment._replace(home_hub=home, reasons=assignment.with_reason(reason))
    return assignment


def to_be_read(assignment: Assignment, inputs: RoutingInput) -> Assignment:
    """Choose central triage while a person has to read a referral, unless a home hub has accepted the case (rule 7)."""
    unread = inputs.to_be_read
    if not unread or inputs.assigned_hub is not None:
        return assignment
    if assignment.holder is not None:
        return assignment._replace(home_hub=inputs.directory.triage.id)
    at_its_desk = replace(inputs, requests=unread)
    return _to_triage(assignment._replace(reasons=()), at_its_desk, RoutingReason.TO_BE_READ)


def death_confirmed(assignment: Assignment, inputs: RoutingInput) -> Assignment:
    """Choose central triage for a new referral of a person whose death was confirmed, except during a stay (rule 7)."""
    if not inputs.death_confirmed or inputs.assigned_hub is not None or assignment.holder is not None:
        return assignment
    return _to_triage(assignment._replace(reasons=()), inputs, RoutingReason.TO_BE_CHECKED)


def outside_county(assignment: Assignment, inputs: RoutingInput) -> Assignment:
    """Return a case outside the seven districts, and not in hospital, with the authority to refer to (rule 4)."""
    if assignment.holder is not None or inputs.directory.authority(assignment.home_hub) is None:
        return assignment
    return assignment._replace(pathway=Pathway.OUTSIDE, reasons=assignment.with_reason(RoutingReason.OUTSIDE_COUNTY))


def needs(assignment: Assignment, inputs: RoutingInput) -> Assignment:
    """Choose central triage if every need is an onward service; otherwise a Housing MOT (rule 5)."""
    if not _is_at_a_hub(assignment, inputs):
        return assignment
    if not all(_is_onward_only(request.referral, inputs.directory) for request in inputs.requests):
        return assignment
    return _to_triage(assignment, inputs, RoutingReason.ONWARD_ONLY)


def _is_onward_only(referral: Referral, directory: Directory) -> bool:
    return bool(referral.needs) and all(directory.is_onward(need.service) for need in referral.needs)


def hub_full(assignment: Assignment, inputs: RoutingInput) -> Assignment:
    """Choose the overflow hub of a full hub if the directory has one, otherwise its waiting list (rule 6)."""
    if (
        not _is_at_a_hub(assignment, inputs)
        or assignment.home_hub is None
        or not inputs.directory.is_full(assignment.home_hub, inputs.on)
    ):
        return assignment
    other = inputs.directory.overflow(assignment.home_hub, inputs.on)
    if other is not None:
        return assignment._replace(home_hub=other.id, reasons=assignment.with_reason(RoutingReason.HUB_FULL_OVERFLOW))
    waiting = assignment.with_reason(RoutingReason.HUB_FULL_WAITING_LIST)
    return assignment._replace(pathway=Pathway.WAITING_LIST, reasons=waiting)


def not_decidable(assignment: Assignment, inputs: RoutingInput) -> Assignment:
    """Choose central triage if no rule found a hub: no address or authority, or a person to be traced (rule 7)."""
    if assignment.home_hub is not None or assignment.pathway is Pathway.TRIAGE:
        return assignment
    if RoutingReason.TO_BE_READ in assignment.reasons:
        return assignment
    if assignment.holder is not None:
        return assignment._replace(reasons=assignment.with_reason(RoutingReason.NOT_DECIDABLE))
    return _to_triage(assignment, inputs, RoutingReason.NOT_DECIDABLE)


RULES: tuple[Rule, ...] = (
    inpatient,
    already_open,
    housing_authority,
    to_be_read,
    death_confirmed,
    outside_county,
    needs,
    hub_full,
    not_decidable,
)


# ---- what the rules read --------------------------------------------------------------------------------------------


def _is_at_a_hub(assignment: Assignment, inputs: RoutingInput) -> bool:
    """Return True if the rules, not a person, placed the case at a hub of the county, without a stay or triage."""
    return (
        inputs.assigned_hub is None
        and assignment.home_hub is not None
        and assignment.holder is None
        and assignment.pathway is not Pathway.OUTSIDE
    )


def _to_triage(assignment: Assignment, inputs: RoutingInput, reason: RoutingReason) -> Assignment:
    return assignment._replace(
        home_hub=None,
        holder=inputs.directory.triage.id,
        pathway=Pathway.TRIAGE,
        reasons=assignment.with_reason(reason),
        worklist=_desk(inputs),
    )


def _desk(inputs: RoutingInput) -> str | None:
    """Return the triage desk of the earliest referral: First Contact Plus or the Customer Service Centre."""
    if not inputs.requests:
        return None
    first = inputs.requests[0].referral
    return inputs.directory.desk(first.sent_by.partner, first.referred_by.kind)


def _districts(inputs: RoutingInput, requests: Sequence[Request]) -> Iterator[tuple[RoutingReason, OnsCode]]:
    """Yield the districts that these referrals give, in order of precedence."""
    for reason, district_of in _SOURCES:
        for request in requests:
            code = district_of(request.referral, inputs.postcodes)
            if code is not None and inputs.directory.has_district(code):
                yield reason, code


def _named(referral: Referral, _: Postcodes) -> OnsCode | None:
    return referral.named_authority if referral.consents.referral.answer != "no" else None


def _by_council(referral: Referral, _: Postcodes) -> OnsCode | None:
    return referral.person.address.district if referral.person.address else None


def _in_community(referral: Referral, postcodes: Postcodes) -> OnsCode | None:
    return _by_postcode(referral, postcodes) if referral.hospital is None else None


def _on_ward(referral: Referral, postcodes: Postcodes) -> OnsCode | None:
    return _by_postcode(referral, postcodes) if referral.hospital is not None else None


def _by_postcode(referral: Referral, postcodes: Postcodes) -> OnsCode | None:
    postcode = postcode_of(referral)
    return postcodes.get(postcode) if postcode else None


_SOURCES: tuple[tuple[RoutingReason, Callable[[Referral, Postcodes], OnsCode | None]], ...] = (
    (RoutingReason.NAMED_AUTHORITY, _named),
    (RoutingReason.COUNCIL_DISTRICT, _by_council),
    (RoutingReason.COMMUNITY_POSTCODE, _in_community),
    (RoutingReason.WARD_POSTCODE, _on_ward),
)


def _home_of(code: OnsCode, inputs: RoutingInput) -> HubId | None:
    hub = inputs.directory.hub_for_district(code, inputs.on)
    place = hub or inputs.directory.authority_for_district(code)
    return place.id if place else None


def _hospital(request: Request, directory: Directory) -> tuple[Hub, str | None]:
    return hospital_of(request.referral, directory, unread=request.unread)


def hospital_of(referral: Referral, directory: Directory, *, unread: bool) -> tuple[Hub, str | None]:
    """Return the hospital team and the worklist that the stay of a referral belongs to; an unread part may be the ward."""
    team = restricted_reader(referral, directory, unread=unread)
    stay = referral.hospital
    if team is not None:
        return team, None
    return directory.hospital(stay.site if stay else None, stay.ward if stay else None, _trusts(referral))


def restricted_team(referral: Referral, directory: Directory) -> Hub | None:
    """Return the team of the restricted unit whose trust sent or made the referral, or None."""
    return directory.restricted_team(_trusts(referral))


def restricted_reader(referral: Referral, directory: Directory, *, unread: bool) -> Hub | None:
    """Return the restricted team that alone reads an unread referral, inside and outside a stay, or None."""
    return restricted_team(referral, directory) if unread else None


def _trusts(referral: Referral) -> tuple[str | None, str | None]:
    organisation = referral.referred_by.organisation
    return referral.sent_by.organisation.ods, organisation.ods if organisation else None


def _precedence(stay: Request, directory: Directory) -> tuple[bool, int, Reference]:
    """Sort key of stays, the holder's first: what a restricted team has to read, then by the latest admission and by reference."""
    only_there = restricted_reader(stay.referral, directory, unread=stay.unread) is not None
    return not only_there, -admitted_on(stay.referral).toordinal(), stay.reference


def referred_on(referral: Referral) -> date:
    """Return the date by which referrals are ordered; one without a date comes after all others."""
    return referral.referred_on or date.max


def admitted_on(referral: Referral) -> date:
    """Return the date by which stays are ordered; one without a date comes after all others."""
    stay = referral.hospital
    return (stay.admitted_on if stay else None) or date.min


# ---- what is read of one among many ---------------------------------------------------------------------------------


def category_of(record: ReferralRecord, directory: Directory, postcodes: Postcodes, on: date) -> Category:
    """Return the category of an open referral; see `_precedence` and `Request.order` for what else the rules compare."""
    request = request_of(record)
    referral, unread = record.referral, request.unread
    return Category(
        hospital_hub=record.hospital_hub,
        restricted=record.restricted,
        in_stay=record.in_stay,
        unread=unread,
        moved=record.in_stay and stays.state_of(referral) is stays.StayState.MOVED,
        needs_tracing=request.needs_tracing,
        at_restricted_unit=record.in_stay and _hospital(request, directory)[0].restricted,
        only_restricted_team=record.in_stay and restricted_reader(referral, directory, unread=unread) is not None,
        onward_only=_is_onward_only(referral, directory),
        districts=_district_sources(RoutingInput([request], directory, postcodes, on)),
    )


def _district_sources(inputs: RoutingInput) -> str:
    """Return what the rules compare of the districts that one referral gives."""
    numbers = {reason: str(number) for number, (reason, _) in enumerate(_SOURCES)}
    found = _districts(inputs, inputs.requests)
    return "".join(numbers[reason] + "h" * (_home_of(code, inputs) is not None) for reason, code in found)
