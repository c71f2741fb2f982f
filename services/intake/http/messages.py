"""Receive messages over HTTP, for every protocol: authenticate, read the body, accept, respond.

The sender is authenticated before any parser runs.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from services.intake import accept, limits, media_types, multipart
from services.intake.accept import Intake, Protocol
from services.intake.batch import ProtocolResponse
from services.intake.group_commit import Unavailable
from services.intake.http import headers as sent
from services.intake.http.headers import Headers
from services.intake.mllp import frames
from services.intake.rate_limiter import RateLimited
from services.intake.responses import bars, hl7v2, problems
from services.intake.translators import form
from services.intake.translators.hl7v2 import header
from services.intake.translators.inbound_message import Translator
from services.intake.translators.translator import Issue
from services.reference.partners import Partner
from services.runtime import database, tracing
from services.runtime.logs import log


@dataclass(frozen=True)
class OverHttp(Protocol):
    """A protocol with its media types, and the format of its errors outside a message."""

    accepts: tuple[str, ...]
    error: Callable[[int, str, str], ProtocolResponse]
    media_type: Callable[[ProtocolResponse], str]
    header_issues: Callable[[Headers], tuple[Issue, ...]] = sent.header_issues
    is_readable_version: Callable[[str], bool] = lambda _: True
    """Return whether the version in a media type can be read and written."""

    is_json: bool = True
    """True if a body is JSON, or has JSON in it: it is in UTF-8 (RFC 8259, 8.1)."""

    has_query: bool = False
    """True if a request may have query parameters, which are ignored (FHIR: `_format` and the like)."""

    unwrapped: Callable[[bytes], bytes] = bytes
    """Return the message in a body, without its frame."""


JSON = "application/json"
BARS_MEDIA_TYPES = ("application/fhir+json", JSON)


def of_bars(translate: Translator, service_ids: tuple[str, ...]) -> OverHttp:
    """Return the protocol of BaRS (FHIR messaging), for messages to one of these services."""
    return OverHttp(
        "bars-fhir",
        translate,
        bars.answer,
        accepts=BARS_MEDIA_TYPES,
        error=bars.error,
        media_type=lambda _: bars.MEDIA_TYPE,
        has_query=True,
        header_issues=partial(sent.bars_issues, service_ids=service_ids),
        is_readable_version=sent.is_readable_version,
    )


def of_form(form_definition: form.Form) -> OverHttp:
    """Return the protocol of one form."""
    return OverHttp(
        f"form:{form_definition.form}",
        form.translator(form_definition),
        problems.answer,
        accepts=(JSON, multipart.MEDIA_TYPE) if form_definition.attachment_fields else (JSON,),
        error=lambda status, _, explanation: problems.problem(status, explanation),
        media_type=problems.media_type,
    )


def of_hl7v2(translate: Translator, sent_as: str) -> OverHttp:
    """Return the protocol of HL7 v2, whose responses have the media type of the request.

    Errors outside a message are problem details.
    """
    return OverHttp(
        "hl7v2",
        translate,
        hl7v2.over_http,
        is_about_visit=header.is_adt,
        accepts=("application/hl7-v2", "application/hl7-v2+er7", "x-application/hl7-v2+er7"),
        error=lambda status, _, explanation: problems.problem(status, explanation),
        media_type=lambda answer: sent_as if answer.body.startswith(b"MSH") else problems.PROBLEM,
        is_json=False,
        unwrapped=frames.unframed,
    )


async def bars_message(request: Request) -> Response:
    """Handle POST /fhir/$process-message."""
    intake: Intake = request.app.state.intake
    return await message(request, of_bars(intake.bars, intake.service_ids))


async def form_submission(request: Request) -> Response:
    """Handle POST /forms/{form}."""
    intake: Intake = request.app.state.intake
    form_definition = intake.forms.get(request.path_params["form"])
    if form_definition is None:
        partner = intake.partners.authenticate(request.headers.get("authorization"))
        answer = problems.problem(404, "unknown form") if partner else problems.problem(401, NO_CREDENTIAL)
        return respond(answer, problems.PROBLEM, {})
    return await message(request, of_form(form_definition))


async def hl7v2_message(request: Request) -> Response:
    """Handle POST /hl7v2: one message, with or without an MLLP frame."""
    intake: Intake = request.app.state.intake
    return await message(request, of_hl7v2(intake.hl7v2, media_types.essence(request.headers.get("content-type", ""))))


NO_CREDENTIAL = "a valid bearer token of a partner is required"
VERSION = "unsupported version of BaRS: only 1 is supported"
RATE_LIMITED = "Rate limit exceeded. The message was not accepted; retry after the time in Retry-After."


async def message(request: Request, protocol: OverHttp) -> Response:
    """Handle one message: return its response, or the protocol's error."""
    headers = sent.first_values(request)
    mirrored = sent.mirrored(headers)
    try:
        answer = await _handle(request, headers, protocol)
    except Exception as error:
        answer = _failed(protocol, error)
    return respond(answer, protocol.media_type(answer), mirrored)


def _failed(protocol: OverHttp, error: Exception) -> ProtocolResponse:
    """Return the response to a message that was not accepted, or may not have been: the sender keeps it."""
    if isinstance(error, RateLimited):
        return protocol.error(429, "throttled", RATE_LIMITED)
    if isinstance(error, TimeoutError):
        return protocol.error(408, "timeout", f"timed out; {_RETRY}")
    if isinstance(error, Unavailable) or database.is_transient(error):
        return protocol.error(503, "transient", f"temporarily unavailable; {_RETRY}")
    log.error("request_failed", error_type=type(error).__name__, format=protocol.format)
    return protocol.error(500, "exception", accept.INTERNAL_ERROR)


_RETRY = "retry with the same message and X-Request-Id, duplicates are recognised"


async def _handle(request: Request, headers: Headers, protocol: OverHttp) -> ProtocolResponse:
    intake: Intake = request.app.state.intake
    partner = intake.partners.authenticate(headers.get("authorization"))
    if partner is None:
        return protocol.error(401, "login", NO_CREDENTIAL)
    if not partner.may_send(protocol.format):
        return protocol.error(403, "forbidden", "this credential is not authorised for this message type")
    if not protocol.has_query and (unknown := sent.unknown_parameter(request)):
        return protocol.error(400, "not-supported", f"{unknown}: this address has none; the message was not accepted")
    if refused := _media_types(headers, protocol):
        return refused
    with intake.rate_limiter.in_flight(partner, protocol.format), intake.memory_budget.reserve_body() as reserve:
        return await _accept_body(request, headers, protocol, partner, reserve)


async def _accept_body(
    request: Request, headers: Headers, protocol: OverHttp, partner: Partner, reserve: Callable[[int], None]
) -> ProtocolResponse:
    intake: Intake = request.app.state.intake
    body = await whole_body(request, headers, intake.max_body_bytes, reserve)
    if body == 413:
        return protocol.error(413, "too-long", f"body is larger than {intake.max_body_bytes} bytes")
    if isinstance(body, int):
        return protocol.error(body, "invalid", "incomplete body, or Content-Length is not a number")
    ids = sent.guid(headers.get("x-request-id")), sent.guid(headers.get("x-correlation-id"))
    context = tracing.valid(headers.get(tracing.HEADER))
    inbound = intake.inbound_message(partner, protocol.unwrapped(body), *ids, context)
    media_type = headers.get("content-type", "")[:200] or None
    async with asyncio.timeout(limits.HTTP_ANSWER_SECONDS):
        return await accept.accept(
            intake, protocol, inbound, media_type=media_type, issues=protocol.header_issues(headers)
        )


def _media_types(headers: Headers, protocol: OverHttp) -> ProtocolResponse | None:
    """Return 415 or 406 if the protocol does not support the request's media type or the accepted one."""
    if media_types.essence(headers.get("content-type", "")) not in protocol.accepts:
        return protocol.error(415, "not-supported", f"send {protocol.accepts[0]}")
    if sent.is_encoded(headers):
        return protocol.error(415, "not-supported", "send the message uncompressed")
    if protocol.is_json and not media_types.is_utf8(headers.get("content-type", "")):
        return protocol.error(415, "not-supported", "send JSON in UTF-8; its Content-Type may state no other charset")
    if not protocol.is_readable_version(headers.get("content-type", "")):
        return protocol.error(415, "not-supported", VERSION)
    if not protocol.is_readable_version(headers.get("accept", "")):
        return protocol.error(406, "not-supported", VERSION)
    if not sent.accepts(headers, problems.PROBLEM, *protocol.accepts):
        return protocol.error(406, "not-supported", f"the response is available as {protocol.accepts[0]} only")
    return None


async def whole_body(request: Request, headers: Headers, most: int, reserve: Callable[[int], None]) -> bytes | int:
    """Return the complete body, or the status of an error.

    The status is 413 as soon as the body is larger than `most`, and 400 if it is incomplete or Content-Length is not a number.
    `reserve` is called with the size of each chunk. Raises TimeoutError after BODY_SECONDS.
    """
    length = headers.get("content-length", "0")
    if not length.isdigit() or int(length[:20]) > most:
        return 413 if length.isdigit() else 400
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(limits.BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    return 413
                reserve(len(part))
                parts.append(part)
    except ClientDisconnect:
        return 400
    return b"".join(parts)


def respond(answer: ProtocolResponse, media_type: str, headers: dict[str, str]) -> Response:
    """Return the HTTP response, with the headers that its status needs."""
    more = {**headers, **answer.headers}
    if answer.status in (408, 503):
        more["Retry-After"] = str(limits.RETRY_SECONDS)
    if answer.status == 429:
        more["Retry-After"] = str(limits.RATE_LIMIT_RETRY_SECONDS)
    if answer.status == 415:
        more["Accept-Encoding"] = "identity"
    if answer.status == 401:
        more["WWW-Authenticate"] = "Bearer"
    return Response(answer.body, status_code=answer.status, media_type=media_type, headers=more)
