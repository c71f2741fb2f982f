"""A migrated database for each file, emptied for each test."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from services.runtime import database as databases
from tests.router.conftest import emptied


@pytest.fixture
async def engine(migrated: str) -> AsyncIterator[AsyncEngine]:
    engine = databases.connect(migrated)
    await emptied(engine, "router", "notifier")
    yield engine
    await engine.dispose()
