"""Publish events again from PostgreSQL: a hub's, or those that the router or notifier lacks.

Copies become new rows of the outbox that has the originals, with the same ids and bytes; the running relays publish them. Their keys are
locked while rows are copied, so later events of a key follow its copies. Consumers and hubs drop what they have.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.operations.audit_log import Operator, record_action
from schemas.topics import CASE_EVENT, REFERRAL_EVENT
from services.runtime.database import Transaction

KEYS = 200
"""Person keys whose events one transaction copies."""

PAGE = 5_000
"""Rows of an outbox that one statement reads."""

Report = Callable[[str, int], None]
"""Called with what is being read or written, and how many records were."""


@dataclass(frozen=True, slots=True)
class EventStream:
    """Events of one topic in the outbox of one schema. `reader`: the schema of the service that reads them; None for a hub's."""

    topic: str
    outbox: str
    reader: str | None

    @property
    def _unread(self) -> str:
        """Return the condition that the reader has neither applied an event nor stored it as a dead letter."""
        if self.reader is None:
            return "true"
        of_topic = "" if self.reader == "notifier" else f"known.topic = '{self.topic}' and "
        id_column = "event_id" if self.reader == "notifier" else "id"
        return f"""
            not exists (select from {self.reader}.input as known
                where known.person_key = page.person_key and {of_topic}known.{id_column} = page.event_id)
            and not exists (select from {self.reader}.dead_letter as known
                where known.person_key = page.person_key and known.topic = '{self.topic}' and known.event_id = page.event_id)"""  # noqa: S608 - constants

    def page(self, *, unread: bool) -> str:
        """Return the query for the next events by person key and id: those since a time, or those published by `:until` that were not read.

        Of these, `wanted` is false if a copy still waits to be published.
        """
        wanted = (
            f"published_at <= :until and {self._unread} and not exists ({self._waiting_copy})" if unread else "true"
        )
        return f"""
            with page as materialized (
                select person_key, id, created_at, published_at, headers::jsonb ->> 'ce_id' as event_id from {self.outbox}.outbox
                where (person_key, id) > (:key, :id) and target = :target and created_at >= :since and republished_from is null
                order by person_key, id limit {PAGE}
            )
            select person_key, id, created_at, event_id, {wanted} as wanted from page order by person_key, id"""  # noqa: S608 - constants

    @property
    def _waiting_copy(self) -> str:
        return f"""select from {self.outbox}.outbox as copy
            where copy.person_key = page.person_key and copy.republished_from = page.id and copy.published_at is null"""

    @property
    def lock(self) -> str:
        """Return the statement that keeps later events of these rows' keys from being written before their copies are."""
        if self.outbox == "router":
            return """
                select from router.person_key where person_key = any(cast(:keys as text[])) order by person_key for update"""
        return """
            select from intake.referral where reference in (
                select convert_from(value, 'UTF8')::jsonb ->> 'reference' from intake.outbox
                where person_key = any(cast(:keys as text[])) and id = any(cast(:ids as bigint[])))
            order by partner, referral_id for update"""

    @property
    def copy(self) -> str:
        return f"""
            insert into {self.outbox}.outbox (shard, person_key, target, headers, value, republished_from)
            select shard, person_key, target, headers, value, id from {self.outbox}.outbox
            where person_key = any(cast(:keys as text[])) and id = any(cast(:ids as bigint[])) order by id"""  # noqa: S608 - a constant


def streams(topic: str) -> tuple[EventStream, ...]:
    """Return the streams of a topic: of `referral.event` also the router's, which asks about overdue discharges."""
    if topic == REFERRAL_EVENT:
        return EventStream(topic, "intake", "router"), EventStream(topic, "router", "router")
    return (EventStream(topic, "router", "notifier" if topic == CASE_EVENT else None),)


@dataclass(frozen=True, slots=True)
class OutboxEvent:
    """A published event: its row in the outbox and its id."""

    person_key: str
    id: int
    created_at: datetime
    event_id: str


@dataclass(frozen=True, slots=True)
class RepublishSummary:
    """The events to publish again: numbers of events and persons, first and last time."""

    topic: str
    events: int
    persons: int
    first: datetime | None
    last: datetime | None


EARLIEST = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
LATEST = datetime.fromisoformat("9999-01-01T00:00:00+00:00")


async def find(
    engine: AsyncEngine,
    stream: EventStream,
    since: datetime = EARLIEST,
    *,
    unread: bool,
    until: datetime = LATEST,
    report: Report = lambda *_: None,
) -> AsyncIterator[OutboxEvent]:
    """Yield the events of a stream since a time, or of these only what was published by `until` and its reader lacks.

    They come by person key and in order.
    """
    key, last, done = "", 0, 0
    while True:
        at = {"key": key, "id": last, "target": stream.topic, "since": since} | ({"until": until} if unread else {})
        async with engine.connect() as tx:
            rows = (await tx.execute(text(stream.page(unread=unread)), at)).all()
        for row in rows:
            if row.wanted:
                yield OutboxEvent(row.person_key, row.id, row.created_at, row.event_id)
        if len(rows) < PAGE:
            return
        key, last, done = rows[-1].person_key, rows[-1].id, done + len(rows)
        report(f"{stream.outbox}.outbox: {stream.topic}", done)


Found = Mapping[EventStream, Sequence[OutboxEvent]]


async def plan(engine: AsyncEngine, topic: str, since: datetime | None) -> RepublishSummary:
    """Return what would be published again: all since a time, or what its reader lacks."""
    return summary(topic, await _found(engine, topic, since))


async def _found(engine: AsyncEngine, topic: str, since: datetime | None) -> Found:
    return {
        stream: [one async for one in find(engine, stream, since or EARLIEST, unread=since is None)]
        for stream in streams(topic)
    }


def summary(topic: str, found: Found) -> RepublishSummary:
    """Return the numbers of what was found."""
    events = [one for rows in found.values() for one in rows]
    times = [one.created_at for one in events]
    return RepublishSummary(
        topic, len(events), len({one.person_key for one in events}), min(times, default=None), max(times, default=None)
    )


async def run(engine: AsyncEngine, topic: str, since: datetime | None, by: Operator) -> RepublishSummary:
    """Copy each event into its outbox, in order for each person; record the action.

    After a kill, repeat it: events that were already copied are published twice with the same ids. Without `since`, all that the reader
    lacks was copied, so that its gaps on this topic are resolved.
    """
    found = await _found(engine, topic, since)
    planned = summary(topic, found)
    what = {"topic": topic, "since": since.isoformat() if since else "what its reader lacks", "events": planned.events}
    async with engine.begin() as tx:
        if planned.events:
            await record_action(tx, "router", "republish", by, what)
    for stream, rows in found.items():
        await copy(engine, stream, rows)
    if since is None:
        await resolve(engine, [topic])
    return planned


async def copy(engine: AsyncEngine, stream: EventStream, rows: Collection[OutboxEvent]) -> None:
    """Copy these rows, the persons of a batch in one transaction."""
    for keys in _by_person(rows):
        async with engine.begin() as tx:
            await _copy(tx, stream, keys)


def _by_person(rows: Collection[OutboxEvent]) -> Iterator[dict[str, list[int]]]:
    ids: defaultdict[str, list[int]] = defaultdict(list)
    for row in rows:
        ids[row.person_key].append(row.id)
    keys = list(ids)
    for at in range(0, len(keys), KEYS):
        yield {key: ids[key] for key in keys[at : at + KEYS]}


async def _copy(tx: Transaction, stream: EventStream, rows: Mapping[str, Sequence[int]]) -> None:
    parameters = {"keys": list(rows), "ids": [one for ids in rows.values() for one in ids]}
    await tx.execute(text(stream.lock), parameters)
    await tx.execute(text(stream.copy), parameters)


async def resolve(engine: AsyncEngine, topics: Collection[str]) -> int:
    """Mark the gaps on these topics as resolved. Return their number."""
    resolved = 0
    async with engine.begin() as tx:
        for schema in ("router", "notifier"):
            done = await tx.execute(text(_RESOLVE.format(schema=schema)), {"topics": sorted(topics)})
            resolved += done.rowcount
    return resolved


_RESOLVE = """
    update {schema}.records_gone set resolved_at = clock_timestamp()
    where resolved_at is null and topic = any(cast(:topics as text[]))"""
