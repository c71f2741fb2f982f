"""Options that several commands share, and the database access of a command."""

import asyncio
import getpass
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.cli.terminal import CommandError, console, database_of
from infra.operations.audit_log import Operator
from infra.operations.corrections import EditRefused
from infra.operations.queries import NoSuchRow
from infra.operations.replay import CannotReplay
from services.runtime import database

T = TypeVar("T")

Service = Annotated[str | None, typer.Option("--service", metavar="NAME", help="router or notifier.")]
Reason = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Reasons that begin with this text.")]
Topic = Annotated[str | None, typer.Option("--topic", metavar="TOPIC", help="Topic from which the record was read.")]
Since = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="Stored at or after this time, such as 2026-11-23T08:00.")
]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Stored before this time.")]
MessageGroup = Annotated[
    str | None, typer.Option("--group", metavar="TEXT", help="Message group, by its beginning: a reference or a case.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be changed, and change nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Edit = Annotated[
    Path | None,
    typer.Option(
        "--edit",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Corrected value of one row; stored next to the original.",
    ),
]
Header = Annotated[
    list[str] | None,
    typer.Option("--header", metavar="NAME=VALUE", help="A corrected header of one row, alone or with --edit."),
]
Wait = Annotated[float, typer.Option("--wait", metavar="SECONDS", min=0, help="How long to wait for the outcome.")]
Personal = Annotated[bool, typer.Option("--personal", help="Show personal data too; the access is recorded.")]
Who = Annotated[str | None, typer.Option("--who", metavar="NAME", help="Name of the operator; recorded.")]
Justification = Annotated[str | None, typer.Option("--why", metavar="TEXT", help="Reason for the action; recorded.")]


def run(data: Path, doing: Callable[[AsyncEngine], Awaitable[T]]) -> T:
    """Run a query or change on the database of the installation in `data`. Raise CommandError if it is refused."""
    return run_coroutine(_with_database(database_of(data), doing))


async def _with_database(url: str, doing: Callable[[AsyncEngine], Awaitable[T]]) -> T:
    engine = database.connect(url, pool=2)
    try:
        return await doing(engine)
    finally:
        await engine.dispose()


def run_coroutine(work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`. Raise CommandError with its text if it is refused."""
    try:
        return asyncio.run(work)
    except (NoSuchRow, EditRefused, CannotReplay) as error:
        raise CommandError(str(error)) from None


def between(since: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    """Return both times. Raise BadParameter if the second is not later."""
    first, last = at(since, "--since"), at(until, "--until")
    if first and last and first >= last:
        raise typer.BadParameter("must be later than the time of --since", param_hint="--until")
    return first, last


def at(text: str | None, option: str) -> datetime | None:
    """Parse an ISO 8601 time; without an offset it is UTC."""
    try:
        parsed = datetime.fromisoformat(text) if text is not None else None
        return parsed.replace(tzinfo=UTC) if parsed and parsed.tzinfo is None else parsed and parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter("a time such as 2026-11-23T08:00 is expected", param_hint=option) from None


def current_operator(who: str | None, justification: str | None) -> Operator:
    """Return the operator: the given name, else the user who is logged in."""
    try:
        return Operator(who or getpass.getuser(), justification)
    except (OSError, KeyError):  # a container's user may have no name
        raise typer.BadParameter(
            "this user has no login name: give --who, which is recorded", param_hint="--who"
        ) from None


def show_one(
    data: Path,
    name: str,
    named: Callable[[AsyncEngine, Sequence[str]], Awaitable[Sequence[T]]],
    show: Callable[[AsyncEngine, T, Operator | None], Awaitable[dict[str, Any]]],
    by: Operator | None,
) -> None:
    """Print one row by its name as JSON; with personal data if `by` is given, which is recorded."""

    async def showing(engine: AsyncEngine) -> dict[str, Any]:
        [selected] = await named(engine, [name])
        return await show(engine, selected, by)

    console.print_json(data=run(data, showing))


def named_operator(who: str | None, justification: str | None, what: str) -> Operator:
    """Return the operator of `what`, which needs a name and a reason. Raise BadParameter if one is missing."""
    if not (who and who.strip() and justification and justification.strip()):
        raise typer.BadParameter(f"{what} needs --who and --why; both are recorded", param_hint="--who, --why")
    return Operator(who, justification)
