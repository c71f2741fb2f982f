"""Faults of Kafka, PostgreSQL and their disks, and poisoned records."""

import asyncio
import contextlib
import shutil
import time
from pathlib import Path
from typing import Any

import asyncpg
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from infra.local.embedded import StartFailed
from tests.chaos.harness import db_probe
from tests.chaos.harness.cluster import TMPFS_MEGABYTES, Cluster
from tests.chaos.harness.history import History
from tests.chaos.harness.injection import Injection

# ---- Kafka ------------------------------------------------------------------------------------------------------------


class BrokerKilled(Injection):
    """Kill a broker, and start it some seconds later. Of three brokers, the other two continue with new leaders."""

    what_it_met = "brokers that went away"

    def target(self, cluster: Cluster) -> str:
        return f"broker {1 + self.planned.aim % cluster.brokers} of {cluster.brokers}"

    async def begin(self, cluster: Cluster, history: History) -> None:
        self._broker = cluster.running.parts.kafka.brokers[self.planned.aim % cluster.brokers]
        await asyncio.to_thread(self._broker.kill)
        self.met = 1

    async def end(self, cluster: Cluster, history: History) -> None:
        await asyncio.to_thread(self._broker.start)


class LeaderMoved(BrokerKilled):
    """Stop a broker in order, so that it hands over its leaders, and start it again."""

    async def begin(self, cluster: Cluster, history: History) -> None:
        self._broker = cluster.running.parts.kafka.brokers[self.planned.aim % cluster.brokers]
        await asyncio.to_thread(self._broker.stop)
        self.met = 1


class Poison(Injection):
    """Send records that cannot be processed on the topics that services read."""

    what_it_met = "poisoned records"

    def target(self, cluster: Cluster) -> str:
        return "referral.event, case.event, hub.blaby.command"

    async def begin(self, cluster: Cluster, history: History) -> None:
        mark = f"poison {time.monotonic_ns()}"
        history.poison.append(mark)
        producer = AIOKafkaProducer(bootstrap_servers=cluster.addresses["kafka"], enable_idempotence=True)
        with contextlib.suppress(KafkaError):  # the broker is down: no record is sent
            await producer.start()
            for topic, value in self._records(mark):
                key = (
                    None if topic.endswith(".command") else b"f" * 32
                )  # a hub's record that names a person would be answered
                await producer.send_and_wait(topic, value, key=key, headers=[("ce_id", b"poison")])
                self.met += 1
        await producer.stop()

    def _records(self, mark: str) -> list[tuple[str, bytes]]:
        broken = [b"\xff\xfe not JSON " + mark.encode(), b'{"reference": 7, "mark": "' + mark.encode() + b'"}']
        return [(topic, value) for topic in ("referral.event", "case.event", "hub.blaby.command") for value in broken]


# ---- PostgreSQL -------------------------------------------------------------------------------------------------------


class OfPostgres(Injection):
    """Faults inside the server."""

    def target(self, cluster: Cluster) -> str:
        return "PostgreSQL"


class PostgresKilled(OfPostgres):
    """Kill the server, and start it some seconds later: it recovers from its log."""

    what_it_met = "servers killed"

    async def begin(self, cluster: Cluster, history: History) -> None:
        await asyncio.to_thread(cluster.running.parts.postgres.child.kill)
        self.met = 1

    async def end(self, cluster: Cluster, history: History) -> None:
        await asyncio.to_thread(start_postgres, cluster)


def start_postgres(cluster: Cluster) -> None:
    """Start the server on its old port; sessions of the killed server may still be ending."""
    for _ in range(20):
        try:
            cluster.running.parts.postgres.server.start()
            return
        except StartFailed:
            time.sleep(0.5)
    raise StartFailed("PostgreSQL did not start again after it was killed")


class SessionsEnded(OfPostgres):
    """Terminate all sessions of the services."""

    what_it_met = "sessions ended"

    async def begin(self, cluster: Cluster, history: History) -> None:
        self.met = await db_probe.end_sessions(cluster.probe)


class ErrorsByTrigger(OfPostgres):
    """Make every third transaction that writes fail with a serialization failure."""

    what_it_met = "transactions told to try again"

    async def begin(self, cluster: Cluster, history: History) -> None:
        await db_probe.create_failure_counter(cluster.probe)
        self._before = await db_probe.failures(cluster.probe)
        await db_probe.create_failure_triggers(cluster.probe)

    async def end(self, cluster: Cluster, history: History) -> None:
        await db_probe.drop_failure_triggers(cluster.probe)
        self.met = await db_probe.failures(cluster.probe) - self._before


class Deadlocks(OfPostgres):
    """Lock cases before their persons repeatedly. The router locks in the opposite order: deadlocks follow."""

    what_it_met = "deadlocks that PostgreSQL found"

    async def begin(self, cluster: Cluster, history: History) -> None:
        self._before = await db_probe.deadlocks(cluster.probe)
        self._task = asyncio.create_task(self._lock(cluster))

    async def _lock(self, cluster: Cluster) -> None:
        while True:
            with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection = await cluster.connection()
                try:
                    await db_probe.lock_cases_before_persons(connection)
                finally:
                    await connection.close(timeout=1)
            await asyncio.sleep(0.05)

    async def end(self, cluster: Cluster, history: History) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self.met = max(0, await db_probe.deadlocks(cluster.probe) - self._before)  # a crash resets the counter


class ConnectionsExhausted(OfPostgres):
    """Take every free connection of the server."""

    what_it_met = "connections taken, until none was left"

    async def begin(self, cluster: Cluster, history: History) -> None:
        self._taken: list[Any] = []
        await self._take(cluster)
        if self._taken:
            await self._taken[0].execute(db_probe.END_SESSIONS)
        await self._take(cluster)

    async def _take(self, cluster: Cluster) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            try:
                while len(self._taken) < 250:
                    self._taken.append(await cluster.connection())
            except asyncpg.TooManyConnectionsError:
                self.met = len(self._taken)

    async def end(self, cluster: Cluster, history: History) -> None:
        await asyncio.gather(*(one.close(timeout=2) for one in self._taken), return_exceptions=True)


# ---- disks ------------------------------------------------------------------------------------------------------------


class DiskFull(Injection):
    """Fill the disk of PostgreSQL or Kafka (a small tmpfs). A broker then halts, and is started when there is space."""

    what_it_met = "disks filled to the last page"

    @property
    def _name(self) -> str:
        return self.planned.name.rpartition("-")[2]

    def target(self, cluster: Cluster) -> str:
        return f"{self._name}'s disk"

    async def begin(self, cluster: Cluster, history: History) -> None:
        self._ballast: Path = cluster.data / self._name / "ballast"
        if not cluster.on_tmpfs:
            history.notes.append(f"{self.planned.name}: no small disk could be mounted, nothing was done")
            return
        await asyncio.to_thread(_fill, self._ballast, TMPFS_MEGABYTES[self._name])
        self.met = int(shutil.disk_usage(self._ballast).free < 65_536)

    async def end(self, cluster: Cluster, history: History) -> None:
        self._ballast.unlink(missing_ok=True)
        if self._name == "kafka" and cluster.on_tmpfs:
            # brokers have halted or will halt; start all together, since one alone does not find its controllers
            brokers = cluster.running.parts.kafka.brokers
            await asyncio.gather(*(asyncio.to_thread(broker.kill) for broker in brokers))
            await asyncio.gather(*(asyncio.to_thread(broker.start) for broker in brokers))
        elif not cluster.running.parts.postgres.child.is_running():
            await asyncio.to_thread(start_postgres, cluster)


def _fill(ballast: Path, megabytes: int) -> None:
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        for size in (1_048_576, 65_536, 4_096):
            with contextlib.suppress(OSError):
                for _ in range(megabytes * 1_048_576 // size):
                    file.write(b"\0" * size)
