"""Judge what is in force at the time of a message: periods, `use` old, and `active` false.

A FHIR date or dateTime is the interval of its precision (http://hl7.org/fhir/R4/datatypes.html#Period: an end of
2026-11 includes all of November); a day without an offset is a day in Leicestershire.
"""

from calendar import isleap, monthrange
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from schemas.dates import LONDON
from services.intake.translators.bars_fhir.models import Bundle, Period
from services.intake.translators.translator import parse_instant

T = TypeVar("T")

LAST = datetime.max.replace(tzinfo=UTC)
"""The end of what has no end: 9999-12-31, as many systems write it."""


def time_of_message(bundle: Bundle, received_at: datetime) -> datetime:
    """Return the time at which everything in a message is judged: Bundle.timestamp, else when it was received."""
    return parse_instant(bundle.timestamp) or received_at


def in_force(items: Iterable[T], at: datetime) -> list[T]:
    """Return the items that count at a time: not of use old, not inactive, and with a period that holds."""
    return [
        item
        for item in items
        if getattr(item, "use", None) != "old"
        and getattr(item, "active", None) is not False
        and holds(getattr(item, "period", None), at)
    ]


def holds(period: Period | None, at: datetime) -> bool:
    """Return whether a period includes this time. No period, and an open end, hold; an impossible date does not."""
    if period is None:
        return True
    start, end = interval(period.start), interval(period.end)
    if (period.start and start is None) or (period.end and end is None):
        return False
    return (start is None or start[0] <= at) and (end is None or at < end[1])


def has_ended(period: Period | None, at: datetime) -> bool:
    """Return whether a period is over at this time."""
    end = interval(period.end) if period else None
    return end is not None and end[1] <= at


def interval(text: str | None) -> tuple[datetime, datetime] | None:
    """Return the first moment of a FHIR date or dateTime and the first one after it; None if it is impossible."""
    if not text:
        return None
    try:
        first, step = _day(text) if "T" not in text else _moment(text)
    except (ValueError, OverflowError):
        return None
    try:
        return first, first + step
    except OverflowError:
        return first, LAST


def _day(text: str) -> tuple[datetime, timedelta]:
    """Return midnight in Leicestershire of the first day of a year, month or day, and how long that is."""
    year, month, day = [*map(int, text.split("-")), 1, 1][:3]
    days = {4: 366 if isleap(year) else 365, 7: monthrange(year, month)[1]}.get(len(text), 1)
    return datetime(year, month, day, tzinfo=LONDON), timedelta(days=days)


def _moment(text: str) -> tuple[datetime, timedelta]:
    """Return an instant, and a second if it has no fraction of one; a leap second is the next minute's first."""
    parsed = datetime.fromisoformat(text.replace(":60", ":59"))
    moment = parsed if parsed.tzinfo else parsed.replace(tzinfo=LONDON)
    leap = timedelta(seconds=1 if ":60" in text else 0)
    return moment + leap, timedelta(microseconds=1) if "." in text else timedelta(seconds=1)
