"""HL7 v2 dates and times: four to fourteen digits, optionally with a fraction and an offset."""

import re
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from typing import NamedTuple

from services.intake.translators.hl7v2.er7 import Reading, Repetition
from services.intake.translators.translator import LONDON, Issue

_STAMP = re.compile(
    r"(\d{4})(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:\.\d{1,4})?)?)?)?)?)?([+-]\d{4})?", re.ASCII
)


def read_date(repetition: Repetition | None, component: int = 1) -> date | None:
    """Return the day of a date or time as written; None if it is partial. An impossible date is a fault."""
    text = repetition.text(component) if repetition else None
    if repetition is None or text is None:
        return None
    return _parse_date(
        text, repetition.place if component == 1 else f"{repetition.place}.{component}", repetition.reading
    )


def _parse_date(text: str, place: str, reading: Reading) -> date | None:
    whole = parse_timestamp(text)
    if whole is None:
        reading.issues.append(
            Issue(place, "value", "must be a date such as 20261105, or 20261105093000+0000 with a time")
        )
    return whole.date() if whole and len(re.split("[.+-]", text)[0]) >= 8 else None


def parse_timestamp(text: str) -> datetime | None:
    """Return a date or time as written, with the earliest missing parts; None if invalid or outside 1880 to 2199."""
    match = _STAMP.fullmatch(text)
    if match is None or not 1880 <= int(match[1]) < 2200:
        return None
    year, month, day_, hour, minute, second = (int(match[n] or least) for n, least in enumerate((0, 1, 1, 0, 0, 0), 1))
    try:
        return datetime(year, month, day_, hour, minute, second)
    except ValueError:
        return None


class Interval(NamedTuple):
    """All moments that a time may mean, in UTC: from `start` until before `end`."""

    start: datetime
    end: datetime


_LENGTHS = {3: timedelta(days=1), 4: timedelta(hours=1), 5: timedelta(minutes=1), 6: timedelta(seconds=1)}
"""Lengths of a day, an hour, a minute and a second, by the number of parts that are given."""


def parse_interval(text: str) -> Interval | None:
    """Return the moments that a time may mean by its precision, or None if it is invalid.

    Without an offset it is in Europe/London. The hour that comes twice in October is either of the two, and so is the hour that is
    skipped in spring.
    """
    match, first = _STAMP.fullmatch(text), parse_timestamp(text)
    if match is None or first is None:
        return None
    given = sum(match[number] is not None for number in range(1, 7))
    last = _after(first, given) - timedelta.resolution
    zones = [timezone(_offset(match[7]))] if match[7] else [LONDON]
    try:
        moments = [_in_utc(one, zone, fold) for one in (first, last) for zone in zones for fold in (0, 1)]
    except (ValueError, OverflowError):
        return None
    return Interval(min(moments[:2]), max(moments[2:]) + timedelta.resolution)


def _after(first: datetime, given: int) -> datetime:
    """Return the beginning of the next year, month, day, hour, minute or second."""
    if given == 1:
        return first.replace(year=first.year + 1)
    return (first + timedelta(days=32)).replace(day=1) if given == 2 else first + _LENGTHS[given]


def _in_utc(local: datetime, zone: tzinfo, fold: int) -> datetime:
    return local.replace(tzinfo=zone, fold=fold).astimezone(UTC)


def _offset(offset: str) -> timedelta:
    minutes = int(offset[1:3]) * 60 + int(offset[3:5])
    return timedelta(minutes=-minutes if offset[0] == "-" else minutes)
