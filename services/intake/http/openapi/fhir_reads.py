"""The reads of the FHIR endpoint, for the OpenAPI document."""

from typing import Any

from services.intake.http.openapi import examples
from services.intake.http.openapi.bodies import Schema, ref
from services.intake.responses import bars

ERRORS = (401, 403, 404, 429, 501, 503)
"""Statuses of a read that is not answered; a search that finds nothing is 200."""

TOKEN = "As system|value"  # noqa: S105 - the type of a FHIR search parameter
READS: dict[str, tuple[str, str, dict[str, str]]] = {
    "ServiceRequest": (
        "A referral that you sent, as you sent it last, with our reference as its id",
        "By our reference, or by your own id; an intermediary names the organisation in NHSD-End-User-Organisation",
        {"identifier": f"{TOKEN}: our reference, or an identifier of yours", "_id": "As in a read"},
    ),
    "MessageDefinition": (
        "The messages that are received",
        "Last part of its URL",
        {"context": f"{TOKEN}: the service that receives"},
    ),
    "CodeSystem": ("Lightbulb's codes", "Last part of its URL", {"url": "Canonical URL"}),
}
"""By resource type: what it is, what its id is, and the search parameters."""


def paths() -> dict[str, dict[str, Any]]:
    """Return the read and the search of each resource type."""
    found: dict[str, dict[str, Any]] = {}
    for kind, (summary, id_text, parameters) in READS.items():
        read = {"name": "id", "in": "path", "required": True, "description": id_text, "schema": _TEXT}
        search = [
            {"name": name, "in": "query", "description": text, "schema": {"type": "string"}}
            for name, text in parameters.items()
        ]
        found[f"/fhir/{kind}"] = {"get": _operation(f"search{kind}", summary, search, "fhir-searchset", ())}
        headers = ("ETag",) if kind == "ServiceRequest" else ()
        operation = _operation(f"read{kind}", summary, [read], "fhir-resource", headers)
        operation["responses"]["200"]["content"][bars.MEDIA_TYPE]["examples"] = examples.references(
            [examples.READS[kind]]
        )
        found[f"/fhir/{kind}/{{id}}"] = {"get": operation}
    return found


_TEXT: Schema = {"type": "string", "pattern": "^[A-Za-z0-9.-]{1,64}$"}


def schemas() -> dict[str, Schema]:
    """Return the schemas of the resources and of the Bundle that answers a search."""
    resource: Schema = {
        "type": "object",
        "properties": {"resourceType": {"enum": list(READS)}, "id": {"type": "string"}},
        "required": ["resourceType", "id"],
    }
    bundle: Schema = {
        "type": "object",
        "properties": {
            "resourceType": {"const": "Bundle"},
            "type": {"const": "searchset"},
            "total": {"type": "integer", "minimum": 0},
            "entry": {"type": "array", "minItems": 1, "items": {"type": "object", "required": ["fullUrl", "resource"]}},
        },
        "required": ["resourceType", "type", "total"],
    }
    return {"fhir-resource": resource, "fhir-searchset": bundle}


def _operation(
    operation_id: str, summary: str, parameters: list[Schema], schema: str, headers: tuple[str, ...]
) -> dict[str, Any]:
    ids = [{"$ref": f"#/components/parameters/{name}"} for name in ("request-id", "correlation-id")]
    return {
        "operationId": operation_id,
        "summary": summary,
        "security": [{"partner": []}],
        "parameters": [*parameters, *ids],
        "responses": {
            "200": _response("OK", schema, *headers),
            **{
                str(status): _response(bars.CODES[status], "operation-outcome", *MORE.get(status, ()))
                for status in ERRORS
            },
        },
    }


MORE = {401: ("WWW-Authenticate",), 429: ("Retry-After",), 503: ("Retry-After",)}


def _response(description: str, schema: str, *headers: str) -> Schema:
    names = ("X-Request-Id", "X-Correlation-Id", *headers)
    return {
        "description": description,
        "content": {bars.MEDIA_TYPE: {"schema": ref(schema)}},
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
    }
