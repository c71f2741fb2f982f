"""A BaRS message as it was read: its resources, where each stands, and how they refer to one another."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, TypeVar, cast

from pydantic import ValidationError

from services.intake.translators import json_text
from services.intake.translators.bars_fhir.models import (
    READ,
    Bundle,
    CodeableConcept,
    FhirCoding,
    Reference,
    Resource,
    resource_type,
)
from services.intake.translators.translator import Issue, Rejection, fhir_path, issues_of, reject

R = TypeVar("R", bound=Resource)

SNOMED = "http://snomed.info/sct"


class BundleIndex:
    """The resources of a Bundle, found by type or by reference. `faults` gathers what is wrong with them."""

    def __init__(self, bundle: Bundle, resources: list[tuple[int, Resource]]) -> None:
        self.bundle = bundle
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
        """The resource of this kind that a reference names, or none."""
        resource = self._named.get(reference.reference) if reference and reference.reference else None
        return resource if isinstance(resource, kind) else None

    def find_all(self, references: list[Reference], kind: type[R]) -> Iterator[R]:
        """Those of the references that name a resource of this kind."""
        return (resource for reference in references if (resource := self.find(reference, kind)) is not None)

    def all(self, kind: type[R]) -> Iterator[R]:
        """Every resource of this kind, in order."""
        return iter(cast(list[R], self._kinds.get(kind, [])))

    def full_url(self, resource: Resource) -> str | None:
        """The fullUrl of a resource's entry."""
        return self.bundle.entry[self._place[id(resource)]].fullUrl

    def index(self, resource: Resource) -> int:
        """Which entry of the Bundle holds a resource."""
        return self._place[id(resource)]

    def at(self, resource: Resource, *loc: int | str) -> str:
        """FHIRPath of a place in a resource: Bundle.entry[3].resource.identifier[0].value."""
        return fhir_path("Bundle", ("entry", self._place[id(resource)], "resource", *loc))

    def add_issue(self, resource: Resource, loc: tuple[int | str, ...], kind: Any, explanation: str) -> None:
        """Note that something is wrong there."""
        self.issues.append(Issue(self.at(resource, *loc), kind, explanation))


def read(body: bytes) -> tuple[BundleIndex, Any] | Rejection:
    """The message in these bytes and its JSON, or what is wrong with its form."""
    raw = json_text.read(body, "Bundle")
    if isinstance(raw, Rejection):
        return raw
    if not isinstance(raw, dict) or raw.get("resourceType") != "Bundle":
        return reject(Issue("Bundle", "invalid", "a FHIR Bundle of type message is expected"))
    try:
        bundle = Bundle.model_validate(raw)
    except ValidationError as error:
        return Rejection(issues_of(error, lambda loc: fhir_path("Bundle", loc)))
    return _resources(bundle, raw)


def _resources(bundle: Bundle, raw: Any) -> tuple[BundleIndex, Any] | Rejection:
    resources: list[tuple[int, Resource]] = []
    issues: list[Issue] = []
    for index, entry in enumerate(raw["entry"]):
        try:
            resource = _resource(entry.get("resource"))
        except ValidationError as error:
            issues += issues_of(error, lambda loc, at=index: fhir_path("Bundle", ("entry", at, "resource", *loc)))  # type: ignore[misc]  # a lambda's default
            continue
        if resource is None:
            place = fhir_path("Bundle", ("entry", index, "resource", "resourceType"))
            issues.append(Issue(place, "required", "each entry holds a resource that says its type"))
        elif resource is not _PASSED_OVER:
            resources.append((index, resource))
    return Rejection(tuple(issues[:50])) if issues else (BundleIndex(bundle, resources), raw)


_PASSED_OVER = Resource()


def _resource(raw: Any) -> Resource | None:
    kind = raw.get("resourceType") if isinstance(raw, dict) else None
    if not isinstance(kind, str) or not kind:
        return None
    model = READ.get(kind)
    return model.model_validate(raw) if model else _PASSED_OVER


# ---- codes ----------------------------------------------------------------------------------------------------------


def is_system(actual: str | None, expected: str) -> bool:
    """True for a system URI as published, or with the http/https and Id/id variants that real senders use."""
    return actual is not None and _plain(actual) == _plain(expected)


@lru_cache(maxsize=500)
def _plain(system: str) -> str:
    return system.lower().removeprefix("https://").removeprefix("http://").removesuffix("/")


def codes(concept: CodeableConcept | None, system: str) -> list[str]:
    """The codes that a concept has in this system."""
    return [c.code for c in (concept.coding if concept else []) if c.code and is_system(c.system, system)]


def code_in(concepts: list[CodeableConcept], system: str) -> str | None:
    """The first code in this system."""
    return next((code for concept in concepts for code in codes(concept, system)), None)


def snomed(concept: CodeableConcept | None) -> list[dict[str, str | None]]:
    """SNOMED CT codings of a concept, as canonical codings."""
    codings: list[FhirCoding] = concept.coding if concept else []
    return [
        {"system": SNOMED, "code": c.code, "display": line(c.display)}
        for c in codings
        if c.code and is_system(c.system, SNOMED)
    ]


def display_text(concept: CodeableConcept | None) -> str | None:
    """What a concept says to a reader: its text, else the words of its first code."""
    if concept is None:
        return None
    return line(concept.text) or next((line(c.display) for c in concept.coding if c.display), None)


def line(value: str | None) -> str | None:
    """A text without blanks around it; none where nothing is left."""
    return (value.strip() or None) if value else None
