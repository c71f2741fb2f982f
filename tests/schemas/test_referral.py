"""The canonical Referral: round trips, tolerance, and refusals that say nothing of the person."""

import json
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from schemas.model import OdsCode, OnsCode, ShortText, StrictInput
from schemas.referral import HousingNeed, Person, Referral
from tests.schemas.anything import any_of
from tests.schemas.contracts import faults
from tests.schemas.documents import CANARY, at, places, refusal, with_canary, with_unknown_fields

few = settings(max_examples=25, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))


def a_referral(**said: Any) -> Referral:
    """Any referral, with what a test is about."""
    document: dict[str, Any] = {
        "message": {"format": "bars-fhir", "message_id": "m1", "referral_id": "r1"},
        "sent_by": {"partner": "any-practice", "organisation": {"ods": "b81001"}},
        "referred_by": {"kind": "gp"},
        "person": {},
    }
    return Referral.model_validate({**document, **said})


@few
@given(any_of(Referral))
def test_any_referral_is_valid_by_its_contract_and_is_unchanged_by_json(referral: Referral) -> None:
    text = referral.model_dump_json()
    assert faults("referral", json.loads(text)) == []
    assert Referral.model_validate_json(text) == referral


@few
@given(any_of(Referral))
def test_a_referral_without_its_empty_fields_is_the_same_referral(referral: Referral) -> None:
    for shorter in ({"exclude_none": True}, {"exclude_defaults": True}, {"exclude_unset": True}):
        text = referral.model_dump_json(**shorter)  # type: ignore[arg-type]  # one switch each
        assert faults("referral", json.loads(text)) == []
        assert Referral.model_validate_json(text) == referral


@few
@given(any_of(Referral), st.data())
def test_fields_that_a_newer_version_adds_are_ignored_at_any_depth(referral: Referral, data: st.DataObject) -> None:
    newer = with_unknown_fields(json.loads(referral.model_dump_json()), data)
    assert faults("referral", newer) == []
    assert Referral.model_validate_json(json.dumps(newer)) == referral


@few
@given(any_of(Referral), st.data())
def test_an_error_never_repeats_the_invalid_value(referral: Referral, data: st.DataObject) -> None:
    spoilt = with_canary(json.loads(referral.model_dump_json()), data)
    assert CANARY not in refusal(Referral, spoilt)


@pytest.mark.parametrize("place", places(a_referral().model_dump(mode="json")), ids=str)
def test_no_path_repeats_a_value_of_the_wrong_kind(place: tuple[str | int, ...]) -> None:
    spoilt = a_referral().model_dump(mode="json")
    at(spoilt, place[:-1])[place[-1]] = {CANARY: [CANARY]}
    assert CANARY not in refusal(Referral, spoilt)


@pytest.mark.parametrize("text", [CANARY, f'{{"message": {CANARY}', f'"{CANARY}"', f'["{CANARY}"', ""])
def test_a_value_that_is_not_a_referral_is_rejected_without_repeating_it(text: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Referral.model_validate_json(text)
    assert CANARY not in str(refused.value)


@given(any_of(HousingNeed))
def test_a_service_is_requested_once(need: HousingNeed) -> None:
    with pytest.raises(ValidationError, match="named twice"):
        a_referral(needs=[need, HousingNeed(service=need.service)])


@pytest.mark.parametrize("code", ["", "x", "Blue-Badge", "blue badge", "1st-stop", "-x", "a" * 41, "blue-badge\n"])
def test_an_invalid_service_code_is_rejected(code: str) -> None:
    with pytest.raises(ValidationError):
        HousingNeed(service=code)


def test_a_person_is_an_inpatient_until_the_discharge() -> None:
    assert not a_referral().is_inpatient
    assert a_referral(hospital={}).is_inpatient
    assert not a_referral(hospital={}, discharged_on="2026-01-01").is_inpatient


def test_a_referral_is_immutable() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        a_referral().person = Person()  # type: ignore[misc]  # it is what the test is about


def test_codes_are_stored_in_capitals() -> None:
    assert a_referral().sent_by.organisation.ods == "B81001"
    assert TypeAdapter(OnsCode).validate_python(" E07000130 ") == "E07000130"


@pytest.mark.parametrize("code", ["", "B8", "B81001B81001", "B8100-1", "B81001\nX"])
def test_an_invalid_organisation_code_is_rejected(code: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(OdsCode).validate_python(code)


@pytest.mark.parametrize(("text", "taken"), [("x" * 300, True), ("x" * 301, False), ("", False), ("  ", False)])
def test_a_line_has_one_to_three_hundred_characters(text: str, taken: bool) -> None:
    line: TypeAdapter[str] = TypeAdapter(ShortText)
    if taken:
        assert line.validate_python(text) == text
    else:
        with pytest.raises(ValidationError):
            line.validate_python(text)


def test_strict_input_with_an_unknown_field_is_rejected() -> None:
    class Sheet(StrictInput):
        known: int = 0

    with pytest.raises(ValidationError, match="unknown_field") as refused:
        Sheet.model_validate({"unknown_field": CANARY})
    assert CANARY not in str(refused.value)
