"""Gives composed feedback to its carriers: claims what is due, makes the attempts side by side, records results in batches.

Woken by the commits of its own process; polls only for what is due again or what another process left behind.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncEngine

from services.messaging import database, metrics, tracing
from services.messaging.sight import Seen
from services.messaging.telemetry import log
from services.messaging.watchdog import Loop, Progress
from services.notifier import claims
from services.notifier.channels import Channel, Failed, Outcome, Retry, pause_before
from services.notifier.claims import Attempt, Claimed
from services.notifier.feedback import Words, restate

AT_ONCE = 256
"""Attempts under way in one process."""

EACH = 64
"""Attempts under way to one recipient: one that is slow leaves room for the others."""

LEASE_SECONDS = 30.0
"""Longer than any carrier may take, so that nobody else tries meanwhile."""

POLL_SECONDS = 0.5

BUSY = 16
LINGER_SECONDS = 0.005
"""With more than BUSY attempts under way, claims and records wait this long for company: a transaction for many."""


class Delivery:
    """`wake()` after a commit; `run()` until cancelled."""

    def __init__(
        self,
        engine: AsyncEngine,
        channels: Mapping[str, Channel],
        words: Words,
        *,
        recorded: Callable[[], None] = lambda: None,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self._engine = engine
        self._channels = channels
        self._words = words
        self._recorded = recorded
        self._lease_seconds = lease_seconds
        self._woken = asyncio.Event()
        self._results_there = asyncio.Event()
        self._results: list[Attempt] = []
        self._under_way: set[asyncio.Task[None]] = set()
        self._by_recipient: Counter[str] = Counter()
        self._progress = Progress()

    def loop(self) -> Loop:
        """For the watchdog: feedback is due, and no result is recorded, nor is it seen to be somebody else's."""
        return Loop("deliverer", self._lanes)

    def _lanes(self, seen: Seen) -> Mapping[str, int]:
        return {"due": self._progress.done} if seen.due or self._under_way or self._results else {}

    def wake(self) -> None:
        """Something may be due."""
        self._woken.set()

    async def run(self) -> None:
        """Deliver until cancelled; then let what is under way end, and record it."""
        recorder = asyncio.create_task(self._record_for_ever())
        try:
            await self._claim_for_ever()
        finally:
            await self._finish()
            recorder.cancel()
            await asyncio.gather(recorder, return_exceptions=True)
            await self._record_last()

    async def _finish(self) -> None:
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=5.0)
        for task in self._under_way:
            task.cancel()

    async def _record_last(self) -> None:
        if self._results:
            try:
                await asyncio.wait_for(self._record(self._results), 5.0)
            except Exception as error:
                log.warning("attempts_not_saved", reason=database.reason_class(error), results=len(self._results))

    # -- claiming

    async def _claim_for_ever(self) -> None:
        pause = 0.1
        while True:
            self._woken.clear()
            await self._linger()
            room = AT_ONCE - len(self._under_way) - len(self._results)
            try:
                claimed = await self._claim(min(room, EACH)) if room > 0 else []
                pause = 0.1
                if not claimed and not self._under_way and not self._results:
                    self._progress.made()  # what is due, another process has in hand
            except Exception as error:
                self._refused(error)
                log.warning("delivery_retrying", reason=database.reason_class(error), seconds=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)
                continue
            for one in claimed:
                self._start(one)
            if len(claimed) < min(room, EACH) or room <= 0:
                await self._wait()

    def _refused(self, error: Exception) -> None:
        metrics.BATCH_RETRIES.labels(database.fault_of(error)).inc()
        if database.sqlstate(error) is not None:
            self._progress.made()  # the database itself refused: a new process would be refused, too

    async def _wait(self) -> None:
        """Until woken, or the poll is due. Not `wait_for`: in Python 3.11 it can swallow the cancellation that ends us."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_SECONDS):
                await self._woken.wait()

    async def _linger(self) -> None:
        if len(self._under_way) > BUSY:
            await asyncio.sleep(LINGER_SECONDS)

    async def _claim(self, limit: int) -> list[Claimed]:
        busy = [recipient for recipient, count in self._by_recipient.items() if count >= EACH]
        async with self._engine.begin() as tx:
            claimed = await claims.claim(tx, limit=limit, seconds=self._lease_seconds, lease=uuid4(), busy=busy)
            return [await self._restated(tx, one) if one.follows_failure else one for one in claimed]

    async def _restated(self, tx: database.Transaction, claimed: Claimed) -> Claimed:
        """Before its first attempt, a feedback that follows a final failure gets the whole present position."""
        feedback, undelivered = await claims.since_accepted(tx, claimed)
        try:
            whole = restate(feedback, undelivered, self._words)
            rendered = self._channels[claimed.conversation[3]].render(whole)
        except Exception as error:
            log.error("restatement_failed", feedback_id=feedback.id, reason=database.reason_class(error))
            return claimed
        await claims.rewrite(tx, claimed, whole, rendered)
        return claims.with_bytes(claimed, rendered)

    # -- attempting

    def _start(self, claimed: Claimed) -> None:
        task = asyncio.create_task(self._attempt(claimed))
        self._under_way.add(task)
        self._by_recipient[claimed.parcel.recipient] += 1
        task.add_done_callback(self._under_way.discard)

    async def _attempt(self, claimed: Claimed) -> None:
        started_at = datetime.now(UTC)
        try:
            with _delivering(claimed) as span:
                claimed = claims.with_context(claimed, span.traceparent)
                outcome = await self._deliver(claimed)
                span.tell(outcome=type(outcome).__name__.lower())
        finally:
            self._by_recipient[claimed.parcel.recipient] -= 1
        pause = _pause(claimed, outcome)
        self._results.append(Attempt(claimed, outcome, started_at, datetime.now(UTC), pause))
        self._results_there.set()

    async def _deliver(self, claimed: Claimed) -> Outcome:
        try:
            return await self._channels[claimed.conversation[3]].deliver(claimed.parcel)
        except Exception as error:
            log.error("channel_failed", channel=claimed.conversation[3], reason=database.reason_class(error))
            return Retry(f"raised:{database.reason_class(error)}")

    # -- recording

    async def _record_for_ever(self) -> None:
        pause = 0.1
        while True:
            await self._results_there.wait()
            await self._linger()
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
        await database.each_or_halves(results, self._mark, _not_recorded)
        self._progress.made()
        for attempt in results:
            _tell(attempt)
            _count(attempt)
        self._wake_later(results)

    async def _mark(self, results: Sequence[Attempt]) -> None:
        async with self._engine.begin() as tx:
            await claims.mark(tx, results)
        self._recorded()

    def _wake_later(self, results: Sequence[Attempt]) -> None:
        """At once for those that follow; when their pause is over for those that are tried again."""
        self.wake()
        pauses = {round(a.pause, 1) for a in results if isinstance(a.outcome, Retry)}
        for pause in pauses:
            asyncio.get_running_loop().call_later(pause + 0.01, self.wake)


async def _not_recorded(attempt: Attempt, reason: str) -> None:
    """Its lease ends by itself, and it is sent again with the same bytes."""
    log.error("attempt_not_saved", feedback_id=attempt.claimed.parcel.feedback_id, reason=reason)


def _delivering(claimed: Claimed) -> tracing.Span:
    parcel, channel = claimed.parcel, claimed.conversation[3]
    return tracing.begin(
        f"deliver {channel}",
        parcel.traceparent,
        "client",
        partner=parcel.recipient,
        channel=channel,
        attempt=parcel.attempt,
        correlation_id=parcel.correlation_id,
    )


def _pause(claimed: Claimed, outcome: Outcome) -> float:
    return pause_before(claimed.parcel.attempt + 1, outcome.after) if isinstance(outcome, Retry) else 0.0


def _count(attempt: Attempt) -> None:
    channel = attempt.claimed.conversation[3]
    metrics.ATTEMPTS.labels(channel, type(attempt.outcome).__name__.lower()).inc()
    metrics.ATTEMPT_SECONDS.labels(channel).observe((attempt.ended_at - attempt.started_at).total_seconds())


def _tell(attempt: Attempt) -> None:
    """Normal running is quiet: only what did not go well is logged."""
    match attempt.outcome:
        case Failed(reason):
            log.error("feedback_failed", reason=reason, **_about(attempt))
        case Retry(reason):
            log.warning("feedback_retry_scheduled", reason=reason, seconds=round(attempt.pause, 1), **_about(attempt))


def _about(attempt: Attempt) -> dict[str, str | int]:
    parcel = attempt.claimed.parcel
    return {
        "reference": parcel.reference,
        "feedback_id": parcel.feedback_id,
        "recipient": parcel.recipient,
        "correlation_id": parcel.correlation_id,
        "attempt": parcel.attempt,
    }
