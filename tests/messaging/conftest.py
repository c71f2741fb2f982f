"""A schema with outbox and dead letters, and separate topics for each test."""

import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.database.migrations import parts
from infra.local.embedded import ports_and_secrets
from schemas.topics import Topic
from services.messaging import broker
from services.runtime.database import connect


@pytest.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    tables = (*parts.outbox("tried"), *parts.dead_letters("tried"), *parts.positions("tried"))
    engine = connect(database)
    async with engine.begin() as tx:
        for statement in ("drop schema if exists tried cascade", "create schema tried", *tables):
            await tx.execute(text(statement))
    yield engine
    await engine.dispose()


@pytest.fixture
def bootstrap(kafka: str) -> str:
    return kafka


@pytest.fixture
async def topic(bootstrap: str) -> str:
    name = f"tried.{uuid.uuid4().hex[:8]}"
    await broker.create_topics(bootstrap, [Topic(name, 3)], replication=1)
    return name


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """For a process that reaches neither database nor Kafka."""
    ports_and_secrets.secret(tmp_path / "secret")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LIGHTBULB_")}
    return inherited | {
        "LIGHTBULB_DATABASE": "postgresql+asyncpg://u:p@127.0.0.1:1/none",
        "LIGHTBULB_KAFKA": "127.0.0.1:1",
        "LIGHTBULB_SECRET_FILE": str(tmp_path / "secret"),
        "LIGHTBULB_HTTP_PORT": "0",
        "LIGHTBULB_STOP_DELAY_SECONDS": "0",
    }
