"""Message Translator for district councils' CSV rows, read by a reviewed file of infra/reference_data/councils.

A message body is the file's header, the lines above it and one row, byte for byte: a stored row can be read and
resubmitted without its file. To add a council, add a file.
"""

from services.intake.translators.council_csv import header, record_splitter, row_translator
from services.intake.translators.council_csv.header import HeaderLayout, whose
from services.intake.translators.council_csv.mapping import CouncilMapping
from services.intake.translators.council_csv.profile_validation import load
from services.intake.translators.council_csv.record_splitter import LONGEST_ROW
from services.intake.translators.inbound_message import InboundMessage, Translator
from services.intake.translators.translator import CONTAINS_NUL, Issue, Rejection, Translated, reject

__all__ = ["CouncilMapping", "load", "translator", "whose"]

BROKEN = Issue("row", "invalid", "is not well formed: a quote mark is not closed, or text follows a closing quote mark")
CUT_OFF = Issue("row", "invalid", "has no line end: the file may be cut off here; export it again")
NOT_ONE = Issue("row", "required", "one row below the header is required")
LONG = Issue("row", "too-long", f"is longer than {LONGEST_ROW} bytes; a quote mark may be missing or extra")
NUL = Issue("row", "invalid", CONTAINS_NUL)


def translator(mapping: CouncilMapping) -> Translator:
    """Return the translator of one council's rows. It caches the header, which is the same for every row of a file."""
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
        return reject(_unreadable(body, mapping))
    if ragged := _ragged(cells, layout, body):
        return reject(ragged)
    return row_translator.read(mapping, {name: cells[at] for name, at in layout.columns}, inbound)


def _unreadable(body: bytes, mapping: CouncilMapping) -> Issue:
    return BROKEN if _is_text(body, mapping) else Issue("row", "invalid", f"is not valid {mapping.file.encoding}")


def _is_text(body: bytes, mapping: CouncilMapping) -> bool:
    try:
        body.decode(mapping.file.codec)
    except UnicodeDecodeError:
        return False
    return True


def _ragged(cells: list[str], layout: HeaderLayout, body: bytes) -> Issue | None:
    """Return a fault if the row has too many or too few cells. Empty cells after the last column are ignored."""
    number = len(cells)
    while number > layout.width and not cells[number - 1].strip():
        number -= 1
    if number == layout.width:
        return None
    lines = body.count(layout.bytes[-1:])
    spread = f"; it spans {lines} lines: a quote mark may be missing or extra" if lines > 1 else ""
    return Issue("row", "invalid", f"has {number} cells, but the header has {layout.width}{spread}")
