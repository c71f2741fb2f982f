"""A practice's BaRS messages through the whole of intake, on a real database."""

from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncEngine

from tests.intake.messages import a_bars_message
from tests.intake.running import InProcess, events, reference_of, rows


async def test_a_new_referral_is_answered_with_its_reference_and_becomes_one_event(
    intake: InProcess, engine: AsyncEngine
) -> None:
    correlation = str(uuid4())
    reply = await intake.bars(a_bars_message(), x_request_id=str(uuid4()), x_correlation_id=correlation)
    assert reply.status == 200, reply.json()
    (event,) = await events(engine, reference_of(reply))
    assert event["ce_type"] == "uk.lightbulb.referral.received.v1"
    assert event["ce_correlationid"] == correlation
    assert event["version"] == 1
    assert event["topic"] == "referral.event"
    (kept,) = await rows(engine, "select verdict, answer_status, reference from intake.message")
    assert (kept.verdict, kept.answer_status, kept.reference) == ("received", 200, event["reference"])
