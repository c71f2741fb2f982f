"""A council's reviewed mapping file: the format of its export, and the place that each column fills."""

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from schemas.model import PartnerId, ShortText, StrictInput
from services.intake.translators import plausibility
from services.intake.translators.council_csv.cells import Reading, fold
from services.intake.translators.council_csv.dates import DateFormat, has_short_year
from services.intake.translators.council_csv.names import NameOrder
from services.intake.translators.council_csv.targets import (
    FREE_TEXTS,
    READINGS,
    TARGETS,
    YES_NO,
    CellKind,
    accepts_yes_no,
)
from services.reference.directory import OfferedService
from services.reference.yaml_files import Code

CouncilId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{1,40}$")]
HeaderText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=120)]
Year = Annotated[int, Field(ge=1900, le=2000)]

DELIMITERS: Mapping[str, str] = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
CODECS: Mapping[str, str] = {"utf-8": "utf-8", "utf-8-bom": "utf-8", "windows-1252": "cp1252"}


class CsvFile(StrictInput):
    """The format of a CSV file."""

    encoding: Literal["utf-8", "utf-8-bom", "windows-1252"] = Field(
        description="Character encoding; a UTF-8 byte order mark is ignored, and written only for utf-8-bom"
    )
    delimiter: Literal["comma", "semicolon", "tab", "pipe"] = Field(description="Separator of two cells")
    quoting: Literal["double", "none"] = Field(
        "double",
        description='double: a cell may be quoted with ", with "" for a quote mark and line ends inside; none: never',
    )
    lines_above: Annotated[int, Field(ge=0, le=9)] = Field(
        0, description="Rows above the header, such as a title; the header is found in any of the first ten rows"
    )
    last_line_ends: bool = Field(
        True, description="False if the last row has no line end: a file cut off in its last cell is then not detected"
    )
    dates: tuple[DateFormat, ...] = Field(min_length=1, description="Date formats, tried in this order")
    years_from: Year | None = Field(
        None, description="First of the hundred years that two-digit years mean: with 1930, 29 is 2029"
    )
    empty: tuple[Code, ...] = Field((), description="Texts that mean an empty cell, such as N/A")
    no_fixed_abode: tuple[Code, ...] = Field(
        (), description="Texts that mean no fixed abode in an address, such as NFA"
    )

    ticks: tuple[Code, ...] = Field((), description="Further texts that mean yes in a column of yes or no, such as x")

    @property
    def codec(self) -> str:
        """The encoding's name in Python."""
        return CODECS[self.encoding]

    @property
    def separator(self) -> str:
        """The character between two cells."""
        return DELIMITERS[self.delimiter]

    @cached_property
    def nothing(self) -> frozenset[str]:
        """Folded texts that mean an empty cell."""
        return frozenset({"", *map(fold, self.empty)})

    def is_nothing(self, text: str) -> bool:
        """Return whether a cell is empty or one of the texts in `empty`."""
        if len(text) > self._longest_nothing or (text.isascii() and text[:1].casefold() not in self._nothing_begins):
            return False
        return fold(text) in self.nothing

    @cached_property
    def _nothing_begins(self) -> frozenset[str]:
        return frozenset({"", " ", *(text[:1] for text in self.nothing)})

    @cached_property
    def _longest_nothing(self) -> int:
        return max(map(len, self.nothing)) + 4

    @cached_property
    def ticked(self) -> frozenset[str]:
        """Folded texts that mean yes, in addition to the usual ones."""
        return frozenset(map(fold, self.ticks))

    @cached_property
    def has_short_years(self) -> bool:
        """True if the year of a date may have two digits."""
        return any(map(has_short_year, self.dates))

    @cached_property
    def nowhere(self) -> frozenset[str]:
        """Folded texts that mean no fixed abode."""
        return frozenset(map(fold, self.no_fixed_abode))


class Need(StrictInput):
    """A requested service."""

    service: OfferedService = Field(description="Service that meets it")
    text: ShortText | None = Field(None, description="Text of the need")


class FlagMeaning(StrictInput):
    """A warning for the person who visits."""

    code: ShortText = Field(description="Short code")
    text: ShortText = Field(description="Text of the warning")


class ColumnMapping(StrictInput):
    """One column of the file, and the place that its cells fill."""

    to: str = Field(description="Place of the canonical referral, or reference, changed_on, status, name, address")
    required: bool = Field(False, description="Whether a row with this cell empty is rejected")
    codes: dict[Code, Code] = Field({}, description="Meaning of each code")
    needs: dict[Code, Need] = Field({}, description="to: needs; the need for each code")
    need: Need | None = Field(None, description="to: needs; the need for yes")
    flags: dict[Code, ShortText] = Field({}, description="to: risk_flags; the text of each code")
    flag: FlagMeaning | None = Field(None, description="to: risk_flags; the flag for yes")
    separator: Annotated[str, StringConstraints(min_length=1, max_length=3)] | None = Field(
        None, description="Separator of several codes or words in one cell"
    )
    width: Annotated[int, Field(ge=2, le=20)] | None = Field(
        None, description="reference: its number of digits; leading zeros that a spreadsheet removed are restored"
    )
    order: NameOrder | None = Field(None, description="name: 'SURNAME, Forename' or 'Mrs Ann Surname'")
    years_from: Year | None = Field(None, description="As in `file`, for this column only")

    @cached_property
    def kind(self) -> CellKind:
        """The kind that selects the parser of its cells."""
        return TARGETS[self.to]

    @cached_property
    def reading(self) -> Reading:
        """How its cells are cleaned."""
        return "text" if self.to in FREE_TEXTS else READINGS[self.kind]

    @cached_property
    def is_name(self) -> bool:
        """True if its cells are names, or what is entered if a name is not known."""
        return self.to == "name" or plausibility.is_place_of_name(self.to)

    @cached_property
    def takes_ticks(self) -> bool:
        """True if its cells are yes or no, without codes of its own."""
        return not self.codes and (accepts_yes_no(self.to) or bool(self.need or self.flag))

    @cached_property
    def meaning(self) -> Mapping[str, str]:
        """Meanings by folded code."""
        return YES_NO if self.takes_ticks else {fold(code): value for code, value in self.codes.items()}

    @cached_property
    def asks(self) -> Mapping[str, Need]:
        """Needs by folded code."""
        return {fold(code): need for code, need in self.needs.items()}

    @cached_property
    def warns(self) -> Mapping[str, tuple[str, str]]:
        """Risk flags by folded code: the code as written, and its text."""
        return {fold(code): (code, text) for code, text in self.flags.items()}


class CouncilMapping(StrictInput):
    """A council's reviewed export."""

    council: CouncilId = Field(description="Name, as in /councils/{council}/referrals and in the name of this file")
    partner: PartnerId = Field(description="Partner in partners.yaml that may send it")
    title: ShortText = Field(description="Title of the export for people")
    file: CsvFile = Field(description="Format of the file")
    district: Literal["own", "column", "postcode"] = Field(
        description="District of residence: own: always this council's; column: from a column; postcode: by the postcode"
    )
    columns: dict[HeaderText, ColumnMapping] = Field(min_length=1, description="Columns by header")
    needs: tuple[Need, ...] = Field((), description="Needs of every row")
    constants: dict[str, Code] = Field(
        {}, description="Values that are the same in every row, by place of the referral"
    )
    ignored: tuple[HeaderText, ...] = Field((), description="Known columns that are not read")

    @cached_property
    def headers(self) -> Mapping[str, str]:
        """All columns of the file, ignored ones too: the header by its folded form."""
        return {fold(header): header for header in (*self.columns, *self.ignored)}

    @cached_property
    def signature(self) -> frozenset[str]:
        """The folded headers, which distinguish this council's file from others."""
        return frozenset(self.headers)

    @cached_property
    def as_workbook(self) -> "CouncilMapping":
        """This mapping for the rows of a workbook, which are read as CSV in one dialect; cells of text may have its own dates.

        A number that is not shown as a date is none: the workbook decides from which year days are counted.
        """
        dates = tuple(dict.fromkeys(("yyyy-mm-dd", *(one for one in self.file.dates if one != "excel-serial"))))
        format_of_rows = {"encoding": "utf-8-bom", "delimiter": "comma", "quoting": "double"}
        changes = {**format_of_rows, "lines_above": 0, "last_line_ends": True, "dates": dates}
        return self.model_copy(update={"file": self.file.model_copy(update=changes)})

    def column_to(self, place: str) -> str | None:
        """Return the first column that fills this place, or None."""
        return next((header for header, column in self.columns.items() if column.to == place), None)

    @property
    def reference(self) -> str:
        """The column with the referral's reference."""
        header = self.column_to("reference")
        assert header is not None
        return header
