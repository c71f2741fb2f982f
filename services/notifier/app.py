"""Runs the notifier: case events in, feedback out. `python -m services.notifier.app`"""

import asyncio
import contextlib
import socket
import sys
from collections.abc import Iterator, Mapping

import uvicorn
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette

from schemas.topics import CASE_EVENT, FEEDBACK_EVENT, declared
from services import directory, partners
from services.messaging import broker, database, settings, telemetry
from services.messaging.outbox import Relay
from services.messaging.settings import Settings
from services.messaging.telemetry import log
from services.notifier import store, words
from services.notifier.channels import Channel
from services.notifier.channels.fhir_endpoint import FhirEndpoint
from services.notifier.channels.mailbox import Mailbox
from services.notifier.channels.mesh import Mesh, MeshNotSet
from services.notifier.delivery import Delivery
from services.notifier.pages import application
from services.notifier.receiver import Receiver
from services.notifier.recipients import KnownPartners
from services.notifier.words import ReviewedWords

GROUP = "notifier"


async def main(config: Settings) -> None:
    """Wire everything together, and run until told to stop."""
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
    endpoint = FhirEndpoint(recipients.fhir_address, reviewed.ourselves)
    channels: dict[str, Channel] = {"fhir": endpoint, "mailbox": Mailbox()}
    mesh = Mesh.from_settings(config, recipients.mesh_mailbox, reviewed.ourselves) if config.mesh_url else None
    if mesh is not None:
        channels["mesh"] = mesh
    try:
        await _serve(config, engine, known, recipients, reviewed, channels)
    finally:
        if mesh is not None:
            await asyncio.to_thread(mesh.close)
        await endpoint.close()
        await engine.dispose()


async def _serve(
    config: Settings,
    engine: AsyncEngine,
    known: partners.Partners,
    recipients: KnownPartners,
    reviewed: ReviewedWords,
    channels: Mapping[str, Channel],
) -> None:
    relay = Relay(engine, store.SCHEMA, config.kafka, idempotent=config.kafka_idempotent)
    delivery = Delivery(engine, channels, reviewed, recorded=relay.wake)

    def committed() -> None:
        delivery.wake()
        relay.wake()

    receiver = Receiver(engine, recipients, reviewed, channels, committed)
    listener = broker.create(config, name="notifier")
    broker.subscribe(listener, [CASE_EVENT], group=GROUP, receive=receiver.receive)
    pages = application(engine, known)
    log.info("notifier_starts", channels=sorted(channels))
    await broker.run(listener, delivery.run(), relay.run(), _pages(pages, config))


async def _pages(pages: Starlette, config: Settings) -> None:
    """Answer HTTP; several processes may share the port."""
    listening = _listening(config.http_host, config.http_port)
    log.info("notifier_listens", port=listening.getsockname()[1])
    await _Server(uvicorn.Config(pages, log_config=None, access_log=False, lifespan="off")).serve(sockets=[listening])


def _listening(host: str, port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listening.bind((host, port))
    return listening


class _Server(uvicorn.Server):
    """Signals are for broker.run, which stops everything in its order."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run() -> None:
    """The process: exit code 1 with a clear line where it cannot start."""
    config = settings.load()
    telemetry.configure("notifier", config)
    try:
        asyncio.run(main(config))
    except (
        directory.DirectoryFaulty,
        partners.DirectoryFault,
        words.WordsFault,
        broker.TopicsDiffer,
        MeshNotSet,
    ) as fault:
        sys.stderr.write(f"Cannot start the notifier.\n{fault}\n")
        raise SystemExit(1) from None


if __name__ == "__main__":
    run()
