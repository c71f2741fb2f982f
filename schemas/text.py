"""Text: what PostgreSQL can store of it, how it is compared, and how it is spelled in ASCII."""

import re
import unicodedata

from anyascii import anyascii

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


def ascii_spelling(text: str) -> str | None:
    """Return the text in printable ASCII: Łucja is Lucja, Щербакова is Shcherbakova.

    Return None if nothing is left, or if one of its letters has no spelling: a name is never shortened.
    """
    spelled = []
    for character in unicodedata.normalize("NFC", text):
        ascii_only = " " if character.isspace() else "".join(filter(str.isprintable, anyascii(character)))
        if character.isalpha() and not ascii_only:
            return None
        spelled.append(ascii_only)
    return " ".join("".join(spelled).split()) or None


def fold_name(name: str | None) -> str:
    """Return a surname without accents, case, hyphens, apostrophes and blanks, which people write differently."""
    if name is None:
        return ""
    if name.isascii():
        return "".join(filter(str.isalnum, name.lower()))
    spread = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", name).casefold())
    return "".join(letter for letter in spread.translate(_LETTERS) if letter.isalnum())


_SPELLED = "æ=ae ð=d đ=d ħ=h ı=i ĸ=q ł=l ŋ=ng ø=o œ=oe þ=th ŧ=t ʼ="
_LETTERS = str.maketrans(dict(pair.split("=") for pair in _SPELLED.split()))
"""Letters that Unicode does not decompose into a letter and a combining mark, spelled as in the headers of MESH.

The table is ours and not a library's, so that no update of a library changes a decision.
"""
