"""A PostgreSQL and a Kafka of their own, whose counts depend on the services only, and how they are read."""

import asyncio
import re
import struct
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from infra.database import roles
from infra.database.migrations import migrate
from infra.local.embedded import kafka, postgres
from schemas import topics
from services.messaging import broker
from tests.builders.reference_data import DIRECTORY, MELTON

SETTINGS = {
    "autovacuum": "off",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    # no checkpoint while it runs: the first change of a page after a checkpoint writes the whole page
    "checkpoint_timeout": "1d",
    "max_wal_size": "100GB",
}
SCHEMAS = ("intake", "router", "notifier")


@dataclass(frozen=True)
class Servers:
    """`database` is the URL of a superuser; `cluster` and `storage` are the folders of PostgreSQL and Kafka."""

    database: str
    kafka: str
    cluster: Path
    storage: Path


@contextmanager
def start(folder: Path) -> Iterator[Servers]:
    """Yield both servers, with the tables and topics of an installation."""
    server = postgres.start(folder, fsync=False, settings=SETTINGS)
    try:
        brokers = kafka.start(folder, ephemeral=True)
        try:
            asyncio.run(_prepare(server.url, brokers.bootstrap))
            yield Servers(server.url, brokers.bootstrap, folder / "postgres" / "cluster", folder / "kafka")
        finally:
            brokers.stop()
    finally:
        server.stop()


async def _prepare(database: str, bootstrap: str) -> None:
    await asyncio.to_thread(migrate, database)
    await roles.set_passwords(database)
    connection = await connect(database)
    await connection.execute("insert into router.postcode values ('LE131DB', $1)", MELTON)
    await connection.close()
    await broker.create_topics(bootstrap, topics.declared(hub.id for hub in DIRECTORY.hubs), replication=1)


async def connect(url: str) -> Any:
    """Return a connection that is not counted."""
    return await asyncpg.connect(url.replace("+asyncpg", ""), server_settings={"application_name": "counts"})


# ---- PostgreSQL -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rows:
    """Rows of one table, without those of TOAST; `hot`: of the updated ones, those that changed no index."""

    inserted: int
    updated: int
    hot: int
    deleted: int

    def __sub__(self, earlier: "Rows") -> "Rows":
        return Rows(*(mine - theirs for mine, theirs in zip(self._all(), earlier._all(), strict=True)))

    def _all(self) -> tuple[int, ...]:
        return self.inserted, self.updated, self.hot, self.deleted


async def rows(connection: Any) -> dict[str, Rows]:
    """Return the rows written so far, by table, when no session of the services is left: an ending session reports its own."""
    while await connection.fetchval("select count(*) from pg_stat_activity where application_name = 'lightbulb'"):
        await asyncio.sleep(0.05)
    found = await connection.fetch(
        """select schemaname || '.' || relname as name, n_tup_ins, n_tup_upd, n_tup_hot_upd, n_tup_del
           from pg_stat_user_tables where schemaname = any($1)""",
        list(SCHEMAS),
    )
    return {name: Rows(*counts) for name, *counts in found}


async def wal_position(connection: Any) -> int:
    """Return where in the log, in bytes, the next record is written."""
    return int(await connection.fetchval("select pg_current_wal_insert_lsn()"))


async def waiting(connection: Any, schema: str) -> int:
    """Return how many packets of an outbox are not published, or have messages that are held."""
    return int(
        await connection.fetchval(
            f"""select (select count(*) from {schema}.packet where published_at is null)
                     + (select count(*) from {schema}.packet_held)"""
        )
    )


_RECORD = re.compile(r"len \(rec/tot\): *\d+/ *(\d+),.*?desc: (\S+)(?:.*?rel \d+/\d+/(\d+))?")


async def wal_by_relation(servers: Servers, connection: Any, first: int, last: int) -> Counter[str]:
    """Return the bytes between two positions of the log, by table, index or kind of record."""
    named = {
        str(row["file"]): row["name"]
        for row in await connection.fetch(
            """select pg_relation_filenode(one.oid) as file, coalesce(
                   'toast of ' || (select oid::regclass from pg_class as owner where owner.reltoastrelid in (one.oid, indrelid)),
                   one.oid::regclass::text) as name
               from pg_class as one left join pg_index on indexrelid = one.oid where pg_relation_filenode(one.oid) is not null"""
        )
    }
    start, end = (f"{position >> 32:X}/{position & 0xFFFFFFFF:X}" for position in (first, last))
    command = [postgres.programs() / "pg_waldump", "-p", servers.cluster / "pg_wal", "-s", start, "-e", end]
    await connection.execute("select pg_switch_wal()")
    read = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
    found: Counter[str] = Counter()
    for length, kind, relation in _RECORD.findall(read.stdout):
        found[named.get(relation, relation) or f"({kind})"] += int(length)
    return found


# ---- Kafka ----------------------------------------------------------------------------------------------------------

_HEADER = struct.Struct(">qi")
"""Base offset and length of a record batch, which begin it in Kafka's log."""


def record_batches(storage: Path) -> Counter[str]:
    """Return the record batches in Kafka's log, by topic; without Kafka's own topics."""
    found: Counter[str] = Counter()
    for segment in storage.glob("*/storage/*-*/*.log"):
        topic = segment.parent.name.rpartition("-")[0]
        if not topic.startswith("__"):
            found[topic] += _batches(segment.read_bytes())
    return found


def _batches(log: bytes) -> int:
    number = at = 0
    while at + _HEADER.size <= len(log):
        _, length = _HEADER.unpack_from(log, at)
        if length <= 0:  # the file is longer than what is written
            break
        number, at = number + 1, at + _HEADER.size + length
    return number
