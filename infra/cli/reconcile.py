"""`lightbulb reconcile`."""

import contextlib
from collections.abc import Iterator
from dataclasses import asdict

import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.cli.options import AsJson, DryRun, Justification, Who, current_operator, run
from infra.cli.terminal import (
    DEFAULT_DATA,
    CommandError,
    Data,
    Directory,
    console,
    directory_of,
    error_console,
    kafka_of,
)
from infra.operations import reconcile as reconciling
from infra.operations.reconcile import ReconcileSummary
from infra.operations.reconcile.kafka import Report


def reconcile(
    dry_run: DryRun = False,
    who: Who = None,
    justification: Justification = None,
    as_json: AsJson = False,
    directory: Directory = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Compare PostgreSQL with what Kafka holds, after either was restored or lost records, and repair what is missing.

    What the database lacks is taken in from Kafka, for which all services must be stopped; what readers and hubs lack is published
    again. Repeating it is harmless. The exit code is 1 if something is missing after it, also in a dry run. Recorded.

    Example:  lightbulb reconcile --dry-run
    """
    by, address, folder = current_operator(who, justification), kafka_of(data), directory_of(data, directory)

    async def doing(engine: AsyncEngine) -> ReconcileSummary:
        with _progress(as_json) as report:
            return await reconciling.run(engine, address, folder, by, dry_run=dry_run, report=report)

    try:
        summary = run(data, doing)
    except reconciling.ServicesRun as error:
        raise CommandError(str(error)) from None
    if as_json:
        console.print_json(data={"dry_run": dry_run, **asdict(summary)})
    else:
        _print(summary, dry_run)
    raise typer.Exit(1 if summary.is_left(dry_run) else 0)


@contextlib.contextmanager
def _progress(quiet: bool) -> Iterator[Report]:
    with error_console.status("reading Kafka") as shown:
        yield (lambda *_: None) if quiet else (lambda what, done: shown.update(f"{what}: {done:,}"))


def _print(summary: ReconcileSummary, dry_run: bool) -> None:
    counts = {
        "events of referrals that intake lacks": summary.referral_events,
        "inputs that the router lacks": summary.router_inputs,
        "case events that the notifier lacks": summary.case_events,
        "outcomes of feedback that the notifier lacks": summary.feedback_outcomes,
        **{f"events missing on {topic}": count for topic, count in summary.published_again.items()},
    }
    for what, count in counts.items():
        if count:
            console.print(f"{count:>9,} {what}", highlight=False)
    if not any(counts.values()):
        console.print("Nothing is missing.")
    elif dry_run:
        console.print("Nothing was changed: repeat it without --dry-run.")
    else:
        console.print("Taken in, or to be published again. Start the services that are stopped.")
    if summary.gaps_resolved:
        console.print(f"{summary.gaps_resolved:,} reports of deleted records are resolved.", highlight=False)
    _print_lost(summary)


def _print_lost(summary: ReconcileSummary) -> None:
    if summary.differing:
        console.print(
            f"[red]{summary.differing:,} events were decided otherwise than Kafka has them: compare with the hubs.[/red]"
        )
    for topic, count in summary.lost_commands.items():
        console.print(
            f"[red]{count:,} commands on {topic} were deleted before they were read: ask the hub to send again what had no"
            " answer.[/red]"
        )
    for reference in summary.without_documents:
        console.print(f"[red]The documents of {reference} are lost: its sender has to send them again.[/red]")
