"""Status of the hub: counts, consumer lag, and what waits longest."""

import asyncio
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from rich.table import Table
from sqlalchemy import text

from services.runtime import database

GROUPS = ("router", "notifier")

QUESTIONS: dict[str, dict[str, str]] = {
    "intake": {
        "messages kept": "select count(*) from intake.message",
        "of them refused": "select count(*) from intake.message where verdict = 'refused'",
        "referrals": "select count(*) from intake.referral where version > 0 and not starts_with(referral_id, '^test^')",
        "events unpublished": "select count(*) from intake.outbox where published_at is null",
        "oldest unpublished, seconds": "select extract(epoch from clock_timestamp() - min(created_at))::int from intake.outbox"
        " where published_at is null",
    },
    "router": {
        "persons": "select count(*) from router.person",
        "persons to trace": "select count(*) from router.person where doubted_since is not null",
        "cases open": 'select count(*) from router."case" where ended_at is null',
        "cases ended": 'select count(*) from router."case" where ended_at is not null',
        "dead letters": "select count(*) from router.dead_letter where resolved_at is null",
        "events unpublished": "select count(*) from router.outbox where published_at is null",
        "oldest unpublished, seconds": "select extract(epoch from clock_timestamp() - min(created_at))::int from router.outbox"
        " where published_at is null",
    },
    "notifier": {
        "feedback accepted by its carrier, or kept": "select count(*) from notifier.feedback where state = 'accepted'",
        "feedback waiting": "select count(*) from notifier.feedback where state = 'waiting'",
        "feedback failed": "select count(*) from notifier.feedback where state = 'failed'",
        "dead letters": "select count(*) from notifier.dead_letter where resolved_at is null",
        "oldest undelivered, seconds": "select extract(epoch from clock_timestamp() - min(composed_at))::int"
        " from notifier.feedback where state = 'waiting'",
        "oldest undelivered, reference": "select reference from notifier.feedback where state = 'waiting'"
        " order by composed_at limit 1",
    },
}


async def position(database_url: str, kafka: str) -> dict[str, dict[str, Any]]:
    """Return numbers by service, and the lag of each consumer group in records."""
    answers, lags = await asyncio.gather(_ask(database_url), _lags(kafka))
    return {**answers, "lag": dict(lags)}


async def _ask(url: str) -> dict[str, dict[str, Any]]:
    engine = database.connect(url, pool=1)
    try:
        async with engine.connect() as connection:
            return {
                service: {name: (await connection.execute(text(query))).scalar() for name, query in questions.items()}
                for service, questions in QUESTIONS.items()
            }
    finally:
        await engine.dispose()


async def _lags(kafka: str) -> dict[str, int | str]:
    """Return the lag by group; an error text if Kafka is not reachable, so that the rest is still shown."""
    try:
        return dict(await _fetch_lags(kafka))
    except (KafkaError, OSError) as error:
        return dict.fromkeys(GROUPS, f"unknown: {type(error).__name__}")


async def _fetch_lags(kafka: str) -> dict[str, int]:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka)
    await asyncio.gather(admin.start(), consumer.start())
    try:
        return {group: await _lag(admin, consumer, group) for group in GROUPS}
    finally:
        await asyncio.gather(admin.close(), consumer.stop())


async def _lag(admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer, group: str) -> int:
    """Return the number of records from the group's committed offsets to the ends of those partitions."""
    committed: dict[TopicPartition, Any] = await admin.list_consumer_group_offsets(group)
    ends = await consumer.end_offsets(list(committed))
    return sum(max(0, ends[partition] - max(0, at.offset)) for partition, at in committed.items())


def table(counts: dict[str, dict[str, Any]]) -> Table:
    """Return the status as a table for a terminal."""
    shown = Table(box=None, header_style="bold")
    for column in ("service", "what", "now"):
        shown.add_column(column, justify="right" if column == "now" else "left")
    for service, answers in counts.items():
        for name, answer in answers.items():
            shown.add_row(service, name, "-" if answer is None else str(answer))
    return shown
