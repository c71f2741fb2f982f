"""Clean texts before they are read: the same characters in every format. Words are read leniently, codes strictly.

Nothing here cuts, joins or interprets a word. `CLEANED` is the table of what is cleaned; the partners' pages show it.
"""

import html
import re
from typing import Literal, NamedTuple

Effect = Literal["removed", "blank", "line break"]


class CleanedCharacters(NamedTuple):
    """A group of characters, as ranges of code points with both ends, and what becomes of them in words."""

    name: str
    effect: Effect
    ranges: tuple[tuple[int, int], ...]

    @property
    def characters(self) -> str:
        """All characters of the group in order."""
        return "".join(chr(code) for first, last in self.ranges for code in range(first, last + 1))


CLEANED = (
    CleanedCharacters("soft hyphens", "removed", ((0xAD, 0xAD),)),
    CleanedCharacters("zero-width spaces and byte order marks", "removed", ((0x200B, 0x200B), (0xFEFF, 0xFEFF))),
    CleanedCharacters("word joiners and invisible operators", "removed", ((0x2060, 0x2064),)),
    CleanedCharacters(
        "marks of the direction of writing",
        "removed",
        ((0x61C, 0x61C), (0x200E, 0x200F), (0x202A, 0x202E), (0x2066, 0x206F)),
    ),
    CleanedCharacters(
        "other invisible marks",
        "removed",
        (
            (0x180E, 0x180E),
            (0xFFF9, 0xFFFB),
            (0x1BCA0, 0x1BCA3),
            (0x1D173, 0x1D17A),
            (0xE0001, 0xE0001),
            (0xE0020, 0xE007F),
        ),
    ),
    CleanedCharacters("no-break spaces", "blank", ((0xA0, 0xA0), (0x202F, 0x202F))),
    CleanedCharacters(
        "spaces of other widths",
        "blank",
        ((0x1680, 0x1680), (0x2000, 0x200A), (0x205F, 0x205F), (0x3000, 0x3000)),
    ),
    CleanedCharacters("tabs", "blank", ((0x09, 0x09),)),
    CleanedCharacters("line breaks", "line break", ((0x0A, 0x0D), (0x2028, 0x2029))),
    CleanedCharacters(
        "other control characters, half characters and noncharacters",
        "blank",
        ((0x00, 0x08), (0x0E, 0x1F), (0x7F, 0x7F), (0xD800, 0xDFFF), (0xFFFE, 0xFFFF)),
    ),
)
"""What is cleaned. Also, U+0080 to U+009F are read as Windows-1252, and joiners at the edges of words are removed."""

_REPLACED: dict[Effect, str] = {"removed": "", "blank": " ", "line break": "\n"}
_WINDOWS_1252 = {code: bytes([code]).decode("windows-1252", "ignore") or " " for code in range(0x80, 0xA0)}
_IN_WORDS = {
    **{ord(one): _REPLACED[group.effect] for group in CLEANED for one in group.characters},
    **_WINDOWS_1252,
}
"""The replacement of each character of words, by its code point."""

_JOINERS = "\u200c\u200d"
_LOOSE_JOINERS = re.compile(rf"(?<!\S)[{_JOINERS}]++|(?<![{_JOINERS}])[{_JOINERS}]++(?!\S)")
"""Joiners at the edge of a word: inside words some scripts and emoji need them. A run of them is read once."""

_NO_BREAK = {ord(one) for group in CLEANED if group.effect == "blank" for one in group.characters if one > "\x7f"}
_IN_CODES = {
    **{ord(one): "" for group in CLEANED if group.effect == "removed" for one in group.characters + _JOINERS},
    **{code: " " for code in _NO_BREAK if not 0xD800 <= code <= 0xDFFF and code < 0xFFFE},
}
_EDGES_OF_CODES = " \t\n\v\f\r\u2028\u2029"

# ---- words -----------------------------------------------------------------------------------------------------------


def line(text: str) -> str:
    """Return words on one line: without invisible characters, and with one blank between words."""
    if text.isprintable():
        return " ".join(text.split()) if "  " in text else text.strip()
    return " ".join(prose(text).split())


def prose(text: str) -> str:
    r"""Return words with their line breaks, each as \n, without invisible and control characters."""
    if text.isprintable():
        return text.strip()
    cleaned = text.replace("\r\n", "\n").translate(_IN_WORDS)
    return _LOOSE_JOINERS.sub("", cleaned).strip()


def is_repaired(text: str) -> bool:
    """Return whether a text has a character of U+0080 to U+009F, which is read as Windows-1252."""
    return not text.isascii() and any("\x80" <= one <= "\x9f" for one in text)


_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")
_LOST = re.compile(r"\ufffd|[^\W\d_]\?[^\W\d_]")
_BEYOND_ASCII = bytes(range(0x80, 0xC0)).decode("windows-1252", "ignore") + "\x81\x8d\x8f\x90\x9d"
_CONTINUES = f"[{re.escape(_BEYOND_ASCII)}]"
_MISREAD = re.compile(
    rf"[\u00c2-\u00c5]{_CONTINUES}|\u00e2{_CONTINUES}{{2}}|\u00f0{_CONTINUES}{{3}}|ï»¿|ï¿½"
    r"|(?:(?<=[a-z])|(?<!\w))[\u00c2\u00c3](?!\S)"
)
"""UTF-8 that was read as Windows-1252: Latin letters, punctuation, emoji; also after a no-break space has become a blank.

Leads of other scripts are letters of real words.
"""


def is_spoilt(text: str) -> bool:
    """Return whether letters of a text were lost or changed on the way, before it is cleaned.

    Signs are U+FFFD, a question mark between letters, UTF-8 read as Windows-1252, and HTML entities. They refuse nothing.
    """
    if "&" in text and any(html.unescape(one) != one for one in _ENTITY.findall(text)):
        return True
    return ("?" in text or not text.isascii()) and bool(_LOST.search(text) or _MISREAD.search(text))


SPOILT = (
    "has letters that were lost or changed before it was sent, such as ? or &#39; in a name: correct it at the source"
)
REPAIRED = "has characters that its encoding does not have, which were read as Windows-1252: check it"


def warnings(text: str) -> tuple[str, ...]:
    """Return what the sender of words, as they were sent, has to be warned of."""
    if text.isascii() and "?" not in text and "&" not in text:
        return ()
    return (*((SPOILT,) if is_spoilt(text) else ()), *((REPAIRED,) if is_repaired(text) else ()))


_BLANK_LETTERS = "\u115f\u1160\u3164\uffa0"
"""Letters of Unicode (Hangul fillers) that show nothing."""

_LETTER_OR_DIGIT = re.compile(rf"[^\W_{_BLANK_LETTERS}]")


def is_nothing(text: str) -> bool:
    """Return whether a text has no letter and no digit: it is not a name."""
    return _LETTER_OR_DIGIT.search(text) is None


# ---- identifiers and codes -------------------------------------------------------------------------------------------


def code(text: str) -> str | None:
    """Return an identifier or code without invisible characters, and without blanks at its edges.

    Return None if a control character or anything undefined is left. Separators and blanks inside are kept, and mean nothing.
    """
    if not text.isprintable():
        text = text.translate(_IN_CODES)
    text = text.strip(_EDGES_OF_CODES)
    return text if text.isprintable() and "\ufffd" not in text else None
