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
from infra.cli.terminal import DEFAULT_DATA, Data, Directory, console, database_of, directory_of, error_console
from infra.operations import republish as republishing
from infra.operations.replay import Proof
from infra.operations.republish import RepublishSummary
from schemas.topics import CASE_EVENT, REFERRAL_EVENT, hub_case
from services.reference import directory as directories

replay_commands = typer.Typer(
    help="Rebuild a service's state from its stored inputs, and compare it with the stored state.", no_args_is_help=True
)

Keep = Annotated[bool, typer.Option("--keep", help="Keep the rebuilt tables, in the schema replay_router.")]
Replace = Annotated[bool, typer.Option("--replace", help="Drop the tables that an earlier --keep left.")]


@replay_commands.command("router")
def replay_router(
    keep: Keep = False,
    replace: Replace = False,
    directory: Directory = None,
    as_json: AsJson = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Rebuild the router's persons, cases, referrals and history, and compare them with the stored state.

    Every input is decided again, in the order applied, with its time, its edit, and the directory of that time; nothing is
    published. The router may run concurrently. Person keys that differ are printed; the exit code is then 1.

    Example:  lightbulb replay router
    """
    from infra.operations import replay_router as replaying

    folder = directory_of(data, directory)
    with _progress(as_json) as progress:
        proof = run_coroutine(replaying.run(database_of(data), folder, progress, keep=keep, replace=replace))
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


HubOption = Annotated[
    str | None, typer.Option("--hub", metavar="ID", help="The hub's id in infra/reference_data/hubs.yaml.")
]
TopicOption = Annotated[
    str | None, typer.Option("--topic", metavar="TOPIC", help="referral.event or case.event, instead of a hub.")
]
SinceOption = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="Time of the first event, such as 2026-10-01T00:00.")
]


def republish(
    hub: HubOption = None,
    topic: TopicOption = None,
    since: SinceOption = None,
    who: Who = None,
    justification: Justification = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    directory: Directory = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Publish events again: a hub's, if it was offline for longer than its topic retains them, or those of an internal topic.

    Ids, bytes and order stay. Of referral.event and case.event only what router or notifier lacks, unless --since is given. Recorded.

    Example:  lightbulb republish --hub charnwood --since 2026-10-01T00:00 --dry-run
    """
    named = _topic(hub, topic, since, directory_of(data, directory))
    start = at(since, "--since")
    by = current_operator(who, justification)

    async def publishing(engine: AsyncEngine) -> RepublishSummary:
        return await (
            republishing.plan(engine, named, start) if dry_run else republishing.run(engine, named, start, by)
        )

    _print_republished(run(data, publishing), start, dry_run, as_json)


def _topic(hub: str | None, topic: str | None, since: str | None, directory: Path) -> str:
    """Return the topic whose events are published again."""
    if (hub is None) == (topic is None):
        raise typer.BadParameter("give either --hub or --topic", param_hint="--hub")
    if hub is None:
        if topic not in (REFERRAL_EVENT, CASE_EVENT):
            raise typer.BadParameter(f"expected {REFERRAL_EVENT} or {CASE_EVENT}", param_hint="--topic")
        return topic
    hub_ids = [each.id for each in directories.load(directory).hubs]
    if hub not in hub_ids:
        raise typer.BadParameter(f"expected one of {', '.join(hub_ids)}", param_hint="--hub")
    if since is None:
        raise typer.BadParameter("is needed with --hub", param_hint="--since")
    return hub_case(hub)


def _print_republished(summary: RepublishSummary, start: datetime | None, dry_run: bool, as_json: bool) -> None:
    if as_json:
        console.print_json(data={"dry_run": dry_run, **asdict(summary)}, default=str)
        return
    if not summary.events:
        which = f"since {start:%Y-%m-%d %H:%M} (UTC)" if start else "that its reader lacks"
        console.print(f"There are no events of {summary.topic} {which}: nothing is published again.")
        return
    span = f", from {summary.first:%Y-%m-%d %H:%M} to {summary.last:%Y-%m-%d %H:%M} (UTC)" if summary.first else ""
    verb = "would be" if dry_run else "will be"
    console.print(
        f"{summary.events:,} events about {summary.persons:,} persons {verb} published to {summary.topic} again{span}."
    )
