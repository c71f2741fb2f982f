"""Reads a letter that came over MESH as its practice would: an ITK3 message (FHIR STU3, XML), by its words alone."""

import base64
import re
from dataclasses import dataclass
from xml.etree.ElementTree import Element, fromstring

FHIR = {"f": "http://hl7.org/fhir"}
REFERENCE = re.compile(r"LB(?:-[0-9A-Z]{4}){3}")
STATUS_ONLY = re.compile(r"^Status of your referral \S+ on .*?: (?P<status>.*)\.$")
SAYS = {
    "Your cancellation of": "cancellation-refused",
    "Your update of": "update-refused",
    "was received on": "received",
    "is with": "home-hub",
    "accepted": "accepted",
    "has been waiting since": "on-hold",
    "A Housing MOT was done on": "assessed",
    "was completed on": "completed",
    "was returned to you on": "rejected",
    "was cancelled on": "cancelled",
}
"""What the first sentence says, and what that tells."""


@dataclass(frozen=True)
class Letter:
    """What a practice would note. `told` is None in a letter that says the status only."""

    id: str
    reference: str
    told: str | None
    status: str
    done: tuple[str, ...]
    names_person: bool


class Unreadable(Exception):
    """The message holds no letter that a practice could file."""


def read(message: bytes) -> Letter:
    """The letter in a message; raises Unreadable."""
    bundle = fromstring(message)  # noqa: S314 - from our own sandbox; a practice's system would harden this
    page = fromstring(_page(bundle).partition(">")[2])  # noqa: S314 - and so is this
    sections = _sections(page)
    said = sections.get("What we have to tell you", [])
    sentence = " ".join(said[0].itertext()) if said else ""
    found, only = REFERENCE.search(sentence), STATUS_ONLY.match(sentence)
    if found is None:
        raise Unreadable("the letter's first sentence gives no reference")
    return Letter(
        id=_value(bundle, "f:id"),
        reference=found[0],
        told=None if only else told_by(sentence),
        status=only["status"] if only else "",
        done=tuple(_done(sections.get("What was done", []))),
        names_person=bundle.find(".//f:Patient/f:name", FHIR) is not None,
    )


def told_by(sentence: str) -> str:
    """What a letter's first sentence tells."""
    return next((what for words, what in SAYS.items() if words in sentence), "something else")


def _page(bundle: Element) -> str:
    """The attached page, without its document type."""
    binary = bundle.find(".//f:Binary/f:content", FHIR)
    if binary is None:
        raise Unreadable("no letter is attached")
    return base64.b64decode(binary.attrib["value"]).decode()


def _value(element: Element, path: str) -> str:
    found = element.find(path, FHIR)
    return found.attrib["value"] if found is not None else ""


def _sections(page: Element) -> dict[str, list[Element]]:
    """What stands below each heading."""
    found: dict[str, list[Element]] = {}
    heading = ""
    for element in page[-1]:
        if element.tag.endswith("h2"):
            heading = element.text or ""
        else:
            found.setdefault(heading, []).append(element)
    return found


def _done(section: list[Element]) -> list[str]:
    """The second column of the table."""
    rows = [row for table in section for row in table if table.tag.endswith("table")][1:]
    return ["".join(row[1].itertext()) for row in rows]
