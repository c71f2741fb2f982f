"""A migrated database with the postcodes of the builders, emptied for each test."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.runtime import database as databases
from tests.builders.reference_data import POSTCODES
from tests.conftest import emptying


@pytest.fixture
async def engine(migrated: str) -> AsyncIterator[AsyncEngine]:
    engine = databases.connect(migrated)
    await emptied(engine, "router")
    yield engine
    await engine.dispose()


async def emptied(engine: AsyncEngine, *schemas: str) -> None:
    """Nothing in these schemas but the postcodes of the builders."""
    async with engine.begin() as tx:
        await tx.execute(text(emptying(*schemas)))
        await tx.execute(
            text("insert into router.postcode select * from unnest(cast(:p as text[]), cast(:d as text[]))"),
            {"p": list(POSTCODES), "d": list(POSTCODES.values())},
        )
