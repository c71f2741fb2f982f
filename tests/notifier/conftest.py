"""A migrated database of each test's own: one is migrated, and copied."""

import os
import uuid
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit, urlunsplit

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.migrations import migrate
from services.messaging import database
from tests.conftest import execute
from tests.notifier.gp_system import GpSystem
from tests.notifier.sandbox import sandbox

__all__ = ["sandbox"]


def _named(server: str, name: str) -> str:
    return urlunsplit(urlsplit(server)._replace(path=f"/{name}"))


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> str:
    return os.environ.get("LIGHTBULB_DATABASE") or str(request.getfixturevalue("postgres"))


@pytest.fixture(scope="session")
def migrated(server: str) -> Iterator[str]:
    """Name of a migrated database that nobody is connected to."""
    name = f"notifier_{uuid.uuid4().hex[:10]}"
    execute(server, f"create database {name}")
    migrate(_named(server, name))
    yield name
    execute(server, f"drop database {name} with (force)")


@pytest.fixture
def database_url(server: str, migrated: str) -> Iterator[str]:
    name = f"notifier_{uuid.uuid4().hex[:10]}"
    execute(server, f"create database {name} template {migrated}")
    yield _named(server, name)
    execute(server, f"drop database {name} with (force)")


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = database.connect(database_url)
    yield engine
    await engine.dispose()


@pytest.fixture
async def gp() -> AsyncIterator[GpSystem]:
    async with GpSystem() as system:
        yield system
