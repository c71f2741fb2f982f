"""Run the notifier: consume case events, deliver feedback. Start it with `python -m services.notifier.app`."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette

from schemas.topics import CASE_EVENT, FEEDBACK_EVENT, declared
from services.messaging import broker, resubmit
from services.messaging.relay import Relay
from services.notifier import backlog, circuits, store, templates
from services.notifier.channels import Channel
from services.notifier.channels.fhir_endpoint import FhirEndpoint
from services.notifier.channels.mailbox import Mailbox
from services.notifier.channels.mesh import MeshChannel, MeshNotSet, MeshUnset
from services.notifier.consumer import CaseEventConsumer, FeedbackComposer
from services.notifier.delivery import Deliverer
from services.notifier.read_api import application
from services.notifier.recipients import PartnerRecipients
from services.notifier.templates import TemplateTexts
from services.reference import directory, partners, yaml_files
from services.runtime import database, expiry, health, process, settings, startup
from services.runtime.backlog import BacklogMonitor
from services.runtime.logs import log
from services.runtime.positions import Positions
from services.runtime.process import HttpServers
from services.runtime.settings import Settings
from services.runtime.watchdog import Watchdog

GROUP = "notifier"


async def main(config: Settings) -> None:
    """Connect all parts of the notifier, and run until the process is stopped."""
    hubs = directory.load(config.directory)
    texts = templates.load(config.directory, hubs)
    all_partners = partners.load(config.directory, config.deployment)
    for name, file in all_partners.feedback_token_files():
        settings.check_private(file, f"{config.deployment}: {name}: feedback_token_file")
    recipients = PartnerRecipients(all_partners, mesh=config.mesh_url is not None)
    missing = partners.unaddressed(all_partners, mesh=config.mesh_url is not None)
    for one in missing:  # its feedback waits
        log.warning("partner_unaddressed", partner=one.partner, channel=one.channel, reason=one.reason)
    engine = database.connect(config.database)
    try:
        async with (
            create_channels(config, recipients, texts) as channels,
            startup.ready(config, _checks(config, engine, missing)) as servers,
        ):
            await _serve(config, engine, all_partners, FeedbackComposer(recipients, texts, channels), servers)
    finally:
        await engine.dispose()


def _checks(config: Settings, engine: AsyncEngine, missing: Sequence[partners.UnaddressedChannel]) -> startup.Checks:
    own_topics = [topic for topic in declared([]) if topic.name in (CASE_EVENT, FEEDBACK_EVENT)]
    return {
        "database": (
            partial(startup.check_database, config.database, store.SCHEMA),
            partial(_store_unaddressed, engine, missing),
        ),
        "kafka": (partial(broker.check_topics, config.kafka, own_topics, replication=config.replication),),
    }


@asynccontextmanager
async def create_channels(
    config: Settings, recipients: PartnerRecipients, texts: TemplateTexts
) -> AsyncIterator[Mapping[str, Channel]]:
    """Yield the channels of this installation by name; close them at the end."""
    endpoint = FhirEndpoint(recipients.fhir_address, texts.sender_details)
    mesh = MeshChannel.from_settings(config, recipients.mesh_mailbox, texts.sender_details) if config.mesh_url else None
    try:
        yield {"fhir": endpoint, "mailbox": Mailbox(), "mesh": mesh or MeshUnset()}
    finally:
        if mesh is not None:
            await asyncio.to_thread(mesh.close)
        await endpoint.close()


async def _serve(
    config: Settings,
    engine: AsyncEngine,
    all_partners: partners.Partners,
    composer: FeedbackComposer,
    servers: HttpServers,
) -> None:
    relay = Relay(engine, store.SCHEMA, config.kafka, idempotent=config.kafka_idempotent)
    delivery = _deliverer(config, engine, composer, relay)
    receiver = CaseEventConsumer(engine, composer, relay.wake, config.dead_letter_share, delivery.reserving)
    listener = broker.create(config, name="notifier")
    positions = Positions(engine, store.SCHEMA)
    consumer = broker.subscribe(listener, [CASE_EVENT], group=GROUP, receive=receiver.receive, positions=positions)
    monitor = _backlog_monitor(config)
    loops = [relay.loop(), delivery.loop(), *consumer.loops()]
    watchdog = Watchdog(monitor, loops, seconds=config.stall_seconds)
    log.info("notifier_starting", channels=sorted(composer.channels))
    expiry.watch(expiry.of_feedback_tokens(all_partners.feedback_token_files()))
    conditions = (monitor.unmet_conditions, consumer.unmet_conditions)
    routes = partial(health.routes, engine, store.SCHEMA, lambda: [lack for unmet in conditions for lack in unmet()])
    pages = application(engine, all_partners, routes(with_metrics=config.metrics_port is None))
    servers.show(pages, Starlette(routes=routes()))
    work = (delivery.run(), relay.run(), watchdog.run(), resubmit.run_resubmitter(receiver.release), servers.run())
    await broker.run(listener, *work, stopped=servers.stopped())


def _deliverer(config: Settings, engine: AsyncEngine, composer: FeedbackComposer, relay: Relay) -> Deliverer:
    return Deliverer(
        engine, composer.channels, composer.texts, recorded=relay.wake, give_up_after=config.feedback_give_up_after
    )


def _backlog_monitor(config: Settings) -> BacklogMonitor:
    measure = partial(
        backlog.measure,
        unfetched_after=config.feedback_unfetched_after,
        give_up_after=config.feedback_give_up_after,
    )
    return BacklogMonitor(config, store.SCHEMA, group=GROUP, topics=[CASE_EVENT], query=measure)


async def _store_unaddressed(engine: AsyncEngine, missing: Sequence[partners.UnaddressedChannel]) -> None:
    async with engine.begin() as tx:
        await circuits.replace_unaddressed(tx, missing)


if __name__ == "__main__":
    process.run("notifier", main, yaml_files.ConfigError, MeshNotSet)
