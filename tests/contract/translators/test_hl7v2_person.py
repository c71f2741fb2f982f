"""Who an HL7 v2 message is about: identifiers by type, authority and period; the name, address and telephone that count today."""

from typing import Any

import pytest

from schemas.referral import Person, Referral
from services.intake.translators.hl7v2.person import AS_SENT
from services.intake.translators.translator import Rejection, Translated
from tests.builders.hl7v2 import a_uhl_message
from tests.contract.translators.adapters import ADAPTERS

UHL = next(one for one in ADAPTERS if one.name == "hl7v2-uhl")
"""Its messages are received on 5 November 2026."""


def referral(**changes: Any) -> Referral:
    outcome = UHL.translate(UHL.delivery(a_uhl_message(**changes)))
    assert isinstance(outcome, Translated), outcome
    assert outcome.referral is not None
    return outcome.referral


def person(pid: dict[int, str], **changes: Any) -> Person:
    return referral(fields={f"PID-{number}": value for number, value in pid.items()}, **changes).person


def unread(**fields: str) -> list[str]:
    """The places that a person has to read in a message with these fields, as PID_7."""
    sent = {name.replace("_", "-"): value for name, value in fields.items()}
    return [part.place for part in referral(fields=sent).to_be_read]


# ---- the NHS number --------------------------------------------------------------------------------------------------

GOOD, OTHER, FAILS, FILLER = "9990000018", "9990000026", "9990000019", "9876543210"


@pytest.mark.parametrize(
    "written",
    [
        f"{GOOD}^^^NHS^NHS",
        f"{GOOD}^^^^NHS",
        f"{GOOD}^^^^nh",
        f"{GOOD}^^^NHS",
        "999 000 0018^^^NHS&2.16.840.1.113883.2.1.4.1&ISO",
        f"{GOOD}^^^&2.16.840.1.113883.2.1.4.1&ISO",
        f"RWE1^^^UHL^MRN~{GOOD}^^^nhs",
        f'""~~{GOOD}^^^NHS~{GOOD}^^^^NHS',
    ],
)
def test_the_nhs_number_is_known_by_its_type_or_without_one_by_its_authority(written: str) -> None:
    said = person({3: written})
    assert (said.nhs_number, said.nhs_number_status) == (GOOD, "01")
    assert GOOD not in [one.value for one in said.local_ids]


@pytest.mark.parametrize("number", [*(digit * 10 for digit in "0123456789"), FAILS, FILLER, "999000001", "ABC"])
@pytest.mark.parametrize("kind", ["^^^^NHS", "^^^NHS"])
def test_a_number_that_cannot_be_one_is_not_used_and_has_no_status_of_the_sender(number: str, kind: str) -> None:
    said = referral(fields={"PID-3": number + kind})
    assert (said.person.nhs_number, said.person.nhs_number_status) == (None, "failed-check")
    assert [(one.system, one.value) for one in said.person.local_ids] == [(AS_SENT, number)]


@pytest.mark.parametrize("written", ["RWE1^^^UHL^MRN", '""', "RWE1^^^UHL^MRN~^NSTS01^^NHS^NHS"])
def test_a_status_never_stands_without_a_number(written: str) -> None:
    said = person({3: written, 32: "NSTS01"})
    assert (said.nhs_number, said.nhs_number_status) == (None, "not-stated")


@pytest.mark.parametrize("second", [f"{OTHER}^^^^NHS", f"{OTHER}^^^NHS", f"{FAILS}^^^NHS^NHS"])
def test_of_two_nhs_numbers_none_is_used_and_a_person_reads_them(second: str) -> None:
    said = referral(fields={"PID-3": f"{GOOD}^^^^NHS~{second}"})

    assert (said.person.nhs_number, said.person.nhs_number_status) == (None, "not-stated")
    assert [one.value for one in said.person.local_ids] == [GOOD, second.partition("^")[0]]
    assert [(part.place, part.text) for part in said.to_be_read] == [("PID-3(2)", second)]


@pytest.mark.parametrize(
    ("kind", "read"),
    [("^^^GP^GPID", True), ("^^^GP", True), ("", True), ("^^^^XX", True), ("^^^UHL^MRN", False), ("^^^VN", False)],
)
def test_a_valid_number_of_a_type_that_is_not_agreed_is_read_by_a_person(kind: str, read: bool) -> None:
    said = referral(fields={"PID-3": f"RWE1^^^UHL^MRN~{GOOD}{kind}"})

    assert said.person.nhs_number is None
    assert [part.place for part in said.to_be_read] == (["PID-3(2)"] if read else [])


def test_a_number_that_is_also_given_by_an_agreed_type_needs_no_reading() -> None:
    said = referral(fields={"PID-3": f"{GOOD}^^^^NHS~{GOOD}^^^GP^GPID"})
    assert (said.person.nhs_number, said.to_be_read) == (GOOD, ())


@pytest.mark.parametrize(
    ("version", "second", "number", "local"),
    [
        ("2.2", GOOD, GOOD, []),
        ("2.2", "999 000 0018", GOOD, []),
        ("2.2", f"{GOOD}^^^NHS", GOOD, []),
        ("2.2", FAILS, None, [FAILS]),
        ("2.2", "X77", None, ["X77"]),
        ("2.2", f"{GOOD}^^^GP", None, [GOOD]),
        ("2.5", GOOD, None, []),
    ],
)
def test_pid_2_is_read_in_version_2_2(version: str, second: str, number: str | None, local: list[str]) -> None:
    said = person({2: second, 3: "RWE1^^^UHL^MRN"}) if version == "2.5" else None
    if said is None:
        said = referral(fields={"MSH-12": version, "PID-2": second, "PID-3": "RWE1^^^UHL^MRN"}).person
    assert said.nhs_number == number
    assert [one.value for one in said.local_ids] == ["RWE1", *local]


@pytest.mark.parametrize("version", ["2.2", "2.3", "2.4", "2.5", "2.7", "2.8.2"])
@pytest.mark.parametrize("field", ["PID-2", "PID-4"])
@pytest.mark.parametrize("kind", ["^^^NHS", "^^^^NHS", "^^^&2.16.840.1.113883.2.1.4.1&ISO"])
def test_an_nhs_number_is_known_by_type_or_authority_in_pid_2_and_pid_4(version: str, field: str, kind: str) -> None:
    alone = referral(fields={"MSH-12": version, "PID-3": "RWE1^^^UHL^MRN", field: f"{GOOD}{kind}"})
    assert (alone.person.nhs_number, alone.to_be_read) == (GOOD, ())

    both = referral(fields={"MSH-12": version, "PID-3": f"{OTHER}^^^^NHS", field: f"{GOOD}{kind}"})
    assert (both.person.nhs_number, [part.place for part in both.to_be_read]) == (None, [field])


@pytest.mark.parametrize("field", ["PID-2", "PID-3", "PID-4"])
def test_a_number_of_the_national_authority_and_an_unknown_type_is_read_by_a_person(field: str) -> None:
    said = referral(fields={"PID-3": "RWE1^^^UHL^MRN", field: f"{GOOD}^^^NHS^XX"})
    assert (said.person.nhs_number, [part.place for part in said.to_be_read]) == (None, [field])


@pytest.mark.parametrize("written", ["RWE9^^^UHL^MRN", GOOD, f"{GOOD}^^^^NHS^^20200101^20201231"])
def test_pid_4_has_no_other_identifiers(written: str) -> None:
    said = person({3: "RWE1^^^UHL^MRN", 4: written})
    assert (said.nhs_number, [one.value for one in said.local_ids]) == (None, ["RWE1"])


def test_an_identifier_of_an_unknown_authority_is_kept_apart_from_others() -> None:
    said = person({3: "7^^^A&1.2&ISO~7^^^B~7~7^^^UHL^MRN"})
    assert len({one.system for one in said.local_ids}) == 4


# ---- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "family"),
    [
        ("OLDFIELD^E^^^^^PREVIOUS~HOLROYD^E^^^MRS^^CURRENT", "HOLROYD"),
        ("HILL^E^^^^^M~HOLROYD^E^^^^^L", "HOLROYD"),
        ("HILL^E^^^^^M~HOLROYD^E", "HOLROYD"),
        ("HOLROYD^E^^^^^D~HOLROYD^ENID^^^^^L", "HOLROYD"),
        ("HILL^E^^^^^L^^^20100101&20191231~HOLROYD^E", "HOLROYD"),
        ("HILL^E^^^^^L^^^^^^2019~HOLROYD^E^^^^^U", "HOLROYD"),
        ("HILL^E^^^^^L^^^^^20270101~HOLROYD^E^^^^^M", "HOLROYD"),
        ("HILL^E^^^^^L^^^^^^20191231", "HILL"),
        ("HILL^E^^^^^B", "HILL"),
        ("Hill & Dale^E^^^^^L", "Hill & Dale"),
        ("&van&Gogh^E^^^^^L", "van Gogh"),
        ("Gogh&&Gogh&van&Rijn^E^^^^^L", "Gogh"),
    ],
)
def test_the_name_in_force_of_the_best_type_counts(names: str, family: str) -> None:
    said = referral(fields={"PID-5": names})
    assert (said.person.family_name, said.to_be_read) == (family, ())


@pytest.mark.parametrize(
    ("names", "family", "places"),
    [
        ("HILL^E^^^^^XX~HOLROYD^E^^^^^L", "HOLROYD", ["PID-5"]),
        ("HOLROYD^E^^^^^L~holroyd^EN^^^^^XX", "HOLROYD", []),
        ("HILL^E^^^^^XX", "HILL", ["PID-5"]),
        ("HILL^E^^^^^XX~OLD^E^^^^^M", "OLD", ["PID-5"]),
        ("HILL^E^^^^^L~HOLROYD^E^^^^^L", "HILL", ["PID-5(2)"]),
        ("HILL^E~HOLROYD^E", "HILL", ["PID-5(2)"]),
        ("^ENID", None, ["PID-5"]),
        ("UNKNOWN^ENID", None, ["PID-5"]),
        ("(unknown)^UNKNOWN", None, ["PID-5"]),
        ("-^ENID", None, ["PID-5"]),
        ("\u200b^ENID", None, ["PID-5"]),
        ("UNKNOWN^E~HOLROYD^ENID", "HOLROYD", []),
        ("HOL\u00adROYD\u200b^ENID", "HOLROYD", []),
    ],
)
def test_a_name_that_is_in_doubt_is_read_by_a_person(names: str, family: str | None, places: list[str]) -> None:
    said = referral(fields={"PID-5": names})
    assert said.person.family_name == family
    assert [part.place for part in said.to_be_read] == places


@pytest.mark.parametrize("given", ["TBC", "n/k", "-", "\u2060", "TBC^- NFN"])
def test_a_given_name_that_is_none_is_not_a_name(given: str) -> None:
    assert person({5: f"HOLROYD^{given}"}).given_names == ()


@pytest.mark.parametrize(
    ("field", "written"),
    [("PID-5", "O?DOWD^ENID"), ("PID-5", "O&#39;Dowd^ENID"), ("PID-11", "1 Ren\u00c3\u00a9 Way^^Leicester^^LE1 1AA")],
)
def test_spoilt_letters_are_taken_with_a_warning(field: str, written: str) -> None:
    outcome = UHL.translate(UHL.delivery(a_uhl_message(fields={field: written})))
    assert isinstance(outcome, Translated)
    assert [(one.place, one.kind) for one in outcome.warnings] == [(field, "value")]


def test_a_message_without_a_name_is_accepted_by_an_identifier_and_read_by_a_person() -> None:
    assert unread(PID_5='""') == ["PID-5"]


@pytest.mark.parametrize("identifiers", ['""', "", f"{FAILS}^^^^NHS"])
def test_a_person_without_a_name_and_a_usable_identifier_is_refused(identifiers: str) -> None:
    outcome = UHL.translate(UHL.delivery(a_uhl_message(fields={"PID-5": "", "PID-3": identifiers})))
    assert isinstance(outcome, Rejection)
    assert [(fault.place, fault.kind) for fault in outcome.issues] == [("PID-5", "required")]


# ---- dates -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("1944", None),
        ("194402", None),
        ("19440000", None),
        ("194400", None),
        ("19440200", None),
        ("00000000", None),
        ("00000000000000", None),
        ("19440000000000", None),
        ("19440229", "1944-02-29"),
        ("194402291530", "1944-02-29"),
        ("19440229153000.1234+0100", "1944-02-29"),
        ("19440229153000.123456789", "1944-02-29"),
        ("19440229153000.", "1944-02-29"),
        ("20260705233000+0000", "2026-07-06"),
        ("20260706003000+0200", "2026-07-05"),
        ("20260105233000-0500", "2026-01-06"),
        ("202607052330-0000", "2026-07-06"),
        ("20260706000000+0100", "2026-07-06"),
        ("19501025000000+0100", "1950-10-25"),
        ("20260706+0100", "2026-07-06"),
    ],
)
def test_a_date_is_that_of_london_or_not_known_to_the_day(written: str, read: str | None) -> None:
    said = referral(fields={"PID-7": written})
    assert (said.person.birth_date and str(said.person.birth_date), said.to_be_read) == (read, ())


@pytest.mark.parametrize(
    "written", ["19440230", "0", "19441301", "19441300", "1944-02-29", "194402291", "１９４４", "soon"]
)
@pytest.mark.parametrize("place", ["PID-7", "RF1-7", "PV1-44", "PV1-45", "PV2-9", "OBX-14"])
def test_an_impossible_date_is_read_by_a_person(place: str, written: str) -> None:
    (part,) = referral(fields={place: written}).to_be_read
    assert (part.place, part.kind, part.text) == (place, "value", written)


@pytest.mark.parametrize("written", ["1944", "194402", "19440200", "19440000"])
@pytest.mark.parametrize(
    ("place", "decides"),
    [
        *(("PID-7", False), ("RF1-7", False), ("PV1-44", False), ("OBX-14", False)),
        *(("PV1-45", True), ("PV2-9", True)),
    ],
)
def test_a_date_that_is_not_known_to_the_day_is_a_warning_or_read_if_the_day_decides(
    place: str, decides: bool, written: str
) -> None:
    outcome = UHL.translate(UHL.delivery(a_uhl_message(fields={place: written})))
    assert isinstance(outcome, Translated)
    assert outcome.referral is not None
    assert [part.place for part in outcome.referral.to_be_read] == ([place] if decides else [])
    assert [(one.place, one.kind) for one in outcome.warnings] == [(place, "value")]


@pytest.mark.parametrize("born", ["20270101", "20261106", "18900101", "19000101", "190101010000"])
def test_a_birth_date_of_nobody_alive_is_read_by_a_person(born: str) -> None:
    said = referral(fields={"PID-7": born})
    assert (said.person.birth_date, [part.place for part in said.to_be_read]) == (None, ["PID-7"])


@pytest.mark.parametrize(("place", "decides"), [("RF1-7", False), ("PV1-44", False), ("PV1-45", True), ("PV2-9", True)])
def test_a_date_that_is_entered_if_none_is_known_is_not_known(place: str, decides: bool) -> None:
    outcome = UHL.translate(UHL.delivery(a_uhl_message(fields={place: "19000101"})))
    assert isinstance(outcome, Translated)
    assert outcome.referral is not None
    assert "1900-01-01" not in outcome.referral.model_dump_json()
    assert [part.place for part in outcome.referral.to_be_read] == ([place] if decides else [])
    assert [(one.place, one.kind) for one in outcome.warnings] == [(place, "value")]


# ---- addresses -------------------------------------------------------------------------------------------------------

HERE, THERE = "4 Beacon Rise^^Loughborough^^LE11 5AA", "1 Old Street^^Leicester^^LE1 1AA"
BOX = "PO Box 417^^Leicester^^LE1 1AA"


@pytest.mark.parametrize(
    "written",
    [
        f"{BOX}^^M~{HERE}",
        f"{BOX}^^H~{HERE}^^M",
        f"P.O.Box 417^Post Room^Leicester^^LE1 1AA^^H~{HERE}^^C",
        f"{THERE}^^M~{HERE}",
        f"{THERE}^^M~{HERE}^^C",
        f"{THERE}^^B~{HERE}^^M",
        f"{THERE}^^XX~{HERE}",
        f"{THERE}^^C~{HERE}^^L",
        f"{THERE}^^H^^^^^^20100101^20190331~{HERE}^^H^^^^^^20190401",
        f"{THERE}^^H^^^^^20100101&20190331~{HERE}",
        f"{THERE}^^H^^^^^^^2019~{HERE}",
        f"{THERE}^^H^^^^^^20261106~{HERE}^^M",
        f"{THERE}^^H^^^^^^20100101~{HERE}^^H^^^^^^20190401",
        f"{HERE}^^H~Flat 2, {HERE}^^H",
    ],
)
def test_the_home_is_the_address_in_force_of_the_best_type(written: str) -> None:
    said = referral(fields={"PID-11": written})
    assert said.person.address is not None
    assert (said.person.address.lines, said.person.address.postcode) == (("4 Beacon Rise", "Loughborough"), "LE11 5AA")
    assert said.to_be_read == ()


@pytest.mark.parametrize(
    ("written", "postcode", "places"),
    [
        (f"{HERE}^^H~{THERE}^^H", "LE11 5AA", ["PID-11(2)"]),
        (f"{HERE}~{THERE}", "LE11 5AA", ["PID-11(2)"]),
        (f"{HERE}^^XX", "LE11 5AA", ["PID-11"]),
        (f"{BOX}^^H", None, ["PID-11"]),
        (f"{HERE}^^H^^^^^^soon", "LE11 5AA", ["PID-11.13"]),
    ],
)
def test_an_address_that_is_in_doubt_is_read_by_a_person(written: str, postcode: str | None, places: list[str]) -> None:
    said = referral(fields={"PID-11": written})
    assert (said.person.address and said.person.address.postcode) == postcode
    assert [part.place for part in said.to_be_read] == places


@pytest.mark.parametrize(
    ("written", "lines"),
    [
        ("&Beacon Rise&4^^Loughborough", ("4 Beacon Rise", "Loughborough")),
        ("4 Beacon Rise&Beacon Rise&4^^Loughborough", ("4 Beacon Rise", "Loughborough")),
        ("4, Beacon Rise&BEACON RISE^^Loughborough", ("4, Beacon Rise", "Loughborough")),
        ("Flat 3&Beacon Rise&4^^Loughborough", ("Flat 3", "4 Beacon Rise", "Loughborough")),
        ("14 Beacon Rise&&4^^Loughborough", ("14 Beacon Rise", "4", "Loughborough")),
        ("Beacon Rise&Beacon Rise&4^^Loughborough", ("4 Beacon Rise", "Loughborough")),
        ("Flat 3&12 Beacon Rise^Shelthorpe&Off Park Road^Loughborough&Leicestershire",
         ("Flat 3", "12 Beacon Rise", "Shelthorpe", "Off Park Road", "Loughborough", "Leicestershire")),
        ("Mill & Barn^Flats 2 & 3^Loughborough", ("Mill & Barn", "Flats 2 & 3", "Loughborough")),
        ("A&B&C&D^^Loughborough", ("A", "C B", "D", "Loughborough")),
    ],
)  # fmt: skip
def test_no_line_of_an_address_is_lost_in_a_subcomponent(written: str, lines: tuple[str, ...]) -> None:
    said = person({11: f"{written}^^LE11 5AA^^H"})
    assert said.address is not None
    assert said.address.lines == lines


# ---- telephones ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("0116 496 0012^PRN^PH", "0116 496 0012"),
        ("(0116)496-0012X21Cring twice", "(0116)496-0012X21Cring twice"),
        ("^PRN^PH^^^0116^4960012", "0116 4960012"),
        ("^PRN^PH^^44^116^4960012", "+44 116 4960012"),
        ("^PRN^PH^^0044^0116^4960012", "0116 4960012"),
        ("^PRN^PH^^^0116^4960012^77", "0116 4960012 ext. 77"),
        ("^PRN^PH^^^^^^0116^4960012", "0116 4960012"),
        ("^PRN^PH^^^^^^^^^01164960012", "01164960012"),
        ("0116 496 0012^PRN^PH^^^^^^no messages, please", "0116 496 0012 (no messages, please)"),
        ("0116 496 0012^PRN^PH^^^^^^Y", "0116 496 0012"),
        ("0116 496 0099^WPN^PH~0116 496 0012^PRN^PH", "0116 496 0012"),
        ("0116 496 0099^EMR^PH~0116 496 0012^WPN^PH", "0116 496 0012"),
        ("0116 496 0099^PRN^FX~0116 496 0012^PRN^PH", "0116 496 0012"),
        ("0116 496 0099^PRN^PH^^^^^^^^^^^20250101~0116 496 0012^PRN^PH", "0116 496 0012"),
        ("0116 496 0099^PRN^PH^^^^^^^^^^20270101~0116 496 0012^PRN^PH", "0116 496 0012"),
    ],
)
def test_the_telephone_is_read_as_a_text_or_in_parts_and_ranked(written: str, number: str) -> None:
    assert person({13: written}).phone == number


def test_words_instead_of_a_number_are_kept() -> None:
    said = person({13: "ask her daughter"})
    assert (said.phone, [(one.system, one.value) for one in said.other_contact_points]) == (
        None,
        [("other", "ask her daughter")],
    )


# ---- death and restriction -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "died", "places"),
    [
        ({"PID-30": "Y"}, True, []),
        ({"PID-30": "YES^Yes"}, True, []),
        ({"PID-30": "N"}, False, []),
        ({"PID-30": "N~Y"}, True, []),
        ({"PID-30": "PERHAPS"}, False, ["PID-30"]),
        ({"PID-29": "20261102"}, True, []),
        ({"PID-29": "2026"}, True, []),
        ({"PID-29": "soon"}, True, ["PID-29"]),
        ({"PID-29": "29991231"}, True, ["PID-29"]),
        ({"PID-29": "00000000"}, False, []),
        ({"PID-29": '""', "PID-30": '""'}, False, []),
        ({"PV1-36": "19", "PV1-37": "79^Died"}, True, []),
    ],
)
def test_a_death_is_reported_by_what_says_so(fields: dict[str, str], died: bool, places: list[str]) -> None:
    said = referral(fields=fields)
    assert (said.person.death_reported is not None) is died
    assert [part.place for part in said.to_be_read] == places


@pytest.mark.parametrize(
    ("more", "vip", "restricted"),
    [
        (["PD1||||||||||||N|20261101"], "", False),
        (["PD1||||||||||||N|20261106"], "", None),
        (["PD1||||||||||||Y|20261106"], "", True),
        (["ARV|1|A|DEM|||20260101^20261104"], "", None),
        (["ARV|1|A|DEM|||20260101^20261105"], "", True),
        (["ARV|1|A|NO|||20261201"], "", None),
        (["ARV|1|A|NO~LOC"], "", True),
        (["PD1||||||||||||N~Y"], "", True),
        ([], "9^Restricted^L^RESTRICTED", True),
        (["ARV|1|A|NO^No^HL70717"], "", False),
        (["PD1||||||||||||N|2027"], "", None),
        ([], "restricted", True),
        (["PD1||||||||||||N"], "RESTRICTED", True),
        ([], "OTHER", None),
    ],
)
def test_a_restriction_counts_in_its_period(more: list[str], vip: str, restricted: bool | None) -> None:
    assert referral(PD1=None, more=more, fields={"PV1-16": vip}).person.restricted_access is restricted


def test_a_protection_that_nobody_understands_is_read_by_a_person() -> None:
    said = referral(fields={"PD1-12": "PERHAPS"})
    assert (said.person.restricted_access, [part.place for part in said.to_be_read]) == (None, ["PD1-12"])
