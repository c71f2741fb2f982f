"""Rebuild a service's state from its stored inputs in a separate schema, and compare both by person key.

The service's own code decides again; only its statements go to the other schema. Nothing is published: no relay reads that schema.
The service may run concurrently; inputs that it applies during the replay are replayed too, and both schemas are compared in one
snapshot.
"""

# ruff: noqa: S608 - schema and table names are constants

import hashlib
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.runtime import database
from services.runtime.database import Transaction

Progress = Callable[[int, int], None]
"""Called with the number of inputs done and the total."""


class CannotReplay(Exception):
    """A replay that cannot run; the text names the reason and what to do."""


@dataclass(frozen=True, slots=True)
class Proof:
    """The result of the comparison. `differing`: person keys, and the tables in which each differs."""

    inputs: int
    seconds: float
    keys: int
    fingerprint: str
    differing: tuple[tuple[str, tuple[str, ...]], ...]
    left_out: int = 0
    """Number of person keys that were not compared, because the service was still applying inputs for them."""

    @property
    def is_equal(self) -> bool:
        return not self.differing

    @property
    def rate(self) -> float:
        """Inputs per second."""
        return self.inputs / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class ReplayTarget:
    """A service's `schema`, and the `other` schema, in which these of its tables are rebuilt."""

    url: str
    schema: str
    other: str
    tables: Sequence[str]
    keep: bool = False
    replace: bool = False
    """Drop the schema that an earlier replay kept."""


@asynccontextmanager
async def replay_schema(place: ReplayTarget) -> AsyncIterator[tuple[AsyncEngine, AsyncEngine]]:
    """Yield an engine for the stored state, and one whose statements go to empty tables in the other schema.

    Only one replay of a service runs at a time: its lock ends with its database session, even if the process is killed. The schema
    of a killed replay is dropped. Raises CannotReplay.
    """
    source = database.connect(place.url, pool=3, timeout=None)
    try:
        async with _exclusive(source, place):
            await _make(source, place)
            try:
                async with redirected_engine(place.url, place.schema, place.other) as target:
                    yield source, target
            finally:
                await _leave(source, place)
    finally:
        await source.dispose()


@asynccontextmanager
async def _exclusive(engine: AsyncEngine, place: ReplayTarget) -> AsyncIterator[None]:
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        mine = await connection.scalar(
            text("select pg_try_advisory_lock(hashtext(:name))"), {"name": f"lightbulb {place.other}"}
        )
        if not mine:
            raise CannotReplay(
                f"Another replay of the {place.schema} is running on this database. Wait until it ends, or stop it, and repeat the command."
            )
        yield


async def _make(engine: AsyncEngine, place: ReplayTarget) -> None:
    async with engine.begin() as tx:
        if await tx.scalar(text(_HAS_KEEP_COMMENT), {"other": place.other, "kept": KEEP_COMMENT}) and not place.replace:
            raise CannotReplay(
                f"The schema {place.other} exists: an earlier replay ran with --keep. Use --replace to drop it and create it again."
            )
        await tx.execute(text(f"drop schema if exists {place.other} cascade"))
        await tx.execute(text(f"create schema {place.other}"))
        for table in place.tables:
            await tx.execute(text(f"create table {place.other}.{table} (like {place.schema}.{table} including all)"))


KEEP_COMMENT = "kept by lightbulb replay --keep"
_HAS_KEEP_COMMENT = "select 1 from pg_namespace where nspname = :other and obj_description(oid, 'pg_namespace') = :kept"


async def _leave(engine: AsyncEngine, place: ReplayTarget) -> None:
    async with engine.begin() as tx:
        if place.keep:
            await tx.execute(text(f"comment on schema {place.other} is '{KEEP_COMMENT}'"))
        else:
            await tx.execute(text(f"drop schema if exists {place.other} cascade"))


@asynccontextmanager
async def redirected_engine(url: str, schema: str, other: str) -> AsyncIterator[AsyncEngine]:
    """Yield an engine whose statements on tables of `schema` go to those of `other`."""
    engine = database.connect(url, pool=2, timeout=None)
    name = re.compile(rf'\b{schema}\.(?=[a-z"])')

    @event.listens_for(engine.sync_engine, "before_cursor_execute", retval=True)
    def rewrite(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> tuple[str, Any]:
        return name.sub(f"{other}.", statement), parameters

    try:
        yield engine
    finally:
        await engine.dispose()


@asynccontextmanager
async def snapshot(engine: AsyncEngine) -> AsyncIterator[Transaction]:
    """Yield a transaction with one consistent view of the database."""
    async with engine.connect() as connection:
        yield await connection.execution_options(isolation_level="REPEATABLE READ")


# ---- comparing ------------------------------------------------------------------------------------------------------


class Line(NamedTuple):
    """What must be equal of a row or message. `place`: its place among the lines of its key; 0 if the table has no order."""

    person_key: str
    text: str
    place: int = 0


Lines = Mapping[str, Callable[[Transaction, str], AsyncIterator[Line]]]
"""For each table the function that yields its lines in a schema."""

PART = 5_000
"""Lines that one statement stores."""


async def compare(
    tx: Transaction, schemas: Sequence[str], lines: Lines, excluded: str
) -> tuple[int, str, tuple[tuple[str, tuple[str, ...]], ...]]:
    """Return the number of person keys, the fingerprint of their checksums, and the differences of these two schemas.

    A difference is a person key and its differing tables. `excluded`: a query of person keys that are not compared. The checksums of all
    lines stand in a temporary table, so that no more than PART of them are in memory.
    """
    await tx.execute(text(_LINES))
    for table, lines_of in lines.items():
        for schema in schemas:
            await _store(tx, schema, table, lines_of(tx, schema))
    keys, fingerprint = (await tx.execute(text(_FINGERPRINT), {"schema": schemas[0]})).one()
    differing = await tx.execute(text(_DIFFERING.format(excluded=excluded)))
    return keys, fingerprint or "", tuple((row.person_key, tuple(row.names)) for row in differing)


async def _store(tx: Transaction, schema: str, table: str, lines: AsyncIterator[Line]) -> None:
    part: list[Line] = []
    async for line in lines:
        part.append(line)
        if len(part) == PART:
            await _store_part(tx, schema, table, part)
            part = []
    await _store_part(tx, schema, table, part)


async def _store_part(tx: Transaction, schema: str, table: str, part: Sequence[Line]) -> None:
    columns = {
        "keys": [one.person_key for one in part],
        "places": [one.place for one in part],
        "sums": [hashlib.sha256(one.text.encode()).digest() for one in part],
    }
    await tx.execute(text(_STORE), {"schema": schema, "name": table} | columns)


_LINES = """
    create temporary table replay_line (schema text, name text, person_key text, place bigint, sum bytea) on commit drop"""

_STORE = """
    insert into pg_temp.replay_line (schema, name, person_key, place, sum)
    select cast(:schema as text), cast(:name as text), key, place, sum
    from unnest(cast(:keys as text[]), cast(:places as bigint[]), cast(:sums as bytea[])) as line (key, place, sum)"""

_SUMS = """
    select schema, person_key, name, md5(string_agg(sum, '' order by place, sum)) as sum from pg_temp.replay_line
    group by schema, person_key, name"""

_FINGERPRINT = f"""
    select count(distinct person_key), md5(string_agg(sum, '' order by person_key, name))
    from ({_SUMS}) as sums where schema = :schema"""

_DIFFERING = f"""
    select person_key, array_agg(name order by name) as names from (
        select person_key, name from ({_SUMS}) as sums
        group by person_key, name having count(*) < 2 or min(sum) <> max(sum)
    ) as differing
    where person_key not in ({{excluded}}) group by person_key order by person_key"""


def canonical(json: bytes) -> str:
    """Return JSON with the members of its objects in one order, as a text that is equal for equal values."""
    return msgspec.json.encode(msgspec.json.decode(json), order="deterministic").decode()
