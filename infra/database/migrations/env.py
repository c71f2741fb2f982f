"""Run the Alembic migrations in one transaction, one process at a time."""

import asyncio
import threading

from alembic import context
from sqlalchemy import Connection, text

from infra.database import roles
from services.runtime import database


async def _upgrade(url: str) -> None:
    engine = database.connect(url, pool=1)
    try:
        async with engine.begin() as connection:
            await connection.execute(text("set lock_timeout = '60s'"))
            await connection.execute(text("select pg_advisory_xact_lock(hashtext('lightbulb migrate'))"))
            await roles.ensure(connection)
            await connection.run_sync(_steps)
    finally:
        await engine.dispose()


def _steps(connection: Connection) -> None:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()


def _run() -> None:
    asyncio.run(_upgrade(context.config.attributes["url"]))


# In a separate thread: the caller may have a running event loop.
_failures: list[BaseException] = []


def _recording() -> None:
    try:
        _run()
    except BaseException as error:  # raised in the caller's thread below
        _failures.append(error)


_thread = threading.Thread(target=_recording)
_thread.start()
_thread.join()
if _failures:
    raise _failures[0]
