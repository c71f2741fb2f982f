"""NHS numbers: the package's answer against a sum written down here, on numbers that no person has."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from schemas.nhs_number import NhsNumber, VerificationStatus, is_valid, normalise
from schemas.referral import Person
from tests.schemas.anything import WRITABLE, an_nhs_number, check_digit

NOBODYS = ["999", "5"]
"""999 is for tests, and numbers from 5 are not issued (NHS Data Dictionary): between them they try nine of ten weights."""

NUMBER: TypeAdapter[str] = TypeAdapter(NhsNumber)

ten_digits = st.sampled_from(NOBODYS).flatmap(
    lambda prefix: st.text("0123456789", min_size=10 - len(prefix), max_size=10 - len(prefix)).map(prefix.__add__)
)
a_valid_number = st.sampled_from(NOBODYS).flatmap(an_nhs_number)


@pytest.mark.parametrize("digit", "0123456789")
def test_ten_equal_digits_are_not_a_number(digit: str) -> None:
    assert not is_valid(digit * 10)


@given(ten_digits)
def test_the_package_and_our_check_digit_agree(number: str) -> None:
    assume(len(set(number)) > 1)
    assert is_valid(number) == (str(check_digit(number[:9])) == number[9])


@given(a_valid_number)
def test_a_valid_number_is_accepted_unchanged(number: str) -> None:
    assert NUMBER.validate_python(number) == number


@given(a_valid_number, st.integers(0, 9), st.integers(1, 9))
def test_one_wrong_digit_is_always_found(number: str, place: int, more: int) -> None:
    wrong = number[:place] + str((int(number[place]) + more) % 10) + number[place + 1 :]
    assert not is_valid(wrong)


@given(a_valid_number, st.integers(0, 8))
def test_two_swapped_digits_are_always_found(number: str, place: int) -> None:
    assume(number[place] != number[place + 1])
    wrong = number[:place] + number[place + 1] + number[place] + number[place + 2 :]
    assert not is_valid(wrong)


@given(a_valid_number, st.lists(st.tuples(st.integers(0, 10), st.sampled_from(" -")), max_size=5))
def test_spaces_and_hyphens_are_removed(number: str, marks: list[tuple[int, str]]) -> None:
    written = number
    for place, mark in marks:
        written = written[:place] + mark + written[place:]
    assert normalise(written) == NUMBER.validate_python(written) == number


@given(st.text(WRITABLE, max_size=15))
def test_text_that_is_not_ten_ascii_digits_is_never_valid(text: str) -> None:
    assume(not (len(text) == 10 and text.isascii() and text.isdigit()))
    assert not is_valid(text)


@pytest.mark.parametrize("number", ["", "999", "99900000020", "٩٩٩٠٠٠٠٠٠٢", "999000000２", "999 000 000", "+999000002"])
def test_other_digits_signs_and_lengths_are_rejected(number: str) -> None:
    with pytest.raises(ValidationError):
        NUMBER.validate_python(number)


@given(ten_digits)
def test_no_error_repeats_the_number(number: str) -> None:
    assume(not is_valid(number))
    with pytest.raises(ValidationError, match="ten digits") as refused:
        Person(nhs_number=number)
    assert number not in str(refused.value)


def test_a_number_is_verified_only_if_its_sender_states_it() -> None:
    assert Person().nhs_number_status is VerificationStatus.NOT_STATED
