"""Read the headers of a request: ids that are echoed, BaRS headers, media types. Other headers are ignored."""

import base64
import re
from binascii import Error as NotBase64
from collections.abc import Mapping

import orjson
from starlette.requests import Request

from services.intake.translators.translator import Issue

Headers = Mapping[str, str]
"""Headers of a request by lower-case name."""

GUID = re.compile(r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")
ENCODED = (
    "nhsd-target-identifier",
    "nhsd-end-user-organisation",
    "nhsd-requesting-software",
    "nhsd-requesting-practitioner",
)


def guid(value: str | None) -> str | None:
    """Return the GUID in lower case, or None if it is not a GUID."""
    return value.strip().lower() if value and GUID.match(value.strip()) else None


def first_values(request: Request) -> Headers:
    """Return the headers by lower-case name; of a repeated header the first value, of Accept all (RFC 9110, 5.3)."""
    pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.scope["headers"]]
    accepted = [value for name, value in pairs if name == "accept"]
    return dict(reversed(pairs)) | ({"accept": ", ".join(accepted)} if accepted else {})


def mirrored(headers: Headers) -> dict[str, str]:
    """Return both ids as they were sent (BaRS). Only GUIDs are echoed: other text might be an NHS number."""
    names = ("X-Request-Id", "X-Correlation-Id")
    return {name: value for name in names if (value := headers.get(name.lower())) and guid(value)}


def header_issues(headers: Headers) -> tuple[Issue, ...]:
    """Return an issue for each id that is not a GUID, and each BaRS header that is not base64 of a JSON object."""
    issues = [
        Issue(f"header {name}", "value", "must be a GUID")
        for name in ("x-request-id", "x-correlation-id")
        if name in headers and guid(headers[name]) is None
    ]
    for name in ENCODED:
        if name in headers and not _is_encoded_json(headers[name]):
            issues.append(Issue(f"header {name}", "value", "must be base64 of a JSON object"))
    return tuple(issues)


def _is_encoded_json(value: str) -> bool:
    try:
        return isinstance(orjson.loads(base64.b64decode(value, validate=True)), dict)
    except (NotBase64, ValueError):
        return False


def essence(media_type: str) -> str:
    """Return a media type without its parameters."""
    return media_type.partition(";")[0].strip().lower()


def is_encoded(headers: Headers) -> bool:
    """Return True if the body is compressed: it is not accepted, since it might be a thousand times larger."""
    return headers.get("content-encoding", "identity").strip().lower() != "identity"


def accepts(headers: Headers, *answered: str) -> bool:
    """Return True if the client accepts one of these media types: any type, unless it names some (RFC 9110, 12.5.1)."""
    weights: dict[str, float] = {}
    for media_range in filter(str.strip, headers.get("accept", "").split(",")):
        name, weight = essence(media_range), _WEIGHT.search(media_range)
        weights[name] = max(weights.get(name, 0.0), float(weight[1]) if weight else 1.0)
    return not weights or any(_weight(weights, media_type) for media_type in answered)


def _weight(weights: Mapping[str, float], media_type: str) -> float:
    """Return the weight of the most specific range that has this media type; 0: not acceptable."""
    ranges = (media_type, media_type.partition("/")[0] + "/*", "*/*")
    return next((weights[one] for one in ranges if one in weights), 0.0)


_WEIGHT = re.compile(r";\s*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\s*(?:;|$)", re.IGNORECASE)
