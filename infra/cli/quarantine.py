"""The `lightbulb quarantine` commands: list, show, resubmit, discard."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.cli.options import (
    AsJson,
    DryRun,
    Edit,
    Header,
    Justification,
    MessageGroup,
    Personal,
    Reason,
    Service,
    Since,
    Topic,
    Until,
    Wait,
    Who,
    between,
    current_operator,
    named_operator,
    run,
    show_one,
)
from infra.cli.terminal import DEFAULT_DATA, Data, console, error_console
from infra.operations import corrections, dead_letters, queries, reasons, redaction
from infra.operations.audit_log import Operator
from infra.operations.corrections import EditRefused
from infra.operations.dead_letters import PlannedAction
from infra.operations.queries import DeadLetterRow, Filters

quarantine_commands = typer.Typer(
    help="Dead letters, records that could not be processed: list, show, resubmit or discard them.",
    no_args_is_help=True,
)

Done = tuple[Sequence[PlannedAction], Sequence[DeadLetterRow]]
"""The planned actions, and the changed rows as they are now."""

Correction = tuple[bytes | None, dict[str, str]]
"""The value of an edit, if it is corrected, and the corrected headers."""

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID...", help="Rows, such as router:17.", show_default=False)]
AllOfThem = Annotated[bool, typer.Option("--all", help="Every row that matches the filters.")]


@quarantine_commands.command("list")
def list_rows(
    service: Service = None,
    reason: Reason = None,
    topic: Topic = None,
    since: Since = None,
    until: Until = None,
    message_group: MessageGroup = None,
    resolved: Annotated[bool, typer.Option("--resolved", help="Include resolved rows.")] = False,
    as_json: AsJson = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """List dead letters with their reasons, and the records that wait behind them; no personal data.

    Example: lightbulb quarantine list --service router --reason decision
    """
    filters = _filters(service, reason, topic, since, until, message_group, resolved=resolved)
    rows = run(data, lambda engine: queries.find(engine, filters))
    if as_json:
        console.print_json(data=[row.as_dict() for row in rows])
    else:
        console.print(_listed(rows) if rows else "No matching dead letters.")


@quarantine_commands.command()
def show(
    row: Annotated[str, typer.Argument(metavar="ID", help="A row, such as router:17.")],
    personal: Personal = False,
    who: Who = None,
    justification: Justification = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Show one record as JSON, with its edits and the operators' actions. Values of personal fields are masked.

    Example: lightbulb quarantine show router:17 --personal --who "A. Operator" --why "the practice asked"
    """
    by = named_operator(who, justification, "--personal") if personal else None
    show_one(data, row, queries.named, dead_letters.show, by)


@quarantine_commands.command()
def resubmit(
    ids: Ids = None,
    all_of_them: AllOfThem = False,
    service: Service = None,
    reason: Reason = None,
    topic: Topic = None,
    since: Since = None,
    until: Until = None,
    message_group: MessageGroup = None,
    edit: Edit = None,
    header: Header = None,
    who: Who = None,
    justification: Justification = None,
    wait: Wait = 10.0,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Resubmit records: their service applies them in order, with the records behind them. Safe to repeat.

    Exits with 1 if one failed again.

    Example: lightbulb quarantine resubmit --all --service notifier --reason compose --dry-run
    """
    filters = _chosen(ids, all_of_them, _filters(service, reason, topic, since, until, message_group))
    by = named_operator(who, justification, "a correction") if edit or header else current_operator(who, justification)
    work = partial(_resubmitted, ids=ids, filters=filters, correction=_correction(edit, header), by=by)
    planned, came = run(data, partial(work, wait=wait, dry_run=dry_run))
    _print_plan(planned, came, dry_run=dry_run, as_json=as_json)
    _exit_if_open(came)


@quarantine_commands.command()
def discard(
    who: Annotated[str, typer.Option("--who", metavar="NAME", help="Name of the operator; recorded.")],
    justification: Annotated[str, typer.Option("--why", metavar="TEXT", help="Reason for the action; recorded.")],
    ids: Ids = None,
    all_of_them: AllOfThem = False,
    service: Service = None,
    reason: Reason = None,
    topic: Topic = None,
    since: Since = None,
    until: Until = None,
    message_group: MessageGroup = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Discard records for good; the records behind them are applied.

    Discarded rows are kept, and a repeat of the event is not applied.

    Example:  lightbulb quarantine discard router:17 --who "A. Operator" --why "sent twice by mistake"
    """
    filters = _chosen(ids, all_of_them, _filters(service, reason, topic, since, until, message_group))
    by = named_operator(who, justification, "discard")

    async def discarding(engine: AsyncEngine) -> Done:
        planned = await dead_letters.plan_discard(engine, await _rows(engine, ids, filters))
        return await _acted(engine, planned, by, 0, dry_run=dry_run)

    planned, came = run(data, discarding)
    _print_plan(planned, came, dry_run=dry_run, as_json=as_json)


# ---- shared by the commands -----------------------------------------------------------------------------------------


def _filters(
    service: str | None,
    reason: str | None,
    topic: str | None,
    since: str | None,
    until: str | None,
    message_group: str | None,
    *,
    resolved: bool = False,
) -> Filters:
    if service is not None and service not in queries.SERVICES:
        raise typer.BadParameter("expected router or notifier", param_hint="--service")
    return Filters(service, reason, topic, *between(since, until), message_group, resolved)


def _chosen(ids: Sequence[str] | None, all_of_them: bool, filters: Filters) -> Filters | None:
    """Return the filters of --all; None if rows are named."""
    narrowed = any(value for value in asdict(filters).values())
    if bool(ids) == all_of_them or (ids and narrowed):
        raise typer.BadParameter("give row ids, or --all (filters narrow it), not both", param_hint="ID...")
    return filters if all_of_them else None


async def _rows(engine: AsyncEngine, ids: Sequence[str] | None, filters: Filters | None) -> list[DeadLetterRow]:
    return await queries.find(engine, filters) if filters else await queries.named(engine, ids or ())


async def _acted(
    engine: AsyncEngine, planned: Sequence[PlannedAction], by: Operator, wait: float, *, dry_run: bool
) -> Done:
    if dry_run:
        return planned, []
    touched = await dead_letters.act(engine, planned, by)
    held = {one.row.name for one in planned if one.behind}
    now = await dead_letters.outcome(engine, [row for row in touched if row.name not in held], wait)
    return planned, now + await dead_letters.outcome(engine, [row for row in touched if row.name in held], 0)


async def _resubmitted(
    engine: AsyncEngine,
    *,
    ids: Sequence[str] | None,
    filters: Filters | None,
    correction: Correction | None,
    by: Operator,
    wait: float,
    dry_run: bool,
) -> Done:
    rows = await _rows(engine, ids, filters)
    if correction is not None:
        rows = [await _edited(engine, rows, correction, by, dry_run=dry_run)]
    return await _acted(engine, await dead_letters.plan_resubmit(engine, rows), by, wait, dry_run=dry_run)


async def _edited(
    engine: AsyncEngine, rows: Sequence[DeadLetterRow], correction: Correction, by: Operator, *, dry_run: bool
) -> DeadLetterRow:
    if len(rows) != 1:
        raise EditRefused("--edit and --header correct one row: give its id")
    return await corrections.edit(engine, rows[0], *correction, by, dry_run=dry_run)


def _correction(edit: Path | None, header: Sequence[str] | None) -> Correction | None:
    headers = dict(_header(one) for one in header or ())
    return (edit.read_bytes() if edit else None, headers) if edit or headers else None


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise typer.BadParameter("expected NAME=VALUE", param_hint="--header")
    return name, value


def _print_plan(
    planned: Sequence[PlannedAction], came: Sequence[DeadLetterRow], *, dry_run: bool, as_json: bool
) -> None:
    if as_json:
        _print_json(planned, came, dry_run=dry_run)
        return
    if not planned:
        console.print("No matching dead letters. Nothing was changed.")
        return
    console.print(_plan_table(planned, came, dry_run=dry_run))
    held = {one.row.name for one in planned if one.behind}
    if any(row.state == "resubmitting" and row.name not in held for row in came):
        error_console.print("Resubmitted, but no service has tried it yet. Check that the service is running.")


def _print_json(planned: Sequence[PlannedAction], came: Sequence[DeadLetterRow], *, dry_run: bool) -> None:
    report = {
        "dry_run": dry_run,
        "planned": [one.as_dict() for one in planned],
        "now": [row.as_dict() for row in came],
    }
    console.print_json(data=report)


def _plan_table(planned: Sequence[PlannedAction], came: Sequence[DeadLetterRow], *, dry_run: bool) -> Table:
    now = {row.name: row for row in came}
    title = "Nothing was changed." if dry_run else None
    shown = Table(box=None, header_style="bold", title=title, title_justify="left")
    for column in ("id", "place", "group", "what", "now"):
        shown.add_column(column, overflow="fold")
    for one in planned:
        what = one.what + (f": {one.reason}" if one.reason else "")
        message_group = redaction.message_group(one.row.message_groups[0])
        cells = (one.row.name, one.row.place, message_group, what, _now(now.get(one.row.name)))
        shown.add_row(*map(escape, cells))
    return shown


def _exit_if_open(rows: Sequence[DeadLetterRow]) -> None:
    if any(row.state == "open" for row in rows):
        raise typer.Exit(1)


def _now(row: DeadLetterRow | None) -> str:
    if row is None:
        return ""
    return f"failed again: {reasons.in_words(row.reason)}" if row.state == "open" else row.state


def _listed(rows: Sequence[DeadLetterRow]) -> Group:
    """Return two lines or more for each row: what it is, and why, in words and as `--reason` finds it."""
    head = Text(f"{'id':14}{'state':14}{'since (UTC)':18}group", style="bold")
    return Group(head, *(part for row in rows for part in _lines(row)))


def _lines(row: DeadLetterRow) -> tuple[Text, Padding]:
    message_group, words = redaction.message_group(row.message_groups[0]), reasons.in_words(row.reason)
    why = words if words == row.reason else f"{words} ({row.reason})"
    return Text(f"{row.name:13} {row.state:13} {row.first_at:%Y-%m-%d %H:%M}  {message_group}"), Padding(
        Text(why), (0, 0, 0, 2), expand=False
    )
