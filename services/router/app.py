"""Run the router: referrals and commands in, case events out.

Start it with `python -m services.router.app`.
"""

from starlette.applications import Starlette

from schemas.topics import REFERRAL_EVENT, declared, hub_command
from services.messaging import broker, resubmit
from services.messaging.outbox import Relay
from services.reference import directory, yaml_files
from services.router import directory_versions, store
from services.router.consumer import Batches
from services.router.overdue import OverdueDischarges
from services.runtime import database, health, process
from services.runtime.backlog import BacklogMonitor
from services.runtime.logs import log
from services.runtime.settings import Settings
from services.runtime.watchdog import Watchdog

GROUP = "router"


async def main(config: Settings) -> None:
    """Connect the parts of the router, and run until the process is stopped."""
    hubs = directory.load(config.directory)
    names = [hub.id for hub in hubs.hubs]
    await broker.check_topics(config.kafka, declared(names), replication=config.replication)
    engine = database.connect(config.database)
    try:
        await directory_versions.store_directory(engine, config.directory, hubs.version)
        relay = Relay(engine, store.SCHEMA, config.kafka, idempotent=config.kafka_idempotent)
        batches = Batches(engine, hubs, committed=relay.wake, share=config.dead_letter_share)
        listener = broker.create(config, name="router")
        topics = [REFERRAL_EVENT, *map(hub_command, names)]
        consumer = broker.subscribe(listener, topics, group=GROUP, receive=batches.receive)
        log.info("router_starting", directory=hubs.version, hubs=len(names))
        backlog_monitor = BacklogMonitor(config, store.SCHEMA, group=GROUP, topics=topics)
        watchdog = Watchdog(backlog_monitor, [relay.loop(), *consumer.loops()], seconds=config.stall_seconds)
        pages = Starlette(
            routes=health.routes(
                engine, store.SCHEMA, lambda: [*backlog_monitor.unmet_conditions(), *consumer.unmet_conditions()]
            )
        )
        overdue = OverdueDischarges(engine, seconds=config.overdue_seconds, committed=relay.wake)
        serve = process.answer_apart if config.metrics_port else process.answer
        resubmitter = resubmit.run_resubmitter(batches.release)
        await broker.run(listener, relay.run(), watchdog.run(), resubmitter, overdue.run(), serve(pages, config))
    finally:
        await engine.dispose()


if __name__ == "__main__":
    process.run("router", main, yaml_files.ConfigError)
