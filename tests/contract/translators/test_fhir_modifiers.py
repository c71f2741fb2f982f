"""Every modifier element of FHIR R4 in what we read has one rule, and changes the referral or is refused as it says."""

import copy
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.intake.translators.bars_fhir.models import READ
from services.intake.translators.bars_fhir.modifiers import DECIDED, EVERYWHERE, RULES
from services.intake.translators.translator import Rejection, Translated, fhir_path
from tests.contract.translators import fhir_message
from tests.contract.translators.adapters import ATTACHMENT_KEY, BARS, RECEIVED_AT, InboundMessage, a_partner
from tests.contract.translators.fhir_message import (
    RESOURCES,
    Json,
    a_full_message,
    accepted,
    changed,
    coded,
    faults,
    objects_in,
    place,
    resource_in,
    translated,
)

R4 = Path(__file__).with_name("fhir_modifiers.txt").read_text().splitlines()[1:]

DATA_TYPES = (
    *("Address", "Age", "Annotation", "Attachment", "CodeableConcept", "Coding", "ContactPoint", "Extension"),
    *("HumanName", "Identifier", "Meta", "Period", "Range", "Reference", "Timing"),
)
"""The data types of the elements that we read."""

OF_OURS = [element for element in R4 if element.split(".")[0] in ("Bundle", *READ, *DATA_TYPES)]


def rules_of(element: str) -> list[str]:
    """Return where a modifier element is decided."""
    owner, _, name = element.rpartition(".")
    return [
        *(["everywhere"] if name in EVERYWHERE else []),
        *(["rules"] if name in RULES.get(owner, {}) else []),
        *(["decided"] if element in DECIDED else []),
    ]


@pytest.mark.parametrize("element", OF_OURS)
def test_a_modifier_element_of_r4_is_decided_in_one_place(element):
    assert len(rules_of(element)) == 1


def test_nothing_is_decided_that_is_not_an_element_of_ours():
    assert [element for element in DECIDED if element not in OF_OURS] == []
    assert [kind for kind in RULES if kind.split(".")[0] not in READ] == []


# ---- values ---------------------------------------------------------------------------------------------------------

WHERE = {
    "ServiceRequest": "request",
    "CarePlan": "plan",
    "CarePlan.activity.detail": "plan",
    "Task": "task",
    "Condition": "condition",
    "Consent": "feedback",
    "DocumentReference": "document",
    "Flag": "flag",
    "Location": "ward",
    "Patient": "patient",
    "Practitioner": "doctor",
    "PractitionerRole": "role",
    "RelatedPerson": "relative",
    "Organization": "practice",
    "HealthcareService": "housing",
}
"""The resource of the full message that has each rule's elements."""

TELLS = {
    "plan": ("hoarding",),
    "task": ("home-security",),
    "condition": ("Falls", "161898004"),
    "flag": ("a dog",),
    "document": ("d6a7cd2a7371b1a15d543196979ff74fdb027023ebf187d5d329be11055c77fd",),
    "ward": ("Ward 7",),
    "feedback": ('"feedback":{"answer":"yes"',),
}
"""What the referral has of a resource only if that counts."""

VALUES = {
    "ServiceRequest.intent": "proposal plan directive order original-order reflex-order filler-order instance-order option",
    "CarePlan.status": "draft active on-hold revoked completed entered-in-error unknown",
    "CarePlan.intent": "proposal plan order option",
    "CarePlan.activity.detail.status": "not-started scheduled in-progress on-hold completed cancelled stopped unknown entered-in-error",
    "Task.status": "draft requested received accepted rejected ready cancelled in-progress on-hold failed completed entered-in-error",
    "Task.intent": "unknown proposal plan order original-order reflex-order filler-order instance-order option",
    "Condition.clinicalStatus": "active recurrence relapse inactive remission resolved another",
    "Condition.verificationStatus": "unconfirmed provisional differential confirmed refuted entered-in-error another",
    "Consent.status": "draft proposed active rejected inactive entered-in-error",
    "DocumentReference.status": "current superseded entered-in-error",
    "DocumentReference.docStatus": "preliminary final amended entered-in-error",
    "Flag.status": "active inactive entered-in-error",
    "Location.status": "active suspended inactive",
    "Patient.link.type": "replaced-by replaces refer seealso",
}
"""The codes that R4 has for each element with a rule; the others are booleans."""

CASES = [
    (kind, element, value)
    for kind, rules in RULES.items()
    for element in rules
    for value in VALUES.get(f"{kind}.{element}", "").split() or [True, False]
]


def test_the_values_are_those_of_every_rule():
    booleans = {f"{kind}.{element}" for kind, element, value in CASES if isinstance(value, bool)}
    assert {name.rpartition(".")[2] for name in booleans} == {"active", "doNotPerform"}
    assert VALUES.keys() | booleans == {f"{kind}.{element}" for kind, rules in RULES.items() for element in rules}


def with_value(kind: str, element: str, value: str | bool) -> tuple[Json, str]:
    """Return the full message with a modifier element of this value, and the name of the resource that has it."""
    name = WHERE[kind]
    if element in ("clinicalStatus", "verificationStatus"):
        system = "condition-clinical" if element == "clinicalStatus" else "condition-ver-status"
        return changed(name, **{element: coded(fhir_message.TERMINOLOGY + system, str(value))}), name
    if name == "relative":
        return asked_by_a_relative(active=value), "request"
    if kind == "CarePlan.activity.detail":
        message = a_full_message()
        resource_in(message, name)["activity"][0]["detail"][element] = value
        return message, name
    if element == "link.type":
        return changed(name, link=[{"type": value, "other": {"display": "another record"}}]), name
    message = changed(name, **{element: value})
    if name == "role":
        resource_in(message, "request")["requester"] = fhir_message.to("role")
    return message, name


def asked_by_a_relative(**elements: object) -> Json:
    """Return the full message with a contained RelatedPerson as its requester."""
    relative = {"resourceType": "RelatedPerson", "id": "relative", "patient": fhir_message.to("patient"), **elements}
    return changed("request", contained=[relative], requester={"reference": "#relative"})


@pytest.mark.parametrize(("kind", "element", "value"), CASES)
def test_a_value_is_read_left_out_or_refused_by_its_place(kind, element, value):
    message, name = with_value(kind, element, value)
    outcome, rule = translated(message), RULES[kind][element]
    if value not in rule.read | rule.left_out:
        assert isinstance(outcome, Rejection)
        assert any(place(name) in issue.place and element.split(".")[-1] in issue.place for issue in outcome.issues)
        return
    assert isinstance(outcome, Translated)
    assert outcome.referral is not None
    told = outcome.referral.model_dump_json()
    if value not in rule.left_out:
        assert place(name) not in outcome.passed_over
        return
    assert [one for one in outcome.passed_over if one.startswith(place(name))]
    for words in TELLS[name]:
        assert words not in told


def test_what_the_full_message_tells_is_there_if_nothing_is_changed():
    told = accepted(a_full_message()).referral.model_dump_json()
    for words in TELLS.values():
        assert all(one in told for one in words)


@pytest.mark.parametrize("status", ["resolved", "inactive", "remission", "unconfirmed", "differential"])
def test_a_condition_that_is_over_or_in_doubt_is_told_in_words_and_not_by_its_code(status):
    element = "verificationStatus" if status in ("unconfirmed", "differential") else "clinicalStatus"
    message, _ = with_value("Condition", element, status)
    reason = accepted(message).referral.reason
    assert f"Falls ({status})" in reason.text
    assert reason.snomed == ()


@pytest.mark.parametrize(
    "abatement",
    [
        {"abatementDateTime": "2026-10"},
        {"abatementPeriod": {"start": "2025"}},
        {"abatementAge": {"value": 79, "unit": "a"}},
        {"abatementRange": {"low": {"value": 1}}},
        {"abatementString": "years ago"},
    ],
)
def test_a_condition_that_has_abated_is_told_as_resolved(abatement):
    assert "Falls (resolved)" in accepted(changed("condition", **abatement)).referral.reason.text


def test_a_condition_that_will_abate_is_present():
    reason = accepted(changed("condition", abatementDateTime="2027")).referral.reason
    assert reason.text == "Falls\nUnsteady"


def test_a_status_in_words_only_is_refused():
    assert faults(changed("condition", verificationStatus={"text": "certain"})) == {
        place("condition", "verificationStatus"): "not-supported"
    }


def test_an_update_in_which_all_that_was_requested_is_cancelled_is_not_advice():
    message = changed("request", orderDetail=None)
    for name in ("plan", "task"):
        resource_in(message, name)["status"] = "cancelled" if name == "task" else "active"
    resource_in(message, "plan")["activity"][0]["detail"]["status"] = "cancelled"
    assert faults(message) == {place("request"): "business-rule"}


def test_words_that_are_still_requested_are_advice_though_other_words_are_cancelled():
    message = changed("request", orderDetail=None, code={"text": "a warmer home"})
    resource_in(message, "plan")["activity"] = [{"detail": {"status": "cancelled", "description": "a new kitchen"}}]
    del resource_in(message, "task")["code"]
    (need,) = accepted(message).referral.needs
    assert (need.service, need.text) == ("information-advice", "a warmer home")


def test_a_preliminary_document_says_so():
    attached = accepted(changed("document", docStatus="preliminary", description="A letter")).referral.attachments
    assert [one.title for one in attached] == ["A letter (preliminary)"]


# ---- everywhere -----------------------------------------------------------------------------------------------------

OBJECTS = [at for at, _ in objects_in(a_full_message())]
OBSERVATION = ("entry", list(RESOURCES).index("observation"), "resource")
NESTED = {"id": "inner", "resourceType": "Device", "owner": {"display": "any"}}


def put(message: Json, at: tuple[int | str, ...], name: str, value: object) -> Json:
    target: Json = message
    for step in at:
        target = target[step]  # type: ignore[index,call-overload]
    target[name] = value
    return message


def is_read(at: tuple[int | str, ...]) -> bool:
    return at[:3] != OBSERVATION


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(OBJECTS), st.sampled_from(EVERYWHERE))
def test_a_modifier_extension_is_refused_wherever_it_stands_in_what_we_read(at, name):
    value = [{"url": "https://example.org/not", "valueBoolean": True}] if name == "modifierExtension" else "https://x"
    message = put(a_full_message(), at, name, value)
    expected = fhir_path("Bundle", (*at, name))
    assert not is_read(at) or isinstance(translated(message, "full"), Rejection)
    if is_read(at):
        assert faults(message, conformance="subset") == {expected: "not-supported"}
    else:
        assert isinstance(translated(message, "subset"), Translated)


@pytest.mark.parametrize("name", EVERYWHERE)
@pytest.mark.parametrize("conformance", ["subset", "full"])
def test_it_is_refused_in_contained_resources_of_any_type_also_with_an_escaped_name(name, conformance):
    value = [{"url": "https://example.org/not"}] if name == "modifierExtension" else "https://example.org/rules"
    message = changed("request", contained=[{**copy.deepcopy(NESTED), name: value}])
    body = json.dumps(message)
    for text in (body, body.replace(name, f"\\u{ord(name[0]):04x}{name[1:]}")):
        inbound = InboundMessage(a_partner("gp-alder-lane", conformance), text.encode(), RECEIVED_AT, ATTACHMENT_KEY)
        outcome = BARS(inbound)
        assert isinstance(outcome, Rejection)
        assert place("request", "contained", 0, name) in [issue.place for issue in outcome.issues]


WITHOUT_EFFECT = [
    changed("request", extension=[{"url": "https://example.org/any", "valueString": "modifierExtension"}]),
    changed("observation", modifierExtension=[{"url": "https://example.org/any", "valueBoolean": True}]),
    changed("observation", implicitRules="https://example.org/any"),
]


@pytest.mark.parametrize("message", WITHOUT_EFFECT)
def test_ordinary_extensions_and_resources_that_we_do_not_read_change_nothing(message):
    assert accepted(message).referral == accepted(a_full_message()).referral


def test_a_place_has_no_name_that_a_sender_made_up():
    message = put(a_full_message(), ("entry", 2, "resource"), "Ada Vance", {"modifierExtension": [{"url": "x"}]})
    assert faults(message, conformance="subset") == {place("patient"): "not-supported"}
