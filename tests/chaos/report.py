"""Writes docs/reliability.md from the results file: `python -m tests.chaos.report`. What is there was measured, or said not to be."""

import argparse
import json
import platform
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from tests.chaos.planted import BUGS
from tests.chaos.run import RESULTS
from tests.chaos.seed import CATALOGUE

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
Result = dict[str, Any]

ABOUT = """\
# Nothing accepted is lost, applied twice or out of order: how it is shown

`make chaos SEEDS=1..100` plays seeds against a whole installation: Apache Kafka, PostgreSQL, the MESH sandbox, **two processes of each
service**, a wire that can be cut on every edge. One integer decides everything: who is referred by whom (BaRS messages of three practices
and of First Contact, forms, a trust's HL7 v2 over MLLP with and without a stay, a council's CSV; with and without NHS number; two sources
for one person), updates, cancels, repeats, conflicts, the hubs' commands (also repeated, impossible ones, and some from the wrong hub), and
which faults happen when. One person's inputs go in the seed's order, each after the effect of the one before was seen; persons go side by
side. Every fourth seed races one person's inputs instead. Each seed that does not race is played twice, without faults and with them. Then faults stop, everything drains, and a checker that shares
no code with the services reads every answer, PostgreSQL, every topic and every place where feedback arrives.

| | must hold |
|---|---|
| I1 | every acknowledged referral is one referral of one case; nothing is in quarantine but what the seed poisoned |
| I2 | nothing is applied twice: a message makes one version, an event has one number, a command one effect |
| I3 | the numbers of each person key on `case.event` are 1..n, first occurrences without gap or inversion; so are the versions of (hub, case) on each hub's topic |
| I4 | what was in an outbox when the faults stopped is published 10 s later, and after the drain everything is |
| I5 | every feedback that the design's table demands was composed, and has arrived in order for each referral, at the right place only; it failed only where the seed planted that |
| I6 | what was never acknowledged is consistent where it is there |
| I7 | no lag, no open transaction; no process has grown in memory, files or connections |
| I8 | the final state is the same with faults as without (seeds that do not race) |
"""  # noqa: E501 - rows of a table

NOT_COVERED = """\
## What is not covered

- All forms but First Contact's, all councils but Blaby, and Leicestershire Partnership's dialect of HL7 v2: a seed uses one of each kind.
- A machine or a disk that dies, and a clock that is set back under PostgreSQL or Kafka: every part runs on one machine.
- Failover of PostgreSQL to a standby: a killed server comes back with its own data.
- A network that delivers packets in part of the directions only; the wires cut, hang or slow a connection as a whole.
- A partner's token or a directory that changes while faults happen; operators' commands (resubmit, replay, republish) under faults.
- A seed is the same plan only as long as tests/chaos/seed.py stands as it is: new faults or messages give every seed another plan.
- Hours of running: an installation serves a dozen seeds, and is then thrown away. Memory, files and connections are compared over these.
- Full disks are small tmpfs mounts; where they cannot be mounted (no root), these two faults do nothing. A full disk halts a broker: it is
  started again once there is room.
- Recovery times contain the load of this machine, on which services, brokers, database, senders and checker share the cores.
"""


def page(results: Sequence[Result]) -> str:
    """The whole page."""
    honest = [result for result in results if not result["planted"]]
    parts = [ABOUT, *_figures(honest), *_recovery(honest), *_planted(results), NOT_COVERED]
    return "\n".join(parts)


def newest(results: Iterable[Result]) -> list[Result]:
    """A seed that was played again counts once: as it went last."""
    return list({(r["seed"], r["brokers"], r["planted"]): r for r in results}.values())


def _figures(results: Sequence[Result]) -> Iterator[str]:
    yield "## Measured\n"
    yield f"On {datetime.now(UTC):%d %B %Y}, {platform.machine()}, Python {platform.python_version()}, two shared cores.\n"
    yield "| brokers | seeds | of them racing | referrals | messages | commands | faults | answers lost after their effect | violations |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for brokers in sorted({result["brokers"] for result in results}):
        some = [result for result in results if result["brokers"] == brokers]
        sums = [sum(result[name] for result in some) for name in ("referrals", "messages", "commands")]
        yield (
            f"| {brokers} | {len(some)} | {sum(r['races'] for r in some)} | {' | '.join(f'{one:,}' for one in sums)} "
            f"| {sum(len(r['faults']) for r in some)} | {sum(r['lost_replies'] for r in some)} "
            f"| {sum(len(r['violations']) for r in some)} |"
        )
    seconds = [result["seconds"] for result in results]
    if seconds:
        yield f"\nA seed took {median(seconds):.0f} s (median), {max(seconds):.0f} s at most; both of its runs together.\n"
    failed = [result for result in results if result["violations"]]
    for result in failed:
        yield f"- seed {result['seed']}, {result['brokers']} brokers: {result['violations'][0]}"


def _recovery(results: Sequence[Result]) -> Iterator[str]:
    yield "\n## Recovery\n"
    yield "Seconds from the end of a fault until all inputs that waited then, or came in the next second, had their effect at the hub\n"
    yield "(a few tenths without any fault); counted where no other fault came between.\n"
    yield "| fault | times | counted | median s | worst s |"
    yield "|---|---|---|---|---|"
    times = Counter(fault.partition(" (")[0] for result in results for fault in result["faults"])
    seconds: dict[str, list[float]] = defaultdict(list)
    for result in results:
        for name, each in result["recoveries"].items():
            seconds[name] += each
    for name in CATALOGUE:
        found = seconds[name]
        shown = f"{len(found)} | {median(found):.1f} | {max(found):.1f}" if found else "0 | - | -"
        yield f"| {name} | {times[name]} | {shown} |"


def _planted(results: Sequence[Result]) -> Iterator[str]:
    yield "\n## Planted bugs\n"
    yield "Each guard is taken away in a service's own process (tests/chaos/planted.py); the checker must say so.\n"
    yield "| guard taken away | bug | caught by |"
    yield "|---|---|---|"
    for name, bug in BUGS.items():
        of_it = [result for result in results if result["planted"] == name]
        caught = sorted({violation[:2] for result in of_it for violation in result["violations"]})
        yield f"| {bug.guard} | {name} | {', '.join(caught) or ('**missed**' if of_it else 'not run')} |"
    yield ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    lines = [json.loads(line) for line in given.results.read_text().splitlines()]
    PAGE.write_text(page(newest(lines)))


if __name__ == "__main__":
    main()
