"""State under one person key, as far as it is loaded, and the indexes by which a decision finds what it reads.

An aggregate may lack persons, cases and referrals that are stored. Tallies count all of them. Of a case at least the first referrals of
each category are loaded, by each order that a rule reads (`OrderedReferrals`): a decision on a part gives what one on the whole would give.
"""

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from schemas.model import CaseId, PersonKey, Reference
from services.router.decide.assignment import admitted_on, referred_on
from services.router.decide.matching import Candidates, Description
from services.router.decide.model import (
    CaseRecord,
    CaseTally,
    Category,
    KeyTally,
    PersonRecord,
    PersonTally,
    ReferralRecord,
)

FIRST = 10
"""Number of open referrals of each category that the rules read, by reference: all of them in a case of ordinary size.

A category is as of the referral's last change; the rules read these referrals with the directory of today.
"""


@dataclass(slots=True)
class OrderedReferrals:
    """Open referrals of one case and category that are loaded, in each order that a rule reads."""

    by_reference: list[Reference] = field(default_factory=list)
    by_referral: list[tuple[date, Reference]] = field(default_factory=list)
    """By `referred_on`."""
    by_admission: list[tuple[int, Reference]] = field(default_factory=list)
    """Stays only: the latest admission first."""

    def copy(self) -> "OrderedReferrals":
        return OrderedReferrals(self.by_reference[:], self.by_referral[:], self.by_admission[:])

    def add(self, record: ReferralRecord) -> None:
        for order, place in self._places(record):
            insort(order, place)

    def remove(self, record: ReferralRecord) -> None:
        for order, place in self._places(record):
            del order[bisect_left(order, place)]

    def _places(self, record: ReferralRecord) -> list[tuple[list[Any], Any]]:
        reference = record.reference
        places: list[tuple[list[Any], Any]] = [
            (self.by_reference, reference),
            (self.by_referral, (referred_on(record.referral), reference)),
        ]
        if record.in_stay:
            places.append((self.by_admission, (-admitted_on(record.referral).toordinal(), reference)))
        return places

    @property
    def first(self) -> set[Reference]:
        """The first referrals by each order; by reference, FIRST of them."""
        first_by_order = [order[0][-1] for order in (self.by_referral, self.by_admission) if order]
        return {*self.by_reference[:FIRST], *first_by_order}


@dataclass(slots=True)
class Index:
    """What is found without a search under a key: of the records that are loaded, and for the descriptions that were looked up."""

    undoubted: frozenset[int] = frozenset()
    """Persons who do not differ from another."""
    described: dict[str, Mapping[int, int]] = field(default_factory=dict)
    """Number of referrals of each person by a key of `Description`."""
    open_cases: dict[int, tuple[CaseId, ...]] = field(default_factory=dict)
    """Open cases by person."""
    categories: dict[Reference, Category] = field(default_factory=dict)
    """Category of each open referral."""
    ordered: dict[tuple[CaseId, Category], OrderedReferrals] = field(default_factory=dict)

    def copy(self) -> "Index":
        """Return a copy that can be changed: values are replaced, never changed in place."""
        return Index(
            self.undoubted,
            self.described.copy(),
            self.open_cases.copy(),
            self.categories.copy(),
            self.ordered.copy(),
        )

    def put_person(self, person: PersonRecord) -> None:
        """Store whether a person differs from another under the key."""
        doubted = "does-not-match" in person.tracing_reasons
        self.undoubted = self.undoubted - {person.person_no} if doubted else self.undoubted | {person.person_no}

    def put_case(self, case: CaseRecord) -> None:
        """Store whether a case is open."""
        known = self.open_cases.get(case.person_no, ())
        if case.ended is None:
            self.open_cases[case.person_no] = known if case.case_id in known else (*known, case.case_id)
        elif known:
            self.open_cases[case.person_no] = tuple(each for each in known if each != case.case_id)

    def put_referral(self, before: ReferralRecord | None, after: ReferralRecord, category: Category | None) -> None:
        """Store the place of a referral among those of its case; `category`: None if it has ended."""
        earlier = self.categories.pop(after.reference, None)
        if before is not None and earlier is not None:
            self._ordered(before.case_id, earlier).remove(before)
        if category is not None:
            self.categories[after.reference] = category
            self._ordered(after.case_id, category).add(after)

    def _ordered(self, case_id: CaseId, category: Category) -> OrderedReferrals:
        ordered = self.ordered.get((case_id, category), OrderedReferrals()).copy()
        self.ordered[case_id, category] = ordered
        return ordered

    def count_description(self, description: Description, person_no: int, added: int) -> None:
        """Add to the number of referrals that describe a person so."""
        for key in description.keys:
            counts = {**self.described.get(key, {})}
            counts[person_no] = counts.get(person_no, 0) + added
            self.described[key] = {person: count for person, count in counts.items() if count > 0}


@dataclass(frozen=True, slots=True)
class Loaded:
    """Stored records under one person key, each with its tally or its category."""

    persons: Mapping[int, tuple[PersonRecord, PersonTally]] = field(default_factory=dict)
    cases: Mapping[CaseId, tuple[CaseRecord, CaseTally]] = field(default_factory=dict)
    referrals: Sequence[tuple[ReferralRecord, Category | None]] = ()
    described: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    """Number of referrals of each person by a key of `Description`."""


@dataclass(frozen=True, slots=True)
class PersonAggregate:
    """What is loaded under one person key: the aggregate that a decision reads and replaces."""

    person_key: PersonKey
    persons: Mapping[int, PersonRecord] = field(default_factory=dict)
    cases: Mapping[CaseId, CaseRecord] = field(default_factory=dict)
    referrals: Mapping[Reference, ReferralRecord] = field(default_factory=dict)
    case_tallies: Mapping[CaseId, CaseTally] = field(default_factory=dict)
    person_tallies: Mapping[int, PersonTally] = field(default_factory=dict)
    tally: KeyTally = field(default_factory=KeyTally)
    index: Index = field(default_factory=Index)

    @classmethod
    def empty(cls, person_key: PersonKey) -> "PersonAggregate":
        """Return the state of a new person key."""
        return cls(person_key)

    def with_loaded(self, loaded: "Loaded") -> "PersonAggregate":
        """Return the state with stored records added; those that are there stay, because a decision may have replaced them."""
        index = self.index.copy()
        persons = {number: one for number, one in loaded.persons.items() if number not in self.persons}
        cases = {case_id: one for case_id, one in loaded.cases.items() if case_id not in self.cases}
        referrals = {one.reference: one for one, _ in loaded.referrals if one.reference not in self.referrals}
        for person, _ in persons.values():
            index.put_person(person)
        for case, _ in cases.values():
            index.put_case(case)
        for record, category in loaded.referrals:
            if record.reference in referrals:
                index.put_referral(None, record, category)
        index.described = {**loaded.described, **index.described}
        return replace(
            self,
            persons={**self.persons, **{number: person for number, (person, _) in persons.items()}},
            cases={**self.cases, **{case_id: case for case_id, (case, _) in cases.items()}},
            referrals={**self.referrals, **referrals},
            person_tallies={**self.person_tallies, **{number: tally for number, (_, tally) in persons.items()}},
            case_tallies={**self.case_tallies, **{case_id: tally for case_id, (_, tally) in cases.items()}},
            index=index,
        )

    def first_of(self, case_id: CaseId) -> ReferralRecord | None:
        """Return the first open referral of a case by reference, or None."""
        tally = self.case_tallies.get(case_id, CaseTally())
        first = (self.index.ordered[case_id, category].by_reference[0] for category in tally.categories)
        return self.referrals.get(min(first, default=Reference("")))

    def candidates(self, description: Description) -> Candidates:
        """Return the persons under the key, as a referral with this description is compared with them.

        A person whose verified number agrees comes before one whose name does; of several, the first.
        """
        found = (self.index.described.get(key) for key in description.keys)
        return Candidates(
            matching=next((min(persons) for persons in found if persons), None),
            exist=self.tally.persons > 0,
            verified=self.tally.verified > 0,
            undoubted={
                number: self.person_tallies.get(number, PersonTally()).verified > 0
                for number in sorted(self.index.undoubted)
            },
        )
