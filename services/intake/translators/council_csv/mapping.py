"""What a council's reviewed file says: how its export is written, and what becomes of each column."""

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from schemas.model import PartnerId, ShortText, StrictInput
from services.intake.translators.council_csv.cells import fold
from services.intake.translators.council_csv.dates import DateFormat
from services.intake.translators.council_csv.targets import TARGETS, YES_NO, CellKind, accepts_yes_no
from services.reference.directory import OfferedService
from services.reference.yaml_files import Code

CouncilId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{1,40}$")]
HeaderText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=120)]
Year = Annotated[int, Field(ge=1900, le=2000)]

DELIMITERS: Mapping[str, str] = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
CODECS: Mapping[str, str] = {"utf-8": "utf-8", "utf-8-bom": "utf-8", "windows-1252": "cp1252"}


class CsvFile(StrictInput):
    """How the file is written."""

    encoding: Literal["utf-8", "utf-8-bom", "windows-1252"] = Field(
        description="Of its text; a byte order mark is passed over in UTF-8, and written where the name says so"
    )
    delimiter: Literal["comma", "semicolon", "tab", "pipe"] = Field(description="Between two cells")
    quoting: Literal["double", "none"] = Field(
        "double",
        description='double: a cell may stand in ", with "" for a quote mark and line ends inside; none: never',
    )
    lines_above: Annotated[int, Field(ge=0, le=10)] = Field(0, description="Rows above the header, such as a title")
    last_line_ends: bool = Field(
        True, description="False where the last row has no line end: a file cut off in its last cell is then not told"
    )
    dates: tuple[DateFormat, ...] = Field(min_length=1, description="How dates may look, tried in this order")
    years_from: Year | None = Field(
        None, description="Years of two digits are of the hundred years that begin here: 1930 makes 29 be 2029"
    )
    empty: tuple[Code, ...] = Field((), description="What is written where nothing is known, such as N/A")
    no_fixed_abode: tuple[Code, ...] = Field(
        (), description="What is written for an address where there is none, such as NFA"
    )

    @property
    def codec(self) -> str:
        """Python's name of the encoding."""
        return CODECS[self.encoding]

    @property
    def separator(self) -> str:
        """The character between two cells."""
        return DELIMITERS[self.delimiter]

    @cached_property
    def nothing(self) -> frozenset[str]:
        """What is read as an empty cell."""
        return frozenset({"", *map(fold, self.empty)})

    def is_nothing(self, text: str) -> bool:
        """True for a cell that says nothing: empty, or a word of `empty`."""
        return len(text) <= self._longest_nothing and fold(text) in self.nothing

    @cached_property
    def _longest_nothing(self) -> int:
        return max(map(len, self.nothing)) + 4

    @cached_property
    def nowhere(self) -> frozenset[str]:
        """What an address says where somebody has none."""
        return frozenset(map(fold, self.no_fixed_abode))


class Need(StrictInput):
    """What is asked for."""

    service: OfferedService = Field(description="The service that meets it")
    text: ShortText | None = Field(None, description="What goes with it, in words")


class FlagMeaning(StrictInput):
    """A warning for whoever visits."""

    code: ShortText = Field(description="A short code")
    text: ShortText = Field(description="The warning")


class ColumnMapping(StrictInput):
    """One column of the file, and what becomes of its cells."""

    to: str = Field(description="A place of the canonical referral, or reference, changed_on, status, name, address")
    required: bool = Field(False, description="Whether a row is refused where the cell is empty")
    codes: dict[Code, Code] = Field({}, description="What each code means")
    needs: dict[Code, Need] = Field({}, description="to: needs; what each code asks for")
    need: Need | None = Field(None, description="to: needs; what yes asks for")
    flags: dict[Code, ShortText] = Field({}, description="to: risk_flags; the words of each code")
    flag: FlagMeaning | None = Field(None, description="to: risk_flags; what yes warns of")
    separator: Annotated[str, StringConstraints(min_length=1, max_length=3)] | None = Field(
        None, description="What stands between several codes or words in one cell"
    )
    width: Annotated[int, Field(ge=2, le=20)] | None = Field(
        None, description="reference: digits that it has; zeros that a spreadsheet took away are put back"
    )
    order: Literal["surname-first", "surname-last"] | None = Field(
        None, description="name: 'SURNAME, Forename' or 'Mrs Ann Surname'"
    )
    years_from: Year | None = Field(None, description="As in file, for this column")

    @cached_property
    def kind(self) -> CellKind:
        """How its cells are read."""
        return TARGETS[self.to]

    @cached_property
    def meaning(self) -> Mapping[str, str]:
        """What each code means, by the code as it is compared."""
        if self.codes or not (accepts_yes_no(self.to) or self.need or self.flag):
            return {fold(code): value for code, value in self.codes.items()}
        return YES_NO

    @cached_property
    def asks(self) -> Mapping[str, Need]:
        """needs, by the code as it is compared."""
        return {fold(code): need for code, need in self.needs.items()}

    @cached_property
    def warns(self) -> Mapping[str, tuple[str, str]]:
        """flags, by the code as it is compared: the code as written, and its words."""
        return {fold(code): (code, text) for code, text in self.flags.items()}


class CouncilMapping(StrictInput):
    """A council's export, as it was reviewed."""

    council: CouncilId = Field(description="Its name: /councils/{council}/referrals, and of this file")
    partner: PartnerId = Field(description="Who may send it, of partners.yaml")
    title: ShortText = Field(description="As people know the export")
    file: CsvFile = Field(description="How it is written")
    district: Literal["own", "column", "postcode"] = Field(
        description="Where the person lives: own: in this council's district; column: one says so; postcode: it decides"
    )
    columns: dict[HeaderText, ColumnMapping] = Field(min_length=1, description="By the words of the header")
    needs: tuple[Need, ...] = Field((), description="What every row asks for, whatever its columns say")
    constants: dict[str, Code] = Field({}, description="Places of the referral that are the same in every row")
    ignored: tuple[HeaderText, ...] = Field((), description="Columns that are known, and not read")

    @cached_property
    def headers(self) -> Mapping[str, str]:
        """Every column that the file has, ignored ones too: as it is compared, and as it is written."""
        return {fold(header): header for header in (*self.columns, *self.ignored)}

    @cached_property
    def signature(self) -> frozenset[str]:
        """What tells this council's file from another's."""
        return frozenset(self.headers)

    def column_to(self, place: str) -> str | None:
        """The first column that goes there."""
        return next((header for header, column in self.columns.items() if column.to == place), None)

    @property
    def reference(self) -> str:
        """The column that says which referral a row is."""
        header = self.column_to("reference")
        assert header is not None
        return header
