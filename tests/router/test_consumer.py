"""Batches on real PostgreSQL: applied once, numbered without gap; a poison record becomes a dead letter and the rest is applied."""

import asyncio
import contextlib

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from schemas.events import Accept, Book, ConfirmDeath, ReferralCancellationNotApplied, ReportDeath
from schemas.model import Reference
from schemas.referral import DeathReport, VerificationStatus
from schemas.topics import CASE_EVENT
from services.messaging.cloudevents import KafkaRecord
from services.router import store
from services.router.store import ConcurrentInsert
from services.runtime import database
from tests.builders.events import KEY, NOW, a_command, a_record, broken, cancelled, received, updated
from tests.builders.referrals import (
    FORM,
    GP,
    WARD,
    a_bradgate_referral,
    a_form,
    a_huge_referral,
    a_person,
    a_referral,
    a_ward_referral,
    keys,
    reference,
)
from tests.router.stored import apply, case_id, events, header, history, rows, sent

PARKED_COUNT = "select count(*) from router.dead_letter"


async def test_a_referral_opens_a_case_and_its_hub_gets_an_event(engine: AsyncEngine) -> None:
    await apply(engine, a_record(received(GP, a_referral())))

    assert await rows(engine, 'select status, home_hub, holder, district from router."case"') == [
        ("requested", "blaby", "blaby", "E07000129")
    ]
    assert [message.target for message in await sent(engine)] == ["case.event", "hub.blaby.case"]


async def test_a_command_is_applied_to_the_stored_case(engine: AsyncEngine) -> None:
    await apply(engine, a_record(received(GP, a_referral())))
    await apply(engine, a_command("blaby", Accept, await case_id(engine)))

    assert await rows(engine, "select status from router.referral") == [("accepted",)]
    assert await events(engine) == ["opened", "accepted"]


async def test_a_stay_at_the_restricted_unit_without_a_home_hub_can_be_accepted(engine: AsyncEngine) -> None:
    """Its case has no home hub, not even triage. `make chaos` found that such a case could be kept and not be read again."""
    failed = a_person(nhs_number=None, nhs_number_status=VerificationStatus.FAILED_CHECK)
    await apply(engine, a_record(received(WARD, a_bradgate_referral(person=failed))))
    await apply(engine, a_command("hospital-housing-bradgate", Accept, await case_id(engine)))

    assert await rows(engine, 'select home_hub, holder, status from router."case"') == [
        (None, "hospital-housing-bradgate", "accepted")
    ]
    assert await rows(engine, "select count(*) from router.dead_letter") == [(0,)]


async def test_a_hub_that_follows_on_gets_a_hold_in_its_own_conversation_and_no_district_of_a_restricted_person(
    engine: AsyncEngine,
) -> None:
    person = a_person(restricted_access=True)
    at_home = a_record(received(GP, a_referral(person=person)))
    on_ward = a_record(received(WARD, a_ward_referral(person=person)))
    dead = a_record(updated(WARD, a_ward_referral(person=a_person(death_reported=DeathReport()))))
    await apply(engine, at_home, on_ward, dead)

    held = [
        (one.target, header(one, "ce_correlationid"), header(one, "ce_district"))
        for one in await sent(engine, kind="contact-held")
    ]
    own, reported = (dict(record.headers)["ce_correlationid"].decode() for record in (at_home, dead))
    assert held == [
        ("case.event", reported, "E07000129"),
        ("hub.blaby.case", own, ""),
        ("hub.hospital-housing.case", own, "E07000129"),
    ]


async def test_a_death_is_reported_and_confirmed_by_commands(engine: AsyncEngine) -> None:
    await apply(engine, a_record(received(GP, a_referral())))
    for command in (ReportDeath, Book, ConfirmDeath):
        data = {"visit_at": NOW} if command is Book else {}
        await apply(engine, a_command("blaby", command, await case_id(engine), **data))

    assert await events(engine) == ["opened", "contact-held", "task-raised", "cancelled"]
    assert len(await sent(engine, kind="command-refused")) == 1


async def test_a_cancel_that_reports_a_death_holds_the_open_referral_and_the_next_one(engine: AsyncEngine) -> None:
    await apply(engine, a_record(received(GP, a_referral())), a_record(received(WARD, a_ward_referral())))
    await apply(engine, a_record(cancelled(WARD, death_reported=DeathReport())))
    assert (await events(engine))[-4:] == ["cancelled", "assigned", "contact-held", "task-raised"]
    await apply(engine, a_record(cancelled(GP)), a_record(received(FORM, a_form())))
    assert (await events(engine))[-3:] == ["cancelled", "opened", "task-raised"]


async def test_a_cancellation_that_is_not_applied_waits_for_its_referral_and_becomes_a_task(
    engine: AsyncEngine,
) -> None:
    data = {"reference": GP, "version": 2}
    await apply(engine, a_record(ReferralCancellationNotApplied.model_validate(data)))
    assert await rows(engine, PARKED_COUNT) == [(1,)]

    await apply(engine, a_record(received(WARD, a_ward_referral())))
    await apply(engine, a_record(ReferralCancellationNotApplied.model_validate(data | {"reference": WARD})))
    assert (await events(engine))[-1] == "task-raised"
    assert await rows(engine, 'select "references" from router.case_event order by sequence desc limit 1') == [
        ([WARD],)
    ]


async def test_a_duplicate_is_dropped_and_gets_no_sequence_number(engine: AsyncEngine) -> None:
    record = a_record(received(GP, a_referral()))
    await apply(engine, record, record)
    await apply(engine, record)
    await apply(engine, a_record(received(WARD, a_ward_referral())))

    sequences = await rows(engine, "select sequence from router.case_event order by sequence")
    assert [number for (number,) in sequences] == [1, 2, 3]
    assert await rows(engine, "select last_sequence from router.person_key") == [(3,)]


async def test_the_same_batch_twice_changes_nothing(engine: AsyncEngine) -> None:
    batch = [
        a_record(received(reference(number), a_referral()), key=key) for number, key in enumerate(keys(20), start=1)
    ]
    await apply(engine, *batch)
    before = await rows(engine, "select person_key, sequence, id from router.case_event order by 1, 2")
    await apply(engine, *batch)

    assert await rows(engine, "select person_key, sequence, id from router.case_event order by 1, 2") == before


async def test_the_same_command_id_from_two_hubs_is_two_commands(engine: AsyncEngine) -> None:
    await apply(engine, a_record(received(GP, a_referral())), a_record(received(WARD, a_ward_referral())))
    case = await case_id(engine)
    await apply(engine, a_command("blaby", Accept, case, id="7"), a_command("hospital-housing", Accept, case, id="7"))

    assert await events(engine) == ["opened", "joined", "assigned", "accepted"]
    assert len(await sent(engine, kind="command-refused")) == 1


async def test_a_refusal_gets_no_sequence_number_and_is_sent_only_to_the_commanding_hub(engine: AsyncEngine) -> None:
    await apply(engine, a_record(received(GP, a_referral())))
    await apply(engine, a_command("charnwood", Accept, await case_id(engine)))

    (refused,) = await sent(engine, kind="command-refused")
    assert refused.target == "hub.charnwood.case"
    assert header(refused, "ce_sequence") == ""
    assert await rows(engine, "select last_sequence from router.person_key") == [(1,)]


async def test_two_routers_with_the_same_keys_apply_every_record_once(engine: AsyncEngine) -> None:
    people = keys(30)
    first = [a_record(received(reference(n), a_referral()), key=key) for n, key in enumerate(people)]
    second = [a_record(received(reference(n + 100), a_form()), key=key) for n, key in enumerate(people)]
    batches = [first + second, list(reversed(second)) + first, second, first]
    await asyncio.gather(*(apply_despite_lost_races(engine, batch) for batch in batches))

    assert await rows(engine, "select count(*), count(distinct person_key) from router.referral") == [(60, 30)]
    assert await rows(engine, 'select count(*) from router."case"') == [(30,)]
    gaps = await rows(
        engine,
        """select person_key from router.case_event join router.person_key using (person_key)
           group by person_key, last_sequence
           having count(*) <> max(sequence) or min(sequence) <> 1 or last_sequence <> max(sequence)""",
    )
    assert gaps == []


async def apply_despite_lost_races(engine: AsyncEngine, batch: list[KafkaRecord]) -> None:
    """Apply a batch again, as the consumer does, if another router has meanwhile inserted a person key that was new to it."""
    for _ in range(10):
        with contextlib.suppress(ConcurrentInsert):
            await apply(engine, *batch)
            return
    raise AssertionError


async def test_a_router_that_waits_for_a_new_person_key_begins_again_and_makes_no_dead_letter(
    engine: AsyncEngine,
) -> None:
    first, second = a_record(received(GP, a_referral())), a_record(received(FORM, a_form()))
    async with engine.begin() as tx:
        await store.save_keys(tx, await store.lock(tx, [KEY]), [KEY])
        waiting = asyncio.create_task(apply(engine, first, second))
        await until_waiting(engine)
    with pytest.raises(ConcurrentInsert):
        await waiting
    assert database.is_transient(waiting.exception() or AssertionError())
    assert await rows(engine, f"select ({PARKED_COUNT}), count(*) from router.input") == [(0, 0)]

    await apply(engine, first, second)
    assert await rows(engine, f"select ({PARKED_COUNT}), count(*) from router.input") == [(0, 2)]


async def until_waiting(engine: AsyncEngine) -> None:
    """Return once a transaction waits for another."""
    async with asyncio.timeout(60):
        while await rows(engine, "select count(*) from pg_locks where not granted") == [(0,)]:
            await asyncio.sleep(0.01)


async def test_an_undecodable_record_becomes_a_dead_letter_and_the_rest_is_applied(engine: AsyncEngine) -> None:
    good, other = keys(2)
    await apply(
        engine,
        a_record(received(reference(1), a_referral()), key=good),
        broken(a_record(received(reference(2), a_referral()), key=other), b"\xff no json"),
        a_record(received(reference(3), a_form()), key=good),
    )

    assert await events(engine, good) == ["opened", "joined", "assigned"]
    assert await rows(engine, "select person_key, waiting from router.dead_letter") == [(other, False)]


async def test_later_messages_of_a_dead_lettered_referral_wait_and_the_persons_other_referrals_do_not(
    engine: AsyncEngine,
) -> None:
    poisoned = broken(a_record(received(GP, a_referral())), b'{"reference": "LB-GP00-0000-0001", "version": "one"}')
    await apply(engine, poisoned, a_record(updated(GP, a_referral())), a_record(received(WARD, a_ward_referral())))
    await apply(engine, a_record(updated(GP, a_referral(), version=3)))

    assert await rows(engine, "select reference from router.referral") == [(WARD,)]
    parked = await rows(engine, 'select message_group, waiting from router.dead_letter order by "offset"')
    assert parked == [(GP, False), (GP, True), (GP, True)]
    assert await rows(engine, "select count(*) from router.input") == [(1,)]


async def test_records_before_a_poison_record_do_not_wait_for_it(engine: AsyncEngine) -> None:
    first, last = a_record(received(GP, a_referral())), a_record(updated(GP, a_referral(), version=3))
    await apply(engine, first, broken(a_record(updated(GP, a_referral())), b'{"reference": "LB-GP00-0000-0001"}'), last)

    assert await rows(engine, "select reference, version from router.referral") == [(GP, 1)]
    parked = await rows(engine, "select waiting from router.dead_letter order by id")
    assert parked == [(False,), (True,)]


async def test_a_record_that_only_the_transaction_refuses_becomes_a_dead_letter_alone(engine: AsyncEngine) -> None:
    people = keys(8)
    batch = [a_record(received(reference(n), a_referral()), key=key) for n, key in enumerate(people)]
    huge = a_record(received(Reference("LB-HUGE"), a_huge_referral()), key=people[3])
    await apply(engine, *batch, huge, a_record(updated(Reference("LB-HUGE"), a_referral()), key=people[3]))

    assert await rows(engine, "select count(*) from router.referral") == [(8,)]
    parked = await rows(engine, 'select message_group, reason, waiting from router.dead_letter order by "offset"')
    assert parked[0] == ("LB-HUGE", "TooLarge", False)
    assert [(message_group, waiting) for message_group, _, waiting in parked[1:]] == [("LB-HUGE", True)]


async def test_a_value_with_a_nul_character_becomes_a_dead_letter(engine: AsyncEngine) -> None:
    await apply(engine, a_record(received(GP, a_referral(person=a_person(family_name="Nul\x00l")))))

    parked = await rows(engine, "select message_group, reason from router.dead_letter")
    assert parked == [(GP, "value: contains NUL, which the database cannot store")]


async def test_a_cancel_of_an_unknown_referral_becomes_a_dead_letter(engine: AsyncEngine) -> None:
    await apply(engine, a_record(cancelled(GP)))

    assert await rows(engine, "select message_group, reason from router.dead_letter") == [
        (GP, "decision: UnknownReferral")
    ]
    assert await rows(engine, "select count(*) from router.input") == [(0,)]


async def test_records_after_an_undecidable_record_of_the_same_referral_wait(engine: AsyncEngine) -> None:
    await apply(
        engine,
        a_record(cancelled(GP)),
        a_record(updated(GP, a_referral(), version=3)),
        a_record(received(WARD, a_form())),
    )

    parked = await rows(engine, "select message_group, waiting from router.dead_letter order by id")
    assert parked == [(GP, False), (GP, True)]
    assert await rows(engine, "select reference from router.referral") == [(WARD,)]
    assert await rows(engine, "select count(*) from router.input") == [(1,)]


async def test_a_command_with_an_unknown_field_is_refused_without_a_dead_letter(engine: AsyncEngine) -> None:
    await apply(engine, a_record(received(GP, a_referral())))
    command = a_command("blaby", Accept, await case_id(engine))
    await apply(engine, broken(command, command.value[:-1] + b',"expected_by":"2026-12-01"}'))

    assert [message.target for message in await sent(engine, kind="command-refused")] == ["hub.blaby.case"]
    assert await events(engine) == ["opened"]
    assert await rows(engine, PARKED_COUNT) == [(0,)]


async def test_a_command_with_an_unusable_person_key_becomes_a_dead_letter_in_a_group_of_its_own(
    engine: AsyncEngine,
) -> None:
    record = a_command("blaby", Accept, "case", key="no key")
    await apply(engine, record)

    assert await rows(engine, "select person_key, message_group from router.dead_letter") == [
        ("unknown", f"hub.blaby.command/0/{record.offset}")
    ]


async def test_replayed_inputs_lead_to_the_same_events(engine: AsyncEngine) -> None:
    records = [a_record(received(GP, a_referral())), a_record(received(WARD, a_ward_referral()))]
    await apply(engine, *records)
    first = await history(engine)
    assert [message.value for *_, message in first] == [one.value for one in await sent(engine, target=CASE_EVENT)]
    async with engine.begin() as tx:
        for table in ("person_key", "person", '"case"', "referral", "input", "case_event", "packet"):
            await tx.execute(text(f"truncate router.{table}"))
    for record in records:
        await apply(engine, record)

    assert await history(engine) == first


async def test_the_history_names_the_referrals_and_hubs_concerned(engine: AsyncEngine) -> None:
    await apply(engine, a_record(received(GP, a_referral())))

    found = await rows(engine, 'select "references", hubs from router.case_event order by sequence')
    assert found == [([GP], ["blaby"])]


async def test_an_input_and_the_events_that_it_caused_point_into_one_packet(engine: AsyncEngine) -> None:
    people = keys(20)
    await apply(engine, *(a_record(received(reference(n), a_referral()), key=key) for n, key in enumerate(people)))

    in_one_packet = "select count(*) from router.input join router.case_event using (person_key, packet)"
    assert await rows(engine, in_one_packet) == [(len(people),)]
