"""The oldest event that its consumer has neither applied nor put among its dead letters: it is late, or was lost.

Events are compared with the inputs of their consumer in PostgreSQL, so that records which Kafka no longer has are found too. Each
comparison begins where the last one ended (`outbox_applied`) and reads a bounded number of rows.
"""

import time
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import TextClause, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from schemas.topics import CASE_EVENT, REFERRAL_EVENT
from services.runtime import database
from services.runtime.database import Transaction

BATCH = 400
"""Events that one statement compares."""

SECONDS = 5.0
"""Time limit of one comparison; the next one continues."""

SETTLED = "10 minutes"
"""Age from which no row with a smaller id can appear any more: transactions of the services end within a minute."""

BY_INDEX = ("enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin", "enable_memoize")
"""Settings that are off, as for the roles of the services (infra/database/roles.py): rows are found by an index, until a limit."""

MAY_NOT_WRITE = ("25006", "42501")
"""SQLSTATEs: the session is read-only, or the role may not write. Then the next comparison repeats this one."""


@dataclass(frozen=True, slots=True)
class Hop:
    """Events of one service and the service that applies them. `applied`: condition on `event` that its consumer has it."""

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
        f"""exists (
            select from router.input
            where person_key = event.person_key and topic = '{REFERRAL_EVENT}' and id = event.event_id)""",
        "reference",
    ),
    Hop(
        "router",
        CASE_EVENT,
        "notifier",
        "exists (select from notifier.input where person_key = event.person_key and event_id = event.event_id)",
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


async def oldest(engine: AsyncEngine, hop: Hop) -> NotApplied:
    """Return the oldest event of this hop that its consumer lacks, and note up to which none is missing."""
    async with engine.connect() as tx:
        await by_index(tx)
        start = int(await tx.scalar(_noted(hop)) or 0)
        found, marker = await _search(tx, hop, start)
    if marker > start:
        await note(engine, hop, marker)
    return found


async def _search(tx: Transaction, hop: Hop, start: int) -> tuple[NotApplied, int]:
    """Return the oldest event after `start` that the consumer lacks, and up to which id nothing will ever be missing."""
    deadline, cursor, marker = time.monotonic() + SECONDS, start, start
    while True:
        row = (await tx.execute(_compared(hop), {"after": cursor, "batch": BATCH})).one()
        whole = row.missing - 1 if row.missing is not None else row.last or 0
        marker = max(marker, min(row.settled or 0, whole))
        if row.missing is not None:
            return NotApplied(*(await tx.execute(_described(hop), {"event": row.missing})).one()), marker
        if row.events < BATCH:
            return NotApplied(), marker
        if time.monotonic() > deadline:
            return NotApplied(compared_until=row.last_at), marker
        cursor = row.last


async def by_index(tx: Transaction) -> None:
    """Let the statements of this transaction read by index."""
    for setting in BY_INDEX:
        await tx.execute(text(f"set local {setting} to off"))


def _noted(hop: Hop) -> TextClause:
    return text(f"select id from {hop.outbox}.outbox_applied")  # noqa: S608 - a constant


def _compared(hop: Hop) -> TextClause:
    """Return the comparison of the next events by id; `settled`: up to which id all of them are visible."""
    return text(f"""
        select count(*) as events, max(id) as last, max(created_at) as last_at, min(id) filter (where not applied) as missing,
               max(id) filter (where created_at < clock_timestamp() - interval '{SETTLED}') as settled
        from (select id, created_at, {hop.applied} or exists (
                  select from {hop.consumer}.dead_letter as letter where letter.person_key = event.person_key
                  and letter.topic = '{hop.target}' and letter.event_id = event.event_id) as applied
              from (select id, person_key, created_at, headers::jsonb ->> 'ce_id' as event_id from {hop.outbox}.outbox
                    where target = '{hop.target}' and id > :after order by id limit :batch) as event) as compared""")  # noqa: S608 - constants


def _described(hop: Hop) -> TextClause:
    return text(f"""
        select extract(epoch from clock_timestamp() - created_at)::float, convert_from(value, 'UTF8')::jsonb ->> '{hop.subject}',
               published_at is not null
        from {hop.outbox}.outbox where target = '{hop.target}' and id = :event""")  # noqa: S608 - constants


async def note(engine: AsyncEngine, hop: Hop, marker: int) -> None:
    """Store that nothing up to this id of the outbox is missing, if this session may write."""
    try:
        async with engine.begin() as tx:
            await tx.execute(_note(hop), {"id": marker})
    except DBAPIError as error:
        if database.sqlstate(error) not in MAY_NOT_WRITE:
            raise


def _note(hop: Hop) -> TextClause:
    return text(f"""
        insert into {hop.outbox}.outbox_applied as noted (id) values (:id)
        on conflict (only_one) do update set id = greatest(noted.id, excluded.id)""")  # noqa: S608 - a constant
