"""Our strict models and fhir.resources agree on what both cover: what ours take, theirs take; and what theirs take, ours take,
but for a short list where fhir.resources is laxer than R4 or BaRS: codes, JSON null, empty ids and URIs, numbers for dates, a
Bundle without id or entries, an Encounter's class without code, and a header that names no BaRS event, reason or
ServiceRequest.
"""

import copy
import json
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle as WholeBundle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import fields

from services.intake.translators import bars_fhir
from services.intake.translators.bars_fhir import decode, validation
from services.intake.translators.bars_fhir.bundle_index import BundleIndex
from services.intake.translators.bars_fhir.models import READ, Bundle
from services.intake.translators.translator import Rejection
from tests.builders.bars import a_bars_message
from tests.contract.translators.adapters import RECEIVED_AT

GOOD = a_bars_message(
    more=[
        {
            "resourceType": "Flag",
            "id": "f-1",
            "status": "active",
            "category": [{"coding": [{"system": "https://fhir.nhs.uk/CodeSystem/flag-categories-bars", "code": "SG"}]}],
            "code": {"text": "a dog"},
            "subject": {"display": "the person"},
        },
        {
            "resourceType": "Encounter",
            "id": "e-1",
            "status": "in-progress",
            "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
            "period": {"start": "2026-11-01T10:00:00Z"},
            "location": [{"location": {"display": "Ward 7"}}],
        },
        {
            "resourceType": "DocumentReference",
            "id": "d-1",
            "status": "current",
            "content": [{"attachment": {"contentType": "text/plain", "data": "YW55", "title": "Any"}}],
        },
    ]
)


def ours(raw: Any) -> bool:
    """Whether our models take it, and find a referral in it."""
    found = decode.read(json.dumps(raw).encode(), whole=False)
    if isinstance(found, Rejection):
        return False
    return not isinstance(bars_fhir.request_in(BundleIndex(found, RECEIVED_AT)), Rejection)


def theirs(raw: Any) -> bool:
    """Whether fhir.resources takes it."""
    return not validation.find_issues(raw)


def test_both_validators_accept_the_good_message() -> None:
    assert ours(GOOD)
    assert theirs(GOOD)


def _covered(raw: Any, model: type[Struct] | None, path: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """The places of a message that our models read."""
    found: list[tuple[Any, ...]] = []
    for info in fields(model) if model else ():
        element = info.encode_name
        if not isinstance(raw, dict) or element not in raw or element == "resource":
            continue
        found.append((*path, element))
        inner = _model_in(info.type)
        values = raw[element] if isinstance(raw[element], list) else [raw[element]]
        for index, value in enumerate(values):
            at = (*path, element, index) if isinstance(raw[element], list) else (*path, element)
            found += _covered(value, inner, at)
    return found


def _model_in(annotation: Any) -> type[Struct] | None:
    if isinstance(annotation, type) and issubclass(annotation, Struct):
        return annotation
    return next((found for one in getattr(annotation, "__args__", ()) if (found := _model_in(one))), None)


PLACES = [
    *_covered(GOOD, Bundle, ()),
    *(
        place
        for index, entry in enumerate(GOOD["entry"])
        for place in _covered(entry["resource"], READ[entry["resource"]["resourceType"]], ("entry", index, "resource"))
    ),
]

ABSENT = "absent"
wrong_shapes = st.sampled_from([5, True, "", [], {}, None, [5], [{}], "2026-13-40", [None], ABSENT])


@given(place=st.sampled_from(PLACES), value=wrong_shapes)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_wrong_shape_or_a_missing_element_is_rejected_by_both_or_by_neither(
    place: tuple[Any, ...], value: Any
) -> None:
    raw = _with(place, value)
    took, would_take = ours(raw), theirs(raw)
    if took is not would_take:
        assert not took, (place, value, "ours take it and theirs do not")
        assert _theirs_is_laxer(place, value), (place, value, "theirs take it and ours do not")


def _with(place: tuple[Any, ...], value: Any) -> Any:
    """The good message with another value there, or without it."""
    raw = copy.deepcopy(GOOD)
    here: Any = raw
    for part in place[:-1]:
        here = here[part]
    if value == ABSENT:
        del here[place[-1]]
    else:
        here[place[-1]] = value
    return raw


_CODES = ("type", "status", "use", "system", "gender", "intent", "priority")
_TIMES = ("lastUpdated", "timestamp", "dateTime", "start", "authoredOn")


def _theirs_is_laxer(place: tuple[Any, ...], value: Any) -> bool:
    element = place[-1]
    return (
        value in (None, [None], "")
        or (value == 5 and element in _TIMES)
        or (value == "2026-13-40" and element in _CODES)
        or place in (("id",), ("entry",))
        or "class" in place[-2:]
        or (place[1] == 0 and element in ("reason", "focus", "eventCoding", "coding", "system", "code", "reference"))
    )


good_values = st.sampled_from(
    [
        ("display", "any words"),
        ("text", "any words"),
        ("family", "Zoë O'Any"),
        ("value", "any"),
        ("authoredOn", "2026"),
        ("authoredOn", "2026-11"),
        ("authoredOn", "2026-11-05T09:30:00.123+01:00"),
        ("birthDate", "1944"),
        ("birthDate", "1944-02"),
        ("timestamp", "2026-11-05T09:30:00-05:00"),
        ("dateTime", "2026-11-05T09:30:00Z"),
        ("code", "a code"),
        ("rank", 1),
    ]
)


@given(place=st.sampled_from(PLACES), good=good_values)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_well_formed_element_is_accepted_by_both(place: tuple[Any, ...], good: tuple[str, Any]) -> None:
    if place[-1] == good[0] and place[:2] != ("entry", 0) and not isinstance(_at(place), dict | list):
        raw = _with(place, good[1])
        assert theirs(raw)
        assert ours(raw)


def _at(place: tuple[Any, ...]) -> Any:
    here: Any = GOOD
    for part in place:
        here = here[part]
    return here


@given(place=st.sampled_from(PLACES), value=wrong_shapes)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_checking_each_resource_by_its_class_equals_checking_the_whole_bundle(
    place: tuple[Any, ...], value: Any
) -> None:
    raw = _with(place, value)
    assert theirs(raw) is _whole_bundle_is_valid(raw)


def _whole_bundle_is_valid(raw: Any) -> bool:
    try:
        WholeBundle.model_validate(raw)
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
    return True


@pytest.mark.parametrize("kind", ["Nope", "", 5, None, [], "Address", "Element", "../bundle", "__init__"])
def test_a_resource_without_a_type_is_an_issue_and_not_an_exception(kind: Any) -> None:
    raw = copy.deepcopy(GOOD)
    raw["entry"].append({"resource": {"resourceType": kind}})
    assert not theirs(raw)


@pytest.mark.parametrize(
    ("resource", "element"),
    [("ServiceRequest", "status"), ("ServiceRequest", "priority"), ("Patient", "gender"), ("Consent", "status")],
)
def test_a_code_outside_R4_is_rejected_only_by_our_models(resource: str, element: str) -> None:
    raw = copy.deepcopy(GOOD)
    next(e["resource"] for e in raw["entry"] if e["resource"]["resourceType"] == resource)[element] = "banana"
    assert theirs(raw)
    assert not ours(raw)
