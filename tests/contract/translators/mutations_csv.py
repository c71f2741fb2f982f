"""How a test takes a council's row apart."""

from collections.abc import Iterable, Iterator

from hypothesis import strategies as st

from services.intake.translators.council_csv import record_splitter
from tests.builders.csv import COUNCILS, as_line, header_of
from tests.contract.translators.mutations import GROUPS, Mutations, is_number, tempting

spoiled = [
    "=1+1",
    '="0123"',
    "@SUM(1)",
    "#REF!",
    "9.99E+09",
    "'+44",
    "\u200b",
    "\u00a0",
    '"',
    "\r",
    "a\nb",
    "1.0",
    "-",
    "\x0b",
    *("12,000", "12.000", "1948", "48", "01/01/1900", "UNKNOWN", "9999999999", "Smith, Mr John", "Mr & Mrs Brown"),
    *("Flat B2 1st Floor", "LE1O 1DU", "O\x92Dowd", "O?Dowd", "\u202e", "\ufffd", "Err:502", "TRUE", "x"),
]
"""What spreadsheets leave in cells."""


class Csv(Mutations):
    """One council's dialect."""

    def __init__(self, council: str) -> None:
        self._council = council
        self._mapping = COUNCILS[council]
        self._cells = st.text(max_size=20) | st.sampled_from([*(one for one in tempting if len(one) < 1000), *spoiled])
        self.breaks_off_visibly = self._mapping.file.last_line_ends

    def anything(self) -> st.SearchStrategy[bytes]:
        """A row of any cells below the true header."""
        row = st.lists(self._cells, max_size=len(self._mapping.headers) + 3)
        return row.map(lambda cells: header_of(self._mapping) + self._line(cells))

    def with_anything(self, body: bytes, data: st.DataObject) -> bytes:
        return self._put(body, data, self._cells)

    def with_text(self, body: bytes, text: str, data: st.DataObject) -> bytes:
        if data.draw(st.integers(0, 4)) == 0:
            return body.replace(list(self._mapping.headers.values())[2].encode(), text.encode())
        return self._put(body, data, st.sampled_from([text, f"{text} " * 3000, f"={text}", f"{text},{text}\n{text}"]))

    def huge(self, body: bytes) -> bytes:
        return body + body[-40:] * 25_000

    def unkept(self, body: bytes) -> Iterable[bytes]:
        reference = next(iter(self._row(body)))
        bad = b"\xff" if self._mapping.file.codec == "utf-8" else b"\x81"
        marked = reference.encode(self._mapping.file.codec)
        head, _, tail = body.rpartition(marked)
        return [head + marked[:1] + unkept + marked[1:] + tail for unkept in (b"\x00", bad, b"\x0b")]

    def grouped(self, body: bytes) -> Iterable[tuple[bytes, str]]:
        for above, cells, place in self._filled(body):
            for group in GROUPS if is_number(cells[place]) else ():
                grouped = cells[place] + group
                yield above + self._line([*cells[:place], grouped, *cells[place + 1 :]]), grouped

    def unseen(self, body: bytes, mark: str) -> Iterable[bytes]:
        if mark.encode(self._mapping.file.codec, "ignore"):
            for above, cells, place in self._filled(body):
                yield above + self._line([*cells[:place], f"{mark}{cells[place]}{mark}", *cells[place + 1 :]])

    def _filled(self, body: bytes) -> Iterator[tuple[bytes, list[str], int]]:
        """What stands above the row, its cells, and the place of each cell that is not empty."""
        *above, row = record_splitter.Splitter(self._mapping.file).feed(body, last=True)
        cells = record_splitter.read(row.body, self._mapping.file) or []
        for place in (place for place, cell in enumerate(cells) if cell.strip()):
            yield b"".join(record.body for record in above), cells, place

    def _row(self, body: bytes) -> list[str]:
        *_, row = record_splitter.Splitter(self._mapping.file).feed(body, last=True)
        return record_splitter.read(row.body, self._mapping.file) or []

    def _put(self, body: bytes, data: st.DataObject, values: st.SearchStrategy[str]) -> bytes:
        *above, row = record_splitter.Splitter(self._mapping.file).feed(body, last=True)
        cells = record_splitter.read(row.body, self._mapping.file) or [""]
        place = data.draw(st.integers(0, len(cells) - 1))
        if data.draw(st.integers(0, 5)):
            cells[place] = data.draw(values)
        else:
            del cells[place]
        return b"".join(record.body for record in above) + self._line(cells)

    def _line(self, cells: list[str]) -> bytes:
        plain = [cell.encode(self._mapping.file.codec, "ignore").decode(self._mapping.file.codec) for cell in cells]
        if self._mapping.file.quoting == "none":
            plain = [
                cell.replace(self._mapping.file.separator, " ").replace("\n", " ").replace("\r", " ") for cell in plain
            ]
        return as_line(self._mapping, plain)
