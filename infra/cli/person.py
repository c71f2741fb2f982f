"""The `lightbulb person` commands: doubts."""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from infra.cli.options import AsJson, run
from infra.cli.terminal import DEFAULT_DATA, Data, console, error_console
from infra.operations import doubts as tracing_list
from infra.operations.doubts import TracingEntry

person_commands = typer.Typer(
    help="Persons whose identity is in doubt: list them for tracing.",
    no_args_is_help=True,
)

Limit = Annotated[
    int, typer.Option("--limit", min=1, max=1000, metavar="N", help="How many entries, the oldest first.")
]


def _known(doubt: str | None) -> str | None:
    if doubt is not None and doubt not in tracing_list.DOUBTS:
        raise typer.BadParameter(f"one of {', '.join(tracing_list.DOUBTS)} is expected")
    return doubt


DoubtFilter = Annotated[
    str | None, typer.Option("--doubt", metavar="DOUBT", callback=_known, help="Only persons with this doubt.")
]


_HELP = """\
List persons in doubt, the oldest doubt first, with their cases and the hubs that have them; no personal data.

Only the hubs named read who the person is, in their events.

\b
Doubts:
  no-number            the referral has no NHS number
  number-failed-check  the number that was sent fails its check digit
  does-not-match       another person under the same number has another birth date or surname
  number-changed       an update has another NHS number
  no-longer-matches    after an update the person does not match the other referrals
  contradicted         a message described another person, and was not applied
  merge-proposed       the hospital merged two of its patient records

Exits with 0, also if there are none.

\b
Examples:
  lightbulb person doubts
  lightbulb person doubts --doubt contradicted --json
"""


@person_commands.command(help=_HELP)
def doubts(
    doubt: DoubtFilter = None,
    ended: Annotated[bool, typer.Option("--ended", help="Include persons whose cases have all ended.")] = False,
    limit: Limit = 100,
    as_json: AsJson = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """List persons in doubt."""
    found = run(data, lambda engine: tracing_list.find(engine, limit=limit, doubt=doubt, ended=ended))
    if as_json:
        console.print_json(data=found.as_dict())
        return
    console.print(_table(found.entries) if found.entries else "No person is in doubt.")
    if found.has_more:
        error_console.print(f"There are more than {limit}: raise --limit, or name a --doubt.", highlight=False)


def _table(entries: Sequence[TracingEntry]) -> Table:
    shown = Table(box=None, header_style="bold")
    for column in ("person", "since (UTC)", "doubts", "cases", "hubs"):
        shown.add_column(column, overflow="fold")
    for one in entries:
        cases = "\n".join(case.case_id if case.is_open else f"{case.case_id} (ended)" for case in one.cases)
        person = f"{one.person_key}/{one.person_no}"
        cells = (person, f"{one.since:%Y-%m-%d %H:%M}", ", ".join(one.doubts), cases, ", ".join(one.hubs))
        shown.add_row(*map(escape, cells))
    return shown
