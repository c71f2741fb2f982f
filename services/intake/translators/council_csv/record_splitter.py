"""Split a file, received in pieces of any size, into its records, byte for byte.

A record ends at a line end outside quotes (RFC 4180, with the grammar of Python's csv module, which parses each
record later). Bytes suffice: in UTF-8 and Windows-1252 a quote, delimiter or line end is never part of a character.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from services.intake import limits
from services.intake.translators.council_csv.mapping import CsvFile

QUOTE = ord('"')
LONGEST_ROW = limits.ROW_BYTES
"""Maximum number of bytes of a row or header."""


@dataclass(frozen=True, slots=True)
class CsvRecord:
    """One record: the number of its first line, its bytes with the line end, and whether it has a line end."""

    line: int
    body: bytes
    ends: bool


class TooLong(Exception):
    """A record is too long, often because a quote mark is not closed. `line`: the line on which it begins."""

    def __init__(self, line: int) -> None:
        super().__init__(f"the record on line {line} is too long")
        self.line = line


class Splitter:
    """Takes the pieces of a file in order and yields complete records. Memory: one piece and one record."""

    def __init__(self, file: CsvFile, longest: int = LONGEST_ROW) -> None:
        self._quoted = file.quoting == "double"
        self._delimiter = file.separator.encode()
        self._longest = longest
        self._rest = b""
        self._line = 1
        self._end = b""
        self._cell_end = self._plain_cells = re.compile(b"")

    def feed(self, piece: bytes, *, last: bool = False) -> Iterator[CsvRecord]:
        """Yield the records that end in this piece; if it is the last piece, also the rest after the last line end."""
        held = self._rest + piece
        begins = 0
        if self._end or self._detect_line_end(held, last=last):
            while (ends := self._record_end(held, begins)) is not None:
                yield self._record(held[begins:ends], ends=True)
                begins = ends
        self._rest = held[begins:]
        if len(self._rest) > self._longest:
            raise TooLong(self._line)
        if last and self._rest:
            yield self._record(self._rest, ends=False)
            self._rest = b""

    def _record(self, body: bytes, *, ends: bool) -> CsvRecord:
        if len(body) > self._longest:
            raise TooLong(self._line)
        record = CsvRecord(self._line, body, ends)
        self._line += body.count(self._end) if self._end else 0
        return record

    def _detect_line_end(self, held: bytes, *, last: bool) -> bool:
        """Detect the file's line end from its first line: LF (also after CR), or CR alone."""
        match = re.search(rb"\r\n|\n|\r(?=.)" if not last else rb"\r\n|\n|\r", held, re.DOTALL)
        if match is None:
            return False
        self._end = match[0][-1:]
        delimiter = re.escape(self._delimiter)
        self._cell_end = re.compile(b"[" + delimiter + self._end + b"]")
        self._plain_cells = re.compile(b'(?:[^"' + delimiter + self._end + b"]*" + delimiter + b")*")
        return True

    def _record_end(self, held: bytes, begins: int) -> int | None:
        """Return the position after the line end of this record; None if it was not received yet."""
        ends = held.find(self._end, begins)
        if ends < 0:
            return None
        if not self._quoted or held.find(b'"', begins, ends) < 0:
            return ends + 1
        return self._quoted_record_end(held, begins)

    def _quoted_record_end(self, held: bytes, begins: int) -> int | None:
        """Return the end of a record with quotes: a quote mark opens a cell only at the cell's beginning."""
        at = begins
        while True:
            if plain := self._plain_cells.match(held, at):
                at = plain.end()
            if at < len(held) and held[at] == QUOTE:
                closed = _closing_quote(held, at + 1)
                if closed is None:
                    return None
                at = closed
            match = self._cell_end.search(held, at)
            if match is None:
                return None
            at = match.end()
            if match[0] == self._end:
                return at


def _closing_quote(held: bytes, at: int) -> int | None:
    """Return the position after the quote mark that closes the cell; None if it was not received yet."""
    while (quote := held.find(b'"', at)) >= 0:
        if held[quote + 1 : quote + 2] != b'"':
            return quote + 1
        at = quote + 2
    return None


def read(record: bytes, file: CsvFile) -> list[str] | None:
    """Return the cells of one record; None if it is not text in the file's encoding, or not well formed.

    A record is not well formed if text follows a closing quote mark, or a quote mark is not closed.
    """
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if file.quoting == "double" else csv.QUOTE_NONE
    try:
        text = record.decode(file.codec)
        parsed = list(csv.reader([text], delimiter=file.separator, quoting=quoting, strict=True))
    except (UnicodeDecodeError, csv.Error):
        return None
    return parsed[0] if len(parsed) == 1 else None


def is_blank(record: CsvRecord, file: CsvFile) -> bool:
    """Return whether a record is an empty line or a row of empty cells, as spreadsheets write below the last row."""
    if record.body[0] > 64:  # a letter: the usual case
        return False
    return not record.body.strip(b' \t\r\n"' + file.separator.encode())
