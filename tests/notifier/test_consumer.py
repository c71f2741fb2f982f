"""Case events are processed once, in batches; one that cannot be composed becomes a dead letter with its referral's later ones."""

import dataclasses

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.operations import queries
from infra.operations.queries import Filters
from schemas.events import CaseAssigned, CaseOpened, Event, ReferralContext
from services.notifier import compose as decisions
from services.notifier.compose import Feedback, FeedbackTexts, Recipients
from tests.builders.events import with_header
from tests.faulty_database import away_for_a_moment, make_sessions_read_only
from tests.notifier.builders import (
    GP_MAILBOX,
    a_case_event,
    a_life,
    as_records,
    by_first_contact_for_gp,
    by_gp,
    the_recipients,
)
from tests.notifier.running import a_notifier, feedback_events, rows
from tests.operations.operator_actions import discard

FEEDBACK = "select * from notifier.feedback order by reference, recipient, ordinal"
PARKED = "select * from notifier.dead_letter order by id"


async def test_a_repeated_event_gives_one_feedback(engine: AsyncEngine) -> None:
    life = a_life(by_gp(GP_MAILBOX), "life")
    async with a_notifier(engine, the_recipients(), delivering=False) as notifier:
        await notifier.receive(*life, *life)
        await notifier.receive(*life)
    assert [row.feedback_type for row in await rows(engine, FEEDBACK)] == ["home-hub", "completed"]


async def test_each_feedback_is_one_row_for_referral_event_recipient_and_type_in_order(engine: AsyncEngine) -> None:
    concern = by_first_contact_for_gp()
    opened, *_, completed = a_case_event(CaseOpened, concern, id="life-0"), *a_life(concern, "life")
    async with a_notifier(engine, the_recipients(), delivering=False) as notifier:
        await notifier.receive(opened, completed)
    kept = [(row.recipient, row.feedback_type, row.ordinal, row.caused_by) for row in await rows(engine, FEEDBACK)]
    assert kept == [
        ("first-contact", "home-hub", 1, "life-0"),
        ("first-contact", "completed", 2, "life-3"),
        ("gp-alder-lane", "received", 1, "life-0"),
        ("gp-alder-lane", "home-hub", 2, "life-0"),
        ("gp-alder-lane", "completed", 3, "life-3"),
    ]


async def test_sequence_numbers_continue_over_batches(engine: AsyncEngine) -> None:
    async with a_notifier(engine, the_recipients(), delivering=False) as notifier:
        for event in a_life(by_gp(GP_MAILBOX), "life"):
            await notifier.receive(event)
    assert [row.ordinal for row in await rows(engine, FEEDBACK)] == [1, 2]


async def test_mailbox_feedback_is_accepted_at_once_with_a_feedback_sent_event(engine: AsyncEngine) -> None:
    async with a_notifier(engine, the_recipients(), delivering=False) as notifier:
        await notifier.receive(*a_life(by_gp(GP_MAILBOX), "life"))
    assert {row.state for row in await rows(engine, FEEDBACK)} == {"kept"}
    assert len(await feedback_events(engine)) == 2
    assert await rows(engine, "select * from notifier.conversation where due_at is not null") == []


async def test_an_undecodable_event_becomes_a_dead_letter_and_the_rest_is_processed(engine: AsyncEngine) -> None:
    good = as_records(a_life(by_gp(GP_MAILBOX), "life"))
    [other, *_] = as_records(a_life(by_gp(GP_MAILBOX, reference="LB-0THR-0THR-0THR"), "other"))
    bad = [
        dataclasses.replace(other, offset=9001, value=b'{"case_id": 9990000018}'),
        dataclasses.replace(other, offset=9002, value=b"\xff\xfe"),
        dataclasses.replace(other, offset=9003, headers=(("ce_type", b"no.such.type"),)),
        dataclasses.replace(other, offset=9004, headers=()),
    ]
    async with a_notifier(engine, the_recipients(), delivering=False) as notifier:
        await notifier.receiver.receive([bad[0], good[0], bad[1], good[1], bad[2], bad[3], good[2]])
    assert [row.feedback_type for row in await rows(engine, FEEDBACK)] == ["home-hub", "completed"]
    parked = await rows(engine, PARKED)
    assert [row.offset for row in parked] == [9001, 9002, 9003, 9004]
    assert all("9990000018" not in row.reason for row in parked)


@pytest.fixture
def one_cannot_be_composed(monkeypatch: pytest.MonkeyPatch) -> str:
    """A referral that our code cannot put into words."""
    compose, reference = decisions.compose_for, "LB-POOR-POOR-POOR"

    def composing(
        event: Event, concern: ReferralContext, recipients: Recipients, words: FeedbackTexts
    ) -> list[Feedback]:
        if concern.reference == reference and event.id == "poor-2":
            raise KeyError("Vantongeren")
        return compose(event, concern, recipients, words)

    monkeypatch.setattr(decisions, "compose_for", composing)
    return reference


async def test_an_event_that_cannot_be_composed_and_its_referrals_later_events_become_dead_letters(
    engine: AsyncEngine, one_cannot_be_composed: str
) -> None:
    poor = a_life(by_gp(GP_MAILBOX, reference=one_cannot_be_composed), "poor")
    fine = a_life(by_gp(GP_MAILBOX), "fine")
    async with a_notifier(engine, the_recipients(), delivering=False) as notifier:
        await notifier.receive(poor[0], poor[1], fine[0], fine[1])
        await notifier.receive(poor[2], fine[2])
    assert [row.caused_by for row in await rows(engine, FEEDBACK)] == ["fine-2", "fine-3"]
    parked = await rows(engine, PARKED)
    assert [(row.message_group, row.waiting) for row in parked] == [
        (one_cannot_be_composed, False),
        (one_cannot_be_composed, True),
    ]
    assert parked[0].reason == "compose: KeyError"
    marked = {row.event_id for row in await rows(engine, "select event_id from notifier.input")}
    assert not {"poor-2", "poor-3"} & marked


async def test_a_resubmitted_event_gives_its_feedback(
    engine: AsyncEngine, one_cannot_be_composed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another referral on the same event, whose feedback was already composed, gets none again."""
    poor, fine = by_gp(GP_MAILBOX, reference=one_cannot_be_composed), by_gp(GP_MAILBOX)
    both = as_records([a_case_event(CaseAssigned, poor, fine, id="poor-2")])
    async with a_notifier(engine, the_recipients(), delivering=False) as notifier:
        await notifier.receiver.receive(both)
        assert [row.reference for row in await rows(engine, FEEDBACK)] == [fine.reference]
        monkeypatch.undo()
        async with engine.begin() as tx:
            await tx.execute(text("update notifier.dead_letter set resubmit_at = now()"))
        assert await notifier.receiver.release() == 1
    assert {row.reference for row in await rows(engine, FEEDBACK)} == {fine.reference, poor.reference}
    assert [row.ordinal for row in await rows(engine, FEEDBACK)] == [1, 1]


async def ask_for_everything(engine: AsyncEngine) -> None:
    async with engine.begin() as tx:
        await tx.execute(text("update notifier.dead_letter set resubmit_at = now() where not waiting"))


async def test_after_a_resubmit_waiting_events_give_feedback_in_order_before_new_events(
    engine: AsyncEngine, one_cannot_be_composed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = a_life(by_gp(GP_MAILBOX, reference=one_cannot_be_composed), "poor")
    async with a_notifier(engine, the_recipients(), delivering=False) as notifier:
        await notifier.receive(life[0], life[1])
        await ask_for_everything(engine)
        await notifier.receive(life[2])
        assert await rows(engine, FEEDBACK) == []
        monkeypatch.undo()
        assert await notifier.receiver.release() == 2
        await notifier.receive(*life)
    assert [row.caused_by for row in await rows(engine, FEEDBACK)] == ["poor-2", "poor-3"]
    assert {row.resolution for row in await rows(engine, PARKED)} == {"applied"}


async def test_an_event_that_still_cannot_be_composed_is_not_retried_without_a_resubmit(
    engine: AsyncEngine, one_cannot_be_composed: str
) -> None:
    async with a_notifier(engine, the_recipients(), delivering=False) as notifier:
        await notifier.receive(*a_life(by_gp(GP_MAILBOX, reference=one_cannot_be_composed), "poor"))
        await ask_for_everything(engine)
        assert [await notifier.receiver.release() for _ in range(2)] == [1, 0]
    assert [(row.waiting, row.attempts) for row in await rows(engine, PARKED)] == [(False, 2), (True, 1)]


async def test_every_referral_of_an_event_that_cannot_be_composed_waits_for_it(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one event about two, both faulty, the second's later events wait too; those of a third do not."""
    compose = decisions.compose_for

    def composing(
        event: Event, concern: ReferralContext, recipients: Recipients, words: FeedbackTexts
    ) -> list[Feedback]:
        if event.id == "both":
            raise KeyError
        return compose(event, concern, recipients, words)

    monkeypatch.setattr(decisions, "compose_for", composing)
    one, two, three = (by_gp(GP_MAILBOX, reference=f"LB-{n}") for n in (1, 2, 3))
    async with a_notifier(engine, the_recipients(), delivering=False) as notifier:
        await notifier.receive(a_case_event(CaseAssigned, one, two, id="both"))
        await notifier.receive(a_case_event(CaseAssigned, two, three, id="later"))
        assert [row.reference for row in await rows(engine, FEEDBACK)] == [three.reference]
        monkeypatch.undo()
        await ask_for_everything(engine)
        await notifier.receiver.release()
    told = [(row.reference, row.caused_by, row.ordinal) for row in await rows(engine, FEEDBACK)]
    assert told == [("LB-1", "both", 1), ("LB-2", "both", 1), ("LB-2", "later", 2), ("LB-3", "later", 1)]


async def test_later_events_of_a_referral_wait_for_an_event_of_an_unknown_version(engine: AsyncEngine) -> None:
    life = as_records(a_life(by_gp(GP_MAILBOX), "life"))
    unknown = dataclasses.replace(life[0], offset=9001, headers=(("ce_type", b"uk.lightbulb.case.opened.v9"),))
    async with a_notifier(engine, the_recipients(), delivering=False) as notifier:
        await notifier.receiver.receive([unknown])
        await notifier.receiver.receive(life[1:])
        assert await rows(engine, FEEDBACK) == []
        await discard(engine, (await queries.find(engine, Filters()))[:1])
        await notifier.receiver.release()
    assert [row.feedback_type for row in await rows(engine, FEEDBACK)] == ["home-hub", "completed"]


async def test_a_discarded_event_gives_no_feedback_even_if_it_is_redelivered(
    engine: AsyncEngine, one_cannot_be_composed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = as_records(a_life(by_gp(GP_MAILBOX, reference=one_cannot_be_composed), "poor"))
    again = dataclasses.replace(life[1], offset=9001)
    async with a_notifier(engine, the_recipients(), delivering=False) as notifier:
        await notifier.receiver.receive(life[:2])
        await discard(engine, await queries.find(engine, Filters()))
        monkeypatch.undo()
        await notifier.receiver.receive([life[1], again, life[2]])
    assert [row.caused_by for row in await rows(engine, FEEDBACK)] == ["poor-3"]
    assert "poor-2" not in {row.event_id for row in await rows(engine, "select event_id from notifier.input")}


async def test_too_many_events_that_cannot_be_read_pause_the_topic_until_they_can_be(engine: AsyncEngine) -> None:
    """As after a start of an old release: nothing becomes a dead letter, and the next release sends the feedback."""
    events = [a_case_event(CaseAssigned, by_gp(GP_MAILBOX, reference=f"LB-{n:04}"), id=f"good-{n}") for n in range(120)]
    good = as_records(events)
    newer = [with_header(record, "ce_type", b"uk.lightbulb.case.assigned.v9") for record in good]
    async with a_notifier(engine, the_recipients(), delivering=False, share=0.5) as notifier:
        assert [await notifier.receiver.receive(newer) for _ in range(2)] == [{"case.event"}] * 2
        assert await rows(engine, "select id from notifier.dead_letter") == []
        assert [row.topic for row in await rows(engine, "select topic from notifier.paused_topic")] == ["case.event"]
        assert await notifier.receiver.receive(good) == set()
    assert len(await rows(engine, FEEDBACK)) == 120


async def test_data_that_postgresql_refuses_makes_a_dead_letter_of_its_event_only(engine: AsyncEngine) -> None:
    """A NUL passes JSON and pydantic, but no text of PostgreSQL can hold it."""
    nul = by_gp(GP_MAILBOX, reference="LB-NULL-NULL-\x00")
    events = [a_case_event(CaseAssigned, by_gp(GP_MAILBOX, reference=f"LB-{n:04}"), id=f"good-{n}") for n in range(7)]
    events.insert(3, a_case_event(CaseAssigned, nul, id="nul"))
    async with a_notifier(engine, the_recipients(), delivering=False) as notifier:
        await notifier.receive(*events)
    assert len(await rows(engine, FEEDBACK)) == 7
    [parked] = await rows(engine, PARKED)
    assert parked.message_group.startswith("LB-NULL-NULL-")
    assert parked.reason.startswith("sqlstate")


async def test_an_event_with_nul_in_key_reference_or_correlation_id_becomes_a_dead_letter(engine: AsyncEngine) -> None:
    """Nothing that a record holds may stop its partition."""
    [nul_key] = as_records([a_case_event(CaseAssigned, by_gp(GP_MAILBOX), id="key")])
    poor = by_gp(GP_MAILBOX, reference="LB-\x00", correlation_id="c\x00")
    records = [dataclasses.replace(nul_key, key=b"a\x00b"), *as_records([a_case_event(CaseAssigned, poor, id="poor")])]
    async with a_notifier(engine, the_recipients(), delivering=False) as notifier:
        await notifier.receiver.receive([*records, *as_records(a_life(by_gp(GP_MAILBOX), "fine"))])
    assert len(await rows(engine, PARKED)) == 2
    assert [row.feedback_type for row in await rows(engine, FEEDBACK)] == ["home-hub", "completed"]


async def test_a_database_that_refuses_for_a_moment_makes_no_dead_letter(engine: AsyncEngine) -> None:
    async with a_notifier(engine, the_recipients(), delivering=False) as notifier:
        for away in ("feedback", "dead_letter"):
            async with away_for_a_moment(engine, "notifier", away):
                with pytest.raises(DBAPIError):
                    await notifier.receive(*a_life(by_gp(GP_MAILBOX), "life"))
        await make_sessions_read_only(engine)
        with pytest.raises(DBAPIError):
            await notifier.receive(*a_life(by_gp(GP_MAILBOX), "life"))
        await notifier.receive(*a_life(by_gp(GP_MAILBOX), "life"))
    assert len(await rows(engine, FEEDBACK)) == 2
    assert await rows(engine, PARKED) == []


async def test_a_transient_fault_while_composing_makes_no_dead_letter(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> list[Feedback]:
        raise ConnectionRefusedError

    async with a_notifier(engine, the_recipients(), delivering=False) as notifier:
        with monkeypatch.context() as patched:
            patched.setattr(decisions, "compose_for", away)
            with pytest.raises(ConnectionRefusedError):
                await notifier.receive(*a_life(by_gp(GP_MAILBOX), "life"))
    assert await rows(engine, PARKED) == []
