"""Unread records: of the topics of the hubs, by their systems' consumer groups, and of those of the router and the notifier."""

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from schemas.topics import CASE_EVENT, REFERRAL_EVENT
from services.runtime import unread

SECONDS = 20.0
"""Time limit for all requests to Kafka."""

Offsets = Mapping[TopicPartition, int]
"""An offset of each partition: of the next record to read, of the first that Kafka has, or of the end."""


@dataclass(frozen=True, slots=True)
class TopicOffsets:
    """The first offset and the end of each partition, and what each consumer group has committed."""

    first: Offsets
    end: Offsets
    committed: Mapping[str, Offsets]


@dataclass(frozen=True, slots=True)
class Unread:
    """Records of a reader's topics that wait for its consumer group, and the age of the first in seconds (None: not known).

    `group`: of a hub's topic, the group that has read furthest; None if no group has a position there. `deleted`: records that Kafka
    deleted before that group read them.
    """

    group: str | None
    records: int
    deleted: int
    oldest: float | None = None
    missing: str | None = None
    """The topic that it reads and that does not exist."""


async def look(bootstrap: str) -> dict[str, Unread]:
    """Return what is unread by reader: `router`, `notifier`, and the topic of each hub. Raise if Kafka does not answer."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, max_partition_fetch_bytes=unread.FETCH_BYTES)
    try:
        async with asyncio.timeout(SECONDS):
            await asyncio.gather(admin.start(), consumer.start())
            offsets = await _offsets(admin, consumer)
            found = {reader: _of_reader(offsets, *of) for reader, of in readers(offsets).items()}
            lacking = _lacking({one.topic for one in offsets.end})
            starts = {partition: offset for _, waiting in found.values() for partition, offset in waiting.items()}
            times = await unread.timestamps(consumer, starts, seconds=SECONDS / 4)
    finally:
        await asyncio.gather(admin.close(), consumer.stop(), return_exceptions=True)
    return {
        reader: replace(one, oldest=_age(times, waiting), missing=lacking.get(reader))
        for reader, (one, waiting) in found.items()
    }


def _lacking(existing: Collection[str]) -> dict[str, str]:
    """Return the internal topic that does not exist, by its reader."""
    read = {"router": REFERRAL_EVENT, "notifier": CASE_EVENT}
    return {reader: topic for reader, topic in read.items() if topic not in existing}


async def _offsets(admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer) -> TopicOffsets:
    partitions = [
        TopicPartition(topic["topic"], partition["partition"])
        for topic in await admin.describe_topics()  # all topics, because a request by name may create one
        for partition in topic["partitions"]
        if topic["topic"] in (REFERRAL_EVENT, CASE_EVENT) or topic["topic"].startswith("hub.")
    ]
    groups = sorted({group[0] for group in await admin.list_consumer_groups()})
    by_group = await asyncio.gather(*(admin.list_consumer_group_offsets(group) for group in groups))
    first, end = await asyncio.gather(consumer.beginning_offsets(partitions), consumer.end_offsets(partitions))
    committed = {
        group: {partition: at.offset for partition, at in of.items() if partition in end and at.offset >= 0}
        for group, of in zip(groups, by_group, strict=True)
    }
    return TopicOffsets(first, end, committed)


def readers(offsets: TopicOffsets) -> dict[str, tuple[list[str], list[TopicPartition]]]:
    """Return the consumer groups that may be each reader's, and its partitions."""
    found: dict[str, tuple[list[str], list[TopicPartition]]] = {name: ([name], []) for name in ("router", "notifier")}
    for one in sorted(offsets.end):
        if one.topic.endswith(".case"):
            groups = [name for name, of in offsets.committed.items() if any(at.topic == one.topic for at in of)]
            found.setdefault(one.topic, (groups, []))[1].append(one)
        else:
            found["notifier" if one.topic == CASE_EVENT else "router"][1].append(one)
    return found


def _of_reader(
    offsets: TopicOffsets, groups: Sequence[str], partitions: Sequence[TopicPartition]
) -> tuple[Unread, Offsets]:
    """Return what is unread by the group that has read furthest, and from which offsets it continues."""
    each = [_of_group(offsets, group, partitions) for group in groups or ("",)]
    return min(each, key=lambda one: (one[0].records, one[0].deleted))


def _of_group(offsets: TopicOffsets, group: str, partitions: Sequence[TopicPartition]) -> tuple[Unread, Offsets]:
    committed, first, end = offsets.committed.get(group, {}), offsets.first, offsets.end
    next_offsets = {one: min(max(first[one], committed.get(one, 0)), end[one]) for one in partitions}
    waiting = {one: at for one, at in next_offsets.items() if at < end[one]}
    deleted = sum(max(0, first[one] - committed[one]) for one in partitions if one in committed)
    return Unread(group or None, sum(end[one] - at for one, at in waiting.items()), deleted), waiting


def _age(times: Mapping[TopicPartition, float], waiting: Offsets) -> float | None:
    known = [times[one] for one in waiting if one in times]
    return max(0.0, time.time() - min(known)) if known else None
