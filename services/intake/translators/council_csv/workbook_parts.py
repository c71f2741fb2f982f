"""Read the parts of an .xlsx workbook, which is a zip archive of XML parts (ECMA-376).

Each part is inflated and parsed in steps, so that what a small file claims to contain takes no memory; limits bound the work.
Nothing is computed, executed or followed: no formula, macro, entity or link.
"""

import io
import posixpath
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any
from xml.parsers import expat

from services.intake import limits
from services.intake.translators.council_csv import workbook_cells
from services.intake.translators.council_csv.workbook_cells import DigitPattern, NumberFormat
from services.intake.translators.translator import Issue

PLACE = "file"
_ENTRY = b"PK\x01\x02"
_STEP = 65_536
_LAST_COLUMN, _LAST_ROW = 16_384, 1_048_576

DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    expat.ExpatError,
    EOFError,
    OSError,
    LookupError,
    ValueError,
    OverflowError,
    NotImplementedError,
)
"""What reading a damaged archive or part raises."""


class UnreadableWorkbook(Exception):
    """The file is not a workbook that can be read. `issue` has the reason, for its sender."""

    def __init__(self, issue: Issue) -> None:
        super().__init__(issue.kind)
        self.issue = issue


def invalid(explanation: str) -> UnreadableWorkbook:
    """Return the error of a workbook that cannot be read."""
    return UnreadableWorkbook(Issue(PLACE, "invalid", explanation))


def too_long(what: str, most: int) -> UnreadableWorkbook:
    """Return the error of a workbook that has more of something than a limit allows."""
    return UnreadableWorkbook(Issue(PLACE, "too-long", f"has {what} (limit: {most}); save it as CSV"))


@dataclass(frozen=True, slots=True)
class SheetRow:
    """The cells of a row that are not empty, by column from 1. `is_whole`: false if its text is too long; the rest is left out."""

    number: int
    cells: Sequence[tuple[int, str]]
    is_whole: bool


class Workbook:
    """The parts of a workbook that lead to its sheets, with the strings and number formats that they share."""

    def __init__(self, content: bytes) -> None:
        self._package = _Package(content)
        (main,) = self._related("", "officeDocument").values()
        index = _Index()
        self._package.parse(main, index, limits.WORKBOOK_PART_BYTES)
        sheets = self._related(main, "worksheet")
        self.visible_sheets = [sheets[one] for one in index.visible if one in sheets]
        if len(self.visible_sheets) > limits.WORKBOOK_SHEETS:
            raise too_long("too many sheets", limits.WORKBOOK_SHEETS)
        strings, styles = _Strings(), _Styles()
        self._parse_only(main, "sharedStrings", strings, limits.WORKBOOK_STRINGS_BYTES)
        self._parse_only(main, "styles", styles, limits.WORKBOOK_PART_BYTES)
        self._strings, self._formats, self._is_1904 = strings.texts, styles.formats, index.is_1904

    def rows(self, sheet: str, of_bytes: int | None = None) -> Iterator[SheetRow]:
        """Yield the rows of a sheet that have a value; `of_bytes`: only those among its first bytes."""
        reader = _SheetReader(self._strings, self._formats, is_1904=self._is_1904)
        steps = self._package.steps(sheet, reader, limits.WORKBOOK_SHEET_BYTES)
        for _ in islice(steps, of_bytes and of_bytes // _STEP):
            yield from reader.rows
            reader.rows.clear()

    def _parse_only(self, main: str, kind: str, reader: "_Reader", most: int) -> None:
        """Parse the part of this kind, if there is one."""
        parts = set(self._related(main, kind).values())
        if len(parts) > 1:
            raise ValueError
        for part in parts:
            self._package.parse(part, reader, most)

    def _related(self, part: str, kind: str) -> dict[str, str]:
        """Return the parts of this kind that a part names as related, by their id."""
        folder, name = posixpath.split(part)
        relations = _Relationships(folder, kind)
        self._package.parse(posixpath.join(folder, "_rels", f"{name}.rels"), relations, limits.WORKBOOK_PART_BYTES)
        return relations.targets


class _Reader:
    """Takes the elements and texts of a part in order, and ignores them; names are without their prefix."""

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        """Take the beginning of an element."""

    def end(self, name: str) -> None:
        """Take the end of an element."""

    def text(self, text: str) -> None:
        """Take a text, or a part of one."""


class _Package:
    """The archive: its entries are found by name in any case, and inflated in steps."""

    def __init__(self, content: bytes) -> None:
        if content.count(_ENTRY) > limits.WORKBOOK_ENTRIES:
            raise too_long("too many parts", limits.WORKBOOK_ENTRIES)
        self._archive = zipfile.ZipFile(io.BytesIO(content))
        self._entries = {entry.filename.lower(): entry for entry in self._archive.infolist()}
        if any(entry.flag_bits & 1 for entry in self._entries.values()):
            raise invalid("has a password; save it without one")
        if any(name.endswith("vbaproject.bin") for name in self._entries):
            raise invalid("contains macros; save it as .xlsx without them")

    def parse(self, part: str, reader: _Reader, most: int) -> None:
        """Parse a whole part."""
        for _ in self.steps(part, reader, most):
            pass

    def steps(self, part: str, reader: _Reader, most: int) -> Iterator[None]:
        """Parse a part, and yield after each step."""
        parser, size = _parser(reader), 0
        for piece in self._inflated(part):
            size += len(piece)
            if size > most:
                raise too_long("too much content in one part", most)
            parser.Parse(piece, False)
            if size - parser.CurrentByteIndex > 2 * _STEP:
                raise too_long("a tag that is too long", 2 * _STEP)
            yield
        parser.Parse(b"", True)
        yield

    def _inflated(self, part: str) -> Iterator[bytes]:
        entry = self._entries[part.lower()]
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise invalid("is compressed in a way that workbooks are not")
        most = max(limits.WORKBOOK_STRINGS_BYTES, limits.WORKBOOK_RATIO * entry.compress_size)
        with self._archive.open(entry) as file:
            while piece := file.read(_STEP):
                yield piece
                most -= len(piece)
                if most < 0:
                    raise too_long("a part that inflates to too many times its size", limits.WORKBOOK_RATIO)


def _parser(reader: _Reader) -> Any:
    """Return a parser that calls the reader, and refuses document types (with their entities) and deep nesting."""
    parser = expat.ParserCreate()
    parser.buffer_text = True
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > limits.WORKBOOK_DEPTH:
            raise too_long("too many nested elements", limits.WORKBOOK_DEPTH)
        reader.start(_local(name), attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        reader.end(_local(name))

    def doctype(*_: object) -> None:
        raise invalid("contains a document type, which no workbook has")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = doctype
    return parser


def _local(name: str) -> str:
    return name.rpartition(":")[2] if ":" in name else name


class _Relationships(_Reader):
    """Reads the targets of one kind of relationship by id; links to other files are ignored."""

    def __init__(self, folder: str, kind: str) -> None:
        self.targets: dict[str, str] = {}
        self._folder, self._kind = f"/{folder}", f"/{kind}"

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        if (
            name == "Relationship"
            and attributes["Type"].endswith(self._kind)
            and attributes.get("TargetMode") != "External"
        ):
            target = posixpath.normpath(posixpath.join(self._folder, attributes["Target"]))
            self.targets[attributes["Id"]] = target.lstrip("/")


class _Index(_Reader):
    """Reads the relationship ids of the visible sheets, and from which year dates are counted."""

    def __init__(self) -> None:
        self.visible: list[str] = []
        self.is_1904 = False

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "workbookPr":
            self.is_1904 = attributes.get("date1904") in ("1", "true")
        elif name == "sheet" and attributes.get("state", "visible") == "visible":
            self.visible.append({_local(key): value for key, value in attributes.items()}["id"])


class _Styles(_Reader):
    """Reads what the number of a cell is shown as, by the cell's style."""

    def __init__(self) -> None:
        self.formats: list[NumberFormat | DigitPattern] = []
        self._codes: dict[int, NumberFormat | DigitPattern] = {}
        self._is_of_cells = False

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "numFmt":
            self._codes[int(attributes["numFmtId"])] = workbook_cells.number_format(attributes["formatCode"])
        elif name == "cellXfs":
            self._is_of_cells = True
        elif name == "xf" and self._is_of_cells:
            number = int(attributes.get("numFmtId", 0))
            self.formats.append(self._codes.get(number) or workbook_cells.BUILT_IN.get(number, "number"))

    def end(self, name: str) -> None:
        if name == "cellXfs":
            self._is_of_cells = False


class _Strings(_Reader):
    """Reads the strings that cells share: all runs of a rich text, without its phonetic help."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._parts: list[str] = []
        self._is_text = self._is_phonetic = False

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "si":
            self._parts = []
        elif name == "rPh":
            self._is_phonetic = True
        elif name == "t":
            self._is_text = not self._is_phonetic

    def end(self, name: str) -> None:
        if name == "si":
            self.texts.append(workbook_cells.unescaped("".join(self._parts)))
        elif name == "rPh":
            self._is_phonetic = False
        elif name == "t":
            self._is_text = False

    def text(self, text: str) -> None:
        if self._is_text:
            self._parts.append(text)


class _SheetReader(_Reader):
    """Reads the rows of a sheet; `rows` has those that are complete and not yet taken."""

    def __init__(
        self, strings: Sequence[str], formats: Sequence[NumberFormat | DigitPattern], *, is_1904: bool
    ) -> None:
        self.rows: list[SheetRow] = []
        self._strings, self._formats, self._is_1904 = strings, formats, is_1904
        self._row = self._column = 0
        self._cells: list[tuple[int, str]] = []
        self._size = 0
        self._cell: Mapping[str, str] | None = None
        self._parts: list[str] = []
        self._is_value = self._is_phonetic = self._is_formula = False

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "c":
            self._cell, self._parts, self._is_formula = attributes, [], False
            self._column = _after(
                self._column, workbook_cells.column(attributes["r"]) if "r" in attributes else None, _LAST_COLUMN
            )
        elif name in ("v", "t"):
            self._is_value = self._cell is not None and not self._is_phonetic
        elif name == "f":
            self._is_formula = True
        elif name == "row":
            self._row = _after(self._row, int(attributes["r"]) if "r" in attributes else None, _LAST_ROW)
            self._cells, self._column, self._size = [], 0, 0
        elif name == "rPh":
            self._is_phonetic = True

    def text(self, text: str) -> None:
        if self._is_value and self._size <= limits.ROW_BYTES:
            self._parts.append(text)
            self._size += len(text)

    def end(self, name: str) -> None:
        if name in ("v", "t"):
            self._is_value = False
        elif name == "c":
            self._end_cell(self._cell or {}, "".join(self._parts))
            self._cell = None
        elif name == "row" and self._cells:
            self.rows.append(SheetRow(self._row, self._cells, self._size <= limits.ROW_BYTES))
        elif name == "rPh":
            self._is_phonetic = False

    def _end_cell(self, cell: Mapping[str, str], stored: str) -> None:
        if text := self._value(cell, stored):
            self._size += len(text) - len(stored)
            if self._size <= limits.ROW_BYTES or not self._cells:
                self._cells.append((self._column, text))

    def _value(self, cell: Mapping[str, str], stored: str) -> str:
        if not stored:
            return workbook_cells.NOT_COMPUTED if self._is_formula and cell.get("t") != "str" else ""
        match cell.get("t", "n"):
            case "s":
                return self._strings[_index(stored)]
            case "b":
                return "TRUE" if stored in ("1", "true") else "FALSE"
            case "str" | "inlineStr":
                return workbook_cells.unescaped(stored)
            case "d":
                return stored.replace("T", " ")
            case "n":
                return self._number(_index(cell.get("s", "0")), stored)
            case _:
                return stored

    def _number(self, style: int, stored: str) -> str:
        shown_as = self._formats[style] if self._formats else "number"
        if isinstance(shown_as, tuple):
            return workbook_cells.in_pattern(stored, shown_as)
        if shown_as == "number":
            return workbook_cells.number(stored)
        return workbook_cells.moment(stored, shown_as, is_1904=self._is_1904)


def _index(text: str) -> int:
    """Return a position in a list; a negative one is a fault of the file."""
    if (at := int(text)) < 0:
        raise ValueError
    return at


def _after(before: int, at: int | None, most: int) -> int:
    """Return the number of the next row or column: the given one, which must be greater than the last, or the next."""
    number = before + 1 if at is None else at
    if not before < number <= most:
        raise ValueError
    return number
