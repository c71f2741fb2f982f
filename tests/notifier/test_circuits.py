"""An endpoint that fails is waited out by all processes together; what cannot be delivered for too long fails, and can be sent again."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from services.notifier import backlog, channels, circuits, leases, store
from services.notifier.channels import Retry
from services.notifier.channels.mesh import MeshUnset
from services.notifier.circuits import ALL, OPENS_AFTER, Endpoint, Sighting
from services.reference import partners
from services.runtime import database
from tests.notifier.builders import GP, GP_MESH, a_life, by_gp, the_partners, the_recipients
from tests.notifier.gp_system import Answer, GpSystem
from tests.notifier.running import Notifier, a_notifier, contents, feedback_events, header, rows, until_rows

ENDPOINT = Endpoint("fhir", GP)
ACCEPTED = "select * from notifier.feedback where state = 'accepted' order by reference, ordinal"
FAILED = "select * from notifier.feedback where state = 'failed' order by reference, ordinal"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses begin at 20 ms."""
    monkeypatch.setattr(channels, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(circuits, "FIRST_PAUSE", 0.02)


async def composed(notifier: Notifier, *numbers: int, partner: str = GP) -> None:
    """Compose the home-hub feedback of each of these referrals, of different persons."""
    for number in numbers:
        await notifier.receive(
            a_life(by_gp(partner, reference=f"LB-{number:04}"), f"life-{number}", f"{number:032x}")[1]
        )


async def seen(engine: AsyncEngine, *sightings: Sighting) -> list[circuits.Turn]:
    async with engine.begin() as tx:
        return await circuits.record(tx, sightings)


def failure(number: int, *, is_trial: bool = False, requested: float | None = None) -> Sighting:
    return Sighting(ENDPOINT, f"LB-{number:04}", is_trial, "http 503", requested)


async def acquired(engine: AsyncEngine) -> list[str]:
    """Lease what may be attempted now; return the references."""
    async with engine.begin() as tx:
        found = await leases.acquire(tx, limit=100, seconds=30, lease=uuid4(), busy=[])
    return [lease.conversation.reference for lease in found.leases]


async def run(engine: AsyncEngine, statement: str) -> None:
    async with engine.begin() as tx:
        await tx.execute(text(statement))


TRIAL_DUE = "update notifier.endpoint set next_attempt_at = now() - interval '1 second'"


# ---- the whole loop -------------------------------------------------------------------------------------------------

MISTAKES = (
    *(Answer(status) for status in (302, 404, 401, 405, 503, 403, 500)),
    Answer(200, b"<!DOCTYPE html><html>Log in</html>"),
    Answer(closes=True),
    Answer(404),
)


async def test_a_gateways_mistakes_lose_no_feedback_and_give_one_alert(
    engine: AsyncEngine, gp: GpSystem, quick: None
) -> None:
    gp.first(*MISTAKES)
    with capture_logs() as logs:
        async with a_notifier(engine, the_recipients({GP: gp.url})) as notifier:
            await composed(notifier, 1, 2, 3)
            await until_rows(engine, ACCEPTED, 3, 30)
    events = [one["event"] for one in logs]
    assert (events.count("endpoint_failing"), events.count("endpoint_recovered")) == (1, 1)
    [alert] = [one for one in logs if one["event"] == "endpoint_failing"]
    assert (alert["log_level"], alert["channel"], alert["partner"]) == ("error", "fhir", GP)
    assert await rows(engine, FAILED) == []
    assert await rows(engine, "select * from notifier.endpoint") == []
    assert gp.faults == []


async def test_a_feedback_that_its_endpoint_cannot_process_does_not_hold_up_others(
    engine: AsyncEngine, gp: GpSystem, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept = gp._accept
    monkeypatch.setattr(
        gp, "_accept", lambda at, body: web.Response(status=500) if b"LB-0001" in body else accept(at, body)
    )
    async with a_notifier(engine, the_recipients({GP: gp.url})) as notifier:
        await composed(notifier, 1)
        await until_rows(engine, "select * from notifier.endpoint where opened_at is not null", 1)
        await composed(notifier, 2, 3)
        accepted = await until_rows(engine, ACCEPTED, 2)
    assert {row.reference for row in accepted} == {"LB-0002", "LB-0003"}


async def test_a_circuit_that_one_referral_opens_in_one_batch_is_tried_at_once(engine: AsyncEngine) -> None:
    async with a_notifier(engine, the_recipients(), delivering=False) as notifier:
        await composed(notifier, 1, 2)
    assert len(await seen(engine, *[failure(1)] * OPENS_AFTER)) == 1
    assert len(await acquired(engine)) == 1


# ---- one circuit for all processes ----------------------------------------------------------------------------------


async def test_an_open_circuit_lets_one_attempt_through_in_all_processes(engine: AsyncEngine) -> None:
    async with a_notifier(engine, the_recipients(), delivering=False) as notifier:
        await composed(notifier, *range(6))
    assert [turn.reason for turn in await seen(engine, *map(failure, range(OPENS_AFTER)))] == ["http 503"]
    assert await acquired(engine) == []
    async with engine.connect() as tx:
        assert not await backlog.measure(tx)
    await run(engine, TRIAL_DUE)
    async with engine.connect() as tx:
        assert await backlog.measure(tx)
    trials = await asyncio.gather(acquired(engine), acquired(engine), acquired(engine))
    assert sorted(map(len, trials)) == [0, 0, 1]
    assert [turn.reason for turn in await seen(engine, Sighting(ENDPOINT, "LB-0000", is_trial=True))] == [None]
    assert len(await acquired(engine)) == 5


async def test_waiting_behind_an_open_circuit_counts_no_attempt(engine: AsyncEngine) -> None:
    async with a_notifier(engine, the_recipients(), delivering=False) as notifier:
        await composed(notifier, 1, 2)
    await seen(engine, *map(failure, range(OPENS_AFTER)))
    await run(engine, TRIAL_DUE)
    await acquired(engine)
    tried = await rows(engine, "select attempts from notifier.conversation order by attempts")
    assert [row.attempts for row in tried] == [0, 1]


async def test_the_pauses_of_a_circuit_grow_to_five_minutes(engine: AsyncEngine) -> None:
    await seen(engine, *map(failure, range(OPENS_AFTER)))
    pauses = []
    for number in range(12):
        await seen(engine, failure(number, is_trial=True))
        [row] = await rows(
            engine, "select extract(epoch from next_attempt_at - now()) as seconds from notifier.endpoint"
        )
        pauses.append(float(row.seconds))
    assert pauses[0] < 1.1
    assert all(later > 0.9 * earlier for earlier, later in zip(pauses[:8], pauses[2:10], strict=True))
    assert 140 < pauses[-1] <= 300


async def test_successes_between_failures_keep_a_circuit_closed(engine: AsyncEngine) -> None:
    for _ in range(OPENS_AFTER):
        assert await seen(engine, *map(failure, range(OPENS_AFTER - 1))) == []
        assert await seen(engine, failure(1), Sighting(ENDPOINT, "LB-0002", is_trial=False)) == []
    assert await rows(engine, "select * from notifier.endpoint") == []


async def test_retry_after_holds_all_feedback_to_the_endpoint(engine: AsyncEngine) -> None:
    async with a_notifier(engine, the_recipients(), delivering=False) as notifier:
        await composed(notifier, 1, 2)
        await composed(notifier, 3, partner=GP_MESH)
    assert await seen(engine, failure(1, requested=60)) == []
    assert await acquired(engine) == ["LB-0003"]
    await run(engine, TRIAL_DUE)
    assert sorted(await acquired(engine)) == ["LB-0001", "LB-0002"]


async def test_mesh_is_one_endpoint_for_all_practices(engine: AsyncEngine) -> None:
    async with a_notifier(engine, the_recipients(), delivering=False) as notifier:
        await composed(notifier, 1, 2, 3, partner=GP_MESH)
        await composed(notifier, 4)
    await run(engine, "update notifier.conversation set recipient = 'ods:' || reference where channel = 'mesh'")
    await run(engine, "update notifier.feedback set recipient = 'ods:' || reference where channel = 'mesh'")
    mesh = [Sighting(Endpoint("mesh", ALL), f"LB-{number}", False, "time-out") for number in range(OPENS_AFTER)]
    await seen(engine, *mesh)
    assert await acquired(engine) == ["LB-0004"]
    await run(engine, TRIAL_DUE)
    assert len(await acquired(engine)) == 1
    assert await acquired(engine) == []


async def test_a_retry_for_a_reason_of_one_feedback_opens_no_circuit(engine: AsyncEngine) -> None:
    async with a_notifier(engine, the_recipients(), delivering=False) as notifier:
        await composed(notifier, *range(OPENS_AFTER))
        claimed = (await notifier.delivery._acquire_leases(100)).leases
        at = datetime.now(UTC)
        retry = Retry("raised:KeyError", endpoint=False)
        await notifier.delivery._mark([leases.Attempt(lease, retry, at, at) for lease in claimed])
    assert len(claimed) == OPENS_AFTER
    assert await rows(engine, "select * from notifier.endpoint") == []


STEPS = st.lists(
    st.one_of(st.lists(st.integers(0, 3), min_size=1, max_size=4), st.sampled_from(["works", "trial due", "lease"])),
    max_size=25,
)
"""The referrals of failures that are stored together; a success; the next trial is due; three processes lease at the same time."""


def test_a_circuit_opens_and_closes_once_each_and_lets_one_attempt_at_a_time_through(database_url: str) -> None:
    with asyncio.Runner() as runner:
        engine = database.connect(database_url)

        @given(STEPS)
        @settings(max_examples=25, deadline=None)
        def every(steps: list[list[int] | str]) -> None:
            runner.run(_follow(engine, steps))

        runner.run(_compose(engine))
        every()
        runner.run(engine.dispose())


async def _compose(engine: AsyncEngine) -> None:
    async with a_notifier(engine, the_recipients(), delivering=False) as notifier:
        await composed(notifier, *range(4))


async def _follow(engine: AsyncEngine, steps: list[list[int] | str]) -> None:
    """Follow an endpoint over these steps, with its number of failures in a row as the only model."""
    failures, may_try = 0, True
    await run(engine, "delete from notifier.endpoint")
    for step in steps:
        was_open = failures >= OPENS_AFTER
        if isinstance(step, list):
            failures += len(step)
            turns = await seen(engine, *(failure(number, is_trial=was_open) for number in step))
            assert len(turns) == (failures >= OPENS_AFTER and not was_open)
            may_try = True  # at most: a pause may hold it
        elif step == "works":
            turns = await seen(engine, Sighting(ENDPOINT, "LB-0000", is_trial=was_open))
            assert [turn.reason for turn in turns] == [None] * was_open
            failures = 0
        elif step == "trial due":
            await run(engine, TRIAL_DUE)
            may_try = True
        else:
            await run(engine, "update notifier.conversation set due_at = now() - interval '1 second', lease = null")
            leased = await asyncio.gather(*(acquired(engine) for _ in range(3)))
            assert sum(map(len, leased)) <= (int(may_try) if was_open else 4)
            assert was_open or sum(map(len, leased)) == 4
            may_try = may_try and not was_open


# ---- giving up ------------------------------------------------------------------------------------------------------


LONG_DUE = "update notifier.conversation set due_since = now() - interval '8 days' where due_since is not null"
NOT_NOW = "update notifier.{table} set {column} = now() + interval '1 minute' where {column} is not null"


async def test_feedback_that_cannot_be_delivered_fails_after_its_time_and_the_next_restates(
    engine: AsyncEngine, gp: GpSystem
) -> None:
    gp.first(Answer(404))
    async with a_notifier(engine, the_recipients({GP: gp.url})) as notifier:
        await notifier.receive(*a_life(by_gp(reference="LB-0001"), "life"))
        await until_rows(engine, "select * from notifier.attempt", 1)
    async with a_notifier(engine, the_recipients({GP: gp.url}), delivering=False) as notifier:
        assert await notifier.delivery._give_up() == 0
        await run(engine, LONG_DUE)
        await run(engine, NOT_NOW.format(table="conversation", column="due_at"))
        assert await notifier.delivery._give_up() == 1
        [failed] = await rows(engine, FAILED)
        notifier.start()
        [accepted] = await until_rows(engine, ACCEPTED, 1)
    assert (failed.feedback_type, failed.reason, failed.attempts) == ("home-hub", "gave up: http 404", 1)
    assert set(store.steps_of(failed)) == {"composed", "first_attempt", "failed"}
    assert accepted.feedback_type == "completed"
    assert b"An earlier message about this referral could not be delivered" in gp.received[-1][1]
    types = [header(event, "ce_type") for event in await feedback_events(engine)]
    assert types == ["uk.lightbulb.feedback.failed.v1", "uk.lightbulb.feedback.sent.v1"]


async def test_feedback_that_waits_behind_an_open_circuit_fails_after_its_time_too(engine: AsyncEngine) -> None:
    async with a_notifier(engine, the_recipients(), delivering=False) as notifier:
        await composed(notifier, *range(20))
        await seen(engine, *map(failure, range(OPENS_AFTER)))
        await run(engine, LONG_DUE)
        await run(engine, NOT_NOW.format(table="endpoint", column="next_attempt_at"))
        assert len(await given_up(engine, 8)) == 8
        assert await notifier.delivery._give_up() == 12
    assert {row.reason for row in await rows(engine, FAILED)} == {"gave up: http 503"}
    assert await rows(engine, "select * from notifier.conversation where due_since is not null") == []


async def test_feedback_that_nobody_attempted_for_that_time_is_attempted_first(
    engine: AsyncEngine, gp: GpSystem
) -> None:
    async with a_notifier(engine, the_recipients({GP: gp.url}), delivering=False) as notifier:
        await composed(notifier, 1, 2)
        await run(engine, LONG_DUE)
        assert await notifier.delivery._give_up() == 0
        notifier.start()
        await until_rows(engine, ACCEPTED, 2)


async def test_feedback_that_is_being_attempted_is_not_given_up(engine: AsyncEngine) -> None:
    async with a_notifier(engine, the_recipients(), delivering=False) as notifier:
        await composed(notifier, 1)
        assert await acquired(engine) == ["LB-0001"]
        await run(engine, LONG_DUE)
        assert await notifier.delivery._give_up() == 0


async def given_up(engine: AsyncEngine, limit: int) -> Sequence[leases.GivenUp]:
    async with engine.begin() as tx:
        return await leases.give_up(tx, seconds=604_800, limit=limit)


# ---- partners without address or settings ---------------------------------------------------------------------------


def test_partners_whose_channel_has_no_address_or_settings_are_named_and_keep_it() -> None:
    named = [(one.partner, one.channel, one.reason) for one in partners.unaddressed(the_partners({}), mesh=False)]
    assert named == [(GP, "fhir", "no-address"), (GP_MESH, "mesh", "no-settings")]
    assert partners.unaddressed(the_partners(), mesh=True) == []
    without = the_recipients({}, mesh=False)
    channels_of = [one.recipient.channel for name in (GP, GP_MESH) if (one := without.partner(name))]
    assert channels_of == ["fhir", "mesh"]


async def test_feedback_waits_for_an_address_and_for_settings_and_is_never_kept_instead(
    engine: AsyncEngine, gp: GpSystem
) -> None:
    async with a_notifier(engine, the_recipients({}, mesh=False), more={"mesh": MeshUnset()}) as notifier:
        await composed(notifier, 1)
        await composed(notifier, 2, partner=GP_MESH)
        await until_rows(engine, "select * from notifier.attempt", 2)
    reasons = await rows(engine, "select channel, reason from notifier.conversation order by channel")
    assert [tuple(row) for row in reasons] == [("fhir", "no-address"), ("mesh", "no-settings")]
    await unaddressed(engine, the_partners({}), mesh=False)
    listed = await rows(engine, "select partner, channel, reason from notifier.unaddressed order by partner")
    assert [tuple(row) for row in listed] == [(GP, "fhir", "no-address"), (GP_MESH, "mesh", "no-settings")]

    await unaddressed(engine, the_partners({GP: gp.url}), mesh=True)
    assert await rows(engine, "select * from notifier.unaddressed") == []
    await run(engine, "update notifier.conversation set due_at = now() where due_at is not null")
    async with a_notifier(engine, the_recipients({GP: gp.url})):
        accepted = await until_rows(engine, ACCEPTED, 2)
    assert [row.channel for row in accepted] == ["fhir", "mesh"]
    assert all(len(one.body) > 100 for one in await contents(engine, accepted))


async def unaddressed(engine: AsyncEngine, known: partners.Partners, *, mesh: bool) -> None:
    async with engine.begin() as tx:
        await circuits.replace_unaddressed(tx, partners.unaddressed(known, mesh=mesh))


async def test_feedback_that_was_told_before_a_restore_is_passed_over_and_the_next_goes_on(
    engine: AsyncEngine, gp: GpSystem
) -> None:
    async with a_notifier(engine, the_recipients({GP: gp.url}), delivering=False) as notifier:
        await notifier.receive(*a_life(by_gp(reference="LB-0001"), "life"))
        [first, _] = await rows(engine, "select person_key, feedback_id from notifier.feedback order by ordinal")
        async with engine.begin() as tx:
            told = "insert into notifier.known_outcome select person_key, feedback_id, 'accepted', null, now() from notifier.feedback"
            await tx.execute(text(f"{told} where ordinal = 1"))
            assert await store.apply_known_outcomes(tx, [(first.person_key, str(first.feedback_id))]) == 1
        notifier.start()
        await until_rows(engine, ACCEPTED, 2)
    assert gp.told == ["completed"]
    [conversation] = await rows(engine, "select next, due_at, due_since, resend from notifier.conversation")
    assert tuple(conversation) == (3, None, None, None)
