"""A copy of the services' tables at one moment, taken while they work, and put back: an older PostgreSQL, as a restore leaves it."""

import io
from collections.abc import Mapping
from dataclasses import dataclass

import asyncpg

SCHEMAS = ("intake", "router", "notifier")

_TABLES = """
    select format('%I.%I', nspname, relname) as name, array_agg(quote_ident(attname) order by attnum) as columns
    from pg_class join pg_namespace on pg_namespace.oid = relnamespace join pg_attribute on attrelid = pg_class.oid
    where nspname = any($1) and relkind = 'r' and attnum > 0 and not attisdropped and attgenerated = ''
    group by 1 order by 1"""

_IDENTITIES = """
    select format('%I.%I', table_schema, table_name) as name, column_name from information_schema.columns
    where table_schema = any($1) and is_identity = 'YES'"""


@dataclass(frozen=True)
class DatabaseCopy:
    """The rows of each table, as COPY writes them, and its columns."""

    rows: Mapping[str, tuple[str, bytes]]


async def take(address: str) -> DatabaseCopy:
    """Copy all tables as of one moment."""
    connection = await asyncpg.connect(address.replace("+asyncpg", ""))
    rows: dict[str, tuple[str, bytes]] = {}
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            for table in await connection.fetch(_TABLES, list(SCHEMAS)):
                columns, written = ", ".join(table["columns"]), io.BytesIO()
                await connection.copy_from_query(f"select {columns} from {table['name']}", output=written)
                rows[table["name"]] = columns, written.getvalue()
    finally:
        await connection.close()
    return DatabaseCopy(rows)


async def put_back(address: str, copy: DatabaseCopy) -> None:
    """Replace the content of all tables by that of a copy. No service may be connected."""
    connection = await asyncpg.connect(address.replace("+asyncpg", ""))
    try:
        async with connection.transaction():
            await connection.execute("set local session_replication_role = replica")
            await connection.execute(f"truncate {', '.join(copy.rows)}")
            for name, (columns, rows) in copy.rows.items():
                source = io.BytesIO(rows)
                await connection.copy_to_table(
                    name.split(".")[1].strip('"'),
                    schema_name=name.split(".")[0],
                    source=source,
                    columns=[one.strip('"') for one in columns.split(", ")],
                )
            for identity in await connection.fetch(_IDENTITIES, list(SCHEMAS)):
                await connection.execute(
                    f"select setval(pg_get_serial_sequence('{identity['name']}', '{identity['column_name']}'),"
                    f" (select coalesce(max({identity['column_name']}), 0) + 1 from {identity['name']}), false)"
                )
    finally:
        await connection.close()
