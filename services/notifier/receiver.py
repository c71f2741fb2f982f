"""Takes case events in: one transaction for a batch. Repeats are dropped, feedback is composed once and kept with its bytes.

What cannot be composed is parked in the same transaction, with the later events of its referral behind it; the rest goes on.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from schemas.events import CASE_EVENTS, CaseEvent, Event
from services.messaging import cloudevents, database, quarantine
from services.messaging.cloudevents import Record, Undecodable
from services.messaging.database import Transaction
from services.messaging.telemetry import log
from services.notifier import feedback, store
from services.notifier.channels import Channel, Rendered
from services.notifier.feedback import Feedback, Recipients, Words

Composed = tuple[Feedback, Rendered]


class Receiver:
    """Called with batches of `case.event`; see services/messaging/broker.py for what it may raise."""

    def __init__(
        self,
        engine: AsyncEngine,
        recipients: Recipients,
        words: Words,
        channels: Mapping[str, Channel],
        committed: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine = engine
        self._recipients = recipients
        self._words = words
        self._channels = channels
        self._committed = committed

    async def receive(self, records: Sequence[Record]) -> None:
        """Apply a batch."""
        await database.each_or_halves(records, self._apply, self._refuse)
        self._committed()

    async def _apply(self, records: Sequence[Record]) -> None:
        events: list[tuple[Record, Event]] = []
        broken: list[tuple[Record, str]] = []
        for record in records:
            try:
                events.append((record, cloudevents.decode(record, CASE_EVENTS)))
            except Undecodable as error:
                broken.append((record, error.reason))
        async with self._engine.begin() as tx:
            for record, reason in broken:
                await _park(tx, record, None, reason)
            if events:
                await self._compose(tx, events)

    async def _compose(self, tx: Transaction, events: Sequence[tuple[Record, Event]]) -> None:
        new = await store.take_in(tx, [event for _, event in events])
        waiting = await quarantine.parked_chains(tx, store.SCHEMA, sorted({e.person_key for _, e in events}))
        composed: list[Composed] = []
        parked: list[Event] = []
        for record, event in events:
            if event.id not in new:
                continue
            new.discard(event.id)
            texts, faults = self._composed(event, waiting)
            composed.extend(texts)
            if faults:
                await self._set_aside(tx, record, event, faults, waiting)
                parked.append(event)
        await store.add(tx, composed, datetime.now(UTC))
        if parked:
            await store.leave_out(tx, parked)

    def _composed(self, event: Event, waiting: set[tuple[str, str]]) -> tuple[list[Composed], dict[str, str | None]]:
        """What the event makes us tell; and the referrals about which it cannot be told: reason, or none where it waits."""
        assert isinstance(event.data, CaseEvent)
        composed: list[Composed] = []
        faults: dict[str, str | None] = {}
        for concern in event.data.concerns:
            if (event.person_key, concern.reference) in waiting:
                faults[concern.reference] = None
                continue
            try:
                told = feedback.compose_for(event, concern, self._recipients, self._words)
                composed.extend([(one, self._channels[one.recipient.channel].render(one)) for one in told])
            except Exception as error:
                faults[concern.reference] = f"compose: {database.reason_class(error)}"
        return composed, faults

    async def _set_aside(
        self,
        tx: Transaction,
        record: Record,
        event: Event,
        faults: Mapping[str, str | None],
        waiting: set[tuple[str, str]],
    ) -> None:
        reference, reason = next(((ref, why) for ref, why in faults.items() if why), next(iter(faults.items())))
        waiting.update((event.person_key, faulty) for faulty in faults)
        await _park(tx, record, event, reason or "waits behind an earlier one", reference, is_waiting=reason is None)

    async def _refuse(self, record: Record, reason: str) -> None:
        """The one record that made its batch fail."""
        try:
            event = cloudevents.decode(record, CASE_EVENTS)
        except Undecodable:
            event = None
        async with self._engine.begin() as tx:
            await _park(tx, record, event, reason, _first_reference(event))


def _first_reference(event: Event | None) -> str | None:
    concerns = event.data.concerns if event is not None and isinstance(event.data, CaseEvent) else ()
    return concerns[0].reference if concerns else None


async def _park(
    tx: Transaction,
    record: Record,
    event: Event | None,
    reason: str,
    chain: str | None = None,
    *,
    is_waiting: bool = False,
) -> None:
    person_key = event.person_key if event else (record.key or b"").decode("ascii", "replace")
    await quarantine.park(
        tx,
        store.SCHEMA,
        record,
        person_key=_storable(person_key),
        chain=_storable(chain or f"{record.topic}/{record.partition}/{record.offset}"),
        reason=_storable(reason),
        correlation_id=_storable(event.correlation_id) if event else None,
        waiting=is_waiting,
    )
    log.error(
        "event_parked",
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        reason=reason,
        waiting=is_waiting,
        correlation_id=event.correlation_id if event else None,
    )


def _storable(text: str) -> str:
    """PostgreSQL holds neither NUL nor lone surrogates: what is parked for having them must not fail on them again."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")
