"""Text: what PostgreSQL can store of it, and how it is compared."""

import re
import unicodedata

_ESCAPED_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def is_storable(text: str) -> bool:
    """Return whether PostgreSQL can store the text: it holds neither NUL nor lone surrogates."""
    return text == storable(text)


def storable(text: str) -> str:
    """Return the text with each character that PostgreSQL cannot store replaced."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")


def is_storable_json(body: bytes) -> bool:
    """Return whether PostgreSQL can store the texts of a JSON document: none contains NUL, raw or escaped."""
    return b"\x00" not in body and not (b"\\u0000" in body and _ESCAPED_NUL.search(body))


def fold(text: str) -> str:
    """Return the text as codes and phrases are compared: case folded, runs of blanks reduced to one."""
    return " ".join(text.split()).casefold()


def fold_name(name: str | None) -> str:
    """Return a surname without accents, case, hyphens, apostrophes and blanks, which people write differently."""
    if name is None:
        return ""
    if name.isascii():
        return "".join(filter(str.isalnum, name.lower()))
    spread = unicodedata.normalize("NFKD", name.translate(_LETTERS)).casefold()
    return "".join(letter for letter in unicodedata.normalize("NFKD", spread) if letter.isalnum())


_LETTERS = str.maketrans(
    {"ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "ı": "i", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE"}
)
"""Letters that Unicode does not decompose into a letter and a combining mark."""
