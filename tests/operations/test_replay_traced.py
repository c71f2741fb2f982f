"""A replay, which is not traced, rebuilds the state of a traced service: trace contexts are not compared."""

from sqlalchemy.ext.asyncio import AsyncEngine

from services.messaging import packets
from services.messaging.packets import Message
from tests.builders.events import KEY, a_record, received, updated
from tests.builders.referrals import GP, a_form, a_referral
from tests.operations.replays import Router, proof, with_other_messages
from tests.traced import SENT, Traces, with_context


async def test_the_output_of_a_traced_router_equals_its_replay(engine: AsyncEngine, traces: Traces) -> None:
    await Router(engine).apply(with_context(a_record(received(GP, a_referral()))))
    traces.off()
    await Router(engine).apply(with_context(a_record(updated(GP, a_form()))))

    found = await proof(engine)
    assert found.is_equal, found.differing
    async with engine.connect() as connection:
        kept = await packets.published(connection, "router")
    contexts = [dict(one.message.headers)["traceparent"].decode() for one in kept]
    assert contexts[0] != SENT
    assert contexts[-1] == SENT, "both were there to differ"


async def test_a_different_header_is_a_difference(engine: AsyncEngine) -> None:
    await Router(engine).apply(with_context(a_record(received(GP, a_referral()))))
    async with engine.begin() as tx:
        await with_other_messages(tx, KEY, with_another_sequence)
    assert [tables for _, tables in (await proof(engine)).differing] == [("message",)]


def with_another_sequence(one: Message) -> Message:
    return one._replace(headers=tuple((name, b"2" if name == "ce_sequence" else value) for name, value in one.headers))
