"""Records applied to PostgreSQL, and what the router stored."""

from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.messaging.cloudevents import KafkaRecord
from services.router.consumer import Batches
from tests.builders.events import KEY, NOW
from tests.builders.reference_data import DIRECTORY


def a_router(engine: AsyncEngine) -> Batches:
    return Batches(engine, DIRECTORY, clock=lambda: NOW)


async def apply(engine: AsyncEngine, *records: KafkaRecord) -> None:
    await a_router(engine).receive(records)


async def rows(engine: AsyncEngine, query: str, **given: Any) -> list[tuple[Any, ...]]:
    async with engine.connect() as connection:
        return [tuple(row) for row in await connection.execute(text(query), given)]


async def events(engine: AsyncEngine, key: str = KEY) -> list[str]:
    found = await rows(engine, "select type from router.case_event where person_key = :key order by sequence", key=key)
    return [kind.split(".")[3] for (kind,) in found]


async def case_id(engine: AsyncEngine, key: str = KEY) -> str:
    return str((await rows(engine, 'select case_id from router."case" where person_key = :key', key=key))[0][0])
