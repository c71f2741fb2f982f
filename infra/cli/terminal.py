"""Output, installation and errors, shared by every `lightbulb` command."""

import contextlib
import errno
import json
import os
import socket
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import asyncpg
import typer
from aiokafka.errors import InvalidReplicationFactorError, KafkaError
from rich.console import Console
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from infra.database.roles import RolesMissing
from services.reference.yaml_files import ConfigError
from services.runtime import StartupError, database, settings
from services.runtime.settings import CHECKOUT

console = Console()
error_console = Console(stderr=True)

DEFAULT_DATA = CHECKOUT / "data"
DIRECTORY = CHECKOUT / "infra" / "reference_data"


class CommandError(Exception):
    """The command cannot be done; the text states what is wrong, where, and what to do."""


def _folder(path: Path) -> Path:
    if path.exists() and not path.is_dir():
        raise CommandError(f"--data: {path} is not a folder.")
    return path


Data = Annotated[
    Path,
    typer.Option(
        "--data",
        metavar="DIR",
        envvar="LIGHTBULB_DATA",
        callback=_folder,
        help="Folder of the installation that `up` runs.",
    ),
]


# ---- errors ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def translate_connection_errors() -> Iterator[None]:
    """Raise CommandError, with what to do, for errors that come from outside: servers, files, addresses.

    Every command runs in it. Defects of Lightbulb are raised as they are.
    """
    try:
        yield
    except Exception as error:
        if (message := explanation(error)) is None:
            raise
        raise CommandError(message) from None


def explanation(error: Exception) -> str | None:
    """Return what is wrong and what to do, without personal data and passwords; None for a defect."""
    match error:
        case CommandError() | StartupError() | ConfigError() | RolesMissing():
            return str(error)
        case DBAPIError() | PoolTimeout() | asyncpg.PostgresError() | asyncpg.InterfaceError():
            return _database_error(error)
        case InvalidReplicationFactorError():
            return "Kafka has fewer brokers than --replication requests."
        case KafkaError():
            what = "is not reachable" if error.retriable else "refused the request"
            return f"Kafka {what} ({type(error).__name__}): check LIGHTBULB_KAFKA. {_THEN}"
        case ArgumentError():
            return _DATABASE_EXPECTED
        case ModuleNotFoundError():
            return f"The package {error.name} is not installed; `make` installs all, as does the extra `embedded`."
        case OSError():
            return _system_error(error)
    return None


def _database_error(error: Exception) -> str:
    state = database.sqlstate(error) or str(getattr(error, "sqlstate", None) or "")
    reason = f"sqlstate {state}" if state else type(getattr(error, "orig", None) or error).__name__
    if state in _NOT_MIGRATED:
        return f"The database schema is out of date ({reason}); run `lightbulb migrate`."
    if state in _REFUSALS:
        return f"The database refused the request ({reason}): {_REFUSALS[state]}."
    if state and not state.startswith(_PASSING):
        return f"The database refused the request ({reason}): check LIGHTBULB_DATABASE and the database log. {_THEN}"
    return f"The database is not reachable ({reason}). {_THEN}"


_NOT_MIGRATED = ("3F000", "42P01", "42703")
"""SQLSTATEs: a schema, table or column does not exist."""

_PASSING = ("08", "40", "53", "55", "57", "58")
"""Classes of SQLSTATEs that pass: connection, rollback, resources, locks, intervention, system."""

_REFUSALS = {
    "28P01": "user or password in LIGHTBULB_DATABASE is not right",
    "28000": "the user in LIGHTBULB_DATABASE may not connect",
    "3D000": "it has no database of the name in LIGHTBULB_DATABASE",
    "42501": "the user in LIGHTBULB_DATABASE has not been granted this; commands need the role that migrates",
    "25006": "it is read-only at present: it is a standby, or recovers. Repeat the command on the primary",
    "53100": "its disk is full",
}
"""What to do about SQLSTATEs that have one cause."""

_THEN = (
    "Start it (`lightbulb up` for a local installation), then repeat the command: nothing is left half done,"
    " and nothing is done twice."
)


def _system_error(error: OSError) -> str:
    """Explain an error of a file or of the connection to the database; Kafka and HTTP have errors of their own."""
    if error.filename is not None:
        return f"{error.filename}: {error.strerror}."
    if isinstance(error, socket.gaierror):
        return f"The database is not reachable: its host in LIGHTBULB_DATABASE has no address ({error.strerror})."
    if error.errno in _LACKING:
        return f"The result could not be written: {error.strerror}."
    return f"The database is not reachable ({type(error).__name__}). {_THEN}"


_LACKING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG, errno.EBADF, errno.EMFILE)
"""What the file system lacks if a file that is open cannot be written."""


def defect(error: Exception) -> str:
    """Return one line about a defect: its class and place in our code, never its text, which may hold personal data."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [one for one in frames if one.filename.startswith(f"{CHECKOUT}{os.sep}") and ".venv" not in one.filename]
    place = f"{os.path.relpath(own[-1].filename, CHECKOUT)}:{own[-1].lineno}" if own else "an unknown place"
    if settings.from_environment("log_level") == "DEBUG":
        sys.stderr.write("".join(traceback.format_list(frames)))
    return (
        f"Lightbulb has a defect: {type(error).__name__} at {place}. Please report this line;"
        " LIGHTBULB_LOG_LEVEL=DEBUG prints all calls up to there."
    )


# ---- the installation -----------------------------------------------------------------------------------------------


def addresses(data: Path) -> dict[str, Any]:
    """Return the content of addresses.json of the installation in `data`."""
    file = data / "addresses.json"
    try:
        content: dict[str, Any] = json.loads(file.read_text())
    except FileNotFoundError:
        raise CommandError(f"No running installation: {file} is not there. Start one with `lightbulb up`.") from None
    except ValueError:
        content = {}
    if not isinstance(content, dict) or not content.keys() >= _WRITTEN:
        raise CommandError(
            f"{file} is damaged: stop the installation and start it with `lightbulb up`, which writes it."
        )
    return content


_WRITTEN = {"intake", "notifier", "kafka", "postgres", "partners"}
"""What addresses.json has at least."""


def database_of(data: Path) -> str:
    """Return the database URL in LIGHTBULB_DATABASE, else that of the installation in `data`."""
    named = settings.from_environment("database")
    if not named:
        return str(addresses(data)["postgres"])
    try:
        url = make_url(named)
    except (ArgumentError, ValueError):  # ValueError: the port is not a number
        raise CommandError(_DATABASE_EXPECTED) from None
    if url.drivername != "postgresql+asyncpg" or not url.database:
        raise CommandError(_DATABASE_EXPECTED)
    return named


_DATABASE_EXPECTED = "LIGHTBULB_DATABASE: postgresql+asyncpg://user:password@host:port/database is expected."


def kafka_of(data: Path) -> str:
    """Return the Kafka address in LIGHTBULB_KAFKA, else that of the installation in `data`."""
    named = settings.from_environment("kafka")
    if not named:
        return str(addresses(data)["kafka"])
    if not all(one.rpartition(":")[0] and one.rpartition(":")[2].isdecimal() for one in named.split(",")):
        raise CommandError("LIGHTBULB_KAFKA: host:port,host:port is expected.")
    return named


Directory = Annotated[
    Path | None,
    typer.Option(
        "--directory",
        metavar="DIR",
        envvar="LIGHTBULB_DIRECTORY",
        help="Folder of reviewed data. [default: that of the services]",
    ),
]


def directory_of(data: Path, named: Path | None) -> Path:
    """Return the folder of reviewed data of the services: `named`, else that of the installation in `data`.

    If that is none, or LIGHTBULB_DATABASE names another one: the default of the services.
    """
    if named is not None:
        return named
    if settings.from_environment("database") or not (data / "addresses.json").exists():
        return DIRECTORY
    return Path(addresses(data).get("directory", DIRECTORY))


def deployment_of(data: Path) -> Path | None:
    """Return the file that LIGHTBULB_DEPLOYMENT names, else that of the installation in `data`, or None if it is not known."""
    if named := settings.from_environment("deployment"):
        return Path(named)
    file = data / "deployment.yaml"
    return None if settings.from_environment("database") or not file.exists() else file
