"""A migrated database for each file, emptied for each test."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from services.runtime import database
from tests.conftest import empty
from tests.notifier.gp_system import GpSystem
from tests.notifier.sandbox import sandbox

__all__ = ["sandbox"]


@pytest.fixture
def database_url(migrated: str) -> str:
    return empty(migrated, "notifier")


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = database.connect(database_url)
    yield engine
    await engine.dispose()


@pytest.fixture
async def gp() -> AsyncIterator[GpSystem]:
    async with GpSystem() as system:
        yield system
