"""How the councils' systems write their files, and a usual row of each. Invented people."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Export:
    """One council's dialect, header and usual row."""

    delimiter: str
    codec: str
    header: str
    usual: dict[str, str]
    quotes: bool = True
    above: bytes = b""
    """What stands above the header."""

    @property
    def names(self) -> list[str]:
        """The columns in their order."""
        return self.header.split(self.delimiter)

    def row(self, encoding: str | None = None, **cells: str) -> bytes:
        """One row with its line end, as bytes."""
        return self.line(self.values(cells), encoding)

    def values(self, cells: Mapping[str, str]) -> list[str]:
        """The usual row's cells in their order, with these instead."""
        values = {**dict.fromkeys(self.names, ""), **self.usual, **cells}
        if unknown := set(values) - set(self.names):
            raise ValueError(f"no such columns: {sorted(unknown)}")
        return [values[name] for name in self.names]

    def line(self, values: list[str], encoding: str | None = None) -> bytes:
        """Cells as a line with its end."""
        return (self.delimiter.join(map(self._quoted, values)) + "\r\n").encode(encoding or self.codec)

    def file(self, *rows: bytes) -> bytes:
        return self.above + (self.header + "\r\n").encode(self.codec) + b"".join(rows)

    def _quoted(self, cell: str) -> str:
        special = self.quotes and any(mark in cell for mark in (self.delimiter, '"', "\n", "\r"))
        return '"' + cell.replace('"', '""') + '"' if special else cell


BLABY = Export(
    ",",
    "utf-8",
    "Case Ref,Last Changed,Case Status,Title,Surname,First Names,DOB,Sex,NHS No,Address 1,Address 2,Address 3,Address 4"
    ",Postcode,UPRN,Tel,Needs,Notes,Enquiry Date,DFG Cat,OT Assessed,SS127 Rec'd,Application,Approved,Works Start"
    ",Certified,Consent Share,Consent GP,Consent Date,Officer,Ward Name,Budget Code",
    {
        "Last Changed": "16/11/2026 06:00",
        "Case Status": "Open",
        "Surname": "Tester",
        "First Names": "Ann",
        "DOB": "19/01/1958",
        "Address 1": "11 Cross Lane",
        "Address 2": "Narborough",
        "Postcode": "LE19 2GX",
        "Needs": "GR",
        "Consent Share": "Y",
    },
)
CHARNWOOD = Export(
    ";",
    "cp1252",
    "Ref no.;Client;Date of birth;Address;Phone;Email;Communication;Grab rails;Bathing;Stair lift / adaptation;Falls"
    ";Heating;Homeless?;Dog;Two to visit;How urgent;Comments;Date received;Agreed to share;Agreed GP told;Asked by",
    {
        "Client": "TESTER, Ann (Mrs)",
        "Date of birth": "05-Jun-51",
        "Address": "12 Any Road\nLoughborough\nLE11 0QR",
        "Grab rails": "Yes",
        "Agreed to share": "Yes",
    },
    above=b"Charnwood Lightbulb referrals sheet" + b";" * 20 + b"\r\n",
)
HARBOROUGH = Export(
    "\t",
    "utf-8",
    "case_id\tmodified\tapplicant\tdate_of_birth\tgender_code\tnhs_number\tnhs_number_traced\tfull_address\tmain_phone"
    "\tcarer_name\tcarer_relationship\tcarer_phone\tneed_codes\treason_code\treason_text\tfirst_contact\tdfg_category"
    "\tdfg_ot\tdfg_ss127\tdfg_applied\tdfg_approved\tdfg_on_site\tdfg_certified\tofficer\tofficer_phone\trow_version"
    "\tcreated_by\tparish",
    {
        "modified": "2026-11-04T10:15:00+00:00",
        "applicant": "Mr Willem Tester",
        "date_of_birth": "1938-04-17",
        "full_address": "7 Any Lane, Great Bowden, Market Harborough, LE16 7BQ",
        "need_codes": "30",
    },
    above=b"\xef\xbb\xbf",
)
HINCKLEY = Export(
    "|",
    "utf-8",
    "REFNO|STATUS|SURNAME|FORENAME|TITLE|BIRTH|NHSNO|ADD1|ADD2|ADD3|ADD4|PCODE|AREA|TELNO|NEED1|NEED2|NEED3|GRANTCAT"
    "|SS127|APPROVED|COMPLETE|OKSHARE|PATCH|FILLER",
    {
        "STATUS": "L",
        "SURNAME": "TESTER",
        "FORENAME": "ANN",
        "BIRTH": "14-05-1942",
        "ADD1": "12 Mount Row",
        "ADD2": "Hinckley",
        "PCODE": "LE10 1DU",
        "AREA": "HB",
        "TELNO": "01632 960121",
        "NEED1": "A1",
        "GRANTCAT": "0",
        "OKSHARE": "1",
    },
    quotes=False,
)
MELTON = Export(
    ",",
    "cp1252",
    "Grant No,Applicant,D.O.B.,Property,Contact No,Type of work,Other help,Enquiry,OT visit,SS127,Applied,Approved"
    ",On site,Final certificate,Remarks,Contractor,Cost",
    {
        "Applicant": "Harriet Holt",
        "D.O.B.": "09/09/1939",
        "Property": "21 Asfordby Row, Melton Mowbray, LE13 1DB",
    },
)
NW_LEICESTERSHIRE = Export(
    ";",
    "utf-8",
    "Reference;Amended;State;Family name;Given names;Born;NHS number;Language;Interpreter;House and street;Village;Town"
    ";Post code;Telephone;Practice;Practice code;Help wanted;Visit warning;Referred;Urgency;Consent;Consent to tell GP"
    ";Consent to evaluation;Case officer",
    {
        "Amended": "2026-11-02",
        "State": "Live",
        "Family name": "Tester",
        "Given names": "Rosa",
        "Born": "1949-12-01",
        "House and street": "21 Any Drive",
        "Town": "Coalville",
        "Post code": "LE67 3AA",
        "Help wanted": "rails",
        "Urgency": "2",
        "Consent": "Yes",
    },
    above=b"\xef\xbb\xbfNorth West Leicestershire report LB1" + b";" * 23 + b"\r\n" + b";" * 23 + b"\r\n",
)
OADBY = Export(
    "\t",
    "cp1252",
    "ID\tLast name\tFirst name\tBirthday\tNHS\tAddr1\tAddr2\tAddr3\tPC\tMobile\tWants\tWhy\tWants to live in"
    "\tDFG stage A/B/C\tOT report\tSS127 sent\tWorks\tAsked on\tTold us yes\tNext of kin\tKin phone",
    {
        "Last name": "Tester",
        "First name": "Kurt",
        "Birthday": "9 March 1940",
        "Addr1": "3 Any Close",
        "Addr2": "Wigston",
        "PC": "LE18 1JU",
        "Wants": "Rails",
        "Told us yes": "yes",
    },
)

EXPORTS: Mapping[str, Export] = {
    "blaby": BLABY,
    "charnwood": CHARNWOOD,
    "harborough": HARBOROUGH,
    "hinckley-bosworth": HINCKLEY,
    "melton": MELTON,
    "nw-leicestershire": NW_LEICESTERSHIRE,
    "oadby-wigston": OADBY,
}
