"""One cell of a spreadsheet's export: undo what the spreadsheet changed, reject what it lost."""

import re
from dataclasses import dataclass
from typing import Any, Literal

from schemas import text as texts
from services.intake.translators import cleaning
from services.intake.translators.form.fields import ParseError

Reading = Literal["code", "words", "text"]
"""How a cell is cleaned: codes, identifiers and dates strictly; words without formulas; free text as it is, with its formulas."""

_PLAIN = str.maketrans("\u2018\u2019\u02bc\u201c\u201d\u2010\u2011\u2012\u2013\u2014\u2212", "'''\"\"------")
"""Quotation marks and dashes that a word processor writes for plain ones."""

_AS_TEXT = re.compile(r'^="((?:[^"]|"")*)"$')
_MARKED_AS_TEXT = re.compile(r"^'(?=[=+\-@0-9])")
_MARKS = frozenset("='@#E")
_NO_VALUE = re.compile(
    r"^(?:#(?:N/A(?: N/A)?|GETTING_DATA|NAME\?|DIV/0!|#+|(?-i:[A-Z][A-Z0-9/_]*[!?])|NULL!|REF!|VALUE!|NUM!|ERROR!|SPILL!|CALC!"
    r"|FIELD!|BLOCKED!|CONNECT!|UNKNOWN!|BUSY!|EXTERNAL!|PYTHON!|TIMEOUT!)|(?-i:Err:[0-9]{3}))$",
    re.IGNORECASE,
)
"""What Excel, LibreOffice and Google Sheets show instead of a value."""
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
class ValueWithWarnings:
    """A value that was read, with what the sender should check."""

    value: Any
    warnings: tuple[str, ...]


def clean(cell: str, reading: Reading = "code") -> str | ParseError:
    """Return the cell's text; an error for a formula, a spreadsheet error, or a code with a control character."""
    text = cleaning.code(cell) if reading == "code" else cleaning.prose(cell)
    if text is None:
        return CONTROL
    return _unmarked(text, reading) if text[:1] in _MARKS else text


def _unmarked(text: str, reading: Reading) -> str | ParseError:
    """Return a text that begins with what may be a spreadsheet's mark."""
    if _NO_VALUE.match(text):
        return NO_VALUE
    plain = _unwrapped(text)
    return FORMULA if reading != "text" and plain[:1] in ("=", "@") else plain


def _unwrapped(text: str) -> str:
    """Remove the two markers of text in a spreadsheet: ="0123" and '0123."""
    if match := _AS_TEXT.match(text):
        return match[1].replace('""', '"').strip()
    return _MARKED_AS_TEXT.sub("", text).strip()


_VARIANTS = dict.fromkeys((0xFE0E, 0xFE0F), "")
"""Whether a sign is shown as text or as an emoji."""


def fold(text: str) -> str:
    """Return the text as headers and codes are compared: invisible characters are ignored, quotes and dashes are plain."""
    return texts.fold(text if text.isascii() else cleaning.line(text).translate(_VARIANTS).translate(_PLAIN))


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
