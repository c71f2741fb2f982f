"""What is wrong in a council's reviewed file is told by file, line and place before a row is read."""

import shutil
from pathlib import Path

import pytest

from services.intake.translators import council_csv
from services.reference.yaml_files import ConfigError
from tests.builders.csv import COUNCILS, DIRECTORY, SERVICES, a_file

GOOD = """\
council: rutland
partner: council-rutland
title: Rutland list
file: {encoding: windows-1252, delimiter: pipe, dates: [dd/mm/yyyy], empty: [unknown]}
district: own
columns:
  Key: {to: reference, required: true}
  Person: {to: name, order: surname-first}
  Born: {to: person.birth_date}
  Sex: {to: person.gender, codes: {F: female, M: male}}
  Wish: {to: needs, separator: "+", needs: {rails: {service: minor-adaptations}}}
  Note: {to: reason.text}
"""


def faults(folder: Path, text: str, name: str = "rutland") -> list[str]:
    (folder / f"{name}.yaml").write_text(text)
    with pytest.raises(ConfigError) as faulty:
        council_csv.load(folder, SERVICES)
    return [str(fault).removeprefix(f"{folder}/") for fault in faulty.value.issues]


def test_the_seven_files_are_valid_and_different() -> None:
    assert len(COUNCILS) == 7
    assert {mapping.file.delimiter for mapping in COUNCILS.values()} == {"comma", "semicolon", "tab", "pipe"}
    assert len({mapping.file.encoding for mapping in COUNCILS.values()}) == 3
    assert len({mapping.file.dates for mapping in COUNCILS.values()}) == 7
    assert {mapping.column_to("changed_on") is None for mapping in COUNCILS.values()} == {True, False}


def test_the_good_file_is_valid(tmp_path: Path) -> None:
    (tmp_path / "rutland.yaml").write_text(GOOD)
    assert list(council_csv.load(tmp_path, SERVICES)) == ["rutland"]


@pytest.mark.parametrize(
    ("was", "becomes", "fault"),
    [
        ("minor-adaptations", "castle", "rutland.yaml:11: columns.Wish.needs.rails.service: "),
        ("person.birth_date", "person.birthday", "rutland.yaml:9: columns.Born.to: the referral has no person.birthday"),
        ("person.birth_date", "sent_by.partner", "rutland.yaml:9: columns.Born.to: sent_by.partner cannot be filled from"),
        ("person.birth_date", "hospital.ward", "rutland.yaml:9: columns.Born.to: hospital.ward cannot be filled from"),
        ("{F: female,", "{F: female, f : other,", "rutland.yaml:10: columns.Sex.codes.f: is ambiguous"),
        ("{F: female,", "{F: woman,", "rutland.yaml:10: columns.Sex.codes.F: woman is not a value of person.gender"),
        ("{F: female,", "{Unknown: unknown,", "rutland.yaml:10: columns.Sex.codes.Unknown: can never match: it is listed"),
        ("{F: female,", '{"=F": female,', "rutland.yaml:10: columns.Sex.codes.=F: can never match: a cell"),
        ("{F: female,", "{Ж: female,", "rutland.yaml:10: columns.Sex.codes.Ж: can never match: windows-1252"),
        ("rails: {", '"rails+": {', "rutland.yaml:11: columns.Wish.needs.rails+: can never match: it contains"),
        ("Born: {to: person.birth_date}", "Born: {to: person.birth_date, codes: {a: b}}", "columns.Born.codes: "),
        ("to: reason.text", "to: reason.text, needs: {a: {service: hoarding}}", "columns.Note.needs: reason.text does not allow needs"),
        ("to: reason.text", "to: person.family_name", "columns.Note.to: person.family_name is already filled by column Person"),
        ("to: reason.text", "to: person.birth_date", "columns.Note.to: person.birth_date is already filled by column Born"),
        ("to: reference, required: true", "to: reason.code", "columns.Key.to: reason.code requires codes"),
        ("to: reference, required: true", "to: person.email", "rutland.yaml:6: columns: a column to reference is required"),
        ("Person: {to: name, order: surname-first}", "Person: {to: person.title}", "rutland.yaml:6: columns: a column to name or"),
        (', order: surname-first', '', "rutland.yaml:8: columns.Person.to: name requires order"),
        ("to: needs, separator: \"+\", needs: {rails: {service: minor-adaptations}}", "to: person.title", "a column to needs, or needs"),
        ("Note:", "KEY :", "rutland.yaml:12: columns.KEY: is repeated"),
        ("district: own", "district: column", "rutland.yaml:5: district: column, and a column to"),
        ("[dd/mm/yyyy]", "[dd/mm/yyyy, mm/dd/yyyy]", "rutland.yaml:4: file.dates: dd/mm and mm/dd"),
        ("[dd/mm/yyyy]", "[dd/mm/yy]", "rutland.yaml:4: file.dates: two-digit years"),
        ("[dd/mm/yyyy]", "[sometime]", "rutland.yaml:4: file.dates."),
        ("empty: [unknown]", "empty: [unknown], ticks: [Unknown]", "rutland.yaml:4: file.ticks: Unknown already means"),
        ("empty: [unknown]", "empty: [unknown], ticks: [N]", "rutland.yaml:4: file.ticks: N already means"),
        ("council: rutland", "council: oakham", "rutland.yaml:1: council: must be rutland"),
        ("district: own", "district: own\nconstants: {reason.text: any}", "rutland.yaml:6: constants.reason.text: "),
        ("district: own", "district: own\nconstants: {priority: soon}", "constants.priority: soon is not a value of priority"),
        ("district: own", "district: own\nignored: [Key]", "rutland.yaml:6: ignored."),
        ("title: Rutland list", "titel: Rutland list", "rutland.yaml:"),
    ],
)  # fmt: skip
def test_an_error_is_reported_with_file_line_and_path(tmp_path: Path, was: str, becomes: str, fault: str) -> None:
    assert was in GOOD
    found = faults(tmp_path, GOOD.replace(was, becomes, 1))
    assert any(fault in one for one in found), found


def test_two_councils_with_one_header_are_reported_as_ambiguous(tmp_path: Path) -> None:
    (tmp_path / "rutland.yaml").write_text(GOOD)
    other = GOOD.replace("rutland", "stamford").replace("Key:", "KEY:").replace("pipe", "comma")
    (found,) = faults(tmp_path, other, "stamford")
    assert found.startswith("stamford.yaml:6: columns: the header is the same as in rutland.yaml")


def test_a_partner_has_one_mapping(tmp_path: Path) -> None:
    shutil.copy(DIRECTORY / "councils" / "melton.yaml", tmp_path)
    text = GOOD.replace("council-rutland", "council-melton")
    (found,) = faults(tmp_path, text)
    assert found.startswith("rutland.yaml:2: partner: already has a mapping in melton.yaml")


def test_a_file_is_recognised_by_its_header_from_any_sender() -> None:
    for council in COUNCILS:
        found = council_csv.whose(COUNCILS.values(), a_file(council))
        assert found is COUNCILS[council]
    assert council_csv.whose(COUNCILS.values(), b"a,b\n1,2\n") is None
    assert council_csv.whose(COUNCILS.values(), b"") is None
