"""Write small .xlsx workbooks from plain data, the same bytes each time."""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import xlsxwriter

Cell = Any
"""A text, number, bool or None; or {"date": DAY_NUMBER}, {"time": DAY_NUMBER}, {"formula": TEXT, "value": CELL}, {"error": TEXT}."""

WRITTEN_ON = datetime(2026, 11, 29)
DATE, TIME = 14, 22
"""Number formats that are built into every workbook."""


@dataclass(frozen=True)
class Sheet:
    """One sheet. `places`: further cells by their place, such as XFD1048576."""

    rows: Sequence[Sequence[Cell]]
    name: str = "Sheet1"
    hidden: bool = False
    places: Mapping[str, Cell] | None = None


def written(*sheets: Sheet) -> bytes:
    """Return the workbook's bytes."""
    content = io.BytesIO()
    with xlsxwriter.Workbook(content, {"in_memory": True, "strings_to_formulas": False}) as workbook:
        workbook.set_properties({"created": WRITTEN_ON})
        formats = {
            kind: workbook.add_format({"num_format": number}) for kind, number in (("date", DATE), ("time", TIME))
        }
        for one in sheets:
            sheet = workbook.add_worksheet(one.name)
            if one.hidden:
                sheet.hide()
            for down, cells in enumerate(one.rows):
                for right, cell in enumerate(cells):
                    _write(sheet, (down, right), cell, formats)
            for place, cell in (one.places or {}).items():
                _write(sheet, (place,), cell, formats)
    return content.getvalue()


def _write(sheet: Any, at: tuple[int | str, ...], cell: Cell, formats: Mapping[str, Any]) -> None:
    match cell:
        case None:
            return
        case {"date": day}:
            sheet.write_number(*at, day, formats["date"])
        case {"time": day}:
            sheet.write_number(*at, day, formats["time"])
        case {"error": text}:
            sheet.write_formula(*at, "=NA()", None, text)
        case {"formula": formula, "value": value}:
            sheet.write_formula(*at, formula, None, value)
        case str():
            sheet.write_string(*at, cell)
        case _:
            sheet.write(*at, cell)


def archive(parts: Mapping[str, str | bytes]) -> bytes:
    """Return a zip archive with these parts, the same bytes each time."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as made:
        for name, part in parts.items():
            made.writestr(zipfile.ZipInfo(name, WRITTEN_ON.timetuple()[:6]), part, zipfile.ZIP_DEFLATED)
    return whole.getvalue()


def of_text(text: str) -> bytes:
    """Return the workbook that a text describes: a JSON list of sheets, each an object of the fields of `Sheet`."""
    return written(*(Sheet(**one) for one in json.loads(text)))
