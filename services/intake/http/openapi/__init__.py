"""The OpenAPI 3.1 document that intake serves: every path with its requests, responses and limits.

It is generated from the forms, the councils' mappings, the models of a BaRS message and limits.py. operations.py lists the responses
of each path; tests/intake/test_openapi.py compares it with the routes and with actual responses.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import orjson

from services.intake import limits
from services.intake.accept import Intake
from services.intake.http.openapi import bodies, examples, fhir_reads, operations, parameters
from services.runtime import metrics

MEDIA_TYPE = "application/vnd.oai.openapi+json;version=3.1"


@dataclass(frozen=True)
class OpenApiDocument:
    """The serialised document with its ETag."""

    body: bytes
    etag: str


def made(intake: Intake, served: Collection[str]) -> OpenApiDocument:
    """Return the serialised document of this intake, for the paths that it serves."""
    body = orjson.dumps(document(intake, served))
    return OpenApiDocument(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def document(intake: Intake, served: Collection[str]) -> dict[str, Any]:
    """Return the document as plain values. /metrics is part of it only if it is one of the served paths."""
    paths = operations.paths(intake)
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "Lightbulb referral hub: intake",
            "version": metrics.version(),
            "summary": "Accepts referrals in the formats that their senders have, and responds after each is stored.",
            "description": _description(intake),
        },
        "servers": [{"url": "/"}],
        "security": [],
        "paths": {path: item for path, item in paths.items() if path != "/metrics" or path in served},
        "components": {
            "securitySchemes": {"partner": {"type": "http", "scheme": "bearer", "description": "A partner's token"}},
            "parameters": parameters.components(intake.service_ids),
            "headers": bodies.HEADERS,
            "schemas": bodies.schemas(intake) | fhir_reads.schemas(),
            "examples": examples.components(intake),
        },
    }


def _description(intake: Intake) -> str:
    return (
        "Any 2xx means that the message is stored and will not be lost; after any other status the sender must keep it. Duplicates are "
        "recognised, so a message whose response was lost can be sent again. BaRS-shaped: no BaRS use case exists for housing.\n\n"
        f"Limits: {intake.max_body_bytes:,} bytes per message, sent within {limits.BODY_SECONDS:g} s; {limits.IN_FLIGHT} concurrent "
        "requests of a partner; the partner's rate of messages per second, else 429 with Retry-After. docs/limits.md lists all limits. "
        "A malformed request, or one with too large a head, is answered in plain text before routing: 400, 408, 414 or 431; and 503 if "
        "no connection is free."
    )
