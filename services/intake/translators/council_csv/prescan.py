"""Check a whole file while it is received: its council, its encoding, its header, and repeated references.

A fault of the file as a whole gives one rejection. Memory: one piece of the file, and twelve bytes for each row; a workbook
is kept until its end, because it can only be read as a whole.
"""

import codecs
import hashlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from services.intake import limits
from services.intake.translators.council_csv import header, record_splitter, workbook
from services.intake.translators.council_csv.cell_parsers import reference as read_reference
from services.intake.translators.council_csv.cells import clean
from services.intake.translators.council_csv.header import HeaderLayout
from services.intake.translators.council_csv.mapping import CouncilMapping
from services.intake.translators.council_csv.record_splitter import CsvRecord
from services.intake.translators.council_csv.workbook_parts import UnreadableWorkbook
from services.intake.translators.form.fields import ParseError
from services.intake.translators.translator import CONTAINS_NUL, Issue, Rejection, reject

PLACE = "file"
_BEGIN = 65_536
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_LINE_ENDS = {b"\r\n": "CR LF", b"\n": "LF", b"\r": "CR", b"\n\r": "LF CR", b"\r\r\n": "CR CR LF"}


class Prescan:
    """Takes the pieces of a file in order, then `end`. `rejection` is set as soon as a fault is found."""

    def __init__(self, mapping: CouncilMapping, all_mappings: Mapping[str, CouncilMapping], most_rows: int) -> None:
        self.rejection: Rejection | None = None
        self.layout: HeaderLayout | None = None
        self.lines = array("I")
        self.mapping = mapping
        self._all_mappings = all_mappings
        self._most = most_rows
        self._splitter = record_splitter.Splitter(mapping.file)
        self._begin = b""
        self._workbook: bytearray | None = None
        self.above: list[bytes] = []
        self.uncertain: dict[int, Issue] = {}
        self._last_whole: CsvRecord | None = None
        self._spare: int | None = None
        self._foreign, self._encoding_problem = 0, ""
        self._references = array("Q")

    @property
    def rows(self) -> int:
        """Number of rows so far, without blank ones."""
        return len(self.lines)

    @property
    def is_workbook(self) -> bool:
        """Whether the file is a workbook; `mapping` is then the one for its rows."""
        return self._workbook is not None

    def take(self, piece: bytes) -> None:
        """Check the next piece; do nothing once the file is rejected."""
        before = self._begin
        self._begin += piece[: max(0, _BEGIN - len(before))]
        if len(before) < len(workbook.BEGINS) and self._begin.startswith(workbook.BEGINS):
            self._workbook, self.mapping, piece = bytearray(), self.mapping.as_workbook, before + piece
        if self.rejection:
            return
        if self._workbook is None:
            self._scan(piece, last=False)
        else:
            self._keep(self._workbook, piece)

    def end(self) -> None:
        """Make the checks that need the whole file. Of a workbook, this reads all rows: call it outside the event loop."""
        if self.rejection is None and self._workbook is None:
            self._scan(b"", last=True)
        elif self.rejection is None and self._workbook:
            self._scan_workbook(bytes(self._workbook))
        if self.rejection is None and (issue := self._file_issue()):
            self._refuse(issue)
        if self._workbook:
            self._workbook.clear()
        if self.layout and self.rows > 1:
            self.layout = replace(self.layout, spare_in_rows=self._spare or 0)

    def _file_issue(self) -> Issue | None:
        if self.layout is None and not self._begin.strip(b"\xef\xbb\xbf \t\r\n"):
            return Issue(PLACE, "required", f"is empty; {header.expected(self.mapping)}")
        if self.layout is None:
            return header.mismatch(self.mapping, self.above)
        if not self.rows:
            return Issue(PLACE, "required", "has a header but no rows: check the filter of the export")
        if self._foreign == self.rows:
            what = f"{self._encoding_problem}, in every row; it must be {header.written(self.mapping)}"
            return Issue(PLACE, "invalid", what)
        return None

    def repeated(self) -> frozenset[int]:
        """Return the hashes of the references that may be repeated."""
        return frozenset(one for before, one in pairwise(sorted(self._references)) if one == before)

    # -- pieces

    def _scan(self, piece: bytes, *, last: bool) -> None:
        if problem := self._text_problem(piece):
            self._refuse(Issue(PLACE, "invalid", problem))
            return
        try:
            for record in self._splitter.feed(piece, last=last):
                self._take_record(record)
                if self.rejection:
                    return
        except record_splitter.TooLong as error:
            self._refuse(_too_long(error.line))

    def _text_problem(self, piece: bytes) -> str | None:
        """Return why the pieces so far cannot be this council's CSV, or None. Its encoding is judged by row."""
        if self._begin.startswith(workbook.OLD_BEGINS):
            return workbook.OLD
        if self._begin.startswith(_UTF_16):
            return f"is written in UTF-16 ('Unicode text'); it must be {self.mapping.file.encoding}"
        if b"\x00" in piece:
            return f"{CONTAINS_NUL}; it must be {header.written(self.mapping)}"
        if self.mapping.file.codec != "utf-8" and self._begin.startswith(codecs.BOM_UTF8):
            return f"is written in UTF-8; it must be {self.mapping.file.encoding}"
        return None

    def _keep(self, content: bytearray, piece: bytes) -> None:
        if len(content) + len(piece) > limits.WORKBOOK_BYTES:
            content.clear()
            what = f"is a workbook of more than {limits.WORKBOOK_BYTES} bytes; save it as CSV"
            self._refuse(Issue(PLACE, "too-long", what))
        else:
            content += piece

    def _scan_workbook(self, content: bytes) -> None:
        try:
            for record in workbook.records(content, self.mapping):
                self._take_record(record)
                if self.rejection:
                    return
        except UnreadableWorkbook as error:
            self._refuse(error.issue, content)

    # -- records

    def _take_record(self, record: CsvRecord) -> None:
        if self.layout is None:
            self._take_above(record)
        elif not record_splitter.is_blank(record, self.mapping.file):
            self.lines.append(record.line)
            if self.rows > self._most:
                self._refuse(Issue(PLACE, "too-long", f"has more than {self._most} rows; send it in several files"))
            else:
                self._take_row(self.layout, record)

    def _take_above(self, record: CsvRecord) -> None:
        self.above.append(record.body)
        if sum(map(len, self.above)) > limits.ROW_BYTES:
            self._refuse(_too_long(record.line))
        elif layout := header.read(self.mapping, self.above):
            self.layout = layout
        elif len(self.above) == limits.HEADER_ROWS:
            self._refuse(header.mismatch(self.mapping, self.above))

    def _take_row(self, layout: HeaderLayout, record: CsvRecord) -> None:
        cells = record_splitter.read(record.body, self.mapping.file) if record.is_whole else None
        extra = 0 if cells is None or any(map(str.strip, cells[layout.width :])) else len(cells) - layout.width
        self._spare = extra if self._spare is None else min(self._spare, extra)
        if problem := record_splitter.encoding_problem(record.body, self.mapping.file):
            self._foreign, self._encoding_problem = self._foreign + 1, problem
        self._check_line_end(record, is_ragged=cells is None or len(cells) < layout.width)
        reference = _reference_in(self.mapping, layout, cells) if cells else None
        if reference is not None:
            self._references.append(reference_hash(reference))

    def _check_line_end(self, record: CsvRecord, *, is_ragged: bool) -> None:
        """Doubt a row if a fragment with another line end follows it: a cell may contain its line end."""
        if not is_ragged:
            self._last_whole = record
            return
        before = self._last_whole
        here = record.line_end or CsvRecord(0, self.above[-1], ends=True).line_end
        if before is None or before.line_end == here or not record.is_whole:
            return
        ends = f"{_LINE_ENDS[before.line_end]}, not with {_LINE_ENDS[here]}"
        what = f"{ends}: a cell may contain a line break without quote marks; export it again"
        self.uncertain[before.line] = Issue("row", "invalid", f"ends with {what}")
        if len(self.uncertain) > limits.UNCERTAIN_ROWS:
            self._refuse(Issue(PLACE, "invalid", f"has many rows that end with {what}"))

    def _refuse(self, issue: Issue, content: bytes | None = None) -> None:
        others = [one for one in self._all_mappings.values() if one.council != self.mapping.council]
        owner = whose(others, content or self._begin) if content is None or issue.place == header.PLACE else None
        more = f". This is the header of '{owner.title}'" if owner else ""
        self.rejection = reject(replace(issue, explanation=issue.explanation + more))


def _too_long(line: int) -> Issue:
    what = f"a row of more than {limits.ROW_BYTES} bytes begins on line {line}"
    return Issue(PLACE, "too-long", f"{what}: a quote mark may be missing or extra")


def whose(mappings: Iterable[CouncilMapping], content: bytes) -> CouncilMapping | None:
    """Return the mapping whose header the file has, or None. `content`: the file, or of a CSV file its first 64 kilobytes."""
    if content.startswith(workbook.BEGINS):
        return workbook.whose(mappings, content)
    return header.whose(mappings, content[:_BEGIN])


def reference_of(mapping: CouncilMapping, layout: HeaderLayout, row: bytes) -> str | None:
    """Return the reference of a row, or None if it cannot be read."""
    cells = record_splitter.read(row, mapping.file)
    return _reference_in(mapping, layout, cells) if cells else None


def _reference_in(mapping: CouncilMapping, layout: HeaderLayout, cells: Sequence[str]) -> str | None:
    if len(cells) <= layout.reference:
        return None
    text = clean(cells[layout.reference])
    if isinstance(text, ParseError) or not text or mapping.file.is_nothing(text):
        return None
    reference = read_reference(text, mapping.columns[mapping.reference], mapping.file)
    return None if isinstance(reference, ParseError) else str(reference)


def reference_hash(reference: str) -> int:
    """Return a 64-bit hash of a reference."""
    return int.from_bytes(hashlib.blake2b(reference.encode(), digest_size=8).digest())
