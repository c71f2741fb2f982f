"""An installation on this machine: embedded parts, schema, topics, credentials and supervised services."""

import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from infra.database import postcodes, roles
from infra.database.migrations import migrate
from infra.local import embedded
from infra.local.embedded import ports_and_secrets
from infra.local.embedded.supervisor import ProcessEvent, ServerWatch, Supervisor
from schemas import topics
from services.messaging import broker
from services.reference import directory as hub_directory
from services.reference import partners
from services.runtime.settings import CHECKOUT

DIRECTORY = CHECKOUT / "infra" / "reference_data"
SERVICES = ("intake", "router", "notifier")
READY_SECONDS = 60.0

Report = Callable[[str], None]
"""Called with a short description of each step."""


@dataclass(frozen=True)
class Plan:
    """The options of an installation.

    `feedback_urls`: the FHIR endpoint by partner. `restarts_servers`: whether PostgreSQL, Kafka and MESH are started again if
    they end; services always are.
    """

    data: Path
    ephemeral: bool = False
    each: int = 1
    brokers: int = 1
    feedback_urls: Mapping[str, str] = field(default_factory=dict)
    directory: Path = DIRECTORY
    environment: Mapping[str, str] = field(default_factory=dict)
    restarts_servers: bool = True


@dataclass
class Installation:
    """A running installation. `addresses` is the content of addresses.json."""

    plan: Plan
    parts: embedded.Embedded
    watch: ServerWatch
    supervisor: Supervisor
    addresses: dict[str, Any]
    environment: dict[str, str]

    def start_process(self, name: str, argv: list[str]) -> None:
        """Start another process (a simulated hub or GP system) that stops with the installation."""
        self.supervisor.add(name, argv, dict(os.environ))

    def stop(self) -> None:
        """Stop the services, then the embedded parts; delete an ephemeral data folder."""
        _stop(self.watch, self.supervisor, self.parts)
        if self.plan.ephemeral:
            shutil.rmtree(self.plan.data, ignore_errors=True)


def temporary_folder() -> Path:
    """Create a data folder for one run."""
    return Path(tempfile.mkdtemp(prefix="lightbulb-"))


def start(
    plan: Plan, report: Report = lambda _: None, on_event: Callable[[ProcessEvent], None] = lambda _: None
) -> Installation:
    """Start everything of `plan`; return when every service is ready. If one part fails, stop the others and raise."""
    try:
        return _start(plan, report, on_event)
    except BaseException:
        if plan.ephemeral:
            shutil.rmtree(plan.data, ignore_errors=True)
        raise


def _start(plan: Plan, report: Report, on_event: Callable[[ProcessEvent], None]) -> Installation:
    data = plan.data
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    report("starting PostgreSQL, Apache Kafka and the MESH sandbox")
    parts = embedded.start_all(
        data, brokers=plan.brokers, ephemeral=plan.ephemeral, mailboxes=_mailboxes(plan.directory)
    )
    if parts.kafka.notice:
        report(parts.kafka.notice)
    watch = ServerWatch(parts.servers if plan.restarts_servers else {}, on_event)
    supervisor = Supervisor(data / "logs", on_event)
    try:
        replication = 3 if plan.brokers == 3 else 1
        report("preparing the database, the postcodes and the topics")
        prepare(parts.postgres.url, parts.kafka.bootstrap, plan.directory, replication=replication)
        asyncio.run(roles.set_passwords(parts.postgres.url))
        ports, mllp = _ports(data, plan.directory)
        credentials = _credentials(data, plan, mllp)
        environment = _environment(plan, parts, ports, replication)
        report("starting intake, router and notifier")
        apart = _ports_apart(data, plan.each, {*ports, *(port for kind in mllp.values() for port in kind.values())})
        _start_services(supervisor, environment, ports, apart)
        addresses = _addresses(parts, ports, mllp, credentials) | _addresses_apart(apart)
        until_ready([f"http://{ports_and_secrets.HOST}:{port}" for port in apart.values()])
        ports_and_secrets.write(data / "addresses.json", json.dumps(addresses, indent=2))
        return Installation(plan, parts, watch, supervisor, addresses, environment)
    except BaseException:
        _stop(watch, supervisor, parts)
        raise


def _stop(watch: ServerWatch, supervisor: Supervisor, parts: embedded.Embedded) -> None:
    """Stop the services, then the servers; none of them is started again."""
    watch.end()
    supervisor.stop()
    parts.stop()
    watch.join()


def prepare(database: str, kafka: str, directory: Path, *, replication: int) -> None:
    """Create or update the database schema, the services' roles, the postcodes and the topics. Safe to repeat."""
    migrate(database)
    hubs = [hub.id for hub in hub_directory.load(directory).hubs]
    asyncio.run(_load_and_create(database, kafka, topics.declared(hubs), replication))


async def _load_and_create(database: str, kafka: str, declared: tuple[topics.Topic, ...], replication: int) -> None:
    await asyncio.gather(postcodes.load(database), broker.create_topics(kafka, declared, replication=replication))


def _mailboxes(directory: Path) -> list[str]:
    named = [partner.feedback.mesh_mailbox for partner in partners.load(directory, None)]
    return [OUR_MAILBOX, *sorted({name for name in named if name})]


OUR_MAILBOX = "LIGHTBULB1"


MllpPorts = Mapping[str, Mapping[str, int]]
"""The MLLP ports of partners, by `mllp` (all messages) and `adt_mllp` (ADT only)."""


def _ports(data: Path, directory: Path) -> tuple[list[int], MllpPorts]:
    """Return the ports of intake and notifier, and the MLLP ports of each partner that sends HL7 v2.

    They are the same at every start, if they are still free.
    """
    senders = sorted((one for one in partners.load(directory, None) if one.may_send("hl7v2")), key=lambda one: one.id)
    adt = [partner.id for partner in senders if partner.hl7v2.adt]
    ports = ports_and_secrets.ports(data / "service-ports.json", 2 + len(senders) + len(adt))
    mllp = {partner.id: port for partner, port in zip(senders, ports[2:], strict=False)}
    return ports[:2], {"mllp": mllp, "adt_mllp": dict(zip(adt, ports[2 + len(senders) :], strict=True))}


def _credentials(data: Path, plan: Plan, mllp: MllpPorts) -> dict[str, dict[str, str]]:
    """Return a token for each partner, created at its first start.

    Write deployment.yaml with their hashes, the MLLP ports and the feedback addresses.
    """
    file = data / "tokens.json"
    tokens: dict[str, dict[str, str]] = json.loads(file.read_text()) if file.exists() else {}
    new = [partner.id for partner in partners.load(plan.directory, None) if partner.id not in tokens]
    if new:
        tokens |= {name: {"token": partners.new_token()[0]} for name in new}
        ports_and_secrets.write(file, json.dumps(tokens))
    _create_secret(data)
    access = _access(data, tokens, mllp, plan.feedback_urls)
    ports_and_secrets.write(data / "deployment.yaml", yaml.safe_dump({"partners": access}))
    return tokens


def _create_secret(data: Path) -> None:
    if not (data / "secret").exists():
        ports_and_secrets.write(data / "secret", ports_and_secrets.secret(data / "secret.unused"))
        (data / "secret.unused").unlink()


def _access(
    data: Path, tokens: Mapping[str, Mapping[str, str]], mllp: MllpPorts, feedback_urls: Mapping[str, str]
) -> dict[str, Any]:
    access: dict[str, Any] = {
        name: {"token_sha256": [partners.hash_of(each["token"])]} for name, each in tokens.items()
    }
    for kind, ports in mllp.items():
        for name, port in ports.items():
            access[name][f"{kind}_port"] = port
    for name, url in feedback_urls.items():
        token_file = data / f"feedback-token-{name}"
        ports_and_secrets.secret(token_file)
        access[name] |= {"feedback_url": url, "feedback_token_file": str(token_file)}
    return access


def _environment(plan: Plan, parts: embedded.Embedded, ports: list[int], replication: int) -> dict[str, str]:
    """Return the environment of the services: this process's environment and the settings of the installation.

    Inherited LIGHTBULB_ settings are dropped, apart from LIGHTBULB_TRACES.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("LIGHTBULB_") or name == "LIGHTBULB_TRACES"
    }
    settings = {
        "DATABASE": parts.postgres.url,
        "KAFKA": parts.kafka.bootstrap,
        "KAFKA_IDEMPOTENT": str(not parts.kafka.is_tansu),
        "SECRET_FILE": str(plan.data / "secret"),
        "DIRECTORY": str(plan.directory),
        "DEPLOYMENT": str(plan.data / "deployment.yaml"),
        "INTAKE_URL": f"http://{ports_and_secrets.HOST}:{ports[0]}",
        "NOTIFIER_URL": f"http://{ports_and_secrets.HOST}:{ports[1]}",
        "MESH_URL": parts.mesh.url,
        "MESH_MAILBOX": OUR_MAILBOX,
        "MESH_PASSWORD": parts.mesh.password,
        "MESH_SHARED_KEY": parts.mesh.shared_key,
        "REPLICATION": str(replication),
        "STOP_DELAY_SECONDS": "0",
    }
    return inherited | {f"LIGHTBULB_{name}": value for name, value in settings.items()} | dict(plan.environment)


def _ports_apart(data: Path, each: int, reserved: set[int]) -> dict[str, int]:
    """Return a separate port for metrics and health of each process, by name."""
    names = [service if each == 1 else f"{service}-{number}" for service in SERVICES for number in range(1, each + 1)]
    file = data / "metrics-ports.json"
    while reserved & set(chosen := ports_and_secrets.ports(file, len(names))):
        file.unlink()
    return dict(zip(names, chosen, strict=True))


def _addresses_apart(apart: Mapping[str, int]) -> dict[str, Any]:
    urls = {name: f"http://{ports_and_secrets.HOST}:{port}" for name, port in apart.items()}
    router = next(url for name, url in urls.items() if name.startswith("router"))
    return {"router": router, "metrics": {name: f"{url}/metrics" for name, url in urls.items()}}


def _start_services(
    supervisor: Supervisor, environment: dict[str, str], ports: list[int], apart: Mapping[str, int]
) -> None:
    port_of = {"intake": ports[0], "notifier": ports[1]}
    for name, metrics_port in apart.items():
        service = name.partition("-")[0]
        settings = {
            "LIGHTBULB_DATABASE": roles.url_of(environment["LIGHTBULB_DATABASE"], service),
            "LIGHTBULB_HTTP_PORT": str(port_of.get(service, 0)),
            "LIGHTBULB_METRICS_PORT": str(metrics_port),
        }
        supervisor.add(name, [sys.executable, "-m", f"services.{service}.app"], environment | settings)


def _addresses(
    parts: embedded.Embedded, ports: list[int], mllp: MllpPorts, credentials: dict[str, dict[str, str]]
) -> dict[str, Any]:
    listening = {
        kind: {partner: f"{ports_and_secrets.HOST}:{port}" for partner, port in of.items()} for kind, of in mllp.items()
    }
    return {
        "intake": f"http://{ports_and_secrets.HOST}:{ports[0]}",
        "notifier": f"http://{ports_and_secrets.HOST}:{ports[1]}",
        **listening,
        "kafka": parts.kafka.bootstrap,
        "postgres": parts.postgres.url,
        "mesh": {"url": parts.mesh.url, "shared_key": parts.mesh.shared_key, "password": parts.mesh.password},
        "partners": credentials,
    }


def until_ready(urls: list[str]) -> None:
    """Wait until the services at these addresses are ready. Raise StartFailed after READY_SECONDS."""
    deadline = time.monotonic() + READY_SECONDS
    for url in urls:
        while not _answers(f"{url}/health/ready"):
            if time.monotonic() > deadline:
                raise embedded.StartFailed(f"{url} did not answer within {READY_SECONDS:.0f} s; see the logs folder")
            time.sleep(0.05)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - an http address of this installation
            return bool(answer.status == 200)
    except OSError:
        return False
