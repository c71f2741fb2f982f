"""A good row of any council about a new person, and where its columns lead; written from the councils' own pages.

It shares no code with the product: what a cell means is said here a second time.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from tests.field.exports import EXPORTS
from tests.field.variants import Right, Sent
from tests.field.variants.draw import Draw

FAMILY, GIVEN, TITLE = (f"referral.person.{name}" for name in ("family_name", "given_names[]", "title"))
LINES, POSTCODE = "referral.person.address.lines[]", "referral.person.address.postcode"

Writes = Callable[[date], str]
MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]


@dataclass(frozen=True)
class Columns:
    """The columns of one council by what they mean; `past`: dates of what has happened, with their path."""

    reference: str
    born: str
    past: Mapping[str, str]
    dates: Mapping[str, Writes]
    """How its systems write a date, by a name."""
    note: str | None = None
    phone: str | None = None
    number: str | None = None
    name: str | None = None
    is_surname_first: bool = False
    family: str | None = None
    given: str | None = None
    address: str | None = None
    lines: Sequence[str] = ()
    postcode: str | None = None
    words: Mapping[str, str] = field(default_factory=dict)
    """Further columns of one line of words, with their path."""
    changed: str | None = None


def _of(pattern: str) -> Writes:
    return lambda day: day.strftime(pattern)


def _month(pattern: str, short: int | None = 3) -> Writes:
    return lambda day: day.strftime(pattern).replace("@", MONTHS[day.month - 1][:short])


def _serial(day: date) -> str:
    return str((day - date(1899, 12, 30)).days)


SLASHES: dict[str, Writes] = {
    "dd/mm/yyyy": _of("%d/%m/%Y"),
    "d/m/yyyy": lambda day: f"{day.day}/{day.month}/{day.year}",
}
ISO: dict[str, Writes] = {"yyyy-mm-dd": _of("%Y-%m-%d")}
GRANT = "referral.grant."
COLUMNS: Mapping[str, Columns] = {
    "blaby": Columns(
        "Case Ref",
        "DOB",
        {
            "Enquiry Date": "referral.enquired_on",
            "Certified": GRANT + "completion_on",
            "OT Assessed": GRANT + "ot_assessment_on",
        },
        {**SLASHES, "with a time": _of("%d/%m/%Y 00:00:00")},
        note="Notes",
        phone="Tel",
        number="NHS No",
        family="Surname",
        given="First Names",
        lines=("Address 1", "Address 2", "Address 3", "Address 4"),
        postcode="Postcode",
        words={"Officer": "referral.referred_by.name", "Title": TITLE},
        changed="Last Changed",
    ),
    "charnwood": Columns(
        "Ref no.",
        "Date of birth",
        {"Date received": "referral.referred_on"},
        {
            "dd-mmm-yy": _month("%d-@-%y"),
            "dd-mmm-yyyy": _month("%d-@-%Y"),
            "dd-month-yyyy": _month("%d-@-%Y", None),
            **SLASHES,
        },
        note="Comments",
        phone="Phone",
        name="Client",
        is_surname_first=True,
        address="Address",
        words={"Email": "referral.person.email"},
    ),
    "harborough": Columns(
        "case_id",
        "date_of_birth",
        {
            "first_contact": "referral.enquired_on",
            "dfg_certified": GRANT + "completion_on",
            "dfg_ss127": GRANT + "ss127_on",
        },
        {**ISO, "with a time": _of("%Y-%m-%dT00:00:00")},
        note="reason_text",
        phone="main_phone",
        number="nhs_number",
        name="applicant",
        address="full_address",
        words={"officer": "referral.referred_by.name", "carer_name": "referral.contacts[].name"},
        changed="modified",
    ),
    "hinckley-bosworth": Columns(
        "REFNO",
        "BIRTH",
        {"SS127": GRANT + "ss127_on", "COMPLETE": GRANT + "completion_on"},
        {"dd-mm-yyyy": _of("%d-%m-%Y"), "dd/mm/yyyy": _of("%d/%m/%Y"), "day number": _serial},
        phone="TELNO",
        number="NHSNO",
        family="SURNAME",
        given="FORENAME",
        lines=("ADD1", "ADD2", "ADD3", "ADD4"),
        postcode="PCODE",
        words={"TITLE": TITLE},
    ),
    "melton": Columns(
        "Grant No",
        "D.O.B.",
        {"Enquiry": "referral.enquired_on", "Final certificate": GRANT + "completion_on", "SS127": GRANT + "ss127_on"},
        {**SLASHES, "dd/mm/yy": _of("%d/%m/%y")},
        note="Remarks",
        phone="Contact No",
        name="Applicant",
        address="Property",
    ),
    "nw-leicestershire": Columns(
        "Reference",
        "Born",
        {"Referred": "referral.referred_on"},
        {**ISO, "dd/mm/yyyy": _of("%d/%m/%Y")},
        phone="Telephone",
        number="NHS number",
        family="Family name",
        given="Given names",
        lines=("House and street", "Village", "Town"),
        postcode="Post code",
        words={"Practice": "referral.registered_practice.name", "Case officer": "referral.referred_by.name"},
        changed="Amended",
    ),
    "oadby-wigston": Columns(
        "ID",
        "Birthday",
        {"Asked on": "referral.referred_on", "OT report": GRANT + "ot_assessment_on"},
        {"dd mmm yyyy": _month("%d @ %Y"), "dd month yyyy": _month("%d @ %Y", None), "dd/mm/yyyy": _of("%d/%m/%Y")},
        phone="Mobile",
        number="NHS",
        family="Last name",
        given="First name",
        lines=("Addr1", "Addr2", "Addr3"),
        postcode="PC",
        words={"Next of kin": "referral.contacts[].name"},
    ),
}
"""Pages: docs/partners/council-*.md."""


class Council:
    """A row of one council about a new person, `cells` by column."""

    def __init__(self, draw: Draw, name: str) -> None:
        self.draw, self.name = draw, name
        self.export, self.columns = EXPORTS[name], COLUMNS[name]
        self.family = draw.word()
        self.reference = draw.code("R")
        self.cells = {self.columns.reference: self.reference, self._name_column: self.written_name}

    @property
    def _name_column(self) -> str:
        column = self.columns.name or self.columns.family
        assert column
        return column

    @property
    def written_name(self) -> str:
        """The person's name as this council writes it in its column."""
        if self.columns.family:
            return self.family
        return f"{self.family}, Iris" if self.columns.is_surname_first else f"Iris {self.family}"

    @property
    def file(self) -> bytes:
        return self.export.file(self.export.row(**self.cells))

    def sent(self, file: bytes | None = None, media_type: str = "text/csv", query: str = "") -> Sent:
        """A file as it is uploaded; that of this row, if no other is given."""
        path = f"/councils/{self.name}/referrals{query}"
        return Sent(self.file if file is None else file, f"council-{self.name}", {"content-type": media_type}, path)


def a_council(draw: Draw, *needed: str) -> Council:
    """Return a row of each council in turn that has all of these kinds of columns."""
    having = [name for name, columns in COLUMNS.items() if all(getattr(columns, one) for one in needed)]
    return Council(draw, draw.each(having))


def read_as(council: Council, event: Mapping[str, Any], *warned: str, **more: Any) -> list[Right]:
    """Return the expectation that the row is received, what its referral says, and in which columns it is warned of."""
    of_person = {FAMILY: {"is": [council.family]}, **event}
    warnings = dict.fromkeys(warned, "value")
    return [{"answers": [200], "rows": ["received"], "faults": {}, "warnings": warnings, "event": of_person, **more}]


def refused_at(council: Council, *columns: str, kind: str = "value") -> list[Right]:
    """Return the expectation that the row is refused for these columns, and nothing of it goes any further."""
    faults = dict.fromkeys(columns, kind)
    return [
        {
            "answers": [200],
            "rows": ["refused"],
            "faults": faults,
            "published": "nothing",
            "nowhere": [council.reference],
        }
    ]
