"""Run the hub and a bare relay with the same guarantees in turns, on the same embedded PostgreSQL and Kafka: `make bench`.

From POST to feedback, with FHIR conformance checked in full; the bare relay validates nothing. Prints referrals/s, CPU time of a referral
by part and latencies, and what the hub costs as a multiple of the relay. Everything shares the cores of this machine with the load.
`python -m bench.loop` measures an installation with simulated hubs, until referrals are completed.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import asyncpg
from rich.console import Console
from rich.table import Table

from bench import machine
from bench.peer.run import TOKEN
from infra.local.embedded import kafka, ports_and_secrets, postgres
from infra.local.embedded.kafka import Kafka
from infra.local.embedded.postgres import Postgres
from services.runtime.settings import CHECKOUT

PEERS = {"hub": CHECKOUT / "bench" / "peer", "bare relay": CHECKOUT / "bench" / "bare_relay"}
PARTS = ("intake", "router", "notifier", "postgres", "kafka", "load")
NO_CHECKPOINT = {"checkpoint_timeout": "1h", "max_wal_size": "8GB"}
"""One checkpoint before each warm-up; none falls into a run."""

STOP_SECONDS = 30.0
console = Console(width=140)


@dataclass(frozen=True)
class Run:
    """What the load generator measured, and the CPU seconds of each part; `others`: of programs that are not part of the run."""

    peer: str
    connections: int
    load: Mapping[str, Any]
    cpu: Mapping[str, float]
    others: float

    @property
    def rate(self) -> float:
        """Referrals per second."""
        return float(self.load["count"] / self.load["seconds"])

    def microseconds(self, part: str) -> float:
        """Return the CPU time of a part for a referral."""
        return self.cpu[part] / float(self.load["count"]) * 1e6

    def is_faulty(self) -> bool:
        """Return whether feedback was lost or repeated, or a message was refused."""
        accepted = set(self.load["statuses"]) <= {"200", "409"}
        return bool(self.load["lost"] or self.load["repeated"]) or not accepted


@dataclass(frozen=True)
class Servers:
    """The servers that every peer uses in turn."""

    postgres: Postgres
    kafka: Kafka

    def pids(self) -> dict[str, int]:
        [broker] = self.kafka.brokers
        assert broker.child is not None
        return {"postgres": self.postgres.child.pid, "kafka": broker.child.pid}

    def new_database(self) -> str:
        """Return the URL of an empty database, after a checkpoint."""

        async def create() -> None:
            connection = await asyncpg.connect(self.postgres.url.replace("+asyncpg", ""))
            for statement in ("drop database if exists bench with (force)", "create database bench", "checkpoint"):
                await connection.execute(statement)
            await connection.close()

        asyncio.run(create())
        return self.postgres.url.replace("+asyncpg", "").rpartition("/")[0] + "/bench"


@contextmanager
def _servers(folder: Path) -> Iterator[Servers]:
    with ExitStack() as stack:
        server = postgres.start(folder, settings=NO_CHECKPOINT)
        stack.callback(server.stop)
        cluster = kafka.start(folder)
        stack.callback(cluster.stop)
        yield Servers(server, cluster)


@dataclass(frozen=True)
class Peer:
    """A running peer: the ports of its intake and of the sink for its feedback, and its processes."""

    name: str
    loop_port: int
    sink_port: int
    pids: Mapping[str, int]


@contextmanager
def _peer(name: str, servers: Servers) -> Iterator[Peer]:
    """Start a peer on an empty database by the contract of bench/peer/README.md, and stop it."""
    loop_port, sink_port = ports_and_secrets.free_ports(2)
    given = {
        "LOOP_PORT": str(loop_port),
        "SINK_URL": f"http://{ports_and_secrets.HOST}:{sink_port}/feedback",
        "KAFKA_BOOTSTRAP": servers.kafka.bootstrap,
        "PG_TCP_DSN": servers.new_database(),
    }
    process = subprocess.Popen(["./start"], cwd=PEERS[name], env=os.environ | given, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        ready = process.stdout.readline().split()
        if not ready:
            raise SystemExit(f"{name} ended before it was ready")
        yield Peer(
            name, loop_port, sink_port, {part: int(pid) for part, _, pid in (w.partition("=") for w in ready[1:])}
        )
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)


def _measure(peer: Peer, servers: Servers, count: int, connections: int, run: str, token: Path) -> Run:
    """Post the referrals, and wait until the feedback of each has come."""
    options = {
        "--url": f"http://{ports_and_secrets.HOST}:{peer.loop_port}",
        "--sink-port": peer.sink_port,
        "--token-file": token,
        "--count": count,
        "--connections": connections,
        "--run": f"{peer.name} {run}",
    }
    command = [sys.executable, "-m", "bench.load", *(str(word) for pair in options.items() for word in pair)]
    pids = {**peer.pids, **servers.pids()}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as load:
        assert load.stdin is not None
        assert load.stdout is not None
        load.stdout.readline()
        before = machine.spent(pids)
        load.stdin.write("go\n")
        load.stdin.flush()
        result = json.loads(load.stdout.readline() or "{}")
        spent = machine.spent(pids).since(before)
    if not result:
        raise SystemExit("the load generator failed; its error is above")
    cpu = {**spent.processes, "load": result["cpu"]}
    return Run(peer.name, connections, result, cpu, max(0.0, spent.machine - sum(cpu.values())))


# ---- printing -------------------------------------------------------------------------------------------------------


def _show(runs: Sequence[Run]) -> None:
    """Print every run, then the medians of both peers and the hub's as a multiple of the relay's."""
    title = "CPU microseconds of a referral, by part; milliseconds (median, 99th percentile); cores that others used"
    table = Table(title=title, title_justify="left")
    for column in ("run", "referrals/s", *PARTS, "all", "POST", "feedback", "others"):
        table.add_column(column, justify="left" if column == "run" else "right")
    for run in sorted(runs, key=lambda one: (one.connections, one.peer)):
        table.add_row(f"{run.peer}, C={run.connections}", *_figures(run))
    console.print(table)
    for connections in sorted({run.connections for run in runs}):
        hub, relay = ([one for one in runs if (one.connections, one.peer) == (connections, name)] for name in PEERS)
        if hub and relay:
            console.print(f"C={connections}: {_ratio(hub, relay)}", highlight=False)


def _figures(run: Run) -> list[str]:
    parts = [run.microseconds(part) for part in PARTS]
    latencies = [f"{run.load[name][0]:,.0f} / {run.load[name][1]:,.0f}" for name in ("post_ms", "feedback_ms")]
    others = f"{run.others / run.load['seconds']:.2f}"
    return [f"{run.rate:,.1f}", *(f"{one:,.0f}" for one in (*parts, sum(parts))), *latencies, others]


def _ratio(hub: Sequence[Run], relay: Sequence[Run]) -> str:
    """Return what the hub costs as a multiple of the relay, by the medians of their runs; without the load."""
    costs = [[median(one.microseconds(part) for one in of) for part in PARTS[:-1]] for of in (hub, relay)]
    rates = [median(one.rate for one in of) for of in (hub, relay)]
    parts = ", ".join(
        f"{part} {mine / theirs:.1f}" for part, mine, theirs in zip(PARTS, *costs, strict=False) if theirs
    )
    return f"a referral costs {sum(costs[0]) / sum(costs[1]):.1f} times the bare relay's ({parts}); {rates[0] / rates[1]:.2f} of its rate"


def main() -> None:
    """Run the benchmark. Exit with 1 if anything was lost, repeated or refused."""
    reader = argparse.ArgumentParser(prog="make bench", description=__doc__)
    reader.add_argument("--count", type=int, default=3000, help="referrals of each run (at most 20,000)")
    reader.add_argument("--connections", default="32,128", help="connections that post, by comma")
    reader.add_argument("--runs", type=int, default=2, help="how often each peer is started, in turns")
    reader.add_argument("--warm-up", type=int, default=1000, help="referrals before the runs of a peer, not measured")
    reader.add_argument("--only", choices=PEERS, help="run one of the two")
    args = reader.parse_args()
    console.print(f"{args.count} referrals a run; {machine.state()}", highlight=False)
    runs: list[Run] = []
    with tempfile.TemporaryDirectory(prefix="lightbulb-bench-") as work, _servers(Path(work)) as servers:
        token = Path(work) / "token"
        token.write_text(TOKEN)
        for number in range(args.runs):
            for name in PEERS if args.only is None else [args.only]:
                with _peer(name, servers) as peer:
                    _measure(peer, servers, args.warm_up, 32, f"{number} warm", token)
                    for connections in map(int, args.connections.split(",")):
                        runs.append(_measure(peer, servers, args.count, connections, f"{number} {connections}", token))
                        console.print(f"[dim]{name}, C={connections}: {runs[-1].rate:,.1f} referrals/s[/dim]")
    _show(runs)
    console.print(f"at the end: {machine.state()}", highlight=False)
    raise SystemExit(1 if any(run.is_faulty() for run in runs) else 0)


if __name__ == "__main__":
    main()
