"""Check a whole file while it is received: its council, its encoding, its header, and repeated references.

A fault of the file as a whole gives one rejection. Memory: one piece of the file, and twelve bytes for each row.
"""

import codecs
import hashlib
import re
from array import array
from collections.abc import Mapping

from services.intake.translators.council_csv import header, record_splitter
from services.intake.translators.council_csv.cell_parsers import reference as read_reference
from services.intake.translators.council_csv.cells import clean
from services.intake.translators.council_csv.header import HeaderLayout
from services.intake.translators.council_csv.mapping import CouncilMapping
from services.intake.translators.council_csv.record_splitter import CsvRecord
from services.intake.translators.form.fields import ParseError
from services.intake.translators.translator import CONTAINS_NUL, Issue, IssueKind, Rejection, reject

PLACE = "file"
_BEGIN = 65_536
_NOT_IN_1252 = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


class Prescan:
    """Takes the pieces of a file in order, then `end`. `rejection` is set as soon as a fault is found."""

    def __init__(self, mapping: CouncilMapping, all_mappings: Mapping[str, CouncilMapping], most_rows: int) -> None:
        self.rejection: Rejection | None = None
        self.layout: HeaderLayout | None = None
        self.lines = array("I")
        self._mapping = mapping
        self._all_mappings = all_mappings
        self._most = most_rows
        self._splitter = record_splitter.Splitter(mapping.file)
        self._as_utf8 = codecs.getincrementaldecoder("utf-8")("strict")
        self._is_utf8, self._is_ascii = True, True
        self._begin = b""
        self.above: list[bytes] = []
        self._references = array("Q")

    @property
    def rows(self) -> int:
        """Number of rows so far, without blank ones."""
        return len(self.lines)

    def take(self, piece: bytes) -> None:
        """Check the next piece; do nothing once the file is rejected."""
        if self.rejection is None:
            self._scan(piece, last=False)

    def end(self) -> None:
        """Make the checks that need the whole file."""
        if self.rejection is None:
            self._scan(b"", last=True)
        if self.rejection is None and self.layout is None:
            what = "is empty" if not self._begin.strip(b"\xef\xbb\xbf \t\r\n") else "has no header"
            self._refuse(PLACE, "required", f"{what}; {header.expected(self._mapping)}")
        elif self.rejection is None and not self.rows:
            self._refuse(PLACE, "required", "has a header but no rows: check the filter of the export")
        elif self.rejection is None and self._is_another_encoding():
            self._refuse(PLACE, "invalid", f"is written in UTF-8; it must be {self._mapping.file.encoding}")

    def twice(self) -> frozenset[int]:
        """Return the hashes of the references that may be repeated."""
        repeated: set[int] = set()
        before = None
        for one in sorted(self._references):
            if one == before:
                repeated.add(one)
            before = one
        return frozenset(repeated)

    # -- pieces

    def _scan(self, piece: bytes, *, last: bool) -> None:
        if not self._begin:
            self._begin = piece[:_BEGIN]
        if problem := self._text_problem(piece, last=last):
            self._refuse(PLACE, "invalid", problem + self._of_another())
            return
        try:
            for record in self._splitter.feed(piece, last=last):
                self._take_record(record)
                if self.rejection:
                    return
        except record_splitter.TooLong as error:
            what = f"a row of more than {record_splitter.LONGEST_ROW} bytes begins on line {error.line}"
            self._refuse(PLACE, "too-long", f"{what}: a quote mark may be missing or extra")

    def _text_problem(self, piece: bytes, *, last: bool) -> str | None:
        """Return why the pieces so far are not text in the mapping's encoding, or None."""
        if self._begin.startswith(_WORKBOOKS):
            return f"is a workbook; save it as CSV: {header.written(self._mapping)}"
        if self._begin.startswith(_UTF_16):
            return f"is written in UTF-16 ('Unicode text'); it must be {self._mapping.file.encoding}"
        if b"\x00" in piece:
            return f"{CONTAINS_NUL}; it must be {header.written(self._mapping)}"
        self._is_ascii = self._is_ascii and piece.isascii()
        if self._is_utf8:
            try:
                self._as_utf8.decode(piece, final=last)
            except UnicodeDecodeError:
                self._is_utf8 = False
        return self._encoding_problem(piece)

    def _encoding_problem(self, piece: bytes) -> str | None:
        file = self._mapping.file
        if file.codec == "utf-8":
            return None if self._is_utf8 else f"is not written in {file.encoding}; save it as CSV in UTF-8"
        if self._begin.startswith(codecs.BOM_UTF8):
            return f"is written in UTF-8; it must be {file.encoding}"
        return f"is not written in {file.encoding}" if not piece.isascii() and _NOT_IN_1252.search(piece) else None

    def _is_another_encoding(self) -> bool:
        """Return whether a file that should be Windows-1252 is UTF-8: it is not ASCII, and valid UTF-8."""
        return self._mapping.file.codec != "utf-8" and self._is_utf8 and not self._is_ascii

    # -- records

    def _take_record(self, record: CsvRecord) -> None:
        if self.layout is None:
            self._take_header(record)
        elif not record_splitter.is_blank(record, self._mapping.file):
            self.lines.append(record.line)
            if self.rows > self._most:
                self._refuse(PLACE, "too-long", f"has more than {self._most} rows; send it in several files")
            elif (reference := reference_of(self._mapping, self.layout, record.body)) is not None:
                self._references.append(reference_hash(reference))

    def _take_header(self, record: CsvRecord) -> None:
        self.above.append(record.body)
        if len(self.above) <= self._mapping.file.lines_above:
            return
        result = header.read(self._mapping, self.above)
        if isinstance(result, HeaderLayout):
            self.layout = result
            return
        self._refuse(result.place, result.kind, result.explanation + self._of_another())

    def _of_another(self) -> str:
        others = [one for one in self._all_mappings.values() if one is not self._mapping]
        owner = header.whose(others, self._begin)
        return f". This is the header of '{owner.title}'" if owner else ""

    def _refuse(self, place: str, kind: IssueKind, explanation: str) -> None:
        self.rejection = reject(Issue(place, kind, explanation))


def reference_of(mapping: CouncilMapping, layout: HeaderLayout, row: bytes) -> str | None:
    """Return the reference of a row, or None if it cannot be read."""
    cells = record_splitter.read(row, mapping.file)
    if cells is None or len(cells) <= layout.reference:
        return None
    text = clean(cells[layout.reference])
    if isinstance(text, ParseError) or not text or mapping.file.is_nothing(text):
        return None
    reference = read_reference(text, mapping.columns[mapping.reference], mapping.file)
    return None if isinstance(reference, ParseError) else str(reference)


def reference_hash(reference: str) -> int:
    """Return a 64-bit hash of a reference."""
    return int.from_bytes(hashlib.blake2b(reference.encode(), digest_size=8).digest())
