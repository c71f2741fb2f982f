"""A Kafka client of the field cases: publish, read, and measure the lag of a consumer group."""

import contextlib
import uuid
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete


def event_headers(kind: str, key: str, source: str, event_id: str | None = None) -> dict[str, str]:
    """The CloudEvents headers of a new event."""
    return {
        "ce_specversion": "1.0",
        "ce_id": event_id or str(uuid.uuid4()),
        "ce_type": kind,
        "ce_source": source,
        "ce_time": datetime.now(UTC).isoformat(),
        "ce_partitionkey": key,
        "ce_correlationid": str(uuid.uuid4()),
        "content-type": "application/json",
    }


async def publish(settings: Mapping[str, Any], topic: str, key: str, headers: Mapping[str, str], value: bytes) -> None:
    producer = AIOKafkaProducer(**settings, acks="all")
    await producer.start()
    try:
        pairs = [(name, text.encode()) for name, text in headers.items()]
        await producer.send_and_wait(topic, value, key=key.encode(), headers=pairs)
    finally:
        await producer.stop()


async def read(settings: Mapping[str, Any], topics: Iterable[str], since: int) -> list[Any]:
    """Every record of these topics from a time in milliseconds to their present ends, by time."""
    async with consumer(settings, topics) as reader:
        partitions = reader.assignment()
        ends = await reader.end_offsets(partitions)
        starts = await reader.offsets_for_times(dict.fromkeys(partitions, since))
        for one in partitions:
            reader.seek(one, starts[one].offset if starts.get(one) else ends[one])
        records: list[Any] = []
        while any([await reader.position(one) < ends[one] for one in partitions]):
            for batch in (await reader.getmany(timeout_ms=100)).values():
                records += batch
        return sorted(records, key=lambda record: record.timestamp)


@contextlib.asynccontextmanager
async def consumer(settings: Mapping[str, Any], topics: Iterable[str]) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of all partitions of these topics, without a group. Its fetches do not hold up its other requests."""
    one = AIOKafkaConsumer(*topics, **settings, fetch_max_wait_ms=20)
    await one.start()
    try:
        yield one
    finally:
        await one.stop()


@contextlib.asynccontextmanager
async def admin(settings: Mapping[str, Any]) -> AsyncIterator[AIOKafkaAdminClient]:
    one = AIOKafkaAdminClient(**settings)
    await one.start()
    try:
        yield one
    finally:
        await one.close()


async def lag(client: AIOKafkaAdminClient, reader: AIOKafkaConsumer, group: str, topics: Collection[str]) -> int:
    """Records of these topics that a consumer group has not committed."""
    partitions = [one for one in reader.assignment() if one.topic in topics]
    ends, begin = await reader.end_offsets(partitions), await reader.beginning_offsets(partitions)
    committed = await client.list_consumer_group_offsets(group)
    at = {one: max(begin[one], committed[one].offset if one in committed else 0) for one in partitions}
    return sum(max(0, ends[one] - at[one]) for one in partitions)


async def delete_records(settings: Mapping[str, Any], topic: str) -> None:
    """Delete every record of a topic, as its retention does."""
    async with admin(settings) as client, consumer(settings, [topic]) as reader:
        ends = await reader.end_offsets(reader.assignment())
        await client.delete_records({one: RecordsToDelete(before_offset=end) for one, end in ends.items() if end})
