"""Runs the notifier: case events in, feedback out. `python -m services.notifier.app`"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette

from schemas.topics import CASE_EVENT, FEEDBACK_EVENT, declared
from services import directory, partners, reviewed
from services.messaging import broker, database, health, process, putting_back
from services.messaging.outbox import Relay
from services.messaging.settings import Settings
from services.messaging.sight import Sight
from services.messaging.telemetry import log
from services.messaging.watchdog import Watchdog
from services.notifier import kept, store, waiting, words
from services.notifier.channels import Channel
from services.notifier.channels.fhir_endpoint import FhirEndpoint
from services.notifier.channels.mailbox import Mailbox
from services.notifier.channels.mesh import Mesh, MeshNotSet
from services.notifier.composing import Composing
from services.notifier.delivery import Delivery
from services.notifier.pages import application
from services.notifier.receiver import Receiver
from services.notifier.recipients import KnownPartners
from services.notifier.words import ReviewedWords

GROUP = "notifier"


async def main(config: Settings) -> None:
    """Wire everything together, and run until told to stop."""
    files = kept.texts(config.directory)
    hubs = directory.load(config.directory)
    reviewed = words.load(config.directory, hubs)
    known = partners.load(config.directory, config.deployment)
    recipients = KnownPartners(known, mesh=config.mesh_url is not None)
    await broker.check_topics(
        config.kafka,
        [topic for topic in declared([]) if topic.name in (CASE_EVENT, FEEDBACK_EVENT)],
        replication=config.replication,
    )
    engine = database.connect(config.database)
    try:
        version = await kept.keep(engine, kept.source(config, known), files)
        async with carriers(config, recipients, reviewed) as channels:
            composing = Composing(recipients, reviewed, channels, version)
            await _serve(config, engine, known, composing)
    finally:
        await engine.dispose()


@asynccontextmanager
async def carriers(
    config: Settings, recipients: KnownPartners, reviewed: ReviewedWords
) -> AsyncIterator[Mapping[str, Channel]]:
    """Every carrier of this installation, by name; closed at the end."""
    endpoint = FhirEndpoint(recipients.fhir_address, reviewed.ourselves)
    mesh = Mesh.from_settings(config, recipients.mesh_mailbox, reviewed.ourselves) if config.mesh_url else None
    found: dict[str, Channel] = {"fhir": endpoint, "mailbox": Mailbox()}
    try:
        yield found | ({"mesh": mesh} if mesh is not None else {})
    finally:
        if mesh is not None:
            await asyncio.to_thread(mesh.close)
        await endpoint.close()


async def _serve(config: Settings, engine: AsyncEngine, known: partners.Partners, composing: Composing) -> None:
    relay = Relay(engine, store.SCHEMA, config.kafka, idempotent=config.kafka_idempotent)
    delivery = Delivery(engine, composing.channels, composing.words, recorded=relay.wake)

    def committed() -> None:
        delivery.wake()
        relay.wake()

    receiver = Receiver(engine, composing, committed)
    listener = broker.create(config, name="notifier")
    consumer = broker.subscribe(listener, [CASE_EVENT], group=GROUP, receive=receiver.receive)
    sight = Sight(config, store.SCHEMA, group=GROUP, topics=[CASE_EVENT], question=waiting.look)
    loops = [relay.loop(), delivery.loop(), *consumer.loops()]
    watchdog = Watchdog(sight, loops, seconds=config.stall_seconds)
    log.info("notifier_starting", channels=sorted(composing.channels), template_version=composing.version)
    await broker.run(
        listener,
        delivery.run(),
        relay.run(),
        watchdog.run(),
        putting_back.keep_releasing(receiver.release),
        *_answering(config, engine, known, lambda: [*sight.lacking(), *consumer.lacking()]),
    )


def _answering(
    config: Settings, engine: AsyncEngine, known: partners.Partners, lacking: health.Lacking
) -> list[Coroutine[Any, Any, None]]:
    """What partners reach; and how we are, apart from it where that has a port of its own."""
    apart = config.metrics_port is not None
    pages = application(engine, known, health.routes(engine, lacking, with_metrics=not apart))
    answering = [process.answer(pages, config)]
    if apart:
        answering.append(process.answer_apart(Starlette(routes=health.routes(engine, lacking)), config))
    return answering


if __name__ == "__main__":
    process.run("notifier", main, reviewed.Faulty, MeshNotSet, kept.NotKept)
