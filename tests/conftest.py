"""Kafka and PostgreSQL for the tests that ask for them: started at the first use, once for the whole run."""

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest

from infra.database.migrations import migrate
from infra.local.embedded import providers
from infra.local.embedded.providers import Provided
from tests import canaries
from tests.traced import Traces, traces_on

LOG = pytest.StashKey[Path]()
"""Where this run logs."""

FOUND = pytest.StashKey[list[str]]()
"""Where the workers' logs hold personal data."""


def pytest_configure(config: pytest.Config) -> None:
    folder = Path(tempfile.mkdtemp(prefix="lightbulb-test-log-"))
    config.stash[LOG] = folder / "run.log"
    canaries.log_everything(config.stash[LOG])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The walks take longest: where two workers share the run, they begin first."""
    items.sort(key=lambda item: (item.path.parent.name != "end_to_end", item.path.name == "test_no_personal_data.py"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file's tests stay on one worker, and so do all that need the walks' one installation."""
    from xdist.scheduler import LoadFileScheduling  # only where workers share the run

    class ByInstallation(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "end_to_end" if nodeid.startswith("tests/end_to_end/") else str(super()._split_scope(nodeid))

    return ByInstallation(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_sessionfinish(session: pytest.Session) -> None:
    """The run fails where its logs hold personal data: its own log, and logs and traces of the services that it started."""
    log = session.config.stash[LOG]
    temporary = getattr(session.config, "_tmp_path_factory", None)
    written = (
        [file for kind in ("*.log", "*.traces") for file in temporary.getbasetemp().rglob(kind)] if temporary else []
    )
    found = [*canaries.found_in([log, *written]), *session.config.stash.get(FOUND, [])]
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["canaries"] = found
    elif found:
        sys.stderr.write("\nPersonal data in the logs or traces of this run:\n" + "\n".join(found[:20]) + "\n")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if not found:
        shutil.rmtree(log.parent, ignore_errors=True)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """What a worker found counts for the whole run."""
    found = node.config.stash.setdefault(FOUND, [])
    found += getattr(node, "workeroutput", {}).get("canaries", [])


def pytest_report_header() -> str:
    return f"servers, where a test asks for them: {providers.announced()}"


@pytest.fixture(scope="session")
def kafka_provided() -> Iterator[Provided]:
    with providers.kafka() as provided:
        yield provided


@pytest.fixture(scope="session")
def kafka(kafka_provided: Provided) -> str:
    """The bootstrap address. All tests of a run share it: name your topics and groups apart."""
    return kafka_provided.address


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of the server's first database; ask for `database` to get one of your own."""
    with providers.postgres(fsync=False) as provided:
        yield provided.address


@pytest.fixture(scope="session")
def new_database(postgres: str) -> Iterator[Callable[[], str]]:
    """Makes an empty database at each call and gives its address (asyncpg); all are dropped at the end of the run."""
    made: list[str] = []

    def make() -> str:
        made.append(f"test_{uuid4().hex}")
        execute(postgres, f"create database {made[-1]}")
        return urlunsplit(urlsplit(postgres)._replace(path=f"/{made[-1]}"))

    yield make
    for name in made:
        execute(postgres, f"drop database {name} with (force)")


@pytest.fixture(scope="module")
def database(new_database: Callable[[], str]) -> str:
    """The address of an empty database for this file's tests."""
    return new_database()


@pytest.fixture(scope="module")
def migrated(database: str) -> str:
    """The same with our tables."""
    migrate(database)
    return database


def empty(address: str, *schemas: str) -> str:
    """The same database with nothing in the tables of these schemas: in a tenth of the time that a copy takes."""
    execute(address, emptying(*schemas))
    return address


def emptying(*schemas: str) -> str:
    """The statement that leaves nothing in the tables of these schemas. Quicker than `truncate` while they are small."""
    named = ", ".join(f"'{schema}'" for schema in schemas)
    return f"""
        do $$ declare name text; begin
            for name in select format('%I.%I', schemaname, tablename) from pg_tables where schemaname in ({named}) loop
                execute 'delete from ' || name;
            end loop;
        end $$"""


def execute(address: str, statement: str) -> None:
    """On a connection of its own, in a thread of its own: the caller's thread may have a running event loop."""

    async def on_connection() -> None:
        connection = await asyncpg.connect(address.replace("+asyncpg", ""))
        await connection.execute(statement)
        await connection.close()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, on_connection()).result()


@pytest.fixture
def traces() -> Iterator[Traces]:
    """Switch traces on in this process and keep them for the test."""
    with traces_on() as kept:
        yield kept
