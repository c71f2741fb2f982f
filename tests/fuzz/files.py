"""Councils' files in any pieces: the same rows, byte for byte, and the first look and the translator agree on what can be read."""

from collections.abc import Sequence

from services.intake.translators import council_csv
from services.intake.translators.council_csv import CouncilMapping, header
from services.intake.translators.council_csv.prescan import Prescan
from services.intake.translators.council_csv.record_splitter import CsvRecord, Splitter, TooLong, is_blank
from services.intake.translators.inbound_message import InboundMessage
from services.intake.translators.translator import Rejection
from tests.builders.csv import COUNCILS
from tests.contract.translators.adapters import ATTACHMENT_KEY, RECEIVED_AT, a_partner
from tests.fuzz import judge
from tests.fuzz.frames import pieces
from tests.fuzz.judge import assert_that

NAMES = sorted(COUNCILS)
LONGEST = 400
"""Bytes of a row that the splitter takes here, so that longer ones are within reach."""

MOST_ROWS = 20


def assert_holds(data: bytes) -> None:
    """The first byte names the council, the second the size of the pieces; the rest is the file."""
    mapping = COUNCILS[NAMES[data[0] % len(NAMES)]] if data else COUNCILS[NAMES[0]]
    size, file = 1 + (data[1] if len(data) > 1 else 0), data[2:]
    _split(mapping, file, size)
    whole, in_pieces = surveyed(mapping, file, len(file) or 1), surveyed(mapping, file, size)
    assert_that((whole.rejection is None) == (in_pieces.rejection is None), "other pieces, another refusal")
    for survey in (whole, in_pieces):
        if survey.rejection:
            judge.assert_rejection(survey.rejection)
    if whole.rejection is None:
        assert_that(list(whole.lines) == list(in_pieces.lines), "other pieces, other lines")
        assert_that(whole.repeated() == in_pieces.repeated(), "other pieces, other references")
        _translated(mapping, whole, file)


def _split(mapping: CouncilMapping, file: bytes, size: int) -> None:
    whole, in_pieces = records(mapping, file, len(file) or 1), records(mapping, file, size)
    assert_that(whole == in_pieces, "other pieces, other records")
    found, too_long = whole
    if too_long is None and all(record.is_whole for record in found):
        assert_that(b"".join(record.body for record in found) == file, "a file is more than its records")
    assert_that(all(len(record.body) <= LONGEST + 1 for record in found), "a row longer than is kept")
    assert_that(all(record.is_whole == (len(record.body) <= LONGEST) for record in found), "a row is cut, and unmarked")
    assert_that(all(record.ends for record in found[:-1]), "a row without its end, in the middle")


def records(mapping: CouncilMapping, file: bytes, size: int) -> tuple[Sequence[CsvRecord], int | None]:
    """The records of a file that comes in such pieces, and the line of one that is too long."""
    splitter, found = Splitter(mapping.file, LONGEST), list[CsvRecord]()
    try:
        for piece in pieces(file, size):
            found.extend(splitter.feed(piece))
        found.extend(splitter.feed(b"", last=True))
    except TooLong as fault:
        return found, fault.line
    return found, None


def surveyed(mapping: CouncilMapping, file: bytes, size: int) -> Prescan:
    """The first look at a file that comes in such pieces."""
    survey = Prescan(mapping, COUNCILS, MOST_ROWS)
    for piece in pieces(file, size):
        survey.take(piece)
    survey.end()
    return survey


def _translated(mapping: CouncilMapping, survey: Prescan, file: bytes) -> None:
    """Each row below its header, as it is handed over."""
    splitter, translate = Splitter(mapping.file), council_csv.translator(mapping, survey.layout)
    above = b"".join(survey.above)
    rows = [*splitter.feed(file), *splitter.feed(b"", last=True)][len(survey.above) :]
    given = [record for record in rows if not is_blank(record, mapping.file)]
    assert_that([record.line for record in given] == list(survey.lines), "two passes, other rows")
    for record in given:
        delivery = InboundMessage(a_partner(mapping.partner), above + record.body, RECEIVED_AT, ATTACHMENT_KEY)
        made = translate(delivery)
        judge.assert_outcome(delivery, made)
        in_header = isinstance(made, Rejection) and any(fault.place == header.PLACE for fault in made.issues)
        assert_that(not in_header, "a header that the first look took, and the translator does not")
