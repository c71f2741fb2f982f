"""Group commit: messages that wait at the same time share one transaction, and are answered after its commit."""

import asyncio
import dataclasses
import time
from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from services.intake import limits, store
from services.intake.batch import PendingMessage, ProtocolResponse
from services.intake.store import ConcurrentUpdate
from services.intake.translators.translator import Issue, reject
from services.messaging.relay import Relay
from services.runtime import database, metrics, tracing
from services.runtime.backlog import BacklogSnapshot
from services.runtime.logs import log
from services.runtime.watchdog import Progress, WatchedTask

FAILING, RECENTLY = 3, 15.0
"""Three commits in a row that failed, the last at most 15 seconds ago, count as pending work."""


class Unavailable(Exception):
    """It is not certain that the message was stored; the sender may retry.

    The database is unreachable or too slow, the queue or the memory budget is full, or the outcome of the commit is unknown.
    """


class GroupCommit:
    """A queue of messages and the task that commits them. Call `submit` from any request; `run` ends after `close`."""

    def __init__(self, engine: AsyncEngine, secret: bytes, relay: Relay) -> None:
        self.engine = engine
        self._secret = secret
        self._relay = relay
        self._waiting: list[tuple[PendingMessage, asyncio.Future[ProtocolResponse]]] = []
        self._woken = asyncio.Event()
        self._closing = False
        self._answers: dict[UUID, ProtocolResponse] = {}
        self._progress = Progress()
        self._failures = 0
        self._failed_at = 0.0
        self._in_flight = False

    def loop(self) -> WatchedTask:
        """Return the task for the stall detector: it is stalled if messages wait or commits fail, and none succeeds."""
        return WatchedTask("committer", self._progress_by_key)

    def _progress_by_key(self, _: BacklogSnapshot) -> Mapping[str, int]:
        is_due = self._waiting or self._in_flight or self._is_failing()
        return {"messages": self._progress.done} if is_due else {}

    def unmet_conditions(self) -> list[str]:
        """Return what readiness lacks: commits that succeed."""
        return ["commits: the latest ones failed"] if self._is_failing() else []

    def _is_failing(self) -> bool:
        return self._failures >= FAILING and time.monotonic() - self._failed_at < RECENTLY

    async def submit(self, message: PendingMessage) -> ProtocolResponse:
        """Return the response to a message after its commit. Raises Unavailable if it may not have been committed."""
        return await self.enqueue(message)

    def enqueue(self, message: PendingMessage) -> "asyncio.Future[ProtocolResponse]":
        """Queue a message, and return the future of what `submit` returns or raises."""
        answered: asyncio.Future[ProtocolResponse] = asyncio.get_running_loop().create_future()
        if len(self._waiting) >= limits.WAITING:
            answered.set_exception(Unavailable())
        else:
            self._waiting.append((message, answered))
            self._woken.set()
        return answered

    async def run(self) -> None:
        """Commit batches until `close` is called; messages that wait by then are still committed and answered."""
        while self._waiting or not self._closing:
            await self._woken.wait()
            self._woken.clear()
            while self._waiting:
                self._in_flight = True
                await self._commit(self._take())
                self._in_flight = False

    def close(self) -> None:
        """Let `run` end after it has answered the messages that wait. Call when no more are submitted."""
        self._closing = True
        self._woken.set()

    def _take(self) -> list[tuple[PendingMessage, "asyncio.Future[ProtocolResponse]"]]:
        size, number = 0, 0
        for message, _ in self._waiting[: limits.BATCH_MESSAGES]:
            size += len(message.inbound.body)
            if number and size > limits.BATCH_BYTES:
                break
            number += 1
        batch, self._waiting = self._waiting[:number], self._waiting[number:]
        return batch

    async def _commit(self, batch: Sequence[tuple[PendingMessage, "asyncio.Future[ProtocolResponse]"]]) -> None:
        """Commit and answer these messages; those without a commit are answered Unavailable."""
        self._answers = {}
        began = time.monotonic()
        try:
            async with asyncio.timeout(limits.COMMIT_SECONDS):
                with tracing.batch_span(
                    "commit", (tracing.traceparent(one.span) for one, _ in batch), records=len(batch)
                ):
                    await database.apply_with_bisection([message for message, _ in batch], self._record, self._refuse)
            self._succeeded(len(batch), time.monotonic() - began)
        except Exception as error:
            self._failed(error, len(batch))
        for message, answered in batch:
            if answered.done():
                continue
            answer = self._answers.get(message.id)
            if answer is None:
                metrics.MESSAGES.labels(message.partner, message.format, "unavailable").inc()
            answered.set_result(answer) if answer else answered.set_exception(Unavailable())

    def _succeeded(self, messages: int, seconds: float) -> None:
        self._progress.record()
        self._failures = 0
        metrics.COMMIT_MESSAGES.observe(messages)
        metrics.COMMIT_SECONDS.observe(seconds)

    def _failed(self, error: Exception, messages: int) -> None:
        log.warning("commit_failed", reason=database.reason_class(error), messages=messages)
        metrics.BATCH_RETRIES.labels(database.error_kind(error)).inc()
        self._failures, self._failed_at = self._failures + 1, time.monotonic()

    async def _record(self, messages: Sequence[PendingMessage]) -> None:
        for attempt in range(1, limits.COMMIT_ATTEMPTS + 1):
            try:
                answers = await store.record(self.engine, self._secret, messages)
                break
            except Exception as error:
                if attempt == limits.COMMIT_ATTEMPTS or not _may_retry(error):
                    raise
        self._answers.update(zip((message.id for message in messages), answers, strict=True))
        self._relay.wake()

    async def _refuse(self, message: PendingMessage, reason: str) -> None:
        """Store one message as refused if its data cannot be stored as an accepted message."""
        log.error("message_persist_failed", partner=message.partner, reason=reason)
        outcome = reject(
            Issue("message", "processing", f"could not be stored ({reason}); contact Lightbulb's operators")
        )
        await self._record([dataclasses.replace(message, outcome=outcome)])


def _may_retry(error: BaseException) -> bool:
    """Return True if the transaction was certainly rolled back and may succeed now.

    That is so after a concurrent update, a deadlock or a serialization failure.
    """
    return isinstance(error, ConcurrentUpdate) or (database.sqlstate(error) or "").startswith("40")
