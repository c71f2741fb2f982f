"""Restore an older copy of PostgreSQL while Kafka keeps everything, and let the operator's command take in what the copy lacks."""

import asyncio
import shutil
import signal
import tempfile
from pathlib import Path

from tests.chaos.harness import db_probe
from tests.chaos.harness.cluster import SERVICES, Cluster
from tests.chaos.harness.history import History
from tests.chaos.harness.injection import Injection
from tests.chaos.harness.passing_faults import operate
from tests.chaos.harness.service_faults import send

DOORS = ("http", "mllp")
PAUSE_SECONDS = 0.05
"""A process that has ended is started again after half a second; by then its proxies must be closed."""


class Restore(Injection):
    """Copy the database, let the installation work, restore the copy with the services stopped, and reconcile.

    What was not on Kafka when the database was lost is lost with it: so nothing is accepted before, until all is published.
    The services are stopped as an operator stops them; those that the supervisor starts again wait for their servers.
    """

    what_it_met = "referrals that the copy lacked"

    def target(self, cluster: Cluster) -> str:
        return "PostgreSQL, from an older copy"

    async def begin(self, cluster: Cluster, history: History) -> None:
        self._copy = Path(tempfile.mkdtemp(prefix="lightbulb-copy-", dir=cluster.data)) / "cluster"
        server = cluster.running.parts.postgres.server
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(shutil.copytree, self._cluster(cluster), self._copy, symlinks=True)
        await asyncio.to_thread(server.start)

    def _cluster(self, cluster: Cluster) -> Path:
        return cluster.data.resolve() / "postgres" / "cluster"

    async def end(self, cluster: Cluster, history: History) -> None:
        for door in DOORS:
            for proxy in cluster.proxies_to(door):
                await proxy.cut()
        await self.load.until(lambda: self._is_published(cluster), "the publication of everything before a restore")
        for service in SERVICES:
            await self._stop(cluster, service)
        if lost := await self._unpublished(cluster):
            history.notes.append(f"{lost} rows were not published before the restore")
        before = await db_probe.referral_count(cluster.probe)
        await asyncio.to_thread(self._replace, cluster)
        self.met = before - await db_probe.referral_count(cluster.probe)
        history.repeats_before_restore = cluster.endpoint.repeats
        await operate(cluster, history, "reconcile", "--who", "chaos", "--why", "an older copy was restored")
        await cluster.restore()

    async def _is_published(self, cluster: Cluster) -> bool:
        return await self._unpublished(cluster) == 0

    async def _unpublished(self, cluster: Cluster) -> int:
        return sum([await db_probe.unpublished(cluster.probe, schema) for schema in SERVICES])

    async def _stop(self, cluster: Cluster, service: str) -> None:
        """Stop both processes of a service, and let them start without servers."""
        pids = {name: send(cluster, name, signal.SIGTERM) for name in (f"{service}-1", f"{service}-2")}
        while any(
            (child := cluster.processes().get(name)) is not None and child.pid == pid for name, pid in pids.items()
        ):
            await asyncio.sleep(PAUSE_SECONDS)
        for what in ("postgres", "kafka"):
            for proxy in cluster.proxies_to(what, service):
                await proxy.cut()

    def _replace(self, cluster: Cluster) -> None:
        server, folder = cluster.running.parts.postgres.server, self._cluster(cluster)
        server.stop()
        owner = folder.stat()
        shutil.rmtree(folder)
        shutil.copytree(self._copy, folder, symlinks=True)
        for one in (folder, *folder.rglob("*")):
            shutil.chown(one, owner.st_uid, owner.st_gid)
        shutil.rmtree(self._copy.parent)
        server.start()

    async def repair(self, cluster: Cluster, history: History) -> None:
        for name in cluster.addresses["metrics"]:

            async def is_ready(name: str = name) -> bool:
                return await cluster.is_ready(name)

            await self.load.until(is_ready, f"the restored database at {name}")
