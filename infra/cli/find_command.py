"""The `lightbulb find` command."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.padding import Padding
from rich.text import Text

from infra.cli.options import AsJson, Justification, Since, Until, Who, between, current_operator, run
from infra.cli.terminal import DEFAULT_DATA, CommandError, Data, console, error_console
from infra.operations import find as searching
from infra.operations.audit_log import Operator
from infra.operations.find import SearchFilters, SearchHit, SearchResult, WrongSecret
from schemas import nhs_number
from services.runtime import settings

Limit = Annotated[
    int, typer.Option("--limit", min=1, max=1000, metavar="N", help="How many at most, the latest first.")
]
ReferenceOption = Annotated[
    str | None,
    typer.Option("--reference", metavar="TEXT", help="A name that looks like an NHS number and is none."),
]
NhsNumberOption = Annotated[
    bool, typer.Option("--nhs-number", help="Ask for an NHS number without showing it, or read it from standard input.")
]
Name = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME", help="A reference (ours or the sender's), a correlation id or a case id.", show_default=False
    ),
]
Partner = Annotated[str | None, typer.Option("--partner", metavar="ID", help="Only what this partner sent.")]


HELP = """\
Find referrals: by a name, by NHS number, or (messages, refused ones too) by partner and time; no personal data.

NAME is compared whole: our reference, the sender's own reference in any case of letters, a correlation id, or the id
of a case. A search by NHS number finds the referrals whose first message had it, and is recorded with --who (default:
the user who is logged in) and --why. The number is never an argument, which other users and the shell's history
would see. Family names and birth dates cannot be searched: no column holds them in plain text.

Exits with 0, also if nothing was found.

\b
Examples:
  lightbulb find FCP-2026-11834
  lightbulb find --nhs-number --who "A. Operator" --why "the practice asked"
  lightbulb find --partner gp-alder-lane --since 2026-11-23T08:00
"""


def find(
    name: Name = None,
    nhs: NhsNumberOption = False,
    reference: ReferenceOption = None,
    partner: Partner = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 20,
    who: Who = None,
    justification: Justification = None,
    as_json: AsJson = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Find referrals or messages."""
    filters, named = SearchFilters(partner, *between(since, until), limit), _name(name, reference)
    if sum((name is not None, reference is not None, nhs)) > 1 or not (named or nhs or partner or since or until):
        raise typer.BadParameter(
            "give one of NAME, --reference, --nhs-number, or --partner and times alone", param_hint="NAME"
        )
    found = _by_number(data, filters, current_operator(who, justification)) if nhs else _by_name(data, filters, named)
    _print(found, limit, as_json=as_json)


def _by_name(data: Path, filters: SearchFilters, named: str | None) -> SearchResult:
    if named is None:
        return run(data, lambda engine: searching.messages(engine, filters))
    return run(data, lambda engine: searching.by_name(engine, named, filters))


def _by_number(data: Path, filters: SearchFilters, by: Operator) -> SearchResult:
    secret, number = _secret(data), _ask_for_number()
    try:
        return run(data, lambda engine: searching.by_nhs_number(engine, secret, number, filters, by))
    except WrongSecret:
        raise CommandError(
            "The secret is not the one that this database was initialised with: set LIGHTBULB_SECRET_FILE to that of the services."
        ) from None


def _name(name: str | None, reference: str | None) -> str | None:
    if name is not None and nhs_number.is_valid(nhs_number.normalise(name)):
        raise typer.BadParameter(
            "this has the form of an NHS number, which the shell's history now holds: search with --nhs-number, which asks"
            " for it. If it is a reference, give it as --reference.",
            param_hint="NAME",
        )
    return reference if reference is not None else name


def _ask_for_number() -> str:
    """Read an NHS number from the terminal without showing it, or from standard input. Raise BadParameter."""
    is_terminal = sys.stdin.isatty()
    given = typer.prompt("NHS number", hide_input=True) if is_terminal else sys.stdin.readline().strip()
    number = nhs_number.normalise(given)
    if not nhs_number.is_valid(number):
        raise typer.BadParameter("not a valid NHS number: ten digits with a check digit", param_hint="--nhs-number")
    return number


def _secret(data: Path) -> bytes:
    """Return the secret of LIGHTBULB_SECRET_FILE, else that of the installation in `data`. Raises FileRefused."""
    return settings.read_secret(Path(settings.from_environment("secret_file") or data / "secret"))


def _print(found: SearchResult, limit: int, *, as_json: bool) -> None:
    if as_json:
        console.print_json(data=found.as_dict())
        return
    for hit in found.hits:
        console.print(Text(_first_line(hit)), Padding(Text(_second_line(hit)), (0, 0, 0, 2), expand=False))
    if not found.hits:
        console.print("Nothing was found.")
    if found.more:
        error_console.print(f"There are more than {limit}: raise --limit, or narrow the search.", highlight=False)


def _first_line(hit: SearchHit) -> str:
    return f"{hit.reference or 'no reference':19}  {hit.received_at:%Y-%m-%d %H:%M:%S}  {hit.partner}"


def _second_line(hit: SearchHit) -> str:
    message = f"{hit.format}: {hit.verdict}" if hit.verdict else str(hit.format)
    if hit.reference is None:
        return message
    status = hit.status or "not decided on yet"
    hubs = (
        f"; holder {hit.holder or 'none'}, home hub {hit.home_hub or 'undecided'}; case {hit.case_id}"
        if hit.case_id
        else ""
    )
    return f"{message}; {status}{hubs}"
