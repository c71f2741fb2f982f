"""Reasons of dead letters are words that an operator understands, whatever fault a record has."""

from typing import get_args

import pytest
from pydantic_core.core_schema import ErrorType

from infra.operations import reasons
from services.messaging.dead_letters import WAITING


def test_no_kind_of_fault_is_shown_by_its_name() -> None:
    for kind in get_args(ErrorType):
        words = reasons.in_words(f"ended.0.needs: {kind}; ce_time: missing")
        assert words.startswith("ended.0.needs is ")
        assert words.endswith("; ce_time is missing")
        assert "_" not in words.replace("ce_time", "")


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (
            "visit_at: datetime_from_date_parsing",
            "visit_at is not a date and time with an offset, such as 2026-11-23T10:00:00Z",
        ),
        ("value: json_invalid", "the value is not JSON"),
        ("decision: KeyError", "the router failed on it (KeyError): report the defect"),
        ("compose: TypeError", "the notifier failed on it (TypeError): report the defect"),
        ("sqlstate 22P05", "the database refused its data (sqlstate 22P05): report the defect"),
        ("key: not ASCII", "key: not ASCII"),
        (WAITING, WAITING),
    ],
)
def test_a_reason_is_said_in_words(reason: str, words: str) -> None:
    assert reasons.in_words(reason) == words
