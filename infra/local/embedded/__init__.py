"""PostgreSQL, Apache Kafka and the MESH sandbox from packages alone; each stops with its owner."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from infra.local.embedded import kafka, mesh, postgres
from infra.local.embedded.kafka import Kafka
from infra.local.embedded.mesh import MeshSandbox
from infra.local.embedded.ports_and_secrets import Report
from infra.local.embedded.postgres import Postgres
from infra.local.embedded.process import StartFailed
from infra.local.embedded.server_process import ServerProcess

__all__ = ["Embedded", "Kafka", "MeshSandbox", "Postgres", "StartFailed", "start_all"]


@dataclass
class Embedded:
    """All three servers, running."""

    postgres: Postgres
    kafka: Kafka
    mesh: MeshSandbox

    @property
    def servers(self) -> dict[str, ServerProcess]:
        """Each server process by the name that users read; brokers of a cluster are numbered."""
        brokers = self.kafka.brokers
        names = ["kafka"] if len(brokers) == 1 else [f"kafka-{number}" for number in range(1, len(brokers) + 1)]
        kafka_servers = dict(zip(names, brokers, strict=True))
        return {"postgres": self.postgres.server, **kafka_servers, "mesh": self.mesh.server}

    def stop(self) -> None:
        """Stop all in reverse order; each wait is bounded."""
        for part in (self.mesh, self.kafka, self.postgres):
            part.stop()


def start_all(
    data: Path,
    *,
    brokers: int = 1,
    ephemeral: bool = False,
    mailboxes: Sequence[str] = (),
    fsync: bool = True,
    report: Report = lambda _: None,
) -> Embedded:
    """Start all three concurrently on the folder `data`; return when each is ready.

    If one fails, the others are stopped and its StartFailed is raised. `ephemeral`: `data` may be deleted; only then
    may Tansu replace Kafka (see `Kafka.notice`). `report`: called with each port that has to change.
    """
    with ThreadPoolExecutor(3) as pool:
        database = pool.submit(postgres.start, data, fsync=fsync, report=report)
        cluster = pool.submit(kafka.start, data, brokers=brokers, ephemeral=ephemeral, report=report)
        sandbox = pool.submit(mesh.start, data, list(mailboxes), report)
        try:
            return Embedded(database.result(), cluster.result(), sandbox.result())
        except BaseException:  # Ctrl-C too: wait for the starts that are running, and stop them
            _stop_started(sandbox, cluster, database)
            raise


def _stop_started(*starts: "Future[MeshSandbox] | Future[Kafka] | Future[Postgres]") -> None:
    for start in starts:
        if start.exception() is None:
            start.result().stop()
