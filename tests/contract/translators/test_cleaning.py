"""Cleaning: words keep every letter and every gap, codes keep every digit and separator, and nothing invisible is left."""

import re
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.intake.translators import cleaning

JOINERS = "\u200c\u200d"
INVISIBLE = "".join(group.characters for group in cleaning.CLEANED if group.effect == "removed")
GAPS = "".join(group.characters for group in cleaning.CLEANED if group.effect != "removed")
UNDEFINED_IN_1252 = "\x81\x8d\x8f\x90\x9d"
ODD = st.sampled_from(INVISIBLE + GAPS + JOINERS + UNDEFINED_IN_1252 + "\x92\x85 ,.-/0a\ufffd\u0627\u0301")
TEXTS = st.text(st.one_of(ODD, st.characters()), max_size=40)
PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E))


def words(text: str) -> list[str]:
    """Split at everything that is a gap, after what cannot be seen was taken away."""
    seen = re.sub(f"[{re.escape(INVISIBLE + JOINERS)}]", "", text)
    return re.split(f"[ {re.escape(GAPS + UNDEFINED_IN_1252)}]+", seen)


def windows(text: str) -> str:
    return re.sub("[\x80-\x9f]", lambda one: one[0].encode("latin-1").decode("windows-1252"), text)


def is_shown(one: str) -> bool:
    return one not in INVISIBLE and one not in GAPS and not "\x80" <= one <= "\x9f"


@given(TEXTS)
def test_cleaning_a_clean_text_changes_nothing(text: str) -> None:
    assert cleaning.line(cleaning.line(text)) == cleaning.line(text)
    assert cleaning.prose(cleaning.prose(text)) == cleaning.prose(text)
    code = cleaning.code(text)
    assert code is None or cleaning.code(code) == code


@given(TEXTS)
def test_no_word_is_cut_and_no_two_are_joined(text: str) -> None:
    sent = [windows(one) for one in words(text)]
    assert [one for one in words(cleaning.line(text)) if one] == [one for one in sent if one]


@given(TEXTS)
def test_nothing_invisible_is_left(text: str) -> None:
    assert all(is_shown(one) for one in cleaning.line(text))
    assert all(is_shown(one) or one == "\n" for one in cleaning.prose(text))
    assert cleaning.line(text) == " ".join(cleaning.prose(text).split())


@given(PRINTABLE)
def test_printable_ascii_is_unchanged_but_for_its_edges(text: str) -> None:
    assert cleaning.prose(text) == cleaning.code(text) == text.strip()
    assert cleaning.line(text) == " ".join(text.split())


@given(TEXTS)
def test_a_code_keeps_every_digit_and_separator(text: str) -> None:
    code = cleaning.code(text)
    if code is not None:
        kept = re.sub(f"[{re.escape(INVISIBLE + JOINERS)}]", "", text)
        assert [one for one in kept if not one.isspace()] == [one for one in code if one != " "]
        assert code.isprintable()


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("\u200bMary\u00a0Ann\u202e", "Mary Ann"),
        ("O\x92Dowd", "O\u2019Dowd"),
        ("Ann\u0007Lord", "Ann Lord"),
        ("Flat 1\r\n2\u2028High  Street", "Flat 1 2 High Street"),
        ("\u0646\u0627\u0645\u0647\u200c\u0627\u06cc\u200c", "\u0646\u0627\u0645\u0647\u200c\u0627\u06cc"),
        ("a \u200d b", "a b"),
        ("A\ud800B", "A B"),
    ],
)
def test_words_are_read_as_they_were_meant(sent: str, meant: str) -> None:
    assert cleaning.line(sent) == meant


def test_prose_keeps_its_lines() -> None:
    assert cleaning.prose(" Rail \r\n\tby\rthe\x0bdoor\u2029 ") == "Rail \n by\nthe\ndoor"


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ("\ufeff 943\u00a0476\u200b 5919\t", "943 476 5919"),
        ("12,000", "12,000"),
        ("12.000", "12.000"),
        ("", ""),
        ("12\t000", None),
        ("12\x92", None),
        ("12\ufffd", None),
        ("12\ue000", None),
        ("12\x1c", None),
    ],
)
def test_codes_are_strict(sent: str, code: str | None) -> None:
    assert cleaning.code(sent) == code


@pytest.mark.parametrize(
    "text",
    [
        "O?Dowd",
        "Ren?e",
        "Ren\ufffde",
        "O&#39;Dowd",
        "Ã la carte",
        "Smith &amp; Son",
        "Oâ€™Dowd",
        "RenÃ©e",
        "FranÃ§ois",
        "VoilÃ",
        "Â£5",
        "ï»¿Ann",
    ],
)
def test_spoilt_letters_are_found(text: str) -> None:
    assert cleaning.is_spoilt(text)


@pytest.mark.parametrize(
    "text", ["O'Dowd", "Renée", "JOSÉ’S café", "MAÇÃ", "SMØ»", "Is she in? No", "Smith & Sons; Leeds", "Ærø", "A&E;"]
)
def test_letters_that_are_meant_are_not_spoilt(text: str) -> None:
    assert not cleaning.is_spoilt(text)


def test_every_latin_letter_that_was_misread_is_spoilt() -> None:
    letters = [chr(code) for code in range(0xC0, 0x180) if chr(code).isalpha()]
    read = [letter.encode().decode("windows-1252", "replace") for letter in letters]
    assert all(cleaning.is_spoilt(one) for one in read)


@pytest.mark.parametrize("name", ["", "-", "...", "\u200b", "\u3164", "?", "_", "\u2800"])
def test_what_has_no_letter_is_not_a_name(name: str) -> None:
    assert cleaning.is_nothing(name)


@pytest.mark.parametrize("name", ["O", "Щ", "李", "3"])
def test_one_letter_is_a_name(name: str) -> None:
    assert not cleaning.is_nothing(name)


def test_the_table_names_every_invisible_and_control_character() -> None:
    """Format characters that show something (Arabic and other number signs, hieroglyphs) are left as they are."""
    shown = {
        "Cf": set(range(0x600, 0x606))
        | {0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}
        | set(range(0x13430, 0x13440))
    }
    listed = {ord(one) for one in INVISIBLE + GAPS + JOINERS}
    for code in range(sys.maxunicode + 1):
        category = unicodedata.category(chr(code))
        if category in ("Cc", "Cf", "Cs", "Zl", "Zp") or (category == "Zs" and code != 0x20):
            assert code in listed | set(range(0x80, 0xA0)) | shown.get(category, set()), hex(code)
