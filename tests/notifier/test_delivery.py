"""Feedback reaches a referrer's system in order, the same bytes however often it must be tried, and every step has its time."""

import asyncio
import json
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.notifier import delivery, leases, store
from services.notifier.channels import LONGEST_PAUSE, Delivered, DeliveryRequest, Outcome, pause_before
from services.notifier.channels.fhir_endpoint import FhirEndpoint
from tests.notifier.builders import GP, GP_MAILBOX, a_life, by_first_contact_for_gp, by_gp, the_recipients
from tests.notifier.gp_system import Answer, GpSystem, outcome
from tests.notifier.running import WORDS, a_notifier, contents, feedback_events, header, rows, until, until_rows

ACCEPTED = "select * from notifier.feedback where state = 'accepted' order by ordinal"
FAILED = "select * from notifier.feedback where state = 'failed'"


async def test_the_gps_system_receives_feedback_about_an_assigned_case(engine: AsyncEngine, gp: GpSystem) -> None:
    async with a_notifier(engine, the_recipients({GP: gp.url})) as notifier:
        await notifier.receive(*a_life(by_gp(), "life"))
        accepted = await until_rows(engine, ACCEPTED, 2)
    assert gp.told == ["home-hub", "completed"]
    assert [row.feedback_type for row in accepted] == gp.told
    assert set(store.steps_of(accepted[0])) == {"composed", "first_attempt", "sent", "accepted"}
    assert [row.attempts for row in accepted] == [1, 1]
    assert await rows(engine, "select * from notifier.attempt") == []
    events = await feedback_events(engine)
    assert [header(event, "ce_type") for event in events] == ["uk.lightbulb.feedback.sent.v1"] * 2
    assert json.loads(events[0].value)["recipient"] == GP


async def test_feedback_waits_until_the_previous_one_is_accepted(engine: AsyncEngine, gp: GpSystem) -> None:
    gp.first(*[Answer(503)] * 3)
    async with a_notifier(engine, the_recipients({GP: gp.url})) as notifier:
        await notifier.receive(*a_life(by_gp(), "life"))
        await until_rows(engine, ACCEPTED, 2)
    assert gp.told == ["home-hub", "completed"]
    assert len({body for _, body in gp.received[:4]}) == 1
    assert len({headers["x-request-id"] for headers, _ in gp.received[:4]}) == 1
    attempts = await rows(engine, "select outcome, reason from notifier.attempt order by started_at")
    assert [row.outcome for row in attempts] == ["retry", "retry", "retry", "delivered"]
    assert attempts[0].reason == "http 503"


async def test_retry_after_is_honoured(engine: AsyncEngine, gp: GpSystem) -> None:
    gp.first(Answer(429, headers={"Retry-After": "2"}))
    async with a_notifier(engine, the_recipients({GP: gp.url})) as notifier:
        await notifier.receive(a_life(by_gp(), "life")[1])
        await until(lambda: len(gp.received) == 1)
        before = asyncio.get_running_loop().time()
        await until(lambda: len(gp.received) == 2)
        assert 1.9 < asyncio.get_running_loop().time() - before < 3.5


async def test_only_a_409_for_a_duplicate_is_success(engine: AsyncEngine, gp: GpSystem) -> None:
    gp.first(Answer(409, outcome("duplicate")), Answer(409, outcome("conflict")))
    async with a_notifier(engine, the_recipients({GP: gp.url})) as notifier:
        await notifier.receive(*a_life(by_gp(), "life"))
        [failed] = await until_rows(engine, FAILED, 1)
        [accepted] = await until_rows(engine, ACCEPTED, 1)
    assert (accepted.feedback_type, failed.feedback_type) == ("home-hub", "completed")
    assert failed.reason == "http 409 conflict"


async def test_a_final_failure_is_recorded_and_the_next_feedback_states_the_whole_position(
    engine: AsyncEngine, gp: GpSystem
) -> None:
    gp.first(Answer(422, outcome("invalid")))
    async with a_notifier(engine, the_recipients({GP: gp.url})) as notifier:
        await notifier.receive(*a_life(by_gp(), "life"))
        await until_rows(engine, ACCEPTED, 1)
        [failed] = await rows(engine, FAILED)
    assert failed.feedback_type == "home-hub"
    assert set(store.steps_of(failed)) == {"composed", "first_attempt", "failed"}
    note = _note(gp.received[-1][1])
    assert "An earlier message about this referral could not be delivered" in note
    assert "completed" in note
    types = [header(event, "ce_type") for event in await feedback_events(engine)]
    assert types == ["uk.lightbulb.feedback.failed.v1", "uk.lightbulb.feedback.sent.v1"]


async def test_findings_of_a_failed_feedback_are_in_the_next_one(engine: AsyncEngine, gp: GpSystem) -> None:
    """A lost home-hub message takes its reasons along into the one that restates."""
    gp.first(Answer(400, outcome("invalid")))
    async with a_notifier(engine, the_recipients({GP: gp.url})) as notifier:
        await notifier.receive(*a_life(by_gp(), "life"))
        await until_rows(engine, ACCEPTED, 1)
    assert "the home address is in its area" in gp.received[-1][1].decode()


async def test_failures_of_one_recipient_do_not_delay_another(engine: AsyncEngine, gp: GpSystem) -> None:
    """First Contact's receipt is kept at once, while the GP's system is away."""
    gp.first(*[Answer(503)] * 50)
    async with a_notifier(engine, the_recipients({GP: gp.url})) as notifier:
        await notifier.receive(*a_life(by_first_contact_for_gp(), "life"))
        kept = await until_rows(engine, "select * from notifier.feedback where recipient = 'first-contact'", 2)
    assert [row.state for row in kept] == ["kept", "kept"]


class CutOff(Exception):
    """The process is gone between the POST and the record of its answer."""


async def test_after_a_kill_between_post_and_record_the_same_bytes_are_sent_again_and_counted_once(
    engine: AsyncEngine, gp: GpSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_notifier(engine, the_recipients({GP: gp.url}), lease_seconds=1.0) as dying:

        async def killed(results: object) -> None:
            raise CutOff

        monkeypatch.setattr(dying.delivery, "_record", killed)
        await dying.receive(a_life(by_gp(), "life")[1])
        await until(lambda: len(gp.received) == 1)
        assert await rows(engine, ACCEPTED) == []
    async with a_notifier(engine, the_recipients({GP: gp.url}), lease_seconds=1.0):
        [accepted] = await until_rows(engine, ACCEPTED, 1)
    assert len(gp.received) == 2
    assert gp.received[0][1] == gp.received[1][1]
    assert len(gp.kept) == 1
    assert gp.faults == []
    assert accepted.attempts == 2
    assert [row.outcome for row in await rows(engine, "select outcome from notifier.attempt")] == ["duplicate"]


async def test_a_database_failure_while_recording_leads_to_a_duplicate_that_is_counted_once(
    engine: AsyncEngine, gp: GpSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_notifier(engine, the_recipients({GP: gp.url}), lease_seconds=0.4) as notifier:
        mark, times = notifier.delivery._mark, 0

        async def away_at_first(results: object) -> None:
            nonlocal times
            times += 1
            if times <= 4:
                raise ConnectionResetError
            await mark(results)  # type: ignore[arg-type]

        monkeypatch.setattr(notifier.delivery, "_mark", away_at_first)
        await notifier.receive(*a_life(by_gp(), "life"))
        await until_rows(engine, ACCEPTED, 2)
    assert gp.told == ["home-hub", "completed"]
    assert gp.faults == []


async def test_two_processes_deliver_every_feedback_once_and_in_order(engine: AsyncEngine, gp: GpSystem) -> None:
    recipients = the_recipients({GP: gp.url})
    async with a_notifier(engine, recipients) as one, a_notifier(engine, recipients) as two:
        for number in range(40):
            concern = by_gp(reference=f"LB-{number:04}-0000-0000")
            life = a_life(concern, f"life-{number}", person_key=f"{number:032x}")
            await (one if number % 2 else two).receive(*life)
            await (two if number % 2 else one).receive(*life)
        await until_rows(engine, ACCEPTED, 80)
    assert all(count == 1 for count in gp.times.values())
    assert len(gp.kept) == 80
    by_referral: dict[str, list[str]] = {}
    for body, told in zip(gp.kept.values(), gp.told, strict=True):
        by_referral.setdefault(_reference(body), []).append(told)
    assert all(order == ["home-hub", "completed"] for order in by_referral.values())


async def test_a_process_that_lost_its_lease_records_nothing(engine: AsyncEngine, gp: GpSystem) -> None:
    gp.first(Answer(503))
    async with a_notifier(engine, the_recipients({GP: gp.url}), delivering=False) as notifier:
        await notifier.receive(a_life(by_gp(), "life")[1])
        [claimed] = (await notifier.delivery._acquire_leases(10)).leases
        async with engine.begin() as tx:
            await tx.execute(text("update notifier.conversation set lease = gen_random_uuid()"))
        now = datetime.now(UTC)
        await notifier.delivery._mark([delivery.Attempt(claimed, Delivered(), now, now)])
    assert await rows(engine, ACCEPTED) == []
    assert await feedback_events(engine) == []


async def test_recipients_share_the_leases_of_a_round_equally_without_a_busy_one(engine: AsyncEngine) -> None:
    recipients = the_recipients({GP: "http://127.0.0.1:1", GP_MAILBOX: "http://127.0.0.1:1"})
    async with a_notifier(engine, recipients, delivering=False) as notifier:
        for number in range(5):
            await notifier.receive(
                a_life(by_gp(reference=f"LB-{number:04}-0000-0000"), f"life-{number}", f"{number:032x}")[1]
            )
    async with engine.begin() as tx:
        await tx.execute(
            text("update notifier.conversation set recipient = 'other' where person_key = :key"), {"key": f"{4:032x}"}
        )
        await tx.execute(
            text("update notifier.feedback set recipient = 'other' where person_key = :key"), {"key": f"{4:032x}"}
        )
        shared = await leases.acquire(tx, limit=4, seconds=30, lease=uuid4(), busy=[])
        rest = await leases.acquire(tx, limit=4, seconds=30, lease=uuid4(), busy=[GP])
    assert sorted(lease.conversation.recipient for lease in shared.leases) == [GP, GP, "other"]
    assert shared.more
    assert rest == leases.Acquired([], more=False)


async def test_a_slow_recipient_does_not_delay_others(
    engine: AsyncEngine, gp: GpSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "EACH", 2)
    gp.first(*[Answer(503, slow=20)] * 10)
    async with GpSystem() as other, a_notifier(engine, the_recipients({GP: gp.url, GP_MAILBOX: other.url})) as notifier:
        for number in range(6):
            concern = by_gp(reference=f"LB-{number:04}-0000-0000")
            await notifier.receive(a_life(concern, f"slow-{number}", f"{number:032x}")[1])
        await until(lambda: len(gp.received) >= 2)
        assert len(gp.received) == 2


async def test_delivery_is_retried_after_an_exception_of_the_channel(engine: AsyncEngine, gp: GpSystem) -> None:
    class Broken:
        def __init__(self) -> None:
            self.endpoint = FhirEndpoint(the_recipients({GP: gp.url}).fhir_address, WORDS.sender_details)
            self.times = 0
            self.render = self.endpoint.render

        async def deliver(self, parcel: DeliveryRequest) -> Outcome:
            self.times += 1
            if self.times == 1:
                raise KeyError("9990000018")
            return await self.endpoint.deliver(parcel)

    broken = Broken()
    async with a_notifier(engine, the_recipients({GP: gp.url}), more={"fhir": broken}) as notifier:
        await notifier.receive(a_life(by_gp(), "life")[1])
        await until_rows(engine, ACCEPTED, 1)
    [row] = await rows(engine, "select reason from notifier.attempt where outcome = 'retry'")
    assert row.reason == "raised:KeyError"
    await broken.endpoint.close()


def test_retry_delays_grow_to_five_minutes_with_jitter() -> None:
    first, late = [pause_before(2, None) for _ in range(50)], [pause_before(40, None) for _ in range(50)]
    assert max(first) <= 0.5
    assert max(late) <= LONGEST_PAUSE
    assert min(late) >= LONGEST_PAUSE / 2
    assert len(set(late)) > 10
    assert 7.0 <= pause_before(2, 7.0) < 8.0


async def test_changed_texts_do_not_change_composed_feedback(engine: AsyncEngine, gp: GpSystem) -> None:
    """Composed once: the bytes that go out are those that were kept."""
    async with a_notifier(engine, the_recipients({GP: gp.url}), delivering=False) as notifier:
        await notifier.receive(a_life(by_gp(), "life")[1])
        [kept] = await contents(engine, await rows(engine, "select * from notifier.feedback"))
        notifier.start()
        await until_rows(engine, ACCEPTED, 1)
    assert gp.received[0][1] == kept.body


def _note(body: bytes) -> str:
    return str(_resource(body, "Task")["note"][0]["text"])


def _reference(body: bytes) -> str:
    return str(_resource(body, "ServiceRequest")["identifier"][0]["value"])


def _resource(body: bytes, kind: str) -> dict[str, object]:
    entries = (entry["resource"] for entry in json.loads(body)["entry"])
    return next(resource for resource in entries if resource["resourceType"] == kind)
