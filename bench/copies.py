"""Multiply one person in the database, so that a bench fills tables without a copy of their definitions.

The rows are those that the services wrote for that person. Each copy gets other identifiers (UUIDs, hashes, references, NHS numbers)
wherever they occur in texts, the same ones in all of its rows; other columns are equal, and times are one second earlier for each copy.
Bytes (states, packets) are copied unchanged: each copy has the person's packets, in the shards of its own key, with ids below zero, which
no service gives. So only a person whose packets hold nothing of others can be multiplied truly.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from services.messaging.packets import SHARDS, shard_of

SCHEMAS = ("intake", "router", "notifier")
CHUNK = 20_000
"""Copies of one statement."""

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
IDENTIFIER = re.compile(rf"{UUID}|\b[0-9a-f]{{64}}\b|\b[0-9a-f]{{32}}\b|\bLB(?:-[0-9A-Z]{{4}}){{3}}\b|\b999\d{{7}}\b")

COLUMNS = """
    select attname as name, format_type(atttypid, atttypmod) as type, attidentity <> '' or attgenerated <> '' as is_generated
    from pg_attribute where attrelid = $1::regclass and attnum > 0 and not attisdropped order by attnum"""
UNIQUE_INDEXES = """
    select indexrelid::regclass::text as name, array(select attname::text from pg_attribute
        where attrelid = indrelid and attnum = any(indkey)) as columns
    from pg_index where indrelid = $1::regclass and indisunique"""
PACKET_COLUMNS = ("packet", "event_packet")
"""Columns that name a packet, in the shard of the person key; `packet` of intake.message in that of the partner."""

MOST_COPIES = 10_000_000
"""Copy number n of packet p has the id -(p * MOST_COPIES + n)."""

TABLES = """
    select format('%I.%I', schemaname, tablename) as name from pg_tables where schemaname = any($1) order by 1"""


class NotCopied(Exception):
    """A row cannot be multiplied: the copies would be equal in a unique index, which the text names."""


@dataclass(frozen=True)
class CopiedRow:
    """One row of the person, and the statement that inserts its copies number $1 to $2; `values` are its other parameters."""

    table: str
    statement: str
    values: Sequence[Any]


async def rows_of(
    connection: Any, person_key: str, reference: str, only: Mapping[str, str] | None = None
) -> list[CopiedRow]:
    """Return all rows of a person with this referral, or `only` those of some tables, each with a condition of SQL.

    With them come the packets that they name. Raises NotCopied.
    """
    rows, named = [], set()
    for table in [row["name"] for row in await connection.fetch(TABLES, list(SCHEMAS))]:
        columns = await connection.fetch(COLUMNS, table)
        names = {column["name"] for column in columns}
        found = next((name for name in ("person_key", "reference") if name in names), None)
        if found is None or (only and table not in only):
            continue
        condition = (only or {}).get(table, "true")
        selected = ", ".join(_selected(column) for column in columns)
        query = f"select {selected} from {table} where {found} = $1 and {condition}"  # noqa: S608 - names of our tables
        of_person = await connection.fetch(query, person_key if found == "person_key" else reference)
        unique = await connection.fetch(UNIQUE_INDEXES, table)
        rows += [_copied(table, columns, unique, row) for row in of_person]
        named |= {packet for row in of_person for packet in _packets_of(table, row, person_key)}
    return [*[await _copied_packet(connection, *packet) for packet in sorted(named)], *rows]


async def held_rows_of(connection: Any, schema: str, target: str) -> list[CopiedRow]:
    """Return the first row that is held of this topic, and its packet; the copies are held in all shards."""
    first = f"select shard, id, places from {schema}.packet_held where target = $1 order by shard, id limit 1"  # noqa: S608 - a constant
    [held] = await connection.fetch(first, target)
    packet = await _copied_packet(connection, schema, held["id"], f"n % {SHARDS}")
    statement = f"""
        insert into {schema}.packet_held (shard, target, id, places)
        select n % {SHARDS}, $3, {_id_of_copy(str(held["id"]))}, $4 from generate_series($1::integer, $2::integer) as n"""  # noqa: S608 - constants
    return [packet, CopiedRow(f"{schema}.packet_held", statement, [target, held["places"]])]


def _packets_of(table: str, row: Any, person_key: str) -> Iterator[tuple[str, int, str]]:
    """Yield schema, id and shard of each packet that a row names; the shard as an expression for copy number n."""
    key_of_copy = _with_new_identifiers(f"'{person_key}'", person_key)
    of_copy = f"crc32(convert_to({key_of_copy}, 'UTF8')) % {SHARDS}"
    for column in PACKET_COLUMNS:
        if row.get(column) is not None:
            by_partner = (table, column) == ("intake.message", "packet")
            yield table.partition(".")[0], int(row[column]), str(shard_of(row["partner"])) if by_partner else of_copy


async def _copied_packet(connection: Any, schema: str, packet: int, shard: str) -> CopiedRow:
    """Return the statement that inserts copies of a packet into the shard that `shard` gives for copy number n."""
    table = f"{schema}.packet"
    values = {"shard": shard, "id": _id_of_copy("id"), "created_at": "created_at - n * interval '1 second'"}
    columns = [column["name"] for column in await connection.fetch(COLUMNS, table)]
    selected = ", ".join(values.get(column, column) for column in columns)
    statement = f"""
        insert into {table} ({", ".join(columns)}) overriding system value
        select {selected} from {table} cross join generate_series($1::integer, $2::integer) as n where id = {packet}
        on conflict do nothing"""  # noqa: S608 - names of our tables
    return CopiedRow(table, statement, [])


def _id_of_copy(packet: str) -> str:
    return f"-({packet}::bigint * {MOST_COPIES} + n)"


def _selected(column: Any) -> str:
    return f'"{column["name"]}"' if column["type"] == "bytea" else f'"{column["name"]}"::text'


def _copied(table: str, columns: Sequence[Any], unique: Iterable[Any], row: Any) -> CopiedRow:
    copied = [column for column in columns if not column["is_generated"]]
    _check_unique(table, columns, unique, row)
    names = ", ".join(f'"{column["name"]}"' for column in copied)
    expressions = ", ".join(_expression(column, row, place) for place, column in enumerate(copied, 3))
    statement = (
        f"insert into {table} ({names}) select {expressions} from generate_series($1::integer, $2::integer) as n"  # noqa: S608 - names of our tables
    )
    return CopiedRow(table, statement, [row[column["name"]] for column in copied])


def _check_unique(table: str, columns: Sequence[Any], unique: Iterable[Any], row: Any) -> None:
    generated = {column["name"] for column in columns if column["is_generated"]}
    for index in unique:
        differs = [
            name
            for name in index["columns"]
            if name in generated or row[name] is None or IDENTIFIER.search(str(row[name]))
        ]
        if not differs:
            raise NotCopied(f"{index['name']} of {table}: no identifier in {', '.join(index['columns'])}")


def _expression(column: Any, row: Any, place: int) -> str:
    """Return the value of a column in copy number n; its value in the person's row is parameter number `place`."""
    kind, value = column["type"], row[column["name"]]
    if kind == "bytea":
        return f"${place}::bytea"
    if column["name"] in PACKET_COLUMNS:
        return _id_of_copy(f"${place}::text")
    text = _with_new_identifiers(f"${place}::text", value or "")
    return f"cast({text} as {kind})" + (" - n * interval '1 second'" if kind.startswith("timestamp") else "")


def _with_new_identifiers(expression: str, value: str) -> str:
    for identifier in sorted(set(IDENTIFIER.findall(value))):
        expression = f"replace({expression}, '{identifier}', {_of_copy(identifier)})"
    return expression


def _of_copy(identifier: str) -> str:
    """Return the expression of an identifier in copy number n: of the same form, and distributed as randomly."""
    digest = f"md5('{identifier}' || n)"
    if identifier.startswith("LB-"):
        return (
            f"upper('LB-' || substr({digest}, 1, 4) || '-' || substr({digest}, 5, 4) || '-' || substr({digest}, 9, 4))"
        )
    match len(identifier):
        case 10:
            return "'999' || lpad((n % 10000000)::text, 7, '0')"
        case 32:
            return digest
        case 36:
            return f"{digest}::uuid::text"
        case _:
            return f"{digest} || md5('{identifier}' || -n)"


async def insert(
    connection: Any, rows: Sequence[CopiedRow], first: int, last: int, done: Callable[[int], None] = lambda _: None
) -> None:
    """Insert copies number `first` to `last` of these rows; call `done` with the number of the last inserted one."""
    for start in range(first, last + 1, CHUNK):
        end = min(start + CHUNK - 1, last)
        for row in rows:
            await connection.execute(row.statement, start, end, *row.values)
        done(end)


async def connect(url: str) -> Any:
    """Return a connection for long statements; `url` is that of the installation."""
    settings = {"synchronous_commit": "off", "statement_timeout": "0"}
    return await asyncpg.connect(url.replace("+asyncpg", ""), server_settings=settings)
