"""The FHIR message: valid R4B, BaRS-shaped, and the same bytes each time."""

import json
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import pytest
from fhir.resources.R4B.bundle import Bundle

from schemas.case import CaseStatus
from schemas.events import CaseAssessed, CaseAssigned, CaseCompleted, CaseHeld, CaseRejected
from services.notifier.channels import bars_message
from services.notifier.channels.bars_message import bundle_id, message
from services.notifier.compose import Feedback, compose
from tests.notifier.builders import (
    GP,
    a_case_event,
    a_finding,
    a_person,
    an_intervention,
    by_first_contact_for_gp,
    by_gp,
    ended,
    every_event,
    the_recipients,
    the_words,
)

WORDS, RECIPIENTS = the_words(), the_recipients()
SAMPLE = (
    Path(__file__).resolve().parents[3]
    / "shared"
    / Path("payloads/bars")
    / ("REFRESP01_-_Referral_Service_Request_Response_New_Full_-_ED_to_111_Safeguarding_DNA_Feedback.json")
)


def to_gp(event: Any) -> Feedback:
    [feedback] = [f for f in compose(event, RECIPIENTS, WORDS) if f.recipient.id == GP]
    return feedback


def bundle(feedback: Feedback) -> Any:
    return json.loads(message(feedback, WORDS.sender_details))


def resource(feedback: Feedback, kind: str) -> Any:
    return next(e["resource"] for e in bundle(feedback)["entry"] if e["resource"]["resourceType"] == kind)


def completed() -> Feedback:
    concern = by_gp(
        status="completed",
        open_needs=(),
        interventions=(an_intervention(), an_intervention(action="unlisted words", provider="nobody we know")),
    )
    return to_gp(a_case_event(CaseCompleted, concern, ended=ended(concern)))


def assert_valid(message: dict[str, Any]) -> None:
    """Raise pydantic.ValidationError if the message is not valid FHIR R4."""
    Bundle.model_validate(message)


@pytest.mark.parametrize("changed", [{}, {"person": a_person(provisional=True)}, {"home_hub": None}])
@pytest.mark.parametrize("told", [name for name in every_event(by_gp()) if name != "received"])
def test_every_message_is_valid_fhir(told: str, changed: dict[str, Any]) -> None:
    concern = by_gp(interventions=(an_intervention(),), **changed)
    composed = compose(every_event(concern)[told], RECIPIENTS, WORDS)
    assert composed
    for feedback in composed:
        assert_valid(bundle(feedback))


@pytest.mark.parametrize("status", CaseStatus)
def test_every_status_is_coded_in_the_three_vocabularies(status: CaseStatus) -> None:
    feedback = to_gp(a_case_event(CaseAssigned, by_gp(status=status.value)))
    told = bundle(feedback)
    Bundle.model_validate(told)
    assert resource(feedback, "Task")["status"] == status.value


def test_each_status_has_its_bars_service_request_and_encounter_status() -> None:
    table = {
        "requested": ("active", "planned"),
        "accepted": ("active", "planned"),
        "rejected": ("revoked", "cancelled"),
        "in-progress": ("active", "in-progress"),
        "on-hold": ("active", "in-progress"),
        "completed": ("completed", "finished"),
        "cancelled": ("revoked", "cancelled"),
    }
    for status, (service_request, encounter) in table.items():
        feedback = to_gp(a_case_event(CaseAssigned, by_gp(status=status)))
        assert resource(feedback, "ServiceRequest")["status"] == service_request
        assert resource(feedback, "Encounter")["status"] == encounter


def test_the_response_refers_to_the_original_message() -> None:
    header = resource(to_gp(a_case_event(CaseAssigned, by_gp())), "MessageHeader")
    assert header["response"] == {"identifier": "79120f41-a431-4f08-bcc5-1e67006fcae0", "code": "ok"}
    assert header["eventCoding"]["code"] == "servicerequest-response"
    assert header["reason"]["coding"][0]["code"] == "new"
    assert header["destination"][0]["endpoint"] == "https://fhir.nhs.uk/Id/ods-organization-code|C82991"


def test_a_message_about_a_form_refers_to_a_valid_fhir_id() -> None:
    concern = by_first_contact_for_gp(message_id="FC/2026 no 12")
    assert_valid(bundle(to_gp(a_case_event(CaseAssigned, concern))))


def test_our_reference_and_the_senders_id_identify_the_referral() -> None:
    identifiers = resource(completed(), "ServiceRequest")["identifier"]
    assert [one["value"] for one in identifiers] == ["LB-7K3M-9Q2X-4TDW", "sender-1234"]


def test_each_intervention_is_a_procedure_that_the_task_references() -> None:
    feedback = completed()
    told = bundle(feedback)
    procedures = {e["fullUrl"]: e["resource"] for e in told["entry"] if e["resource"]["resourceType"] == "Procedure"}
    outputs = resource(feedback, "Task")["output"]
    assert [output["valueReference"]["reference"] for output in outputs] == list(procedures)
    first, second = procedures.values()
    assert first["code"]["text"] == "grab rails fitted"
    assert first["performer"][0]["actor"]["display"] == "Charnwood Borough Council"
    assert first["performedDateTime"] == date(2026, 11, 20).isoformat()
    assert second["code"]["text"] == "Minor adaptations and equipment"
    assert "performer" not in second


def test_each_finding_is_an_output_of_the_task() -> None:
    concern = by_gp(status="in-progress")
    feedback = to_gp(a_case_event(CaseAssessed, concern, findings=(a_finding(concern),)))
    [output] = resource(feedback, "Task")["output"]
    assert output["type"]["coding"][0]["code"] == "minor-adaptations"
    assert output["valueCodeableConcept"]["coding"][0]["code"] == "need-confirmed"


def test_a_rejection_has_a_bars_reason_and_our_reason() -> None:
    concern = by_gp(status="rejected")
    feedback = to_gp(a_case_event(CaseRejected, concern, ended=ended(concern), reason="no-capacity"))
    codings = resource(feedback, "Encounter")["reasonCode"][0]["coding"]
    assert [coding["code"] for coding in codings] == ["22", "no-capacity"]
    assert resource(feedback, "Task")["statusReason"]["text"]


def test_a_hold_states_its_reason_and_end_date() -> None:
    held = a_case_event(CaseHeld, by_gp(status="on-hold"), reason="awaiting-works", until="2026-12-24")
    task = resource(to_gp(held), "Task")
    assert task["statusReason"]["coding"][0]["code"] == "awaiting-works"
    assert task["restriction"]["period"]["end"] == "2026-12-24"


def test_every_reference_resolves_within_the_bundle() -> None:
    told = bundle(completed())
    urls = {entry["fullUrl"] for entry in told["entry"]}
    assert _references(told) <= urls
    assert len(urls) == len(told["entry"])


def test_the_same_feedback_gives_the_same_bytes_and_another_gives_other_ids() -> None:
    one, again, other = completed(), completed(), to_gp(a_case_event(CaseAssigned, by_gp(), id="another"))
    assert message(one, WORDS.sender_details) == message(again, WORDS.sender_details)
    assert bundle_id(one) != bundle_id(other)


def test_derived_ids_are_uuid_version_5() -> None:
    namespace = UUID("5b8e6f0c-3f55-5a53-9c39-1c5d1f6f3b1a")
    assert bars_message._derived(namespace.bytes, "patient") == str(uuid5(namespace, "patient"))


@pytest.mark.skipif(not SAMPLE.exists(), reason="the public samples are not on this machine")
def test_the_message_header_has_the_elements_of_the_published_response() -> None:
    published = json.loads(SAMPLE.read_text())
    ours = bundle(completed())
    [theirs] = [e["resource"] for e in published["entry"] if e["resource"]["resourceType"] == "MessageHeader"]
    header = resource(completed(), "MessageHeader")
    assert set(theirs) - {"extension"} <= set(header)
    for part in ("eventCoding", "reason", "definition"):
        assert header[part] == theirs[part]
    assert published["meta"]["profile"] == ours["meta"]["profile"]
    kinds = [e["resource"]["resourceType"] for e in ours["entry"]]
    assert kinds[:3] == [e["resource"]["resourceType"] for e in published["entry"]][:3]


def _references(value: Any) -> set[str]:
    if isinstance(value, list):
        return {found for one in value for found in _references(one)}
    if isinstance(value, dict):
        own = {value["reference"]} if isinstance(value.get("reference"), str) else set()
        return own | {found for one in value.values() for found in _references(one)}
    return set()
