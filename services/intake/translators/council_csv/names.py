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

from services.intake.translators.council_csv.cells import Doubtful
from services.intake.translators.form.fields import ParseError

NameOrder = Literal["surname-first", "surname-last"]

MOST_GIVEN = 10
"""Given names of a referral."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# ---- words ----------------------------------------------------------------------------------------------------------

_COURTESY = _words("mr mrs miss ms mx master")
"""Titles behind which no other title stands."""
_NO_NAMES = _words("mr mrs miss ms mx dr prof rev revd cllr")
"""Titles that are never a name."""
_TITLES = (
    _COURTESY
    | _NO_NAMES
    | _words("doctor professor reverend sir dame lady lord councillor capt captain col colonel lt sgt rabbi imam")
)
_LETTERS_AFTER = _words(
    "obe mbe cbe kbe dbe bem kcb cvo lvo mvo jp mp qc qpm dl dso dfc jr jnr snr sr ii iii esq esquire phd dphil bsc msc"
    " frcs frcp frcgp mrcp frs frics mrics srn rgn"
)
_LETTERS_OR_NAME = _words("senior junior ma ba md kc gc mc vc ch")
"""Letters after a name that are family names too."""

_PARTICLES = _words(
    "van von vom de der den del della dei degli di da do dos das du des la le los las lo el al bin bint ibn ap ab st"
    " mac mc nic ten ter tot op zu zum zur af av y 't o' d'"
)
_PARTICLE_OR_NAME = _words("van al di mac le bin st")
"""Particles that are given names too, if they are in capitals."""
_PAIRS = frozenset(
    {("van", "der"), ("van", "den"), ("van", "de"), ("von", "der"), ("de", "la"), ("de", "los"), ("de", "las")}
)

# ---- refusals and warnings ------------------------------------------------------------------------------------------


def _refusal(explanation: str) -> ParseError:
    return ParseError("value", explanation)


LAST = _refusal("must be a name such as 'Mrs Ann Surname'")
FIRST = _refusal("must be a name such as 'SURNAME, Forename'")
TWO_PEOPLE = _refusal("names two people: send one row for each")
DIED = _refusal("has a note that the person has died: write the name only, and tell the hub of the death")
ONE_LINE = _refusal("has several lines: write one name on one line")
DASH = _refusal(
    "has a dash beside a blank: write a double name with a hyphen and no blanks, and notes in another column"
)
SIGNS = _refusal("has digits or signs that are not part of a name: write the name only, and notes in another column")
OPEN_BRACKET = _refusal("has a bracket or quote mark that is not closed: write the name only")
COMMAS = _refusal("has a comma, so it can be read in two ways: write 'Surname, Forename' with one comma, or no comma")
LETTERS = _refusal("ends with a word that may be the family name or a title: write 'Surname, Forename'")
TOO_MANY = ParseError("too-long", f"is too long: at most {MOST_GIVEN} given names")

BRACKETS = ParseError("value", "has text in brackets or quotes, which was kept with the given names: check the name")
BRACKETS_IN_PART = ParseError(
    "value", "has brackets, quotes or a stroke, which were kept as part of the name: check the name"
)
SUFFIX = ParseError("value", "ends with a title, which was kept with the one in front: check the name")
BY_COMMA = ParseError("value", "was read as 'Surname, Forename' because of its comma: check the name")
UNSURE_LAST = ParseError(
    "value", "ends with a word that may be a title, and was read as the family name: check the name"
)
UNSURE_PARTICLE = ParseError(
    "value", "has a word that may be a given name or the beginning of the family name: check the name"
)

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
_SUSPECT = _words("and of late the passed deceased decd dec dec. dec'd dec\u2019d died died. rip rip. r.i.p r.i.p.")
"""Words without which nothing refuses a name of letters, single blanks, hyphens and apostrophes."""

_ASIDE = re.compile(
    r"\(([^()]*)\)|\[([^\[\]]*)\]|\"([^\"]*)\"|\u201c([^\u201d]*)\u201d|(?<!\S)['\u2018]([^'\u2019]+)['\u2019](?!\S)"
)
_UNCLOSED = re.compile(r"[()\[\]\"\u201c\u201d]")
_RUN_TOGETHER = re.compile(
    r"(?<=[^\W\d_]\.)(?=[^\W\d_]{2,}(?:[\s'\u2019-]|$))|(?i:(?<=\bmr\.)|(?<=\bmrs\.)|(?<=\bms\.)|(?<=\bdr\.)|(?<=\brev\.))(?=\w)"
)
"""Where a blank is missing in Mr.J.R.Smith."""


def fault(text: str) -> ParseError | None:
    """Return why a text cannot be one living person's name, or None."""
    if _PLAIN.fullmatch(text) and _SUSPECT.isdisjoint(text.casefold().split()):
        return None
    shown = html.unescape(text) if "&" in text else text
    shown = _QUESTION.sub("x", shown) if "?" in shown else shown
    return next((refusal for pattern, refusal in _REFUSED if pattern.search(shown)), None)


# ---- the name -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Name:
    """A name while it is taken apart."""

    titles: list[str] = field(default_factory=list)
    letters: list[str] = field(default_factory=list)
    asides: list[str] = field(default_factory=list)
    given: list[str] = field(default_factory=list)
    family: list[str] = field(default_factory=list)
    warnings: list[ParseError] = field(default_factory=list)

    def result(self) -> Any:
        given = [*self.given, *self.asides]
        if len(given) > MOST_GIVEN:
            return TOO_MANY
        warned = [*self.warnings, *([BRACKETS] if self.asides else []), *([SUFFIX] if self.letters else [])]
        title = ", ".join(filter(None, [" ".join(self.titles), *self.letters]))
        parts = {"family_name": " ".join(self.family), "given_names": given, "title": title or None}
        return Doubtful(parts, tuple(warned)) if warned else parts


def read(text: str, order: NameOrder) -> Any:
    """Return title, given names and family name of a cleaned cell, in doubt as `Doubtful`; a `ParseError` if it is not one name."""
    if refused := fault(text):
        return refused
    name = _Name()
    plain = _without_asides(text, name)
    if plain is None:
        return OPEN_BRACKET
    parts = [part.strip() for part in _RUN_TOGETHER.sub(" ", plain).split(",")]
    while len(parts) > 1 and not parts[-1]:
        parts.pop()
    refused = _surname_first(parts, name) if order == "surname-first" else _surname_last(parts, name)
    return refused or name.result()


def _without_asides(text: str, name: _Name) -> str | None:
    """Return a name without text in brackets and quotes, which `name` keeps; None if one is not closed."""
    if not _UNCLOSED.search(text) and "'" not in text and "\u2018" not in text:
        return text
    for aside in _ASIDE.finditer(text):
        words = (aside[1] or aside[2] or aside[3] or aside[4] or aside[5] or "").split()
        if words and all(_key(word) in _TITLES for word in words):
            name.titles += words
        elif words:
            name.asides.append(" ".join(aside[0].split()))
    plain = _ASIDE.sub(" ", text)
    return None if _UNCLOSED.search(plain) else plain


def _surname_first(parts: Sequence[str], name: _Name) -> ParseError | None:
    """Read 'SURNAME, Forenames'; further commas may only set off titles."""
    if len(parts) < 2 or not parts[0]:
        return FIRST
    before, behind = parts[0].split(), parts[1].split()
    for part in parts[2:]:
        if not _take_apart(part.split(), name):
            return COMMAS
    _take_titles(before, name)
    _take_letters(before, name)
    _take_titles(behind, name)
    if len(behind) == 1 and _key(behind[0]) in _TITLES:
        name.titles.append(behind.pop())
    _take_letters(behind, name)
    if behind and _key(behind[-1]) in _NO_NAMES and not name.titles:
        name.titles.append(behind.pop())
    if any(_key(word) in _NO_NAMES for word in (*before, *behind)):
        return FIRST
    name.family, name.given = before, behind
    return None


def _take_apart(words: list[str], name: _Name) -> bool:
    """Keep words that are all titles or letters after a name; return whether they are."""
    keys = [_key(word) for word in words]
    if not words or not all(key in _TITLES or key in _LETTERS_AFTER for key in keys):
        return False
    for word, key in zip(words, keys, strict=True):
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


def _is_surname(before: Sequence[str], behind: Sequence[str]) -> bool:
    """Return whether words before a comma can only be a surname: one, behind particles, or if a title begins what follows."""
    if not before or not behind or _key(before[0]) in (_NO_NAMES if len(before) == 1 else _TITLES):
        return False
    return all(_key(word) in _PARTICLES for word in before[:-1]) or (len(behind) > 1 and _key(behind[0]) in _NO_NAMES)


def _by_last_word(words: list[str], name: _Name) -> ParseError | None:
    _take_letters(words, name)
    _take_titles(words, name)
    if len(words) > 1 and name.titles and _key(name.titles[-1]) in _COURTESY and _key(words[0]) in _COURTESY:
        return TWO_PEOPLE
    if not words or any(_key(word) in _NO_NAMES for word in words):
        return LAST
    if len(words) > 1 and _key(words[-1]) in _LETTERS_OR_NAME:
        if len(words) > 2:
            return LETTERS
        name.warnings.append(UNSURE_LAST)
    begins = _family_begins(words, name)
    name.given, name.family = words[:begins], words[begins:]
    return None


def _family_begins(words: Sequence[str], name: _Name) -> int:
    """Return the position of the family name: the last word, and the particles before it."""
    begins = len(words) - 1
    while begins > 1 and _is_particle(words, begins - 1):
        begins -= 1
    if begins == 1 and _begins_family(words):
        begins = 0
    if any(_is_unsure(word, after) for word, after in pairwise(words)) or _key(words[-2:][0]) == "o":
        name.warnings.append(UNSURE_PARTICLE)
    return begins


def _is_unsure(word: str, after: str) -> bool:
    """Return whether a word before another may be a particle or a given name: it is both, and in capitals."""
    key = _key(word)
    return key in _PARTICLE_OR_NAME and not word.islower() and (key, _key(after)) not in _PAIRS


def _is_particle(words: Sequence[str], at: int) -> bool:
    """Return whether a word before the last begins the family name: by its form, or lower-case between others that are not."""
    return _key(words[at]) in _PARTICLES or (words[at].islower() and not words[0].islower() and not words[-1].islower())


def _begins_family(words: Sequence[str]) -> bool:
    """Return whether the first word is a particle and no given name, as in 'Mr van der Berg' and 'Mrs Da Silva'."""
    first = _key(words[0])
    if first not in _PARTICLES:
        return False
    is_certain = first not in _PARTICLE_OR_NAME or (words[0].islower() and not words[-1].islower())
    return is_certain or (first, _key(words[1])) in _PAIRS


def _take_titles(words: list[str], name: _Name) -> None:
    """Move the titles in front of a name to `name`; the last word stays."""
    while len(words) > 1 and (_key(words[0]) in _TITLES or (_key(words[0]) == "the" and _key(words[1]) in _TITLES)):
        name.titles.append(words.pop(0))
        if _key(name.titles[-1]) in _COURTESY:
            return


def _take_letters(words: list[str], name: _Name) -> None:
    """Move the letters after a name to `name`; the first word stays."""
    taken: list[str] = []
    while len(words) > 1 and _key(words[-1]) in _LETTERS_AFTER:
        taken.insert(0, words.pop())
    name.letters += taken


def _key(word: str) -> str:
    """Return a word as these tables have it: without full stops, and with plain apostrophes."""
    return word.casefold().replace(".", "").replace("\u2019", "'").replace("\u2018", "'")


# ---- a name in columns of its own -----------------------------------------------------------------------------------


@lru_cache(maxsize=8_192)
def problem_of_part(text: str) -> ParseError | tuple[ParseError, ...]:
    """Return why a family name or given names in a column of their own are not those of one living person, or warnings about them."""
    refused = fault(text)
    if refused in (TWO_PEOPLE, DIED):
        return refused
    return (BRACKETS_IN_PART,) if _UNCLOSED.search(text) or "/" in text else ()
