"""Requests that arrive together share one transaction: whatever waits is committed together, and answered after the commit."""

import asyncio
import dataclasses
import time
from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from services.intake import limits, store
from services.intake.ledger import Answer, Arrival
from services.intake.store import Overtaken
from services.intake.translators.contract import Fault, refuse
from services.messaging import database, metrics, tracing
from services.messaging.outbox import Relay
from services.messaging.sight import Seen
from services.messaging.telemetry import log
from services.messaging.watchdog import Loop, Progress

FAILING, RECENTLY = 3, 15.0
"""So many commits that failed without a word from the database, the last so many seconds ago at most, count as work not done."""


class Unavailable(Exception):
    """Nothing can be promised: the database is away or too slow, or the outcome of the commit is unknown. Come again."""


class Batching:
    """Commits what waits. `submit` from any request; `run` until `close`, which lets it finish what waits."""

    def __init__(self, engine: AsyncEngine, secret: bytes, relay: Relay) -> None:
        self._engine = engine
        self._secret = secret
        self._relay = relay
        self._waiting: list[tuple[Arrival, asyncio.Future[Answer]]] = []
        self._woken = asyncio.Event()
        self._closing = False
        self._answers: dict[UUID, Answer] = {}
        self._progress = Progress()
        self._failures = 0
        self._failed_at = 0.0
        self._in_hand = False

    def loop(self) -> Loop:
        """For the watchdog: messages wait, or keep failing, and nothing is committed. Senders come again while it lasts."""
        return Loop("committer", self._lanes)

    def _lanes(self, _: Seen) -> Mapping[str, int]:
        failing = self._failures >= FAILING and time.monotonic() - self._failed_at < RECENTLY
        return {"messages": self._progress.done} if self._waiting or self._in_hand or failing else {}

    async def submit(self, arrival: Arrival) -> Answer:
        """The answer, once it is committed; raises Unavailable where nothing can be promised."""
        if len(self._waiting) >= limits.WAITING:
            raise Unavailable
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((arrival, answered))
        self._woken.set()
        return await answered

    async def run(self) -> None:
        """Commit batch after batch until `close`; what waits then is still committed and answered."""
        while self._waiting or not self._closing:
            await self._woken.wait()
            self._woken.clear()
            while self._waiting:
                self._in_hand = True
                await self._commit(self._take())
                self._in_hand = False

    def close(self) -> None:
        """No more will come: let `run` end when it has answered what waits."""
        self._closing = True
        self._woken.set()

    def _take(self) -> list[tuple[Arrival, "asyncio.Future[Answer]"]]:
        size, number = 0, 0
        for arrival, _ in self._waiting[: limits.BATCH_MESSAGES]:
            size += len(arrival.delivery.body)
            if number and size > limits.BATCH_BYTES:
                break
            number += 1
        batch, self._waiting = self._waiting[:number], self._waiting[number:]
        return batch

    async def _commit(self, batch: Sequence[tuple[Arrival, "asyncio.Future[Answer]"]]) -> None:
        """Commit and answer these; whatever has not committed is answered Unavailable."""
        self._answers = {}
        began = time.monotonic()
        try:
            async with asyncio.timeout(limits.COMMIT_SECONDS):
                with tracing.together("commit", (one.span.traceparent for one, _ in batch), records=len(batch)):
                    await database.each_or_halves([arrival for arrival, _ in batch], self._record, self._refuse)
            self._succeeded(len(batch), time.monotonic() - began)
        except Exception as error:
            self._failed(error, len(batch))
        for arrival, answered in batch:
            if answered.done():
                continue
            answer = self._answers.get(arrival.id)
            if answer is None:
                metrics.MESSAGES.labels(arrival.partner, arrival.format, "unavailable").inc()
            answered.set_result(answer) if answer else answered.set_exception(Unavailable())

    def _succeeded(self, messages: int, seconds: float) -> None:
        self._progress.made()
        self._failures = 0
        metrics.COMMIT_MESSAGES.observe(messages)
        metrics.COMMIT_SECONDS.observe(seconds)

    def _failed(self, error: Exception, messages: int) -> None:
        log.warning("commit_failed", reason=database.reason_class(error), messages=messages)
        metrics.BATCH_RETRIES.labels(database.fault_of(error)).inc()
        self._failures, self._failed_at = self._failures + 1, time.monotonic()
        if database.sqlstate(error) is not None:
            self._progress.made()  # the database itself refused: a new process would be refused, too

    async def _record(self, arrivals: Sequence[Arrival]) -> None:
        for attempt in range(1, limits.COMMIT_ATTEMPTS + 1):
            try:
                answers = await store.record(self._engine, self._secret, arrivals)
                break
            except Exception as error:
                if attempt == limits.COMMIT_ATTEMPTS or not _may_judge_again(error):
                    raise
        self._answers.update(zip((arrival.id for arrival in arrivals), answers, strict=True))
        self._relay.wake()

    async def _refuse(self, arrival: Arrival, reason: str) -> None:
        """One message whose data cannot be kept as an accepted one is kept as a refused one."""
        log.error("message_persist_failed", partner=arrival.partner, reason=reason)
        outcome = refuse(Fault("message", "processing", f"could not be kept ({reason}); tell Lightbulb's operators"))
        await self._record([dataclasses.replace(arrival, outcome=outcome)])


def _may_judge_again(error: BaseException) -> bool:
    """True where the transaction certainly did not happen, and may go well now: overtaken, deadlock, serialization."""
    return isinstance(error, Overtaken) or (database.sqlstate(error) or "").startswith("40")
