"""Workbooks as records: what a cell holds, which sheet is read, and what a workbook may not make of a few bytes."""

import io
import re
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from typing import Any

import pytest
import python_calamine
from hypothesis import given, settings
from hypothesis import strategies as st

from services.intake import limits
from services.intake.translators import council_csv
from services.intake.translators.council_csv import workbook
from services.intake.translators.council_csv.cells import NO_VALUE, clean
from services.intake.translators.council_csv.header import without_mark
from services.intake.translators.council_csv.prescan import Prescan
from services.intake.translators.council_csv.record_splitter import Splitter, read
from services.intake.translators.council_csv.workbook_cells import (
    NOT_COMPUTED,
    in_pattern,
    moment,
    number,
    number_format,
)
from services.intake.translators.council_csv.workbook_parts import UnreadableWorkbook
from services.intake.translators.inbound_message import InboundMessage
from services.intake.translators.translator import Translated
from tests.builders.csv import COUNCILS, GOOD, a_file
from tests.builders.workbook import SHEET, STRINGS, Cell, a_sheet, a_workbook, changed, part_of, typed
from tests.contract.translators.adapters import ATTACHMENT_KEY, RECEIVED_AT, a_partner

BLABY = COUNCILS["blaby"]
HEADERS = list(BLABY.headers.values())
GOOD_BOOK = a_workbook("blaby")


def table(content: bytes, council: str = "blaby") -> list[tuple[int, list[str] | None]]:
    """The sheet's row number and the cells of each record."""
    mapping = COUNCILS[council]
    found = workbook.records(content, mapping)
    return [(one.line, read(without_mark(one.body), mapping.as_workbook.file)) for one in found]


def prescanned(content: bytes, council: str = "blaby", size: int = 1_000) -> Prescan:
    scan = Prescan(COUNCILS[council], COUNCILS, limits.FILE_ROWS)
    for at in range(0, len(content), size):
        scan.take(content[at : at + size])
    scan.end()
    return scan


def refusal(content: bytes) -> str:
    scan = prescanned(content)
    assert scan.rejection
    return scan.rejection.issues[0].explanation


def first_cells(*cells: Cell, **options: Any) -> list[str]:
    """A row's cells as they are read."""
    ((_, _), (_, found)) = table(a_sheet([HEADERS, cells], **options))
    assert found
    return found[: len(cells)]


# ---- cells ----------------------------------------------------------------------------------------------------------


def test_a_cell_is_what_its_workbook_stores() -> None:
    cells = ["007", 7, 4150.5, 9990000018, True, False, "two\nlines", " a ", date(2026, 11, 5)]
    expected = ["007", "7", "4150.5", "9990000018", "TRUE", "FALSE", "two\nlines", " a ", "2026-11-05"]
    assert first_cells(*cells) == expected
    assert first_cells(datetime(2026, 11, 5, 16, 5), datetime(2026, 11, 5, 16, 5, 9)) == [
        *("2026-11-05 16:05", "2026-11-05 16:05:09")
    ]


@pytest.mark.parametrize("first", ["1900", "1904"])
def test_a_date_is_the_same_in_both_date_systems(first: str) -> None:
    assert first_cells(date(1944, 2, 29), date_1904=first == "1904") == ["1944-02-29"]


@pytest.mark.parametrize(
    ("stored", "text"),
    [
        *(("1", "1"), ("-12", "-12"), ("1.0", "1"), ("0.30000000000000004", "0.3"), ("1E3", "1000")),
        *(("999999999999999", "999999999999999"), ("9990000018123456", "9.99000001812346E+15")),
        *(("1E+400", "INF"), ("nonsense", "nonsense")),
    ],
)
def test_a_number_is_whole_without_decimals_and_says_if_digits_were_lost(stored: str, text: str) -> None:
    assert number(stored).replace("inf", "INF") == text


@pytest.mark.parametrize(
    ("stored", "is_1904", "text"),
    [
        *(("1", False, "1900-01-01"), ("59", False, "1900-02-28"), ("60", False, "1900-02-29")),
        *(("61", False, "1900-03-01"), ("0", False, "1900-01-00"), ("0", True, "1904-01-01")),
        *(("46331.999999", False, "2026-11-06"), ("-1", False, "########"), ("2958466", False, "########")),
    ],
)
def test_a_day_number_is_the_day_that_is_shown(stored: str, is_1904: bool, text: str) -> None:
    assert moment(stored, "date", is_1904=is_1904) == text


@pytest.mark.parametrize("is_1904", [False, True])
def test_a_number_that_is_not_shown_as_a_date_is_no_day_number(is_1904: bool) -> None:
    scan = prescanned(a_workbook("hinckley-bosworth", date_1904=is_1904), "hinckley-bosworth")
    assert "excel-serial" in COUNCILS["hinckley-bosworth"].file.dates
    assert "excel-serial" not in scan.mapping.file.dates


def test_a_time_alone_is_a_time() -> None:
    assert moment("0.5", "time", is_1904=False) == "12:00"


@pytest.mark.parametrize(
    ("code", "shown_as"),
    [
        *(("dd/mm/yyyy", "date"), ("mmmm", "date"), ("[$-809]d mmmm yyyy;@", "date"), ("yyyy\\-mm\\-dd hh:mm", "date")),
        *(("h:mm AM/PM", "time"), ("[h]:mm:ss", "time"), ("General", "number"), ("0.00", "number")),
        *(('#,##0" days"', "number"), ("[Red]0;[Blue]dd", "number"), ("_-* #,##0_-", "number"), ("0.00E+00", "number")),
    ],
)
def test_a_number_format_is_of_a_date_if_it_shows_a_day_month_or_year(code: str, shown_as: str) -> None:
    assert number_format(code) == shown_as


def test_a_formula_is_its_stored_value_and_an_error_is_refused_like_in_a_csv_file() -> None:
    def formulas(_: Any, sheet: Any) -> None:
        sheet.write_formula(1, 0, '="BDC/"&1', None, "BDC/1")
        sheet.write_formula(1, 4, "=1/0", None, "#DIV/0!")

    content = a_sheet([HEADERS], more=formulas)
    ((_, _), (_, cells)) = table(content)
    assert cells
    assert (cells[0], cells[4]) == ("BDC/1", "#DIV/0!")


@pytest.mark.parametrize("value", [b"", b"<v/>", b"<v></v>"])
def test_a_formula_that_no_spreadsheet_has_computed_is_refused_like_an_error(value: bytes) -> None:
    content = a_sheet([HEADERS, ["BDC/1", "computed"]])
    row = b'<row r="2"><c r="A2"><f>B1</f>' + value + b'</c><c r="B2" t="str"><f>""</f><v></v></c></row>'
    sheet = re.sub(rb'<row r="2".*?</row>', lambda _: row, part_of(content, SHEET))
    (_, (_, cells)) = table(changed(content, {SHEET: sheet}))
    assert cells
    assert cells[:2] == [NOT_COMPUTED, ""]
    assert clean(NOT_COMPUTED, "text") == NO_VALUE


@pytest.mark.parametrize(
    ("code", "stored", "text"),
    [
        *(("00000", "12", "00012"), ("00000", "123456", "123456"), ("00000", "12.5", "12.5"), ("00000", "-5", "-5")),
        *(('"MEL/"0000', "12", "MEL/0012"), ("\\D0000", "12", "D0012"), ('0000"/26"', "12", "0012/26")),
        *(("000\\ 000\\ 0000", "9990000018", "999 000 0018"), ("00000 000000", "1632960112", "01632 960112")),
        *(("00-00", "12345", "123-45"), ('"R0"000', "12", "12"), ("0", "12", "12"), ("0;-0", "12", "12")),
    ],
)
def test_a_number_with_leading_zeros_or_signs_is_the_text_that_is_shown(code: str, stored: str, text: str) -> None:
    pattern = number_format(code)
    assert (in_pattern(stored, pattern) if isinstance(pattern, tuple) else number(stored)) == text


def test_a_long_number_format_is_cut_and_an_index_is_never_counted_from_the_end() -> None:
    assert number_format("[" * 100_000 + "d") == "number"
    content = a_sheet([HEADERS, ["BDC/1"]])
    for cell in (b'<c r="A2" t="s"><v>-1</v></c>', b'<c r="A2" s="-1"><v>1</v></c>'):
        sheet = re.sub(
            rb'<row r="2".*?</row>', lambda _, one=cell: b'<row r="2">' + one + b"</row>", part_of(content, SHEET)
        )
        with pytest.raises(UnreadableWorkbook):
            table(changed(content, {SHEET: sheet}))


def test_a_rich_text_is_one_text_and_an_escaped_character_is_a_character() -> None:
    def rich(book: Any, sheet: Any) -> None:
        sheet.write_rich_string(1, 0, "one ", book.add_format({"bold": True}), "two", " three")
        sheet.write_string(1, 1, "a_x000D_b_x005F_c\x0b")

    ((_, _), (_, cells)) = table(a_sheet([HEADERS], more=rich))
    assert cells
    assert cells[:2] == ["one two three", "a_x000D_b_x005F_c\x0b"]


cells_of_any_kind = st.one_of(
    st.text(
        st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"), min_size=1
    ),
    st.integers(-(10**14), 10**14),
    st.floats(-1e9, 1e9).map(lambda value: round(value, 6)),
    st.booleans(),
    st.dates(date(1904, 1, 2), date(2199, 1, 1)),
    st.datetimes(datetime(1904, 1, 2), datetime(2199, 1, 1)).map(lambda value: value.replace(microsecond=0)),
)


def as_calamine_reads_it(value: object) -> str:
    match value:
        case bool():
            return str(value).upper()
        case float():
            return str(int(value)) if value.is_integer() else f"{value:.15g}"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S}".removesuffix(":00") if value.time() != time() else f"{value:%Y-%m-%d}"
        case _:
            return str(value)


@given(
    rows=st.lists(st.lists(cells_of_any_kind, min_size=1, max_size=6), min_size=1, max_size=4), is_1904=st.booleans()
)
@settings(max_examples=60, deadline=None)
def test_cells_are_read_as_another_reader_reads_them(rows: list[list[Cell]], is_1904: bool) -> None:
    content = a_sheet([HEADERS, *rows], date_1904=is_1904)
    with python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(content)) as other:
        expected = [[as_calamine_reads_it(cell) for cell in row] for row in other.get_sheet_by_index(0).to_python()]
    assert [cells for _, cells in table(content)] == expected


# ---- the same file as CSV and as a workbook -------------------------------------------------------------------------


def translated(council: str, content: bytes) -> list[tuple[Any, ...]]:
    """What is made of each row of a file, CSV or workbook."""
    scan = prescanned(content, council)
    assert scan.rejection is None, scan.rejection
    assert scan.layout
    mapping = scan.mapping
    found = workbook.records(content, mapping) if scan.is_workbook else Splitter(mapping.file).feed(content, last=True)
    translate = council_csv.translator(mapping, scan.layout)
    made = []
    for record in list(found)[len(scan.above) :]:
        body = scan.layout.bytes + record.body
        outcome = translate(InboundMessage(a_partner(mapping.partner), body, RECEIVED_AT, ATTACHMENT_KEY))
        assert isinstance(outcome, Translated), outcome
        made.append((outcome.referral_id, outcome.sent_at, outcome.content_hash, outcome.referral))
    return made


def as_typed(council: str, row: Mapping[str, str], chosen: Callable[[str], bool]) -> dict[str, Cell]:
    """A row with the chosen cells as dates and numbers."""
    mapping = COUNCILS[council]
    made: dict[str, Cell] = dict(row)
    for name, column in mapping.columns.items():
        is_date = column.kind in ("date", "moment")
        formats = mapping.file.dates if is_date else None
        if row.get(name) and chosen(name):
            made[name] = typed(row[name], formats, column.years_from or mapping.file.years_from) or row[name]
    return made


@pytest.mark.parametrize("council", COUNCILS)
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_a_file_and_the_same_content_as_a_workbook_give_equal_referrals(council: str, data: st.DataObject) -> None:
    rows = [
        GOOD[council],
        {name: text for name, text in GOOD[council].items() if data.draw(st.booleans()) or name in needed(council)},
    ]
    sheet = [as_typed(council, row, lambda _: data.draw(st.booleans())) for row in rows]
    title: list[Cell] = data.draw(st.sampled_from([[], ["A title, above"]]))
    at = data.draw(st.sampled_from([(0, 0), (4, 2)]))
    assert translated(council, a_workbook(council, sheet, title=title, at=at)) == translated(
        council, a_file(council, rows)
    )


def needed(council: str) -> set[str]:
    mapping = COUNCILS[council]
    places = ("consents.referral.answer", "needs", "address", "person.address.postcode")
    asked = {name for name, one in mapping.columns.items() if one.to in places or one.need}
    return {name for name, one in mapping.columns.items() if one.required} | asked


# ---- sheets ---------------------------------------------------------------------------------------------------------


def two_sheets(state: str) -> bytes:
    def another(book: Any, _: Any) -> None:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, HEADERS)
        sheet.write_row(1, 0, ["zebra"])
        getattr(sheet, state, lambda: None)()

    return a_workbook("blaby", more=another)


def test_hidden_sheets_are_not_read_and_two_visible_ones_with_the_header_are_refused() -> None:
    assert [line for line, _ in table(two_sheets("hide"))] == [1, 2]
    assert [line for line, _ in table(two_sheets("very_hidden"))] == [1, 2]
    assert "has the header on 2 visible sheets" in refusal(two_sheets("visible"))


def test_a_table_is_found_below_a_title_and_right_of_empty_columns_and_rows_keep_their_numbers() -> None:
    content = a_workbook("blaby", [GOOD["blaby"], {}, GOOD["blaby"]], title=["zebra"], at=(4, 2))
    found = table(content)
    assert [line for line, _ in found] == [6, 7, 9]
    assert found[0][1] == HEADERS
    assert list(prescanned(content).lines) == [7, 9]


def test_a_cell_beside_the_table_refuses_its_row() -> None:
    def beside(_: Any, sheet: Any) -> None:
        sheet.write_string(6, 0, "left")
        sheet.write_string("XFD1048576", "right")

    content = a_workbook("blaby", [GOOD["blaby"]] * 2, at=(4, 2), more=beside)
    found = table(content)
    assert [(line, len(cells or ())) for line, cells in found] == [(5, 32), (6, 32), (7, 33), (1_048_576, 33)]


def test_a_merged_cell_has_its_value_once() -> None:
    def merged(_: Any, sheet: Any) -> None:
        sheet.merge_range(1, 0, 2, 1, "both")

    found = table(a_sheet([HEADERS, [None] * 31 + ["x"], [None] * 31 + ["y"]], more=merged))
    assert [cells and cells[:2] for _, cells in found[1:]] == [["both", ""], ["", ""]]


UNREAD = {
    "empty": (a_sheet([]), "is empty; expected header"),
    "no row": (a_sheet([HEADERS]), "has a header but no rows"),
    "another header": (a_sheet([["zebra", 1, date(2026, 1, 1)]]), "lacks columns: Case Ref"),
    "another council's": (a_workbook("melton"), "This is the header of 'Melton DFG register'"),
    "merged header": (
        a_sheet([[*HEADERS[:2], None, *HEADERS[2:]]]),
        "has unknown columns: 1; expected header, within the first 10 rows: 'Blaby housing cases, nightly export' (a workbook)",
    ),
}


def test_a_workbook_without_the_table_is_refused_and_no_value_is_named() -> None:
    for what, (content, says) in UNREAD.items():
        explanation = refusal(content)
        assert says in explanation, what
        assert "zebra" not in explanation


def as_other_programs_write_it() -> bytes:
    """Prefixes, absolute targets, part names in capitals, cells and rows without references, and the strict namespaces."""
    workbook_xml = part_of(GOOD_BOOK, "xl/workbook.xml")
    relations = part_of(GOOD_BOOK, "xl/_rels/workbook.xml.rels").replace(b'Target="', b'Target="/xl/')
    sheet = re.sub(rb' (r|spans)="[A-Z0-9:]+"', b"", part_of(GOOD_BOOK, SHEET))
    sheet = re.sub(rb"<(/?)(\w)", rb"<\1x:\2", sheet).replace(b"xmlns=", b"xmlns:x=")
    strict = b"http://purl.oclc.org/ooxml/officeDocument/relationships/"
    relations = relations.replace(b"http://schemas.openxmlformats.org/officeDocument/2006/relationships/", strict)
    return changed(
        GOOD_BOOK,
        {
            "xl/workbook.xml": workbook_xml.replace(b"r:id", b"d3p1:id").replace(b"xmlns:r", b"xmlns:d3p1"),
            "xl/_rels/workbook.xml.rels": relations,
            SHEET: sheet,
            STRINGS: None,
            "XL/SharedStrings.xml": part_of(GOOD_BOOK, STRINGS),
        },
    )


def test_a_workbook_is_read_as_other_programs_write_it() -> None:
    without_gaps = a_workbook("blaby", [dict.fromkeys(HEADERS, "x")])
    assert table(as_other_programs_write_it())[0] == (1, HEADERS)
    sheet = re.sub(rb' (r|spans)="[A-Z0-9:]+"', b"", part_of(without_gaps, SHEET))
    assert table(changed(without_gaps, {SHEET: sheet})) == [(1, HEADERS), (2, ["x"] * len(HEADERS))]


# ---- hostile workbooks ----------------------------------------------------------------------------------------------


def sheet_of(rows: bytes) -> bytes:
    return changed(GOOD_BOOK, {SHEET: part_of(GOOD_BOOK, SHEET).replace(b"</sheetData>", rows + b"</sheetData>")})


def without_end(content: bytes) -> bytes:
    return content[: len(content) // 2]


def lying(content: bytes, size: int) -> bytes:
    """The archive's directory says another size of each part."""
    changed_bytes, at = bytearray(content), 0
    while (at := content.find(b"PK\x01\x02", at)) >= 0:
        changed_bytes[at + 24 : at + 28] = size.to_bytes(4, "little")
        at += 4
    return bytes(changed_bytes)


def with_password(content: bytes) -> bytes:
    at = content.index(b"PK\x01\x02") + 8
    return content[:at] + b"\x01" + content[at + 1 :]


def with_strings(strings: bytes) -> bytes:
    return changed(GOOD_BOOK, {STRINGS: strings})


def twice_related(kind: str) -> bytes:
    relations = part_of(GOOD_BOOK, "xl/_rels/workbook.xml.rels")
    (one,) = re.findall(rb"<Relationship [^>]*/%s\"[^>]*/>" % kind.encode(), relations)
    other = one.replace(b'Id="', b'Id="x').replace(b".xml", b"2.xml")
    return changed(GOOD_BOOK, {"xl/_rels/workbook.xml.rels": relations.replace(one, one + other)})


LAUGHS = b'<!DOCTYPE sst [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><sst><si><t>&b;</t></si></sst>'
OUTSIDE = b'<!DOCTYPE sst [<!ENTITY a SYSTEM "file:///etc/passwd">]><sst><si><t>&a;</t></si></sst>'
AN_ODS = changed(b"PK\x05\x06" + bytes(18), {"mimetype": b"application/vnd.oasis", "content.xml": b"<a/>"})

HOSTILE: Mapping[str, tuple[bytes, str]] = {
    "cut off": (without_end(GOOD_BOOK), "is damaged, or not an .xlsx workbook"),
    "smaller than it says": (lying(GOOD_BOOK, 10), "is damaged"),
    "an OpenDocument": (AN_ODS, "is damaged, or not an .xlsx workbook"),
    "an old one, or a password": (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
        "is an .xls workbook, or has a password",
    ),
    "a password": (with_password(GOOD_BOOK), "has a password"),
    "macros": (changed(GOOD_BOOK, {"xl/vbaProject.bin": b"x"}), "contains macros"),
    "another compression": (changed(GOOD_BOOK, {}, method=zipfile.ZIP_LZMA), "is compressed in a way"),
    "thousands of entries": (changed(GOOD_BOOK, {f"x{at}": b"" for at in range(2_000)}), "too many parts"),
    "entities": (with_strings(LAUGHS), "contains a document type"),
    "external entities": (with_strings(OUTSIDE), "contains a document type"),
    "a string that is missing": (sheet_of(b'<row r="3"><c r="A3" t="s"><v>99</v></c></row>'), "is damaged"),
    "a style that is missing": (sheet_of(b'<row r="3"><c r="A3" s="99"><v>1</v></c></row>'), "is damaged"),
    "rows in another order": (sheet_of(b'<row r="1"><c r="A1"><v>1</v></c></row>'), "is damaged"),
    "a cell twice": (sheet_of(b'<row r="3"><c r="A3"><v>1</v></c><c r="A3"><v>2</v></c></row>'), "is damaged"),
    "a column beyond the last": (sheet_of(b'<row r="3"><c r="ZZZZZZ3"><v>1</v></c></row>'), "is damaged"),
    "a row beyond the last": (sheet_of(b'<row r="99999999"><c><v>1</v></c></row>'), "is damaged"),
    "deep nesting": (sheet_of(b"<a>" * 5_000 + b"</a>" * 5_000), "too many nested elements"),
    "a tag without end": (sheet_of(b"<a b='" + b"x" * 400_000 + b"'/>"), "a tag that is too long"),
    "many sheets": (
        a_sheet([HEADERS], more=lambda book, _: [book.add_worksheet() for _ in range(60)] and None),
        "too many sheets",
    ),
    "strings in two parts": (twice_related("sharedStrings"), "is damaged"),
    "no sheet": (changed(GOOD_BOOK, {"xl/worksheets/sheet1.xml": None}), "is damaged"),
    "not XML": (changed(GOOD_BOOK, {"xl/workbook.xml": b"zebra"}), "is damaged"),
}


def test_a_hostile_workbook_is_refused_by_the_kind_of_its_fault() -> None:
    for what, (content, says) in HOSTILE.items():
        explanation = refusal(content)
        assert says in explanation, (what, explanation)
        assert "zebra" not in explanation


def test_a_workbook_that_inflates_to_more_than_the_limit_is_refused_in_little_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "WORKBOOK_SHEET_BYTES", 4_000_000)
    monkeypatch.setattr(limits, "WORKBOOK_STRINGS_BYTES", 1_000_000)
    monkeypatch.setattr(limits, "WORKBOOK_RATIO", 2_000)
    blank = b'<row><c t="inlineStr"><is><t></t></is></c></row>'
    for content in (sheet_of(blank * 100_000), with_strings(b"<sst>" + b"<si/>" * 220_000 + b"</sst>")):
        assert len(content) < 40_000
        tracemalloc.start()
        assert "too much content in one part" in refusal(content)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 4_000_000


def test_a_part_that_inflates_to_many_times_its_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WORKBOOK_STRINGS_BYTES", 500_000)
    sheet = part_of(GOOD_BOOK, SHEET).replace(b"</sheetData>", b"</sheetData>" + b"<x/>" * 300_000)
    assert "inflates to too many times its size" in refusal(changed(GOOD_BOOK, {SHEET: sheet}))
    monkeypatch.setattr(limits, "WORKBOOK_RATIO", 2_000)
    assert prescanned(changed(GOOD_BOOK, {SHEET: sheet})).rejection is None


def test_a_row_that_repeats_a_long_string_is_too_long_and_takes_little_memory() -> None:
    long = b"<sst><si><t>" + b"x" * 30_000 + b"</t></si></sst>"
    cells = b"".join(b'<c t="s"><v>0</v></c>' for _ in range(16_000))
    sheet = part_of(a_sheet([]), SHEET).replace(b"<sheetData/>", b"<sheetData><row>%s</row></sheetData>")
    header = b"".join(b'<c t="inlineStr"><is><t>%s</t></is></c>' % name.encode() for name in HEADERS)
    content = changed(GOOD_BOOK, {STRINGS: long, SHEET: sheet.replace(b"%s", header + b"</row><row>" + cells)})
    tracemalloc.start()
    _, row = workbook.records(content, BLABY)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (row.is_whole, len(row.body)) == (False, limits.ROW_BYTES + 1)
    assert peak < 10_000_000


def test_all_rows_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FILE_BYTES", 3_000)
    assert "too many bytes of text" in refusal(a_workbook("blaby", [GOOD["blaby"]] * 20))


def test_a_workbook_is_found_in_pieces_of_any_size_and_bounded_while_it_is_received(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for size in (1, 3, 5_000_000):
        assert prescanned(GOOD_BOOK, size=size).rows == 1
    monkeypatch.setattr(limits, "WORKBOOK_BYTES", len(GOOD_BOOK) - 1)
    assert "is a workbook of more than" in refusal(GOOD_BOOK)


def test_a_council_is_found_by_the_header_of_its_workbook() -> None:
    assert COUNCILS
    for council in COUNCILS:
        found = council_csv.whose(COUNCILS.values(), a_workbook(council))
        assert found
        assert found.council == council
    assert council_csv.whose(COUNCILS.values(), a_sheet([["a"]])) is None
