"""Upload a council's file of 100,000 rows: rows per second, intake's memory, and the size of its tables, next to the aims.

python -m bench.councils --rows 100000

The rows are sent as a dry run, new, unchanged, with one row in a hundred changed, and as a workbook. Router and notifier
are suspended, so that only intake is measured: HTTP, translation, commits, the relay to Kafka.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import xlsxwriter
from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from bench.machine import cpu_seconds
from infra.local import installation
from infra.local.installation import Installation, Plan
from schemas import nhs_number
from services.reference import directory
from services.runtime import database

COUNCIL, PARTNER = "blaby", "council-blaby"
ROWS_A_SECOND, MORE_MEMORY = 2_000, 64
"""Aims: rows per second of a file at the least, and growth of intake's memory over it, in MiB, at the most."""

CSV, WORKBOOK = "text/csv", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
TABLES = ("message", "referral", "packet", "upload", "upload_part")
console = Console(width=120)


WORKBOOK_ROWS = 50_000
"""Rows of the workbook at most: its size is limited (`WORKBOOK_BYTES`)."""


@dataclass(frozen=True)
class SentFile:
    """A file to send: every row at a multiple of `changed_every` has another telephone number than before."""

    name: str
    changed_every: int = 0
    is_workbook: bool = False
    dry_run: bool = False


FILES = (
    SentFile("dry run", dry_run=True),
    SentFile("new"),
    SentFile("unchanged"),
    SentFile("one in a hundred changed", changed_every=100),
    SentFile("as a workbook, unchanged", changed_every=100, is_workbook=True),
)


@dataclass(frozen=True)
class UploadMeasurement:
    """One upload.

    `before`, `most`: intake's memory before and at its peak, in MiB. `cpu`: seconds by process. `table_growth`: MiB
    by table.
    """

    name: str
    summary: dict[str, int]
    megabytes: float
    until_first: float
    seconds: float
    before: float
    most: float
    cpu: dict[str, float]
    table_growth: dict[str, float]


def rows(count: int, changed_every: int = 0) -> Iterator[str]:
    """Yield a CSV file of the council row by row."""
    return csv_lines(_rows(count, changed_every))


def csv_lines(given: Iterable[dict[str, str]]) -> Iterator[str]:
    """Yield the header of the council's file and these rows, which hold cells by column."""
    for cells in _cells(given):
        yield ",".join(f'"{cell}"' if "\n" in cell else cell for cell in cells) + "\r\n"


def _write(file: Path, sent: SentFile, count: int) -> None:
    """Write a file of `count` rows, in little memory."""
    if not sent.is_workbook:
        with file.open("w", newline="") as written:
            written.writelines(rows(count, sent.changed_every))
        return
    with xlsxwriter.Workbook(file, {"constant_memory": True}) as workbook:
        sheet = workbook.add_worksheet()
        for at, cells in enumerate(_cells(_rows(count, sent.changed_every))):
            for column, cell in enumerate(cells):
                if cell:
                    sheet.write_string(at, column, cell)


def _rows(count: int, changed_every: int) -> Iterator[dict[str, str]]:
    """Yield rows of different persons; each row at a multiple of `changed_every` is changed."""
    for at, number in zip(range(count), numbers(), strict=False):
        yield row(at, number, changed=bool(changed_every) and at % changed_every == 0)


def _cells(given: Iterable[dict[str, str]]) -> Iterator[list[str]]:
    """Yield the header and the cells of each row."""
    from services.intake.translators import council_csv  # for the header in the council's mapping

    services = directory.catalogue(installation.DIRECTORY)
    mapping = council_csv.load(installation.DIRECTORY / "councils", services)[COUNCIL]
    header = list(mapping.headers.values())
    yield header
    for one in given:
        yield [one.get(column, "") for column in header]


def row(at: int, nhs_number: str, *, changed: bool = False) -> dict[str, str]:
    """Return the cells of row number `at`, about a person of its own with this number; `changed`: with another telephone number."""
    return {
        "Case Ref": f"BDC/26/{at:06}",
        "Last Changed": "04/11/2026 10:00" if changed else "03/11/2026 16:05",
        "Case Status": "Open",
        "Title": "Mrs",
        "Surname": f"Surname{at % 5000}",
        "First Names": "Any Name",
        "DOB": f"{at % 28 + 1:02}/{at % 12 + 1:02}/{1930 + at % 40}",
        "Sex": "F",
        "NHS No": nhs_number,
        "Address 1": f"{at % 200 + 1} Any Street",
        "Address 4": "Narborough",
        "Postcode": "LE19 2AR",
        "Tel": f"0116 496 0{'9' if changed else '1'}{at % 100:02}",
        "Needs": "DFG; GR",
        "Notes": "Stairs are too much.\nRing first, please.",
        "Enquiry Date": "01/10/2026",
        "DFG Cat": "A",
        "OT Assessed": "12/10/2026",
        "Consent Share": "Y",
        "Officer": "Any Officer",
    }


def numbers() -> Iterator[str]:
    """Yield synthetic NHS numbers, each once; numbers without a valid check digit are skipped."""
    for at in range(10_000_000):
        number = f"999{at:07}"
        if nhs_number.is_valid(number):
            yield number


@contextmanager
def _system(work: Path) -> Iterator[tuple[Installation, psutil.Process]]:
    """Yield an installation whose router and notifier are suspended, and its intake process."""
    running = installation.start(Plan(work / "data", ephemeral=True, environment={"LIGHTBULB_LOG_LEVEL": "WARNING"}))
    paused = [running.supervisor.children[name].pid for name in ("router", "notifier")]
    try:
        for pid in paused:
            os.kill(pid, signal.SIGSTOP)
        yield running, psutil.Process(running.supervisor.children["intake"].pid)
    finally:
        for pid in paused:
            os.kill(pid, signal.SIGCONT)
        running.stop()


def _send(running: Installation, intake: psutil.Process, sent: SentFile, file: Path) -> UploadMeasurement:
    before, sizes_before, cpu = _mebibytes(intake), asyncio.run(_table_sizes(running)), _cpu(running)
    most, done = [before], threading.Event()
    watching = threading.Thread(target=_watch, args=(intake, most, done))
    watching.start()
    began = time.perf_counter()
    try:
        summary, first = _post(running, file, sent)
    finally:
        done.set()
        watching.join()
    took = time.perf_counter() - began
    spent = {process: seconds - cpu[process] for process, seconds in _cpu(running).items()}
    after = asyncio.run(_table_sizes(running))
    more = {table: after[table] - sizes_before[table] for table in TABLES}
    return UploadMeasurement(
        sent.name, summary, file.stat().st_size / 2**20, first - began, took, before, max(most), spent, more
    )


def _cpu(running: Installation) -> dict[str, float]:
    """Return the CPU seconds so far of intake and PostgreSQL; a server's children are included."""
    pids = {"intake": running.supervisor.children["intake"].pid, "postgres": running.parts.postgres.child.pid}
    return {name: cpu_seconds(pid) for name, pid in pids.items()}


def _post(running: Installation, file: Path, sent: SentFile) -> tuple[dict[str, int], float]:
    """Return the report's summary, and the time of its first byte. Print the progress every 10,000 rows."""
    address = urlsplit(running.addresses["intake"])
    connection = HTTPConnection(address.hostname or "", address.port, timeout=600)
    headers = {
        "Authorization": f"Bearer {running.addresses['partners'][PARTNER]['token']}",
        "Content-Type": WORKBOOK if sent.is_workbook else CSV,
        "Content-Length": str(file.stat().st_size),
    }
    with file.open("rb") as body:
        path = f"/councils/{COUNCIL}/referrals{'?dry-run=true' if sent.dry_run else ''}"
        connection.request("POST", path, body=body, headers=headers)
        answer = connection.getresponse()
        first, reported, last = time.perf_counter(), 0, b""
        for line in answer:
            reported += line.startswith(b'{"row"')
            last = line
            if line.startswith(b'{"row"') and reported % 10_000 == 0:
                console.print(f"[dim]  {reported:,} rows reported[/dim]")
    connection.close()
    if answer.status != 200:
        sys.exit(f"the file was answered {answer.status}")
    return json.loads(b"{" + last)["summary"], first


def _watch(intake: psutil.Process, most: list[float], done: threading.Event) -> None:
    while not done.wait(0.2):
        most.append(_mebibytes(intake))


def _mebibytes(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / 2**20


async def _table_sizes(running: Installation) -> dict[str, float]:
    engine = database.connect(running.addresses["postgres"], pool=1)
    try:
        async with engine.connect() as connection:
            query = text("select pg_total_relation_size(cast(:name as regclass))")
            sizes = {name: await connection.scalar(query, {"name": f"intake.{name}"}) for name in TABLES}
        return {name: float(size or 0) / 2**20 for name, size in sizes.items()}
    finally:
        await engine.dispose()


def _show(runs: list[UploadMeasurement]) -> None:
    table = Table(title="A council's file", title_justify="left")
    columns = ("file", "MiB", "rows/s", "first byte s", "whole s", "CPU us/row", "RSS MiB", "outcomes")
    for column in columns:
        table.add_column(column, justify="left" if column in ("file", "outcomes") else "right")
    for run in runs:
        outcomes = ", ".join(f"{count:,} {what}" for what, count in run.summary.items() if count and what != "rows")
        speed = f"{run.summary['rows'] / run.seconds:,.0f}"
        memory = f"{run.before:.0f}, {run.most:.0f}"
        cpu = ", ".join(f"{name} {spent / run.summary['rows'] * 1e6:,.0f}" for name, spent in run.cpu.items())
        times = (f"{run.until_first:.1f}", f"{run.seconds:.1f}")
        table.add_row(run.name, f"{run.megabytes:.0f}", speed, *times, cpu, memory, outcomes)
    console.print(table)
    slowest, most = min(run.summary["rows"] / run.seconds for run in runs), max(run.most - run.before for run in runs)
    console.print(
        f"rows/s: aim {ROWS_A_SECOND:,}, slowest {slowest:,.0f}; RSS growth, MiB: aim {MORE_MEMORY}, most {most:.0f}"
    )
    growth = Table(title="Growth of the tables, MiB", title_justify="left")
    for column in ("file", *TABLES):
        growth.add_column(column, justify="left" if column == "file" else "right")
    for run in runs:
        growth.add_row(run.name, *(f"{run.table_growth[name]:.1f}" for name in TABLES))
    console.print(growth)


def main() -> None:
    """Run the benchmark. Exit with 1 if a row was refused."""
    reader = argparse.ArgumentParser(prog="python -m bench.councils", description=__doc__)
    reader.add_argument("--rows", type=int, default=100_000, help="rows of the file (at most 500,000)")
    count = min(reader.parse_args().rows, 500_000)
    with tempfile.TemporaryDirectory(prefix="lightbulb-bench-") as folder:
        file = Path(folder) / "file"
        with _system(Path(folder)) as (running, intake):
            _write(file, SentFile("warm"), 200)
            _send(running, intake, SentFile("warm"), file)
            runs = []
            for sent in FILES:
                rows_of_file = min(count, WORKBOOK_ROWS) if sent.is_workbook else count
                console.print(f"{sent.name}: {rows_of_file:,} rows")
                _write(file, sent, rows_of_file)
                runs.append(_send(running, intake, sent, file))
    _show(runs)
    raise SystemExit(any(run.summary["refused"] + run.summary["not-processed"] for run in runs))


if __name__ == "__main__":
    main()
