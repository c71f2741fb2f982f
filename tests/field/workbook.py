"""Write small .xlsx workbooks (ECMA-376), part by part, without the library that the product reads them with."""

import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape, quoteattr

Cell = Any
"""A text, number, bool or None; or {"date": DAY_NUMBER}, {"time": DAY_NUMBER}, {"formula": TEXT, "value": CELL}, {"error": TEXT}."""

DATE, TIME = 1, 2
"""Indexes of the two cell formats in styles.xml."""

_XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_DOCUMENT = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_STYLES = (
    f'<styleSheet xmlns="{_MAIN}"><fonts count="1"><font/></fonts><fills count="1"><fill/></fills>'
    '<borders count="1"><border/></borders><cellStyleXfs count="1"><xf/></cellStyleXfs><cellXfs count="3">'
    '<xf/><xf numFmtId="14" applyNumberFormat="1"/><xf numFmtId="22" applyNumberFormat="1"/></cellXfs></styleSheet>'
)


@dataclass(frozen=True)
class Sheet:
    """One sheet. `places`: further cells by their place, such as XFD1048576."""

    rows: Sequence[Sequence[Cell]]
    name: str = "Sheet1"
    hidden: bool = False
    places: Mapping[str, Cell] | None = None


def written(*sheets: Sheet) -> bytes:
    """Return the workbook's bytes."""
    return archive(dict(_parts(sheets)))


def archive(parts: Mapping[str, str | bytes]) -> bytes:
    """Return a zip archive with these parts, the same bytes each time."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as made:
        for name, part in parts.items():
            made.writestr(zipfile.ZipInfo(name, (2026, 11, 29, 0, 0, 0)), part, zipfile.ZIP_DEFLATED)
    return whole.getvalue()


def of_text(text: str) -> bytes:
    """Return the workbook that a text describes: a JSON list of sheets, each an object of the fields of `Sheet`."""
    return written(*(Sheet(**one) for one in json.loads(text)))


def _parts(sheets: Sequence[Sheet]) -> Iterator[tuple[str, str]]:
    numbered = list(enumerate(sheets, start=1))
    kinds = "".join(
        f'<Override PartName="/xl/worksheets/sheet{at}.xml" ContentType="{_TYPE}.worksheet+xml"/>' for at, _ in numbered
    )
    yield (
        "[Content_Types].xml",
        f'{_XML}<Types xmlns="{_PACKAGE}/content-types"><Default Extension="rels" '
        'ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Default Extension="xml" '
        f'ContentType="application/xml"/><Override PartName="/xl/workbook.xml" ContentType="{_TYPE}.sheet.main+xml"/>'
        f'<Override PartName="/xl/styles.xml" ContentType="{_TYPE}.styles+xml"/>{kinds}</Types>',
    )
    yield "_rels/.rels", _relations([("rId1", "officeDocument", "xl/workbook.xml")])
    listed = "".join(
        f'<sheet name={quoteattr(one.name)} sheetId="{at}"{" state=" + quoteattr("hidden") if one.hidden else ""} r:id="rId{at}"/>'
        for at, one in numbered
    )
    yield (
        "xl/workbook.xml",
        f'{_XML}<workbook xmlns="{_MAIN}" xmlns:r="{_DOCUMENT}"><sheets>{listed}</sheets></workbook>',
    )
    targets = [(f"rId{at}", "worksheet", f"worksheets/sheet{at}.xml") for at, _ in numbered]
    yield "xl/_rels/workbook.xml.rels", _relations([*targets, ("rIdS", "styles", "styles.xml")])
    yield "xl/styles.xml", _XML + _STYLES
    for at, one in numbered:
        yield f"xl/worksheets/sheet{at}.xml", _sheet(one)


def _relations(targets: Sequence[tuple[str, str, str]]) -> str:
    links = "".join(f'<Relationship Id="{id_}" Type="{_DOCUMENT}/{kind}" Target="{to}"/>' for id_, kind, to in targets)
    return f'{_XML}<Relationships xmlns="{_PACKAGE}/relationships">{links}</Relationships>'


def _sheet(sheet: Sheet) -> str:
    rows = [
        "".join(_cell(f"{_letters(at)}{number}", cell) for at, cell in enumerate(cells) if cell is not None)
        for number, cells in enumerate(sheet.rows, start=1)
    ]
    lines = [f'<row r="{number}">{cells}</row>' for number, cells in enumerate(rows, start=1) if cells]
    for place, cell in (sheet.places or {}).items():
        lines.append(f'<row r="{place.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")}">{_cell(place, cell)}</row>')
    return f'{_XML}<worksheet xmlns="{_MAIN}"><sheetData>{"".join(lines)}</sheetData></worksheet>'


def _cell(place: str, cell: Cell) -> str:
    match cell:
        case bool():
            return f'<c r="{place}" t="b"><v>{int(cell)}</v></c>'
        case int() | float():
            return f'<c r="{place}"><v>{cell}</v></c>'
        case {"date": day}:
            return f'<c r="{place}" s="{DATE}"><v>{day}</v></c>'
        case {"time": day}:
            return f'<c r="{place}" s="{TIME}"><v>{day}</v></c>'
        case {"error": text}:
            return f'<c r="{place}" t="e"><v>{text}</v></c>'
        case {"formula": formula, "value": str(value)}:
            return f'<c r="{place}" t="str"><f>{escape(formula)}</f><v>{escape(value)}</v></c>'
        case {"formula": formula, "value": value}:
            return f'<c r="{place}"><f>{escape(formula)}</f><v>{value}</v></c>'
        case _:
            return f'<c r="{place}" t="inlineStr"><is><t xml:space="preserve">{escape(str(cell))}</t></is></c>'


def _letters(column: int) -> str:
    """The letters of a column that is counted from 0."""
    return (_letters(column // 26 - 1) if column >= 26 else "") + chr(65 + column % 26)
