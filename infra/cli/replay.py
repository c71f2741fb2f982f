"""The `lightbulb replay` and `lightbulb republish` commands."""

import contextlib
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.cli.options import AsJson, DryRun, Justification, Who, at, current_operator, run, run_coroutine
from infra.cli.terminal import DEFAULT_DATA, DIRECTORY, Data, console, database_of, error_console, settings_of
from infra.operations import republish as republishing
from infra.operations.audit_log import Operator
from infra.operations.replay import Proof
from infra.operations.republish import RepublishSummary
from services.reference import directory as directories

replay_commands = typer.Typer(
    help="Rebuild a service's state from its stored inputs, and compare it with the current state.",
    no_args_is_help=True,
)

Keep = Annotated[bool, typer.Option("--keep", help="Keep the rebuilt tables, in the schema replay_<service>.")]
Replace = Annotated[bool, typer.Option("--replace", help="Replace the tables of an earlier --keep.")]
Folder = Annotated[
    Path,
    typer.Option(
        "--directory", metavar="DIR", envvar="LIGHTBULB_DIRECTORY", help="The current directory of reviewed data."
    ),
]


@replay_commands.command("router")
def replay_router(
    keep: Keep = False,
    replace: Replace = False,
    directory: Folder = DIRECTORY,
    as_json: AsJson = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Rebuild persons, cases, referrals and history from the router's inputs, and prove that they equal the stored ones.

    Every input is decided again in the order in which it was applied, with its time, its edit and the directory of
    that time; nothing is published. The router may run at the same time. Differing person keys are printed; the exit
    code is then 1.

    Example: lightbulb replay router
    """
    from infra.operations import replay_router as replaying

    with _progress("router", as_json) as progress:
        _prove("router", replaying.run(database_of(data), directory, progress, keep=keep, replace=replace), as_json)


@replay_commands.command("notifier")
def replay_notifier(
    keep: Keep = False,
    replace: Replace = False,
    directory: Folder = DIRECTORY,
    as_json: AsJson = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Compose all feedback again from the case events, and prove that it is the same, bytes and ids; nothing is sent.

    Each is composed with the words and partners that it was composed with; those from before versions were kept, with today's.

    Example:  lightbulb replay notifier
    """
    from infra.operations import replay_notifier as replaying

    with _progress("notifier", as_json) as progress:
        _prove(
            "notifier", replaying.run_with(settings_of(data, directory), progress, keep=keep, replace=replace), as_json
        )


@contextlib.contextmanager
def _progress(service: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=error_console, disable=quiet) as shown:
        task = shown.add_task(f"replaying {service}", total=None)
        yield lambda done, of: shown.update(task, completed=done, total=of)


def _prove(service: str, replaying: Coroutine[Any, Any, Proof], as_json: bool) -> None:
    proof = run_coroutine(replaying)
    if as_json:
        console.print_json(data={"service": service, "equal": proof.is_equal, "rate": proof.rate, **asdict(proof)})
    else:
        _print_proof(proof)
    raise typer.Exit(0 if proof.is_equal else 1)


def _print_proof(proof: Proof) -> None:
    console.print(
        f"{proof.inputs:,} inputs replayed in {proof.seconds:.1f} s: {proof.rate:,.0f} inputs/s. "
        f"{proof.keys:,} person keys, checksum {proof.fingerprint}.",
        highlight=False,
    )
    if proof.left_out:
        console.print(f"{proof.left_out} person keys were left out: they changed during the replay. Repeat it later.")
    for key, tables in proof.differing:
        console.print(f"  {key} differs in {', '.join(tables)}", highlight=False)
    console.print(f"[red]{len(proof.differing)} person keys differ.[/red]" if proof.differing else "Equal.")


# ---- republish ------------------------------------------------------------------------------------------------------


def republish(
    hub: Annotated[str, typer.Option("--hub", metavar="ID", help="The hub's id in infra/reference_data/hubs.yaml.")],
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help="First time to publish from, such as 2026-10-01T00:00.")
    ],
    who: Who = None,
    justification: Justification = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    directory: Folder = DIRECTORY,
    data: Data = DEFAULT_DATA,
) -> None:
    """Publish a hub's events again from the database: for a hub that was away longer than its topic keeps them.

    They have the same ids and bytes, in order for each case, on hub.ID.case; new events follow. The action is
    recorded.

    Example: lightbulb republish --hub charnwood --since 2026-10-01T00:00 --dry-run
    """
    _check_hub(hub, directory)
    start = at(since, "--since")
    assert start is not None
    by = current_operator(who, justification)
    summary = run(data, lambda engine: _republished(engine, hub, start, by, dry_run=dry_run))
    if as_json:
        console.print_json(data={"dry_run": dry_run, **asdict(summary)}, default=str)
    else:
        console.print(_republish_line(summary, start, dry_run=dry_run))


async def _republished(
    engine: AsyncEngine, hub: str, since: datetime, by: Operator, *, dry_run: bool
) -> RepublishSummary:
    return await (republishing.plan(engine, hub, since) if dry_run else republishing.run(engine, hub, since, by))


def _check_hub(hub: str, directory: Path) -> None:
    hub_ids = [each.id for each in directories.load(directory).hubs]
    if hub not in hub_ids:
        raise typer.BadParameter(f"one of {', '.join(hub_ids)}", param_hint="--hub")


def _republish_line(summary: RepublishSummary, since: datetime, *, dry_run: bool) -> str:
    if not summary.events:
        return (
            f"No events were published to {summary.hub} since {since:%Y-%m-%d %H:%M} (UTC); nothing to publish again."
        )
    span = f", from {summary.first:%Y-%m-%d %H:%M} to {summary.last:%Y-%m-%d %H:%M} (UTC)" if summary.first else ""
    verb = "would be" if dry_run else "are"
    events = f"{summary.events:,} events about {summary.persons:,} persons"
    return f"{events} {verb} published to hub.{summary.hub}.case again{span}."
