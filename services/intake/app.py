"""Intake: many formats in, one language out. Wires the service, and runs it: HTTP, MLLP, the shared commits, the relay.

`python -m services.intake.app`, with the settings of services/runtime/settings.py.
"""

import asyncio
from datetime import UTC, datetime
from functools import cache, partial

from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from schemas import topics
from services.intake import accept, store
from services.intake.csv_upload import endpoint
from services.intake.group_commit import GroupCommit
from services.intake.http import messages, openapi, read_api
from services.intake.mllp.access import HTTP_LIMITS
from services.intake.mllp.server import Mllp
from services.intake.rate_limiter import RateLimiter
from services.intake.translators import bars_fhir, council_csv, form, hl7v2
from services.messaging import broker
from services.messaging.outbox import Relay
from services.reference import directory, partners, yaml_files
from services.runtime import database, health, process
from services.runtime.backlog import BacklogMonitor
from services.runtime.settings import Settings
from services.runtime.watchdog import Watchdog

ROUTES = [
    Route("/fhir/$process-message", messages.bars_message, methods=["POST"]),
    Route("/fhir/metadata", read_api.metadata, methods=["GET"]),
    Route("/fhir/{rest:path}", read_api.no_such_interaction, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
    Route("/hl7v2", messages.hl7v2_message, methods=["POST"]),
    Route("/councils/{council}/referrals", endpoint.referrals, methods=["POST"]),
    Route("/forms/{form}", messages.form_submission, methods=["POST"]),
    Route("/forms/{form}/schema", read_api.form_schema, methods=["GET"]),
    Route("/attachments/{reference}", read_api.attachment, methods=["GET"]),
    Route("/openapi.json", read_api.document, methods=["GET"]),
]


def create(intake: accept.Intake, engine: AsyncEngine, *, with_metrics: bool = True) -> Starlette:
    """The ASGI application. It is ready where the database is: without Kafka, referrals are accepted and wait."""
    health_routes = health.routes(engine, with_metrics=with_metrics)
    app = Starlette(
        routes=[*ROUTES, *health_routes],
        middleware=[Middleware(health.StatusCounterMiddleware)],
        exception_handlers=dict.fromkeys((404, 405), read_api.no_such_address),
    )
    app.state.intake = intake
    app.state.document = cache(partial(openapi.made, intake, [route.path for route in (*ROUTES, *health_routes)]))
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
    group_commit = GroupCommit(engine, secret, relay)
    intake = _intake(chosen, group_commit, secret)
    mllp = Mllp(intake)
    await mllp.open(chosen)
    watchdog = Watchdog(
        BacklogMonitor(chosen, "intake", quarantine=False),
        [relay.loop(), group_commit.loop()],
        seconds=chosen.stall_seconds,
    )
    apart = chosen.metrics_port is not None
    server = process.server(create(intake, engine, with_metrics=not apart), HTTP_LIMITS)
    relaying, committing = asyncio.create_task(relay.run()), asyncio.create_task(group_commit.run())
    serving = asyncio.create_task(server.serve(sockets=[process.listen(chosen)]))
    background = [asyncio.create_task(watchdog.run())]
    if apart:
        pages = Starlette(routes=health.routes(engine))
        background.append(asyncio.create_task(process.answer_apart(pages, chosen)))
    ended: set[asyncio.Task[None]] = set()
    try:
        ended, _ = await asyncio.wait({serving, committing, relaying, *background}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        intake.stopping.set()
        server.should_exit = True
        await asyncio.gather(serving, mllp.stop())
        group_commit.close()
        await committing
        for task in (relaying, *background):
            task.cancel()
        await asyncio.gather(relaying, *background, return_exceptions=True)
    for task in ended:
        task.result()


def _intake(chosen: Settings, group_commit: GroupCommit, secret: bytes) -> accept.Intake:
    services = directory.catalogue(chosen.directory)
    return accept.Intake(
        partners=partners.load(chosen.directory, chosen.deployment),
        group_commit=group_commit,
        secret=secret,
        max_body_bytes=chosen.max_body_bytes,
        bars=bars_fhir.translator(services),
        forms=form.load(chosen.directory / "forms", services),
        hl7v2=hl7v2.translator(hl7v2.load(chosen.directory / "hl7v2", services)),
        councils=council_csv.load(chosen.directory / "councils", services),
        rate_limiter=RateLimiter(chosen.messages_per_second),
    )


if __name__ == "__main__":
    process.run("intake", serve, store.AnotherSecret, yaml_files.ConfigError)
