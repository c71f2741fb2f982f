"""Multiply one person in the database, so that a bench fills tables without a copy of their definitions.

The rows are those that the services wrote for that person. Each copy gets other identifiers (UUIDs, hashes, references, NHS numbers)
wherever they occur in texts, the same ones in all of its rows; other columns are equal, and times are one second earlier for each copy.
Bytes (messages, values of events) are copied unchanged.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from services.messaging.packets import SHARDS

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

    Raises NotCopied.
    """
    rows = []
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
    return rows


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
        differs = [name for name in index["columns"] if name in generated or IDENTIFIER.search(str(row[name]))]
        if not differs:
            raise NotCopied(f"{index['name']} of {table}: no identifier in {', '.join(index['columns'])}")


def _expression(column: Any, row: Any, place: int) -> str:
    """Return the value of a column in copy number n; its value in the person's row is parameter number `place`."""
    kind, value = column["type"], row[column["name"]]
    if kind == "bytea":
        return f"${place}::bytea"
    text = _with_new_identifiers(f"${place}::text", value or "")
    if column["name"] == "shard":  # a function of the key (services/messaging/packets.py)
        key = _with_new_identifiers(f"'{row['person_key']}'", row["person_key"])
        text = f"case when {text} is not null then crc32(convert_to({key}, 'UTF8')) % {SHARDS} end"
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
