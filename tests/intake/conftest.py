"""A migrated database for each test, and intake on it."""

import os
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from infra.migrations import migrate
from services.messaging import database
from tests.intake.running import InProcess, Installation, Processes, install


@pytest.fixture
async def database_url(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    server = os.environ.get("LIGHTBULB_DATABASE") or str(request.getfixturevalue("database"))
    name = f"intake_{uuid.uuid4().hex[:10]}"
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
def installation(database_url: str, tmp_path: Path) -> Installation:
    return install(database_url, tmp_path)


@pytest.fixture
async def intake(installation: Installation, engine: AsyncEngine) -> AsyncIterator[InProcess]:
    async with InProcess(installation, engine) as running:
        yield running


@pytest.fixture
def processes() -> Iterator[list[Processes]]:
    """Whatever a test starts is stopped after it."""
    started: list[Processes] = []
    yield started
    for each in started:
        each.stop()
