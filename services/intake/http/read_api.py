"""Serve the OpenAPI document, schemas of forms, lists of codes, and attachments for hubs."""

import re

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from services.intake import store
from services.intake.accept import Intake
from services.intake.http import headers as sent
from services.intake.http import openapi
from services.intake.http.messages import NO_CREDENTIAL, RATE_LIMITED, respond
from services.intake.rate_limiter import RateLimited
from services.intake.responses import bars, problems
from services.intake.translators import form
from services.reference import lists
from services.reference.lists import CodeList
from services.runtime.logs import log

_REFERENCE = re.compile(r"[0-9A-Za-z]{1,100}")
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+", re.ASCII)


async def document(request: Request) -> Response:
    """Handle GET /openapi.json: no credential, no personal data."""
    openapi_document: openapi.OpenApiDocument = request.app.state.document()
    cache_headers = {"ETag": openapi_document.etag, "Cache-Control": "public, max-age=3600"}
    if openapi_document.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=cache_headers)
    return Response(openapi_document.body, media_type=openapi.MEDIA_TYPE, headers=cache_headers)


async def form_schema(request: Request) -> Response:
    """Handle GET /forms/{form}/schema: no credential, no personal data."""
    intake: Intake = request.app.state.intake
    form_definition = intake.forms.get(request.path_params["form"])
    if form_definition is None:
        return respond(problems.problem(404, "unknown form"), problems.PROBLEM, {})
    return Response(orjson.dumps(form.json_schema(form_definition)), media_type="application/schema+json")


async def code_lists(request: Request) -> Response:
    """Handle GET /lists: which lists there are, with their versions."""
    return _code_list(request, lists.overview(request.app.state.intake.lists))


async def code_list(request: Request) -> Response:
    """Handle GET /lists/{name}."""
    return _code_list(request, request.app.state.intake.lists.get(request.path_params["name"]))


def _code_list(request: Request, code_list: CodeList | None) -> Response:
    """Respond to a partner with a list, or 304 if it has this version."""
    intake: Intake = request.app.state.intake
    partner = intake.partners.authenticate(request.headers.get("authorization"))
    if partner is None:
        return respond(problems.problem(401, NO_CREDENTIAL), problems.PROBLEM, {})
    try:
        with intake.rate_limiter.in_flight(partner, "list"):
            return _versioned(request, code_list)
    except RateLimited:
        return respond(problems.problem(429, RATE_LIMITED), problems.PROBLEM, {})


def _versioned(request: Request, code_list: CodeList | None) -> Response:
    if code_list is None:
        return respond(problems.problem(404, "unknown list; see /lists"), problems.PROBLEM, {})
    headers = {"ETag": f'"{code_list.version}"', "Cache-Control": "no-cache"}
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(code_list.body(), media_type="application/json", headers=headers)


async def attachment(request: Request) -> Response:
    """Handle GET /attachments/{reference}: a hub's credential, and the reference that only the case's holder received."""
    intake: Intake = request.app.state.intake
    partner = intake.partners.authenticate(request.headers.get("authorization"))
    if partner is None:
        return respond(problems.problem(401, NO_CREDENTIAL), problems.PROBLEM, {})
    if partner.kind != "hub":
        return respond(problems.problem(403, "attachments are for hubs"), problems.PROBLEM, {})
    if not _REFERENCE.fullmatch(request.path_params["reference"]):
        return respond(problems.problem(404, "unknown attachment"), problems.PROBLEM, {})
    try:
        with intake.rate_limiter.in_flight(partner, "attachment"):
            stored = await store.attachment(request.app.state.engine, request.path_params["reference"])
    except RateLimited:
        return respond(problems.problem(429, RATE_LIMITED), problems.PROBLEM, {})
    except Exception as error:
        log.warning("attachment_unavailable", error_type=type(error).__name__)
        unavailable = problems.problem(503, "temporarily unavailable; retry later")
        return respond(unavailable, problems.PROBLEM, {})
    if stored is None:
        return respond(problems.problem(404, "unknown attachment"), problems.PROBLEM, {})
    return Response(stored[1], headers=as_download(stored[0]))


def as_download(media_type: str | None) -> dict[str, str]:
    """Return headers that make a browser save the content and never run it: the media type is the sender's statement."""
    is_plain = media_type is not None and _MEDIA_TYPE.fullmatch(media_type)
    plain = media_type if media_type and is_plain else "application/octet-stream"
    return {
        "Content-Type": plain,
        "Content-Disposition": "attachment",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }


async def no_such_address(request: Request, error: Exception) -> Response:
    """Respond 404, or 405 with Allow: below /fhir with an OperationOutcome, elsewhere with problem details."""
    assert isinstance(error, HTTPException)
    allowed = {name: value for name, value in (error.headers or {}).items() if name == "Allow"}
    detail = "address not found" if error.status_code == 404 else "method not allowed for this address"
    if request.url.path.startswith("/fhir"):
        ids = sent.mirrored(sent.first_values(request))
        return respond(bars.error(error.status_code, "not-supported", detail), bars.MEDIA_TYPE, allowed | ids)
    return respond(problems.problem(error.status_code, f"{detail}; see /openapi.json"), problems.PROBLEM, allowed)
