"""Case data: statuses, reasons, findings, interventions and the position of a case."""

from datetime import date
from enum import StrEnum
from operator import not_
from typing import Annotated, Literal

from pydantic import Field

from schemas.model import HubId, Immutable, OnsCode, Reference, ShortText
from schemas.referral import ServiceCode


class CaseStatus(StrEnum):
    """Closed-loop referral status (FHIR Task.status as SDOH Clinical Care uses it)."""

    REQUESTED = "requested"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    IN_PROGRESS = "in-progress"
    ON_HOLD = "on-hold"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"
    ENTERED_IN_ERROR = "entered-in-error"

    @property
    def is_open(self) -> bool:
        return self in (CaseStatus.REQUESTED, CaseStatus.ACCEPTED, CaseStatus.IN_PROGRESS, CaseStatus.ON_HOLD)


class BusinessStatus(StrEnum):
    """Progress of the housing work."""

    TRIAGE = "triage"
    AWAITING_HUB = "awaiting-hub"
    WAITING_LIST = "waiting-list"
    MOT_BOOKED = "housing-mot-booked"
    NO_CONTACT = "no-contact"
    ASSESSED = "assessed"
    INTERVENTION_ORDERED = "intervention-ordered"
    INTERVENTION_COMPLETED = "intervention-completed"
    DFG_OT_ASSESSMENT = "dfg-ot-assessment"
    DFG_SS127 = "dfg-ss127-recommendation"
    DFG_APPLICATION = "dfg-application"
    DFG_APPROVAL = "dfg-approval"
    DFG_WORKS = "dfg-works"
    DFG_COMPLETION = "dfg-completion"
    MOVED = "moved-to-another-hospital"


class Pathway(StrEnum):
    """What routing decided should happen first."""

    HOUSING_MOT = "housing-mot"
    TRIAGE = "triage"
    HOSPITAL = "hospital"
    WAITING_LIST = "waiting-list"
    OUTSIDE = "outside"


class RoutingReason(StrEnum):
    """Why the case is at this hub: a code for each routing rule, and for what people decided."""

    INPATIENT = "inpatient"
    HANDED_OVER = "handed-over-at-discharge"
    NAMED_AUTHORITY = "named-authority"
    COUNCIL_DISTRICT = "council-district"
    COMMUNITY_POSTCODE = "community-postcode"
    WARD_POSTCODE = "ward-postcode"
    OUTSIDE_COUNTY = "outside-county"
    ONWARD_ONLY = "onward-services-only"
    HUB_FULL_OVERFLOW = "hub-full-overflow"
    HUB_FULL_WAITING_LIST = "hub-full-waiting-list"
    NOT_DECIDABLE = "not-decidable"
    TRANSFERRED = "transferred"
    ALREADY_OPEN = "already-open"
    TO_BE_CHECKED = "to-be-checked"
    TO_BE_READ = "to-be-read"


class EndReason(StrEnum):
    """Why work ended or was returned: codes with reviewed texts for the referrer, never free text."""

    OUTSIDE_COUNTY = "outside-county"
    NO_CAPACITY = "no-capacity"
    NOT_ELIGIBLE = "not-eligible"
    COULD_NOT_CONTACT = "could-not-contact"
    PERSON_DECLINED = "person-declined"
    CONSENT_WITHDRAWN = "consent-withdrawn"
    SERVED_ELSEWHERE = "served-elsewhere"
    REFERRED_IN_ERROR = "referred-in-error"
    CANCELLED_BY_REFERRER = "cancelled-by-referrer"
    DUPLICATE = "duplicate"
    DIED = "died"
    OTHER = "other"


class HoldReason(StrEnum):
    """Why a case waits."""

    WAITING_LIST = "waiting-list"
    AWAITING_WORKS = "awaiting-works"
    AWAITING_GRANT = "awaiting-grant"
    PERSON_UNAVAILABLE = "person-unavailable"
    IN_HOSPITAL = "in-hospital"
    OTHER = "other"


class TaskKind(StrEnum):
    """What a person at the hub has to decide."""

    CHECK_CANCELLATION = "check-cancellation"
    CHECK_BEFORE_CONTACT = "check-before-contact"
    CHECK_PERSON = "check-person"
    READ_MESSAGE = "read-message"
    DISCHARGE_OVERDUE = "discharge-overdue"


class OutcomeDomain(StrEnum):
    """The six domains that are scored before and after."""

    HEALTH = "physical-and-mental-health"
    HOME_ENVIRONMENT = "home-environment"
    HOME_SECURITY = "home-security"
    PERSONAL_SAFETY = "personal-safety-at-home"
    GETTING_AROUND = "getting-around-home-and-garden"
    MANAGING = "managing-in-the-home"


class OutcomeScore(Immutable):
    """Score of one domain, 1 (worst) to 5."""

    domain: OutcomeDomain = Field(description="Outcome domain")
    score: Annotated[int, Field(ge=1, le=5)] = Field(description="Score from 1 (worst) to 5")


class Finding(Immutable):
    """What the assessment found on one need."""

    reference: Reference = Field(description="Referral that the finding is about")
    service: ServiceCode = Field(description="Service concerned: a code of the Lightbulb service catalogue")
    finding: Literal[
        "need-confirmed", "no-need-found", "further-assessment", "declined-by-person", "referred-onward"
    ] = Field(description="What was found")


class Intervention(Immutable):
    """Something that was done for the person."""

    reference: Reference = Field(
        description="Referral that led to it; only the referrer of that referral receives feedback about it"
    )
    service: ServiceCode = Field(description="Service: a code of the Lightbulb service catalogue")
    action: ShortText = Field(description="What was done, in the hub's reviewed texts, such as 'grab rails fitted'")
    provider: ShortText = Field(description="Who did it")
    on: date = Field(description="Date when it was done; not after today in England")
    category: Literal["A", "B", "C"] | None = Field(None, description="DFG category, for a disabled facilities grant")


DfgStage = Literal["ot-assessment", "ss127-recommendation", "application", "approval", "works", "completion"]


class DfgStep(Immutable):
    """One stage of a disabled facilities grant, reached on a day."""

    stage: DfgStage = Field(description="Stage of the grant")
    on: date = Field(description="Date when it was reached; not after today in England")
    category: Literal["A", "B", "C"] | None = Field(None, description="DFG category, if decided")


class Ended(Immutable):
    """Needs of one referral that a command ends; needs that are not named stay open."""

    reference: Reference = Field(description="Referral")
    needs: tuple[ServiceCode, ...] = Field(min_length=1, description="Needs that end")


class EndedNeed(Immutable):
    """A need that has ended, and how."""

    service: ServiceCode = Field(description="Need")
    status: CaseStatus = Field(description="How it ended: completed, rejected or cancelled")


class CasePosition(Immutable):
    """Position of a case after an event, limited to what the reader may see."""

    status: CaseStatus = Field(description="Status of the case")
    business_status: BusinessStatus = Field(description="Progress of the housing work")
    home_hub: HubId | None = Field(
        None,
        description="Hub, or authority outside the county, that the case belongs to; none until triage decides",
    )
    holder: HubId | Literal["elsewhere"] | None = Field(
        None,
        description="Hub that may move or end the case now; 'elsewhere' if the reader may not see which; none once rejected as outside",
    )
    pathway: Pathway = Field(description="What routing decided should happen first")
    district: OnsCode | None = Field(None, description="District of residence; reports count by it, not by hub")
    reasons: tuple[RoutingReason, ...] = Field((), description="Why the case is at this hub")
    worklist: ShortText | None = Field(
        None,
        description="Worklist of the holder: the hospital site of a stay, or the triage desk; sent to the holder only",
    )
    directory_version: ShortText = Field(description="Version of the directory that the decision used")
    check_before_contact: bool = Field(
        False,
        exclude_if=not_,
        description="True while a reported death is not withdrawn: no visit, no letter to the person, and no clock runs",
    )
    provisional: bool = Field(
        False, exclude_if=not_, description="True if the person is not certain: verify the identity first"
    )
    restricted_access: bool = Field(
        False,
        exclude_if=not_,
        description="True if only the holder may know where the person lives and how to reach the person",
    )
