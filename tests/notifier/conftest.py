"""A migrated database for each file, emptied for each test."""

import os
import uuid
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit, urlunsplit

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.migrations import migrate
from services.messaging import database
from tests.conftest import empty, execute
from tests.notifier.gp_system import GpSystem
from tests.notifier.sandbox import sandbox

__all__ = ["sandbox"]


def _named(server: str, name: str) -> str:
    return urlunsplit(urlsplit(server)._replace(path=f"/{name}"))


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> str:
    return os.environ.get("LIGHTBULB_DATABASE") or str(request.getfixturevalue("postgres"))


@pytest.fixture(scope="module")
def migrated(server: str) -> Iterator[str]:
    name = f"notifier_{uuid.uuid4().hex[:10]}"
    execute(server, f"create database {name}")
    migrate(_named(server, name))
    yield _named(server, name)
    execute(server, f"drop database {name} with (force)")


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
