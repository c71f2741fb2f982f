"""Kafka and PostgreSQL for tests and tools: an address in the environment, a container, or the embedded server."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.local.embedded import kafka as embedded_kafka
from infra.local.embedded import postgres as embedded_postgres
from infra.local.embedded.kafka import Kafka

KAFKA_ADDRESS, DATABASE_ADDRESS, CONTAINERS = "LIGHTBULB_KAFKA", "LIGHTBULB_DATABASE", "LIGHTBULB_CONTAINERS"


@dataclass(frozen=True)
class Provided:
    """A server to use. `provider` describes its source; `cluster` is set if Kafka is embedded."""

    address: str
    provider: str
    cluster: Kafka | None = None

    @property
    def is_idempotent(self) -> bool:
        """Whether an idempotent producer works (LIGHTBULB_KAFKA_IDEMPOTENT)."""
        return self.cluster is None or not self.cluster.is_tansu


@contextmanager
def kafka(data: Path | None = None, *, brokers: int = 1, containers: bool | None = None) -> Iterator[Provided]:
    """Yield Kafka: LIGHTBULB_KAFKA; a container, if requested and Docker is running; else embedded on `data`.

    `data` None is a temporary folder. `containers` None: requested by LIGHTBULB_CONTAINERS=1. `address` is host:port,
    comma-separated.
    """
    if address := os.environ.get(KAFKA_ADDRESS):
        yield Provided(address, f"Kafka at the address in {KAFKA_ADDRESS}")
    elif _by_container(containers):
        with _kafka_container() as provided:
            yield provided
    else:
        with _embedded_kafka(data, brokers) as provided:
            yield provided


@contextmanager
def postgres(data: Path | None = None, *, fsync: bool = True, containers: bool | None = None) -> Iterator[Provided]:
    """Yield PostgreSQL: LIGHTBULB_DATABASE; a container; else embedded, as for Kafka.

    `address` is a SQLAlchemy URL for asyncpg, and contains a password.
    """
    if address := os.environ.get(DATABASE_ADDRESS):
        yield Provided(address, f"PostgreSQL at the address in {DATABASE_ADDRESS}")
    elif _by_container(containers):
        with _postgres_container() as provided:
            yield provided
    else:
        with _embedded_postgres(data, fsync) as provided:
            yield provided


def announced() -> str:
    """Describe where Kafka and PostgreSQL would come from, without starting them."""
    otherwise = "a container" if _by_container(None) else None
    database = f"the address in {DATABASE_ADDRESS}" if os.environ.get(DATABASE_ADDRESS) else otherwise
    broker = f"the address in {KAFKA_ADDRESS}" if os.environ.get(KAFKA_ADDRESS) else otherwise
    return f"{database or embedded_postgres.PROVIDER}; {broker or embedded_kafka.PROVIDER}"


@contextmanager
def _embedded_kafka(data: Path | None, brokers: int) -> Iterator[Provided]:
    with _folder(data) as folder:
        cluster = embedded_kafka.start(folder, brokers=brokers, ephemeral=data is None)
        try:
            yield Provided(cluster.bootstrap, cluster.provider, cluster)
        finally:
            cluster.stop()


@contextmanager
def _embedded_postgres(data: Path | None, fsync: bool) -> Iterator[Provided]:
    with _folder(data) as folder:
        server = embedded_postgres.start(folder, fsync=fsync)
        try:
            yield Provided(server.url, server.provider)
        finally:
            server.stop()


@contextmanager
def _folder(data: Path | None) -> Iterator[Path]:
    if data is not None:
        yield data
    else:
        with tempfile.TemporaryDirectory(prefix="lightbulb-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)


def _by_container(requested: bool | None) -> bool:
    if not (os.environ.get(CONTAINERS) == "1" if requested is None else requested):
        return False
    from testcontainers.core.docker_client import DockerClient  # a development package: imported only on request

    try:
        return bool(DockerClient().client.ping())
    except Exception:  # several libraries' errors; all mean that Docker is not available
        return False


@contextmanager
def _kafka_container() -> Iterator[Provided]:
    from testcontainers.community.kafka import KafkaContainer

    image = "confluentinc/cp-kafka:7.9.0"
    settings = {"KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false"}
    with KafkaContainer(image).with_kraft().with_envs(**settings) as container:
        yield Provided(container.get_bootstrap_server(), f"{image}, a container")


@contextmanager
def _postgres_container() -> Iterator[Provided]:
    from testcontainers.community.postgres import PostgresContainer

    image = "postgres:18"
    with PostgresContainer(image, driver="asyncpg") as container:
        yield Provided(container.get_connection_url(), f"{image}, a container")
