"""What the router remembers under one person key: persons, their cases, and the referrals of each. Plain facts, no behaviour."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from schemas.case import BusinessStatus, CaseStatus, Intervention, Pathway, RoutingReason
from schemas.model import CaseId, HubId, Immutable, OnsCode, PersonKey, Reference
from schemas.referral import Referral, ServiceCode
from services.router.decide.matching import Doubt

Role = Literal["holder", "follow-on", "former"]


class HubCursor(Immutable):
    """The last event of one case sent to one hub."""

    version: int
    min_expected_version: int
    """The version since which nothing joined or changed: a command that expects an older one is stale."""
    role: Role


class Responsibility(Immutable):
    """One hub's part of a case: the home hub's, or the hospital team's during a stay."""

    hub: HubId | None = None
    """None where no rule finds one: a stay at the restricted unit keeps even triage out."""
    status: CaseStatus = CaseStatus.REQUESTED
    business_status: BusinessStatus = BusinessStatus.AWAITING_HUB
    pathway: Pathway = Pathway.HOUSING_MOT
    reasons: tuple[RoutingReason, ...] = ()
    worklist: str | None = None
    accepted: bool = False
    assigned_by_person: bool = False
    """A person put it here: accepted, assigned or transferred. The rules move it no more."""


class CaseRecord(Immutable):
    """The service's work for a person. During a stay the hospital team holds it and the home hub follows on."""

    case_id: CaseId
    person_no: int
    home: Responsibility
    stay: Responsibility | None = None
    ended: CaseStatus | None = None
    district: OnsCode | None = None
    directory_version: str
    cursors: Mapping[str, HubCursor] = Field(default_factory=dict)

    @property
    def holding(self) -> Responsibility:
        """The part of whoever may move or end the case."""
        return self.stay or self.home

    @property
    def is_assigned_for_good(self) -> bool:
        """A home hub has the case for certain, and the referrers of the community know it."""
        return self.home.accepted or (self.home.assigned_by_person and self.stay is None)


class ReferralRecord(Immutable):
    """A referral, and what became of it."""

    reference: Reference
    version: int
    person_no: int
    case_id: CaseId
    correlation_id: str
    message_id: str
    referral: Referral
    status: CaseStatus = CaseStatus.REQUESTED
    open_needs: tuple[ServiceCode, ...]
    ended_needs: Mapping[ServiceCode, CaseStatus] = Field(default_factory=dict)
    interventions: tuple[Intervention, ...] = ()
    home_hub: HubId | None = None
    """What its referrer was told: by this referral alone, until a home hub has accepted."""
    reasons: tuple[RoutingReason, ...] = ()
    hospital_hub: HubId | None = None
    """The hospital team that its stay belongs to, also when that is over."""
    restricted: bool = False
    """It is or was a stay in a restricted unit: nobody outside learns of that, ever."""
    in_stay: bool = False
    transferred_before_discharge: bool = False
    """The hospital team gave it to the home hub before the discharge was told."""
    nhs_number_checked: bool = False
    """Triage looked at the number that failed its check."""

    @property
    def is_open(self) -> bool:
        return self.status.is_open


class PersonRecord(Immutable):
    """Whether a person is certain; `tracing_reasons`: why it must be traced."""

    person_no: int
    provisional: bool = False
    tracing_reasons: tuple[Doubt, ...] = ()


@dataclass(frozen=True, slots=True)
class PersonAggregate:
    """Everything under one person key: the aggregate that decisions are made on."""

    person_key: PersonKey
    persons: Mapping[int, PersonRecord]
    cases: Mapping[CaseId, CaseRecord]
    referrals: Mapping[Reference, ReferralRecord]

    @classmethod
    def empty(cls, person_key: PersonKey) -> "PersonAggregate":
        """A key that nothing is known of."""
        return cls(person_key, {}, {}, {})
