"""A decision on the part of a person key that is loaded gives what one on everything under the key gives, and reads as little."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from schemas.case import EndReason, Finding
from schemas.events import (
    Accept,
    Assess,
    Assign,
    Cancel,
    Complete,
    Hold,
    MarkRead,
    Reject,
    ReportDeath,
    Start,
    Transfer,
    WithdrawDeathReport,
)
from schemas.model import PersonKey, Reference
from schemas.nhs_number import VerificationStatus
from schemas.referral import HospitalStay, Referral
from schemas.topics import CASE_EVENT, REFERRAL_EVENT, hub_case, hub_command
from services.messaging.cloudevents import KafkaRecord, value_of
from services.router.decide import aggregate, hub_events, lifecycle
from services.router.decide.aggregate import PersonAggregate
from services.router.decide.lifecycle import DecisionContext, EmittedEvent
from services.router.decide.model import CaseRecord, CaseTally, PersonRecord, ReferralRecord
from tests.builders.events import NOW, an_event, cancelled, in_record, received, updated
from tests.builders.reference_data import AT_BLABY, AT_CHARNWOOD, CHARNWOOD, DIRECTORY, IN_THE_CITY, POSTCODES
from tests.builders.referrals import (
    PART,
    a_bradgate_referral,
    a_form,
    a_person,
    a_referral,
    a_ward_referral,
    an_address,
    keys,
)
from tests.router.stored import apply, rows

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
                self._message(received(Reference(f"LB-{self.random.randrange(10**6):06}"), self._referral()))
            case "update":
                one = self.state.referrals[self.random.choice(known)]
                self._message(updated(one.reference, self._referral(), version=one.version + 1))
            case "cancel":
                one = self.state.referrals[self.random.choice(known)]
                self._message(cancelled(one.reference, version=one.version + 1))
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

    def _message(self, data: Any) -> None:
        event = an_event(data, key=self.state.person_key)
        self._take(lifecycle.apply(self.state, data, event.correlation_id, self._context), event, REFERRAL_EVENT)

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
        event = an_event(data, key=self.state.person_key)
        self._take(lifecycle.decide(self.state, data, hub, event.id, self._context), event, hub_command(hub))

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

    def _take(self, decision: lifecycle.CaseDecision, event: Any, topic: str) -> None:
        self.state = decision.state
        self.records.append(in_record(event, topic))
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


def batches(queues: Sequence[list[KafkaRecord]]) -> list[list[KafkaRecord]]:
    """The records of all queues in small and large batches, those of each queue in order."""
    rng, left = random.Random(1), [list(reversed(queue)) for queue in queues]
    mixed, found = [], []
    while left := [queue for queue in left if queue]:
        mixed.append(rng.choice(left).pop())
    while mixed:
        size = rng.choice([3, 7, 12, 100])
        found.append(mixed[:size])
        mixed = mixed[size:]
    return found


async def assert_stored(engine: AsyncEngine, story: Played) -> None:
    key, state = story.state.person_key, story.state
    letters = await rows(engine, "select reason from router.dead_letter where person_key = :key", key=key)
    sent = await rows(engine, "select target, value from router.outbox where person_key = :key order by id", key=key)
    persons = await rows(
        engine,
        "select state::text, referrals, verified from router.person where person_key = :key order by person_no",
        key=key,
    )
    cases = await rows(engine, 'select state::text, tally::text from router."case" where person_key = :key', key=key)
    referrals = await rows(engine, "select state::text from router.referral where person_key = :key", key=key)
    tally = await rows(
        engine, "select persons, verified_persons from router.person_key where person_key = :key", key=key
    )

    assert letters == []
    assert [(PersonRecord.model_validate_json(one), *counts) for one, *counts in persons] == [
        (one, *state.person_tallies[number]) for number, one in sorted(state.persons.items())
    ]
    stored = [(CaseRecord.model_validate_json(one), CaseTally.model_validate_json(counts)) for one, counts in cases]
    assert {one.case_id: (one, counts) for one, counts in stored} == {
        case_id: (one, state.case_tallies[case_id]) for case_id, one in state.cases.items()
    }
    records = [ReferralRecord.model_validate_json(one) for (one,) in referrals]
    assert {one.reference: one for one in records} == state.referrals
    assert tally == [tuple(state.tally)]
    assert sent == story.sent
