"""What operators do about dead letters: find them, show them without personal data, resubmit or discard them; all of it is recorded."""

import asyncio
import dataclasses
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.operations import corrections, dead_letters, queries, trace
from infra.operations.audit_log import Operator
from infra.operations.corrections import EditRefused
from infra.operations.queries import Filters, NoSuchRow
from schemas.events import Accept, CaseAssigned
from services.messaging import resubmit as resubmission
from tests.builders.events import KEY, a_command, a_record, broken, cancelled, received, updated, with_header
from tests.builders.referrals import GP, WARD, a_form, a_referral, keys
from tests.notifier.builders import GP_MAILBOX, a_case_event, a_life, as_records, by_gp, the_recipients
from tests.notifier.running import a_notifier
from tests.operations.operator_actions import BY, actions, discard, parked, resubmit
from tests.router.stored import a_router, applied, rows


def said(planned: list[dead_letters.PlannedAction]) -> list[tuple[str, str]]:
    return [(one.row.record.topic, one.what) for one in planned]


# ---- found ----------------------------------------------------------------------------------------------------------


async def test_dead_letters_of_both_services_are_found_by_every_filter(engine: AsyncEngine) -> None:
    unknown = dataclasses.replace(as_records(a_life(by_gp(GP_MAILBOX), "life"))[0], headers=())
    async with a_notifier(engine, the_recipients(), delivering=False) as notifier:
        await notifier.receiver.receive([unknown])
    await a_router(engine).receive(
        [a_record(cancelled(GP)), a_record(updated(GP, a_form())), a_record(cancelled(WARD))]
    )
    now = datetime.now(UTC)

    async def count(**given: Any) -> int:
        return len(await queries.find(engine, Filters(**given)))

    assert await count() == 4
    assert await count(service="notifier") == 1
    assert await count(reason="decision") == 2
    assert await count(message_group=GP) == 2
    assert await count(topic="case.event") == 1
    assert await count(since=now + timedelta(hours=1)) == 0
    assert await count(until=now - timedelta(hours=1)) == 0
    assert await count(since=now - timedelta(hours=1), until=now + timedelta(hours=1)) == 4


async def test_resolved_dead_letters_are_listed_only_on_request(engine: AsyncEngine) -> None:
    await discard(engine, await parked(engine, a_record(cancelled(GP))))

    assert await queries.find(engine, Filters()) == []
    assert [row.state for row in await queries.find(engine, Filters(resolved=True))] == ["discarded"]


@pytest.mark.parametrize("name", ["router:1", "notifier:0", "intake:1", "17", "router:x"])
async def test_an_unknown_id_raises_an_error_that_names_it(engine: AsyncEngine, name: str) -> None:
    with pytest.raises(NoSuchRow, match=name):
        await queries.named(engine, [name])


async def test_an_undecodable_record_keeps_the_correlation_id_of_its_headers(engine: AsyncEngine) -> None:
    """Only a value that looks like an id is kept: free text is neither stored nor shown."""
    good = a_record(received(GP, a_referral()))
    named = with_header(broken(good, b"\xff"), "ce_correlationid", b"79120f41-a431-4f08-bcc5-1e67006fcae0")
    others = [
        with_header(broken(good, value), "ce_correlationid", said)
        for value, said in ((b"1", b"Violet Vickers"), (b"2", b"9990000026"), (b"3", b"999-000-0026"), (b"4", b"\xff"))
    ]
    event = with_header(as_records(a_life(by_gp(GP_MAILBOX), "life"))[0], "ce_type", b"v9")
    async with a_notifier(engine, the_recipients(), delivering=False) as notifier:
        await notifier.receiver.receive([event])
    found = await parked(engine, named, *others)

    assert [row.correlation_id for row in found] == [
        *("79120f41-a431-4f08-bcc5-1e67006fcae0", None, None, None, None),
        dict(event.headers)["ce_correlationid"].decode(),
    ]


async def test_a_correlation_id_that_looks_like_a_name_is_masked(engine: AsyncEngine) -> None:
    [row] = await parked(engine, with_header(a_record(cancelled(GP)), "ce_correlationid", b"Violet Vickers 1946"))

    assert row.as_dict()["correlation_id"] == "(correlation id)"


# ---- shown ----------------------------------------------------------------------------------------------------------

PERSONAL = ("Vickers", "Violet", "9990000026", "1946", "Any Street", "LE8", "Dr Any Body", "Alder Lane")


async def test_a_record_is_shown_with_its_structure_and_without_personal_data(engine: AsyncEngine) -> None:
    good = a_record(received(GP, a_referral()))
    [row] = await parked(
        engine,
        dataclasses.replace(good, headers=(*good.headers, ("ce_type", b"Violet Vickers"), ("x-9990000026", b"1946"))),
    )
    shown = await dead_letters.show(engine, row, None)

    assert shown["value"]["referral"]["person"]["family_name"] == "(family_name)"
    assert shown["value"]["reference"] == GP
    assert shown["headers"]["ce_id"] == row.record.headers[1][1].decode()
    assert not [word for word in PERSONAL if word in json.dumps(shown)]
    assert await actions(engine) == []


BROKEN = (
    b"Violet Vickers \xff",
    b'"Violet Vickers"',
    b'["Violet Vickers", {"9990000026": 9990000026}]',
    b'{"Violet Vickers": 1, "reference": "Violet Vickers", "status": "999 000 0026", "version": 9990000026}',
    b'{"reference": {"Violet Vickers": ["Violet Vickers"]}, "case_id": "Violet Vickers"}',
    b"[" * 100_000,
)


async def test_an_undecodable_record_is_shown_without_personal_data(engine: AsyncEngine) -> None:
    found = await parked(engine, *(broken(a_record(received(GP, a_referral())), value) for value in BROKEN))
    shown = json.dumps([await dead_letters.show(engine, row, None) for row in found])

    assert len(found) == len(BROKEN)
    assert not [word for word in PERSONAL if word in shown]


async def test_personal_data_is_shown_only_with_name_and_reason_and_the_request_is_recorded(
    engine: AsyncEngine,
) -> None:
    [row] = await parked(engine, broken(a_record(received(GP, a_referral())), b'{"family_name": "Vickers"}'))
    shown = await dead_letters.show(engine, row, BY)

    assert shown["value"] == {"family_name": "Vickers"}
    assert await actions(engine) == [("show personal", "A. Operator", "because", {"ids": [row.id]})]
    assert [one["action"] for one in (await dead_letters.show(engine, row, None))["actions"]] == ["show personal"]


# ---- put back -------------------------------------------------------------------------------------------------------


async def test_a_plan_lists_what_is_resubmitted_follows_and_stays_and_changes_nothing(
    engine: AsyncEngine,
) -> None:
    found = await parked(engine, a_record(cancelled(GP)), a_record(updated(GP, a_form())), a_record(cancelled(WARD)))
    await discard(engine, found[2:])
    before = await rows(engine, "select * from router.dead_letter order by id")
    found = await queries.find(engine, Filters(resolved=True))

    assert [one.what for one in await dead_letters.plan_resubmit(engine, found)] == ["resubmit", "follows", "stays"]
    assert [one.what for one in await dead_letters.plan_resubmit(engine, found[:1])] == ["resubmit", "follows"]
    assert [one.what for one in await dead_letters.plan_discard(engine, found[:1])] == ["discard", "follows"]
    assert await rows(engine, "select * from router.dead_letter order by id") == before


async def test_a_waiting_record_is_resubmitted_only_with_its_blocker_as_the_plan_states(engine: AsyncEngine) -> None:
    head, second, third = await parked(engine, *(a_record(cancelled(GP, version=n)) for n in (1, 2, 3)))
    [alone] = await dead_letters.plan_resubmit(engine, [third])

    assert (alone.what, alone.reason) == ("stays", f"waits behind {head.name}, which is not selected")
    assert [one.what for one in await dead_letters.plan_resubmit(engine, [head, third])] == [
        "resubmit",
        "follows",
        "follows",
    ]
    assert [one.what for one in await dead_letters.plan_discard(engine, [second])] == ["discard"]
    assert [one.what for one in await dead_letters.plan_discard(engine, [head, second])] == [
        "discard",
        "discard",
        "follows",
    ]


async def test_the_plan_for_a_requested_record_names_the_record_that_blocks_it(engine: AsyncEngine) -> None:
    """An undecodable record becomes a dead letter with its own reason, anywhere in its message group."""
    head, unreadable = await parked(
        engine, a_record(cancelled(GP)), broken(a_record(updated(GP, a_form())), b'{"reference": "LB-GP00-0000-0001"}')
    )
    [planned] = await dead_letters.plan_resubmit(engine, [unreadable])
    assert (planned.what, planned.behind) == ("resubmit", head.name)
    await dead_letters.act(engine, [planned], BY)
    assert await a_router(engine).release() == 0

    planned, *_ = await dead_letters.plan_resubmit(engine, await queries.named(engine, [unreadable.name]))
    assert (planned.what, planned.reason) == (
        "stays",
        f"already resubmitted; waits behind {head.name}, which is not selected",
    )
    assert [one.what for one in await dead_letters.plan_resubmit(engine, [head])] == ["resubmit", "follows"]


async def test_a_record_blocked_by_two_dead_letters_is_applied_when_both_are_resolved(engine: AsyncEngine) -> None:
    one, two = (by_gp(GP_MAILBOX, reference=f"LB-{n}") for n in (1, 2))
    first, second, both = as_records(
        [
            a_case_event(CaseAssigned, one, id="1"),
            a_case_event(CaseAssigned, two, id="2"),
            a_case_event(CaseAssigned, one, two, id="b"),
        ]
    )
    async with a_notifier(engine, the_recipients(), delivering=False) as notifier:
        for event in (first, second):
            await notifier.receiver.receive([with_header(event, "ce_type", b"v9")])
        await notifier.receiver.receive([both])
    rows_of = await queries.find(engine, Filters())

    assert [one.what for one in await dead_letters.plan_resubmit(engine, rows_of[:1])] == ["resubmit"]
    assert [one.what for one in await dead_letters.plan_resubmit(engine, rows_of[:2])] == [
        "resubmit",
        "resubmit",
        "follows",
    ]


async def test_each_record_is_resubmitted_by_only_one_of_two_concurrent_operators(engine: AsyncEngine) -> None:
    people = keys(30)
    found = await parked(engine, *(a_record(cancelled(GP), key=key) for key in people))
    planned = await dead_letters.plan_resubmit(engine, found)
    touched = await asyncio.gather(*(dead_letters.act(engine, planned, Operator(who)) for who in ("A", "B", "C")))

    assert sorted(row.id for some in touched for row in some) == [row.id for row in found]
    recorded = await rows(engine, "select jsonb_array_elements(details -> 'ids') from router.operator_action")
    assert sorted(number for (number,) in recorded) == [row.id for row in found]


async def test_an_edit_that_is_stored_while_the_record_is_taken_is_not_ignored(engine: AsyncEngine) -> None:
    """One operator asked for the original, another corrects it, and a service is about to apply it."""
    good = a_record(received(GP, a_referral()))
    [row] = await parked(engine, broken(good, b'{"reference": "LB-GP00-0000-0001"}'))
    await resubmit(engine, [row])
    async with engine.begin() as tx:
        ready = await resubmission.ready(tx, "router")
    await corrections.edit(engine, row, good.value, {}, Operator("B. Operator", "a version was missing"))
    async with engine.begin() as tx:
        assert await resubmission.take(tx, "router", ready) == []
    await a_router(engine).release()

    assert await rows(engine, "select resolution from router.dead_letter") == [("applied",)]


async def test_a_repeated_bulk_resubmit_has_no_further_effect(engine: AsyncEngine) -> None:
    found = await parked(engine, a_record(cancelled(GP)), a_record(cancelled(WARD)), reason="decision")
    assert len(await resubmit(engine, found)) == 2
    assert await resubmit(engine, found) == []
    await a_router(engine).release()

    assert await rows(engine, "select attempts from router.dead_letter") == [(2,), (2,)]
    assert await actions(engine) == [("resubmit", "A. Operator", "because", {"ids": [row.id for row in found]})]


async def test_the_result_of_a_resubmit_is_reported(engine: AsyncEngine) -> None:
    touched = await resubmit(engine, await parked(engine, a_record(cancelled(GP))))
    assert [row.state for row in await dead_letters.outcome(engine, touched, 0)] == ["resubmitting"]
    await a_router(engine).release()
    assert [(row.state, row.attempts) for row in await dead_letters.outcome(engine, touched, 5)] == [("open", 2)]


async def test_an_edit_is_stored_with_the_original_and_applied_instead_of_it(engine: AsyncEngine) -> None:
    good = a_record(received(GP, a_referral()))
    bad = broken(good, b'{"reference": "LB-GP00-0000-0001"}')
    [row] = await parked(engine, bad)
    row = await corrections.edit(engine, row, good.value, {}, BY)
    await resubmit(engine, [row])
    await a_router(engine).release()
    await a_router(engine).receive([bad])

    assert await rows(engine, "select value from router.dead_letter") == [(bad.value,)]
    assert await rows(engine, "select value, operator, reason from router.dead_letter_edit") == [
        (good.value, *dataclasses.astuple(BY))
    ]
    assert [value for _, value in await applied(engine)] == [good.value]
    shown = await dead_letters.show(engine, row, None)
    assert [edit["operator"] for edit in shown["edits"]] == ["A. Operator"]
    assert not [word for word in PERSONAL if word in json.dumps(shown)]


async def test_duplicates_of_a_corrected_record_are_dropped_and_waiting_records_are_applied(
    engine: AsyncEngine,
) -> None:
    """A relay repeats records that were not acknowledged: the same poison record at another offset, before and after its correction."""
    good = a_record(received(GP, a_referral()), id="poison")
    bad = broken(good, b'{"reference": "LB-GP00-0000-0001"}')
    again, later = (dataclasses.replace(bad, offset=bad.offset + more) for more in (100_000, 200_000))
    [row, *_] = await parked(engine, bad, again, a_record(updated(GP, a_form())))
    row = await corrections.edit(engine, row, good.value, {}, BY)
    planned = await dead_letters.plan_resubmit(engine, [row])
    await dead_letters.act(engine, planned, BY)
    await a_router(engine).release()
    await a_router(engine).receive([later, a_record(cancelled(GP, version=3))])

    assert [(one.what, one.reason) for one in planned] == [
        ("resubmit", ""),
        ("follows", "a repeat of one of these"),
        ("follows", "waits behind one of these"),
    ]
    assert await rows(engine, "select resolution from router.dead_letter order by id") == [
        ("applied",),
        ("duplicate",),
        ("applied",),
    ]
    assert await rows(engine, "select type from router.input order by position") == [
        ("uk.lightbulb.referral.received.v1",),
        ("uk.lightbulb.referral.updated.v1",),
        ("uk.lightbulb.referral.cancelled.v1",),
    ]


async def test_a_header_can_be_edited(engine: AsyncEngine) -> None:
    good = a_record(received(GP, a_referral()))
    unknown = tuple((name, b"v9" if name == "ce_type" else value) for name, value in good.headers)
    [row] = await parked(engine, dataclasses.replace(good, headers=unknown))
    await corrections.edit(engine, row, good.value, {"ce_type": "uk.lightbulb.referral.received.v1"}, BY)
    await resubmit(engine, [row])
    await a_router(engine).release()

    assert await rows(engine, "select reference from router.referral") == [(GP,)]


async def test_an_undecodable_edit_is_refused_with_the_place_of_the_error_and_not_stored(engine: AsyncEngine) -> None:
    [row] = await parked(engine, broken(a_record(received(GP, a_referral())), b"{}"))
    with pytest.raises(EditRefused, match="version is missing"):
        await corrections.edit(engine, row, b'{"reference": "Vickers"}', {}, BY)
    assert await rows(engine, "select count(*) from router.dead_letter_edit") == [(0,)]


async def test_an_edit_cannot_change_the_person_but_may_correct_an_invalid_person_key(engine: AsyncEngine) -> None:
    await a_router(engine).receive([a_record(received(GP, a_referral()))])
    [(case,)] = await rows(engine, 'select case_id from router."case"')
    to_nobody, good = a_command("blaby", Accept, case, key="nobody"), a_command("blaby", Accept, case)
    other = a_command("blaby", Accept, case, key="ab" * 16)
    [row] = await parked(engine, to_nobody)
    row = await corrections.edit(engine, row, good.value, {}, BY)
    assert row.person_key == KEY
    with pytest.raises(EditRefused, match="another person key"):
        await corrections.edit(engine, row, other.value, {}, BY)
    await resubmit(engine, [row])
    await a_router(engine).release()

    assert await rows(engine, "select status from router.referral") == [("accepted",)]


async def test_a_command_with_a_wrong_record_key_is_applied_under_the_person_key_in_its_data(
    engine: AsyncEngine,
) -> None:
    await a_router(engine).receive([a_record(received(GP, a_referral()))])
    [(case,)] = await rows(engine, 'select case_id from router."case"')
    good = a_command("blaby", Accept, case)
    await a_router(engine).receive([dataclasses.replace(good, key="Mrs Vickërs".encode())])

    assert await rows(engine, "select status from router.referral") == [("accepted",)]


async def test_our_record_with_a_wrong_record_key_is_refused_with_the_next_step(engine: AsyncEngine) -> None:
    records = [dataclasses.replace(a_record(received(GP, a_referral())), key=key) for key in (b"\xff", b"no key")]
    for row, record in zip(await parked(engine, *records), records, strict=True):
        with pytest.raises(EditRefused, match=r"key.*Discard it\.$"):
            await corrections.edit(engine, row, record.value, {}, BY)


async def test_a_redelivered_record_without_a_valid_person_key_makes_no_second_dead_letter(engine: AsyncEngine) -> None:
    """Neither while its edit waits, nor when it was applied: it stands under the person that the edit names."""
    good = a_record(received(GP, a_referral()))
    nobodys = dataclasses.replace(broken(good, b"\xff"), key=b"no key")
    [row] = await parked(engine, nobodys)
    with pytest.raises(EditRefused):
        await corrections.edit(engine, row, good.value, {}, BY)
    command = a_command("blaby", Accept, "a case", key="nobody")
    [_, row] = await parked(engine, command)
    value = a_command("blaby", Accept, "a case").value
    row = await corrections.edit(engine, row, value, {}, BY)
    assert row.person_key == KEY
    for _ in range(2):
        await a_router(engine).receive([command])
        assert len(await queries.find(engine, Filters(topic="hub.blaby.command", resolved=True))) == 1
        await resubmit(engine, [row])
        await a_router(engine).release()


async def test_an_edit_of_a_dead_letter_that_was_resolved_is_refused(engine: AsyncEngine) -> None:
    good = a_record(received(GP, a_referral()))
    [row] = await parked(engine, broken(good, b"{}"))
    await discard(engine, [row])
    with pytest.raises(EditRefused, match="resolved by another process"):
        await corrections.edit(engine, row, good.value, {}, BY)
    [row] = await queries.named(engine, [row.name])
    with pytest.raises(EditRefused, match="already discarded"):
        await corrections.edit(engine, row, good.value, {}, BY, dry_run=True)


# ---- given up -------------------------------------------------------------------------------------------------------


async def test_a_discarded_record_is_kept_and_recorded_and_no_longer_blocks_others(engine: AsyncEngine) -> None:
    found = await parked(engine, a_record(cancelled(GP)), a_record(received(GP, a_referral())))
    assert len(await discard(engine, found[:1])) == 1
    assert await discard(engine, found[:1]) == []
    await a_router(engine).release()

    assert await rows(engine, "select resolution from router.dead_letter order by id") == [("discarded",), ("applied",)]
    assert await actions(engine) == [("discard", "A. Operator", "because", {"ids": [found[0].id]})]


async def test_duplicates_of_a_discarded_record_are_discarded_with_it(engine: AsyncEngine) -> None:
    doomed = a_record(received(GP, a_referral()), id="doomed")
    again = dataclasses.replace(doomed, offset=doomed.offset + 100_000)
    await parked(engine, a_record(cancelled(GP)), doomed)
    found = await parked(engine, again)
    await discard(engine, found[1:2])

    assert await rows(engine, "select resolution from router.dead_letter order by id") == [
        (None,),
        ("discarded",),
        ("discarded",),
    ]


async def test_trace_lists_dead_letters_and_their_resolution(engine: AsyncEngine) -> None:
    found = await parked(engine, a_record(cancelled(GP)), a_record(received(GP, a_referral())))
    await discard(engine, found[:1])
    async with engine.begin() as tx:  # what intake stored of it
        columns = "partner, referral_id, reference, person_key, first_at, last_at"
        query = f"insert into intake.referral ({columns}) values ('p', 'r', :reference, :key, now(), now())"
        await tx.execute(text(query), {"reference": GP, "key": KEY})
    steps = (await trace.path(engine.url.render_as_string(hide_password=False), GP)).steps
    told = [
        (step.what, step.detail.split("; ")[-1].split(" ")[0]) for step in steps if step.place == "router dead letters"
    ]

    first, second = (row.name for row in found)
    assert told == [
        (f"{first} dead letter", "discarded"),
        (f"{second} waiting behind an earlier message", "unresolved"),
    ]
