"""PostgreSQL: connections, transactions, and which faults are held against a record.

A fault is transient unless data can cause it: see docs/decisions/0031-hold-a-fault-against-a-record-only-if-data-can-cause-it.md.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

import asyncpg
from aiokafka.errors import KafkaError
from sqlalchemy import TextClause, event, make_url, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, PendingRollbackError, ResourceClosedError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

Transaction = AsyncConnection
"""A connection inside `async with transaction(engine, schema) as tx`, or `engine.begin()`."""

SERVICE_ROLES = {name: f"lightbulb_{name}" for name in ("intake", "router", "notifier")}
"""The PostgreSQL role of each service. The planner's rules are set on the roles (infra/database/roles.py)."""

R = TypeVar("R")

DATA_CLASSES = ("21", "22", "23", "54")
"""SQLSTATE classes that data can cause: cardinality, data exception, violated constraint, exceeded limit of the server."""

SESSION_CLASSES = ("25", "26", "34")
"""SQLSTATE classes of sessions that are of no more use: read-only, or without their transaction, prepared statement or cursor."""

SESSION_STATES = ("0A000", "42P05")
"""SQLSTATEs of such sessions: a cached plan that may not change its result; a prepared statement of another session."""


def session_settings(url: str) -> dict[str, str]:
    """Return the settings of each session of a service; the timeouts release its locks if the process hangs.

    Sessions of other roles than the services' plan each statement for its values.
    """
    limits = {"lock_timeout": "8s", "statement_timeout": "30s", "idle_in_transaction_session_timeout": "8s"}
    if make_url(url).username in SERVICE_ROLES.values():
        return limits
    # without the rules of a role, a generic plan made for an empty table would later scan all of it
    return limits | {"jit": "off", "plan_cache_mode": "force_custom_plan"}


def connect(url: str, *, pool: int = 10, timeout: float | None = 40) -> AsyncEngine:
    """Return an engine whose errors carry no parameters.

    Its sessions have `session_settings`. `timeout`: seconds that the client waits for one statement; None, for tools, sets no limit for
    statements and transactions.
    """
    limits = {"application_name": "lightbulb", **session_settings(url)}
    if timeout is None:
        limits |= {"statement_timeout": "0", "idle_in_transaction_session_timeout": "0"}
    engine = create_async_engine(
        url,
        pool_size=pool,
        max_overflow=0,
        pool_timeout=5,
        hide_parameters=True,
        connect_args={"timeout": 4, "command_timeout": timeout, "server_settings": limits},
    )
    event.listen(engine.sync_engine, "handle_error", _discard_useless_sessions)
    return engine


def _discard_useless_sessions(context: ExceptionContext) -> None:
    """Close a session that is of no more use, and those that were opened before it: all were opened to the same server."""
    state = getattr(context.original_exception, "sqlstate", None) or ""
    if state.startswith(SESSION_CLASSES) or state in SESSION_STATES:
        context.is_disconnect = context.invalidate_pool_on_disconnect = True


@contextlib.asynccontextmanager
async def transaction(engine: AsyncEngine, schema: str) -> AsyncIterator[Transaction]:
    """Begin a transaction that applies records: commit at the end, roll back after an error.

    Before it raises an error that is held against a record, the same session writes an empty transaction: if that fails, its error,
    which is transient, is raised instead. `schema`: that of the service, with its outbox.
    """
    async with engine.connect() as connection:
        try:
            async with connection.begin():
                yield connection
        except Exception as error:
            if not is_transient(error):
                await check_writable(connection, schema)
            raise


async def check_writable(connection: AsyncConnection, schema: str) -> None:
    """Raise a transient fault unless this session can write the service's tables and commit. It changes no row."""
    if connection.invalidated:
        raise ConnectionResetError("the session was lost")
    async with connection.begin():
        await connection.execute(_written_by_nobody(schema))


def _written_by_nobody(schema: str) -> TextClause:
    """Return a statement that needs the outbox and the right to change it, and whose commit writes to the log of PostgreSQL."""
    return text(f"""
        with nothing as (update {schema}.packet set shard = shard where false)
        select pg_logical_emit_message(true, 'lightbulb', 'writable')""")  # noqa: S608 - schema names are constants


def sqlstate(error: BaseException) -> str | None:
    """Return the SQLSTATE of a PostgreSQL error, or None."""
    state = getattr(getattr(error, "orig", error), "sqlstate", None)
    return state if isinstance(state, str) else None


def is_transient(error: BaseException) -> bool:
    """Return False for an error that data can cause, so that it is held against the record.

    True for all others: of a server, session or client, and lost races. The caller backs off and retries, and skips no record.
    """
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or not _is_of_data(error)
    if isinstance(error, StatementError) and error.orig is not None:
        return is_transient(error.orig)  # the statement did not get as far as the database
    return isinstance(error, _FAULTS_OF_CLIENTS)


_FAULTS_OF_CLIENTS = (
    OSError,  # also TimeoutError
    MemoryError,
    KafkaError,
    PoolTimeout,
    PendingRollbackError,
    ResourceClosedError,
    asyncpg.PostgresError,  # of a connection that could not be opened: SQLAlchemy wraps those of statements
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)


def _is_of_data(error: DBAPIError) -> bool:
    state = sqlstate(error)
    if state is None:  # of asyncpg itself: a value that it cannot encode, else a fault of the connection
        return isinstance(getattr(error.orig, "__cause__", None), ValueError)
    return state.startswith(DATA_CLASSES)


def reason_class(error: BaseException) -> str:
    """Return the class of the error, in words that cannot hold personal data."""
    state = sqlstate(error)
    if state is None:
        return type(error).__name__
    constraint = getattr(getattr(getattr(error, "orig", None), "__cause__", None), "constraint_name", None)
    return f"sqlstate {state} {constraint}" if constraint else f"sqlstate {state}"


def error_kind(error: BaseException) -> str:
    """Return the kind of a transient fault for a metric label: one of five."""
    if isinstance(error, DBAPIError | PoolTimeout | asyncpg.PostgresError | asyncpg.InterfaceError):
        return "database"
    if isinstance(error, KafkaError):
        return "kafka"
    if isinstance(error, TimeoutError):
        return "timeout"
    return "network" if isinstance(error, OSError) else "other"


async def apply_with_bisection(
    records: Sequence[R], act: Callable[[Sequence[R]], Awaitable[None]], refuse: Callable[[R, str], Awaitable[None]]
) -> None:
    """Call `act` with all records; if their data make it fail, with each half, and `refuse` with a single one.

    Order is preserved. `act` and `refuse` use `transaction`. Transient faults are raised: the caller backs off and retries.
    """
    try:
        await act(records)
    except Exception as error:
        if is_transient(error):
            raise
        if len(records) == 1:
            await refuse(records[0], reason_class(error))
            return
        middle = len(records) // 2
        await apply_with_bisection(records[:middle], act, refuse)
        await apply_with_bisection(records[middle:], act, refuse)
