"""The notifier's HTTP API: partners fetch their feedback."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from schemas.text import is_storable
from services.notifier import store
from services.notifier.channels.mailbox import as_fetched, recipients_of
from services.notifier.store import StoredFeedback
from services.reference.partners import Partners
from services.runtime import database, health
from services.runtime.logs import log

UNKNOWN = {"error": "not-found", "explanation": "No feedback is available to you under this reference."}
UNAUTHORISED = {"error": "unauthorised", "explanation": "Send your partner's bearer token in the Authorization header."}
UNAVAILABLE = {
    "error": "unavailable",
    "explanation": "The service is temporarily unavailable. Retry after the time in Retry-After.",
}


def application(engine: AsyncEngine, partners: Partners, health_routes: Sequence[Route] = ()) -> Starlette:
    """Create the ASGI application with the feedback route and the given health routes."""

    async def feedback(request: Request) -> Response:
        caller = partners.authenticate(request.headers.get("authorization"))
        if caller is None:
            return _json(401, UNAUTHORISED, {"WWW-Authenticate": "Bearer"})
        reference = request.path_params["reference"]
        if not is_storable(reference):
            return _json(404, UNKNOWN)
        try:
            async with database.transaction(engine, store.SCHEMA) as tx:
                stored = await store.fetch(tx, reference, recipients_of(caller), datetime.now(UTC))
        except Exception as error:
            return _unable(error)
        return _json(200, [_fetched(one) for one in stored]) if stored else _json(404, UNKNOWN)

    fetched = Route("/referrals/{reference}/feedback", feedback, methods=["GET"])
    return Starlette(routes=[fetched, *health_routes], middleware=[Middleware(health.StatusCounterMiddleware)])


def _fetched(stored: StoredFeedback) -> dict[str, Any]:
    return as_fetched(stored.feedback) | {"steps": dict(stored.steps)}


def _unable(error: Exception) -> Response:
    """Return 503 for a transient error, which the caller should retry, else 404."""
    if database.is_transient(error):
        return _json(503, UNAVAILABLE, {"Retry-After": "5"})
    log.warning("feedback_fetch_rejected", reason=database.reason_class(error))
    return _json(404, UNKNOWN)


def _json(status: int, body: Any, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(body), status, headers, media_type="application/json")
