"""Read an .xlsx workbook as the records of a CSV file in one dialect: header and rows of the only visible sheet with the header."""

import codecs
import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from services.intake import limits
from services.intake.translators.council_csv import header
from services.intake.translators.council_csv.mapping import CouncilMapping
from services.intake.translators.council_csv.record_splitter import CsvRecord
from services.intake.translators.council_csv.workbook_parts import (
    DAMAGED,
    PLACE,
    SheetRow,
    UnreadableWorkbook,
    Workbook,
    invalid,
    too_long,
)
from services.intake.translators.translator import Issue

BEGINS = b"PK\x03\x04"
OLD_BEGINS = b"\xd0\xcf\x11\xe0"
"""First bytes of an .xls workbook, and of a workbook with a password."""

OLD = "is an .xls workbook, or has a password; save it as .xlsx without a password"

_KIND = "a workbook"


def records(content: bytes, mapping: CouncilMapping) -> Iterator[CsvRecord]:
    """Yield the header, then each row that is not blank, in the dialect of `mapping.as_workbook`; `line` is the sheet's row.

    Raises UnreadableWorkbook. Memory: the strings that the sheets share, and one step of a part.
    """
    try:
        yield from _records(Workbook(content), mapping.as_workbook)
    except DAMAGED as error:
        raise invalid("is damaged, or not an .xlsx workbook; save it as .xlsx again, or as CSV") from error


def whose(mappings: Iterable[CouncilMapping], content: bytes) -> CouncilMapping | None:
    """Return the mapping whose header a visible sheet has, or None."""
    try:
        candidates = list(_candidates(Workbook(content)))
    except (UnreadableWorkbook, *DAMAGED):
        return None
    return next((mapping for mapping in mappings if _with_header(mapping.as_workbook, candidates)), None)


# ---- the sheet with the header --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Table:
    """A row that may be a header: its sheet, its row number, its first column, its width, and the row as CSV."""

    sheet: str
    row: int
    first: int
    width: int
    line: bytes


def _records(book: Workbook, mapping: CouncilMapping) -> Iterator[CsvRecord]:
    table = _table(mapping, list(_candidates(book)))
    size = 0
    for row in book.rows(table.sheet):
        if row.number < table.row:
            continue
        record = CsvRecord(row.number, table.line, ends=True) if row.number == table.row else _record(row, table)
        size += len(record.body)
        if size > limits.FILE_BYTES:
            raise too_long("too many bytes of text", limits.FILE_BYTES)
        yield record


def _candidates(book: Workbook) -> Iterator[_Table]:
    """Yield the first rows of each visible sheet that have a value."""
    for sheet in book.visible_sheets:
        for row in islice(book.rows(sheet, limits.WORKBOOK_SEARCH_BYTES), limits.HEADER_ROWS):
            first, width = row.cells[0][0], row.cells[-1][0] - row.cells[0][0] + 1
            cells, _ = _inside(row, first, width)
            yield _Table(sheet, row.number, first, width, codecs.BOM_UTF8 + _line(cells))


def _with_header(mapping: CouncilMapping, candidates: Iterable[_Table]) -> Mapping[str, _Table]:
    """Return the first row of each sheet that is the header, by sheet."""
    tables: dict[str, _Table] = {}
    for table in candidates:
        if table.sheet not in tables and header.read(mapping, [table.line]):
            tables[table.sheet] = table
    return tables


def _table(mapping: CouncilMapping, candidates: Sequence[_Table]) -> _Table:
    tables = _with_header(mapping, candidates)
    if len(tables) > 1:
        raise invalid(f"has the header on {len(tables)} visible sheets: send one of them, or hide the others")
    if not candidates:
        raise UnreadableWorkbook(Issue(PLACE, "required", f"is empty; {header.expected(mapping, _KIND)}"))
    if not tables:
        raise UnreadableWorkbook(header.mismatch(mapping, [table.line for table in candidates], _KIND))
    return next(iter(tables.values()))


def _record(row: SheetRow, table: _Table) -> CsvRecord:
    """Return a row as CSV. Cells outside the table stand behind the others: the row is refused for their number."""
    cells, outside = _inside(row, table.first, table.width)
    body = _line([*cells, *outside])
    if row.is_whole and len(body) <= limits.ROW_BYTES:
        return CsvRecord(row.number, body, ends=True)
    return CsvRecord(row.number, body.ljust(limits.ROW_BYTES + 1)[: limits.ROW_BYTES + 1], ends=True, is_whole=False)


def _inside(row: SheetRow, first: int, width: int) -> tuple[list[str], list[str]]:
    """Return the cells of these columns, and the others that are not blank."""
    cells, outside = [""] * width, []
    for column, text in row.cells:
        if 0 <= column - first < width:
            cells[column - first] = text
        elif text.strip():
            outside.append(text)
    return cells, outside


def _line(cells: Sequence[str]) -> bytes:
    written = io.StringIO(newline="")
    csv.writer(written, lineterminator="\r\n").writerow(cells)
    return written.getvalue().encode()
