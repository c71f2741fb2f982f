"""What every command of `lightbulb` shares: where it writes, which installation it is about, and how it refuses."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import asyncpg
import typer
from aiokafka.errors import KafkaError
from rich.console import Console

from services.messaging import database, settings
from services.messaging.settings import CHECKOUT, Settings

console = Console()
complaints = Console(stderr=True)

DEFAULT_DATA = CHECKOUT / "data"
DIRECTORY = CHECKOUT / "infra" / "directory"
Data = Annotated[
    Path,
    typer.Option("--data", metavar="DIR", envvar="LIGHTBULB_DATA", help="Folder of the installation that `up` runs."),
]


class Refused(Exception):
    """The command cannot be done; the text says what, where and what to do."""


@contextlib.contextmanager
def servers_asked() -> Iterator[None]:
    """Raises Refused, with what to do, where the database or Kafka is away, refuses us, or has not our tables."""
    try:
        yield
    except Exception as error:
        if (told := _told(error)) is None:
            raise
        raise Refused(told) from None


def _told(error: Exception) -> str | None:
    reason = database.reason_class(error)
    if database.sqlstate(error) in _NOT_MIGRATED:
        return f"The database schema is out of date ({reason}); run `lightbulb migrate`."
    if isinstance(error, KafkaError):
        return f"Kafka does not answer ({reason}). {_THEN}"
    if isinstance(error, asyncpg.PostgresError):
        return f"The database refuses us ({reason}): see LIGHTBULB_DATABASE, or what it logs. {_THEN}"
    return f"The database does not answer ({reason}). {_THEN}" if database.is_transient(error) else None


_NOT_MIGRATED = ("3F000", "42P01", "42703")
"""No such schema, table, column."""

_THEN = (
    "Start it (`lightbulb up`, where it is this machine's), and repeat the command: nothing is left half done,"
    " and what was done is not done twice."
)


def addresses(data: Path) -> dict[str, Any]:
    """What addresses.json of the installation in `data` says."""
    file = data / "addresses.json"
    try:
        found: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError):
        raise Refused(f"No running installation: {file} is not there. Start one with `lightbulb up`.") from None
    return found


def database_of(data: Path) -> str:
    """The database named in the environment, else the one of the installation in `data`."""
    named = settings.from_environment("database")
    if named and not named.startswith("postgresql+asyncpg://"):
        raise Refused("LIGHTBULB_DATABASE: postgresql+asyncpg://user:password@host:port/database is expected.")
    return named or str(addresses(data)["postgres"])


def kafka_of(data: Path) -> str:
    """The Kafka named in the environment, else the one of the installation in `data`."""
    return settings.from_environment("kafka") or str(addresses(data)["kafka"])


def settings_of(data: Path, directory: Path) -> Settings:
    """The settings of the environment, where it names a database (Kafka and the secret are not asked for); else those of the
    services of the installation in `data`."""
    if settings.from_environment("database"):
        return Settings(database=database_of(data), kafka="none", secret_file=Path("/dev/null"), directory=directory)
    from infra.installation import OUR_MAILBOX  # the embedded parts are imported only where they are needed

    found = addresses(data)
    return Settings(
        database=found["postgres"],
        kafka=found["kafka"],
        secret_file=data / "secret",
        directory=directory,
        deployment=data / "deployment.yaml",
        mesh_url=found["mesh"]["url"],
        mesh_mailbox=OUR_MAILBOX,
        mesh_password=found["mesh"]["password"],
        mesh_shared_key=found["mesh"]["shared_key"],
    )
