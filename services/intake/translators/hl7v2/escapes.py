"""Escape sequences of HL7 v2 texts (chapter 2, "Use of escape sequences in text fields")."""

import re
from collections.abc import Mapping

_SIMPLE = {"H": "", "N": "", ".br": "\n", ".ce": "\n", ".fi": "", ".nf": "", ".sp": "\n"}
"""Highlighting is dropped; line commands become a line end. `_COMMAND` covers those with a number, such as `.sp+1`."""

_COMMAND = re.compile(r"\.(sp|sk|in|ti)[+-]?[0-9]{1,3}")
_HEX = re.compile(r"X((?:[0-9A-Fa-f]{2})+)")
UNFIT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters except tab and line ends, and lone surrogates: not allowed in a text."""


def unescape(text: str, escape: str, means: Mapping[str, str], encoding: str) -> str | None:
    """Resolve the escape sequences of a text; None if one is unknown or unterminated, or for a control character.

    `means`: the meanings of F, S, T, R and E in this message. Hexadecimal data is text in the message's encoding.
    """
    if escape in text:
        parts = text.split(escape)
        resolved = [part if index % 2 == 0 else _meaning(part, means) for index, part in enumerate(parts)]
        if len(parts) % 2 == 0 or None in resolved:
            return None
        try:
            # As bytes: a character may be escaped byte by byte.
            text = b"".join(p if isinstance(p, bytes) else (p or "").encode(encoding) for p in resolved).decode(
                encoding
            )
        except UnicodeDecodeError:
            return None
    return None if UNFIT.search(text) else text.replace("\r\n", "\n").replace("\r", "\n")


def _meaning(sequence: str, means: Mapping[str, str]) -> str | bytes | None:
    if sequence in means:
        return means[sequence]
    if sequence in _SIMPLE:
        return _SIMPLE[sequence]
    if command := _COMMAND.fullmatch(sequence):
        return {"sp": "\n", "sk": " "}.get(command[1], "")
    match = _HEX.fullmatch(sequence)
    return bytes.fromhex(match[1]) if match else None
