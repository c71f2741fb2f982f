"""Answer the reads of the FHIR endpoint: a sender's own referrals, and what the server states of itself.

Sources: FHIR R4, RESTful API; BaRS Core 1.5, Cancellation (read the referral before a cancel) and BaRS API. Every answer repeats
X-Request-Id and X-Correlation-Id.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import wraps
from typing import Any

import orjson
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from schemas.text import is_storable
from services.intake import store
from services.intake.accept import Intake
from services.intake.batch import ProtocolResponse
from services.intake.http import headers as sent
from services.intake.http.headers import Headers
from services.intake.http.messages import NO_CREDENTIAL, RATE_LIMITED, respond
from services.intake.rate_limiter import RateLimited
from services.intake.responses import bars, conformance
from services.intake.translators.bars_fhir import identity
from services.intake.translators.translator import ReferralName
from services.reference.partners import Partner
from services.runtime.logs import log

FORMAT = "bars-fhir"
UNAVAILABLE = "temporarily unavailable; retry later"
NOT_FOUND = "no such resource for this sender"
NOT_IMPLEMENTED = "this interaction or search parameter is not supported; see /fhir/metadata"

Read = Callable[[Request, Partner], Awaitable[ProtocolResponse]]


async def metadata(request: Request) -> Response:
    """Handle GET /fhir/metadata: no credential, no personal data."""
    body = conformance.capability(_base(request), request.app.state.started_at)
    return _respond(request, ProtocolResponse(200, body))


async def no_such_interaction(request: Request) -> Response:
    """Handle any other FHIR address: 501 for another interaction of a type that is served, else 404."""
    if request.path_params["rest"].partition("/")[0] in SERVED:
        return _respond(request, bars.error(501, "not-supported", NOT_IMPLEMENTED))
    return _respond(request, bars.error(404, "not-supported", "no such address; see /fhir/metadata"))


SERVED = ("ServiceRequest", "MessageDefinition", "CodeSystem", "metadata", "$process-message")


def authenticated(read: Read) -> Callable[[Request], Awaitable[Response]]:
    """Return the handler of a read, for partners that may send FHIR messages, within their rate."""

    @wraps(read)
    async def handle(request: Request) -> Response:
        intake: Intake = request.app.state.intake
        partner = intake.partners.authenticate(request.headers.get("authorization"))
        if partner is None:
            return _respond(request, bars.error(401, "login", NO_CREDENTIAL))
        if not partner.may_send(FORMAT):
            return _respond(request, bars.error(403, "forbidden", "this credential is not authorised for FHIR"))
        try:
            with intake.rate_limiter.in_flight(partner, "fhir-read"):
                answer = await read(request, partner)
        except RateLimited:
            answer = bars.error(429, "throttled", RATE_LIMITED)
        except Exception as error:
            log.warning("fhir_read_unavailable", error_type=type(error).__name__)
            answer = bars.error(503, "transient", UNAVAILABLE)
        return _respond(request, answer)

    return handle


def _respond(request: Request, answer: ProtocolResponse) -> Response:
    headers = sent.mirrored(sent.first_values(request)) | {"Cache-Control": "no-store"}
    return respond(answer, bars.MEDIA_TYPE, headers)


def _base(request: Request) -> str:
    return str(request.base_url).rstrip("/") + "/fhir"


def _json(resource: dict[str, Any] | None) -> ProtocolResponse:
    if resource is None:
        return bars.error(404, "not-found", NOT_FOUND)
    return ProtocolResponse(200, orjson.dumps(resource))


# ---- referrals ------------------------------------------------------------------------------------------------------


@authenticated
async def service_request(request: Request, partner: Partner) -> ProtocolResponse:
    """Handle GET /fhir/ServiceRequest/{id}: a referral that this partner sent, by our reference or its own id."""
    authority = _authority(sent.first_values(request), partner)
    found = await _referral(request, partner, identity.of_id(request.path_params["id"], authority))
    answer = _json(found)
    return replace(answer, headers={"ETag": f'W/"{found["meta"]["versionId"]}"'}) if found else answer


@authenticated
async def service_requests(request: Request, partner: Partner) -> ProtocolResponse:
    """Handle GET /fhir/ServiceRequest with `identifier` or `_id`; BaRS' other searches are not supported."""
    query = request.query_params
    if not _is_supported(query):
        return bars.error(501, "not-supported", NOT_IMPLEMENTED)
    authority = _authority(sent.first_values(request), partner)
    name = identity.of_id(query["_id"], authority) if "_id" in query else _of_token(query["identifier"], authority)
    found = await _referral(request, partner, name)
    return ProtocolResponse(200, conformance.searchset(_base(request), [found] if found else []))


def _is_supported(query: QueryParams) -> bool:
    """Return whether a search is for one id, or for one identifier with its system: none for a part of it would mislead."""
    asked = query.multi_items()
    if len(asked) != 1 or "," in asked[0][1]:
        return False
    return asked[0][0] == "_id" or (asked[0][0] == "identifier" and "|" in asked[0][1])


def _of_token(token: str, authority: str) -> ReferralName:
    system, _, value = token.rpartition("|")
    return identity.of_identifier(system, value, authority)


def _authority(headers: Headers, partner: Partner) -> str:
    """Return the organisation within which the sender's ids are unique, from NHSD-End-User-Organisation."""
    ods = sent.organisation_code(headers)
    return "" if ods is None or ods == partner.ods else ods


async def _referral(request: Request, partner: Partner, name: ReferralName) -> dict[str, Any] | None:
    if not is_storable(name.value):
        return None
    row = await store.referral(request.app.state.engine, partner.id, name)
    return bars.referral(row) if row and row.format == FORMAT else None


# ---- definitions ----------------------------------------------------------------------------------------------------


@authenticated
async def message_definitions(request: Request, _: Partner) -> ProtocolResponse:
    """Handle GET /fhir/MessageDefinition, all or by `context`."""
    definitions = conformance.message_definitions(
        request.app.state.intake.service_ids, request.query_params.get("context")
    )
    return ProtocolResponse(200, conformance.searchset(_base(request), definitions))


@authenticated
async def message_definition(request: Request, _: Partner) -> ProtocolResponse:
    """Handle GET /fhir/MessageDefinition/{id}."""
    found = conformance.message_definitions(request.app.state.intake.service_ids, None)
    return _json(next((one for one in found if one["id"] == request.path_params["id"]), None))


@authenticated
async def code_systems(request: Request, _: Partner) -> ProtocolResponse:
    """Handle GET /fhir/CodeSystem, all or by `url`."""
    url = request.query_params.get("url")
    systems = [conformance.code_system(*one) for one in request.app.state.intake.code_systems.items()]
    matching = [one for one in systems if url in (None, one["url"])]
    return ProtocolResponse(200, conformance.searchset(_base(request), matching))


@authenticated
async def code_system(request: Request, _: Partner) -> ProtocolResponse:
    """Handle GET /fhir/CodeSystem/{id}."""
    name = request.path_params["id"]
    codes = request.app.state.intake.code_systems.get(name)
    return _json(conformance.code_system(name, codes) if codes else None)
