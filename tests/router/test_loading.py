"""A decision on the part of a person key that is loaded gives what one on everything under the key gives, and reads as little."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.database import roles
from schemas.case import EndReason, Finding
from schemas.events import (
    Accept,
    Assess,
    Assign,
    Cancel,
    Complete,
    Event,
    Hold,
    MarkRead,
    Reject,
    ReportDeath,
    Start,
    Transfer,
    WithdrawDeathReport,
)
from schemas.model import Immutable, PersonKey, Reference
from schemas.nhs_number import VerificationStatus
from schemas.referral import HospitalStay, Referral
from schemas.topics import CASE_EVENT, REFERRAL_EVENT, hub_case, hub_command
from services.messaging.cloudevents import KafkaRecord, value_of
from services.router import consumer
from services.router.decide import aggregate, hub_events, lifecycle
from services.router.decide.aggregate import PersonAggregate
from services.router.decide.lifecycle import DecisionContext, EmittedEvent
from services.router.decide.model import CaseRecord, CaseTally, PersonRecord, ReferralRecord
from services.router.stored_state import decode, decode_category, encode
from services.runtime.database import Transaction
from tests.builders.events import NOW, a_record, an_event, broken, cancelled, in_record, received, updated
from tests.builders.reference_data import AT_BLABY, AT_CHARNWOOD, CHARNWOOD, DIRECTORY, IN_THE_CITY, POSTCODES
from tests.builders.referrals import (
    FORM,
    GP,
    PART,
    WARD,
    a_bradgate_referral,
    a_form,
    a_person,
    a_referral,
    a_ward_referral,
    an_address,
    keys,
)
from tests.router.stored import apply, rows, sent

STORIES, STEPS = 20, 45
COMMANDS = (
    Accept,
    Accept,
    Start,
    Hold,
    Assign,
    Transfer,
    Cancel,
    Complete,
    Reject,
    Assess,
    MarkRead,
    ReportDeath,
    WithdrawDeathReport,
)
STAYS = (
    HospitalStay(site="LRI", ward="Ward 23", admitted_on=date(2026, 11, 2)),
    HospitalStay(site="Glenfield", admitted_on=date(2026, 11, 5)),
    HospitalStay(site="Glenfield"),
    HospitalStay(site="LRI", admitted_on=date(2026, 11, 3), moved_to="another hospital"),
)


@dataclass
class Played:
    """Records under one key, and what decisions on everything under the key make of them."""

    state: PersonAggregate
    random: random.Random
    wards: float
    """Share of referrals that a ward sends."""
    records: list[KafkaRecord] = field(default_factory=list)
    sent: list[tuple[str, bytes]] = field(default_factory=list)

    def play(self) -> None:
        known = list(self.state.referrals)
        match self.random.choices(["new", "update", "cancel", "command"], [60, 17, 11, 12])[0] if known else "new":
            case "new":
                self.send(received(Reference(f"LB-{self.random.randrange(10**6):06}"), self._referral()))
            case "update":
                one = self.state.referrals[self.random.choice(known)]
                self.send(updated(one.reference, self._referral(), version=one.version + 1))
            case "cancel":
                one = self.state.referrals[self.random.choice(known)]
                self.send(cancelled(one.reference, version=one.version + 1))
            case _:
                self._command()

    def _referral(self) -> Referral:
        pick = self.random.choice
        verified = pick([VerificationStatus.VERIFIED, VerificationStatus.VERIFIED, VerificationStatus.NOT_TRACED])
        given: dict[str, Any] = {
            "person": a_person(
                family_name=pick(["Vickers"] * 9 + ["Carter"]),
                birth_date=date(1946, 3, pick([4] * 14 + [5])),
                nhs_number_status=verified,
                address=an_address(pick([AT_BLABY, AT_BLABY, AT_CHARNWOOD, AT_CHARNWOOD, IN_THE_CITY, None])),
            ),
            "referred_on": pick([None, date(2026, 11, 1), date(2026, 11, 2), date(2026, 11, 3)]),
            "named_authority": pick([None] * 12 + [CHARNWOOD]),
            "to_be_read": pick([()] * 9 + [(PART,)]),
        }
        needs = self.random.sample(["minor-adaptations", "blue-badge", "homelessness"], pick([1, 1, 2]))
        if self.random.random() < self.wards:
            stay = pick(STAYS)
            discharged = date(2026, 11, 20) if stay.moved_to or self.random.random() < 0.1 else None
            return a_ward_referral(*needs, **given, hospital=stay, discharged_on=discharged)
        return (
            pick([a_referral, a_referral, a_form])(*needs, **given)
            if self.random.random() < 0.95
            else a_bradgate_referral()
        )

    def send(self, data: Any) -> None:
        one = an_event(data, key=self.state.person_key)
        self._take(lifecycle.apply(self.state, data, one.correlation_id, self._context), one, REFERRAL_EVENT)

    def _command(self) -> None:
        case = self.random.choice(list(self.state.cases.values()))
        if not case.cursors:
            return
        hub, kind = self.random.choice(list(case.cursors)), self.random.choice(COMMANDS)
        given = {
            "case_id": case.case_id,
            "person_key": self.state.person_key,
            "expected_version": case.cursors[hub].version,
        }
        data = kind(**given, **self._details(kind, case))
        one = an_event(data, key=self.state.person_key)
        self._take(lifecycle.decide(self.state, data, hub, one.id, self._context), one, hub_command(hub))

    def _details(self, kind: Any, case: CaseRecord) -> dict[str, Any]:
        records = [one for one in self.state.referrals.values() if one.case_id == case.case_id]
        one = self.random.choice([each for each in records if each.is_open] or records)
        ended = ({"reference": one.reference, "needs": one.open_needs or ("blue-badge",)},)
        details: dict[Any, dict[str, Any]] = {
            Hold: {"reason": "other"},
            Assign: {"to_hub": self.random.choice(["blaby", "melton", "hospital-housing"])},
            Transfer: {"to_hub": self.random.choice(["blaby", "melton"])},
            Complete: {"ended": ended},
            Cancel: {"ended": ended, "reason": EndReason.OTHER},
            Reject: {"ended": ended, "reason": EndReason.OTHER},
            Assess: {"findings": (Finding(reference=one.reference, service="blue-badge", finding="need-confirmed"),)},
            MarkRead: {"reference": one.reference},
        }
        return details.get(kind, {})

    @property
    def _context(self) -> DecisionContext:
        return DecisionContext(DIRECTORY, POSTCODES, NOW.date())

    def _take(self, decision: lifecycle.CaseDecision, taken: Event, topic: str) -> None:
        self.state = decision.state
        self.records.append(in_record(taken, topic))
        for one in decision.emitted:
            if isinstance(one, EmittedEvent):
                sent = [(CASE_EVENT, one.data), *((hub_case(hub), data) for hub, data in one.hubs)]
            else:
                sent = [(hub_case(one.hub), one.data)]
            self.sent += [(target, value_of(an_event(data))) for target, data in sent]


@pytest.fixture
def only_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load and read one referral where it would be ten or fifty, so that a case is large with two."""
    monkeypatch.setattr(aggregate, "FIRST", 1)
    monkeypatch.setattr(hub_events, "MAX_OTHERS", 1)


@pytest.mark.slow
@pytest.mark.usefixtures("only_the_first")
async def test_decisions_on_a_part_are_those_on_everything(engine: AsyncEngine) -> None:
    stories = [
        Played(PersonAggregate.empty(PersonKey(key)), random.Random(key), wards=0.7 if number % 3 == 0 else 0.1)
        for number, key in enumerate(keys(STORIES))
    ]
    for story in stories:
        for _ in range(STEPS):
            story.play()
    assert max(count for story in stories for tally in story.state.case_tallies.values() for _, count in tally.open) > 8
    for batch in batches([story.records for story in stories]):
        await apply(engine, *batch)

    for story in stories:
        await assert_stored(engine, story)


@pytest.mark.usefixtures("only_the_first")
async def test_a_batch_that_ends_the_first_referrals_finds_the_next(engine: AsyncEngine) -> None:
    story = Played(PersonAggregate.empty(PersonKey(keys(1)[0])), random.Random(1), wards=0)
    for number in range(12):
        dates = {"referred_on": date(2026, 11, 20 - number)}
        community = a_referral(postcode=AT_CHARNWOOD if number % 2 else AT_BLABY, **dates)
        ward = a_ward_referral(hospital=HospitalStay(site="LRI", admitted_on=date(2026, 11, 1 + number % 5)), **dates)
        story.send(received(Reference(f"LB-A{number:02}"), community))
        story.send(received(Reference(f"LB-B{number:02}"), ward))
    await apply(engine, *story.records)
    before = len(story.records)
    for one in ("LB-A00", "LB-A01", "LB-A02", "LB-A11", "LB-A10", "LB-B00", "LB-B01", "LB-B04", "LB-B09", "LB-B11"):
        story.send(cancelled(Reference(one)))
    story.send(updated(Reference("LB-A05"), a_referral(priority="urgent")))
    await apply(engine, *story.records[before:])

    await assert_stored(engine, story)


async def test_a_newcomer_that_cannot_be_compared_raises_the_doubts_that_it_raises_on_everything(
    engine: AsyncEngine,
) -> None:
    story = Played(PersonAggregate.empty(PersonKey(keys(1)[0])), random.Random(1), wards=0)
    unverified = VerificationStatus.NOT_TRACED
    story.send(received(GP, a_referral(person=a_person(nhs_number_status=unverified))))
    story.send(received(FORM, a_form(person=a_person(nhs_number_status=unverified, birth_date=None))))
    for record in story.records:
        await apply(engine, record)

    await assert_stored(engine, story)


def batches(queues: Sequence[list[KafkaRecord]]) -> list[list[KafkaRecord]]:
    """The records of all queues in small and large batches, those of each queue in order."""
    rng, left = random.Random(1), [list(reversed(queue)) for queue in queues]
    mixed, found = [], []
    while left := [queue for queue in left if queue]:
        mixed.append(rng.choice(left).pop())
    while mixed:
        size = rng.choice([3, 7, 12, 100, 300])
        found.append(mixed[:size])
        mixed = mixed[size:]
    return found


async def assert_stored(engine: AsyncEngine, story: Played) -> None:
    key, state = story.state.person_key, story.state
    letters = await rows(engine, "select reason from router.dead_letter where person_key = :key", key=key)
    published = [(message.target, message.value) for message in await sent(engine, key)]
    persons = await rows(
        engine,
        "select state, referrals, verified from router.person where person_key = :key order by person_no",
        key=key,
    )
    cases = await rows(engine, 'select state, tally from router."case" where person_key = :key', key=key)
    referrals = await rows(engine, "select state, category from router.referral where person_key = :key", key=key)
    tally = await rows(
        engine, "select persons, verified_persons, undoubted from router.person_key where person_key = :key", key=key
    )

    assert letters == []
    assert [(decode(PersonRecord, one), *counts) for one, *counts in persons] == [
        (one, *state.person_tallies[number]) for number, one in sorted(state.persons.items())
    ]
    stored = [(decode(CaseRecord, one), decode(CaseTally, counts)) for one, counts in cases]
    assert {one.case_id: (one, counts) for one, counts in stored} == {
        case_id: (one, state.case_tallies[case_id]) for case_id, one in state.cases.items()
    }
    records = [(decode(ReferralRecord, one), category) for one, category in referrals]
    assert {one.reference: one for one, _ in records} == state.referrals
    categories = {one.reference: decode_category(category) for one, category in records if category}
    assert categories == state.index.categories
    assert tally == [(*state.tally, sorted(state.index.undoubted))]
    assert published == story.sent


async def test_a_batch_whose_decisions_take_long_is_applied_in_several_transactions(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "DECISION_SECONDS", -1)
    story = Played(PersonAggregate.empty(PersonKey(keys(1)[0])), random.Random(3), wards=0.3)
    for _ in range(10):
        story.play()
    broken_record = broken(a_record(received(GP, a_referral()), key=keys(2)[1]), b"{}")
    await apply(engine, *story.records[:6], broken_record, *story.records[4:])

    await assert_stored(engine, story)
    transactions = await rows(engine, "select count(distinct xmin::text), count(*) from router.input")
    assert transactions == [(len(story.records), len(story.records))]
    assert await rows(engine, "select count(*) from router.dead_letter") == [(1,)]


# ---- what is read ---------------------------------------------------------------------------------------------------

FEW, MANY = 100, 2_000


async def of_one_case(tx: Transaction, key: str, count: int) -> None:
    """Add `count` referrals to the only case of a key."""
    await clone(tx, key, count, "referral", ReferralRecord, "'reference', name", lambda _, name: {"reference": name})
    await tx.execute(
        text("update router.person set referrals = :count + 1 where person_key = :key"), {"key": key, "count": count}
    )
    tally = decode(
        CaseTally, await tx.scalar(text('select tally from router."case" where person_key = :key'), {"key": key})
    )
    more = encode(tally.with_open(*tally.categories, count))
    await tx.execute(
        text('update router."case" set tally = :tally where person_key = :key'), {"key": key, "tally": more}
    )


async def of_other_persons(tx: Transaction, key: str, count: int) -> None:
    """Add `count` persons in doubt to a key, each with a case of one referral."""

    def numbered(number: int, name: str) -> dict[str, Any]:
        return {"case_id": name, "person_no": number}

    def doubted(number: int, _: str) -> dict[str, Any]:
        return {"person_no": number, "tracing_reasons": ("does-not-match",)}

    def referring(number: int, name: str) -> dict[str, Any]:
        return {"reference": name, **numbered(number, name)}

    of_case = "'case_id', name, 'person_no', number"
    described = "'reference', name, 'by_name', name, 'by_verification', name"
    in_doubt = "'person_no', number, 'tracing_reasons', array['does-not-match']"
    await clone(tx, key, count, "referral", ReferralRecord, f"{described}, {of_case}", referring)
    await clone(tx, key, count, '"case"', CaseRecord, of_case, numbered)
    await clone(tx, key, count, "person", PersonRecord, in_doubt, doubted)
    await tx.execute(
        text("update router.person_key set persons = :count + 1 where person_key = :key"), {"key": key, "count": count}
    )


async def clone(
    tx: Transaction,
    key: str,
    count: int,
    table: str,
    kind: type[Immutable],
    columns: str,
    changes: Callable[[int, str], dict[str, Any]],
) -> None:
    """Copy the only row of a key, each copy with another number and name: in `columns`, and by `changes` in its record."""
    known = decode(
        kind, await tx.scalar(text(f"select state from router.{table} where person_key = :key"), {"key": key})
    )
    numbers = range(2, count + 2)
    names = [f"{number:06}" for number in numbers]
    states = [encode(known.model_copy(update=changes(*one))) for one in zip(numbers, names, strict=True)]
    await tx.execute(
        text(f"""
            insert into router.{table} select made.* from router.{table} as known,
                unnest(cast(:numbers as integer[]), cast(:names as text[]), cast(:states as bytea[])) as clone (number, name, state),
                jsonb_populate_record(known, jsonb_build_object({columns}, 'state', clone.state)) as made
            where known.person_key = :key"""),
        {"key": key, "numbers": list(numbers), "names": names, "states": states},
    )


@pytest.mark.parametrize("grow", [of_one_case, of_other_persons], ids=["of one case", "of other persons"])
async def test_a_decision_reads_no_more_rows_of_a_large_key(engine: AsyncEngine, grow: Any) -> None:
    reads = []
    for key, count in zip(keys(2), (FEW, MANY), strict=True):
        await apply(engine, a_record(received(GP, a_referral()), key=key))
        async with engine.begin() as tx:
            await grow(tx, key, count)
        another = a_referral(person=a_person(birth_date=date(1950, 1, 1)))
        inputs = (
            received(FORM, a_form()),
            received(WARD, another),
            updated(Reference("000042"), a_referral(priority="urgent")),
            cancelled(Reference("000043")),
        )
        reads.append([await rows_read(engine, a_record(one, key=key)) for one in inputs])

    assert await rows(engine, "select count(*) from router.dead_letter") == [(0,)]
    for few, many in zip(*reads, strict=True):
        assert many[0] <= 1.5 * few[0] + 5, reads
        assert many[1] == few[1]


async def rows_read(engine: AsyncEngine, record: KafkaRecord) -> tuple[int, int]:
    """Rows of persons, cases and referrals that the transaction on a record reads by the router's plans, and its statements."""
    read: list[int] = []
    statements: list[str] = []

    def begun(connection: Any) -> None:
        for name, value in roles.RULES.items():
            connection.execute(text(f"set local {name} = {value}"))
        read.append(-connection.scalar(text(READ)))

    def executed(_: Any, __: Any, statement: str, *___: Any) -> None:
        statements.append(statement)

    def committing(connection: Any) -> None:
        read.append(connection.scalar(text(READ)))

    listeners = (("begin", begun), ("commit", committing), ("before_cursor_execute", executed))
    for name, listener in listeners:
        event.listen(engine.sync_engine, name, listener)
    try:
        await apply(engine, record)
    finally:
        for name, listener in listeners:
            event.remove(engine.sync_engine, name, listener)
    return sum(read), len(statements)


READ = """
    select sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::integer from pg_stat_xact_user_tables
    where schemaname = 'router' and relname in ('person', 'case', 'referral')"""
