"""What holds for every translator, whatever the bytes: an answer that is a value, no exception, and no value of the message in it."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.intake.translators.translator import Rejection, Translated
from tests.contract.translators.adapters import ADAPTERS, Adapter
from tests.contract.translators.mutations import JSON

each = pytest.mark.parametrize("adapter", ADAPTERS, ids=str)
quickly = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def assert_rejected(adapter: Adapter, body: bytes) -> Rejection:
    outcome = adapter.translate(adapter.delivery(body))
    assert isinstance(outcome, Rejection)
    assert outcome.issues
    assert all(fault.place and fault.kind and fault.explanation for fault in outcome.issues)
    return outcome


@each
def test_a_good_message_is_translated(adapter: Adapter) -> None:
    outcome = adapter.translate(adapter.delivery(adapter.good()))
    assert isinstance(outcome, Translated), outcome
    assert outcome.referral is not None
    assert outcome.referral.sent_by.partner == adapter.sender


@each
def test_the_same_bytes_always_give_the_same_result(adapter: Adapter) -> None:
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
def test_an_empty_body_or_another_format_is_rejected(adapter: Adapter, body: bytes) -> None:
    assert_rejected(adapter, body)


@each
def test_a_message_that_ends_early_is_rejected(adapter: Adapter) -> None:
    """Where a format cannot tell, its transport does (an MLLP frame, Content-Length); an answer there is all the same."""
    body = adapter.good()
    for end in {*range(0, len(body) - 1, max(1, len(body) // 60)), len(body) - 1}:
        outcome = adapter.translate(adapter.delivery(body[:end]))
        assert isinstance(outcome, Translated | Rejection)
        if adapter.mutations.breaks_off_visibly and body[end - 1 : end] != b"\r":  # half a line end is one
            assert isinstance(outcome, Rejection)


@each
def test_a_huge_message_is_decided_and_does_not_raise(adapter: Adapter) -> None:
    outcome = adapter.translate(adapter.delivery(adapter.mutations.huge(adapter.good())))
    assert isinstance(outcome, Translated | Rejection)


@each
@given(body=st.binary(max_size=300))
@quickly
def test_any_bytes_get_an_answer(adapter: Adapter, body: bytes) -> None:
    assert isinstance(adapter.translate(adapter.delivery(body)), Translated | Rejection)


@each
@given(data=st.data())
@quickly
def test_any_value_of_its_syntax_gets_an_answer(adapter: Adapter, data: st.DataObject) -> None:
    body = data.draw(adapter.mutations.anything())
    assert isinstance(adapter.translate(adapter.delivery(body)), Translated | Rejection)


@each
@given(data=st.data())
@quickly
def test_a_good_message_with_any_value_at_any_path_gets_an_answer(adapter: Adapter, data: st.DataObject) -> None:
    body = adapter.good()
    for _ in range(data.draw(st.integers(1, 3))):
        body = adapter.mutations.with_anything(body, data)
    assert isinstance(adapter.translate(adapter.delivery(body)), Translated | Rejection)


@each
def test_characters_that_text_must_not_hold_are_never_kept(adapter: Adapter) -> None:
    """HL7 v2 reads them as Windows-1252 or a blank, so that words refuse no referral; other formats refuse them."""
    bodies = list(adapter.mutations.unkept(adapter.good()))
    assert bodies
    for body in bodies:
        outcome = adapter.translate(adapter.delivery(body))
        if isinstance(outcome, Translated):
            assert adapter.name.startswith("hl7v2")
            assert outcome.referral is not None
            name = outcome.referral.person.family_name
            assert name.isprintable() if name else outcome.referral.to_be_read
        else:
            assert_rejected(adapter, body)


@pytest.mark.parametrize("adapter", [one for one in ADAPTERS if one.mutations is JSON], ids=str)
def test_an_escaped_backslash_before_u0000_is_not_a_nul(adapter: Adapter) -> None:
    body = adapter.good().replace(b"Ngozi", b"C:\\\\u0000")
    assert isinstance(adapter.translate(adapter.delivery(body)), Translated)


ROWS_AND_FORMS = [one for one in ADAPTERS if one.name.startswith(("council-", "form-"))]
rows_and_forms = pytest.mark.parametrize("adapter", ROWS_AND_FORMS, ids=str)


@rows_and_forms
def test_a_number_that_was_grouped_is_refused_or_carried_as_it_was_written(adapter: Adapter) -> None:
    bodies = list(adapter.mutations.grouped(adapter.good()))
    assert bodies
    for body, grouped in bodies:
        outcome = adapter.translate(adapter.delivery(body))
        if isinstance(outcome, Translated):
            assert outcome.referral is not None
            assert (
                outcome.referral_id.endswith(grouped)
                or f'"{grouped}"' in outcome.referral.model_dump_json()
                or (
                    outcome.referral == good_referral(adapter)  # a column that is not read
                )
            )


@rows_and_forms
@pytest.mark.parametrize("mark", ["\u200b", "\ufeff", "\u00ad", "\u202e", "\u2066", "\u00a0", "\u3000"], ids=ascii)
def test_what_nobody_sees_at_the_edges_of_a_text_changes_nothing(adapter: Adapter, mark: str) -> None:
    for body in adapter.mutations.unseen(adapter.good(), mark):
        outcome = adapter.translate(adapter.delivery(body))
        assert isinstance(outcome, Translated), outcome
        assert outcome.referral == good_referral(adapter)
        assert not outcome.warnings


def good_referral(adapter: Adapter) -> object:
    good = adapter.translate(adapter.delivery(adapter.good()))
    assert isinstance(good, Translated)
    return good.referral


@pytest.mark.parametrize("adapter", [one for one in ADAPTERS if one.mutations is JSON], ids=str)
def test_a_name_twice_in_any_object_is_refused(adapter: Adapter) -> None:
    bodies = list(JSON.repeated(adapter.good()))
    assert len(bodies) > 5
    for body in bodies:
        assert_rejected(adapter, body)


@pytest.mark.parametrize("adapter", [one for one in ADAPTERS if one.name.startswith("form-")], ids=str)
@pytest.mark.parametrize("other", [b'"true"', b'"Yes"', b'"on"', b"1", b'"1"'])
def test_a_need_that_is_ticked_in_another_way_is_asked_for_all_the_same(adapter: Adapter, other: bytes) -> None:
    changed = adapter.good().replace(b"true", other)
    assert changed != adapter.good()
    assert adapter.translate(adapter.delivery(changed)) == adapter.translate(adapter.delivery(adapter.good()))


CANARY = "Verdigris7"


@each
@given(data=st.data())
@quickly
def test_a_rejection_never_repeats_a_value(adapter: Adapter, data: st.DataObject) -> None:
    body = adapter.mutations.with_text(adapter.good(), CANARY, data)
    outcome = adapter.translate(adapter.delivery(body))
    if isinstance(outcome, Rejection):
        assert CANARY not in repr(outcome)
