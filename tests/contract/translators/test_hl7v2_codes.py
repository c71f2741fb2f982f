"""What the codes and words of an HL7 v2 message mean: either code, words without one, and what a person has to read."""

import base64
import dataclasses
from typing import Any

import pytest

from schemas.referral import Referral
from services.intake.translators.hl7v2 import field_paths
from services.intake.translators.translator import Translated
from tests.builders.hl7v2 import a_uhl_message, an_lpt_message
from tests.contract.translators.adapters import ADAPTERS, Adapter
from tests.contract.translators.golden_pairs import GOLDEN

UHL, LPT = (next(one for one in ADAPTERS if one.name == f"hl7v2-{name}") for name in ("uhl", "lpt"))


def translated(**changes: Any) -> Translated:
    outcome = UHL.translate(UHL.delivery(a_uhl_message(**changes)))
    assert isinstance(outcome, Translated), outcome
    return outcome


def referral(**changes: Any) -> Referral:
    found = translated(**changes).referral
    assert found is not None
    return found


def places(found: Referral) -> list[str]:
    return [part.place for part in found.to_be_read]


def obx(code: str, value: str, kind: str = "CE", status: str = "F") -> str:
    return f"OBX|9|{kind}|{code}||{value}||||||{status}"


@pytest.mark.parametrize("status", ["D", "d", "W", "w", "x", "n"])
def test_a_retracted_observation_says_nothing_in_either_case(status: str) -> None:
    assert referral(more=[obx("LB-DOG", "Y", "IS", status)]).risk_flags == ()
    assert [flag.code for flag in referral(more=[obx("LB-DOG", "Y", "is")]).risk_flags] == ["dog"]


# ---- either code, or words -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "priority"),
    [
        ("U", "urgent"),
        ("^Urgent", "urgent"),
        ("^^^^urgent", "urgent"),
        ("9^Other^X^U^Urgent^HL70280", "urgent"),
        ("S^STAT", "stat"),
        ("^stat", "stat"),
        ("^ASAP", "asap"),
        ("R^Urgent", "routine"),
        ("", "routine"),
    ],
)
def test_a_priority_is_known_by_either_code_or_by_its_words(written: str, priority: str) -> None:
    found = referral(fields={"RF1-2": written})
    assert (found.priority, places(found)) == (priority, [])


@pytest.mark.parametrize("written", ["9", "PRONTO^Urgent", "^quickly", "U^^^R", "^^^9"])
def test_a_priority_that_is_not_agreed_is_read_by_a_person(written: str) -> None:
    (part,) = referral(fields={"RF1-2": written}).to_be_read
    assert (part.place, part.kind, part.text) == ("RF1-2", "value", written)


@pytest.mark.parametrize(
    ("code", "value", "kind"),
    [
        ("LB-CONSENT-GP", "N", "CE"),
        ("59284-0^Consent^LN^LB-CONSENT-GP^GP^L", "N^No", "CE"),
        ("^^^LB-CONSENT-GP", "N^No", "CWE"),
        ("^lb-consent-gp", "N", "IS"),
        ("LB-CONSENT-GP", "X^Refused^Y^N^No^L", "CE"),
        ("LB-CONSENT-GP", "^^^N", "CE"),
        ("LB-CONSENT-GP", "N^No", "ST"),
        ("LB-CONSENT-GP", "N^No", ""),
        ("LB-CONSENT-GP", "N", "TX"),
    ],
)
def test_a_consent_is_known_by_either_code_of_observation_and_value(code: str, value: str, kind: str) -> None:
    found = referral(more=[obx(code, value, kind)])
    assert (found.consents.feedback.answer, places(found)) == ("no", [])


@pytest.mark.parametrize(
    ("code", "value", "kind", "place"),
    [
        ("LB-CONSENT-GP", "MAYBE", "CE", "OBX[2]-5"),
        ("LB-CONSENT-GP", "^No", "CE", "OBX[2]-5"),
        ("LB-CONSENT-GP", "Y^^^N", "CE", "OBX[2]-5"),
        ("LB-CONSENT-GP", "No, thank you", "TX", "OBX[2]-5"),
        ("LB-CONSENT-GP^^^LB-CONSENT-EVAL", "Y", "CE", "OBX[2]-3"),
        ("LB-PATHWAY", "P9", "CE", "OBX[2]-5"),
        ("LB-DELAY", "^the family", "CE", "OBX[2]-5"),
        ("LB-AUTHORITY", "MELTON^^^BLABY", "CE", "OBX[2]-5"),
        ("LB-INTERP", "SOMETIMES", "CE", "OBX[2]-5"),
        ("LB-DOG", "^two of them", "CE", "OBX[2]-5"),
        ("LB-NEED", "UNHEARD^Something new", "CE", "OBX[2]-5"),
        ("LB-NEED", "HANDY^^^DFG", "CE", "OBX[2]-5"),
        ("LB-RFT", "soon", "DT", "OBX[2]-5"),
    ],
)
def test_a_value_that_nobody_understands_is_read_by_a_person_and_not_taken(
    code: str, value: str, kind: str, place: str
) -> None:
    plain, found = referral(), referral(more=[obx(code, value, kind)])

    assert places(found) == [place]
    for name in ("consents", "hospital", "named_authority", "risk_flags", "needs", "ready_for_transfer_on"):
        assert getattr(found, name) == getattr(plain, name), name


def test_codes_that_mean_the_same_are_not_in_doubt() -> None:
    found = referral(fields={"RF1-2": "U^Urgent^^URGENT"}, more=[obx("LB-CONSENT-GP", "N^No^^N^No")])
    assert (found.priority, found.consents.feedback.answer, found.to_be_read) == ("urgent", "no", ())


@pytest.mark.parametrize("written", ["DFG", "^^^DFG", "9^Other^X^DFG^Grant^L", "^DFG"])
@pytest.mark.parametrize("place", ["RF1-3", "RF1-10"])
def test_a_need_is_known_by_either_code(place: str, written: str) -> None:
    found = referral(fields={place: written})
    assert "disabled-facilities-grant" in [need.service for need in found.needs]
    assert places(found) == []


def test_a_need_that_is_not_agreed_is_read_by_a_person_and_its_words_are_kept() -> None:
    found = referral(fields={"RF1-3": "ADAPT~^Grab rails, please"})

    assert [need.service for need in found.needs] == ["minor-adaptations", "home-safety"]
    assert (places(found), "Grab rails, please" in str(found.reason.text)) == (["RF1-3(2)"], True)


@pytest.mark.parametrize("written", ["COLD", "9^Other^X^COLD^Cold^L", "^Cold"])
def test_a_reason_is_known_by_either_code(written: str) -> None:
    assert referral(fields={"RF1-10": written}).reason.code == "cold-or-damp-home"


@pytest.mark.parametrize(
    ("written", "codes", "places_read"),
    [
        ("V1", ["violence"], []),
        ("X^^^V1", ["violence"], []),
        ("X9^Bites", ["X9"], ["OBX[2]-5"]),
        ("V1^^^S1", ["violence"], ["OBX[2]-5"]),
    ],
)
def test_a_risk_flag_is_never_lost(written: str, codes: list[str], places_read: list[str]) -> None:
    body = an_lpt_message(more=["OBX||IS|C1||1", f"OBX||CE|RSK||{written}"])
    outcome = LPT.translate(LPT.delivery(body))
    assert isinstance(outcome, Translated)
    assert outcome.referral is not None
    assert ([one.code for one in outcome.referral.risk_flags], places(outcome.referral)) == (codes, places_read)


def test_a_long_text_is_the_text_of_a_risk_flag() -> None:
    (flag,) = referral(more=[obx("LB-RISK", "v" * 400, "TX")]).risk_flags
    assert (flag.code, flag.text) == ("Risk", "v" * 400)


# ---- the stay --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "stays", "read"),
    [
        ("I", True, []),
        ("", True, []),
        ("O", False, []),
        ("E", False, []),
        ("B", True, ["PV1-2"]),
        ("INPATIENT", True, ["PV1-2"]),
    ],
)
def test_a_class_is_a_stay_or_none_or_read_by_a_person(written: str, stays: bool, read: list[str]) -> None:
    found = referral(fields={"PV1-2": written})
    assert (found.is_inpatient, found.expected_discharge_on is not None, places(found)) == (stays, stays, read)


@pytest.mark.parametrize(
    ("written", "system"),
    [
        ("V-77^^^UHL^VN", "https://uhl.example.org/Id/visit-number"),
        ("V-77^^^VN", "https://uhl.example.org/Id/visit-number"),
        ("V-77^^^EPR&1.2&ISO", "https://lightbulb.example.org/Id/uhl/EPR"),
        ("V-77", "https://lightbulb.example.org/Id/uhl"),
    ],
)
def test_the_visit_number_has_the_system_of_its_authority(written: str, system: str) -> None:
    stay = referral(fields={"PV1-19": written}).hospital
    assert stay is not None
    assert stay.visit is not None
    assert (stay.visit.system, stay.visit.value) == (system, "V-77")


def test_the_site_is_known_by_any_part_of_its_authority() -> None:
    sites = [referral(fields={"PV1-3": f"W23^^^{one}"}).hospital for one in ("LRI", "LRI&1.2&ISO", "&LRI&L", "X&1.2")]
    assert [one and one.site for one in sites] == [*["Leicester Royal Infirmary"] * 3, "X"]


# ---- notes and diagnoses ---------------------------------------------------------------------------------------------

NOTE = "NTE|1||partner has not been told"


@pytest.mark.parametrize(
    ("before", "is_read"),
    [
        ([], True),
        ([obx("LB-HOME", "flat", "TX")], True),
        ([obx("8867-4^Pulse^LN^LB-HOME", "flat", "TX")], True),
        ([obx("LETTER", "^AP^PDF^Base64^JVBERi0=", "ED")], True),
        (["OBR|1|||VIRO^Virology"], False),
        (["OBR|1|||VIRO^Virology", obx("HIVAB", "Reactive", "ST")], False),
        ([obx("HIVAB", "Reactive", "ST")], False),
        ([obx("LB-HOME", "flat", "TX", "W")], False),
        ([obx("LB-DOG^^^LB-HOME", "Y")], False),
        ([obx("HIVAB", "Reactive", "ST"), "DG1|1||I10^Hypertension"], True),
    ],
)
def test_a_note_belongs_to_the_segment_before_it(before: list[str], is_read: bool) -> None:
    found = referral(more=[*before, NOTE])
    assert ("partner has not been told" in found.model_dump_json()) is is_read


@pytest.mark.parametrize(
    ("kind", "is_read", "read"),
    [
        ("HOUSING", True, []),
        ("X^Other^Y^HOUSING^Housing^L", True, []),
        ("^housing", True, []),
        ("CLIN", False, []),
        ("X^^^CLIN", False, []),
        ("NEW", False, []),
        ("HOUSING^^^CLIN", False, ["NTE-4"]),
    ],
)
def test_an_agreed_type_of_a_note_decides_wherever_it_stands(kind: str, is_read: bool, read: list[str]) -> None:
    found = referral(more=[obx("HIVAB", "Reactive", "ST"), f"{NOTE}|{kind}"])
    assert ("partner has not been told" in found.model_dump_json(), places(found)) == (is_read, read)


@pytest.mark.parametrize(
    ("segment", "text"),
    [
        ("DG1|1||S72.0^Fracture of neck of femur^I10", "Diagnosis: Fracture of neck of femur"),
        ("DG1|1||S72.0^^I10^X^Broken hip^L", "Diagnosis: Broken hip"),
        ("DG1|1||S72.0^^I10|Broken hip", "Diagnosis: Broken hip"),
        ("DG1|1|||Broken hip", "Diagnosis: Broken hip"),
        ("DG1|1||S72.0^^I10", "Diagnosis: S72.0"),
        ("DG1|1||S72.0^Broken hip" + "|" * 18 + "D", None),
        ("DG1|1||S72.0^Broken hip" + "|" * 18 + "d", None),
        ("DG1|1||S72.0^Broken hip" + "|" * 15 + "Y", None),
        ("DG1|1||S72.0^Broken hip" + "|" * 15 + "N", "Diagnosis: Broken hip"),
    ],
)
def test_the_words_of_a_diagnosis_are_read(segment: str, text: str | None) -> None:
    lines = str(referral(more=[segment]).reason.text).split("\n")
    assert lines[1:] == ([text] if text else [])


# ---- long texts and documents ----------------------------------------------------------------------------------------


def test_a_reason_that_is_too_long_is_attached_as_a_whole() -> None:
    words = " ".join(f"word{number}" for number in range(3_000))
    found = translated(more=[f"NTE|1||{words}"])

    assert found.referral is not None
    (attachment,), text = found.referral.attachments, str(found.referral.reason.text)
    (document,) = found.documents
    assert document.content.decode() == f"Falls on the ward\n{words}"
    assert (attachment.reference, attachment.title) == (document.reference, "Whole text of the reason")
    beginning, _, end = text.rpartition("\n")
    assert document.content.decode().startswith(f"{beginning} ")
    assert "Whole text of the reason" in end
    assert found.referral.to_be_read == ()


@pytest.mark.parametrize(
    ("changes", "place", "text"),
    [
        ({"family": "N" * 301}, "PID-5", "N" * 301),
        ({"fields": {"PID-13": "0116 496 0012 " + "ring twice " * 30}}, "PID-13", "0116 496 0012"),
        ({"fields": {"PV1-3": "W" * 301}}, "PV1-3", "W" * 301),
        ({"more": [obx("LB-COMM", "long " * 100, "TX")]}, "NTE-3", "long"),
        ({"more": [f"NK1|1|Name{number}^Any" for number in range(22)]}, "NK1", "Any Name20\nAny Name21"),
        ({"more": [obx("LB-RISK", "Z" * 10_001, "TX")]}, "OBX-5", "Z"),
    ],
)
def test_what_is_too_long_is_read_by_a_person_and_refuses_nothing(
    changes: dict[str, Any], place: str, text: str
) -> None:
    (part,) = referral(**changes).to_be_read
    assert (part.place, part.kind, str(part.text)[: len(text)]) == (place, "too-long", text)


def test_more_documents_than_a_referral_holds_are_read_by_a_person() -> None:
    letters = [base64.b64encode(f"letter {number}".encode()).decode() for number in range(22)]
    found = translated(more=[obx(f"L{n}^Letter {n}", f"^AP^PDF^Base64^{one}", "ED") for n, one in enumerate(letters)])

    assert found.referral is not None
    assert [one.title for one in found.referral.attachments] == [f"Letter {number}" for number in range(20)]
    assert [(one.place, one.text) for one in found.referral.to_be_read] == [("OBX-5", "Letter 20\nLetter 21")]


@pytest.mark.parametrize(
    ("written", "media_type"),
    [
        ("^AP^PDF^Base64^JVBERi0=", "application/pdf"),
        ("^application^pdf^Base64^JVBERi0=", "application/pdf"),
        ("^application/pdf^^Base64^JVBERi0=", "application/pdf"),
        ("^application/pdf^Base64^JVBERi0=", "application/pdf"),
        ("application/pdf^Base64^JVBERi0=", "application/pdf"),
        ("^^PDF^Hex^255044462D", "application/pdf"),
        ("^^^Base64^JVBERi0=", None),
        ("^AP^PDF^BASE64^JVBE\\X0D0A\\Ri0=", "application/pdf"),
        ("^text^plain^A^%PDF-", "text/plain"),
    ],
)
def test_an_embedded_document_is_read_in_its_usual_forms(written: str, media_type: str | None) -> None:
    (document,) = translated(more=[obx("LETTER", written, "ED")]).documents
    assert (document.content, document.media_type) == (b"%PDF-", media_type)


def test_a_plain_text_is_not_cut_at_a_component() -> None:
    (document,) = translated(more=[obx("LETTER", "^text^plain^A^rails^left & right", "ED")]).documents
    assert document.content == b"rails^left & right"


@pytest.mark.parametrize("written", ["^AP^PDF^Base64^***", "^AP^PDF^Base64^", "^AP^PDF^Zip^JVBERi0=", "letter.pdf"])
def test_a_document_that_cannot_be_decoded_is_read_by_a_person(written: str) -> None:
    found = translated(more=[obx("LETTER", written, "ED")])
    assert found.referral is not None
    assert ([part.place[:8] for part in found.referral.to_be_read], found.documents) == (["OBX[2]-5"], ())


# ---- roles -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        ("PRD|RP|Bell^Una", "Una Bell"),
        ("PRD|X^^^RP|Bell^Una", "Una Bell"),
        ("PRD|RP|Bell^Una||||||20260101|2026", "Una Bell"),
        ("PRD|RP|Bell^Una||||||20270101", None),
        ("PRD|RP|Bell^Una||||||20200101|20261104", None),
        ("PRD|RT|Bell^Una", None),
    ],
)
def test_the_referrer_has_the_role_in_force(provider: str, name: str | None) -> None:
    assert referral(PRD=provider).referred_by.name == name


def test_a_person_sees_the_warnings_that_the_sender_gets() -> None:
    found = translated(fields={"RF1-2": "PRONTO", "PID-7": "soon"})
    assert found.referral is not None
    assert {(one.place, one.kind) for one in found.warnings} == {(p.place, p.kind) for p in found.referral.to_be_read}
    assert "PRONTO" not in repr([dataclasses.astuple(one) for one in found.warnings])


# ---- nothing else refuses a referral ---------------------------------------------------------------------------------

NONSENSE = ("20269999", "^Words only~\\Q\\", "Y^^^Z", "Y" * 10_001)


@pytest.mark.parametrize("adapter", [UHL, LPT], ids=str)
@pytest.mark.parametrize("nonsense", NONSENSE, ids=range(len(NONSENSE)))
def test_no_value_of_a_field_refuses_a_referral_but_that_of_its_id(adapter: Adapter, nonsense: str) -> None:
    header, *segments = (GOLDEN / adapter.name / "new-everything.in").read_bytes().splitlines()
    changed = [
        (line[:3], number, b"|".join([*fields[:number], nonsense.encode("cp1252"), *fields[number + 1 :]]), at)
        for at, line in enumerate(segments)
        for fields in [line.split(b"|")]
        for number in field_paths.READ.get(line[:3].decode(), range(1, len(fields)))
        if number < len(fields)
    ]
    assert len(changed) > 50
    for name, number, line, at in changed:
        body = b"\r".join([header.replace(b"UNICODE UTF-8", b"8859/1"), *segments[:at], line, *segments[at + 1 :]])
        outcome = adapter.translate(adapter.delivery(body))
        assert isinstance(outcome, Translated) or (name, number) == (b"RF1", 6), (name, number)


# ---- two values where one is meant ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "read"),
    [
        ({"fields": {"RF1-2": "R~S"}}, ["RF1-2(2)"]),
        ({"fields": {"RF1-2": "R~R"}}, []),
        ({"fields": {"PV1-45": "20261101~20261103"}}, ["PV1-45(2)"]),
        ({"fields": {"PV2-9": "20261112~20261120"}}, ["PV2-9(2)"]),
        ({"fields": {"PV1-3": "W23^^^LRI~W9^^^GH"}}, ["PV1-3(2)"]),
        ({"fields": {"PV1-19": "V1~V2"}}, ["PV1-19(2)"]),
        ({"fields": {"PID-15": "ENG~GUJ"}}, ["PID-15(2)"]),
        ({"fields": {"PD1-3": "A^^^^^^^^^C82991~B^^^^^^^^^C82992"}}, ["PD1-3.10"]),
        ({"fields": {"PID-7": "19440229~19440228"}}, ["PID-7(2)"]),
        ({"fields": {"PID-8": "F~M"}}, ["PID-8(2)"]),
        ({"more": [obx("LB-AUTHORITY", "CHARNWOOD~MELTON")]}, ["OBX[2]-5(2)"]),
        ({"more": [obx("LB-PATHWAY", "P1"), obx("LB-PATHWAY", "P2")]}, ["OBX[3]-5"]),
        ({"more": [obx("LB-PATHWAY", "P1"), obx("LB-PATHWAY", "P1")]}, []),
        ({"more": ["PV1|2|I|W99^^^LRI||||||||||||||||V9||||||||||||||||||||||||||20261103"]}, ["PV1[2]"]),
    ],
)
def test_a_second_value_where_one_is_meant_is_read_by_a_person(changes: dict[str, Any], read: list[str]) -> None:
    assert places(referral(**changes)) == read


def test_a_second_visit_neither_ends_nor_moves_the_stay() -> None:
    said = referral(more=["PV1|2|I|W99^^^GH|||||||||||||||||||||||||||||||||||||||||||20261103"])
    assert said.hospital is not None
    assert (said.hospital.ward, said.hospital.site, said.discharged_on) == ("W23", "Leicester Royal Infirmary", None)


def test_of_two_visits_that_of_an_inpatient_counts_so_that_no_other_hub_learns_of_the_stay() -> None:
    outcome = LPT.translate(LPT.delivery(an_lpt_message(PV1="PV1|1|O|CLINIC\rPV1|2|I|ASH^2")))
    assert isinstance(outcome, Translated)
    assert outcome.referral is not None
    assert outcome.referral.hospital is not None
    assert (outcome.referral.hospital.ward, places(outcome.referral)) == ("ASH", ["PV1"])


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"fields": {"PV1-45": "202611"}}, "PV1-45"),
        ({"fields": {"PV2-9": "2026"}}, "PV2-9"),
        ({"more": [obx("LB-EDD", "20261100", "DT")]}, "OBX[2]-5"),
    ],
)
def test_a_discharge_that_is_not_known_to_the_day_is_read_by_a_person(changes: dict[str, Any], place: str) -> None:
    said = referral(**changes)
    assert (said.discharged_on, places(said)) == (None, [place])


# ---- words next to a code --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fields": {"RF1-3": "ADAPT^Grab rail at the back door"}}, "Grab rail at the back door"),
        ({"more": [obx("LB-DOG", "Y^Big alsatian")]}, "A dog at the property: Big alsatian"),
        ({"more": [obx("LB-KEYSAFE", "Yes^neighbour has the code")]}, "Key safe: neighbour has the code"),
        ({"more": [obx("LB-RISK", "V^Violent^L^^^^^^Son hits staff", "CWE")]}, "Violent; Son hits staff"),
        ({"fields": {"RF1-10": "FALLS^Falls^L^^^^^^Had a fall in the bath"}}, "Falls; Had a fall in the bath"),
        ({"fields": {"PV1-37": "KGH&Kettering^20261120"}}, "Discharged to: KGH&Kettering"),
        ({"fields": {"PV1-37": "KGH^Kettering"}}, "Discharged to: Kettering"),
        ({"fields": {"RF1-10": "X1^Damp^L^X2^DAMP AND MOULD^L2"}}, '"DAMP AND MOULD'),
        ({"more": [obx("LB-CONSENT-GP", "Y^Yes, by letter only")]}, "Consent to telling the GP: Yes, by letter only"),
        ({"more": ["NK1|1|Doe^Jane|SPO||ring after two"]}, "ring after two"),
        ({"more": ["NK1|1|Doe^Jane|SPO||0116 496 0009^PRN^PH^^^^^77"]}, "0116 496 0009 ext. 77"),
        ({"PD1": "PD1||||Dr Marsh"}, "Dr Marsh"),
        ({"fields": {"OBX-16": "Sister Adeyemi"}}, "Sister Adeyemi"),
    ],
)
def test_the_words_next_to_a_code_are_kept(changes: dict[str, Any], words: str) -> None:
    assert words in referral(**changes).model_dump_json()


@pytest.mark.parametrize("written", ["Y", "Y^Yes", "Y^y", "Y^A dog"])
def test_words_that_a_label_has_are_not_said_twice(written: str) -> None:
    (flag,) = referral(more=[obx("LB-DOG", written)]).risk_flags
    assert flag.text == "A dog at the property"


def test_a_diagnosis_that_may_be_confidential_is_not_read() -> None:
    said = referral(more=[f"DG1|1||X^secret{'|' * 15}1"])
    assert ("secret" in said.model_dump_json(), places(said)) == (False, ["DG1-18"])


@pytest.mark.parametrize("data", ["", "^aGVsbG8="])
def test_no_message_can_write_that_its_document_is_already_in_the_attachments(data: str) -> None:
    said = referral(more=[f"OBX|in-attachments|ED|DOC||^application^pdf^in-attachments{data}"])
    assert (said.attachments, len(said.to_be_read)) == ((), 1)


@pytest.mark.parametrize(
    ("place", "day", "to", "is_taken"),
    [
        ("PV1-44", "20261105", "admitted_on", True),
        ("PV1-44", "20261106", "admitted_on", False),
        ("PV1-44", "18991201", "admitted_on", False),
        ("PV2-9", "20281105", "expected_discharge_on", True),
        ("PV2-9", "20281106", "expected_discharge_on", False),
        ("PV2-9", "18000101", "expected_discharge_on", False),
    ],
)
def test_a_day_of_a_stay_that_cannot_be_is_read_by_a_person(place: str, day: str, to: str, is_taken: bool) -> None:
    found = referral(fields={place: day})
    assert found.hospital is not None
    value = found.hospital.admitted_on if to == "admitted_on" else found.expected_discharge_on
    assert (value is not None) is is_taken
    assert [part.text for part in found.to_be_read] == ([] if is_taken else [day])


def test_a_consent_of_tomorrow_has_no_date_and_its_sender_is_warned() -> None:
    segment = obx("LB-CONSENT-GP", "N") + "|||20261106"
    found = translated(more=[segment])
    assert found.referral is not None
    assert (found.referral.consents.feedback.answer, found.referral.consents.feedback.on) == ("no", None)
    assert "must be from 1900 to today" in [issue.explanation for issue in found.warnings]
