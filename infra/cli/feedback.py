"""The `lightbulb feedback` commands: list, show, resend."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
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
    Justification,
    Personal,
    Reason,
    Who,
    between,
    current_operator,
    named_operator,
    run,
    show_one,
)
from infra.cli.terminal import DEFAULT_DATA, Data, console, error_console
from infra.operations import feedback as operations
from infra.operations.audit_log import Operator
from infra.operations.feedback import FeedbackFilters, FeedbackRow, PlannedResend

feedback_commands = typer.Typer(
    help="Feedback to referrers: list what is waiting, failed or not fetched, show it, send it again.",
    no_args_is_help=True,
)

Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID...", help="Feedback, such as LB-7K3M-9Q2X-4TDW:1f3a9c2e.", show_default=False),
]
Partner = Annotated[str | None, typer.Option("--partner", metavar="ID", help="Feedback to this partner, or ods:CODE.")]
Channel = Annotated[str | None, typer.Option("--channel", metavar="NAME", help="fhir, mesh or mailbox.")]
Reference = Annotated[str | None, typer.Option("--reference", metavar="REFERENCE", help="Feedback on this referral.")]
Since = Annotated[str | None, typer.Option("--since", metavar="TIME", help="Composed at or after this time.")]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Composed before this time.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=1000, metavar="N", help="How many, the oldest first.")]


@feedback_commands.command("list")
def list_feedback(
    failed: Annotated[bool, typer.Option("--failed", help="What failed finally.")] = False,
    waiting: Annotated[bool, typer.Option("--waiting", help="What is not delivered yet.")] = False,
    unfetched: Annotated[bool, typer.Option("--unfetched", help="What is kept, and was not fetched.")] = False,
    partner: Partner = None,
    channel: Channel = None,
    reference: Reference = None,
    since: Since = None,
    until: Until = None,
    reason: Reason = None,
    limit: Limit = 100,
    as_json: AsJson = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """List feedback with its state and reason; no personal data.

    Without --failed, --waiting or --unfetched: what failed or is waiting; of a --reference, all.

    Example: lightbulb feedback list --failed --partner gp-alder-lane --since 2026-11-23
    """
    states = _states(failed=failed, waiting=waiting, unfetched=unfetched, reference=reference)
    filters = replace(_filters(partner, channel, reference, since, until, reason), states=states)
    found = run(data, lambda engine: operations.find(engine, filters, limit))
    if as_json:
        console.print_json(data={"feedback": [row.as_dict() for row in found.rows], "more": found.has_more})
        return
    console.print(_listed(found.rows) if found.rows else "No matching feedback.")
    _print_more(found.has_more, limit)


@feedback_commands.command()
def show(
    row: Annotated[str, typer.Argument(metavar="ID", help="A feedback, such as LB-7K3M-9Q2X-4TDW:1f3a9c2e.")],
    personal: Personal = False,
    who: Who = None,
    justification: Justification = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Show one feedback as JSON, with its attempts and the operators' actions. Values of personal fields are masked.

    Example: lightbulb feedback show LB-7K3M-9Q2X-4TDW:1f3a9c2e --personal --who "A. Operator" --why "the practice asked"
    """
    by = named_operator(who, justification, "--personal") if personal else None
    show_one(data, row, operations.named, operations.show, by)


@feedback_commands.command()
def resend(
    ids: Ids = None,
    all_of_them: Annotated[bool, typer.Option("--all", help="All failed feedback that matches the filters.")] = False,
    partner: Partner = None,
    channel: Channel = None,
    reference: Reference = None,
    since: Since = None,
    until: Until = None,
    reason: Reason = None,
    limit: Limit = 1000,
    who: Who = None,
    justification: Justification = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Send failed feedback again, with the same ids and bytes, before later feedback on that referral. Safe to repeat.

    Feedback that was accepted is sent again only by its ID. Recorded with --who (by default the user who is logged in) and --why.

    Example: lightbulb feedback resend --all --partner gp-alder-lane --reason "gave up" --why "new address" --dry-run
    """
    filters = _filters(partner, channel, reference, since, until, reason)
    if bool(ids) == all_of_them or (ids and filters != FeedbackFilters()):
        raise typer.BadParameter("give ids, or --all (filters narrow it), not both", param_hint="ID...")
    failed, by = replace(filters, states=("failed",)), current_operator(who, justification)
    planned, has_more = run(data, partial(_resent, ids=ids, failed=failed, limit=limit, by=by, dry_run=dry_run))
    _print_plan(planned, dry_run=dry_run, as_json=as_json)
    _print_more(has_more, limit)


# ---- shared by the commands -----------------------------------------------------------------------------------------


async def _resent(
    engine: AsyncEngine, *, ids: Sequence[str] | None, failed: FeedbackFilters, limit: int, by: Operator, dry_run: bool
) -> tuple[list[PlannedResend], bool]:
    """Plan, and unless it is a dry run resend. Return the plan, and whether more matches."""
    rows, has_more = (
        (await operations.named(engine, ids), False) if ids else await operations.find(engine, failed, limit)
    )
    planned = operations.plan_resend(rows)
    if not dry_run:
        await operations.resend(engine, planned, by)
    return planned, has_more


def _states(*, failed: bool, waiting: bool, unfetched: bool, reference: str | None) -> tuple[str, ...]:
    chosen = {"failed": failed, "waiting": waiting, "kept": unfetched}
    if any(chosen.values()):
        return tuple(state for state, is_chosen in chosen.items() if is_chosen)
    return operations.STATES if reference else ("failed", "waiting")


def _filters(
    partner: str | None,
    channel: str | None,
    reference: str | None,
    since: str | None,
    until: str | None,
    reason: str | None,
) -> FeedbackFilters:
    if channel is not None and channel not in ("fhir", "mesh", "mailbox"):
        raise typer.BadParameter("expected fhir, mesh or mailbox", param_hint="--channel")
    first, last = between(since, until)
    return FeedbackFilters(
        partner=partner,
        channel=channel,
        reference=reference and reference.upper(),
        since=first,
        until=last,
        reason=reason,
    )


def _print_more(has_more: bool, limit: int) -> None:
    if has_more:
        error_console.print(
            f"There are more than {limit}: raise --limit, narrow the filters, or repeat.", highlight=False
        )


def _print_plan(planned: Sequence[PlannedResend], *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        console.print_json(data={"dry_run": dry_run, "planned": [one.as_dict() for one in planned]})
        return
    if not planned:
        console.print("No matching feedback. Nothing was changed.")
        return
    shown = Table(
        box=None, header_style="bold", title="Nothing was changed." if dry_run else None, title_justify="left"
    )
    for column in ("id", "to", "what", "why"):
        shown.add_column(column, overflow="fold")
    for one in planned:
        shown.add_row(*map(escape, (one.row.name, one.row.recipient, one.what, one.because)))
    console.print(shown)


def _listed(rows: Sequence[FeedbackRow]) -> Group:
    """Return two lines or more for each row: what it is, and why it waits or failed."""
    head = Text(f"{'id':27}{'composed (UTC)':18}{'state':10}what", style="bold")
    return Group(head, *(part for row in rows for part in _lines(row)))


def _lines(row: FeedbackRow) -> tuple[Text, Padding]:
    why = "; ".join(filter(None, (row.reason, row.held_by and f"waits for {row.held_by}")))
    to = f"to {row.recipient} ({row.channel})" + (f": {why}" if why else "")
    return Text(f"{row.name:26} {row.composed_at:%Y-%m-%d %H:%M}  {row.state:9} {row.feedback_type}"), Padding(
        Text(to), (0, 0, 0, 2), expand=False
    )
