"""What an operator does about dead letters: find, resubmit, discard; and the record of it."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from infra.operations import dead_letters, queries
from infra.operations.audit_log import Operator
from infra.operations.queries import DeadLetterRow, Filters
from services.messaging.cloudevents import KafkaRecord
from tests.router.stored import a_router, rows

SINCE = datetime(2026, 1, 1, tzinfo=UTC)


BY = Operator("A. Operator", "because")


async def parked(engine: AsyncEngine, *records: KafkaRecord, **given: Any) -> list[DeadLetterRow]:
    await a_router(engine).receive(records)
    return await queries.find(engine, Filters(**given))


async def resubmit(engine: AsyncEngine, found: list[DeadLetterRow], by: Operator = BY) -> list[DeadLetterRow]:
    return await dead_letters.act(engine, await dead_letters.plan_resubmit(engine, found), by)


async def discard(engine: AsyncEngine, found: list[DeadLetterRow]) -> list[DeadLetterRow]:
    return await dead_letters.act(engine, await dead_letters.plan_discard(engine, found), BY)


async def actions(engine: AsyncEngine) -> list[tuple[Any, ...]]:
    return await rows(engine, "select action, operator, reason, details from router.operator_action order by id")
