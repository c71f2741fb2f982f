"""Stories of awkward people and places for Hypothesis: every blank, invisible characters, delimiters of every format."""

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

from hypothesis import strategies as st

from tests.builders.stories import (
    RISKS,
    SERVICES,
    STATUSES,
    Home,
    Letter,
    Name,
    Need,
    Relative,
    Stay,
    Story,
    Words,
    plain,
)

# ---- texts -----------------------------------------------------------------------------------------------------------

_FIRST = ("B", "Ó", "É", "d’", "ß", "Wy", "Ḩ", "İ", "Ж")
_INSIDE = ("a", "o", "é", "e\u0301", "ł", "ñ", "'", "’", "-", "b\u200cc", "Ж", "0")
_NOT_SEEN = ("\u200b", "\u00ad", "\u200e", "\ufeff", "\u2060", "\u202c", "\u2066")
_BLANKS = (" ", "  ", "\t", "\u00a0", "\u2007", "\u2009", "\u202f", "\u3000", " \u200b ")
_DELIMITERS = (",", ";", "|", "^", "~", "\\", "&", '"', "'", "#", "<", "=", "\\T\\", '""', "/", ":", "%")
_LINE_ENDS = ("\n", "\r\n", "\r", "\u2028")

_not_seen = st.sampled_from(_NOT_SEEN).map(lambda one: Words(one, ""))
_letters = st.sampled_from(_INSIDE).map(plain)
_control = st.just(Words("\x92", "’"))
"""What Windows-1252 writes as byte 92, carried into Unicode by mistake."""


def _joined(parts: list[Words]) -> Words:
    return Words("".join(part.written for part in parts), "".join(part.meant for part in parts))


def words(most: int = 3, inside: st.SearchStrategy[Words] = _letters) -> st.SearchStrategy[Words]:
    """Return words on one line; `inside`: what they may have after their first letter."""
    first = st.sampled_from(_FIRST).map(plain)
    piece = st.one_of(inside, inside, _letters, _not_seen, _control)
    word = st.tuples(first, st.lists(piece, max_size=5), _letters).map(lambda one: _joined([one[0], *one[1], one[2]]))
    blank = st.sampled_from(_BLANKS).map(lambda one: Words(one, " "))
    more = st.lists(st.tuples(blank, word).map(lambda one: _joined([*one])), max_size=most - 1)
    edge = st.sampled_from(("", "", " ", "\u00a0", "\u200b", "\ufeff")).map(lambda one: Words(one, ""))
    return st.tuples(edge, word, more, edge).map(lambda one: _joined([one[0], one[1], *one[2], one[3]]))


names = words(3)
one_name = words(1)
lines = words(4, st.sampled_from((*_INSIDE, *_DELIMITERS)).map(plain))
notes = lines.map(lambda one: Words(f"by the {one.written}", f"by the {one.meant}"))
long_lines = words(2).map(lambda one: Words(one.written + " " + "Bé" * 70, one.meant + " " + "Bé" * 70))
_end = st.sampled_from(_LINE_ENDS).map(lambda one: Words(one, "\n"))
prose = st.tuples(lines, st.lists(st.tuples(_end, lines).map(lambda one: _joined([*one])), max_size=4)).map(
    lambda one: _trimmed([one[0], *one[1]])
)


def _trimmed(parts: list[Words]) -> Words:
    """Return lines as a text: inside it, blanks stay as they are; each other blank is an ordinary one."""
    whole = _joined(parts)
    return Words(whole.written, whole.meant)


phones = st.sampled_from(
    (
        plain("0116 496 0001"),
        Words("\u00a001632\u2009960001 ", "01632 960001"),
        Words("+44\u00a01632 960002", "+44 1632 960002"),
        plain("(0116) 496-0003 ext. 4"),
    )
)
numbers = st.sampled_from(
    (
        plain("9990000018"),
        Words("999 000 0026", "9990000026"),
        Words("\u200b999-000-0034\u00a0", "9990000034"),
        Words("999\u00a0000\u00a00042", "9990000042"),
    )
)
postcodes = st.sampled_from(
    (
        plain("LE8 6AA"),
        Words("le115aa", "LE11 5AA"),
        Words("\u00a0LE12\u00a07AH", "LE12 7AH"),
        Words("ZZ99 3VZ", "ZZ99 3VZ"),
    )
)

# ---- facts -----------------------------------------------------------------------------------------------------------

_TODAY = date(2026, 11, 5)
past = st.integers(0, 3_000).map(lambda days: _TODAY - timedelta(days=days))
births = st.integers(20, 40_000).map(lambda days: _TODAY - timedelta(days=days)).filter(lambda one: one.month > 1)


def _maybe(one: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | one


_homes = st.builds(
    Home, lines=st.lists(lines | long_lines, min_size=1, max_size=4).map(tuple), postcode=_maybe(postcodes)
)
_relatives = st.builds(
    Relative, name=st.builds(Name, given=one_name, family=names), relationship=words(2), phone=phones
)
_needs = st.lists(
    st.builds(Need, code=st.sampled_from(sorted(SERVICES)), note=_maybe(notes)),
    min_size=1,
    max_size=4,
    unique_by=lambda need: need.code,
).map(tuple)
_stays = st.builds(
    Stay,
    ward=words(2),
    bed=_maybe(words(1)),
    visit=_maybe(st.just("V1")),
    admitted_on=_maybe(past),
    pathway=_maybe(st.integers(0, 3)),
    delay=_maybe(st.sampled_from(("nhs", "social-care", "both"))),
    trusted=_maybe(st.booleans()),
    assessment=_maybe(st.booleans()),
    expected_on=_maybe(past),
    ready_on=_maybe(past),
)
_answers = st.sampled_from(("yes", "no", "not-recorded"))
_letters_sent = st.builds(
    Letter, title=st.just("Letter"), media_type=st.just("application/pdf"), content=st.binary(min_size=1, max_size=99)
)

stories = st.builds(
    Story,
    family=names | long_lines,
    given=st.lists(one_name, max_size=3).map(tuple),
    title=_maybe(words(1)),
    birth_date=_maybe(births),
    gender=_maybe(st.sampled_from(("male", "female", "other", "unknown"))),
    number=_maybe(numbers),
    hospital_number=_maybe(st.just("RWE12345")),
    home=_maybe(_homes),
    staying_at=st.none(),
    phone=_maybe(phones),
    email=_maybe(st.just("zoe.o'b+1@example.org")),
    textphone=_maybe(phones),
    language=_maybe(st.sampled_from(("pl", "gu"))),
    interpreter=_maybe(st.booleans()),
    communication=st.lists(words(3), max_size=2, unique_by=lambda one: one.meant).map(tuple),
    contact_by=_maybe(words(2)),
    contact_when=_maybe(words(2)),
    written_format=_maybe(words(2)),
    restricted=st.booleans(),
    died=st.booleans(),
    practice=_maybe(st.just("C82991")),
    practice_name=_maybe(words(3)),
    relative=_maybe(_relatives),
    referrer=_maybe(st.builds(Name, given=one_name, family=names, title=one_name)),
    referrer_phone=_maybe(phones),
    needs=_needs,
    reason=_maybe(st.sampled_from(("home-no-longer-suitable", "falls", "homelessness"))),
    text=_maybe(prose),
    priority=st.sampled_from(("routine", "urgent", "asap", "stat")),
    authority=_maybe(st.sampled_from(("E07000129", "E07000130"))),
    stay=_maybe(_stays),
    consents=st.fixed_dictionaries(
        {"referral": st.sampled_from(("yes", "not-recorded"))}, optional={"feedback": _answers, "evaluation": _answers}
    ),
    consented_on=_maybe(past),
    consented_by=_maybe(st.builds(Name, given=one_name, family=names)),
    risks=st.lists(st.sampled_from(sorted(RISKS)), max_size=3, unique=True).map(tuple),
    letter=_maybe(_letters_sent),
    enquired_on=_maybe(past),
    referred_on=past,
).flatmap(
    lambda story: st.builds(
        replace,
        st.just(story),
        number_status=_maybe(st.sampled_from(sorted(STATUSES))) if story.number else st.none(),
        staying_at=_maybe(_homes) if story.home else st.none(),
        died_on=_maybe(past) if story.died else st.none(),
    )
)
"""Stories that every format takes. A status goes with a number, a temporary address with a home, a day with a death."""
