"""The router's schedule: two days after an expected discharge without word from the hospital, it publishes DischargeOverdue.

The event is an input like any other: published through the outbox to `referral.event`, and decided on by the consumer. Its id derives
from the referral and the date, so that a second publication has no effect. Every process runs the schedule; a round skips person
keys that another transaction has locked.
"""

import asyncio
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from schemas.dates import in_england
from schemas.events import DischargeOverdue, Event
from schemas.topics import REFERRAL_EVENT
from services.messaging import outbox
from services.messaging.outbox import OutboxMessage
from services.router import store
from services.router.consumer import EVENTS, SOURCE
from services.router.store import SCHEMA, ExpectedDischarge
from services.runtime import database
from services.runtime.logs import log

ROUND = 500
"""Maximum number of referrals that one transaction publishes an event for."""


class OverdueDischarges:
    """Publishes DischargeOverdue for referrals of which the discharge is overdue, each once for each expected date."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        seconds: float,
        committed: Callable[[], None] = lambda: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._engine = engine
        self._seconds = seconds
        self._committed = committed
        self._clock = clock

    async def run(self) -> None:
        """Publish what is due every `seconds` until cancelled; a fault of the database is retried then."""
        while True:
            try:
                await self.publish_due()
            except Exception as error:
                log.warning("overdue_discharges_failed", reason=database.reason_class(error), seconds=self._seconds)
            await asyncio.sleep(self._seconds)

    async def publish_due(self) -> int:
        """Publish every event that is due, in rounds, and return their number."""
        published = 0
        while count := await self._publish_round():
            published += count
            self._committed()
        if published:
            log.info("overdue_discharges_published", events=published)
        return published

    async def _publish_round(self) -> int:
        now = self._clock()
        async with self._engine.begin() as tx:
            due = await store.take_overdue(tx, in_england(now), ROUND)
            await outbox.add(tx, SCHEMA, [OutboxMessage(REFERRAL_EVENT, _event(one, now)) for one in due])
        return len(due)


def _event(one: ExpectedDischarge, now: datetime) -> Event:
    name = f"discharge-overdue|{one.person_key}|{one.reference}|{one.expected_on.isoformat()}"
    return Event(
        id=str(uuid.uuid5(EVENTS, name)),
        source=SOURCE,
        time=now,
        person_key=one.person_key,
        correlation_id=one.correlation_id,
        data=DischargeOverdue(reference=one.reference, expected_on=one.expected_on),
    )
