"""JSON that is too much is refused before it costs time, and says which limit it is beyond."""

import json
from typing import Any

import pytest

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
    ],
)
def test_json_beyond_a_limit_is_rejected_by_the_limits_name(value: Any, said: str) -> None:
    assert why(value) == said
