"""What every command of `lightbulb` shares: where it writes, which installation it is about, and how it refuses."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from services.messaging import settings
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
    return settings.from_environment("database") or str(addresses(data)["postgres"])


def kafka_of(data: Path) -> str:
    """The Kafka named in the environment, else the one of the installation in `data`."""
    return settings.from_environment("kafka") or str(addresses(data)["kafka"])


def settings_of(data: Path, directory: Path) -> Settings:
    """The settings of the environment, where it names a database; else those of the services of the installation in `data`."""
    if settings.from_environment("database"):
        return settings.load()
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
