"""The oldest event that its consumer has neither applied nor put among its dead letters: it is late, or was lost.

Events are read from the packets of an outbox and compared with the inputs of their consumer, so that records which Kafka no longer has
are found too. Each comparison of a shard begins where the last one ended (`outbox_applied`) and reads a bounded number of packets.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import TextClause, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from schemas.topics import CASE_EVENT, REFERRAL_EVENT
from services.messaging import packets
from services.messaging.packets import SHARDS, Message
from services.runtime import database
from services.runtime.database import Transaction

BATCH = 50
"""Packets that are read and compared together."""

SECONDS = 5.0
"""Time limit of one comparison, in equal shares of the shards; the next one continues."""

SETTLED = "10 minutes"
"""Age of a packet from which no packet with a smaller id can appear any more.

A packet gets its id and its time when it is inserted, and ids ascend: a smaller one was given out earlier, by a transaction that has
ended since, because those of the services end within a minute.
"""

BY_INDEX = ("enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin", "enable_memoize")
"""Settings that are off, as for the roles of the services (infra/database/roles.py): rows are found by an index, until a limit."""

MAY_NOT_WRITE = ("25006", "42501")
"""SQLSTATEs: the session is read-only, or the role may not write. Then the next comparison repeats this one."""


@dataclass(frozen=True, slots=True)
class Hop:
    """Events of one service and the service that applies them. `applied`: rows of the consumer that has applied `event`.

    `subject`: the field of an event that names its referral or case.
    """

    outbox: str
    target: str
    consumer: str
    applied: str
    subject: str


HOPS = (
    Hop(
        "intake",
        REFERRAL_EVENT,
        "router",
        f"router.input where person_key = event.person_key and topic = '{REFERRAL_EVENT}' and id = event.event_id",
        "reference",
    ),
    Hop(
        "router",
        CASE_EVENT,
        "notifier",
        "notifier.input where person_key = event.person_key and event_id = event.event_id",
        "case_id",
    ),
)


@dataclass(frozen=True, slots=True)
class NotApplied:
    """The oldest event that the consumer lacks: its age in seconds, its referral or case, and whether Kafka has acknowledged it.

    No age: there is none. `compared_until`: time was too short to compare what was created later.
    """

    age: float | None = None
    subject: str | None = None
    published: bool = False
    compared_until: datetime | None = None


class HopEvent(NamedTuple):
    """An event of a hop, and its place: the packet, and the index in it."""

    packet: int
    place: int
    message: Message


class Compared(NamedTuple):
    """What was compared of a shard. `applied_until`: id of the packet up to which nothing will ever be missing."""

    found: NotApplied
    applied_until: int


async def oldest(engine: AsyncEngine, hop: Hop) -> NotApplied:
    """Return the oldest event of this hop that its consumer lacks, and note up to which packet of each shard none is missing."""
    async with engine.connect() as tx:
        await by_index(tx)
        noted = {row.shard: row.id for row in await tx.execute(_noted(hop))}
        compared = {shard: await _compare(tx, hop, shard, noted.get(shard, 0)) for shard in range(SHARDS)}
    progress = {shard: one.applied_until for shard, one in compared.items() if one.applied_until > noted.get(shard, 0)}
    if progress:
        await note(engine, hop, progress)
    return _oldest_of([one.found for one in compared.values()])


def _oldest_of(found: Sequence[NotApplied]) -> NotApplied:
    """Return the oldest event; if there is none, what was compared of every shard."""
    if missing := [one for one in found if one.age is not None]:
        return max(missing, key=lambda one: one.age or 0.0)
    ended = [one.compared_until for one in found if one.compared_until is not None]
    return NotApplied(compared_until=min(ended, default=None))


async def _compare(tx: Transaction, hop: Hop, shard: int, start: int) -> Compared:
    """Return the oldest event of a shard after the packet `start` that the consumer lacks."""
    deadline, cursor, marker = time.monotonic() + SECONDS / SHARDS, start, start
    while True:
        rows = (await tx.execute(_next(hop), {"shard": shard, "after": cursor, "batch": BATCH})).all()
        missing = await _missing(tx, hop, shard, [row.id for row in rows if row.concerned])
        last = rows[-1].id if rows else cursor
        settled = max((row.id for row in rows if row.settled), default=0)
        marker = max(marker, min(settled, last if missing is None else missing.packet - 1))
        if missing is not None:
            return Compared(await _described(tx, hop, shard, missing), marker)
        if len(rows) < BATCH:
            return Compared(NotApplied(), marker)
        if time.monotonic() > deadline:
            return Compared(NotApplied(compared_until=rows[-1].created_at), marker)
        cursor = last


async def by_index(tx: Transaction) -> None:
    """Let the statements of this transaction read by index."""
    for setting in BY_INDEX:
        await tx.execute(text(f"set local {setting} to off"))


async def _missing(tx: Transaction, hop: Hop, shard: int, ids: Sequence[int]) -> HopEvent | None:
    """Return the first event in these packets of a shard that the consumer lacks."""
    read = await packets.read(tx, hop.outbox, [(shard, one) for one in ids])
    events = [
        HopEvent(packet, place, message)
        for packet in ids
        for place, message in enumerate(read[shard, packet].messages)
        if message.target == hop.target
    ]
    named = {
        "keys": [one.message.person_key for one in events],
        "ids": [dict(one.message.headers)["ce_id"].decode() for one in events],
    }
    first = await tx.scalar(_lacked(hop), named) if events else None
    return None if first is None else events[first - 1]


async def _described(tx: Transaction, hop: Hop, shard: int, event: HopEvent) -> NotApplied:
    place = {"shard": shard, "packet": event.packet, "place": event.place}
    row = (await tx.execute(_state(hop), place)).one()
    return NotApplied(row.age, json.loads(event.message.value)[hop.subject], row.published)


def _noted(hop: Hop) -> TextClause:
    return text(f"select shard, id from {hop.outbox}.outbox_applied")  # noqa: S608 - a constant


def _next(hop: Hop) -> TextClause:
    """Return the statement for the next packets of a shard; `settled`: every packet before this one is visible."""
    return text(f"""
        select id, created_at, '{hop.target}' = any(targets) as concerned,
               created_at < clock_timestamp() - interval '{SETTLED}' as settled
        from {hop.outbox}.packet where shard = :shard and id > :after order by id limit :batch""")  # noqa: S608 - constants


def _lacked(hop: Hop) -> TextClause:
    """Return the statement for the position, from 1, of the first of these events that the consumer lacks."""
    return text(f"""
        select position from unnest(cast(:keys as text[]), cast(:ids as text[]))
            with ordinality as event (person_key, event_id, position)
        left join lateral (select true as is_there from {hop.applied} limit 1) as applied on true
        left join lateral (
            select true as is_there from {hop.consumer}.dead_letter as letter
            where letter.person_key = event.person_key and letter.topic = '{hop.target}' and letter.event_id = event.event_id limit 1
        ) as dead on true
        where applied.is_there is null and dead.is_there is null
        order by position limit 1""")  # noqa: S608 - constants


def _state(hop: Hop) -> TextClause:
    """Return the statement for the state of an event; ages of one comparison are of one time, so that they can be compared."""
    return text(f"""
        select extract(epoch from now() - created_at)::float as age,
               published_at is not null and not exists (
                   select from {hop.outbox}.packet_held as held
                   where held.shard = packet.shard and held.target = '{hop.target}' and held.id = packet.id and :place = any(places)
               ) as published
        from {hop.outbox}.packet where shard = :shard and id = :packet""")  # noqa: S608 - constants


async def note(engine: AsyncEngine, hop: Hop, progress: Mapping[int, int]) -> None:
    """Store by shard that nothing up to this packet is missing, if this session may write."""
    try:
        async with engine.begin() as tx:
            await tx.execute(_note(hop), {"shards": list(progress), "ids": list(progress.values())})
    except DBAPIError as error:
        if database.sqlstate(error) not in MAY_NOT_WRITE:
            raise


def _note(hop: Hop) -> TextClause:
    return text(f"""
        insert into {hop.outbox}.outbox_applied as noted (shard, id)
        select shard, id from unnest(cast(:shards as smallint[]), cast(:ids as bigint[])) as compared (shard, id)
        on conflict (shard) do update set id = greatest(noted.id, excluded.id)""")  # noqa: S608 - a constant
