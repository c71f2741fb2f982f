"""Decides which recipients get which feedback about a case event, and composes it from reviewed texts.

The notifier stores no cases: all content of a feedback comes from one `ReferralContext` and the event that carries it, so it cannot
depend on another person's or referrer's referral. Free text of a hub is never repeated: reasons are codes with reviewed texts. The
action and provider of an intervention are named only if they are on the reviewed lists of
infra/reference_data/templates/actions.yaml; otherwise only the service's label is. Feedback says completed, returned or cancelled
only if no need of the referral is open, and lists nothing as done that is dated after the event. Risk flags never reach this module.
Feedback about a person with restricted data names no hub, authority, provider or reason that could disclose where the person lives.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Literal, Protocol
from uuid import UUID, uuid5

from pydantic import Field

from schemas.case import CaseStatus, Ended, EndReason, Finding, HoldReason, Intervention, RoutingReason
from schemas.dates import in_england
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
    CaseTransferred,
    Event,
    PersonBrief,
    ReferralContext,
    UpdateRefused,
)
from schemas.model import HubId, Immutable, PersonKey, Reference
from schemas.nhs_number import VerificationStatus
from schemas.referral import ServiceCode
from schemas.text import ascii_spelling

FEEDBACK = UUID("5b8e6f0c-3f55-5a53-9c39-1c5d1f6f3b1a")
"""Namespace of feedback ids (RFC 9562 UUID version 5)."""


class FeedbackType(StrEnum):
    """The types of feedback: the rows of the table in docs/architecture.md, Who receives what."""

    RECEIVED = "received"
    HOME_HUB = "home-hub"
    ACCEPTED = "accepted"
    ON_HOLD = "on-hold"
    ASSESSED = "assessed"
    COMPLETED = "completed"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    COMPLETED_IN_PART = "completed-in-part"
    REJECTED_IN_PART = "rejected-in-part"
    CANCELLED_IN_PART = "cancelled-in-part"
    ENDED = "ended"
    CANCELLATION_REFUSED = "cancellation-refused"
    UPDATE_REFUSED = "update-refused"


IN_PART: Mapping[FeedbackType, FeedbackType] = {
    FeedbackType.COMPLETED: FeedbackType.COMPLETED_IN_PART,
    FeedbackType.REJECTED: FeedbackType.REJECTED_IN_PART,
    FeedbackType.CANCELLED: FeedbackType.CANCELLED_IN_PART,
}
"""The type of feedback about the end of needs while others of the same referral are open, by that of an end of all."""

LISTS_ACTIONS = frozenset({FeedbackType.COMPLETED, FeedbackType.COMPLETED_IN_PART, FeedbackType.ENDED})
"""Types of feedback that list what was done."""


class Audience(StrEnum):
    """The groups of recipients: the columns of the table in docs/architecture.md, Who receives what."""

    CLINICIAN = "clinician"
    HOSPITAL = "hospital"
    FRONT_DOOR = "front-door"
    COUNCIL = "council"


_SOME = frozenset(FeedbackType) - {FeedbackType.ACCEPTED, FeedbackType.ON_HOLD, FeedbackType.ASSESSED}
FEEDBACK_BY_AUDIENCE: Mapping[Audience, frozenset[FeedbackType]] = {
    Audience.CLINICIAN: frozenset(FeedbackType),
    Audience.HOSPITAL: frozenset(FeedbackType),
    Audience.FRONT_DOOR: _SOME,
    Audience.COUNCIL: _SOME,
}

AUDIENCE_BY_REFERRER: Mapping[str, Audience] = {
    "gp": Audience.CLINICIAN,
    "clinician": Audience.CLINICIAN,
    "coordinator": Audience.CLINICIAN,
    "hospital-team": Audience.HOSPITAL,
    "first-contact": Audience.FRONT_DOOR,
    "customer-service": Audience.FRONT_DOOR,
    "other": Audience.FRONT_DOOR,
    "council": Audience.COUNCIL,
}
"""The audience of each kind of referrer; none for carers, families and the person: they have no channel."""

OWN_STAFF = "hub"
"""The kind of a partner that sends the referrals of its own staff, and receives the feedback on them."""

STAY = frozenset({RoutingReason.INPATIENT, RoutingReason.HANDED_OVER, RoutingReason.WARD_POSTCODE})
"""Routing reasons that reveal a stay in hospital: sent to the hospital's own team only."""

ANSWERED_WITH_REFERENCE = frozenset({"bars-fhir", "form", "council-csv"})
"""Formats whose response to the sender shows our reference to people (HL7 v2: in MSA-3, for the integration engine)."""


ROUTED_SURNAME = 69
"""Longest surname in an address of automatic routing: Mex-To holds 100 characters, and what precedes the surname has 31."""


class Coded(Immutable):
    """A code and its reviewed text."""

    code: str = Field(description="The code")
    text: str = Field(description="Its reviewed text")


class HubContact(Immutable):
    """Public contact of a hub, or of an authority outside the county."""

    id: HubId = Field(description="Its identifier in the directory")
    name: str = Field(description="Its name")
    phone: str | None = Field(None, description="Public telephone number")
    email: str | None = Field(None, description="Public e-mail address")


class Recipient(Immutable):
    """The recipient of a feedback and its channel, from partners.yaml: no address, and nothing from a message."""

    id: str = Field(description="Partner id, or ods:<code> for an organisation that is not a partner")
    ods: str | None = Field(None, description="Its ODS code")
    name: str | None = Field(None, description="Its name")
    channel: Literal["fhir", "mesh", "mailbox"] = Field(
        description="How feedback reaches it; mailbox: it fetches its feedback"
    )
    routed: bool = Field(False, description="True if MESH finds the practice by NHS number, birth date and surname")


class RegisteredRecipient(Immutable):
    """A partner as a recipient, and what kind of referrer it is."""

    recipient: Recipient
    kind: str


class Recipients(Protocol):
    """Lookup of partners as recipients."""

    def partner(self, partner_id: str) -> RegisteredRecipient | None: ...

    def organisation(self, ods: str) -> RegisteredRecipient | None: ...

    @property
    def routes_by_mesh(self) -> bool:
        """Whether MESH is configured, so that automatic routing reaches practices that are not in partners.yaml."""
        ...


class ReportedFinding(Immutable):
    """The finding of an assessment on one need."""

    service: Coded
    finding: Coded


class NeedOutcome(Immutable):
    """How a need ended. A need that ended before has no reason and advice, unless a restatement repeats them."""

    need: Coded
    status: CaseStatus
    reason: Coded | None = None
    refer_to: HubContact | None = None


class CompletedAction(Immutable):
    """An action that was done, by whom and when; the service alone if more must not be disclosed."""

    service: Coded
    action: str | None = None
    provider: str | None = None
    on: date | None = None


class Feedback(Immutable):
    """What one recipient is sent about one referral because of one event. It never changes after its first attempt."""

    id: str = Field(description="UUID derived from event, referral, recipient and type")
    person_key: PersonKey
    reference: Reference
    caused_by: str = Field(description="Id of the case event")
    correlation_id: str
    recipient: Recipient
    message_id: str = Field(description="The sender's id of the message that made the referral")
    referral_id: str = Field(description="The sender's id of the referral")
    format: str = Field(description="The format that it came in")
    referred_by: str | None = Field(None, description="Name of the professional who referred")
    referred_on: date | None = Field(None, description="Date when they made the referral")
    feedback_type: FeedbackType
    status: CaseStatus
    at: datetime
    full: bool = Field(description="False: status only (no consent to feedback, or a provisional person)")
    person: PersonBrief | None = Field(
        None, description="None if the person is provisional: the feedback does not name them"
    )
    hub: HubContact | None = Field(
        None,
        description="Home hub of the referral; central triage until one is assigned; the service as a whole if restricted",
    )
    restricted_access: bool = Field(False, description="True if the person's data are restricted: no place is named")
    routing_reasons: tuple[Coded, ...] = ()
    reason: Coded | None = None
    until: date | None = None
    refer_to: HubContact | None = None
    needs: tuple[Coded, ...] = Field((), description="The needs that this feedback is about")
    ended: tuple[NeedOutcome, ...] = Field((), description="The needs that end, if it is about an end")
    ended_before: tuple[NeedOutcome, ...] = Field((), description="The needs that had ended before")
    open_needs: tuple[Coded, ...] = ()
    findings: tuple[ReportedFinding, ...] = ()
    completed_actions: tuple[CompletedAction, ...] = ()
    all_completed_actions: tuple[CompletedAction, ...] = Field(
        (), description="All actions so far; sent if the whole position is restated"
    )
    text: tuple[str, ...] = Field((), description="The same as plain paragraphs")
    practice_todo: str | None = Field(None, description="What the practice needs to do")
    is_restatement: bool = Field(
        False, description="True if it states the whole present position because an earlier feedback failed for good"
    )

    @property
    def on(self) -> date:
        """The date of the event in England."""
        return in_england(self.at)

    @property
    def returns_needs(self) -> bool:
        """Return whether needs are returned to the referrer, who may have to arrange something else."""
        return any(one.status is CaseStatus.REJECTED for one in self.ended)

    def with_text(self, text: tuple[str, ...]) -> "Feedback":
        """Return a copy with these paragraphs."""
        return self.model_copy(update={"text": text})


class FeedbackTexts(Protocol):
    """Reviewed texts, public contacts of hubs, and the actions and providers that may be quoted from hubs."""

    def routing(self, reason: RoutingReason) -> Coded: ...
    def end(self, reason: EndReason) -> Coded: ...
    def hold(self, reason: HoldReason) -> Coded: ...
    def finding(self, finding: str) -> Coded: ...
    def service(self, service: ServiceCode) -> Coded: ...
    def hub(self, hub: HubId | None) -> HubContact | None: ...
    def central(self) -> HubContact: ...
    def service_as_a_whole(self) -> HubContact: ...
    def without_place(self) -> Coded: ...
    def action(self, action: str) -> str | None: ...
    def provider(self, provider: str) -> str | None: ...
    def paragraphs(self, feedback: Feedback) -> tuple[str, ...]: ...
    def practice_todo(self, feedback_type: FeedbackType, *, full: bool) -> str: ...
    def restated(self, feedback: Feedback) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The feedback that an event causes about one referral, before its recipients are known."""

    feedback_type: FeedbackType
    reason: Coded | None = None
    until: date | None = None
    refer_to: HubContact | None = None
    needs: tuple[ServiceCode, ...] = ()
    findings: tuple[Finding, ...] = ()
    ended_as: CaseStatus | None = None
    """How `needs` end, if the event is about an end."""


@dataclass(frozen=True, slots=True)
class _Addressee:
    recipient: Recipient
    column: Audience
    answered: bool
    """True if the response to their message contained our reference."""


def compose(event: Event, recipients: Recipients, texts: FeedbackTexts) -> list[Feedback]:
    """Compose all feedback that `event` (a CaseEvent) causes, for each referral and entitled recipient."""
    assert isinstance(event.data, CaseEvent)
    return [
        feedback
        for context in event.data.referral_contexts
        for feedback in compose_for(event, context, recipients, texts)
    ]


def compose_for(event: Event, context: ReferralContext, recipients: Recipients, texts: FeedbackTexts) -> list[Feedback]:
    """Compose the feedback that `event` causes about one referral: a new case is received, and then assigned."""
    assert isinstance(event.data, CaseEvent)
    received = _Outcome(FeedbackType.RECEIVED) if isinstance(event.data, CaseOpened) else None
    return [
        _write(event, context, outcome, listener, texts)
        for outcome in (received, _outcome(event.data, context, texts))
        if outcome is not None
        for listener in _addressees(context, recipients)
        if _receives(listener, outcome.feedback_type)
    ]


def restate(feedback: Feedback, undelivered: Sequence[Feedback], texts: FeedbackTexts) -> Feedback:
    """Return `feedback` with the whole present position, because the `undelivered` ones before it failed for good."""
    if not feedback.full:
        plain = feedback.model_copy(update={"is_restatement": True})
        return plain.with_text(texts.restated(plain))
    lost = [earlier for earlier in undelivered if earlier.full]
    whole = feedback.model_copy(
        update={
            "is_restatement": True,
            **_of_lost(feedback, lost),
            "completed_actions": feedback.all_completed_actions,
            "routing_reasons": feedback.routing_reasons or _last_routing_reasons(feedback, lost),
        }
    )
    return whole.with_text(texts.restated(whole))


def _of_lost(feedback: Feedback, lost: Sequence[Feedback]) -> dict[str, Any]:
    return {
        "findings": _latest_findings([*lost, feedback]),
        "ended_before": _with_lost_reasons(feedback, lost),
        "practice_todo": _todo_of([feedback, *lost]),
    }


def _with_lost_reasons(feedback: Feedback, lost: Iterable[Feedback]) -> tuple[NeedOutcome, ...]:
    """Return how needs had ended, with the reason and advice of those about which the feedback was lost."""
    if feedback.restricted_access:
        return feedback.ended_before
    known = {outcome.need.code: outcome for one in lost for outcome in one.ended}
    return tuple(known.get(outcome.need.code, outcome) for outcome in feedback.ended_before)


def _todo_of(feedbacks: Sequence[Feedback]) -> str | None:
    """Return what the practice needs to do, by the first feedback that returns needs, or else by the first."""
    return next((one for one in feedbacks if one.returns_needs), feedbacks[0]).practice_todo


def _last_routing_reasons(feedback: Feedback, earlier: Sequence[Feedback]) -> tuple[Coded, ...]:
    if feedback.restricted_access:
        return ()
    return next((one.routing_reasons for one in reversed(earlier) if one.routing_reasons), ())


def _latest_findings(feedbacks: Iterable[Feedback]) -> tuple[ReportedFinding, ...]:
    return tuple({finding.service.code: finding for feedback in feedbacks for finding in feedback.findings}.values())


# ---- feedback type and content of an event ---------------------------------------------------------------------------


def _outcome(data: CaseEvent, context: ReferralContext, texts: FeedbackTexts) -> _Outcome | None:
    match data:
        case CaseOpened() if data.case.holder is None:
            return None  # the next event returns or cancels it
        case CaseJoined():
            return _Outcome(FeedbackType.RECEIVED) if data.joined == context.reference else None
        case CaseOpened() | CaseAssigned():
            return _Outcome(FeedbackType.HOME_HUB) if context.home_hub or context.restricted_access else None
        case CaseTransferred():
            return _Outcome(FeedbackType.HOME_HUB) if _home_hub_moved(data, context) else None
        case CaseAccepted():
            return _Outcome(FeedbackType.ACCEPTED)
        case CaseHeld():
            reason = texts.hold(_without_details(data.reason, context))
            return _Outcome(FeedbackType.ON_HOLD, reason=reason, until=data.until)
        case CaseAssessed():
            return _assessed(data, context)
        case CaseCompleted():
            return _ended(CaseStatus.COMPLETED, data.ended, context)
        case CaseRejected():
            return _rejected(data, context, texts)
        case CaseCancelled():
            return _ended(CaseStatus.CANCELLED, data.ended, context, texts.end(data.reason))
        case CancellationRefused():
            return _Outcome(FeedbackType.CANCELLATION_REFUSED) if data.refused == context.reference else None
        case UpdateRefused():
            return _Outcome(FeedbackType.UPDATE_REFUSED) if data.refused == context.reference else None
        case _:
            return None  # updated, booked, started, recorded: they cause no feedback


def _home_hub_moved(data: CaseTransferred, context: ReferralContext) -> bool:
    """Return whether a transfer changed the home hub: a transfer command does, a hand-over at discharge does not.

    If the person's data are restricted, only a referral that has just arrived is among the contexts of a transfer.
    """
    if context.restricted_access:
        return True
    return context.home_hub == data.to_hub and RoutingReason.TRANSFERRED in (context.reasons or data.case.reasons)


def _without_details(reason: HoldReason, context: ReferralContext) -> HoldReason:
    """Replace the hold reason for all but the hospital's team, so that others do not learn of a stay."""
    if reason is HoldReason.IN_HOSPITAL and AUDIENCE_BY_REFERRER.get(context.referred_by.kind) is not Audience.HOSPITAL:
        return HoldReason.PERSON_UNAVAILABLE
    return reason


def _assessed(data: CaseAssessed, context: ReferralContext) -> _Outcome | None:
    findings = tuple(finding for finding in data.findings if finding.reference == context.reference)
    needs = tuple(finding.service for finding in findings)
    return _Outcome(FeedbackType.ASSESSED, findings=findings, needs=needs) if findings else None


def _rejected(data: CaseRejected, context: ReferralContext, texts: FeedbackTexts) -> _Outcome | None:
    """Return the reason and where to refer to instead; neither may disclose where a person with restricted data lives."""
    reason, refer_to = texts.end(data.reason), texts.hub(data.refer_to)
    if context.restricted_access:
        reason, refer_to = texts.without_place() if data.reason is EndReason.OUTSIDE_COUNTY else reason, None
    return _ended(CaseStatus.REJECTED, data.ended, context, reason, refer_to)


def _ended(
    ended_as: CaseStatus,
    ended: Sequence[Ended],
    context: ReferralContext,
    reason: Coded | None = None,
    refer_to: HubContact | None = None,
) -> _Outcome | None:
    needs = tuple(need for end in ended if end.reference == context.reference for need in end.needs)
    if not needs:
        return None
    feedback_type = _type_of_end(ended_as, context)
    return _Outcome(feedback_type, reason=reason, refer_to=refer_to, needs=needs, ended_as=ended_as)


def _type_of_end(ended_as: CaseStatus, context: ReferralContext) -> FeedbackType:
    """Return the type of feedback about an end: of a part while a need is open, `ended` if needs have ended in different ways."""
    whole = FeedbackType(ended_as.value)
    if context.open_needs:
        return IN_PART[whole]
    return whole if {ended_as, *(one.status for one in context.ended_needs)} == {ended_as} else FeedbackType.ENDED


# ---- recipients ------------------------------------------------------------------------------------------------------


def _addressees(context: ReferralContext, recipients: Recipients) -> list[_Addressee]:
    """Return the referrer, and the sender if it is not the referrer."""
    referrer, sender = _referrer(context, recipients), _sender(context, recipients)
    if referrer is None:
        return [sender] if sender else []
    if sender is None or sender.recipient.id == referrer.recipient.id:
        return [referrer]
    return [referrer, sender]


def _referrer(context: ReferralContext, recipients: Recipients) -> _Addressee | None:
    column = AUDIENCE_BY_REFERRER.get(context.referred_by.kind)
    recipient = _referrers_recipient(context, recipients) if column else None
    if column is None or recipient is None:
        return None
    is_sender = recipient.id == context.sent_by.partner or _same_organisation(context)
    return _Addressee(recipient, column, is_sender and context.format in ANSWERED_WITH_REFERENCE)


def _referrers_recipient(context: ReferralContext, recipients: Recipients) -> Recipient | None:
    organisation = context.referred_by.organisation
    sender = recipients.partner(context.sent_by.partner)
    if organisation is None or organisation.ods is None:
        return sender.recipient if sender and sender.kind in (context.referred_by.kind, OWN_STAFF) else None
    if sender and sender.recipient.ods == organisation.ods:
        return sender.recipient
    partner = recipients.organisation(organisation.ods)
    if partner is not None:
        return partner.recipient
    routed = recipients.routes_by_mesh and _may_be_routed(context)
    return Recipient(
        id=f"ods:{organisation.ods}",
        ods=organisation.ods,
        name=organisation.name,
        channel="mesh" if routed else "mailbox",
        routed=routed,
    )


def _may_be_routed(context: ReferralContext) -> bool:
    """Return whether MESH may find the practice by the person.

    It is the registered one, the person is certain, and the person's data are not restricted.
    """
    person, practice = context.person, context.registered_practice
    return (
        context.referred_by.kind == "gp"
        and context.referred_by.organisation is not None
        and practice is not None
        and practice.ods == context.referred_by.organisation.ods
        and person.nhs_number is not None
        and person.nhs_number_status == VerificationStatus.VERIFIED
        and not person.provisional
        and not context.restricted_access
        and person.birth_date is not None
        and _is_routable(person.family_name)
    )


def _is_routable(family_name: str | None) -> bool:
    """Return whether MESH's address can hold the surname whole: its header is ASCII, and limited in length."""
    spelled = ascii_spelling(family_name or "")
    return spelled is not None and len(spelled) <= ROUTED_SURNAME


def _same_organisation(context: ReferralContext) -> bool:
    referrer, sender = context.referred_by.organisation, context.sent_by.organisation
    return referrer is not None and referrer.ods is not None and referrer.ods == sender.ods


def _sender(context: ReferralContext, recipients: Recipients) -> _Addressee | None:
    partner = recipients.partner(context.sent_by.partner)
    column = AUDIENCE_BY_REFERRER.get(partner.kind) if partner else None
    return _Addressee(partner.recipient, column, answered=True) if partner and column else None


def _receives(addressee: _Addressee, feedback_type: FeedbackType) -> bool:
    if feedback_type is FeedbackType.RECEIVED and addressee.answered:
        return False
    return feedback_type in FEEDBACK_BY_AUDIENCE[addressee.column]


# ---- content ---------------------------------------------------------------------------------------------------------


def _write(
    event: Event, context: ReferralContext, outcome: _Outcome, addressee: _Addressee, texts: FeedbackTexts
) -> Feedback:
    """Write one feedback.

    Without consent, or for a provisional person, it holds status, date, reference and the home hub's public
    contact only. `person` is set unless provisional: only letters show it then.
    """
    full = context.feedback_consent.answer == "yes" and not context.person.provisional
    feedback = Feedback(
        id=str(uuid5(FEEDBACK, f"{event.id}|{context.reference}|{addressee.recipient.id}|{outcome.feedback_type}")),
        person_key=event.person_key,
        caused_by=event.id,
        recipient=addressee.recipient,
        **_identity(context),
        feedback_type=outcome.feedback_type,
        status=CaseStatus(context.status),
        at=event.time,
        full=full,
        person=None if context.person.provisional else context.person,
        **_contact(context, texts),
        practice_todo=texts.practice_todo(_todo_type(outcome), full=full),
        **(_content(event, context, outcome, addressee.column, texts) if full else {}),
    )
    return feedback.with_text(texts.paragraphs(feedback))


def _todo_type(outcome: _Outcome) -> FeedbackType:
    """Return the type of feedback whose text says what to do: that of a rejection whenever needs are returned."""
    return FeedbackType.REJECTED if outcome.ended_as is CaseStatus.REJECTED else outcome.feedback_type


def _identity(context: ReferralContext) -> dict[str, Any]:
    """Return the ids of the referral, and who made it when."""
    return {
        "reference": context.reference,
        "correlation_id": context.correlation_id,
        "message_id": context.message_id,
        "referral_id": context.referral_id,
        "format": context.format,
        "referred_by": context.referred_by.name,
        "referred_on": context.referred_on,
    }


def _contact(context: ReferralContext, texts: FeedbackTexts) -> dict[str, Any]:
    if context.restricted_access:
        return {"restricted_access": True, "hub": texts.service_as_a_whole()}
    return {"hub": texts.hub(context.home_hub) or texts.central()}


def _content(
    event: Event, context: ReferralContext, outcome: _Outcome, audience: Audience, texts: FeedbackTexts
) -> dict[str, Any]:
    """Return the content beyond the status that this audience may read."""
    reasons = [r for r in context.reasons if audience is Audience.HOSPITAL or r not in STAY]
    done = tuple(
        _completed_action(i, audience, context, texts)
        for i in context.interventions
        if i.reference == context.reference and i.on <= in_england(event.time)
    )
    findings = [(texts.service(f.service), texts.finding(f.finding)) for f in outcome.findings]
    return {
        "routing_reasons": tuple(texts.routing(reason) for reason in reasons)
        if outcome.feedback_type is FeedbackType.HOME_HUB
        else (),
        "reason": outcome.reason,
        "until": outcome.until,
        "refer_to": outcome.refer_to,
        "needs": tuple(texts.service(need) for need in outcome.needs),
        **_ends(context, outcome, texts),
        "open_needs": tuple(texts.service(need) for need in context.open_needs),
        "findings": tuple(ReportedFinding(service=service, finding=finding) for service, finding in findings),
        "completed_actions": _once(done) if outcome.feedback_type in LISTS_ACTIONS else (),
        "all_completed_actions": _once(done),
    }


def _ends(context: ReferralContext, outcome: _Outcome, texts: FeedbackTexts) -> dict[str, tuple[NeedOutcome, ...]]:
    """Return the needs that end with this event, and those that had ended before."""
    why = {"status": outcome.ended_as, "reason": outcome.reason, "refer_to": outcome.refer_to}
    now = outcome.needs if outcome.ended_as else ()
    before = (one for one in context.ended_needs if one.service not in now)
    return {
        "ended": tuple(NeedOutcome.model_validate({"need": texts.service(need), **why}) for need in now),
        "ended_before": tuple(NeedOutcome(need=texts.service(one.service), status=one.status) for one in before),
    }


def _completed_action(
    intervention: Intervention, audience: Audience, context: ReferralContext, texts: FeedbackTexts
) -> CompletedAction:
    service = texts.service(intervention.service)
    if audience is Audience.FRONT_DOOR:
        return CompletedAction(service=service)
    return CompletedAction(
        service=service,
        action=texts.action(intervention.action),
        provider=None if context.restricted_access else texts.provider(intervention.provider),
        on=intervention.on,
    )


def _once(done: tuple[CompletedAction, ...]) -> tuple[CompletedAction, ...]:
    return tuple(dict.fromkeys(done))
