"""New people and references for an input: every played case is about somebody whom the installation has not met."""

import re
import secrets
import uuid
from collections.abc import Collection, Iterable

UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
NHS_NUMBER = r"\b(?!9{10})999[0-9]{7}\b"
"""Synthetic numbers only. Ten equal digits stay as they are: they are nobody's."""
HL7_IDS = r"\bFT-?[0-9]{3,5}\b|\bS066[0-9]{4}\b"
"""MSH-10, RF1-6 and hospital numbers, as the inputs in hl7v2/ write them."""


class Fresh:
    """Replaces the ids of inputs by new ones, the same throughout one case, and turns answers back."""

    def __init__(self, more: Iterable[str] = ()) -> None:
        named = [rf"(?<![0-9]){re.escape(one)}(?![0-9])" for one in more]
        self._pattern = re.compile("|".join([UUID, NHS_NUMBER, HL7_IDS, *named]))
        self._new: dict[str, str] = {}

    def text(self, text: str) -> str:
        """The text with new ids for the input's."""
        return self._pattern.sub(lambda found: self._new.setdefault(found[0], _another(found[0])), text)

    def bytes(self, data: bytes) -> bytes:
        """The same for bytes in any encoding that holds ASCII."""
        return self.text(data.decode("latin-1")).encode("latin-1")

    def back(self, text: str) -> str:
        """The text with the input's ids again, so that expectations can name them."""
        for old, new in self._new.items():
            text = text.replace(new, old)
        return text

    def is_in(self, text: str, more: Collection[str]) -> bool:
        """Return True if the text holds one of the new ids, or one of `more`."""
        return any(one in text for one in (*self._new.values(), *more))


def _another(old: str) -> str:
    if re.fullmatch(UUID, old):
        return str(uuid.uuid4())
    if re.fullmatch(NHS_NUMBER, old):
        return nhs_number()
    prefix = re.match(r"[^0-9]*", old)
    assert prefix
    return prefix[0] + str(10**9 + secrets.randbelow(9 * 10**9))


def nhs_number() -> str:
    """A synthetic NHS number (999 ...) that passes the modulus 11 check."""
    while True:
        digits = f"999{secrets.randbelow(9 * 10**5):06d}"
        check = 11 - sum(int(digit) * (10 - place) for place, digit in enumerate(digits)) % 11
        if check != 10:
            return digits + str(check % 11)
