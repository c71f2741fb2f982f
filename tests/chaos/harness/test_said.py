"""What must be read of a referral follows from the senders' times, and the checker compares it with what was published."""

import dataclasses
import json
from typing import Any

import pytest

from tests.chaos.harness import said
from tests.chaos.harness.checker import check
from tests.chaos.harness.evidence import Evidence
from tests.chaos.harness.history import Answer, History
from tests.chaos.harness.messages import message
from tests.chaos.harness.plan import MessageKind, Person, Plan, Referral, SendMessage
from tests.chaos.harness.senders import Identity
from tests.chaos.harness.sinks import Entry

KEY, REFERENCE, IDENTITY = "k" * 32, "LB-AAAA-BBBB-CCCC", Identity("a run", 3)
WARD = Referral("uhl", "hl7", "RWE", consents=True, stays=True)
INPUTS: tuple[tuple[MessageKind, int], ...] = (("new", 0), ("update", 1), ("adt", 1), ("late", 1), ("stranger", 1))
NOW = {"need": "minor-adaptations", "phone": "01632 960001", "interpreter": True, "ward": "A1", "is over": False}


def a_person(*inputs: tuple[MessageKind, int]) -> Person:
    return Person(0, True, "LE11 3HH", (WARD,), tuple(SendMessage(0, kind, content) for kind, content in inputs), 0, 0)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ((), NOW),
        (
            (("update", 2),),
            NOW | {"need": "affordable-warmth", "phone": "01632 960002", "ward": "W23", "is over": True},
        ),
        ((("cancel", 2), ("update", 3)), NOW),
    ],
)
def test_each_field_is_what_the_latest_message_said_of_it(
    more: tuple[tuple[MessageKind, int], ...], expected: dict[str, Any]
) -> None:
    assert said.expected(a_person(*INPUTS, *more), 0) == expected


def a_run(**changed: Any) -> Evidence:
    person = a_person(*INPUTS)
    sent = message(IDENTITY, person, SendMessage(0, "new", 0), 0)
    read = NOW | changed
    referral = {
        "person": {"phone": read["phone"], "interpreter_needed": read["interpreter"]},
        "needs": [{"service": read["need"]}],
        "hospital": {"ward": read["ward"]},
        "discharged_on": "2026-11-05" if read["is over"] else None,
    }
    data = json.dumps({"reference": REFERENCE, "version": 1, "referral": referral}).encode()
    headers = {"ce_id": "i", "ce_type": "uk.lightbulb.referral.received.v1"}
    published = Entry("referral.event", 0, 0, KEY, headers, data)
    history = History(answers=[Answer(sent, True, 200, "AA", REFERENCE)])
    return Evidence(Plan(1, False, (person,), ()), history, (), records=[published], keys={KEY: 0})


def of_fields(e: Evidence) -> list[str]:
    return [str(one) for one in check(e) if one.invariant == "I6" and "its messages" in str(one)]


def test_a_referral_that_says_something_else_than_its_messages_is_a_violation() -> None:
    assert of_fields(a_run()) == []
    others = {"need": "home-safety", "phone": "01632 960051", "interpreter": None, "ward": None, "is over": True}
    assert others.keys() == NOW.keys()
    assert all(of_fields(a_run(**{name: value})) for name, value in others.items())


def test_a_stored_adt_of_a_stranger_is_a_violation() -> None:
    e = a_run()
    sent = message(IDENTITY, a_person(("adt-stranger", 0)), SendMessage(0, "adt-stranger", 0), 0)
    row = {"name": sent.correlation_id, "correlation_id": "x", "verdict": "updated", "reference": None}
    e.history.answers.append(Answer(sent, True, 200, "AA", None))
    assert not any("is stored as" in str(one) for one in check(e))
    assert any("is stored as" in str(one) for one in check(dataclasses.replace(e, messages=[row])))
