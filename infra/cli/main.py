"""The `lightbulb` command: the command line of the hub."""

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from infra.cli.person import person_commands
from infra.cli.quarantine import quarantine_commands
from infra.cli.reconcile import reconcile
from infra.cli.replay import replay_commands, republish
from infra.cli.terminal import (
    DEFAULT_DATA,
    CommandError,
    Data,
    addresses,
    console,
    database_of,
    error_console,
    kafka_of,
    translate_connection_errors,
)
from services.runtime.settings import CHECKOUT

app = typer.Typer(
    help="The referral hub of Lightbulb: run it, send messages to it, and trace a referral.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
directory_commands = typer.Typer(help="The reviewed data of infra/reference_data.", no_args_is_help=True)
app.add_typer(directory_commands, name="directory")
app.add_typer(person_commands, name="person")
app.add_typer(quarantine_commands, name="quarantine")
app.add_typer(replay_commands, name="replay")
app.command()(republish)
app.command()(reconcile)


@app.command()
def up(
    data: Data = DEFAULT_DATA,
    ephemeral: Annotated[
        bool, typer.Option("--ephemeral", help="Use a temporary folder, and delete it at the end.")
    ] = False,
    each: Annotated[int, typer.Option("--each", min=1, max=4, help="Processes of each service.")] = 1,
    brokers: Annotated[int, typer.Option("--brokers", help="Kafka brokers: 1 or 3.")] = 1,
) -> None:
    """Run everything on this machine: PostgreSQL, Apache Kafka, MESH sandbox, intake, router, notifier.

    Stops with Ctrl-C. Addresses and the demonstration partners' credentials are written to DIR/addresses.json.

    Example:  lightbulb up --data ~/lightbulb
    """
    from infra.local import installation  # imports the embedded parts, which other commands do not need
    from infra.local import up as local_up

    if brokers not in (1, 3):
        raise typer.BadParameter("1 or 3", param_hint="--brokers")
    folder = installation.temporary_folder() if ephemeral else data
    with _interruptible():
        local_up.run(installation.Plan(folder, ephemeral=ephemeral, each=each, brokers=brokers), console)


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
def status(
    data: Data = DEFAULT_DATA,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show counts, consumer lag, what waits, and the oldest feedback that is not delivered.

    Example: lightbulb status --json
    """
    from infra.operations import status as status_report

    with translate_connection_errors():
        position = asyncio.run(status_report.position(database_of(data), kafka_of(data)))
    console.print_json(data=position) if as_json else console.print(status_report.table(position))


@app.command()
def trace(
    reference: Annotated[str, typer.Argument(metavar="REFERENCE", help="Our reference, such as LB-7K3M-9Q2X-4TDW.")],
    data: Data = DEFAULT_DATA,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show one referral's path from the sender's message to the feedback, with times and reasons; no personal data.

    Example: lightbulb trace LB-7K3M-9Q2X-4TDW
    """
    from infra.operations import trace as tracing

    with translate_connection_errors():
        steps = asyncio.run(tracing.path(database_of(data), reference))
    if not steps:
        raise CommandError(f"Referral {reference} was not found. References look like LB-7K3M-9Q2X-4TDW.")
    console.print_json(data=[step.as_dict() for step in steps]) if as_json else console.print(
        tracing.table(reference, steps)
    )


@app.command()
def migrate(
    data: Data = DEFAULT_DATA,
    replication: Annotated[int, typer.Option(min=1, help="Replication factor of new topics.")] = 1,
) -> None:
    """Create or update the database schema, the services' roles, the postcodes and the Kafka topics for this version.

    Safe to repeat.

    Uses LIGHTBULB_DATABASE and LIGHTBULB_KAFKA if they are set, else the installation in --data.

    Example: LIGHTBULB_DATABASE=postgresql+asyncpg://... LIGHTBULB_KAFKA=... lightbulb migrate --replication 3
    """
    from infra.database.roles import RolesMissing
    from infra.local import installation

    try:
        installation.prepare(database_of(data), kafka_of(data), installation.DIRECTORY, replication=replication)
    except RolesMissing as error:
        raise CommandError(str(error)) from None
    console.print("Database and topics are up to date.")


@directory_commands.command("check")
def directory_check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to check.")] = CHECKOUT
    / "infra"
    / "reference_data",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: a list of {file, line, place, what}.")] = False,
) -> None:
    """Check hubs, services, partners, forms, councils' mappings and texts; print each fault with its file and line.

    Example: lightbulb directory check
    """
    from infra.operations import directory_check as checking

    issues = checking.find_issues(folder)
    for issue in () if as_json else issues:
        error_console.print(escape(str(issue)), highlight=False, soft_wrap=True)
    if as_json:
        console.print_json(data=[asdict(issue) for issue in issues], default=str)
    elif not issues:
        console.print(f"{folder}: no fault found.", soft_wrap=True)
    if issues:
        raise CommandError(f"{len(issues)} fault(s) in {folder}.")


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
    try:
        app(standalone_mode=True)
    except KeyboardInterrupt:
        error_console.print("Stopped.")
        raise SystemExit(130) from None
    except Exception as error:
        if not _is_expected(error):
            raise
        error_console.print(f"[red]{escape(str(error))}[/red]", highlight=False, soft_wrap=True)
        raise SystemExit(1) from None


def _is_expected(error: Exception) -> bool:
    """Return whether the error's text is meant for the user."""
    from infra.local.embedded.process import StartFailed
    from services.messaging.broker import TopicsDiffer
    from services.reference.yaml_files import ConfigError

    return isinstance(error, CommandError | StartFailed | TopicsDiffer | ConfigError)


if __name__ == "__main__":
    main()
