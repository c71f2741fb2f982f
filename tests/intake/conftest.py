"""A migrated database for each file, emptied for each test, and intake on it."""

import os
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.database.migrations import migrate
from services.runtime import database
from tests.conftest import empty, execute
from tests.intake.running import InProcess, Installation, Processes, install


def _named(server: str, name: str) -> str:
    return make_url(server).set(database=name).render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def template(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """A server, and a migrated database on it that each test's own is a copy of: migrating takes a second, copying does not."""
    server = os.environ.get("LIGHTBULB_DATABASE") or str(request.getfixturevalue("postgres"))
    name = f"intake_template_{uuid.uuid4().hex[:10]}"
    execute(server, f"create database {name}")
    migrate(_named(server, name).replace("postgresql://", "postgresql+asyncpg://"))
    yield server, name
    execute(server, f"drop database {name} with (force)")


@contextmanager
def a_database(template: tuple[str, str]) -> Iterator[str]:
    """A migrated database for as long as it is needed."""
    server, original = template
    name = f"intake_{uuid.uuid4().hex[:10]}"
    execute(server, f"create database {name} template {original}")
    yield _named(server, name).replace("postgresql://", "postgresql+asyncpg://")
    execute(server, f"drop database {name} with (force)")


@pytest.fixture(scope="module")
def one_database(template: tuple[str, str]) -> Iterator[str]:
    """One for all tests of a module."""
    with a_database(template) as url:
        yield url


@pytest.fixture
def database_url(request: pytest.FixtureRequest, template: tuple[str, str], one_database: str) -> Iterator[str]:
    """The module's database, emptied; one of the test's own where it changes tables."""
    if request.node.get_closest_marker("own_database"):
        with a_database(template) as url:
            yield url
    else:
        yield empty(one_database, "intake")


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
