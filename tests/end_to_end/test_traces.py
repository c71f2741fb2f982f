"""One trace shows a referral's whole way, through every process and over every topic; and nobody's name."""

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import aiohttp

from bench.messages import BenchmarkMessage
from tests import traced
from tests.end_to_end.conftest import HubAtWork, Walk
from tests.end_to_end.observed import everything_on, people_of
from tests.end_to_end.senders import REFERENCE
from tests.traced import SPAN

Span = dict[str, Any]


async def spans_of(walk: Walk, trace: str, delivered: int) -> dict[str, Span]:
    """The spans of a trace by their ids, once so much feedback of it was delivered and told of, and each step's cause is there: every
    process writes its own spans, when it comes to it."""
    async with asyncio.timeout(20):
        while True:
            every = traced.lines(walk.traces.read_text())
            spans = {one["context"]["span_id"][2:]: one for one in every if one["context"]["trace_id"] == f"0x{trace}"}
            ends = [one for one in spans.values() if is_delivery(one) or one["name"] == "publish feedback.event"]
            if len(ends) >= 2 * delivered and all(way(spans, one)[0] == SPAN for one in ends):
                return spans
            await asyncio.sleep(0.2)


def is_delivery(span: Span) -> bool:
    return bool(span["name"] == "deliver fhir" and span["attributes"]["lightbulb.outcome"] == "delivered")


def way(spans: dict[str, Span], last: Span) -> list[str]:
    """Service and name of every step up to `last`, the sender's request first."""
    steps: list[str] = []
    at: str | None = last["context"]["span_id"][2:]
    while at in spans:
        service = spans[at]["resource"]["attributes"]["service.name"].removeprefix("lightbulb-")
        steps.insert(0, f"{service}: {spans[at]['name']}")
        at = (spans[at]["parent_id"] or "0x")[2:]
    return [str(at), *steps]


async def test_one_trace_covers_a_referral_from_request_to_feedback_without_personal_data(
    walk: Walk, session: aiohttp.ClientSession, hub: HubAtWork, a_message: Callable[[], BenchmarkMessage]
) -> None:
    message, trace = a_message(), f"a{uuid.uuid4().hex[1:]}"
    _, body = await walk.post(session, message, traceparent=f"00-{trace}-{SPAN}-01", tracestate="x=9990000018")
    [reference] = REFERENCE.findall(body)[:1]
    case = await hub.until(lambda h: h.case_of(reference))
    await hub.does(case, "accept")
    await walk.hears(message.correlation_id, "accepted")

    spans = await spans_of(walk, trace, delivered=2)
    deliveries = sorted(filter(is_delivery, spans.values()), key=lambda one: one["end_time"])
    accepted = ["intake: receive bars-fhir", "intake: publish referral.event", "router: apply referral.event"]
    told = ["router: publish case.event", "notifier: tell case.event", "notifier: deliver fhir"]
    commanded = [f"router: publish hub.{case.hub}.case", f"router: apply hub.{case.hub}.command"]
    assert [way(spans, one) for one in deliveries] == [
        [SPAN, *accepted, *told],
        [SPAN, *accepted, *commanded, *told],
    ]
    assert "notifier: publish feedback.event" in {way(spans, one)[-1] for one in spans.values()}
    assert all("exception" not in str(one["events"]) for one in spans.values())

    written = walk.traces.read_text()
    assert not people_of([message], written)
    keys = {record.key.decode() for record in await everything_on(walk, "case.event")}
    assert case.person_key in keys
    assert not [key for key in keys if key in written]
