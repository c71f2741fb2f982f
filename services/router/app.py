"""Runs the router: referrals and commands in, case events out. `python -m services.router.app`"""

import asyncio
import gc
import sys

import uvloop

from schemas.topics import REFERRAL_EVENT, declared, hub_command
from services import directory
from services.messaging import broker, database, settings, telemetry
from services.messaging.outbox import Relay
from services.messaging.settings import Settings
from services.messaging.telemetry import log
from services.router import store
from services.router.batch import Batches

GROUP = "router"


async def main(config: Settings) -> None:
    """Wire everything together, and run until told to stop."""
    hubs = directory.load(config.directory)
    names = [hub.id for hub in hubs.hubs]
    await broker.check_topics(config.kafka, declared(names), replication=config.replication)
    engine = database.connect(config.database)
    try:
        relay = Relay(engine, store.SCHEMA, config.kafka, idempotent=config.kafka_idempotent)
        batches = Batches(engine, hubs, committed=relay.wake)
        listener = broker.create(config, name="router")
        topics = [REFERRAL_EVENT, *map(hub_command, names)]
        broker.subscribe(listener, topics, group=GROUP, receive=batches.receive)
        log.info("router_starts", directory=hubs.version, hubs=len(names))
        await broker.run(listener, relay.run())
    finally:
        await engine.dispose()


def run() -> None:
    """The process: exit code 1 with a clear line where it cannot start."""
    config = settings.load()
    telemetry.configure("router", config)
    gc.freeze()
    gc.set_threshold(
        100_000, 50, 100
    )  # a batch makes many small facts and no cycles: a third of its time was the collector's
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main(config))
    except (directory.DirectoryFaulty, broker.TopicsDiffer) as fault:
        sys.stderr.write(f"{fault}\n")
        raise SystemExit(1) from None


if __name__ == "__main__":
    run()
