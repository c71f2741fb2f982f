"""Councils' files: each council's columns as in docs/partners. A file may also hold rows of other persons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.builders.csv import a_file, a_row


@dataclass(frozen=True)
class CouncilColumns:
    """The columns of a council for the fields that plans vary; empty if the council does not have the field."""

    reference: str
    person: Mapping[str, str]
    """The columns of the person. Each person has the same name and birth date."""
    birth: str
    postcode: str
    written: str
    """The format of the cell with the postcode."""
    mark: str
    needs: Sequence[Mapping[str, str]]
    """The cells of a need; the next ones with each change."""
    cancel: Mapping[str, str] = field(default_factory=dict)
    number: str = ""
    time: str = ""
    time_written: str = ""
    day: str = ""
    day_written: str = ""
    feedback: str = ""
    answers: tuple[str, str] = ("Yes", "No")


def _one_of(column: str, *codes: str) -> tuple[Mapping[str, str], ...]:
    return tuple({column: code} for code in codes)


def _ticked(*columns: str) -> tuple[Mapping[str, str], ...]:
    return tuple({column: "Yes" if column == ticked else "" for column in columns} for ticked in columns)


COLUMNS: Mapping[str, CouncilColumns] = {
    "blaby": CouncilColumns(
        reference="Case Ref",
        person={"Surname": "Vance", "First Names": "Ada", "DOB": "29/02/1944"},
        birth="DOB",
        postcode="Postcode",
        written="{}",
        mark="Notes",
        needs=_one_of("Needs", "GR", "ADV", "DFG", "HS"),
        cancel={"Case Status": "Withdrawn"},
        number="NHS No",
        time="Last Changed",
        time_written="05/11/2026 {}",
        feedback="Consent GP",
        answers=("Y", "N"),
    ),
    "charnwood": CouncilColumns(
        reference="Ref no.",
        person={"Client": "VANCE, Ada", "Date of birth": "29-Feb-44"},
        birth="Date of birth",
        postcode="Address",
        written="1 Any Lane\nAny Town\n{}",
        mark="Comments",
        needs=_ticked("Grab rails", "Bathing", "Heating", "Falls"),
        cancel={"Agreed to share": "No"},
        day="Date received",
        day_written="0{}-Nov-26",
        feedback="Agreed GP told",
    ),
    "harborough": CouncilColumns(
        reference="case_id",
        person={"applicant": "Mrs Ada Vance", "date_of_birth": "1944-02-29"},
        birth="date_of_birth",
        postcode="full_address",
        written="1 Any Lane, Any Town, {}",
        mark="reason_text",
        needs=_one_of("need_codes", "20", "10", "30|21", "60"),
        number="nhs_number",
        time="modified",
        time_written="2026-11-05T{}+00:00",
    ),
    "hinckley-bosworth": CouncilColumns(
        reference="REFNO",
        person={"SURNAME": "VANCE", "FORENAME": "ADA", "BIRTH": "29-02-1944", "NEED2": ""},
        birth="BIRTH",
        postcode="PCODE",
        written="{}",
        mark="ADD2",
        needs=_one_of("NEED1", "A1", "F1", "S1", "T1"),
        cancel={"STATUS": "W"},
        number="NHSNO",
    ),
    "melton": CouncilColumns(
        reference="Grant No",
        person={"Applicant": "Mrs Ada Vance", "D.O.B.": "29/02/44"},
        birth="D.O.B.",
        postcode="Property",
        written="1 Any Lane, Any Town {}",
        mark="Remarks",
        needs=_one_of("Other help", "Warmth", "Benefits", "Handyperson", "Warmth/Benefits"),
    ),
    "nw-leicestershire": CouncilColumns(
        reference="Reference",
        person={"Family name": "Vance", "Given names": "Ada", "Born": "1944-02-29"},
        birth="Born",
        postcode="Post code",
        written="{}",
        mark="Village",
        needs=_one_of("Help wanted", "rails", "warmth", "fire", "moving"),
        cancel={"State": "Cancelled"},
        number="NHS number",
        time="Amended",
        time_written="2026-11-05 {}",
        day="Referred",
        day_written="2026-11-0{}",
        feedback="Consent to tell GP",
    ),
    "oadby-wigston": CouncilColumns(
        reference="ID",
        person={"Last name": "Vance", "First name": "Ada", "Birthday": "29 February 1944"},
        birth="Birthday",
        postcode="PC",
        written="{}",
        mark="Addr3",
        needs=_one_of("Wants", "Rails", "Shower", "Handyman", "Benefits"),
        cancel={"Told us yes": "no"},
        number="NHS",
        day="Asked on",
        day_written="{} Nov 2026",
    ),
}


@dataclass(frozen=True)
class Row:
    """The values of a row, independent of the council."""

    reference: str
    postcode: str
    mark: str
    need: int
    time: str = "09:00:00"
    """On 5 November."""
    day: int = 5
    number: str | None = None
    consents: bool = True
    cancels: bool = False
    is_bad: bool = False
    other: Mapping[str, str] = field(default_factory=dict)
    """Cells that replace the usual ones."""


def council_file(council: str, rows: Sequence[Row]) -> bytes:
    """Return a council's file with these rows."""
    return a_file(council, [a_row(council, **_cells(COLUMNS[council], row)) for row in rows])


def _cells(sheet: CouncilColumns, row: Row) -> dict[str, str]:
    cells = {
        **sheet.person,
        **sheet.needs[row.need % len(sheet.needs)],
        **(sheet.cancel if row.cancels else {}),
        sheet.reference: row.reference,
        sheet.postcode: sheet.written.format(row.postcode),
        sheet.mark: row.mark,
        sheet.number: row.number or "",
        sheet.time: sheet.time_written.format(row.time),
        sheet.day: sheet.day_written.format(row.day),
        sheet.feedback: sheet.answers[0 if row.consents else 1],
    } | ({sheet.birth: "31/02/1944"} if row.is_bad else {})
    return {column: value for column, value in cells.items() if column} | row.other
