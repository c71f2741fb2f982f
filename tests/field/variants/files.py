"""Kinds of councils' files: encodings, line ends, what stands above and around, workbooks, and dry runs."""

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

from tests.field import http_bodies, workbook
from tests.field.variants import Made, kind
from tests.field.variants.council import FAMILY, Council, a_council, read_as
from tests.field.variants.draw import Draw
from tests.field.workbook import Sheet

LINE_ENDS = {
    "LF": b"\n",
    "CR": b"\r",
    "CR LF": b"\r\n",
    "CR CR LF": b"\r\r\n",
    "LF CR": b"\n\r",
    "two of them": b"\r\n\r\n",
}


def _two(draw: Draw, *needed: str) -> tuple[Council, Council]:
    """Rows of two people from one council."""
    one = a_council(draw, *needed)
    return one, Council(draw, one.name)


def _file(*rows: Council) -> bytes:
    return rows[0].export.file(*(row.export.row(**row.cells) for row in rows))


def _received(*rows: Council, **more: Any) -> list[Mapping[str, Any]]:
    event = {FAMILY: {"is": [rows[0].family]}}
    return [{"answers": [200], "rows": ["received"] * len(rows), "faults": {}, "warnings": {}, "event": event, **more}]


@kind("csv-line-ends")
def line_ends(draw: Draw) -> Made:
    """A line end of any kind ends a row, also different ones in one file; a line break inside quotes does not."""
    one, two = _two(draw)
    ends = draw.each(
        [*([end] for end in sorted(LINE_ENDS)), ["CR LF", "LF"], ["CR", "CR LF", "LF"], ["LF", "CR CR LF"]]
    )
    lines = _file(one, two).split(b"\r\n")[:-1]
    written = [LINE_ENDS[ends[at % len(ends)]] for at in range(len(lines))]
    file = b"".join(line + end for line, end in zip(lines, written, strict=True))
    return f"{one.name}: {' and '.join(ends)}", [one.sent(file)], _received(one, two)


@kind("csv-encodings")
def encodings(draw: Draw) -> Made:
    """A row in another encoding than the file's is refused by itself; the rest of the file is taken."""
    one, two = _two(draw)
    one.family = one.family + "é"
    two.family = two.family + draw.one_of(["é", "ü’", "–ô"])
    for row in (one, two):
        row.cells[row.columns.family or row.columns.name or ""] = row.written_name
    other = "utf-8" if one.export.codec == "cp1252" else "cp1252"
    is_other = draw.each([True, False])
    rows = [one.export.row(**one.cells), two.export.row(other if is_other else None, **two.cells)]
    sent = one.sent(one.export.file(*rows))
    if not is_other:
        return f"{one.name}: {one.export.codec}", [sent], _received(one, two)
    right = {"rows": ["received", "refused"], "faults": {"row": "invalid"}, "event": {FAMILY: {"is": [one.family]}}}
    return f"{one.name}: a row in {other}", [sent], [{"answers": [200], **right, "nowhere": [two.reference]}]


@kind("csv-around-the-rows")
def around_the_rows(draw: Draw) -> Made:
    """What stands above the header or between the rows and is no row changes nothing; the numbers of rows are the file's."""
    one, two = _two(draw)
    width, mark = len(one.export.names), one.export.delimiter
    blank = (mark * (width - 1) + "\r\n").encode()
    bare = one.export.above.removeprefix(b"\xef\xbb\xbf")
    above: dict[str, bytes] = {
        "sep=": f"sep={mark}\r\n".encode() + bare,
        "a blank row above": blank + bare,
        "a title above": b"Cases of November" + blank + bare,
        "three rows above": b"Cases of November" + blank + blank + b"From the register" + blank,
        "a byte order mark": b"\xef\xbb\xbf" + bare,
    }
    head, rows = (
        (one.export.header + "\r\n").encode(one.export.codec),
        [row.export.row(**row.cells) for row in (one, two)],
    )
    between: dict[str, bytes] = {
        "a blank row between": bare + head + rows[0] + blank + rows[1],
        "blank lines at the end": bare + head + rows[0] + rows[1] + b"\r\n\r\n",
        "one more empty column": (bare + head + rows[0] + rows[1]).replace(b"\r\n", mark.encode() + b"\r\n"),
        "header in capitals": bare + head.upper() + rows[0] + rows[1],
    }
    what = draw.each([*above, *between])
    file = between[what] if what in between else above[what] + head + rows[0] + rows[1]
    if what == "a byte order mark" and one.export.codec == "cp1252":
        return f"{one.name}: {what} of another encoding", [one.sent(file)], [{"answers": [400], "published": "nothing"}]
    return f"{one.name}: {what}", [one.sent(file)], _received(one, two)


@kind("csv-cells-that-shift")
def cells_that_shift(draw: Draw) -> Made:
    """A row with a cell too few or too many is refused by itself, also if the cell that is over at its end is empty."""
    one, two = _two(draw)
    values = two.export.values(two.cells)
    at = draw.between(1, len(values) - 2)
    what, changed = draw.each(
        [
            ("one too many in the middle", [*values[:at], "a word", *values[at:]]),
            ("one too many, and empty ones at the end", [*values[:at], "a word", *values[at:-1], ""]),
            ("one too few", [*values[:at], *values[at + 1 :]]),
        ]
    )
    file = one.export.file(one.export.row(**one.cells), two.export.line(changed))
    right = {"rows": ["received", "refused"], "faults": {"row": "invalid"}, "event": {FAMILY: {"is": [one.family]}}}
    return f"{one.name}: {what}", [one.sent(file)], [{"answers": [200], **right, "nowhere": [two.reference]}]


@kind("csv-media-types")
def media_types(draw: Draw) -> Made:
    """What the sender calls the file decides nothing, but a charset that contradicts the agreed one refuses it."""
    one = a_council(draw)
    agreed = "windows-1252" if one.export.codec == "cp1252" else "utf-8"
    wrong = draw.one_of(["utf-16", "windows-1252" if agreed == "utf-8" else "utf-8"])
    named = [
        f"text/csv; charset={agreed}",
        f"text/csv; charset={wrong}",
        f'text/csv; charset="{agreed.upper()}"; header=present',
    ]
    name = draw.each(
        ["text/csv", "application/vnd.ms-excel", "application/octet-stream", *named, "multipart/form-data"]
    )
    if name == f"text/csv; charset={wrong}":
        return f"{one.name}: {name}", [one.sent(media_type=name)], [{"answers": [415], "published": "nothing"}]
    if name == "multipart/form-data":
        of_part = draw.one_of(["text/csv", "application/vnd.ms-excel"])
        media_type, body = http_bodies.multipart((draw.word(), "cases.csv", of_part, one.file))
        return f"{one.name}: {name}", [one.sent(body, media_type)], read_as(one, {})
    return f"{one.name}: {name}", [one.sent(media_type=name)], read_as(one, {})


@kind("csv-dry-run")
def dry_run(draw: Draw) -> Made:
    """A dry run says what would be, and leaves everything as it is."""
    one, two = _two(draw)
    two.cells[two.columns.born] = "48"
    file = _file(one, two)
    held = draw.each([False, True])
    rows = ["already-held" if held else "received", "refused"]
    faults = {two.columns.born: "value"}
    right: dict[str, Any] = {
        "answer": {"has": ['"dry_run":true']},
        "rows": rows,
        "faults": faults,
        "nowhere": [two.reference],
    }
    dry = one.sent(file, query="?dry-run=true")
    if held:
        event = {FAMILY: {"is": [one.family]}, "version": {"is": [1]}}
        return f"{one.name}: held", [one.sent(), dry], [{"answers": [200, 200], **right, "event": event}]
    return f"{one.name}: new", [dry], [{"answers": [200], **right, "published": "nothing"}]


# ---- workbooks ----------------------------------------------------------------------------------------------------------


@kind("csv-workbooks")
def workbooks(draw: Draw) -> Made:
    """A sheet says what the same row says as text: dates, numbers and words, wherever the sheet and its header stand."""
    one = a_council(draw)
    born = date(draw.between(1931, 1999), draw.between(1, 12), draw.between(1, 28))
    cells: dict[str, Any] = {**one.cells, one.columns.born: {"date": (born - date(1899, 12, 30)).days}}
    event: dict[str, Any] = {"referral.person.birth_date": {"is": [f"{born}"]}}
    if one.columns.number:
        number = draw.nhs_number()
        cells[one.columns.number] = draw.one_of([int(number), number, f"{number[:3]} {number[3:6]} {number[6:]}"])
        event["referral.person.nhs_number"] = {"is": [number]}
    if one.columns.note:
        note = f"{draw.word()} {draw.word()}"
        cells[one.columns.note] = draw.one_of([note, {"formula": 'CONCATENATE("a","b")', "value": note}])
        event["referral.reason.text"] = {"is": [note]}
    row = [cells.get(name, one.export.usual.get(name)) for name in one.export.names]
    what, above = draw.each([("at the top", []), ("under a title", [["Cases"]]), ("under two rows", [["Cases"], []])])
    sheets = [Sheet([*above, one.export.names, row], "Cases")]
    other, more = draw.each(OTHER_SHEETS)
    book = workbook.written(*more(one, sheets))
    return f"{one.name}: {what}, {other}", [one.sent(book, http_bodies.XLSX)], read_as(one, event)


OTHER_SHEETS: list[tuple[str, Callable[[Council, list[Sheet]], list[Sheet]]]] = [
    ("alone", lambda _, sheets: sheets),
    ("behind notes", lambda _, sheets: [Sheet([["Written by", "Mary"]], "Notes"), *sheets]),
    ("before a hidden one", lambda one, sheets: [*sheets, Sheet([one.export.names], "Old", hidden=True)]),
    ("before an empty one", lambda _, sheets: [*sheets, Sheet([], "Sheet2")]),
]


@kind("csv-workbooks-refused")
def workbooks_refused(draw: Draw) -> Made:
    """A workbook that cannot be read without doubt, or is larger than it looks, is refused whole."""
    one = a_council(draw)
    row = one.export.values(one.cells)
    good = Sheet([one.export.names, row], "A")
    what, book = draw.each(
        [
            ("two sheets with the header", workbook.written(good, Sheet([one.export.names, row], "B"))),
            ("no header", workbook.written(Sheet([row], "A"))),
            ("only hidden", workbook.written(Sheet([one.export.names, row], "A", hidden=True), Sheet([["x"]], "B"))),
            ("cut off", workbook.written(good)[: -draw.between(30, 300)]),
            ("an OLE file", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)),
            ("a zip of something else", workbook.archive({"word/document.xml": b"<document/>"})),
        ]
    )
    media_type = draw.one_of([http_bodies.XLSX, "application/octet-stream", "application/vnd.ms-excel"])
    right = {"answers": [[400, 413, 415]], "published": "nothing", "nowhere": [one.reference]}
    return f"{one.name}: {what}", [one.sent(book, media_type)], [right]
