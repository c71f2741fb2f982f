"""`lightbulb up`: an installation in the foreground, until Ctrl-C."""

import threading
import time

from rich.console import Console
from rich.markup import escape

from infra.local import installation
from infra.local.embedded.supervisor import ProcessEvent
from infra.local.installation import Plan


def run(plan: Plan, console: Console) -> None:
    """Start `plan`, print the addresses, and wait. Ctrl-C stops everything."""
    started = time.monotonic()

    def report(doing: str) -> None:
        console.print(
            f"[dim]{time.monotonic() - started:5.1f} s[/dim]  {escape(doing)}", highlight=False, soft_wrap=True
        )

    def on_event(event: ProcessEvent) -> None:
        if event.is_for_users:
            console.print(f"[yellow]{escape(str(event))}[/yellow]", highlight=False, soft_wrap=True)

    running = installation.start(plan, report, on_event)
    try:
        print_addresses(running, console)
        threading.Event().wait()
    except KeyboardInterrupt:
        console.print("stopping")
    finally:
        running.stop()


def print_addresses(running: installation.Installation, console: Console) -> None:
    """Print the addresses, and where the credentials are."""
    for name in ("intake", "notifier", "kafka", "directory"):
        console.print(f"  {name:9} {running.addresses[name]}", highlight=False, soft_wrap=True)
    for kind, what in (("mllp", ""), ("adt_mllp", "ADT of ")):
        for partner, address in running.addresses[kind].items():
            console.print(f"  {'mllp':9} {address} (only for {what}{partner})", highlight=False)
    for name, address in running.addresses["metrics"].items():
        console.print(f"  {'metrics':9} {address} ({name})", highlight=False)
    console.print(
        f"  addresses and the demonstration partners' credentials: {running.plan.data / 'addresses.json'}",
        soft_wrap=True,
    )
    console.print("Ready. Ctrl-C stops everything.")
