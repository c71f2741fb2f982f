"""Output, installation and errors, shared by every `lightbulb` command."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import asyncpg
import typer
from aiokafka.errors import KafkaError
from rich.console import Console

from services.runtime import database, settings
from services.runtime.settings import CHECKOUT

console = Console()
error_console = Console(stderr=True)

DEFAULT_DATA = CHECKOUT / "data"
DIRECTORY = CHECKOUT / "infra" / "reference_data"
Data = Annotated[
    Path,
    typer.Option("--data", metavar="DIR", envvar="LIGHTBULB_DATA", help="Folder of the installation that `up` runs."),
]


class CommandError(Exception):
    """The command cannot be done; the text states what is wrong, where, and what to do."""


@contextlib.contextmanager
def translate_connection_errors() -> Iterator[None]:
    """Raise CommandError, with what to do, for errors of PostgreSQL or Kafka.

    That is: no connection, refused credentials, or tables that are missing or out of date.
    """
    try:
        yield
    except Exception as error:
        if (message := _error_message(error)) is None:
            raise
        raise CommandError(message) from None


def _error_message(error: Exception) -> str | None:
    reason = database.reason_class(error)
    if database.sqlstate(error) in _NOT_MIGRATED:
        return f"The database schema is out of date ({reason}); run `lightbulb migrate`."
    if isinstance(error, KafkaError):
        return f"Kafka is not reachable ({reason}). {_THEN}"
    if isinstance(error, asyncpg.PostgresError):
        return f"The database refused the request ({reason}): check LIGHTBULB_DATABASE and the database log. {_THEN}"
    return f"The database is not reachable ({reason}). {_THEN}" if database.is_transient(error) else None


_NOT_MIGRATED = ("3F000", "42P01", "42703")
"""SQLSTATEs: a schema, table or column does not exist."""

_THEN = (
    "Start it (`lightbulb up` for a local installation), then repeat the command: nothing is left half done,"
    " and nothing is done twice."
)


def addresses(data: Path) -> dict[str, Any]:
    """Return the content of addresses.json of the installation in `data`."""
    file = data / "addresses.json"
    try:
        content: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError):
        raise CommandError(f"No running installation: {file} is not there. Start one with `lightbulb up`.") from None
    return content


def database_of(data: Path) -> str:
    """Return the database URL in LIGHTBULB_DATABASE, else that of the installation in `data`."""
    named = settings.from_environment("database")
    if named and not named.startswith("postgresql+asyncpg://"):
        raise CommandError("LIGHTBULB_DATABASE: postgresql+asyncpg://user:password@host:port/database is expected.")
    return named or str(addresses(data)["postgres"])


def kafka_of(data: Path) -> str:
    """Return the Kafka address in LIGHTBULB_KAFKA, else that of the installation in `data`."""
    return settings.from_environment("kafka") or str(addresses(data)["kafka"])


def deployment_of(data: Path) -> Path | None:
    """Return the file that LIGHTBULB_DEPLOYMENT names, else that of the installation in `data`, or None if it has none."""
    named = settings.from_environment("deployment")
    file = Path(named) if named else data / "deployment.yaml"
    return file if named or file.exists() else None
