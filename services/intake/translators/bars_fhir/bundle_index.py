"""The resources of a BaRS message: their positions and the references between them."""

from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar, cast

from services.intake.translators.bars_fhir.in_force import time_of_message
from services.intake.translators.bars_fhir.models import (
    Bundle,
    CodeableConcept,
    FhirCoding,
    Reference,
    Resource,
    resource_type,
)
from services.intake.translators.translator import Issue, fhir_path

R = TypeVar("R", bound=Resource)

SNOMED = "http://snomed.info/sct"


class BundleIndex:
    """The resources of a Bundle, found by type or by reference. `issues` collects their faults.

    `time`: when the message was made, at which everything in it is judged.
    """

    def __init__(self, bundle: Bundle, resources: list[tuple[int, Resource]], received_at: datetime) -> None:
        self.bundle = bundle
        self.time = time_of_message(bundle, received_at)
        self.issues: list[Issue] = []
        self._place = {id(resource): index for index, resource in resources}
        self._named: dict[str, Resource] = {}
        self._kinds: dict[type[Resource], list[Resource]] = {}
        for index, resource in resources:
            kind = type(resource)
            self._kinds.setdefault(kind, []).append(resource)
            if full_url := bundle.entry[index].fullUrl:
                self._named.setdefault(full_url, resource)
            if resource.id:
                self._named.setdefault(f"{resource_type(kind)}/{resource.id}", resource)
                self._named.setdefault(f"urn:uuid:{resource.id}", resource)

    def find(self, reference: Reference | None, kind: type[R]) -> R | None:
        """Return the resource of this type that a reference names, or None."""
        resource = self._named.get(reference.reference) if reference and reference.reference else None
        return resource if isinstance(resource, kind) else None

    def find_all(self, references: list[Reference], kind: type[R]) -> Iterator[R]:
        """Yield the resources of this type that the references name."""
        return (resource for reference in references if (resource := self.find(reference, kind)) is not None)

    def all(self, kind: type[R]) -> Iterator[R]:
        """Iterate over all resources of this type, in order."""
        return iter(cast(list[R], self._kinds.get(kind, [])))

    def full_url(self, resource: Resource) -> str | None:
        """Return the fullUrl of a resource's entry."""
        return self.bundle.entry[self._place[id(resource)]].fullUrl

    def index(self, resource: Resource) -> int:
        """Return the index of a resource's entry in the Bundle."""
        return self._place[id(resource)]

    def at(self, resource: Resource, *loc: int | str) -> str:
        """Return the FHIRPath of a place in a resource, such as Bundle.entry[3].resource.identifier[0].value."""
        return fhir_path("Bundle", ("entry", self._place[id(resource)], "resource", *loc))

    def add_issue(self, resource: Resource, loc: tuple[int | str, ...], kind: Any, explanation: str) -> None:
        """Add a fault at a place in a resource."""
        self.issues.append(Issue(self.at(resource, *loc), kind, explanation))


# ---- codes ----------------------------------------------------------------------------------------------------------


def is_system(actual: str | None, expected: str) -> bool:
    """Return whether a system URI is the published one or a variant that senders use (http or https, Id or id)."""
    return actual is not None and _plain(actual) == _plain(expected)


@lru_cache(maxsize=500)
def _plain(system: str) -> str:
    return system.lower().removeprefix("https://").removeprefix("http://").removesuffix("/")


def codes(concept: CodeableConcept | None, system: str) -> list[str]:
    """Return the codes of a concept in this system."""
    return [c.code for c in (concept.coding if concept else []) if c.code and is_system(c.system, system)]


def code_in(concepts: list[CodeableConcept], system: str) -> str | None:
    """Return the first code in this system, or None."""
    return next((code for concept in concepts for code in codes(concept, system)), None)


def snomed(concept: CodeableConcept | None) -> list[dict[str, str | None]]:
    """Return the SNOMED CT codings of a concept, as canonical codings."""
    codings: list[FhirCoding] = concept.coding if concept else []
    return [
        {"system": SNOMED, "code": c.code, "display": line(c.display)}
        for c in codings
        if c.code and is_system(c.system, SNOMED)
    ]


def display_text(concept: CodeableConcept | None) -> str | None:
    """Return a concept's text for people: its text, else the display of its first coding that has one."""
    if concept is None:
        return None
    return line(concept.text) or next((line(c.display) for c in concept.coding if c.display), None)


def line(value: str | None) -> str | None:
    """Return a text without blanks around it; None if it is empty."""
    return (value.strip() or None) if value else None
