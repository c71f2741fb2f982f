"""The router's dead letters are resubmitted on request, in order and once, by any process; a transient fault makes none."""

import asyncio
import dataclasses
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.operations import queries
from infra.operations.queries import Filters
from schemas.case import EndReason
from schemas.events import Accept, Cancel, Hold
from schemas.model import CaseId
from schemas.referral import Consent, Consents
from services.messaging import dead_letters
from services.messaging.cloudevents import KafkaRecord
from services.messaging.dead_letters import DeadLetter, encode_headers
from services.router import consumer, loading, store
from services.router.consumer import Batches
from services.router.decide import lifecycle
from services.router.decide.model import NotLoaded
from tests.builders.events import KEY, NOW, a_command, a_record, broken, cancelled, received, updated
from tests.builders.reference_data import DIRECTORY
from tests.builders.referrals import GP, WARD, a_form, a_referral, keys, reference
from tests.faulty_database import away_for_a_moment, make_sessions_read_only
from tests.operations.operator_actions import discard
from tests.router.stored import applied, apply, case_id, events, rows, sent

PARKED = 'select message_group, waiting, resolution, attempts from router.dead_letter order by "offset"'


async def ask(engine: AsyncEngine, where: str = "not waiting") -> None:
    async with engine.begin() as tx:
        await tx.execute(
            text(f"update router.dead_letter set resubmit_at = now() where {where} and resolved_at is null")
        )


async def edit(engine: AsyncEngine, record: KafkaRecord) -> None:
    async with engine.begin() as tx:
        await tx.execute(
            text("""insert into router.dead_letter_edit (person_key, dead_letter_id, headers, value, operator, reason)
                    select person_key, id, headers, :value, 'w', 'y' from router.dead_letter where not waiting"""),
            {"value": record.value},
        )


async def release(engine: AsyncEngine) -> int:
    return await Batches(engine, DIRECTORY, clock=lambda: NOW).release()


async def test_an_edited_record_is_applied_first_and_waiting_records_follow_in_order(engine: AsyncEngine) -> None:
    good = a_record(received(GP, a_referral()), id="the-same")
    await apply(engine, broken(good, b'{"reference": "LB-GP00-0000-0001", "version": "one"}'))
    await apply(engine, a_record(updated(GP, a_form())), a_record(cancelled(GP, version=3)))
    await edit(engine, good)
    await ask(engine)
    assert await release(engine) == 3

    assert await events(engine) == ["opened", "updated", "cancelled"]
    assert await rows(engine, PARKED) == [(GP, False, "applied", 2), (GP, True, "applied", 2), (GP, True, "applied", 2)]
    assert (await applied(engine))[0][1] == good.value


async def test_a_new_record_waits_while_an_earlier_one_is_to_be_resubmitted(engine: AsyncEngine) -> None:
    await apply(engine, a_record(cancelled(GP)))
    await ask(engine)
    await apply(engine, a_record(received(GP, a_referral())))

    assert await rows(engine, "select count(*) from router.referral") == [(0,)]


async def test_a_resubmitted_record_that_fails_again_remains_a_dead_letter_and_the_others_wait(
    engine: AsyncEngine,
) -> None:
    await apply(engine, a_record(cancelled(GP)), a_record(updated(GP, a_referral())))
    await ask(engine)

    assert [await release(engine) for _ in range(2)] == [1, 0]
    assert await rows(engine, PARKED) == [(GP, False, None, 2), (GP, True, None, 1)]


async def test_after_a_discard_waiting_records_are_applied_and_the_discarded_one_is_not(engine: AsyncEngine) -> None:
    doomed = a_record(cancelled(GP), id="doomed")
    await apply(engine, doomed, a_record(received(GP, a_referral())))
    await discard(engine, (await queries.find(engine, Filters()))[:1])
    await release(engine)
    await apply(engine, doomed, dataclasses.replace(doomed, offset=doomed.offset + 100_000))

    assert await events(engine) == ["opened"]


async def test_two_processes_apply_every_resubmitted_record_once(engine: AsyncEngine) -> None:
    people = keys(30)
    unknown = [of_type(record, b"no.such.type") for record in _received(people)]
    await apply(engine, *unknown, *(a_record(updated(reference(n), a_form()), key=k) for n, k in enumerate(people)))
    async with engine.begin() as tx:
        for row in await tx.execute(text("select id, person_key from router.dead_letter where not waiting")):
            original = next(r for r in _received(people) if r.key == row.person_key.encode())
            await tx.execute(
                text("""insert into router.dead_letter_edit (person_key, dead_letter_id, headers, value, operator, reason)
                        values (:key, :id, :headers, :value, 'w', 'y')"""),
                {"key": row.person_key, "id": row.id, "headers": _kept(original), "value": original.value},
            )
    await ask(engine)
    assert await rows(engine, "select count(*) from router.dead_letter") == [(60,)]
    await asyncio.gather(*(release(engine) for _ in range(3)))

    assert await rows(engine, "select count(*) from router.dead_letter where resolved_at is null") == [(0,)]
    assert await rows(engine, "select type, count(*) from router.input group by 1 order by 1") == [
        ("uk.lightbulb.referral.received.v1", 30),
        ("uk.lightbulb.referral.updated.v1", 30),
    ]
    assert await rows(engine, "select distinct last_sequence from router.person_key") == [(2,)]


def of_type(record: KafkaRecord, kind: bytes) -> KafkaRecord:
    headers = tuple((name, kind if name == "ce_type" else value) for name, value in record.headers)
    return dataclasses.replace(record, headers=headers)


def _received(people: Any) -> list[KafkaRecord]:
    return [a_record(received(reference(n), a_referral()), id=f"in-{n}", key=key) for n, key in enumerate(people)]


def _kept(record: KafkaRecord) -> str:
    return encode_headers(record.headers)


async def test_a_resubmitted_record_that_only_its_transaction_refuses_fails_alone(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = keys(4)
    await apply(engine, *(a_record(cancelled(reference(n)), key=key) for n, key in enumerate(people)))
    write = store.write

    async def refusing(tx: Any, changed: Any, now: Any, triage: str) -> None:
        await write(tx, changed, now, triage)
        if any(key == people[2] for key, _, _ in changed.cases):
            await tx.execute(text("select 1/0"))

    monkeypatch.setattr(store, "write", refusing)
    async with engine.begin() as tx:
        for n, key in enumerate(people):
            good = a_record(received(reference(n), a_referral()), key=key)
            await tx.execute(
                text("""insert into router.dead_letter_edit (person_key, dead_letter_id, headers, value, operator, reason)
                        select person_key, id, :headers, :value, 'w', 'y' from router.dead_letter where person_key = :key"""),
                {"key": key, "headers": _kept(good), "value": good.value},
            )
    await ask(engine)
    await release(engine)

    found = await rows(engine, "select person_key, reason from router.dead_letter where resolved_at is null")
    assert found == [(people[2], "sqlstate 22012")]
    assert await rows(engine, "select count(*) from router.referral") == [(3,)]


async def test_a_resubmit_that_is_killed_has_no_effect_and_the_next_process_completes_it(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _one_that_can_go(engine)
    with monkeypatch.context() as patched:

        async def dies(*_: Any) -> None:
            raise asyncio.CancelledError

        patched.setattr(store, "append_history", dies)
        with pytest.raises(asyncio.CancelledError):
            await release(engine)
    assert await events(engine) == []
    await release(engine)
    assert await events(engine) == ["opened"]


async def test_a_transient_fault_during_a_resubmit_changes_nothing(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _one_that_can_go(engine)
    before = await rows(engine, "select * from router.dead_letter")
    with monkeypatch.context() as patched:
        patched.setattr(store, "append_history", _serialization_failure)
        with pytest.raises(DBAPIError):
            await release(engine)
    assert await rows(engine, "select * from router.dead_letter") == before


async def _serialization_failure(tx: Any, *_: Any) -> None:
    await tx.execute(text("do $$ begin raise sqlstate '40001'; end $$"))


async def _one_that_can_go(engine: AsyncEngine) -> None:
    good = a_record(received(GP, a_referral()))
    await apply(engine, broken(good, b"{}"))
    await edit(engine, good)
    await ask(engine)


async def test_a_transient_fault_never_makes_a_dead_letter(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in the transaction, not in a decision, and not while a table is away or the sessions are read-only."""
    for away in ("referral", "packet", "dead_letter"):
        async with away_for_a_moment(engine, "router", away):
            with pytest.raises(DBAPIError):
                await apply(engine, a_record(received(GP, a_referral())))
    await make_sessions_read_only(engine)
    with pytest.raises(DBAPIError):
        await apply(engine, broken(a_record(received(GP, a_referral())), b"{}"))
    with monkeypatch.context() as patched:
        patched.setattr(store, "append_history", _serialization_failure)
        with pytest.raises(DBAPIError):
            await apply(engine, a_record(received(GP, a_referral())))
    with monkeypatch.context() as patched:
        patched.setattr(lifecycle, "apply", _out_of_memory)
        with pytest.raises(MemoryError):
            await apply(engine, a_record(received(GP, a_referral())))
    assert await rows(engine, "select count(*) from router.dead_letter") == [(0,)]


async def test_data_that_make_a_decision_read_in_vain_are_held_against_their_record_only(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error ends the transaction, in which no dead letter can be stored."""

    async def refused(tx: Any, *_: Any) -> None:
        await tx.execute(text("select 1/0"))

    def decides(state: Any, one: Any, context: Any) -> Any:
        if one.record.key == people[1].encode():
            raise NotLoaded(CaseId("any"))
        return decide(state, one, context)

    people, decide = keys(3), consumer._decision
    monkeypatch.setattr(consumer, "_decision", decides)
    monkeypatch.setattr(loading, "load_open", refused)
    await apply(engine, *_received(people))
    assert await rows(engine, "select person_key, reason from router.dead_letter") == [(people[1], "sqlstate 22012")]
    assert await rows(engine, "select count(*) from router.referral") == [(2,)]


def _out_of_memory(*_: Any) -> None:
    raise MemoryError


async def test_an_event_of_an_unknown_version_and_the_referrals_later_events_become_dead_letters(
    engine: AsyncEngine,
) -> None:
    unknown = of_type(a_record(received(GP, a_referral())), b"uk.lightbulb.referral.received.v9")
    await apply(engine, unknown, a_record(updated(GP, a_referral())), a_record(received(WARD, a_form())))

    parked = await rows(engine, "select topic, partition, message_group, waiting from router.dead_letter order by id")
    assert parked == [("referral.event", 0, GP, False), ("referral.event", 0, GP, True)]
    assert await rows(engine, "select reference from router.referral") == [(WARD,)]


async def test_a_command_that_fails_by_a_fault_of_ours_stops_its_hubs_commands_on_that_case_only(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await apply(engine, a_record(received(GP, a_referral())))
    case = await case_id(engine)
    with monkeypatch.context() as patched:
        patched.setattr(lifecycle, "decide", _fails)
        await apply(
            engine, a_command("blaby", Accept, case, expected_version=2), a_command("hospital-housing", Accept, case)
        )
    await apply(
        engine,
        a_command("blaby", Hold, case, reason="other", expected_version=2),
        a_record(received(WARD, a_form())),
    )
    assert await rows(engine, "select topic, message_group, waiting from router.dead_letter order by id") == [
        ("hub.blaby.command", f"hub.blaby.command/{case}", False),
        ("hub.hospital-housing.command", f"hub.hospital-housing.command/{case}", False),
        ("hub.blaby.command", f"hub.blaby.command/{case}", True),
    ]
    await ask(engine, "topic = 'hub.blaby.command' and not waiting")
    await release(engine)

    assert await events(engine) == ["opened", "joined", "assigned", "accepted", "held"]
    await ask(engine)
    await release(engine)
    assert await rows(engine, "select count(*) from router.dead_letter where resolved_at is null") == [(0,)]


def _fails(*_: Any) -> None:
    raise ZeroDivisionError


NO_CONSENT = Consents(referral=Consent(answer="no"))
WITHDRAWALS = {
    "cancel": cancelled(GP, version=4, reason=EndReason.CONSENT_WITHDRAWN),
    "update": updated(GP, a_referral(consents=NO_CONSENT), version=4),
}


@pytest.mark.parametrize("withdrawal", WITHDRAWALS.values(), ids=WITHDRAWALS)
@pytest.mark.parametrize("in_one_batch", [True, False])
async def test_a_withdrawal_of_consent_waits_behind_nothing_and_what_is_resubmitted_later_changes_nothing(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch, withdrawal: Any, in_one_batch: bool
) -> None:
    parked = a_record(updated(GP, a_form()))
    records = [a_record(received(GP, a_referral())), broken(parked, b'{"reference": "LB-GP00-0000-0001"}')]
    records += [a_record(updated(GP, a_form(), version=3)), a_record(withdrawal)]
    for batch in [records] if in_one_batch else [[record] for record in records]:
        await apply(engine, *batch)
    assert await events(engine) == ["opened", "cancelled"]
    assert await rows(engine, PARKED) == [(GP, False, None, 1), (GP, True, None, 1)]
    await edit(engine, parked)
    await ask(engine)
    await release(engine)

    assert await events(engine) == ["opened", "cancelled"]
    assert await rows(engine, "select count(*) from router.dead_letter where resolved_at is null") == [(0,)]
    assert await rows(engine, "select status from router.referral") == [("cancelled",)]


async def test_a_withdrawal_of_consent_overtakes_a_message_whose_decision_fails_and_waits_for_an_unknown_referral(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    unread = broken(a_record(received(GP, a_referral())), b'{"reference": "LB-GP00-0000-0001"}')
    await apply(engine, unread, a_record(WITHDRAWALS["cancel"]))
    assert await rows(engine, PARKED) == [(GP, False, None, 1), (GP, True, None, 1)]

    other = keys(1)[0]
    await apply(engine, a_record(received(WARD, a_referral()), key=other))
    decide = lifecycle.apply
    monkeypatch.setattr(
        lifecycle, "apply", lambda state, data, *rest: decide(state, data, *rest) if data.version != 2 else 1 / 0
    )
    end = cancelled(WARD, version=3, reason=EndReason.CONSENT_WITHDRAWN)
    await apply(engine, a_record(updated(WARD, a_form()), key=other), a_record(end, key=other))
    assert await events(engine, other) == ["opened", "cancelled"]


async def test_an_update_without_consent_overtakes_the_first_message_of_its_referral_and_no_hub_receives_it(
    engine: AsyncEngine,
) -> None:
    first = a_record(received(GP, a_referral()))
    await apply(engine, broken(first, b'{"reference": "LB-GP00-0000-0001"}'), a_record(WITHDRAWALS["update"]))
    assert await events(engine) == ["opened", "cancelled"]
    await edit(engine, first)
    await ask(engine)
    await release(engine)

    assert await events(engine) == ["opened", "cancelled"]
    assert await rows(engine, "select count(*) from router.dead_letter where resolved_at is null") == [(0,)]
    assert {message.target for message in await sent(engine)} == {"case.event"}


async def test_a_hubs_cancel_for_withdrawn_consent_waits_behind_nothing(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await apply(engine, a_record(received(GP, a_referral())))
    case = await case_id(engine)
    with monkeypatch.context() as patched:
        patched.setattr(lifecycle, "decide", _fails)
        await apply(engine, a_command("blaby", Accept, case))
    ended = [{"reference": GP, "needs": ["minor-adaptations"]}]
    await apply(engine, a_command("blaby", Cancel, case, ended=ended, reason=EndReason.CONSENT_WITHDRAWN))

    assert await events(engine) == ["opened", "cancelled"]


async def test_a_flood_of_one_hub_pauses_its_topic_and_nothing_else(engine: AsyncEngine) -> None:
    router = Batches(engine, DIRECTORY, clock=lambda: NOW, share=0.5)
    await router.receive([a_record(received(GP, a_referral()))])
    flood = [
        dataclasses.replace(broken(a_command("melton", Accept, "a-case"), b"%d" % number), key=None)
        for number in range(200)
    ]
    accept = a_command("blaby", Accept, await case_id(engine))
    paused = await router.receive([*flood, accept, a_record(updated(GP, a_form()))])

    assert paused == {"hub.melton.command"}
    assert await events(engine) == ["opened", "accepted", "updated"]
    assert await rows(engine, "select count(*) from router.dead_letter") == [(0,)]
    assert await rows(engine, "select topic from router.paused_topic where until > now()") == [("hub.melton.command",)]


async def test_a_release_that_fails_on_every_referral_stores_no_dead_letters_and_the_next_one_applies_them(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await apply(engine, a_record(received(GP, a_referral())))
    people = keys(120)
    batch = [a_record(received(reference(n), a_referral()), key=key) for n, key in enumerate(people)]
    batch.append(a_command("blaby", Accept, await case_id(engine)))
    with monkeypatch.context() as patched:
        patched.setattr(lifecycle, "apply", _fails)
        patched.setattr(consumer, "DECISION_SECONDS", 600.0)  # on a slow machine too, the batch is one transaction
        router = Batches(engine, DIRECTORY, clock=lambda: NOW, share=0.5)
        assert [await router.receive(batch) for _ in range(2)] == [{"referral.event"}] * 2
        assert await rows(engine, "select count(*) from router.dead_letter") == [(0,)]
        assert await events(engine) == ["opened", "accepted"]

    assert await router.receive(batch) == set()
    assert await rows(engine, "select count(*) from router.referral") == [(121,)]


async def test_a_dead_letter_that_is_decoded_differently_than_before_waits_in_its_new_group(
    engine: AsyncEngine,
) -> None:
    """A newer release may decode what an older one could not: the referral's earlier record is still a dead letter."""
    await apply(engine, a_record(cancelled(GP)))
    later = a_record(received(GP, a_referral()))
    async with engine.begin() as tx:
        await dead_letters.add(tx, "router", [DeadLetter(later, KEY, ("another group",), "ce_type: unknown then")])
    await ask(engine, "message_group = 'another group'")

    assert [await release(engine) for _ in range(2)] == [1, 0]
    assert await rows(engine, PARKED) == [(GP, False, None, 1), (GP, True, None, 2)]


async def test_dead_letters_keep_the_order_of_their_records_for_every_reason(engine: AsyncEngine) -> None:
    """A decision fails later than decoding: the table still keeps the order of the topic."""
    records = [
        a_record(cancelled(GP)),
        broken(a_record(updated(GP, a_referral())), b'{"reference": "LB-GP00-0000-0001"}'),
        a_record(updated(GP, a_referral(), version=3)),
    ]
    await apply(engine, *records)

    found = await rows(engine, 'select "offset" from router.dead_letter order by id')
    assert [offset for (offset,) in found] == [record.offset for record in records]


async def test_a_record_with_a_null_header_becomes_a_dead_letter(engine: AsyncEngine) -> None:
    known = a_record(received(GP, a_referral()))
    await apply(engine, dataclasses.replace(known, headers=(("ce_type", None),)))  # type: ignore[arg-type]

    assert await rows(engine, "select person_key from router.dead_letter") == [(KEY,)]
