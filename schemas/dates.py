"""Days in England: dates that people state, and the day on which something is decided."""

from datetime import date, datetime
from zoneinfo import ZoneInfo

LONDON = ZoneInfo("Europe/London")


def in_england(at: datetime) -> date:
    """Return the date in England at this instant."""
    return at.astimezone(LONDON).date()
