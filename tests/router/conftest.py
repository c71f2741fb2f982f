"""A migrated database with the postcodes of the builders, emptied for each test."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.migrations import migrate
from services.messaging import database as databases
from tests.router.builders import POSTCODES

TABLES = ("person_key", "person", '"case"', "referral", "input", "case_event", "outbox", "quarantine", "postcode")


@pytest.fixture(scope="module")
def migrated(database: str) -> str:
    migrate(database)
    return database


@pytest.fixture
async def engine(migrated: str) -> AsyncIterator[AsyncEngine]:
    engine = databases.connect(migrated)
    async with engine.begin() as tx:
        await tx.execute(text(f"truncate {', '.join(f'router.{table}' for table in TABLES)}"))
        await tx.execute(
            text("insert into router.postcode select * from unnest(cast(:p as text[]), cast(:d as text[]))"),
            {"p": list(POSTCODES), "d": list(POSTCODES.values())},
        )
    yield engine
    await engine.dispose()
