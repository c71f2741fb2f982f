"""Requests in: who sends, one whole body, its translator, one commit, the protocol's own answer.

The same steps for every protocol. Credentials are judged before any parser runs.
"""

import asyncio
import base64
import re
import time
from binascii import Error as NotBase64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from random import getrandbits
from typing import Any
from uuid import UUID

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from services.intake import keys, store
from services.intake.answers import bars, problems
from services.intake.batching import Batching, Unavailable
from services.intake.ledger import Answer, Arrival, Decision
from services.intake.translators import bars_fhir, form
from services.intake.translators.contract import Delivery, Fault, Refusal, Translated, Translator
from services.messaging.telemetry import log
from services.partners import Partner, Partners

BODY_SECONDS = 20.0
"""How long a sender may take to send a body."""

ANSWER_SECONDS = 5.0
"""BaRS: every answer within 5 seconds. After that the outcome is unknown to the sender, who may send again."""

RETRY_SECONDS = "5"

Headers = Mapping[str, str]
"""Headers of a request by name in small letters."""


@dataclass(frozen=True)
class Intake:
    """What every request needs."""

    partners: Partners
    batching: Batching
    secret: bytes
    max_body_bytes: int
    forms: Mapping[str, form.Form]
    attachment_key: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "attachment_key", keys.attachment_key(self.secret))


@dataclass(frozen=True)
class Protocol:
    """How one protocol says what goes wrong around a message, and what it answers to one."""

    format: str
    accepts: tuple[str, ...]
    translate: Translator
    answer: Callable[[Translated | Refusal, Decision], Answer]
    error: Callable[[int, str, str], Answer]
    media_type: Callable[[Answer], str]


BARS = Protocol(
    "bars-fhir",
    ("application/fhir+json", "application/json"),
    bars_fhir.translate,
    bars.answer,
    bars.error,
    lambda _: bars.MEDIA_TYPE,
)


def of_form(asked: form.Form) -> Protocol:
    """The protocol of one form."""
    return Protocol(
        f"form:{asked.form}",
        ("application/json",),
        form.translator(asked),
        problems.answer,
        lambda status, _, explanation: problems.problem(status, explanation),
        problems.media_type,
    )


async def bars_message(request: Request) -> Response:
    """POST /fhir/$process-message"""
    return await receive(request, BARS)


async def filled_form(request: Request) -> Response:
    """POST /forms/{form}"""
    intake: Intake = request.app.state.intake
    asked = intake.forms.get(request.path_params["form"])
    if asked is None:
        known = intake.partners.authenticate(request.headers.get("authorization"))
        answer = problems.problem(404, "there is no such form") if known else problems.problem(401, _NO_CREDENTIAL)
        return _respond(answer, problems.PROBLEM, {})
    return await receive(request, _FORM_PROTOCOLS.setdefault(asked.form, of_form(asked)))


_FORM_PROTOCOLS: dict[str, Protocol] = {}
_NO_CREDENTIAL = "a valid bearer token of a partner is required"


async def receive(request: Request, protocol: Protocol) -> Response:
    """One message, from the first header to the answer."""
    headers = _headers(request)
    mirrored = _mirrored(headers)
    try:
        answer = await _received(request, headers, protocol)
    except Unavailable:
        answer = protocol.error(503, "transient", "nothing was accepted, or it is not known whether it was: send again")
    except TimeoutError:
        answer = protocol.error(408, "timeout", "not finished in time: send again; a repeat is recognised")
    except Exception as error:
        log.error("request_failed", kind=type(error).__name__, format=protocol.format)
        answer = protocol.error(500, "exception", "this should not have happened; the operators are told")
    if answer.status in (408, 503):
        mirrored["Retry-After"] = RETRY_SECONDS
    if answer.status == 401:
        mirrored["WWW-Authenticate"] = "Bearer"
    return _respond(answer, protocol.media_type(answer), mirrored)


async def _received(request: Request, headers: Headers, protocol: Protocol) -> Answer:
    intake: Intake = request.app.state.intake
    partner = intake.partners.authenticate(headers.get("authorization"))
    if partner is None:
        return protocol.error(401, "login", _NO_CREDENTIAL)
    if not partner.may_send(protocol.format):
        return protocol.error(403, "forbidden", "your credential is not for this kind of message")
    if refused := _media_types(headers, protocol):
        return refused
    body = await _body(request, headers, intake.max_body_bytes)
    if isinstance(body, int):
        return protocol.error(body, "too-long", f"more than {intake.max_body_bytes} bytes, or broken off")
    delivery = _delivery(headers, partner, body, intake)
    arrival = _arrival(headers, protocol, delivery)
    return await asyncio.wait_for(intake.batching.submit(arrival), ANSWER_SECONDS)


def _arrival(headers: Headers, protocol: Protocol, delivery: Delivery) -> Arrival:
    faults = _header_faults(headers)
    outcome: Translated | Refusal = Refusal(faults) if faults else protocol.translate(delivery)
    return Arrival(
        id=_message_id(),
        delivery=delivery,
        format=protocol.format,
        media_type=headers.get("content-type", "")[:200] or None,
        outcome=outcome,
        compose=lambda decision: protocol.answer(outcome, decision),
    )


def _delivery(headers: Headers, partner: Partner, body: bytes, intake: Intake) -> Delivery:
    return Delivery(
        partner=partner,
        body=body,
        received_at=datetime.now(UTC),
        attachment_key=intake.attachment_key,
        request_id=_guid(headers.get("x-request-id")),
        correlation_id=_guid(headers.get("x-correlation-id")),
    )


def _message_id() -> UUID:
    """A new id that grows with time, so that the index of kept messages does (UUID version 7, RFC 9562)."""
    bits = (time.time_ns() // 1_000_000) << 80 | getrandbits(76)
    return UUID(int=bits & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62)


# ---- headers --------------------------------------------------------------------------------------------------------

_GUID = re.compile(r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")
_ENCODED = (
    "nhsd-target-identifier",
    "nhsd-end-user-organisation",
    "nhsd-requesting-software",
    "nhsd-requesting-practitioner",
)


def _guid(value: str | None) -> str | None:
    return value.strip().lower() if value and _GUID.match(value.strip()) else None


def _headers(request: Request) -> Headers:
    """Headers by name in small letters; of one that comes twice, the first."""
    pairs = reversed(request.scope["headers"])
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in pairs}


def _mirrored(headers: Headers) -> dict[str, str]:
    """BaRS: both ids come back as they were sent. Only GUIDs do: anything else might be somebody's number."""
    names = ("X-Request-Id", "X-Correlation-Id")
    return {name: value for name in names if (value := headers.get(name.lower())) and _guid(value)}


def _header_faults(headers: Headers) -> tuple[Fault, ...]:
    """Ids that are no GUID, and BaRS headers that are not base64 of a JSON object. Others are not looked at."""
    faults = [
        Fault(f"header {name}", "value", "a GUID is expected")
        for name in ("x-request-id", "x-correlation-id")
        if name in headers and _guid(headers[name]) is None
    ]
    for name in _ENCODED:
        if name in headers and not _is_encoded_json(headers[name]):
            faults.append(Fault(f"header {name}", "value", "base64 of a JSON object is expected"))
    return tuple(faults)


def _is_encoded_json(value: str) -> bool:
    try:
        return isinstance(orjson.loads(base64.b64decode(value, validate=True)), dict)
    except (NotBase64, ValueError):
        return False


def _media_types(headers: Headers, protocol: Protocol) -> Answer | None:
    """406 or 415 where what is sent or wanted is not what this protocol speaks."""
    sent = _essence(headers.get("content-type", ""))
    if sent not in protocol.accepts:
        return protocol.error(415, "not-supported", f"send {protocol.accepts[0]}")
    wanted = {_essence(one) for one in headers.get("accept", "*/*").split(",")}
    if not wanted & {"*/*", "application/*", "application/problem+json", *protocol.accepts}:
        return protocol.error(406, "not-supported", f"{protocol.accepts[0]} is what can be answered")
    return None


def _essence(media_type: str) -> str:
    return media_type.partition(";")[0].strip().lower()


async def _body(request: Request, headers: Headers, most: int) -> bytes | int:
    """The whole body; 413 as soon as it is known to be larger than is taken, 400 where it was broken off."""
    length = headers.get("content-length", "0")
    if not length.isdigit() or int(length[:20]) > most:
        return 413 if length.isdigit() else 400
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    return 413
                parts.append(part)
    except ClientDisconnect:
        return 400
    return b"".join(parts)


def _respond(answer: Answer, media_type: str, headers: dict[str, str]) -> Response:
    return Response(answer.body, status_code=answer.status, media_type=media_type, headers=headers)


# ---- what is read ---------------------------------------------------------------------------------------------------


async def form_schema(request: Request) -> Response:
    """GET /forms/{form}/schema: no credential, nobody's data."""
    intake: Intake = request.app.state.intake
    asked = intake.forms.get(request.path_params["form"])
    if asked is None:
        return _respond(problems.problem(404, "there is no such form"), problems.PROBLEM, {})
    return Response(orjson.dumps(form.json_schema(asked)), media_type="application/schema+json")


async def attachment(request: Request) -> Response:
    """GET /attachments/{reference}: a hub's credential, and the reference that only its holder was told."""
    intake: Intake = request.app.state.intake
    partner = intake.partners.authenticate(request.headers.get("authorization"))
    if partner is None:
        return _respond(problems.problem(401, _NO_CREDENTIAL), problems.PROBLEM, {"WWW-Authenticate": "Bearer"})
    if partner.kind != "hub":
        return _respond(problems.problem(403, "attachments are for hubs"), problems.PROBLEM, {})
    try:
        found = await store.attachment(request.app.state.engine, request.path_params["reference"])
    except Exception as error:
        log.warning("attachment_unavailable", kind=type(error).__name__)
        unavailable = problems.problem(503, "not available now: come again")
        return _respond(unavailable, problems.PROBLEM, {"Retry-After": RETRY_SECONDS})
    if found is None:
        return _respond(problems.problem(404, "there is no such attachment"), problems.PROBLEM, {})
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
    said: Any = bars.error(404, "not-supported", "this server takes messages only: POST /fhir/$process-message")
    return _respond(replace(said), bars.MEDIA_TYPE, {})
