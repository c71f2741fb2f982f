"""One cell of a spreadsheet's export: what a person wrote there, without what the spreadsheet made of it."""

import re

from schemas import text as texts
from services.intake.translators.form.fields import ParseError

_UNSEEN = dict.fromkeys(map(ord, "\u200b\u200e\u200f\u2060\ufeff\u00ad"))
"""Zero-width characters that come with what is copied from web pages. Joiners are kept: some scripts need them."""

_BLANKS = {ord(blank): " " for blank in "\u00a0\u2007\u2009\u202f\u3000"}
_CLEANED = _UNSEEN | _BLANKS
_EDGES = " \t\r\n\u200c\u200d"
_AS_TEXT = re.compile(r'^="((?:[^"]|"")*)"$')
_MARKED_AS_TEXT = re.compile(r"^'(?=[=+\-@0-9])")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_NO_VALUE = re.compile(r"^#(REF!|N/A|NAME\?|VALUE!|DIV/0!|NULL!|NUM!|SPILL!|CALC!|#+)$", re.IGNORECASE)
_ROUNDED = re.compile(r"^[+-]?[0-9]+([.,][0-9]+)?[eE]\+?[0-9]+$")
_WHOLE = re.compile(r"^([0-9]+)[.,]0+$")

FORMULA = ParseError("invalid", "holds a formula: paste the values, format the column as text and export again")
NO_VALUE = ParseError(
    "invalid", "holds an error of the spreadsheet instead of a value: mend the formula behind it and export again"
)
CONTROL = ParseError("invalid", "holds a control character, which no text may hold")
ROUNDED = ParseError("value", "the spreadsheet rounded this number: format the column as text and export again")


def clean(cell: str) -> str | ParseError:
    """The cell's text without what cannot be seen; a formula or a spreadsheet's error is wrong, whatever column it is in."""
    text = cell if cell.isascii() else cell.translate(_CLEANED)
    text = text.strip(_EDGES)
    if not text:
        return text
    if text[0] in "='" and (text := _unwrapped(text)) and text[0] == "=":
        return FORMULA
    if text[:1] == "@":
        return FORMULA
    if text[:1] == "#" and _NO_VALUE.match(text):
        return NO_VALUE
    return CONTROL if _CONTROL.search(text) else text


def _unwrapped(text: str) -> str:
    """Without the two ways in which a spreadsheet is told that something is a text: ="0123" and '0123."""
    if match := _AS_TEXT.match(text):
        return match[1].replace('""', '"').strip(_EDGES)
    return _MARKED_AS_TEXT.sub("", text).strip(_EDGES)


def fold(text: str) -> str:
    """Return the text as headers and codes are compared: invisible characters are ignored too."""
    return texts.fold(text if text.isascii() else text.translate(_CLEANED))


def is_rounded(text: str) -> bool:
    """True for 9.99E+09: the digits that were there are lost."""
    return _ROUNDED.match(text) is not None


def whole(text: str) -> str:
    """123.0 as 123: a spreadsheet's idea of a whole number."""
    match = _WHOLE.match(text)
    return match[1] if match else text


# ---- what we write --------------------------------------------------------------------------------------------------

_LED_BY = " \u00a0\u200b\ufeff\"'"
_EXECUTED = frozenset("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


def neutral(cell: str) -> str:
    """As text that no spreadsheet executes: an apostrophe before what would be a formula, also behind blanks and quotes."""
    return f"'{cell}" if cell.lstrip(_LED_BY)[:1] in _EXECUTED and cell.strip(_LED_BY) else cell
