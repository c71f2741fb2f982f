"""Run the hub as a peer of the loop benchmark: its own services on the benchmark's Kafka and PostgreSQL (README.md)."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from aiokafka.admin import AIOKafkaAdminClient
from sqlalchemy import make_url

from infra.database import roles
from infra.local import installation
from infra.local.embedded import ports_and_secrets
from services.intake import app as intake
from services.notifier import app as notifier
from services.reference.partners import Deployment, PartnerCredentials, hash_of
from services.router import app as router
from services.runtime.settings import Settings

MODULES = {"intake": intake.__name__, "router": router.__name__, "notifier": notifier.__name__}
PRACTICE = "gp-alder-lane"
TOKEN = "0123456789abcdef0123456789abcdef0123456789a"  # noqa: S105 - of this benchmark only; headers.txt shows it
PREFIX = str(Settings.model_config["env_prefix"])
SERVICE_IDS = tuple(f"https://fhir.nhs.uk/Id/dos-service-id|{number}" for number in ("2000099999", "2000099001"))
"""The destination in referral.json, and the target that the load generator puts into headers.txt."""

STOP_SECONDS = 15.0

Processes = dict[str, "subprocess.Popen[bytes]"]


@dataclass(frozen=True)
class Benchmark:
    """What the benchmark gives to a peer, and how many processes of each service run."""

    loop_port: int
    sink_url: str
    kafka: str
    database: str
    conformance: str
    each: Mapping[str, int]

    @classmethod
    def from_environment(cls, given: Mapping[str, str]) -> "Benchmark":
        """Read the variables that README.md lists."""
        each = dict(pair.split("=") for pair in given.get("HUB_EACH", "intake=1,router=1,notifier=1").split(","))
        return cls(
            loop_port=int(given["LOOP_PORT"]),
            sink_url=given["SINK_URL"],
            kafka=given["KAFKA_BOOTSTRAP"],
            database="postgresql+asyncpg://" + given["PG_TCP_DSN"].partition("://")[2],
            conformance=given.get("HUB_CONFORMANCE", "full"),
            each={service: int(count) for service, count in each.items()},
        )


@dataclass(frozen=True)
class PeerFiles:
    """What the services read: the reviewed directory, deployment.yaml and the secret."""

    directory: Path
    deployment: Path
    secret: Path


def write_files(folder: Path, benchmark: Benchmark) -> PeerFiles:
    """Write the files of an installation whose practice shows TOKEN and receives feedback at the benchmark's sink."""
    files = PeerFiles(folder / "directory", folder / "deployment.yaml", folder / "secret")
    shutil.copytree(installation.DIRECTORY, files.directory)
    partners_file = files.directory / "partners.yaml"
    partners = yaml.safe_load(partners_file.read_text())
    practice = next(partner for partner in partners["partners"] if partner["id"] == PRACTICE)
    practice["conformance"] = benchmark.conformance
    partners_file.write_text(yaml.safe_dump(partners))
    access = PartnerCredentials(token_sha256=(hash_of(TOKEN),), feedback_url=benchmark.sink_url)
    deployment = Deployment(partners={PRACTICE: access})
    files.deployment.write_text(yaml.safe_dump(deployment.model_dump(mode="json", exclude_defaults=True)))
    ports_and_secrets.secret(files.secret)
    return files


def settings(files: PeerFiles, benchmark: Benchmark, service: str, *, http_port: int, metrics_port: int) -> Settings:
    """Return the settings of one process of a service, which has its own role in PostgreSQL."""
    return Settings(
        database=roles.url_of(benchmark.database, service),
        kafka=benchmark.kafka,
        secret_file=files.secret,
        directory=files.directory,
        deployment=files.deployment,
        replication=1,
        log_level="WARNING",
        messages_per_second=100_000,
        service_ids=SERVICE_IDS,
        http_host=ports_and_secrets.HOST,
        http_port=http_port,
        metrics_port=metrics_port,
        stop_delay_seconds=0,
    )


def environment(config: Settings) -> dict[str, str]:
    """Return the environment in which a service reads these settings."""
    given = {name: getattr(config, name) for name in config.model_fields_set}
    return dict(os.environ) | {
        f"{PREFIX}{name.upper()}": " ".join(value) if isinstance(value, tuple) else str(value)
        for name, value in given.items()
    }


async def delete_topics(kafka: str) -> None:
    """Delete the benchmark's own topics: the hub declares others."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        names = {name for name in await admin.list_topics() if not name.startswith("__")}
        if names:
            await admin.delete_topics(list(names))
        while names.intersection(await admin.list_topics()):  # noqa: ASYNC110 - Kafka deletes later than it answers
            await asyncio.sleep(0.1)
    finally:
        await admin.close()


def start(files: PeerFiles, benchmark: Benchmark, processes: Processes) -> None:
    """Start every process into `processes`; return when all are ready."""
    names = [(service, number) for service, count in benchmark.each.items() for number in range(1, count + 1)]
    ports = ports_and_secrets.free_ports(len(names))
    for (service, number), metrics_port in zip(names, ports, strict=True):
        name = service if benchmark.each[service] == 1 else f"{service}{number}"
        http_port = benchmark.loop_port if service == "intake" else 0
        config = settings(files, benchmark, service, http_port=http_port, metrics_port=metrics_port)
        processes[name] = subprocess.Popen(
            [sys.executable, "-m", MODULES[service]], env=environment(config), stdout=sys.stderr
        )
    installation.until_ready([f"http://{ports_and_secrets.HOST}:{port}" for port in ports])


def announce(processes: Processes) -> None:
    """Print the line by which the benchmark knows that all are ready."""
    sys.stdout.write("READY " + " ".join(f"{name}={process.pid}" for name, process in processes.items()) + "\n")
    sys.stdout.flush()


def first_to_end(processes: Processes) -> str:
    """Wait until a process ends, and return which and how."""
    while True:
        for name, process in processes.items():
            if process.poll() is not None:
                return f"{name} ended with {process.returncode}"
        time.sleep(1)


def stop(processes: Processes) -> None:
    """Stop every process; kill what does not stop in time."""
    for process in processes.values():
        process.terminate()
    for process in processes.values():
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main() -> None:
    """Run until SIGTERM, or until a service ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        del os.environ[name]
    benchmark = Benchmark.from_environment(os.environ)
    folder = Path(tempfile.mkdtemp(prefix="hub-peer-"))
    processes: Processes = {}
    try:
        files = write_files(folder, benchmark)
        asyncio.run(delete_topics(benchmark.kafka))
        installation.prepare(benchmark.database, benchmark.kafka, files.directory, replication=1)
        if make_url(benchmark.database).password:
            asyncio.run(roles.set_passwords(benchmark.database))
        start(files, benchmark, processes)
        announce(processes)
        sys.exit(first_to_end(processes))
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stop(processes)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
