"""The `lightbulb` command: the command line of the hub."""

import asyncio
import contextlib
import logging
import re
import signal
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

from infra.cli import find_command
from infra.cli.feedback import feedback_commands
from infra.cli.person import person_commands
from infra.cli.quarantine import quarantine_commands
from infra.cli.reconcile import reconcile
from infra.cli.replay import replay_commands, republish
from infra.cli.status import status
from infra.cli.terminal import (
    DEFAULT_DATA,
    DIRECTORY,
    CommandError,
    Data,
    Directory,
    addresses,
    console,
    database_of,
    defect,
    directory_of,
    error_console,
    kafka_of,
    translate_connection_errors,
)
from schemas.dates import in_england
from services.reference.yaml_files import ConfigIssue
from services.runtime import metrics


class _Commands(TyperGroup):
    """All commands: each raises CommandError for what comes from outside."""

    def invoke(self, ctx: Any) -> Any:
        with translate_connection_errors():
            return super().invoke(ctx)


app = typer.Typer(
    cls=_Commands,
    help="The referral hub of Lightbulb: run it, send messages to it, and trace a referral.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
directory_commands = typer.Typer(help="The reviewed data of infra/reference_data.", no_args_is_help=True)
app.add_typer(directory_commands, name="directory")
app.add_typer(feedback_commands, name="feedback")
app.add_typer(person_commands, name="person")
app.add_typer(quarantine_commands, name="quarantine")
app.add_typer(replay_commands, name="replay")
app.command()(republish)
app.command()(reconcile)
app.command(help=find_command.HELP)(find_command.find)
app.command()(status)


def _print_version(wanted: bool) -> None:
    if wanted:
        console.print(f"lightbulb {metrics.version()}", highlight=False)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    pass


Each = Annotated[
    int,
    typer.Option("--each", min=0, max=4, help="Processes of each service; 0: only the servers, as reconcile needs."),
]
Feedback = Annotated[
    list[str] | None,
    typer.Option("--feedback", metavar="ID=URL", help="FHIR endpoint for the feedback of a partner; repeatable."),
]


@app.command()
def up(
    data: Data = DEFAULT_DATA,
    ephemeral: Annotated[
        bool, typer.Option("--ephemeral", help="Use a temporary folder, and delete it at the end.")
    ] = False,
    each: Each = 1,
    brokers: Annotated[int, typer.Option("--brokers", help="Kafka brokers: 1 or 3.")] = 1,
    directory: Directory = None,
    feedback: Feedback = None,
) -> None:
    """Run everything on this machine: PostgreSQL, Apache Kafka, MESH sandbox, intake, router, notifier.

    Stops with Ctrl-C. What ends by itself is started again, and printed. Addresses and the demonstration partners'
    credentials are written to DIR/addresses.json. DIR/deployment.yaml is completed: what you write there stays, and so does
    an endpoint of --feedback. A port that another program uses is replaced, and printed.

    Example:  lightbulb up --data ~/lightbulb --feedback gp-alder-lane=http://127.0.0.1:8080/feedback
    """
    from infra.local import installation  # imports the embedded parts, which other commands do not need
    from infra.local import up as local_up

    if brokers not in (1, 3):
        raise typer.BadParameter("1 or 3", param_hint="--brokers")
    urls = dict(map(_feedback_url, feedback or ()))
    folder = installation.temporary_folder() if ephemeral else data
    plan = installation.Plan(folder, ephemeral, each, brokers, urls, directory or DIRECTORY)
    with _interruptible():
        local_up.run(plan, console)


def _feedback_url(text: str) -> tuple[str, str]:
    """Return the partner and the address in ID=URL."""
    name, _, url = text.partition("=")
    if not name or not re.fullmatch(r"https?://[^/\s]+(/\S*)?", url):
        raise typer.BadParameter("expected ID=URL, such as gp-alder-lane=https://host/path", param_hint="--feedback")
    return name, url


@app.command()
def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep everything running at the end, and print the addresses.")
    ] = False,
    details: Annotated[bool, typer.Option("--details", help="Show every step of every referral.")] = False,
) -> None:
    """Show the whole loop on embedded parts: referrals in, cases at their hubs, feedback to the referrers.

    Exits with 1 if an example does not end as its file in examples/ states.

    Example: lightbulb demo --keep
    """
    from infra.demo import run  # imports the embedded parts, which other commands do not need

    with _interruptible():
        raise typer.Exit(run.run(keep=keep, details=details, console=console))


Paths = Annotated[
    list[Path], typer.Argument(metavar="FILE|FOLDER", exists=True, help="Messages to send, or folders of them.")
]
Sender = Annotated[
    str | None,
    typer.Option("--sender", metavar="ID", help="Partner that sends; see infra/reference_data/partners.yaml."),
]
Http = Annotated[bool, typer.Option("--http", help="Send HL7 messages by HTTP to /hl7v2 instead of MLLP.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only report what a council's file would do; nothing is stored.")
]


@app.command()
def send(
    files: Paths, sender: Sender = None, http: Http = False, dry_run: DryRun = False, data: Data = DEFAULT_DATA
) -> None:
    """Send files to intake as a partner would, and print each response.

    The content decides the address: a FHIR message, an HL7 v2 message (over MLLP), a district council's CSV or .xlsx
    workbook, a form. Of a council's file every row that was refused, or received with a warning, is printed: its line,
    the column and the reason.

    Of a FOLDER, every .csv, .xlsx, .hl7 and .json file is sent, and the answer is written next to it: NAME.report.csv for
    a council's file (its own rows with three more columns), .report.json or .report.txt for others. Sending the folder
    again sends only what is new, has changed, was not answered, or has no report: delete a report to send its file again.
    What is sent twice is applied once. Left alone are files that changed in the last 5 seconds, and subfolders: let an
    export write to another name (such as NAME.part), and rename it. Reports contain personal data; only their owner can
    read them.

    Exits with 0 if everything that was sent was accepted, else with 1.

    \b
    Examples:
      lightbulb send examples/mrs-v.json --sender gp-alder-lane
      lightbulb send examples/mr-b.hl7 --http
      lightbulb send --dry-run examples/council-blaby.csv
      lightbulb send /exports/blaby
    """
    from infra.cli import send_command

    sending = send_command.send_all(files, addresses(data), by=sender, http=http, dry_run=dry_run)
    raise typer.Exit(0 if asyncio.run(sending) else 1)


@app.command()
def trace(
    reference: Annotated[str, typer.Argument(metavar="REFERENCE", help="Our reference, such as LB-7K3M-9Q2X-4TDW.")],
    data: Data = DEFAULT_DATA,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show where one referral is now, what it waits for, and its path from the sender's message to the feedback; no personal data.

    Example: lightbulb trace LB-7K3M-9Q2X-4TDW
    """
    from infra.operations import trace as tracing

    found = asyncio.run(tracing.path(database_of(data), reference))
    if not found.steps:
        raise CommandError(
            f"Referral {reference} was not found. References look like LB-7K3M-9Q2X-4TDW. `lightbulb find` finds one by the"
            " sender's own reference, an NHS number, a correlation id, a case, or a partner and a time."
        )
    console.print_json(data=found.as_dict()) if as_json else console.print(tracing.shown(found))


@app.command()
def migrate(
    data: Data = DEFAULT_DATA,
    replication: Annotated[int, typer.Option(min=1, help="Replication factor of the topics.")] = 1,
    directory: Directory = None,
) -> None:
    """Create or update the database schema, the services' roles, the postcodes and the Kafka topics for this version.

    Safe to repeat. Ends with the checks that the services make when they start, and exits with 1 if one fails: an existing topic
    is never changed.

    Uses LIGHTBULB_DATABASE, LIGHTBULB_KAFKA and LIGHTBULB_DIRECTORY if they are set, else the installation in --data.

    Example: LIGHTBULB_DATABASE=postgresql+asyncpg://... LIGHTBULB_KAFKA=... lightbulb migrate --replication 3
    """
    from infra.local import installation

    database, kafka, folder = database_of(data), kafka_of(data), directory_of(data, directory)
    installation.prepare(database, kafka, folder, replication=replication)
    names = asyncio.run(installation.check(database, kafka, folder, replication=replication))
    console.print(f"Database and topics are up to date: {len(names)} topics, for the hubs of {folder}.", soft_wrap=True)


CheckedFolder = Annotated[
    Path, typer.Argument(metavar="DIR", envvar="LIGHTBULB_DIRECTORY", help="The folder to check.")
]
Deployment = Annotated[
    Path | None,
    typer.Option(
        "--deployment", metavar="FILE", envvar="LIGHTBULB_DEPLOYMENT", help="Check this deployment.yaml with it."
    ),
]


@directory_commands.command("check")
def directory_check(
    folder: CheckedFolder = DIRECTORY,
    deployment: Deployment = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: a list of {file, line, place, what, fault}.")
    ] = False,
) -> None:
    """Check hubs, services, partners, forms, councils' mappings and texts; print each fault with its file and line.

    With --deployment also the partners that are named there, the files, and each channel that has no address. What has ended is
    printed as a notice; exits with 1 for faults only.

    Example: lightbulb directory check --deployment /etc/lightbulb/deployment.yaml
    """
    from infra.operations import directory_check as checking

    if not folder.is_dir():
        raise CommandError(f"{folder} is not a folder.")
    issues = checking.find_issues(folder, deployment)
    notices = [] if issues else checking.find_notices(folder, in_england(datetime.now(UTC)))
    if as_json:
        found = [*(asdict(one) | {"fault": one in issues} for one in (*issues, *notices))]
        console.print_json(data=found, default=str)
    else:
        _print_issues(folder, issues, notices)
    if issues:
        raise CommandError(f"{len(issues)} fault(s) in {folder}{f' and {deployment}' if deployment else ''}.")


def _print_issues(folder: Path, issues: Sequence[ConfigIssue], notices: Sequence[ConfigIssue]) -> None:
    for line in [*map(str, issues), *(f"notice: {one}" for one in notices)]:
        error_console.print(escape(line), highlight=False, soft_wrap=True)
    if not issues:
        console.print(f"{folder}: no fault found.", soft_wrap=True)


@app.command()
def fetch() -> None:
    """Download the embedded parts that are not Python packages (Apache Kafka's jars), and check their SHA-256.

    `make` runs it. Example: lightbulb fetch
    """
    from infra.local.embedded import jars

    jars.class_path()


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM end the command as Ctrl-C does: in order, with everything that it started stopped."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    yield


def main() -> None:
    """Run the command line.

    Exit codes: 0 done, 1 refused or failed with one line on stderr, 2 wrong usage, 130 interrupted.
    """
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())  # what it warns of, each command says itself
    try:
        app(standalone_mode=True)
    except KeyboardInterrupt:
        error_console.print("Stopped.")
        raise SystemExit(130) from None
    except Exception as error:
        text = str(error) if isinstance(error, CommandError) else defect(error)
        error_console.print(f"[red]{escape(text)}[/red]", highlight=False, soft_wrap=True)
        raise SystemExit(1) from None
