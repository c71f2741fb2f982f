"""Write docs/reliability.md from the results file: `python -m tests.chaos.harness.report`. It holds measured results, or "not run"."""

import argparse
import platform
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tests.chaos.harness import results
from tests.chaos.harness.leak_check import WARM
from tests.chaos.harness.results import RESULTS, Result
from tests.chaos.harness.schedule import CATALOGUE
from tests.chaos.mutants.catalogue import MUTANTS

PAGE = Path(__file__).parents[3] / "docs" / "reliability.md"

ABOUT = """\
# Reliability under faults

`make chaos SEEDS=100` runs a hundred seeds on whole installations: Apache Kafka (every tenth seed on three brokers), PostgreSQL, the MESH
sandbox, **two processes of each service**, and a proxy that can cut each connection. One integer determines the whole plan:

- the referrals, their senders and formats, with updates, cancels, duplicates and conflicts;
- the hubs' commands, some of them impossible, repeated or from the wrong hub;
- the faults and their times: three to five that overlap, and, when the work that they delayed is done, one without overlap. Some bring load of
  their own: a hot key (many people and referrals under one NHS number), a hub's topic that refuses while referrals for it arrive, malformed
  commands, a flood of records that are none, a recipient that answers after seconds while its backlog grows. After some an operator's
  command is run, as [Operate](operate.md) says: `lightbulb reconcile` after records were deleted unread or an
  older copy of the database was restored.

The inputs of one person are sent in the seed's order, each after the effect of the previous one was seen. Different persons run in parallel. Every
fourth seed sends one person's inputs without waiting (a race). The other seeds run twice, without and with faults. Then the installation
drains, and a checker that shares no code with the services reads every answer, PostgreSQL, every topic and every feedback address. It reads
the services' tables as a black-box oracle: all SQL of the harness is in `tests/chaos/harness/db_probe.py`, and a decoder of
its own (`packet_decoder.py`) opens what they store compressed.

| dimension | covered |
|---|---|
| senders | three practices and First Contact by BaRS; all five forms, for practices, nurses, coordinators, the persons themselves and their carers; both trusts by HL7 v2 over MLLP and HTTP, with a stay that ends, and without; all seven councils' files, also with other persons' rows |
| messages | new referrals, updates, cancels; duplicates of each; other content under the same ids; messages older than the stored one; cancels of unknown referrals; messages that their format refuses; HL7 v2 updates of a few fields, about another person, or late; ADT of a stay, and of strangers |
| persons | any two senders for one person, in both orders; numbers that are traced, not traced, invalid or missing; all districts, outside the county, the restricted unit |

| | invariant |
|---|---|
| I1 | every acknowledged referral is one referral of one case; of a refused message only the stored original exists, and of ADT about a stranger nothing; only records that the seed corrupted are dead letters |
| I2 | nothing is applied twice: a message makes one version, an event has one number, a command one effect; a malformed command that names its person is refused once, with what is wrong in it |
| I3 | the numbers of each person key on `case.event` are 1..n, first occurrences without gap or inversion; so are the versions of (hub, case) on each hub's topic |
| I4 | messages in an outbox when the faults end are published within 10 s; after the drain, all are |
| I5 | every feedback that the table [Who receives what](architecture.md#who-receives-what) requires was composed, and has arrived in order for each referral, after it was committed, by one attempt at a time, only at the right address and by the channel of its recipient; it failed only if the seed requires that; only hospitals and the hub that takes over receive anything about a stay, and no recipient about one in the restricted unit; only a holder reads where a person with restricted data lives |
| I6 | unacknowledged messages that were stored are consistent; each field of an HL7 v2 referral is what the latest message said of it, in any order of arrival; no visit is booked while a reported death is not checked |
| I7 | no lag, no open transaction; no process has grown in memory, files or connections |
| I8 | the final state is the same with faults as without (seeds without a race) |
| I9 | while one key, hub topic, hub or recipient is in trouble and nothing else is, no other input or feedback waits longer than 10 s, and no other topic is paused |
| I10 | the example client, which reads nothing but the topic of a hub, knows every open referral of its cases that the hub may see, as it stands |
| I11 | a fault that passes is waited out: no message is refused because the database could not store it, a process says that it is not ready while nothing can be written or records are gone, and one that starts without its servers waits for them; an endpoint that fails is not flooded |
"""  # noqa: E501 - rows of a table

NOT_COVERED = """\
## What is not covered

- In races, the four councils whose rows have no time of change send one version only: the order of such rows is not defined.
- A practice that is not a partner (MESH finds it by the person), and documents attached to a message.
- A machine or a disk that fails, and a clock that is set back under PostgreSQL or Kafka: every part runs on one machine.
- Failover of PostgreSQL to a standby that lacks the last transactions: the faults make sessions read-only, as after a switch behind a
  service name, and a killed server restarts with its data.
- A network that delivers packets in one direction only: the proxies cut, hang or slow a connection as a whole.
- A partner's token or a directory that changes while faults happen; operators' commands (resubmit, replay, republish) under faults.
- A seed gives the same plan only while tests/chaos/harness/plan.py and schedule.py are unchanged. Plans that failed are therefore
  recorded: `tests/chaos/kept_plans`, which `SEEDS=ci` runs.
- The order of feedback on a case whose events were deleted from Kafka unread and published again: what came after them is composed first.
- What was not on Kafka when the database was lost, and the bytes of messages after a restore: only a copy of the database has them.
- Days of operation: an installation runs at most twenty seeds, and is then deleted.
- Full disks are small tmpfs mounts. If they cannot be mounted (no root), these two faults do nothing. A full disk halts a broker; it is
  restarted when space is free.
- Recovery times include the load of this machine: services, brokers, database, senders and checker share its cores.
"""

IT_FOUND = """
## Defects found

Each is fixed, and has a regression test.

- A case without a home hub (a stay at the restricted unit, if no home hub can be determined) was stored, and could not be read again.
- Under load, a batch that took longer than its transaction may take was retried whole, indefinitely. Now it is retried in halves.
- The MESH sandbox lost one of two first messages that arrived at the same time (infra/local/embedded/mesh_server.py).
- The demonstration's hub treated a command as sent although its Kafka client had given up after 40 s.
"""


def page(found: Sequence[Result]) -> str:
    """Return the whole page."""
    honest = [result for result in found if not result.mutant]
    parts = [ABOUT, *_figures(honest), *_faults(honest), *_leak_check(honest), *_mutants(found), IT_FOUND, NOT_COVERED]
    return "\n".join(parts)


def _played(found: Sequence[Result]) -> str:
    """Return the time of the runs, and the commits."""
    days = sorted({result.at[:16].replace("T", " ") for result in found})
    codes = list(dict.fromkeys(result.code for result in found))
    return f"{days[0]} to {days[-1]} UTC, on commit {', '.join(codes)}" if days else "not run"


def _figures(found: Sequence[Result]) -> Iterator[str]:
    yield "## Measured\n"
    yield f"{_played(found)}; {platform.machine()}, Python {platform.python_version()}, two shared cores.\n"
    yield "| brokers | seeds | with a race | referrals | messages | commands | faults | responses lost after their effect | violations |"
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
        yield f"\nA seed took {median(seconds):.0f} s (median), {max(seconds):.0f} s at most, for both of its runs together."
    yield from (f"- seed {r.seed}, {r.brokers} brokers: {r.violations[0]}" for r in found if r.violations)


# ---- faults -----------------------------------------------------------------------------------------------------------

ABOUT_FAULTS = """
## Faults and recovery times

- *Effective*: the number of times that the fault had an effect (a process was stopped for longer than Kafka's session
  timeout, an answer was lost, PostgreSQL detected a deadlock).
- *Processed*: seconds from the end of the fault until all inputs that waited then, or arrived in the next second, had
  their effect at the hub; a few tenths without any fault. The fault of a killed server ends when it serves again; 0.0
  means that no input waited for it by then. Counted if no other fault overlapped.
- *Delivered*: seconds until all feedback that was due at the end of the fault was delivered. Counted for the fault
  without overlap.

Two relays of each service run at all times.

| fault | times | effective | counted | processed, median s | worst s | delivered, median s | worst s |
|---|---|---|---|---|---|---|---|"""


def _faults(found: Sequence[Result]) -> Iterator[str]:
    yield ABOUT_FAULTS
    process_events: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for result in found:
        for fault in result.faults:
            process_events[_name(fault["name"], result.brokers)].append(fault)
    for name in dict.fromkeys(_name(name, brokers) for name in CATALOGUE for brokers in (1, 3)):
        yield _row(name, process_events[name])


def _name(name: str, brokers: int) -> str:
    return "broker-killed, one of three" if (name, brokers) == ("broker-killed", 3) else name


def _row(name: str, faults: Sequence[dict[str, Any]]) -> str:
    processed, delivered = (_seconds(faults, what) for what in ("processed", "delivered"))
    cells = [name, len(faults), sum(fault["met"] > 0 for fault in faults), len(processed)]
    return f"| {' | '.join(map(str, cells))} | {_two(processed)} | {_two(delivered)} |"


def _seconds(faults: Iterable[dict[str, Any]], what: str) -> list[float]:
    return [fault[what] for fault in faults if fault[what] is not None and fault["met"]]


def _two(seconds: Sequence[float]) -> str:
    return f"{median(seconds):.1f} | {max(seconds):.1f}" if seconds else "- | -"


# ---- growth -----------------------------------------------------------------------------------------------------------

ABOUT_GROWTH = f"""
## Memory, files and connections

Each process is measured at the same quiet point of every seed, after the drain, and compared with its own warm state
(its quiet point {WARM}), until its end; a fault ends many. The last three columns are the largest growth of one process
between its warm state and its end.

| service | processes | longest run, seeds | MB when warm, median | MB growth | files growth | connections growth |
|---|---|---|---|---|---|---|"""


def _leak_check(found: Sequence[Result]) -> Iterator[str]:
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
    yield "Each guard is removed in one service's process (tests/chaos/mutants/catalogue.py); the checker must detect it."
    yield "Each mutant has a recorded plan that shows it in about a minute, and that names the invariant: tests/chaos/mutants/plans."
    yield f"`make chaos SEEDS=mutants`: {_played(of_mutants)}.\n"
    yield "| guard removed | mutant | caught by |"
    yield "|---|---|---|"
    for name, mutant in MUTANTS.items():
        of_it = [result for result in of_mutants if result.mutant == name]
        invariants = (violation.partition(":")[0] for result in of_it for violation in result.violations)
        caught = sorted({name for name in invariants if name[0] == "I"}, key=lambda name: int(name[1:]))
        yield f"| {mutant.guard} | {name} | {', '.join(caught) or ('**missed**' if of_it else 'not run')} |"
    yield ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, nargs="+", default=[RESULTS], help="of the seeds, and of the mutants")
    given = parser.parse_args()
    PAGE.write_text(page(results.newest(result for file in given.results for result in results.read(file))))


if __name__ == "__main__":
    main()
