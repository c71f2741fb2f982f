"""What Kafka holds: records of topics from the first to the present end, and the positions of consumer groups."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError
from aiokafka.protocol.admin import DescribeGroupsRequest, DescribeGroupsRequest_v2

from services.messaging.cloudevents import KafkaRecord

BATCH = 500
"""Maximum number of records that are compared at once."""

ATTEMPTS = 50
"""How often Kafka is asked for the coordinator of a group."""

T = TypeVar("T")

Report = Callable[[str, int], None]
"""Called with what is being read or written, and how many records were."""


@dataclass(frozen=True, slots=True)
class KeptRecord:
    """A record, and the time of its timestamp in seconds since 1970."""

    record: KafkaRecord
    at: float

    @property
    def partition(self) -> TopicPartition:
        return TopicPartition(self.record.topic, self.record.partition)

    @property
    def key(self) -> str:
        return (self.record.key or b"").decode("ascii", "replace")

    def header(self, name: str) -> str:
        """Return a header's text; empty if it is missing."""
        return next(
            (value.decode("utf-8", "replace") for own, value in self.record.headers if own == name and value), ""
        )


class _DescribeGroups(DescribeGroupsRequest):  # type: ignore[misc]  # aiokafka ships no types
    """The request in version 2: aiokafka 0.14 cannot read the answer to version 3."""

    def build(self, request_struct_class: object) -> object:
        return DescribeGroupsRequest_v2(self._groups)


class KafkaTopics:
    """A consumer without a group, and an admin client."""

    def __init__(self, consumer: AIOKafkaConsumer, admin: AIOKafkaAdminClient, bootstrap: str) -> None:
        self._consumer = consumer
        self._admin = admin
        self._bootstrap = bootstrap

    async def read(self, topics: Collection[str], report: Report) -> AsyncIterator[list[KeptRecord]]:
        """Yield all records of these topics, up to their present ends, in the order of each partition."""
        partitions = await self._partitions(topics)
        if not partitions:
            return
        self._consumer.assign(partitions)
        await self._consumer.seek_to_beginning(*partitions)
        ends, done = await self._consumer.end_offsets(partitions), 0
        left = {one for one in partitions if await self._consumer.position(one) < ends[one]}
        while left:
            found = await self._consumer.getmany(*left, timeout_ms=500, max_records=BATCH)
            records = [_kept(one) for of in found.values() for one in of]
            if records:
                done += len(records)
                report(", ".join(topics), done)
                yield records
            left = {one for one in left if await self._consumer.position(one) < ends[one]}

    async def _partitions(self, topics: Collection[str]) -> list[TopicPartition]:
        described = await self._admin.describe_topics()  # all, because a request by name may create one
        return [
            TopicPartition(one["topic"], partition["partition"])
            for one in described
            if one["topic"] in topics
            for partition in one["partitions"]
        ]

    async def committed(self, group: str) -> dict[TopicPartition, int]:
        """Return the offsets that a group has committed."""
        found = await _despite_a_new_coordinator(lambda: self._admin.list_consumer_group_offsets(group))
        return {partition: at.offset for partition, at in found.items() if at.offset >= 0}

    async def firsts(self, topics: Collection[str]) -> dict[TopicPartition, int]:
        """Return the first offset of each partition."""
        firsts: dict[TopicPartition, int] = await self._consumer.beginning_offsets(await self._partitions(topics))
        return firsts

    async def ends(self, topics: Collection[str]) -> dict[TopicPartition, int]:
        """Return the end of each partition."""
        ends: dict[TopicPartition, int] = await self._consumer.end_offsets(await self._partitions(topics))
        return ends

    async def with_members(self, groups: Sequence[str]) -> list[str]:
        """Return those of these consumer groups that have members."""
        states = [await _despite_a_new_coordinator(partial(self._state, group)) for group in groups]
        return [group for group, state in zip(groups, states, strict=True) if state not in ("Empty", "Dead")]

    async def _state(self, group: str) -> str:
        node = await self._admin.find_coordinator(group)
        answer = await self._admin._client.send(node, _DescribeGroups([group]))
        [(_, _, state, *_)] = answer.groups
        return str(state)

    async def commit(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """Set the positions of a group that has no members."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self._bootstrap, group_id=group, enable_auto_commit=False)
        await consumer.start()
        try:
            consumer.assign(list(offsets))
            await consumer.commit(dict(offsets))
        finally:
            await consumer.stop()


async def _despite_a_new_coordinator(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask again while Kafka makes the topic of the groups' positions, or moves it to another broker."""
    for _ in range(ATTEMPTS):
        with contextlib.suppress(GroupCoordinatorNotAvailableError):
            return await ask()
        await asyncio.sleep(0.2)
    return await ask()


def _kept(one: ConsumerRecord) -> KeptRecord:
    record = KafkaRecord(one.topic, one.partition, one.offset, one.key, one.value or b"", tuple(one.headers))
    return KeptRecord(record, one.timestamp / 1000)


@contextlib.asynccontextmanager
async def opened(bootstrap: str) -> AsyncIterator[KafkaTopics]:
    """Yield a client; close it at the end."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap.split(","), enable_auto_commit=False)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap.split(","))
    try:
        await asyncio.gather(consumer.start(), admin.start())
        yield KafkaTopics(consumer, admin, bootstrap)
    finally:
        await asyncio.gather(consumer.stop(), admin.close(), return_exceptions=True)
