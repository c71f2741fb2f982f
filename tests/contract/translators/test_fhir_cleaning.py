"""A FHIR message is cleaned before it is read: words leniently, identifiers strictly; what stands for nothing is not taken."""

import json
from typing import Any

import pytest

from schemas.model import Reference
from services.intake.batch import MessageDecision
from services.intake.deduplication import Verdict
from services.intake.responses import bars
from services.intake.translators.translator import Rejection, Translated
from tests.contract.translators.adapters import ADAPTERS, RECEIVED_AT
from tests.contract.translators.fhir_message import changed, resource_in

BARS = next(one for one in ADAPTERS if one.name == "bars_fhir")
NHS = "https://fhir.nhs.uk/Id/nhs-number"


def outcome(message: dict[str, Any]) -> Translated | Rejection:
    return BARS.translate(BARS.delivery(json.dumps(message).encode()))


def refused(message: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what a message is refused for, by place in its resource and kind."""
    result = outcome(message)
    assert isinstance(result, Rejection), result
    return [(fault.place.partition(".resource.")[2], fault.kind) for fault in result.issues]


def taken(message: dict[str, Any]) -> Translated:
    result = outcome(message)
    assert isinstance(result, Translated), result
    return result


@pytest.mark.parametrize("family", ["UNKNOWN", "Unknown.", "not known", "TBC", "-", "\u200b", "\u2060 \ufeff", "?"])
def test_a_family_name_that_is_none_is_refused_at_the_name(family: str) -> None:
    assert refused(changed("patient", name_=[{"family": family, "given": ["Enid"]}])) == [("name", "required")]


@pytest.mark.parametrize(
    ("family", "read"),
    [
        ("\u200bHolroyd\u202e", "Holroyd"),
        ("van\u00a0der\u00a0Berg", "van der Berg"),
        ("O\u0092Dowd", "O\u2019Dowd"),
        ("Hol\u00adroyd", "Holroyd"),
        ("Null", "Null"),
        ("O", "O"),
    ],
)
def test_a_family_name_is_read_as_it_was_meant(family: str, read: str) -> None:
    found = taken(changed("patient", name_=[{"family": family, "given": ["Enid"]}]))
    assert found.referral is not None
    assert found.referral.person.family_name == read
    assert found.subject is not None
    assert found.subject.family_name == read


def test_a_given_name_that_is_none_is_left_out_and_listed() -> None:
    found = taken(changed("patient", name_=[{"family": "Holroyd", "given": ["TBC", "Enid", "-"]}]))
    assert found.referral is not None
    assert found.referral.person.given_names == ("Enid",)
    listed = [place.partition(".resource.")[2] for place in found.passed_over]
    assert {"name[0].given[0]", "name[0].given[2]"} <= set(listed)


@pytest.mark.parametrize("number", ["9876543210", "987 654 3210", "9999999999", "9990000019", "999,000,0018"])
def test_a_number_that_is_nobodys_is_refused_at_its_place(number: str) -> None:
    message = changed("patient", identifier=[{"system": NHS, "value": number}])
    assert refused(message) == [("identifier[0].value", "value")]


@pytest.mark.parametrize("number", ["999\u00a0000\u00a00018", "\u200b9990000018", "999-000-0018"])
def test_a_number_is_read_without_what_cannot_be_seen(number: str) -> None:
    found = taken(changed("patient", identifier=[{"system": NHS, "value": number}]))
    assert found.referral is not None
    assert found.referral.person.nhs_number == "9990000018"


@pytest.mark.parametrize("born", ["1900-01-01", "2048-06-18", "0948-06-18", "2026-11-06"])
def test_a_birth_date_of_nobody_is_refused_at_its_place(born: str) -> None:
    assert refused(changed("patient", birthDate=born)) == [("birthDate", "value")]


@pytest.mark.parametrize(
    ("name", "element", "value", "place"),
    [
        ("request", "authoredOn", "2026-11-06", "authoredOn"),
        ("request", "authoredOn", "1800-01-01", "authoredOn"),
        ("stay", "period", {"start": "1800-01-01"}, "period.start"),
    ],
)
def test_a_date_that_cannot_be_is_refused_at_its_place(name: str, element: str, value: Any, place: str) -> None:
    assert refused(changed(name, **{element: value})) == [(place, "value")]


def test_a_date_that_is_entered_if_none_is_known_is_left_out_and_listed() -> None:
    found = taken(changed("request", authoredOn="1900-01-01"))
    assert found.referral is not None
    assert found.referral.referred_on is None
    assert any(place.endswith(".authoredOn") for place in found.passed_over)


@pytest.mark.parametrize("value", ["R\u0007 1", "R\ufffd1", "R\ue0001", "R\u00921"])
@pytest.mark.parametrize("name", ["request", "patient"])
def test_an_identifier_is_not_repaired(name: str, value: str) -> None:
    message = changed(name)
    identifiers = resource_in(message, name).setdefault("identifier", [])
    identifiers.append({"system": "https://example.org/Id/own", "value": value})
    place = f"identifier[{len(identifiers) - 1}].value"
    result = BARS.translate(BARS.delivery(json.dumps(message).encode()))
    assert isinstance(result, Rejection)
    assert [fault.place.partition(".resource.")[2] for fault in result.issues][:1] == [place]


def test_identifiers_that_look_alike_are_one() -> None:
    names = []
    for value in ("R 1", "\ufeffR\u00a01\u200b", " R 1 "):
        message = changed("request", identifier=[{"system": "https://example.org/Id/own", "value": value}])
        names.append([one for one in taken(message).names if one.kind == "identifier"])
    assert names[0] == names[1] == names[2]
    assert len(names[0]) == 1


def test_words_keep_their_lines_and_lose_what_cannot_be_seen() -> None:
    text = "Falls\u00a0often\u200b\r\n\tno\u2028rail"
    found = taken(changed("request", note=[{"text": text}]))
    assert found.referral is not None
    assert found.referral.reason is not None
    assert "Falls often\n no\nrail" in str(found.referral.reason.text)


@pytest.mark.parametrize(
    ("element", "value", "place"),
    [
        ("name_", [{"family": "O?Dowd", "given": ["Enid"]}], "name[0]"),
        ("name_", [{"family": "Dowd", "given": ["Ren\u00c3\u00a9e"]}], "name[0]"),
        ("name_", [{"family": "O\u0092Dowd"}], "name[0]"),
        ("address", [{"line": ["1 High Street"]}, {"use": "home", "line": ["2 O&#39;Dowd Way"]}], "address[1]"),
    ],
)
def test_spoilt_letters_are_taken_with_a_warning_in_the_answer(element: str, value: Any, place: str) -> None:
    message = changed("patient", **{element: value})
    found = taken(message)
    assert [(one.place.partition(".resource.")[2], one.kind) for one in found.warnings] == [(place, "value")]

    decision = MessageDecision(Verdict.RECEIVED, RECEIVED_AT, Reference("LB-0000-1111-2222"), 1, ())
    answer = json.loads(bars.answer(BARS.delivery(json.dumps(message).encode()), found, decision).body)
    (outcome_,) = [one["resource"] for one in answer["entry"] if one["resource"]["resourceType"] == "OperationOutcome"]
    warned = [one["expression"] for one in outcome_["issue"] if one["severity"] == "warning"]
    assert [one.partition(".resource.")[2] for (one,) in warned] == [place]
