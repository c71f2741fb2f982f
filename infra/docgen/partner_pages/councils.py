"""The page of a council's CSV export."""

from collections.abc import Iterator, Mapping

from infra.docgen.markdown import code, place, section, table
from services.intake import limits
from services.intake.translators.council_csv.mapping import ColumnMapping, CouncilMapping, CsvFile, Need
from services.intake.translators.council_csv.targets import FEEDS, OPEN
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
        *section(
            "Columns", *table(("column", "required", "what is read", "target field"), _columns(mapping, directory))
        ),
        *section("The same in every row", *table(("what", "target field"), _of_every_row(mapping, directory))),
        *section(
            "Known columns that are not read",
            *([", ".join(map(code, mapping.ignored)), ""] if mapping.ignored else []),
        ),
    ]


def _file(file: CsvFile) -> Iterator[str]:
    quoting = "cells may be in double quotes" if file.quoting == "double" else "cells are not quoted"
    yield f"- Encoding {file.encoding}; cells are separated by {file.delimiter}; {quoting}."
    titles = f" ({file.lines_above} in this export)" if file.lines_above else ""
    yield f"- The header is one of the first {limits.HEADER_ROWS} rows; titles, blank rows and `sep=` above it{titles} are passed over."
    yield "- Rows end with CR, LF or both. A row in another encoding, or with more cells than the header, is refused; the others are read."
    if file.last_line_ends:
        yield "- The last row must have its line end, because a file that is cut off in its last cell looks whole."
    yield (
        "- In a workbook: the only visible sheet with the header is read. Dates are date cells, or text in a format below; "
        "a formula counts by its stored value; an error value refuses its row."
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
