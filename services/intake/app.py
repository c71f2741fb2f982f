"""Intake: many formats in, one language out. Wires the service, and runs it: HTTP, MLLP, the shared commits, the relay.

`python -m services.intake.app`, with the settings of services/messaging/settings.py.
"""

import asyncio
from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from schemas import topics
from services import partners, reviewed
from services.intake import councils, reads, receive, store, web
from services.intake.batching import Batching
from services.intake.doors import CannotListen
from services.intake.mllp import Mllp
from services.intake.translators import council_csv, form, hl7v2
from services.messaging import broker, database, process
from services.messaging.outbox import Relay
from services.messaging.settings import Settings
from services.messaging.telemetry import log

ROUTES = [
    Route("/fhir/$process-message", web.bars_message, methods=["POST"]),
    Route("/fhir/metadata", reads.metadata, methods=["GET"]),
    Route("/fhir/{rest:path}", reads.no_such_interaction, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
    Route("/hl7v2", web.hl7v2_message, methods=["POST"]),
    Route("/councils/{council}/referrals", councils.referrals, methods=["POST"]),
    Route("/forms/{form}", web.filled_form, methods=["POST"]),
    Route("/forms/{form}/schema", reads.form_schema, methods=["GET"]),
    Route("/attachments/{reference}", reads.attachment, methods=["GET"]),
]


async def live(_: Request) -> Response:
    """GET /health/live: this process answers."""
    return JSONResponse({"status": "live"})


async def ready(request: Request) -> Response:
    """GET /health/ready: it could accept a referral now."""
    engine: AsyncEngine = request.app.state.engine
    try:
        async with asyncio.timeout(2), engine.connect() as connection:
            await connection.execute(text("select 1"))
    except Exception as error:
        log.warning("not_ready", reason=database.reason_class(error))
        return JSONResponse({"status": "database away"}, status_code=503)
    return JSONResponse({"status": "ready"})


HEALTH = [Route("/health/live", live), Route("/health/ready", ready)]


def create(intake: receive.Intake, engine: AsyncEngine) -> Starlette:
    """The ASGI application."""
    app = Starlette(routes=[*ROUTES, *HEALTH])
    app.state.intake = intake
    app.state.engine = engine
    app.state.started_at = datetime.now(UTC)
    return app


async def serve(chosen: Settings) -> None:
    """Run until SIGTERM or SIGINT: then no new connections, requests in hand are answered, what was committed is published."""
    engine = database.connect(chosen.database)
    secret = chosen.secret()
    try:
        await store.check_secret(engine, secret)
        await broker.check_topics(chosen.kafka, topics.declared(()), replication=chosen.replication)
        await broker.run(None, _serve(chosen, engine, secret))
    finally:
        await engine.dispose()


async def _serve(chosen: Settings, engine: AsyncEngine, secret: bytes) -> None:
    relay = Relay(engine, "intake", chosen.kafka, idempotent=chosen.kafka_idempotent)
    batching = Batching(engine, secret, relay)
    intake = receive.Intake(
        partners=partners.load(chosen.directory, chosen.deployment),
        batching=batching,
        secret=secret,
        max_body_bytes=chosen.max_body_bytes,
        forms=form.load(chosen.directory / "forms"),
        hl7v2=hl7v2.translator(hl7v2.load(chosen.directory / "hl7v2")),
        councils=council_csv.load(chosen.directory / "councils"),
    )
    mllp = Mllp(intake)
    await mllp.open(chosen)
    server = process.server(create(intake, engine))
    relaying, committing = asyncio.create_task(relay.run()), asyncio.create_task(batching.run())
    serving = asyncio.create_task(server.serve(sockets=[process.listen(chosen)]))
    try:
        await asyncio.wait({serving, committing, relaying}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        server.should_exit = True
        await asyncio.gather(serving, mllp.stop())
        batching.close()
        await committing
        relaying.cancel()
        await asyncio.gather(relaying, return_exceptions=True)


if __name__ == "__main__":
    process.run("intake", serve, CannotListen, store.AnotherSecret, reviewed.Faulty)
