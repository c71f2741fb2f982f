"""Measure an installation with simulated hubs and a practice's system: `python -m bench.loop`.

First until the practice has received the home hub, without hubs; then until it has received `completed`, with simulated hubs on Kafka.
Prints rates, latencies and each process's CPU time. Everything runs on this machine and shares its cores with the load.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import machine
from bench.load import percentile
from infra.local import installation
from infra.local.embedded import ports_and_secrets
from infra.local.installation import Installation, Plan
from services.reference import directory
from services.runtime.settings import CHECKOUT

PRACTICE = "gp-alder-lane"
FEEDBACK_TIMEOUT_SECONDS = 240.0
console = Console(width=120)


@dataclass(frozen=True)
class BenchmarkResult:
    """One run: posts, received feedback, and the CPU seconds of each process by name."""

    name: str
    posts: Sequence[dict[str, Any]]
    inbox_lines: Sequence[dict[str, Any]]
    final_type: str
    seconds: float
    cpu: dict[str, float]

    @property
    def count(self) -> int:
        return len(self.posts)

    def completion_times(self) -> dict[str, float]:
        """Return the time of each referral's final feedback, by correlation id."""
        return {
            line["correlation_id"]: _time(line)
            for line in self.inbox_lines
            if line.get("feedback_type") == self.final_type
        }

    def lost(self) -> int:
        return len({post["id"] for post in self.posts} - self.completion_times().keys())

    def repeated(self) -> int:
        deliveries = Counter(
            (line["correlation_id"], line["bundle_id"]) for line in self.inbox_lines if "bundle_id" in line
        )
        repeats = sum(1 for line in self.inbox_lines if line.get("duplicate"))
        return repeats + sum(times - 1 for times in deliveries.values())


def _time(line: dict[str, Any]) -> float:
    return datetime.fromisoformat(line["at"]).timestamp()


@contextmanager
def _system(work: Path) -> Iterator[tuple[Installation, Path, Path]]:
    """Yield (installation, the practice's inbox, its token file), with the simulated GP system running."""
    [port] = ports_and_secrets.free_ports(1)
    urls = {PRACTICE: f"http://{ports_and_secrets.HOST}:{port}/"}
    plan = Plan(
        work / "data",
        ephemeral=True,
        feedback_urls=urls,
        environment={"LIGHTBULB_LOG_LEVEL": "WARNING", "LIGHTBULB_MESSAGES_PER_SECOND": "100000"},
    )
    running = installation.start(plan)
    inbox = work / "gp.jsonl"
    token = work / "token"
    token.write_text(running.addresses["partners"][PRACTICE]["token"])
    try:
        running.start_process("gp-system", gp_command(work, port, inbox))
        yield running, inbox, token
    finally:
        running.stop()


def gp_command(work: Path, port: int, inbox: Path) -> list[str]:
    """Return the command of the practice's simulated system; its data folder is `work / "data"`."""
    script = str(CHECKOUT / "infra/partner_simulators/gp_system.py")
    token_file = str(work / "data" / f"feedback-token-{PRACTICE}")
    options = ["--fast", "--port", str(port), "--inbox", str(inbox), "--token-file", token_file]
    return [sys.executable, script, *options]


def _start_hubs(running: Installation) -> None:
    hubs = [word for hub in directory.load(running.plan.directory).hubs for word in ("--hub", hub.id)]
    script = str(CHECKOUT / "infra/partner_simulators/hub.py")
    running.start_process("hubs", [sys.executable, script, "--fast", "--kafka", running.addresses["kafka"], *hubs])


def measure(
    running: Installation, inbox: Path, token: Path, args: argparse.Namespace, name: str, last: str
) -> BenchmarkResult:
    """Post the referrals, wait for the final feedback of each, and return the result."""
    before, offset, out = _cpu(running), inbox.stat().st_size if inbox.exists() else 0, inbox.with_name(f"{name}.jsonl")
    options = {"--url": running.addresses["intake"], "--token-file": token, "--count": args.count, "--out": out}
    options |= {"--connections": args.connections, "--run": f"{name} {time.time()}"}
    spent = _post(options)
    posts = [json.loads(line) for line in out.read_text().splitlines()]
    inbox_lines = wait_for_feedback(inbox, offset, {post["id"] for post in posts}, last)
    after = _cpu(running)
    ended = max((_time(line) for line in inbox_lines if line.get("feedback_type") == last), default=time.time())
    first = min(post["at"] for post in posts)
    cpu = {process: after[process] - before.get(process, 0.0) for process in after} | {"load": spent}
    return BenchmarkResult(name, posts, inbox_lines, last, ended - first, cpu)


def _post(options: dict[str, Any]) -> float:
    """Post the referrals, and return the CPU seconds of the process that did it."""
    command = [sys.executable, "-m", "bench.load", *(str(word) for pair in options.items() for word in pair)]
    done = subprocess.run(command, input="go\n", stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit("the load process failed; its error is above")
    return float(json.loads(done.stdout.splitlines()[-1])["cpu"])


def wait_for_feedback(inbox: Path, offset: int, ids: set[str], last: str) -> list[dict[str, Any]]:
    """Return the inbox's lines after `offset` once these conversations have received `last`, or after FEEDBACK_TIMEOUT_SECONDS."""
    deadline = time.monotonic() + FEEDBACK_TIMEOUT_SECONDS
    while True:
        lines = _lines(inbox, offset)
        if ids <= {line.get("correlation_id") for line in lines if line.get("feedback_type") == last}:
            return lines
        if time.monotonic() > deadline:
            return lines
        time.sleep(0.25)


def _lines(inbox: Path, offset: int) -> list[dict[str, Any]]:
    if not inbox.exists():
        return []
    with inbox.open() as file:
        file.seek(offset)
        whole, _, _ = file.read().rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


def _cpu(running: Installation) -> dict[str, float]:
    """Return the CPU seconds so far, by process; a server's children are included."""
    own = {name: child.pid for name, child in running.supervisor.children.items()}
    brokers = {
        f"kafka {at}": broker.child.pid for at, broker in enumerate(running.parts.kafka.brokers, 1) if broker.child
    }
    servers = {"postgres": running.parts.postgres.child.pid, **brokers}
    return {name: machine.cpu_seconds(pid) for name, pid in {**own, **servers}.items()}


def _row(run: BenchmarkResult) -> tuple[str, ...]:
    took = [post["took"] * 1000 for post in run.posts]
    ends = run.completion_times()
    loop = [(ends[post["id"]] - post["at"]) * 1000 for post in run.posts if post["id"] in ends]
    posting = max(post["at"] + post["took"] for post in run.posts) - min(post["at"] for post in run.posts)
    messages = sum(1 for line in run.inbox_lines if "bundle_id" in line)
    return (
        run.name,
        f"{run.count / run.seconds:,.0f}",
        f"{run.count / posting:,.0f}",
        f"{messages / run.count:.1f}",
        f"{percentile(took, 0.5):.0f} / {percentile(took, 0.99):.0f}",
        f"{percentile(loop, 0.5):.0f} / {percentile(loop, 0.99):.0f}",
        f"{run.lost()} / {run.repeated()}",
    )


def _show(runs: Sequence[BenchmarkResult]) -> None:
    table = Table(title="Whole loop", title_justify="left")
    columns = (
        "run",
        "referrals/s",
        "POST only/s",
        "feedbacks each",
        "POST p50/p99 ms",
        "loop p50/p99 ms",
        "lost / repeated",
    )
    for column in columns:
        table.add_column(column, justify="left" if column == "run" else "right")
    for run in runs:
        table.add_row(*_row(run))
    console.print(table)
    cost = Table(title="CPU microseconds per referral", title_justify="left")
    cost.add_column("process")
    for run in runs:
        cost.add_column(run.name, justify="right")
    for process in sorted({name for run in runs for name in run.cpu}):
        cost.add_row(process, *(f"{run.cpu.get(process, 0.0) / run.count * 1e6:,.0f}" for run in runs))
    cost.add_row("all", *(f"{sum(run.cpu.values()) / run.count * 1e6:,.0f}" for run in runs))
    console.print(cost)


def _for_warm_up(args: argparse.Namespace) -> argparse.Namespace:
    return argparse.Namespace(**{**vars(args), "count": min(300, args.count)})


def _runs(args: argparse.Namespace) -> list[BenchmarkResult]:
    with (
        tempfile.TemporaryDirectory(prefix="lightbulb-bench-") as work,
        _system(Path(work)) as (running, inbox, token),
    ):
        measure(running, inbox, token, _for_warm_up(args), "warm", "home-hub")
        console.print("[dim]until each referrer has received the home hub[/dim]")
        first = measure(running, inbox, token, args, "home hub", "home-hub")
        _start_hubs(running)
        conversations = {line["correlation_id"] for line in first.inbox_lines if "correlation_id" in line}
        wait_for_feedback(inbox, 0, conversations, "completed")
        console.print("[dim]until each has received completed[/dim]")
        return [first, measure(running, inbox, token, args, "completed", "completed")]


def main() -> None:
    """Run the benchmark. Exit with 1 if anything was lost or repeated."""
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--count", type=int, default=1000, help="referrals of each run (at most 20,000)")
    reader.add_argument("--connections", type=int, default=64, help="connections that post (at most 128)")
    args = reader.parse_args()
    console.print(f"{args.count} referrals over {args.connections} connections; {machine.state()}", highlight=False)
    runs = _runs(args)
    _show(runs)
    raise SystemExit(1 if any(run.lost() or run.repeated() for run in runs) else 0)


if __name__ == "__main__":
    main()
