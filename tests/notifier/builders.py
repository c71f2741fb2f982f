"""Referral contexts, case events and partners for tests of the notifier."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

from schemas.case import (
    BusinessStatus,
    CasePosition,
    CaseStatus,
    Ended,
    EndedNeed,
    EndReason,
    Finding,
    HoldReason,
    Intervention,
    Pathway,
    RoutingReason,
)
from schemas.events import (
    CancellationRefused,
    CaseAccepted,
    CaseAssessed,
    CaseAssigned,
    CaseCancelled,
    CaseCompleted,
    CaseEvent,
    CaseHeld,
    CaseJoined,
    CaseOpened,
    CaseRejected,
    Event,
    PersonBrief,
    ReferralContext,
    UpdateRefused,
)
from schemas.model import CaseId, Reference
from schemas.referral import Organisation, Referrer, Sender, ServiceCode
from schemas.topics import CASE_EVENT
from services.messaging.cloudevents import KafkaRecord
from services.notifier import templates
from services.notifier.recipients import PartnerRecipients
from services.notifier.templates import TemplateTexts
from services.reference import partners
from tests.builders import events
from tests.builders.events import in_record
from tests.builders.reference_data import DIRECTORY, FOLDER
from tests.builders.referrals import YES

GP, GP_MESH, GP_MAILBOX = "gp-alder-lane", "gp-brook-street", "gp-castle-view"
ODS = {GP: "C82991", GP_MESH: "C82992", GP_MAILBOX: "C82993", "uhl": "RWE", "lpt": "RT5"}
AT = datetime(2026, 11, 3, 10, 0, tzinfo=UTC)


def the_words() -> TemplateTexts:
    return templates.load(FOLDER, DIRECTORY)


def the_recipients(
    addresses: dict[str, str] | None = None, *, mesh: bool = True, tokens: dict[str, str] | None = None
) -> PartnerRecipients:
    return PartnerRecipients(the_partners(addresses, tokens), mesh=mesh)


def the_partners(addresses: dict[str, str] | None = None, tokens: dict[str, str] | None = None) -> partners.Partners:
    addresses = {GP: "http://127.0.0.1:9/fhir"} if addresses is None else addresses
    names = {*addresses, *(tokens or {})}
    access = {
        name: partners.PartnerCredentials(
            feedback_url=addresses.get(name),
            token_sha256=(partners.hash_of((tokens or {})[name]),) if name in (tokens or {}) else (),
        )
        for name in names
    }
    return partners.Partners(list(partners.load(FOLDER, None)), partners.Deployment(partners=access))


def a_person(**changed: object) -> PersonBrief:
    person = PersonBrief(
        nhs_number="9990000018",
        nhs_number_status="01",
        family_name="Vantongeren",
        given_names=("Edith",),
        birth_date=date(1946, 2, 1),
    )
    return person.model_copy(update=changed)


def a_sender(partner: str = GP, name: str = "Alder Lane Surgery") -> Sender:
    return Sender(partner=partner, organisation=Organisation(ods=ODS.get(partner), name=name))


def a_referrer(kind: str = "gp", ods: str | None = ODS[GP], name: str = "Dr Asha Example") -> Referrer:
    organisation = Organisation(ods=ods, name="Surgery") if ods else None
    return Referrer.model_validate({"kind": kind, "organisation": organisation, "name": name})


def a_concern(reference: str = "LB-7K3M-9Q2X-4TDW", **changed: object) -> ReferralContext:
    concern = ReferralContext(
        reference=Reference(reference),
        correlation_id="0b0c7c1e-6c0a-4f59-9c39-000000000001",
        message_id="79120f41-a431-4f08-bcc5-1e67006fcae0",
        referral_id="sender-1234",
        format="bars-fhir",
        sent_by=a_sender(),
        referred_by=a_referrer(),
        referred_on=date(2026, 11, 2),
        registered_practice=Organisation(ods=ODS[GP]),
        person=a_person(),
        feedback_consent=YES,
        needs=("minor-adaptations", "warm-homes"),
        open_needs=("minor-adaptations", "warm-homes"),
        home_hub="charnwood",
        reasons=(RoutingReason.COMMUNITY_POSTCODE,),
        status="requested",
    )
    return concern.model_copy(update=changed)


def by_gp(partner: str = GP, **changed: object) -> ReferralContext:
    """Return the context of a referral that a practice sent itself."""
    sender = {"sent_by": a_sender(partner), "referred_by": a_referrer(ods=ODS[partner])}
    return a_concern(**{**sender, "registered_practice": Organisation(ods=ODS[partner]), **changed})


def by_first_contact_for_gp(partner: str = GP, **changed: object) -> ReferralContext:
    """Return the context of a GP's referral that arrived through First Contact's form."""
    through = {"sent_by": Sender(partner="first-contact", organisation=Organisation(name="First Contact Plus"))}
    return a_concern(**{**through, "format": "form", "referred_by": a_referrer(ods=ODS[partner]), **changed})


def from_ward(**changed: object) -> ReferralContext:
    """Return the context of a hospital's referral."""
    through = {"sent_by": a_sender("uhl", "UHL"), "referred_by": a_referrer("hospital-team", "RWE", "Nurse Example")}
    return a_concern(**{"reference": "LB-WARD-WARD-WARD", **through, "format": "hl7v2", **changed})


def a_position(**changed: object) -> CasePosition:
    position = CasePosition(
        status=CaseStatus.REQUESTED,
        business_status=BusinessStatus.AWAITING_HUB,
        home_hub="charnwood",
        holder="charnwood",
        pathway=Pathway.HOUSING_MOT,
        reasons=(RoutingReason.INPATIENT, RoutingReason.COMMUNITY_POSTCODE),
        directory_version="tests",
    )
    return position.model_copy(update=changed)


def a_case_event(
    kind: type[CaseEvent] = CaseAssigned,
    *concerns: ReferralContext,
    id: str = "event-1",
    person_key: str = "a" * 32,
    at: datetime = AT,
    **said: object,
) -> Event:
    data = kind.model_validate(
        {
            "case_id": CaseId("case-1"),
            "person_key": person_key,
            "case": a_position(),
            "referral_contexts": concerns,
            **said,
        }
    )
    correlation_id = concerns[0].correlation_id if concerns else "c"
    return events.an_event(
        data, id=id, key=person_key, source="/lightbulb/router", time=at, correlation_id=correlation_id
    )


def after_end(concern: ReferralContext, ends: Mapping[str, str]) -> ReferralContext:
    """Return the context after the end of all needs, each in its way."""
    status = next(how for how in ("completed", "rejected", "cancelled") if how in ends.values())
    return concern.model_copy(update={"open_needs": (), "ended_needs": ended_needs(ends), "status": status})


def ended_needs(ends: Mapping[str, str]) -> tuple[EndedNeed, ...]:
    return tuple(EndedNeed(service=need, status=CaseStatus(how)) for need, how in ends.items())


def ended(concern: ReferralContext, *needs: ServiceCode) -> tuple[Ended, ...]:
    return (Ended(reference=concern.reference, needs=needs or concern.needs),)


def a_finding(
    concern: ReferralContext, service: ServiceCode = "minor-adaptations", found: str = "need-confirmed"
) -> Finding:
    return Finding.model_validate({"reference": concern.reference, "service": service, "finding": found})


def an_intervention(
    reference: str = "LB-7K3M-9Q2X-4TDW",
    service: ServiceCode = "minor-adaptations",
    action: str = "Grab rails fitted",
    provider: str = "Charnwood Borough Council",
    on: date = date(2026, 11, 3),
) -> Intervention:
    return Intervention(reference=Reference(reference), service=service, action=action, provider=provider, on=on)


def a_life(concern: ReferralContext, prefix: str, person_key: str = "a" * 32) -> list[Event]:
    """Return the events joined, assigned and completed of one referral on an open case."""
    done = (an_intervention(concern.reference),)
    last = concern.model_copy(update={"status": "completed", "open_needs": (), "interventions": done})
    return [
        a_case_event(CaseJoined, concern, id=f"{prefix}-1", person_key=person_key, joined=concern.reference),
        a_case_event(CaseAssigned, concern, id=f"{prefix}-2", person_key=person_key, at=AT + timedelta(hours=1)),
        a_case_event(
            CaseCompleted,
            last,
            id=f"{prefix}-3",
            person_key=person_key,
            at=AT + timedelta(days=30),
            ended=ended(concern),
        ),
    ]


def every_event(concern: ReferralContext) -> dict[str, Event]:
    """Return one event of each kind that has a row in the table, about one referral."""
    concern_by_type: dict[str, ReferralContext] = {}
    for how in ("completed", "rejected", "cancelled"):
        first, *others = concern.needs
        of_part = {"open_needs": tuple(others), "ended_needs": ended_needs({first: how})}
        concern_by_type[how] = after_end(concern, dict.fromkeys(concern.needs, how))
        concern_by_type[f"{how}-in-part"] = concern.model_copy(update=of_part | {"status": "in-progress"})
    concern_by_type["ended"] = after_end(
        concern, {**dict.fromkeys(concern.needs, "cancelled"), concern.needs[0]: "completed"}
    )
    ends, part = {"ended": ended(concern)}, {"ended": ended(concern, concern.needs[0])}
    kinds: dict[str, tuple[type[CaseEvent], dict[str, object]]] = {
        "received": (CaseOpened, {"case": a_position(holder=None)}),
        "home-hub": (CaseAssigned, {}),
        "accepted": (CaseAccepted, {}),
        "on-hold": (CaseHeld, {"reason": HoldReason.WAITING_LIST}),
        "assessed": (CaseAssessed, {"findings": (a_finding(concern),)}),
        "completed": (CaseCompleted, ends),
        "rejected": (CaseRejected, {**ends, "reason": EndReason.NOT_ELIGIBLE}),
        "cancelled": (CaseCancelled, {**ends, "reason": EndReason.PERSON_DECLINED}),
        "completed-in-part": (CaseCompleted, part),
        "rejected-in-part": (CaseRejected, {**part, "reason": EndReason.NOT_ELIGIBLE}),
        "cancelled-in-part": (CaseCancelled, {**part, "reason": EndReason.PERSON_DECLINED}),
        "ended": (CaseCancelled, {"ended": ended(concern, *concern.needs[1:]), "reason": EndReason.PERSON_DECLINED}),
        "cancellation-refused": (CancellationRefused, {"refused": concern.reference}),
        "update-refused": (UpdateRefused, {"refused": concern.reference}),
    }
    return {
        name: a_case_event(kind, concern_by_type.get(name, concern), **said) for name, (kind, said) in kinds.items()
    }


def as_records(events: Sequence[Event], topic: str = CASE_EVENT) -> list[KafkaRecord]:
    return [in_record(event, topic) for event in events]
