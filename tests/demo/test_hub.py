"""The next step of a simulated hub, and its command."""

import asyncio
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError

from infra.partner_simulators.hub import (
    HubClient,
    OutgoingCommand,
    OutOfOrder,
    ScriptStep,
    SimulatedCase,
    apply_event,
    command,
    next_step,
    scripts,
)

SCRIPT = scripts(["charnwood"], "accept,book,start,assess,record,complete")["charnwood"]
NEEDS = ["minor-adaptations", "hearing-services"]


def an_event(version: int, *, role: str = "holder", status: str = "requested", **more: Any) -> dict[str, Any]:
    referral = {
        "reference": "LB-1",
        "open_needs": NEEDS,
        "referral": {"message": {"referral_id": "theirs"}, "needs": [{"service": need} for need in NEEDS]},
    }
    return {"hub_version": version, "role": role, "case": {"status": status}, "referrals": [referral]} | more


def a_case(*heard: tuple[str, dict[str, Any]]) -> SimulatedCase:
    case = SimulatedCase("charnwood", "C1", "k" * 32)
    for kind, data in heard or [("assigned", an_event(1))]:
        apply_event(case, kind, data)
    return case


def test_a_case_that_a_hub_newly_holds_is_accepted_on_the_received_version() -> None:
    case = a_case()
    step = next_step(case, SCRIPT)
    assert step is not None
    sent = command(case, step, {})
    assert (sent.name, sent.data["expected_version"], sent.data["case_id"]) == ("accept", 1, "C1")


@pytest.mark.parametrize("event", [an_event(1, role="follow-on"), an_event(1, status="completed")])
def test_a_hub_sends_no_command_for_an_ended_case_or_one_of_another_hub(event: dict[str, Any]) -> None:
    assert next_step(a_case(("assigned", event)), SCRIPT) is None


def test_the_next_step_waits_for_the_event_of_the_previous_one() -> None:
    case = a_case()
    case.awaiting = "c1"
    assert next_step(case, SCRIPT) is None
    apply_event(case, "accepted", an_event(2, status="accepted", command_id="c1"))
    assert next_step(case, SCRIPT) == ScriptStep("book")


def test_every_step_of_a_script_is_done_in_order() -> None:
    case, done = a_case(), []
    for version in range(2, 20):
        step = next_step(case, SCRIPT)
        if step is None:
            break
        sent = command(case, step, {})
        case.ending.update(case.open_needs() if step.name == "complete" else ())
        past = {"accept": "accepted", "book": "booked", "start": "started"}.get(step.name, step.name)
        apply_event(case, past, an_event(version, status="in-progress") | sent.data)
        done.append(step.name)
    assert done == ["accept", "book", "start", "assess", "record", "complete"]


def test_no_visit_is_booked_until_a_reported_death_is_withdrawn() -> None:
    held = an_event(2, case={"status": "accepted", "check_before_contact": True})
    case = a_case(("accepted", an_event(1)), ("contact-held", held))
    assert next_step(case, SCRIPT) is None
    apply_event(case, "contact-hold-ended", an_event(3, status="accepted"))
    assert next_step(case, SCRIPT) == ScriptStep("book")


def test_a_hub_reports_a_death_and_confirms_it() -> None:
    script, case = scripts(["blaby:report-death,confirm-death"], "")["blaby"], a_case()
    assert next_step(case, script) == ScriptStep("report-death")
    apply_event(case, "contact-held", an_event(2, case={"status": "requested", "check_before_contact": True}))
    step = next_step(case, script)
    assert step == ScriptStep("confirm-death")
    assert command(case, step, {}).data["expected_version"] == 2


def test_an_added_need_is_also_assessed() -> None:
    case = a_case(
        ("assigned", an_event(1)), ("assessed", an_event(2, findings=[{"reference": "LB-1", "service": NEEDS[0]}]))
    )
    findings = command(case, ScriptStep("assess"), {}).data["findings"]
    assert [one["service"] for one in findings] == NEEDS[1:]


def test_interventions_come_from_the_visits_notes_or_from_the_defaults() -> None:
    noted = command(
        a_case(), ScriptStep("record"), {"theirs": [{"service": "blue-badge", "action": "a", "provider": "p"}]}
    )
    usual = command(a_case(), ScriptStep("record"), {})
    assert [one["service"] for one in noted.data["interventions"]] == ["blue-badge"]
    assert {one["service"] for one in usual.data["interventions"]} == set(NEEDS)


def test_a_command_has_the_same_id_when_it_is_decided_again_on_the_same_version() -> None:
    assert command(a_case(), ScriptStep("accept"), {}).id == command(a_case(), ScriptStep("accept"), {}).id
    assert command(a_case(), ScriptStep("accept"), {}).id != command(a_case(), ScriptStep("complete"), {}).id


def test_a_repeated_event_is_distinguished_from_a_new_one() -> None:
    case = a_case()
    assert not apply_event(case, "assigned", an_event(1))
    assert apply_event(case, "accepted", an_event(2))


def test_a_missing_version_is_detected() -> None:
    with pytest.raises(OutOfOrder, match="received version 3, expected 2"):
        apply_event(a_case(), "accepted", an_event(3))


def test_a_hub_may_have_its_own_script() -> None:
    both = scripts(["blaby", "melton:accept,hold=awaiting-works"], "accept,complete")
    assert both == {
        "blaby": [ScriptStep("accept"), ScriptStep("complete")],
        "melton": [ScriptStep("accept"), ScriptStep("hold", "awaiting-works")],
    }


def test_what_a_task_asks_a_hub_to_read_is_marked_as_read_before_anything_else() -> None:
    task = an_event(2, kind="read-message", about="LB-1")
    case = a_case(("assigned", an_event(1)), ("task-raised", task))
    step = next_step(case, SCRIPT)
    assert step is not None
    sent = command(case, step, {})
    assert (sent.name, sent.data["reference"], sent.data["expected_version"]) == ("mark-read", "LB-1", 2)

    case.awaiting = sent.id
    apply_event(case, "updated", an_event(3, updated="LB-1", command_id=sent.id))
    assert next_step(case, SCRIPT) == ScriptStep("accept")


def test_a_hub_that_does_not_hold_the_case_reads_too_and_a_refused_mark_read_is_repeated() -> None:
    task = an_event(1, role="follow-on", kind="read-message", about="LB-1")
    case = a_case(("task-raised", task))
    first = command(case, ScriptStep("mark-read", "LB-1"), {})
    apply_event(case, "joined", an_event(2, role="follow-on"))
    step = next_step(case, SCRIPT)
    assert step == ScriptStep("mark-read", "LB-1")
    assert command(case, step, {}).id != first.id


def test_a_task_of_another_kind_or_about_a_referral_that_has_gone_is_not_read() -> None:
    other = a_case(("task-raised", an_event(1, kind="check-person", about="LB-1")))
    assert next_step(other, SCRIPT) == ScriptStep("accept")
    gone = a_case(("task-raised", an_event(1, kind="read-message", about="LB-1")))
    apply_event(gone, "assigned", {"hub_version": 2, "role": "former", "case": {"status": "requested"}})
    assert next_step(gone, SCRIPT) is None


async def test_a_command_that_timed_out_is_sent_again_with_the_same_id() -> None:
    """A flush would not report it, and the case would wait indefinitely."""
    sent = []

    class Hesitant(HubClient):
        async def send(self, case: SimulatedCase, send: OutgoingCommand) -> "asyncio.Future[Any]":
            sent.append(send.id)
            delivered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            if len(sent) == 1:
                delivered.set_exception(KafkaTimeoutError())
            else:
                delivered.set_result(None)
            return delivered

    client = Hesitant.__new__(Hesitant)
    case = a_case()
    await client.deliver((case, command(case, ScriptStep("accept"), {})))
    assert len(sent) == 2
    assert len(set(sent)) == 1
