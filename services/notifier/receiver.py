"""Takes case events in: one transaction for a batch. Repeats are dropped, feedback is composed once and kept with its bytes.

What cannot be composed is parked in the same transaction, with the later events of its referral behind it; the rest goes on.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from schemas.events import CASE_EVENTS, CaseEvent, Event
from services.messaging import cloudevents, database, putting_back, quarantine
from services.messaging.cloudevents import Record, Undecodable
from services.messaging.database import Transaction
from services.messaging.putting_back import Parked
from services.messaging.quarantine import MessageGroup, Parking
from services.messaging.telemetry import log
from services.messaging.tracing import Taken
from services.notifier import store
from services.notifier.composing import Composed, Composer


class Receiver:
    """Called with batches of `case.event`; see services/messaging/broker.py for what it may raise."""

    def __init__(self, engine: AsyncEngine, composer: Composer, committed: Callable[[], None] = lambda: None) -> None:
        self._engine = engine
        self._composer = composer
        self._committed = committed

    async def receive(self, records: Sequence[Record]) -> None:
        """Apply a batch."""
        await database.each_or_halves(records, self._apply, self._refuse)
        self._committed()

    async def release(self) -> int:
        """Tell what somebody asked to be put back, and what waits behind nothing any more; returns how many were tried."""
        return await putting_back.release(
            self._engine, store.SCHEMA, self._apply_again, self._refuse_again, self._committed
        )

    async def _apply(self, records: Sequence[Record]) -> None:
        with Taken("tell", records) as steps:
            await self._take_in(records, steps)

    async def _take_in(self, records: Sequence[Record], steps: Taken) -> None:
        read = [(record, _read(record)) for record in records]
        async with self._engine.begin() as tx:
            new = await store.take_in(tx, _events(one for _, one in read), self._composer.version)
            keys = [_key(record, one) for record, one in read]
            standing = await quarantine.standing(tx, store.SCHEMA, keys, records)
            settled = {r for key, r in zip(keys, records, strict=True) if standing.is_settled(key, r)}
            await _leave_out(tx, [one for record, one in read if record in settled], new)
            unsettled = [(record, one) for record, one in read if record not in settled]
            parkings = await self._compose(tx, unsettled, new, standing.message_groups, steps)
            await quarantine.park(tx, store.SCHEMA, list(parkings.values()))

    async def _apply_again(self, rows: Sequence[Parked]) -> None:
        with Taken("tell", [row.record for row in rows]) as steps:
            await self._take_in_again(rows, steps)

    async def _take_in_again(self, rows: Sequence[Parked], steps: Taken) -> None:
        async with self._engine.begin() as tx:
            taken = {row.record: row for row in await putting_back.take(tx, store.SCHEMA, rows)}
            read = [(record, _read(record)) for record in taken]
            new = await store.take_in(tx, _events(one for _, one in read), self._composer.version)
            parkings = await self._compose(tx, read, new, set(), steps)
            for record, parking in parkings.items():
                await putting_back.park_again(tx, store.SCHEMA, taken[record], parking)
            done = [row for record, row in taken.items() if record not in parkings]
            await putting_back.resolve(tx, store.SCHEMA, done, "applied")

    async def _compose(
        self,
        tx: Transaction,
        read: Sequence[tuple[Record, Event | str]],
        new: set[str],
        waiting: set[MessageGroup],
        steps: Taken,
    ) -> dict[Record, Parking]:
        """Keep what these events make us tell; returns what is to be parked. `waiting` grows with it: what follows waits."""
        composed: list[Composed] = []
        parkings: dict[Record, Parking] = {}
        for record, event in read:
            if isinstance(event, str):
                parkings[record] = _parking(record, None, event, _told_references(record))
            elif event.id in new:
                new.discard(event.id)
                texts, faults = self._composed(event, waiting)
                context = steps.context_of(record)
                composed.extend(one._replace(traceparent=context) for one in texts)
                steps.tell(record, outcome="applied", type=event.data.TYPE, correlation_id=event.correlation_id)
                if faults:
                    parkings[record] = _faulty(record, event, faults)
            if record in parkings:
                steps.tell(record, outcome="waiting" if parkings[record].waiting else "dead-lettered")
                waiting.update((parkings[record].person_key, group) for group in parkings[record].message_groups)
        await store.add(tx, composed, datetime.now(UTC))
        await _leave_out(tx, [one for record, one in read if record in parkings])
        return parkings

    def _composed(self, event: Event, waiting: set[MessageGroup]) -> tuple[list[Composed], dict[str, str | None]]:
        """What the event makes us tell; and the referrals about which it cannot be told: reason, or none where it waits."""
        assert isinstance(event.data, CaseEvent)
        composed: list[Composed] = []
        faults: dict[str, str | None] = {}
        for concern in event.data.concerns:
            if (_storable(event.person_key), _storable(concern.reference)) in waiting:
                faults[concern.reference] = None
                continue
            try:
                composed.extend(self._composer.compose(event, concern))
            except Exception as error:
                if database.is_transient(error):
                    raise
                faults[concern.reference] = f"compose: {database.reason_class(error)}"
        return composed, faults

    async def _refuse(self, record: Record, reason: str) -> None:
        """The one record that made its batch fail."""
        async with self._engine.begin() as tx:
            await quarantine.park(tx, store.SCHEMA, [_refused(record, reason)])

    async def _refuse_again(self, row: Parked, reason: str) -> None:
        async with self._engine.begin() as tx:
            for still in await putting_back.take(tx, store.SCHEMA, [row]):
                await putting_back.park_again(tx, store.SCHEMA, still, _refused(still.record, reason))


def _read(record: Record) -> Event | str:
    """The event in a record, or why there is none."""
    try:
        return cloudevents.decode(record, CASE_EVENTS)
    except Undecodable as error:
        return error.reason


def _events(read: Iterable[Event | str]) -> list[Event]:
    return [one for one in read if isinstance(one, Event)]


async def _leave_out(tx: Transaction, read: Iterable[Event | str], new: Collection[str] | None = None) -> None:
    """Take the marks of these away (of `new` ones only, where that is given): they are told nobody now."""
    if events := [one for one in _events(read) if new is None or one.id in new]:
        await store.leave_out(tx, events)


def _key(record: Record, event: Event | str) -> str:
    """The person key that a record is parked under."""
    return _storable(event.person_key if isinstance(event, Event) else (record.key or b"").decode("ascii", "replace"))


def _faulty(record: Record, event: Event, faults: Mapping[str, str | None]) -> Parking:
    """The referrals that it cannot be told about wait behind it, and no others."""
    first = next((reference for reference, why in faults.items() if why), next(iter(faults)))
    references = [first, *(reference for reference in faults if reference != first)]
    return _parking(record, event, faults[first] or quarantine.WAITING, references, is_waiting=faults[first] is None)


def _refused(record: Record, reason: str) -> Parking:
    read = _read(record)
    if isinstance(read, str):
        return _parking(record, None, reason, _told_references(record))
    assert isinstance(read.data, CaseEvent)
    return _parking(record, read, reason, [concern.reference for concern in read.data.concerns])


def _told_references(record: Record) -> list[str]:
    """The referrals that an event which cannot be read is about, as far as its bytes tell."""
    try:
        concerns = json.loads(record.value)["concerns"]
        return [one["reference"] for one in concerns if isinstance(one["reference"], str)]
    except (ValueError, RecursionError, TypeError, LookupError):
        return []


def _parking(
    record: Record, event: Event | None, reason: str, references: Sequence[str], *, is_waiting: bool = False
) -> Parking:
    told = event.correlation_id if event else quarantine.correlation_id(record)
    log.error(
        "event_dead_lettered",
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        reason=reason,
        waiting=is_waiting,
        correlation_id=told,
    )
    message_groups = references or [f"{record.topic}/{record.partition}/{record.offset}"]
    return Parking(
        record,
        _key(record, event or ""),
        tuple(dict.fromkeys(_storable(group[:200]) for group in message_groups)),
        _storable(reason),
        _storable(told) if told else None,
        is_waiting,
    )


def _storable(text: str) -> str:
    """PostgreSQL holds neither NUL nor lone surrogates: what is parked for having them must not fail on them again."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")
