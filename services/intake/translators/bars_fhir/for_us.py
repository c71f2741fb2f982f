"""Judge whom a message is for: by its use case and category, and by its destination.

| element | for us | refused |
|---|---|---|
| ServiceRequest.category of BaRS' `usecases-categories-bars` | none: BaRS has no use case for housing | any code |
| ServiceRequest.category of Lightbulb's `usecase` | `housing` | any other code |
| ServiceRequest.category of BaRS' `message-category-servicerequest` | `referral` | any other code, unless the request is cancelled |
| MessageHeader.destination (endpoint `system\\|value`, identifiers of the receiver) | one of the installation's service ids | others only, if the installation has service ids |

A message that requests no service of the catalogue is taken for information and advice only if it names our use case or
our destination.
"""  # noqa: E501 - a table

from collections.abc import Collection, Iterator

from schemas.fhir import USE_CASE
from services.intake.translators.bars_fhir.bundle_index import BundleIndex, codes, is_system
from services.intake.translators.bars_fhir.models import (
    READ,
    Bundle,
    FhirCoding,
    FhirIdentifier,
    HealthcareService,
    MessageDestination,
    MessageHeader,
    Organization,
    Resource,
    ServiceRequest,
)
from services.intake.translators.translator import Issue

EVENTS = "https://fhir.nhs.uk/CodeSystem/message-events-bars"
REASONS = "https://fhir.nhs.uk/CodeSystem/message-reason-bars"
BARS_USE_CASES = "https://fhir.nhs.uk/CodeSystem/usecases-categories-bars"
USE_CASES = USE_CASE["system"]
HOUSING = "housing"
CATEGORIES = "https://fhir.nhs.uk/CodeSystem/message-category-servicerequest"


CANCELS = ("revoked", "entered-in-error")
"""Statuses of a ServiceRequest that cancel it."""


def issues(
    message: BundleIndex, header: MessageHeader, request: ServiceRequest, service_ids: Collection[str]
) -> Iterator[Issue]:
    """Yield what makes a message another service's, and note whether it names this one.

    `service_ids`: identifiers as `system|value`, such as `https://fhir.nhs.uk/Id/dos-service-id|2000099999`; without
    any, the destination is not judged.
    """
    to_us = any(is_ours(name, service_ids) for one in header.destination for name in _names(message, one))
    message.names_us = to_us or any(HOUSING in codes(concept, USE_CASES) for concept in request.category)
    yield from _test_issues(message)
    yield from _category_issues(message, request)
    if service_ids and header.destination and not to_us:
        yield Issue(message.at(header, "destination"), "not-supported", "the destination is another service")


def _test_issues(message: BundleIndex) -> Iterator[Issue]:
    """Yield the message, or the resources in it, that say by the label HTEST that they are test data."""
    resources = [one for model in READ.values() for one in message.all(model)]
    if any(label.code == TEST_DATA for label in _labels(message.bundle)):
        yield Issue("Bundle.meta.security", "not-supported", TEST_REFUSED)
    for resource in resources:
        if any(label.code == TEST_DATA for label in _labels(resource)):
            yield Issue(message.at(resource, "meta", "security"), "not-supported", TEST_REFUSED)


def _labels(labelled: Bundle | Resource) -> list[FhirCoding]:
    return labelled.meta.security if labelled.meta else []


TEST_DATA = "HTEST"
"""Label of test health data (v3-ActReason; http://hl7.org/fhir/R4/security-labels.html)."""

TEST_REFUSED = "states that this is test data: it would become a case of a real hub"


def _category_issues(message: BundleIndex, request: ServiceRequest) -> Iterator[Issue]:
    for index, concept in enumerate(request.category):
        place = message.at(request, "category", index)
        if codes(concept, BARS_USE_CASES) or set(codes(concept, USE_CASES)) - {HOUSING}:
            yield Issue(place, "not-supported", "the use case is that of another service")
        if request.status not in CANCELS and set(codes(concept, CATEGORIES)) - {"referral"}:
            yield Issue(place, "not-supported", "unsupported category: only referral is supported")


def is_ours(identifier: str, service_ids: Collection[str]) -> bool:
    """Return whether an identifier, as `system|value`, is one of the installation's service ids."""
    system, _, value = identifier.rpartition("|")
    ours = (service_id.rpartition("|") for service_id in service_ids)
    return any(is_system(system, own) and value.strip().upper() == wanted.upper() for own, _, wanted in ours)


def _names(message: BundleIndex, destination: MessageDestination) -> Iterator[str]:
    """Yield the identifiers of a destination, as `system|value`: of its endpoint, and of its receiver."""
    yield destination.endpoint
    receiver = destination.receiver
    resource = message.find(receiver, HealthcareService) or message.find(receiver, Organization)
    identifiers: list[FhirIdentifier] = list(resource.identifier) if resource else []
    if receiver and receiver.identifier:
        identifiers.append(receiver.identifier)
    yield from (f"{one.system}|{one.value}" for one in identifiers if one.system and one.value)
