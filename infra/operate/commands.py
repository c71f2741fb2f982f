"""The commands of `lightbulb` that people run on a hub that is at work: quarantine, replay, republish."""

import asyncio
import contextlib
import getpass
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.operate import masked, quarantine
from infra.operate import republish as republishing
from infra.operate.quarantine import By, EditRefused, Filters, NoSuchRow, Planned, Row
from infra.operate.replay import CannotReplay, Proof
from infra.operate.republish import Again
from infra.terminal import DEFAULT_DATA, DIRECTORY, Data, Refused, complaints, console, database_of, settings_of
from services import directory as directories
from services.messaging import database

T = TypeVar("T")

quarantine_commands = typer.Typer(
    help="What could not be processed: see it, put it back, or discard it.", no_args_is_help=True
)

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID...", help="Rows, such as router:17.", show_default=False)]
AllOfThem = Annotated[bool, typer.Option("--all", help="Every row that the filters let through.")]
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


@quarantine_commands.command("list")
def list_rows(
    service: Service = None,
    reason: Reason = None,
    topic: Topic = None,
    since: Since = None,
    until: Until = None,
    chain: Chain = None,
    resolved: Annotated[bool, typer.Option("--resolved", help="Those that are resolved as well.")] = False,
    as_json: AsJson = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """What is parked and why, with what waits behind it; no personal data.

    Example:  lightbulb quarantine list --service router --reason decision
    """
    filters = _filters(service, reason, topic, since, until, chain, resolved=resolved)
    rows = _run(data, lambda engine: quarantine.find(engine, filters))
    console.print_json(data=[row.as_dict() for row in rows]) if as_json else console.print(_table(rows))


@quarantine_commands.command()
def show(
    row: Annotated[str, typer.Argument(metavar="ID", help="A row, such as router:17.")],
    personal: Annotated[bool, typer.Option("--personal", help="Personal data too; the asking is recorded.")] = False,
    who: Who = None,
    why: Why = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """One record with its edits and what was done about it, as JSON. Values of personal fields are masked.

    Example:  lightbulb quarantine show router:17 --personal --who "A. Operator" --why "the practice asked"
    """
    by = _named(who, why, "--personal") if personal else None

    async def showing(engine: AsyncEngine) -> dict[str, Any]:
        [found] = await quarantine.named(engine, [row])
        return await quarantine.show(engine, found, by)

    console.print_json(data=_run(data, showing))


@quarantine_commands.command()
def resubmit(
    ids: Ids = None,
    all_of_them: AllOfThem = False,
    service: Service = None,
    reason: Reason = None,
    topic: Topic = None,
    since: Since = None,
    until: Until = None,
    chain: Chain = None,
    edit: Edit = None,
    header: Header = None,
    who: Who = None,
    why: Why = None,
    wait: Wait = 10.0,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Put records back: the service that parked them applies them, in order, with what waits behind them. Safe to repeat.

    Exits with 1 where one was parked again.

    Example:  lightbulb quarantine resubmit --all --service notifier --reason compose --dry-run
    """
    filters = _chosen(ids, all_of_them, _filters(service, reason, topic, since, until, chain))
    by = _named(who, why, "--edit") if edit else By(who or getpass.getuser(), why)
    headers = dict(_header(one) for one in header or ())
    if headers and edit is None:
        raise typer.BadParameter("a header is corrected with --edit FILE", param_hint="--header")

    async def resubmitting(engine: AsyncEngine) -> tuple[list[Planned], list[Row]]:
        rows = await _rows(engine, ids, filters)
        if edit is not None:
            rows = [await _edited(engine, rows, edit.read_bytes(), headers, by, dry_run=dry_run)]
        planned = await quarantine.plan_resubmit(engine, rows)
        if dry_run:
            return planned, []
        touched = await quarantine.act(engine, planned, by)
        return planned, await quarantine.outcome(engine, touched, wait)

    planned, came = _run(data, resubmitting)
    _tell(planned, came, dry_run=dry_run, as_json=as_json)
    if any(row.state == "parked" for row in came):
        raise typer.Exit(1)


@quarantine_commands.command()
def discard(
    who: Annotated[str, typer.Option("--who", metavar="NAME", help="Who does it; recorded.")],
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="Why; recorded.")],
    ids: Ids = None,
    all_of_them: AllOfThem = False,
    service: Service = None,
    reason: Reason = None,
    topic: Topic = None,
    since: Since = None,
    until: Until = None,
    chain: Chain = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Give records up for good: the rows are kept, what waits behind them goes on, and the same event is not applied if it comes again.

    Example:  lightbulb quarantine discard router:17 --who "A. Operator" --why "sent by mistake, the practice sent it anew"
    """
    filters = _chosen(ids, all_of_them, _filters(service, reason, topic, since, until, chain))
    by = _named(who, why, "discard")

    async def discarding(engine: AsyncEngine) -> tuple[list[Planned], list[Row]]:
        planned = await quarantine.plan_discard(engine, await _rows(engine, ids, filters))
        touched = [] if dry_run else await quarantine.act(engine, planned, by)
        return planned, await quarantine.outcome(engine, touched, 0)

    planned, came = _run(data, discarding)
    _tell(planned, came, dry_run=dry_run, as_json=as_json)


# ---- what they share ------------------------------------------------------------------------------------------------


def _run(data: Path, doing: Callable[[AsyncEngine], Awaitable[T]]) -> T:
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


def _filters(
    service: str | None,
    reason: str | None,
    topic: str | None,
    since: str | None,
    until: str | None,
    chain: str | None,
    *,
    resolved: bool = False,
) -> Filters:
    if service is not None and service not in quarantine.SERVICES:
        raise typer.BadParameter("router or notifier", param_hint="--service")
    return Filters(service, reason, topic, at(since, "--since"), at(until, "--until"), chain, resolved)


def at(given: str | None, option: str) -> datetime | None:
    """A time as people write it; without an offset it is UTC."""
    try:
        found = datetime.fromisoformat(given) if given else None
    except ValueError:
        raise typer.BadParameter("a time such as 2026-11-23T08:00 is expected", param_hint=option) from None
    return found.replace(tzinfo=UTC) if found and found.tzinfo is None else found


def _chosen(ids: Sequence[str] | None, all_of_them: bool, filters: Filters) -> Filters | None:
    """None where rows are named; the filters where --all asks for them."""
    narrowed = any(value for value in asdict(filters).values())
    if bool(ids) == all_of_them or (ids and narrowed):
        raise typer.BadParameter("name rows, or give --all with filters; not both", param_hint="ID...")
    return filters if all_of_them else None


async def _rows(engine: AsyncEngine, ids: Sequence[str] | None, filters: Filters | None) -> list[Row]:
    return await quarantine.find(engine, filters) if filters else await quarantine.named(engine, ids or ())


async def _edited(
    engine: AsyncEngine, rows: Sequence[Row], value: bytes, headers: dict[str, str], by: By, *, dry_run: bool
) -> Row:
    if len(rows) != 1:
        raise EditRefused("--edit corrects one row: name it by its id")
    return await quarantine.edit(engine, rows[0], value, headers, by, dry_run=dry_run)


def _named(who: str | None, why: str | None, what: str) -> By:
    if not (who and who.strip() and why and why.strip()):
        raise typer.BadParameter(f"{what} needs --who and --why; both are recorded", param_hint="--who, --why")
    return By(who, why)


def _header(given: str) -> tuple[str, str]:
    name, equals, value = given.partition("=")
    if not equals or not name:
        raise typer.BadParameter("NAME=VALUE", param_hint="--header")
    return name, value


def _tell(planned: Sequence[Planned], came: Sequence[Row], *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        told = {
            "dry_run": dry_run,
            "planned": [one.as_dict() for one in planned],
            "now": [row.as_dict() for row in came],
        }
        console.print_json(data=told)
        return
    now = {row.name: row for row in came}
    shown = Table(
        box=None, header_style="bold", title="Nothing was touched." if dry_run else None, title_justify="left"
    )
    for column in ("id", "place", "chain", "what", "now"):
        shown.add_column(column, overflow="fold")
    for one in planned:
        row = now.get(one.row.name)
        what = one.what + (f": {one.why}" if one.why else "")
        shown.add_row(*map(escape, (one.row.name, one.row.place, masked.chain(one.row.chains[0]), what, _now(row))))
    console.print(shown)
    if any(row.state == "asked" for row in came):
        complaints.print("Asked for, and no service has tried yet: is one running? It will, as soon as it is.")


def _now(row: Row | None) -> str:
    if row is None:
        return ""
    return f"parked again: {row.reason}" if row.state == "parked" else row.state


def _table(rows: Sequence[Row]) -> Table:
    shown = Table(box=None, header_style="bold")
    for column in ("id", "state", "reason", "place", "chain", "attempts", "since (UTC)", "correlation id"):
        shown.add_column(column, overflow="fold")
    for row in rows:
        told = (row.name, row.state, row.reason, row.place, masked.chain(row.chains[0]), str(row.attempts))
        shown.add_row(*map(escape, (*told, f"{row.first_at:%Y-%m-%d %H:%M:%S}", row.correlation_id or "-")))
    return shown


# ---- replay ---------------------------------------------------------------------------------------------------------

replay_commands = typer.Typer(
    help="Rebuild what a service decided from what it kept, and compare it with what stands.", no_args_is_help=True
)

Keep = Annotated[bool, typer.Option("--keep", help="Leave the rebuilt tables, in the schema replay_<service>.")]
Folder = Annotated[Path, typer.Option("--directory", metavar="DIR", help="The reviewed directory of today.")]


@replay_commands.command("router")
def replay_router(
    keep: Keep = False, directory: Folder = DIRECTORY, as_json: AsJson = False, data: Data = DEFAULT_DATA
) -> None:
    """Rebuild persons, cases, referrals and history from the router's inputs, and prove that they equal what stands.

    Every input is decided again, in the order applied, with its time, its edit, and the directory of that time; nothing is
    published. The router may run meanwhile. Differing person keys are printed; the exit code is then 1.

    Example:  lightbulb replay router
    """
    from infra.operate import replay_router as replaying

    with _progress("router", as_json) as told:
        _prove("router", replaying.run(database_of(data), directory, told, keep=keep), as_json)


@replay_commands.command("notifier")
def replay_notifier(
    keep: Keep = False, directory: Folder = DIRECTORY, as_json: AsJson = False, data: Data = DEFAULT_DATA
) -> None:
    """Compose all feedback again from the case events, and prove that it is the same, bytes and ids; nothing is sent.

    It is composed with the words and partners of today: where those were changed since, the persons concerned differ.

    Example:  lightbulb replay notifier
    """
    from infra.operate import replay_notifier as replaying

    with _progress("notifier", as_json) as told:
        _prove("notifier", replaying.run_with(settings_of(data, directory), told, keep=keep), as_json)


@contextlib.contextmanager
def _progress(service: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=complaints, disable=quiet) as shown:
        task = shown.add_task(f"replaying {service}", total=None)
        yield lambda done, of: shown.update(task, completed=done, total=of)


def _prove(service: str, replaying: Coroutine[Any, Any, Proof], as_json: bool) -> None:
    try:
        proof = asyncio.run(replaying)
    except CannotReplay as fault:
        raise Refused(str(fault)) from None
    if as_json:
        console.print_json(data={"service": service, "equal": proof.is_equal, "rate": proof.rate, **asdict(proof)})
    else:
        _say(proof)
    raise typer.Exit(0 if proof.is_equal else 1)


def _say(proof: Proof) -> None:
    console.print(
        f"{proof.inputs:,} inputs replayed in {proof.seconds:.1f} s: {proof.rate:,.0f} inputs/s. "
        f"{proof.keys:,} person keys, checksum {proof.fingerprint}.",
        highlight=False,
    )
    if proof.left_out:
        console.print(f"{proof.left_out} person keys were left out: they were being worked on. Replay again later.")
    for key, tables in proof.differing:
        console.print(f"  {key} differs in {', '.join(tables)}", highlight=False)
    console.print(f"[red]{len(proof.differing)} person keys differ.[/red]" if proof.differing else "Equal.")


# ---- republish ------------------------------------------------------------------------------------------------------


def republish(
    hub: Annotated[str, typer.Option("--hub", metavar="ID", help="The hub, as in infra/directory/hubs.yaml.")],
    since: Annotated[str, typer.Option("--since", metavar="TIME", help="From when on, such as 2026-10-01T00:00.")],
    who: Who = None,
    why: Why = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    directory: Folder = DIRECTORY,
    data: Data = DEFAULT_DATA,
) -> None:
    """Publish a hub's events again, from the database's record: for a hub that was away longer than its topic keeps them.

    They come with the same ids and bytes, in order for each case, to hub.ID.case; what is new comes after. Recorded.

    Example:  lightbulb republish --hub charnwood --since 2026-10-01T00:00 --dry-run
    """
    known = [each.id for each in directories.load(directory).hubs]
    if hub not in known:
        raise typer.BadParameter(f"one of {', '.join(known)}", param_hint="--hub")
    start = at(since, "--since")
    assert start is not None
    by = By(who or getpass.getuser(), why)

    async def publishing(engine: AsyncEngine) -> Again:
        return await (republishing.plan(engine, hub, start) if dry_run else republishing.run(engine, hub, start, by))

    again = _run(data, publishing)
    if as_json:
        console.print_json(data={"dry_run": dry_run, **asdict(again)}, default=str)
        return
    span = f", from {again.first:%Y-%m-%d %H:%M} to {again.last:%Y-%m-%d %H:%M} (UTC)" if again.first else ""
    would = "would go" if dry_run else "go"
    console.print(f"{again.events:,} events about {again.persons:,} persons {would} to hub.{hub}.case again{span}.")
