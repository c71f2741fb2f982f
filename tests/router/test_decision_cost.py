"""How the work of one decision grows with the persons under one key. Counted in steps of the interpreter, so that no clock matters."""

import sys
from datetime import date, timedelta
from types import FrameType
from typing import Any

import pytest

from schemas.events import ReferralReceived
from schemas.model import Reference
from tests.builders.events import received
from tests.builders.referrals import a_person, a_referral
from tests.router.story import Story

PERSONS = 60


@pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="every referral under a key is read once for every person: the work is quadratic",
)
def test_the_work_of_a_decision_grows_no_faster_than_the_persons_under_its_key() -> None:
    once, twice = steps_of_a_decision(PERSONS), steps_of_a_decision(2 * PERSONS)

    assert twice < 2.2 * once


def steps_of_a_decision(persons: int) -> int:
    """Steps of the decision on one more referral, if this many persons have the same NHS number."""
    story = Story().when(*(a_new_person(number) for number in range(persons)))
    if len(story.state.persons) != persons:
        raise ValueError(f"{len(story.state.persons)} persons are under the key, not {persons}")
    return steps_of(story, a_new_person(persons))


def a_new_person(number: int) -> ReferralReceived:
    """A referral of somebody who has the key's NHS number and a birth date of their own."""
    person = a_person(birth_date=date(1940, 1, 1) + timedelta(days=number))
    return received(Reference(f"LB-0000-0000-{number:04d}"), a_referral(person=person))


def steps_of(story: Story, event: ReferralReceived) -> int:
    """Opcodes that the interpreter executes while the event is decided."""
    steps = 0

    def trace(frame: FrameType, kind: str, _: Any) -> Any:
        nonlocal steps
        frame.f_trace_opcodes = True
        steps += kind == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        story.when(event)
    finally:
        sys.settrace(before)
    return steps
