"""Wait at start until database and Kafka are there, and answer health checks until then.

What may come by itself, or by `lightbulb migrate`, is waited for. What a person has to change is refused at once: credentials, the
name of the database, a connection pooler that shares sessions, topics that differ, settings and files.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from services.runtime import NotYet, StartupError, database, metrics
from services.runtime.http_limits import DEFAULT_LIMITS, HttpLimits
from services.runtime.logs import log
from services.runtime.process import HttpServers, Stopped
from services.runtime.settings import Settings

CHECK_SECONDS = 10.0
"""Time limit of all checks of one dependency; then it counts as unavailable."""

PAUSE_SECONDS = 1.0
"""Pause between two rounds of checks."""

LOG_SECONDS = 60.0
"""Interval between two log lines of a process that waits."""

Check = Callable[[], Awaitable[None]]
"""Raises what is lacking: a StartupError if a person has to change it, anything else if it is to be waited for."""

Checks = Mapping[str, Sequence[Check]]
"""By dependency, the checks that are made one after the other."""


@contextlib.asynccontextmanager
async def ready(
    chosen: Settings, checks: Checks, limits: HttpLimits = DEFAULT_LIMITS, *, only_health: bool = False
) -> AsyncIterator[HttpServers]:
    """Open the HTTP ports, wait until all checks pass, and yield the servers. Raises the errors that are refused, and Stopped.

    `only_health`: this service answers nothing else by HTTP.
    """
    pages = WaitingPages(limits.retry_seconds)
    async with HttpServers(chosen, pages, limits, only_health=only_health) as servers:
        await _until_done(_until_passed(checks, pages), servers.stopping)
        yield servers


async def _until_done(work: Coroutine[Any, Any, None], stopping: asyncio.Event) -> None:
    """Return when the work is done, or raise its error; raise Stopped if the process is to stop before."""
    working, stop = asyncio.create_task(work), asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({working, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Stopped
        working.result()
    finally:
        working.cancel()
        stop.cancel()
        await asyncio.gather(working, stop, return_exceptions=True)


class WaitingPages:
    """The ASGI application of a process that waits: live, not ready, and 503 with Retry-After for everything else."""

    def __init__(self, retry_seconds: int) -> None:
        self.unavailable: list[str] = []
        self._headers = {"retry-after": str(retry_seconds)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._response(scope["path"])(scope, receive, send)

    def _response(self, path: str) -> Response:
        if path == "/health/live":
            return JSONResponse({"status": "live", "version": metrics.version()})
        if path == "/health/ready":
            lacking = {"status": "not ready", "unavailable": self.unavailable or ["starting"]}
            return JSONResponse(lacking, 503, self._headers)
        return PlainTextResponse("service unavailable", 503, self._headers)


async def _until_passed(checks: Checks, pages: WaitingPages) -> None:
    logged_at = None
    with _quiet():
        while lacking := await _lacking(checks):
            pages.unavailable = lacking
            if logged_at is None or time.monotonic() - logged_at >= LOG_SECONDS:
                logged_at = time.monotonic()
                log.warning("waiting_to_start", unavailable=lacking)
            await asyncio.sleep(PAUSE_SECONDS)


async def _lacking(checks: Checks) -> list[str]:
    """Return what is lacking, by dependency; empty if every check passes now."""
    found = await asyncio.gather(*(_first_lack(name, each) for name, each in checks.items()))
    return [lack for lack in found if lack is not None]


async def _first_lack(name: str, checks: Sequence[Check]) -> str | None:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            for check in checks:
                await check()
    except Exception as error:
        return _lack(name, error)
    return None


def _lack(name: str, error: Exception) -> str:
    """Return what readiness lacks because of this error; raise it if it is to be refused."""
    if isinstance(error, NotYet):
        return f"{name}: {error}"
    if isinstance(error, StartupError):
        raise error
    if refusal := _refusal(error):
        raise refusal from None
    if (state := database.sqlstate(error)) in _NOT_MIGRATED:
        return f"{name}: the schema is not there or out of date (sqlstate {state}); run `lightbulb migrate`"
    return f"{name}: {database.reason_class(error)}"


class DatabaseRefuses(StartupError):
    """The database cannot be used as LIGHTBULB_DATABASE is set."""


_NOT_MIGRATED = ("3F000", "42P01", "42703", "42883", "42501")
"""SQLSTATEs: a schema, table, column or function does not exist, or this role has no right to it yet."""

_CREDENTIALS = (
    "LIGHTBULB_DATABASE: PostgreSQL refuses the user or password (sqlstate {}). `lightbulb migrate` creates the services'"
    " roles; their passwords are set with `alter role`"
)
_NO_DATABASE = "LIGHTBULB_DATABASE: there is no database of that name"
_POOLER = (
    "LIGHTBULB_DATABASE leads to a connection pooler such as pgbouncer {}. Connect to PostgreSQL itself, or to a pooler in session"
    " mode that passes session settings (docs/deploy.md, PostgreSQL)"
)


def _refusal(error: Exception) -> DatabaseRefuses | None:
    """Return the error for what waiting cannot change, or None. The message of a server or pooler is read and not repeated."""
    state, message = database.sqlstate(error), str(error)
    if state in ("28P01", "28000") or (state == "08P01" and "authentication failed" in message):
        return DatabaseRefuses(_CREDENTIALS.format(state))
    if state == "3D000" or (state == "08P01" and "no such database" in message):
        return DatabaseRefuses(_NO_DATABASE)
    if state == "08P01" and "unsupported startup parameter" in message:
        return DatabaseRefuses(_POOLER.format("that refuses session settings"))
    if state in ("26000", "42P05"):
        return DatabaseRefuses(_POOLER.format("in transaction mode: a prepared statement is in another session"))
    if "statement pooling mode" in message:
        return DatabaseRefuses(_POOLER.format("in statement mode"))
    return None


async def check_database(url: str, schema: str) -> None:
    """Raise what keeps a new session from writing to the outbox of this schema, or shows that sessions are shared."""
    engine = database.connect(url, pool=2, timeout=CHECK_SECONDS / 2)
    try:
        async with engine.connect() as one, engine.connect() as other:
            await _check_settings(one, database.session_settings(url))
            await _check_sessions(one, other)
            await database.check_writable(one, schema)
    finally:
        await engine.dispose()


async def _check_settings(connection: AsyncConnection, expected: Mapping[str, str]) -> None:
    for name, value in expected.items():
        found = await connection.scalar(text("select current_setting(:name)"), {"name": name})
        if found != value:
            raise DatabaseRefuses(_POOLER.format(f"that does not pass session settings ({name})"))
    await connection.rollback()


async def _check_sessions(one: AsyncConnection, other: AsyncConnection) -> None:
    """Raise DatabaseRefuses if two idle sessions use one backend, or one session uses several."""
    backends = []
    for connection in (one, other, one, other):
        backends.append(await connection.scalar(text("select pg_backend_pid()")))
        await connection.rollback()
    if backends[0] != backends[2] or backends[1] != backends[3] or backends[0] == backends[1]:
        raise DatabaseRefuses(_POOLER.format("in transaction mode: sessions share a backend"))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence Kafka's client, which logs each failed connection: one line a minute states what is lacking."""
    client = logging.getLogger("aiokafka")
    level = client.level
    client.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        client.setLevel(level)
