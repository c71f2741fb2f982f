"""A file in the form in which it is sent."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from infra.partner_simulators.send.answers import Outcome, ParsedResponse

REFERENCE = re.compile(r"LB(?:-[0-9A-Z]{4}){3}")

Read = Callable[[int, bytes], ParsedResponse]
"""Parses a response: HTTP status (0 for MLLP) and bytes."""


@dataclass(frozen=True)
class OutgoingMessage:
    """A file to send: its format, path, headers, and the parser of its response."""

    format_name: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    read: Read
    over: Literal["http", "mllp", "adt_mllp"] = "http"
    counts: bytes | None = None
    """Bytes that occur once in the response for each processed part, for a long response."""

    read_part: Read | None = None
    """Parses what came of a long response that broke off."""


class NotSent(Exception):
    """The file cannot be sent; the text gives the reason and what to do."""


def as_json(body: bytes) -> dict[str, Any]:
    """Return the JSON object in `body`; an empty one if there is none."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def of_status(status: int, kinds: set[str]) -> Outcome:
    """Return the outcome for an HTTP status and the kinds of fault in the response."""
    match status:
        case 409:
            return "duplicate" if "duplicate" in kinds else "conflict"
        case 401 | 403:
            return "not allowed"
        case _ if 200 <= status < 300:
            return "accepted"
        case 408 | 429:
            return "unavailable"
        case _ if status >= 500:
            return "unavailable"
        case _:
            return "refused"
