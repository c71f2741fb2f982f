"""The life of a case: its status, what is found, what is done, and why it ends."""

from datetime import date
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from schemas.model import HubId, Immutable, OnsCode, Reference, ShortText
from schemas.referral import ServiceCode


class CaseStatus(StrEnum):
    """Closed-loop referral states (FHIR Task.status as SDOH Clinical Care uses it)."""

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
    """Where the housing work stands."""

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


class EndReason(StrEnum):
    """Why work ended, was returned or waits: the reviewed codes whose words a referrer reads (never free text)."""

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


class OutcomeDomain(StrEnum):
    """The six domains that are scored before and after."""

    HEALTH = "physical-and-mental-health"
    HOME_ENVIRONMENT = "home-environment"
    HOME_SECURITY = "home-security"
    PERSONAL_SAFETY = "personal-safety-at-home"
    GETTING_AROUND = "getting-around-home-and-garden"
    MANAGING = "managing-in-the-home"


class OutcomeScore(Immutable):
    """How one domain was scored, 1 (worst) to 5."""

    domain: OutcomeDomain = Field(description="Which domain")
    score: Annotated[int, Field(ge=1, le=5)] = Field(description="1 to 5")


class Finding(Immutable):
    """What the assessment found on one need."""

    reference: Reference = Field(description="The referral that it answers")
    service: ServiceCode = Field(description="The service concerned: a code of the Lightbulb service catalogue")
    finding: Literal[
        "need-confirmed", "no-need-found", "further-assessment", "declined-by-person", "referred-onward"
    ] = Field(description="What was found")


class Intervention(Immutable):
    """Something that was done for the person."""

    reference: Reference = Field(description="The referral that led to it: only its referrer hears of it")
    service: ServiceCode = Field(description="Which service: a code of the Lightbulb service catalogue")
    action: ShortText = Field(description="What was done, in the hub's reviewed words, such as 'grab rails fitted'")
    provider: ShortText = Field(description="By whom")
    on: date = Field(description="When")
    category: Literal["A", "B", "C"] | None = Field(None, description="DFG category, where it is one")


DfgStage = Literal["ot-assessment", "ss127-recommendation", "application", "approval", "works", "completion"]


class DfgStep(Immutable):
    """One step on the clock of a disabled facilities grant."""

    stage: DfgStage = Field(description="Which step")
    on: date = Field(description="When it was reached")
    category: Literal["A", "B", "C"] | None = Field(None, description="Category, once known")


class Ended(Immutable):
    """Which needs of which referral a command ends; a need that is not named stays open."""

    reference: Reference = Field(description="The referral")
    needs: tuple[ServiceCode, ...] = Field(min_length=1, description="The needs that end")


class CasePosition(Immutable):
    """Where a case stands after an event, as its reader may know it."""

    status: CaseStatus = Field(description="Status of the case")
    business_status: BusinessStatus = Field(description="Where the housing work stands")
    home_hub: HubId | None = Field(
        None,
        description="The hub, or authority outside the county, that the person belongs to; none until triage decides",
    )
    holder: HubId | Literal["elsewhere"] | None = Field(
        None,
        description="Who may move or end the case now; 'elsewhere' to a hub that need not know; none once rejected as outside",
    )
    pathway: Pathway = Field(description="What routing decided should happen first")
    district: OnsCode | None = Field(None, description="District of residence: what reports count by; not the hub")
    reasons: tuple[RoutingReason, ...] = Field((), description="Why this hub")
    worklist: ShortText | None = Field(
        None, description="Worklist of the holder: the hospital site of a stay, or the triage desk; to the holder only"
    )
    directory_version: ShortText = Field(description="Version of the directory that decided it")
