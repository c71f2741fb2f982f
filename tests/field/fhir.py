"""FHIR messages (BaRS) as partners' systems write them; most cases are data, in fhir.yaml."""

import uuid
from typing import Any

from infra.demo import letter
from tests.field import installation, scripted
from tests.field.case import Unplayed, Wrong, case
from tests.field.expectation import Answer
from tests.field.fresh import Fresh
from tests.field.installation import Installation

BROOK_STREET_MAILBOX = "X26ABC2"
LETTER_SECONDS = 120


def _send(hub: Installation, body: bytes, sender: str, conversation: str | None) -> Answer:
    return hub.fhir(body, sender, conversation)


@case("fhir/letter-subject-polish")
def letter_subject_polish(addresses: dict[str, Any]) -> None:
    """The subject of the MESH message names the person, every letter of it."""
    hub, script = installation.of(addresses), scripted.script("fhir/letter-subject-polish")
    answer = hub.fhir(Fresh().bytes(script.files[0].read_bytes()), script.sender, str(uuid.uuid4()))
    if answer.code != 200:
        raise Wrong(f"answered {answer.code}, expected 200")
    subject = installation.until(lambda: _subject(hub, answer.reference), LETTER_SECONDS)
    if subject is None:
        raise Unplayed(f"no letter came within {LETTER_SECONDS} s")
    if not any(name in subject.casefold() for name in ("lucja lukaszewicz", "łucja łukaszewicz")):
        raise Wrong(f"the subject is {subject!r}")


def _subject(hub: Installation, reference: str | None) -> str | None:
    letters = hub.letters(BROOK_STREET_MAILBOX)
    return next((subject for subject, body in letters if letter.read(body).reference == reference), None)


scripted.register("fhir", _send, scripted.judge_effects)
