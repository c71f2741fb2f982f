"""The pure parts of the history checker: what a seed decides, and that each invariant says so where it does not hold."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import checker, planted, report, run
from tests.chaos.checker import check, differences, final_state
from tests.chaos.evidence import Evidence
from tests.chaos.faults import MAKE
from tests.chaos.history import Answered, History, Injected, Waited
from tests.chaos.run import seeds_of
from tests.chaos.seed import CATALOGUE, Do, Person, Plan, Referral, Say, plan
from tests.chaos.senders import Identity, message
from tests.chaos.sinks import Arrived, Entry

KEY, REFERENCE = "k" * 32, "LB-AAAA-BBBB-CCCC"
IDENTITY = Identity("a run", 3)
PARTNERS = [{"id": "gp-alder-lane", "kind": "gp", "ods": "C82991"}, {"id": "first-contact", "kind": "first-contact"}]


# ---- seeds ------------------------------------------------------------------------------------------------------------


def test_a_seed_is_always_the_same_plan_and_every_fault_of_it_can_be_made() -> None:
    assert plan(7) == plan(7) != plan(8)
    assert MAKE.keys() == CATALOGUE.keys()
    named = {fault.name for seed in range(120) for fault in plan(seed, brokers=3).faults}
    assert named == CATALOGUE.keys()
    assert "leader-moved" not in {fault.name for seed in range(40) for fault in plan(seed).faults}


def test_every_referral_of_a_plan_begins_with_a_new_message_or_a_cancel_of_nothing() -> None:
    for person in (person for seed in range(20) for person in plan(seed).people):
        for at in range(len(person.referrals)):
            own = [one.kind for one in person.inputs if isinstance(one, Say) and one.referral == at]
            assert own[0] == "new" or own[:2] == ["unknown-cancel", "new"]
        assert isinstance(person.inputs[0], Say)


def test_a_repeat_has_the_bytes_of_what_it_repeats_and_two_runs_share_no_id() -> None:
    for person in plan(3).people:
        at = next(place for place, given in enumerate(person.inputs) if isinstance(given, Say) and given.kind == "new")
        new = person.inputs[at]
        assert isinstance(new, Say)
        again = Say(new.referral, "repeat", 0)
        first, repeat = message(IDENTITY, person, new, 0), message(IDENTITY, person, again, 1)
        assert (first.body, first.request_id) == (repeat.body, repeat.request_id)
        other = message(Identity("another run", 4), person, new, 0)
        assert other.body != first.body
        assert other.correlation_id != first.correlation_id


def test_numbers_are_synthetic_valid_and_of_one_run_only() -> None:
    numbers = [Identity("", slot).nhs_number(person) for slot in range(60) for person in range(16)]
    assert len(set(numbers)) == len(numbers)
    for number in numbers:
        weighed = sum(int(digit) * weight for digit, weight in zip(number, range(10, 1, -1), strict=False))
        assert number.startswith("999")
        assert (11 - weighed % 11) % 11 == int(number[9])


def test_seeds_are_told_one_by_one_or_from_to() -> None:
    assert seeds_of("3,7..9") == [3, 7, 8, 9]


def test_a_seed_that_failed_is_played_by_ci_from_then_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "kept_seeds.txt"
    file.write_text("# why\n7 3  # I4: rows\n")
    monkeypatch.setattr(run, "KEPT", file)
    failed = run.Result(9, 3, None, False, 30.0, 20, 50, 40, 0, [], {}, ["I1: lost"])
    run.keep_seed(failed)
    run.keep_seed(failed)
    assert (run.kept_seeds(3), run.kept_seeds(1)) == ([7, 9], [])


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


def a_run() -> Evidence:
    """One referral of a practice, acknowledged, on its case, assigned to a hub, its practice told."""
    referral = Referral("gp-alder-lane", "bars", "C82991", consents=True)
    person = Person(0, True, "LE19 2GX", (referral,), (Say(0, "new", 0), Do(0, "next")), 0.0, 0.0)
    planned = Plan(1, False, (person,), ())
    sent = message(IDENTITY, person, Say(0, "new", 0), 0)
    history = History(answers=[Answered(sent, True, 200, "", REFERENCE)])
    opened = entry("case.event", 0, "case.opened", "e1", 1, case_id="c", concerns=[CONCERN])
    assigned = entry("case.event", 1, "case.assigned", "e2", 2, case_id="c", concerns=[CONCERN])
    return Evidence(
        plan=planned,
        history=history,
        partners=PARTNERS,
        messages=[{"correlation_id": sent.correlation_id, "verdict": "received", "reference": REFERENCE}],
        intake=[{"reference": REFERENCE, "person_key": KEY, "version": 1, "cancelled": False}],
        referrals=[
            {
                "reference": REFERENCE,
                "person_key": KEY,
                "case_id": "c",
                "version": 1,
                "status": "requested",
                "home_hub": "blaby",
            }
        ],
        cases=[
            {
                "person_key": KEY,
                "case_id": "c",
                "status": "requested",
                "business_status": "",
                "holder": "blaby",
                "pathway": "hub",
            }
        ],
        keys={KEY: 2},
        inputs=[{"topic": "referral.event", "id": "i", "correlation_id": sent.correlation_id}],
        case_events=[
            {"person_key": KEY, "sequence": 1, "id": "e1", "type": ""},
            {"person_key": KEY, "sequence": 2, "id": "e2", "type": ""},
        ],
        feedback=[
            {
                "id": "f",
                "reference": REFERENCE,
                "recipient": "gp-alder-lane",
                "told": "home-hub",
                "status": "requested",
                "state": "accepted",
            }
        ],
        for_hubs=[{"target": "hub.blaby.case", "id": "h1"}],
        records=[
            entry("referral.event", 0, "referral.received", "i", reference=REFERENCE, version=1),
            opened,
            assigned,
            entry("hub.blaby.case", 0, "case.assigned", "h1", case_id="c", hub_version=1),
        ],
        arrived=[Arrived("gp-alder-lane", "f", REFERENCE)],
    )


def test_a_run_in_which_everything_holds_has_no_violation() -> None:
    assert check(a_run()) == []


def broken(**changed: Any) -> Evidence:
    return dataclasses.replace(a_run(), **changed)


def again(e: Evidence, at: int, **headers: str) -> list[Entry]:
    """The records, and one of them once more with other headers."""
    record = e.records[at]
    return [*e.records, dataclasses.replace(record, offset=99, headers={**record.headers, **headers})]


RUN = a_run()
WITH_FAILURE = [dict(RUN.feedback[0]) | {"state": "failed"}]
PARKED = {"schema": "router", "topic": "referral.event", "partition": 0, "offset": 0, "reason": "decision: ValueError"}


@pytest.mark.parametrize(
    ("invariant", "evidence"),
    [
        ("I1", broken(referrals=[])),
        ("I1", broken(referrals=[*RUN.referrals, *RUN.referrals])),
        ("I1", broken(cases=[])),
        ("I1", broken(quarantine=[PARKED])),
        ("I1", broken(poisoned=[entry("case.event", 7, "", "poison")])),
        ("I1", broken(intake=[dict(RUN.intake[0]) | {"version": 2}])),
        ("I1", broken(history=History())),
        ("I2", broken(messages=[*RUN.messages, *RUN.messages])),
        ("I2", broken(records=again(RUN, 1, ce_sequence="3"))),
        ("I2", broken(records=again(RUN, 1, ce_id="e9", ce_sequence="3"), keys={KEY: 3})),
        ("I3", broken(records=[RUN.records[at] for at in (0, 2, 1, 3)])),
        ("I3", broken(records=RUN.records[:2] + RUN.records[3:])),
        ("I3", broken(records=RUN.records[:3])),
        ("I3", broken(records=again(RUN, 3, ce_id="h2"))),
        ("I4", broken(unpublished=1)),
        ("I4", broken(records=RUN.records[1:])),
        ("I4", broken(history=dataclasses.replace(RUN.history, notes=["I4 2 rows"]))),
        ("I5", broken(feedback=[])),
        ("I5", broken(arrived=[])),
        ("I5", broken(arrived=RUN.arrived * 2)),
        ("I5", broken(arrived=[Arrived("gp-castle-view", "f", REFERENCE)])),
        ("I5", broken(arrived=[*RUN.arrived, Arrived("gp-alder-lane", "x", REFERENCE)])),
        ("I5", broken(feedback=WITH_FAILURE, arrived=[])),
        ("I5", broken(elsewhere=1)),
        ("I6", broken(intake=[])),
        ("I6", broken(inputs=[*RUN.inputs, {"topic": "referral.event", "id": "j", "correlation_id": "nobody's"}])),
        ("I7", broken(lag=1)),
        ("I7", broken(open_transactions=1)),
        ("I7", broken(history=dataclasses.replace(RUN.history, notes=["not drained"]))),
    ],
)
def test_what_does_not_hold_is_said(invariant: str, evidence: Evidence) -> None:
    assert invariant in {violation.invariant for violation in check(evidence)}


def test_a_repeat_of_an_event_with_its_own_number_is_no_violation() -> None:
    assert check(broken(records=again(RUN, 1))) == []


def test_another_end_under_faults_is_said() -> None:
    calm, faulty = final_state(RUN), final_state(broken(cases=[dict(RUN.cases[0]) | {"holder": "melton"}]))
    assert [violation.invariant for violation in differences(faulty, calm)] == ["I8"]
    assert differences(calm, calm) == []


def test_a_process_that_grows_is_said() -> None:
    from tests.chaos.evidence import Health

    before = [Health("router-1", 7, 90.0, 20, 5), Health("router-2", 8, 90.0, 20, 5)]
    after = [Health("router-1", 7, 400.0, 20, 5), Health("router-2", 9, 400.0, 20, 5)]
    assert [violation.invariant for violation in checker.has_grown(before, after)] == ["I7"]


# ---- the report -------------------------------------------------------------------------------------------------------


def test_recovery_is_the_time_until_what_waited_at_a_faults_end_was_done() -> None:
    waits = [Waited(0, 0, 1.0, 9.0), Waited(1, 0, 6.0, 7.0)]
    history = History(waits=waits, faults=[Injected("kill", "", 2.0, 5.0)])
    assert history.recoveries() == {"kill": [4.0]}
    history.faults.append(Injected("stop", "", 6.0, 8.0))
    assert "kill" not in history.recoveries()


def test_the_page_says_which_invariant_caught_a_planted_bug_and_which_was_missed() -> None:
    common = {
        "seed": 2,
        "brokers": 1,
        "races": False,
        "seconds": 30.0,
        "referrals": 20,
        "messages": 50,
        "commands": 40,
        "lost_replies": 3,
        "faults": ["kill (router-1)"],
        "recoveries": {"kill": [1.5]},
    }
    results = [
        common | {"planted": None, "violations": []},
        common | {"planted": "moving-cursor", "violations": ["I4: rows are unpublished"]},
        common | {"planted": "skip-locked", "violations": []},
    ]
    page = report.page(report.newest(results))
    assert "| moving-cursor | I4 |" in page
    assert "| skip-locked | **missed** |" in page
    assert "| kill | 1 | 1 | 1.5 | 1.5 |" in page
    assert planted.BUGS.keys() <= {cell.strip() for line in page.splitlines() for cell in line.split("|")}
