"""Health and metrics endpoints of every service: /health/live, /health/ready and /metrics."""

import asyncio
from collections.abc import Callable, Sequence

from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.runtime import database, metrics
from services.runtime.logs import log

READY_SECONDS = 2.0

ReadinessCheck = Callable[[], Sequence[str]]
"""Returns the unmet conditions of a service as text; none if it is ready."""


def routes(
    engine: AsyncEngine, schema: str, unmet_conditions: ReadinessCheck = tuple, *, with_metrics: bool = True
) -> list[Route]:
    """Return the routes of the service that has this schema.

    Live: this process responds. Ready: the service can work now; otherwise 503 and what is unavailable.
    """

    async def ready(_: Request) -> Response:
        unmet = [*await _database(engine, schema), *unmet_conditions()]
        if unmet:
            return JSONResponse({"status": "not ready", "unavailable": unmet}, status_code=503)
        return JSONResponse({"status": "ready", "version": metrics.version()})

    answered = [Route("/health/live", _live), Route("/health/ready", ready)]
    return [*answered, Route("/metrics", _metrics)] if with_metrics else answered


class StatusCounterMiddleware:
    """ASGI middleware that counts responses by status."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_and_count(message: Message) -> None:
            if message["type"] == "http.response.start":
                metrics.HTTP_RESPONSES.labels(message["status"]).inc()
            await send(message)

        await self._app(scope, receive, send_and_count)


async def _live(_: Request) -> Response:
    """Return the version. There is no check of progress: the watchdog ends a process that makes none."""
    return JSONResponse({"status": "live", "version": metrics.version()})


async def _metrics(_: Request) -> Response:
    return Response(metrics.exposition(), media_type=metrics.MEDIA_TYPE)


async def _database(engine: AsyncEngine, schema: str) -> list[str]:
    """Write to the database through the connections that do the work."""
    try:
        async with asyncio.timeout(READY_SECONDS), engine.connect() as connection:
            await database.check_writable(connection, schema)
    except Exception as error:
        log.warning("not_ready", reason=database.reason_class(error))
        return ["database"]
    return []
