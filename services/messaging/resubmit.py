"""Resubmit dead letters that an operator requested or that no longer wait, in order within each message group.

The service applies them as it applies new records: see docs/decisions/0014-let-the-service-apply-resubmitted-dead-letters.md.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.messaging import dead_letters
from services.messaging.cloudevents import KafkaRecord
from services.messaging.dead_letters import DeadLetter, decode_headers
from services.runtime import database, metrics
from services.runtime.database import Transaction
from services.runtime.logs import log

RESUBMIT_SECONDS = 1.0
"""How often a service polls for releasable dead letters."""

ROUND = 200
"""Maximum number of dead letters that one round applies."""


@dataclass(frozen=True, slots=True)
class ReleasableLetter:
    """A dead letter that may be applied now: its record, with the last edit applied, and the groups that wait."""

    id: int
    person_key: str
    message_groups: tuple[str, ...]
    record: KafkaRecord
    edit: int | None = None
    """The id of the edit in `record`; if a newer one is saved before it is applied, the next round applies that one."""


_MAY_GO = "parked.resolved_at is null and parked.behind is null and (parked.waiting or parked.resubmit_at is not null)"
"""SQL condition: requested or waiting, and no earlier unresolved dead letter has one of its message groups."""


async def ready(tx: Transaction, schema: str) -> list[ReleasableLetter]:
    """Return the dead letters that may be applied now, in order: at most one of each message group."""
    rows = await tx.execute(
        text(f"""
            select parked.id, parked.person_key, parked.message_group, parked.other_groups, parked.topic, parked.partition, parked."offset",
                   coalesce(edit.key, parked.key) as key, coalesce(edit.headers, parked.headers) as headers,
                   coalesce(edit.value, parked.value) as value, edit.id as edit
            from {schema}.dead_letter as parked
            left join lateral (
                select id, key, headers, value from {schema}.dead_letter_edit
                where dead_letter_edit.person_key = parked.person_key and dead_letter_id = parked.id
                order by dead_letter_edit.id desc limit 1) as edit on true
            where {_MAY_GO}
            order by parked.id limit {ROUND}""")  # noqa: S608 - schema names are constants
    )
    return [
        ReleasableLetter(
            row.id,
            row.person_key,
            (row.message_group, *row.other_groups),
            KafkaRecord(row.topic, row.partition, row.offset, row.key, row.value, decode_headers(row.headers)),
            row.edit,
        )
        for row in rows
    ]


async def take(tx: Transaction, schema: str, rows: Sequence[ReleasableLetter]) -> list[ReleasableLetter]:
    """Lock these rows and return those that may still be applied.

    Rows that another process has applied, or that were edited since they were read, are left out.
    """
    await dead_letters.lock_groups(tx, schema, (row.person_key for row in rows))
    result = await tx.execute(
        text(f"""
            select one.id, (select max(id) from {schema}.dead_letter_edit
                            where dead_letter_edit.person_key = given.key and dead_letter_id = one.id) as edit
            from unnest(cast(:keys as text[]), cast(:ids as bigint[])) as given (key, given_id) cross join lateral (
                select id from {schema}.dead_letter as parked
                where parked.person_key = given.key and parked.id = given.given_id and {_MAY_GO} offset 0) as one"""),  # noqa: S608 - schema names are constants
        _named(rows),
    )
    unchanged = {(row.id, row.edit) for row in result}
    return [row for row in rows if (row.id, row.edit) in unchanged]


def _named(rows: Collection[ReleasableLetter]) -> dict[str, list[Any]]:
    return dead_letters.letter_columns([(row.person_key, row.id) for row in rows])


async def resolve(tx: Transaction, schema: str, rows: Collection[ReleasableLetter], resolution: str) -> None:
    """Close these dead letters and the repeats of them: what waits behind them may be applied."""
    if not rows:
        return
    await tx.execute(
        text(f"""
            update {schema}.dead_letter as parked
            set resolved_at = clock_timestamp(), resolution = :resolution, attempts = attempts + 1, last_at = clock_timestamp()
            from unnest(cast(:keys as text[]), cast(:ids as bigint[])) as done (key, done_id)
            where parked.person_key = done.key and parked.id = done.done_id"""),  # noqa: S608 - schema names are constants
        {"resolution": resolution, **_named(rows)},
    )
    repeats = await tx.execute(_close_repeats(schema), _named(rows))
    closed = {*((row.person_key, row.id) for row in rows), *((row.person_key, row.id) for row in repeats)}
    await dead_letters.unlink(tx, schema, closed)


def _close_repeats(schema: str) -> TextClause:
    return text(f"""
    with repeats as materialized (
        select distinct again.person_key, again.id
        from unnest(cast(:keys as text[]), cast(:ids as bigint[])) as done (key, done_id)
        cross join lateral (
            select topic, event_id, content from {schema}.dead_letter
            where person_key = done.key and id = done.done_id offset 0) as parked
        cross join lateral (
            select person_key, id, resolved_at from {schema}.dead_letter
            where person_key = done.key and topic = parked.topic and event_id = parked.event_id
              and content = parked.content offset 0) as again
        where again.resolved_at is null
    )
    update {schema}.dead_letter as again set resolved_at = clock_timestamp(), resolution = 'duplicate'
    from repeats where again.person_key = repeats.person_key and again.id = repeats.id
    returning again.person_key, again.id""")  # noqa: S608 - schema names are constants


async def reject_resubmitted(tx: Transaction, schema: str, row: ReleasableLetter, dead_letter: DeadLetter) -> None:
    """Keep a dead letter that failed again open, with the new reason, until it is requested again."""
    dead_letters.log_dead_letter(dead_letter)
    await dead_letters.lock_groups(tx, schema, (row.person_key, dead_letter.person_key))
    await dead_letters.unlink(tx, schema, [(row.person_key, row.id)])
    await tx.execute(
        text(f"""
            update {schema}.dead_letter
            set person_key = :parked_under, message_group = :message_group, other_groups = :other_groups,
                reason = :reason, waiting = :waiting,
                correlation_id = coalesce(:correlation, correlation_id), resubmit_at = null,
                attempts = attempts + 1, last_at = clock_timestamp()
            where person_key = :key and id = :id and resolved_at is null"""),  # noqa: S608 - schema names are constants
        {
            "key": row.person_key,
            "id": row.id,
            "parked_under": dead_letter.person_key,
            "message_group": dead_letter.message_groups[0],
            "other_groups": list(dead_letter.message_groups[1:]),
            "reason": dead_letter.reason,
            "waiting": dead_letter.waiting,
            "correlation": dead_letter.correlation_id,
        },
    )
    await dead_letters.link(tx, schema, [(dead_letter.person_key, row.id)])


async def resubmit_ready(
    engine: AsyncEngine,
    schema: str,
    act: Callable[[Sequence[ReleasableLetter]], Awaitable[None]],
    refuse: Callable[[ReleasableLetter, str], Awaitable[None]],
    committed: Callable[[], None],
) -> int:
    """Apply releasable dead letters with `act` until there are none. Return how many were tried."""
    tried = 0
    while rows := await _ready_now(engine, schema):
        await database.apply_with_bisection(rows, act, refuse)
        tried += len(rows)
        committed()
    return tried


async def _ready_now(engine: AsyncEngine, schema: str) -> list[ReleasableLetter]:
    async with engine.begin() as tx:
        return await ready(tx, schema)


async def run_resubmitter(resubmit: Callable[[], Awaitable[int]]) -> None:
    """Resubmit releasable dead letters until cancelled; transient faults are retried indefinitely."""
    while True:
        try:
            await resubmit()
        except Exception as error:
            log.warning("resubmit_retrying", reason=database.reason_class(error), seconds=5 * RESUBMIT_SECONDS)
            metrics.BATCH_RETRIES.labels(database.error_kind(error)).inc()
            await asyncio.sleep(4 * RESUBMIT_SECONDS)
        await asyncio.sleep(RESUBMIT_SECONDS)
