"""Split a whole name in one cell into title, given names and family name; refuse what is not understood, with what to write.

A title stands in front, and the last word that is left is always a name. Nothing is lost: letters after a name, such as OBE, are kept
with the title, and text in brackets with the given names.
"""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal

from services.intake import limits
from services.intake.translators.council_csv.cells import ValueWithWarnings
from services.intake.translators.form.fields import ParseError

NameOrder = Literal["surname-first", "surname-last"]


def _set_of(text: str) -> frozenset[str]:
    return frozenset(text.split())


# ---- tables of words -------------------------------------------------------------------------------------------------

_COURTESY = _set_of("mr mrs miss ms mx master")
"""Titles behind which no other title stands."""
_NO_NAMES = _set_of("mr mrs miss ms mx dr prof rev revd cllr")
"""Titles that are never a name."""
_TITLES = (
    _COURTESY
    | _NO_NAMES
    | _set_of("doctor professor reverend sir dame lady lord councillor capt captain col colonel lt sgt rabbi imam")
)
_LETTERS_AFTER = _set_of(
    "obe mbe cbe kbe dbe bem kcb cvo lvo mvo jp mp qc qpm dl dso dfc jr jnr snr sr ii iii esq esquire phd dphil bsc msc"
    " frcs frcp frcgp mrcp frs frics mrics srn rgn"
)
_LETTERS_OR_NAME = _set_of("senior junior ma ba md kc gc mc vc ch")
"""Letters after a name that are family names too."""

_PARTICLES = _set_of(
    "van von vom de der den del della dei degli di da do dos das du des la le los las lo el al bin bint ibn ap ab st"
    " mac mc nic ten ter tot op zu zum zur af av y 't o' d'"
)
_PARTICLE_OR_NAME = _set_of("van al di mac le bin st")
"""Particles that are given names too, if they are in capitals."""
_SECOND_NAME = _set_of("nee n\u00e9e formerly previously aka alias or with for")
"""Words in the middle of a cell behind which another name, or another person, stands."""

_PAIRS = frozenset(
    {("van", "der"), ("van", "den"), ("van", "de"), ("von", "der"), ("de", "la"), ("de", "los"), ("de", "las")}
)

# ---- refusals and warnings ------------------------------------------------------------------------------------------


def _error(explanation: str) -> ParseError:
    return ParseError("value", explanation)


LAST = _error("must be a name such as 'Mrs Ann Surname'")
FIRST = _error("must be a name such as 'SURNAME, Forename'")
TWO_PEOPLE = _error("names two people: send one row for each")
DIED = _error("has a note that the person has died: write the name only, and tell the hub of the death")
ONE_LINE = _error("has several lines: write one name on one line")
DASH = _error(
    "has a dash next to a blank: write a double name with a hyphen and no blanks, and notes in another column"
)
SIGNS = _error("has digits or signs that are not part of a name: write the name only, and notes in another column")
OPEN_BRACKET = _error("has a bracket or quote mark that is not closed: write the name only")
COMMAS = _error("has a comma, so it can be read in two ways: write 'Surname, Forename' with one comma, or no comma")
LETTERS = _error("ends with a word that may be the family name or a title: write 'Surname, Forename'")
INITIAL_LAST = _error("ends with an initial: write 'Surname, Forename', or the family name last")
SECOND_NAME = _error("has a second name or person: write the name by which the person is known now only")
TOO_LONG = ParseError("too-long", f"is too long: at most {limits.NAME_CHARACTERS} characters")
TOO_MANY = ParseError("too-long", f"is too long: at most {limits.GIVEN_NAMES} given names")

BRACKETS = "has text in brackets or quotes, which was kept with the given names: check the name"
BRACKETS_IN_PART = "has brackets, quotes or a stroke, which were kept as part of the name: check the name"
SECOND_NAME_IN_PART = "has a second name, which was kept as part of the name: check the name"
SUFFIX = "has letters after it, such as OBE, which were kept with the title: check the name"
BY_COMMA = "was read as 'Surname, Forename' because of its comma: check the name"
UNSURE_LAST = "ends with a word that may be a title, and was read as the family name: check the name"
UNSURE_PARTICLE = "has a word that may be a given name or the beginning of the family name: check the name"

_QUESTION = re.compile(r"(?<=[^\W\d_])\?(?=[^\W\d_])")
"""A letter that was lost on the way."""

_REFUSED = (
    (re.compile(r"\n"), ONE_LINE),
    (
        re.compile(r"&|\S\s(?:and|\+)\s+\S|\b(?:mr|mrs|miss|ms)\.?\s*[/\s]\s*(?:mr|mrs|miss|ms)\b", re.IGNORECASE),
        TWO_PEOPLE,
    ),
    (
        re.compile(
            r"\b(?:deceased|dec['\u2019]?d|passed away|the late)\b|\b(?:estate|executors?|exors?)\s+of\b"
            r"|[(\[\-\u2013\u2014,]\s*(?:dec|died|late|rip|r\.i\.p)\b|\S\s\S+\s(?:dec|died|rip|r\.i\.p)\.?$",
            re.IGNORECASE,
        ),
        DIED,
    ),
    (re.compile(r"(?:^|\s)[-\u2010-\u2015]|[-\u2010-\u2015](?:\s|$)|\u2014"), DASH),
    (re.compile(r"[\d/\\@:;*#%=_|<>!+~^$\u00a3\u20ac{}?]"), SIGNS),
)
"""What refuses a name, wherever it stands in the cell; the first that is found."""

_PLAIN = re.compile(r"[^\W\d_]+\.?(?:[ '\u2019-][^\W\d_]+\.?)*")
_SUSPECT = _set_of("and of late the passed deceased decd dec dec. dec'd dec\u2019d died died. rip rip. r.i.p r.i.p.")
"""Words without which nothing refuses a name of letters, single blanks, hyphens and apostrophes."""

_ASIDE = re.compile(
    r"\(([^()]*)\)|\[([^\[\]]*)\]|\"([^\"]*)\"|\u201c([^\u201d]*)\u201d|(?<!\S)['\u2018]([^'\u2019]+)['\u2019](?!\S)"
)
_UNCLOSED = re.compile(r"[()\[\]\"\u201c\u201d]")
_RUN_TOGETHER = re.compile(
    r"(?<=[^\W\d_]\.)(?=[^\W\d_]{2,}(?:[\s'\u2019-]|$))|(?i:(?<=\bmr\.)|(?<=\bmrs\.)|(?<=\bms\.)|(?<=\bdr\.)|(?<=\brev\.))(?=\w)"
)
"""Where a blank is missing in Mr.J.R.Smith."""


def error_in(text: str) -> ParseError | None:
    """Return why a text cannot be one living person's name, or None."""
    if len(text) > limits.NAME_CHARACTERS:
        return TOO_LONG
    if _PLAIN.fullmatch(text) and _SUSPECT.isdisjoint(text.casefold().split()):
        return None
    plain = html.unescape(text) if "&" in text else text
    plain = _QUESTION.sub("x", plain) if "?" in plain else plain
    return next((error for pattern, error in _REFUSED if pattern.search(plain)), None)


# ---- the name -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Name:
    """A name while it is taken apart."""

    titles: list[str] = field(default_factory=list)
    letters: list[str] = field(default_factory=list)
    brackets: list[str] = field(default_factory=list)
    forenames: list[str] = field(default_factory=list)
    family: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def result(self) -> Any:
        forenames = [*self.forenames, *self.brackets]
        if len(forenames) > limits.GIVEN_NAMES:
            return TOO_MANY
        warnings = [*self.warnings, *([BRACKETS] if self.brackets else []), *([SUFFIX] if self.letters else [])]
        title = ", ".join(filter(None, [" ".join(self.titles), *self.letters]))
        parts = {"family_name": " ".join(self.family), "given_names": forenames, "title": title or None}
        return ValueWithWarnings(parts, tuple(warnings)) if warnings else parts


def read(text: str, order: NameOrder) -> Any:
    """Return title, given and family names of a cleaned cell, with warnings if it is in doubt; a `ParseError` if it is not one name."""
    if error := error_in(text):
        return error
    name = _Name()
    plain = _without_brackets(text, name)
    if plain is None:
        return OPEN_BRACKET
    spaced = _RUN_TOGETHER.sub(" ", plain) if "." in plain else plain
    parts = [part.strip() for part in spaced.split(",")]
    while len(parts) > 1 and not parts[-1]:
        parts.pop()
    error = _surname_first(parts, name) if order == "surname-first" else _surname_last(parts, name)
    return error or name.result()


def _without_brackets(text: str, name: _Name) -> str | None:
    """Return a name without text in brackets and quotes, which `name` keeps; None if one is not closed."""
    if not _UNCLOSED.search(text) and "'" not in text and "\u2018" not in text:
        return text
    for match in _ASIDE.finditer(text):
        tokens = (match[1] or match[2] or match[3] or match[4] or match[5] or "").split()
        if tokens and all(_word(word) in _TITLES for word in tokens):
            name.titles += tokens
        elif tokens:
            name.brackets.append(" ".join(match[0].split()))
    plain = _ASIDE.sub(" ", text)
    return None if _UNCLOSED.search(plain) else plain


def _surname_first(parts: Sequence[str], name: _Name) -> ParseError | None:
    """Read 'SURNAME, Forenames'; further commas may only set off titles."""
    if len(parts) < 2 or not parts[0]:
        return FIRST
    surname, rest = parts[0].split(), parts[1].split()
    for part in parts[2:]:
        if not _take_apart(part.split(), name):
            return COMMAS
    _take_titles(surname, name)
    _take_letters(surname, name)
    _take_titles(rest, name)
    if len(rest) == 1 and _word(rest[0]) in _TITLES:
        name.titles.append(rest.pop())
    _take_letters(rest, name)
    if rest and _word(rest[-1]) in _NO_NAMES and not name.titles:
        name.titles.append(rest.pop())
    if any(_word(word) in _NO_NAMES for word in (*surname, *rest)):
        return FIRST
    name.family, name.forenames = surname, rest
    return None


def _take_apart(tokens: list[str], name: _Name) -> bool:
    """Keep words that are all titles or letters after a name; return whether they are."""
    keys = [_key(word) for word in tokens]
    if not tokens or not all(key in _TITLES or key in _LETTERS_AFTER for key in keys):
        return False
    for word, key in zip(tokens, keys, strict=True):
        (name.titles if key in _TITLES else name.letters).append(word)
    return True


def _surname_last(parts: Sequence[str], name: _Name) -> ParseError | None:
    """Read 'Mrs Ann Surname'; with one comma 'Surname, Mrs Ann', if nothing else can be meant."""
    named = list(parts)
    while len(named) > 1 and all(_key(word) in _LETTERS_AFTER for word in named[-1].split()):
        _take_apart(named.pop().split(), name)
    if len(named) == 1:
        return _by_last_word(named[0].split(), name)
    if len(named) > 2 or not _is_surname(named[0].split(), named[1].split()):
        return COMMAS
    name.warnings.append(BY_COMMA)
    return _surname_first(named, name)


def _is_surname(surname: Sequence[str], rest: Sequence[str]) -> bool:
    """Return whether words before a comma can only be a surname: one, behind particles, or if a title begins what follows."""
    if not surname or not rest or _word(surname[0]) in (_NO_NAMES if len(surname) == 1 else _TITLES):
        return False
    return all(_word(word) in _PARTICLES for word in surname[:-1]) or (len(rest) > 1 and _word(rest[0]) in _NO_NAMES)


def _by_last_word(tokens: list[str], name: _Name) -> ParseError | None:
    _take_letters(tokens, name)
    _take_titles(tokens, name)
    if len(tokens) > 1 and name.titles and _word(name.titles[-1]) in _COURTESY and _word(tokens[0]) in _COURTESY:
        return TWO_PEOPLE
    if not tokens or any(_word(word) in _NO_NAMES for word in tokens):
        return LAST
    if any(_key(word) in _SECOND_NAME for word in tokens[1:-1]):
        return SECOND_NAME
    if _is_initial(tokens[-1]) and not all(map(_is_initial, tokens)):
        return INITIAL_LAST
    if len(tokens) > 1 and _key(tokens[-1]) in _LETTERS_OR_NAME:
        if len(tokens) > 2:
            return LETTERS
        name.warnings.append(UNSURE_LAST)
    begins = _family_begins(tokens, name)
    name.forenames, name.family = tokens[:begins], tokens[begins:]
    return None


def _family_begins(tokens: Sequence[str], name: _Name) -> int:
    """Return the position of the family name: the last word, and the particles before it."""
    begins = len(tokens) - 1
    while begins > 1 and _is_particle(tokens, begins - 1):
        begins -= 1
    if begins == 1 and _begins_family(tokens):
        begins = 0
    if any(_is_unsure(word, after) for word, after in pairwise(tokens)) or _key(tokens[-2:][0]) == "o":
        name.warnings.append(UNSURE_PARTICLE)
    return begins


def _is_unsure(word: str, following: str) -> bool:
    """Return whether a word before another may be a particle or a given name: it is both, and in capitals."""
    key = _word(word)
    is_both = key in _PARTICLE_OR_NAME or (key in _PARTICLES and _may_be_initials(word))
    return is_both and not word.islower() and (key, _key(following)) not in _PAIRS


def _is_initial(word: str) -> bool:
    """Return whether a word is one letter that may be capital, or several with full stops; a Chinese name may be one sign."""
    key = _key(word)
    return not _word(word) or (len(key) == 1 and key.upper() != key)


def _is_in_capitals(tokens: Sequence[str]) -> bool:
    return all(map(str.isupper, tokens))


def _may_be_initials(word: str) -> bool:
    """Return whether a particle may be two initials, as in 'Mr AP Jones'."""
    return len(word) == 2 and word.isalpha() and word.isupper()


def _is_particle(tokens: Sequence[str], at: int) -> bool:
    """Return whether a word before the last begins the family name: by its form, or lower-case between others that are not."""
    if _may_be_initials(tokens[at]) and not _is_in_capitals(tokens):
        return False
    return _word(tokens[at]) in _PARTICLES or (
        tokens[at].islower() and not tokens[0].islower() and not tokens[-1].islower()
    )


def _begins_family(tokens: Sequence[str]) -> bool:
    """Return whether the first word is a particle and no given name, as in 'Mr van der Berg' and 'Mrs Da Silva'."""
    first = _word(tokens[0])
    if first not in _PARTICLES or (_may_be_initials(tokens[0]) and not _is_in_capitals(tokens)):
        return False
    is_certain = first not in _PARTICLE_OR_NAME or (tokens[0].islower() and not tokens[-1].islower())
    return is_certain or (first, _key(tokens[1])) in _PAIRS


def _take_titles(tokens: list[str], name: _Name) -> None:
    """Move the titles in front of a name to `name`; the last word stays."""
    while len(tokens) > 1 and (
        _word(tokens[0]) in _TITLES or (_key(tokens[0]) == "the" and _key(tokens[1]) in _TITLES)
    ):
        name.titles.append(tokens.pop(0))
        if _key(name.titles[-1]) in _COURTESY:
            return


def _take_letters(tokens: list[str], name: _Name) -> None:
    """Move the letters after a name to `name`; the first word stays."""
    letters: list[str] = []
    while len(tokens) > 1 and _key(tokens[-1]) in _LETTERS_AFTER:
        letters.insert(0, tokens.pop())
    name.letters += letters


def _word(word: str) -> str:
    """Return a word as the tables of titles and particles have it; empty for initials such as D.R. and A.P."""
    return "" if "." in word.rstrip(".") else _key(word)


@lru_cache(maxsize=8_192)
def _key(word: str) -> str:
    """Return a word as these tables have it: without full stops, and with plain apostrophes."""
    return word.casefold().replace(".", "").replace("\u2019", "'").replace("\u2018", "'")


# ---- a name in columns of its own -----------------------------------------------------------------------------------


@lru_cache(maxsize=8_192)
def problem_of_part(text: str) -> ParseError | tuple[str, ...]:
    """Return why a family name or given names in a column of their own are not those of one living person, or warnings about them."""
    error = error_in(text)
    if error in (TWO_PEOPLE, DIED, TOO_LONG):
        return error
    if any(_key(word) in _SECOND_NAME for word in text.split()[1:-1]):
        return (SECOND_NAME_IN_PART,)
    return (BRACKETS_IN_PART,) if _UNCLOSED.search(text) or "/" in text else ()
