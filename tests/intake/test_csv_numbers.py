"""Numbers in councils' rows: no separator is interpreted, so that no row is read as another person's."""

import pytest

from services.intake.translators.council_csv import cell_parsers
from services.intake.translators.council_csv.cell_parsers import OF_KIND
from services.intake.translators.council_csv.mapping import ColumnMapping
from services.intake.translators.council_csv.prescan import Prescan, reference_of
from services.intake.translators.council_csv.record_splitter import Splitter
from services.intake.translators.form.fields import ParseError
from services.intake.translators.translator import Rejection, Translated
from tests.builders.csv import COUNCILS, a_file, a_row, row_of
from tests.contract.translators.adapters import ADAPTERS, SAME_TRANSLATOR

BLABY = COUNCILS["blaby"].file
PLAIN = ColumnMapping(to="reference")
SEVEN_DIGITS = ColumnMapping(to="reference", width=7)
HINCKLEY = next(one for one in ADAPTERS if one.name == "council-hinckley-bosworth")

GROUPED = [
    "12,000",
    "12.000",
    "12,0",
    "12,00",
    "12,",
    "12.",
    "12.0000",
    "0,000",
    "1 234",
    "1 234 567",
    "1,234,567",
    "1.234.567",
    "1'234'567",
    "1\u2019234",
    "1,234.00",
    "1.234,00",
    "1 234,00",
    "1,00,000",
    "-12,000",
    "9,990,000,018",
    "100,000,000,018",
    "647,000",
]
"""What spreadsheets and databases make of whole numbers in England, on the continent, in Switzerland and in India."""


@pytest.mark.parametrize("number", GROUPED)
@pytest.mark.parametrize("kind", ["reference", "uprn", "phone", "nhs-number"])
def test_a_number_with_separators_is_refused_with_what_to_do(kind: str, number: str) -> None:
    found = OF_KIND[kind](number, PLAIN, BLABY)  # type: ignore[index]
    assert isinstance(found, ParseError)
    assert "without separators" in found.explanation


@pytest.mark.parametrize("number", [*GROUPED, "12.5", "1 2", "12 000 1", "2026.1", "0116 496"])
def test_a_reference_of_digits_only_is_refused_with_any_separator(number: str) -> None:
    found = OF_KIND["reference"](number, SEVEN_DIGITS, BLABY)
    assert isinstance(found, ParseError)
    assert "without separators" in found.explanation


@pytest.mark.parametrize(
    "cell", ["01/11/2026", "1-11-2026", "2026-11-01", "2026-11-01 00:00:00", "12-Mar", "12-Mar-26", "Mar-26"]
)
def test_a_reference_that_a_spreadsheet_changed_into_a_date_is_refused(cell: str) -> None:
    assert OF_KIND["reference"](cell, PLAIN, BLABY) == cell_parsers.IS_A_DATE


@pytest.mark.parametrize("cell", ["-", "?", "0", "0.0", "000", "/", "..."])
def test_what_is_entered_for_want_of_a_reference_is_none(cell: str) -> None:
    assert OF_KIND["reference"](cell, PLAIN, BLABY) == cell_parsers.NO_REFERENCE


@pytest.mark.parametrize("cell", ["26/11/01", "1/2", "DEC-1", "MAY/26/01", "A0", "12-3", "2026-11-011"])
def test_a_reference_that_resembles_a_date_is_kept(cell: str) -> None:
    assert OF_KIND["reference"](cell, PLAIN, BLABY) == cell


@pytest.mark.parametrize("code", ["1,000", "1.000", "1,0", "1 000", "1.5"])
def test_a_code_with_separators_is_not_that_code(code: str) -> None:
    column = COUNCILS["hinckley-bosworth"].columns["OKSHARE"]
    assert isinstance(OF_KIND[column.kind](code, column, BLABY), ParseError)


@pytest.mark.parametrize(
    ("kind", "cell", "value"),
    [
        ("reference", "12.0", "12"),
        ("reference", "123.00", "123"),
        ("reference", "0012", "0012"),
        ("reference", "BDC/26/0107", "BDC/26/0107"),
        ("reference", "H-12,000", "H-12,000"),
        ("reference", "2026.1", "2026.1"),
        ("reference", "2026 001", "2026 001"),
        ("uprn", "100030412345.0", "100030412345"),
        ("phone", "1164960107.0", "01164960107"),
        ("phone", "0116 496 0107", "0116 496 0107"),
        ("phone", "01632 960 112", "01632 960 112"),
        ("phone", "01164960107,07700900107", "01164960107,07700900107"),
        ("phone", "0116 496 0107 / 07700 900107", "0116 496 0107 / 07700 900107"),
        ("nhs-number", "999 000 0018", "9990000018"),
        ("nhs-number", "9990000018.00", "9990000018"),
        ("nhs-number", "999-000-0018", "9990000018"),
    ],
)
def test_a_number_without_doubt_is_read(kind: str, cell: str, value: str) -> None:
    assert OF_KIND[kind](cell, PLAIN, BLABY) == value  # type: ignore[index]


@pytest.mark.parametrize(("cell", "value"), [("12", "0000012"), ("12.0", "0000012"), ("A12", "A12")])
def test_lost_zeros_are_put_back_in_digits_only(cell: str, value: str) -> None:
    assert OF_KIND["reference"](cell, SEVEN_DIGITS, BLABY) == value


@pytest.mark.parametrize(
    ("council", "column", "plain", "grouped"),
    [
        ("hinckley-bosworth", "REFNO", "12", "12,000"),
        ("oadby-wigston", "ID", "7", "7,000"),
        ("harborough", "case_id", "647", "647,000"),
        ("blaby", "Case Ref", "12", "12.000"),
    ],
)
def test_of_a_number_and_the_same_with_separators_only_the_second_is_refused(
    council: str, column: str, plain: str, grouped: str
) -> None:
    mapping = COUNCILS[council]
    prescan = Prescan(mapping, COUNCILS, most_rows=10)
    body = a_file(council, [a_row(council) | {column: plain}, a_row(council) | {column: grouped}])
    prescan.take(body)
    prescan.end()
    assert prescan.rejection is None
    assert prescan.layout is not None
    *_, first, second = Splitter(mapping.file).feed(body, last=True)
    assert reference_of(mapping, prescan.layout, first.body)
    assert reference_of(mapping, prescan.layout, second.body) is None
    assert prescan.repeated() == frozenset()
    adapter = next(one for one in [*ADAPTERS, *SAME_TRANSLATOR] if one.name == f"council-{council}")
    results = [adapter.translate(adapter.delivery(prescan.layout.bytes + row.body)) for row in (first, second)]
    assert isinstance(results[0], Translated)
    assert isinstance(results[1], Rejection)
    assert [issue.place for issue in results[1].issues] == [column]


def test_a_grouped_uprn_telephone_and_number_are_each_named() -> None:
    row = a_row("hinckley-bosworth", NHSNO="9,990,000,034", TELNO="1,632,960,120")
    head = a_file("hinckley-bosworth", [])
    found = HINCKLEY.translate(HINCKLEY.delivery(head + row_of(COUNCILS["hinckley-bosworth"], row)))
    assert isinstance(found, Rejection)
    assert {issue.place for issue in found.issues} == {"NHSNO", "TELNO"}
