"""Kinds of what a council's row means: names, addresses, dates, numbers, characters, and what stands for "not known"."""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from tests.field.variants import Made, kind
from tests.field.variants.council import (
    FAMILY,
    GIVEN,
    LINES,
    POSTCODE,
    TITLE,
    Council,
    a_council,
    read_as,
    refused_at,
)
from tests.field.variants.draw import Draw

# ---- whole names --------------------------------------------------------------------------------------------------------

TITLES = ("Mr", "Mrs", "Miss", "Ms", "Mx", "Dr", "Rev", "Sir", "MRS", "Mr.")
GIVEN_NAMES = ("Ann", "John", "Zoë", "Mary-Jane", "A", "J.", "D'Arcy", "Bozena")
FAMILIES = (
    "Lord",
    "Master",
    "Lady",
    "Dean",
    "O’Dowd",
    "Smith-Jones",
    "van der Berg",
    "de la Mare",
    "MACDONALD",
    "Färber",
)
ASIDES = ("(Tony)", "[see file]", "(née Marsh)", '"Tony"')
"""Text that may stand beside a name."""

LETTERS_BEHIND = ("OBE", "MBE", "Jr", "Snr", "PhD", "JP")
NOTES_OF_A_DEATH = ("(dec'd)", "(deceased)", "- DECEASED", "dec'd", "(died 2026)")


def _whole(council: Council, title: str, given: list[str], family: str, behind: str = "") -> str:
    """A whole name as the council's column has it."""
    if council.columns.is_surname_first:
        name = f"{family}, {' '.join(given)}" + (f" ({title})" if title else "")
    else:
        name = " ".join([*filter(None, [title]), *given, family])
    return f"{name} {behind}".rstrip()


@kind("csv-names")
def names(draw: Draw) -> Made:
    """A title is one only in front; the surname is whole, whatever it is."""
    council = a_council(draw, "name")
    council.family = draw.each(FAMILIES)
    title, given = draw.one_of(["", *TITLES]), draw.shuffled(GIVEN_NAMES)[: draw.between(1, 3)]
    council.cells[council.columns.name or ""] = written = _whole(council, title, given, council.family)
    event = {GIVEN: {"is": given}, TITLE: {"is": [title or None]}}
    return f"{council.name} {written}", [council.sent()], read_as(council, event)


@kind("csv-names-with-more")
def names_with_more(draw: Draw) -> Made:
    """What stands beside a name is never the surname: it is kept elsewhere, with a warning."""
    council = a_council(draw, "name")
    council.family, column = draw.word(), council.columns.name or ""
    whole = _whole(council, "Mr", ["John"], council.family)
    what = draw.each([*ASIDES, *LETTERS_BEHIND, "a comma"])
    event: dict[str, Any] = {GIVEN: {"is": ["John"]}, TITLE: {"is": ["Mr"]}}
    if what == "a comma":
        written, warned = f"{council.family}, Mr John", not council.columns.is_surname_first
    else:
        written, warned = f"{whole} {what}", True
        event |= {GIVEN: {"is": ["John", what]}} if what in ASIDES else {TITLE: {"is": [f"Mr, {what}"]}}
    council.cells[column] = written
    return f"{council.name}: {written}", [council.sent()], read_as(council, event, *([column] if warned else []))


NOT_ONE_NAME = ("Ann & @", "Ann and @", "@ 2", "@, @, Ann", "@ - moved", "@ (see file", "tel: 01632 960001 @")


@kind("csv-names-of-more-than-one")
def names_of_more_than_one(draw: Draw) -> Made:
    """Two people, a death that is noted beside a name, and what is no name are refused: none of it may be dropped."""
    council = a_council(draw, "name")
    column, whole = council.columns.name or "", council.written_name
    cell = draw.each([*NOT_ONE_NAME, *(f"@ {note}" for note in NOTES_OF_A_DEATH)])
    council.cells[column] = cell.replace("@", whole)
    return f"{council.name}: {cell}", [council.sent()], refused_at(council, column)


# ---- addresses ----------------------------------------------------------------------------------------------------------

NOT_POSTCODES = ("Flat B2 1st Floor", "Unit W1 4th Avenue", "Room E1 2nd Floor", "Block N1 3rd Floor")
GAPS = ("", " ", "  ", "\u00a0", " \u2009")


@kind("csv-addresses")
def addresses(draw: Draw) -> Made:
    """A postcode is read at the end, with any blank or none inside; what has only its form stays in its line."""
    council = a_council(draw, "address")
    first = draw.one_of([*NOT_POSTCODES, f"{draw.between(1, 99)} {draw.word()} Road"])
    lines, postcode = [first, f"{draw.word()} Green", "Leicestershire"], draw.each([None, "LE13 1DB", "LE11 5AA"])
    gap = draw.each(GAPS)
    end = [] if postcode is None else [_in_its_way(draw, postcode.replace(" ", gap))]
    between = draw.one_of(["\n", ", ", ",\n"]) if council.export.quotes else ", "
    separate = draw.chance() or postcode is None
    written = between.join([*lines, *end]) if separate else between.join(lines) + " " + end[0]
    council.cells[council.columns.address or ""] = _one_byte(council, written)
    event = {LINES: {"is": lines, "has": lines}, POSTCODE: {"is": [postcode]}}
    return f"{council.name}: {postcode} with {gap!r} behind {first}", [council.sent()], read_as(council, event)


def _in_its_way(draw: Draw, postcode: str) -> str:
    return draw.one_of([postcode, postcode.lower()])


def _one_byte(council: Council, text: str) -> str:
    """The text without what the council's encoding cannot write."""
    return text.replace("\u2009", " ") if council.export.codec == "cp1252" else text


@kind("csv-postcodes-in-doubt")
def postcodes_in_doubt(draw: Draw) -> Made:
    """A postcode of a form that none has is carried with a warning; of two, none is chosen."""
    council = a_council(draw, draw.each(["address", "postcode"]))
    column = council.columns.postcode or council.columns.address or ""
    doubtful = draw.each(["LE1O 1DU", "LEI3 1DB", "LE11 SAA"])
    if council.columns.address and draw.chance():
        council.cells[column] = f"12 {draw.word()} Road, Oakham, LE13 1DB (was LE14 2AA)"
        return f"{council.name}: two", [council.sent()], refused_at(council, column)
    if council.columns.postcode and doubtful != "LE1O 1DU":
        council.cells[column] = doubtful
        return f"{council.name}: {doubtful}", [council.sent()], refused_at(council, column)
    council.cells[column] = f"12 {draw.word()} Road, Oakham, LE1O 1DU" if council.columns.address else "LE1O 1DU"
    return (
        f"{council.name}: LE1O 1DU",
        [council.sent()],
        read_as(council, {"referral.person.address": {"has": ["LE1O 1DU"]}}, column),
    )


# ---- dates --------------------------------------------------------------------------------------------------------------


@kind("csv-dates")
def dates(draw: Draw) -> Made:
    """A date is read in each way that the council writes, to the day."""
    council = a_council(draw)
    way = draw.each(sorted(council.columns.dates))
    born = date(draw.between(1931, 1999), draw.between(1, 12), draw.between(1, 28))
    column, path = draw.one_of(sorted(council.columns.past.items()))
    done = draw.now.date() - timedelta(days=draw.between(1, 900))
    write = council.columns.dates[way]
    council.cells |= {council.columns.born: write(born), column: write(done)}
    event = {"referral.person.birth_date": {"is": [f"{born}"]}, path: {"is": [f"{done}"]}}
    return f"{council.name}: {way}", [council.sent()], read_as(council, event)


@kind("csv-dates-that-cannot-be")
def dates_that_cannot_be(draw: Draw) -> Made:
    """A date that cannot be is refused in its column: of a birth, and of what has happened."""
    council = a_council(draw)
    tomorrow, write = draw.now.date() + timedelta(days=2), council.columns.dates[sorted(council.columns.dates)[-1]]
    what, written = draw.each(
        [
            ("a year", "1948"),
            ("a year as a decimal", "1948.0"),
            ("two digits", "48"),
            ("the 31st of February", _like(council, 31, 2, 1948)),
            ("a word", "spring 1948"),
            ("tomorrow", write(tomorrow)),
        ]
    )
    column = draw.one_of([council.columns.born, *sorted(council.columns.past)])
    council.cells[column] = written
    return f"{council.name}: {what} in {column}", [council.sent()], refused_at(council, column)


def _like(council: Council, day: int, month: int, year: int) -> str:
    """A date that does not exist, in the way that the council's pages name first."""
    return {
        "charnwood": f"{day}-Feb-{year}",
        "oadby-wigston": f"{day} Feb {year}",
        "hinckley-bosworth": f"{day}-0{month}-{year}",
    }.get(
        council.name,
        f"{year}-0{month}-{day}" if council.name in ("harborough", "nw-leicestershire") else f"{day}/0{month}/{year}",
    )


# ---- numbers ------------------------------------------------------------------------------------------------------------


def _spaced(number: str) -> str:
    return f"{number[:3]} {number[3:6]} {number[6:]}"


NUMBERS = {
    "plain": lambda number: number,
    "in threes": _spaced,
    "in threes with dashes": lambda number: _spaced(number).replace(" ", "-"),
    "in threes with no-break spaces": lambda number: _spaced(number).replace(" ", "\u00a0"),
    "as a decimal": lambda number: f"{number}.0",
    "as a text of a spreadsheet": lambda number: f'="{number}"',
    "with an apostrophe": lambda number: f"'{number}",
    "between blanks": lambda number: f"  {number} ",
}
NOT_NUMBERS = {
    "rounded": lambda number: f"{number[0]}.{number[1:3]}E+09",
    "with commas": lambda number: f"{int(number):,}",
    "with points": lambda number: f"{int(number):,}".replace(",", "."),
    "one digit wrong": lambda number: number[:9] + str((int(number[9]) + 1) % 10),
    "a digit missing": lambda number: number[:9],
    "ten equal digits": lambda number: number[9] * 10,
    "a number of the fillers": lambda number: "9876543210",
}


@kind("csv-nhs-numbers")
def nhs_numbers(draw: Draw) -> Made:
    """An NHS number is read as spreadsheets write it; no separator but blanks and dashes between its groups is one."""
    council = a_council(draw, "number")
    number, column = draw.nhs_number(), council.columns.number or ""
    way = draw.each([*NUMBERS, *NOT_NUMBERS])
    council.cells[column] = {**NUMBERS, **NOT_NUMBERS}[way](number)
    if not council.export.quotes and '"' in council.cells[column]:
        council.cells[column] = number
    if way in NOT_NUMBERS:
        return f"{council.name}: {way}", [council.sent()], refused_at(council, column)
    return (
        f"{council.name}: {way}",
        [council.sent()],
        read_as(council, {"referral.person.nhs_number": {"is": [number]}}),
    )


GROUPED = {
    "a comma and noughts": "{},000",
    "a point and noughts": "{}.000",
    "two groups": "{},000,000",
    "rounded": "{}E+05",
}


@kind("csv-references")
def references(draw: Draw) -> Made:
    """A reference with a separator of thousands is refused, and never another reference; its own stays as it is."""
    council = a_council(draw)
    number = str(draw.between(100, 999)) if council.export.quotes or draw.chance() else str(draw.between(1, 9))
    draw.ids.add(council.reference)
    way = draw.each(list(GROUPED))
    first = Council(draw, council.name)
    first.cells[first.columns.reference] = plain = number + f"{draw.between(0, 9999):04d}"
    council.cells[council.columns.reference] = GROUPED[way].format(plain)
    file = council.export.file(council.export.row(**first.cells), council.export.row(**council.cells))
    right: dict[str, Any] = {
        "answers": [200],
        "rows": ["received", "refused"],
        "event": {FAMILY: {"is": [first.family]}},
    }
    faults = {council.columns.reference: "value"}
    return f"{council.name}: {way}", [council.sent(file)], [{**right, "faults": faults, "nowhere": [council.family]}]


# ---- characters ---------------------------------------------------------------------------------------------------------

UNSEEN = {
    "a zero-width space": "\u200b",
    "a byte order mark": "\ufeff",
    "a word joiner": "\u2060",
    "a soft hyphen": "\u00ad",
    "a mark of direction": "\u202e",
    "an isolate": "\u2066",
}
BLANK = {"a no-break space": "\u00a0", "a thin space": "\u2009", "an ideographic space": "\u3000", "a tab": "\t"}


@kind("csv-unseen")
def unseen(draw: Draw) -> Made:
    """What nobody can see is no part of words or codes; every kind of blank is one blank."""
    council = a_council(draw)
    what = draw.each([*UNSEEN, *BLANK])
    column, path = _words(draw, council)
    mark = {**UNSEEN, **BLANK}[what]
    if mark.encode(council.export.codec, "ignore") == b"" or mark == council.export.delimiter:
        what, mark = "a soft hyphen", "\u00ad"
    one, two = draw.word(), draw.word()
    council.cells[column] = f"{mark}{one}{mark}{two}{mark}"
    read = f"{one} {two}" if what in BLANK else f"{one}{two}"
    event = {path: {"is": [one, two] if path == GIVEN and what in BLANK else [read]}}
    if path == FAMILY:
        council.family = read
    return f"{council.name}: {what} in {column}", [council.sent()], read_as(council, event)


def _words(draw: Draw, council: Council) -> tuple[str, str]:
    """A column of words of this council, and its path."""
    columns = dict(council.columns.words)
    columns |= {
        column: path for column, path in ((council.columns.family, FAMILY), (council.columns.given, GIVEN)) if column
    }
    columns |= {council.columns.note: "referral.reason.text"} if council.columns.note else {}
    return draw.one_of(sorted(columns.items()))


SPOILT = {
    "a lost letter": "O?Dowd",
    "U+FFFD": "O\ufffdDowd",
    "UTF-8 read as Windows-1252": "Oâ€™Dowd",
    "an entity": "O&#39;Dowd",
    "another entity": "Ren&eacute;e",
}


@kind("csv-spoilt")
def spoilt(draw: Draw) -> Made:
    """Letters that were lost on the way are carried as they are, with a warning at their column."""
    council = a_council(draw)
    what, column_path = draw.each(list(SPOILT)), _words(draw, council)
    written = SPOILT[what]
    if council.export.codec == "cp1252" and not written.isascii():  # its bytes would be UTF-8
        what, written = "a lost letter", SPOILT["a lost letter"]
    column, path = column_path
    council.cells[column] = written
    if path == FAMILY:
        council.family = written
    given = {"is": written.split()} if path == GIVEN else {"is": [written]}
    return f"{council.name}: {what} in {column}", [council.sent()], read_as(council, {path: given}, column)


@kind("csv-controls")
def controls(draw: Draw) -> Made:
    """U+0080 to U+009F are read as Windows-1252 with a warning; other control characters are blanks in words."""
    council = a_council(draw, "note")
    column = council.columns.note or ""
    one, two = draw.word(), draw.word()
    name, mark, read, is_warned = draw.each(
        [
            ("an apostrophe", "\x92", "’", True),
            ("a dash", "\x96", "–", True),
            ("a bell", "\x07", " ", False),
            ("a vertical tab", "\x0b", "\n", False),
            ("an escape", "\x1b", " ", False),
        ]
    )
    if council.export.codec == "cp1252":
        mark = mark if mark < "\x80" else read
        is_warned = False
    council.cells[column] = f"{one}{mark}{two}"
    event = {"referral.reason.text": {"is": [f"{one}{read}{two}"]}}
    return f"{council.name}: {name}", [council.sent()], read_as(council, event, *([column] if is_warned else []))


# ---- what stands for "not known" ----------------------------------------------------------------------------------------

NAMES_OF_NOBODY = ("UNKNOWN", "Not known", "unknown", "TBC", "N/K")
EMPTY_DATES = (date(1900, 1, 1), date(1901, 1, 1), date(1899, 12, 30))


@kind("csv-fillers")
def fillers(draw: Draw) -> Made:
    """What stands for "not known" is refused where it is required, and else not said, with a warning."""
    council = a_council(draw)
    what = draw.each(["birth", "past", "name"])
    if what == "name":
        return _nobody(draw, council)
    day = draw.one_of(EMPTY_DATES[:2])
    write = council.columns.dates[sorted(council.columns.dates)[0 if council.name != "hinckley-bosworth" else 1]]
    if council.name in ("charnwood", "melton"):
        write = council.columns.dates["dd/mm/yyyy"]
    column, path = draw.one_of(sorted(council.columns.past.items()))
    if what == "birth":
        council.cells[council.columns.born] = write(day)
        return f"{council.name}: born {day}", [council.sent()], refused_at(council, council.columns.born)
    council.cells[column] = write(day)
    return f"{council.name}: {day} in {column}", [council.sent()], read_as(council, {path: {"is": [None]}}, column)


def _nobody(draw: Draw, council: Council) -> Made:
    column = council.columns.family or council.columns.name or ""
    council.cells[column] = name = draw.one_of(NAMES_OF_NOBODY)
    return f"{council.name}: {name} in {column}", [council.sent()], refused_at(council, column, kind="required")


# ---- whom it is about ---------------------------------------------------------------------------------------------------


@kind("csv-another-person")
def another_person(draw: Draw) -> Made:
    """Two of number, birth date and family name differ: another person, refused. Less is a correction; a withdrawal always applies."""
    council = a_council(draw, "number", "family")
    columns = council.columns
    number, other = draw.nhs_number(), draw.nhs_number()
    has_number = draw.chance()
    council.cells |= {columns.number or "": number if has_number else ""}
    changed = draw.each(
        [(), ("born",), ("family",), ("number",), ("number", "family"), ("number", "born"), ("family", "born")]
    )
    later = Council.__new__(Council)
    later.__dict__.update({**council.__dict__, "cells": dict(council.cells)})
    if "number" in changed:
        later.cells[columns.number or ""] = other
    if "family" in changed:
        later.family = later.cells[columns.family or ""] = draw.word()
    if "born" in changed:
        later.cells[columns.born] = (
            columns.dates["dd/mm/yyyy"](date(1955, 5, 5)) if "dd/mm/yyyy" in columns.dates else "1955-05-05"
        )
    later.cells |= {
        columns.phone or "": draw.phone(),
        **({columns.changed: _changed_later(council)} if columns.changed else {}),
    }
    numbers_differ = has_number and "number" in changed
    others = len({"family", "born"} & set(changed))
    is_another = (numbers_differ and others > 0) or (others == 2 and not (has_number and not numbers_differ))
    what = f"{council.name} {'with' if has_number else 'without'} a number, changed: {' '.join(changed) or 'nothing'}"
    sent = [council.sent(), later.sent()]
    if is_another:
        right: Mapping[str, Any] = {
            "rows": ["refused"],
            "event": {FAMILY: {"is": [council.family]}, "version": {"is": [1]}},
        }
    else:
        right = {"rows": ["updated"], "event": {FAMILY: {"is": [later.family]}, "version": {"is": [2]}}}
    return what, sent, [{"answers": [200, 200], **right}]


def _changed_later(council: Council) -> str:
    return {"blaby": "17/11/2026 06:00", "harborough": "2026-11-05T10:15:00+00:00", "nw-leicestershire": "2026-11-03"}[
        council.name
    ]


@kind("csv-times-ahead")
def times_ahead(draw: Draw) -> Made:
    """A time of change in the future is refused; the minutes that a clock may be ahead are not."""
    council = a_council(draw, "changed")
    column = council.columns.changed or ""
    ahead = draw.each(
        [timedelta(days=2), timedelta(days=400), timedelta(days=13_000), timedelta(days=-1), timedelta(days=-300)]
    )
    at = draw.now + ahead
    council.cells[column] = {
        "blaby": at.strftime("%d/%m/%Y %H:%M"),
        "harborough": at.strftime("%Y-%m-%dT%H:%M:%S+00:00"),
    }.get(council.name, at.strftime("%Y-%m-%d"))
    what = f"{council.name}: {ahead.days} days"
    return what, [council.sent()], refused_at(council, column) if ahead.days > 0 else read_as(council, {})
