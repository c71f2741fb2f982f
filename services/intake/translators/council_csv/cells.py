"""One cell of a spreadsheet's export: undo what the spreadsheet changed, reject what it lost."""

import re
from dataclasses import dataclass
from typing import Any

from schemas import text as texts
from services.intake.translators.form.fields import ParseError

_UNSEEN = dict.fromkeys(map(ord, "\u200b\u200e\u200f\u2060\ufeff\u00ad"))
"""Zero-width characters of text copied from web pages. Joiners are kept: some scripts need them."""

_BLANKS = {ord(blank): " " for blank in "\u00a0\u2007\u2009\u202f\u3000"}
_CLEANED = _UNSEEN | _BLANKS
_EDGES = " \t\r\n\u200c\u200d"
_AS_TEXT = re.compile(r'^="((?:[^"]|"")*)"$')
_MARKED_AS_TEXT = re.compile(r"^'(?=[=+\-@0-9])")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_NO_VALUE = re.compile(r"^#(REF!|N/A|NAME\?|VALUE!|DIV/0!|NULL!|NUM!|SPILL!|CALC!|#+)$", re.IGNORECASE)
_ROUNDED = re.compile(r"^[+-]?[0-9]+([.,][0-9]+)?[eE]\+?[0-9]+$")
_WHOLE = re.compile(r"^([0-9]+)\.00?$")
_GROUPED = re.compile(
    r"^[+-]?(?:[0-9]+(?:[.,'\u2019][0-9]+)*[.,'\u2019](?:[0-9]{3}|0*)|[0-9]+(?:[,'\u2019][0-9]{2,3})+\.[0-9]*"
    r"|[0-9]+(?:\.[0-9]{3})+,[0-9]*|[1-9][0-9]{0,2}(?: [0-9]{3})+(?:[.,][0-9]*)?)$"
)
"""Numbers with separators of thousands, or with decimals that are not a spreadsheet's: 12,000 and 1 234.50 and 12,0."""
_NUMBERS_BEGIN = frozenset("0123456789+-")

FORMULA = ParseError("invalid", "contains a formula: paste the values, format the column as text and export again")
NO_VALUE = ParseError(
    "invalid", "contains a spreadsheet error instead of a value: correct its formula and export again"
)
CONTROL = ParseError("invalid", "contains a control character, which is not allowed")
ROUNDED = ParseError("value", "was rounded by the spreadsheet: format the column as text and export again")
GROUPED = ParseError(
    "value",
    "has a separator among its digits, which can be read in two ways: format the column as text, without separators, and export again",
)


@dataclass(frozen=True, slots=True)
class Doubtful:
    """A value that was read, with what the sender should check: `warnings` by kind, as of a `ParseError`."""

    value: Any
    warnings: tuple[ParseError, ...]


def clean(cell: str) -> str | ParseError:
    """Return the cell's text without invisible characters; an error for a formula or a spreadsheet error."""
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
    """Remove the two markers of text in a spreadsheet: ="0123" and '0123."""
    if match := _AS_TEXT.match(text):
        return match[1].replace('""', '"').strip(_EDGES)
    return _MARKED_AS_TEXT.sub("", text).strip(_EDGES)


def fold(text: str) -> str:
    """Return the text as headers and codes are compared: invisible characters are ignored too."""
    return texts.fold(text if text.isascii() else text.translate(_CLEANED))


def whole(text: str) -> str | ParseError:
    """Return 123.0 or 123.00, a spreadsheet's form of a whole number, as 123; an error for a number that may be another.

    No other separator is interpreted: 12,000 and 12.000 are 12 to one reader, and 12000 to another.
    """
    if text.isdigit() or text[:1] not in _NUMBERS_BEGIN:
        return text
    if match := _WHOLE.match(text):
        return match[1]
    return ROUNDED if _ROUNDED.match(text) else GROUPED if _GROUPED.match(text) else text


# ---- cells that we write --------------------------------------------------------------------------------------------

_LED_BY = " \u00a0\u200b\ufeff\"'"
_EXECUTED = frozenset("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


def neutral(cell: str) -> str:
    """Return the cell with an apostrophe before a formula, so that no spreadsheet executes it."""
    return f"'{cell}" if cell.lstrip(_LED_BY)[:1] in _EXECUTED and cell.strip(_LED_BY) else cell
