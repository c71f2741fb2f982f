"""Count what a referral costs, from its translated message to the recorded delivery of its feedback: `make counts`.

Batches of 256, each message about a new person, conformance checked in full, on a PostgreSQL and a Kafka of their own. Rows and
statements, bytes of PostgreSQL's log and Kafka's record batches do not depend on the speed of the machine.
"""

import argparse
import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import structlog
import uvloop

from bench import copies
from bench.messages import BenchmarkMessage, messages
from tests.counts import servers
from tests.counts.servers import Rows, Servers
from tests.counts.services import BATCH, Counted, Installed, Services, ignore_time, installed

WARM_UP, MEASURED = 2, 4
"""Batches: statements are prepared and pages are full before the counts begin."""

BARS = {
    "rows inserted": 13.0,
    "rows updated": 4.0,
    "KB of the log (WAL)": 14.0,
    "statements": 0.4,
    "record batches": 0.5,
}
"""At most so much for a referral. A change that raises one states its reason here."""


@dataclass(frozen=True)
class Counts:
    """What a number of referrals cost."""

    referrals: int
    rows: dict[str, Rows]
    statements: Counter[tuple[str, str]]
    wal_steps: Counter[str]
    wal_relations: Counter[str]
    batches: Counter[str]

    def of_each(self) -> dict[str, float]:
        """Return what a referral cost, by the names of BARS."""
        wal = sum(self.wal_steps.values()) / 1024
        inserted = sum(one.inserted for one in self.rows.values())
        updated = sum(one.updated for one in self.rows.values())
        sums = (inserted, updated, wal, self.statements.total(), self.batches.total())
        return {name: whole / self.referrals for name, whole in zip(BARS, sums, strict=True)}


def main() -> int:
    """Count, print, and return 1 if a referral costs more than the bars."""
    options = argparse.ArgumentParser(prog="make counts", description=__doc__)
    options.add_argument(
        "--persons", type=int, default=0, help="persons who are there before (copies of the first one)"
    )
    given = options.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it logs that new topics have no leader yet
    ignore_time()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lightbulb-counts-") as folder, servers.start(Path(folder)) as on:
        counts = uvloop.run(_count(on, Path(folder), given.persons))
    sys.stdout.write("".join(f"{line}\n" for line in _lines(counts)))
    sys.stdout.write(f"{counts.referrals} referrals, {given.persons} other persons, {time.monotonic() - began:.0f} s\n")
    return 1 if any(cost > BARS[name] for name, cost in counts.of_each().items()) else 0


async def _count(on: Servers, folder: Path, persons: int) -> Counts:
    connection = await servers.connect(on.database)
    sent = messages((WARM_UP + MEASURED) * BATCH, "counts", varied=True)
    async with installed(on, folder) as given:
        await _pass(on, given, sent, WARM_UP, Counted())
        await _add_persons(on, persons)
        before, batches = await servers.rows(connection), servers.record_batches(on.storage)
        counted, began = Counted(), await servers.wal_position(connection)
        await _pass(on, given, sent, MEASURED, counted)
        ended, after = await servers.wal_position(connection), await servers.rows(connection)
        assert len(given.received) == (WARM_UP + MEASURED) * BATCH, "feedback was lost or repeated"
        return Counts(
            MEASURED * BATCH,
            {name: rows - before[name] for name, rows in after.items() if rows != before[name]},
            counted.statements,
            counted.wal,
            await servers.wal_by_relation(on, connection, began, ended),
            servers.record_batches(on.storage) - batches,
        )


async def _pass(on: Servers, given: Installed, sent: Iterator[BenchmarkMessage], number: int, counted: Counted) -> None:
    """Pass this number of batches through services that are started for them, and stopped then."""
    connection = await servers.connect(on.database)
    async with AsyncExitStack() as stack:
        services = Services(on, given, counted, connection)
        await services.start(stack)
        for _ in range(number):
            await services.pass_on([next(sent) for _ in range(BATCH)])
    await connection.close()


async def _add_persons(on: Servers, number: int) -> None:
    connection = await copies.connect(on.database)
    if number:
        one = await connection.fetchrow("select person_key, reference from router.referral limit 1")
        rows = await copies.rows_of(connection, one["person_key"], one["reference"])
        await copies.insert(connection, rows, 1, number)
    await connection.close()


# ---- printing -------------------------------------------------------------------------------------------------------


def _lines(counts: Counts) -> Iterator[str]:
    each = counts.referrals
    yield "rows of a referral               inserted   updated  of these HOT   deleted"
    for name, rows in sorted(counts.rows.items()):
        figures = (rows.inserted, rows.updated, rows.hot, rows.deleted)
        yield f"  {name:<30}" + "".join(
            f"{figure / each:>{width}.3f}" for figure, width in zip(figures, (9, 10, 14, 10), strict=True)
        )
    for title, found, unit in (
        ("bytes of the log, by step", counts.wal_steps, 1),
        ("bytes of the log, by table or index", counts.wal_relations, 1),
        ("record batches, by topic", counts.batches, 1),
    ):
        yield f"{title}, of a referral"
        yield from (f"  {number / each / unit:>10,.3f}  {name}" for name, number in found.most_common())
    yield f"statements, of a batch of {BATCH}"
    for (service, statement), number in sorted(counts.statements.items(), key=lambda one: (one[0][0], -one[1])):
        yield f"  {number / each * BATCH:>10.2f}  {service:<9} {statement[:110]}"
    yield f"{'a referral costs':<26}{'counted':>10}{'at most':>10}"
    for name, cost in counts.of_each().items():
        yield f"  {name:<24}{cost:>10.3f}{BARS[name]:>10}{'   above the bar' if cost > BARS[name] else ''}"


if __name__ == "__main__":
    sys.exit(main())
