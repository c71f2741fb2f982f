"""Decides which hub a case belongs to and who holds it, from its open referrals as a set: docs/architecture.md, Routing."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from schemas.case import Pathway, RoutingReason
from schemas.model import HubId, OnsCode, Reference
from schemas.nhs_number import VerificationStatus
from schemas.referral import Referral
from services.reference.directory.model import Directory, Hub

Postcodes = Mapping[str, OnsCode]
"""District of residence by postcode, in capitals without blanks."""


@dataclass(frozen=True, slots=True)
class Request:
    """One open referral, as the rules read it."""

    reference: Reference
    referral: Referral
    in_stay: bool
    needs_tracing: bool
    """Its NHS number failed the check, and nobody has looked at it yet."""

    @classmethod
    def of(cls, reference: Reference, referral: Referral) -> "Request":
        """A referral as it came."""
        return cls(reference, referral, referral.is_inpatient, needs_tracing(referral))

    @property
    def order(self) -> tuple[date, str]:
        """Among equals the earliest `referred_on` goes first, then the reference."""
        return self.referral.referred_on or date.max, self.reference


class Assignment(NamedTuple):
    """Where a case belongs. `home_hub` may be an authority outside the county; none: central triage must decide."""

    home_hub: HubId | None = None
    holder: HubId | None = None
    pathway: Pathway = Pathway.HOUSING_MOT
    reasons: tuple[RoutingReason, ...] = ()
    district: OnsCode | None = None
    worklist: str | None = None

    def because(self, reason: RoutingReason) -> tuple[RoutingReason, ...]:
        return (*self.reasons, reason)


@dataclass(frozen=True, slots=True)
class RoutingInput:
    """What the rules are applied to. `assigned_hub`, `assigned_stay_hub`: where a person put the case; no rule moves it from there."""

    requests: Sequence[Request]
    directory: Directory
    postcodes: Postcodes
    on: date
    assigned_hub: HubId | None = None
    assigned_stay_hub: HubId | None = None

    @property
    def stays(self) -> list[Request]:
        """The stays that the hospital team holds the case for; a doubtful person goes to triage, unless a restricted unit is it."""
        return [
            r
            for r in self.requests
            if r.in_stay and (not r.needs_tracing or _hospital(r, self.directory)[0].restricted)
        ]


Rule = Callable[[Assignment, RoutingInput], Assignment]


def assign(
    requests: Iterable[Request],
    directory: Directory,
    postcodes: Postcodes,
    on: date,
    *,
    assigned_hub: HubId | None = None,
    assigned_stay_hub: HubId | None = None,
    rules: Sequence[Rule] | None = None,
) -> Assignment:
    """Where the case of these open referrals belongs on a day. The order in which they came does not matter."""
    ordered = sorted(requests, key=lambda request: request.order)
    inputs = RoutingInput(ordered, directory, postcodes, on, assigned_hub, assigned_stay_hub)
    assignment = Assignment()
    for rule in RULES if rules is None else rules:
        assignment = rule(assignment, inputs)
    if assignment.holder is None and assignment.pathway is not Pathway.OUTSIDE:
        assignment = assignment._replace(holder=assignment.home_hub)
    return assignment


def what_is_read(referral: Referral) -> tuple[object, ...]:
    """All that the rules read of a referral: where an update leaves it as it was, the case stays where it is."""
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
    """True for a number that failed its check (HL7 only; other formats refuse it)."""
    return referral.person.nhs_number_status is VerificationStatus.FAILED_CHECK


def postcode_of(referral: Referral) -> str | None:
    """The postcode that must be looked up for a referral, in capitals without blanks; none for no fixed abode."""
    address = referral.person.address
    if address is None or address.postcode is None or address.no_fixed_abode:
        return None
    return address.postcode.replace(" ", "").upper()


# ---- the rules, in their order --------------------------------------------------------------------------------------


def inpatient(assignment: Assignment, inputs: RoutingInput) -> Assignment:
    """1. The hospital housing team holds the case during the stay."""
    stays = inputs.stays
    if not stays:
        return assignment
    latest = max(stays, key=lambda stay: (_admitted(stay), [-ord(letter) for letter in stay.reference]))
    hub, worklist = _hospital(latest, inputs.directory)
    holder = inputs.assigned_stay_hub or hub.id
    return assignment._replace(
        holder=holder,
        pathway=Pathway.HOSPITAL,
        reasons=assignment.because(RoutingReason.INPATIENT),
        worklist=worklist if holder == hub.id else None,
    )


def already_open(assignment: Assignment, inputs: RoutingInput) -> Assignment:
    """2. A case that a hub has accepted, or a person has placed, stays there."""
    if inputs.assigned_hub is None:
        return assignment
    if inputs.assigned_hub == inputs.directory.triage.id:
        if assignment.holder is not None:
            return assignment
        return assignment._replace(holder=inputs.assigned_hub, pathway=Pathway.TRIAGE, worklist=_desk(inputs))
    return assignment._replace(home_hub=inputs.assigned_hub, reasons=assignment.because(RoutingReason.ALREADY_OPEN))


def housing_authority(assignment: Assignment, inputs: RoutingInput) -> Assignment:
    """3. The authority that the person named, a council's district, the community postcode, the ward's: in this order."""
    districts = list(_districts(inputs))
    residence = next((code for reason, code in districts if reason is not RoutingReason.NAMED_AUTHORITY), None)
    assignment = assignment._replace(district=residence or next((code for _, code in districts), None))
    if inputs.assigned_hub is not None:
        return assignment
    for reason, code in districts:
        home = _home_of(code, inputs)
        if home is not None:
            return assignment._replace(home_hub=home, reasons=assignment.because(reason))
    return assignment


def outside_county(assignment: Assignment, inputs: RoutingInput) -> Assignment:
    """4. Outside the seven districts, and not in hospital: returned, with where to go."""
    if assignment.holder is not None or inputs.directory.authority(assignment.home_hub) is None:
        return assignment
    return assignment._replace(pathway=Pathway.OUTSIDE, reasons=assignment.because(RoutingReason.OUTSIDE_COUNTY))


def needs(assignment: Assignment, inputs: RoutingInput) -> Assignment:
    """5. Central triage only where every need is a service that is merely referred onward; otherwise a Housing MOT."""
    if not _is_at_a_hub(assignment, inputs):
        return assignment
    requested = [request.referral.needs for request in inputs.requests]
    if not all(requested) or not all(inputs.directory.is_onward(need.service) for needs in requested for need in needs):
        return assignment
    return _to_triage(assignment, inputs, RoutingReason.ONWARD_ONLY)


def hub_full(assignment: Assignment, inputs: RoutingInput) -> Assignment:
    """6. A hub that is full: its overflow hub where the directory allows one, otherwise its waiting list."""
    if (
        not _is_at_a_hub(assignment, inputs)
        or assignment.home_hub is None
        or not inputs.directory.is_full(assignment.home_hub, inputs.on)
    ):
        return assignment
    other = inputs.directory.overflow(assignment.home_hub, inputs.on)
    if other is not None:
        return assignment._replace(home_hub=other.id, reasons=assignment.because(RoutingReason.HUB_FULL_OVERFLOW))
    waiting = assignment.because(RoutingReason.HUB_FULL_WAITING_LIST)
    return assignment._replace(pathway=Pathway.WAITING_LIST, reasons=waiting)


def not_decidable(assignment: Assignment, inputs: RoutingInput) -> Assignment:
    """7. No address and no named authority, or a doubtful person: central triage, for a person to decide."""
    if assignment.home_hub is not None or assignment.pathway is Pathway.TRIAGE:
        return assignment
    if assignment.holder is not None:
        return assignment._replace(reasons=assignment.because(RoutingReason.NOT_DECIDABLE))
    return _to_triage(assignment, inputs, RoutingReason.NOT_DECIDABLE)


RULES: tuple[Rule, ...] = (
    inpatient,
    already_open,
    housing_authority,
    outside_county,
    needs,
    hub_full,
    not_decidable,
)


# ---- what they ask --------------------------------------------------------------------------------------------------


def _is_at_a_hub(assignment: Assignment, inputs: RoutingInput) -> bool:
    """True for a case that the rules placed at a hub of the county and nobody holds otherwise."""
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
        reasons=assignment.because(reason),
        worklist=_desk(inputs),
    )


def _desk(inputs: RoutingInput) -> str | None:
    """First Contact Plus or the Customer Service Centre, by where the earliest referral came in."""
    if not inputs.requests:
        return None
    first = inputs.requests[0].referral
    return inputs.directory.desk(first.sent_by.partner, first.referred_by.kind)


def _districts(inputs: RoutingInput) -> Iterator[tuple[RoutingReason, OnsCode]]:
    """Every district that the referrals give, the weightiest first."""
    certain = [request.referral for request in inputs.requests if not request.needs_tracing]
    for reason, district_of in _SOURCES:
        for referral in certain:
            code = district_of(referral, inputs.postcodes)
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
    return hospital_of(request.referral, directory)


def hospital_of(referral: Referral, directory: Directory) -> tuple[Hub, str | None]:
    """(hospital housing team, worklist) that the stay of a referral belongs to."""
    stay = referral.hospital
    organisation = referral.referred_by.organisation
    trusts = (referral.sent_by.organisation.ods, organisation.ods if organisation else None)
    return directory.hospital(stay.site if stay else None, stay.ward if stay else None, trusts)


def _admitted(request: Request) -> date:
    stay = request.referral.hospital
    return (stay.admitted_on if stay else None) or date.min
