"""The installation under test: real servers, two processes of each service, a proxy on each connection, and simulated partners."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from infra.local import installation
from infra.local.embedded import kafka_settings, ports_and_secrets, supervisor
from infra.local.embedded.kafka_settings import Layout
from infra.local.embedded.process import Child
from infra.local.embedded.supervisor import ProcessEvent
from infra.local.installation import Installation
from schemas import topics
from services.reference import directory
from tests.chaos.harness import db_probe
from tests.chaos.harness.db_probe import Probe
from tests.chaos.harness.hubs import Hubs
from tests.chaos.harness.proxy import Proxy
from tests.chaos.harness.sinks import Endpoint, Log

SERVICES = ("intake", "router", "notifier")
PRACTICE, WARDS = "gp-alder-lane", ("uhl", "lpt")
PAUSED = re.compile(r'^lightbulb_topic_paused\{topic="([^"]+)"\} 1\.0$', re.MULTILINE)
HERE = Path(__file__).parent
TMPFS_MEGABYTES = {"postgres": 1_500, "kafka": 1_500}


@dataclass
class Cluster:
    """All parts that a fault can affect or the checker can read."""

    running: Installation
    proxies: Mapping[str, Proxy]
    endpoint: Endpoint
    hubs: Hubs
    log: Log
    session: aiohttp.ClientSession
    feedback_port: int
    on_tmpfs: bool
    process_events: list[ProcessEvent] = field(default_factory=list)
    slots: int = 0
    probe: Probe = field(init=False)
    endpoint_probe: Probe = field(init=False)

    def __post_init__(self) -> None:
        self.probe = Probe(self.connection)
        self.endpoint_probe = Probe(self.connection)

    @property
    def background_tasks(self) -> list[asyncio.Task[None]]:
        """The tasks that receive hub events and topics. If one ends, the run cannot continue."""
        return [self.hubs.listening, self.log.reading]

    @property
    def addresses(self) -> dict[str, Any]:
        return self.running.addresses

    @property
    def brokers(self) -> int:
        return self.running.plan.brokers

    @property
    def data(self) -> Path:
        return self.running.plan.data

    def token(self, partner: str) -> str:
        return str(self.addresses["partners"][partner]["token"])

    def tokens(self) -> dict[str, str]:
        return {partner: self.token(partner) for partner in self.addresses["partners"]}

    def processes(self) -> dict[str, Child]:
        """Return the running processes of the services by name: intake-1, intake-2, ..."""
        return {name: child for name, child in self.running.supervisor.children.items() if name[:-2] in SERVICES}

    def proxies_to(self, what: str, service: str | None = None) -> list[Proxy]:
        """Return the proxies to `kafka`, `postgres` and so on, of one service or of all."""
        return [w for name, w in self.proxies.items() if what in name.split("-") and (service or "") in name]

    async def is_ready(self, name: str) -> bool:
        """Return True if the process reports ready on its health port."""
        return (await self.health(name, "ready"))[0] == 200

    async def health(self, name: str, what: str) -> tuple[int, str]:
        """Return what a process answers at /health/live or /health/ready on its health port; 0 if it does not."""
        url = self.addresses["metrics"][name].replace("/metrics", f"/health/{what}")
        try:
            async with self.session.get(url) as answer:
                return answer.status, await answer.text()
        except (aiohttp.ClientError, OSError, TimeoutError):
            return 0, ""

    def logged(self, words: str, service: str = "") -> int:
        """Count the lines with these words in the logs of all services, or of one."""
        logs = (self.data / "logs").glob(f"{service}*.log")
        return sum(words in line for log in logs for line in log.read_text(errors="replace").splitlines())

    async def paused_topics(self, name: str) -> list[str]:
        """Return the topics that a process says it reads no further, by its metrics."""
        try:
            async with self.session.get(self.addresses["metrics"][name]) as answer:
                return PAUSED.findall(await answer.text())
        except (aiohttp.ClientError, OSError, TimeoutError):
            return []

    async def restore(self) -> None:
        for proxy in self.proxies.values():
            await proxy.restore()
        self.endpoint.behaviour = "well"

    async def connection(self) -> asyncpg.Connection:
        """Connect to PostgreSQL directly, not through a proxy."""
        url = self.addresses["postgres"].replace("+asyncpg", "")
        settings = {db_probe.READ_ONLY: "off"}  # the harness writes while the services cannot
        return await asyncpg.connect(url, timeout=3, command_timeout=20, server_settings=settings)


# ---- starting ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ports:
    """The ports of the proxies, and of the brokers' listeners behind them by (service, node)."""

    proxies: Mapping[str, int]
    listeners: Mapping[tuple[str, int], int]
    feedback: int


def _ports(brokers: int) -> Ports:
    names = ["mesh", "fhir", "http", *(f"mllp-{ward}" for ward in WARDS), *(f"{name}-postgres" for name in SERVICES)]
    names += [f"{service}-kafka-{node}" for service in SERVICES for node in range(1, brokers + 1)]
    pairs = [(service, node) for service in SERVICES for node in range(1, brokers + 1)]
    free = iter(ports_and_secrets.free_ports(len(names) + len(pairs) + 1))
    return Ports({name: next(free) for name in names}, {pair: next(free) for pair in pairs}, next(free))


async def start(*, brokers: int = 1, mutant: str | None = None, folder: Path | None = None) -> Cluster:
    """Start the installation; `mutant` removes one guard in the services' processes."""
    supervisor.LONGEST_PAUSE = 1.0  # a process that is killed again and again restarts in time for its plan
    supervisor.STEADY_AFTER = 1.0
    data = folder or Path(tempfile.mkdtemp(prefix="lightbulb-chaos-"))
    on_tmpfs = _mount_small_disks(data)
    if not on_tmpfs:
        sys.stdout.write("no small disks can be mounted here (it needs root): full disks are not covered\n")
    ports = _ports(brokers)
    _add_kafka_listeners(ports)
    proxies = {proxy.name: proxy for proxy in _proxies(data, ports)}
    for proxy in proxies.values():
        await proxy.restore()
    plan = installation.Plan(
        data,
        each=2,
        brokers=brokers,
        feedback_urls={PRACTICE: f"http://{ports_and_secrets.HOST}:{ports.proxies['fhir']}/feedback"},
        environment=_environment(data, ports, brokers, mutant),
        restarts_servers=False,  # faults kill them and start them again
    )
    process_events: list[ProcessEvent] = []
    cluster = await _connect(await _start_installation(plan, process_events), proxies, ports, on_tmpfs)
    cluster.process_events = process_events
    return cluster


async def _start_installation(plan: installation.Plan, process_events: list[ProcessEvent]) -> Installation:
    """Start it; print the ends of its logs and delete its files if that fails."""
    try:
        starting = asyncio.to_thread(installation.start, plan, lambda _: None, process_events.append)
        return await _start_completely(starting)
    except BaseException as error:
        if isinstance(error, Exception):
            for log in (plan.data / "logs").glob("*.log"):
                sys.stderr.write(log.read_text(errors="replace")[-1500:])
        _remove(plan.data)
        raise


async def _start_completely(starting: Awaitable[Installation]) -> Installation:
    """Wait for the start even if it is cancelled, since its thread continues; then stop what it has started."""
    task = asyncio.ensure_future(starting)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        [running] = await asyncio.gather(task, return_exceptions=True)
        if isinstance(running, Installation):
            await asyncio.to_thread(running.stop)
        raise


async def _connect(running: Installation, proxies: Mapping[str, Proxy], ports: Ports, on_tmpfs: bool) -> Cluster:
    token_file = running.plan.data / f"feedback-token-{PRACTICE}"
    endpoint = Endpoint(lambda: token_file.read_text().strip())
    await endpoint.start(ports.feedback)
    names = [hub.id for hub in directory.load(running.plan.directory).hubs]
    declared = {topic.name: topic.partitions for topic in topics.declared(names)}
    log = Log(running.addresses["kafka"], declared)
    await log.start()
    hubs = Hubs(running.addresses["kafka"], names)
    await hubs.start()
    session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=12))
    cluster = Cluster(running, proxies, endpoint, hubs, log, session, ports.feedback, on_tmpfs)
    await db_probe.create_indexes(cluster.probe)
    endpoint.is_stored = partial(db_probe.has_feedback, cluster.endpoint_probe)
    return cluster


async def stop(cluster: Cluster) -> None:
    await cluster.session.close()
    cluster.probe.end()
    cluster.endpoint_probe.end()
    await cluster.hubs.stop()
    await cluster.log.stop()
    await cluster.restore()
    await asyncio.to_thread(cluster.running.stop)
    for proxy in cluster.proxies.values():
        await proxy.cut()
    await cluster.endpoint.stop()
    _remove(cluster.data)


def _environment(data: Path, ports: Ports, brokers: int, mutant: str | None) -> dict[str, str]:
    """Return the environment with each service's proxies (child/sitecustomize.py)."""
    (data / "postgres").mkdir(parents=True, exist_ok=True)
    password = ports_and_secrets.secret(data / "postgres" / "password")
    environment = {
        "PYTHONPATH": os.pathsep.join([str(HERE / "child"), str(HERE.parents[2])]),
        "CHAOS_FOLDER": str(data),
    }
    for service in SERVICES:
        database = (
            f"lightbulb_{service}:{password}@{ports_and_secrets.HOST}:{ports.proxies[f'{service}-postgres']}/lightbulb"
        )
        environment[f"CHAOS_{service.upper()}_DATABASE"] = f"postgresql+asyncpg://{database}"
        kafka = [
            f"{ports_and_secrets.HOST}:{ports.proxies[f'{service}-kafka-{node}']}" for node in range(1, brokers + 1)
        ]
        environment[f"CHAOS_{service.upper()}_KAFKA"] = ",".join(kafka)
    environment["LIGHTBULB_MESH_URL"] = f"http://{ports_and_secrets.HOST}:{ports.proxies['mesh']}"
    return environment | ({"CHAOS_MUTANT": mutant} if mutant else {})


def _proxies(data: Path, ports: Ports) -> Iterator[Proxy]:
    for service in SERVICES:
        yield Proxy(
            f"{service}-postgres",
            ports.proxies[f"{service}-postgres"],
            _port_in(data / "postgres/ports.json", "PostgreSQL"),
        )
    for (service, node), listener in ports.listeners.items():
        name = f"{service}-kafka-{node}"
        yield Proxy(name, ports.proxies[name], lambda listener=listener: listener)
    yield Proxy("mesh", ports.proxies["mesh"], _port_in(data / "mesh/ports.json", "MESH"))
    yield Proxy("http", ports.proxies["http"], lambda: _port_of(data, "intake"))
    for ward in WARDS:
        yield Proxy(f"mllp-{ward}", ports.proxies[f"mllp-{ward}"], lambda ward=ward: _port_of(data, "mllp", ward))
    yield Proxy("fhir", ports.proxies["fhir"], lambda: ports.feedback)


def _port_of(data: Path, *names: str) -> int:
    """Return the port of an address in addresses.json, which exists when the services have started."""
    found = json.loads((data / "addresses.json").read_text())
    for name in names:
        found = found[name]
    return int(found.rpartition(":")[2])


def _port_in(file: Path, name: str) -> Callable[[], int]:
    return lambda: int(json.loads(file.read_text())[name])


def _add_kafka_listeners(ports: Ports) -> None:
    """Add a listener for each service to each broker, advertised with the proxy's address: a client connects to what is advertised."""
    plain = Layout.__dict__.get("_plain_settings") or Layout._settings

    def settings(layout: Layout, node: int) -> dict[str, str]:
        changed: dict[str, str] = plain(layout, node)
        for service in SERVICES:
            if (service, node) in ports.listeners:
                name = service.upper()
                changed["listeners"] += f",{name}://{ports_and_secrets.HOST}:{ports.listeners[service, node]}"
                changed["advertised.listeners"] += (
                    f",{name}://{ports_and_secrets.HOST}:{ports.proxies[f'{service}-kafka-{node}']}"
                )
                changed["listener.security.protocol.map"] += f",{name}:PLAINTEXT"
        return changed

    Layout._plain_settings = plain  # type: ignore[attr-defined]  # kept for the next installation
    Layout._settings = settings  # type: ignore[method-assign]  # on purpose
    assert kafka_settings.Layout is Layout


# ---- small disks ------------------------------------------------------------------------------------------------------


def _mount_small_disks(data: Path) -> bool:
    """Mount small disks for PostgreSQL and Kafka, which a fault can fill; return False if mounting is not permitted."""
    for name, megabytes in TMPFS_MEGABYTES.items():
        (data / name).mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(data / name)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return False
    return True


def _remove(data: Path) -> None:
    for name in TMPFS_MEGABYTES:
        subprocess.run(["umount", "-l", str(data / name)], capture_output=True, check=False)
    shutil.rmtree(data, ignore_errors=True)
