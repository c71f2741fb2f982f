"""One intake process for all these tests, on a database of its own."""

import asyncio
import os
from collections.abc import Callable, Iterator

import pytest

from infra.database.migrations import migrate
from infra.local.embedded import ports_and_secrets
from schemas import topics
from services.messaging import broker
from tests.hostile.victim import SHORT, Victim
from tests.intake.certificates import Keys
from tests.intake.running import install

MANY = int(os.environ.get("LIGHTBULB_HOSTILE", "0"))
"""So many connections at once; without it the short version, with lower limits."""


@pytest.fixture(scope="session")
def many() -> int:
    """How many connections somebody opens: more than are taken."""
    return MANY or 220


@pytest.fixture(scope="session")
def victim(new_database: Callable[[], str], kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    folder, database = tmp_path_factory.mktemp("hostile"), new_database()
    migrate(database)
    asyncio.run(broker.create_topics(kafka, topics.declared(()), replication=1))
    installation = install(database, folder, kafka=kafka, settings={"MESSAGES_PER_SECOND": "2000"})
    limits = SHORT if MANY else SHORT | {"HTTP_CONNECTIONS": 150, "CONNECTIONS": 20, "HANDSHAKES": 20}
    started = Victim(installation, Keys(folder), ports_and_secrets.free_ports(3), limits)
    try:
        asyncio.run(started.until_ready())
        yield started
    finally:
        started.stop()
