"""Test the parts of the harness without I/O: plans, and the detection of each violated invariant."""

import asyncio
import dataclasses
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.chaos.harness import command, report, results
from tests.chaos.harness.checker import check, differences, final_state
from tests.chaos.harness.db_probe import Probe
from tests.chaos.harness.evidence import Evidence, Health
from tests.chaos.harness.faults import FAULTS
from tests.chaos.harness.history import Answer, History, InjectedFault, MalformedCommand, SentCommand, Wait
from tests.chaos.harness.leak_check import WARM, LeakCheck
from tests.chaos.harness.observed_effects import HarnessFailed, ObservedEffects, run_while_alive
from tests.chaos.harness.plan import InjectCommand, Person, Plan, Referral, SendMessage, generate_plan
from tests.chaos.harness.recorded_plan import load
from tests.chaos.harness.results import Result
from tests.chaos.harness.runner import Failure, Runner
from tests.chaos.harness.schedule import CATALOGUE, LATE_PERSONS
from tests.chaos.harness.senders import Identity, message
from tests.chaos.harness.sinks import Entry, ReceivedFeedback
from tests.chaos.mutants import catalogue

KEY, REFERENCE = "k" * 32, "LB-AAAA-BBBB-CCCC"
IDENTITY = Identity("a run", 3)
ALDER_LANE = {"id": "gp-alder-lane", "kind": "gp", "ods": "C82991", "feedback": {"channel": "fhir"}}
PARTNERS = [ALDER_LANE, {"id": "first-contact", "kind": "first-contact"}]


# ---- seeds ------------------------------------------------------------------------------------------------------------


def test_a_seed_always_gives_the_same_plan_and_every_fault_is_implemented() -> None:
    assert generate_plan(7) == generate_plan(7) != generate_plan(8)
    assert FAULTS.keys() == CATALOGUE.keys()
    assert "leader-moved" not in {fault.name for seed in range(40) for fault in generate_plan(seed).faults}


@cache
def the_first_hundred() -> list[Plan]:
    return command.selected("100")


def test_in_the_first_hundred_seeds_every_fault_occurs_alone_and_overlapping() -> None:
    alone: Counter[str] = Counter()
    among: Counter[str] = Counter()
    for planned in the_first_hundred():
        assert planned.last is not None
        alone[planned.last.name] += 1
        among.update(fault.name for fault in planned.faults)
    assert {name for name in CATALOGUE if alone[name] < 1} == set()
    assert {name for name, kind in CATALOGUE.items() if (among[name] < 2) == kind.overlaps} == set()


@pytest.mark.parametrize(
    "name", ["kill", "stop", "loop-blocked", "cut-kafka", "cut-postgres", "hang-kafka", "hang-postgres"]
)
def test_in_the_first_hundred_seeds_a_fault_of_services_affects_each_service(name: str) -> None:
    planned = the_first_hundred()
    faults = [fault for one in planned for fault in (*one.faults, one.last) if fault is not None]
    met = Counter(fault.aim % 3 for fault in faults if fault.name == name)
    assert min(met[service] for service in range(3)) >= 1


def test_late_persons_begin_during_the_last_fault() -> None:
    for planned in the_first_hundred():
        assert planned.last is not None
        assert len(planned.late) == LATE_PERSONS
        late = [person for person in planned.persons if person.number in planned.late]
        assert max(person.begins_at for person in late) <= max(planned.last.seconds, 1.0)


def test_the_first_accepted_message_of_a_referral_is_new() -> None:
    for person in (person for seed in range(20) for person in generate_plan(seed).persons):
        for at in range(len(person.referrals)):
            own = [one.kind for one in person.inputs if isinstance(one, SendMessage) and one.referral == at]
            assert set(own[: own.index("new")]) <= {"unknown-cancel", "bad"}
        assert isinstance(person.inputs[0], SendMessage)


def test_a_repeat_has_the_same_bytes_and_two_runs_share_no_id() -> None:
    for person in generate_plan(3).persons:
        at = next(
            place for place, given in enumerate(person.inputs) if isinstance(given, SendMessage) and given.kind == "new"
        )
        new = person.inputs[at]
        assert isinstance(new, SendMessage)
        again = SendMessage(new.referral, "repeat", 0)
        first, repeat = message(IDENTITY, person, new, 0), message(IDENTITY, person, again, 1)
        assert (first.body, first.request_id) == (repeat.body, repeat.request_id)
        other = message(Identity("another run", 4), person, new, 0)
        assert other.body != first.body
        assert other.correlation_id != first.correlation_id


def test_nhs_numbers_are_synthetic_valid_and_unique_to_a_run() -> None:
    numbers = [Identity("", slot).nhs_number(person) for slot in range(60) for person in range(16)]
    assert len(set(numbers)) == len(numbers)
    for number in numbers:
        weighed = sum(int(digit) * weight for digit, weight in zip(number, range(10, 1, -1), strict=False))
        assert number.startswith("999")
        assert (11 - weighed % 11) % 11 == int(number[9])


def test_a_number_selects_that_many_seeds_every_tenth_on_three_brokers() -> None:
    assert [(plan.seed, plan.brokers) for plan in command.selected("20")] == [
        (seed, 1 if seed % 10 else 3) for seed in range(1, 21)
    ]


def test_seeds_are_selected_by_number_and_by_range() -> None:
    assert [plan.seed for plan in command.selected("7..7")] == [7]
    assert [(plan.seed, plan.brokers) for plan in command.selected("3,7..9", brokers=3)] == [
        (3, 3),
        (7, 3),
        (8, 3),
        (9, 3),
    ]


def test_ci_runs_its_seeds_and_every_kept_plan() -> None:
    plans = command.selected("ci")
    assert {plan.brokers for plan in plans} == {1, 3}
    kept = {file.stem for file in command.KEPT_PLANS.glob("*.json")}
    assert kept
    assert kept == {plan.name for plan in plans if plan.name}


def test_a_resumed_run_skips_plans_without_violations(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    for seed, violations in ((1, []), (2, ["I1: lost"]), (3, ["I1: lost"]), (3, []), (4, []), (4, ["I2: twice"])):
        results.append(file, a_result(seed=seed, violations=violations))
    results.append(file, a_result(seed=9, mutant="skip-locked"))
    assert results.done(file) == {(1, 1, ""), (3, 1, "")}


@pytest.mark.parametrize(("seeds", "keeps"), [("30..30", True), ("ci", False)])
def test_a_failed_plan_is_recorded_except_in_ci(
    seeds: str, keeps: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failure = Failure(generate_plan(30, brokers=3), a_result(seed=30, brokers=3, violations=["I1: lost"]))

    class Failing(Runner):
        async def run(self, plans: Any) -> None:
            self.failed = [failure] if self.brokers == 3 else []

    monkeypatch.setattr(command, "KEPT_PLANS", tmp_path)
    monkeypatch.setattr(command, "Runner", Failing)
    monkeypatch.setattr("sys.argv", ["chaos", "--seeds", seeds, *(["--brokers", "3"] if keeps else [])])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert command.main() == 1
    recorded = tmp_path / "seed-30-3.json"
    again = str(recorded) if keeps else "30..30 ARGS='--brokers 3'"
    assert f"make chaos SEEDS={again}\n" in capsys.readouterr().out
    if keeps:
        assert load(recorded).plan == dataclasses.replace(failure.plan, name="seed-30-3")
        assert load(recorded).about == "I1: lost"
    else:
        assert list(tmp_path.iterdir()) == []


def test_an_interrupted_run_prints_the_command_that_resumes_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(given: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_run", stopped)
    monkeypatch.setattr("sys.argv", ["chaos", "--seeds", "100"])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert command.main() == 130
    assert capsys.readouterr().out == "\nstopped; to resume: make chaos SEEDS=100 ARGS='--resume'\n"


# ---- the checker ------------------------------------------------------------------------------------------------------


def entry(topic: str, offset: int, kind: str, id: str, sequence: int | None = None, **data: Any) -> Entry:
    headers = {"ce_id": id, "ce_type": f"uk.lightbulb.{kind}.v1"}
    if sequence is not None:
        headers["ce_sequence"] = str(sequence)
    return Entry(topic, 0, offset, KEY, headers, json.dumps(data).encode())


CONCERN = {
    "reference": REFERENCE,
    "sent_by": {"partner": "gp-alder-lane"},
    "referred_by": {"kind": "gp", "organisation": {"ods": "C82991"}},
    "format": "bars-fhir",
    "home_hub": "blaby",
}


REFERRAL_ROW = {
    "reference": REFERENCE,
    "person_key": KEY,
    "case_id": "c",
    "version": 1,
    "status": "requested",
    "home_hub": "blaby",
    "state": json.dumps({"reference": REFERENCE, "open_needs": ["home-safety"], "referral": {}}),
}
CASE_ROW = {
    "person_key": KEY,
    "case_id": "c",
    "status": "requested",
    "business_status": "",
    "holder": "blaby",
    "pathway": "hub",
    "state": json.dumps({"home": {"hub": "blaby"}, "cursors": {"blaby": {"version": 1, "role": "holder"}}}),
}
CASE = {"holder": "blaby"}
IN_FULL = {"reference": REFERENCE, "status": "requested", "open_needs": ["home-safety"], "referral": {"person": {}}}
SUMMARY = {name: IN_FULL[name] for name in ("reference", "status", "open_needs")}
FEEDBACK_ROW = {
    "id": "f",
    "reference": REFERENCE,
    "recipient": "gp-alder-lane",
    "feedback_type": "home-hub",
    "status": "requested",
    "state": "accepted",
}


def a_run() -> Evidence:
    """Return the evidence of one acknowledged referral of a practice, with its case, its hub and its feedback."""
    referral = Referral("gp-alder-lane", "bars", "C82991", consents=True)
    person = Person(0, True, "LE19 2GX", (referral,), (SendMessage(0, "new", 0), InjectCommand(0, "next")), 0.0, 0.0)
    sent = message(IDENTITY, person, SendMessage(0, "new", 0), 0)
    name = sent.correlation_id
    return Evidence(
        plan=Plan(1, False, (person,), ()),
        history=History(answers=[Answer(sent, True, 200, "", REFERENCE)]),
        partners=PARTNERS,
        messages=[{"name": name, "correlation_id": name, "verdict": "received", "reference": REFERENCE}],
        intake=[{"reference": REFERENCE, "person_key": KEY, "version": 1, "cancelled": False}],
        referrals=[REFERRAL_ROW],
        cases=[CASE_ROW],
        keys={KEY: 2},
        inputs=[{"topic": "referral.event", "id": "i", "correlation_id": name}],
        case_events=[{"person_key": KEY, "sequence": at, "id": f"e{at}", "type": ""} for at in (1, 2)],
        feedback=[FEEDBACK_ROW],
        for_hubs=[{"person_key": KEY, "target": "hub.blaby.case", "id": "h1"}],
        records=records_of_a_run(),
        received_feedback=[ReceivedFeedback("gp-alder-lane", "f", REFERENCE)],
    )


def records_of_a_run() -> list[Entry]:
    return [
        entry("referral.event", 0, "referral.received", "i", reference=REFERENCE, version=1),
        entry("case.event", 0, "case.opened", "e1", 1, case_id="c", case=CASE, referral_contexts=[CONCERN]),
        entry("case.event", 1, "case.updated", "e2", 2, case_id="c", case=CASE, referral_contexts=[CONCERN]),
        at_hub(1, referrals=[IN_FULL]),
    ]


def at_hub(version: int, kind: str = "case.assigned", **data: Any) -> Entry:
    """Return the record of an event on the hub's topic."""
    given = {"role": "holder", "case": {}, "referrals": [], "others_count": 0} if kind != "case.snapshot" else {}
    place = {"case_id": "c", "person_key": KEY, "hub_version": version}
    return entry("hub.blaby.case", version - 1, kind, f"h{version}", **place, **given | data)


def test_a_correct_run_has_no_violation() -> None:
    assert check(a_run()) == []


def broken(**changed: Any) -> Evidence:
    return dataclasses.replace(a_run(), **changed)


def met(**changed: Any) -> Evidence:
    """Return the evidence of the correct run with this in its history."""
    return broken(history=dataclasses.replace(RUN.history, **changed))


def again(e: Evidence, at: int, **headers: str) -> list[Entry]:
    """Return the records, and one of them again with other headers."""
    record = e.records[at]
    return [*e.records, dataclasses.replace(record, offset=99, headers={**record.headers, **headers})]


RUN = a_run()
SENT = RUN.history.answers[0].message
REFUSED = Answer(dataclasses.replace(SENT, kind="bad", correlation_id="bad"), False, 400, "", None)
WITH_REFUSED = dataclasses.replace(RUN.history, answers=[*RUN.history.answers, REFUSED])
KEPT = {"name": "bad", "correlation_id": "bad", "verdict": "refused", "reference": None}
NAMES_OF_THE_UNIT = at_hub(2, "case.updated", others_count=1, others=[SUMMARY], site="Bradgate Unit")
ON_THE_WARD = SentCommand(0, 1, "next", "k1", "hospital-housing", "c")
ACCEPTED = entry("case.event", 2, "case.started", "e3", 3, case_id="c", referral_contexts=[CONCERN], command_id="k1")
DONE_AND_REFUSED = [
    entry("case.event", 7, "case.accepted", "e3", 3, case_id="c", referral_contexts=[], command_id="i1"),
    entry("hub.blaby.case", 7, "case.command-refused", "r1", case_id="c", command_id="i1"),
]
PERSON = {"restricted_access": True, "address": {"postcode": "LE19 2GX"}}
HIDDEN = at_hub(2, "case.joined", role="follow-on", referrals=[IN_FULL | {"referral": {"person": PERSON}}])
VISIT = entry("case.event", 2, "case.booked", "e3", 3, case_id="c", case={"check_before_contact": True})
WITH_FAILURE = [dict(RUN.feedback[0]) | {"state": "failed"}]
DEAD_LETTER = {
    "schema": "router",
    "topic": "referral.event",
    "partition": 0,
    "offset": 0,
    "reason": "decision: ValueError",
}


REFUSAL = {"case_id": None, "reason": "invalid", "places": [{"path": "visit_at", "kind": "missing"}]}
ANSWERED = [
    *RUN.records,
    entry("hub.blaby.case", 8, "case.command-refused", "r1", command_id="m1", **REFUSAL),
    entry("hub.blaby.case", 9, "case.command-refused", "r2", **REFUSAL),
]
ASKED = [MalformedCommand("blaby", KEY, "m1"), MalformedCommand("blaby", KEY, None)]
BEGAN = datetime(2026, 11, 5, 9, 0, tzinfo=UTC)
TIMES = {"begun": 0.0, "ended": 12.0, "began_at": BEGAN, "ended_at": BEGAN + timedelta(seconds=12)}
LATE = {"composed_at": BEGAN, "accepted_at": BEGAN + timedelta(seconds=11)}


REPEATED = {"ce_id": "r3", "ce_type": "uk.lightbulb.case.command-refused.v1"}


def with_malformed(*commands: MalformedCommand, records: list[Entry] = ANSWERED) -> Evidence:
    return broken(history=dataclasses.replace(RUN.history, malformed=list(commands)), records=records)


def under(
    holds: str | None, *others: InjectedFault, seen: float = 11.0, feedback: dict[str, Any] | None = None
) -> Evidence:
    """Return the evidence of an input and a feedback during a fault that only `holds` may wait for."""
    fault = InjectedFault("topic-refuses", "one topic", holds=holds, **TIMES)
    history = dataclasses.replace(
        RUN.history, faults=[fault, *others], waits=[Wait(0, 0, 0.5, seen)], quiescent_at=20.0
    )
    return broken(history=history, feedback=[dict(FEEDBACK_ROW) | (feedback or {})])


@pytest.mark.parametrize(
    ("invariant", "evidence"),
    [
        ("I1", broken(referrals=[])),
        ("I1", broken(referrals=[*RUN.referrals, *RUN.referrals])),
        ("I1", broken(cases=[])),
        ("I1", broken(dead_letters=[DEAD_LETTER])),
        ("I1", broken(poisoned=[entry("case.event", 7, "", "poison")])),
        ("I1", broken(intake=[dict(RUN.intake[0]) | {"version": 2}])),
        ("I1", broken(history=History())),
        ("I1", broken(history=WITH_REFUSED)),
        ("I1", broken(history=WITH_REFUSED, messages=[*RUN.messages, KEPT | {"verdict": "received"}])),
        ("I2", broken(messages=[*RUN.messages, *RUN.messages])),
        ("I2", broken(records=again(RUN, 1, ce_sequence="3"))),
        ("I2", broken(records=again(RUN, 1, ce_id="e9", ce_sequence="3"), keys={KEY: 3})),
        ("I2", broken(records=[*RUN.records, *DONE_AND_REFUSED], keys={KEY: 3})),
        ("I3", broken(records=[RUN.records[at] for at in (0, 2, 1, 3)])),
        ("I3", broken(records=RUN.records[:2] + RUN.records[3:])),
        ("I3", broken(records=RUN.records[:3])),
        ("I3", broken(records=again(RUN, 3, ce_id="h2"))),
        ("I4", broken(unpublished=1)),
        ("I4", broken(records=RUN.records[1:])),
        ("I4", broken(history=dataclasses.replace(RUN.history, notes=["I4 2 rows"]))),
        ("I5", broken(feedback=[])),
        ("I5", broken(received_feedback=[])),
        ("I5", broken(received_feedback=RUN.received_feedback * 2)),
        ("I5", broken(received_feedback=[ReceivedFeedback("gp-castle-view", "f", REFERENCE)])),
        ("I5", broken(received_feedback=[*RUN.received_feedback, ReceivedFeedback("gp-alder-lane", "x", REFERENCE)])),
        ("I5", broken(feedback=WITH_FAILURE, received_feedback=[])),
        ("I5", broken(misdirected=1)),
        ("I5", broken(told_again=1)),
        ("I5", broken(not_stored=RUN.received_feedback)),
        ("I5", broken(at_once=RUN.received_feedback)),
        ("I5", broken(feedback=[dict(RUN.feedback[0]) | {"body": "The person is in hospital."}])),
        ("I5", broken(records=[*RUN.records, NAMES_OF_THE_UNIT])),
        ("I5", broken(records=[*RUN.records, HIDDEN])),
        ("I6", broken(records=[*RUN.records, VISIT], keys={KEY: 3})),
        (
            "I5",
            broken(history=dataclasses.replace(RUN.history, commands=[ON_THE_WARD]), records=[*RUN.records, ACCEPTED]),
        ),
        ("I6", broken(intake=[])),
        ("I6", broken(inputs=[*RUN.inputs, {"topic": "referral.event", "id": "j", "correlation_id": "unknown"}])),
        ("I2", with_malformed(*ASKED, records=RUN.records)),
        ("I2", with_malformed(*ASKED, records=[*ANSWERED, dataclasses.replace(ANSWERED[-1], headers=REPEATED)])),
        ("I2", with_malformed(*ASKED, MalformedCommand("melton", KEY, "m2"))),
        (
            "I2",
            with_malformed(
                *ASKED, records=[*ANSWERED[:-1], dataclasses.replace(ANSWERED[-1], value=b'{"reason": "invalid"}')]
            ),
        ),
        ("I9", under("")),
        ("I9", under("hub.melton.case")),
        ("I9", under("", seen=3.0, feedback=LATE)),
        ("I9", under("gp-castle-view", seen=3.0, feedback=LATE | {"accepted_at": None})),
        ("I9", broken(history=dataclasses.replace(RUN.history, paused={"referral.event"}))),
        ("I10", broken(records=[*RUN.records[:3], at_hub(1, others=[SUMMARY], others_count=1)])),
        ("I10", broken(records=[*RUN.records[:3], at_hub(1, referrals=[IN_FULL | {"status": "accepted"}])])),
        ("I10", broken(records=[*RUN.records[:3], at_hub(1, snapshots=1)])),
        ("I11", met(held_against_senders=["a new of person 1 (first-contact)"])),
        ("I11", met(said_ready=[("postgres-read-only", "intake-1")])),
        ("I11", met(ended_by_themselves=["router-2"])),
        ("I11", met(faults=[InjectedFault("endpoint-not-found", "the practice's endpoint", 0.0, 8.0, met=600)])),
        ("I5", broken(feedback=[FEEDBACK_ROW | {"channel": "mailbox"}])),
        ("I7", broken(lag=1)),
        ("I7", broken(open_transactions=1)),
        ("I7", broken(history=dataclasses.replace(RUN.history, notes=["not quiescent"]))),
    ],
)
def test_each_violated_invariant_is_detected(invariant: str, evidence: Evidence) -> None:
    assert invariant in {violation.invariant for violation in check(evidence)}


@pytest.mark.parametrize(
    "evidence",
    [
        under(None),
        under("", InjectedFault("kill", "", 4.0, 5.0)),
        under("", seen=9.0),
        under("hub.blaby.case"),
        under("gp-alder-lane", seen=3.0, feedback=LATE),
    ],
)
def test_only_those_whom_a_fault_concerns_may_wait_for_its_end(evidence: Evidence) -> None:
    assert check(evidence) == []


def test_one_answer_to_each_malformed_command_does_not_violate_i2() -> None:
    assert check(with_malformed(*ASKED)) == []


def test_a_refused_message_that_was_stored_does_not_violate_i1() -> None:
    assert check(broken(history=WITH_REFUSED, messages=[*RUN.messages, KEPT])) == []


def test_a_repeated_event_with_the_same_number_does_not_violate_i2() -> None:
    assert check(broken(records=again(RUN, 1))) == []


def test_a_different_final_state_violates_i8() -> None:
    baseline, faulty = final_state(RUN), final_state(broken(cases=[dict(RUN.cases[0]) | {"holder": "melton"}]))
    assert [violation.invariant for violation in differences(faulty, baseline)] == ["I8"]
    assert differences(baseline, baseline) == []


@pytest.mark.parametrize("more", [{"megabytes": 116.0}, {"files": 41}, {"connections": 26}])
def test_a_growing_process_violates_i7(more: dict[str, Any]) -> None:
    growth, steady = LeakCheck(), Health("router-1", 7, 90.0, 20, 5)
    grown = dataclasses.replace(steady, **more)
    grown_before = [growth.check([steady]) for _ in range(WARM + 3)]
    assert not any(grown_before)
    assert [violation.invariant for violation in growth.check([grown])] == ["I7"]
    assert growth.check([dataclasses.replace(grown, pid=8)]) == []  # another process, just started


# ---- the background tasks ------------------------------------------------------------------------------------------


class Connection:
    """A connection that fails with these errors, then answers."""

    def __init__(self, *failures: BaseException) -> None:
        self.failures = list(failures)
        self.ended = False

    async def fetch(self, *_: object) -> list[Any]:
        if self.failures:
            raise self.failures.pop()
        return [{"one": 1}]

    def is_closed(self) -> bool:
        return False

    def terminate(self) -> None:
        self.ended = True


@pytest.mark.parametrize(
    "failure",
    [
        asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress"),
        asyncpg.ConnectionDoesNotExistError(),
        asyncpg.InterfaceError("closed"),
        asyncpg.UndefinedTableError("it is renamed for some seconds"),
        ConnectionResetError(),
        TimeoutError(),
    ],
)
async def test_a_query_is_repeated_on_a_new_connection_after_the_server_was_killed(
    failure: Exception,
) -> None:
    made = [Connection(), Connection(failure)]
    first = made[-1]

    async def connect() -> Connection:
        return made.pop()

    assert await Probe(connect).fetch("select 1") == [{"one": 1}]
    assert (first.ended, made) == (True, [])


async def test_a_wrong_query_is_not_repeated_and_a_cancelled_one_closes_its_connection() -> None:
    for failure in (asyncpg.UndefinedColumnError(), asyncio.CancelledError()):
        one = Connection(failure)

        async def connect(one: Connection = one) -> Connection:
            return one

        with pytest.raises(type(failure)):
            await Probe(connect).fetch("select from nowhere")
        assert one.ended


async def test_a_failed_background_task_ends_the_run() -> None:
    async def connect() -> Connection:
        return Connection(asyncpg.UndefinedColumnError())

    effects = ObservedEffects(connect)
    waiting = asyncio.create_task(effects.wait_for("c 1"))
    with pytest.raises(HarnessFailed):
        await run_while_alive(waiting, [asyncio.create_task(effects.poll())])
    waiting.cancel()


# ---- the report -------------------------------------------------------------------------------------------------------


def test_recovery_time_ends_with_the_last_input_that_waited_at_the_end_of_the_fault() -> None:
    waits = [Wait(0, 0, 1.0, 9.0), Wait(1, 0, 6.0, 7.0)]
    kill, stop = InjectedFault("kill", "", 2.0, 5.0), InjectedFault("stop", "", 6.0, 8.0)
    assert History(waits=waits, faults=[kill]).recovery(kill) == 4.0
    assert History(waits=waits, faults=[kill, stop]).recovery(kill) is None


def a_result(**changed: Any) -> Result:
    kill = {"name": "kill", "about": "router-1", "alone": True, "met": 1, "what": "processes killed"}
    same: dict[str, Any] = {
        "seed": 2,
        "brokers": 1,
        "mutant": None,
        "races": False,
        "seconds": 30.0,
        "referrals": 20,
        "messages": 50,
        "commands": 40,
        "lost_replies": 3,
        "faults": [kill | {"processed": 1.5, "delivered": 2.5}],
        "violations": [],
        "installation": "a",
        "code": "abc1234",
        "at": "2026-11-23T06:00:00+00:00",
    }
    return Result(**(same | changed))


def test_the_page_has_recovery_times_and_growth() -> None:
    one = Health("router-1", 7, 90.0, 20, 5)
    processes = [[dataclasses.asdict(dataclasses.replace(one, megabytes=90.0 + at))] for at in range(4)]
    page = report.page([a_result(seed=at, processes=held) for at, held in enumerate(processes)])
    assert "| kill | 4 | 4 | 4 | 1.5 | 1.5 | 2.5 | 2.5 |" in page
    assert "| router | 1 | 4 | 91 | 2 | 0 | 0 |" in page


def test_the_page_in_docs_has_the_current_texts_and_every_mutant() -> None:
    page = report.PAGE.read_text()
    for text in (report.ABOUT, report.ABOUT_FAULTS, report.ABOUT_GROWTH, report.IT_FOUND, report.NOT_COVERED):
        assert text.strip() in page
    for name, mutant in catalogue.MUTANTS.items():
        assert f"| {mutant.guard} | {name} |" in page


def test_the_page_has_the_invariants_that_caught_each_mutant() -> None:
    page = report.page(
        [
            a_result(),
            a_result(mutant="moving-cursor", violations=["I4: rows are unpublished"]),
            a_result(mutant="skip-locked"),
        ]
    )
    assert "| moving-cursor | I4 |" in page
    assert "| skip-locked | **missed** |" in page
    assert catalogue.MUTANTS.keys() <= {cell.strip() for line in page.splitlines() for cell in line.split("|")}
