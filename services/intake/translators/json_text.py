"""Parse a sender's JSON once; reject it early if it has too many values, too long lists or too deep nesting."""

from typing import Any

from pydantic_core import from_json

from schemas.text import is_storable_json
from services.intake import limits
from services.intake.translators.translator import CONTAINS_NUL, Issue, IssueKind, Rejection, reject


def read(body: bytes, root: str) -> Any | Rejection:
    """Return the parsed JSON, or a rejection that names it `root`. NaN and NUL are rejected."""
    if not is_storable_json(body):
        return _refused(root, "invalid", CONTAINS_NUL)
    if sum(map(body.count, (b",", b"[", b"{"))) > limits.JSON_VALUES:
        return _refused(root, "too-long", f"has more than {limits.JSON_VALUES} values")
    try:
        raw = from_json(body, allow_inf_nan=False)
    except (ValueError, RecursionError):
        return _refused(root, "invalid", "is not JSON in UTF-8, or is nested too deeply")
    return _too_much(raw, root) or raw


def _refused(root: str, kind: IssueKind, explanation: str) -> Rejection:
    return reject(Issue(root, kind, explanation))


def _too_much(raw: Any, root: str) -> Rejection | None:
    """Return a rejection if a list is too long or the nesting too deep; go level by level, without recursion."""
    level, depth = [raw] if type(raw) in (dict, list) else [], 0
    while level:
        depth += 1
        if depth > limits.JSON_DEPTH:
            return _refused(root, "too-long", f"is nested deeper than {limits.JSON_DEPTH} levels")
        below: list[Any] = []
        for value in level:
            if type(value) is dict:
                below += value.values()
            elif len(value) > limits.JSON_LIST:
                return _refused(root, "too-long", f"has a list of more than {limits.JSON_LIST} entries")
            else:
                below += value
        level = [value for value in below if type(value) is dict or type(value) is list]
    return None
