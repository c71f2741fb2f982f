"""Intake: many formats in, one language out. Wires the service, and runs it: HTTP, MLLP, the shared commits, the relay.

`python -m services.intake.app`, with the settings of services/messaging/settings.py.
"""

import asyncio
from datetime import UTC, datetime
from functools import cache, partial

from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from schemas import topics
from services import directory, partners, reviewed
from services.intake import councils, openapi, reads, receive, store, web
from services.intake.batching import Batching
from services.intake.doors import HTTP_BOUNDS
from services.intake.mllp import Mllp
from services.intake.rates import Rates
from services.intake.translators import bars_fhir, council_csv, form, hl7v2
from services.messaging import broker, database, health, process
from services.messaging.outbox import Relay
from services.messaging.settings import Settings
from services.messaging.sight import Sight
from services.messaging.watchdog import Watchdog

ROUTES = [
    Route("/fhir/$process-message", web.bars_message, methods=["POST"]),
    Route("/fhir/metadata", reads.metadata, methods=["GET"]),
    Route("/fhir/{rest:path}", reads.no_such_interaction, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
    Route("/hl7v2", web.hl7v2_message, methods=["POST"]),
    Route("/councils/{council}/referrals", councils.referrals, methods=["POST"]),
    Route("/forms/{form}", web.filled_form, methods=["POST"]),
    Route("/forms/{form}/schema", reads.form_schema, methods=["GET"]),
    Route("/attachments/{reference}", reads.attachment, methods=["GET"]),
    Route("/openapi.json", reads.document, methods=["GET"]),
]


def create(intake: receive.Intake, engine: AsyncEngine, *, with_metrics: bool = True) -> Starlette:
    """The ASGI application. It is ready where the database is: without Kafka, referrals are accepted and wait."""
    beside = health.routes(engine, with_metrics=with_metrics)
    app = Starlette(
        routes=[*ROUTES, *beside],
        middleware=[Middleware(health.Counted)],
        exception_handlers=dict.fromkeys((404, 405), reads.no_such_address),
    )
    app.state.intake = intake
    app.state.document = cache(partial(openapi.made, intake, [route.path for route in (*ROUTES, *beside)]))
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
    intake = _intake(chosen, batching, secret)
    mllp = Mllp(intake)
    await mllp.open(chosen)
    watchdog = Watchdog(
        Sight(chosen, "intake", quarantine=False), [relay.loop(), batching.loop()], seconds=chosen.stall_seconds
    )
    apart = chosen.metrics_port is not None
    server = process.server(create(intake, engine, with_metrics=not apart), HTTP_BOUNDS)
    relaying, committing = asyncio.create_task(relay.run()), asyncio.create_task(batching.run())
    serving = asyncio.create_task(server.serve(sockets=[process.listen(chosen)]))
    beside = [asyncio.create_task(watchdog.run())]
    if apart:
        pages = Starlette(routes=health.routes(engine))
        beside.append(asyncio.create_task(process.answer_apart(pages, chosen)))
    ended: set[asyncio.Task[None]] = set()
    try:
        ended, _ = await asyncio.wait({serving, committing, relaying, *beside}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        intake.stopping.set()
        server.should_exit = True
        await asyncio.gather(serving, mllp.stop())
        batching.close()
        await committing
        for task in (relaying, *beside):
            task.cancel()
        await asyncio.gather(relaying, *beside, return_exceptions=True)
    for task in ended:
        task.result()


def _intake(chosen: Settings, batching: Batching, secret: bytes) -> receive.Intake:
    services = directory.catalogue(chosen.directory)
    return receive.Intake(
        partners=partners.load(chosen.directory, chosen.deployment),
        batching=batching,
        secret=secret,
        max_body_bytes=chosen.max_body_bytes,
        bars=bars_fhir.translator(services),
        forms=form.load(chosen.directory / "forms", services),
        hl7v2=hl7v2.translator(hl7v2.load(chosen.directory / "hl7v2", services)),
        councils=council_csv.load(chosen.directory / "councils", services),
        rates=Rates(chosen.messages_per_second),
    )


if __name__ == "__main__":
    process.run("intake", serve, store.AnotherSecret, reviewed.Faulty)
