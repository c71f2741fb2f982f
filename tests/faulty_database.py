"""Faults of PostgreSQL that pass: a table that is away, sessions of a server that is no longer the primary."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine


@asynccontextmanager
async def away_for_a_moment(engine: AsyncEngine, schema: str, table: str) -> AsyncIterator[None]:
    """Rename a table, as a restore does for some seconds."""
    async with engine.begin() as tx:
        await tx.execute(text(f"alter table {schema}.{table} rename to {table}_restored"))
    try:
        yield
    finally:
        async with engine.begin() as tx:
            await tx.execute(text(f"alter table {schema}.{table}_restored rename to {table}"))


async def make_sessions_read_only(engine: AsyncEngine) -> None:
    """Make the open sessions of a pool read-only, as after a failover; new ones can write."""
    sessions = [await engine.connect() for _ in range(max(3, engine.pool.checkedin()))]
    for session in sessions:
        await session.execute(text("set default_transaction_read_only = on"))
        await session.commit()
        await session.close()


@asynccontextmanager
async def read_only_server(engine: AsyncEngine) -> AsyncIterator[None]:
    """Make every session that begins from now on read-only; those that are open can write."""
    async with engine.connect() as connection:
        name = await connection.scalar(text("select quote_ident(current_database())"))
        await connection.commit()
        try:
            await _executed(connection, f"alter database {name} set default_transaction_read_only = on")
            yield
        finally:
            await _executed(connection, f"alter database {name} reset default_transaction_read_only")


async def _executed(connection: AsyncConnection, statement: str) -> None:
    await connection.execute(text(statement))
    await connection.commit()
