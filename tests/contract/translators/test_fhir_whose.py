"""What counts in a FHIR message is about its patient, in force at its time, and for this service."""

import copy
import json
from datetime import UTC, date, datetime
from typing import Any

import pytest

from schemas.referral import DeathReport
from services.intake.translators import bars_fhir
from services.intake.translators.bars_fhir.for_us import is_ours
from services.intake.translators.inbound_message import InboundMessage
from services.intake.translators.translator import Rejection, Translated
from tests.contract.translators.adapters import ATTACHMENT_KEY, RECEIVED_AT, SERVICES, a_partner
from tests.contract.translators.fhir_message import (
    DOS,
    ODS,
    OURS,
    RESOURCES,
    Json,
    a_full_message,
    accepted,
    changed,
    coded,
    faults,
    place,
    resource_in,
    to,
    translated,
    uuid_of,
)

PAST, NOW, FUTURE = {"start": "2010", "end": "2019-05"}, {"start": "2019-06", "end": "2026-11"}, {"start": "2099"}
LAST = len(RESOURCES)
OURS_EXTENSION = "https://lightbulb.example.org/StructureDefinition/"


def add(message: Json, name: str, resource: Json) -> Json:
    message["entry"].append({"fullUrl": f"urn:uuid:{uuid_of(name)}", "resource": {"id": uuid_of(name), **resource}})
    return message


def with_another_patient(message: Json) -> Json:
    other = {"resourceType": "Patient", "name": [{"family": "Other"}]}
    return add(message, "other", other)


# ---- about whom -----------------------------------------------------------------------------------------------------

SUBJECTS = [
    ("plan", "subject"),
    ("task", "for"),
    ("condition", "subject"),
    ("addressed", "subject"),
    ("stay", "subject"),
    ("consent", "patient"),
    ("feedback", "patient"),
    ("flag", "subject"),
    ("document", "subject"),
]


@pytest.mark.parametrize(("name", "element"), SUBJECTS)
@pytest.mark.parametrize("other", ["other", "practice", "observation"])
def test_what_is_about_somebody_or_something_else_is_refused_by_its_place(name, element, other):
    message = with_another_patient(changed(name, **{element: to(other)}))
    assert faults(message) == {place(name, element): "not-supported"}


@pytest.mark.parametrize(("name", "element"), SUBJECTS)
def test_another_nhs_number_as_subject_is_refused_and_the_patients_own_is_not(name, element):
    numbers = {"system": "https://fhir.nhs.uk/Id/nhs-number", "value": "999 000 0018"}
    accepted(changed(name, **{element: {"identifier": numbers}}))
    other = {"identifier": {**numbers, "value": "9990000026"}}
    assert faults(changed(name, **{element: other})) == {place(name, element): "not-supported"}


@pytest.mark.parametrize(("name", "element"), SUBJECTS)
def test_a_local_identifier_as_subject_is_the_patients_own_or_refused(name, element):
    local = {"system": "https://practice.example.org/Id/local", "value": "P-12"}
    message = changed(name, **{element: {"identifier": local}})
    assert faults(message) == {place(name, element): "not-supported"}
    resource_in(message, "patient")["identifier"].append(local)
    accepted(message)


@pytest.mark.parametrize(("name", "element"), SUBJECTS)
def test_a_subject_in_words_is_the_patient(name, element):
    accepted(changed(name, **{element: {"display": "the patient"}}))


@pytest.mark.parametrize(("name", "element"), [("task", "for"), ("stay", "subject"), ("document", "subject")])
def test_an_optional_subject_that_is_not_given_is_the_patient(name, element):
    assert accepted(changed(name, **{element: None})).referral == accepted(a_full_message()).referral


def test_a_flag_about_a_place_of_the_message_stays():
    assert accepted(changed("flag", subject=to("site"))).referral.risk_flags[0].text == "a dog"


def test_what_is_about_another_patient_and_not_read_changes_nothing():
    message = with_another_patient(a_full_message())
    for name, resource in (("c", RESOURCES["condition"]), ("d", {**RESOURCES["document"], "status": "superseded"})):
        add(message, name, {**copy.deepcopy(resource), "subject": to("other")})
    assert accepted(message).referral == accepted(a_full_message()).referral


def test_a_relative_of_another_patient_cannot_request():
    relative = {"resourceType": "RelatedPerson", "id": "r", "patient": to("other")}
    message = with_another_patient(changed("request", contained=[relative], requester={"reference": "#r"}))
    assert place("request", "contained", 0, "patient") in faults(message)


def test_another_patient_cannot_request():
    assert faults(with_another_patient(changed("request", requester=to("other")))) == {
        f"Bundle.entry[{LAST}].resource": "not-supported"
    }


# ---- in force -------------------------------------------------------------------------------------------------------


def a_role(organisation: str, **more: Any) -> Json:
    return {"resourceType": "PractitionerRole", "practitioner": to("doctor"), "organization": to(organisation), **more}


@pytest.mark.parametrize("ended", [{"period": PAST}, {"period": FUTURE}, {"active": False}])
def test_of_several_roles_the_one_in_force_counts_in_any_order(ended):
    former = {"resourceType": "Organization", "identifier": [{"system": ODS, "value": "C82993"}], "name": "Former"}
    first = add(a_full_message(), "former", former)
    first["entry"].insert(2, {"fullUrl": "urn:uuid:" + uuid_of("old"), "resource": a_role("former", **ended)})
    last = add(add(a_full_message(), "former", former), "old", a_role("former", **ended))
    for message in (first, last):
        assert accepted(message).referral.referred_by.organisation.ods == "C82991"


def test_roles_in_force_at_two_organisations_are_refused():
    message = add(a_full_message(), "second", a_role("council"))
    assert faults(message)[place("request", "requester")] == "invariant"


@pytest.mark.parametrize("period", [PAST, FUTURE])
@pytest.mark.parametrize("requester", ["role", "doctor"])
def test_a_requester_whose_only_role_is_not_in_force_is_refused(period, requester):
    message = changed("role", period=period)
    resource_in(message, "request")["requester"] = to(requester)
    assert "not-supported" in faults(message).values()


@pytest.mark.parametrize("period", [PAST, FUTURE])
def test_a_practice_of_a_role_that_has_ended_is_not_the_registered_practice(period):
    message = add(a_full_message(), "old", a_role("practice", period=period))
    resource_in(message, "patient")["generalPractitioner"] = [to("old")]
    outcome = accepted(message)
    assert outcome.referral.registered_practice is None
    assert f"Bundle.entry[{LAST}].resource" in outcome.passed_over


def test_a_general_practitioner_by_practitioner_is_the_practice_of_the_role():
    message = changed("patient", generalPractitioner=[to("doctor")])
    assert accepted(message).referral.registered_practice.ods == "C82991"


def test_two_practices_at_once_are_refused_and_a_former_one_is_not():
    second = {"resourceType": "Organization", "identifier": [{"system": ODS, "value": "C82993"}]}
    message = add(changed("patient", generalPractitioner=[to("second"), to("role")]), "second", second)
    assert faults(message) == {place("patient", "generalPractitioner"): "invariant"}
    message["entry"][LAST]["resource"]["active"] = False
    assert accepted(message).referral.registered_practice.ods == "C82991"


@pytest.mark.parametrize("old", [{"use": "old"}, {"period": PAST}, {"period": FUTURE}])
@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("practice", {"system": ODS, "value": "C82993"}, lambda r: r.referred_by.organisation.ods == "C82991"),
        (
            "council",
            {"system": "https://statistics.data.gov.uk/id/statistical-geography", "value": "E07000129"},
            lambda r: r.named_authority == "E07000130",
        ),
        (
            "doctor",
            {"system": "https://fhir.hl7.org.uk/Id/gmc-number", "value": "C9999992"},
            lambda r: r.referred_by.identifier.value == "C9999991",
        ),
    ],
)
def test_an_identifier_that_is_not_in_force_does_not_count(old, name, value, told):
    message = a_full_message()
    resource_in(message, name)["identifier"].insert(0, {**value, **old})
    assert told(accepted(message).referral)


@pytest.mark.parametrize(("name", "at"), [("practice", "identifier"), ("request", "performer")])
def test_two_codes_in_force_are_refused(name, at):
    message = a_full_message()
    of = "practice" if name == "practice" else "council"
    identifiers = resource_in(message, of)["identifier"]
    identifiers.append({**identifiers[0], "value": "C82993" if name == "practice" else "E07000129"})
    assert faults(message)[place(name, at)] == "invariant"


def test_a_former_name_of_the_referrer_does_not_count():
    message = a_full_message()
    resource_in(message, "doctor")["name"].insert(0, {"family": "Formername", "period": PAST})
    assert accepted(message).referral.referred_by.name == "Dr Okafor"


@pytest.mark.parametrize(("period", "count"), [(PAST, 0), (FUTURE, 0), (NOW, 1), (None, 1)])
def test_a_flag_counts_in_its_period(period, count):
    outcome = accepted(changed("flag", period=period))
    assert len(outcome.referral.risk_flags) == count
    assert (place("flag") in outcome.passed_over) is (count == 0)


def test_a_flag_of_a_moment_to_come_does_not_count():
    message = changed("flag", period={"start": "2031-01-01", "end": "2031-01-01"})
    assert accepted(message).referral.risk_flags == ()


def test_every_category_of_a_flag_is_told():
    categories = [coded("https://fhir.nhs.uk/CodeSystem/flag-categories-bars", code) for code in ("SS", "SG")]
    flags = accepted(changed("flag", category=categories)).referral.risk_flags
    assert [flag.code for flag in flags] == ["SS", "SG"]
    assert len({flag.text for flag in flags}) == 1


def test_a_flag_of_one_moment_counts_for_that_is_when_the_concern_was_raised():
    raised = {"start": "2026-11-05T08:00:00Z", "end": "2026-11-05T08:00:00Z"}
    assert len(accepted(changed("flag", period=raised)).referral.risk_flags) == 1


def test_a_plan_that_is_active_outside_its_period_is_refused_and_a_completed_one_is_not():
    assert faults(changed("plan", period=PAST)) == {place("plan", "period"): "not-supported"}
    accepted(changed("plan", period=PAST, status="completed"))


def test_all_is_judged_at_the_time_of_the_message_and_else_of_its_receipt():
    message = changed("flag", period={"end": "2026-11-04"})
    assert accepted(message).referral.risk_flags == ()
    message["timestamp"] = "2026-11-04T12:00:00Z"
    assert len(accepted(message).referral.risk_flags) == 1
    del message["timestamp"]
    assert accepted(message).referral.risk_flags == ()


# ---- the stay -------------------------------------------------------------------------------------------------------


def stay_of(**elements: Any) -> Any:
    return accepted(changed("stay", **elements)).referral


@pytest.mark.parametrize("status", ["planned", "cancelled", "entered-in-error"])
def test_an_encounter_that_has_not_begun_or_did_not_take_place_is_no_stay(status):
    assert stay_of(status=status).hospital is None


@pytest.mark.parametrize("code", ["AMB", "EMER", "FLD", "HH", "OBSENC", "PRENC", "VR"])
def test_an_encounter_outside_a_hospital_is_no_stay(code):
    assert stay_of(class_={**RESOURCES["stay"]["class"], "code": code}).hospital is None


def test_an_encounter_of_an_unknown_class_could_be_a_stay_and_is_refused():
    assert faults(changed("stay", class_={"system": "https://example.org/any", "code": "BED"})) == {
        place("stay", "class"): "value"
    }


def test_who_recorded_a_consent_may_have_left_since_then():
    former = {"resourceType": "Practitioner", "active": False, "name": [{"text": "Dr Former"}]}
    message = add(changed("consent", performer=[to("former")]), "former", former)
    assert accepted(message).referral.consents.referral.by == "Dr Former"


@pytest.mark.parametrize("status", ["arrived", "triaged", "in-progress", "onleave"])
def test_an_encounter_that_goes_on_is_a_stay(status):
    assert stay_of(status=status).hospital.ward == "Ward 7"


@pytest.mark.parametrize(
    ("elements", "at", "kind"),
    [
        ({"status": "unknown"}, "status", "not-supported"),
        ({"status": "finished"}, "period", "required"),
        ({"status": "finished", "period": {"start": "2026-11-01", "end": "2026-11"}}, "period", "required"),
        ({"status": "in-progress", "period": PAST}, "status", "invariant"),
    ],
)
def test_a_stay_of_which_it_is_not_clear_whether_it_goes_on_is_refused(elements, at, kind):
    assert faults(changed("stay", **elements)) == {place("stay", at): kind}


@pytest.mark.parametrize(
    ("name", "elements", "at"),
    [
        ("request", {"authoredOn": "2026-11"}, ["authoredOn"]),
        ("consent", {"dateTime": "2026"}, ["dateTime"]),
        ("patient", {"deceasedDateTime": "2026"}, ["deceasedDateTime"]),
        ("stay", {"period": {"start": "2026"}}, ["period", "start"]),
        (
            "stay",
            {"extension": [{"url": OURS_EXTENSION + "expected-discharge", "valueDate": "2026-12"}]},
            ["extension", 0],
        ),
    ],
)
def test_a_day_that_is_not_said_is_told_to_be_missing(name, elements, at):
    assert place(name, *at) in accepted(changed(name, **elements)).passed_over


def test_a_finished_stay_ends_on_its_day_at_the_ward_that_was_left_last():
    locations = [
        {"status": "completed", "location": {"display": "Ward 1"}, "period": {"end": "2026-11-02"}},
        {"status": "completed", "location": to("ward"), "period": {"start": "2026-11-03", "end": "2026-11-04"}},
    ]
    referral = stay_of(status="finished", period={"start": "2026-11-01", "end": "2026-11-04"}, location=locations)
    assert (referral.discharged_on.isoformat(), referral.hospital.ward) == ("2026-11-04", "Ward 7")


def test_a_finished_stay_that_ends_in_the_future_is_not_over():
    referral = stay_of(status="finished", period={"start": "2026-11-01", "end": "2026-11-12"})
    assert (referral.discharged_on, referral.expected_discharge_on.isoformat()) == (None, "2026-11-12")
    assert referral.is_inpatient


@pytest.mark.parametrize(
    "elsewhere",
    [{"status": "planned"}, {"status": "reserved"}, {"status": "completed"}, {"period": PAST}, {"period": FUTURE}],
)
def test_the_ward_is_where_the_person_is(elsewhere):
    locations = [{"location": {"display": "Another ward"}, **elsewhere}, {"location": to("ward")}]
    assert stay_of(location=locations).hospital.ward == "Ward 7"


# ---- for this service -----------------------------------------------------------------------------------------------

BARS = "https://fhir.nhs.uk/CodeSystem/"
OTHER_USE_CASE = {"system": BARS + "usecases-categories-bars", "code": "a5t1"}
REFERRAL = {"system": BARS + "message-category-servicerequest", "code": "referral"}
HOUSING = {"system": OURS + "usecase", "code": "housing"}


@pytest.mark.parametrize(
    "category",
    [
        [{"coding": [REFERRAL, OTHER_USE_CASE]}],
        [{"coding": [OTHER_USE_CASE, HOUSING]}],
        [{"coding": [REFERRAL]}, {"coding": [HOUSING]}, {"coding": [OTHER_USE_CASE]}],
        [{"coding": [{**OTHER_USE_CASE, "code": "unheard-of"}]}],
        [{"coding": [{**HOUSING, "code": "another"}]}],
    ],
)
@pytest.mark.parametrize("status", ["active", "revoked"])
def test_a_use_case_of_another_service_is_refused_however_it_is_spread(category, status):
    message = changed("request", category=category, status=status)
    assert faults(message) == {
        place("request", "category", index): "not-supported"
        for index, concept in enumerate(category)
        if any(one not in (REFERRAL, HOUSING) for one in concept["coding"])
    }


def test_every_message_category_must_be_referral():
    message = changed("request", category=[{"coding": [REFERRAL]}, {"coding": [{**REFERRAL, "code": "validation"}]}])
    assert faults(message) == {place("request", "category", 1): "not-supported"}


@pytest.mark.parametrize("name", ["request", "patient", "flag", None])
def test_what_says_that_it_is_test_data_is_refused(name):
    label = {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}]}
    message = a_full_message()
    (resource_in(message, name) if name else message)["meta"] = label
    at = place(name, "meta", "security") if name else "Bundle.meta.security"
    assert faults(message) == {at: "not-supported"}


def test_a_category_of_an_unknown_system_is_passed_over():
    accepted(changed("request", category=[{"coding": [{"system": "https://example.org/any", "code": "a5t1"}]}]))


ADVICE = {"basedOn": None, "orderDetail": None, "code": {"text": "a warmer home"}}


def advice(**elements: Any) -> Json:
    """Return a message that requests something in words only."""
    message = changed("request", **{**ADVICE, **elements})
    del message["entry"][list(RESOURCES).index("task")]
    del message["entry"][list(RESOURCES).index("plan")]
    return message


def test_words_only_are_advice_if_the_message_names_our_use_case():
    needs = accepted(advice()).referral.needs
    assert [(one.service, one.text) for one in needs] == [("information-advice", "a warmer home")]


def test_words_only_are_refused_if_nothing_says_that_they_are_for_us():
    message = advice(category=[{"coding": [REFERRAL]}])
    assert faults(message) == {place("request", "category"): "not-supported"}


def at_installation(message: Json, *service_ids: str) -> Translated | Rejection:

    translate = bars_fhir.translator(SERVICES, service_ids)
    body = json.dumps(message).encode()
    return translate(InboundMessage(a_partner("gp-alder-lane", "subset"), body, RECEIVED_AT, ATTACHMENT_KEY))


DESTINATIONS: list[Json] = [
    {"endpoint": f"{DOS}|2000099999"},
    {"endpoint": "https://hub.example.org/fhir", "receiver": to("housing")},
    {"endpoint": "https://hub.example.org/fhir", "receiver": {"identifier": {"system": DOS, "value": "2000099999"}}},
]


@pytest.mark.parametrize("destination", DESTINATIONS)
def test_a_destination_is_ours_by_its_endpoint_or_its_receivers_identifier(destination):
    message = advice(category=[{"coding": [REFERRAL]}])
    message["entry"][0]["resource"]["destination"] = [destination]
    assert isinstance(at_installation(message, f"{ODS}|XYZ", f"{DOS}|2000099999"), Translated)
    refused = at_installation(message, f"{DOS}|1")
    assert isinstance(refused, Rejection)
    assert place("header", "destination") in [issue.place for issue in refused.issues]


def test_without_a_destination_or_service_ids_no_destination_is_judged():
    assert isinstance(at_installation(a_full_message()), Translated)
    assert isinstance(at_installation(changed("header", destination=None), f"{DOS}|1"), Translated)


def test_one_of_several_destinations_may_be_ours():
    message = changed("header", destination=[{"endpoint": f"{DOS}|1"}, {"endpoint": f"{DOS}|2"}])
    assert isinstance(at_installation(message, f"{DOS}|2"), Translated)


@pytest.mark.parametrize(
    ("identifier", "expected"),
    [
        ("https://fhir.nhs.uk/Id/dos-service-id|2000099999", True),
        ("http://fhir.nhs.uk/id/dos-service-id|2000099999 ", True),
        ("https://fhir.nhs.uk/Id/dos-service-id|200009999", False),
        ("https://fhir.nhs.uk/Id/ods-organization-code|2000099999", False),
        ("2000099999", False),
        ("", False),
    ],
)
def test_an_identifier_is_ours_by_system_and_value(identifier, expected):
    assert is_ours(identifier, [f"{DOS}|2000099999"]) is expected


def test_the_time_of_the_tests_is_that_of_the_message():
    assert datetime(2026, 11, 5, 9, 30, tzinfo=UTC) == RECEIVED_AT
    assert isinstance(translated(a_full_message(), "full"), Translated)


# ---- words beside coded services ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("concept", "listed"),
    [
        ({"text": "do not fit a key safe"}, None),
        ({"text": "do not fit a key safe", "coding": [{"system": "urn:local", "code": "k"}]}, "coding"),
        ({"coding": [{"system": "urn:local", "code": "k"}]}, ""),
    ],
)
def test_words_beside_coded_services_are_carried_and_codes_are_listed(concept, listed):
    message = changed("request", code=concept)
    outcome = accepted(message)
    at = place("request") + ".code"
    assert ("do not fit a key safe" in outcome.referral.reason.text.split("\n")) is ("text" in concept)
    assert [one for one in outcome.passed_over if one.startswith(at)] == (
        [] if listed is None else [f"{at}.{listed}".rstrip(".")]
    )
    assert {need.service for need in outcome.referral.needs} == {
        need.service for need in accepted(changed("request")).referral.needs
    }


def test_a_time_is_of_the_day_in_england():
    assert accepted(changed("request", authoredOn="2026-07-31T23:30:00Z")).referral.referred_on == date(2026, 8, 1)
    assert accepted(changed("request", authoredOn="2026-08-01T00:30:00+02:00")).referral.referred_on == date(
        2026, 7, 31
    )


DISPOSITION = "http://terminology.hl7.org/CodeSystem/discharge-disposition"
DESTINATION = "https://fhir.hl7.org.uk/CodeSystem/UKCore-DischargeDestinationEngland"


@pytest.mark.parametrize(
    ("system", "code", "report"),
    [(DISPOSITION, "exp", DeathReport()), (DESTINATION, "79", DeathReport()), (DISPOSITION, "home", None)],
)
@pytest.mark.parametrize("status", ["active", "revoked"])
def test_a_discharge_by_death_reports_a_death(system: str, code: str, report: Any, status: str) -> None:
    disposition = {"coding": [{"system": system, "code": code}]}
    message = changed("stay", hospitalization={"dischargeDisposition": disposition})
    resource_in(message, "request")["status"] = status
    outcome = accepted(message)
    found = outcome.referral.person.death_reported if outcome.referral else outcome.death_reported
    assert found == report
    assert (place("stay", "hospitalization") in outcome.passed_over) is (report is None)
