"""Delivery of composed feedback: make attempts concurrently, and store outcomes in batches.

New feedback is leased by the transaction that stores it, as far as this process has capacity, and its first attempt starts from memory
when that has committed (`Deliverer.reserving`). What is due then is leased here: retries, what did not fit, and what another process left.
What could not be delivered for a long time fails finally.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

from opentelemetry.trace import Span, SpanKind
from sqlalchemy.ext.asyncio import AsyncEngine

from services.notifier import leases
from services.notifier.channels import Channel, Delivered, Failed, Outcome, Retry, pause_before
from services.notifier.circuits import Turn
from services.notifier.compose import FeedbackTexts, restate
from services.notifier.leases import Acquired, Attempt, Lease
from services.notifier.store import SCHEMA, StoredBatch
from services.runtime import database, metrics, tracing
from services.runtime.backlog import BacklogSnapshot
from services.runtime.logs import log
from services.runtime.watchdog import Progress, WatchedTask

AT_ONCE = 256
"""Maximum number of concurrent attempts in one process."""

EACH = 64
"""Maximum number of concurrent attempts to one recipient: a slow one leaves capacity for the others."""

LEASE_SECONDS = 30.0
"""Longer than any channel may take, so that no other process attempts the same feedback concurrently."""

FIRST_SECONDS = 10.0
"""How long after its lease a first attempt may begin, if the commit was slow: no channel takes longer than the rest. Later ones expire."""

POLL_SECONDS = 0.5

GIVE_UP_POLL_SECONDS = 5.0
"""How often each process looks for feedback that was due for too long."""

GIVEN_UP_AT_ONCE = 64

BUSY = 8
LINGER_SECONDS = 0.05
"""With more than BUSY attempts under way or to be stored, leasing and storing wait this long to make larger transactions."""


class Reservation:
    """The attempts that a process reserves for what one transaction stores, and those that start after it (store.Capacity)."""

    def __init__(self, reserve: Callable[[str], bool], seconds: float) -> None:
        self.lease = uuid4()
        self.seconds = seconds
        self.recipients: list[str] = []
        self.leases: list[Lease] = []
        self.waits = False
        self._reserve = reserve
        self.began = 0.0

    def reserve(self, recipient: str) -> bool:
        """Reserve one attempt. Return False if this process, or this recipient, has no capacity left."""
        if not self._reserve(recipient):
            return False
        if not self.recipients:
            self.began = time.monotonic()
        self.recipients.append(recipient)
        return True

    def hold(self, stored: StoredBatch) -> None:
        """Keep what was stored with this lease, to be attempted after the commit."""
        self.leases += [leases.of_new(one, self.lease) for one in stored.leased]
        self.waits = self.waits or stored.waits


@contextlib.contextmanager
def nothing_reserved() -> Iterator[Reservation]:
    """Yield a reservation without capacity: all feedback waits to be leased."""
    yield Reservation(lambda recipient: False, 0.0)


class Deliverer:
    """Delivers feedback by its channels. `reserving()` surrounds a transaction that stores feedback; `run()` runs until cancelled."""

    def __init__(
        self,
        engine: AsyncEngine,
        channels: Mapping[str, Channel],
        texts: FeedbackTexts,
        *,
        recorded: Callable[[], None] = lambda: None,
        lease_seconds: float = LEASE_SECONDS,
        give_up_after: float = 604_800.0,
    ) -> None:
        self._engine = engine
        self._channels = channels
        self._texts = texts
        self._recorded = recorded
        self._lease_seconds = lease_seconds
        self._give_up_after = give_up_after
        self._woken = asyncio.Event()
        self._results_there = asyncio.Event()
        self._results: list[Attempt] = []
        self._in_flight: set[asyncio.Task[None]] = set()
        self._by_recipient: Counter[str] = Counter()
        self._reserved = 0
        self._is_running = False
        self._may_be_due = True
        self._progress = Progress()

    def loop(self) -> WatchedTask:
        """Return the task for the watchdog.

        It is stalled if feedback is due, no outcome is stored, and no other process has leased the feedback.
        """
        return WatchedTask("deliverer", self._progress_by_key)

    def _progress_by_key(self, snapshot: BacklogSnapshot) -> Mapping[str, int]:
        return {"due": self._progress.done} if snapshot.due or self._in_flight or self._results else {}

    def wake(self) -> None:
        """Look for feedback that is due now."""
        self._woken.set()

    async def run(self) -> None:
        """Deliver until cancelled; then let current attempts end, and store their outcomes."""
        others = [asyncio.create_task(self._record_loop()), asyncio.create_task(self._give_up_loop())]
        self._is_running = True
        try:
            await self._lease_loop()
        finally:
            self._is_running = False
            await self._finish()
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await self._record_last()

    async def _finish(self) -> None:
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=5.0)
        for task in self._in_flight:
            task.cancel()

    async def _record_last(self) -> None:
        if self._results:
            try:
                await asyncio.wait_for(self._record(self._results), 5.0)
            except Exception as error:
                log.warning("attempts_not_saved", reason=database.reason_class(error), results=len(self._results))

    # -- what a transaction leases

    @contextlib.contextmanager
    def reserving(self) -> Iterator[Reservation]:
        """Reserve attempts for a transaction that stores feedback. They start after its commit; if it fails, none does."""
        reservation = Reservation(self._reserve, self._lease_seconds)
        try:
            yield reservation
        finally:
            self._reserved -= len(reservation.recipients)
            self._by_recipient.subtract(reservation.recipients)
        is_in_time = time.monotonic() - reservation.began < FIRST_SECONDS
        if self._is_running and is_in_time:  # else the leases expire, and then any process attempts them
            for one in reservation.leases:
                self._start(one)
        if reservation.waits:
            self.wake()

    def _reserve(self, recipient: str) -> bool:
        if not self._is_running or self._capacity() <= 0 or self._by_recipient[recipient] >= EACH:
            return False
        self._reserved += 1
        self._by_recipient[recipient] += 1
        return True

    def _capacity(self) -> int:
        """Return how many more attempts this process may begin."""
        return AT_ONCE - len(self._in_flight) - len(self._results) - self._reserved

    # -- leasing

    async def _lease_loop(self) -> None:
        pause = 0.1
        while True:
            self._woken.clear()
            await self._wait_for_more()
            limit = min(self._capacity(), EACH)
            self._may_be_due = limit <= 0 or bool(self._busy())
            try:
                acquired = await self._acquire_leases(limit) if limit > 0 else Acquired([], False)
                pause = 0.1
                if not acquired.leases and not self._in_flight and not self._results:
                    self._progress.record()  # another process has leased what is due
            except Exception as error:
                self._refused(error)
                log.warning("delivery_retrying", reason=database.reason_class(error), seconds=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)
                continue
            for one in acquired.leases:
                self._start(one)
            if not acquired.more:
                await self._wait()

    def _refused(self, error: Exception) -> None:
        metrics.BATCH_RETRIES.labels(database.error_kind(error)).inc()

    async def _wait(self) -> None:
        """Wait until woken or the poll is due; not by `wait_for`, which in Python 3.11 can swallow a cancellation."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_SECONDS):
                await self._woken.wait()

    async def _wait_for_more(self) -> None:
        if len(self._in_flight) + len(self._results) > BUSY:
            await asyncio.sleep(LINGER_SECONDS)

    async def _acquire_leases(self, limit: int) -> Acquired:
        busy, lease = self._busy(), uuid4()
        self._reserved += limit
        try:
            async with self._engine.begin() as tx:
                acquired = await leases.acquire(tx, limit=limit, seconds=self._lease_seconds, lease=lease, busy=busy)
                prepared = [
                    await self._rewritten(tx, one) if one.follows_failure or not one.request.body else one
                    for one in acquired.leases
                ]
        finally:
            self._reserved -= limit
        return replace(acquired, leases=prepared)

    def _busy(self) -> list[str]:
        """Return the recipients that use all of their capacity."""
        return [recipient for recipient, count in self._by_recipient.items() if count >= EACH]

    async def _rewritten(self, tx: database.Transaction, lease: Lease) -> Lease:
        """Restate a feedback that follows a final failure, with the whole position; render one that has no bytes yet.

        Neither was ever sent.
        """
        feedback, undelivered = await leases.since_accepted(tx, lease)
        try:
            stated = restate(feedback, undelivered, self._texts) if lease.follows_failure else feedback
            rendered = self._channels[lease.conversation.channel].render(stated)
        except Exception as error:
            if database.is_transient(error):
                raise
            log.error("restatement_failed", feedback_id=feedback.id, reason=database.reason_class(error))
            return lease
        await leases.rewrite(tx, lease, stated, rendered)
        return leases.with_bytes(lease, rendered)

    # -- attempting

    def _start(self, lease: Lease) -> None:
        task = asyncio.create_task(self._attempt(lease))
        self._in_flight.add(task)
        self._by_recipient[lease.request.recipient] += 1
        task.add_done_callback(self._in_flight.discard)

    async def _attempt(self, lease: Lease) -> None:
        started_at = datetime.now(UTC)
        try:
            span = _delivering(lease)
            with tracing.ending(span):
                lease = leases.with_context(lease, tracing.traceparent(span))
                outcome = await self._deliver(lease)
                tracing.set_attributes(span, outcome=type(outcome).__name__.lower())
        finally:
            self._by_recipient[lease.request.recipient] -= 1
        pause = _pause(lease, outcome)
        self._results.append(Attempt(lease, outcome, started_at, datetime.now(UTC), pause))
        self._results_there.set()

    async def _deliver(self, lease: Lease) -> Outcome:
        try:
            return await self._channels[lease.conversation.channel].deliver(lease.request)
        except Exception as error:
            log.error("channel_failed", channel=lease.conversation.channel, reason=database.reason_class(error))
            return Retry(f"raised:{database.reason_class(error)}", endpoint=False)

    # -- storing

    async def _record_loop(self) -> None:
        pause = 0.1
        while True:
            await self._results_there.wait()
            await self._wait_for_more()
            self._results_there.clear()
            results = self._results[:]
            try:
                await self._record(results)
                del self._results[: len(results)]
                pause = 0.1
            except Exception as error:
                self._refused(error)
                log.warning("attempt_save_retrying", reason=database.reason_class(error), seconds=pause)
                await asyncio.sleep(pause)
                self._results_there.set()
                pause = min(pause * 2, 5.0)

    async def _record(self, results: Sequence[Attempt]) -> None:
        await database.apply_with_bisection(results, self._mark, _not_recorded)
        self._progress.record()
        for attempt in results:
            _log_attempt(attempt)
            _count(attempt)
        self._wake_later(results)

    async def _mark(self, results: Sequence[Attempt]) -> None:
        async with database.transaction(self._engine, SCHEMA) as tx:
            marked = await leases.mark(tx, results)
        for turn in marked.turns:
            _log_turn(turn)
        self._may_be_due = self._may_be_due or marked.more or bool(marked.turns)
        self._recorded()

    # -- giving up

    async def _give_up_loop(self) -> None:
        while True:
            try:
                given_up = await self._give_up()
            except Exception as error:
                self._refused(error)
                log.warning("give_up_retrying", reason=database.reason_class(error), seconds=GIVE_UP_POLL_SECONDS)
                given_up = 0
            if given_up < GIVEN_UP_AT_ONCE:
                await asyncio.sleep(GIVE_UP_POLL_SECONDS)

    async def _give_up(self) -> int:
        """Fail finally what has been due for too long. Return how many feedbacks failed."""
        async with database.transaction(self._engine, SCHEMA) as tx:
            given_up = await leases.give_up(tx, seconds=self._give_up_after, limit=GIVEN_UP_AT_ONCE)
        for one in given_up:
            log.error("feedback_failed", reason=one.reason, **one.log_fields())
        if given_up:
            self._recorded()
            self.wake()
        return len(given_up)

    def _wake_later(self, results: Sequence[Attempt]) -> None:
        """Wake at once if more may be due now, and after its pause for each retry."""
        if self._may_be_due or not all(isinstance(attempt.outcome, Delivered) for attempt in results):
            self.wake()
        pauses = {round(a.pause, 1) for a in results if isinstance(a.outcome, Retry)}
        for pause in pauses:
            asyncio.get_running_loop().call_later(pause + 0.01, self.wake)


async def _not_recorded(attempt: Attempt, reason: str) -> None:
    """Log an attempt that cannot be stored. Its lease expires, and the same bytes are sent again."""
    log.error("attempt_not_saved", feedback_id=attempt.lease.request.feedback_id, reason=reason)


def _delivering(lease: Lease) -> Span:
    request, channel = lease.request, lease.conversation.channel
    return tracing.begin(
        f"deliver {channel}",
        request.traceparent,
        SpanKind.CLIENT,
        partner=request.recipient,
        channel=channel,
        attempt=request.attempt,
        correlation_id=request.correlation_id,
    )


def _pause(lease: Lease, outcome: Outcome) -> float:
    return pause_before(lease.request.attempt + 1, outcome.after) if isinstance(outcome, Retry) else 0.0


def _log_turn(turn: Turn) -> None:
    """Log an endpoint once when its circuit opens, and once when it closes."""
    fields = {"channel": turn.endpoint.channel, "partner": turn.endpoint.recipient, "seconds": round(turn.seconds)}
    if turn.reason is None:
        log.info("endpoint_recovered", **fields)
    else:
        log.error("endpoint_failing", reason=turn.reason, **fields)


def _count(attempt: Attempt) -> None:
    channel = attempt.lease.conversation.channel
    metrics.ATTEMPTS.labels(channel, type(attempt.outcome).__name__.lower()).inc()
    metrics.ATTEMPT_SECONDS.labels(channel).observe((attempt.ended_at - attempt.started_at).total_seconds())


def _log_attempt(attempt: Attempt) -> None:
    """Log failures and retries; accepted attempts are not logged."""
    match attempt.outcome:
        case Failed(reason):
            log.error("feedback_failed", reason=reason, **_log_fields(attempt))
        case Retry(reason):
            log.warning(
                "feedback_retry_scheduled", reason=reason, seconds=round(attempt.pause, 1), **_log_fields(attempt)
            )


def _log_fields(attempt: Attempt) -> dict[str, str | int]:
    request = attempt.lease.request
    return {
        "reference": request.reference,
        "feedback_id": request.feedback_id,
        "recipient": request.recipient,
        "correlation_id": request.correlation_id,
        "attempt": request.attempt,
    }
