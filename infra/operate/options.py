"""Options that several of these commands have, and how a command reaches the database."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.operate.edits import EditRefused
from infra.operate.finding import NoSuchRow
from infra.terminal import Refused, database_of
from services.messaging import database

T = TypeVar("T")

Service = Annotated[str | None, typer.Option("--service", metavar="NAME", help="router or notifier.")]
Reason = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Reasons that begin with this.")]
Topic = Annotated[str | None, typer.Option("--topic", metavar="TOPIC", help="Where it was read.")]
Since = Annotated[str | None, typer.Option("--since", metavar="TIME", help="Parked since, such as 2026-11-23T08:00.")]  # fmt: skip
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Parked before.")]
Chain = Annotated[str | None, typer.Option("--chain", metavar="TEXT", help="Our reference, or the case, that it belongs to.")]  # fmt: skip
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show exactly what would be touched, and touch nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
Edit = Annotated[
    Path | None,
    typer.Option(
        "--edit",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="The value of one row, corrected; kept beside the original.",
    ),
]
Header = Annotated[
    list[str] | None, typer.Option("--header", metavar="NAME=VALUE", help="With --edit: a header, corrected.")
]
Wait = Annotated[float, typer.Option("--wait", metavar="SECONDS", min=0, help="How long to wait for what comes of it.")]
Who = Annotated[str | None, typer.Option("--who", metavar="NAME", help="Who does it; recorded.")]
Why = Annotated[str | None, typer.Option("--why", metavar="TEXT", help="Why; recorded.")]


def run(data: Path, doing: Callable[[AsyncEngine], Awaitable[T]]) -> T:
    """Do something on the database of the installation in `data`."""

    async def with_database() -> T:
        engine = database.connect(database_of(data), pool=2)
        try:
            return await doing(engine)
        finally:
            await engine.dispose()

    try:
        return asyncio.run(with_database())
    except (NoSuchRow, EditRefused) as fault:
        raise Refused(str(fault)) from None


def at(given: str | None, option: str) -> datetime | None:
    """A time as people write it; without an offset it is UTC."""
    try:
        found = datetime.fromisoformat(given) if given else None
    except ValueError:
        raise typer.BadParameter("a time such as 2026-11-23T08:00 is expected", param_hint=option) from None
    return found.replace(tzinfo=UTC) if found and found.tzinfo is None else found
