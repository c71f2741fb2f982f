"""Writes docs/reliability.md from the results file: `python -m tests.chaos.report`. What is there was measured, or said not to be."""

import argparse
import platform
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tests.chaos import results
from tests.chaos.growth import WARM
from tests.chaos.mutants import MUTANTS
from tests.chaos.results import RESULTS, Result
from tests.chaos.schedule import CATALOGUE

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"

ABOUT = """\
# Nothing accepted is lost, applied twice or out of order: how it is shown

`make chaos SEEDS=100` plays a hundred seeds against a whole installation: Apache Kafka (every tenth seed on three brokers), PostgreSQL,
the MESH sandbox, **two processes of each service**, a wire that can be cut on every edge. One integer decides who is referred by whom, in
which format, with which updates, cancels, repeats and conflicts; what the hubs command (some of it impossible, repeated or from the wrong
hub); and which faults happen when: three to five that overlap, and when all that they held up is done, one that stands alone. One person's
inputs go in the seed's order, each after the effect of the one before was seen; persons go side by side. Every fourth seed races one
person's inputs instead. The others are played twice, without faults and with them. Then everything drains, and a checker that shares no
code with the services reads every answer, PostgreSQL, every topic and every place where feedback arrives. The services'
tables are read as a black-box oracle: `tests/chaos/db_probe.py` holds the SQL, and nothing else of the harness knows a table.

Who sends: three practices and First Contact by BaRS; all five forms, asked by practices, nurses, coordinators, the persons themselves and
their carers; both trusts by HL7 v2, over MLLP and over HTTP, with a stay (which ends), and without; all seven councils' files, also with
other people's rows in them. Beside new referrals and updates: cancels, repeats of each, other content under the same ids, messages made
before the one that is held, cancels of what never came, and messages that their format refuses. Every two sources for one person, in both
orders; numbers that are traced or not, that fail their check, or none; people of all districts, outside the county, in the restricted unit.

| | must hold |
|---|---|
| I1 | every acknowledged referral is one referral of one case, and of what was refused nothing but the kept message is there; nothing is in quarantine but what the seed poisoned |
| I2 | nothing is applied twice: a message makes one version, an event has one number, a command one effect |
| I3 | the numbers of each person key on `case.event` are 1..n, first occurrences without gap or inversion; so are the versions of (hub, case) on each hub's topic |
| I4 | what was in an outbox when the faults stopped is published 10 s later, and after the drain everything is |
| I5 | every feedback that the table [Who hears what](architecture.md#who-hears-what) demands was composed, and has arrived in order for each referral, at the right place only; it failed only where the seed wants that; nobody but hospitals and the hub that takes over is told of a stay, and nobody of one in the restricted unit |
| I6 | what was never acknowledged is consistent where it is there |
| I7 | no lag, no open transaction; no process has grown in memory, files or connections |
| I8 | the final state is the same with faults as without (seeds that do not race) |
"""  # noqa: E501 - rows of a table

NOT_COVERED = """\
## What is not covered

- Where inputs race, the four councils whose rows hold no time of change send one thing only: by such rows nobody can tell what is newer.
- A practice that is no partner (MESH finds it by the person), and documents that come with a message.
- A machine or a disk that dies, and a clock that is set back under PostgreSQL or Kafka: every part runs on one machine.
- Failover of PostgreSQL to a standby: a killed server comes back with its own data.
- A network that delivers packets in part of the directions only; the wires cut, hang or slow a connection as a whole.
- A partner's token or a directory that changes while faults happen; operators' commands (resubmit, replay, republish) under faults.
- A seed is the same plan only as long as tests/chaos/seed.py and schedule.py stand as they are: other messages give every seed another.
- Days of running: an installation serves twenty seeds at most, and is then thrown away.
- Full disks are small tmpfs mounts; where they cannot be mounted (no root), these two faults do nothing. A full disk halts a broker: it is
  started again once there is room.
- Recovery times contain the load of this machine, on which services, brokers, database, senders and checker share the cores.
"""

IT_FOUND = """
## What it has found

Each is mended, with a test of its own.

- A case without a home hub (a stay at the restricted unit, where nobody can say which hub is home) was kept, and could not be read again.
- A batch that needed more time than its transaction may take, under load, was tried again whole, without end. It goes in halves now.
- The MESH sandbox lost one of two first messages that came at once (infra/local/embedded/mesh_server.py).
- The demonstration's hub took a command for sent that Kafka had given up after 40 s.
"""


def page(found: Sequence[Result]) -> str:
    """The whole page."""
    honest = [result for result in found if not result.mutant]
    parts = [ABOUT, *_figures(honest), *_faults(honest), *_growth(honest), *_mutants(found), IT_FOUND, NOT_COVERED]
    return "\n".join(parts)


def _played(found: Sequence[Result]) -> str:
    """When, and what."""
    days = sorted({result.at[:16].replace("T", " ") for result in found})
    codes = list(dict.fromkeys(result.code for result in found))
    return f"{days[0]} to {days[-1]} UTC, on commit {', '.join(codes)}" if days else "not played"


def _figures(found: Sequence[Result]) -> Iterator[str]:
    yield "## Measured\n"
    yield f"{_played(found)}; {platform.machine()}, Python {platform.python_version()}, two shared cores.\n"
    yield "| brokers | seeds | of them racing | referrals | messages | commands | faults | answers lost after their effect | violations |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for brokers in sorted({result.brokers for result in found}):
        some = [result for result in found if result.brokers == brokers]
        sums = [sum(counts) for counts in zip(*((r.referrals, r.messages, r.commands) for r in some), strict=True)]
        yield (
            f"| {brokers} | {len(some)} | {sum(r.races for r in some)} | {' | '.join(f'{one:,}' for one in sums)} "
            f"| {sum(len(r.faults) for r in some)} | {sum(r.lost_replies for r in some)} | {sum(len(r.violations) for r in some)} |"
        )
    seconds = [result.seconds for result in found]
    if seconds:
        yield f"\nA seed took {median(seconds):.0f} s (median), {max(seconds):.0f} s at most, both of its runs together."
    yield from (f"- seed {r.seed}, {r.brokers} brokers: {r.violations[0]}" for r in found if r.violations)


# ---- faults -----------------------------------------------------------------------------------------------------------

ABOUT_FAULTS = """
## Faults, and how long it takes after them

*Did something*: how often it was seen to (a process was still stopped after longer than Kafka's session, an answer was lost, PostgreSQL
found a deadlock). *Done*: seconds from its end until all inputs that waited then, or came in the next second, had their effect at the
hub; a few tenths without any fault. A killed server's fault ends when it serves again; 0.0: nothing waited for it by then. Counted where
no other fault came between. *Told*: until all feedback was delivered that was due when it ended; counted where it stood alone. Two relays
at once, of each service: always.

| fault | times | did something | counted | done, median s | worst s | told, median s | worst s |
|---|---|---|---|---|---|---|---|"""


def _faults(found: Sequence[Result]) -> Iterator[str]:
    yield ABOUT_FAULTS
    happened: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for result in found:
        for fault in result.faults:
            happened[_name(fault["name"], result.brokers)].append(fault)
    for name in dict.fromkeys(_name(name, brokers) for name in CATALOGUE for brokers in (1, 3)):
        yield _row(name, happened[name])


def _name(name: str, brokers: int) -> str:
    return "broker-killed, one of three" if (name, brokers) == ("broker-killed", 3) else name


def _row(name: str, faults: Sequence[dict[str, Any]]) -> str:
    done, told = (_seconds(faults, what) for what in ("recovered", "told"))
    shown = [name, len(faults), sum(fault["met"] > 0 for fault in faults), len(done)]
    return f"| {' | '.join(map(str, shown))} | {_two(done)} | {_two(told)} |"


def _seconds(faults: Iterable[dict[str, Any]], what: str) -> list[float]:
    return [fault[what] for fault in faults if fault[what] is not None and fault["met"]]


def _two(seconds: Sequence[float]) -> str:
    return f"{median(seconds):.1f} | {max(seconds):.1f}" if seconds else "- | -"


# ---- growth -----------------------------------------------------------------------------------------------------------

ABOUT_GROWTH = f"""
## What the processes hold

Each process at the same quiet point of every seed, after the drain, compared with itself when it was warm (its quiet point {WARM}), for as
long as it lived: many end by a fault. The most that one held more, at the end of its life, than when it was warm.

| service | processes | longest life, seeds | MB when warm, median | MB more | files more | connections more |
|---|---|---|---|---|---|---|"""


def _growth(found: Sequence[Result]) -> Iterator[str]:
    yield ABOUT_GROWTH
    lives: dict[tuple[str, str, int], list[dict[str, Any]]] = defaultdict(list)
    for result in found:
        for process in result.processes:
            lives[result.installation, process["name"], process["pid"]].append(process)
    for service in ("intake", "router", "notifier"):
        long = [life for (_, name, _), life in lives.items() if name.startswith(service) and len(life) > WARM]
        if long:
            more = (
                max(life[-1][what] - life[WARM - 1][what] for life in long)
                for what in ("megabytes", "files", "connections")
            )
            warm = median(life[WARM - 1]["megabytes"] for life in long)
            yield f"| {service} | {len(long)} | {max(map(len, long))} | {warm:.0f} | {' | '.join(f'{one:.0f}' for one in more)} |"


# ---- mutants ----------------------------------------------------------------------------------------------------------


def _mutants(found: Sequence[Result]) -> Iterator[str]:
    of_mutants = [result for result in found if result.mutant]
    yield "\n## Mutants\n"
    yield "Each guard is taken away in a service's own process (tests/chaos/mutants.py); the checker must say so."
    yield f"`make chaos SEEDS=mutants`: {_played(of_mutants)}.\n"
    yield "| guard taken away | mutant | caught by |"
    yield "|---|---|---|"
    for name, mutant in MUTANTS.items():
        of_it = [result for result in of_mutants if result.mutant == name]
        caught = sorted({violation[:2] for result in of_it for violation in result.violations if violation[0] == "I"})
        yield f"| {mutant.guard} | {name} | {', '.join(caught) or ('**missed**' if of_it else 'not played')} |"
    yield ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, nargs="+", default=[RESULTS], help="of the seeds, and of the mutants")
    given = parser.parse_args()
    PAGE.write_text(page(results.newest(result for file in given.results for result in results.read(file))))


if __name__ == "__main__":
    main()
