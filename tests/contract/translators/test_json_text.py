"""JSON that is too much, or has a name twice, is refused before it costs time, and says which limit it is beyond."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.intake import limits
from services.intake.translators import json_text
from services.intake.translators.translator import Rejection


def nested(levels: int) -> Any:
    value: Any = []
    for level in range(levels - 1):
        value = [value] if level % 2 else {"in": value}
    return value


def why(value: Any) -> str | None:
    read = json_text.read(value if isinstance(value, bytes) else json.dumps(value).encode(), "form")
    return read.issues[0].explanation if isinstance(read, Rejection) else None


@pytest.mark.parametrize("value", [None, 0, "", [], {}, nested(limits.JSON_DEPTH), [0] * limits.JSON_LIST])
def test_json_within_the_limits_is_parsed(value: Any) -> None:
    assert json_text.read(json.dumps(value).encode(), "form") == value


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (nested(limits.JSON_DEPTH + 1), "is nested deeper than 40 levels"),
        ({"a": [[0] * (limits.JSON_LIST + 1)]}, "has a list of more than 1000 entries"),
        ({str(number): 0 for number in range(limits.JSON_VALUES + 2)}, "has more than 10000 values"),
        ([[{}] * 900] * 12, "has more than 10000 values"),
        (b"[" * 500_000, "has more than 10000 values"),
        (b"[" * 5_000, "is not JSON in UTF-8, or is nested too deeply"),
        (b"[" + b"9" * 1_000_000 + b"]", "is not JSON in UTF-8, or is nested too deeply"),
        (b'["\\ud800"]', "is not JSON in UTF-8, or is nested too deeply"),
        (b'["\\u0000"]', "contains a NUL character, which is not allowed"),
        (b"[NaN]", "is not JSON in UTF-8, or is nested too deeply"),
        (b"", "is not JSON in UTF-8, or is nested too deeply"),
        (b'{"a": 1, "a": 1}', "has an element twice; each may be there once"),
        (b'{"a": ' + b"[" * 900 + b"]" * 900 + b', "a": 1}', "has an element twice; each may be there once"),
    ],
)
def test_json_beyond_a_limit_is_rejected_by_the_limits_name(value: Any, said: str) -> None:
    assert why(value) == said


def test_a_byte_order_mark_before_the_text_is_ignored() -> None:
    assert json_text.read(b'\xef\xbb\xbf{"a": 1}', "form") == {"a": 1}
    assert why(b'{"a": "\xef\xbb\xbf"}\xef\xbb\xbf') is not None


@pytest.mark.parametrize(
    ("body", "places"),
    [
        (b'{"entry": [{}, {"resource": {"id": "a", "id": "b"}}]}', ["Bundle.entry[1].resource"]),
        (b'{"entry": [{"id" : "a", "id": ":x"}], "id": 1, "id":2}', ["Bundle", "Bundle.entry[0]"]),
        (b'{"a": {"Zoe Any": [{"b": 1, "\\u0062": 2}]}}', ["Bundle.a"]),
        (b'{"a": {"b": 1, "b": ":c"}, "d": "\\u003ae"}', ["Bundle.a"]),
        (b'{"a": {"x": {"y": 1, "y": 2}}, "a": 1}', ["Bundle"]),
    ],
)
def test_a_name_twice_is_refused_by_the_place_of_its_object_and_not_by_the_name(body: bytes, places: list[str]) -> None:
    read = json_text.read(body, "Bundle")
    assert isinstance(read, Rejection)
    assert [(issue.place, issue.kind) for issue in read.issues] == [(place, "invalid") for place in places]


names = st.sampled_from(["a", "b", ":", '":', "\\", '\\":', "é", " :", "a\n:"])
objects = st.recursive(
    names | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(names, inner), max_size=4).map(tuple),
)


@given(value=objects, blank=st.sampled_from(["", " ", "\n", "\t"]), ascii_only=st.booleans())
def test_exactly_the_texts_with_a_name_twice_in_one_object_are_refused(
    value: Any, blank: str, ascii_only: bool
) -> None:
    read = json_text.read(_text(value, blank, ascii_only).encode(), "Bundle")
    assert isinstance(read, Rejection) is _has_a_name_twice(value)


def _text(value: Any, blank: str, ascii_only: bool) -> str:
    """JSON of a value in which an object is a tuple of its members."""
    if isinstance(value, tuple):
        members = [
            f"{json.dumps(name, ensure_ascii=ascii_only)}{blank}:{_text(one, blank, ascii_only)}" for name, one in value
        ]
        return "{" + f",{blank}".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_text(one, blank, ascii_only) for one in value) + "]"
    return json.dumps(value, ensure_ascii=ascii_only)


def _has_a_name_twice(value: Any) -> bool:
    if isinstance(value, tuple):
        return len({name for name, _ in value}) < len(value) or any(_has_a_name_twice(one) for _, one in value)
    return isinstance(value, list) and any(map(_has_a_name_twice, value))


@pytest.mark.parametrize(
    "number", ["1.10", "123456789012345678901234567890", "-0.0", "1E-400", "0.1000000000000000000001"]
)
def test_a_number_is_echoed_with_every_digit_that_was_sent(number: str) -> None:
    body = f'\ufeff{{"entry": [1, {{"resource": {{"é": [{number}, "a"]}}}}]}}'.encode()
    assert isinstance(json_text.read(body, "Bundle"), dict)
    echoed = orjson.dumps(json_text.as_sent(body, ("entry", 1, "resource")))
    assert echoed == f'{{"é":[{number},"a"]}}'.encode()
