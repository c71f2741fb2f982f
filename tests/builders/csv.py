"""Build rows by the columns of a council's mapping, and files in each council's own CSV dialect."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from schemas.referral import Referral
from services.intake.translators import council_csv
from services.intake.translators.council_csv import CouncilMapping
from services.reference import directory

DIRECTORY = Path(__file__).resolve().parents[2] / "infra" / "reference_data"
SERVICES = directory.catalogue(DIRECTORY)
COUNCILS: Mapping[str, CouncilMapping] = council_csv.load(DIRECTORY / "councils", SERVICES)

Row = dict[str, str]

GOOD: Mapping[str, Row] = {
    "blaby": {
        "Case Ref": "BDC/26/0107",
        "Last Changed": "03/11/2026 16:05",
        "Case Status": "Open",
        "Title": "Mrs",
        "Surname": "Ashdown",
        "First Names": "Vera May",
        "DOB": "29/02/1944",
        "Sex": "F",
        "NHS No": "999 000 0018",
        "Address 1": "The Old Forge",
        "Address 2": "5 Any Street",
        "Address 4": "Narborough",
        "Postcode": "LE19 2AR",
        "UPRN": "100030412345",
        "Tel": "01164960107",
        "Needs": "DFG; GR",
        "Notes": "Stairs are too much.\nRing first, please.",
        "Enquiry Date": "01/10/2026",
        "DFG Cat": "A",
        "OT Assessed": "12/10/2026",
        "SS127 Rec'd": "30/10/2026",
        "Consent Share": "Y",
        "Consent GP": "NK",
        "Consent Date": "01/10/2026",
        "Officer": "Mary Okonkwo",
        "Ward Name": "Blaby South",
    },
    "charnwood": {
        "Ref no.": "CBC-5512",
        "Client": "O'DONNELL-PRYCE, Zoë Anne (Ms)",
        "Date of birth": "05-Jun-51",
        "Address": "Flat 3\n12 Any Road\nLoughborough\nLE11 0QR",
        "Phone": "01632 960 112",
        "Email": "z.pryce@example.org",
        "Communication": "large print, hard of hearing",
        "Grab rails": "Yes",
        "Bathing": "y",
        "Heating": "no",
        "Dog": "Yes",
        "How urgent": "Urgent",
        "Comments": "Says “can’t get in the bath”; costs up to £500",
        "Date received": "02-Nov-26",
        "Agreed to share": "Yes",
        "Agreed GP told": "Not asked",
        "Asked by": "J Patel",
    },
    "harborough": {
        "case_id": "H-00231",
        "modified": "2026-11-04T10:15:00+00:00",
        "applicant": "Mr Willem van der Berg",
        "date_of_birth": "1938-04-17",
        "gender_code": "1",
        "nhs_number": "9990000026",
        "nhs_number_traced": "traced",
        "full_address": "7 Any Lane, Great Bowden, Market Harborough, LE16 7BQ",
        "main_phone": "01632 960 231",
        "carer_name": "Ilse van der Berg",
        "carer_relationship": "Wife",
        "need_codes": "30|21",
        "reason_code": "ADL",
        "reason_text": "Level-access shower wanted",
        "first_contact": "2026-08-20",
        "dfg_category": "cat_b",
        "dfg_ot": "2026-09-28",
        "dfg_ss127": "2026-10-30",
        "dfg_applied": "2026-11-02",
        "officer": "A. Hussain",
        "row_version": "17",
    },
    "hinckley-bosworth": {
        "REFNO": "12045",
        "STATUS": "L",
        "SURNAME": "WARD",
        "FORENAME": "JOAN",
        "TITLE": "MRS",
        "BIRTH": "11-09-1947",
        "NHSNO": "9990000034",
        "ADD1": '2 "The Limes"',
        "ADD2": "Any Way",
        "ADD3": "Market Bosworth",
        "PCODE": "CV130DE",
        "AREA": "HB",
        "TELNO": "1632960120",
        "NEED1": "A1",
        "NEED2": "F1",
        "OKSHARE": "1",
        "FILLER": "X",
    },
    "melton": {
        "Grant No": "DFG/26/019",
        "Applicant": "Miss Ivy Marsh",
        "D.O.B.": "03/07/32",
        "Property": "14 Any Gardens, Melton Mowbray LE13 0GR",
        "Contact No": "07700 900119",
        "Type of work": "Stair lift",
        "Other help": "Warmth/Benefits",
        "Enquiry": "11/05/26",
        "OT visit": "02/07/2026",
        "SS127": "31/08/2026",
        "Remarks": "Lives alone – daughter in Oakham",
        "Cost": "4,150.00",
    },
    "nw-leicestershire": {
        "Reference": "LB/2026/77",
        "Amended": "2026-11-02",
        "State": "Live",
        "Family name": "Nowak",
        "Given names": "Bożena",
        "Born": "1949-12-01",
        "NHS number": "999 000 0042",
        "Language": "Polish",
        "Interpreter": "Yes",
        "House and street": "21 Any Drive",
        "Town": "Coalville",
        "Post code": "DE12 7AH",
        "Telephone": "01632 960 177",
        "Practice": "Alder Lane Surgery",
        "Practice code": "C82991",
        "Help wanted": "rails, warmth",
        "Visit warning": "2UP",
        "Referred": "2026-10-30",
        "Urgency": "2",
        "Consent": "Yes",
        "Consent to tell GP": "Yes",
        "Consent to evaluation": "No",
        "Case officer": "Dev Sharma",
    },
    "oadby-wigston": {
        "ID": "00417",
        "Last name": "Färber",
        "First name": "Kurt",
        "Birthday": "9 March 1940",
        "NHS": "9990000050",
        "Addr1": "3 Any Close",
        "Addr2": "Wigston",
        "PC": "LE18 1JU",
        "Mobile": "07700 900417",
        "Wants": "Shower + Rails",
        "Why": "fall",
        "DFG stage A/B/C": "B",
        "OT report": "2 Oct 2026",
        "Asked on": "29 Sept 2026",
        "Told us yes": "yes",
        "Next of kin": "Anna Färber",
        "Kin phone": "0116 496 0417",
    },
}
"""A good row of each council; columns that are left out are empty."""


def a_row(council: str, referral: Referral | None = None, **changes: str) -> Row:
    """Return a good row of a council with changes; an underscore in a column's name means a space.

    The person of `referral` needs separate columns for names and address: the columns are those of Blaby.
    """
    changes = (_of(referral) if referral else {}) | changes
    known = {header.replace(" ", "_"): header for header in COUNCILS[council].headers.values()}
    return GOOD[council] | {known.get(name, name): value for name, value in changes.items()}


def _of(referral: Referral) -> Row:
    person = referral.person
    return {
        "Case Ref": referral.message.referral_id,
        "NHS No": person.nhs_number or "",
        "Surname": person.family_name,
        "First Names": " ".join(person.given_names),
        "DOB": f"{person.birth_date:%d/%m/%Y}",
        **dict(zip(("Address 1", "Address 2", "Address 4"), (*person.address.lines, "", ""), strict=False)),
        "Postcode": person.address.postcode or "",
    }


def header_of(mapping: CouncilMapping, line_end: str = "\r\n") -> bytes:
    """What stands above the first row: byte order mark, title, header."""
    above = [[mapping.title], *[[""] for _ in range(1, mapping.file.lines_above)]][: mapping.file.lines_above]
    mark = b"\xef\xbb\xbf" if mapping.file.encoding == "utf-8-bom" else b""
    return mark + b"".join(as_line(mapping, cells, line_end) for cells in [*above, list(mapping.headers.values())])


def row_of(mapping: CouncilMapping, row: Mapping[str, str], line_end: str = "\r\n") -> bytes:
    """One row's bytes."""
    return as_line(mapping, [row.get(header, "") for header in mapping.headers.values()], line_end)


def as_line(mapping: CouncilMapping, cells: Sequence[str], line_end: str = "\r\n") -> bytes:
    if mapping.file.quoting == "none":
        return (mapping.file.separator.join(cells) + line_end).encode(mapping.file.codec)
    written = io.StringIO(newline="")
    csv.writer(written, delimiter=mapping.file.separator, lineterminator=line_end).writerow(cells)
    return written.getvalue().encode(mapping.file.codec)


def a_file(council: str, rows: Sequence[Mapping[str, str]] | None = None, line_end: str = "\r\n") -> bytes:
    """A council's file with these rows, or with one good one."""
    mapping = COUNCILS[council]
    lines = [row_of(mapping, row, line_end) for row in ([GOOD[council]] if rows is None else rows)]
    whole = header_of(mapping, line_end) + b"".join(lines)
    return whole if mapping.file.last_line_ends or not lines else whole.removesuffix(line_end.encode())
