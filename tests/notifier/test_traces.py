"""Feedback is delivered in the trace of its event: the endpoint and the feedback event receive the trace context."""

import dataclasses

from sqlalchemy.ext.asyncio import AsyncEngine

from services.messaging.cloudevents import KafkaRecord
from tests import traced
from tests.notifier.builders import GP, a_life, as_records, by_gp, the_recipients
from tests.notifier.gp_system import Answer, GpSystem
from tests.notifier.running import a_notifier, contents, feedback_events, header, rows, until_rows
from tests.traced import SENT, SPAN, TRACE, Traces

ACCEPTED = "select * from notifier.feedback where state = 'accepted' order by ordinal"


def heard(context: str | None) -> list[KafkaRecord]:
    """A case was assigned, in this context."""
    [record] = as_records(a_life(by_gp(), "life")[1:2])
    more = (("traceparent", context.encode()),) if context else ()
    return [dataclasses.replace(record, headers=(*record.headers, *more))]


async def sent_events(engine: AsyncEngine) -> list[str | None]:
    return [header(event, "traceparent") for event in await feedback_events(engine)]


async def test_without_tracing_the_endpoint_gets_the_trace_context_of_the_event(
    engine: AsyncEngine, gp: GpSystem
) -> None:
    async with a_notifier(engine, the_recipients({GP: gp.url})) as notifier:
        await notifier.receiver.receive(heard(SENT))
        await until_rows(engine, ACCEPTED, 1)
    assert [headers["traceparent"] for headers, _ in gp.received] == [SENT]
    assert await sent_events(engine) == [SENT]


async def test_feedback_without_a_trace_context_is_delivered_without_one(engine: AsyncEngine, gp: GpSystem) -> None:
    """Also what was composed before contexts were kept."""
    async with a_notifier(engine, the_recipients({GP: gp.url})) as notifier:
        await notifier.receiver.receive(heard(None))
        await until_rows(engine, ACCEPTED, 1)
    assert ["traceparent" in headers for headers, _ in gp.received] == [False]
    assert await sent_events(engine) == [None]


async def test_every_attempt_is_a_span_which_the_endpoint_receives_as_parent(
    engine: AsyncEngine, gp: GpSystem, traces: Traces
) -> None:
    gp.first(Answer(503))
    async with a_notifier(engine, the_recipients({GP: gp.url})) as notifier:
        await notifier.receiver.receive(heard(SENT))
        await until_rows(engine, ACCEPTED, 1)
    composed, attempts = traces.one("tell case.event"), traces.named("deliver fhir")
    assert (traced.ids(composed)[0], traced.parent(composed)) == (TRACE, SPAN)
    assert [traced.parent(one) for one in attempts] == [traced.ids(composed)[1]] * 2
    assert [traced.told(one)["outcome"] for one in attempts] == ["retry", "delivered"]
    assert [traced.told(one)["attempt"] for one in attempts] == [1, 2]
    assert [headers["traceparent"].split("-")[2] for headers, _ in gp.received] == [
        traced.ids(one)[1] for one in attempts
    ]
    assert [str(one).split("-")[2] for one in await sent_events(engine)] == [traced.ids(attempts[1])[1]]
    [feedback] = await rows(engine, "select * from notifier.feedback")
    [content] = await contents(engine, [feedback])
    assert str(content.traceparent).split("-")[2] == traced.ids(composed)[1]
    assert feedback.person_key not in traces.written()


async def test_the_span_of_a_dead_letter_is_marked_as_such(engine: AsyncEngine, traces: Traces) -> None:
    [record] = heard(SENT)
    async with a_notifier(engine, the_recipients({}), delivering=False) as notifier:
        await notifier.receiver.receive([dataclasses.replace(record, value=b'{"CANARYSON": 1}')])
    assert traced.told(traces.one("tell"))["outcome"] == "dead-lettered"
