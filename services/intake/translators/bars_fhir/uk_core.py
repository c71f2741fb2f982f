"""UK Core's extensions and code systems that we read, under the addresses that senders use.

PDS, GP systems and older guides write the same names below https://fhir.hl7.org.uk, https://fhir.nhs.uk and
https://fhir.nhs.uk/R4, with http or https, in any case, and code systems with and without `England` at the end.
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TypeVar

from schemas.nhs_number import VerificationStatus
from services.intake.translators.bars_fhir.bundle_index import display_text
from services.intake.translators.bars_fhir.models import CodeableConcept, Extension, FhirCoding, PlainExtension

E = TypeVar("E", bound=PlainExtension)

_NAME = re.compile(
    r"https?://fhir\.(?:hl7\.org|nhs)\.uk/(?:r4/)?(?:structuredefinition/extension-|codesystem/)ukcore-([a-z]+?)(?:england)?/?"
)


@lru_cache(maxsize=500)
def name_of(uri: str | None) -> str | None:
    """Return the name of a UK Core extension or code system in small letters, without `England`; None of any other."""
    found = _NAME.fullmatch((uri or "").lower())
    return found[1] if found else None


def extensions(found: Iterable[E], name: str) -> Iterator[E]:
    """Yield the extensions `Extension-UKCore-<name>`."""
    return (one for one in found if name_of(one.url) == name.lower())


def parts(extension: Extension, name: str) -> Iterator[PlainExtension]:
    """Yield the extensions of this name inside an extension."""
    return (part for part in extension.extension if part.url == name)


def codings(concept: CodeableConcept | None, name: str) -> list[FhirCoding]:
    """Return the codings of a concept in the code system `UKCore-<name>`."""
    return [coding for coding in (concept.coding if concept else []) if name_of(coding.system) == name.lower()]


VERIFICATION_STATUSES = {
    **{status.value: status for status in VerificationStatus if len(status.value) == 2},
    "number-present-and-verified": VerificationStatus.VERIFIED,
    "number-present-but-not-traced": VerificationStatus.NOT_TRACED,
    "trace-required": VerificationStatus.TRACE_REQUIRED,
    "trace-attempted": VerificationStatus.NO_OR_MANY_MATCHES,
    "trace-needs-to-be-resolved": VerificationStatus.TO_BE_RESOLVED,
    "trace-in-progress": VerificationStatus.TRACE_IN_PROGRESS,
    "number-not-present-and-trace-not-required": VerificationStatus.NOT_PRESENT,
    "trace-postponed": VerificationStatus.POSTPONED,
}
"""Codes of NHSNumberVerificationStatusEngland and NHSNumberVerificationStatus; PDS writes the former's in the latter."""

CONTACT_METHODS = {
    "1": "letter",
    "2": "visit",
    "3": "telephone",
    "4": "email",
    "5": "minicom (textphone)",
    "6": "telephone contact via proxy",
    "7": "sign language",
    "8": "no telephone contact",
    "9": "text message",
}
"""Codes of PreferredContactMethod."""

WRITTEN_FORMATS = {"11": "large print", "12": "braille", "13": "audio tape"}
"""Codes of PreferredWrittenCommunicationFormat."""


def meaning(concept: CodeableConcept | None, system: str, table: dict[str, str]) -> str | None:
    """Return what a coded preference means in words: by our table, else by the sender's text, else its code."""
    found = codings(concept, system)
    known = next((table[coding.code] for coding in found if coding.code in table), None)
    return known or display_text(concept) or next((coding.code for coding in found if coding.code), None)
