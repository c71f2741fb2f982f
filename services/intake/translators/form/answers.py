"""Which answers are not given, which mean yes and which no: one table for every place of a form.

The published schema uses the same patterns. They are written without flags, for any dialect of regular expressions.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

from services.intake.translators import cleaning

YES = ("yes", "y", "true", "1", "on")
NO = ("no", "n", "false", "0", "off")
NOT_APPLICABLE = ("n/a", "na", "n.a.", "none", "nil", "-", "not applicable", "does not apply")
"""Neither yes nor no: of a need, it is not asked for; of another field, nothing is said."""

_DECLINED = (
    *("no thanks", "no thank you", "no need", "not needed", "not required", "not wanted", "not interested"),
    *(
        "none needed",
        "none required",
        "unchecked",
        "unticked",
        "unselected",
        "not checked",
        "not ticked",
        "not selected",
    ),
)
_UNCLEAR = (
    *("maybe", "perhaps", "possibly", "unsure", "not sure", "unknown", "not known", "n/k", "don't know", "tbc"),
    *("null", "undefined", "nan", "yes/no", "y/n", "yes no", "[object object]", "declined", "refused", "nothing"),
)

_SYMBOLS = r"\u0000-/:-@\[-`{-\u00a9\u00ab-\u00b1\u2000-\u206f\u20a0-\u20cf\u2190-\u245f\u2500-\u2bff\ufeff\s"
"""What is neither a letter nor a digit, for a character class."""


def _any_case(words: tuple[str, ...]) -> str:
    """Return a pattern of words in any case."""
    return "|".join("".join(map(_letter, word)) for word in words)


def _letter(character: str) -> str:
    if character.isalpha():
        return f"[{character.upper()}{character}]"
    return {" ": r"\s+", "[": r"\[", "]": r"\]", ".": r"\."}.get(character, character)


def _whole(pattern: str) -> str:
    return rf"^\s*(?:{pattern})\s*$"


_NOT_TICKED = (*NO, *NOT_APPLICABLE, *_DECLINED)
_BEGINS_WITH_NO = _any_case(tuple(word for word in _NOT_TICKED if word[-1].isalpha()))
_STOP = r"\u0000-\u001f!-&(-,./:-@\[-`{-\u009f\u00a1-\u00a9\u00ab-\u00b1\u2013-\u2018\u201a-\u2027\u2030-\u205e\u20a0-\u20cf\u2190-\u245f"
"""What ends a no in front of other words; not a hyphen or an apostrophe within a word (`no-one`)."""

BLANK = r"^\s*$"
WITHOUT_LETTERS = f"^[{_SYMBOLS}]*$"
MEANS_YES = _whole(_any_case(YES))
MEANS_NO = _whole(_any_case(NO))
MEANS_NOTHING = _whole(_any_case(NOT_APPLICABLE))
NOT_TICKED = _whole(_any_case(_NOT_TICKED))
NOT_A_NOTE = (
    rf"^(?:\s*(?:{_any_case(_UNCLEAR)})\s*|[{_SYMBOLS}0-9]*(?:[A-Za-z][{_SYMBOLS}0-9]*)?"
    rf"|[{_SYMBOLS}]*(?:{_BEGINS_WITH_NO})(?:[{_SYMBOLS}]*| *[{_STOP}][\s\S]*| +-[\s\S]*|- [\s\S]*))$"
)
"""Of a need, neither an answer nor a note: words that leave it open, at most one letter, or a no that continues ("No, has one").

Two repeats in a row never share a character, so that the time of a match grows with the text, and not with its square.
"""

_DENYING = tuple(word for word in _NOT_TICKED if word[-1].isalpha() and word not in ("no", "n"))
_AFTER_NO = (
    *(
        "already",
        "at present",
        "at the",
        "at this",
        "concern",
        "currently",
        "has",
        "have",
        "he ",
        "issue",
        "need",
        "now",
    ),
    *("problem", "she ", "they ", "this", "to report", "want", "wish", "yet"),
)
_DENIES = re.compile(
    rf"[{_SYMBOLS}]*(?:(?:{_any_case(_DENYING)})\s|(?:{_any_case(('no', 'not', 'nothing'))})\s+(?:{_any_case(_AFTER_NO)}))"
)


def _not_answered(title: str, pattern: str) -> dict[str, Any]:
    text = {"type": "string", "pattern": pattern}
    return {
        "title": title,
        "anyOf": [{"type": "null"}, text, {"type": "array", "items": {"anyOf": [{"type": "null"}, text]}}],
    }


NOT_ANSWERED = _not_answered("Not given: null, a blank text, or a list of these", BLANK)
NO_LETTERS = _not_answered("Not given: null, a text without a letter or digit, or a list of these", WITHOUT_LETTERS)

TEXT_TYPES = ("line", "lines", "textphone")
"""Types of fields in which a text without a letter or digit says nothing."""


def is_answered(value: Any, kind: str = "") -> bool:
    """Return whether a field of this type is given: not null, not blank (of words: with a letter or digit), not an empty list."""
    if isinstance(value, list):
        return any(isinstance(one, list) or is_answered(one, kind) for one in value)
    if not isinstance(value, str):
        return value is not None
    return not cleaning.is_nothing(value) if kind in TEXT_TYPES else bool(cleaning.prose(value))


def is_yes(value: Any) -> bool:
    """Return whether an answer means yes: true, 1, or one of the words in any case."""
    return _means(MEANS_YES, value) if isinstance(value, str) else value in (True, 1)


def is_no(value: Any) -> bool:
    """Return whether an answer means no: false, 0, or one of the words in any case."""
    return _means(MEANS_NO, value) if isinstance(value, str) else value in (False, 0)


def is_not_applicable(value: Any) -> bool:
    """Return whether an answer says that the question does not apply."""
    return isinstance(value, str) and _means(MEANS_NOTHING, value)


def is_not_ticked(value: Any) -> bool:
    """Return whether a need is not asked for."""
    if isinstance(value, str):
        return not is_answered(value) or _means(NOT_TICKED, value)
    return is_no(value) or not is_answered(value)


def is_note(value: Any) -> bool:
    """Return whether an answer to a need is a note on it."""
    return isinstance(value, str) and not _means(NOT_A_NOTE, value)


def denies(note: str) -> bool:
    """Return whether a note may deny its need: "None at present", "no, has one" without its comma; not "No rail at the door"."""
    return _DENIES.match(cleaning.prose(note[:_LONGEST])) is not None


_LONGEST = 10_000
"""Characters of a text that may be an answer in words; a longer one is not searched, and is too long for a note."""


def _means(pattern: str, text: str) -> bool:
    return len(text) <= _LONGEST and re.search(pattern, cleaning.prose(text)) is not None


# ---- consents --------------------------------------------------------------------------------------------------------

ConsentAnswer = Literal["yes", "no", "not-recorded", "unclear"]
CONSENTS: Mapping[ConsentAnswer, tuple[str, ...]] = {
    "yes": ("yes", "y"),
    "no": ("no", "n"),
    "not-recorded": ("not-recorded", "not recorded"),
}
"""The words for each answer to a consent. False may be the default of an unanswered box, so it is not a no."""


def means_consent(*answers: ConsentAnswer) -> str:
    """Return the pattern of these answers to a consent."""
    return _whole(_any_case(tuple(word for answer in answers for word in CONSENTS[answer])))


def consent(value: Any) -> ConsentAnswer | None:
    """Return the answer to a consent; None if it was not given."""
    if not is_answered(value):
        return None
    said = (answer for answer in CONSENTS if isinstance(value, str) and _means(means_consent(answer), value))
    return next(said, "unclear")
