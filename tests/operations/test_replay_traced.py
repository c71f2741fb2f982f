"""What a traced service applied is rebuilt the same by a replay, which is not traced: contexts are no part of what stands."""

import json

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.builders.events import a_record, received, updated
from tests.builders.referrals import GP, a_form, a_referral
from tests.operations.replays import Router, proof
from tests.traced import SENT, Traces, with_context


async def test_the_output_of_a_traced_router_equals_its_replay(engine: AsyncEngine, traces: Traces) -> None:
    await Router(engine).apply(with_context(a_record(received(GP, a_referral()))))
    traces.off()
    await Router(engine).apply(with_context(a_record(updated(GP, a_form()))))

    found = await proof(engine)
    assert found.is_equal, found.differing
    async with engine.connect() as connection:
        kept = await connection.scalars(text("select headers from router.outbox order by id"))
    contexts = [json.loads(headers)["traceparent"] for headers in kept]
    assert contexts[0] != SENT
    assert contexts[-1] == SENT, "both were there to differ"


async def test_a_different_header_is_a_difference(engine: AsyncEngine) -> None:
    await Router(engine).apply(with_context(a_record(received(GP, a_referral()))))
    async with engine.begin() as tx:
        await tx.execute(
            text('update router.outbox set headers = replace(headers, \'"ce_sequence": "1"\', \'"ce_sequence": "2"\')')
        )
    assert [tables for _, tables in (await proof(engine)).differing] == [("outbox",)]
