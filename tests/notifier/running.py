"""A notifier's parts, wired as app.py does, without Kafka: events are handed in, the outbox is read."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from schemas.events import Event
from services.messaging import packets
from services.messaging.packets import Message
from services.notifier import store
from services.notifier.channels import Channel
from services.notifier.channels.fhir_endpoint import FhirEndpoint
from services.notifier.channels.mailbox import Mailbox
from services.notifier.consumer import CaseEventConsumer, FeedbackComposer
from services.notifier.delivery import Deliverer
from services.notifier.recipients import PartnerRecipients
from services.notifier.store import FeedbackContent
from tests.notifier.builders import as_records, the_words

WORDS = the_words()


class Notifier:
    """One process's worth."""

    def __init__(
        self,
        engine: AsyncEngine,
        recipients: PartnerRecipients,
        channels: Mapping[str, Channel],
        *,
        lease_seconds: float = 30.0,
        share: float = 1.0,
    ) -> None:
        self.delivery = Deliverer(engine, channels, WORDS, lease_seconds=lease_seconds)
        composer = FeedbackComposer(recipients, WORDS, channels)
        self.receiver = CaseEventConsumer(engine, composer, share=share, reserving=self.delivery.reserving)
        self._task: asyncio.Task[None] | None = None

    async def receive(self, *events: Event) -> None:
        await self.receiver.receive(as_records(events))

    def start(self) -> None:
        self._task = asyncio.create_task(self.delivery.run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


@contextlib.asynccontextmanager
async def a_notifier(
    engine: AsyncEngine,
    recipients: PartnerRecipients,
    *,
    more: Mapping[str, Channel] | None = None,
    delivering: bool = True,
    lease_seconds: float = 30.0,
    share: float = 1.0,
) -> AsyncIterator[Notifier]:
    endpoint = FhirEndpoint(recipients.fhir_address, WORDS.sender_details)
    channels: dict[str, Channel] = {"fhir": endpoint, "mailbox": Mailbox(), "mesh": Mailbox(), **(more or {})}
    notifier = Notifier(engine, recipients, channels, lease_seconds=lease_seconds, share=share)
    if delivering:
        notifier.start()
    try:
        yield notifier
    finally:
        await notifier.stop()
        await endpoint.close()


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def rows(engine: AsyncEngine, query: str, **values: object) -> Sequence[Any]:
    async with engine.connect() as connection:
        return (await connection.execute(text(query), values)).all()


async def contents(engine: AsyncEngine, feedback: Sequence[Any]) -> list[FeedbackContent]:
    """Return what the packets have of these rows of notifier.feedback."""
    async with engine.connect() as tx:
        return await store.contents(tx, feedback)


async def feedback_events(engine: AsyncEngine) -> list[Message]:
    """Return the events in the outbox, in order."""
    async with engine.connect() as tx:
        return [one.message for one in await packets.published(tx, store.SCHEMA)]


def header(message: Message, name: str) -> str | None:
    return next((value.decode() for found, value in message.headers if found == name), None)


async def until_rows(engine: AsyncEngine, query: str, wanted: int, seconds: float = 10.0) -> Sequence[Any]:
    async with asyncio.timeout(seconds):
        while True:
            found = await rows(engine, query)
            if len(found) >= wanted:
                return found
            await asyncio.sleep(0.02)
