"""Every event and command of the hub, as CloudEvents types `uk.lightbulb.<noun>.<past participle>.v1`.

Events state what happened; commands (`uk.lightbulb.case.accept.v1`) request an action. On Kafka both use CloudEvents 1.0 binary
mode: the attributes of `Event` as `ce_` headers, the JSON of `data` as the value, the person key as the record key.
"""

from collections.abc import Mapping
from datetime import date
from operator import not_
from types import MappingProxyType, UnionType
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import AwareDatetime, Field

from schemas.case import (
    CasePosition,
    DfgStep,
    Ended,
    EndedNeed,
    EndReason,
    Finding,
    HoldReason,
    Intervention,
    OutcomeScore,
    RoutingReason,
    TaskKind,
)
from schemas.model import CaseId, HubId, Immutable, OnsCode, PersonKey, Reference, ShortText
from schemas.referral import Consent, DeathReport, Organisation, Referral, Referrer, Sender, ServiceCode


class EventData(Immutable):
    """Base of the data of events and commands. `TYPE` is the CloudEvents type."""

    TYPE: ClassVar[str]


# ---- referral.event: what intake accepted ---------------------------------------------------------------------------


class IntakeState(Immutable):
    """What intake holds of a referral after a message, so that `lightbulb reconcile` can rebuild it; only on the internal topic."""

    referral_id: str = Field(description="Identity of the referral within the partner")
    partner: str = Field(description="Partner that sent it")
    first_intent: ShortText = Field(description="What its first message requested")
    content_hash: str = Field(description="SHA-256 of the content of the last applied message")
    message_hash: str = Field(description="SHA-256 of the content of this message")
    subject: str = Field("", description="Keyed hashes of NHS number, birth date and family name")
    cancelled: bool = Field(False, description="True if the sender has cancelled it")
    first_sent_at: AwareDatetime | None = Field(None, description="Time of the first message, by the sender's clock")
    sent_at: AwareDatetime | None = Field(None, description="Time of the last applied message, by the sender's clock")
    message_ids: tuple[str, ...] = Field((), description="Ids of this message, by which its repeats are found")
    names: tuple[str, ...] = Field((), description="Names that this message gives the referral")
    sender_reference: str | None = Field(
        None, description="The sender's own reference, folded; none if this message has none"
    )
    fields: str | None = Field(None, description="What the messages have said, unit by unit (HL7 v2), in base64")
    visit_keys: tuple[str, ...] | None = Field(None, description="Keys of its stay; none if they did not change")


class AcceptedReferral(EventData):
    """Base of the events of intake."""

    intake: IntakeState | None = Field(None, exclude_if=not_, description="What intake holds after this message")


class ReferralReceived(AcceptedReferral):
    """A new referral was accepted: the hub is responsible for it."""

    TYPE = "uk.lightbulb.referral.received.v1"
    reference: Reference = Field(description="Our reference of the referral")
    version: Annotated[int, Field(ge=1)] = Field(
        description="Number of this message among those of the referral, from 1"
    )
    referral: Referral = Field(description="Canonical referral")


class ReferralUpdated(AcceptedReferral):
    """The sender sent the whole referral again, with other content."""

    TYPE = "uk.lightbulb.referral.updated.v1"
    reference: Reference = Field(description="Our reference of the referral")
    version: Annotated[int, Field(ge=1)] = Field(description="Number of this message among those of the referral")
    referral: Referral = Field(description="Whole canonical referral")
    about_visit: bool = Field(
        False,
        exclude_if=not_,
        description="True if the message was about the hospital visit (HL7 ADT) and not about the referral: after the referral's end "
        "no hub or referrer is informed of it",
    )


class ReferralCancelled(AcceptedReferral):
    """The sender cancelled the referral, or the person withdrew consent."""

    TYPE = "uk.lightbulb.referral.cancelled.v1"
    reference: Reference = Field(description="Our reference of the referral")
    version: Annotated[int, Field(ge=1)] = Field(description="Number of this message among those of the referral")
    reason: Literal[EndReason.CANCELLED_BY_REFERRER, EndReason.REFERRED_IN_ERROR, EndReason.CONSENT_WITHDRAWN] = Field(
        EndReason.CANCELLED_BY_REFERRER, description="Reason"
    )
    discharged_on: date | None = Field(None, description="Date of discharge, if a hospital cancels at discharge")
    death_reported: DeathReport | None = Field(None, description="Report of the person's death; none if none was made")


class ReferralCancellationNotApplied(AcceptedReferral):
    """A cancel that is older than an applied update is stored but not applied: a person at the holder decides."""

    TYPE = "uk.lightbulb.referral.cancellation-not-applied.v1"
    reference: Reference = Field(description="Our reference of the referral")
    version: Annotated[int, Field(ge=1)] = Field(description="Number of this message among those of the referral")
    reason: Literal[EndReason.CANCELLED_BY_REFERRER, EndReason.REFERRED_IN_ERROR, EndReason.CONSENT_WITHDRAWN] = Field(
        EndReason.CANCELLED_BY_REFERRER, description="Reason that the cancel gives"
    )
    death_reported: DeathReport | None = Field(None, description="Report of the person's death; none if none was made")


class ReferralUpdateNotApplied(AcceptedReferral):
    """An update contradicts what was known of the person: it is stored but not applied, and a person at the holder decides."""

    TYPE = "uk.lightbulb.referral.update-not-applied.v1"
    reference: Reference = Field(description="Our reference of the referral")
    version: Annotated[int, Field(ge=1)] = Field(description="Number of this message among those of the referral")
    reason: Literal["other-person"] = Field(description="Reason: the message describes another person")
    death_reported: DeathReport | None = Field(None, description="Report of the person's death; none if none was made")


class ReferralMergeProposed(AcceptedReferral):
    """The sender merged two of its patient records (HL7 ADT^A40), one of which is the referral's: only a person merges persons."""

    TYPE = "uk.lightbulb.referral.merge-proposed.v1"
    reference: Reference = Field(description="Our reference of the referral")
    version: Annotated[int, Field(ge=1)] = Field(description="Number of this message among those of the referral")


class DischargeOverdue(EventData):
    """Two days have passed since the expected date of discharge, and the hospital did not say that the stay is over.

    Published by the router itself, with an id that derives from the referral and the date.
    """

    TYPE = "uk.lightbulb.referral.discharge-overdue.v1"
    reference: Reference = Field(description="Our reference of the referral")
    expected_on: date = Field(description="Expected date of discharge that has passed")


# ---- case.event and hub.<id>.case: what happens to cases -------------------------------------------------------------


class PersonBrief(Immutable):
    """Identity of the person for feedback; only on the internal topic."""

    nhs_number: str | None = Field(None, description="NHS number, ten digits")
    nhs_number_status: str = Field(description="Verification status as stated by the sender")
    family_name: str | None = Field(None, description="Family name")
    given_names: tuple[str, ...] = Field((), description="Given names")
    birth_date: date | None = Field(None, description="Date of birth")
    provisional: bool = Field(False, description="True while the person is not certain: feedback is status only")


class ReferralContext(Immutable):
    """One referral whose referrer may receive feedback on this event; only on the internal topic.

    It holds all data that the feedback needs, from that referral alone: no data of another referral on the case.
    """

    reference: Reference = Field(description="Referral")
    correlation_id: ShortText = Field(description="Correlation id of its conversation")
    message_id: ShortText = Field(
        description="The sender's id of the message that created the referral (BaRS: Bundle.id)"
    )
    referral_id: ShortText = Field(description="The sender's id of the referral")
    format: ShortText = Field(description="Format of the sender's message")
    sent_by: Sender = Field(description="Partner whose system delivered it")
    referred_by: Referrer = Field(description="Professional or person who made the referral")
    referred_on: date | None = Field(None, description="Date when they made the referral")
    registered_practice: Organisation | None = Field(
        None, description="Registered GP practice of the person, by this referral"
    )
    person: PersonBrief = Field(description="Identity of the person, by this referral")
    feedback_consent: Consent = Field(description="Consent to inform the referrer of what was found and done")
    needs: tuple[ServiceCode, ...] = Field((), description="Needs that it names")
    open_needs: tuple[ServiceCode, ...] = Field((), description="Needs that are still open after this event")
    ended_needs: tuple[EndedNeed, ...] = Field(
        (), exclude_if=not_, description="Needs that have ended, those of this event included"
    )
    home_hub: HubId | None = Field(None, description="Home hub of the referral: feedback gives its public contact")
    reasons: tuple[RoutingReason, ...] = Field(
        (), description="Why that home hub, by this referral alone: never because of a stay or another referral"
    )
    status: ShortText = Field(description="Status of this referral after the event (CaseStatus)")
    interventions: tuple[Intervention, ...] = Field((), description="What was done for this referral so far")
    restricted_access: bool = Field(
        False,
        exclude_if=not_,
        description="True if the person's data are restricted: no hub and no reason is given, and feedback must not name a place",
    )


class HubReferral(Immutable):
    """One referral as a hub may see it; other hubs receive no data of a restricted stay."""

    reference: Reference = Field(description="Referral")
    version: int = Field(description="Number of its last message among those of the referral")
    status: ShortText = Field(description="Status of the referral (CaseStatus)")
    open_needs: tuple[ServiceCode, ...] = Field((), description="Needs that are still open")
    referral: Referral = Field(description="Canonical referral, without what this hub may not see")


class OpenReferral(Immutable):
    """An open referral that an event does not repeat: the hub has received it in full before."""

    reference: Reference = Field(description="Referral")
    status: ShortText = Field(description="Status of the referral (CaseStatus)")
    open_needs: tuple[ServiceCode, ...] = Field((), description="Needs that are still open")


class CaseEvent(EventData):
    """Base of every event about a case.

    `referral_contexts` is set on `case.event`; `hub_version`, `role`, `referrals`, `snapshots` and `others` on `hub.<id>.case`.
    An event of `case.event` that concerns many referrals is several events of the same type, each with other contexts.
    """

    case_id: CaseId = Field(description="Case")
    person_key: PersonKey = Field(description="Person key of the case; part of every command")
    case: CasePosition = Field(description="Position of the case after this event, limited to what the reader may see")
    decided_by: HubId | None = Field(None, description="Hub whose command led to it; none for a rule or a sender")
    command_id: ShortText | None = Field(None, description="Id of the command that led to it")
    referral_contexts: tuple[ReferralContext, ...] = Field(
        (), description="case.event only: the referrals whose referrers may receive feedback"
    )
    hub_version: int | None = Field(
        None, description="Hub topics only: number of this event among those of (hub, case), from 1 without gap"
    )
    role: Literal["holder", "follow-on", "former"] | None = Field(
        None, description="Hub topics only: role of this hub in the case"
    )
    referrals: tuple[HubReferral, ...] = Field(
        (),
        description="Hub topics only, in full: the referrals that changed with this event; every open referral that this hub may see if it "
        "got the case or another role, or if what it may see has changed. A referral that has ended is in the event that ended it",
    )
    snapshots: int = Field(
        0,
        exclude_if=not_,
        description="Hub topics only: number of case.snapshot events that follow at once with the rest of `referrals`",
    )
    others: tuple[OpenReferral, ...] = Field(
        (),
        exclude_if=not_,
        description="Hub topics only: other open referrals that this hub may see, at most 50, by reference",
    )
    others_count: int | None = Field(
        None,
        description="Hub topics only: number of open referrals that this hub may see and that are not in `referrals` or its snapshots; "
        "if `others` has as many, every open referral is named, and one that is not named is no longer this hub's",
    )


class CaseOpened(CaseEvent):
    """A case was opened by its first referral, and assigned by the rules. On a hub topic: this hub has a role in the new case.

    A case without a holder is not assigned: an event that returns or cancels its referral follows.
    """

    TYPE = "uk.lightbulb.case.opened.v1"


class CaseJoined(CaseEvent):
    """A further referral joined the open case."""

    TYPE = "uk.lightbulb.case.joined.v1"
    joined: Reference | None = Field(None, description="Referral that joined; none for a hub that may not see it")


class CaseUpdated(CaseEvent):
    """A sender's update changed a referral, or a person became provisional."""

    TYPE = "uk.lightbulb.case.updated.v1"
    updated: Reference | None = Field(None, description="Referral; none for a hub that may not see it")


class CaseAssigned(CaseEvent):
    """Home hub, holder or pathway of an open case was decided again. On a hub topic: the role or pathway of this hub changed."""

    TYPE = "uk.lightbulb.case.assigned.v1"


class CaseAccepted(CaseEvent):
    """The hub took the case on."""

    TYPE = "uk.lightbulb.case.accepted.v1"


class CaseHeld(CaseEvent):
    """The case waits."""

    TYPE = "uk.lightbulb.case.held.v1"
    reason: HoldReason = Field(description="Reason")
    until: date | None = Field(None, description="Until when, if stated")


class CaseBooked(CaseEvent):
    """A Housing MOT visit was booked."""

    TYPE = "uk.lightbulb.case.booked.v1"
    visit_at: AwareDatetime = Field(description="Date and time of the visit")


class CaseStarted(CaseEvent):
    """Work began."""

    TYPE = "uk.lightbulb.case.started.v1"


class CaseAssessed(CaseEvent):
    """The Housing MOT was done."""

    TYPE = "uk.lightbulb.case.assessed.v1"
    findings: tuple[Finding, ...] = Field(description="What was found, for each need")
    scores: tuple[OutcomeScore, ...] = Field((), description="Outcome domains before the work")


class CaseRecorded(CaseEvent):
    """An intervention, a DFG stage or a failed contact was recorded."""

    TYPE = "uk.lightbulb.case.recorded.v1"
    interventions: tuple[Intervention, ...] = Field((), description="Interventions")
    dfg: DfgStep | None = Field(None, description="A step of a disabled facilities grant")
    no_contact_on: date | None = Field(None, description="Date of an attempt that did not reach the person")


class CaseCompleted(CaseEvent):
    """Referrals, or needs of them, were completed; the case too, if its status is completed."""

    TYPE = "uk.lightbulb.case.completed.v1"
    ended: tuple[Ended, ...] = Field(description="Needs that ended")
    scores: tuple[OutcomeScore, ...] = Field((), description="Outcome domains after the work")


class CaseRejected(CaseEvent):
    """Referrals, or needs of them, were returned to their referrers."""

    TYPE = "uk.lightbulb.case.rejected.v1"
    ended: tuple[Ended, ...] = Field(description="Needs that ended")
    reason: EndReason = Field(description="Reason")
    refer_to: HubId | None = Field(None, description="Hub or authority outside the county to refer to instead")


class CaseCancelled(CaseEvent):
    """Referrals, or needs of them, were cancelled."""

    TYPE = "uk.lightbulb.case.cancelled.v1"
    ended: tuple[Ended, ...] = Field(description="Needs that ended")
    reason: EndReason = Field(description="Reason")


class CaseTransferred(CaseEvent):
    """The case moved to another hub."""

    TYPE = "uk.lightbulb.case.transferred.v1"
    from_hub: HubId | None = Field(None, description="Previous holder; none for a reader that may not see it")
    to_hub: HubId | None = Field(
        None,
        description="New holder; none for a former holder that may not see where a person with restricted data went",
    )


class ContactHeld(CaseEvent):
    """A death was reported. Visits, letters to the person and clocks wait until the holder confirms or withdraws it."""

    TYPE = "uk.lightbulb.case.contact-held.v1"


class ContactHoldEnded(CaseEvent):
    """The report of a death was withdrawn: contact is possible again."""

    TYPE = "uk.lightbulb.case.contact-hold-ended.v1"


class TaskRaised(CaseEvent):
    """A person at the hub has to decide something that no rule decides."""

    TYPE = "uk.lightbulb.case.task-raised.v1"
    kind: TaskKind = Field(description="What has to be decided")
    due: date = Field(description="Last day for the decision")
    about: Reference | None = Field(None, description="Referral that the task is about; none if it is about the person")


class CancellationRefused(CaseEvent):
    """A sender's cancel arrived after the referral had ended."""

    TYPE = "uk.lightbulb.case.cancellation-refused.v1"
    refused: Reference = Field(description="Referral")


class UpdateRefused(CaseEvent):
    """A sender's update arrived after the referral had ended. It is stored; the referrer should refer again."""

    TYPE = "uk.lightbulb.case.update-refused.v1"
    refused: Reference = Field(description="Referral")


class CaseSnapshot(EventData):
    """Further referrals of an event that would be too large for one record; changes neither position nor role."""

    TYPE = "uk.lightbulb.case.snapshot.v1"
    case_id: CaseId = Field(description="Case")
    person_key: PersonKey = Field(description="Person key of the case")
    hub_version: int = Field(
        description="Number of this event among those of (hub, case); a command may name an older one"
    )
    of: ShortText = Field(description="Id of the event whose `referrals` it continues")
    part: Annotated[int, Field(ge=1)] = Field(description="Number of this snapshot among those of the event, from 1")
    parts: Annotated[int, Field(ge=1)] = Field(description="Number of snapshots of the event, as in its `snapshots`")
    referrals: tuple[HubReferral, ...] = Field(description="Referrals in full")


class CommandRefused(EventData):
    """A command was invalid, impossible, stale or not permitted. Sent to the commanding hub only."""

    TYPE = "uk.lightbulb.case.command-refused.v1"
    case_id: CaseId | None = Field(None, description="Case that the command named; none if it cannot be read")
    person_key: PersonKey = Field(description="Person key that the command named")
    command_id: ShortText | None = Field(None, description="Id of the command; none if it cannot be read")
    command: ShortText | None = Field(None, description="Type of the command; none if it is not a type of command")
    reason: Literal[
        "invalid",
        "unknown-case",
        "stale",
        "not-permitted",
        "impossible",
        "unknown-need",
        "unknown-hub",
        "unknown-field",
        "unknown-service",
        "future-date",
    ] = Field(description="Reason")
    explanation: ShortText = Field(description="Explanation, without personal data")
    places: tuple[ShortText, ...] = Field(
        (),
        description="Invalid only: the faults, at most 20, as place and kind, such as `visit_at: missing` or `ce_time: missing`; no values",
    )
    hub_version: int | None = Field(
        None, description="Current hub_version of the case; none if the case is unknown or the command is invalid"
    )


class FeedbackSent(EventData):
    """The channel accepted a feedback."""

    TYPE = "uk.lightbulb.feedback.sent.v1"
    reference: Reference = Field(description="Referral")
    feedback_id: ShortText = Field(description="Id of the feedback")
    recipient: ShortText = Field(description="Partner or organisation that it was addressed to")
    channel: Literal["fhir", "mesh", "mailbox"] = Field(description="Channel")


class FeedbackFailed(EventData):
    """A feedback failed permanently; a person must follow it up."""

    TYPE = "uk.lightbulb.feedback.failed.v1"
    reference: Reference = Field(description="Referral")
    feedback_id: ShortText = Field(description="Id of the feedback")
    recipient: ShortText = Field(description="Partner or organisation that it was addressed to")
    channel: Literal["fhir", "mesh", "mailbox"] = Field(description="Channel")
    reason: ShortText = Field(description="Reason class, without personal data")


# ---- hub.<id>.command: what a hub requests ---------------------------------------------------------------------------


class Command(EventData):
    """Base of every command. The topic identifies the commanding hub, never a field."""

    case_id: CaseId = Field(description="Case")
    person_key: PersonKey = Field(description="Person key of the case, as in the event")
    expected_version: Annotated[int, Field(ge=1)] = Field(
        description="Latest hub_version of the case that the hub had received"
    )
    by_role: ShortText | None = Field(
        None, description="Role of the person who decided, such as 'housing support coordinator'; not a name"
    )


class Assign(Command):
    """Triage or the hospital team names the home hub."""

    TYPE = "uk.lightbulb.case.assign.v1"
    to_hub: HubId = Field(description="Home hub, or an authority outside the county")


class Accept(Command):
    """The hub takes the case on."""

    TYPE = "uk.lightbulb.case.accept.v1"


class Reject(Command):
    """The hub returns the named referrals and needs to their referrers."""

    TYPE = "uk.lightbulb.case.reject.v1"
    ended: tuple[Ended, ...] = Field(min_length=1, description="Needs to return")
    reason: EndReason = Field(description="Reason code, which has a reviewed text for the referrer")
    refer_to: HubId | None = Field(None, description="Hub or authority outside the county to refer to instead")


class Hold(Command):
    """The hub puts the case on hold."""

    TYPE = "uk.lightbulb.case.hold.v1"
    reason: HoldReason = Field(description="Reason")
    until: date | None = Field(None, description="Until when, if stated")


class Book(Command):
    """A Housing MOT visit is booked."""

    TYPE = "uk.lightbulb.case.book.v1"
    visit_at: AwareDatetime = Field(description="Date and time of the visit")


class Start(Command):
    """Work begins."""

    TYPE = "uk.lightbulb.case.start.v1"


class Assess(Command):
    """The Housing MOT was done."""

    TYPE = "uk.lightbulb.case.assess.v1"
    findings: tuple[Finding, ...] = Field(min_length=1, description="What was found, need by need")
    scores: tuple[OutcomeScore, ...] = Field((), description="Outcome domains before the work")


class Record(Command):
    """An intervention, a DFG stage or a failed contact is recorded."""

    TYPE = "uk.lightbulb.case.record.v1"
    interventions: tuple[Intervention, ...] = Field((), description="Interventions")
    dfg: DfgStep | None = Field(None, description="A step of a disabled facilities grant")
    no_contact_on: date | None = Field(
        None, description="Date of an attempt that did not reach the person; not after today in England"
    )


class Complete(Command):
    """The named needs are met, or need no more work."""

    TYPE = "uk.lightbulb.case.complete.v1"
    ended: tuple[Ended, ...] = Field(min_length=1, description="Needs that end")
    interventions: tuple[Intervention, ...] = Field((), description="Interventions that were not recorded yet")
    scores: tuple[OutcomeScore, ...] = Field((), description="Outcome domains after the work")


class Cancel(Command):
    """The hub cancels the named needs, for the reason given."""

    TYPE = "uk.lightbulb.case.cancel.v1"
    ended: tuple[Ended, ...] = Field(min_length=1, description="Needs that end")
    reason: EndReason = Field(description="Reason")


class Transfer(Command):
    """The holder transfers the case to another hub."""

    TYPE = "uk.lightbulb.case.transfer.v1"
    to_hub: HubId = Field(description="New holder")


class ReportDeath(Command):
    """The hub reports that the person has died: contact is on hold at every hub that has an open referral."""

    TYPE = "uk.lightbulb.case.report-death.v1"


class ConfirmDeath(Command):
    """The holder confirms a reported death: every open referral of the person ends."""

    TYPE = "uk.lightbulb.case.confirm-death.v1"


class WithdrawDeathReport(Command):
    """The person has not died: the hold ends. From the holder, or from the only hub that reported it."""

    TYPE = "uk.lightbulb.case.withdraw-death-report.v1"


class MarkRead(Command):
    """A person has read the parts of a referral that no rule understands: the referral is routed."""

    TYPE = "uk.lightbulb.case.mark-read.v1"
    reference: Reference = Field(description="Referral that was read")
    needs: tuple[ServiceCode, ...] = Field((), description="Needs as the reader corrected them; none if they are right")


# ---- the envelope ---------------------------------------------------------------------------------------------------

ReferralEvent = (
    ReferralReceived
    | ReferralUpdated
    | ReferralCancelled
    | ReferralCancellationNotApplied
    | ReferralUpdateNotApplied
    | ReferralMergeProposed
    | DischargeOverdue
)
HubCommand = (
    Assign
    | Accept
    | Reject
    | Hold
    | Book
    | Start
    | Assess
    | Record
    | Complete
    | Cancel
    | Transfer
    | ReportDeath
    | ConfirmDeath
    | WithdrawDeathReport
    | MarkRead
)
CaseEventData = (
    CaseOpened
    | CaseJoined
    | CaseUpdated
    | CaseAssigned
    | CaseAccepted
    | CaseHeld
    | CaseBooked
    | CaseStarted
    | CaseAssessed
    | CaseRecorded
    | CaseCompleted
    | CaseRejected
    | CaseCancelled
    | CaseTransferred
    | ContactHeld
    | ContactHoldEnded
    | TaskRaised
    | CancellationRefused
    | UpdateRefused
)
FeedbackEvent = FeedbackSent | FeedbackFailed


def _types(union: UnionType | type[EventData]) -> dict[str, type[EventData]]:
    members: tuple[type[EventData], ...] = get_args(union) or (union,)
    return {data.TYPE: data for data in members}


REFERRAL_EVENTS: Mapping[str, type[EventData]] = MappingProxyType(_types(ReferralEvent))
CASE_EVENTS: Mapping[str, type[EventData]] = MappingProxyType(_types(CaseEventData))
FEEDBACK_EVENTS: Mapping[str, type[EventData]] = MappingProxyType(_types(FeedbackEvent))
HUB_EVENTS: Mapping[str, type[EventData]] = MappingProxyType(_types(CaseEventData | CaseSnapshot | CommandRefused))
COMMANDS: Mapping[str, type[EventData]] = MappingProxyType(_types(HubCommand))
ALL_TYPES: Mapping[str, type[EventData]] = MappingProxyType(
    {**REFERRAL_EVENTS, **CASE_EVENTS, **HUB_EVENTS, **FEEDBACK_EVENTS, **COMMANDS}
)


class Event(Immutable):
    """CloudEvents 1.0 event: the attributes and the data."""

    id: ShortText = Field(description="ce_id: unique with source; a repeat has the same id")
    source: ShortText = Field(description="ce_source: producer, such as /lightbulb/intake or /lightbulb/hub/charnwood")
    time: AwareDatetime = Field(description="ce_time: when it happened (RFC 3339)")
    person_key: PersonKey = Field(description="ce_partitionkey and the record key")
    correlation_id: ShortText = Field(
        description="ce_correlationid: the same from the sender's request to the feedback"
    )
    causation_id: ShortText | None = Field(
        None, description="ce_causationid: id of the message or event that led to this one"
    )
    sequence: int | None = Field(None, description="ce_sequence: number of the event under its person key, from 1")
    district: OnsCode | None = Field(None, description="ce_district: district of residence, independent of the hub")
    data: EventData = Field(description="Data; its class determines the type")

    @property
    def type(self) -> str:
        """CloudEvents type, such as uk.lightbulb.case.opened.v1."""
        return self.data.TYPE
