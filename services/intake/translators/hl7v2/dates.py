"""HL7 v2 dates and times: four to fourteen digits, optionally with a fraction and an offset; zeros for what is not known."""

import calendar
import re
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from typing import NamedTuple

from schemas.dates import LONDON
from services.intake.translators.hl7v2.er7 import Hl7Message, Repetition
from services.intake.translators.plausibility import FILLER_DATE
from services.intake.translators.translator import Issue

_STAMP = re.compile(r"(\d{4})(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:\.\d*)?)?)?)?)?)?([+-]\d{4})?", re.ASCII)

Days = tuple[date, date]
"""The first and last day that a date may be: one day, a month or a year."""


def read_date(repetition: Repetition | None, component: int = 1, *, decides: bool = False) -> date | None:
    """Return the day of a date or time, as `read_any_date`; one that is entered if none is known is not known."""
    day = read_any_date(repetition, component, decides=decides)
    if repetition is None or day is None or not repetition.reading.fillers.is_date(day):
        return day
    _note(repetition, component, FILLER_DATE, decides)
    return None


def read_any_date(repetition: Repetition | None, component: int = 1, *, decides: bool = False) -> date | None:
    """Return the day of a date or time. An impossible date is a part to be read.

    One that is known only to the month or year is a part to be read if it decides; else it is None, with a warning.
    """
    days = _read_days(repetition, component) if repetition else None
    if repetition is None or days is None or days[0] == days[1]:
        return days[0] if days else None
    _note(repetition, component, "is not known to the day and was not used", decides)
    return None


def _note(repetition: Repetition, component: int, explanation: str, decides: bool) -> None:
    place = repetition.place_of(component)
    if decides:
        repetition.reading.to_read(place, "value", repetition.text(component))
    else:
        repetition.reading.warn(Issue(place, "value", explanation))


def _read_days(repetition: Repetition, component: int) -> Days | None:
    text = repetition.text(component)
    return _days_or_unread(repetition, component, text) if text else None


def _days_or_unread(repetition: Repetition, component: int, text: str) -> Days | None:
    try:
        return parse_days(text)
    except ValueError:
        repetition.reading.to_read(repetition.place_of(component), "value", text)
        return None


def parse_days(text: str) -> Days | None:
    """Return the days that a date or time may be, in London if it has a time and an offset; None if it is all zeros.

    Zeros for the month or day mean that it is not known. Midnight with an offset is how systems write a day: it is that
    day. Raise ValueError if it is impossible or outside 1880 to 2199.
    """
    match = _STAMP.fullmatch(text)
    if match is None:
        raise ValueError("not a date")
    year, month, day = (int(match[n] or 0) for n in (1, 2, 3))
    if not month or not day:
        return _days_of(year, month) if year or month or day else None
    at = parse_timestamp(text)
    if at is None:
        raise ValueError("not a date")
    if match[7] and at.time() != datetime.min.time():
        at = at.replace(tzinfo=timezone(_offset(match[7]))).astimezone(LONDON)
    return at.date(), at.date()


def _days_of(year: int, month: int) -> Days:
    """Return the first and last day of a month, or of a year if the month is 0."""
    if not _EARLIEST <= year < _LATEST or month > 12:
        raise ValueError("not a date")
    last = month or 12
    return date(year, month or 1, 1), date(year, last, calendar.monthrange(year, last)[1])


_EARLIEST, _LATEST = 1880, 2200


def parse_timestamp(text: str) -> datetime | None:
    """Return a date or time as written, with the earliest missing parts; None if invalid or outside 1880 to 2199."""
    match = _STAMP.fullmatch(text)
    if match is None or not _EARLIEST <= int(match[1]) < _LATEST:
        return None
    year, month, day_, hour, minute, second = (int(match[n] or least) for n, least in enumerate((0, 1, 1, 0, 0, 0), 1))
    try:
        return datetime(year, month, day_, hour, minute, second)
    except ValueError:
        return None


# ---- validity --------------------------------------------------------------------------------------------------------


def day_of_message(message: Hl7Message, received_at: datetime) -> date:
    """Return the day in London at which periods are judged: that of MSH-7, or of the receipt if that is earlier."""
    received_on = received_at.astimezone(LONDON).date()
    try:
        days = parse_days(message.text("MSH", 7) or "")
    except ValueError:
        return received_on
    return min(days[1], received_on) if days else received_on


def read_period(one: Repetition, start: int, end: int, whole: int | None = None) -> tuple[date | None, date | None]:
    """Return the first and last possible day of a period: its components, else those of a range (DR) in one component.

    A part that is not given, or cannot be read, does not limit the period.
    """
    if len(one.parts) < min(start, whole or start):
        return None, None
    begins, ends = _read_days(one, start), _read_days(one, end)
    texts = [*one.subcomponents(whole), "", ""] if whole else ["", ""]
    if whole:
        begins = begins or (_days_or_unread(one, whole, texts[0]) if texts[0] else None)
        ends = ends or (_days_or_unread(one, whole, texts[1]) if texts[1] else None)
    return begins[0] if begins else None, ends[1] if ends else None


def read_dates(start: Repetition | None, end: Repetition | None) -> tuple[date | None, date | None]:
    """Return the first and last possible day of a period in two fields."""
    begins, ends = (_read_days(one, 1) if one else None for one in (start, end))
    return begins[0] if begins else None, ends[1] if ends else None


def is_in_force(period: tuple[date | None, date | None], day: date) -> bool:
    """Return whether a period has begun and has not ended on this day."""
    begins, ends = period
    return (begins is None or begins <= day) and (ends is None or day <= ends)


# ---- times -----------------------------------------------------------------------------------------------------------


class Interval(NamedTuple):
    """All moments that a time may mean, in UTC: from `start` until before `end`."""

    start: datetime
    end: datetime


_LENGTHS = {3: timedelta(days=1), 4: timedelta(hours=1), 5: timedelta(minutes=1), 6: timedelta(seconds=1)}
"""Lengths of a day, an hour, a minute and a second, by the number of parts that are given."""


def parse_interval(text: str) -> Interval | None:
    """Return the moments that a time may mean by its precision, or None if it is invalid.

    Without an offset it is in Europe/London. The hour that comes twice in October is either of the two.
    """
    match, first = _STAMP.fullmatch(text), parse_timestamp(text)
    if match is None or first is None:
        return None
    last = _after(first, sum(match[number] is not None for number in range(1, 7))) - timedelta.resolution
    try:
        zone = timezone(_offset(match[7])) if match[7] else LONDON
        starts, ends = ([_in_utc(one, zone, fold) for fold in (0, 1)] for one in (first, last))
    except (ValueError, OverflowError):
        return None
    return Interval(min(starts), max(ends) + timedelta.resolution)


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
