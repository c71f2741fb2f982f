"""Whole addresses in one cell of a council's row: a postcode at an end only, and nothing of the address lost."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.intake.translators import plausibility
from services.intake.translators.council_csv import addresses
from services.intake.translators.council_csv.cells import ValueWithWarnings, clean
from services.intake.translators.form.fields import ParseError


def read(cell: str) -> tuple[list[str], str | None, tuple[str, ...]]:
    text = clean(cell, "words")
    assert isinstance(text, str)
    found: Any = addresses.read(text)
    assert not isinstance(found, ParseError), found.explanation
    value, warnings = (found.value, found.warnings) if isinstance(found, ValueWithWarnings) else (found, ())
    return value["lines"], value["postcode"], warnings


@pytest.mark.parametrize(
    "written",
    [
        "{}, LE13 1DB",
        "{} LE13 1DB",
        "{}, LE131DB",
        "{}, LE13  1DB",
        "{}, LE13   1DB",
        "{}, LE13\u00a01DB",
        "{}, LE13\u202f1DB",
        "{}, LE13\u200b 1DB",
        "{}, LE13\t1DB",
        "{}\nLE13 1DB",
        "{}\r\nLE13 1DB\r\n",
        "{} LE13\n1DB",
        "{}, le13 1db",
        "{}, LE13 1DB.",
        "{} LE13 1DB;",
        "{}, , LE13 1DB, ",
    ],
)
def test_a_postcode_at_the_end_is_read_with_any_blanks(written: str) -> None:
    lines, postcode, warnings = read(written.format("12 High Street, Melton Mowbray"))
    assert (lines, postcode, warnings) == (["12 High Street", "Melton Mowbray"], "LE13 1DB", ())


@pytest.mark.parametrize("end", ["LE13 1DB, Melton", "LE13 1DB\nMelton", "LE13  1DB , Melton"])
def test_a_postcode_at_the_end_of_a_line_is_read(end: str) -> None:
    assert read(f"12 High Street, {end}") == (["12 High Street", "Melton"], "LE13 1DB", ())


@pytest.mark.parametrize("street", [
    "Flat B2 1st Floor", "Unit W1 4th Avenue", "Flat B2 1st", "FLAT B2 1ST FLOOR", "Flat E1 2nd Floor", "B2 3rd Floor",
    "Apartment A1 9TH FLOOR", "Room N1 5th Avenue", "Unit B2 4ND Mill", "Suite W1 2AB Court", "Block M1 1AA", "No. B2 1AA",
])  # fmt: skip
def test_a_flat_and_a_floor_are_no_postcode(street: str) -> None:
    assert read(f"{street}, 12 High Street, Melton Mowbray")[:2] == ([street, "12 High Street", "Melton Mowbray"], None)
    lines, postcode, warnings = read(f"{street}, 12 High Street, Melton Mowbray, LE13 1DB")
    assert (lines, postcode, warnings) == ([street, "12 High Street", "Melton Mowbray"], "LE13 1DB", ())


@pytest.mark.parametrize(
    ("address", "postcode"),
    [
        ("12 High Street, Birmingham B2 4ND", "B2 4ND"),
        ("12 High Street, Birmingham, B2 1ST", "B2 1ST"),
        ("1 The Mall, SW1A 1AA", "SW1A 1AA"),
        ("1 The Mall, EC1A 1BB", "EC1A 1BB"),
        ("1 The Mall, M1 1AA", "M1 1AA"),
        ("1 The Mall, CV13 0DE", "CV13 0DE"),
        ("ZZ99 3VZ", "ZZ99 3VZ"),
    ],
)
def test_every_form_of_postcode_is_read(address: str, postcode: str) -> None:
    assert read(address)[1:] == (postcode, ())


@pytest.mark.parametrize("cell", [
    "LE13 1DB (was LE14 2AA)", "12 High St, LE13 1DB, formerly 3 Low St, LE14 2AA", "LE14 2AA\n12 High St\nLE13 1DB",
    "12 High St LE13 1DB now at LE14 2AA", "LE13 1DB/LE14 2AA",
])  # fmt: skip
def test_two_postcodes_are_refused(cell: str) -> None:
    assert addresses.read(cell) == addresses.TWO_POSTCODES


def test_the_same_postcode_twice_is_one() -> None:
    assert read("LE13 1DB, 12 High St, LE131DB")[1] == "LE13 1DB"


@pytest.mark.parametrize(
    "line", ["12 High St LE13 1DB (side gate)", "12 High St LE13 1DB Melton", "LE13 1DB - key safe"]
)
def test_a_postcode_in_a_line_is_not_read_and_warned_of(line: str) -> None:
    assert read(line) == ([line], None, (addresses.NOT_AT_THE_END,))


@pytest.mark.parametrize(("cell", "lines", "postcode"), [
    ("12 High St, LE1O 1DU", ["12 High St"], "LE1O 1DU"),
    ("12 High St, LE13 1OB", ["12 High St"], "LE13 1OB"),
    ("12 High St, QE1 1DU", ["12 High St"], "QE1 1DU"),
    ("12 High St, LEI3 1DB", ["12 High St", "LEI3 1DB"], None),
    ("12 High St, LE13-1DB", ["12 High St", "LE13-1DB"], None),
    ("12 High St, LE13.1DB", ["12 High St", "LE13.1DB"], None),
    ("12 High St, LE13 IDB", ["12 High St", "LE13 IDB"], None),
    ("12 High St, LE13 1D8", ["12 High St", "LE13 1D8"], None),
])  # fmt: skip
def test_what_has_the_form_of_no_postcode_is_warned_of(cell: str, lines: list[str], postcode: str | None) -> None:
    assert read(cell) == (lines, postcode, (plausibility.NO_POSTCODE_FORM,))


@pytest.mark.parametrize(
    "cell", ["12 High St, Melton", "Flat 3, 1A Park Rd", "Rose Cottage, Long Clawson", "Room 2, Ward 7"]
)
def test_an_address_without_a_postcode_is_kept(cell: str) -> None:
    assert read(cell) == (cell.split(", "), None, ())


def test_an_address_of_too_many_lines_is_refused() -> None:
    assert addresses.read(",".join("abcdefghijk")) == addresses.TOO_LONG
    assert addresses.read("a" * 201) == addresses.TOO_LONG


@given(text=st.text(st.sampled_from("LE13 1DB,\nFlat2.;0-O"), max_size=40))
def test_no_letter_of_any_address_is_lost(text: str) -> None:
    cleaned = clean(text, "words")
    found: Any = addresses.read(cleaned) if isinstance(cleaned, str) else cleaned
    if isinstance(found, ParseError):
        return
    lines, postcode, _ = read(text)
    written = "".join([*lines, postcode or ""]).upper()
    assert sorted(filter(str.isalnum, written)) == sorted(filter(str.isalnum, text.upper()))


def test_a_cell_that_is_too_long_for_an_address_is_refused_before_it_is_searched() -> None:
    assert addresses.read("B1 1AA " * 9_000) == addresses.TOO_LONG
