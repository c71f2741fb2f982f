"""Plausible dates: one rule for each place of the referral, the same in every format."""

from datetime import UTC, date, datetime, timedelta

import pytest
from pydantic import BaseModel

from schemas.referral import Referral
from services.intake.translators import plausibility
from services.reference.fillers import NO_FILLERS, Fillers

TODAY = date(2026, 11, 5)
FILLERS = Fillers(dates=(date(1900, 1, 1),))
PAST = sorted(place for place, kind in plausibility.KINDS.items() if kind == "past")
EXPECTED = sorted(place for place, kind in plausibility.KINDS.items() if kind == "expected")


def dates_of(model: type[BaseModel], above: str = "") -> set[str]:
    """Every place of a model that holds a date, lists left out."""
    found = set[str]()
    for name, field in model.model_fields.items():
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        if date in kinds:
            found.add(above + name)
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found |= dates_of(kind, f"{above}{name}.")
    return found


def test_every_date_of_a_referral_has_a_rule() -> None:
    assert dates_of(Referral) == set(plausibility.KINDS)


@pytest.mark.parametrize("place", PAST)
def test_what_has_happened_is_not_in_the_future_and_not_before_1900(place: str) -> None:
    for day in (TODAY, date(1900, 1, 2)):
        assert plausibility.doubt(place, day, TODAY, FILLERS) is None
    for day in (TODAY + timedelta(days=1), date(1899, 12, 31), date(948, 6, 18)):
        found = plausibility.doubt(place, day, TODAY, FILLERS)
        assert found is not None
        assert found.refuses


@pytest.mark.parametrize("place", EXPECTED)
def test_an_expected_date_is_at_most_two_years_ahead(place: str) -> None:
    for day in (TODAY, date(2028, 11, 5), date(1900, 1, 2)):
        assert plausibility.doubt(place, day, TODAY, FILLERS) is None
    for day in (date(2028, 11, 6), date(2062, 1, 1), date(1899, 12, 31)):
        found = plausibility.doubt(place, day, TODAY, FILLERS)
        assert found is not None
        assert found.refuses


@pytest.mark.parametrize(
    "born", [date(2026, 11, 6), date(2048, 6, 18), date(1895, 11, 5), date(48, 6, 18), date(1900, 1, 1)]
)
def test_a_birth_date_that_nobody_has_is_refused(born: date) -> None:
    found = plausibility.doubt("person.birth_date", born, TODAY, FILLERS)
    assert found is not None
    assert found.refuses


@pytest.mark.parametrize("born", [TODAY, date(1896, 1, 1), date(1970, 1, 1), date(1948, 6, 18)])
def test_a_birth_date_of_a_living_person_is_taken(born: date) -> None:
    assert plausibility.doubt("person.birth_date", born, TODAY, FILLERS) is None


@pytest.mark.parametrize("place", [*PAST, *EXPECTED])
def test_a_filler_elsewhere_counts_as_not_given(place: str) -> None:
    found = plausibility.doubt(place, date(1900, 1, 1), TODAY, FILLERS)
    assert found is not None
    assert not found.refuses
    assert plausibility.doubt(place, date(1900, 1, 1), TODAY, NO_FILLERS) is None


def test_a_leap_day_is_expected_up_to_the_last_of_february() -> None:
    assert plausibility.doubt("expected_discharge_on", date(2028, 2, 29), date(2026, 2, 28), FILLERS) is not None
    assert plausibility.doubt("expected_discharge_on", date(2030, 2, 28), date(2028, 2, 29), FILLERS) is None


@pytest.mark.parametrize(("ahead", "refused"), [(-1, False), (300, False), (301, True), (86_400, True)])
def test_a_message_may_be_five_minutes_ahead(ahead: int, refused: bool) -> None:
    received_at = datetime(2026, 11, 5, 9, 30, tzinfo=UTC)
    assert plausibility.is_ahead(received_at + timedelta(seconds=ahead), received_at) is refused


def test_a_message_without_a_time_is_not_ahead() -> None:
    assert not plausibility.is_ahead(None, datetime(2026, 11, 5, tzinfo=UTC))


def test_today_is_the_day_in_london() -> None:
    assert plausibility.today(datetime(2026, 7, 1, 23, 30, tzinfo=UTC)) == date(2026, 7, 2)


@pytest.mark.parametrize(
    "code", ["LE13 1DB", "LE1 1DB", "M1 1AA", "W1A 4WW", "SW1A 1AA", "EC1A 1BB", "CV13 0DE", "ZZ99 3VZ"]
)
def test_every_form_of_postcode_is_one(code: str) -> None:
    assert plausibility.has_postcode_form(code)


@pytest.mark.parametrize(
    "code", ["LE1O 1DU", "LE13 1OB", "QE1 1DU", "LE13 1D8", "LEI3 1DB", "LE13 IDB", "LE131 1DB", "LE131DB"]
)
def test_letters_and_digits_in_the_wrong_place_are_no_postcode(code: str) -> None:
    assert not plausibility.has_postcode_form(code)
