"""The page of a council's CSV export."""

from collections.abc import Iterator, Mapping

from infra.docgen.markdown import code, place, section, table
from services.intake import limits
from services.intake.translators.council_csv.mapping import ColumnMapping, CouncilMapping, CsvFile, Need
from services.intake.translators.council_csv.targets import FEEDS, OPEN, CellKind
from services.reference.directory import Directory
from services.reference.partners import Partner

KINDS = {
    "reference": "as written",
    "moment": "a date, with a time if it has one",
    "date": "a date",
    "address": "the lines and the postcode in one cell",
    "prose": "text",
    "phone": "a telephone number",
    "postcode": "a postcode",
    "nhs-number": "ten digits with a valid check digit",
    "yes-no": "yes or no",
    "ods": "an ODS code",
    "ons": "an ONS district code",
    "uprn": "a number of at most 12 digits",
    "list": "text",
    "given-names": "text",
    "textphone": "a textphone number",
}
DISTRICTS = {
    "own": "The person lives in this council's own district.",
    "column": "A column gives the district in which the person lives.",
    "postcode": "The postcode gives the district in which the person lives.",
}


def page(mapping: CouncilMapping, sender: Partner, directory: Directory) -> list[str]:
    """Return the page: the file's format, its columns, and where each value goes."""
    return [
        f"# {sender.name}: {mapping.title}",
        "",
        f"CSV, or an `.xlsx` workbook of the same columns: `POST /councils/{mapping.council}/referrals`, or `lightbulb send`. Each row is",
        "accepted or refused separately; the response lists every row, and each fault by the column's header as written below.",
        "",
        *section("The file", *_file(mapping.file), *_identity(mapping), ""),
        *section("How cells are read", *_reading(mapping), ""),
        *section(
            "Columns", *table(("column", "required", "what is read", "target field"), _columns(mapping, directory))
        ),
        *section("The same in every row", *table(("what", "target field"), _of_every_row(mapping, directory))),
        *section(
            "Known columns that are not read",
            *([", ".join(map(code, mapping.ignored)), ""] if mapping.ignored else []),
        ),
    ]


def places(mapping: CouncilMapping) -> set[str]:
    """Return the places of the referral to which the columns lead."""
    return {column.to for column in mapping.columns.values()}


def _file(file: CsvFile) -> Iterator[str]:
    quoting = "cells may be in double quotes" if file.quoting == "double" else "cells are not quoted"
    yield f"- Encoding {file.encoding}; cells are separated by {file.delimiter}; {quoting}."
    titles = f" ({file.lines_above} in this export)" if file.lines_above else ""
    yield f"- The header is one of the first {limits.HEADER_ROWS} rows; titles, blank rows and `sep=` above it{titles} are passed over."
    yield "- Rows end with CR, LF or both. A row in another encoding, or with more cells than the header, is refused; the others are read."
    if file.last_line_ends:
        yield "- The last row must have its line end, because a file that is cut off in its last cell looks whole."
    yield (
        "- In a workbook: the only visible sheet with the header is read. Dates are date cells, or text in a format below, never numbers; "
        "a formula counts by its stored value; an error value, or no stored value, refuses its row. A number with leading zeros or "
        "signs (00012) is read as it is shown. Hidden and filtered rows and columns are read, as a CSV export has them."
    )
    years = f"; a year of two digits lies in the hundred years from {file.years_from}" if file.years_from else ""
    yield f"- Dates: {', '.join(map(code, file.dates))}{years}."
    if file.empty:
        yield f"- Read as empty: {', '.join(map(code, file.empty))}."
    if file.no_fixed_abode:
        yield f"- Address of a person with no fixed abode: {', '.join(map(code, file.no_fixed_abode))}."


def _identity(mapping: CouncilMapping) -> Iterator[str]:
    yield (
        f"- {code(mapping.reference)} identifies a row: the same row again changes nothing, and a changed row is an update. A row that "
        "is no longer in the file does not cancel its referral."
    )
    yield "- A row that names another person than the referral held under its reference is refused: send it under a new reference."
    if changed := mapping.column_to("changed_on"):
        yield f"- {code(changed)} is when a row was changed: an older row never replaces a newer one."
    cancels = [(header, c) for header, c in mapping.columns.items() if c.kind == "status"]
    for header, column in cancels:
        codes = [f"{code(name)} ({means})" for name, means in column.codes.items() if means != OPEN]
        yield f"- The referral is cancelled if {code(header)} is {', '.join(codes)}."
    if agreed := mapping.column_to("consents.referral.answer"):
        yield f"- A no in {code(agreed)}: the person does not agree; a referral that we hold is cancelled, a new one is refused."
    elif not cancels:
        yield "- No column cancels a referral."
    yield f"- {DISTRICTS[mapping.district]}"


NUMBERS = (
    "- Numbers, references and codes: 123.0 is 123. A number with another separator (12,000, 12.000, 1 234) or an exponent (9.99E+09) is "
    "refused: format the column as text and export again. A reference that is a date, a zero or a filler is refused."
)
NAMES = {
    "surname-last": "- {}: titles in front, then given names; the last word and particles before it (van der, de la) are the family name. "
    "'Surname, Forename' with one comma is read, with a warning.",
    "surname-first": "- {}: the family name before the comma, titles and given names after it.",
}
MORE_OF_NAMES = (
    " Letters after a name (OBE, Jr) are kept with the title, and text in brackets with the given names, with a warning. Refused: "
    "two people in one cell (&, and), a second name (nee, aka), an initial as the last word, a note of a death, digits, strokes, a "
    "dash next to a blank, commas that can be read in two ways."
)
PARTS_OF_NAMES = "- {}: two people in one row, or a note of a death, are refused; brackets and second names are kept, with a warning."
ADDRESSES = (
    "- {}: lines at commas and line breaks. A postcode is read at the end of the cell or of a line only; two postcodes are refused. One "
    "that was not read is kept in its line, with a warning."
)
BIRTH = "- {}: not in the future, and at most 130 years ago. A date that stands for an unknown one, such as 01/01/1900, is refused."
SHORT_YEARS = " A year of two digits that may be of two centuries (00 to this year's) is refused: write four digits."
SERIALS = "- A spreadsheet's day number is a date from 3000 (18 March 1908): 1948 is a year, and refused."
OTHER_DATES = (
    "- Other dates are from 1900 to today; one that stands for an unknown date counts as not given, with a warning."
)
CHANGED = (
    "- {}: at most five minutes in the future. Without a time it is the whole day, to the minute the whole minute."
)
TICKS = "- Yes and no: yes, y, true, 1, \u2713, \u2714, \u2611{}; no, n, false, 0, \u2717, \u2718, \u2610."
TEXTS = (
    "- Free text ({}): up to 10,000 characters, as written. In all other columns a cell that begins with = or @ is refused; so is a "
    "spreadsheet's error (#REF!, Err:502) in every column."
)


def _reading(mapping: CouncilMapping) -> Iterator[str]:
    """Yield how the cells of the file's columns are read, by the kinds of columns that it has."""
    yield NUMBERS
    for header, column in mapping.columns.items():
        if column.kind == "name" and column.order:
            yield NAMES[column.order].format(code(header)) + MORE_OF_NAMES
    yield from _of_kinds(mapping, PARTS_OF_NAMES, "title", "family-name", "given-names")
    yield from _of_kinds(mapping, ADDRESSES, "address")
    if birth := mapping.column_to("person.birth_date"):
        yield BIRTH.format(code(birth)) + (SHORT_YEARS if mapping.file.has_short_years else "")
    if "excel-serial" in mapping.file.dates:
        yield SERIALS
    yield OTHER_DATES
    yield from _of_kinds(mapping, CHANGED, "moment")
    if any(column.takes_ticks for column in mapping.columns.values()):
        yield TICKS.format("".join(f", {tick}" for tick in mapping.file.ticks))
    free = [code(header) for header, column in mapping.columns.items() if column.reading == "text"]
    if free:
        yield TEXTS.format(", ".join(free))


def _of_kinds(mapping: CouncilMapping, text: str, *kinds: CellKind) -> Iterator[str]:
    """Yield a text with the headers of the columns of these kinds, if there are any."""
    headers = [code(header) for header, column in mapping.columns.items() if column.kind in kinds]
    if headers:
        yield text.format(", ".join(headers))


def _columns(mapping: CouncilMapping, directory: Directory) -> Iterator[tuple[str, ...]]:
    for header, column in mapping.columns.items():
        yield code(header), "yes" if column.required else "", _read(column, directory), _where(column)


def _where(column: ColumnMapping) -> str:
    if column.kind == "status":
        return "whether the referral is open, or why it is cancelled"
    return "; ".join(map(place, FEEDS[column.to])) if column.to in FEEDS else place(column.to)


def _read(column: ColumnMapping, directory: Directory) -> str:
    parts = [_coded(column.codes), *(_need(need, directory, name) for name, need in column.needs.items())]
    parts += [f"{code(name)}: {text}" for name, text in column.flags.items()]
    parts += [f"yes: {_need_label(column.need, directory)}"] if column.need else []
    parts += [f"yes: {code(column.flag.code)}, {column.flag.text}"] if column.flag else []
    parts += [f"several are separated by {code(column.separator)}"] if column.separator else []
    parts += [f"{column.width} digits: leading zeros that a spreadsheet removed are added"] if column.width else []
    parts += [f"{column.order.replace('-', ' ')}"] if column.order else []
    parts += [f"a year of two digits lies in the hundred years from {column.years_from}"] if column.years_from else []
    return "; ".join(filter(None, parts)) or KINDS.get(column.kind, "")


def _coded(codes: Mapping[str, str]) -> str:
    return "; ".join(f"{code(name)}: {means}" for name, means in codes.items())


def _need(need: Need, directory: Directory, name: str) -> str:
    return f"{code(name)}: {_need_label(need, directory)}"


def _need_label(need: Need, directory: Directory) -> str:
    suffix = f" ({need.text})" if need.text else ""
    return f"{directory.offer(need.service).label}{suffix}"


def _of_every_row(mapping: CouncilMapping, directory: Directory) -> Iterator[tuple[str, ...]]:
    yield from ((_need_label(need, directory), place("needs")) for need in mapping.needs)
    yield from ((code(value), place(to)) for to, value in mapping.constants.items())
