"""A reference in any form leads to the same resource; one that leads nowhere, or to two, is refused by its place."""

import copy
import json
import random
from collections.abc import Callable
from uuid import uuid4

import pytest

from services.intake.translators.translator import Rejection, fhir_path
from tests.contract.translators.fhir_message import (
    OURS,
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
    to,
    translated,
    uuid_of,
)

BASE = "https://a.example.org/fhir"
NAMES = {f"urn:uuid:{uuid_of(name)}": name for name in RESOURCES}
REFERENCES = [at for at, one in objects_in(a_full_message()) if str(one.get("reference")) in NAMES]
NOT_READ = [at for at in REFERENCES if at[1] == list(RESOURCES).index("observation")]
READ = [at for at in REFERENCES if at not in NOT_READ]


def with_references(form: Callable[[str, str], str], *, full_urls: Callable[[str, str], str | None]) -> Json:
    """Return the full message with every reference and fullUrl written by type and id."""
    message = a_full_message()
    kinds = {url: (RESOURCES[name]["resourceType"], uuid_of(name)) for url, name in NAMES.items()}
    text = json.dumps(message["entry"])
    for url, (kind, id_) in kinds.items():
        text = text.replace(f'"reference": "{url}"', f'"reference": "{form(kind, id_)}"')
        text = text.replace(f'"url": "{url}"', f'"url": "{form(kind, id_)}"')
        text = text.replace(f'"fullUrl": "{url}"', f'"fullUrl": "{full_urls(kind, id_) or ""}"')
    message["entry"] = json.loads(text)
    for entry in message["entry"]:
        if not entry["fullUrl"]:
            del entry["fullUrl"]
    return message


FORMS = {
    "uuid": (lambda kind, id_: f"urn:uuid:{id_}", lambda kind, id_: f"urn:uuid:{id_}"),
    "uuid in capitals": (lambda kind, id_: f"urn:uuid:{id_.upper()}", lambda kind, id_: f"urn:uuid:{id_}"),
    "scheme in capitals": (lambda kind, id_: f"URN:UUID:{id_}", lambda kind, id_: f"urn:uuid:{id_.upper()}"),
    "uuid of the id": (lambda kind, id_: f"urn:uuid:{id_}", lambda kind, id_: f"urn:uuid:{uuid4()}"),
    "relative": (lambda kind, id_: f"{kind}/{id_}", lambda kind, id_: f"{BASE}/{kind}/{id_}"),
    "relative beside uuids": (lambda kind, id_: f"{kind}/{id_}", lambda kind, id_: f"urn:uuid:{id_}"),
    "relative without fullUrl": (lambda kind, id_: f"{kind}/{id_}", lambda kind, id_: None),
    "absolute": (lambda kind, id_: f"{BASE}/{kind}/{id_}", lambda kind, id_: f"{BASE}/{kind}/{id_}"),
    "versioned": (lambda kind, id_: f"{kind}/{id_}/_history/2", lambda kind, id_: f"{BASE}/{kind}/{id_}"),
    "absolute and versioned": (
        lambda kind, id_: f"{BASE}/{kind}/{id_}/_history/a.1",
        lambda kind, id_: f"{BASE}/{kind}/{id_}",
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_reference_leads_to_the_same_referral(form):
    references, full_urls = FORMS[form]
    message = with_references(references, full_urls=full_urls)
    assert accepted(message).referral == accepted(a_full_message()).referral


def test_the_order_of_the_entries_does_not_matter():
    message = a_full_message()
    head, *rest = message["entry"]
    random.Random(7).shuffle(rest)
    message["entry"] = [head, *rest]
    assert set(accepted(message).referral.needs) == set(accepted(a_full_message()).referral.needs)
    assert accepted(message).referral.referred_by == accepted(a_full_message()).referral.referred_by


# ---- contained ------------------------------------------------------------------------------------------------------

CONTAINED = ["role", "doctor", "practice", "council", "plan", "task", "condition", "stay", "ward", "site"]


def contain(message: Json, name: str) -> Json:
    """Move a resource into each resource that refers to it."""
    index = list(RESOURCES).index(name)
    inner = {**message["entry"][index]["resource"], "id": "inner"}
    for number, entry in enumerate(message["entry"]):
        found = [one for _, one in objects_in(entry["resource"]) if one.get("reference") == f"urn:uuid:{uuid_of(name)}"]
        if found and number != index:
            entry["resource"].setdefault("contained", []).append(copy.deepcopy(inner))
        for one in found:
            one["reference"] = "#inner"
    message["entry"][index]["resource"] = {"resourceType": "Basic", "id": uuid_of("moved"), "code": {"text": "any"}}
    return message


@pytest.mark.parametrize("name", CONTAINED)
def test_a_contained_resource_is_read_as_one_of_its_own(name):
    assert accepted(contain(a_full_message(), name)).referral == accepted(a_full_message()).referral


def test_a_contained_resource_is_found_in_its_own_container_only():
    message = contain(a_full_message(), "role")
    resource_in(message, "request")["requester"] = {"reference": "#inner"}
    assert place("request", "requester", "reference") in faults(message)


def test_two_contained_resources_of_one_id_are_refused():
    message = contain(a_full_message(), "stay")
    inner = resource_in(message, "request")["contained"]
    inner.append({**inner[0], "status": "finished"})
    assert place("request", "encounter", "reference") in faults(message)


def test_a_resource_inside_a_contained_resource_is_refused():
    message = a_full_message()
    flag = {**resource_in(message, "flag"), "id": "inner"}
    practice = {**resource_in(message, "practice"), "id": "outer", "contained": [flag]}
    resource_in(message, "request")["contained"] = [practice]
    assert faults(message) == {place("request", "contained", 0, "contained"): "invariant"}


def test_a_contained_organisation_that_the_sender_may_not_act_for_is_refused_as_an_entry_is():
    message = a_full_message()
    resource_in(message, "practice")["identifier"][0]["value"] = "C82993"
    assert "forbidden" in faults(message).values()
    assert "forbidden" in faults(contain(message, "practice")).values()


# ---- nowhere --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", READ, ids=lambda at: fhir_path("", at))
@pytest.mark.parametrize(
    "form", ["urn:uuid:6f0c3b1e-5a3d-4c1b-9f3e-2d7a10b4c8e1", "Patient/none", f"{BASE}/Organization/none", "#none"]
)
def test_a_reference_that_leads_nowhere_is_refused_by_its_place(at, form):
    message = a_full_message()
    element = message
    for step in at:
        element = element[step]
    element["reference"] = form
    assert fhir_path("Bundle", (*at, "reference")) in faults(message)


def test_references_that_are_not_read_may_lead_elsewhere():
    assert NOT_READ
    message = changed("observation", subject={"reference": "Patient/none"})
    resource_in(message, "header")["sender"] = {"reference": "Organization/none"}
    resource_in(message, "stay")["episodeOfCare"] = [{"reference": "EpisodeOfCare/none"}]
    assert accepted(message).referral == accepted(a_full_message()).referral


@pytest.mark.parametrize("element", ["requester", "performer", "encounter", "reasonReference"])
def test_a_reference_by_identifier_or_display_only_is_no_fault(element):
    by_name = {"identifier": {"system": "https://example.org/any", "value": "1"}, "display": "somebody"}
    value = by_name if element in ("requester", "encounter") else [by_name]
    accepted(changed("request", **{element: value}))


def test_a_reference_to_a_resource_of_a_type_that_is_not_read_is_no_fault():
    accepted(changed("plan", addresses=[{"reference": f"Observation/{uuid_of('observation')}"}]))


# ---- two ------------------------------------------------------------------------------------------------------------


def with_another(name: str, **changes: str) -> Json:
    """Return the full message with a copy of an entry at the end."""
    message = a_full_message()
    entry = copy.deepcopy(message["entry"][list(RESOURCES).index(name)])
    entry["fullUrl"] = changes.get("fullUrl", entry["fullUrl"])
    entry["resource"]["id"] = changes.get("id", entry["resource"]["id"])
    message["entry"].append(entry)
    return message


LAST = len(RESOURCES)


@pytest.mark.parametrize("name", ["patient", "plan", "practice", "flag"])
def test_two_entries_of_one_full_url_or_of_one_type_and_id_are_refused(name):
    same_url = with_another(name, id="other")
    assert faults(same_url)[f"Bundle.entry[{LAST}].fullUrl"] == "invariant"
    same_id = with_another(name, fullUrl=f"urn:uuid:{uuid4()}")
    assert faults(same_id)[f"Bundle.entry[{LAST}].resource.id"] == "invariant"


def test_a_full_url_that_differs_in_letter_case_only_is_the_same():
    assert f"Bundle.entry[{LAST}].fullUrl" in faults(
        with_another("patient", id="other", fullUrl=f"urn:uuid:{uuid_of('patient').upper()}")
    )


def test_one_id_of_two_types_is_no_fault():
    message = json.loads(json.dumps(a_full_message()).replace(uuid_of("task"), uuid_of("condition")))
    for name in ("task", "condition"):
        message["entry"][list(RESOURCES).index(name)]["fullUrl"] = f"{BASE}/{RESOURCES[name]['resourceType']}/1"
    resource_in(message, "plan")["activity"][1]["reference"] = {"reference": f"{BASE}/Task/1"}
    resource_in(message, "request")["reasonReference"] = [{"reference": f"{BASE}/Condition/1"}]
    assert accepted(message).referral == accepted(a_full_message()).referral


def test_a_relative_reference_means_the_server_of_the_entry_that_has_it():
    message = with_references(lambda kind, id_: f"{kind}/{id_}", full_urls=lambda kind, id_: f"{BASE}/{kind}/{id_}")
    index = list(RESOURCES).index("stay")
    message["entry"][index]["fullUrl"] = f"https://b.example.org/fhir/Encounter/{uuid_of('stay')}"
    assert place("request", "encounter", "reference") in faults(message)


def test_two_message_headers_are_refused():
    message = with_another("header", fullUrl=f"urn:uuid:{uuid4()}", id=str(uuid4()))
    assert faults(message) == {f"Bundle.entry[{LAST}].resource": "invariant"}


def test_two_requests_in_focus_are_refused_and_one_that_is_named_twice_is_not():
    message = with_another("request", fullUrl="urn:uuid:" + uuid_of("second"), id=uuid_of("second"))
    resource_in(message, "header")["focus"] = [to("request"), to("second")]
    assert faults(message) == {place("header", "focus"): "not-supported"}
    assert isinstance(accepted(changed("header", focus=[to("request"), to("request")])).referral_id, str)


def test_two_reasons_are_refused():
    message = a_full_message()
    reasons = resource_in(message, "header")["reason"]["coding"]
    reasons.append({**reasons[0], "code": "delete"})
    assert faults(message) == {place("header", "reason"): "value"}


# ---- needs that nothing leads to ------------------------------------------------------------------------------------


def another_request(**more: object) -> Json:
    return {
        "resourceType": "ServiceRequest",
        "id": uuid_of("second"),
        "status": "active",
        "intent": "plan",
        "subject": to("patient"),
        "code": coded(OURS + "service", "fire-safety"),
        **more,
    }


def with_resource(message: Json, resource: Json) -> Json:
    message["entry"].append({"fullUrl": f"urn:uuid:{resource['id']}", "resource": resource})
    return message


def test_a_service_behind_an_activity_of_a_plan_is_refused_and_not_dropped():
    message = with_resource(a_full_message(), another_request())
    resource_in(message, "plan")["activity"].append({"reference": to("second")})
    assert faults(message) == {f"Bundle.entry[{LAST}].resource": "not-supported"}


@pytest.mark.parametrize("name", ["plan", "task"])
def test_a_plan_or_task_with_a_service_that_nothing_leads_to_is_refused(name):
    message = a_full_message()
    if name == "plan":
        del resource_in(message, "request")["basedOn"]
    else:
        del resource_in(message, "plan")["activity"][1]
    assert faults(message)[place(name)] == "not-supported"


def test_what_is_not_requested_any_more_or_requests_no_service_may_stand_in_the_message():
    for resource in (another_request(status="revoked"), another_request(code={"text": "a blood test"})):
        accepted(with_resource(a_full_message(), resource))


def test_a_message_of_references_to_nothing_is_answered_with_at_most_fifty_faults():
    message = changed("request", performer=[{"reference": f"Organization/{n}"} for n in range(200)])
    outcome = translated(message)
    assert isinstance(outcome, Rejection)
    assert len(outcome.issues) == 50
