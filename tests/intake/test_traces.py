"""A message goes on with its sender's trace, or begins one, and its event carries it: each its own, whatever shares its transaction."""

import asyncio
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from services.intake.group_commit import GroupCommit
from tests import traced
from tests.builders.bars import a_bars_message
from tests.builders.csv import a_file, a_row
from tests.builders.hl7v2 import a_ref_i12
from tests.builders.referrals import an_nhs_number
from tests.intake.council_client import upload
from tests.intake.fake_hl7_engine import Wards
from tests.intake.running import InProcess, Installation, headers_of, published
from tests.traced import SENT, SPAN, TRACE, Traces

CANARY = {"family": "CANARYSON", "patient": {"name": [{"family": "CANARYSON", "given": ["Canaryanne"]}]}}


async def carried(engine: AsyncEngine) -> list[str | None]:
    """The contexts of the events that wait, in their order."""
    return [headers_of(one).get("traceparent") for one in await published(engine)]


@pytest.mark.parametrize(("sent", "kept"), [(SENT, SENT), (SENT + "-9990000018", None), ("CANARYSON", None)])
async def test_without_tracing_a_senders_context_continues_with_the_event(
    intake: InProcess, engine: AsyncEngine, sent: str, kept: str | None
) -> None:
    foreign = {"tracestate": "canary=CANARYSON", "baggage": "number=9990000018"}
    assert (await intake.bars(a_bars_message(), traceparent=sent, **foreign)).status == 200
    assert await carried(engine) == [kept]
    [sent_on] = await published(engine)
    assert "CANARYSON" not in str(sent_on.message.headers)
    assert "9990000018" not in str(sent_on.message.headers)


async def test_a_referral_continues_its_senders_trace_and_its_event_continues_ours(
    intake: InProcess, engine: AsyncEngine, traces: Traces
) -> None:
    message = a_bars_message(nhs_number=an_nhs_number(), **CANARY)
    assert (await intake.bars(message, traceparent=SENT)).status == 200
    received, committed = traces.one("receive bars-fhir"), traces.one("commit")
    assert (traced.ids(received)[0], traced.parent(received)) == (TRACE, SPAN)
    assert traced.parent(committed) == traced.ids(received)[1]
    assert [str(context).split("-")[1:3] for context in await carried(engine)] == [[*traced.ids(received)]]
    told = traced.told(received)
    [event] = await published(engine)
    assert told.pop("conversation_id") == headers_of(event)["ce_correlationid"]
    assert told == {"partner": "gp-alder-lane", "format": "bars-fhir", "outcome": "received", "answer": 200}
    assert event.message.person_key not in traces.written()


async def test_a_rejection_is_traced_without_its_content_and_an_unknown_client_leaves_no_trace(
    intake: InProcess, traces: Traces
) -> None:
    await intake.bars(a_bars_message(nhs_number="9990000019", **CANARY))
    assert traced.told(traces.one("receive bars-fhir"))["outcome"] == "refused"
    before = len(traces.ended)
    assert (await intake.bars(a_bars_message(), sender=None)).status == 401
    assert len(traces.ended) == before


async def test_messages_that_share_a_transaction_keep_their_own_traces(
    intake: InProcess, engine: AsyncEngine, traces: Traces
) -> None:
    other = SENT.replace(TRACE, "ab" * 16)
    sent = ((SENT, an_nhs_number()), (other, an_nhs_number()))
    await asyncio.gather(*(intake.bars(a_bars_message(nhs_number=n), traceparent=context) for context, n in sent))
    assert {str(context).split("-")[1] for context in await carried(engine)} == {TRACE, "ab" * 16}
    by_trace = {traced.ids(span)[0]: span for span in traces.named("receive")}
    for committed in traces.named("commit"):
        trace, _ = traced.ids(committed)
        assert traced.parent(committed) == traced.ids(by_trace[trace])[1]


async def test_a_commit_that_fails_ends_the_trace_with_its_error_type(
    intake: InProcess, traces: Traces, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: Any) -> None:
        raise ConnectionResetError("9990000018")

    monkeypatch.setattr(GroupCommit, "_record", fails)
    assert (await intake.bars(a_bars_message())).status == 503
    assert traced.told(traces.one("commit"))["type"] == "ConnectionResetError"
    assert traced.told(traces.one("receive"))["type"] == "Unavailable"
    assert traced.told(traces.one("receive"))["outcome"] == "failed"


async def test_each_row_of_a_file_begins_a_trace_that_names_the_trace_of_the_file(
    intake: InProcess, engine: AsyncEngine, traces: Traces
) -> None:
    people = [a_row("blaby", Case_Ref=f"BDC/{at}", NHS_No="", Surname="CANARYSON") for at in (1, 2)]
    await upload(intake, "blaby", a_file("blaby", people))
    file, received = traces.one("read file"), traces.named("receive council-csv")
    assert traced.told(file)["outcome"] == "reported"
    assert len({traced.ids(span)[0] for span in (file, *received)}) == 3
    for row in received:
        assert [f"{link.context.span_id:016x}" for link in row.links] == [traced.ids(file)[1]]
    assert {str(context).split("-")[2] for context in await carried(engine)} == {traced.ids(row)[1] for row in received}


async def test_a_message_over_mllp_begins_a_trace(
    installation: Installation, engine: AsyncEngine, traces: Traces
) -> None:
    async with Wards(installation, engine) as wards:
        await (await wards.connect()).send(a_ref_i12())
    received = traces.one("receive hl7v2")
    assert traced.parent(received) is None
    assert [str(context).split("-")[1:3] for context in await carried(engine)] == [[*traced.ids(received)]]
