"""Message Translator for district councils' files: one row of CSV, read by a reviewed file of infra/reference_data/councils.

The body of a delivery is the file's header, with what stands above it, and one row, byte for byte as they stood in the file: so a
kept row explains itself, and can be sent again. Adding a council is adding a file.
"""

from services.intake.translators.council_csv import header, record_splitter, row_translator
from services.intake.translators.council_csv.header import HeaderLayout, whose
from services.intake.translators.council_csv.mapping import CouncilMapping
from services.intake.translators.council_csv.profile_validation import load
from services.intake.translators.council_csv.record_splitter import LONGEST_ROW
from services.intake.translators.translator import (
    CONTAINS_NUL,
    InboundMessage,
    Issue,
    Rejection,
    Translated,
    Translator,
    reject,
)

__all__ = ["CouncilMapping", "load", "translator", "whose"]

BROKEN = Issue("row", "invalid", "is not well formed: a quote mark is not closed, or text stands behind a closing one")
CUT_OFF = Issue("row", "invalid", "has no line end: the file may have been cut off here; export it again")
NOT_ONE = Issue("row", "required", "one row below the header is expected")
LONG = Issue("row", "too-long", f"is longer than {LONGEST_ROW} bytes; a quote mark may be missing or be one too many")
NUL = Issue("row", "invalid", CONTAINS_NUL)


def translator(mapping: CouncilMapping) -> Translator:
    """The translator of one council's rows. The header, the same for every row of a file, is read once."""
    cached: list[HeaderLayout] = []

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
        for record in record_splitter.Splitter(mapping.file).feed(body, last=True):
            records.append(record.body)
            if len(records) > mapping.file.lines_above:
                layout = header.read(mapping, records) if record.ends else NOT_ONE
                return layout if isinstance(layout, HeaderLayout) else reject(layout)
    except record_splitter.TooLong:
        return reject(LONG)
    return reject(Issue(header.PLACE, "required", f"is missing; {header.expected(mapping)}"))


def _translate(mapping: CouncilMapping, layout: HeaderLayout, inbound: InboundMessage) -> Translated | Rejection:
    body = inbound.body[len(layout.bytes) :]
    if not body:
        return reject(NOT_ONE)
    if len(body) > LONGEST_ROW:
        return reject(LONG)
    if mapping.file.last_line_ends and body[-1:] != layout.bytes[-1:]:
        return reject(CUT_OFF)
    cells = record_splitter.read(body, mapping.file)
    if cells is None:
        return reject(BROKEN if _is_text(body, mapping) else Issue("row", "invalid", f"is not {mapping.file.encoding}"))
    if ragged := _ragged(cells, layout, body):
        return reject(ragged)
    return row_translator.read(mapping, {name: cells[at] for name, at in layout.columns}, inbound)


def _is_text(body: bytes, mapping: CouncilMapping) -> bool:
    try:
        body.decode(mapping.file.codec)
    except UnicodeDecodeError:
        return False
    return True


def _ragged(cells: list[str], layout: HeaderLayout, body: bytes) -> Issue | None:
    """Cells too many or too few. Empty ones behind the last column are a spreadsheet's habit."""
    number = len(cells)
    while number > layout.width and not cells[number - 1].strip():
        number -= 1
    if number == layout.width:
        return None
    lines = body.count(layout.bytes[-1:])
    spread = f"; it stands on {lines} lines: a quote mark may be missing, or be one too many" if lines > 1 else ""
    return Issue("row", "invalid", f"has {number} cells where the header has {layout.width}{spread}")
