"""The headers and query parameters of requests, for the OpenAPI document: each with its rule and an example."""

import base64
from collections.abc import Collection
from typing import Any

import orjson

from services.intake.csv_upload.endpoint import DRY_RUN
from services.intake.http import headers as sent
from services.intake.http.openapi.example_messages import CORRELATION_ID, REQUEST_ID, YOUR_ODS_CODE
from services.intake.translators.bars_fhir.referrer import ODS
from services.runtime import tracing

Parameter = dict[str, Any]


def components(service_ids: Collection[str]) -> dict[str, Parameter]:
    """Return every parameter by name: `bars-request-id` and `bars-correlation-id` are required, the others are not."""
    ids = {"request-id": _request_id(), "correlation-id": _correlation_id()}
    return {
        **ids,
        **{f"bars-{name}": header | {"required": True} for name, header in ids.items()},
        "dry-run": _dry_run(),
        "traceparent": _header(tracing.HEADER, "W3C Trace Context; an invalid value is ignored", {"type": "string"}),
        **{name: _encoded(name, *_ENCODED[name]) for name in sent.ENCODED if name != sent.TARGET},
        sent.TARGET: _encoded(sent.TARGET, "Identifier of the service that the message is for", _target(service_ids)),
    }


def _dry_run() -> Parameter:
    text = "true: report on each row as if it were sent now, and store nothing; new rows get no reference"
    schema = {"type": "boolean", "default": False}
    return {"name": DRY_RUN, "in": "query", "required": False, "description": text, "schema": schema}


def _request_id() -> Parameter:
    text = "Identifies the request: a retry has the same one. The same id with the same content again is a duplicate (BaRS)"
    return _guid("X-Request-Id", text, REQUEST_ID)


def _correlation_id() -> Parameter:
    text = "Identifies the conversation, up to the feedback: a new referral, its updates and its cancel have one"
    return _guid("X-Correlation-Id", text, CORRELATION_ID)


def _guid(name: str, text: str, example: str) -> Parameter:
    return _header(name, text, {"type": "string", "pattern": sent.GUID.pattern}, example)


def _encoded(name: str, text: str, content: object) -> Parameter:
    schema = {"type": "string", "contentEncoding": "base64", "pattern": "^[A-Za-z0-9+/]+={0,2}$"}
    example = base64.b64encode(orjson.dumps(content)).decode()
    return _header(name, f"{text}: a JSON object in base64 (BaRS)", schema, example)


def _header(name: str, text: str, schema: Parameter, example: str | None = None) -> Parameter:
    parameter = {"name": name, "in": "header", "required": False, "description": text, "schema": schema}
    return parameter | ({"example": example} if example else {})


def _target(service_ids: Collection[str]) -> dict[str, str]:
    system, _, value = next(iter(service_ids), "|").rpartition("|")
    return {"system": system, "value": value}


_ENCODED: dict[str, tuple[str, object]] = {
    "nhsd-end-user-organisation": (
        "Organization of the person who sends",
        {"resourceType": "Organization", "identifier": [{"system": ODS[0], "value": YOUR_ODS_CODE}]},
    ),
    "nhsd-requesting-software": (
        "Device that describes the sending system",
        {"resourceType": "Device", "deviceName": [{"name": "Example GP system", "type": "manufacturer-name"}]},
    ),
    "nhsd-requesting-practitioner": (
        "PractitionerRole of the person who sends",
        {"resourceType": "PractitionerRole", "practitioner": {"display": "Dr Olu Sample"}},
    ),
}
"""By header: its meaning, and the content of an example."""
