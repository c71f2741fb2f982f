"""PostgreSQL: connections, and the distinction between transient and permanent faults."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from aiokafka.errors import KafkaError
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

Transaction = AsyncConnection
"""A connection inside `async with engine.begin() as tx`."""

SERVICE_ROLES = {name: f"lightbulb_{name}" for name in ("intake", "router", "notifier")}
"""The PostgreSQL role of each service. The planner's rules are set on the roles (infra/database/roles.py)."""

R = TypeVar("R")

TRANSIENT_CLASSES = ("08", "40", "53", "57", "58")
"""Transient SQLSTATE classes: connection, rollback (serialization, deadlock), resources, intervention, system."""

TRANSIENT_STATES = ("55P03", "25P03")
"""Lock not available; idle in transaction for too long."""


SESSION_LIMITS = {
    "lock_timeout": "8s",
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "8s",
}
"""Settings of a service's sessions, which release their locks if the process hangs."""


def connect(url: str, *, pool: int = 10, timeout: float | None = 40) -> AsyncEngine:
    """Return an engine whose errors carry no parameters.

    The timeouts of its sessions release their locks if this process hangs. `timeout`: seconds that the client waits for one
    statement; None, for tools, sets no limit for statements and transactions. Sessions of other roles than the services' plan each
    statement for its values.
    """
    limits = {"application_name": "lightbulb", **SESSION_LIMITS}
    if make_url(url).username not in SERVICE_ROLES.values():
        # without the rules of a role, a generic plan made for an empty table would later scan all of it
        limits |= {"jit": "off", "plan_cache_mode": "force_custom_plan"}
    if timeout is None:
        limits |= {"statement_timeout": "0", "idle_in_transaction_session_timeout": "0"}
    return create_async_engine(
        url,
        pool_size=pool,
        max_overflow=0,
        pool_timeout=5,
        hide_parameters=True,
        connect_args={"timeout": 4, "command_timeout": timeout, "server_settings": limits},
    )


def sqlstate(error: BaseException) -> str | None:
    """Return the SQLSTATE of a PostgreSQL error, or None."""
    return getattr(getattr(error, "orig", None), "sqlstate", None)


def is_transient(error: BaseException) -> bool:
    """Return True for a transient fault: database or broker unreachable, timeout, deadlock.

    The caller backs off and retries; it never quarantines the record.
    """
    if isinstance(error, DBAPIError):
        state = sqlstate(error)
        return (
            error.connection_invalidated
            or state is None
            or state.startswith(TRANSIENT_CLASSES)
            or state in TRANSIENT_STATES
        )
    return isinstance(error, OSError | TimeoutError | MemoryError | PoolTimeout | KafkaError)


def reason_class(error: BaseException) -> str:
    """Return the class of the error, in words that cannot hold personal data."""
    state = sqlstate(error)
    if state is None:
        return type(error).__name__
    constraint = getattr(getattr(error.orig, "__cause__", None), "constraint_name", None)  # type: ignore[attr-defined]  # attribute of asyncpg
    return f"sqlstate {state} {constraint}" if constraint else f"sqlstate {state}"


def error_kind(error: BaseException) -> str:
    """Return the kind of a transient fault for a metric label: one of five."""
    if isinstance(error, DBAPIError | PoolTimeout):
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

    Order is preserved. `act` and `refuse` are one transaction each. Transient faults are raised: the caller backs off and retries.
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
