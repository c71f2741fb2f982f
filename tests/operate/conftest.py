"""A migrated database for each file, emptied for each test."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.migrations import migrate
from services.messaging import database as databases
from tests.router.builders import POSTCODES


@pytest.fixture(scope="module")
def migrated(database: str) -> str:
    migrate(database)
    return database


@pytest.fixture
async def engine(migrated: str) -> AsyncIterator[AsyncEngine]:
    engine = databases.connect(migrated)
    await emptied(engine)
    yield engine
    await engine.dispose()


async def emptied(engine: AsyncEngine) -> None:
    """Nothing but the postcodes of the builders."""
    async with engine.begin() as tx:
        await tx.execute(text(_EMPTY))
        await tx.execute(
            text("insert into router.postcode select * from unnest(cast(:p as text[]), cast(:d as text[]))"),
            {"p": list(POSTCODES), "d": list(POSTCODES.values())},
        )


_EMPTY = """
    do $$ declare name text; begin
        for name in select format('%I.%I', schemaname, tablename) from pg_tables where schemaname in ('router', 'notifier') loop
            execute 'delete from ' || name;
        end loop;
    end $$"""
"""Much quicker than `truncate` while the tables are small."""
