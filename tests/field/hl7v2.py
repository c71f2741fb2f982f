"""HL7 v2 messages over MLLP as hospitals' systems write them; most cases are data, in hl7v2.yaml."""

import re
from typing import Any

from tests.field import scripted
from tests.field.case import case
from tests.field.expectation import Answer
from tests.field.installation import Installation

PARTNERS_PAGE = scripted.HERE.parents[1] / "docs" / "partners" / "uhl.md"


def _send(hub: Installation, body: bytes, sender: str, _conversation: str | None) -> Answer:
    return hub.hl7v2(body, sender)


@case("hl7v2/diagnosis-in-words")
def diagnosis_in_words(addresses: dict[str, Any]) -> None:
    """The words of DG1-3 are read if the partner's page promises it."""
    if re.search(r"^\| *DG1-3 .*\b(words|text)\b", PARTNERS_PAGE.read_text(), re.M):
        scripted.judge_topics(scripted.script("hl7v2/diagnosis-in-words"), _send, addresses)


scripted.register("hl7v2", _send)
