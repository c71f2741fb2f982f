"""A file as it is sent."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from infra.partner_simulators.send.answers import Outcome, ParsedResponse

REFERENCE = re.compile(r"LB(?:-[0-9A-Z]{4}){3}")

Read = Callable[[int, bytes], ParsedResponse]
"""What an answer says, by its HTTP status (0 where it came over MLLP) and its bytes."""


@dataclass(frozen=True)
class OutgoingMessage:
    """A file as it is sent: what it was taken for, where it goes, with which headers, and who reads the answer."""

    format_name: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    read: Read
    over: Literal["http", "mllp"] = "http"
    counts: bytes | None = None
    """What stands once in the answer for each part that was dealt with, where the answer is long."""


class NotSent(Exception):
    """A file that cannot be sent; the text says why and what to do."""


def as_json(body: bytes) -> dict[str, Any]:
    """The JSON object that `body` is; empty where it is none."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def of_status(status: int, kinds: set[str]) -> Outcome:
    """What an HTTP status means, with the kinds of fault that the answer names."""
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
