"""The resources of a BaRS message: their positions and the references between them."""

from collections.abc import Iterator, Sequence
from datetime import date, datetime
from functools import lru_cache
from typing import Any, TypeVar, cast

from services.intake.translators import cleaning, plausibility
from services.intake.translators.bars_fhir import modifiers
from services.intake.translators.bars_fhir.decode import DecodedBundle
from services.intake.translators.bars_fhir.in_force import time_of_message
from services.intake.translators.bars_fhir.models import (
    READ,
    CodeableConcept,
    FhirCoding,
    FhirIdentifier,
    Flag,
    Location,
    Patient,
    Reference,
    Resource,
    resource_type,
)
from services.intake.translators.bars_fhir.references import Place, References
from services.intake.translators.translator import Issue, fhir_path, parse_date
from services.reference.fillers import NO_FILLERS, Fillers

R = TypeVar("R", bound=Resource)

SNOMED = "http://snomed.info/sct"
NHS_NUMBERS = (
    "https://fhir.nhs.uk/Id/nhs-number",
    "https://fhir.nhs.net/Id/nhs-number",
    "urn:oid:2.16.840.1.113883.2.1.4.1",
)
"""The system of an NHS number: UK Core's, the one before it, and the object identifier of HL7 v3."""


class BundleIndex:
    """The resources of a Bundle, found by type or by reference. `issues` collects their faults, `warnings` what refuses nothing.

    A resource is judged when it is used first: by its modifier elements (modifiers.py) and its subject.

    `time`: when the message was made, at which everything in it is judged. `patient`: whom it is about, once known.
    `names_us`: whether it names our use case or destination, once known (for_us.py).
    `left_out`: the places of what we read and left out: it has ended, is in the future, or its status says so.
    """

    def __init__(self, decoded: DecodedBundle, received_at: datetime, fillers: Fillers = NO_FILLERS) -> None:
        self.bundle, resources = decoded.bundle, decoded.resources
        self.fillers = fillers
        self.time = time_of_message(self.bundle, received_at)
        self.patient: Patient | None = None
        self.names_us = False
        self.issues: list[Issue] = []
        self.warnings: list[Issue] = []
        self.left_out: list[str] = []
        self._references = References([entry.fullUrl for entry in self.bundle.entry], resources, decoded.others)
        self._place = dict(_places(resources))
        self._kinds: dict[str, list[Resource]] = {}
        for resource in _with_contained(resources):
            self._kinds.setdefault(resource_type(type(resource)), []).append(resource)
        self._verdicts: dict[int, bool] = {}
        self._dangling: set[int] = set()
        for index, element in self._references.ambiguous():
            self._add_ambiguity(index, element)
        for place in _nested(resources):
            self.issues.append(
                Issue(fhir_path("Bundle", place), "invariant", "must not be inside a contained resource")
            )

    def _add_ambiguity(self, index: int, element: str) -> None:
        loc = ("entry", index, element) if element == "fullUrl" else ("entry", index, "resource", element)
        self.issues.append(Issue(fhir_path("Bundle", loc), "invariant", f"another entry has the same {element}"))

    def find(self, reference: Reference | None, kind: type[R]) -> R | None:
        """Return the resource of this type that a reference names; None if there is none or it does not count.

        A reference that names nothing in the message is a fault at its place.
        """
        resource = self.peek(reference)
        return resource if isinstance(resource, kind) and self.counts(resource) else None

    def find_all(self, references: list[Reference], kind: type[R]) -> Iterator[R]:
        """Yield the resources of this type that the references name."""
        return (resource for reference in references if (resource := self.find(reference, kind)) is not None)

    def find_url(self, url: str, kind: type[R]) -> R | None:
        """Return the resource of this type with a URL that is not a Reference, such as that of an attachment."""
        resource = self._references.named(url)
        return resource if isinstance(resource, kind) and self.counts(resource) else None

    def peek(self, reference: Reference | None) -> Resource | None:
        """Return the resource that a reference names, without judging whether it counts."""
        if reference is None or not reference.reference:
            return None
        target = self._references.target(reference)
        if target is None and id(reference) not in self._dangling:
            self._dangling.add(id(reference))
            place = fhir_path("Bundle", (*self._references.place(reference)[1], "reference"))
            self.issues.append(Issue(place, "invariant", "must refer to a resource in the message"))
        return target if isinstance(target, Resource) else None

    def every(self) -> Iterator[Resource]:
        """Iterate over all resources that we read, by type, whether they count or not."""
        return (resource for kind in READ for resource in self._kinds.get(kind, ()))

    def all(self, kind: type[R]) -> Iterator[R]:
        """Iterate over all resources of this type, in order, whether they count or not."""
        return iter(cast(list[R], self._kinds.get(resource_type(kind), [])))

    def all_that_count(self, kind: type[R]) -> Iterator[R]:
        """Iterate over the resources of this type that count, in order."""
        return (resource for resource in self.all(kind) if self.counts(resource))

    def is_used(self, resource: Resource) -> bool:
        """Return whether anything asked for this resource so far."""
        return id(resource) in self._verdicts

    def counts(self, resource: Resource) -> bool:
        """Return whether a resource counts; report what cannot be read, and what is about another person."""
        key = id(resource)
        if key not in self._verdicts:
            self._verdicts[key] = True  # a subject may refer back to it
            self._verdicts[key] = self.is_read(resource, (), resource_type(type(resource)), resource)
            if self._verdicts[key]:
                self._check_subject(resource)
        return self._verdicts[key]

    def is_read(self, resource: Resource, loc: Place, kind: str, item: Any) -> bool:
        """Return whether an item at a place in a resource counts by its modifier elements; report what is refused."""
        for below, verdict, explanation in modifiers.judge(kind, item):
            if verdict == "left out":
                self.left_out.append(self.at(resource, *loc))
                return False
            self.add_issue(resource, (*loc, *below), "not-supported", explanation)
        return True

    def _check_subject(self, resource: Resource) -> None:
        element = SUBJECTS.get(resource_type(type(resource)))
        subject: Reference | None = getattr(resource, element) if element else None
        if element is None or subject is None or self.patient is None:
            return
        named = self.peek(subject)
        about_a_place = isinstance(resource, Flag) and isinstance(named, Location)
        other = named is not self.patient and not about_a_place if subject.reference else self._is_other(subject)
        if other and id(subject) not in self._dangling:
            place = (element.rstrip("_"),)
            self.add_issue(resource, place, "not-supported", "must be the patient whom the request is about")

    def _is_other(self, subject: Reference) -> bool:
        """Return whether a reference by identifier only names one that the patient does not have."""
        identifier = subject.identifier
        if identifier is None or not identifier.value:
            return False
        return _key(identifier) not in map(_key, self.patient.identifier if self.patient else [])

    def full_url(self, resource: Resource) -> str | None:
        """Return the fullUrl of a resource's entry."""
        return self.bundle.entry[self.index(resource)].fullUrl

    def index(self, resource: Resource) -> int:
        """Return the index of a resource's entry in the Bundle."""
        return cast(int, self._place[id(resource)][1])

    def location(self, resource: Resource) -> Place:
        """Return the place of a resource in the Bundle, such as ("entry", 3, "resource")."""
        return self._place[id(resource)]

    def at(self, resource: Resource, *loc: int | str) -> str:
        """Return the FHIRPath of a place in a resource, such as Bundle.entry[3].resource.identifier[0].value."""
        return fhir_path("Bundle", (*self._place[id(resource)], *loc))

    def add_issue(self, resource: Resource, loc: tuple[int | str, ...], kind: Any, explanation: str) -> None:
        """Add a fault at a place in a resource."""
        self.issues.append(Issue(self.at(resource, *loc), kind, explanation))

    # -- values

    def identifier(self, resource: Resource, loc: Place, value: str | None) -> str | None:
        """Return an identifier without what cannot be seen; None if there is none; report a character that is not allowed."""
        read = cleaning.code(value) if value else ""
        if read is None:
            self.add_issue(resource, loc, "invalid", "has a control character, or one that is not defined")
        return read or None

    def warn_of(self, resource: Resource, loc: Place, words: str | None) -> None:
        """Warn if words were spoilt on the way."""
        for explanation in cleaning.warnings(words or ""):
            self.warnings.append(Issue(self.at(resource, *loc), "value", explanation))

    def day(self, resource: Resource, loc: Place, place: str, value: str | None) -> date | None:
        """Return the day of a FHIR date that can stand at a place of the referral; report one that cannot.

        A date that is entered if none is known, is left out.
        """
        found = parse_date(value)
        doubt = plausibility.doubt(place, found, plausibility.today(self.time), self.fillers) if found else None
        if doubt is None:
            return found
        if doubt.refuses:
            self.add_issue(resource, loc, "value", doubt.explanation)
        else:
            self.left_out.append(self.at(resource, *loc))
        return None


SUBJECTS = {
    "CarePlan": "subject",
    "Condition": "subject",
    "Consent": "patient",
    "DocumentReference": "subject",
    "Encounter": "subject",
    "Flag": "subject",
    "RelatedPerson": "patient",
    "Task": "for_",
}
"""The element that says whom a resource is about."""


def _places(resources: list[tuple[int, Resource]]) -> Iterator[tuple[int, Place]]:
    for index, resource in resources:
        yield id(resource), ("entry", index, "resource")
        for number, inner in enumerate(getattr(resource, "contained", ())):
            yield id(inner), ("entry", index, "resource", "contained", number)


def _nested(resources: list[tuple[int, Resource]]) -> Iterator[Place]:
    """Yield the place of each resource inside a contained resource (dom-2)."""
    for index, resource in resources:
        for number, inner in enumerate(getattr(resource, "contained", ())):
            if getattr(inner, "contained", ()):
                yield "entry", index, "resource", "contained", number, "contained"


def _with_contained(resources: list[tuple[int, Resource]]) -> Iterator[Resource]:
    """Yield the resources that we read, and those that they contain."""
    for _, resource in resources:
        inside = getattr(resource, "contained", ())
        yield from (one for one in (resource, *inside) if resource_type(type(one)) in READ)


def index_of(item: Any, items: Sequence[Any]) -> int:
    """Return the index of an item itself, not of an equal one."""
    return next(index for index, one in enumerate(items) if one is item)


# ---- codes ----------------------------------------------------------------------------------------------------------


def is_system(actual: str | None, expected: str) -> bool:
    """Return whether a system URI is the published one or a variant that senders use (http or https, Id or id)."""
    return actual is not None and _plain(actual) == _plain(expected)


def is_nhs_number(identifier: FhirIdentifier) -> bool:
    """Return whether the system of an identifier is one of NHS numbers."""
    return any(is_system(identifier.system, system) for system in NHS_NUMBERS)


def _key(identifier: FhirIdentifier) -> tuple[str, str]:
    """Return system and value of an identifier, one of NHS numbers in any of its systems, without blanks."""
    system = NHS_NUMBERS[0] if is_nhs_number(identifier) else identifier.system or ""
    return _plain(system), "".join((code(identifier.value) or "").split())


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


def written(concept: CodeableConcept | None) -> str | None:
    """Return a concept's text with its line breaks, else the display of its first coding that has one."""
    return (prose(concept.text) if concept else None) or display_text(concept)


def line(value: str | None) -> str | None:
    """Return words on one line, cleaned; None if there are none."""
    return (cleaning.line(value) or None) if value else None


def prose(value: str | None) -> str | None:
    """Return words with their line breaks, cleaned; None if there are none."""
    return (cleaning.prose(value) or None) if value else None


def code(value: str | None) -> str | None:
    """Return a code without what cannot be seen; one that is not exact as it is, since no rule takes it."""
    read = cleaning.code(value) if value else None
    return value if read is None else read or None
