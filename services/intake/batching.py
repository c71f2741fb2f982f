"""Requests that arrive together share one transaction: whatever waits is committed together, and answered after the commit."""

import asyncio
import dataclasses
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from services.intake import limits, store
from services.intake.ledger import Answer, Arrival
from services.intake.store import Overtaken
from services.intake.translators.contract import Fault, refuse
from services.messaging import database
from services.messaging.outbox import Relay
from services.messaging.telemetry import log


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
                await self._commit(self._take())

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
        try:
            async with asyncio.timeout(limits.COMMIT_SECONDS):
                await database.each_or_halves([arrival for arrival, _ in batch], self._record, self._refuse)
        except Exception as error:
            log.warning("intake_cannot_commit", reason=database.reason_class(error), messages=len(batch))
        for arrival, answered in batch:
            if answered.done():
                continue
            answer = self._answers.get(arrival.id)
            answered.set_result(answer) if answer else answered.set_exception(Unavailable())

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
        log.error("message_cannot_be_kept", partner=arrival.partner, reason=reason)
        outcome = refuse(Fault("message", "processing", f"could not be kept ({reason}); tell Lightbulb's operators"))
        await self._record([dataclasses.replace(arrival, outcome=outcome)])


def _may_judge_again(error: BaseException) -> bool:
    """True where the transaction certainly did not happen, and may go well now: overtaken, deadlock, serialization."""
    return isinstance(error, Overtaken) or (database.sqlstate(error) or "").startswith("40")
