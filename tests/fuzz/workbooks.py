"""Workbooks of councils: any bytes, and any content of one part of a real one; refused, or rows that are read the same again."""

import random
import re
from collections.abc import Sequence

from services.intake import limits
from services.intake.translators import council_csv
from services.intake.translators.council_csv import CouncilMapping, header, workbook
from services.intake.translators.council_csv.prescan import Prescan
from services.intake.translators.council_csv.record_splitter import is_blank
from services.intake.translators.inbound_message import InboundMessage
from services.intake.translators.translator import Rejection
from tests.builders.csv import COUNCILS
from tests.builders.workbook import SHEET, STRINGS, a_workbook, changed, part_of
from tests.contract.translators.adapters import ATTACHMENT_KEY, RECEIVED_AT, a_partner
from tests.fuzz import judge
from tests.fuzz.files import NAMES, surveyed
from tests.fuzz.judge import assert_that
from tests.fuzz.mutate import TEXTS, frame_bytes

PARTS = (None, SHEET, STRINGS, "xl/styles.xml", "xl/workbook.xml", "xl/_rels/workbook.xml.rels", "_rels/.rels")
"""What an input is: a whole file, or the content of this part."""

BOOKS = [a_workbook(name) for name in NAMES]


def assert_holds(data: bytes) -> None:
    """The first byte names the council, the second the part; the rest is its content."""
    number, part, content = (
        (data[0] if data else 0) % len(NAMES),
        PARTS[(data[1:2] or b"\0")[0] % len(PARTS)],
        data[2:],
    )
    mapping = COUNCILS[NAMES[number]]
    file = content if part is None else changed(BOOKS[number], {part: content})
    if not file.startswith(workbook.BEGINS):
        return
    whole, in_pieces = surveyed(mapping, file, len(file)), surveyed(mapping, file, 1_000)
    assert_that(whole.rejection == in_pieces.rejection, "other pieces, another refusal")
    assert_that(whole.is_workbook and in_pieces.is_workbook, "a workbook that is read as CSV")
    if whole.rejection:
        judge.assert_rejection(whole.rejection)
    else:
        _translated(mapping, whole, file)


def _translated(mapping: CouncilMapping, survey: Prescan, file: bytes) -> None:
    """Each row below its header, as it is handed over."""
    translate, above = council_csv.translator(survey.mapping, survey.layout), b"".join(survey.above)
    rows = list(workbook.records(file, survey.mapping))[len(survey.above) :]
    given = [record for record in rows if not is_blank(record, survey.mapping.file)]
    assert_that([record.line for record in given] == list(survey.lines), "two passes, other rows")
    for record in given:
        assert_that(len(record.body) <= limits.ROW_BYTES + 1, "a row longer than is kept")
        delivery = InboundMessage(a_partner(mapping.partner), above + record.body, RECEIVED_AT, ATTACHMENT_KEY)
        made = translate(delivery)
        judge.assert_outcome(delivery, made)
        in_header = isinstance(made, Rejection) and any(fault.place == header.PLACE for fault in made.issues)
        assert_that(not in_header, "a header that the first look took, and the translator does not")


def seeds() -> Sequence[bytes]:
    """Every part of each council's workbook, and the whole."""
    found = []
    for number, book in enumerate(BOOKS):
        contents = [book if part is None else part_of(book, part) for part in PARTS]
        found += [bytes([number, at]) + content for at, content in enumerate(contents)]
    return found


_TOKEN = re.compile(r"<[^>]*>|[^<]+")
_ATTRIBUTE = re.compile(r'"[^"]*"')


def mutate(data: bytes, draw: random.Random) -> bytes:
    """One element, attribute or text of a part more, less or another; of a whole file some bytes."""
    first, content = data[:2].ljust(2, b"\0"), data[2:]
    if draw.random() < 0.02:
        first = bytes([draw.randrange(16), draw.randrange(16)])
    if PARTS[first[1] % len(PARTS)] is None or draw.random() < 0.1:
        return first + frame_bytes(content, draw)
    tokens = _TOKEN.findall(content.decode("utf-8", "ignore")) or [""]
    at, text = draw.randrange(len(tokens)), draw.choice(TEXTS)
    match draw.randrange(6):
        case 0:
            del tokens[at]
        case 1:
            tokens.insert(at, tokens[draw.randrange(len(tokens))])
        case 2:
            other = draw.randrange(len(tokens))
            tokens[at], tokens[other] = tokens[other], tokens[at]
        case 3 if not tokens[at].startswith("<"):
            tokens[at] = text.replace("<", "")
        case _:
            tokens[at] = _ATTRIBUTE.sub(lambda one: f'"{text}"' if draw.random() < 0.4 else one[0], tokens[at])
    return first + "".join(tokens).encode("utf-8", "ignore")
