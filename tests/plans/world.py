"""A database of 100,000 persons, made in SQL from rows that the services wrote; and waiting rows of a few kinds, of any number."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import asyncpg

Connection = asyncpg.Connection

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_REFERENCE = re.compile(r"LB-[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{4}")
_KEY = re.compile(r"(?<![0-9a-f-])[0-9a-f]{32}(?![0-9a-f])")


@dataclass(frozen=True)
class Rows:
    """Rows of a table to copy. `set`: SQL expressions by column, in which `i` is the number of the copy.

    `kept`: words that all copies share; every other id, reference and person key is replaced by one of the copy, but not in bytes.
    """

    table: str
    where: str
    set: Mapping[str, str] = field(default_factory=dict)
    kept: frozenset[str] = frozenset()
    lines: tuple[tuple[str, Mapping[str, str]], ...] = ()
    """Each row as JSON, and its columns of bytes as SQL constants, once they were read."""


async def read(tx: Connection, rows: Rows) -> Rows:
    """Return `rows` with the lines that are in the table now."""
    of_bytes = [row["name"] for row in await tx.fetch(_COLUMNS, rows.table) if row["type"] == "bytea"]
    columns = "".join(f', "{name}"' for name in of_bytes)
    found = await tx.fetch(
        f"select (to_jsonb(t) - $1::text[])::text as line{columns} from {rows.table} t where {rows.where}", of_bytes
    )
    assert found, f"{rows.table} has no row to copy where {rows.where}"
    return replace(rows, lines=tuple((row["line"], {name: _constant(row[name]) for name in of_bytes}) for row in found))


def _constant(value: bytes | None) -> str:
    return "null" if value is None else f"'\\x{value.hex()}'::bytea"


async def copy(tx: Connection, rows: Rows, first: int, last: int) -> None:
    """Insert copies number `first` to `last` of each row. A column that PostgreSQL numbers is copied only if `set` has it."""
    columns = [
        row["name"] for row in await tx.fetch(_COLUMNS, rows.table) if not row["numbered"] or row["name"] in rows.set
    ]
    names = ", ".join(f'"{name}"' for name in columns)
    for line, constants in rows.lines:
        given = {**constants, **rows.set}
        values = ", ".join(given.get(name, f'one."{name}"') for name in columns)
        await tx.execute(
            f"""insert into {rows.table} ({names}) overriding system value
                select {values} from generate_series({first}, {last}) as i
                cross join lateral jsonb_populate_record(null::{rows.table}, {_replaced(line, rows.kept)}::jsonb) as one"""
        )


_COLUMNS = """
    select attname as name, atttypid::regtype::text as type, attidentity <> '' as numbered from pg_attribute
    where attrelid = $1::text::regclass and attnum > 0 and not attisdropped and attgenerated = ''"""


def _replaced(line: str, kept: frozenset[str]) -> str:
    """Return an SQL expression for `line` with the words of copy `i`."""
    sql = "'" + line.replace("'", "''") + "'"
    for pattern, made in ((_UUID, _UUID_OF), (_KEY, _KEY_OF), (_REFERENCE, _REFERENCE_OF)):
        for word in sorted(set(pattern.findall(line)) - kept):
            sql = f"replace({sql}, '{word}', {made.format(word=word)})"
    return sql


_KEY_OF = "md5('{word}' || i)"
_UUID_OF = "md5('{word}' || i)::uuid::text"
_REFERENCE_OF = "regexp_replace(upper(substr(md5('{word}' || i), 1, 12)), '(....)(....)(....)', 'LB-\\1-\\2-\\3')"
