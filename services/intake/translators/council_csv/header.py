"""The header of a council's file: compare it with the mapping, and find each column's position."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from services.intake.translators.council_csv import record_splitter
from services.intake.translators.council_csv.cells import fold
from services.intake.translators.council_csv.mapping import CouncilMapping
from services.intake.translators.translator import Issue

PLACE = "header"


@dataclass(frozen=True, slots=True)
class HeaderLayout:
    """Positions of the columns to read, by their header in the mapping. `bytes`: all before the first row."""

    columns: tuple[tuple[str, int], ...]
    width: int
    reference: int
    bytes: bytes


def read(mapping: CouncilMapping, records: Sequence[bytes]) -> HeaderLayout | Issue:
    """Return the layout of a file from its first records: those above the header, and the header."""
    body = b"".join(records)
    texts = [_normalised(mapping, record) for record in [without_mark(records[0]), *records[1:]]]
    header = texts[-1]
    if header is None:
        return Issue(PLACE, "invalid", f"cannot be parsed as {written(mapping)}")
    while header and not header[-1]:
        header.pop()
    if len(set(header)) != len(header) or set(header) != mapping.signature:
        return Issue(PLACE, "invalid", _difference(mapping, header, texts[:-1]))
    columns = tuple((name, header.index(fold(name))) for name in mapping.columns)
    return HeaderLayout(columns, len(header), dict(columns)[mapping.reference], body)


def without_mark(body: bytes) -> bytes:
    """Return the body without a UTF-8 byte order mark."""
    return body.removeprefix(b"\xef\xbb\xbf")


def written(mapping: CouncilMapping) -> str:
    """Describe the file's encoding and delimiter for people."""
    file = mapping.file
    return f"{file.encoding} with a {file.delimiter} between cells"


def expected(mapping: CouncilMapping) -> str:
    """Describe the expected header for people."""
    above = f", on row {mapping.file.lines_above + 1} of the file" if mapping.file.lines_above else ""
    return f"expected header: '{mapping.title}' ({written(mapping)}{above}): {'; '.join(mapping.headers.values())}"


def whose(mappings: Iterable[CouncilMapping], begin: bytes) -> CouncilMapping | None:
    """Return the mapping whose header begins the file, or None. `begin`: the file, or its first 64 kilobytes."""
    return next((mapping for mapping in mappings if _is_of(mapping, begin)), None)


def _is_of(mapping: CouncilMapping, begin: bytes) -> bool:
    splitter = record_splitter.Splitter(mapping.file, longest=len(begin) + 1)
    records = [record.body for record in islice(splitter.feed(begin, last=True), mapping.file.lines_above + 1)]
    return len(records) > mapping.file.lines_above and isinstance(read(mapping, records), HeaderLayout)


def _normalised(mapping: CouncilMapping, record: bytes) -> list[str] | None:
    cells = record_splitter.read(record, mapping.file)
    return cells and [fold(cell) for cell in cells]


def _difference(mapping: CouncilMapping, header: list[str], above: Iterable[list[str] | None]) -> str:
    """Describe missing columns by name, unknown ones by number only: a wrong file may have personal data there."""
    if any(cells and mapping.signature <= set(cells) for cells in above):
        return f"is too high in the file; {expected(mapping)}"
    missing = [name for key, name in mapping.headers.items() if key not in header]
    unknown = len([cell for cell in header if cell not in mapping.signature])
    twice = [name for key, name in mapping.headers.items() if header.count(key) > 1]
    differences = [
        f"lacks columns: {'; '.join(missing)}" if missing else "",
        f"has unknown columns: {unknown}" if unknown else "",
        f"repeats columns: {'; '.join(twice)}" if twice else "",
    ]
    return ", ".join(filter(None, differences)) + f"; {expected(mapping)}"
