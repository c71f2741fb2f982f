"""HL7 v2 dates and times: four to fourteen digits, optionally with a fraction and an offset."""

import re
from datetime import UTC, date, datetime, timedelta, timezone

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


def parse_instant(text: str) -> datetime | None:
    """Return a time to the second in UTC; without an offset it is in Europe/London.

    Return None if it is less exact or invalid, or in the ambiguous hour at the end of summer time.
    """
    match = _STAMP.fullmatch(text)
    if match is None or match[6] is None:
        return None
    try:
        local = datetime.strptime("".join(match[n] for n in range(1, 7)), "%Y%m%d%H%M%S")
        return local.replace(tzinfo=timezone(_offset(match[7]))).astimezone(UTC) if match[7] else _from_london(local)
    except (ValueError, OverflowError):
        return None


def _offset(offset: str) -> timedelta:
    minutes = int(offset[1:3]) * 60 + int(offset[3:5])
    return timedelta(minutes=-minutes if offset[0] == "-" else minutes)


def _from_london(local: datetime) -> datetime | None:
    """Convert a local time to UTC; None if it is ambiguous. A time in the hour skipped in spring counts as summer time."""
    first, second = (local.replace(tzinfo=LONDON, fold=fold).astimezone(UTC) for fold in (0, 1))
    return None if first < second else second
