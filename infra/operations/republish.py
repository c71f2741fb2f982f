"""Publish events again from PostgreSQL: a hub's, or those that the router or notifier lacks.

Copies become new packets of the outbox that has the originals, with the same ids and bytes; the running relays publish them. The packets
of a shard hold each key's events in order. They are read from the first to the last, a page at a time, and only the places of the events
of some persons are held in memory; a shard with more persons is read again for the next ones. All events of a person are copied in one
transaction that locks the key, so later events of the key follow its copies. Consumers and hubs drop what they have.
"""

import json
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.operations.audit_log import Operator, record_action
from schemas.topics import CASE_EVENT, REFERRAL_EVENT
from services.messaging import packets
from services.messaging.packets import Message, StoredMessage
from services.runtime.database import Transaction

PERSONS = 10_000
"""Persons whose events are held in memory, by their places; twice as many while a shard is read."""

EVENTS = 1_000
"""Events after which a transaction copies those of no further person."""

PAGE = 100
"""Packets that are decoded at a time."""

Report = Callable[[str, int], None]
"""Called with what is being read or written, and how many records were."""


@dataclass(frozen=True, slots=True)
class EventStream:
    """Events of one topic in the outbox of one schema. `reader`: the schema of the service that reads them; None for a hub's."""

    topic: str
    outbox: str
    reader: str | None

    def page(self, condition: str) -> str:
        """Return the query for the next packets of a shard that have events of the topic since a time, with the places that are held."""
        return f"""
            select packet.id, content, created_at, published_at, republished, coalesce(held.places, '{{}}') as held
            from {self.outbox}.packet left join {self.outbox}.packet_held as held
                on held.shard = packet.shard and held.target = :target and held.id = packet.id
            where packet.shard = :shard and packet.id > :id and :target = any(targets) and created_at >= :since and {condition}
            order by packet.id limit {PAGE}"""  # noqa: S608 - constants

    @property
    def unread(self) -> str:
        """Return the query for those of some events that the reader has neither applied nor stored as dead letters."""
        of_topic = "" if self.reader == "notifier" else f"known.topic = '{self.topic}' and "
        id_column = "event_id" if self.reader == "notifier" else "id"
        return f"""
            select event.person_key, event.id from unnest(cast(:keys as text[]), cast(:ids as text[])) as event (person_key, id)
            where not exists (select from {self.reader}.input as known
                where known.person_key = event.person_key and {of_topic}known.{id_column} = event.id)
            and not exists (select from {self.reader}.dead_letter as known
                where known.person_key = event.person_key and known.topic = '{self.topic}' and known.event_id = event.id)"""  # noqa: S608 - constants

    @property
    def lock(self) -> str:
        """Return the statement that keeps later events of these rows (OutboxEvent.locks) from being written before copies are."""
        if self.outbox == "router":
            return """
                select from router.person_key where person_key = any(cast(:locks as text[])) order by person_key for update"""
        return """
            select from intake.referral where reference = any(cast(:locks as text[])) order by partner, reference for update"""


def streams(topic: str) -> tuple[EventStream, ...]:
    """Return the streams of a topic: of `referral.event` also the router's, which asks about overdue discharges."""
    if topic == REFERRAL_EVENT:
        return EventStream(topic, "intake", "router"), EventStream(topic, "router", "router")
    return (EventStream(topic, "router", "notifier" if topic == CASE_EVENT else None),)


@dataclass(frozen=True, slots=True)
class OutboxEvent:
    """An event of the outbox: its place and its id. `locks`: what its writer locks, the person key, or in intake the reference."""

    stream: EventStream
    shard: int
    packet: int
    place: int
    person_key: str
    created_at: datetime
    event_id: str
    locks: str


def _event(stream: EventStream, one: StoredMessage) -> OutboxEvent:
    message = one.message
    locks = json.loads(message.value)["reference"] if stream.outbox == "intake" else message.person_key
    place = one.shard, one.packet, one.place
    return OutboxEvent(stream, *place, message.person_key, one.created_at, _event_id(message), locks)


def _event_id(message: Message) -> str:
    return dict(message.headers)["ce_id"].decode()


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


# ---- find ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Selection:
    """Which events of streams: those since a time, or of these only what was published by `until` and its reader lacks."""

    streams: Sequence[EventStream]
    since: datetime = EARLIEST
    unread: bool = False
    until: datetime = LATEST


@dataclass(slots=True)
class PersonPage:
    """The events of the first persons after the key `after`, in order for each person. `last`: there are persons after it."""

    after: str
    last: str | None = None
    by_person: dict[str, list[OutboxEvent]] = field(default_factory=dict)

    def add(self, events: Iterable[OutboxEvent]) -> None:
        """Add events of these persons; if there are too many persons, keep the first."""
        for event in events:
            if self.after < event.person_key and (self.last is None or event.person_key <= self.last):
                self.by_person.setdefault(event.person_key, []).append(event)
        if len(self.by_person) > 2 * PERSONS:
            kept = sorted(self.by_person)[:PERSONS]
            self.by_person = {key: self.by_person[key] for key in kept}
            self.last = kept[-1]

    @property
    def events(self) -> Iterator[OutboxEvent]:
        """Yield all events by person."""
        for events in self.by_person.values():
            yield from events


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

    They come by shard and person, and in order.
    """
    async for page in pages(engine, Selection([stream], since, unread, until), report):
        for event in page.events:
            yield event


async def pages(
    engine: AsyncEngine, selection: Selection, report: Report = lambda *_: None
) -> AsyncIterator[PersonPage]:
    """Yield the selected events in pages: each has all of its persons."""
    for shard in range(packets.SHARDS):
        last: str | None = ""
        while last is not None:
            page = PersonPage(last)
            for stream in selection.streams:
                async for events in _events(engine, selection, stream, shard, report):
                    page.add(events)
            yield page
            last = page.last


async def _events(
    engine: AsyncEngine, selection: Selection, stream: EventStream, shard: int, report: Report
) -> AsyncIterator[list[OutboxEvent]]:
    """Yield the selected events of a shard in order, in parts."""
    done, waiting = 0, set[str]()
    if selection.unread:
        async for copies in _stored(engine, stream, shard, _WAITING_COPIES, EARLIEST):
            waiting.update(_event_id(copy.message) for copy in copies if copy.published_at is None)
    async for stored in _stored(engine, stream, shard, "not republished", selection.since):
        if selection.unread:
            events = [_event(stream, one) for one in stored if one.published_at and one.published_at <= selection.until]
            yield await _unread(engine, stream, [event for event in events if event.event_id not in waiting])
        else:
            yield [_event(stream, one) for one in stored]
        done += len(stored)
        report(f"{stream.outbox}.packet: {stream.topic}", done)


_WAITING_COPIES = "republished and (published_at is null or held.id is not null)"


async def _stored(
    engine: AsyncEngine, stream: EventStream, shard: int, condition: str, since: datetime
) -> AsyncIterator[list[StoredMessage]]:
    """Yield the messages of a stream and shard in order, those of a page of packets at a time."""
    query, last = text(stream.page(condition)), 0
    while True:
        at = {"shard": shard, "id": last, "target": stream.topic, "since": since}
        async with engine.connect() as tx:
            rows = (await tx.execute(query, at)).all()
        yield [one for row in rows for one in _messages(row, shard) if one.message.target == stream.topic]
        if len(rows) < PAGE:
            return
        last = rows[-1].id


def _messages(row: Row[Any], shard: int) -> Iterator[StoredMessage]:
    for place, message in enumerate(packets.decode(row.content).messages):
        published_at = None if place in row.held else row.published_at
        yield StoredMessage(shard, row.id, place, message, row.created_at, published_at, row.republished)


async def _unread(engine: AsyncEngine, stream: EventStream, events: Sequence[OutboxEvent]) -> list[OutboxEvent]:
    """Return those of these events that their reader lacks; all if it is a hub."""
    if stream.reader is None:
        return list(events)
    parameters = {"keys": [one.person_key for one in events], "ids": [one.event_id for one in events]}
    async with engine.connect() as tx:
        lacking = {tuple(row) for row in await tx.execute(text(stream.unread), parameters)}
    return [one for one in events if (one.person_key, one.event_id) in lacking]


# ---- copy ------------------------------------------------------------------------------------------------------------


async def plan(engine: AsyncEngine, topic: str, since: datetime | None) -> RepublishSummary:
    """Return what would be published again: all since a time, or what its reader lacks."""
    count, persons, first, last = 0, 0, LATEST, EARLIEST
    async for page in pages(engine, _selection(topic, since)):
        persons += len(page.by_person)
        for event in page.events:
            count, first, last = count + 1, min(first, event.created_at), max(last, event.created_at)
    return RepublishSummary(topic, count, persons, first if count else None, last if count else None)


def _selection(topic: str, since: datetime | None) -> Selection:
    return Selection(streams(topic), since or EARLIEST, unread=since is None)


async def run(engine: AsyncEngine, topic: str, since: datetime | None, by: Operator) -> RepublishSummary:
    """Copy each event into its outbox, in order for each person; record the action.

    After a kill, repeat it: events that were already copied are published twice with the same ids. Without `since`, all that the reader
    lacks was copied, so that its gaps on this topic are resolved.
    """
    planned = await plan(engine, topic, since)
    what = {"topic": topic, "since": since.isoformat() if since else "what its reader lacks", "events": planned.events}
    if planned.events:
        async with engine.begin() as tx:
            await record_action(tx, "router", "republish", by, what)
    async for page in pages(engine, _selection(topic, since)):
        for stream in streams(topic):
            await copy(engine, stream, [event for event in page.events if event.stream == stream])
    if since is None:
        await resolve(engine, [topic])
    return planned


async def copy(engine: AsyncEngine, stream: EventStream, events: Iterable[OutboxEvent]) -> None:
    """Copy these events, all of a person in one transaction."""
    for of_persons in _by_transaction(events):
        async with engine.begin() as tx:
            await _copy(tx, stream, of_persons)


def _by_transaction(events: Iterable[OutboxEvent]) -> Iterator[list[OutboxEvent]]:
    """Yield the events of some persons together: persons in the order of their first events, which often share a packet."""
    by_person: dict[str, list[OutboxEvent]] = {}
    for event in events:
        by_person.setdefault(event.person_key, []).append(event)
    of_persons: list[OutboxEvent] = []
    for of_person in by_person.values():
        of_persons += of_person
        if len(of_persons) >= EVENTS:
            yield of_persons
            of_persons = []
    if of_persons:
        yield of_persons


async def _copy(tx: Transaction, stream: EventStream, events: Sequence[OutboxEvent]) -> None:
    """Lock what later events of these persons lock, and copy their messages in the order of their packets."""
    await tx.execute(text(stream.lock), {"locks": sorted({event.locks for event in events})})
    in_order = sorted(events, key=lambda event: (event.packet, event.place))
    for at in range(0, len(in_order), PAGE):
        part = in_order[at : at + PAGE]
        found = await packets.read(tx, stream.outbox, ((event.shard, event.packet) for event in part))
        messages = [found[event.shard, event.packet].messages[event.place] for event in part]
        await packets.write(tx, stream.outbox, messages, republished=True)


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
