"""`lightbulb demo`: the whole loop on embedded parts, with hubs and a GP system as separate processes.

The result is read at the recipients (inboxes, mailboxes, topics, intake's responses), not taken from what was sent.
"""

import asyncio
import contextlib
import json
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.markup import escape

from infra.demo import examples as example_files
from infra.demo import table
from infra.demo.collectors import ObservationCollector
from infra.demo.examples import Example, ExampleStep
from infra.demo.observations import Observations, differences, reference_of
from infra.local import installation, up
from infra.local.embedded import ports_and_secrets
from infra.local.embedded.supervisor import ProcessEvent
from infra.local.installation import Installation, Plan
from infra.partner_simulators import send
from services.reference import partners
from services.runtime.settings import CHECKOUT

GP = "gp-alder-lane"
"""The practice whose system receives feedback over HTTP."""

HUBS = (
    "blaby",
    "charnwood",
    "harborough",
    "hinckley-bosworth",
    "melton:accept,book",
    "nw-leicestershire",
    "oadby-wigston",
    "triage",
    "hospital-housing:accept,confirm-death",
    "hospital-housing-bradgate:accept",
)
"""The simulated hubs and their scripts.

Each works its cases to the end, except Melton, which only books visits, and the hospital teams, which hold a case
until the hospital reports a discharge; one of them confirms a death that the hospital reports.
"""

TIMEOUT_SECONDS = 150.0
QUIET_SECONDS = 12.0
STABLE_SECONDS = 1.5
"""Time limits: for the whole run; without a new observation; after the last one, if all is as expected."""

WIDE = 150
"""Columns of the table if the output is not a terminal."""

SIMULATORS = Path(__file__).parents[1] / "partner_simulators"


@dataclass
class DemoRun:
    """One run: the responses and the observations."""

    running: Installation
    examples: Sequence[Example]
    watch: ObservationCollector
    console: Console
    answers: dict[str, dict[int, send.SendResult]] = field(default_factory=dict)

    @property
    def observations(self) -> Observations:
        return self.watch.observations

    def is_as_expected(self) -> bool:
        return not table.reasons(self.examples, self.answers, self.observations)

    async def play(self, example: Example) -> None:
        """Send an example's files in order, each after the feedback and the event that it waits for."""
        results = self.answers.setdefault(example.name, {})
        for number, step in enumerate(example.expected.steps):
            await self._wait_until_due(example, step)
            results[number] = await self._sent(example, step)
            if step.dry_run:
                self.console.print(results[number].line(), highlight=False, soft_wrap=True)
            self.observations.changes += 1

    async def _sent(self, example: Example, step: ExampleStep) -> send.SendResult:
        """Return the response to a file; send it again, as a partner's system would, while intake is not available.

        A duplicate after such a repeat counts as accepted.
        """
        is_resend = False
        while True:
            file, addresses = example.file(step.send), self.running.addresses
            [answer] = await send.send([file], step.by, addresses, dry_run=step.dry_run)
            if answer.outcome != "unavailable":
                return replace(answer, outcome="accepted") if is_resend and answer.outcome == "duplicate" else answer
            is_resend = True
            await asyncio.sleep(1)

    async def _wait_until_due(self, example: Example, step: ExampleStep) -> None:
        """Wait until the sender of the step's `of` file has its `after` feedback, and a hub its `after_event`."""
        of = step.of or example.expected.steps[0].send
        by = next(one.by for one in example.expected.steps if one.send == of)
        expected = {one for one in (step.after, step.after_event) if one}
        while expected:
            path = self.observations.paths.get(reference_of(example, of, self.answers[example.name]) or "")
            if path and expected <= {one.label for one in path.feedbacks_for(by)} | {
                one.kind for one in path.hub_observations
            }:
                return
            await asyncio.sleep(0.1)

    async def until_ended(self) -> None:
        """Return when all is as expected and stays so, when nothing new is observed, or at the time limit."""
        end = time.monotonic() + TIMEOUT_SECONDS
        changes, since = -1, time.monotonic()
        while time.monotonic() < end:
            if self.observations.changes != changes:
                changes, since = self.observations.changes, time.monotonic()
            quiet = time.monotonic() - since
            if quiet > QUIET_SECONDS or (quiet > STABLE_SECONDS and self.is_as_expected()):
                await self.watch.sweep()
                if self.observations.changes == changes:
                    return
            await asyncio.sleep(0.1)


def run(*, keep: bool, details: bool, console: Console, folder: Path = example_files.EXAMPLES) -> int:
    """Return 0 if every example ended as its file states, else 1; with `keep` wait for Ctrl-C before stopping all."""
    examples = example_files.load(folder)
    started = time.monotonic()

    def report(doing: str) -> None:
        console.print(
            f"[dim]{time.monotonic() - started:5.1f} s[/dim]  {escape(doing)}", highlight=False, soft_wrap=True
        )

    def on_event(event: ProcessEvent) -> None:
        if event.is_for_users:
            console.print(f"[yellow]{escape(str(event))}[/yellow]", highlight=False)

    gp_port = ports_and_secrets.free_ports(1)[0]
    everything = installation.start(_plan(gp_port), report, on_event)
    try:
        report("starting the simulated hubs (Kafka) and the simulated GP system (HTTP)")
        start_simulators(everything, examples, gp_port)
        report(f"sending {len(examples)} examples from {_short(folder)}")
        code = asyncio.run(perform(everything, examples, console, details=details))
        report("done" if code == 0 else "finished with differences from the expected files")
        if keep:
            _keep(everything, console)
        return code
    finally:
        everything.stop()


def _plan(gp_port: int) -> Plan:
    return Plan(
        installation.temporary_folder(),
        ephemeral=True,
        feedback_urls={GP: f"http://{ports_and_secrets.HOST}:{gp_port}/"},
        environment={"LIGHTBULB_OVERDUE_SECONDS": "1"},
    )


def _keep(everything: Installation, console: Console) -> None:
    """Print the addresses, and wait for Ctrl-C."""
    up.print_addresses(everything, console)
    for what, file in (("hubs", "hubs.jsonl"), ("GP system", "gp.jsonl")):
        console.print(
            f"  received by the simulated {what}: {everything.plan.data / file}", highlight=False, soft_wrap=True
        )
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


def _short(folder: Path) -> str:
    return str(folder.relative_to(CHECKOUT)) if folder.is_relative_to(CHECKOUT) else str(folder)


def start_simulators(everything: Installation, examples: Sequence[Example], gp_port: int) -> None:
    """Start the simulated hubs in one process and the simulated GP system in another, from their script files."""
    data = everything.plan.data
    (data / "visits.json").write_text(json.dumps(example_files.visits(list(examples))))
    hubs = [word for hub in HUBS for word in ("--hub", hub)]
    files = ["--log", str(data / "hubs.jsonl"), "--visits", str(data / "visits.json")]
    kafka = ["--kafka", everything.addresses["kafka"]]
    everything.start_process("simulated-hubs", [sys.executable, str(SIMULATORS / "hub.py"), *kafka, *hubs, *files])
    token = ["--token-file", str(data / f"feedback-token-{GP}")]
    inbox = ["--inbox", str(data / "gp.jsonl"), "--fail-first", "3"]
    endpoint = ["--port", str(gp_port), *token, *inbox]
    everything.start_process("simulated-gp-system", [sys.executable, str(SIMULATORS / "gp_system.py"), *endpoint])


async def perform(
    everything: Installation, examples: Sequence[Example], console: Console, *, details: bool = False
) -> int:
    """Send the examples to a running installation, and show the outcome."""
    data = everything.plan.data
    all_partners = partners.load(everything.plan.directory, None)
    watch = ObservationCollector(everything.addresses, data / "hubs.jsonl", data / "gp.jsonl", GP, list(all_partners))
    performance = DemoRun(everything, examples, watch, console)
    watching = asyncio.create_task(watch.run())
    playing = [asyncio.create_task(performance.play(example)) for example in examples]
    try:
        async with _drawing(performance, console):
            ended = asyncio.create_task(performance.until_ended())
            await asyncio.wait([watching, ended], return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                watching.result()
    finally:
        for task in (watching, *playing):
            task.cancel()
        await asyncio.gather(watching, *playing, return_exceptions=True)
    return _print_result(performance, console, details=details)


@contextlib.asynccontextmanager
async def _drawing(performance: DemoRun, console: Console) -> AsyncIterator[None]:
    """Show the table live on a terminal; otherwise print a line for each example that ends as expected."""
    drawing = asyncio.create_task(
        _draw(performance, console) if console.is_terminal else _print_progress(performance, console)
    )
    try:
        yield
    finally:
        drawing.cancel()
        await asyncio.gather(drawing, return_exceptions=True)


async def _draw(performance: DemoRun, console: Console) -> None:
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            drawn = table.page(performance.examples, performance.answers, performance.observations, final=False)
            live.update(drawn, refresh=True)
            await asyncio.sleep(0.25)


async def _print_progress(performance: DemoRun, console: Console) -> None:
    waiting = list(performance.examples)
    while waiting:
        for example in list(waiting):
            answers = performance.answers.get(example.name, {})
            if answers and not differences(example, answers, performance.observations):
                waiting.remove(example)
                console.print(f"  {example.name}: as expected", highlight=False)
        await asyncio.sleep(0.25)


def _print_result(performance: DemoRun, console: Console, *, details: bool) -> int:
    examples, answers, observations = performance.examples, performance.answers, performance.observations
    if details:
        for example in examples:
            steps = table.steps(example, answers.get(example.name, {}), observations)
            console.print(*steps, sep="\n", highlight=False, soft_wrap=True)
    page = console if console.is_terminal else Console(file=console.file, width=max(console.width, WIDE))
    page.print(table.page(examples, answers, observations, final=True))
    failures = table.reasons(examples, answers, observations)
    for line in failures:
        console.print(f"[red]{escape(line)}[/red]", highlight=False, soft_wrap=True)
    return 1 if failures else 0
