"""Names in ASCII: every letter of Unicode is spelled by the library, or has no spelling."""

import sys
import unicodedata

import pytest
from anyascii import anyascii
from hypothesis import given
from hypothesis import strategies as st

from schemas.text import ascii_spelling

LETTERS = [
    char for char in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(char) in ("Ll", "Lu", "Lo", "Lt")
]
ALPHABETS = ("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "GEORGIAN", "HEBREW")


def test_every_letter_that_the_library_knows_has_a_spelling_and_no_other() -> None:
    known = [letter for letter in LETTERS if any(map(anyascii, unicodedata.normalize("NFC", letter)))]
    assert len(known) > 100_000
    assert [letter for letter in known if not _is_header(ascii_spelling(letter))] == []
    assert {ascii_spelling(letter) for letter in set(LETTERS) - set(known)} == {None}


@pytest.mark.parametrize("alphabet", ALPHABETS)
def test_no_letter_of_an_alphabet_of_europe_is_without_a_spelling(alphabet: str) -> None:
    letters = [letter for letter in LETTERS if unicodedata.name(letter, "").startswith(f"{alphabet} ")]
    assert letters
    assert [letter for letter in letters if ascii_spelling(letter) is None] == []


@given(st.text())
def test_a_spelling_is_printable_ascii_and_loses_no_letter(text: str) -> None:
    spelled = ascii_spelling(text)
    assert spelled is None or _is_header(spelled)
    letters = filter(str.isalpha, unicodedata.normalize("NFC", text))
    spellings = [ascii_spelling(letter) for letter in letters]
    assert spelled is None or all(one and one in spelled for one in spellings)


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1))
def test_ascii_stays_as_it_is(text: str) -> None:
    assert ascii_spelling(text) == text


def _is_header(text: str | None) -> bool:
    return bool(text) and text is not None and text.isascii() and text.isprintable() and text == text.strip()
