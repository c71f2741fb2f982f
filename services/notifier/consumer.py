"""Consumer of case events: one transaction for a batch.

Duplicates are dropped; feedback is composed and rendered once. An event that cannot be composed becomes a dead letter in the same
transaction. Later events of its referral wait behind it; all other events are processed. What the transaction leased to this process
is attempted after its commit (delivery.py).
"""

import itertools
import json
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from schemas.events import CASE_EVENTS, CaseEvent, Event, ReferralContext
from schemas.text import storable
from services.messaging import cloudevents, dead_letter_share, dead_letters, resubmit
from services.messaging.cloudevents import KafkaRecord, Undecodable
from services.messaging.dead_letter_share import DeadLetterShare
from services.messaging.dead_letters import DeadLetter, MessageGroup
from services.messaging.resubmit import ReleasableLetter
from services.notifier import compose, store
from services.notifier.channels import Channel, RenderedFeedback
from services.notifier.compose import FeedbackTexts, Recipients
from services.notifier.delivery import Reservation, nothing_reserved
from services.runtime import database
from services.runtime.database import Transaction
from services.runtime.tracing import RecordSpans


@dataclass(frozen=True, slots=True)
class FeedbackComposer:
    """Composes feedback with the recipients, texts and channels that were read at the start."""

    recipients: Recipients
    texts: FeedbackTexts
    channels: Mapping[str, Channel]

    def compose(self, event: Event, context: ReferralContext) -> list[RenderedFeedback]:
        """Return the feedbacks that `event` causes about one referral, each rendered by its channel."""
        feedbacks = compose.compose_for(event, context, self.recipients, self.texts)
        return [RenderedFeedback(one, self.channels[one.recipient.channel].render(one)) for one in feedbacks]


class CaseEventConsumer:
    """Consumes batches of `case.event`. If it raises, the broker retries the batch (services/messaging/broker.py)."""

    def __init__(
        self,
        engine: AsyncEngine,
        composer: FeedbackComposer,
        committed: Callable[[], None] = lambda: None,
        share: float = 1,
        reserving: Callable[[], AbstractContextManager[Reservation]] = nothing_reserved,
    ) -> None:
        self._engine = engine
        self._composer = composer
        self._reserving = reserving
        self._share = DeadLetterShare(share)
        self._committed = committed

    async def receive(self, records: Sequence[KafkaRecord]) -> frozenset[str]:
        """Apply a batch. Return `case.event` if nothing of it was applied because too many records would become dead letters."""
        paused = await dead_letter_share.apply_within_share(records, self._apply, self._refuse)
        await dead_letter_share.mark_paused(self._engine, store.SCHEMA, paused)
        self._committed()
        return paused

    async def release(self) -> int:
        """Apply releasable dead letters. Return how many were tried."""
        return await resubmit.resubmit_ready(
            self._engine, store.SCHEMA, self._reapply, self._reject_resubmitted, self._committed
        )

    async def _apply(self, records: Sequence[KafkaRecord]) -> None:
        with RecordSpans("tell", records) as spans:
            await self._store_batch(records, spans)

    async def _store_batch(self, records: Sequence[KafkaRecord], spans: RecordSpans) -> None:
        read = [(record, _read(record)) for record in records]
        async with self._transaction() as (tx, reservation):
            new = await store.record_inputs(tx, _events(one for _, one in read))
            keys = [_key(record, one) for record, one in read]
            groups = itertools.chain.from_iterable(map(_groups, _events(one for _, one in read)))
            status = await dead_letters.status_of(tx, store.SCHEMA, groups, list(zip(keys, records, strict=True)))
            closed = {r for key, r in zip(keys, records, strict=True) if status.is_closed(key, r)}
            await _skip(tx, [one for record, one in read if record in closed], new)
            unsettled = [(record, one) for record, one in read if record not in closed]
            letters = await self._apply_new(tx, reservation, unsettled, new, status.message_groups, spans)
            self._share.check(records, letters.values())
            await dead_letters.add(tx, store.SCHEMA, list(letters.values()))
        self._share.count_checked()

    async def _reapply(self, rows: Sequence[ReleasableLetter]) -> None:
        with RecordSpans("tell", [row.record for row in rows]) as spans:
            await self._store_resubmitted(rows, spans)

    async def _store_resubmitted(self, rows: Sequence[ReleasableLetter], spans: RecordSpans) -> None:
        async with self._transaction() as (tx, reservation):
            locked_rows = {row.record: row for row in await resubmit.take(tx, store.SCHEMA, rows)}
            read = [(record, _read(record)) for record in locked_rows]
            new = await store.record_inputs(tx, _events(one for _, one in read))
            letters = await self._apply_new(tx, reservation, read, new, set(), spans)
            for record, letter in letters.items():
                await resubmit.reject_resubmitted(tx, store.SCHEMA, locked_rows[record], letter)
            done = [row for record, row in locked_rows.items() if record not in letters]
            await resubmit.resolve(tx, store.SCHEMA, done, "applied")

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[tuple[Transaction, Reservation]]:
        """Begin a transaction; after its commit, the attempts begin that it leased."""
        with self._reserving() as reservation:
            async with database.transaction(self._engine, store.SCHEMA) as tx:
                yield tx, reservation

    async def _apply_new(
        self,
        tx: Transaction,
        reservation: Reservation,
        read: Sequence[tuple[KafkaRecord, Event | str]],
        new: set[str],
        waiting: set[MessageGroup],
        spans: RecordSpans,
    ) -> dict[KafkaRecord, DeadLetter]:
        """Compose and store feedback; return the dead letters, and add their groups to `waiting`."""
        composed, letters = self._compose(read, new, waiting, spans)
        reservation.hold(await store.add(tx, composed, datetime.now(UTC), reservation))
        await _skip(tx, [one for record, one in read if record in letters])
        return letters

    def _compose(
        self,
        read: Sequence[tuple[KafkaRecord, Event | str]],
        new: set[str],
        waiting: set[MessageGroup],
        spans: RecordSpans,
    ) -> tuple[list[RenderedFeedback], dict[KafkaRecord, DeadLetter]]:
        composed: list[RenderedFeedback] = []
        letters: dict[KafkaRecord, DeadLetter] = {}
        for record, event in read:
            if isinstance(event, str):
                letters[record] = _dead_letter(record, None, event, _referenced(record))
            elif event.id in new:
                new.discard(event.id)
                texts, failures = self._composed(event, waiting)
                context = spans.context_of(record)
                composed.extend(one._replace(traceparent=context) for one in texts)
                spans.set_attributes(
                    record, outcome="applied", type=event.data.TYPE, correlation_id=event.correlation_id
                )
                if failures:
                    letters[record] = _letter_for_failures(record, event, failures)
            if record in letters:
                spans.set_attributes(record, outcome="waiting" if letters[record].waiting else "dead-lettered")
                waiting.update((letters[record].person_key, group) for group in letters[record].message_groups)
        return composed, letters

    def _composed(
        self, event: Event, waiting: set[MessageGroup]
    ) -> tuple[list[RenderedFeedback], dict[str, str | None]]:
        """Compose the feedback of one event.

        Return it with the references that failed, each with its reason, or None if it waits behind a dead letter.
        """
        assert isinstance(event.data, CaseEvent)
        composed: list[RenderedFeedback] = []
        failures: dict[str, str | None] = {}
        for context, group in zip(event.data.referral_contexts, _groups(event), strict=True):
            if group in waiting:
                failures[context.reference] = None
                continue
            try:
                composed.extend(self._composer.compose(event, context))
            except Exception as error:
                if database.is_transient(error):
                    raise
                failures[context.reference] = f"compose: {database.reason_class(error)}"
        return composed, failures

    async def _refuse(self, record: KafkaRecord, reason: str) -> None:
        """Store the record that made its batch fail as a dead letter."""
        letter = _rejected(record, reason)
        self._share.check([record], [letter])
        async with database.transaction(self._engine, store.SCHEMA) as tx:
            await dead_letters.add(tx, store.SCHEMA, [letter])
        self._share.count_checked()

    async def _reject_resubmitted(self, row: ReleasableLetter, reason: str) -> None:
        async with database.transaction(self._engine, store.SCHEMA) as tx:
            for locked_row in await resubmit.take(tx, store.SCHEMA, [row]):
                await resubmit.reject_resubmitted(tx, store.SCHEMA, locked_row, _rejected(locked_row.record, reason))


def _read(record: KafkaRecord) -> Event | str:
    """Decode the event of a record, or return the reason why it cannot be decoded."""
    try:
        return cloudevents.decode(record, CASE_EVENTS)
    except Undecodable as error:
        return error.reason


def _groups(event: Event) -> list[MessageGroup]:
    """Return the message group of each referral that an event is about."""
    assert isinstance(event.data, CaseEvent)
    key = storable(event.person_key)
    return [(key, storable(context.reference[:200])) for context in event.data.referral_contexts]


def _events(read: Iterable[Event | str]) -> list[Event]:
    return [one for one in read if isinstance(one, Event)]


async def _skip(tx: Transaction, read: Iterable[Event | str], new: Collection[str] | None = None) -> None:
    """Remove the duplicate marks of these events (only of those in `new`, if given): no feedback of them is stored."""
    if events := [one for one in _events(read) if new is None or one.id in new]:
        await store.forget_inputs(tx, events)


def _key(record: KafkaRecord, event: Event | str) -> str:
    """Return the person key under which a dead letter is stored."""
    return storable(event.person_key if isinstance(event, Event) else (record.key or b"").decode("ascii", "replace"))


def _letter_for_failures(record: KafkaRecord, event: Event, failures: Mapping[str, str | None]) -> DeadLetter:
    """Create a dead letter for an event with failed references; only these references wait behind it."""
    first = next((reference for reference, reason in failures.items() if reason), next(iter(failures)))
    references = [first, *(reference for reference in failures if reference != first)]
    return _dead_letter(
        record, event, failures[first] or dead_letters.WAITING, references, is_waiting=failures[first] is None
    )


def _rejected(record: KafkaRecord, reason: str) -> DeadLetter:
    read = _read(record)
    if isinstance(read, str):
        return _dead_letter(record, None, reason, _referenced(record))
    assert isinstance(read.data, CaseEvent)
    return _dead_letter(record, read, reason, [context.reference for context in read.data.referral_contexts])


def _referenced(record: KafkaRecord) -> list[str]:
    """Return the references of an undecodable event, if its JSON has them."""
    try:
        contexts = json.loads(record.value)["referral_contexts"]
        return [one["reference"] for one in contexts if isinstance(one["reference"], str)]
    except (ValueError, RecursionError, TypeError, LookupError):
        return []


def _dead_letter(
    record: KafkaRecord, event: Event | None, reason: str, references: Sequence[str], *, is_waiting: bool = False
) -> DeadLetter:
    correlation_id = event.correlation_id if event else dead_letters.correlation_id(record)
    message_groups = references or [f"{record.topic}/{record.partition}/{record.offset}"]
    return DeadLetter(
        record,
        _key(record, event or ""),
        tuple(dict.fromkeys(storable(group[:200]) for group in message_groups)),
        storable(reason),
        storable(correlation_id) if correlation_id else None,
        is_waiting,
    )
