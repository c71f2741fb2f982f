"""Parse a sender's JSON once; reject it early if it has too many values, too long lists, too deep nesting or a name twice.

Which of two values of one name counts is not defined (RFC 8259, 4), and FHIR forbids it (R4 json.html).
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import orjson
from msgspec import Raw

from schemas.text import is_storable_json
from services.intake import limits
from services.intake.translators.translator import (
    CONTAINS_NUL,
    PLAIN_NAME,
    Issue,
    IssueKind,
    Rejection,
    fhir_path,
    reject,
)

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""Ignored before the text, as RFC 8259 8.1 allows."""


def read(body: bytes, root: str) -> Any | Rejection:
    """Return the parsed JSON, or a rejection that names it `root`. NaN and NUL are rejected."""
    if not is_storable_json(body):
        return _refused(root, "invalid", CONTAINS_NUL)
    if sum(map(body.count, (b",", b"[", b"{"))) > limits.JSON_VALUES:
        return _refused(root, "too-long", f"has more than {limits.JSON_VALUES} values")
    text = body.removeprefix(BYTE_ORDER_MARK)
    try:
        raw = orjson.loads(text)
    except ValueError:
        return _refused(root, "invalid", "is not JSON in UTF-8, or is nested too deeply")
    return _too_much(raw, text, root) or raw


def as_sent(body: bytes, location: Sequence[int | str]) -> Any:
    """Return the value at a location of a body that was read, with its numbers exactly as they were sent.

    A number is an orjson.Fragment: FHIR's decimals have any number of digits, and 1.10 is not 1.1.
    """
    value = Raw(body.removeprefix(BYTE_ORDER_MARK))
    for step in location:
        kind: Any = dict[str, Raw] if isinstance(step, str) else list[Raw]
        value = msgspec.json.decode(value, type=kind)[step]
    return json.loads(bytes(value), parse_int=orjson.Fragment, parse_float=orjson.Fragment)


def _refused(place: str, kind: IssueKind, explanation: str) -> Rejection:
    return reject(Issue(place, kind, explanation))


def _too_much(raw: Any, text: bytes, root: str) -> Rejection | None:
    """Return a rejection if a list is too long, the nesting too deep or a name is there twice; go level by level."""
    level, depth, members = [raw] if type(raw) in (dict, list) else [], 0, 0
    while level:
        depth += 1
        if depth > limits.JSON_DEPTH:
            return _refused(root, "too-long", f"is nested deeper than {limits.JSON_DEPTH} levels")
        below: list[Any] = []
        for value in level:
            if type(value) is dict:
                members += len(value)
                below += value.values()
            elif len(value) > limits.JSON_LIST:
                return _refused(root, "too-long", f"has a list of more than {limits.JSON_LIST} entries")
            else:
                below += value
        level = [value for value in below if type(value) is dict or type(value) is list]
    return _name_twice(text, root) if _may_have_a_name_twice(text, members) else None


# ---- names ----------------------------------------------------------------------------------------------------------


def _may_have_a_name_twice(text: bytes, members: int) -> bool:
    """Return False if no object has a name twice. `members`: of all objects together, once parsed.

    Without white space, `":` follows each name in the text, while of two equal names in an object one is parsed.
    A text may have `":` inside, too, so that a larger count decides nothing.
    """
    return text.translate(None, b" \t\n\r").count(b'":') != members


class _Twice(dict[str, Any]):
    """An object that has a name twice."""


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    return found if len(found) == len(members) else _Twice(found)


def _name_twice(text: bytes, root: str) -> Rejection | None:
    try:
        raw = json.loads(text, object_pairs_hook=_object, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return _refused(root, "invalid", "is not JSON in UTF-8, or is nested too deeply")
    issues = [
        Issue(fhir_path(root, place), "invalid", "has an element twice; each may be there once")
        for place in _twice(raw, ())
    ]
    return Rejection(tuple(issues[: limits.ISSUES])) if issues else None


def _twice(value: Any, place: tuple[int | str, ...]) -> Iterator[tuple[int | str, ...]]:
    """Yield the place of each object with a name twice, no further than to a name that may be personal data."""
    if isinstance(value, _Twice):
        yield place
    for step, one in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        inside = _twice(one, (*place, step))
        yield from inside if isinstance(step, int) or PLAIN_NAME.match(step) else (place for _ in inside)
