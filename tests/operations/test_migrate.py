"""`lightbulb migrate` uses the directory of the services, and says "up to date" only if they could start."""

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.cli.terminal import CommandError
from infra.database.migrations import migrate
from schemas import topics
from services.messaging import broker
from tests.builders.reference_data import FOLDER
from tests.conftest import execute
from tests.operations.command_line import run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory of its own, with another name for central triage."""
    copied = shutil.copytree(FOLDER, tmp_path / "directory")
    hubs = (copied / "hubs.yaml").read_text().replace("  - id: triage\n", "  - id: rutland-annex\n")
    (copied / "hubs.yaml").write_text(hubs)
    return copied


@pytest.fixture
def servers(new_database: Callable[[], str], kafka: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty database and Kafka, in the environment of the command; the address of the database."""
    url = new_database()
    monkeypatch.setenv("LIGHTBULB_DATABASE", url)
    monkeypatch.setenv("LIGHTBULB_KAFKA", kafka)
    return url


def test_the_topics_are_those_of_the_services_directory(
    servers: str, kafka: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIGHTBULB_DIRECTORY", str(folder))
    migrated = run("migrate")
    assert f"Database and topics are up to date: 23 topics, for the hubs of {folder}." in " ".join(
        migrated.stdout.split()
    )
    declared = topics.declared(["rutland-annex"])
    asyncio.run(broker.check_topics(kafka, declared, replication=1))


def test_topics_with_fewer_replicas_are_a_failure(servers: str) -> None:
    assert run("migrate").exit_code == 0
    refused = run("migrate", "--replication", "3")
    assert isinstance(refused.exception, CommandError)
    assert "Topics are not as declared" in str(refused.exception)
    assert "replication is 1, declared 3" in str(refused.exception)
    assert "up to date" not in refused.stdout


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("comment on table alembic_version is 'another build'", "schema version 0001 of another build"),
        ("update alembic_version set version_num = '9999'", "schema version 9999, which this version does not have"),
        ("drop table notifier.packet", "The schema notifier lacks tables"),
    ],
)
def test_a_schema_that_is_not_that_of_this_version_is_a_failure(servers: str, change: str, text: str) -> None:
    migrate(servers)
    execute(servers, change)
    refused = run("migrate")
    assert isinstance(refused.exception, CommandError)
    assert text in str(refused.exception)
    assert "up to date" not in refused.stdout


def test_the_directory_of_the_installation_is_used_if_no_other_is_named(
    servers: str, kafka: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses = {"postgres": servers, "kafka": kafka, "intake": "", "notifier": "", "partners": {}}
    (tmp_path / "addresses.json").write_text(json.dumps({**addresses, "directory": str(folder)}))
    monkeypatch.delenv("LIGHTBULB_DATABASE")
    migrated = run("migrate", "--data", str(tmp_path))
    assert f"for the hubs of {folder}." in " ".join(migrated.stdout.split())
