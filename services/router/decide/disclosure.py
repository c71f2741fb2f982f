"""Decide what each reader may see of a case: internal topic, holder, follow-on hub, former hub, referrer.

During a stay the follow-on hub sees the referrals without a stay, and the holder as "elsewhere"; not the hospital's referral, holder,
site or ward. After the hand-over the home hub receives the needs without the stay and, for a restricted unit, without the sender and
the referrer. If the person's data are restricted, only the holder sees where the person lives and how to reach the person. The context
for a referrer's feedback comes from that one referral alone.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

from schemas.case import CasePosition, EndedNeed, EndReason, RoutingReason
from schemas.events import (
    CaseEvent,
    CaseJoined,
    CaseTransferred,
    CaseUpdated,
    ContactHeld,
    ContactHoldEnded,
    HubReferral,
    OpenReferral,
    PersonBrief,
    ReferralContext,
    TaskRaised,
)
from schemas.model import HubId, Reference
from schemas.referral import (
    Consent,
    Consents,
    MessageIdentity,
    Organisation,
    Person,
    Reason,
    ReasonCode,
    Referral,
    Referrer,
    Sender,
)
from services.reference.directory.model import Directory
from services.router.decide.assignment import restricted_team
from services.router.decide.model import CaseRecord, PersonRecord, Placed, ReferralRecord, Responsibility, Role

E = TypeVar("E", bound=CaseEvent)

OF_A_STAY = frozenset({RoutingReason.INPATIENT, RoutingReason.HANDED_OVER, RoutingReason.WARD_POSTCODE})
"""Reasons that disclose a hospital stay."""

WITHHELD = "withheld"


def roles(case: CaseRecord, directory: Directory) -> dict[HubId, Role]:
    """Return the hubs that receive events of the case, with their roles.

    An authority outside the county has no topic.
    """
    roles_by_hub: dict[HubId, Role] = {}
    if case.home.hub is not None and directory.hub(case.home.hub):
        roles_by_hub[case.home.hub] = "follow-on" if case.stay else "holder"
    if case.stay is not None and case.stay.hub is not None:
        roles_by_hub[case.stay.hub] = "holder"
    return roles_by_hub


def whole_position(case: CaseRecord, person: PersonRecord, directory: Directory) -> CasePosition:
    """Return the position of the case for the internal topic and the holder."""
    responsibility = case.holding
    holder = responsibility.hub if directory.hub(responsibility.hub) else None
    whole = _position(case, responsibility, directory, holder=holder, reasons=responsibility.reasons, district=True)
    return whole.model_copy(update={name: getattr(person, name) for name in _OF_THE_PERSON})


_OF_THE_PERSON = ("check_before_contact", "provisional", "restricted_access")
"""Fields of a position that say something of the person: for hubs that see a referral."""


def position_for(
    case: CaseRecord,
    whole: CasePosition,
    role: Role,
    person: PersonRecord,
    directory: Directory,
    *,
    visible: bool,
    restricted: bool,
) -> CasePosition:
    """Return the part of the position `whole` that a hub with this role may see.

    `visible`: it sees a referral of the case. `restricted`: the case has a restricted stay that must not be disclosed to it.
    """
    if role == "holder":
        reasons = tuple(reason for reason in whole.reasons if reason not in OF_A_STAY)
        return whole.model_copy(update={"reasons": reasons}) if restricted else whole
    holder: str | None = "elsewhere" if case.stay else (case.home.hub if directory.hub(case.home.hub) else None)
    reasons = tuple(reason for reason in case.home.reasons if reason not in OF_A_STAY)
    district = visible and not person.restricted_access
    shown = _position(case, case.home, directory, holder=holder, reasons=reasons, district=district)
    update: dict[str, object] = {
        "worklist": None,
        **{name: visible and getattr(whole, name) for name in _OF_THE_PERSON},
    }
    if person.restricted_access:
        update["reasons"] = ()
        update |= {"home_hub": None, "holder": "elsewhere"} if role == "former" else {}
    return shown.model_copy(update=update)


def _position(
    case: CaseRecord,
    responsibility: Responsibility,
    directory: Directory,
    *,
    holder: str | None,
    reasons: tuple[RoutingReason, ...],
    district: bool,
) -> CasePosition:
    return CasePosition(
        status=case.ended or responsibility.status,
        business_status=responsibility.progress,
        home_hub=case.home.hub if case.home.hub != directory.triage.id else None,
        holder=holder,
        pathway=responsibility.pathway,
        district=case.district if district else None,
        reasons=reasons,
        worklist=responsibility.worklist,
        directory_version=case.directory_version,
    )


# ---- referrals for hubs ---------------------------------------------------------------------------------------------


def may_see(case: CaseRecord, record: Placed, hub: HubId, role: Role) -> bool:
    """Return True if a hub may see that this referral, or one of this category, is on the case.

    During a stay the home hub sees one of an earlier stay only if it has to read it.
    """
    if role == "former":
        return False
    if record.hospital_hub is None or record.hospital_hub == hub:
        return True
    if case.stay is None:
        return True
    to_be_read = bool(record.unread) and case.part_of(record).hub == hub
    return (role == "holder" or to_be_read) and not record.restricted


def visible(records: Sequence[ReferralRecord], case: CaseRecord, hub: HubId, role: Role) -> list[ReferralRecord]:
    """Return the referrals of a case that a hub may see."""
    return [record for record in records if may_see(case, record, hub, role)]


def referral_for(
    record: ReferralRecord, person: PersonRecord, hub: HubId, role: Role, directory: Directory
) -> Referral:
    """Return the referral without what this hub may not see; attachments and restricted data go to the holder only."""
    referral = record.referral
    if person.restricted_access and role != "holder":
        referral = _without_whereabouts(referral)
    if record.hospital_hub is not None and record.hospital_hub != hub and not _is_hospital(hub, directory):
        if record.restricted:
            return _without_origin(referral)
        referral = _without_stay(referral)
    if role != "holder" and referral.attachments:
        referral = referral.model_copy(update={"attachments": ()})
    return referral


def _without_stay(referral: Referral) -> Referral:
    """Remove what a hospital says of a stay.

    After a cancelled admission no date is left either, from which a discharge could be inferred.
    """
    update: dict[str, object] = {"hospital": None, "person": _without_death_report(referral.person)}
    if referral.hospital is not None and referral.hospital.admission_cancelled:
        update |= _NO_DATES_OF_STAY
    return referral.model_copy(update=update)


_NO_DATES_OF_STAY: Mapping[str, object] = {
    "ready_for_transfer_on": None,
    "expected_discharge_on": None,
    "discharged_on": None,
}


def _without_whereabouts(referral: Referral) -> Referral:
    """Remove where the person lives and how to reach the person."""
    hidden = {"address": None, "temporary_address": None, "phone": None, "email": None, "other_contact_points": ()}
    person = referral.person.model_copy(update={**hidden, "restricted_access": True})
    unread = tuple(part.model_copy(update={"text": None}) for part in referral.to_be_read)
    update = {"person": person, "contacts": (), "named_authority": None, "to_be_read": unread}
    return referral.model_copy(update=update)


def _without_death_report(person: Person) -> Person:
    """Remove what a hospital said of a death: other hubs learn that contact is on hold, not who reported it, or when it was."""
    return person.model_copy(update={"death_reported": None}) if person.death_reported else person


def _without_origin(referral: Referral) -> Referral:
    """Remove all data that could disclose a restricted unit.

    That is the sender and referrer with their identifiers, free text, attachments, and the dates of the stay.
    """
    no_organisation = Organisation()
    reason = referral.reason.code if referral.reason.code is not ReasonCode.DISCHARGE_FROM_HOSPITAL else None
    message = referral.message
    return referral.model_copy(
        update={
            "message": MessageIdentity(format=message.format, message_id=WITHHELD, referral_id=WITHHELD),
            "sent_by": Sender(partner=WITHHELD, organisation=no_organisation),
            "referred_by": Referrer(kind="other"),
            "person": referral.person.model_copy(
                update={"local_ids": (), "temporary_address": None, "death_reported": None}
            ),
            "needs": tuple(need.model_copy(update={"text": None, "snomed": ()}) for need in referral.needs),
            "reason": Reason(code=reason),
            "hospital": None,
            "consents": _without_recorder(referral.consents),
            "risk_flags": tuple(flag.model_copy(update={"text": None}) for flag in referral.risk_flags),
            "to_be_read": (),
            "attachments": (),
            **_NO_DATES_OF_STAY,
        }
    )


def _without_recorder(consents: Consents) -> Consents:
    def without_recorder(consent: Consent) -> Consent:
        return consent.model_copy(update={"by": None})

    return Consents(
        referral=without_recorder(consents.referral),
        feedback=without_recorder(consents.feedback),
        evaluation=without_recorder(consents.evaluation),
    )


def is_restricted(hub: HubId | None, directory: Directory) -> bool:
    """Return True for a restricted unit."""
    entry = directory.hub(hub)
    return entry is not None and entry.restricted


def _is_hospital(hub: HubId, directory: Directory) -> bool:
    entry = directory.hub(hub)
    return entry is not None and entry.kind == "hospital"


@dataclass(frozen=True, slots=True)
class HubView:
    """One hub's part of a case, and what it sees of the referrals."""

    hub: HubId
    role: Role
    case: CaseRecord
    person: PersonRecord
    restricted: bool
    """The case has a restricted stay that must not be disclosed to it."""
    open_count: int
    """Number of open referrals of the case that it sees."""
    named: Collection[Reference] = ()
    """Referrals that the event names and that it sees."""
    shown: Sequence[ReferralRecord] = ()
    """Referrals that it receives in full."""
    others: Sequence[ReferralRecord] = ()
    """Other open referrals that it sees; at most those that an event summarises."""


def hub_event(data: E, view: HubView, directory: Directory) -> E:
    """Return an event of the case with what a hub may see, without the referrals in full."""
    case, role, person = view.case, view.role, view.person
    visible = bool(view.open_count or view.shown)
    update: dict[str, object] = {
        "case": position_for(case, data.case, role, person, directory, visible=visible, restricted=view.restricted),
        "referral_contexts": (),
        "role": role,
        "others": tuple(_summary(record) for record in view.others),
        "others_count": view.open_count - sum(record.is_open for record in view.shown),
        **_named(data, view.named),
        **_hidden_hubs(data, view.hub, directory),
    }
    if person.restricted_access and role != "holder":
        update |= _hidden_destinations(data, view.hub)
    return data.model_copy(update=update)


def hub_referrals(view: HubView, directory: Directory) -> list[HubReferral]:
    """Return the referrals that a hub receives in full, without what it may not see."""
    return [_hub_referral(record, _shown(record, view, directory)) for record in view.shown]


def _hidden_hubs(data: CaseEvent, hub: HubId, directory: Directory) -> dict[str, object]:
    """Return the fields that would name a hospital team, or who reported a death, without it."""
    fields: dict[str, object] = {}
    reported = isinstance(data, ContactHeld | ContactHoldEnded) and data.decided_by != hub
    if reported or _is_hidden_from(hub, data.decided_by, directory):
        fields |= {"decided_by": None, "command_id": None}
    if isinstance(data, CaseTransferred) and _is_hidden_from(hub, data.from_hub, directory):
        fields["from_hub"] = None
    return fields


def _hidden_destinations(data: CaseEvent, hub: HubId) -> dict[str, object]:
    """Return the fields that would disclose where a person with restricted data lives; a hub's own decision stays."""
    fields = ("to_hub", "refer_to") if data.decided_by != hub else ()
    return {field: None for field in fields if field in type(data).model_fields}


def _is_hidden_from(hub: HubId, other: HubId | None, directory: Directory) -> bool:
    """Return True if `other` is a hospital team that `hub` may not see: only hospital teams see hospital teams."""
    return other is not None and other != hub and _is_hospital(other, directory) and not _is_hospital(hub, directory)


def _hub_referral(record: ReferralRecord, referral: Referral) -> HubReferral:
    return HubReferral(
        reference=record.reference,
        version=record.version,
        status=record.status,
        open_needs=record.open_needs,
        referral=referral,
    )


def _summary(record: ReferralRecord) -> OpenReferral:
    return OpenReferral(reference=record.reference, status=record.status, open_needs=record.open_needs)


def _shown(record: ReferralRecord, view: HubView, directory: Directory) -> Referral:
    referral = referral_for(record, view.person, view.hub, view.role, directory)
    if referral.to_be_read and not _may_read(record, view.case, view.hub, directory):
        return referral.model_copy(update={"to_be_read": ()})
    return referral


def _may_read(record: ReferralRecord, case: CaseRecord, hub: HubId, directory: Directory) -> bool:
    """Return True if a hub may see the parts that no rule understands: it works on the referral, and has to read them, or they were read.

    What was read of a stay, which may quote the ward, stays with hospital teams and triage; what a trust with a restricted unit sent, with
    hospital teams. Before it is read, that is the unit's team alone.
    """
    part, team = case.part_of(record), restricted_team(record.referral, directory)
    at_hospital, at_triage = _is_hospital(hub, directory), hub == directory.triage.id
    if part.hub != hub:
        return False
    if team is not None:
        return hub == team.id or (at_hospital and not record.unread)
    has_to_read = bool(record.unread) and part.assigned_by_person
    return has_to_read or at_hospital or at_triage or (not record.unread and record.hospital_hub is None)


@cache
def by_referral(event: type[CaseEvent]) -> tuple[str, ...]:
    """Return the fields of an event whose items each belong to one referral."""
    return tuple(field for field in ("ended", "findings", "interventions") if field in event.model_fields)


def named_in(data: CaseEvent) -> set[Reference]:
    """Return the referrals that an event names."""
    listed = {item.reference for field in by_referral(type(data)) for item in getattr(data, field)}
    single = (getattr(data, field, None) for field in ("joined", "updated", "about"))
    return listed.union(filter(None, single))


def _named(data: CaseEvent, references: Collection[Reference]) -> dict[str, object]:
    """Return the fields about single referrals, without referrals that the reader may not see."""
    fields: dict[str, object] = {
        field: tuple(item for item in getattr(data, field) if item.reference in references)
        for field in by_referral(type(data))
    }
    if "ended" in fields and not fields["ended"]:
        fields |= {field: value for field, value in _WITHHELD_FIELDS.items() if field in type(data).model_fields}
    if isinstance(data, CaseJoined) and data.joined not in references:
        fields["joined"] = None
    if isinstance(data, CaseUpdated) and data.updated not in references:
        fields["updated"] = None
    if isinstance(data, TaskRaised) and data.about not in references:
        fields["about"] = None
    return fields


_WITHHELD_FIELDS: Mapping[str, object] = {"reason": EndReason.OTHER, "refer_to": None, "scores": ()}
"""Values of the fields of an end for a hub that may not see what ended: it learns only that the case ended."""


# ---- referrals for feedback -----------------------------------------------------------------------------------------


def referral_context(record: ReferralRecord, person: PersonRecord) -> ReferralContext:
    """Return the data for feedback about one referral: its own content and its outcome."""
    referral = record.referral
    return ReferralContext(
        reference=record.reference,
        correlation_id=record.correlation_id,
        message_id=record.message_id,
        referral_id=referral.message.referral_id,
        format=referral.message.format,
        sent_by=referral.sent_by,
        referred_by=referral.referred_by,
        referred_on=referral.referred_on,
        registered_practice=referral.registered_practice,
        person=_brief(referral, person),
        feedback_consent=referral.consents.feedback,
        needs=tuple(need.service for need in referral.needs),
        open_needs=record.open_needs,
        ended_needs=tuple(EndedNeed(service=need, status=how) for need, how in sorted(record.ended_needs.items())),
        home_hub=None if person.restricted_access else record.home_hub,
        reasons=() if person.restricted_access else record.reasons,
        status=record.status,
        interventions=record.interventions,
        restricted_access=person.restricted_access,
    )


def _brief(referral: Referral, person: PersonRecord) -> PersonBrief:
    person_data = referral.person
    return PersonBrief(
        nhs_number=person_data.nhs_number,
        nhs_number_status=person_data.nhs_number_status,
        family_name=person_data.family_name,
        given_names=person_data.given_names,
        birth_date=person_data.birth_date,
        provisional=person.provisional,
    )
