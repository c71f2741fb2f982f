"""A migrated database of each test's own, and a notifier on it."""

import os
import uuid
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from infra.migrations import migrate
from services.messaging import database
from tests.notifier.gp_system import GpSystem


@pytest.fixture
async def database_url(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    server = os.environ.get("LIGHTBULB_DATABASE") or str(request.getfixturevalue("database"))
    name = f"notifier_{uuid.uuid4().hex[:10]}"
    owner = create_async_engine(server, isolation_level="AUTOCOMMIT")
    async with owner.connect() as connection:
        await connection.execute(text(f"create database {name}"))
    url = make_url(server).set(database=name).render_as_string(hide_password=False)
    migrate(url)
    yield url
    async with owner.connect() as connection:
        await connection.execute(text(f"drop database {name} with (force)"))
    await owner.dispose()


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = database.connect(database_url)
    yield engine
    await engine.dispose()


@pytest.fixture
async def gp() -> AsyncIterator[GpSystem]:
    async with GpSystem() as system:
        yield system
