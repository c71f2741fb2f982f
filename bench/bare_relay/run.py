"""Run the bare relay as a peer of the loop benchmark (bench/peer/README.md): its topics, its three processes, one line READY."""

import asyncio
import os
import signal
import subprocess
import sys

from bench.bare_relay import service
from bench.peer import run as peer
from schemas.topics import Topic, hub_case
from services.messaging import broker

NAMES = ("intake", "router", "notifier")
TOPICS = [
    *(Topic(name, service.PARTITIONS) for name in (service.REFERRAL, service.CASE)),
    *(Topic(hub_case(str(number)), 1) for number in range(service.HUBS)),
]


async def _make_topics(kafka: str) -> None:
    await peer.delete_topics(kafka)
    await broker.create_topics(kafka, TOPICS, replication=1)


def main() -> None:
    """Run until SIGTERM, or until a process ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    asyncio.run(_make_topics(os.environ["KAFKA_BOOTSTRAP"]))
    processes: peer.Processes = {}
    try:
        for name in NAMES:
            command = [sys.executable, "-m", service.__name__, name]
            processes[name] = subprocess.Popen(command, stdout=subprocess.PIPE)
        for name, process in processes.items():
            assert process.stdout is not None
            if not process.stdout.readline():
                raise SystemExit(f"{name} ended before it was ready")
        peer.announce(processes)
        sys.exit(peer.first_to_end(processes))
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        peer.stop(processes)


if __name__ == "__main__":
    main()
