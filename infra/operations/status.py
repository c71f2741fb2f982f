"""Status of the hub: counts, consumer lag, and what waits longest."""

import asyncio
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from rich.table import Table
from sqlalchemy import text

from services.runtime import database
from services.runtime.backlog import outbox_queues

GROUPS = ("router", "notifier")

COUNTED = 10_000
"""Maximum number of rows that are counted; a longer table is estimated from the statistics of PostgreSQL."""


def _count(rows: str) -> str:
    """Return a query for the number of `rows` ("from TABLE where ..."), or "10,000 or more"."""
    return f"""
        select case when count(*) > {COUNTED} then '{COUNTED:,} or more' else count(*)::text end
        from (select {rows} limit {COUNTED + 1}) as counted"""  # noqa: S608 - constants


def _estimate(table: str) -> str:
    """Return a query for the number of rows of a table: "about", if they are not counted.

    `pg_class.reltuples` is from the last VACUUM or ANALYZE.
    """
    estimated = f"(select reltuples from pg_class where oid = '{table}'::regclass)"  # noqa: S608 - constants
    return f"""
        select case when count(*) > {COUNTED} then 'about ' || to_char(greatest({COUNTED}, {estimated}), 'FM999,999,999,999')
                    else count(*)::text end
        from (select from {table} limit {COUNTED + 1}) as counted"""  # noqa: S608 - constants


def _oldest_unpublished(schema: str) -> str:
    return f"""
        with recursive {outbox_queues(schema)}
        select extract(epoch from clock_timestamp() - min(first.created_at))::int from queue cross join lateral (
            select created_at from {schema}.outbox
            where published_at is null and shard = queue.shard and target = queue.target order by id limit 1) as first"""  # noqa: S608 - constants


def _outbox(schema: str) -> dict[str, str]:
    return {
        "events unpublished": _count(f"from {schema}.outbox where published_at is null"),
        "oldest unpublished, seconds": _oldest_unpublished(schema),
    }


def _paused(schema: str) -> str:
    return f"select coalesce(string_agg(topic, ', ' order by topic), 'none') from {schema}.paused_topic where until > clock_timestamp()"  # noqa: S608 - a constant


QUESTIONS: dict[str, dict[str, str]] = {
    "intake": {
        "messages kept": _estimate("intake.message"),
        "refused of the latest 10,000": f"""
            select count(*) from (select verdict from intake.message order by received_at desc limit {COUNTED}) as latest
            where verdict = 'refused'""",  # noqa: S608 - a constant
        "referrals": _estimate("intake.referral"),
        **_outbox("intake"),
    },
    "router": {
        "persons": _estimate("router.person"),
        "persons to trace": _count("from router.person where doubted_since is not null"),
        "cases open": _count('from router."case" where ended_at is null'),
        "cases": _estimate('router."case"'),
        "dead letters": _count("from router.dead_letter where resolved_at is null"),
        "topics paused": _paused("router"),
        **_outbox("router"),
    },
    "notifier": {
        "feedback composed": _estimate("notifier.feedback"),
        "feedback waiting": _count("from notifier.feedback where state = 'waiting'"),
        "feedback failed": _count("from notifier.feedback where state = 'failed'"),
        "dead letters": _count("from notifier.dead_letter where resolved_at is null"),
        "topics paused": _paused("notifier"),
        **_outbox("notifier"),
        "oldest undelivered, seconds": "select extract(epoch from clock_timestamp() - composed_at)::int"
        " from notifier.feedback where state = 'waiting' order by composed_at limit 1",
        "oldest undelivered, reference": "select reference from notifier.feedback where state = 'waiting'"
        " order by composed_at limit 1",
    },
}


async def position(database_url: str, kafka: str) -> dict[str, dict[str, Any]]:
    """Return numbers by service ("about N" or "10,000 or more" if they are not counted), and the lag of each consumer group in records."""
    answers, lags = await asyncio.gather(_ask(database_url), _lags(kafka))
    return {**answers, "lag": dict(lags)}


async def _ask(url: str) -> dict[str, dict[str, Any]]:
    engine = database.connect(url, pool=1)
    try:
        async with engine.connect() as connection:
            await connection.execute(text("set enable_seqscan to off"))  # a count stops at its limit, by any index
            return {
                service: {
                    name: _number((await connection.execute(text(query))).scalar()) for name, query in questions.items()
                }
                for service, questions in QUESTIONS.items()
            }
    finally:
        await engine.dispose()


def _number(answer: Any) -> Any:
    """Return a count as a number, and an estimate as its text."""
    return int(answer) if isinstance(answer, str) and answer.isdecimal() else answer


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
