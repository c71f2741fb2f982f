"""The person of a FHIR message is what was in force when the message was made, whatever else the Patient lists."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.nhs_number import VerificationStatus
from schemas.referral import Address, Contact, ContactPoint, ContactPreference, DeathReport, Person, Referral
from services.intake.translators.bars_fhir import decode
from services.intake.translators.bars_fhir.bundle_index import BundleIndex
from services.intake.translators.bars_fhir.models import Patient
from services.intake.translators.bars_fhir.person import person
from services.intake.translators.translator import Rejection, Translated
from tests.builders.bars import a_bars_message, as_bytes
from tests.contract.translators.adapters import ADAPTERS, CHECKOUT, RECEIVED_AT

FULL, SUBSET = (one for one in ADAPTERS if one.name == "bars_fhir")
FIELD = CHECKOUT / "tests" / "field" / "fhir"
BASE = "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-"
CODES = "https://fhir.hl7.org.uk/CodeSystem/UKCore-"
PDS = "https://fhir.nhs.uk/R4/StructureDefinition/Extension-UKCore-"
MADE = "2026-11-05T09:30:00+00:00"

quickly = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def outcome(patient: dict[str, Any], adapter: Any = FULL) -> Translated | Rejection:
    body = as_bytes(a_bars_message(seed="person", bundle_id="person-1", sent_at=MADE, patient=patient))
    result = adapter.translate(adapter.delivery(body))
    assert isinstance(result, Translated | Rejection)
    return result


def referral_of(result: Translated | Rejection) -> Referral:
    assert isinstance(result, Translated), result
    assert result.referral is not None
    return result.referral


def read(patient: dict[str, Any], adapter: Any = FULL) -> Person:
    return referral_of(outcome(patient, adapter)).person


def faults(patient: dict[str, Any]) -> list[tuple[str, str]]:
    result = outcome(patient)
    assert isinstance(result, Rejection), result
    return [(fault.place.partition(".resource.")[2], fault.kind) for fault in result.issues]


def from_field(name: str) -> Translated | Rejection:
    return received_later((FIELD / f"{name}.json").read_bytes())


def received_later(body: bytes) -> Translated | Rejection:
    """Return the outcome of a message of the field, all of which were made after those of these tests."""
    inbound = FULL.delivery(body)
    received_at = datetime(2026, 11, 29, 12, tzinfo=UTC)
    result = FULL.translate(replace(inbound, received_at=received_at, request_id="r-1", correlation_id="c-1"))
    assert isinstance(result, Translated | Rejection)
    return result


# ---- families: of many, the one in force ----------------------------------------------------------------------------

HOLDS = [
    None,
    {"start": "2020"},
    {"start": "2026-11-05"},
    {"end": "2026-11"},
    {"start": "1990-01-01", "end": "9999-12-31"},
]
HOLDS_NOT = [
    {"end": "2026-11-04"},
    {"start": "1990", "end": "2026-10"},
    {"end": "2026-11-05T09:29:59Z"},
    {"start": "2026-11-06"},
    {"start": "2027", "end": "2030"},
    {"start": "2026-11-05T10:30:01+01:00"},
]


def _with_periods(uses: list[str | None], extra: dict[str, Any]) -> st.SearchStrategy[list[dict[str, Any]]]:
    one = st.fixed_dictionaries(
        {
            "use": st.sampled_from(uses),
            "period": st.sampled_from(HOLDS + HOLDS_NOT),
            **{name: st.sampled_from(values) for name, values in extra.items()},
        }
    )
    return st.lists(one, max_size=6).map(
        lambda ones: [
            {"number": number} | {name: value for name, value in entry.items() if value is not None}
            for number, entry in enumerate(ones)
        ]
    )


def _holds(entry: dict[str, Any]) -> bool:
    return entry.get("period") in HOLDS


def _key(entry: dict[str, Any]) -> Any:
    return entry.get("rank"), entry.get("use"), entry.get("type"), entry.get("period", {}).get("start")


def _is_clear(entries: list[dict[str, Any]]) -> bool:
    """Whether no two entries are of one rank, so that their order must not matter."""
    keys = [_key(entry) for entry in entries]
    return len(set(keys)) == len(keys)


def _plain(entries: list[dict[str, Any]], **more: Any) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in entry.items() if name != "number"}
        | {name: make(entry["number"]) for name, make in more.items()}
        for entry in entries
    ]


NAMES = _with_periods(["official", "usual", "temp", "nickname", "anonymous", "old", "maiden", None], {})


@given(entries=NAMES, data=st.data())
@quickly
def test_the_name_is_the_best_one_in_force_in_any_order(entries: list[dict[str, Any]], data: st.DataObject) -> None:
    usable = [one for one in entries if _holds(one) and one.get("use") not in ("old", "maiden", "nickname")]
    result = outcome({"name": _plain(entries, family=lambda n: f"Name{n}")}, SUBSET)
    if not usable:
        assert isinstance(result, Rejection)
        assert [(fault.place[-5:], fault.kind) for fault in result.issues] == [(".name", "required")]
        return
    family = referral_of(result).person.family_name
    best = [
        use for use in ("official", "usual", None, "temp", "anonymous") if use in {one.get("use") for one in usable}
    ]
    assert family in {f"Name{one['number']}" for one in usable if one.get("use") == best[0]}
    shuffled = data.draw(st.permutations(entries))
    if _is_clear(usable):
        assert read({"name": _plain(shuffled, family=lambda n: f"Name{n}")}, SUBSET).family_name == family


ADDRESSES = _with_periods(
    ["home", "temp", "work", "billing", "old", None], {"type": ["postal", "physical", "both", None]}
)


def _streets(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return _plain(entries, line=lambda n: [f"{n} Any Lane"], postalCode=lambda n: f"LE11 {n}AA")


@given(entries=ADDRESSES, data=st.data())
@quickly
def test_the_address_is_the_home_in_force_else_a_temporary_one_in_any_order(
    entries: list[dict[str, Any]], data: st.DataObject
) -> None:
    lived_at = [
        one
        for one in entries
        if _holds(one) and one.get("type") != "postal" and one.get("use") in ("home", "temp", None)
    ]
    person = read({"address": _streets(entries)}, SUBSET)
    best = [use for use in ("home", None, "temp") if use in {one.get("use") for one in lived_at}]
    homes = {f"LE11 {one['number']}AA" for one in lived_at if best and one.get("use") == best[0]}
    temporary = {f"LE11 {one['number']}AA" for one in lived_at if one.get("use") == "temp" != best[0]}
    assert (person.address.postcode if person.address else None) in (homes or {None})
    assert (person.temporary_address.postcode if person.temporary_address else None) in (temporary or {None})
    if _is_clear([{**one, "type": None} for one in lived_at]):
        assert read({"address": _streets(data.draw(st.permutations(entries)))}, SUBSET) == person


TELECOM = _with_periods(
    ["home", "mobile", "work", "temp", "old", None],
    {"system": ["phone", "email", "sms", "fax", "pager", "url", "other"], "rank": [1, 2, None, None]},
)


@given(entries=TELECOM, data=st.data())
@quickly
def test_every_contact_point_in_force_is_carried_once_and_no_other(
    entries: list[dict[str, Any]], data: st.DataObject
) -> None:
    person = read({"telecom": _plain(entries, value=lambda n: f"point {n}")}, SUBSET)
    carried = [person.phone, person.email, *(point.value for point in person.other_contact_points)]
    expected = [one for one in entries if _holds(one) and one.get("use") != "old"]
    assert sorted(filter(None, carried)) == [f"point {one['number']}" for one in expected]
    for system, value in (("phone", person.phone), ("email", person.email)):
        ranks = [one.get("rank", 99) for one in expected if one["system"] == system]
        chosen = [one.get("rank", 99) for one in expected if f"point {one['number']}" == value]
        assert chosen == ([min(ranks)] if ranks else [])
    if _is_clear(expected):
        shuffled = _plain(data.draw(st.permutations(entries)), value=lambda n: f"point {n}")
        assert read({"telecom": shuffled}, SUBSET) == person


SYNTHETIC = ["9990000018", "9990000026", "9990000034"]


def an_identifier(value: str | None, code: str | None = None, system: str = CODES, **more: Any) -> dict[str, Any]:
    status = {
        "url": BASE + "NHSNumberVerificationStatus",
        "valueCodeableConcept": {"coding": [{"system": system + "NHSNumberVerificationStatus", "code": code}]},
    }
    identifier = {"system": "https://fhir.nhs.uk/Id/nhs-number", "value": value, **more}
    return {name: item for name, item in identifier.items() if item} | ({"extension": [status]} if code else {})


IDENTIFIERS = st.lists(
    st.tuples(st.sampled_from(SYNTHETIC), st.sampled_from(["usual", "old", None]), st.sampled_from(HOLDS + HOLDS_NOT)),
    max_size=4,
)


@given(entries=IDENTIFIERS, data=st.data())
@quickly
def test_the_number_is_the_one_in_force_with_the_status_that_stands_at_it(
    entries: list[tuple[str, str | None, Any]], data: st.DataObject
) -> None:
    statuses = dict(zip(SYNTHETIC, ["01", "02", "03"], strict=True))
    identifiers = [an_identifier(n, statuses[n], use=use, period=period) for n, use, period in entries]
    current = {number for number, use, period in entries if use != "old" and period in HOLDS}
    result = outcome({"identifier": data.draw(st.permutations(identifiers))}, SUBSET)
    if len(current) > 1:
        assert isinstance(result, Rejection)
        assert {fault.place[-11:] for fault in result.issues} == {".identifier"}
        return
    person = referral_of(result).person
    assert person.nhs_number == next(iter(current), None)
    assert person.nhs_number_status == (statuses[person.nhs_number] if person.nhs_number else "not-stated")


# ---- NHS number and its status --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "system",
    [
        "https://fhir.hl7.org.uk/CodeSystem/UKCore-NHSNumberVerificationStatus",
        "https://fhir.hl7.org.uk/CodeSystem/UKCore-NHSNumberVerificationStatusEngland",
        "http://fhir.hl7.org.uk/codesystem/UKCore-NHSNumberVerificationStatus/",
        "https://fhir.nhs.uk/R4/CodeSystem/UKCore-NHSNumberVerificationStatus",
        "https://fhir.nhs.uk/CodeSystem/UKCore-NHSNumberVerificationStatusEngland",
    ],
)
@pytest.mark.parametrize(
    ("code", "status"),
    [("01", "01"), ("02", "02"), ("08", "08"), ("number-present-and-verified", "01"), ("trace-postponed", "08")],
)
@pytest.mark.parametrize("extension", [BASE, PDS])
def test_either_kind_of_status_code_is_read_under_every_address_of_the_code_system(
    system: str, code: str, status: str, extension: str
) -> None:
    stated = {
        "url": extension + "NHSNumberVerificationStatus",
        "valueCodeableConcept": {"coding": [{"system": system, "code": code}]},
    }
    identifier = {"extension": [stated], "system": "https://fhir.nhs.uk/Id/nhs-number", "value": SYNTHETIC[0]}
    assert read({"identifier": [identifier]}).nhs_number_status == status


def test_a_status_code_that_uk_core_does_not_have_is_refused_at_its_identifier() -> None:
    assert faults({"identifier": [an_identifier(SYNTHETIC[0], "09")]}) == [("identifier[0].extension", "value")]


def test_a_status_code_of_another_code_system_states_nothing() -> None:
    identifier = an_identifier(SYNTHETIC[0], "01", system="https://wales.example.org/CodeSystem/")
    assert read({"identifier": [identifier]}).nhs_number_status is VerificationStatus.NOT_STATED


def test_two_statuses_of_one_number_are_refused() -> None:
    identifiers = [an_identifier(SYNTHETIC[0], "01"), an_identifier(SYNTHETIC[0], "02")]
    assert faults({"identifier": identifiers}) == [("identifier", "invariant")]


def test_the_status_that_stands_at_an_identifier_without_a_number_counts_only_if_no_other_has_one() -> None:
    empty = an_identifier(None, "07")
    assert read({"identifier": [empty]}).nhs_number_status is VerificationStatus.NOT_PRESENT
    both = read({"identifier": [empty, an_identifier(SYNTHETIC[0], "01")]})
    assert (both.nhs_number, both.nhs_number_status) == (SYNTHETIC[0], VerificationStatus.VERIFIED)


@pytest.mark.parametrize(
    "system",
    [
        "http://fhir.nhs.net/Id/nhs-number",
        "https://fhir.nhs.uk/id/nhs-number",
        "urn:oid:2.16.840.1.113883.2.1.4.1",
    ],
)
def test_the_number_is_known_by_every_system_that_names_it(system: str) -> None:
    person = read({"identifier": [an_identifier(SYNTHETIC[0]) | {"system": system}]})
    assert (person.nhs_number, person.local_ids) == (SYNTHETIC[0], ())


# ---- birth, death, restriction --------------------------------------------------------------------------------------


@pytest.mark.parametrize("born", ["1948", "1948-02", "2026-11-06", "2048-01-01", "1895-12-31"])
def test_a_partial_or_impossible_birth_date_is_refused_at_its_place(born: str) -> None:
    assert faults({"birthDate": born}) == [("birthDate", "value")]


@pytest.mark.parametrize("born", ["2026-11-05", "1896-01-01"])
def test_somebody_born_on_the_day_or_130_years_ago_is_taken(born: str) -> None:
    assert read({"birthDate": born}).birth_date == date.fromisoformat(born)


def a_notice(code: str, base: str = BASE, codes: str = CODES) -> dict[str, Any]:
    coding = {"system": codes + "DeathNotificationStatus", "code": code}
    return {
        "url": base + "DeathNotificationStatus",
        "extension": [
            {"url": "deathNotificationStatus", "valueCodeableConcept": {"coding": [coding]}},
            {"url": "systemEffectiveDate", "valueDateTime": "2026-10-22T00:00:00+00:00"},
        ],
    }


PDS_CODES = "https://fhir.nhs.uk/R4/CodeSystem/UKCore-"
ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
FORMAL_NOTICE = {"url": "deathNotificationStatus", "valueCodeableConcept": {"text": "formal death notice"}}


DEATHS: list[tuple[dict[str, Any], DeathReport | None]] = [
    ({}, None),
    ({"deceasedBoolean": False}, None),
    ({"extension": [a_notice("U")]}, None),
    ({"deceasedBoolean": False, "extension": [a_notice("U")]}, None),
    ({"deceasedBoolean": True}, DeathReport()),
    ({"deceasedDateTime": "2026-11-01"}, DeathReport(died_on=date(2026, 11, 1))),
    ({"deceasedDateTime": "2026-10-22T23:30:00+00:00"}, DeathReport(died_on=date(2026, 10, 22))),
    ({"deceasedDateTime": "2026-11"}, DeathReport()),
    ({"deceasedDateTime": "2026"}, DeathReport()),
    ({"deceasedDateTime": "2027-01-01"}, DeathReport()),
    ({"extension": [a_notice("1")]}, DeathReport()),
    ({"extension": [a_notice("2", PDS, PDS_CODES)]}, DeathReport()),
    ({"extension": [a_notice("new code")]}, DeathReport()),
    ({"deceasedBoolean": False, "extension": [a_notice("2")]}, DeathReport()),
    ({"deceasedDateTime": "2026-11-01", "extension": [a_notice("U")]}, DeathReport(died_on=date(2026, 11, 1))),
    ({"_deceasedDateTime": {"extension": [{"url": ABSENT, "valueCode": "unknown"}]}}, DeathReport()),
    ({"extension": [a_notice("2", BASE, "https://example.org/other-")]}, DeathReport()),
    ({"extension": [a_notice("U", BASE, "https://example.org/other-")]}, None),
    ({"extension": [{"url": BASE + "DeathNotificationStatus", "extension": [FORMAL_NOTICE]}]}, DeathReport()),
]


@pytest.mark.parametrize(("patient", "report"), DEATHS)
def test_a_death_is_reported_if_anything_states_it_and_dated_by_a_whole_date(patient: Any, report: Any) -> None:
    assert read(patient).death_reported == report


@pytest.mark.parametrize("cancelling", [{"status": "revoked"}, {"consents": {"referral": "deny"}}])
@pytest.mark.parametrize(("patient", "report"), DEATHS)
def test_a_cancel_reports_a_death_as_a_referral_does(patient: Any, report: Any, cancelling: dict[str, Any]) -> None:
    given_ = {"seed": "person", "bundle_id": "person-1", "sent_at": MADE, "reason": "update", **cancelling}
    body = as_bytes(a_bars_message(patient=patient, **given_))
    found = FULL.translate(FULL.delivery(body))
    assert isinstance(found, Translated), found
    assert (found.intent, found.death_reported) == ("cancel", report)
    plain = FULL.translate(FULL.delivery(as_bytes(a_bars_message(**given_))))
    assert isinstance(plain, Translated), plain
    assert (found.content_hash == plain.content_hash) is (report is None)


CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"


@pytest.mark.parametrize(
    ("label", "restricted"),
    [
        ({"system": CONFIDENTIALITY, "code": "R"}, True),
        ({"system": CONFIDENTIALITY, "code": "V"}, True),
        ({"system": CONFIDENTIALITY, "code": "stricter"}, True),
        ({"system": "https://www.hl7.org/fhir/valueset-security-labels.html", "code": "R"}, True),
        ({"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "SDV"}, True),
        ({"code": "R"}, True),
        ({"system": CONFIDENTIALITY, "code": "U"}, False),
        ({"system": CONFIDENTIALITY, "code": "L"}, False),
        ({"system": CONFIDENTIALITY, "code": "M"}, False),
        ({"system": CONFIDENTIALITY, "code": "N"}, False),
        ({"system": "https://www.hl7.org/fhir/valueset-security-labels.html", "code": "U"}, False),
        ({"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "TREAT"}, False),
        ({"system": "urn:oid:2.16.840.1.113883.5.25", "code": "R"}, True),
        ({"system": "https://example.org/a-misspelled-system", "code": "V"}, True),
    ],
)
def test_a_label_stricter_than_normal_restricts_access(label: dict[str, str], restricted: bool) -> None:
    assert read({"meta": {"security": [label]}}).restricted_access is restricted
    assert read({}).restricted_access is False
    normal = {"system": CONFIDENTIALITY, "code": "N"}
    assert read({"meta": {"security": [normal, label]}}).restricted_access is restricted


def test_a_record_that_pds_invalidated_is_refused() -> None:
    labels = [{"system": CONFIDENTIALITY, "code": "REDACTED"}]
    assert faults({"meta": {"security": labels}}) == [("meta.security", "business-rule")]


# ---- addresses ------------------------------------------------------------------------------------------------------


def test_a_temporary_address_is_carried_beside_the_home_with_its_period() -> None:
    home = {"use": "home", "line": ["1 Any Lane"], "postalCode": "LE11 5AA", "period": {"start": "1990"}}
    temporary = {
        "use": "temp",
        "line": ["9 Other Lane"],
        "postalCode": "LE2 4TY",
        "period": {"start": "2026-11-01", "end": "2027-01-31"},
    }
    person = read({"address": [temporary, home]})
    assert person.address == Address(lines=("1 Any Lane",), postcode="LE11 5AA")
    assert person.temporary_address == Address(
        lines=("9 Other Lane",), postcode="LE2 4TY", since=date(2026, 11, 1), until=date(2027, 1, 31)
    )


def test_a_person_whose_addresses_have_all_ended_has_none() -> None:
    ended = {"use": "home", "line": ["1 Any Lane"], "postalCode": "LE11 5AA", "period": {"end": "2019"}}
    telephone = {"system": "phone", "value": "0116 496 0001", "period": {"end": "2019"}}
    person = read({"address": [ended], "telecom": [telephone]})
    assert (person.address, person.temporary_address, person.phone) == (None, None, None)


def test_the_uprn_is_read_under_either_address_of_the_extension() -> None:
    key = {
        "url": PDS + "AddressKey",
        "extension": [
            {"url": "type", "valueCoding": {"system": PDS_CODES + "AddressKeyType", "code": "UPRN"}},
            {"url": "value", "valueString": "100030000001"},
        ],
    }
    person = read({"address": [{"extension": [key], "use": "home", "line": ["1 Any Lane"], "postalCode": "LE11 5AA"}]})
    assert person.address is not None
    assert person.address.uprn == "100030000001"


# ---- telecom and preferences ----------------------------------------------------------------------------------------


def a_textphone(base: str) -> dict[str, Any]:
    coding = {"system": CODES + "OtherContactSystem", "code": "textphone", "display": "Minicom (Textphone)"}
    return {"url": base + "OtherContactSystem", "valueCoding": coding}


@pytest.mark.parametrize(
    "place",
    [
        {"extension": [a_textphone(BASE)]},
        {"extension": [a_textphone(PDS)]},
        {"_system": {"extension": [a_textphone(BASE)]}},
    ],
)
def test_a_textphone_is_told_apart_where_pds_and_where_uk_core_say_so(place: dict[str, Any]) -> None:
    point = {"system": "other", "value": "0116 496 0003", "use": "home"} | place
    person = read({"telecom": [point]})
    assert person.phone is None
    assert person.other_contact_points == (ContactPoint(system="textphone", value="0116 496 0003", use="home"),)


def test_a_number_given_twice_is_carried_once() -> None:
    points = [{"system": "phone", "value": "0116 496 0001", "use": use} for use in ("home", "mobile", "work")]
    person = read(
        {"telecom": [*points, {"system": "sms", "value": "07700 900123"}, {"system": "sms", "value": "07700 900123"}]}
    )
    assert person.phone == "0116 496 0001"
    assert person.other_contact_points == (ContactPoint(system="sms", value="07700 900123"),)


def a_preference(**parts: Any) -> dict[str, Any]:
    nested = [{"url": name, **value} for name, value in parts.items()]
    return {"extension": [{"url": BASE + "ContactPreference", "extension": nested}]}


def coded(system: str, code: str, **more: str) -> dict[str, Any]:
    return {"valueCodeableConcept": {"coding": [{"system": CODES + system, "code": code, **more}]}}


METHOD, FORMAT = "PreferredContactMethod", "PreferredWrittenCommunicationFormat"
MORNINGS = {"repeat": {"dayOfWeek": ["mon", "wed"], "timeOfDay": ["10:30:00"], "when": ["MORN"]}}


@pytest.mark.parametrize(
    ("parts", "preference"),
    [
        ({METHOD: coded(METHOD, "8")}, ContactPreference(method="no telephone contact")),
        ({METHOD: coded(METHOD, "1", display="Letter")}, ContactPreference(method="letter")),
        ({METHOD: coded(METHOD, "77", display="By pigeon")}, ContactPreference(method="By pigeon")),
        ({METHOD: coded(METHOD, "77")}, ContactPreference(method="77")),
        ({METHOD: {"valueCodeableConcept": {"text": "by post"}}}, ContactPreference(method="by post")),
        ({FORMAT: coded(FORMAT, "12")}, ContactPreference(written_format="braille")),
        ({"PreferredContactTimes": {"valueString": "Not after 7pm"}}, ContactPreference(times="Not after 7pm")),
        (
            {"PreferredContactTimes": {"valueTiming": MORNINGS}},
            ContactPreference(times="mon, wed, 10:30, in the morning"),
        ),
        ({"PreferredContactTimes": {"valueTiming": {"code": {"text": "any day"}}}}, ContactPreference(times="any day")),
        (
            {METHOD: coded(METHOD, "3"), "PreferredContactTimes": {"valueString": "am"}, FORMAT: coded(FORMAT, "11")},
            ContactPreference(method="telephone", times="am", written_format="large print"),
        ),
    ],
)
def test_how_the_person_wants_to_be_contacted_is_read(parts: Any, preference: ContactPreference) -> None:
    assert read(a_preference(**parts)).preferred_contact == preference


def test_every_wish_counts_however_the_preferences_are_spread() -> None:
    wishes = [a_preference(**{METHOD: coded(METHOD, code)})["extension"][0] for code in ("1", "8")]
    both = ContactPreference(method="letter; no telephone contact")
    assert read({"extension": wishes}).preferred_contact == both
    assert (
        read({"extension": [{**wishes[0], "extension": [one["extension"][0] for one in wishes]}]}).preferred_contact
        == both
    )


# ---- language -------------------------------------------------------------------------------------------------------


def nhs_communication(code: str, base: str = BASE, **parts: bool) -> dict[str, Any]:
    language = {"coding": [{"system": CODES + "HumanLanguage", "code": code}]}
    nested = [{"url": name, "valueBoolean": value} for name, value in parts.items()]
    return {
        "url": base + "NHSCommunication",
        "extension": [{"url": "language", "valueCodeableConcept": language}, *nested],
    }


def spoken(code: str, **more: Any) -> dict[str, Any]:
    return {"language": {"coding": [{"system": "urn:ietf:bcp:47", "code": code}]}, **more}


@pytest.mark.parametrize(
    ("patient", "expected"),
    [
        ({"extension": [nhs_communication("gu", interpreterRequired=True)]}, ("gu", True)),
        ({"extension": [nhs_communication("fr", PDS, interpreterRequired=False)]}, ("fr", False)),
        ({"extension": [nhs_communication("fr"), nhs_communication("gu", preferred=True)]}, ("gu", None)),
        ({"extension": [nhs_communication("gu")], "communication": [spoken("en")]}, ("gu", None)),
        ({"extension": [nhs_communication("gu")], "communication": [spoken("pa", preferred=True)]}, ("pa", None)),
        ({"communication": [spoken("en"), spoken("pa", preferred=True)]}, ("pa", None)),
        ({"communication": [{"language": {"text": "Makaton"}}]}, ("Makaton", None)),
        (
            {
                "communication": [
                    {
                        "language": {
                            "coding": [
                                {"system": "http://snomed.info/sct", "code": "703963007", "display": "Makaton"},
                                {"system": "urn:ietf:bcp:47", "code": "bfi"},
                            ]
                        }
                    }
                ]
            },
            ("bfi", None),
        ),
    ],
)
def test_the_preferred_language_and_the_need_for_an_interpreter_are_read(patient: Any, expected: Any) -> None:
    person = read(patient)
    assert (person.language, person.interpreter_needed) == expected


# ---- contacts -------------------------------------------------------------------------------------------------------


def a_contact(name: str, rank: int | None = None, **more: Any) -> dict[str, Any]:
    ranks = [{"url": BASE + "ContactRank", "valuePositiveInt": rank}] if rank else []
    return {
        **({"extension": ranks} if ranks else {}),
        "relationship": [{"text": "neighbour"}],
        "name": {"family": name},
        "telecom": [{"system": "phone", "value": f"0116 {name}"}],
        **more,
    }


CONTACTS = st.lists(st.tuples(st.sampled_from([1, 2, 3, None]), st.sampled_from(HOLDS + HOLDS_NOT)), max_size=5)


@given(entries=CONTACTS)
@quickly
def test_contacts_come_by_rank_and_ended_ones_never(entries: list[tuple[int | None, Any]]) -> None:
    given_contacts = [
        a_contact(f"Name{n}", rank, **({"period": period} if period else {}))
        for n, (rank, period) in enumerate(entries)
    ]
    contacts = referral_of(outcome({"contact": given_contacts}, SUBSET)).contacts
    expected = [(rank or 99, f"Name{n}") for n, (rank, period) in enumerate(entries) if period in HOLDS]
    assert [(contact.rank or 99, contact.name) for contact in contacts] == sorted(expected, key=lambda one: one[0])


def test_a_former_husband_is_not_next_of_kin_and_an_emergency_number_needs_no_name() -> None:
    former = a_contact("Vance", period={"end": "2020-01-01"})
    emergency = {
        "relationship": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0131", "code": "C"}]}],
        "telecom": [{"system": "phone", "value": "0116 496 0004"}],
    }
    referral = referral_of(outcome({"contact": [former, emergency]}))
    assert referral.contacts == (Contact(relationship="emergency contact", phone="0116 496 0004"),)


def test_the_persons_own_telephone_in_a_contact_that_has_ended_is_not_theirs_any_more() -> None:
    oneself = [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-RoleCode", "code": "ONESELF"}]}]
    ended = {"relationship": oneself, "telecom": [{"system": "phone", "value": "0116 1"}], "period": {"end": "2020"}}
    current = {"relationship": oneself, "telecom": [{"system": "phone", "value": "0116 2"}]}
    referral = referral_of(outcome({"telecom": [], "contact": [ended, current]}, SUBSET))
    assert (referral.person.phone, referral.contacts) == ("0116 2", ())


def test_the_places_of_what_does_not_count_are_noted() -> None:
    patient = {
        "name": [
            {"use": "maiden", "family": "Before"},
            {"family": "Now"},
            {"family": "Past", "period": {"end": "2019"}},
        ],
        "address": [{"type": "postal", "line": ["PO Box 1"]}, {"use": "home", "line": ["1 Any Lane"]}, {"use": "work"}],
        "telecom": [{"system": "phone", "value": "0116 1", "use": "old"}, {"system": "phone", "value": "0116 2"}],
        "contact": [
            a_contact("Vance", period={"start": "2027"}),
            a_contact("Okafor", telecom=[{"system": "email", "value": "any"}, {"system": "phone", "value": "0116 3"}]),
        ],
        "communication": [spoken("en"), spoken("pa", preferred=True)],
        "identifier": [an_identifier(SYNTHETIC[0], period={"end": "2019"}), an_identifier(SYNTHETIC[1])],
    }
    decoded = decode.read(as_bytes(a_bars_message(sent_at=MADE, patient=patient)))
    assert not isinstance(decoded, Rejection)
    message = BundleIndex(decoded, RECEIVED_AT)
    person(message, next(message.all(Patient)), homeless=False)
    assert {place.partition(".resource.")[2] for place in message.left_out} == {
        "identifier[0]",
        "name[0]",
        "name[2]",
        "telecom[0]",
        "address[0]",
        "address[2]",
        "contact[0]",
        "contact[1].telecom[0]",
        "communication[0]",
    }
    assert len(message.left_out) == 9


def test_a_further_name_or_address_that_is_in_force_is_noted() -> None:
    names = [{"use": "usual", "family": "Other"}, {"use": "official", "family": "Now"}]
    homes = [{"use": "home", "line": [f"{n} Any Lane"], "postalCode": "LE11 5AA"} for n in range(2)]
    result = outcome({"name": names, "address": homes})
    assert isinstance(result, Translated)
    assert [place.partition(".resource.")[2] for place in result.passed_over] == ["name[0]", "address[1]"]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("Student Accommodation", ("Student Accommodation", "1 Any Lane")),
        ("1 ANY LANE, Loughborough, LE11 5AA", ("1 Any Lane",)),
    ],
)
def test_the_text_of_an_address_is_a_line_unless_it_repeats_the_lines(text: str, lines: tuple[str, ...]) -> None:
    address = {"use": "home", "text": text, "line": ["1 Any Lane"], "postalCode": "LE11 5AA"}
    assert read({"address": [address]}).address == Address(lines=lines, postcode="LE11 5AA")


def test_every_relationship_of_a_contact_is_told() -> None:
    coded = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0131", "code": "N"}]}
    contact = a_contact("Vance", relationship=[coded, {"text": "daughter"}, {"text": "daughter"}])
    assert referral_of(outcome({"contact": [contact]})).contacts[0].relationship == "next of kin, daughter"


# ---- messages from the field ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "path", "value"),
    [
        ("address-ended", "person.address.postcode", "LE11 3HH"),
        ("address-postal-first", "person.address.postcode", "LE11 3HH"),
        ("name-ended", "person.family_name", "Nowname"),
        ("telephone-ended", "person.phone", "01632 960222"),
        ("nhs-number-ended", "person.nhs_number", "9995806576"),
        ("contact-ended", "contacts", ()),
        ("patient-deceased", "person.death_reported.died_on", date(2026, 11, 1)),
        ("pds-verified", "person.nhs_number_status", "01"),
        ("pds-restricted", "person.restricted_access", True),
        ("pds-interpreter", "person.interpreter_needed", True),
        ("pds-interpreter", "person.language", "gu"),
        ("sms-only", "person.other_contact_points", (ContactPoint(system="sms", value="07700 900123"),)),
    ],
)
def test_a_message_from_the_field_is_read_as_it_was_meant(case: str, path: str, value: Any) -> None:
    here: Any = referral_of(from_field(case))
    for part in path.split("."):
        here = getattr(here, part)
    assert here == value


def test_a_birth_year_alone_is_refused_at_its_place() -> None:
    result = from_field("birth-date-year-only")
    assert isinstance(result, Rejection)
    assert [fault.place.partition(".resource.")[2] for fault in result.issues] == ["birthDate"]


def test_a_number_under_the_older_system_is_the_same_number() -> None:
    message = json.loads((FIELD / "control.json").read_text())
    body = json.dumps(message).replace("https://fhir.nhs.uk/Id/nhs-number", "http://fhir.nhs.net/Id/nhs-number")
    result = referral_of(received_later(body.encode()))
    assert (result.person.nhs_number is not None, result.person.local_ids) == (True, ())
