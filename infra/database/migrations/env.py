"""Run the Alembic migrations in one transaction, one process at a time."""

import asyncio
import threading
from collections.abc import Mapping

from alembic import context
from sqlalchemy import Connection, text

from infra.database import roles
from infra.database.migrations import SchemaDiffers
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
    _compare(connection)
    with context.begin_transaction():
        context.run_migrations()
    revision = context.get_context().get_current_revision()
    connection.execute(text(f"comment on table alembic_version is '{_digest(revision)}'"))


def _compare(connection: Connection) -> None:
    """Raise SchemaDiffers if the schema was not made by the migrations up to its revision, as they are now."""
    revision = context.get_context().get_current_revision()
    if revision is None:
        return
    if _digest(revision) is None:
        raise SchemaDiffers(
            f"The database has schema version {revision}, which this version does not have: a later one migrated it."
        )
    if connection.scalar(text("select obj_description('alembic_version'::regclass)")) != _digest(revision):
        raise SchemaDiffers(
            f"The database has schema version {revision} of another build, and cannot be migrated: use an empty database,"
            " or another --data folder."
        )


def _digest(revision: str | None) -> str | None:
    digests: Mapping[str | None, str] = context.config.attributes["digests"]
    return digests.get(revision)


def _run() -> None:
    asyncio.run(_upgrade(context.config.attributes["url"]))


def _recording() -> None:
    try:
        _run()
    except BaseException as error:  # raised in the caller's thread below
        _failures.append(error)


_failures: list[BaseException] = []

# In a separate thread: the caller may have a running event loop.
_thread = threading.Thread(target=_recording)
_thread.start()
_thread.join()
if _failures:
    raise _failures[0]
