"""A schema with an outbox and a quarantine, and topics of its own for each test."""

import os
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.database.migrations import parts
from schemas.events import Event, ReferralCancelled
from schemas.model import PersonKey, Reference
from schemas.topics import Topic
from services.messaging import broker
from services.runtime.database import connect


@pytest.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    tables = (*parts.outbox("tried"), *parts.dead_letters("tried"))
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


def an_event(key: str = "a" * 32, number: int = 1, id: str | None = None) -> Event:
    return Event(
        id=id or uuid.uuid4().hex,
        source="/lightbulb/tests",
        time=datetime(2026, 11, 1, 12, tzinfo=UTC),
        person_key=PersonKey(key),
        correlation_id="c1",
        sequence=number,
        data=ReferralCancelled(reference=Reference("LB-0000-0000-0000"), version=number),
    )


async def everything_on(bootstrap: str, topic: str, *, at_least: int = 0) -> Sequence[tuple[str, int]]:
    """(key, sequence) of every record of a topic, partition by partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(3)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        total, records = sum(ends.values()), []
        while len(records) < total:
            for batch in (await consumer.getmany(timeout_ms=500)).values():
                records += batch
    finally:
        await consumer.stop()
    assert len(records) >= at_least
    return [(record.key.decode(), int(dict(record.headers)["ce_sequence"])) for record in records]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """For a process that reaches neither database nor Kafka."""
    (tmp_path / "secret").write_bytes(os.urandom(32))
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LIGHTBULB_")}
    return inherited | {
        "LIGHTBULB_DATABASE": "postgresql+asyncpg://u:p@127.0.0.1:1/none",
        "LIGHTBULB_KAFKA": "127.0.0.1:1",
        "LIGHTBULB_SECRET_FILE": str(tmp_path / "secret"),
    }
