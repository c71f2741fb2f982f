"""The value of a workbook's cell as text, as a CSV file would have it: what is stored, never what a formula would give.

ECMA-376 part 1: 18.3.1.4 (cells), 18.8.30 (number formats), 18.17.4.1 (dates), 22.9.2.19 (escaped characters).
"""

import re
from collections.abc import Mapping
from datetime import date, timedelta
from functools import lru_cache
from typing import Literal

from services.intake import limits

NumberFormat = Literal["number", "date", "time"]
DigitPattern = tuple[str, ...]
"""How a whole number is shown with leading zeros or signs, as in 00012 and MEL/0012: the empty texts are places of digits."""

BUILT_IN: Mapping[int, NumberFormat] = {
    **dict.fromkeys((*range(14, 18), 22, *range(27, 37), *range(50, 59)), "date"),
    **dict.fromkeys((*range(18, 22), 45, 46, 47), "time"),
}
"""Formats of dates and times that every workbook has, by number; 27 to 36 and 50 to 58 are those of East Asia."""

HIDDEN_BY_EXCEL = "########"
"""What Excel shows for a date before its first or after its last day; refused like an error value."""

NOT_COMPUTED = "#GETTING_DATA"
"""A formula without a stored value, as programs other than spreadsheets write it; refused like an error value."""

_DIGIT_PATTERN = re.compile(r'(?:"[^"]*"|\\.|[-+() ]|0)+')
_PLACE_OR_SIGN = re.compile(r'0|"([^"]*)"|\\(.)|([-+() ])')
_LITERAL = re.compile(r'"[^"]*"|\\.|[_*].|\[(?![hms]+\])[^\]]*\]', re.IGNORECASE)
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")
_WHOLE = re.compile(r"-?[0-9]{1,15}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")
_MOST_DIGITS = 1e15
_LAST_DAY = 2_958_466
_DAY = 86_400
_NOT_A_DAY = {0: "1900-01-00", 60: "1900-02-29"}


def number_format(code: str) -> NumberFormat | DigitPattern:
    """Return what a number with this format code is shown as."""
    shown = code[: limits.WORKBOOK_FORMAT_CHARACTERS].split(";")[0]
    if len(shown) > 1 and _DIGIT_PATTERN.fullmatch(shown) and "0" in (places := _digit_pattern(shown)):
        return tuple("" if place == "0" else place for place in places)
    letters = set(_LITERAL.sub("", shown).lower())
    if letters & {"d", "y"} or ("m" in letters and not letters & {"h", "s"}):
        return "date"
    return "time" if letters & {"h", "s"} else "number"


def _digit_pattern(shown: str) -> list[str]:
    """Return the parts of a number format: 0 for a place of a digit. A 0 in quotes is a sign; there is then no pattern."""
    signs = [(match[0], match[1] or match[2] or match[3] or "") for match in _PLACE_OR_SIGN.finditer(shown)]
    return [] if any("0" in sign for _, sign in signs) else [sign if part != "0" else "0" for part, sign in signs]


def in_pattern(stored: str, pattern: DigitPattern) -> str:
    """Return a whole number as it is shown: its digits fill the places from the right, and missing ones are zeros."""
    text = number(stored)
    if not text.isdigit():
        return text
    places = pattern.count("")
    digits = text.zfill(places)
    rest = iter(digits[len(digits) - places + 1 :])
    first = pattern.index("")
    begin = "".join(pattern[:first]) + digits[: len(digits) - places + 1]
    return begin + "".join(part or next(rest) for part in pattern[first + 1 :])


def number(stored: str) -> str:
    """Return a number as text: whole without decimals, and in scientific notation if a workbook cannot hold its digits."""
    if _WHOLE.fullmatch(stored):
        return str(int(stored))
    if len(stored) > 100 or not _NUMBER.fullmatch(stored):
        return stored
    value = float(stored)
    if abs(value) >= _MOST_DIGITS:
        return f"{value:.14E}"
    return str(int(value)) if value.is_integer() else f"{value:.15g}"


def moment(stored: str, shown_as: NumberFormat, *, is_1904: bool) -> str:
    """Return a day number as `yyyy-mm-dd`, with ` hh:mm` or ` hh:mm:ss` if it has a time; a time alone as `hh:mm`."""
    if not _NUMBER.fullmatch(stored):
        return stored
    serial = float(stored)
    if not 0 <= serial < _LAST_DAY:
        return HIDDEN_BY_EXCEL
    days, seconds = divmod(round(serial * _DAY), _DAY)
    clock = f"{seconds // 3_600:02}:{seconds // 60 % 60:02}" + (f":{seconds % 60:02}" if seconds % 60 else "")
    if shown_as == "time" and days == 0:
        return clock
    return f"{_day(days, is_1904=is_1904)} {clock}" if seconds else _day(days, is_1904=is_1904)


def _day(days: int, *, is_1904: bool) -> str:
    """Return the day: the system of 1900 has a 29 February 1900, and a day 0, which are shown but are not dates."""
    if is_1904:
        return (date(1904, 1, 1) + timedelta(days)).isoformat()
    first = date(1899, 12, 31) if days < 60 else date(1899, 12, 30)
    return _NOT_A_DAY.get(days) or (first + timedelta(days)).isoformat()


def unescaped(text: str) -> str:
    """Return a text with the characters that XML cannot contain, which are stored as _x000D_."""
    return _ESCAPED.sub(_character, text) if "_x" in text else text


def _character(escaped: "re.Match[str]") -> str:
    code = int(escaped[1], 16)
    return escaped[0] if 0xD800 <= code < 0xE000 else chr(code)


def column(reference: str) -> int:
    """Return the column of a reference such as AB12, from 1; 0 if it has no letters of a column."""
    return _column(reference.rstrip("0123456789"))


@lru_cache(maxsize=1_024)
def _column(letters: str) -> int:
    number_of = 0
    for letter in letters.upper():
        if not "A" <= letter <= "Z":
            return 0
        number_of = number_of * 26 + ord(letter) - 64
    return number_of
