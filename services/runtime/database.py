"""PostgreSQL: connecting, and telling a passing fault from one that will never succeed."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from aiokafka.errors import KafkaError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

Transaction = AsyncConnection
"""A connection inside `async with engine.begin() as tx`."""

R = TypeVar("R")

TRANSIENT_CLASSES = ("08", "40", "53", "57", "58")
"""SQLSTATE classes that pass: connection, rollback (serialization, deadlock), resources, intervention, system."""

TRANSIENT_STATES = ("55P03", "25P03")
"""Lock not available; idle in transaction for too long."""


def connect(url: str, *, pool: int = 10, timeout: float | None = 40) -> AsyncEngine:
    """An engine whose errors carry no parameters, and whose sessions give their locks back when their process stops.

    `patience`: seconds that the client waits for one statement; none, for tools: statements and transactions may take as long as
    they do.
    """
    limits = {
        "application_name": "lightbulb",
        "jit": "off",
        "plan_cache_mode": "force_custom_plan",  # a plan made while a table was empty would read all of it later
        "lock_timeout": "8s",
        "statement_timeout": "30s",
        "idle_in_transaction_session_timeout": "8s",
    }
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
    """The five characters that PostgreSQL names an error by, or none."""
    return getattr(getattr(error, "orig", None), "sqlstate", None)


def is_transient(error: BaseException) -> bool:
    """True for what passes by itself: database or broker away, time-out, deadlock. Back off and retry; never quarantine."""
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
    """What kind of error it is, in a few words that can hold no personal data."""
    state = sqlstate(error)
    if state is None:
        return type(error).__name__
    constraint = getattr(getattr(error.orig, "__cause__", None), "constraint_name", None)  # type: ignore[attr-defined]  # the driver's own
    return f"sqlstate {state} {constraint}" if constraint else f"sqlstate {state}"


def error_kind(error: BaseException) -> str:
    """One of five words for a passing fault, for metrics."""
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
    """Do `act` on all of `records` at once; where their data make it fail, on halves of them, so that only the culprit is refused.

    Order is kept. `act` and `refuse` are a transaction each. Passing faults are raised: the caller backs off and tries again.
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
