"""Read a letter sent over MESH as its practice would: an ITK3 message (FHIR STU3, XML), by its text only."""

import base64
import re
from dataclasses import dataclass
from xml.etree.ElementTree import Element, fromstring

FHIR = {"f": "http://hl7.org/fhir"}
REFERENCE = re.compile(r"LB(?:-[0-9A-Z]{4}){3}")
STATUS_ONLY = re.compile(r"^Status of your referral \S+ on .*?: (?P<status>.*)\.$")
FEEDBACK_TYPE_BY_PHRASE = {
    "Your cancellation of": "cancellation-refused",
    "Your update of": "update-refused",
    "was received on": "received",
    "is with": "home-hub",
    "accepted": "accepted",
    "has been waiting since": "on-hold",
    "A Housing MOT was done on": "assessed",
    "Part of the work on your referral .* was done on": "completed-in-part",
    "Part of your referral .* was returned to you on": "rejected-in-part",
    "Part of the work on your referral .* was cancelled on": "cancelled-in-part",
    "was completed on": "completed",
    "was returned to you on": "rejected",
    "was cancelled on": "cancelled",
    "All work on your referral .* ended on": "ended",
}
"""The feedback type by a phrase of the first sentence, as regular expressions."""


@dataclass(frozen=True)
class ReceivedLetter:
    """What a practice would note. `feedback_type` is None in a status-only letter."""

    id: str
    reference: str
    feedback_type: str | None
    status: str
    done: tuple[str, ...]
    names_person: bool


class UnreadableLetter(Exception):
    """The message does not contain a letter that a practice could file."""


def read(message: bytes) -> ReceivedLetter:
    """Return the letter in a message. Raise UnreadableLetter."""
    bundle = fromstring(message)  # noqa: S314 - from the local MESH sandbox; a practice's system would harden this
    page = fromstring(_page(bundle).partition(">")[2])  # noqa: S314 - as above
    sections = _sections(page)
    opening = sections.get("What we have to tell you", [])
    sentence = " ".join(opening[0].itertext()) if opening else ""
    reference_match, only = REFERENCE.search(sentence), STATUS_ONLY.match(sentence)
    if reference_match is None:
        raise UnreadableLetter("the letter's first sentence gives no reference")
    return ReceivedLetter(
        id=_value(bundle, "f:id"),
        reference=reference_match[0],
        feedback_type=None if only else feedback_type_of(sentence),
        status=only["status"] if only else "",
        done=tuple(_done(sections.get("What was done", []))),
        names_person=bundle.find(".//f:Patient/f:name", FHIR) is not None,
    )


def feedback_type_of(sentence: str) -> str:
    """Return the feedback type that a letter's first sentence states."""
    return next((what for phrase, what in FEEDBACK_TYPE_BY_PHRASE.items() if re.search(phrase, sentence)), "unknown")


def _page(bundle: Element) -> str:
    """Return the attached XHTML page, without its document type."""
    binary = bundle.find(".//f:Binary/f:content", FHIR)
    if binary is None:
        raise UnreadableLetter("no letter is attached")
    return base64.b64decode(binary.attrib["value"]).decode()


def _value(element: Element, path: str) -> str:
    child = element.find(path, FHIR)
    return child.attrib["value"] if child is not None else ""


def _sections(page: Element) -> dict[str, list[Element]]:
    """Return the elements below each heading."""
    sections: dict[str, list[Element]] = {}
    heading = ""
    for element in page[-1]:
        if element.tag.endswith("h2"):
            heading = element.text or ""
        else:
            sections.setdefault(heading, []).append(element)
    return sections


def _done(section: list[Element]) -> list[str]:
    """Return the second column of the table."""
    rows = [row for table in section for row in table if table.tag.endswith("table")][1:]
    return ["".join(row[1].itertext()) for row in rows]
