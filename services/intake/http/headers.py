"""Headers of a request: ids that come back, BaRS headers, media types. Only what is known is looked at."""

import base64
import re
from binascii import Error as NotBase64
from collections.abc import Mapping

import orjson
from starlette.requests import Request

from services.intake.translators.translator import Issue

Headers = Mapping[str, str]
"""Headers of a request by name in small letters."""

GUID = re.compile(r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")
ENCODED = (
    "nhsd-target-identifier",
    "nhsd-end-user-organisation",
    "nhsd-requesting-software",
    "nhsd-requesting-practitioner",
)


def guid(value: str | None) -> str | None:
    """The GUID in small letters; none where it is none."""
    return value.strip().lower() if value and GUID.match(value.strip()) else None


def first_values(request: Request) -> Headers:
    """Headers by name in small letters; of one that comes twice, the first."""
    pairs = reversed(request.scope["headers"])
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in pairs}


def mirrored(headers: Headers) -> dict[str, str]:
    """BaRS: both ids come back as they were sent. Only GUIDs do: anything else might be somebody's number."""
    names = ("X-Request-Id", "X-Correlation-Id")
    return {name: value for name in names if (value := headers.get(name.lower())) and guid(value)}


def header_issues(headers: Headers) -> tuple[Issue, ...]:
    """Ids that are no GUID, and BaRS headers that are not base64 of a JSON object. Others are not looked at."""
    issues = [
        Issue(f"header {name}", "value", "a GUID is expected")
        for name in ("x-request-id", "x-correlation-id")
        if name in headers and guid(headers[name]) is None
    ]
    for name in ENCODED:
        if name in headers and not _is_encoded_json(headers[name]):
            issues.append(Issue(f"header {name}", "value", "base64 of a JSON object is expected"))
    return tuple(issues)


def _is_encoded_json(value: str) -> bool:
    try:
        return isinstance(orjson.loads(base64.b64decode(value, validate=True)), dict)
    except (NotBase64, ValueError):
        return False


def essence(media_type: str) -> str:
    """A media type without its parameters."""
    return media_type.partition(";")[0].strip().lower()


def is_encoded(headers: Headers) -> bool:
    """True where the body is compressed: nothing here unpacks what might be a thousand times larger."""
    return headers.get("content-encoding", "identity").strip().lower() != "identity"


def accepts(headers: Headers, *answered: str) -> bool:
    """True where one of these media types may be answered."""
    accepted_types = {essence(one) for one in headers.get("accept", "*/*").split(",")}
    return bool(accepted_types & {"*/*", "application/*", *answered})
