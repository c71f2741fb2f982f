"""Each output of a batch has the trace context of its own cause, not of another record in the transaction."""

import dataclasses

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from schemas.events import Accept
from services.router.consumer import Batches
from tests import traced
from tests.builders.events import KEY, NOW, a_command, a_record, broken, received, updated
from tests.builders.reference_data import DIRECTORY
from tests.builders.referrals import GP, a_form, a_person, a_referral, keys, reference
from tests.router.stored import applied, apply, case_id, sent
from tests.traced import SENT, SPAN, TRACE, Traces, with_context


async def carried(engine: AsyncEngine, key: str = KEY) -> set[str]:
    """The contexts of all that goes out under a key."""
    found = [dict(message.headers) for message in await sent(engine, key)]
    assert b"CANARYSON" not in b"".join(value for headers in found for value in headers.values())
    return {headers["traceparent"].decode() if "traceparent" in headers else None for headers in found}


async def test_without_tracing_every_output_has_the_trace_context_of_its_input(engine: AsyncEngine) -> None:
    await apply(engine, with_context(a_record(received(GP, a_referral()))))
    assert await carried(engine) == {SENT}
    await apply(engine, with_context(a_record(updated(GP, a_form())), "CANARYSON"))
    assert await carried(engine) == {SENT, None}
    kept = [headers for headers, _ in await applied(engine)]
    assert [headers.get("traceparent") for headers in kept] == [SENT, None]
    assert not [name for headers in kept for name in headers if name in ("tracestate", "baggage")]


async def test_each_output_of_a_batch_is_in_the_trace_of_its_cause(engine: AsyncEngine, traces: Traces) -> None:
    canary = a_referral(person=a_person(family_name="CANARYSON"))
    people, contexts = keys(3), [SENT, SENT.replace(TRACE, "ab" * 16), None]
    records = [a_record(received(reference(at), canary), key=key) for at, key in enumerate(people)]
    await apply(engine, *(with_context(r, c) if c else r for r, c in zip(records, contexts, strict=True)))
    spans = {traced.told(span)["offset"]: span for span in traces.named("apply referral.event")}
    for record, key, context in zip(records, people, contexts, strict=True):
        span = spans[record.offset]
        assert traced.parent(span) == (SPAN if context else None)
        assert {one.split("-")[2] for one in await carried(engine, key)} == {traced.ids(span)[1]}
        assert traced.told(span)["outcome"] == "applied"
        assert (traced.told(span)["message_count"], traced.told(span)["event_type"]) == (
            3,
            "uk.lightbulb.referral.received.v1",
        )
        assert key not in traces.written()


async def test_spans_mark_a_duplicate_and_a_dead_letter(engine: AsyncEngine, traces: Traces) -> None:
    good = a_record(received(GP, a_referral()))
    await apply(engine, good)
    await apply(
        engine, good, broken(a_record(updated(GP, a_form())), b'{"reference": "LB-GP00-0000-0001", "CANARYSON": 1}')
    )
    await apply(engine, a_record(updated(GP, a_form(), 3)))
    assert [traced.told(span)["outcome"] for span in traces.ended] == [
        "applied",
        "duplicate",
        "dead-lettered",
        "waiting",
    ]


async def test_spans_of_a_failed_batch_have_the_error_type_and_are_not_marked_as_applied(
    engine: AsyncEngine, traces: Traces, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise TimeoutError("9990000018")

    monkeypatch.setattr("services.router.store.write", away)
    with pytest.raises(TimeoutError):
        await apply(engine, a_record(received(GP, a_referral())))
    assert traced.told(traces.one("apply"))["type"] == "TimeoutError"
    assert traced.told(traces.one("apply"))["outcome"] == "failed"
    assert traces.one("apply").status.status_code.name == "ERROR"


async def test_a_correlation_id_that_is_free_text_is_not_exported(engine: AsyncEngine, traces: Traces) -> None:
    await apply(engine, a_record(received(GP, a_referral())))
    command = a_command("blaby", Accept, await case_id(engine), id="9990000018 CANARYSON", expected_version=1)
    words = tuple((name, b"CANARYSON" if name == "ce_correlationid" else value) for name, value in command.headers)
    await apply(engine, dataclasses.replace(command, headers=words))
    assert traced.told(traces.one("apply hub.blaby.command"))["outcome"] == "applied"


async def test_a_resubmitted_record_continues_its_own_trace(engine: AsyncEngine, traces: Traces) -> None:
    good = with_context(a_record(received(GP, a_referral())))
    await apply(engine, broken(good, b"{}"))
    await rows_changed(engine, "update router.dead_letter set resubmit_at = now(), value = :value", value=good.value)
    assert await Batches(engine, DIRECTORY, clock=lambda: NOW).release() == 1
    parked, applied = traces.named("apply")
    assert traced.parent(parked) == traced.parent(applied) == SPAN
    assert {one.split("-")[1] for one in await carried(engine)} == {TRACE}


async def rows_changed(engine: AsyncEngine, statement: str, **given: object) -> None:
    async with engine.begin() as tx:
        await tx.execute(text(statement), given)
