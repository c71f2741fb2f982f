"""Every event and command of the hub, as CloudEvents types `uk.lightbulb.<noun>.<past participle>.v1`.

Events say what happened; commands (`uk.lightbulb.case.accept.v1`) ask for it. On Kafka they travel in CloudEvents 1.0 binary
mode: the attributes of `Event` as `ce_` headers, the JSON of `data` as the value, the person key as the record key.
"""

from collections.abc import Mapping
from datetime import date
from types import MappingProxyType, UnionType
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import AwareDatetime, Field

from schemas.case import (
    CasePosition,
    DfgStep,
    Ended,
    EndReason,
    Finding,
    HoldReason,
    Intervention,
    OutcomeScore,
    RoutingReason,
)
from schemas.model import CaseId, HubId, Immutable, OnsCode, PersonKey, Reference, ShortText
from schemas.referral import Consent, Organisation, Referral, Referrer, Sender, ServiceCode


class EventData(Immutable):
    """The data of an event. `TYPE` is its CloudEvents type."""

    TYPE: ClassVar[str]


# ---- referral.event: what intake accepted ---------------------------------------------------------------------------


class ReferralReceived(EventData):
    """A new referral was accepted: it is ours now."""

    TYPE = "uk.lightbulb.referral.received.v1"
    reference: Reference = Field(description="Our reference of it")
    version: Annotated[int, Field(ge=1)] = Field(
        description="Number of this message among those of the referral, from 1"
    )
    referral: Referral = Field(description="The canonical referral")


class ReferralUpdated(EventData):
    """The sender sent the referral again, whole, with other content."""

    TYPE = "uk.lightbulb.referral.updated.v1"
    reference: Reference = Field(description="Our reference of it")
    version: Annotated[int, Field(ge=1)] = Field(description="Number of this message among those of the referral")
    referral: Referral = Field(description="The canonical referral, whole")


class ReferralCancelled(EventData):
    """The sender takes the referral back, or its person withdrew consent."""

    TYPE = "uk.lightbulb.referral.cancelled.v1"
    reference: Reference = Field(description="Our reference of it")
    version: Annotated[int, Field(ge=1)] = Field(description="Number of this message among those of the referral")
    reason: Literal[EndReason.CANCELLED_BY_REFERRER, EndReason.REFERRED_IN_ERROR, EndReason.CONSENT_WITHDRAWN] = Field(
        EndReason.CANCELLED_BY_REFERRER, description="Why"
    )
    discharged_on: date | None = Field(None, description="Where a hospital cancels at discharge: the date")


# ---- case.event and hub.<id>.case: what became of it ----------------------------------------------------------------


class PersonBrief(Immutable):
    """What feedback must name the person by; only on the internal topic."""

    nhs_number: str | None = Field(None, description="NHS number, ten digits")
    nhs_number_status: str = Field(description="Verification status as stated by the sender")
    family_name: str | None = Field(None, description="Family name")
    given_names: tuple[str, ...] = Field((), description="Given names")
    birth_date: date | None = Field(None, description="Date of birth")
    provisional: bool = Field(False, description="True until traced: feedback is status only")


class ReferralContext(Immutable):
    """One referral whose referrer may hear of this event, with all that composing the feedback needs; only on the internal topic.

    It holds what that referral itself said, and nothing of any other referral on the case.
    """

    reference: Reference = Field(description="The referral")
    correlation_id: ShortText = Field(description="Correlation id of its conversation")
    message_id: ShortText = Field(description="The sender's id of the message that made it (BaRS: Bundle.id)")
    referral_id: ShortText = Field(description="The sender's id of the referral")
    format: ShortText = Field(description="The format that it came in")
    sent_by: Sender = Field(description="Whose system delivered it")
    referred_by: Referrer = Field(description="Who asked")
    registered_practice: Organisation | None = Field(
        None, description="Where the person is registered, by this referral"
    )
    person: PersonBrief = Field(description="The person, by this referral")
    feedback_consent: Consent = Field(description="Whether the referrer may be told what was found and done")
    needs: tuple[ServiceCode, ...] = Field((), description="The needs that it raised")
    open_needs: tuple[ServiceCode, ...] = Field((), description="Those that are still open after this event")
    home_hub: HubId | None = Field(
        None, description="Home hub of the referral: whose public contact the referrer is given"
    )
    reasons: tuple[RoutingReason, ...] = Field(
        (), description="Why that home hub, by what this referral alone says: never a stay, nor another referral"
    )
    status: ShortText = Field(description="Status of this referral after the event (CaseStatus)")
    interventions: tuple[Intervention, ...] = Field((), description="What was done for this referral so far")


class HubReferral(Immutable):
    """One referral as a hub may see it; a restricted stay is left out of what other hubs get."""

    reference: Reference = Field(description="The referral")
    version: int = Field(description="Its version at intake")
    status: ShortText = Field(description="Its status (CaseStatus)")
    open_needs: tuple[ServiceCode, ...] = Field((), description="The needs still open")
    provisional: bool = Field(
        False, description="True where the person was not traced or did not match: check who it is first"
    )
    referral: Referral = Field(description="The canonical referral, without what this hub may not see")


class CaseEvent(EventData):
    """What every event about a case says. `referral_contexts` is filled on `case.event`, the hub part on `hub.<id>.case`."""

    case_id: CaseId = Field(description="The case")
    person_key: PersonKey = Field(description="Whose case it is; part of every command")
    case: CasePosition = Field(description="Where the case stands after this event, as far as the reader may know")
    decided_by: HubId | None = Field(None, description="The hub that commanded it; none where a rule or a sender did")
    command_id: ShortText | None = Field(None, description="The command that led to it")
    referral_contexts: tuple[ReferralContext, ...] = Field(
        (), description="case.event only: the referrals whose referrers may hear of it"
    )
    hub_version: int | None = Field(
        None, description="Hub topics only: number of this event among those of (hub, case), from 1 without gap"
    )
    role: Literal["holder", "follow-on", "former"] | None = Field(
        None, description="Hub topics only: what this hub is to the case"
    )
    referrals: tuple[HubReferral, ...] = Field(
        (), description="Hub topics only: the referrals that this hub may see, whole"
    )


class CaseOpened(CaseEvent):
    """A case was opened by its first referral."""

    TYPE = "uk.lightbulb.case.opened.v1"


class CaseJoined(CaseEvent):
    """A further referral joined the open case."""

    TYPE = "uk.lightbulb.case.joined.v1"
    joined: Reference | None = Field(None, description="The referral that joined; none to a hub that may not know it")


class CaseUpdated(CaseEvent):
    """A sender's update changed what a referral says."""

    TYPE = "uk.lightbulb.case.updated.v1"
    updated: Reference | None = Field(None, description="The referral; none to a hub that may not know it")


class CaseAssigned(CaseEvent):
    """Home hub, holder or pathway was decided, by the directory or by triage. On a hub topic: this is yours (or follows on)."""

    TYPE = "uk.lightbulb.case.assigned.v1"


class CaseAccepted(CaseEvent):
    """The hub took the case on."""

    TYPE = "uk.lightbulb.case.accepted.v1"


class CaseHeld(CaseEvent):
    """The case waits."""

    TYPE = "uk.lightbulb.case.held.v1"
    reason: HoldReason = Field(description="Why")
    until: date | None = Field(None, description="Until when, as far as is known")


class CaseBooked(CaseEvent):
    """A Housing MOT visit was booked."""

    TYPE = "uk.lightbulb.case.booked.v1"
    visit_at: AwareDatetime = Field(description="When the visit is")


class CaseStarted(CaseEvent):
    """Work began."""

    TYPE = "uk.lightbulb.case.started.v1"


class CaseAssessed(CaseEvent):
    """The Housing MOT was done."""

    TYPE = "uk.lightbulb.case.assessed.v1"
    findings: tuple[Finding, ...] = Field(description="What was found, need by need; a concern sees its own")
    scores: tuple[OutcomeScore, ...] = Field((), description="Outcome domains before the work")


class CaseRecorded(CaseEvent):
    """An intervention, a DFG stage or a failed contact was recorded."""

    TYPE = "uk.lightbulb.case.recorded.v1"
    interventions: tuple[Intervention, ...] = Field((), description="What was done")
    dfg: DfgStep | None = Field(None, description="A step of a disabled facilities grant")
    no_contact_on: date | None = Field(None, description="Nobody could be reached on that day")


class CaseCompleted(CaseEvent):
    """Referrals, or needs of them, were completed; the case too, where its status says so."""

    TYPE = "uk.lightbulb.case.completed.v1"
    ended: tuple[Ended, ...] = Field(description="What ended")
    scores: tuple[OutcomeScore, ...] = Field((), description="Outcome domains after the work")


class CaseRejected(CaseEvent):
    """Referrals, or needs of them, were returned to their referrers."""

    TYPE = "uk.lightbulb.case.rejected.v1"
    ended: tuple[Ended, ...] = Field(description="What ended")
    reason: EndReason = Field(description="Why")
    refer_to: HubId | None = Field(None, description="Where to go instead: a hub or an authority outside the county")


class CaseCancelled(CaseEvent):
    """Referrals, or needs of them, were cancelled."""

    TYPE = "uk.lightbulb.case.cancelled.v1"
    ended: tuple[Ended, ...] = Field(description="What ended")
    reason: EndReason = Field(description="Why")


class CaseTransferred(CaseEvent):
    """The case moved to another hub."""

    TYPE = "uk.lightbulb.case.transferred.v1"
    from_hub: HubId | None = Field(None, description="Who held it; none to a reader that need not know")
    to_hub: HubId = Field(description="Who holds it now")


class CancellationRefused(CaseEvent):
    """A sender's cancel came too late: the referral has ended already."""

    TYPE = "uk.lightbulb.case.cancellation-refused.v1"
    refused: Reference = Field(description="The referral")


class UpdateRefused(CaseEvent):
    """A sender's update came after the referral had ended: kept, nothing reopened; the referrer should refer anew."""

    TYPE = "uk.lightbulb.case.update-refused.v1"
    refused: Reference = Field(description="The referral")


class CommandRefused(EventData):
    """A command was impossible, stale, or not this hub's to give. To the commanding hub only."""

    TYPE = "uk.lightbulb.case.command-refused.v1"
    case_id: CaseId = Field(description="The case that the command named")
    person_key: PersonKey = Field(description="The person key that the command named")
    command_id: ShortText = Field(description="The command")
    command: ShortText = Field(description="Its type")
    reason: Literal[
        "unknown-case",
        "stale",
        "not-permitted",
        "impossible",
        "unknown-need",
        "unknown-hub",
        "unknown-field",
        "unknown-service",
    ] = Field(description="Why")
    explanation: ShortText = Field(description="What to do about it, in one sentence without personal data")
    hub_version: int | None = Field(None, description="Current version of (hub, case); none for an unknown case")


class FeedbackSent(EventData):
    """A feedback was accepted by its carrier."""

    TYPE = "uk.lightbulb.feedback.sent.v1"
    reference: Reference = Field(description="The referral")
    feedback_id: ShortText = Field(description="The feedback")
    recipient: ShortText = Field(description="Partner or organisation that it is for")
    channel: Literal["fhir", "mesh", "mailbox"] = Field(description="How")


class FeedbackFailed(EventData):
    """A feedback failed for good; a person must see to it."""

    TYPE = "uk.lightbulb.feedback.failed.v1"
    reference: Reference = Field(description="The referral")
    feedback_id: ShortText = Field(description="The feedback")
    recipient: ShortText = Field(description="Partner or organisation that it is for")
    channel: Literal["fhir", "mesh", "mailbox"] = Field(description="How")
    reason: ShortText = Field(description="Reason class, no personal data")


# ---- hub.<id>.command: what a hub asks for --------------------------------------------------------------------------


class Command(EventData):
    """What every command says. Who commands is the topic, never a field."""

    case_id: CaseId = Field(description="The case")
    person_key: PersonKey = Field(description="Whose case it is, as the event said")
    expected_version: Annotated[int, Field(ge=1)] = Field(
        description="The latest hub_version of the case that the hub had received"
    )
    by_role: ShortText | None = Field(
        None, description="Role of who decided, such as 'housing support coordinator'; not a name"
    )


class Assign(Command):
    """Triage or the hospital team says which hub it is for."""

    TYPE = "uk.lightbulb.case.assign.v1"
    to_hub: HubId = Field(description="The home hub, or an authority outside the county")


class Accept(Command):
    """The hub takes the case on."""

    TYPE = "uk.lightbulb.case.accept.v1"


class Reject(Command):
    """The hub returns the named referrals and needs to their referrers."""

    TYPE = "uk.lightbulb.case.reject.v1"
    ended: tuple[Ended, ...] = Field(min_length=1, description="What it returns")
    reason: EndReason = Field(description="Why: a code with reviewed words")
    refer_to: HubId | None = Field(None, description="Where to go instead")


class Hold(Command):
    """The case must wait."""

    TYPE = "uk.lightbulb.case.hold.v1"
    reason: HoldReason = Field(description="Why")
    until: date | None = Field(None, description="Until when, if known")


class Book(Command):
    """A Housing MOT visit is booked."""

    TYPE = "uk.lightbulb.case.book.v1"
    visit_at: AwareDatetime = Field(description="When")


class Start(Command):
    """Work begins."""

    TYPE = "uk.lightbulb.case.start.v1"


class Assess(Command):
    """The Housing MOT was done."""

    TYPE = "uk.lightbulb.case.assess.v1"
    findings: tuple[Finding, ...] = Field(min_length=1, description="What was found, need by need")
    scores: tuple[OutcomeScore, ...] = Field((), description="Outcome domains before the work")


class Record(Command):
    """Something was done, a DFG stage was reached, or nobody could be contacted."""

    TYPE = "uk.lightbulb.case.record.v1"
    interventions: tuple[Intervention, ...] = Field((), description="What was done")
    dfg: DfgStep | None = Field(None, description="A step of a disabled facilities grant")
    no_contact_on: date | None = Field(None, description="Nobody could be reached on that day")


class Complete(Command):
    """The named needs are met, or nothing more is to be done."""

    TYPE = "uk.lightbulb.case.complete.v1"
    ended: tuple[Ended, ...] = Field(min_length=1, description="What ends")
    interventions: tuple[Intervention, ...] = Field((), description="What was done and not recorded yet")
    scores: tuple[OutcomeScore, ...] = Field((), description="Outcome domains after the work")


class Cancel(Command):
    """The named needs need no more work, for the reason given."""

    TYPE = "uk.lightbulb.case.cancel.v1"
    ended: tuple[Ended, ...] = Field(min_length=1, description="What ends")
    reason: EndReason = Field(description="Why")


class Transfer(Command):
    """The case goes to another hub."""

    TYPE = "uk.lightbulb.case.transfer.v1"
    to_hub: HubId = Field(description="Which")


# ---- the envelope ---------------------------------------------------------------------------------------------------

ReferralEvent = ReferralReceived | ReferralUpdated | ReferralCancelled
HubCommand = Assign | Accept | Reject | Hold | Book | Start | Assess | Record | Complete | Cancel | Transfer
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
HUB_EVENTS: Mapping[str, type[EventData]] = MappingProxyType(_types(CaseEventData | CommandRefused))
COMMANDS: Mapping[str, type[EventData]] = MappingProxyType(_types(HubCommand))
ALL_TYPES: Mapping[str, type[EventData]] = MappingProxyType(
    {**REFERRAL_EVENTS, **CASE_EVENTS, **HUB_EVENTS, **FEEDBACK_EVENTS, **COMMANDS}
)


class Event(Immutable):
    """A CloudEvents 1.0 event: the attributes, and the data that they describe."""

    id: ShortText = Field(description="ce_id: unique with source; a repeat has the same id")
    source: ShortText = Field(description="ce_source: such as /lightbulb/intake or /lightbulb/hub/charnwood")
    time: AwareDatetime = Field(description="ce_time: when it happened (RFC 3339)")
    person_key: PersonKey = Field(description="ce_partitionkey and the record key")
    correlation_id: ShortText = Field(
        description="ce_correlationid: the same from the sender's request to the feedback"
    )
    causation_id: ShortText | None = Field(
        None, description="ce_causationid: id of the message or event that led to this one"
    )
    sequence: int | None = Field(None, description="ce_sequence: number among the events of its person key, from 1")
    district: OnsCode | None = Field(None, description="ce_district: district of residence, apart from the hub")
    data: EventData = Field(description="The data; its class says the type")

    @property
    def type(self) -> str:
        """CloudEvents type, such as uk.lightbulb.case.opened.v1."""
        return self.data.TYPE
