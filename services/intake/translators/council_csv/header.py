"""The header of a council's file: find it, compare it with the mapping, and find each column's position."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from services.intake import limits
from services.intake.translators.council_csv import record_splitter
from services.intake.translators.council_csv.cells import fold
from services.intake.translators.council_csv.mapping import CouncilMapping
from services.intake.translators.translator import Issue

PLACE = "header"


@dataclass(frozen=True, slots=True)
class HeaderLayout:
    """Positions of the columns to read, by their header in the mapping. `bytes`: all before the first row.

    `spare`: how many empty cells may follow a row's last column, because the header has them; `spare_in_rows`: because every row has.
    """

    columns: tuple[tuple[str, int], ...]
    width: int
    reference: int
    bytes: bytes
    spare: int = 0
    spare_in_rows: int = 0


def read(mapping: CouncilMapping, records: Sequence[bytes]) -> HeaderLayout | None:
    """Return the layout of a file if the last of its first records is the header; None if it is not."""
    cells = _normalized(mapping, records, -1)
    header = _without_spare(cells)
    if len(header) != len(mapping.signature) or set(header) != mapping.signature:
        return None
    columns = tuple((name, header.index(fold(name))) for name in mapping.columns)
    spare = len(cells) - len(header)
    return HeaderLayout(columns, len(header), dict(columns)[mapping.reference], b"".join(records), spare)


def mismatch(mapping: CouncilMapping, records: Sequence[bytes], file_kind: str | None = None) -> Issue:
    """Return the issue of a file without its header, from its first records: the one most like the header is described.

    `file_kind`: the kind of file for people, if it is not the mapping's.
    """
    rows = [_without_spare(_normalized(mapping, records, at)) for at in range(len(records))]
    if not any(rows):
        return Issue(
            PLACE,
            "invalid",
            f"is not within the first {limits.HEADER_ROWS} rows, or cannot be parsed as {written(mapping)}",
        )
    return Issue(PLACE, "invalid", _difference(mapping, max(rows, key=lambda row: _likeness(mapping, row)), file_kind))


def _likeness(mapping: CouncilMapping, row: Sequence[str]) -> tuple[int, int]:
    return len(mapping.signature.intersection(row)), len(row)


def without_mark(body: bytes) -> bytes:
    """Return the body without a UTF-8 byte order mark."""
    return body.removeprefix(b"\xef\xbb\xbf")


def written(mapping: CouncilMapping) -> str:
    """Describe the file's encoding and delimiter for people."""
    file = mapping.file
    return f"{file.encoding} with a {file.delimiter} between cells"


def expected(mapping: CouncilMapping, file_kind: str | None = None) -> str:
    """Describe the expected header for people. `file_kind`: the kind of file, if it is not the mapping's."""
    where = f"within the first {limits.HEADER_ROWS} rows"
    columns = "; ".join(mapping.headers.values())
    return f"expected header, {where}: '{mapping.title}' ({file_kind or written(mapping)}): {columns}"


def whose(mappings: Iterable[CouncilMapping], begin: bytes) -> CouncilMapping | None:
    """Return the mapping whose header begins the file, or None. `begin`: the file, or its first 64 kilobytes."""
    return next((mapping for mapping in mappings if _is_of(mapping, begin)), None)


def _is_of(mapping: CouncilMapping, begin: bytes) -> bool:
    splitter = record_splitter.Splitter(mapping.file, longest=len(begin) + 1)
    records = [record.body for record in islice(splitter.feed(begin, last=True), limits.HEADER_ROWS)]
    return any(read(mapping, records[:end]) for end in range(1, len(records) + 1))


def _normalized(mapping: CouncilMapping, records: Sequence[bytes], at: int) -> list[str]:
    body = records[at]
    is_first = at in (0, -len(records))
    cells = record_splitter.read(without_mark(body) if is_first else body, mapping.file)
    return [fold(cell) for cell in cells or ()]


def _without_spare(cells: list[str]) -> list[str]:
    """Return the cells without the empty ones at the end."""
    width = len(cells)
    while width and not cells[width - 1]:
        width -= 1
    return cells[:width]


def _difference(mapping: CouncilMapping, header: list[str], file_kind: str | None) -> str:
    """Describe missing columns by name, unknown ones by number only: a wrong file may have personal data there."""
    missing = [name for key, name in mapping.headers.items() if key not in header]
    unknown = len([cell for cell in header if cell not in mapping.signature])
    twice = [name for key, name in mapping.headers.items() if header.count(key) > 1]
    differences = [
        f"lacks columns: {'; '.join(missing)}" if missing else "",
        f"has unknown columns: {unknown}" if unknown else "",
        f"repeats columns: {'; '.join(twice)}" if twice else "",
    ]
    return ", ".join(filter(None, differences)) + f"; {expected(mapping, file_kind)}"
