"""Message Translator for district councils' files: one row of CSV, read by a reviewed file of infra/directory/councils.

The body of a delivery is the file's header, with what stands above it, and one row, byte for byte as they stood in the file: so a
kept row explains itself, and can be sent again. Adding a council is adding a file.
"""

from services.intake.translators.contract import Delivery, Fault, Refusal, Translated, Translator, refuse
from services.intake.translators.council_csv import header, row, rows
from services.intake.translators.council_csv.checks import load
from services.intake.translators.council_csv.header import Layout, whose
from services.intake.translators.council_csv.mapping import CouncilMapping
from services.intake.translators.council_csv.rows import LONGEST_ROW

__all__ = ["CouncilMapping", "load", "translator", "whose"]

BROKEN = Fault("row", "invalid", "is not well formed: a quote mark is not closed, or text stands behind a closing one")
CUT_OFF = Fault("row", "invalid", "has no line end: the file may have been cut off here; export it again")
NOT_ONE = Fault("row", "required", "one row below the header is expected")
LONG = Fault("row", "too-long", f"is longer than {LONGEST_ROW} bytes; a quote mark may be missing or be one too many")
NUL = Fault("row", "invalid", "contains a NUL character, which is not allowed")


def translator(mapping: CouncilMapping) -> Translator:
    """The translator of one council's rows. The header, the same for every row of a file, is read once."""
    known: list[Layout] = []

    def translate(delivery: Delivery) -> Translated | Refusal:
        if b"\x00" in delivery.body:
            return refuse(NUL)
        if not known or not delivery.body.startswith(known[0].bytes):
            found = _layout(mapping, delivery.body)
            if isinstance(found, Refusal):
                return found
            known[:] = [found]
        return _translate(mapping, known[0], delivery)

    return translate


def _layout(mapping: CouncilMapping, body: bytes) -> Layout | Refusal:
    records: list[bytes] = []
    try:
        for record in rows.Splitter(mapping.file).feed(body, last=True):
            records.append(record.body)
            if len(records) > mapping.file.lines_above:
                found = header.read(mapping, records) if record.ends else NOT_ONE
                return found if isinstance(found, Layout) else refuse(found)
    except rows.TooLong:
        return refuse(LONG)
    return refuse(Fault(header.PLACE, "required", f"is missing; {header.expected(mapping)}"))


def _translate(mapping: CouncilMapping, layout: Layout, delivery: Delivery) -> Translated | Refusal:
    body = delivery.body[len(layout.bytes) :]
    if not body:
        return refuse(NOT_ONE)
    if len(body) > LONGEST_ROW:
        return refuse(LONG)
    if mapping.file.last_line_ends and body[-1:] != layout.bytes[-1:]:
        return refuse(CUT_OFF)
    cells = rows.read(body, mapping.file)
    if cells is None:
        return refuse(BROKEN if _is_text(body, mapping) else Fault("row", "invalid", f"is not {mapping.file.encoding}"))
    if ragged := _ragged(cells, layout, body):
        return refuse(ragged)
    return row.read(mapping, {name: cells[at] for name, at in layout.columns}, delivery)


def _is_text(body: bytes, mapping: CouncilMapping) -> bool:
    try:
        body.decode(mapping.file.codec)
    except UnicodeDecodeError:
        return False
    return True


def _ragged(cells: list[str], layout: Layout, body: bytes) -> Fault | None:
    """Cells too many or too few. Empty ones behind the last column are a spreadsheet's habit."""
    number = len(cells)
    while number > layout.width and not cells[number - 1].strip():
        number -= 1
    if number == layout.width:
        return None
    lines = body.count(layout.bytes[-1:])
    spread = f"; it stands on {lines} lines: a quote mark may be missing, or be one too many" if lines > 1 else ""
    return Fault("row", "invalid", f"has {number} cells where the header has {layout.width}{spread}")
