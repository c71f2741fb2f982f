"""What is read of intake over HTTP: the OpenAPI document, schemas of forms, attachments for hubs, what the FHIR server does."""

import re

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from services.intake import openapi, store
from services.intake.answers import bars, problems
from services.intake.rates import TooFast
from services.intake.receive import Intake
from services.intake.translators import form
from services.intake.web import NO_CREDENTIAL, TOO_FAST, respond
from services.messaging.telemetry import log


async def document(request: Request) -> Response:
    """GET /openapi.json: no credential, nobody's data."""
    told: openapi.Document = request.app.state.document()
    kept = {"ETag": told.etag, "Cache-Control": "public, max-age=3600"}
    if told.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=kept)
    return Response(told.body, media_type=openapi.MEDIA_TYPE, headers=kept)


async def form_schema(request: Request) -> Response:
    """GET /forms/{form}/schema: no credential, nobody's data."""
    intake: Intake = request.app.state.intake
    asked = intake.forms.get(request.path_params["form"])
    if asked is None:
        return respond(problems.problem(404, "there is no such form"), problems.PROBLEM, {})
    return Response(orjson.dumps(form.json_schema(asked)), media_type="application/schema+json")


async def attachment(request: Request) -> Response:
    """GET /attachments/{reference}: a hub's credential, and the reference that only its holder was told."""
    intake: Intake = request.app.state.intake
    partner = intake.partners.authenticate(request.headers.get("authorization"))
    if partner is None:
        return respond(problems.problem(401, NO_CREDENTIAL), problems.PROBLEM, {})
    if partner.kind != "hub":
        return respond(problems.problem(403, "attachments are for hubs"), problems.PROBLEM, {})
    try:
        with intake.rates.in_hand(partner, "attachment"):
            found = await store.attachment(request.app.state.engine, request.path_params["reference"])
    except TooFast:
        return respond(problems.problem(429, TOO_FAST), problems.PROBLEM, {})
    except Exception as error:
        log.warning("attachment_unavailable", error_type=type(error).__name__)
        unavailable = problems.problem(503, "not available now: come again")
        return respond(unavailable, problems.PROBLEM, {})
    if found is None:
        return respond(problems.problem(404, "there is no such attachment"), problems.PROBLEM, {})
    return Response(found[1], headers=_as_download(found[0]))


def _as_download(media_type: str | None) -> dict[str, str]:
    """Served to be saved, never to be run: the type is the sender's word only."""
    plain = media_type if media_type and re.fullmatch(r"[\w.+-]+/[\w.+-]+", media_type) else "application/octet-stream"
    return {
        "Content-Type": plain,
        "Content-Disposition": "attachment",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }


async def metadata(request: Request) -> Response:
    """GET /fhir/metadata"""
    base = str(request.base_url).rstrip("/") + "/fhir"
    return Response(bars.capability(base, request.app.state.started_at), media_type=bars.MEDIA_TYPE)


async def no_such_interaction(request: Request) -> Response:
    """Any other FHIR address: this server only takes messages."""
    said = bars.error(404, "not-supported", "this server takes messages only: POST /fhir/$process-message")
    return respond(said, bars.MEDIA_TYPE, {})


async def no_such_address(request: Request, error: Exception) -> Response:
    """What no route takes: 404, or 405 with what is allowed; as FHIR says it, or as problem details."""
    assert isinstance(error, HTTPException)
    allowed = {name: value for name, value in (error.headers or {}).items() if name == "Allow"}
    said = "nothing is here" if error.status_code == 404 else "this method is not for this address"
    if request.url.path.startswith("/fhir"):
        return respond(bars.error(error.status_code, "not-supported", said), bars.MEDIA_TYPE, allowed)
    return respond(problems.problem(error.status_code, f"{said}; see /openapi.json"), problems.PROBLEM, allowed)
