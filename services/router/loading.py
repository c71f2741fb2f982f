"""Load what the decisions of a batch read under their person keys, in a few statements, however much is stored there.

Loaded are the referrals, cases and persons that the inputs name; the persons whom a new referral may be about, and those to whom it adds
a doubt; their open cases; and of each open case the first referrals of each category. Each limit leaves room for what the inputs of a
batch may take away: a referral that they name.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text

from schemas.events import Command, ReferralReceived, ReferralUpdated
from schemas.model import CaseId, PersonKey, Reference
from services.router import stored_state
from services.router.decide import hub_events
from services.router.decide.aggregate import Loaded, PersonAggregate
from services.router.decide.matching import Description
from services.router.decide.model import (
    CaseRecord,
    CaseTally,
    Category,
    KeyTally,
    PersonRecord,
    PersonTally,
    ReferralRecord,
)
from services.router.store import Input, KeyRow
from services.runtime.database import Transaction

States = dict[PersonKey, PersonAggregate]


async def load(tx: Transaction, inputs: Sequence[Input], keys: Mapping[PersonKey, KeyRow]) -> States:
    """Return what decisions on these inputs read under those of `keys`, which are locked."""
    inputs = [one for one in inputs if one.person_key in keys]
    tallies = {one.person_key: KeyTally(*keys[one.person_key][1:3]) for one in inputs}
    states = {key: PersonAggregate(key, tally=tally) for key, tally in tallies.items()}
    if not inputs:
        return states
    rows = _Rows(numbers={(key, number) for key in _compared(inputs) for number in keys[key].undoubted})
    for row in await tx.execute(_FIND, _sought(inputs)):
        rows.add(row)
    for row in await tx.execute(_READ, rows.concerned(_cases(inputs))):
        rows.add_concerned(row)
    states = {key: state.with_loaded(rows.loaded(key)) for key, state in states.items()}
    return await _with_first_open(tx, states, _margin(inputs))


async def load_open(tx: Transaction, case_id: CaseId, key: PersonKey) -> Loaded:
    """Return every open referral of a case."""
    rows = await tx.execute(_OPEN, {"key": key, "case": case_id})
    return Loaded(referrals=[_referral(row) for row in rows])


_OPEN = text("""
    select category, state from router.referral
    where person_key = :key and case_id = :case and category is not null order by category, reference""")


# ---- what the inputs name -------------------------------------------------------------------------------------------


def _references(one: Input) -> list[Reference]:
    """Return the references that an input names."""
    data = one.event.data
    entries = (entry for name in ("findings", "interventions", "ended") for entry in getattr(data, name, ()))
    named = [entry.reference for entry in entries]
    return named if (reference := getattr(data, "reference", None)) is None else [*named, reference]


def _cases(inputs: Iterable[Input]) -> set[tuple[PersonKey, CaseId]]:
    return {(one.person_key, one.event.data.case_id) for one in inputs if isinstance(one.event.data, Command)}


def _margin(inputs: Iterable[Input]) -> Counter[PersonKey]:
    """Return how many referrals of each key the inputs may take away from where they are found."""
    margin: Counter[PersonKey] = Counter()
    for one in inputs:
        margin[one.person_key] += max(1, len(_references(one)))
    return margin


def _compared(inputs: Iterable[Input]) -> set[PersonKey]:
    """Return the keys of the inputs whose person is compared with the persons under the key."""
    return {one.person_key for one in inputs if isinstance(one.event.data, ReferralReceived | ReferralUpdated)}


def _sought(inputs: Sequence[Input]) -> dict[str, list[Any]]:
    named = sorted({(one.person_key, reference) for one in inputs for reference in _references(one)})
    margin = _margin(inputs)
    sought = {
        (one.person_key, one.event.data.reference, key)
        for one in inputs
        if isinstance(one.event.data, ReferralReceived | ReferralUpdated)
        for key in Description.of(one.event.data.referral.person).keys
    }
    return {
        "keys": [key for key, _ in named],
        "references": [reference for _, reference in named],
        "described_keys": [key for key, _, _ in sorted(sought)],
        "described_references": [reference for _, reference, _ in sorted(sought)],
        "descriptions": [description for _, _, description in sorted(sought)],
        "limits": [1 + margin[key] for key, _, _ in sorted(sought)],
    }


_FIND = text("""
    with sought as (
        select distinct given.key, given.description, given.most, coalesce(known.person_no, 0) as first_person
        from unnest(cast(:described_keys as text[]), cast(:described_references as text[]), cast(:descriptions as text[]),
                    cast(:limits as integer[])) as given (key, reference, description, most)
        left join router.referral as known on known.person_key = given.key and known.reference = given.reference
    )
    select referral.person_key, referral.person_no, referral.case_id, null as reference, null as description,
        referral.category, referral.state
    from unnest(cast(:keys as text[]), cast(:references as text[])) as given (key, reference)
    join router.referral as referral on referral.person_key = given.key and referral.reference = given.reference
    union all
    select sought.key, found.person_no, null, found.reference, sought.description, null, null
    from sought cross join lateral (
        select person_no, reference from router.referral
        where person_key = sought.key and by_name = sought.description and person_no >= sought.first_person
        order by person_no limit sought.most) as found
    union all
    select sought.key, found.person_no, null, found.reference, sought.description, null, null
    from sought cross join lateral (
        select person_no, reference from router.referral
        where person_key = sought.key and by_verification = sought.description and person_no >= sought.first_person
        order by person_no limit sought.most) as found""")


# ---- persons and cases ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Rows:
    """Rows that were read, by person key."""

    persons: dict[PersonKey, dict[int, tuple[PersonRecord, PersonTally]]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    cases: dict[PersonKey, dict[CaseId, tuple[CaseRecord, CaseTally]]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    referrals: dict[PersonKey, list[tuple[ReferralRecord, Category | None]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    described: dict[PersonKey, dict[str, set[tuple[int, Reference]]]] = field(default_factory=lambda: defaultdict(dict))
    numbers: set[tuple[PersonKey, int]] = field(default_factory=set)
    case_ids: set[tuple[PersonKey, CaseId]] = field(default_factory=set)

    def add(self, row: Any) -> None:
        """Add a row of _FIND."""
        self.numbers.add((row.person_key, row.person_no))
        if row.state is not None:
            self.referrals[row.person_key].append(_referral(row))
            self.case_ids.add((row.person_key, row.case_id))
        elif row.description is not None:
            self.described[row.person_key].setdefault(row.description, set()).add((row.person_no, row.reference))

    def concerned(self, cases: set[tuple[PersonKey, CaseId]]) -> dict[str, list[Any]]:
        """Return the parameters of _READ: persons and cases that were found, and `cases`."""
        numbers, case_ids = sorted(self.numbers), sorted(self.case_ids | cases)
        return {
            "keys": [key for key, _ in numbers],
            "numbers": [number for _, number in numbers],
            "case_keys": [key for key, _ in case_ids],
            "case_ids": [case_id for _, case_id in case_ids],
        }

    def add_concerned(self, row: Any) -> None:
        """Add a row of _READ."""
        if row.case_id is None:
            tally = PersonTally(row.referrals, row.verified)
            self.persons[row.person_key][row.person_no] = stored_state.decode(PersonRecord, row.state), tally
        else:
            case = stored_state.decode(CaseRecord, row.state), stored_state.decode(CaseTally, row.tally)
            self.cases[row.person_key][row.case_id] = case

    def loaded(self, key: PersonKey) -> Loaded:
        """Return what was read under a key."""
        described = {one: Counter(number for number, _ in persons) for one, persons in self.described[key].items()}
        return Loaded(self.persons[key], self.cases[key], self.referrals[key], described)


_READ = text("""
    with named as (
        select "case".* from unnest(cast(:case_keys as text[]), cast(:case_ids as text[])) as given (key, id)
        join router."case" as "case" on "case".person_key = given.key and "case".case_id = given.id
    ), concerned as (
        select key, number from unnest(cast(:keys as text[]), cast(:numbers as integer[])) as given (key, number)
        union
        select person_key, person_no from named
    )
    select person.person_key, person.person_no, null as case_id, person.referrals, person.verified, null as tally,
        person.state
    from concerned join router.person as person on person.person_key = concerned.key and person.person_no = concerned.number
    union all
    select open.person_key, open.person_no, open.case_id, null, null, open.tally, open.state
    from concerned cross join lateral (
        select * from router."case"
        where person_key = concerned.key and person_no = concerned.number and ended_at is null offset 0) as open
    union all
    select person_key, person_no, case_id, null, null, tally, state from named where ended_at is not null""")


def _referral(row: Any) -> tuple[ReferralRecord, Category | None]:
    category = stored_state.decode_category(row.category) if row.category else None
    return stored_state.decode(ReferralRecord, row.state), category


# ---- the first open referrals of each case --------------------------------------------------------------------------


async def _with_first_open(tx: Transaction, states: States, margin: Mapping[PersonKey, int]) -> States:
    wanted = [(key, *one) for key, state in states.items() for one in _lacking(state)]
    if not wanted:
        return states
    columns = {
        "keys": [key for key, _, _ in wanted],
        "cases": [case_id for _, case_id, _ in wanted],
        "categories": [stored_state.encode_category(category) for _, _, category in wanted],
        "margins": [margin[key] for key, _, _ in wanted],
        "others": hub_events.MAX_OTHERS,
    }
    records: dict[PersonKey, list[tuple[ReferralRecord, Category | None]]] = defaultdict(list)
    for row in await tx.execute(_FIRST_OPEN, columns):
        records[row.person_key].append(_referral(row))
    return states | {key: states[key].with_loaded(Loaded(referrals=of_key)) for key, of_key in records.items()}


def _lacking(state: PersonAggregate) -> Iterator[tuple[CaseId, Category]]:
    """Yield the categories of open cases of which not every referral is loaded."""
    for case_id, tally in state.case_tallies.items():
        for category, count in tally.open:
            ordered = state.index.ordered.get((case_id, category))
            if ordered is None or len(ordered.by_reference) < count:
                yield case_id, category


_FIRST_OPEN = text("""
    select given.key as person_key, referral.category, referral.state
    from unnest(cast(:keys as text[]), cast(:cases as text[]), cast(:categories as text[]), cast(:margins as integer[]))
        as given (key, "case", category, margin)
    cross join lateral (
        (select reference from router.referral
         where person_key = given.key and case_id = given."case" and category = given.category
         order by reference limit given.margin + cast(:others as integer))
        union
        (select reference from router.referral
         where person_key = given.key and case_id = given."case" and category = given.category
         order by referred_on, reference limit given.margin + 1)
        union
        (select reference from router.referral
         where person_key = given.key and case_id = given."case" and category = given.category and admitted_on is not null
         order by admitted_on desc, reference limit given.margin + 1)
    ) as first
    cross join lateral (
        select category, state from router.referral
        where person_key = given.key and reference = first.reference offset 0) as referral""")
