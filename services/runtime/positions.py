"""Positions of a consumer group in PostgreSQL, and the records that were deleted from Kafka before it read them.

Our topics have no compaction and no transactions, so the record after offset n has offset n + 1. Anything else means that records were
deleted unread: by retention, by a topic that was made again, by offsets that were moved ahead, or by a database restored from an older
copy. Positions are kept after a batch is applied and before its offsets are committed, so that a commit cannot hide a gap.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from aiokafka import TopicPartition
from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.runtime.database import Transaction
from services.runtime.logs import log


@dataclass(frozen=True, slots=True)
class Gap:
    """Records that a group did not read: from `first` to before `next`.

    `next` is lower than `first` if the topic ends before the group's position: it was made again, or restored from an older copy.
    """

    partition: TopicPartition
    first: int
    next: int

    @property
    def records(self) -> int:
        """Return how many records were not read; 1 if it is not known."""
        return max(1, self.next - self.first)


@dataclass(frozen=True, slots=True)
class StoredPositions:
    """What a service's schema has: the offset that follows the last applied record of each partition, and unresolved gaps."""

    next: Mapping[TopicPartition, int] = field(default_factory=dict)
    gone: Sequence[Gap] = ()


def find_gap(partition: TopicPartition, at: int, committed: int | None, first: int, end: int) -> Gap | None:
    """Return what a group whose stored position is `at` does not read. `first`, `end`: the offsets that Kafka has."""
    if at > end:
        return Gap(partition, at, first)
    reads_from = max(first, min(committed or 0, end))
    return Gap(partition, at, reads_from) if reads_from > at else None


async def stored(tx: Transaction, schema: str, topics: Collection[str]) -> StoredPositions:
    """Return the positions of a service on these topics, and its unresolved gaps."""
    at = await tx.execute(_positions(schema), {"topics": sorted(topics)})
    gone = await tx.execute(_unresolved(schema))
    return StoredPositions(
        {TopicPartition(topic, partition): offset for topic, partition, offset in at},
        [Gap(TopicPartition(topic, partition), first, following) for topic, partition, first, following in gone],
    )


def _positions(schema: str) -> TextClause:
    return text(f"""
        select known.* from unnest(cast(:topics as text[])) as sought (topic) cross join lateral (
            select topic, partition, next_offset from {schema}.consumer_position
            where topic = sought.topic offset 0) as known""")  # noqa: S608 - a constant


def _unresolved(schema: str) -> TextClause:
    return text(f"""
        select topic, partition, first_offset, next_offset from {schema}.records_gone
        where resolved_at is null order by noticed_at limit {GAPS}""")  # noqa: S608 - constants


GAPS = 1_000
"""Maximum number of unresolved gaps that are read."""


async def save(engine: AsyncEngine, schema: str, reached: Mapping[TopicPartition, int], gaps: Iterable[Gap]) -> None:
    """Store gaps and positions in one transaction. A position does not go back, unless its topic was made again."""
    gaps = list(gaps)
    for gap in gaps:
        log.error("records_gone", topic=gap.partition.topic, partition=gap.partition.partition, records=gap.records)
    async with engine.begin() as tx:
        if gaps:
            await tx.execute(_gone(schema), _columns({(gap.partition, gap.first): gap.next for gap in gaps}))
            for gap in gaps:
                if gap.next < gap.first:
                    await tx.execute(_forget(schema), gap.partition._asdict())
        if reached:
            await tx.execute(_reach(schema), _columns(dict.fromkeys(reached.items(), 0)))


def _columns(offsets: Mapping[tuple[TopicPartition, int], int]) -> dict[str, list[object]]:
    return {
        "topics": [one.topic for one, _ in offsets],
        "partitions": [one.partition for one, _ in offsets],
        "firsts": [first for _, first in offsets],
        "nexts": list(offsets.values()),
    }


_GIVEN = """unnest(cast(:topics as text[]), cast(:partitions as integer[]), cast(:firsts as bigint[]), cast(:nexts as bigint[]))
        as given (topic, partition, first_offset, next_offset)"""


def _gone(schema: str) -> TextClause:
    """Insert gaps; one that grew is no longer resolved."""
    return text(f"""
        insert into {schema}.records_gone as known (topic, partition, first_offset, next_offset)
        select topic, partition, first_offset, next_offset from {_GIVEN} order by 1, 2, 3
        on conflict (topic, partition, first_offset) do update set next_offset = excluded.next_offset, resolved_at = null
        where excluded.next_offset > known.next_offset""")  # noqa: S608 - constants


def _forget(schema: str) -> TextClause:
    return text(f"delete from {schema}.consumer_position where topic = :topic and partition = :partition")  # noqa: S608 - a constant


def _reach(schema: str) -> TextClause:
    return text(f"""
        insert into {schema}.consumer_position as known (topic, partition, next_offset)
        select topic, partition, first_offset from {_GIVEN} order by 1, 2
        on conflict (topic, partition) do update set next_offset = excluded.next_offset
        where excluded.next_offset > known.next_offset""")  # noqa: S608 - constants


class RecordPlace(Protocol):
    """A record's topic, partition and offset."""

    @property
    def topic(self) -> str: ...

    @property
    def partition(self) -> int: ...

    @property
    def offset(self) -> int: ...


R = TypeVar("R", bound=RecordPlace)


class Positions:
    """The positions of a consumer: it compares each record's offset with the one that has to follow."""

    def __init__(self, engine: AsyncEngine, schema: str) -> None:
        self._engine = engine
        self._schema = schema
        self._next: dict[TopicPartition, int] = {}
        self._read_topics: set[str] = set()
        self.end_of: Callable[[TopicPartition], int | None] = lambda _: None
        """Return the end of a partition, as Kafka gave it with the last records."""

    def forget(self) -> None:
        """Read the stored positions again: other consumers may have read on."""
        self._next, self._read_topics = {}, set()

    async def keep(
        self, records: Sequence[R], receive: Callable[[Sequence[R]], Awaitable[Collection[str] | None]]
    ) -> Collection[str]:
        """Call `receive`, which applies these records; store their positions, without those of the topics that it returns, and gaps."""
        await self._read({one.topic for one in records} - self._read_topics)
        not_applied = await receive(records) or ()
        reached, gaps = self._follow([one for one in records if one.topic not in not_applied])
        if reached:
            await save(self._engine, self._schema, reached, gaps)
            self._next |= reached
        return not_applied

    async def _read(self, topics: Collection[str]) -> None:
        if topics:
            async with self._engine.connect() as tx:
                self._next |= (await stored(tx, self._schema, topics)).next
            self._read_topics |= set(topics)

    def _follow(self, records: Iterable[RecordPlace]) -> tuple[dict[TopicPartition, int], list[Gap]]:
        """Return the positions after these records, and the gaps before them."""
        reached: dict[TopicPartition, int] = {}
        gaps: list[Gap] = []
        for one in records:
            partition = TopicPartition(one.topic, one.partition)
            at = reached.get(partition, self._next.get(partition, one.offset))
            end = self.end_of(partition) if one.offset < at else None
            if one.offset > at or (end is not None and end < at):
                gaps.append(Gap(partition, at, one.offset))
            reached[partition] = one.offset + 1
        return reached, gaps
