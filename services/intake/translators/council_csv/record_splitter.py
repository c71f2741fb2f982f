"""Split a file, received in pieces of any size, into its records, byte for byte.

A record ends at a line end outside quotes (RFC 4180, with the grammar of Python's csv module, which parses each
record later). Bytes suffice: in UTF-8 and Windows-1252 a quote, delimiter or line end is never part of a character.
"""

import codecs
import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal

from services.intake import limits
from services.intake.translators.council_csv.mapping import CsvFile

QUOTE = ord('"')
_LINE_END = re.compile(rb"\r{1,2}\n|\n\r(?!\n)|\n|\r")
_LOOKAHEAD = 3
"""Bytes that decide which line end it is."""


@dataclass(frozen=True, slots=True)
class CsvRecord:
    """One record: the number of its first line, its bytes with the line end, and whether it has a line end.

    `is_whole`: false if it is too long; its bytes are then cut to one more than the maximum.
    """

    line: int
    body: bytes
    ends: bool
    is_whole: bool = True

    @property
    def line_end(self) -> bytes:
        """The bytes that end its last line."""
        return self.body[len(self.body.rstrip(b"\r\n")) :] if self.ends and self.is_whole else b""


class TooLong(Exception):
    """A record is too long, and a stray quote mark makes its end doubtful. `line`: the line on which it begins."""

    def __init__(self, line: int) -> None:
        super().__init__(f"the record on line {line} is too long")
        self.line = line


class _State(Enum):
    """Where the scan stands: in which part of the file, cell or line end."""

    FILE_BEGINS = auto()
    CELL_BEGINS = auto()
    UNQUOTED = auto()
    QUOTED = auto()
    AFTER_QUOTE = auto()
    LINE_END = auto()


class Splitter:
    """Takes the pieces of a file in order and yields complete records. Memory: two pieces and one record."""

    def __init__(self, file: CsvFile, longest: int = limits.ROW_BYTES) -> None:
        delimiter = re.escape(file.separator.encode())
        self._quoted = file.quoting == "double"
        plain, quoted = b'[^"\r\n' + delimiter + b"]*+", b'"(?:[^"]++|"")*+"'
        self._whole_cells = re.compile(b"(?:(?:" + plain + b"|" + quoted + b")" + delimiter + b")*+")
        self._cell_end = re.compile(b"[\r\n" + delimiter + b"]" if self._quoted else b"[\r\n]")
        self._longest = longest
        self._held = b""
        self._at = 0
        self._state = _State.FILE_BEGINS
        self._line = 1
        self._first_line = 1
        self._cut = b""
        self._is_malformed = False

    def feed(self, piece: bytes, *, last: bool = False) -> Iterator[CsvRecord]:
        """Yield the records that end in this piece; if it is the last piece, also the rest after the last line end."""
        held = self._held = self._held + piece
        begins = 0
        while (ends := self._record_end(held, last=last)) is not None:
            yield self._record(held[begins:ends], ends=True)
            begins = ends
        self._held = held[begins:]
        self._at -= begins
        if last and (self._held or self._cut):
            self._is_malformed |= self._state is _State.QUOTED
            yield self._record(self._held, ends=False)
            self._held = b""
        elif len(self._held) > self._longest and self._state is not _State.LINE_END:
            self._drop()

    def _record(self, body: bytes, *, ends: bool) -> CsvRecord:
        line, self._line = self._first_line, self._line + lines(body)
        whole = len(self._cut) + len(body) <= self._longest
        if not whole and self._is_malformed:
            raise TooLong(line)
        record = CsvRecord(line, body if whole else (self._cut + body)[: self._longest + 1], ends, whole)
        self._first_line, self._cut, self._is_malformed = self._line, b"", False
        return record

    def _drop(self) -> None:
        """Drop what was scanned of a record that is too long: keep its beginning, and count its line ends."""
        if self._is_malformed:
            raise TooLong(self._first_line)
        self._cut = (self._cut + self._held)[: self._longest + 1]
        decided, cut = len(self._held) - _LOOKAHEAD, len(self._held) - _LOOKAHEAD + 1
        for line_end in _LINE_END.finditer(self._held):
            if line_end.start() > decided:
                break
            self._line, cut = self._line + 1, max(cut, line_end.end())
        self._held = self._held[cut:]
        self._at -= cut

    # -- the scan

    def _record_end(self, held: bytes, *, last: bool) -> int | None:
        """Return the position after the line end of this record; None if it was not received yet."""
        while self._at < len(held):
            match self._state:
                case _State.FILE_BEGINS:
                    if len(held) < len(codecs.BOM_UTF8) and not last:
                        return None
                    self._move(len(codecs.BOM_UTF8) if held.startswith(codecs.BOM_UTF8) else 0, _State.CELL_BEGINS)
                case _State.CELL_BEGINS:
                    self._begin_cell(held)
                case _State.UNQUOTED:
                    self._end_cell(held)
                case _State.QUOTED:
                    quote = held.find(b'"', self._at)
                    self._move(*(len(held), _State.QUOTED) if quote < 0 else (quote + 1, _State.AFTER_QUOTE))
                case _State.AFTER_QUOTE:
                    self._after_quote(held)
                case _State.LINE_END:
                    return self._line_end(held, last=last)
        return None

    def _move(self, at: int, state: _State) -> None:
        self._at, self._state = at, state

    def _begin_cell(self, held: bytes) -> None:
        """Pass over the cells that are complete. A quote mark opens a cell only at the cell's beginning."""
        whole = self._whole_cells.match(held, self._at) if self._quoted else None
        at = whole.end() if whole else self._at
        if at == len(held):
            self._move(at, _State.CELL_BEGINS)
        elif self._quoted and held[at] == QUOTE:
            self._move(at + 1, _State.QUOTED)
        else:
            self._move(at, _State.UNQUOTED)

    def _end_cell(self, held: bytes) -> None:
        match = self._cell_end.search(held, self._at)
        if match is None:
            self._at = len(held)
        elif match[0] in b"\r\n":
            self._move(match.start(), _State.LINE_END)
        else:
            self._move(match.end(), _State.CELL_BEGINS)

    def _after_quote(self, held: bytes) -> None:
        if held[self._at] == QUOTE:
            self._move(self._at + 1, _State.QUOTED)
        else:
            self._is_malformed |= self._cell_end.match(held, self._at) is None
            self._state = _State.UNQUOTED

    def _line_end(self, held: bytes, *, last: bool) -> int | None:
        """Return the position after the line end: CR, LF, CR LF, LF CR or CR CR LF, as programs write them."""
        match = _LINE_END.match(held, self._at) if last or len(held) - self._at >= _LOOKAHEAD else None
        if match is None:
            return None
        self._move(match.end(), _State.CELL_BEGINS)
        return match.end()


def lines(body: bytes) -> int:
    """Return the number of line ends in a record."""
    return len(_LINE_END.findall(body))


def read(record: bytes, file: CsvFile) -> list[str] | None:
    """Return the cells of one record; None if it is too long, not text in the file's encoding, or not well formed.

    A record is not well formed if text follows a closing quote mark, or a quote mark is not closed.
    """
    if len(record) > limits.ROW_BYTES:
        return None
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if file.quoting == "double" else csv.QUOTE_NONE
    try:
        text = record.decode(file.codec)
        parsed = list(csv.reader([text], delimiter=file.separator, quoting=quoting, strict=True))
    except (UnicodeDecodeError, csv.Error):
        return None
    return parsed[0] if len(parsed) == 1 else None


def encoding_problem(record: bytes, file: CsvFile) -> str | None:
    """Return why a record is not text in the file's encoding, or None. UTF-8 is valid Windows-1252, but nonsense."""
    if record.isascii():
        return None
    if file.codec != "utf-8" and any(_is_utf8(part) for part in record.split(file.separator.encode())):
        return "is written in UTF-8"
    try:
        record.decode(file.codec)
    except UnicodeDecodeError:
        return f"is not written in {file.encoding}"
    return None


def _is_utf8(part: bytes) -> bool:
    """Return whether bytes beyond ASCII are valid UTF-8 throughout, which text in Windows-1252 never is."""
    if part.isascii():
        return False
    try:
        part.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def is_blank(record: CsvRecord, file: CsvFile) -> bool:
    """Return whether a record is an empty line or a row of empty cells, as spreadsheets write below the last row."""
    if record.body[:1].isalnum() or not record.is_whole:  # the usual case
        return False
    return not record.body.strip(b' \t\r\n"' + file.separator.encode())
