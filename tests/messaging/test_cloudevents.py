"""Events travel as CloudEvents in binary mode, and what is no event is refused without repeating it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import CASE_EVENTS, REFERRAL_EVENTS
from services.messaging.cloudevents import KafkaRecord, Undecodable, decode, headers_of, value_of
from tests.messaging.running import an_event

EVENT = an_event()


def record(value: bytes = value_of(EVENT), **headers: str) -> KafkaRecord:
    told = {name: text.encode() for name, text in {**headers_of(EVENT), **headers}.items()}
    return KafkaRecord("referral.event", 0, 0, EVENT.person_key.encode(), value, tuple(told.items()))


def test_an_event_is_decoded_as_it_was_encoded() -> None:
    assert decode(record(), REFERRAL_EVENTS) == EVENT


def test_unknown_fields_of_a_newer_version_are_ignored() -> None:
    assert decode(record(value_of(EVENT)[:-1] + b',"added":{"later":1}}'), REFERRAL_EVENTS) == EVENT


def test_an_event_that_does_not_belong_on_the_topic_is_refused() -> None:
    with pytest.raises(Undecodable, match="ce_type"):
        decode(record(), CASE_EVENTS)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_event_or_undecodable(value: bytes) -> None:
    with pytest.raises(Undecodable):
        decode(record(value), REFERRAL_EVENTS)


def test_the_reason_names_the_place_and_kind_of_the_error_but_not_the_value() -> None:
    with pytest.raises(Undecodable) as refused:
        decode(record(b'{"reference":["CANARYSON"],"version":"CANARYSON"}'), REFERRAL_EVENTS)
    assert "version: int_parsing" in refused.value.reason
    assert "CANARYSON" not in refused.value.reason


@pytest.mark.parametrize("name", ["ce_id", "ce_time", "ce_source"])
def test_an_event_without_its_attributes_is_undecodable(name: str) -> None:
    with pytest.raises(Undecodable, match=name.removeprefix("ce_")):
        decode(record(**{name: ""}), REFERRAL_EVENTS)


def test_headers_that_are_not_text_are_undecodable() -> None:
    with pytest.raises(Undecodable, match="UTF-8"):
        decode(KafkaRecord("t", 0, 0, b"k", b"{}", (("ce_id", b"\xff"),)), REFERRAL_EVENTS)
