"""Explain every statement of the services on a growing database, and report what grows with it: `make plans`.

A statement may read 1.5 times as many rows with 200,000 waiting rows as with 2,000, and 3 more buffers for each descent of an index;
it has the same plan on empty tables, and scans no table that grows.
"""

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import structlog

from infra.database import roles
from infra.database.migrations import migrate
from infra.local.embedded import providers
from tests.builders.reference_data import POSTCODES
from tests.plans import source, waiting, work
from tests.plans.explain import Plan, Recorder, Shape

FEW, MANY = 2_000, 200_000

SMALL_TABLES = {"secret_check", "directory_version", "paused_topic", "outbox_applied", "endpoint", "unaddressed"}
"""Tables that do not grow with referrals."""

MOST_SEARCHES = 5_000
"""Searches of an index in one statement. A scan that skips from key to key makes one for each person; one of what is held of topics
makes one for each packet, a limited number of each shard and topic."""

Plans = dict[tuple[str, str], list[Plan]]


@dataclass(frozen=True)
class Measured:
    """The plans by work and statement: on empty tables, and with few and with many waiting rows."""

    empty: Plans
    few: Plans
    many: Plans


def main() -> int:
    """Measure, print and return the exit code."""
    options = argparse.ArgumentParser(prog="make plans", description=__doc__)
    options.add_argument("--persons", type=int, default=100_000, help="persons of the database")
    options.add_argument("--waiting", type=int, default=MANY, help=f"waiting rows that are compared with {FEW}")
    options.add_argument("--all", action="store_true", help="print every statement")
    given = options.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    began = time.monotonic()
    known = source.statements()
    with tempfile.TemporaryDirectory() as folder, providers.postgres(fsync=False) as server:
        recorder, measured = asyncio.run(_measure(server.address, Path(folder), known, given.persons, given.waiting))
    faults = [
        *_faults(measured),
        *_escaped(recorder, known),
        *(f"not in the source: {one}" for one in recorder.unknown),
    ]
    if given.all:
        _print(measured)
    for fault in faults:
        sys.stdout.write(f"FAULT {fault}\n")
    sys.stdout.write(f"{len(known)} statements, {len(faults)} faults, {time.monotonic() - began:.0f} s\n")
    return 1 if faults else 0


# ---- measuring ------------------------------------------------------------------------------------------------------


async def _measure(
    address: str, folder: Path, known: list[source.Statement], persons: int, waiting_rows: int
) -> tuple[Recorder, Measured]:
    url = await _database(address)
    recorder = Recorder(known, await _indexes(url))
    async with work.services(url, folder, recorder.watch) as on:
        await work.templates(on)
        of_person, kinds = await waiting.persons(on.owner), await waiting.kinds(on.owner)
        empty = await _plans(on, recorder)
        await waiting.grow(on.owner, of_person, 1, persons)
        await waiting.grow(on.owner, kinds, 1, FEW)
        await waiting.settle(on.owner)
        few = await _plans(on, recorder)
        await waiting.grow(on.owner, kinds, FEW + 1, waiting_rows)
        await waiting.settle(on.owner)
        many = await _plans(on, recorder)
    return recorder, Measured(empty, few, many)


async def _database(address: str) -> str:
    """Make an empty database with our tables, whose statistics change only on request; return its address."""
    name = f"plans_{uuid4().hex}"
    url = urlunsplit(urlsplit(address)._replace(path=f"/{name}"))
    for at, statement in (
        (address, "alter system set autovacuum = off"),
        (address, "select pg_reload_conf()"),
        (address, f"create database {name}"),
    ):
        await _execute(at, statement)
    await asyncio.to_thread(migrate, url)
    await roles.set_passwords(url)
    rows = ", ".join(f"('{postcode}', '{district}')" for postcode, district in POSTCODES.items())
    await _execute(url, f"insert into router.postcode values {rows}")
    return url


async def _execute(address: str, statement: str) -> None:
    connection = await asyncpg.connect(address.replace("+asyncpg", ""))
    await connection.execute(statement)
    await connection.close()


async def _indexes(url: str) -> dict[str, int]:
    """Return the number of indexes of each table."""
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    rows = await connection.fetch("select schemaname || '.' || tablename as name, count(*) from pg_indexes group by 1")
    await connection.close()
    return {row["name"]: row["count"] for row in rows}


async def _plans(on: work.Services, recorder: Recorder) -> Plans:
    """Do all work twice, and return the plans of the second time: then caches are filled and indexes are free of dead entries."""
    for _ in range(2):
        recorder.plans = {}
        for piece in work.WORK:
            recorder.work = piece.__name__
            await piece(on)
            if recorder.failures:
                raise recorder.failures[0]
    return recorder.plans


# ---- judging --------------------------------------------------------------------------------------------------------


def _faults(measured: Measured) -> Iterator[str]:
    """Yield what a statement reads more of with many rows than with few, what it scans, and where its plan is another one."""
    for piece, name in (
        measured.many.keys() & measured.few.keys()
    ):  # what is done again because the machine is slow is in one only
        before, plans = measured.few[piece, name], measured.many[piece, name]
        rows, fewer = max(one.rows for one in plans), max(one.rows for one in before)
        if rows > 1.5 * max(fewer, 1):
            yield f"{name} in {piece}: {fewer} rows with few, {rows} with many"
        buffers, allowed = max(one.buffers for one in plans), max(map(_allowed, before))
        if buffers > allowed:
            yield f"{name} in {piece}: {buffers} buffers, {allowed} allowed"
        if (searches := max(one.searches for one in plans)) > MOST_SEARCHES:
            yield f"{name} in {piece}: searches an index {searches} times"
        for table in {table for one in plans for table in one.scanned} - SMALL_TABLES:
            yield f"{name} in {piece}: scans {table}"
    for name in sorted({name for _, name in measured.many}):
        empty, many = _shapes(measured.empty, name), _shapes(measured.many, name)
        if empty != many:
            yield f"{name}: another plan on empty tables"
            yield from (f"    empty: {_line(shape)}" for shape in empty)
            yield from (f"    many:  {_line(shape)}" for shape in many)


def _allowed(plan: Plan) -> int:
    """Return the buffers of a plan with more rows in its tables: 3 for each descent, and a page of its own for each row."""
    return max(plan.buffers, plan.rows) + 3 * plan.descents + plan.rows // 4


def _line(shape: Shape) -> str:
    """Return a plan on one line: nodes with their indexes, children in brackets."""
    kind, *named = [word for word in shape[:4] if isinstance(word, str)]
    children = [_line(child) for child in shape if isinstance(child, tuple)]
    return " ".join([kind, *named]) + (f" [{'; '.join(children)}]" if children else "")


def _shapes(plans: Plans, name: str) -> set[Shape]:
    return {one.shape for (_, of), each in plans.items() if of == name for one in each}


def _escaped(recorder: Recorder, known: list[source.Statement]) -> Iterator[str]:
    """Yield the statements in the source that no work has executed."""
    yield from (f"{one.name}: no work executes it" for one in known if one.name not in recorder.seen)


def _print(measured: Measured) -> None:
    for (piece, name), many in sorted(measured.many.items(), key=lambda one: one[0][1]):
        few = measured.few.get((piece, name), many)
        figures = [f"{max(p.rows for p in of):>8} rows {max(p.buffers for p in of):>7} buffers" for of in (few, many)]
        sys.stdout.write(f"{name:<52} {piece:<28} {figures[0]} {figures[1]}\n")


if __name__ == "__main__":
    sys.exit(main())
