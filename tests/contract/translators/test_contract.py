"""What holds for every translator, whatever the bytes: an answer that is a value, no exception, and no value of the message in it."""

import copy
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.intake.translators.contract import Refusal, Translated
from tests.contract.translators.adapters import ADAPTERS, Adapter

each = pytest.mark.parametrize("adapter", ADAPTERS, ids=str)
quickly = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=25,
)


def refusal(adapter: Adapter, body: bytes) -> Refusal:
    outcome = adapter.translate(adapter.delivery(body))
    assert isinstance(outcome, Refusal)
    assert outcome.faults
    assert all(fault.place and fault.kind and fault.explanation for fault in outcome.faults)
    return outcome


@each
def test_a_good_message_is_translated(adapter: Adapter) -> None:
    outcome = adapter.translate(adapter.delivery(adapter.good()))
    assert isinstance(outcome, Translated), outcome
    assert outcome.referral is not None
    assert outcome.referral.sent_by.partner == adapter.sender


@each
def test_the_same_bytes_always_give_the_same(adapter: Adapter) -> None:
    body = adapter.good()
    assert adapter.translate(adapter.delivery(body)) == adapter.translate(adapter.delivery(body))


@each
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"\x00",
        b"\xff\xfe\x00",
        b"null",
        b"[]",
        b"{}",
        b"1",
        b'"text"',
        b"NaN",
        b"{" * 100_000,
        b"[" * 100_000,
        b'{"resourceType":' * 1000,
        b"PK\x03\x04 a spreadsheet",
        b"MSH|^~\\&|EPR|RWE|",
        b"<Bundle xmlns='http://hl7.org/fhir'/>",
        b"reference;family_name\n1;Other\n",
    ],
    ids=lambda body: repr(body[:12]),
)
def test_what_is_empty_or_of_another_format_is_refused(adapter: Adapter, body: bytes) -> None:
    refusal(adapter, body)


@each
def test_a_message_that_breaks_off_anywhere_is_refused(adapter: Adapter) -> None:
    body = adapter.good()
    for end in {*range(0, len(body) - 1, max(1, len(body) // 60)), len(body) - 1}:
        refusal(adapter, body[:end])


@each
def test_a_huge_message_is_judged_and_does_not_raise(adapter: Adapter) -> None:
    content = json.loads(adapter.good())
    content["padding"] = ["x" * 1000] * 1000
    adapter.translate(adapter.delivery(json.dumps(content).encode()))


@each
@given(body=st.binary(max_size=300))
@quickly
def test_any_bytes_get_an_answer(adapter: Adapter, body: bytes) -> None:
    assert isinstance(adapter.translate(adapter.delivery(body)), Translated | Refusal)


@each
@given(value=json_values)
@quickly
def test_any_json_gets_an_answer(adapter: Adapter, value: Any) -> None:
    assert isinstance(adapter.translate(adapter.delivery(json.dumps(value).encode())), Translated | Refusal)


@each
@given(data=st.data())
@quickly
def test_a_good_message_with_anything_anywhere_gets_an_answer(adapter: Adapter, data: st.DataObject) -> None:
    content = json.loads(adapter.good())
    for _ in range(data.draw(st.integers(1, 3))):
        _put_anywhere(content, data)
    body = json.dumps(content).encode()
    assert isinstance(adapter.translate(adapter.delivery(body)), Translated | Refusal)


def _put_anywhere(content: Any, data: st.DataObject) -> None:
    """Replace, add or take away one value somewhere in a structure."""
    while True:
        names = list(content) if isinstance(content, dict) else list(range(len(content)))
        if not names:
            return
        name = data.draw(st.sampled_from(names))
        if isinstance(content[name], dict | list) and content[name] and data.draw(st.integers(0, 5)):
            content = content[name]
            continue
        if data.draw(st.booleans()):
            content[name] = copy.deepcopy(data.draw(json_values | _tempting))
        else:
            del content[name]
        return


_tempting = st.sampled_from(
    [
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "2026-02-30",
        "2026-W01-1",
        "10" * 5000,
        10**400,
        -1,
        1e308,
        [[]] * 5,
        {"resourceType": "Nope"},
        {"resourceType": 5},
        {"resourceType": None},
        " ",
        "",
        "\u202e",
        "x" * 400,
        "x" * 20_000,
    ]
)


@each
@pytest.mark.parametrize("escaped", ["\\u0000", "\\ud800", "\\udc00x"])
def test_nul_and_lone_surrogates_are_refused_wherever_they_are(adapter: Adapter, escaped: str) -> None:
    marked = json.loads(adapter.good().decode().replace("Ngozi", "MARK").replace("Dr ", "MARK "))
    body = json.dumps(marked).replace("MARK", escaped).encode()
    assert escaped.encode() in body
    refusal(adapter, body)


@each
def test_an_escaped_backslash_before_u0000_is_no_nul(adapter: Adapter) -> None:
    body = adapter.good().replace(b"Ngozi", b"C:\\\\u0000")
    assert isinstance(adapter.translate(adapter.delivery(body)), Translated)


CANARY = "Verdigris7"


@each
@given(data=st.data())
@quickly
def test_a_refusal_never_repeats_a_value(adapter: Adapter, data: st.DataObject) -> None:
    content = json.loads(adapter.good())
    _put_canary_anywhere(content, data)
    outcome = adapter.translate(adapter.delivery(json.dumps(content).encode()))
    if isinstance(outcome, Refusal):
        assert CANARY not in repr(outcome)


def _put_canary_anywhere(content: Any, data: st.DataObject) -> None:
    while True:
        names = list(content) if isinstance(content, dict) else list(range(len(content)))
        name = data.draw(st.sampled_from(names))
        if isinstance(content[name], dict | list) and content[name] and data.draw(st.integers(0, 5)):
            content = content[name]
            continue
        canaries = [CANARY, f"{CANARY} " * 3000, {CANARY: 1}, [CANARY], {"resourceType": CANARY}]
        content[name] = copy.deepcopy(data.draw(st.sampled_from(canaries)))
        return
