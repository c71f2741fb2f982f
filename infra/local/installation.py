"""An installation on this machine: embedded parts, schema, topics, credentials and supervised services."""

import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.exc import DBAPIError

from infra.database import postcodes, roles
from infra.database.migrations import SchemaDiffers, migrate
from infra.local import deployment_file, embedded
from infra.local.embedded import ports_and_secrets
from infra.local.embedded.ports_and_secrets import Report
from infra.local.embedded.supervisor import ProcessEvent, ServerWatch, Supervisor
from schemas import topics
from services.messaging import broker
from services.reference import directory as hub_directory
from services.reference import partners
from services.reference.partners import Partner
from services.runtime import startup
from services.runtime.database import sqlstate
from services.runtime.settings import CHECKOUT

DIRECTORY = CHECKOUT / "infra" / "reference_data"
SERVICES = ("intake", "router", "notifier")
READY_SECONDS = 60.0
TOPIC_SECONDS = 15.0


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

    @property
    def replication(self) -> int:
        """The replication factor of the topics."""
        return 3 if self.brokers == 3 else 1


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
    data, loaded = plan.data, {partner.id: partner for partner in partners.load(plan.directory, None)}
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    deployment_file.check(data, loaded, plan.feedback_urls)
    report("starting PostgreSQL, Apache Kafka and the MESH sandbox")
    mailboxes = _mailboxes(loaded.values())
    parts = embedded.start_all(data, brokers=plan.brokers, ephemeral=plan.ephemeral, mailboxes=mailboxes, report=report)
    if parts.kafka.notice:
        report(parts.kafka.notice)
    watch = ServerWatch(parts.servers if plan.restarts_servers else {}, on_event)
    supervisor = Supervisor(data / "logs", on_event)
    try:
        report("preparing the database, the postcodes and the topics")
        prepare(parts.postgres.url, parts.kafka.bootstrap, plan.directory, replication=plan.replication)
        asyncio.run(roles.set_passwords(parts.postgres.url))
        addresses, environment = _start_services(plan, loaded, parts, supervisor, report)
        return Installation(plan, parts, watch, supervisor, addresses, environment)
    except BaseException:
        _stop(watch, supervisor, parts)
        raise


def _start_services(
    plan: Plan, loaded: Mapping[str, Partner], parts: embedded.Embedded, supervisor: Supervisor, report: Report
) -> tuple[dict[str, Any], dict[str, str]]:
    """Start the services and wait until they are ready; return the addresses, which are written, and the environment."""
    data, tokens = plan.data, _tokens(plan.data, loaded)
    ports, chosen = _ports(plan, loaded.values(), report)
    deployment = deployment_file.write(data, plan.directory, _generated(loaded, tokens, chosen), plan.feedback_urls)
    mllp = deployment_file.mllp_ports(data, deployment, chosen)
    environment = _environment(plan, parts, ports)
    report("starting intake, router and notifier" if plan.each else "starting no service")
    apart = {name: ports[f"metrics of {name}"] for name in _process_names(plan.each)}
    _add_services(supervisor, environment, ports, apart)
    until_ready([f"http://{ports_and_secrets.HOST}:{port}" for port in apart.values()])
    addresses = _addresses(plan, parts, ports, mllp) | _addresses_apart(apart) | {"partners": tokens}
    ports_and_secrets.write(data / "addresses.json", json.dumps(addresses, indent=2))
    return addresses, environment


def _stop(watch: ServerWatch, supervisor: Supervisor, parts: embedded.Embedded) -> None:
    """Stop the services, then the servers; none of them is started again."""
    watch.end()
    supervisor.stop()
    parts.stop()
    watch.join()


def prepare(database: str, kafka: str, directory: Path, *, replication: int) -> None:
    """Create or update the database schema, the services' roles, the postcodes and the topics. Safe to repeat."""
    migrate(database)
    asyncio.run(_load_and_create(database, kafka, _declared(directory), replication))


def _declared(directory: Path) -> tuple[topics.Topic, ...]:
    return topics.declared([hub.id for hub in hub_directory.load(directory).hubs])


async def check(database: str, kafka: str, directory: Path, *, replication: int) -> list[str]:
    """Make the checks of the services at their start; return the names of the topics. Raises StartupError."""
    declared = _declared(directory)
    for schema in SERVICES:
        await _check_schema(database, schema)
    deadline = time.monotonic() + TOPIC_SECONDS
    while True:
        try:
            await broker.check_topics(kafka, declared, replication=replication)
            return [topic.name for topic in declared]
        except broker.TopicsMissing:  # not every broker may have read of a topic that was just created
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.2)


async def _load_and_create(database: str, kafka: str, declared: tuple[topics.Topic, ...], replication: int) -> None:
    await asyncio.gather(postcodes.load(database), broker.create_topics(kafka, declared, replication=replication))


async def _check_schema(database: str, schema: str) -> None:
    try:
        await startup.check_database(database, schema)
    except DBAPIError as error:
        if sqlstate(error) in ("3F000", "42P01", "42703"):
            raise SchemaDiffers(
                f"The schema {schema} lacks tables or columns of its version: restore the database, or use an empty one."
            ) from None
        raise


def _mailboxes(loaded: Iterable[Partner]) -> list[str]:
    named = [partner.feedback.mesh_mailbox for partner in loaded]
    return [OUR_MAILBOX, *sorted({name for name in named if name})]


OUR_MAILBOX = "LIGHTBULB1"


MllpPorts = Mapping[str, Mapping[str, int]]
"""The MLLP ports of partners, by `mllp` (all messages) and `adt_mllp` (ADT only)."""


def _process_names(each: int) -> list[str]:
    return [service if each == 1 else f"{service}-{number}" for service in SERVICES for number in range(1, each + 1)]


def _ports(plan: Plan, loaded: Iterable[Partner], report: Report) -> tuple[dict[str, int], MllpPorts]:
    """Return the HTTP ports, and the MLLP ports of each partner that sends HL7 v2: the same at every start, if they are free."""
    senders = sorted(partner.id for partner in loaded if partner.may_send("hl7v2"))
    adt = sorted(partner.id for partner in loaded if partner.hl7v2.adt)
    http = ["intake", "notifier", *(f"metrics of {name}" for name in _process_names(plan.each))]
    mllp = [*(f"mllp of {name}" for name in senders), *(f"adt_mllp of {name}" for name in adt)]
    ports = ports_and_secrets.ports(plan.data / "service-ports.json", http + mllp, report)
    of = {"mllp": senders, "adt_mllp": adt}
    return ports, {kind: {name: ports[f"{kind} of {name}"] for name in names} for kind, names in of.items()}


def _tokens(data: Path, loaded: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return a token for each partner, created at its first start; create the installation's secret at the first."""
    file = data / "tokens.json"
    tokens: dict[str, dict[str, str]] = ports_and_secrets.read_json(file) if file.exists() else {}
    if new := [name for name in loaded if name not in tokens]:
        tokens |= {name: {"token": partners.new_token()[0]} for name in new}
        ports_and_secrets.write(file, json.dumps(tokens))
    if not (data / "secret").exists():
        ports_and_secrets.write(data / "secret", ports_and_secrets.secret(data / "secret.unused"))
        (data / "secret.unused").unlink()
    return tokens


def _generated(
    loaded: Iterable[str], tokens: Mapping[str, Mapping[str, str]], chosen: MllpPorts
) -> dict[str, dict[str, Any]]:
    """Return what `up` writes into deployment.yaml for each partner: the hash of its token, and its MLLP ports."""
    return {
        name: {
            "token_sha256": [partners.hash_of(tokens[name]["token"])],
            **{f"{kind}_port": ports[name] for kind, ports in chosen.items() if name in ports},
        }
        for name in loaded
    }


def _environment(plan: Plan, parts: embedded.Embedded, ports: Mapping[str, int]) -> dict[str, str]:
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
        "INTAKE_URL": f"http://{ports_and_secrets.HOST}:{ports['intake']}",
        "NOTIFIER_URL": f"http://{ports_and_secrets.HOST}:{ports['notifier']}",
        "MESH_URL": parts.mesh.url,
        "MESH_MAILBOX": OUR_MAILBOX,
        "MESH_PASSWORD": parts.mesh.password,
        "MESH_SHARED_KEY": parts.mesh.shared_key,
        "REPLICATION": str(plan.replication),
        "STOP_DELAY_SECONDS": "0",
    }
    return inherited | {f"LIGHTBULB_{name}": value for name, value in settings.items()} | dict(plan.environment)


def _addresses_apart(apart: Mapping[str, int]) -> dict[str, Any]:
    urls = {name: f"http://{ports_and_secrets.HOST}:{port}" for name, port in apart.items()}
    routers = [url for name, url in urls.items() if name.startswith("router")]
    return {"router": next(iter(routers), None), "metrics": {name: f"{url}/metrics" for name, url in urls.items()}}


def _add_services(
    supervisor: Supervisor, environment: dict[str, str], ports: Mapping[str, int], apart: Mapping[str, int]
) -> None:
    for name, metrics_port in apart.items():
        service = name.partition("-")[0]
        settings = {
            "LIGHTBULB_DATABASE": roles.url_of(environment["LIGHTBULB_DATABASE"], service),
            "LIGHTBULB_HTTP_PORT": str(ports.get(service, 0)),
            "LIGHTBULB_METRICS_PORT": str(metrics_port),
        }
        supervisor.add(name, [sys.executable, "-m", f"services.{service}.app"], environment | settings)


def _addresses(plan: Plan, parts: embedded.Embedded, ports: Mapping[str, int], mllp: MllpPorts) -> dict[str, Any]:
    listening = {
        kind: {partner: f"{ports_and_secrets.HOST}:{port}" for partner, port in of.items()} for kind, of in mllp.items()
    }
    return {
        "intake": f"http://{ports_and_secrets.HOST}:{ports['intake']}",
        "notifier": f"http://{ports_and_secrets.HOST}:{ports['notifier']}",
        **listening,
        "kafka": parts.kafka.bootstrap,
        "postgres": parts.postgres.url,
        "mesh": {"url": parts.mesh.url, "shared_key": parts.mesh.shared_key, "password": parts.mesh.password},
        "directory": str(plan.directory.resolve()),
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
