"""A decision works through no more if there are many persons under its key, or many referrals of its case.

Counted in steps of the interpreter, so that no clock matters.
"""

import sys
from datetime import date, timedelta
from types import FrameType
from typing import Any

from schemas.events import ReferralReceived
from schemas.model import Reference
from tests.builders.events import cancelled, received, updated
from tests.builders.referrals import a_person, a_referral
from tests.router.story import Story

FEW, MANY = 100, 500


def test_the_work_of_a_decision_does_not_grow_with_the_persons_under_its_key() -> None:
    story = Story()
    steps = []
    for persons in (FEW, MANY):
        story.when(*(a_new_person(number) for number in range(len(story.state.persons), persons)))
        if len(story.state.persons) != persons:
            raise ValueError(f"{len(story.state.persons)} persons are under the key, not {persons}")
        steps.append(steps_of(story, a_new_person(persons)))

    assert steps[1] < 1.02 * steps[0]


def test_the_work_of_a_decision_does_not_grow_with_the_referrals_of_its_case() -> None:
    story = Story()
    steps = []
    for referrals in (FEW, MANY):
        story.when(
            *(received(numbered(number), a_referral()) for number in range(len(story.state.referrals), referrals))
        )
        steps.append(
            steps_of(story, received(numbered(referrals), a_referral()))
            + steps_of(story, updated(numbered(referrals // 2), a_referral(priority="urgent")))
            + steps_of(story, cancelled(numbered(referrals // 3)))
        )

    assert steps[1] < 1.02 * steps[0]


def numbered(number: int) -> Reference:
    return Reference(f"LB-0000-0000-{number:04d}")


def a_new_person(number: int) -> ReferralReceived:
    """Return a referral of a person with the key's NHS number and a different birth date."""
    person = a_person(birth_date=date(1940, 1, 1) + timedelta(days=number))
    return received(numbered(number), a_referral(person=person))


def steps_of(story: Story, event: Any) -> int:
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
