"""`lightbulb replay` and `lightbulb republish`."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.cli.options import AsJson, DryRun, Justification, Who, at, current_operator, run, run_coroutine
from infra.cli.terminal import DEFAULT_DATA, DIRECTORY, Data, console, database_of, error_console
from infra.operations import republish as republishing
from infra.operations.replay import Proof
from infra.operations.republish import RepublishSummary
from services.reference import directory as directories

replay_commands = typer.Typer(
    help="Rebuild a service's state from its stored inputs, and compare it with the stored state.", no_args_is_help=True
)

Keep = Annotated[bool, typer.Option("--keep", help="Keep the rebuilt tables, in the schema replay_router.")]
Replace = Annotated[bool, typer.Option("--replace", help="Drop the tables that an earlier --keep left.")]
Folder = Annotated[
    Path,
    typer.Option("--directory", metavar="DIR", envvar="LIGHTBULB_DIRECTORY", help="The current reviewed directory."),
]


@replay_commands.command("router")
def replay_router(
    keep: Keep = False,
    replace: Replace = False,
    directory: Folder = DIRECTORY,
    as_json: AsJson = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Rebuild the router's persons, cases, referrals and history, and compare them with the stored state.

    Every input is decided again, in the order applied, with its time, its edit, and the directory of that time; nothing is
    published. The router may run concurrently. Person keys that differ are printed; the exit code is then 1.

    Example:  lightbulb replay router
    """
    from infra.operations import replay_router as replaying

    with _progress(as_json) as progress:
        proof = run_coroutine(replaying.run(database_of(data), directory, progress, keep=keep, replace=replace))
    if as_json:
        console.print_json(data={"service": "router", "equal": proof.is_equal, "rate": proof.rate, **asdict(proof)})
    else:
        _print_proof(proof)
    raise typer.Exit(0 if proof.is_equal else 1)


@contextlib.contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[int, int], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=error_console, disable=quiet or not error_console.is_terminal) as shown:
        task = shown.add_task("replaying router", total=None)
        yield lambda done, of: shown.update(task, completed=done, total=of)


def _print_proof(proof: Proof) -> None:
    console.print(
        f"{proof.inputs:,} inputs replayed in {proof.seconds:.1f} s: {proof.rate:,.0f} inputs/s. "
        f"{proof.keys:,} person keys, checksum {proof.fingerprint}.",
        highlight=False,
    )
    if proof.left_out:
        console.print(
            f"{proof.left_out} person keys were not compared: the router was applying inputs for them. Repeat later."
        )
    for key, tables in proof.differing:
        console.print(f"  {key} differs in {', '.join(tables)}", highlight=False)
    console.print(f"[red]{len(proof.differing)} person keys differ.[/red]" if proof.differing else "Equal.")


# ---- republish ------------------------------------------------------------------------------------------------------


HubOption = Annotated[str, typer.Option("--hub", metavar="ID", help="The hub's id in infra/reference_data/hubs.yaml.")]
SinceOption = Annotated[
    str, typer.Option("--since", metavar="TIME", help="Time of the first event, such as 2026-10-01T00:00.")
]


def republish(
    hub: HubOption,
    since: SinceOption,
    who: Who = None,
    justification: Justification = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    directory: Folder = DIRECTORY,
    data: Data = DEFAULT_DATA,
) -> None:
    """Publish a hub's events again, for a hub that was offline for longer than its topic retains events.

    They keep their ids and bytes, and go to hub.ID.case in order for each case; new events follow. It is recorded who does it, and why.

    Example:  lightbulb republish --hub charnwood --since 2026-10-01T00:00 --dry-run
    """
    _check_hub(hub, directory)
    start = at(since, "--since")
    assert start is not None
    by = current_operator(who, justification)

    async def publishing(engine: AsyncEngine) -> RepublishSummary:
        return await (republishing.plan(engine, hub, start) if dry_run else republishing.run(engine, hub, start, by))

    summary = run(data, publishing)
    if as_json:
        console.print_json(data={"dry_run": dry_run, **asdict(summary)}, default=str)
    else:
        _print_republished(summary, hub, start, dry_run)


def _check_hub(hub: str, directory: Path) -> None:
    hub_ids = [each.id for each in directories.load(directory).hubs]
    if hub not in hub_ids:
        raise typer.BadParameter(f"expected one of {', '.join(hub_ids)}", param_hint="--hub")


def _print_republished(summary: RepublishSummary, hub: str, start: datetime, dry_run: bool) -> None:
    if not summary.events:
        console.print(f"There are no events for {hub} since {start:%Y-%m-%d %H:%M} (UTC): nothing is published again.")
        return
    span = f", from {summary.first:%Y-%m-%d %H:%M} to {summary.last:%Y-%m-%d %H:%M} (UTC)" if summary.first else ""
    verb = "would be" if dry_run else "will be"
    console.print(
        f"{summary.events:,} events about {summary.persons:,} persons {verb} published to hub.{hub}.case again{span}."
    )
