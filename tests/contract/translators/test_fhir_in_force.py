"""A FHIR period holds at a time if the time is in it, each end being the interval of its precision."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.dates import LONDON
from services.intake.translators.bars_fhir.in_force import has_ended, holds, in_force, interval, time_of_message
from services.intake.translators.bars_fhir.models import Bundle, Period

AT = datetime(2026, 11, 5, 9, 30, tzinfo=UTC)

times = st.datetimes(datetime(1901, 1, 1), datetime(2199, 12, 31), timezones=st.just(UTC)).map(
    lambda at: at.replace(microsecond=0)
)
precisions = st.sampled_from(["%Y", "%Y-%m", "%Y-%m-%d"])
offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@dataclass
class Named:
    use: str | None = None
    period: Period | None = None
    active: bool | None = None


@given(times, precisions, precisions)
def test_a_period_holds_in_the_year_month_or_day_in_which_it_starts_or_ends(at, start, end):
    local = at.astimezone(LONDON)
    assert holds(Period(start=local.strftime(start), end=local.strftime(end)), at)


@given(times, precisions)
def test_the_years_months_and_days_follow_each_other_without_gap_or_overlap(at, precision):
    found = interval(at.astimezone(LONDON).strftime(precision))
    assert found is not None
    after = interval(found[1].astimezone(LONDON).strftime(precision))
    assert found[0] <= at < found[1]
    assert after is not None
    assert after[0] == found[1]


@given(times, times, offsets, offsets)
def test_offsets_do_not_change_which_instant_is_meant(at, bound, one, other):
    text = bound.astimezone(one).isoformat()
    assert holds(Period(start=text), at.astimezone(other)) == (bound <= at)
    assert holds(Period(end=text), at.astimezone(other)) == (at <= bound)


@given(times, times, precisions)
def test_what_has_ended_does_not_hold_and_what_has_begun_and_not_ended_does(at, bound, precision):
    text = bound.astimezone(LONDON).strftime(precision)
    assert has_ended(Period(end=text), at) == (not holds(Period(end=text), at))
    assert not has_ended(Period(start=text), at)


@pytest.mark.parametrize(
    ("period", "expected"),
    [
        (None, True),
        (Period(), True),
        (Period(start="2026"), True),
        (Period(end="2026-11"), True),
        (Period(end="2026-10"), False),
        (Period(start="2026-11-06"), False),
        (Period(end="2026-11-04"), False),
        (Period(end="2026-11-05T09:30:00Z"), True),
        (Period(end="2026-11-05T09:29:59.9Z"), False),
        (Period(end="2026-11-05T10:29:60+01:00"), True),
        (Period(end="9999-12-31"), True),
        (Period(end="9999-12-31T23:59:59-14:00"), True),
        (Period(end="2027-02-30"), False),
        (Period(start="2026-02-30"), False),
    ],
)
def test_open_ends_leap_seconds_the_last_day_and_impossible_days(period, expected):
    assert holds(period, AT) is expected


def test_what_is_old_inactive_ended_or_not_begun_is_left_out():
    current = [Named(), Named(use="home", active=True), Named(period=Period(start="2020", end="2026-11"))]
    past = [Named(use="old"), Named(active=False), Named(period=Period(end="2019"))]
    assert in_force([*past, *current, Named(period=Period(start="2099"))], AT) == current


def test_a_message_is_judged_at_its_timestamp_else_at_its_receipt():
    assert time_of_message(Bundle(id="1", type="message", entry=[]), AT) == AT
    earlier = Bundle(id="1", type="message", entry=[], timestamp="2025-01-01T00:00:00+01:00")
    assert time_of_message(earlier, AT) == datetime(2024, 12, 31, 23, tzinfo=UTC)
