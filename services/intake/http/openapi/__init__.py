"""The OpenAPI 3.1 document that intake serves: every address, what may be sent there, every answer, and the limits.

Made from what stands: the forms, the councils' mappings, the models of a BaRS message, limits.py. Which answers each address gives is
said in operations.py; tests/intake/test_openapi.py holds it against the routes, and against the answers that really come.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import orjson

from services.intake import limits
from services.intake.accept import Intake
from services.intake.http.openapi import bodies, operations
from services.runtime import metrics

MEDIA_TYPE = "application/vnd.oai.openapi+json;version=3.1"


@dataclass(frozen=True)
class OpenApiDocument:
    """The document as it is served, with the tag that tells whether it has changed."""

    body: bytes
    etag: str


def made(intake: Intake, served: Collection[str]) -> OpenApiDocument:
    """The document of this intake, for the addresses that are served here."""
    body = orjson.dumps(document(intake, served))
    return OpenApiDocument(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def document(intake: Intake, served: Collection[str]) -> dict[str, Any]:
    """The document as plain values. `served`: the paths of the routes; of /metrics, whether it is served here."""
    paths = operations.paths(intake)
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "Lightbulb referral hub: intake",
            "version": metrics.version(),
            "summary": "Referrals in whatever form their sender has; an answer once each is kept.",
            "description": _description(intake),
        },
        "servers": [{"url": "/"}],
        "security": [],
        "paths": {path: item for path, item in paths.items() if path != "/metrics" or path in served},
        "components": {
            "securitySchemes": {"partner": {"type": "http", "scheme": "bearer", "description": "A partner's token"}},
            "parameters": operations.PARAMETERS,
            "headers": bodies.HEADERS,
            "schemas": bodies.schemas(intake),
        },
    }


def _description(intake: Intake) -> str:
    return (
        "Any 2xx means that the message is ours and will not be lost; anything else, that it is still the sender's. A repeat is "
        "recognised, so a message whose answer was lost can be sent again. BaRS-shaped: no BaRS use case exists for housing.\n\n"
        f"Limits: {intake.max_body_bytes:,} bytes a message, within {limits.BODY_SECONDS:g} s; {limits.IN_FLIGHT} requests of a partner "
        "at once; so many messages a second as its entry allows, else 429 with Retry-After. All of them are in docs/limits.md. What is "
        "no request, or larger in its head than is taken, is answered in plain text before any address is looked at: 400, 408, 414, "
        "431, and 503 where no connection is free."
    )
