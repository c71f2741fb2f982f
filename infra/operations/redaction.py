"""Mask personal data in a record: structure and field names stay, values become their field's name in brackets.

Values are shown by an allow-list of names and shapes: an unlisted field is masked.
"""

import json
import re
from typing import Any

# fmt: off
SHOWN = frozenset({
    "reference", "version", "case_id", "person_key", "hub_version", "expected_version", "status", "business_status",
    "pathway", "home_hub", "holder", "role", "to_hub", "from_hub", "refer_to", "reason", "reasons", "feedback_type", "service",
    "needs", "open_needs", "directory_version", "code", "kind", "format", "channel", "stage", "category", "finding", "command",
    "joined", "updated", "refused", "about", "due", "feedback_id", "partner", "answer", "decided_by", "size", "nhs_number_status",
    "domain", "score",
})
"""Fields whose values are codes, numbers of the hub, or references; not the district: it may be hidden (restricted access)."""

HEADERS = frozenset({
    "ce_specversion", "ce_id", "ce_type", "ce_source", "ce_time", "ce_partitionkey", "ce_correlationid", "ce_causationid",
    "ce_sequence", "content-type",
})
# fmt: on

_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+-]{0,119}")
_MESSAGE_GROUP = re.compile(
    r"LB(-[0-9A-Z]{1,8}){1,4}|[a-z0-9.-]{1,120}/(\d+/\d+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})"
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,39}")
_NHS_NUMBER = re.compile(r"(?<!\d)\d{3}[ -]?\d{3}[ -]?\d{4}(?!\d)")


def value(data: bytes) -> Any:
    """Return the masked structure of a record's value; its size if it is not JSON."""
    try:
        return _masked(json.loads(data), "value")
    except (ValueError, RecursionError):
        return f"({len(data)} bytes, not JSON)"


def headers(pairs: tuple[tuple[str, bytes | None], ...]) -> dict[str, str]:
    """Return the CloudEvents attributes that have the expected shape; mask all others."""
    return {
        _name(name): _header(name, raw.decode("utf-8", "replace") if raw is not None else "") for name, raw in pairs
    }


def message_group(told: str) -> str:
    """Return a message group if it is our reference, a case id or offset of a topic; mask any other."""
    return told if _MESSAGE_GROUP.fullmatch(told) else "(group)"


def correlation(text: str | None) -> str | None:
    """Return a correlation id, which the sender chooses, if it has the shape of an id; mask any other."""
    return text if text is None or _is_plain(text) else "(correlation id)"


def _header(name: str, text: str) -> str:
    return text if name in HEADERS and _is_plain(text) else f"({_name(name)})"


def _masked(node: Any, name: str) -> Any:
    match node:
        case dict():
            return {_name(str(key)): _masked(inner, str(key)) for key, inner in node.items()}
        case list():
            return [_masked(inner, name) for inner in node]
        case None | bool():
            return node
        case _:
            return node if name in SHOWN and _is_plain(str(node)) else f"({_name(name)})"


def _name(name: str) -> str:
    return name if _NAME.fullmatch(name) and not _NHS_NUMBER.search(name) else "name"


def _is_plain(text: str) -> bool:
    return bool(_CODE.fullmatch(text)) and not _NHS_NUMBER.search(text)
