"""Nothing is told as completed while a need is open, and nothing as done before its date: commands of every order and date."""

import itertools
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncEngine

from schemas.case import BusinessStatus, EndReason, HoldReason
from schemas.events import Accept, Cancel, Command, Complete, Event, Hold, HubCommand, Record, Reject
from services.notifier.channels import bars_message, letter
from services.notifier.compose import Feedback, compose, restate
from services.router.consumer import Batches
from services.router.decide.command_rules import RULES
from services.router.decide.lifecycle import EmittedEvent
from tests.builders.events import KEY, TODAY, a_command, a_record, received
from tests.builders.reference_data import DIRECTORY
from tests.builders.referrals import GP, a_referral
from tests.notifier.builders import the_recipients, the_words
from tests.router.stored import case_id, header, rows, sent
from tests.router.story import Story, everything, given

WORDS, RECIPIENTS = the_words(), the_recipients()
NEEDS = ("minor-adaptations", "income-maximisation", "warm-homes")
LABELS = {need: WORDS.service(need).text for need in NEEDS}
HOW: dict[type[Command], str] = {Complete: "completed", Reject: "rejected", Cancel: "cancelled"}
TOLD = {"completed": "completed", "rejected": "returned to the referrer", "cancelled": "cancelled"}


def told(story: Story, on: date = TODAY) -> list[Feedback]:
    """Return the feedback about the last events of a story."""
    at = datetime.combine(on, time(12), UTC)
    events = (
        Event(id=f"{index}", source="/tests", time=at, person_key=KEY, correlation_id="any", data=one.data)
        for index, one in enumerate(story.emitted)
        if isinstance(one, EmittedEvent)
    )
    return [feedback for event in events for feedback in compose(event, RECIPIENTS, WORDS)]


def begun(hold: bool = False) -> Story:
    story = given(received(GP, a_referral(*NEEDS))).commanded("blaby", Accept)
    return story.commanded("blaby", Hold, reason=HoldReason.AWAITING_WORKS) if hold else story


def end(story: Story, command: type[Command], needs: Sequence[str], **data: Any) -> list[Feedback]:
    reason = {} if command is Complete else {"reason": EndReason.NOT_ELIGIBLE}
    story.commanded("blaby", command, ended=everything({GP: needs}), **reason, **data)
    assert story.refused is None
    return told(story)


def parts(needs: Sequence[str]) -> Iterator[list[Sequence[str]]]:
    """Yield every division of the needs into parts, in every order."""
    if not needs:
        yield []
    for size in range(1, len(needs) + 1):
        for part in itertools.combinations(needs, size):
            yield from ([part, *others] for others in parts([one for one in needs if one not in part]))


def ways() -> Iterator[list[tuple[type[Command], Sequence[str]]]]:
    for division in parts(NEEDS):
        for commands in itertools.product(HOW, repeat=len(division)):
            yield list(zip(commands, division, strict=True))


@pytest.mark.parametrize("hold", [False, True])
def test_the_first_sentence_says_whether_all_or_a_part_has_ended_and_how_and_the_status_agrees(hold: bool) -> None:
    for way in ways():
        story, ended = begun(hold), {}
        for command, needs in way:
            [feedback] = end(story, command, needs)
            ended |= dict.fromkeys(needs, HOW[command])
            assert_agrees(feedback, HOW[command], ended)


def assert_agrees(feedback: Feedback, how: str, ended: dict[str, str]) -> None:
    first, text = feedback.text[0], " ".join(feedback.text)
    left = [LABELS[need] for need in NEEDS if need not in ended]
    if left:
        assert feedback.feedback_type == f"{how}-in-part"
        assert first.startswith("Part of ")
        assert "the rest is still open" in first
        assert feedback.status.is_open
        assert f"Still open: {', '.join(left)} ({WORDS.status(feedback.status)})." in feedback.text
        assert "All work" not in text
    elif set(ended.values()) == {how}:
        assert feedback.feedback_type.value == feedback.status.value == how
        assert not first.startswith("Part of ")
        assert "Still open" not in text
    else:
        assert feedback.feedback_type == "ended"
        assert first.startswith("All work on your referral")
        assert not feedback.status.is_open
        assert all(f"{LABELS[need]} ({TOLD[by]}" in first for need, by in ended.items())
    assert all(LABELS[need] in text for need in NEEDS)


def test_a_letter_about_a_part_names_what_is_open_and_one_about_the_whole_what_ended_before() -> None:
    story = begun(hold=True)
    [part] = end(story, Complete, NEEDS[:1])
    page = letter.page(part, WORDS.sender_details)
    assert f"Part of the work on your referral {GP} was done on 23 November 2026; the rest is still open." in page
    assert "Done: Minor adaptations and equipment." in page
    assert "Still open: Benefits and income, Warm homes for people with breathing problems (waiting)." in page

    end(story, Cancel, NEEDS[1:2])
    [whole] = end(story, Complete, NEEDS[2:])
    page = letter.page(whole, WORDS.sender_details)
    assert f"All work on your referral {GP} ended on 23 November 2026: " in page
    assert "Benefits and income (cancelled), Minor adaptations and equipment (completed)" in page


def test_a_part_that_is_returned_has_its_reason_and_advice_and_not_the_status_of_the_whole_in_bars() -> None:
    [part] = end(begun(), Reject, NEEDS[:1], refer_to="leicester-city")
    assert part.practice_todo == WORDS.practice_todo(part.feedback_type.REJECTED, full=True)
    assert any(line.startswith("What to do instead: please refer to ") for line in part.text)
    message = bars_message.message(part, WORDS.sender_details).decode()
    assert '"status":"accepted"' in message
    assert '"statusReason"' not in message
    assert "CodeSystem/need-outcome" in message


def test_a_restatement_repeats_how_and_why_earlier_needs_ended_and_what_to_do() -> None:
    story = begun()
    lost = end(story, Reject, NEEDS[:1], refer_to="leicester-city")
    story.commanded("blaby", Hold, reason=HoldReason.WAITING_LIST)
    [held] = told(story)
    now = restate(held, lost, WORDS)
    reason = WORDS.end(EndReason.NOT_ELIGIBLE).text
    assert f"Ended before: Minor adaptations and equipment (returned to the referrer: {reason})." in now.text
    assert any(line.startswith("What to do instead of what was returned before: please refer") for line in now.text)
    assert "Still open: Benefits and income, Warm homes for people with breathing problems (waiting)." in now.text
    assert now.practice_todo == lost[0].practice_todo

    restricted = restate(held.model_copy(update={"restricted_access": True}), lost, WORDS)
    assert not any(reason in line or "Leicester" in line for line in restricted.text)


def test_status_only_feedback_says_completed_only_at_the_end() -> None:
    story = begun()
    for needs in (NEEDS[:1], NEEDS[1:]):
        [feedback] = end(story, Complete, needs)
        plain = feedback.model_copy(update={"full": False})
        assert ("completed" in " ".join(WORDS.paragraphs(plain))) == (needs == NEEDS[1:])


# ---- dates ----------------------------------------------------------------------------------------------------------

MAY_BE_AHEAD = {"until", "visit_at"}


def dates_of(model: type[BaseModel], place: str = "") -> Iterator[str]:
    """Yield the path of each date in a model."""
    for name, field in model.model_fields.items():
        for kind in kinds(field.annotation):
            if isinstance(kind, type) and issubclass(kind, date):
                yield f"{place}{name}"
            elif isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from dates_of(kind, f"{place}{name}.")


def kinds(annotation: Any) -> Iterator[Any]:
    yield annotation
    for inner in get_args(annotation):
        yield from kinds(inner)


def test_every_date_of_a_command_is_one_on_which_something_was_done_or_may_be_ahead() -> None:
    for command in get_args(HubCommand):
        assert set(dates_of(command)) - MAY_BE_AHEAD == set(RULES[command].done_on), command.__name__


def dated(day: date) -> Iterator[tuple[type[Command], dict[str, Any], str]]:
    done = {"reference": GP, "service": NEEDS[0], "action": "grab rails fitted", "provider": "Handyperson"}
    known, new = ({**done, "on": TODAY - timedelta(days=1)}, {**done, "on": day})
    yield Record, {"interventions": [known, new]}, "interventions.1.on"
    yield Record, {"dfg": {"stage": "completion", "on": day}}, "dfg.on"
    yield Record, {"no_contact_on": day}, "no_contact_on"
    yield Complete, {"ended": everything({GP: NEEDS[:1]}), "interventions": [new]}, "interventions.0.on"


@pytest.mark.parametrize("ahead", [-400, -1, 0, 1, 2, 365])
def test_what_is_dated_after_today_is_refused_by_its_place_and_changes_nothing(ahead: int) -> None:
    day = TODAY + timedelta(days=ahead)
    for command, data, place in dated(day):
        story = begun()
        before = story.state
        story.commanded("blaby", command, **data)
        if ahead <= 0:
            assert story.refused is None
            assert all(one.on <= TODAY for feedback in told(story) for one in feedback.completed_actions if one.on)
        else:
            assert story.refused is not None
            assert story.refused.reason == "future-date"
            assert place in story.refused.explanation
            assert day.isoformat() not in story.refused.explanation
            assert story.state is before


def test_what_is_dated_after_the_event_is_not_told_as_done() -> None:
    """An event from before the rule, or of a clock that was ahead."""
    day = TODAY + timedelta(days=3)
    story = begun()
    story.grounds = type(story.grounds)(story.grounds.directory, story.grounds.postcodes, day)
    _, data, _ = next(dated(day))
    story.commanded("blaby", Record, **data)
    story.commanded("blaby", Complete, ended=everything({GP: NEEDS[:1]}))
    counts = [len(feedback.all_completed_actions) for on in (TODAY, day) for feedback in told(story, on)]
    assert counts == [1, 2]


async def test_today_is_the_day_in_england(engine: AsyncEngine) -> None:
    summer_night = datetime(2026, 6, 30, 23, 30, tzinfo=UTC)
    router = Batches(engine, DIRECTORY, clock=lambda: summer_night)
    await router.receive([a_record(received(GP, a_referral()))])
    for day in (date(2026, 7, 2), date(2026, 7, 1)):
        await router.receive([a_command("blaby", Record, await case_id(engine), no_contact_on=day)])
    types = [header(message, "ce_type") for message in await sent(engine, target="hub.blaby.case")]
    assert [kind.split(".")[3] for kind in types] == ["opened", "command-refused", "recorded"]
    assert await rows(engine, 'select business_status from router."case"') == [(BusinessStatus.NO_CONTACT.value,)]
