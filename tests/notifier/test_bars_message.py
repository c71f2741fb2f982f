"""The FHIR message: valid R4B, BaRS-shaped, and the same bytes each time."""

import json
import re
from collections import Counter
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid5

import pytest
from fhir.resources.R4B.bundle import Bundle

from schemas.case import CaseStatus
from schemas.events import (
    CaseAccepted,
    CaseAssessed,
    CaseAssigned,
    CaseCompleted,
    CaseHeld,
    CaseRejected,
    ReferralContext,
)
from schemas.fhir import derived_id
from services.intake.http.openapi import examples
from services.intake.responses import conformance
from services.intake.translators import bars_fhir
from services.notifier.channels.bars_message import bundle_id, message
from services.notifier.compose import Feedback, compose, restate
from services.reference import directory
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
    assert bool(composed) is not (told == "home-hub" and concern.home_hub is None)
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
    assert first["performedDateTime"] == date(2026, 11, 3).isoformat()
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
    """The id of the journey is the exception: BaRS' EpisodeOfCare is not part of a message."""
    told = bundle(completed())
    urls = [entry["fullUrl"] for entry in told["entry"]]
    assert {one for one in _references(told) if not one.startswith("EpisodeOfCare/")} <= set(urls)
    assert len(urls) == len(set(urls))
    assert all(str(UUID(url.removeprefix("urn:uuid:"))) == url.removeprefix("urn:uuid:") for url in urls)


def test_the_page_shows_how_a_message_begins_after_one_that_could_not_be_delivered() -> None:
    lost = to_gp(a_case_event(CaseAssigned, by_gp()))
    told = restate(to_gp(a_case_event(CaseAccepted, by_gp(status="accepted"), id="next")), [lost], WORDS)
    page = (Path(__file__).resolve().parents[2] / "docs" / "connect" / "fhir.md").read_text()
    shown = page.split("`Task.note` begins like this:")[1].split("```")[1].removeprefix("text\n")
    assert resource(told, "Task")["note"][0]["text"].startswith(shown.rstrip())


# ---- ids ------------------------------------------------------------------------------------------------------------


def ids(feedback: Feedback) -> set[tuple[str, str, str]]:
    """Return (type, fullUrl, id) of each resource of a message."""
    entries = bundle(feedback)["entry"]
    return {(e["resource"]["resourceType"], e["fullUrl"], e["resource"]["id"]) for e in entries}


def all_messages(concern: ReferralContext) -> list[Feedback]:
    """Return the feedback of one event of each kind about one referral."""
    told = (event.model_copy(update={"id": name}) for name, event in every_event(concern).items())
    return [feedback for event in told for feedback in compose(event, RECIPIENTS, WORDS)]


def of_the_referral(feedback: Feedback) -> set[tuple[str, str, str]]:
    return {one for one in ids(feedback) if one[0] != "MessageHeader"}


def test_the_resources_of_a_referral_keep_their_ids_over_all_its_messages() -> None:
    concern = by_gp(interventions=(an_intervention(),))
    messages = all_messages(concern)
    assert len(messages) > 5
    lasting = set.union(*map(of_the_referral, messages))
    assert len(lasting) == len({url for _, url, _ in lasting})
    assert Counter(kind for kind, _, _ in lasting) == {
        "ServiceRequest": 1, "Encounter": 1, "Task": 1, "Patient": 1, "Organization": 3, "Procedure": 1,
    }  # fmt: skip


def test_bundle_and_header_have_the_ids_of_their_message() -> None:
    messages = all_messages(by_gp())
    assert len({bundle(f)["id"] for f in messages}) == len(messages) > 5
    assert len({resource(f, "MessageHeader")["id"] for f in messages}) == len(messages)


def test_no_resource_of_two_referrals_has_the_same_id() -> None:
    one, other = (
        to_gp(a_case_event(CaseAssigned, by_gp(reference=r))) for r in ("LB-AAAA-AAAA-AAAA", "LB-BBBB-BBBB-BBBB")
    )
    assert ids(one).isdisjoint(ids(other))


def test_feedback_has_the_resources_of_the_response_to_the_referral() -> None:
    """The OpenAPI document's example is a response to a referral with the same reference, composed by intake."""
    reference_data = Path(__file__).resolve().parents[2] / "infra" / "reference_data"
    intake = SimpleNamespace(
        service_ids=(),
        code_systems=conformance.code_systems(directory.labels(reference_data)),
        bars=bars_fhir.translator(directory.catalogue(reference_data), ()),
    )
    answer = examples.components(intake)["accepted"]["value"]  # type: ignore[arg-type]
    told = bundle(completed())
    answered, sent = ({e["fullUrl"]: e["resource"] for e in one["entry"]} for one in (answer, told))
    common = {url: (answered[url]["resourceType"], answered[url]["id"]) for url in answered.keys() & sent.keys()}
    assert {kind for kind, _ in common.values()} == {"ServiceRequest", "Encounter", "Organization"}
    assert all(sent[url]["id"] == own_id for url, (_, own_id) in common.items())
    [encounter] = [url for url, (kind, _) in common.items() if kind == "Encounter"]
    assert answered[encounter]["class"] == sent[encounter]["class"]


def test_the_id_of_the_service_request_is_our_reference() -> None:
    feedback = completed()
    assert resource(feedback, "ServiceRequest")["id"] == "LB-7K3M-9Q2X-4TDW"
    assert resource(feedback, "ServiceRequest")["meta"]["lastUpdated"] == feedback.at.isoformat()


def test_referrer_and_sender_are_sent_the_same_resources_but_their_own_organisation() -> None:
    to_both = compose(a_case_event(CaseAssigned, by_first_contact_for_gp()), RECIPIENTS, WORDS)
    referrer, sender = map(of_the_referral, to_both)
    assert {kind for kind, _, _ in referrer ^ sender} == {"Organization"}


def test_each_hub_is_an_organisation_of_its_own() -> None:
    def performer(hub: str | None) -> str:
        [told] = resource(to_gp(a_case_event(CaseAccepted, by_gp(home_hub=hub))), "ServiceRequest")["performer"]
        return str(told["reference"])

    assert performer("charnwood") == performer("charnwood")
    assert len({performer("charnwood"), performer("blaby"), performer(None)}) == 3


def test_a_returned_referral_names_its_own_hub_once_if_it_is_to_refer_there() -> None:
    concern = by_gp(status="rejected")
    event = a_case_event(CaseRejected, concern, ended=ended(concern), reason="no-capacity", refer_to="charnwood")
    names = [e["resource"].get("name") for e in bundle(to_gp(event))["entry"]]
    assert names.count(WORDS.hub("charnwood").name) == 1  # type: ignore[union-attr]


def test_a_procedure_keeps_its_id_wherever_it_stands_in_the_list() -> None:
    done = (an_intervention(), an_intervention(action="smoke alarms fitted"), an_intervention(on=date(2026, 11, 2)))

    def procedures(interventions: tuple[Any, ...]) -> set[tuple[str, str, str]]:
        concern = by_gp(status="completed", open_needs=(), interventions=interventions)
        told = to_gp(a_case_event(CaseCompleted, concern, ended=ended(concern)))
        return {one for one in ids(told) if one[0] == "Procedure"}

    assert len(procedures(done)) == 3
    assert procedures(done) == procedures(done[::-1]) > procedures(done[1:])


def test_one_action_by_two_providers_is_one_procedure_with_two_performers() -> None:
    done = (an_intervention(), an_intervention(provider="Leicestershire Fire and Rescue Service"))
    concern = by_gp(status="completed", open_needs=(), interventions=done)
    told = to_gp(a_case_event(CaseCompleted, concern, ended=ended(concern)))
    assert len(resource(told, "Task")["output"]) == 1
    assert len(resource(told, "Procedure")["performer"]) == len({d.provider for d in told.completed_actions}) == 2


def test_the_same_feedback_gives_the_same_bytes_and_another_gives_other_ids() -> None:
    one, again, other = completed(), completed(), to_gp(a_case_event(CaseAssigned, by_gp(), id="another"))
    assert message(one, WORDS.sender_details) == message(again, WORDS.sender_details)
    assert bundle_id(one) != bundle_id(other)


def test_derived_ids_are_uuid_version_5() -> None:
    namespace = UUID("5b8e6f0c-3f55-5a53-9c39-1c5d1f6f3b1a")
    assert derived_id(namespace, "Patient") == str(uuid5(namespace, "Patient"))


# ---- the shape of BaRS' response samples ----------------------------------------------------------------------------


RESPONSE_ELEMENTS = """
Bundle: id type timestamp meta.versionId meta.lastUpdated meta.profile entry.fullUrl entry.resource
MessageHeader: meta.lastUpdated meta.profile extension.url extension.extension.url extension.extension.valueString
  eventCoding.system eventCoding.code destination.endpoint destination.receiver.reference sender.reference
  source.name source.software source.version source.contact.system source.contact.value source.endpoint
  reason.coding.system reason.coding.code response.identifier response.code focus.reference definition
ServiceRequest: meta.lastUpdated meta.profile status intent category.coding.system category.coding.code
  category.coding.display subject.reference authoredOn performer.reference
Encounter: meta.lastUpdated meta.profile identifier.system identifier.value status class.system class.code class.display
  subject.reference episodeOfCare.reference period.start
Patient: meta.lastUpdated meta.profile extension.url extension.valueCodeableConcept.coding.system
  extension.valueCodeableConcept.coding.code extension.valueCodeableConcept.coding.display identifier.system identifier.value
  identifier.extension.url identifier.extension.valueCodeableConcept.coding.system
  identifier.extension.valueCodeableConcept.coding.code identifier.extension.valueCodeableConcept.coding.display
  name.use name.text name.family name.given name.prefix gender birthDate
  address.use address.type address.text address.line address.city address.district address.postalCode
  contact.extension.url contact.extension.valuePositiveInt contact.relationship.coding.system contact.relationship.coding.code
  contact.relationship.coding.display contact.telecom.system contact.telecom.value contact.telecom.use contact.telecom.rank
  contact.name.family contact.name.given contact.gender communication.language.coding.system
  communication.language.coding.code communication.language.coding.display communication.preferred
  generalPractitioner.reference
Organization: meta.lastUpdated meta.profile identifier.system identifier.value name
Practitioner: meta.lastUpdated meta.profile identifier.system identifier.value name.family name.given telecom.system
  telecom.value telecom.use
"""
"""The elements that all published responses to a referral have: REFRESP01, REFRESP02 and REFRESP03 of BaRS Core 1.5."""

NOT_SENT = {
    "MessageHeader.extension": "names the triage software of a call centre; there is none",
    "Patient.extension": "ethnic category and religion: feedback does not need them",
    "Patient.name.prefix": "feedback events hold number, name and birth date only: what identifies the person to the reader",
    "Patient.gender": "as Patient.name.prefix",
    "Patient.address": "as Patient.name.prefix; an address may be restricted",
    "Patient.contact": "as Patient.name.prefix; contacts are other persons",
    "Patient.communication": "as Patient.name.prefix",
    "Patient.generalPractitioner": "the reader knows it or may not learn it",
    "Practitioner": "feedback comes from the service, not from a person of it",
}
"""Elements of the samples that our messages lack, each with its reason."""


def _listed(text: str) -> set[str]:
    """Return Type.element for each element of a list as above."""
    kinds = re.split(r"^(\w+):", text.strip(), flags=re.M)[1:]
    return {
        f"{kind}.{element}"
        for kind, elements in zip(kinds[::2], kinds[1::2], strict=True)
        for element in elements.split()
    }


def _elements(value: Any, path: str) -> set[str]:
    """Return the path of each element that has a value; resources begin paths of their own."""
    match value:
        case {"resourceType": kind} if path != kind:
            return {path} | _elements(value, kind)
        case dict():
            return {found for name, one in value.items() for found in _elements(one, f"{path}.{name}")}
        case list():
            return {found for one in value for found in _elements(one, path)}
        case _:
            return {path}


def test_our_message_has_every_element_that_all_published_responses_have() -> None:
    missing = _listed(RESPONSE_ELEMENTS) - _elements(bundle(completed()), "Bundle")
    reasons = {path: next((name for name in NOT_SENT if f"{path}.".startswith(f"{name}.")), None) for path in missing}
    assert [path for path, reason in reasons.items() if reason is None] == []
    assert set(reasons.values()) == set(NOT_SENT), "an exception that is not needed any more"


@pytest.mark.skipif(not SAMPLE.exists(), reason="the public samples are not on this machine")
def test_the_listed_elements_are_those_of_the_published_response() -> None:
    assert _listed(RESPONSE_ELEMENTS) <= _elements(json.loads(SAMPLE.read_text()), "Bundle")


@pytest.mark.skipif(not SAMPLE.exists(), reason="the public samples are not on this machine")
def test_the_message_header_has_the_codes_of_the_published_response() -> None:
    published = json.loads(SAMPLE.read_text())
    ours = bundle(completed())
    [theirs] = [e["resource"] for e in published["entry"] if e["resource"]["resourceType"] == "MessageHeader"]
    header = resource(completed(), "MessageHeader")
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
