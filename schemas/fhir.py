"""Ids and identifier systems of our FHIR resources, the same in intake's answers and in feedback.

The ServiceRequest's id is our reference. The ids of all other resources of a referral derive from the reference, so that a
receiver that stores resources by id holds one Task, one Encounter and one Patient for each referral.
"""

import hashlib
from uuid import UUID

from schemas.model import Reference

LOCAL = "https://lightbulb.example.org"
"""Base of our own code systems and identifier systems."""

USE_CASE = {"system": f"{LOCAL}/CodeSystem/usecase", "code": "housing", "display": "Housing support"}
"""Our use case, in ServiceRequest.category and in what the server states of itself."""

REFERENCE_SYSTEM = f"{LOCAL}/Id/referral-reference"
"""Identifier system of our references."""

HOME_VISIT = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "HH", "display": "home health"}
"""Class of the Encounter that stands for our work for the person."""

RESOURCES = UUID("0d2a1c0e-8a5b-5f64-9a1e-6c1f0b7d3e52")
"""Namespace of the ids of a referral's resources (RFC 9562 UUID version 5)."""


def resource_id(reference: Reference, part: str) -> str:
    """Return the id of one resource of a referral. `part`: its type, and its own identity if there may be several.

    The id reveals nothing but `reference` and `part`, so `part` holds only what the receiver of the message may read.
    """
    return derived_id(RESOURCES, f"{reference} {part}")


def organization_part(identity: str) -> str:
    """Return the part of an Organization, by its ODS code, or the id of a partner or hub."""
    return f"Organization {identity}"


OURS = organization_part("Lightbulb")
"""The part of our own Organization."""


def derived_id(namespace: UUID, name: str) -> str:
    """Return str(uuid5(namespace, name)) in a third of the time; a message has a dozen of them."""
    digest = bytearray(hashlib.sha1(namespace.bytes + name.encode(), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
