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
    """The command cannot be done; the text says what, where and what to do."""


@contextlib.contextmanager
def translate_connection_errors() -> Iterator[None]:
    """Raises Refused, with what to do, where the database or Kafka is away, refuses us, or has not our tables."""
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
        content: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError):
        raise CommandError(f"No running installation: {file} is not there. Start one with `lightbulb up`.") from None
    return content


def database_of(data: Path) -> str:
    """The database named in the environment, else the one of the installation in `data`."""
    named = settings.from_environment("database")
    if named and not named.startswith("postgresql+asyncpg://"):
        raise CommandError("LIGHTBULB_DATABASE: postgresql+asyncpg://user:password@host:port/database is expected.")
    return named or str(addresses(data)["postgres"])


def kafka_of(data: Path) -> str:
    """The Kafka named in the environment, else the one of the installation in `data`."""
    return settings.from_environment("kafka") or str(addresses(data)["kafka"])
