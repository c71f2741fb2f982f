"""Runs the router: referrals and commands in, case events out. `python -m services.router.app`"""

from starlette.applications import Starlette

from schemas.topics import REFERRAL_EVENT, declared, hub_command
from services import directory, reviewed
from services.messaging import broker, database, health, process, putting_back
from services.messaging.outbox import Relay
from services.messaging.settings import Settings
from services.messaging.sight import Sight
from services.messaging.telemetry import log
from services.messaging.watchdog import Watchdog
from services.router import kept, store
from services.router.batch import Batches

GROUP = "router"


async def main(config: Settings) -> None:
    """Wire everything together, and run until told to stop."""
    hubs = directory.load(config.directory)
    names = [hub.id for hub in hubs.hubs]
    await broker.check_topics(config.kafka, declared(names), replication=config.replication)
    engine = database.connect(config.database)
    try:
        await kept.keep_directory(engine, config.directory, hubs.version)
        relay = Relay(engine, store.SCHEMA, config.kafka, idempotent=config.kafka_idempotent)
        batches = Batches(engine, hubs, committed=relay.wake)
        listener = broker.create(config, name="router")
        topics = [REFERRAL_EVENT, *map(hub_command, names)]
        consumer = broker.subscribe(listener, topics, group=GROUP, receive=batches.receive)
        log.info("router_starting", directory=hubs.version, hubs=len(names))
        sight = Sight(config, store.SCHEMA, group=GROUP, topics=topics)
        watchdog = Watchdog(sight, [relay.loop(), *consumer.loops()], seconds=config.stall_seconds)
        pages = Starlette(routes=health.routes(engine, lambda: [*sight.lacking(), *consumer.lacking()]))
        answer = process.answer_apart if config.metrics_port else process.answer
        going_back = putting_back.keep_releasing(batches.release)
        await broker.run(listener, relay.run(), watchdog.run(), going_back, answer(pages, config))
    finally:
        await engine.dispose()


if __name__ == "__main__":
    process.run("router", main, reviewed.Faulty)
