"""Wire and run the intake service: HTTP, MLLP, the group commit and the outbox relay.

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
from services.intake.http import fhir_api, messages, openapi, read_api
from services.intake.mllp import access
from services.intake.mllp.server import Mllp
from services.intake.rate_limiter import RateLimiter
from services.intake.responses import conformance
from services.intake.translators import bars_fhir, council_csv, form, hl7v2
from services.messaging import broker
from services.messaging.relay import Relay
from services.reference import directory, fillers, lists, partners, yaml_files
from services.runtime import database, expiry, health, process, startup
from services.runtime.backlog import BacklogMonitor
from services.runtime.logs import log
from services.runtime.process import HttpServers
from services.runtime.settings import Settings
from services.runtime.watchdog import Watchdog

ROUTES = [
    Route("/fhir/$process-message", messages.bars_message, methods=["POST"]),
    Route("/fhir/metadata", fhir_api.metadata, methods=["GET"]),
    Route("/fhir/ServiceRequest", fhir_api.service_requests, methods=["GET"]),
    Route("/fhir/ServiceRequest/{id}", fhir_api.service_request, methods=["GET"]),
    Route("/fhir/MessageDefinition", fhir_api.message_definitions, methods=["GET"]),
    Route("/fhir/MessageDefinition/{id}", fhir_api.message_definition, methods=["GET"]),
    Route("/fhir/CodeSystem", fhir_api.code_systems, methods=["GET"]),
    Route("/fhir/CodeSystem/{id}", fhir_api.code_system, methods=["GET"]),
    Route("/fhir/{rest:path}", fhir_api.no_such_interaction, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
    Route("/hl7v2", messages.hl7v2_message, methods=["POST"]),
    Route("/councils/{council}/referrals", endpoint.referrals, methods=["POST"]),
    Route("/forms/{form}", messages.form_submission, methods=["POST"]),
    Route("/forms/{form}/schema", read_api.form_schema, methods=["GET"]),
    Route("/attachments/{reference}", read_api.attachment, methods=["GET"]),
    Route("/lists", read_api.code_lists, methods=["GET"]),
    Route("/lists/{name}", read_api.code_list, methods=["GET"]),
    Route("/openapi.json", read_api.document, methods=["GET"]),
]


def create(intake: accept.Intake, engine: AsyncEngine, *, with_metrics: bool = True) -> Starlette:
    """Return the ASGI application, ready if the database is, and commits succeed: without Kafka, referrals wait in the outbox."""
    unmet = intake.group_commit.unmet_conditions
    health_routes = health.routes(engine, store.SCHEMA, unmet, with_metrics=with_metrics)
    app = Starlette(
        routes=[*ROUTES, *health_routes],
        middleware=[Middleware(health.StatusCounterMiddleware)],
        exception_handlers=dict.fromkeys((404, 405), read_api.no_such_address),
    )
    app.router.redirect_slashes = (
        False  # a redirect names http:, also behind TLS, and a client would repeat its body there
    )
    app.state.intake = intake
    app.state.document = cache(partial(openapi.made, intake, [route.path for route in (*ROUTES, *health_routes)]))
    app.state.engine = engine
    app.state.started_at = datetime.now(UTC)
    return app


async def serve(chosen: Settings) -> None:
    """Run until SIGTERM or SIGINT; then accept no connections, and answer the requests in progress."""
    if chosen.deployment is None:
        log.warning(
            "deployment_not_set", setting="LIGHTBULB_DEPLOYMENT", effect="no sender has a credential: all are refused"
        )
    engine = database.connect(chosen.database)
    secret = chosen.secret()
    relay = Relay(engine, store.SCHEMA, chosen.kafka, idempotent=chosen.kafka_idempotent)
    group_commit = GroupCommit(engine, secret, relay)
    mllp = Mllp(_intake(chosen, group_commit, secret))
    access.context(chosen)  # a file that cannot be used is refused before anything is waited for
    expiry.measure(expiry.of_mllp(chosen.mllp_certificate, chosen.mllp_client_ca))
    try:
        async with startup.ready(chosen, _checks(chosen, engine, secret), access.HTTP_LIMITS) as servers:
            await mllp.open(chosen)
            await broker.run(None, _serve(chosen, engine, mllp, relay, servers), stopped=servers.stopped())
    finally:
        await engine.dispose()


def _checks(chosen: Settings, engine: AsyncEngine, secret: bytes) -> startup.Checks:
    return {
        "database": (
            partial(startup.check_database, chosen.database, store.SCHEMA),
            partial(store.check_secret, engine, secret),
        ),
        "kafka": (partial(broker.check_topics, chosen.kafka, topics.declared(()), replication=chosen.replication),),
    }


async def _serve(chosen: Settings, engine: AsyncEngine, mllp: Mllp, relay: Relay, servers: HttpServers) -> None:
    intake, group_commit = mllp.intake, mllp.intake.group_commit
    application = create(intake, engine, with_metrics=chosen.metrics_port is None)
    servers.show(application, Starlette(routes=health.routes(engine, store.SCHEMA, group_commit.unmet_conditions)))
    backlog = BacklogMonitor(chosen, store.SCHEMA, quarantine=False)
    watchdog = Watchdog(backlog, [relay.loop(), group_commit.loop()], seconds=chosen.stall_seconds)
    committing = asyncio.create_task(group_commit.run())
    background = [asyncio.create_task(each) for each in (servers.run(), relay.run(), watchdog.run())]
    ended: set[asyncio.Task[None]] = set()
    try:
        ended, _ = await asyncio.wait({committing, *background}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        intake.stopping.set()
        await asyncio.gather(servers.stop(), mllp.stop())
        group_commit.close()
        await committing
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
    for task in ended:
        task.result()


def _intake(chosen: Settings, group_commit: GroupCommit, secret: bytes) -> accept.Intake:
    services = directory.catalogue(chosen.directory)
    return accept.Intake(
        partners=partners.load(chosen.directory, chosen.deployment),
        group_commit=group_commit,
        secret=secret,
        max_body_bytes=chosen.max_body_bytes,
        bars=bars_fhir.translator(services, chosen.service_ids),
        forms=form.load(chosen.directory / "forms", services),
        hl7v2=hl7v2.translator(hl7v2.load(chosen.directory / "hl7v2", services)),
        councils=council_csv.load(chosen.directory / "councils", services),
        rate_limiter=RateLimiter(chosen.messages_per_second),
        service_ids=chosen.service_ids,
        fillers=fillers.load(chosen.directory),
        code_systems=conformance.code_systems(directory.labels(chosen.directory)),
        lists=lists.load(chosen.directory),
    )


if __name__ == "__main__":
    process.run("intake", serve, yaml_files.ConfigError)
