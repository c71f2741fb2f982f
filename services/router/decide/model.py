"""Records under one person key: persons, their cases, and the referrals of each case; and what is counted of them."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from operator import not_
from typing import Literal, NamedTuple, Protocol

from pydantic import Field

from schemas.case import BusinessStatus, CaseStatus, Intervention, Pathway, RoutingReason
from schemas.model import CaseId, HubId, Immutable, OnsCode, Reference
from schemas.referral import Identifier, Referral, ServiceCode, UnreadPart
from services.router.decide.matching import Doubt

Role = Literal["holder", "follow-on", "former"]


class HubCursor(Immutable):
    """The last event of one case sent to one hub."""

    version: int
    min_expected_version: int
    """Version of its last event other than a snapshot: a command that decides on the case as a whole is stale if it names an older one."""
    role: Role
    restricted: bool = Field(False, exclude_if=not_)
    """The person's data were restricted at that event."""


class Responsibility(Immutable):
    """One hub's part of a case: the home hub's, or the hospital team's during a stay."""

    hub: HubId | None = None
    """None if no rule finds one, as in a stay without a usable address, or if consent was refused."""
    status: CaseStatus = CaseStatus.REQUESTED
    business_status: BusinessStatus = BusinessStatus.AWAITING_HUB
    pathway: Pathway = Pathway.HOUSING_MOT
    reasons: tuple[RoutingReason, ...] = ()
    worklist: str | None = None
    accepted: bool = False
    moved: bool = Field(False, exclude_if=not_)
    """Hospital team only: the person was discharged to a hospital of another organisation, which did not refer the person yet."""
    assigned_by_person: bool = False
    """A person placed it here (accepted, assigned or transferred): the rules no longer move it."""

    @property
    def progress(self) -> BusinessStatus:
        """Progress of the work, as its readers receive it."""
        return BusinessStatus.MOVED if self.moved else self.business_status


class Placed(Protocol):
    """What decides who works on a referral and who may see it: of a record, or of a category of open referrals."""

    @property
    def hospital_hub(self) -> HubId | None: ...
    @property
    def restricted(self) -> bool: ...
    @property
    def in_stay(self) -> bool: ...
    @property
    def unread(self) -> object: ...


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
        """The holder's part: the hospital team's during a stay, otherwise the home hub's."""
        return self.stay or self.home

    def part_of(self, record: Placed) -> Responsibility:
        """Return the part that works on a referral: the hospital team's on one of the stay, the home hub's on the others."""
        return self.stay if self.stay and record.in_stay else self.home

    @property
    def has_confirmed_home(self) -> bool:
        """True if a home hub has accepted the case, or a person placed it there outside a stay: feedback names that hub."""
        return self.home.accepted or (self.home.assigned_by_person and self.stay is None)


class NeedsCorrection(Immutable):
    """What a person made of the needs of a referral: those that the sender stated, and those that it has."""

    stated: tuple[ServiceCode, ...]
    needs: tuple[ServiceCode, ...]


class ReferralRecord(Immutable):
    """A referral, and its status, open needs and place."""

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
    """Home hub that feedback names: by this referral alone, until a home hub has accepted the case."""
    reasons: tuple[RoutingReason, ...] = ()
    hospital_hub: HubId | None = None
    """Hospital team of its stay; kept after the stay is over."""
    restricted: bool = False
    """It is or was a stay in a restricted unit: no reader outside that unit may ever learn of it."""
    in_stay: bool = False
    transferred_before_discharge: bool = False
    """The hospital team transferred it to the home hub before a discharge date arrived."""
    asked_about: date | None = None
    """Expected date of discharge about which the hospital team was asked, because it had passed."""
    asked_about_visit: Identifier | None = None
    """Visit about whose end the hospital team was asked, because the person is in hospital for another one."""
    nhs_number_checked: bool = False
    """Triage has checked an NHS number that failed its check digit."""
    parts_read: tuple[UnreadPart, ...] = Field((), exclude_if=not_)
    """Parts of `to_be_read` that a person has read, as `parts_of` names them."""
    correction: NeedsCorrection | None = None
    """How that person corrected the needs."""

    @property
    def is_open(self) -> bool:
        return self.status.is_open

    @property
    def unread(self) -> tuple[UnreadPart, ...]:
        """Parts that no person has read yet."""
        return parts_without(parts_of(self.referral), self.parts_read)


def parts_of(referral: Referral) -> tuple[UnreadPart, ...]:
    """Return the parts to be read, each with the name of its field alone: an update may send it in another repetition or segment."""
    parts = referral.to_be_read
    return tuple(part.model_copy(update={"place": _OCCURRENCE.sub("", part.place)}) for part in parts)


def parts_without(parts: Sequence[UnreadPart], others: Sequence[UnreadPart]) -> tuple[UnreadPart, ...]:
    """Return the parts without `others`; each of those removes one: a part without text may come twice."""
    left = Counter(others)
    kept = []
    for part in parts:
        left[part] -= 1
        if left[part] < 0:
            kept.append(part)
    return tuple(kept)


_OCCURRENCE = re.compile(r"\[\d+\]|\(\d+\)")


class PersonRecord(Immutable):
    """Whether a person is certain, and has restricted data or a reported death."""

    person_no: int
    provisional: bool = False
    tracing_reasons: tuple[Doubt, ...] = ()
    """Why the person must be traced."""
    restricted_by: tuple[Reference, ...] = Field((), exclude_if=not_)
    """Referrals that restricted the person's data. Only an update of the same referral lifts it, also after its end."""
    death_reported_by: tuple[str, ...] = Field((), exclude_if=not_)
    """Referrals and hubs that reported a death; empty after a withdrawal."""
    death_confirmed: bool = Field(False, exclude_if=not_)

    @property
    def restricted_access(self) -> bool:
        """True if only the holder may read where the person lives and how to reach the person."""
        return bool(self.restricted_by)

    @property
    def check_before_contact(self) -> bool:
        """True if a death was reported or confirmed, and the report was not withdrawn."""
        return bool(self.death_reported_by) or self.death_confirmed

    @property
    def death_is_unconfirmed(self) -> bool:
        """True while a reported death is neither confirmed nor withdrawn: nothing is handed over after a stay."""
        return bool(self.death_reported_by) and not self.death_confirmed


class NotLoaded(Exception):
    """A decision needs every open referral of a case, and some are not loaded."""

    def __init__(self, case_id: CaseId) -> None:
        super().__init__(case_id)
        self.case_id = case_id


class Category(NamedTuple):
    """What rules and disclosure read of an open referral, except its place in an order and its content.

    Within one category the first referral by an order decides. What the directory and the postcodes give is as of the referral's last
    change.
    """

    hospital_hub: HubId | None
    restricted: bool
    in_stay: bool
    unread: bool
    moved: bool
    """In a stay: the person was discharged to a hospital of another organisation."""
    needs_tracing: bool
    at_restricted_unit: bool
    """In a stay: its site or its trust is one of a restricted unit."""
    only_restricted_team: bool
    """In a stay: only a restricted team may read it."""
    onward_only: bool
    """All its needs are services that are referred onward."""
    districts: str
    """Sources that give the district of a housing authority, by number in the rules; with `h` if a hub or an authority serves it."""


class CaseTally(Immutable):
    """What is counted of the referrals of a case, so that no decision has to read all of them."""

    open: tuple[tuple[Category, int], ...] = ()
    """Number of open referrals of each category."""
    end_statuses: tuple[CaseStatus, ...] = ()
    """End statuses of ended referrals, each once."""
    restricted_hubs: tuple[HubId | None, ...] = ()
    """Hospital teams of ended referrals of restricted stays, each once."""
    first_ended: tuple[Reference, str] | None = None
    """The first ended referral by reference, with its correlation id."""

    @property
    def open_count(self) -> int:
        """Number of open referrals."""
        return sum(count for _, count in self.open)

    @property
    def categories(self) -> tuple[Category, ...]:
        """Categories of open referrals."""
        return tuple(category for category, _ in self.open)

    def with_open(self, category: Category, added: int) -> "CaseTally":
        """Return the tally with this number of open referrals of a category more."""
        counts = dict(self.open)
        counts[category] = counts.get(category, 0) + added
        kept = [(each, count) for each, count in counts.items() if count]
        return self.model_copy(update={"open": tuple(sorted(kept, key=str))})

    def with_ended(self, record: ReferralRecord) -> "CaseTally":
        """Return the tally with an ended referral, which may be counted already."""
        first = (record.reference, record.correlation_id)
        hubs = (record.hospital_hub,) if record.restricted else ()
        update = {
            "end_statuses": tuple(sorted({*self.end_statuses, record.status})),
            "restricted_hubs": tuple(sorted({*self.restricted_hubs, *hubs}, key=str)),
            "first_ended": min(self.first_ended or first, first),
        }
        return self.model_copy(update=update)


class PersonTally(NamedTuple):
    """Number of referrals of a person, and of those whose sender verified the NHS number."""

    referrals: int = 0
    verified: int = 0


class KeyTally(NamedTuple):
    """Number of persons under a key, who are numbered from 1, and of those with a verified NHS number."""

    persons: int = 0
    verified: int = 0
