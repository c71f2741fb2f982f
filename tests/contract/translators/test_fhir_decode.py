"""A message is decoded by structs of every element, or by what fhir.resources accepts; its faults are named together."""

import json
from typing import Any

import pytest

from services.intake.translators.bars_fhir import decode, validation
from services.intake.translators.bars_fhir.decode import DecodedBundle
from services.intake.translators.bars_fhir.models import Patient
from services.intake.translators.translator import Rejection
from tests.builders.bars import a_bars_message

PATIENT = 2
AT = f"Bundle.entry[{PATIENT}].resource"


def _with(**elements: Any) -> dict[str, Any]:
    message = a_bars_message()
    message["entry"][PATIENT]["resource"] |= elements
    return message


def _decoded(message: dict[str, Any], **how: Any) -> DecodedBundle | Rejection:
    return decode.read(json.dumps(message).encode(), **how)


def _faults(message: dict[str, Any], **how: Any) -> list[tuple[str, str]]:
    found = _decoded(message, **how)
    assert isinstance(found, Rejection)
    return [(issue.place, issue.kind) for issue in found.issues]


GIVEN = {"family": "Any", "given": ["Iris", None, "May"]}
TWIN = {"_given": [None, {"extension": [{"url": "urn:any", "valueCode": "masked"}]}, None]}


def test_null_for_a_value_that_has_only_an_extension_is_no_given_name() -> None:
    found = _decoded(_with(name=[GIVEN | TWIN]))
    assert isinstance(found, DecodedBundle)
    assert not found.conforms
    assert validation.find_issues(found.tree) == ()
    patient = next(one for _, one in found.resources if isinstance(one, Patient))
    assert patient.name[0].given == ["Iris", "May"]


@pytest.mark.parametrize("twin", [{}, {"_given": [None, None]}, {"_given": [None]}, {"_given": {}}])
def test_null_in_a_list_without_an_extension_is_refused_at_its_place(twin: dict[str, Any]) -> None:
    assert (f"{AT}.name[0].given[1]", "invalid") in _faults(_with(name=[GIVEN | twin]))


@pytest.mark.parametrize(
    "message",
    [
        _with(fhir_comments="any", _gender={"fhir_comments": ["any"]}),
        _with(_birthDate={"extension": [{"url": "urn:any", "valueDateTime": "2026-11-05T23:59:59Z"}]}),
        _with(photo=[{"data": "YW55", "url": "urn:uuid:c757873d-ec9a-4326-a141-556f43239520"}]),
        _with(name=[{"family": "Zoë Ålund’s £", "text": "line\nline"}]),
    ],
)
def test_these_are_accepted_at_once(message: dict[str, Any]) -> None:
    found = _decoded(message)
    assert isinstance(found, DecodedBundle)
    assert found.conforms


@pytest.mark.parametrize(
    "message",
    [
        a_bars_message() | {"timestamp": "2026-11-05T09:29:60+00:00"},
        _with(photo=[{"data": "YW55\nYW55"}]),
        _with(photo=[{"size": "1"}]),
        _with(name=[{"family": "Any\u2003Any"}]),
        _with(multipleBirthInteger=1.0),
    ],
)
def test_these_are_left_to_fhir_resources_which_accepts_them(message: dict[str, Any]) -> None:
    found = _decoded(message)
    assert isinstance(found, DecodedBundle)
    assert not found.conforms
    assert validation.find_issues(found.tree) == ()


def test_faults_of_what_is_read_and_of_what_is_not_are_named_together() -> None:
    message = _with(gender="banana", birthDate="1950-13-01", maritalStatus={"coding": [{"code": ""}]}, active="yes")
    found = _faults(message)
    assert {(f"{AT}.gender", "value"), (f"{AT}.birthDate", "value"), (f"{AT}.active", "invalid")} <= {*found}
    assert f"{AT}.maritalStatus.coding[0].code" in [place for place, _ in found]
    assert len(found) == len({place for place, _ in found})
    assert all("maritalStatus" not in place for place, _ in _faults(message, whole=False))


def test_an_explanation_never_has_the_value() -> None:
    found = _decoded(_with(gender="Mrs Canary", birthDate="Canary", contact="Canary", maritalStatus=["Canary"]))
    assert isinstance(found, Rejection)
    assert "Canary" not in str(found)


def test_a_contained_resource_is_typed_on_either_way() -> None:
    inside = [{"resourceType": "Organization", "name": "Any"}, {"resourceType": "Basic", "code": {}, "id": "b"}]
    for how in ({"whole": True}, {"whole": False}):
        found = _decoded(_with(contained=inside), **how)
        assert isinstance(found, DecodedBundle)
        patient = next(one for _, one in found.resources if isinstance(one, Patient))
        assert [getattr(one, "name", None) for one in patient.contained] == ["Any", None]
        assert patient.contained[1].id == "b"
    assert _faults(_with(contained=[{"name": "Any"}]))[0] == (f"{AT}.contained[0].resourceType", "required")
