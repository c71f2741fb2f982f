"""The ITK3 message: valid STU3, its elements in order, and a letter that a practice can file."""

import base64
import json
import xml.etree.ElementTree as ElementTree
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.STU3.bundle import Bundle

from schemas.events import CaseAssigned, CaseCompleted
from services.notifier.channels import itk3, letter, mesh
from services.notifier.compose import Feedback, compose
from tests.notifier.builders import (
    GP_MESH,
    a_case_event,
    a_person,
    an_intervention,
    by_gp,
    ended,
    every_event,
    the_recipients,
    the_words,
)

WORDS, RECIPIENTS = the_words(), the_recipients()
FHIR = "{http://hl7.org/fhir}"
UNRELATED = {"Practitioner": {f"{FHIR}identifier"}}
"""Our author is a team: it has no professional identifier."""
SAMPLE = Path(__file__).resolve().parents[3] / "shared" / Path("payloads/itk3/consultation_report.xml")
PERSONS = {
    "known": a_person(),
    "provisional": a_person(provisional=True),
    "without number": a_person(nhs_number=None, nhs_number_status="07"),
    "hardly known": a_person(given_names=(), birth_date=None, family_name=None),
    "difficult": a_person(family_name="O’Łaski & <Sons>\x0b", given_names=("Zoë",)),
}


def completed(**changed: Any) -> Feedback:
    concern = by_gp(GP_MESH, status="completed", open_needs=(), interventions=(an_intervention(),), **changed)
    [feedback] = compose(a_case_event(CaseCompleted, concern, ended=ended(concern)), RECIPIENTS, WORDS)
    return feedback


def bundle(feedback: Feedback) -> Any:
    return itk3.bundle(feedback, WORDS.sender_details, "X26ABC1")


def inner(feedback: Feedback, kind: str) -> Any:
    document = bundle(feedback)["entry"][2]["resource"]
    return next(e["resource"] for e in document["entry"] if e["resource"]["resourceType"] == kind)


@pytest.mark.parametrize("person", PERSONS.values(), ids=PERSONS)
@pytest.mark.parametrize("told", [name for name in every_event(by_gp()) if name != "received"])
def test_every_message_is_valid_stu3_with_elements_in_the_defined_order(told: str, person: Any) -> None:
    concern = by_gp(GP_MESH, person=person, interventions=(an_intervention(),))
    composed = compose(every_event(concern)[told], RECIPIENTS, WORDS)
    assert composed
    for feedback in composed:
        message = bundle(feedback)
        Bundle.model_validate(message)
        assert_in_order(message)
        ElementTree.fromstring(itk3.as_xml(message))


def assert_in_order(value: Any) -> None:
    """Assert that the elements of each resource are in the order of its definition, as XML requires."""
    if isinstance(value, list):
        for one in value:
            assert_in_order(one)
    elif isinstance(value, dict):
        if kind := value.get("resourceType"):
            model = getattr(import_module(f"fhir.resources.STU3.{kind.lower()}"), kind)
            order = model.elements_sequence()
            places = [order.index(name) for name in value if name != "resourceType"]
            assert places == sorted(places), kind
        for one in value.values():
            assert_in_order(one)


def test_the_xml_has_the_content_of_the_resource() -> None:
    message = bundle(completed())
    tree = ElementTree.fromstring(itk3.as_xml(message))
    assert tree.tag == f"{FHIR}Bundle"
    assert tree.find(f"{FHIR}id").get("value") == message["id"]
    values = {element.get("value") for element in tree.iter() if element.get("value") is not None}
    assert _strings(message) <= values | {element.get("url") for element in tree.iter()} | {"message", "document"}


def _strings(value: Any) -> set[str]:
    if isinstance(value, list):
        return {found for one in value for found in _strings(one)}
    if isinstance(value, dict):
        return {found for name, one in value.items() if name not in ("div", "resourceType") for found in _strings(one)}
    return {value} if isinstance(value, str) else set()


def test_the_message_header_requests_both_acknowledgements() -> None:
    header = bundle(completed())["entry"][0]["resource"]
    handling = {one["url"]: one for one in header["extension"][0]["extension"]}
    assert handling["BusAckRequested"]["valueBoolean"] is True
    assert handling["InfAckRequested"]["valueBoolean"] is True
    assert handling["RecipientType"]["valueCoding"]["code"] == "FA"
    assert header["event"]["code"] == "ITK007C"
    assert header["source"]["endpoint"] == "X26ABC1"


@pytest.mark.skipif(not SAMPLE.exists(), reason="the public samples are not on this machine")
def test_the_message_has_the_elements_of_the_published_example() -> None:
    theirs, ours = ElementTree.parse(SAMPLE).getroot(), ElementTree.fromstring(itk3.as_xml(bundle(completed())))
    for part in ("MessageHeader", "Binary", "Composition", "Patient", "Organization", "Practitioner"):
        wanted = {child.tag for child in next(theirs.iter(FHIR + part))} - UNRELATED.get(part, set())
        assert wanted <= {child.tag for child in next(ours.iter(FHIR + part))}, part

    def systems(tree: Any) -> set[str]:
        return {element.get("value") for element in tree.iter(f"{FHIR}system")}

    assert systems(theirs) - {"https://fhir.nhs.uk/Id/sds-user-id"} <= systems(ours)


def test_the_letter_states_person_service_provider_date_next_step_and_contact() -> None:
    feedback = completed()
    page = base64.b64decode(inner(feedback, "Binary")["content"]).decode()
    for words in (
        "Edith Vantongeren",
        "999 000 0018",
        "1 February 1946",
        "grab rails fitted",
        "Charnwood Borough Council",
        "3 November 2026",
        "The practice need do nothing. Please file this letter.",
        "0116 496 0130",
        "LB-7K3M-9Q2X-4TDW",
        "Dr Asha Example",
    ):
        assert words in page
    ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>"))
    assert inner(feedback, "Binary")["contentType"] == "text/html"


def test_the_letter_joins_no_words_and_keeps_joiners() -> None:
    person = a_person(family_name="van\u00a0Berg\x07", given_names=("\u0646\u0627\u200c\u0645", "Ann\ufffe\ud800"))
    page = letter.page(completed(person=person), WORDS.sender_details)
    assert "van\u00a0Berg" in page
    assert "\u0646\u0627\u200c\u0645 Ann" in page
    ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>"))


def test_a_letter_with_eight_interventions_fits_on_one_page() -> None:
    """Mrs V: about 60 lines fit on a page of A4 at 12 points."""
    done = tuple(an_intervention(action=action) for action in _EIGHT)
    concern = by_gp(GP_MESH, interventions=done, status="completed", open_needs=())
    [feedback] = compose(a_case_event(CaseCompleted, concern, ended=ended(concern)), RECIPIENTS, WORDS)
    page = letter.page(feedback, WORDS.sender_details)
    assert all(action in page for action in _EIGHT)
    assert sum(page.count(tag) for tag in ("<p", "<br", "<tr", "<h1", "<h2")) < 50


_EIGHT = (
    "pager arranged",
    "window locks fitted",
    "smoke alarms fitted",
    "warm homes grant arranged",
    "grab rails and half steps fitted",
    "attendance allowance claimed",
    "hearing service referral made",
    "weight support referral made",
)


def test_the_actions_of_the_published_case_studies_are_reviewed_texts() -> None:
    assert [WORDS.action(action) for action in _EIGHT] == list(_EIGHT)
    assert WORDS.action("benefits claimed") == "benefits claimed"
    assert WORDS.action("ask her son") is None


def test_the_subject_follows_send_document_and_fits_in_a_header() -> None:
    assert mesh.subject(completed(), WORDS.sender_details) == (
        "Housing support feedback for Edith Vantongeren, NHS Number: 9990000018, seen at Lightbulb, LIGHTBULB, Version: 1"
    )
    difficult = mesh.subject(completed(person=PERSONS["difficult"]), WORDS.sender_details)
    assert "for Zoe O'Laski & <Sons>, NHS" in difficult
    assert "Vantongeren" not in mesh.subject(completed(person=PERSONS["provisional"]), WORDS.sender_details)


def test_the_same_feedback_gives_the_same_letter() -> None:
    assert itk3.as_xml(bundle(completed())) == itk3.as_xml(bundle(completed()))


def test_patient_and_organisations_keep_their_ids_over_all_letters_of_a_referral() -> None:
    told = (event.model_copy(update={"id": name}) for name, event in every_event(by_gp(GP_MESH)).items())
    letters = [feedback for event in told for feedback in compose(event, RECIPIENTS, WORDS)]
    assert len({bundle(feedback)["id"] for feedback in letters}) == len(letters) > 5
    for kind, often in (("Patient", 1), ("Organization", 1), ("Practitioner", 1), ("Composition", len(letters))):
        assert len({inner(feedback, kind)["id"] for feedback in letters}) == often, kind


def test_dates_are_in_english_local_time() -> None:
    late = {
        datetime(2026, 7, 1, 23, 30, tzinfo=UTC): "2 July 2026",
        datetime(2026, 12, 1, 23, 30, tzinfo=UTC): "1 December 2026",
    }
    for at, words in late.items():
        [feedback] = compose(a_case_event(CaseAssigned, by_gp(GP_MESH), at=at), RECIPIENTS, WORDS)
        assert words in letter.page(feedback, WORDS.sender_details)


def test_the_resource_is_plain_json() -> None:
    assert json.loads(json.dumps(bundle(completed()))) == bundle(completed())
