"""Read the headers of a request: ids that are echoed, BaRS headers, media types. Other headers are ignored."""

import base64
import re
from binascii import Error as NotBase64
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import parse_qsl

import orjson
from starlette.requests import Request

from services.intake.media_types import essence
from services.intake.translators.bars_fhir.bundle_index import is_system
from services.intake.translators.bars_fhir.for_us import is_ours
from services.intake.translators.bars_fhir.referrer import ODS
from services.intake.translators.translator import Issue

Headers = Mapping[str, str]
"""Headers of a request by lower-case name."""

GUID = re.compile(r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")
TARGET = "nhsd-target-identifier"
ENCODED = (TARGET, "nhsd-end-user-organisation", "nhsd-requesting-software", "nhsd-requesting-practitioner")
IDS = ("X-Request-Id", "X-Correlation-Id")
JOINED = ("accept", *map(str.lower, IDS), *ENCODED)


def guid(value: str | None) -> str | None:
    """Return the GUID in lower case, or None if it is not a GUID."""
    return value.strip().lower() if value and GUID.match(value.strip()) else None


def first_values(request: Request) -> Headers:
    """Return the headers by lower-case name; of a repeated header the first value, of `JOINED` all (RFC 9110, 5.3).

    Two different values of an id or of a BaRS header, joined, fail as a GUID or as base64: neither is preferred.
    """
    pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.scope["headers"]]
    joined = {name: ", ".join(dict.fromkeys(v for n, v in pairs if n == name)) for name, _ in pairs if name in JOINED}
    return dict(reversed(pairs)) | joined


def mirrored(headers: Headers) -> dict[str, str]:
    """Return both ids as they were sent (BaRS). Only GUIDs are echoed: other text might be an NHS number."""
    return {name: value for name in IDS if (value := headers.get(name.lower())) and guid(value)}


def header_issues(headers: Headers) -> tuple[Issue, ...]:
    """Return an issue for each id that is not a GUID, and each BaRS header that is not base64 of a JSON object."""
    issues = [
        Issue(f"header {name}", "value", "must be a GUID")
        for name in map(str.lower, IDS)
        if name in headers and guid(headers[name]) is None
    ]
    for name in ENCODED:
        if name in headers and decoded(headers[name]) is None:
            issues.append(Issue(f"header {name}", "value", "must be base64 of a JSON object"))
    return tuple(issues)


def bars_issues(headers: Headers, service_ids: Collection[str]) -> tuple[Issue, ...]:
    """Return the issues of a BaRS message's headers: both ids are required, and a target must be one of `service_ids`.

    Source: BaRS Core 1.5, Transactional integrity: a message without the ids is rejected with 400 REC_BAD_REQUEST.
    """
    missing = [
        Issue(f"header {name}", "required", "is required: a GUID")
        for name in map(str.lower, IDS)
        if name not in headers
    ]
    target = decoded(headers[TARGET]) if TARGET in headers else None
    if target is not None and not is_ours(f"{target.get('system')}|{target.get('value')}", service_ids):
        missing.append(Issue(f"header {TARGET}", "not-supported", "the target is another service"))
    return (*missing, *header_issues(headers))


def decoded(value: str) -> dict[str, Any] | None:
    """Return the JSON object in a base64 header, or None if it is not one."""
    try:
        content = orjson.loads(base64.b64decode(value, validate=True))
    except (NotBase64, ValueError):
        return None
    return content if isinstance(content, dict) else None


def organisation_code(headers: Headers) -> str | None:
    """Return the ODS code of the Organization in NHSD-End-User-Organisation, or None."""
    organisation = decoded(headers.get("nhsd-end-user-organisation", "")) or {}
    identifiers = organisation.get("identifier")
    for one in identifiers if isinstance(identifiers, list) else ():
        system, value = (one.get("system"), one.get("value")) if isinstance(one, dict) else (None, None)
        if isinstance(value, str) and isinstance(system, str) and any(is_system(system, ods) for ods in ODS):
            return value.strip().upper() or None
    return None


def unknown_parameter(request: Request, known: Collection[str] = ()) -> str | None:
    """Return what is wrong with a query that has a parameter of another name than `known`, or None.

    A parameter that is ignored, such as `dry-run`, would be taken for understood. Its name is repeated only if it is a plain word.
    """
    for name, _ in parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True):
        if name not in known:
            return "unknown query parameter" + (f" '{name}'" if _PARAMETER_NAME.fullmatch(name) else "")
    return None


_PARAMETER_NAME = re.compile(r"[A-Za-z_.-]{1,40}")


def is_encoded(headers: Headers) -> bool:
    """Return True if the body is compressed: it is not accepted, since it might be a thousand times larger."""
    return headers.get("content-encoding", "identity").strip().lower() != "identity"


def accepts(headers: Headers, *answered: str) -> bool:
    """Return True if the client accepts one of these media types."""
    return any(weight(headers, media_type) for media_type in answered)


def weight(headers: Headers, media_type: str) -> float:
    """Return the weight of the most specific media range in Accept that has this media type (RFC 9110, 12.5.1).

    1: also without Accept. 0: not acceptable.
    """
    weights: dict[str, float] = {}
    for media_range in filter(str.strip, headers.get("accept", "").split(",")):
        name, stated = essence(media_range), _WEIGHT.search(media_range)
        weights[name] = max(weights.get(name, 0.0), float(stated[1]) if stated else 1.0)
    ranges = (media_type, media_type.partition("/")[0] + "/*", "*/*")
    return next((weights[one] for one in ranges if one in weights), 0.0 if weights else 1.0)


_WEIGHT = re.compile(r";\s*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\s*(?:;|$)", re.IGNORECASE)


def is_readable_version(media_types: str) -> bool:
    """Return whether one of the media types of a header has no version of BaRS and FHIR, or versions that are supported."""
    return any(map(_is_readable, media_types.split(",")))


def _is_readable(media_type: str) -> bool:
    bars = all(stated in ("", "1") for stated in _VERSION.findall(media_type))
    return bars and all(stated == "4.0" for stated in _FHIR_VERSION.findall(media_type))


_VERSION = re.compile(r";\s*version\s*=\s*\"?v?(\d*)", re.IGNORECASE)
_FHIR_VERSION = re.compile(r';\s*fhirVersion\s*=\s*"?(\d+\.\d+)', re.IGNORECASE)
"""Major version of BaRS, and version of FHIR (http://hl7.org/fhir/R4/http.html#version-parameter)."""
