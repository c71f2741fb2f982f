"""Run the router: referrals and commands in, case events out.

Start it with `python -m services.router.app`.
"""

from functools import partial

from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette

from schemas.topics import REFERRAL_EVENT, declared, hub_command
from services.messaging import broker, resubmit
from services.messaging.relay import Relay
from services.reference import directory, yaml_files
from services.reference.directory import Directory
from services.router import backlog, directory_versions, store
from services.router.consumer import Batches
from services.router.overdue import OverdueDischarges
from services.runtime import database, health, process, startup
from services.runtime.backlog import BacklogMonitor
from services.runtime.logs import log
from services.runtime.positions import Positions
from services.runtime.process import HttpServers
from services.runtime.settings import Settings
from services.runtime.watchdog import Watchdog

GROUP = "router"


async def main(config: Settings) -> None:
    """Connect the parts of the router, and run until the process is stopped."""
    hubs = directory.load(config.directory)
    engine = database.connect(config.database)
    try:
        async with startup.ready(config, _checks(config, engine, hubs), only_health=True) as servers:
            await _serve(config, engine, hubs, servers)
    finally:
        await engine.dispose()


def _checks(config: Settings, engine: AsyncEngine, hubs: Directory) -> startup.Checks:
    topics = declared(hub.id for hub in hubs.hubs)
    return {
        "database": (
            partial(startup.check_database, config.database, store.SCHEMA),
            partial(directory_versions.store_directory, engine, config.directory, hubs.version),
        ),
        "kafka": (partial(broker.check_topics, config.kafka, topics, replication=config.replication),),
    }


async def _serve(config: Settings, engine: AsyncEngine, hubs: Directory, servers: HttpServers) -> None:
    names = [hub.id for hub in hubs.hubs]
    relay = Relay(engine, store.SCHEMA, config.kafka, idempotent=config.kafka_idempotent)
    batches = Batches(engine, hubs, committed=relay.wake, share=config.dead_letter_share)
    listener = broker.create(config, name="router")
    topics = [REFERRAL_EVENT, *map(hub_command, names)]
    positions = Positions(engine, store.SCHEMA)
    consumer = broker.subscribe(listener, topics, group=GROUP, receive=batches.receive, positions=positions)
    log.info("router_starting", directory=hubs.version, hubs=len(names))
    backlog_monitor = BacklogMonitor(config, store.SCHEMA, group=GROUP, topics=topics, query=backlog.measure)
    watchdog = Watchdog(backlog_monitor, [relay.loop(), *consumer.loops()], seconds=config.stall_seconds)
    conditions = (backlog_monitor.unmet_conditions, consumer.unmet_conditions)
    pages = Starlette(
        routes=health.routes(engine, store.SCHEMA, lambda: [lack for unmet in conditions for lack in unmet()])
    )
    overdue = OverdueDischarges(engine, seconds=config.overdue_seconds, committed=relay.wake)
    servers.show(pages, pages)
    resubmitter = resubmit.run_resubmitter(batches.release)
    work = (relay.run(), watchdog.run(), resubmitter, overdue.run(), servers.run())
    await broker.run(listener, *work, stopped=servers.stopped())


if __name__ == "__main__":
    process.run("router", main, yaml_files.ConfigError)
