"""What a message says and the translator does not read is named by its place, the same however it was decoded."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from services.intake.translators import bars_fhir
from services.intake.translators.bars_fhir import passed_over
from services.intake.translators.inbound_message import InboundMessage
from services.intake.translators.translator import Translated
from tests.builders.bars import OURS, a_bars_message
from tests.contract.translators.adapters import ATTACHMENT_KEY, BARS, a_partner

PATIENT, REQUEST = 2, 1
CORE = "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-"
INTERPRETER = "http://hl7.org/fhir/StructureDefinition/patient-interpreterRequired"
AT = datetime(2026, 11, 5, 9, 30, tzinfo=UTC)


def _told(message: dict[str, Any], conformance: str = "full") -> tuple[str, ...]:
    delivery = InboundMessage(a_partner("gp-alder-lane", conformance), json.dumps(message).encode(), AT, ATTACHMENT_KEY)
    translated = BARS(delivery)
    assert isinstance(translated, Translated), translated
    return translated.passed_over


def _with(element: str, value: Any) -> dict[str, Any]:
    message = a_bars_message()
    message["entry"][PATIENT]["resource"][element] = value
    return message


def test_nothing_is_told_of_a_message_that_is_read_as_a_whole() -> None:
    assert _told(a_bars_message()) == ()


@pytest.mark.parametrize(
    ("element", "value", "told"),
    [
        ("maritalStatus", {"text": "any words"}, ["maritalStatus"]),
        ("multipleBirthInteger", 2, ["multipleBirthInteger"]),
        ("extension", [{"url": "urn:any", "valueCode": "a"}], ["extension[0]"]),
        ("_birthDate", {"extension": [{"url": "urn:any", "valueCode": "a"}]}, ["birthDate.extension"]),
        ("contact", [{"name": {"family": "Any", "suffix": ["OBE"]}}], ["contact[0].name.suffix"]),
        ("contained", [{"resourceType": "Basic", "code": {}}], ["contained[0]"]),
        ("meta", {"tag": [{"code": "any"}], "versionId": "1", "profile": ["urn:any"]}, ["meta.tag"]),
        ("text", {"status": "empty", "div": "any"}, []),
        ("text", {"status": "additional", "div": "any"}, ["text"]),
        ("meta", {"security": [{"system": "urn:any", "code": "any"}]}, ["meta.security[0]"]),
        ("extension", [{"url": INTERPRETER, "valueString": "yes"}], ["extension[0]"]),
        ("extension", [{"url": OURS + "StructureDefinition/unheard-of", "valueCode": "a"}], ["extension[0]"]),
        ("extension", [{"url": CORE + "NHSNumberVerificationStatus", "valueCode": "01"}], ["extension[0]"]),
        (
            "extension",
            [{"url": CORE + "NHSCommunication", "extension": [{"url": "interpreterRequired", "valueCode": "true"}]}],
            ["extension[0].extension[0]"],
        ),
        ("language", "en", []),
    ],
)
def test_an_element_that_is_not_read_is_told_by_its_place(element: str, value: Any, told: list[str]) -> None:
    places = tuple(f"Bundle.entry[{PATIENT}].resource.{place}" for place in told)
    changed = _with(element, value)
    assert _told(changed) == places
    assert _told(changed, "subset") == places
    slowly = changed | {"timestamp": "2026-11-05T09:29:60+00:00"}  # left to fhir.resources
    assert _told(slowly) == places


def test_a_label_of_anything_but_the_person_restricts_nothing_and_is_told() -> None:
    labels = {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}]}
    message = a_bars_message()
    message["meta"] |= labels
    message["entry"][REQUEST]["resource"]["meta"] = labels
    assert _told(message) == ("Bundle.meta.security[0]", f"Bundle.entry[{REQUEST}].resource.meta.security[0]")


def test_what_a_cancel_says_beyond_ending_the_referral_is_told() -> None:
    message = _with("meta", {"security": [{"code": "R"}]})
    message["entry"][REQUEST]["resource"] |= {"status": "revoked", "note": [{"text": "any words"}]}
    told = {f"Bundle.entry[{REQUEST}].resource.note", f"Bundle.entry[{PATIENT}].resource.meta.security[0]"}
    assert told <= set(_told(message))


def test_a_resource_of_another_type_and_one_that_nothing_refers_to_are_told_as_a_whole() -> None:
    more = [
        {"resourceType": "Basic", "id": "b-1", "code": {"text": "any"}},
        {"resourceType": "Location", "id": "l-1", "name": "any", "alias": ["any"]},
    ]
    message = a_bars_message(more=more)
    first = len(message["entry"]) - len(more)
    assert sorted(_told(message)) == [f"Bundle.entry[{first}].resource", f"Bundle.entry[{first + 1}].resource"]


def test_of_many_places_the_first_are_told_and_how_many_there_are_more() -> None:
    told = _told(_with("photo", [{}]) | {"signature": {"type": [], "when": "2026-11-05T09:30:00Z", "who": {}}})
    assert told == ("Bundle.signature", f"Bundle.entry[{PATIENT}].resource.photo")
    extensions = [{"url": "urn:any", "valueCode": "a"}] * 60
    told = _told(_with("extension", extensions))
    assert len(told) == passed_over.LISTED
    assert told[-1] == "11 more places"


def test_every_extension_that_the_translator_reads_is_on_the_list() -> None:
    sources = [path.read_text() for path in Path(bars_fhir.__file__).parent.glob("*.py")]
    named = [name for text in sources for name in re.findall(r'uk_core\.extensions\([^"()]*, "(\w+)"\)', text)]
    assert {name.lower() for name in named} <= passed_over.UK_CORE_EXTENSIONS
    assert len(named) >= 5
