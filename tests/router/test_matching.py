"""Two referrals are about one person, or they are not; who comes first does not matter."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.nhs_number import VerificationStatus
from schemas.referral import Person
from schemas.text import ascii_spelling, fold_name
from services.router.decide.matching import Description, Match, match
from tests.builders.events import received
from tests.builders.referrals import GP, a_person, a_referral
from tests.router.story import Story

VERIFIED, NOT_TRACED = VerificationStatus.VERIFIED, VerificationStatus.NOT_TRACED

people = st.builds(
    a_person,
    nhs_number=st.sampled_from(["9990000026", "9990000034", None]),
    nhs_number_status=st.sampled_from([VERIFIED, NOT_TRACED, VerificationStatus.NOT_STATED]),
    family_name=st.sampled_from(["O'Brien", "OBRIEN", "Ó Brien", "Vickers", None]),
    birth_date=st.sampled_from([date(1946, 3, 4), date(1964, 4, 3), None]),
)


def found(person: Person, known: Person | None = None) -> Match:
    """Return whom a referral is about, if it comes after one about `known`."""
    story = Story().when(*([received(GP, a_referral(person=known))] if known else []))
    return match(person, story.state.candidates(Description.of(person)))


@given(people, people)
def test_which_person_is_provisional_does_not_depend_on_the_order_of_arrival(one: Person, other: Person) -> None:
    """Of two with one number: (is one provisional, is the other) comes out the same in both orders."""
    if one.nhs_number is None or other.nhs_number is None or one.nhs_number != other.nhs_number:
        return
    first, second = found(other, one), found(one, other)

    assert (first.person_no is None) == (second.person_no is None)
    assert (1 in first.doubted, first.provisional) == (second.provisional, 1 in second.doubted)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("O'Brien", "OBRIEN"),
        ("Ó Brien", "o’brien"),
        ("Smith-Jones", "SMITH JONES"),
        ("Müller", "MULLER"),
        ("Łukasz", "lukasz"),
        ("Søndergård", "Sondergard"),
        ("Weiß", "WEISS"),
        ("Þórðarson", "Thordarson"),
        ("Ħaż-Żebbuġ", "Haz Zebbug"),
        ("ǾRSTED", "Orsted"),
    ],
)
def test_surnames_are_compared_without_accents_case_hyphens_and_spaces(one: str, other: str) -> None:
    assert fold_name(one) == fold_name(other)


@pytest.mark.parametrize("letter", [char for char in map(chr, range(0x180)) if char.isalpha() and char != "\u00b5"])
def test_the_letters_of_european_names_are_compared_as_mesh_headers_spell_them(letter: str) -> None:
    """Latin-1, without its micro sign, and Latin Extended-A: the table of decisions and the library of letters agree."""
    spelled = ascii_spelling(letter)
    assert spelled
    assert fold_name(letter) == fold_name(spelled)


def test_a_surname_in_another_script_is_not_reduced_to_an_empty_text() -> None:
    assert fold_name("Иванов") != fold_name("Петров")


def test_two_verified_numbers_match_without_a_surname() -> None:
    married = a_person(family_name="Carter")

    assert found(married, a_person()).person_no == 1


@pytest.mark.parametrize(
    "other", [a_person(birth_date=date(1964, 4, 3)), a_person(birth_date=None)], ids=["another", "none"]
)
def test_verified_numbers_with_different_birth_dates_are_two_provisional_persons(other: Person) -> None:
    new = found(other, a_person())

    assert (new.person_no, new.provisional, new.doubted) == (None, True, (1,))


def test_an_unverified_number_with_the_same_birth_date_and_surname_matches() -> None:
    assert found(a_person(nhs_number_status=NOT_TRACED), a_person()).person_no == 1


@pytest.mark.parametrize(
    "difference", [{"family_name": "Carter"}, {"birth_date": date(1964, 4, 3)}, {"family_name": None}]
)
def test_an_unverified_number_that_disagrees_makes_only_the_unverified_one_provisional(
    difference: dict[str, object],
) -> None:
    unverified = a_person(nhs_number_status=NOT_TRACED, **difference)

    after = found(unverified, a_person())
    before = found(a_person(), unverified)

    assert (after.person_no, after.provisional, after.doubted) == (None, True, ())
    assert (before.person_no, before.provisional, before.doubted) == (None, False, (1,))


def test_two_unverified_numbers_that_disagree_are_both_provisional() -> None:
    one = a_person(nhs_number_status=NOT_TRACED)
    other = a_person(nhs_number_status=NOT_TRACED, family_name="Carter")

    new = found(other, one)

    assert (new.provisional, new.doubted) == (True, (1,))


def test_a_person_with_an_untraced_number_is_not_provisional_for_that_reason() -> None:
    assert not found(a_person(nhs_number_status=NOT_TRACED)).provisional


def test_a_referral_without_a_number_joins_no_case() -> None:
    nobody = a_person(nhs_number=None, nhs_number_status=VerificationStatus.NOT_PRESENT)

    new = found(nobody, nobody)

    assert (new.person_no, new.tracing_reasons) == (None, ("no-number",))


def test_a_person_whose_number_failed_its_check_is_provisional() -> None:
    failed = a_person(nhs_number=None, nhs_number_status=VerificationStatus.FAILED_CHECK)

    assert found(failed).tracing_reasons == ("number-failed-check",)
