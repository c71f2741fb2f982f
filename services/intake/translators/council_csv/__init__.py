"""Message Translator for district councils' CSV rows, read by a reviewed file of infra/reference_data/councils.

A message body is the file's header, the lines above it and one row, byte for byte: a stored row can be read and
resubmitted without its file. To add a council, add a file.
"""

from itertools import islice

from services.intake import limits
from services.intake.translators.council_csv import dates, header, record_splitter, row_translator
from services.intake.translators.council_csv.header import HeaderLayout
from services.intake.translators.council_csv.mapping import CouncilMapping
from services.intake.translators.council_csv.prescan import whose
from services.intake.translators.council_csv.profile_validation import load
from services.intake.translators.inbound_message import InboundMessage, Translator
from services.intake.translators.translator import CONTAINS_NUL, Issue, Rejection, Translated, reject

__all__ = ["CouncilMapping", "load", "translator", "whose"]

BROKEN = Issue("row", "invalid", "is not well formed: a quote mark is not closed, or text follows a closing quote mark")
CUT_OFF = Issue(
    "row",
    "invalid",
    "has no line end: the file may be cut off here; export it again. If the export never ends its last row, tell "
    "Lightbulb: the council's mapping can allow it (`last_line_ends: false`)",
)
NOT_ONE = Issue("row", "required", "one row below the header is required")
SWALLOWED = Issue(
    "row", "invalid", "has a cell in which other rows stand: a quote mark is missing or extra; export it again"
)
LONG = Issue("row", "too-long", f"is longer than {limits.ROW_BYTES} bytes; a quote mark may be missing or extra")
NUL = Issue("row", "invalid", CONTAINS_NUL)


def translator(mapping: CouncilMapping, layout: HeaderLayout | None = None) -> Translator:
    """Return the translator of one council's rows. It caches the header, which is the same for every row of a file.

    `layout`: the header of the file as a whole, if it is known.
    """
    cached = [layout] if layout else []

    def translate(inbound: InboundMessage) -> Translated | Rejection:
        if b"\x00" in inbound.body:
            return reject(NUL)
        if not cached or not inbound.body.startswith(cached[0].bytes):
            layout = _layout(mapping, inbound.body)
            if isinstance(layout, Rejection):
                return layout
            cached[:] = [layout]
        return _translate(mapping, cached[0], inbound)

    return translate


def _layout(mapping: CouncilMapping, body: bytes) -> HeaderLayout | Rejection:
    records: list[bytes] = []
    try:
        for record in islice(record_splitter.Splitter(mapping.file).feed(body, last=True), limits.HEADER_ROWS):
            records.append(record.body)
            if layout := header.read(mapping, records):
                return layout if record.ends else reject(NOT_ONE)
    except record_splitter.TooLong:
        return reject(LONG)
    if not records:
        return reject(Issue(header.PLACE, "required", f"is missing; {header.expected(mapping)}"))
    return reject(header.mismatch(mapping, records))


def _translate(mapping: CouncilMapping, layout: HeaderLayout, inbound: InboundMessage) -> Translated | Rejection:
    body = inbound.body[len(layout.bytes) :]
    if not body:
        return reject(NOT_ONE)
    if len(body) > limits.ROW_BYTES:
        return reject(LONG)
    if mapping.file.last_line_ends and body[-1:] not in (b"\r", b"\n"):
        return reject(CUT_OFF)
    if problem := record_splitter.encoding_problem(body, mapping.file):
        return reject(Issue("row", "invalid", f"{problem}, unlike the rest of the file"))
    cells = record_splitter.read(body, mapping.file)
    if cells is None:
        return reject(BROKEN)
    if ragged := _ragged(cells, mapping, layout, body):
        return reject(ragged)
    if _has_swallowed(cells, mapping, layout):
        return reject(SWALLOWED)
    return row_translator.read(mapping, {name: cells[at] for name, at in layout.columns}, inbound)


def _ragged(cells: list[str], mapping: CouncilMapping, layout: HeaderLayout, body: bytes) -> Issue | None:
    """Return a fault if the row has too many or too few cells. An unquoted delimiter in a cell shifts the others."""
    if len(cells) >= layout.width and not any(map(str.strip, cells[layout.width :])):
        extra = len(cells) - layout.width
        if extra <= layout.spare or (extra <= layout.spare_in_rows and not _may_be_shifted(cells)):
            return None
    lines = record_splitter.lines(body)
    why = ""
    if lines > 1:
        why = f"; it spans {lines} lines: a quote mark may be missing or extra"
    elif len(cells) > layout.width:
        why = f": a cell may contain a {mapping.file.delimiter} without quote marks, or stand beside the table"
    return Issue("row", "invalid", f"has {len(cells)} cells, but the header has {layout.width}{why}")


def _may_be_shifted(cells: list[str]) -> bool:
    """Return whether a delimiter may be part of a text: in a text, a blank follows it."""
    return any(cell[:1] == " " for cell in cells[1:])


def _has_swallowed(cells: list[str], mapping: CouncilMapping, layout: HeaderLayout) -> bool:
    """Return whether a line of a cell is itself a row, as between two stray quote marks: it has its cells, and a birth date in place."""
    lines = [line for cell in cells if "\n" in cell or "\r" in cell for line in cell.splitlines()[1:]]
    birth = mapping.column_to("person.birth_date") if lines else None
    if birth is None:
        return False
    at = dict(layout.columns)[birth]
    rows = (line.split(mapping.file.separator) for line in lines)
    return any(len(row) > at + 1 and dates.read(row[at].strip(' "'), mapping.file.dates, 1900) for row in rows)
