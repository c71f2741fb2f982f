"""Build .xlsx workbooks: real ones by XlsxWriter, and hostile ones by changing the parts of a real one."""

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

import xlsxwriter

from services.intake.translators.council_csv.dates import DateFormat, read
from tests.builders.csv import COUNCILS, GOOD

MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
SHEET = "xl/worksheets/sheet1.xml"
STRINGS = "xl/sharedStrings.xml"

Cell = str | int | float | bool | date | None
Arrange = Callable[[Any, Any], None]


def a_sheet(
    rows: Sequence[Sequence[Cell]], *, at: tuple[int, int] = (0, 0), more: Arrange | None = None, **options: Any
) -> bytes:
    """A workbook of one sheet with these rows; `at`: row and column of the first cell, from 0; `more` changes workbook and sheet."""
    written = io.BytesIO()
    with xlsxwriter.Workbook(written, {"in_memory": True, **options}) as workbook:
        day, moment = (workbook.add_format({"num_format": shown}) for shown in ("dd/mm/yyyy", "dd mmm yyyy hh:mm:ss"))
        sheet = workbook.add_worksheet()
        for down, cells in enumerate(rows, start=at[0]):
            for right, cell in enumerate(cells, start=at[1]):
                if isinstance(cell, str):
                    sheet.write_string(down, right, cell)
                elif isinstance(cell, date):
                    sheet.write_datetime(down, right, cell, moment if isinstance(cell, datetime) else day)
                elif cell is not None:
                    sheet.write(down, right, cell)
        if more:
            more(workbook, sheet)
    return written.getvalue()


def a_workbook(
    council: str, rows: Sequence[Mapping[str, Cell]] | None = None, *, title: Sequence[Cell] = (), **options: Any
) -> bytes:
    """A council's file as a workbook, with these rows or with one good one."""
    headers = list(COUNCILS[council].headers.values())
    found = [GOOD[council]] if rows is None else rows
    above = [title] if title else []
    return a_sheet([*above, headers, *([row.get(name) or None for name in headers] for row in found)], **options)


def typed(text: str, formats: tuple[DateFormat, ...] | None, years_from: int | None) -> Cell:
    """A cell's text as a person would have typed it in a spreadsheet: a date as a date, digits as a number."""
    if formats:
        found = read(text, formats, years_from)
        return found if found is None or found.time() != datetime.min.time() else found.date()
    return int(text) if text.isdigit() and text == str(int(text)) and len(text) <= 15 else text


def changed(workbook: bytes, parts: Mapping[str, bytes | None], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A workbook with these parts replaced, added, or (None) removed."""
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(workbook)) as before, zipfile.ZipFile(written, "w", method) as after:
        kept = {name: before.read(name) for name in before.namelist()}
        for name, content in {**kept, **parts}.items():
            if content is not None:
                after.writestr(name, content)
    return written.getvalue()


def part_of(workbook: bytes, name: str) -> bytes:
    """The content of one part."""
    with zipfile.ZipFile(io.BytesIO(workbook)) as archive:
        return archive.read(name)
