"""Measure whether work stays bounded: what a referral costs once the tables have grown, and what delays other people's referrals.

    make growth                                  one million persons; prints the disk that it needs, and refuses if there is less
    make growth ARGS="--persons 20000 --rows 600 --waiting 20000"       a quick run

On an installation on embedded parts, with one process of each service:
 1. referrals on empty tables; then `--persons` copies of one of these persons, as the services wrote it, and referrals again:
    CPU time of each process, rows and buffers that PostgreSQL read, and their ratios
 2. `--rows` rows of a council's file while a practice refers other people: rows of different people with different NHS numbers; then of
    different people with one number, as in a column filled down; then of one person. How long the others wait for their feedback
 3. the same referrals while `--waiting` events wait for a hub's topic that refuses them, then while as much feedback is due to a
    practice that answers slowly
Times depend on the machine, so none is asserted. Exit codes: 0 measured; 1 something was lost, repeated or not decided; 2 too little
disk.
"""

import argparse
import asyncio
import dataclasses
import json
import shutil
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from rich.console import Console
from rich.table import Table

from bench import copies, councils, loop
from bench.copies import CopiedRow
from bench.load import FHIR_JSON, percentile
from bench.loop import PRACTICE, BenchmarkResult
from bench.messages import BenchmarkMessage, messages
from infra.local import installation
from infra.local.embedded import ports_and_secrets
from infra.local.installation import Installation, Plan
from schemas.topics import hub_case
from services.reference import partners

console = Console(width=120)
GIGABYTE = 10**9
BYTES_A_PERSON = 25_000
"""Tables and indexes of one person, with something to spare; measured again with the first persons."""
FIRST_PERSONS = 2_000
RESERVE_BYTES = 5 * GIGABYTE
"""Disk that must stay free: the write-ahead log, Kafka, and other programs."""
AIM = 1.5
"""How many times longer others may wait for rows of one number than for rows of different numbers."""
SLOW_PRACTICE, SLOW_SECONDS = "gp-castle-view", 5.0
REFUSING_HUB, ITS_POSTCODE, OUR_POSTCODE = "charnwood", b"LE11 5AA", b"LE13 1DB"
"""The benchmark's persons live in Melton (`OUR_POSTCODE`), so that they do not meet the hub whose topic refuses."""
MOST_SOURCES = 6
WAIT_SECONDS = 600.0
STATISTICS_SECONDS = 11.0
"""By then PostgreSQL has counted what a session did: it reports ten seconds after its last statement at the latest."""
PACE_SECONDS = 0.1
"""Between two referrals of other people while a file is decided."""


@dataclass(frozen=True)
class GrowingSystem:
    """A running installation with the practice's system."""

    work: Path
    running: Installation
    slow_port: int
    args: argparse.Namespace

    @property
    def inbox(self) -> Path:
        return self.work / "gp.jsonl"

    @property
    def token(self) -> Path:
        return self.work / "token"

    async def query(self, statement: str, *values: Any) -> list[Any]:
        """Return the rows of a statement."""
        connection = await copies.connect(self.running.addresses["postgres"])
        try:
            return list(await connection.fetch(statement, *values))
        finally:
            await connection.close()

    def value(self, statement: str, *values: Any) -> Any:
        """Return the first value of the first row, or None."""
        rows = asyncio.run(self.query(statement, *values))
        return rows[0][0] if rows else None

    def post(self, message: BenchmarkMessage, partner: str = PRACTICE) -> None:
        """Send one referral."""
        headers = {
            "Authorization": f"Bearer {self.running.addresses['partners'][partner]['token']}",
            "Content-Type": FHIR_JSON,
            "X-Request-Id": message.request_id,
            "X-Correlation-Id": message.correlation_id,
        }
        url = f"{self.running.addresses['intake']}/fhir/$process-message"
        with urllib.request.urlopen(urllib.request.Request(url, message.body, headers), timeout=60):  # noqa: S310 - our own address
            pass


@contextmanager
def _system(work: Path, args: argparse.Namespace) -> Iterator[GrowingSystem]:
    """Yield an installation in which two practices receive feedback by FHIR: one has a system, no system listens at the other's address."""
    port, slow_port = ports_and_secrets.free_ports(2)
    folder = work / "directory"
    shutil.copytree(installation.DIRECTORY, folder)
    data = yaml.safe_load((folder / "partners.yaml").read_text())
    next(partner for partner in data["partners"] if partner["id"] == SLOW_PRACTICE)["feedback"] = {"channel": "fhir"}
    (folder / "partners.yaml").write_text(yaml.safe_dump(data))
    host = ports_and_secrets.HOST
    plan = Plan(
        work / "data",
        ephemeral=True,
        feedback_urls={PRACTICE: f"http://{host}:{port}/", SLOW_PRACTICE: f"http://{host}:{slow_port}/"},
        directory=folder,
        environment={"LIGHTBULB_LOG_LEVEL": "WARNING", "LIGHTBULB_MESSAGES_PER_SECOND": "100000"},
    )
    running = installation.start(plan, _say)
    try:
        system = GrowingSystem(work, running, slow_port, args)
        system.token.write_text(running.addresses["partners"][PRACTICE]["token"])
        running.start_process("gp-system", loop.gp_command(work, port, system.inbox))
        yield system
    finally:
        running.stop()


def _say(text: str) -> None:
    console.print(f"[dim]{text}[/dim]", highlight=False)


# ---- what a referral costs ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Counters:
    """What PostgreSQL has read so far: rows, buffers, and rows by index, or by table if it was scanned whole."""

    at: float
    rows: float
    buffers: float
    rows_by_source: dict[str, float]


@dataclass(frozen=True)
class ReferralCost:
    """What one referral costs, and what PostgreSQL reads each second while no referral comes.

    `cpu`: microseconds by process. `wait`: milliseconds from the POST to the feedback, median. `rows_by_source`: rows by index, or by
    table if it was scanned whole, with those read at rest.
    """

    name: str
    cpu: dict[str, float]
    wait: float
    rows: float
    buffers: float
    rows_by_source: dict[str, float]
    rows_at_rest: float
    buffers_at_rest: float
    is_whole: bool

    def figures(self) -> dict[str, float]:
        cpu = {f"CPU us, {process}": microseconds for process, microseconds in sorted(self.cpu.items())}
        return {
            **cpu,
            "CPU us, all": sum(self.cpu.values()),
            "rows read": self.rows,
            "buffers read": self.buffers,
            "POST to feedback, ms": self.wait,
            "at rest: rows/s": self.rows_at_rest,
            "at rest: buffers/s": self.buffers_at_rest,
        }


def _counters(system: GrowingSystem) -> Counters:
    """Return the counters once all sessions have reported."""
    time.sleep(STATISTICS_SECONDS)
    return asyncio.run(_read_counters(system))


async def _read_counters(system: GrowingSystem) -> Counters:
    [whole] = await system.query(
        "select tup_returned, blks_hit + blks_read as buffers from pg_stat_database where datname = current_database()"
    )
    by_source = await system.query(
        "select 'all of ' || schemaname || '.' || relname as name, seq_tup_read as rows from pg_stat_user_tables"
        " union all select schemaname || '.' || indexrelname, idx_tup_read from pg_stat_user_indexes"
    )
    rows_by_source = {row["name"]: float(row["rows"]) for row in by_source}
    return Counters(time.monotonic(), float(whole["tup_returned"]), float(whole["buffers"]), rows_by_source)


def _cost(system: GrowingSystem, name: str) -> ReferralCost:
    """Send referrals and return what each cost, without what is read at rest in the same time."""
    _say(f"{name}: {system.args.count} referrals")
    first = _counters(system)
    before = _counters(system)
    run = _referrals(system, name, system.args.count)
    after = _counters(system)
    seconds, count = before.at - first.at, run.count
    rows, buffers = (before.rows - first.rows) / seconds, (before.buffers - first.buffers) / seconds
    while_sent = after.at - before.at
    ends = run.completion_times()
    waits = [(ends[post["id"]] - post["at"]) * 1000 for post in run.posts if post["id"] in ends]
    return ReferralCost(
        name,
        {process: spent / count * 1e6 for process, spent in run.cpu.items() if process not in ("load", "gp-system")},
        percentile(waits, 0.5),
        (after.rows - before.rows - rows * while_sent) / count,
        (after.buffers - before.buffers - buffers * while_sent) / count,
        {name: (read - before.rows_by_source.get(name, 0.0)) / count for name, read in after.rows_by_source.items()},
        rows,
        buffers,
        is_whole=not run.lost() and not run.repeated(),
    )


def _referrals(system: GrowingSystem, name: str, count: int) -> BenchmarkResult:
    args = argparse.Namespace(count=count, connections=16)
    file_name = name.replace(" ", "-").replace(",", "")
    return loop.measure(system.running, system.inbox, system.token, args, file_name, "home-hub")


def _show_costs(title: str, costs: Sequence[ReferralCost]) -> None:
    table = Table(title=title, title_justify="left")
    table.add_column("of one referral")
    for cost in costs:
        table.add_column(cost.name, justify="right")
        if cost is not costs[0]:
            table.add_column("ratio", justify="right")
    for figure, first in costs[0].figures().items():
        cells = [f"{first:,.0f}"]
        for cost in costs[1:]:
            value = cost.figures()[figure]
            cells += [f"{value:,.0f}", f"{value / first:.2f}" if first > 0 else ""]
        table.add_row(figure, *cells)
    console.print(table)
    for cost in costs:
        most = sorted(cost.rows_by_source.items(), key=lambda one: -one[1])[:MOST_SOURCES]
        text = ", ".join(f"{name} {rows:,.0f}" for name, rows in most)
        console.print(f"rows read most, {cost.name}: {text}", highlight=False)


# ---- growing --------------------------------------------------------------------------------------------------------


def _check_disk(folder: Path, persons: int, bytes_a_person: float) -> None:
    """Print the disk need; exit with 2 if there is less."""
    need, free = persons * bytes_a_person + RESERVE_BYTES, shutil.disk_usage(folder).free
    console.print(
        f"{persons:,} persons need {need / GIGABYTE:,.1f} GB in {folder}, {bytes_a_person / 1000:.1f} kB each and"
        f" {RESERVE_BYTES / GIGABYTE:.0f} GB to spare; {free / GIGABYTE:,.1f} GB are free",
        highlight=False,
        soft_wrap=True,
    )
    if free < need:
        console.print("Too little: give a smaller --persons, or a --folder on a larger disk.")
        raise SystemExit(2)


def _alone(system: GrowingSystem) -> tuple[str, str]:
    """Refer one person alone, so that no packet holds anything of others too; return person key and reference."""
    [message] = messages(1, f"alone {time.time()}")
    system.post(message)
    query = """
        select person_key, reference from router.referral where correlation_id = $1 and exists (
            select from notifier.feedback as told where told.reference = referral.reference having every(told.state = 'accepted'))"""
    [person] = _until(lambda: asyncio.run(system.query(query, message.correlation_id)))
    return person["person_key"], person["reference"]


async def _grow(system: GrowingSystem, person_key: str, reference: str) -> None:
    """Copy the person until there are `--persons`; the first copies show how much disk one needs."""
    persons = system.args.persons
    connection = await copies.connect(system.running.addresses["postgres"])
    try:
        await _set_durable(connection, durable=False)
        rows = await copies.rows_of(connection, person_key, reference)
        before, first = await _bytes(connection), min(persons, FIRST_PERSONS)
        await copies.insert(connection, rows, 1, first)
        each = (await _bytes(connection) - before) / first
        _say(f"{len(rows)} rows a person")
        _check_disk(system.work, persons - first, each)
        await copies.insert(connection, rows, first + 1, persons, _progress(persons))
        _say("vacuum, analyze")
        await connection.execute("vacuum (analyze)")
        await _set_durable(connection, durable=True)
        size = await _bytes(connection) - before
        console.print(
            f"{persons:,} persons: {size / GIGABYTE:.2f} GB, {size / persons / 1000:.1f} kB each", highlight=False
        )
    finally:
        await connection.close()


async def _bytes(connection: Any) -> int:
    return int(await connection.fetchval("select pg_database_size(current_database())"))


async def _set_durable(connection: Any, *, durable: bool) -> None:
    """Switch durability off while rows are copied, and on again, with everything on disk."""
    for setting in ("fsync", "full_page_writes"):
        await connection.execute(f"alter system {f'reset {setting}' if durable else f'set {setting} = off'}")
    await connection.execute("select pg_reload_conf()")
    if durable:
        await connection.execute("checkpoint")


def _progress(persons: int) -> "partial[None]":
    return partial(_print_progress, time.monotonic(), persons)


def _print_progress(began: float, persons: int, done: int) -> None:
    rate = done / (time.monotonic() - began)
    _say(f"  {done:,} of {persons:,} persons, {rate:,.0f}/s, {(persons - done) / rate:,.0f} s left")


# ---- rows of one number ---------------------------------------------------------------------------------------------


@dataclass
class OtherPeople:
    """Referrals of other people, posted one after the other; `posted`: when, by correlation id."""

    system: GrowingSystem
    run: str
    posted: dict[str, float] = field(default_factory=dict)
    _ended: threading.Event = field(default_factory=threading.Event)

    def _post_all(self) -> None:
        for message in messages(100_000, self.run):
            self.posted[message.correlation_id] = time.time()
            self.system.post(message)
            if self._ended.wait(PACE_SECONDS):
                return

    @contextmanager
    def posting(self) -> Iterator[None]:
        """Post until the end of the block."""
        thread = threading.Thread(target=self._post_all)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def waits(self, offset: int) -> list[float]:
        """Return the seconds until the feedback on each; infinite if it did not come. `offset`: of the inbox, before the first."""
        lines = loop.wait_for_feedback(self.system.inbox, offset, set(self.posted), "home-hub")
        run = BenchmarkResult(self.run, [], lines, "home-hub", 0.0, {})
        ends = run.completion_times()
        return [ends.get(correlation_id, float("inf")) - at for correlation_id, at in self.posted.items()]


@dataclass(frozen=True)
class FileDelay:
    """How long others waited while the rows of a file were decided. `waits` in seconds; `seconds`: until the last row was decided."""

    name: str
    taken: int
    decided: int
    seconds: float
    waits: Sequence[float]

    @property
    def typical(self) -> float:
        return statistics.median(self.waits)


def _different_numbers(rows: int) -> Iterator[dict[str, str]]:
    for at, number in zip(range(rows), councils.numbers(), strict=False):
        yield councils.row(at, number)


def _one_number(rows: int) -> Iterator[dict[str, str]]:
    for at in range(rows):
        yield councils.row(at, "9998000009") | {"Case Ref": f"BDC/27/{at:06}"}


def _one_person(rows: int) -> Iterator[dict[str, str]]:
    for at in range(rows):
        yield councils.row(0, "9998000017") | {"Case Ref": f"BDC/28/{at:06}"}


FILES = {
    "different people, different numbers": _different_numbers,
    "different people, one number": _one_number,
    "one person": _one_person,
}


def _delay(system: GrowingSystem, name: str) -> FileDelay:
    _say(f"{system.args.rows:,} rows: {name}")
    body = "".join(councils.csv_lines(FILES[name](system.args.rows))).encode()
    others, offset, began = OtherPeople(system, f"{name} {time.time()}"), system.inbox.stat().st_size, time.monotonic()
    with others.posting():
        references = _upload(system, body)
        decided = _until_decided(system, references)
        seconds = time.monotonic() - began
    return FileDelay(name, len(references), decided, seconds, others.waits(offset))


def _upload(system: GrowingSystem, body: bytes) -> list[str]:
    """Return the references of the rows that were taken."""
    token = system.running.addresses["partners"][councils.PARTNER]["token"]
    url = f"{system.running.addresses['intake']}/councils/{councils.COUNCIL}/referrals"
    request = urllib.request.Request(url, body, {"Authorization": f"Bearer {token}", "Content-Type": councils.CSV})  # noqa: S310 - our own address
    with urllib.request.urlopen(request, timeout=WAIT_SECONDS) as answer:  # noqa: S310 - our own address
        return [row["reference"] for row in json.load(answer)["rows"] if row["reference"]]


def _until_decided(system: GrowingSystem, references: Sequence[str]) -> int:
    """Wait until the router has decided these referrals, or for WAIT_SECONDS; return how many it has."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        query = "select count(*) from router.referral where reference = any($1::text[])"
        decided = int(system.value(query, references))
        if decided == len(references) or time.monotonic() > deadline:
            return decided
        time.sleep(0.5)


def _show_delays(delays: Sequence[FileDelay]) -> None:
    table = Table(
        title="While a council's file is decided, other people's referrals wait for their feedback",
        title_justify="left",
    )
    for column in ("rows of", "taken", "decided", "in s", "others", "median wait s", "longest s", "median, ratio"):
        table.add_column(column, justify="left" if column == "rows of" else "right")
    for delay in delays:
        waits = (f"{delay.typical:.2f}", f"{max(delay.waits):.2f}", f"{delay.typical / delays[0].typical:.2f}")
        counts = (f"{delay.taken:,}", f"{delay.decided:,}", f"{delay.seconds:.1f}", f"{len(delay.waits)}")
        table.add_row(delay.name, *counts, *waits)
    console.print(table)
    console.print(
        f"wait for rows of one number, as a multiple of that for different numbers: aim at most {AIM},"
        f" measured {delays[1].typical / delays[0].typical:.2f} (median), {max(delays[1].waits) / max(delays[0].waits):.2f} (longest)",
        highlight=False,
        soft_wrap=True,
    )


# ---- a topic that refuses, a practice that is slow ------------------------------------------------------------------


def _cost_with_refusing_topic(system: GrowingSystem) -> ReferralCost:
    """Return the cost of a referral while events wait for a hub's topic that refuses them; delete them afterwards."""
    topic = hub_case(REFUSING_HUB)
    asyncio.run(_refuse(system.running.addresses["kafka"], topic))
    [message] = messages(1, f"refusing {time.time()}")
    system.post(dataclasses.replace(message, body=message.body.replace(OUR_POSTCODE, ITS_POSTCODE)))
    query = "select id from router.packet_held where target = $1"
    _until(lambda: system.value(query, topic))
    asyncio.run(_copy(system, lambda connection: copies.held_rows_of(connection, "router", topic)))
    cost = _cost(system, "topic refuses")
    asyncio.run(system.query("delete from router.packet_held where target = $1", topic))
    return cost


async def _refuse(kafka: str, topic: str) -> None:
    """Let Kafka refuse every event of a topic as too large."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, topic, configs={"max.message.bytes": "10"})]
        )
    finally:
        await admin.close()


def _cost_with_slow_practice(system: GrowingSystem) -> ReferralCost:
    """Return the cost of a referral while feedback is due to a practice that answers slowly."""
    [message] = messages(1, f"slow {time.time()}")
    ods = {partner.id: (partner.ods or "").encode() for partner in partners.load(system.running.plan.directory, None)}
    body = message.body.replace(ods[PRACTICE], ods[SLOW_PRACTICE])
    system.post(dataclasses.replace(message, body=body), SLOW_PRACTICE)
    query = "select {} from notifier.conversation where recipient = $1 and attempts > 0"
    person_key = str(_until(lambda: system.value(query.format("person_key"), SLOW_PRACTICE)))
    reference = system.value(query.format("reference"), SLOW_PRACTICE)
    waiting = dict.fromkeys(("notifier.conversation", "notifier.feedback", "notifier.input"), "true")
    asyncio.run(_copy(system, lambda connection: copies.rows_of(connection, person_key, reference, waiting)))
    with _slow_practice(system.slow_port):
        return _cost(system, "practice slow")


async def _copy(system: GrowingSystem, rows_of: Callable[[Any], Awaitable[list[CopiedRow]]]) -> None:
    waiting = system.args.waiting
    connection = await copies.connect(system.running.addresses["postgres"])
    try:
        rows = await rows_of(connection)
        _say(f"{waiting:,} times: {', '.join(row.table for row in rows)}")
        await copies.insert(connection, rows, 1, waiting)
        await connection.execute("vacuum (analyze)")
    finally:
        await connection.close()


class _SlowPractice(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        time.sleep(SLOW_SECONDS)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@contextmanager
def _slow_practice(port: int) -> Iterator[None]:
    """Run a practice's system that accepts each message after SLOW_SECONDS."""
    server = ThreadingHTTPServer((ports_and_secrets.HOST, port), _SlowPractice)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


def _until(look: Callable[[], Any]) -> Any:
    """Return what `look` finds; exit with 1 if it finds nothing for WAIT_SECONDS."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (found := look()):
        if time.monotonic() > deadline:
            console.print("nothing waits: the growth cannot be measured")
            raise SystemExit(1)
        time.sleep(0.2)
    return found


# ---- the whole ------------------------------------------------------------------------------------------------------


def _measure(system: GrowingSystem) -> bool:
    """Measure everything; return whether nothing was lost, repeated or not decided."""
    _referrals(system, "warm", min(300, system.args.count))
    empty = _cost(system, "empty")
    asyncio.run(_grow(system, *_alone(system)))
    _referrals(system, "warm again", min(300, system.args.count))
    grown = _cost(system, "grown")
    _show_costs(f"After {system.args.persons:,} persons", [empty, grown])
    delays = [_delay(system, name) for name in FILES]
    _show_delays(delays)
    waiting = [_cost_with_refusing_topic(system), _cost_with_slow_practice(system)]
    _show_costs(f"While {system.args.waiting:,} events, or feedbacks, wait for one recipient", [grown, *waiting])
    costs, decided = [empty, grown, *waiting], all(delay.decided == delay.taken > 0 for delay in delays)
    return decided and all(cost.is_whole for cost in costs) and all(max(delay.waits) < WAIT_SECONDS for delay in delays)


def _arguments() -> argparse.Namespace:
    reader = argparse.ArgumentParser(
        prog="make growth", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    reader.add_argument("--persons", type=int, default=1_000_000, help="persons to grow to (default 1,000,000)")
    reader.add_argument("--count", type=int, default=500, help="referrals of each measurement (default 500)")
    reader.add_argument("--rows", type=int, default=3_000, help="rows of each council's file (default 3,000)")
    reader.add_argument("--waiting", type=int, default=200_000, help="events or feedbacks that wait (default 200,000)")
    reader.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the data are kept during the run"
    )
    return reader.parse_args()


def main() -> None:
    """Run the benchmark, and stop and delete all that it started."""
    args = _arguments()
    _check_disk(args.folder, args.persons, BYTES_A_PERSON)
    with (
        tempfile.TemporaryDirectory(prefix="lightbulb-growth-", dir=args.folder) as work,
        _system(Path(work), args) as system,
    ):
        is_whole = _measure(system)
    raise SystemExit(0 if is_whole else 1)


if __name__ == "__main__":
    main()
