"""`lightbulb status`: what the hub has done, what waits, and what is wrong."""

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from infra.cli.options import AsJson
from infra.cli.terminal import (
    DEFAULT_DATA,
    CommandError,
    Data,
    console,
    database_of,
    deployment_of,
    kafka_of,
    translate_connection_errors,
)
from infra.operations import ends as endings
from infra.operations import status as status_report
from infra.operations import status_check
from infra.operations.status_check import Limits, Problem

DEFAULTS = Limits()


def _limit(name: str, unit: str, what: str) -> Any:
    return typer.Option(name, metavar=unit, min=0, help=f"With --check: {what} 0: not checked.")


Late = Annotated[
    float,
    _limit("--late", "MINUTES", "how long an event may wait to be published, applied or decided."),
]
MaxLag = Annotated[int, _limit("--lag", "RECORDS", "how many records the router or the notifier may be behind.")]
Unaccepted = Annotated[float, _limit("--unaccepted", "DAYS", "how long a hub may have a case without accepting it.")]
FeedbackLate = Annotated[float, _limit("--feedback", "HOURS", "how long feedback may wait to be delivered.")]
UnreadBy = Annotated[float, _limit("--unread", "HOURS", "how long an event may wait for a hub's system.")]
Ends = Annotated[float, _limit("--ends", "DAYS", "how long a certificate or token must still be valid.")]


def status(
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
    check: Annotated[
        bool, typer.Option("--check", help="Print only what is wrong; exit with 1 if anything is.")
    ] = False,
    late: Late = DEFAULTS.late_minutes,
    lag: MaxLag = DEFAULTS.lag,
    unaccepted: Unaccepted = DEFAULTS.unaccepted_days,
    feedback: FeedbackLate = DEFAULTS.feedback_hours,
    unread: UnreadBy = DEFAULTS.unread_hours,
    ends: Ends = DEFAULTS.ends_days,
) -> None:
    """Show counts, what waits longest and where, what waits for hubs, and what ends soon.

    With --check, for cron: one line for each thing that is wrong, with what to do, and nothing if all is well.

    \b
    Examples:
      lightbulb status --json
      lightbulb status --check --unaccepted 5
    """
    if check:
        _check(data, Limits(late, lag, unaccepted, feedback, unread, ends), as_json=as_json)
        return
    position = asyncio.run(status_report.position(database_of(data), kafka_of(data), deployment_of(data)))
    console.print_json(data=position) if as_json else console.print(status_report.table(position))


def _check(data: Path, limits: Limits, *, as_json: bool) -> None:
    found = asyncio.run(_problems(data, limits))
    if as_json:
        console.print_json(data=[asdict(one) for one in found])
    for one in () if as_json else found:
        console.print(str(one), markup=False, highlight=False, soft_wrap=True)
    if found:
        raise typer.Exit(1)


async def _problems(data: Path, limits: Limits) -> list[Problem]:
    """Return what is wrong; a server that does not answer is one thing, and the rest is judged."""
    url, kafka = database_of(data), kafka_of(data)
    services, readers = await asyncio.gather(_in_postgresql(url), status_report.on_kafka(kafka))
    position = status_report.assembled({} if isinstance(services, Problem) else services, readers)
    return [
        *([services] if isinstance(services, Problem) else ()),
        *(
            [Problem("kafka", f"does not answer ({readers})", "start it; see LIGHTBULB_KAFKA")]
            if isinstance(readers, str)
            else ()
        ),
        *status_check.problems({**position, "ends": endings.ends(deployment_of(data))}, limits),
    ]


async def _in_postgresql(url: str) -> dict[str, status_report.Part] | Problem:
    try:
        with translate_connection_errors():
            return await status_report.in_postgresql(url)
    except CommandError as error:
        return Problem("database", "cannot be asked", str(error))
