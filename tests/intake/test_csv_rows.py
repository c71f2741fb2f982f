"""Records, cells and dates of councils' files: what spreadsheets do to them, and what is made of it."""

from datetime import UTC, date, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.intake.translators.council_csv import record_splitter
from services.intake.translators.council_csv.cell_parsers import OF_KIND
from services.intake.translators.council_csv.cells import clean, fold, neutral
from services.intake.translators.council_csv.dates import moment, read
from services.intake.translators.council_csv.mapping import ColumnMapping
from services.intake.translators.council_csv.record_splitter import CsvRecord, Splitter
from services.intake.translators.form.fields import ParseError
from tests.builders.csv import COUNCILS, a_file, a_row, as_line

BLABY = COUNCILS["blaby"].file
HINCKLEY = COUNCILS["hinckley-bosworth"].file

QUOTED = b'a,"two\r\nlines, and ""quotes""",c\r\nplain,5" rail,"x"\r\n"",,"\n"\r\nlast,no,end'


def split(body: bytes, *ends: int) -> list[CsvRecord]:
    """The records of a body that comes in pieces."""
    splitter, found, begin = Splitter(BLABY), [], 0
    for end in ends:
        found += splitter.feed(body[begin:end])
        begin = end
    return found + list(splitter.feed(body[begin:], last=True))


def test_a_quoted_line_end_is_kept_across_a_chunk_border_at_every_byte() -> None:
    whole = split(QUOTED)
    assert [record.line for record in whole] == [1, 3, 4, 6]
    assert [record.ends for record in whole] == [True, True, True, False]
    assert b"".join(record.body for record in whole) == QUOTED
    for border in range(len(QUOTED) + 1):
        assert split(QUOTED, border) == whole
    assert split(QUOTED, *range(len(QUOTED))) == whole


def test_the_cells_of_a_record_are_those_of_the_csv_module() -> None:
    found = [record_splitter.read(record.body, BLABY) for record in split(QUOTED)]
    assert found == [
        ["a", 'two\r\nlines, and "quotes"', "c"],
        ["plain", '5" rail', "x"],
        ["", "", "\n"],
        ["last", "no", "end"],
    ]


@given(
    records=st.lists(st.lists(st.text('ab",\n ', max_size=6), min_size=2, max_size=4), min_size=1, max_size=6),
    line_end=st.sampled_from(["\n", "\r\n"]),
    borders=st.lists(st.integers(0, 60), max_size=4),
)
@settings(max_examples=80, deadline=None)
def test_what_the_csv_module_writes_is_split_as_it_was_written(
    records: list[list[str]], line_end: str, borders: list[int]
) -> None:
    body = b"".join(as_line(COUNCILS["blaby"], ["h", *cells], line_end) for cells in records)
    found = split(body, *sorted(borders))
    assert [record_splitter.read(record.body, BLABY) for record in found] == [["h", *cells] for cells in records]
    assert b"".join(record.body for record in found) == body


@given(body=st.binary(max_size=60), borders=st.lists(st.integers(0, 60), max_size=3))
@settings(max_examples=80, deadline=None)
def test_any_bytes_are_split_the_same_for_all_chunk_borders_and_none_is_lost(body: bytes, borders: list[int]) -> None:
    found = split(body, *sorted(borders))
    assert found == split(body)
    assert b"".join(record.body for record in found) == body


def quoted(cells: list[str], line_end: str) -> bytes:
    """Each cell in quote marks; the csv module leaves a CR unquoted if lines end with LF."""
    return (",".join('"' + cell.replace('"', '""') + '"' for cell in cells) + line_end).encode()


LINE_ENDS = ["\n", "\r\n", "\r", "\n\r", "\r\r\n"]


@given(
    records=st.lists(st.lists(st.text('ab",\r\n ', max_size=6), min_size=2, max_size=4), min_size=1, max_size=6),
    line_end=st.sampled_from(LINE_ENDS),
    borders=st.lists(st.integers(0, 60), max_size=4),
)
@settings(max_examples=150, deadline=None)
def test_every_kind_of_line_end_ends_a_record_and_is_one_line_for_all_chunk_borders(
    records: list[list[str]], line_end: str, borders: list[int]
) -> None:
    body = b"".join(quoted(cells, line_end) for cells in records)
    found = split(body, *sorted(borders))
    assert [record_splitter.read(record.body, BLABY) for record in found] == records
    assert [record.line_end.decode() for record in found] == [line_end] * len(found)
    assert found == split(body, *range(len(body)))


def test_a_file_of_mixed_line_ends_is_split_at_each() -> None:
    found = split(b"a,b\rc,d\r\ne,f\ng,h\r\r\ni,j\r")
    assert [(record.line, record.body.strip()) for record in found] == [
        *((1, b"a,b"), (2, b"c,d"), (3, b"e,f"), (4, b"g,h"), (5, b"i,j"))
    ]


def test_a_file_without_quotes_is_split_at_quote_marks_too() -> None:
    unquoted = Splitter(HINCKLEY).feed(b'a|2 "The Limes\nb|"c\n', last=True)
    assert [record_splitter.read(record.body, HINCKLEY) for record in unquoted] == [["a", '2 "The Limes'], ["b", '"c']]


def in_pieces(body: bytes, longest: int, size: int) -> list[CsvRecord]:
    splitter = Splitter(BLABY, longest)
    found = [record for at in range(0, len(body), size) for record in splitter.feed(body[at : at + size])]
    return found + list(splitter.feed(b"", last=True))


@given(
    note=st.text('a",\r\n', min_size=30, max_size=90),
    line_end=st.sampled_from(LINE_ENDS),
    size=st.integers(1, 80),
)
@settings(max_examples=150, deadline=None)
def test_a_record_that_is_too_long_is_cut_and_the_others_are_whole(note: str, line_end: str, size: int) -> None:
    lines = [quoted(cells, line_end) for cells in (["h", "b"], ["c", note], ["d", "e"])]
    found = in_pieces(b"".join(lines), 30, size)
    assert [record.is_whole for record in found] == [True, False, True]
    assert [record.body for record in found] == [lines[0], lines[1][:31], lines[2]]
    assert [record.line for record in found] == [record.line for record in in_pieces(b"".join(lines), 1_000, 1_000)]


def test_a_record_that_is_too_long_takes_no_more_memory_than_its_beginning() -> None:
    splitter = Splitter(BLABY, 30)
    for _ in range(50):
        assert list(splitter.feed(b'"a,\r\n"' * 20)) == []
    assert list(splitter.feed(b"\n")) == []
    assert sum(len(held) for held in vars(splitter).values() if isinstance(held, bytes)) < 200


@pytest.mark.parametrize("line_end", LINE_ENDS)
def test_a_record_is_as_long_as_it_is_in_pieces_of_any_size(line_end: str) -> None:
    body = b'a,"b"c' + line_end.encode() + b"d,e\n"
    longest = len(body) - 4
    for size in range(1, len(body) + 1):
        assert [record.is_whole for record in in_pieces(body, longest, size)] == [True, True]
        with pytest.raises(record_splitter.TooLong):
            in_pieces(body, longest - 1, size)


@pytest.mark.parametrize("rest", [b'x"y,z\n', b"x"])
def test_a_record_that_is_too_long_and_has_a_stray_quote_mark_is_reported_with_its_line(rest: bytes) -> None:
    for size in (1, 7, 1_000):
        with pytest.raises(record_splitter.TooLong, match="line 2"):
            in_pieces(b'a,b\n"never closed' + b"\nx" * 40 + rest, 20, size)


# ---- cells ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ("  plain\u00a0", "plain"),
        ('="0123"', "0123"),
        ('="say ""hello"""', 'say "hello"'),
        ("'0123", "0123"),
        ("'+44 7700 900107", "+44 7700 900107"),
        ("'t Hart", "'t Hart"),
        ("\u200bAsh\ufeffdown", "Ashdown"),
        ("-", "-"),
        ("# 12", "# 12"),
        ("", ""),
    ],
)
def test_a_cell_is_cleaned(cell: str, text: str) -> None:
    assert clean(cell) == text


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("=A1", "formula"),
        ('="a"&B1', "formula"),
        ('="=A1"', "formula"),
        ("'=A1", "formula"),
        ("@SUM(A1)", "formula"),
        ("#REF!", "spreadsheet error"),
        ("#n/a", "spreadsheet error"),
        ("#NAME?", "spreadsheet error"),
        ("########", "spreadsheet error"),
        ("a\x0bb", "control character"),
    ],
)
def test_an_error_value_is_rejected_in_every_column_with_what_to_do(cell: str, says: str) -> None:
    found = clean(cell)
    assert isinstance(found, ParseError)
    assert says in found.explanation


@given(cell=st.text(max_size=12))
@settings(max_examples=100, deadline=None)
def test_a_written_cell_is_never_executed(cell: str) -> None:
    written = neutral(cell)
    assert written.endswith(cell)
    assert written.lstrip(' \u00a0\u200b\ufeff"')[:1] not in {"=", "+", "-", "@", "\t", "\r"}


@pytest.mark.parametrize(
    ("kind", "cell", "value"),
    [
        ("nhs-number", "999 000 0018", "9990000018"),
        ("nhs-number", "9990000018.0", "9990000018"),
        ("phone", "1164960107", "01164960107"),
        ("phone", "441164960107", "+441164960107"),
        ("phone", "0116 496 0107 (son)", "0116 496 0107 (son)"),
        ("phone", "7700 900107", "07700 900107"),
        ("postcode", "le192ar", "LE19 2AR"),
        ("uprn", "100030412345.0", "100030412345"),
        (
            "address",
            "1 Any Road, LE19 2AR, Narborough",
            {"lines": ["1 Any Road", "Narborough"], "postcode": "LE19 2AR"},
        ),
        ("address", "NFA", {"no_fixed_abode": True}),
        ("line", "two\nlines", "two lines"),
    ],
)
def test_a_value_is_read_with_its_intended_meaning(kind: str, cell: str, value: object) -> None:
    assert OF_KIND[kind](cell, ColumnMapping(to="reference"), BLABY) == value  # type: ignore[index]


@pytest.mark.parametrize("kind", ["nhs-number", "phone", "uprn", "reference"])
def test_a_rounded_number_is_rejected_with_how_to_export_it(kind: str) -> None:
    found = OF_KIND[kind]("9.99E+09", ColumnMapping(to="reference"), BLABY)  # type: ignore[index]
    assert "format the column as text and export again" in found.explanation


# ---- dates ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "written", "found"),
    [
        ("05/11/2026", "dd/mm/yyyy", date(2026, 11, 5)),
        ("5/1/2026 00:00", "dd/mm/yyyy", date(2026, 1, 5)),
        ("05/11/29", "dd/mm/yy", date(2029, 11, 5)),
        ("05/11/30", "dd/mm/yy", date(1930, 11, 5)),
        ("05-Nov-26", "dd-mmm-yy", date(2026, 11, 5)),
        ("5 September 2026", "dd mmm yyyy", date(2026, 9, 5)),
        ("5 Sept 2026", "dd mmm yyyy", date(2026, 9, 5)),
        ("2026-11-05 09:30:00.000", "yyyy-mm-dd", date(2026, 11, 5)),
        ("20261105", "yyyymmdd", date(2026, 11, 5)),
        ("11/05/2026", "mm/dd/yyyy", date(2026, 11, 5)),
        ("46331", "excel-serial", date(2026, 11, 5)),
        ("46331.5", "excel-serial", date(2026, 11, 5)),
        ("30/02/2026", "dd/mm/yyyy", None),
        ("05/11/26", "dd/mm/yyyy", None),
        ("5 Marble 2026", "dd mmm yyyy", None),
        ("46331", "dd/mm/yyyy", None),
        ("10" * 3000, "excel-serial", None),
    ],
)
def test_a_date_is_read_only_in_the_format_of_the_file(text: str, written: str, found: date | None) -> None:
    local = read(text, (written,), 1930)  # type: ignore[arg-type]
    assert (local.date() if local else None) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2026-11-05 09:30", datetime(2026, 11, 5, 9, 30, tzinfo=UTC)),
        ("2026-07-05 09:30", datetime(2026, 7, 5, 8, 30, tzinfo=UTC)),
        ("2026-07-05T09:30:00+02:00", datetime(2026, 7, 5, 7, 30, tzinfo=UTC)),
        ("2026-03-29 00:59", datetime(2026, 3, 29, 0, 59, tzinfo=UTC)),
        ("2026-03-29 01:30", datetime(2026, 3, 29, 1, 30, tzinfo=UTC)),
        ("2026-03-29 02:00", datetime(2026, 3, 29, 1, 0, tzinfo=UTC)),
        ("2026-10-25 00:59", datetime(2026, 10, 24, 23, 59, tzinfo=UTC)),
        ("2026-10-25 02:00", datetime(2026, 10, 25, 2, 0, tzinfo=UTC)),
    ],
)
def test_a_time_without_an_offset_is_london_time(text: str, found: datetime) -> None:
    read = moment(text, ("yyyy-mm-dd",), None)
    assert read is not None
    assert read.begin == found


def test_headers_and_codes_are_compared_without_case_and_blanks() -> None:
    assert fold(" DFG\u00a0 Cat ") == fold("dfg cat")


def test_builders_make_files_that_their_mappings_read() -> None:
    assert COUNCILS
    for council, mapping in COUNCILS.items():
        *above, row = Splitter(mapping.file).feed(a_file(council, [a_row(council)]), last=True)
        assert len(above) == mapping.file.lines_above + 1
        assert len(record_splitter.read(row.body, mapping.file) or []) == len(mapping.headers)
