"""Dates and times in the formats of councils and spreadsheets."""

import re
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

from schemas.dates import LONDON
from services.intake.translators.translator import parse_instant

DateFormat = Literal[
    "dd/mm/yyyy",
    "dd/mm/yy",
    "dd-mm-yyyy",
    "dd.mm.yyyy",
    "dd-mmm-yyyy",
    "dd-mmm-yy",
    "dd mmm yyyy",
    "yyyy-mm-dd",
    "yyyymmdd",
    "mm/dd/yyyy",
    "excel-serial",
]
"""mmm is a month's name, short or whole. excel-serial is a spreadsheet's day number: read only if a file lists it."""

_MONTHS = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)
_PARTS = {
    "yyyy": r"(?P<y>[0-9]{4})",
    "yy": r"(?P<y>[0-9]{2})",
    "mmm": r"(?P<b>[A-Za-z]{3,9})\.?",
    "mm": r"(?P<m>[0-9]{1,2})",
    "dd": r"(?P<d>[0-9]{1,2})",
}
_TIME = r"(?:[T ]\s*(?P<H>[0-9]{1,2}):(?P<M>[0-9]{2})(?::(?P<S>[0-9]{2})(?:\.[0-9]{1,9})?)?)?"
_WRITTEN_TIME = re.compile(r"(?:T| \s*(?=[0-9]{1,2}:))[0-9]{1,2}(?P<M>:?[0-9]{2}(?P<S>:?[0-9]{2})?)?")
_FIRST_DAY = datetime(1899, 12, 30, tzinfo=UTC)
_SERIAL = re.compile(r"^([1-9][0-9]{0,5})(?:[.,]([0-9]{1,12}))?$")
_SECOND = timedelta(seconds=1)
FIRST_SERIAL = 3_000
"""First day number that is read, 1908-03-18: lower ones are years, and those below 61 are not the same day in every spreadsheet."""


def _pattern(written: str) -> "re.Pattern[str]":
    whole = written == "yyyymmdd"
    parts = re.split(r"(yyyy|yy|mmm|mm|dd)", written)
    pattern = "".join(_PARTS.get(part, re.escape(part)) for part in parts)
    return re.compile((pattern.replace("{1,2}", "{2}") if whole else pattern) + _TIME)


_PATTERNS = {written: _pattern(written) for written in get_args(DateFormat) if written != "excel-serial"}


def has_short_year(written: DateFormat) -> bool:
    """Return whether the format's year has two digits."""
    return written.endswith("yy") and not written.endswith("yyyy")


@lru_cache(maxsize=8_192)
def read(text: str, formats: tuple[DateFormat, ...], years_from: int | None) -> datetime | None:
    """Return the local time by the first format that matches, without an offset; None if none matches."""
    return next((parsed for one in formats if (parsed := _read(text, one, years_from))), None)


def _read(text: str, written: DateFormat, years_from: int | None) -> datetime | None:
    if written == "excel-serial":
        return _serial(text)
    match = _PATTERNS[written].fullmatch(text)
    if match is None:
        return None
    groups = match.groupdict()
    year = _year(groups["y"], years_from)
    hour, minute, second = (int(groups[part] or 0) for part in "HMS")
    try:
        return datetime(year, _month(groups), int(groups["d"]), hour, minute, second)
    except ValueError:
        return None


def _month(groups: dict[str, str]) -> int:
    """Return the month's number; 0, which is invalid, for an unknown name."""
    if "b" not in groups:
        return int(groups["m"])
    word = groups["b"].lower().replace("sept", "sep", 1) if len(groups["b"]) == 4 else groups["b"].lower()
    return next((number for number, name in enumerate(_MONTHS, start=1) if name.startswith(word)), 0)


def _year(digits: str, years_from: int | None) -> int:
    """Return the year; two digits mean a year of the century that begins with `years_from`."""
    if len(digits) == 4 or years_from is None:
        return int(digits)
    return years_from + (int(digits) - years_from) % 100


def is_number(text: str) -> bool:
    """Return whether a spreadsheet's day number would be a year or another small number: it is never read as a date."""
    match = _SERIAL.match(text)
    return match is not None and int(match[1]) < FIRST_SERIAL


def _serial(text: str) -> datetime | None:
    match = _SERIAL.match(text)
    if match is None or int(match[1]) < FIRST_SERIAL:
        return None
    part = float(f"0.{match[2]}") if match[2] else 0.0
    return (_FIRST_DAY + timedelta(days=int(match[1]), seconds=round(part * 86_400))).replace(tzinfo=None)


def is_plausible(value: date) -> bool:
    """Return whether a date is in the years 1900 to 2199."""
    return 1900 <= value.year < 2200


class WrittenTime(NamedTuple):
    """A time as precise as it was written: the end is that of its day, hour or minute, and None if seconds were written."""

    begin: datetime
    end: datetime | None


@lru_cache(maxsize=8_192)
def moment(text: str, formats: tuple[DateFormat, ...], years_from: int | None) -> WrittenTime | None:
    """Return the time in a cell, in UTC: by its offset if it has one (RFC 3339), otherwise as local time in London.

    In autumn, the hour that occurs twice begins with its first occurrence and ends with its second.
    """
    exact = parse_instant(text) if "yyyy-mm-dd" in formats else None
    if exact is not None:
        precision = _precision(text)
        return WrittenTime(exact, exact + precision if precision else None)
    local = read(text, formats, years_from)
    if local is None or not is_plausible(local.date()):
        return None
    begin, precision = local.replace(tzinfo=LONDON).astimezone(UTC), _precision(text) or _SECOND
    end = (local + precision).replace(tzinfo=LONDON, fold=1).astimezone(UTC)
    if end - begin == _SECOND:
        return WrittenTime(begin, None)
    return WrittenTime(begin, end if end > begin else begin + precision)


def _precision(text: str) -> timedelta | None:
    """Return how long a written time lasts: a day, an hour or a minute; None for a second or less."""
    if match := _WRITTEN_TIME.search(text):
        return None if match["S"] else timedelta(minutes=1) if match["M"] else timedelta(hours=1)
    is_part_of_a_day = _SERIAL.match(text) is not None and not text.isdigit()
    return timedelta(minutes=1) if is_part_of_a_day else timedelta(days=1)


@lru_cache(maxsize=8_192)
def short_year(text: str, formats: tuple[DateFormat, ...]) -> int | None:
    """Return the two digits of a date's year; None if it has four, or is not in one of the formats with two."""
    matches = (_PATTERNS[one].fullmatch(text) for one in formats if has_short_year(one))
    return next((int(match["y"]) for match in matches if match), None)
