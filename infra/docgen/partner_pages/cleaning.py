"""The section of every partner's page that lists what is cleaned, and which numbers, dates and names are not taken."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from infra.docgen.markdown import code, section, table
from services.intake.translators import cleaning, plausibility
from services.reference.fillers import Fillers


@dataclass(frozen=True)
class Refusals:
    """What becomes of a value that is not taken, in the words of one format."""

    code: str
    number: str
    birth: str
    filler_date: str
    past: str
    expected: str
    ahead: str
    name: str
    dates: frozenset[str] = frozenset(plausibility.KINDS)
    """Places of the dates, other than of birth, that are judged."""


_REFUSED = Refusals(
    code="refused",
    number="refused",
    birth="refused",
    filler_date="read as not given, with a warning",
    past="refused",
    expected="refused",
    ahead="refused",
    name="refused where a name is required; otherwise read as not given, with a warning",
)
_NOT_OF_FHIR = ("grant.", "enquired_on", "person.address.", "person.temporary_address.")
"""Begins of the places whose dates a FHIR message does not have, or that only say which address is in force."""

BY_FORMAT = {
    "form": _REFUSED,
    "council-csv": _REFUSED,
    "bars-fhir": Refusals(
        code="refused",
        number="refused",
        birth="refused",
        filler_date="left out, and listed in the answer as not read",
        past="refused; that of a consent or a death is left out, and listed in the answer as not read",
        expected="refused",
        ahead="refused",
        name="a family name is refused; a given name is left out, and listed in the answer as not read",
        dates=frozenset(place for place in plausibility.KINDS if not place.startswith(_NOT_OF_FHIR)),
    ),
    "hl7v2": Refusals(
        code="read by a person",
        number="not used: the referral is accepted without a number",
        birth="not used, and read by a person",
        filler_date="read as not given, with a warning; read by a person if the day decides",
        past="",
        expected="",
        ahead="taken with the time of receipt, with a warning",
        name="read as not given; a person reads a name without a family name",
        dates=frozenset(),
    ),
}
"""What becomes of values that are not taken, by format."""


def of_format(name: str, fillers: Fillers, places: Collection[str] | None = None) -> list[str]:
    """Return the section for a format, with the fillers of the installation; `places`: what the partner can send, if not everything."""
    then = BY_FORMAT[name]
    then = then if places is None else replace(then, dates=then.dates.intersection(places))
    return section(
        "What is cleaned",
        "Words are read leniently: none is cut, no two are joined, and none is refused for its characters. Identifiers and codes are",
        "read exactly: a separator in them, such as the comma of `12,000`, is never interpreted.",
        "",
        *table(("characters", "in words", "in identifiers and codes"), _characters(then)),
        *table(("what", "not taken", "then"), _not_taken(then, fillers)),
    )


def _characters(then: Refusals) -> Iterator[tuple[str, ...]]:
    for group in cleaning.CLEANED:
        listed = ", ".join(_range(*one) for one in group.ranges)
        yield f"{group.name} ({listed})", _IN_WORDS[group.effect], _in_codes(group.characters[0], then)
    yield "U+0080 to U+009F", "read as Windows-1252", _in_codes("\x92", then)
    joiners = "kept inside words, removed at their edges"
    yield "joiners (U+200C to U+200D)", joiners, _in_codes("\u200c", then)


_IN_WORDS = {
    "removed": "removed",
    "blank": "a blank",
    "line break": "a line break; in a text of one line a blank",
}


def _in_codes(character: str, then: Refusals) -> str:
    """Return what becomes of a character in a code, by reading one with it."""
    inside, at_edge = cleaning.code(f"1{character}2"), cleaning.code(f"{character}12")
    if inside is not None:
        return {"12": "removed", "1 2": "a blank; removed at the edges"}[inside]
    return f"removed at the edges; inside {then.code}" if at_edge == "12" else then.code


def _range(first: int, last: int) -> str:
    return f"U+{first:04X}" if first == last else f"U+{first:04X} to U+{last:04X}"


def _not_taken(then: Refusals, fillers: Fillers) -> Iterator[tuple[str, ...]]:
    dates = ", ".join(code(one.isoformat()) for one in fillers.dates)
    numbers = ["ten equal digits", *map(code, fillers.nhs_numbers)]
    yield "NHS number", f"one that fails its check, {', '.join(numbers)}", then.number
    birth = f"in the future, more than {plausibility.OLDEST} years ago"
    yield "birth date", f"{birth}, {dates}" if dates else birth, then.birth
    if dates:
        yield "any other date", dates, then.filler_date
    before = f"before {plausibility.EARLIEST_YEAR}"
    ahead = f"more than {plausibility.EXPECTED_YEARS} years ahead"
    for kind, what, after, outcome in (
        ("past", "date of what has happened", "in the future", then.past),
        ("expected", "date that may lie ahead", ahead, then.expected),
    ):
        if places := [code(place) for place, one in plausibility.KINDS.items() if one == kind and place in then.dates]:
            yield f"{what}: {', '.join(places)}", f"{before}, {after}", outcome
    yield "time of the message", plausibility.IS_AHEAD.partition(":")[0], then.ahead
    names = ", ".join(["one without a letter and a digit", *map(code, fillers.names)])
    yield "name of the person", names, then.name
