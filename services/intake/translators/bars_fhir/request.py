"""Needs, reason, named housing authority and hospital stay of a BaRS message."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from schemas.referral import INFORMATION_ADVICE, ReasonCode
from services.intake.translators.bars_fhir.bundle_index import (
    BundleIndex,
    code_in,
    codes,
    display_text,
    is_system,
    line,
    snomed,
)
from services.intake.translators.bars_fhir.models import (
    CarePlan,
    CodeableConcept,
    Condition,
    Encounter,
    Extension,
    FhirIdentifier,
    Location,
    Organization,
    Resource,
    ServiceRequest,
    Task,
)
from services.intake.translators.translator import drop_empty, parse_date, unique
from services.reference.directory import Catalogue

LIGHTBULB_BASE = "https://lightbulb.example.org/"
SERVICE = LIGHTBULB_BASE + "CodeSystem/service"
REASON = LIGHTBULB_BASE + "CodeSystem/reason"
AUTHORITY = "https://statistics.data.gov.uk/id/statistical-geography"
"""ONS codes of local authorities (linked data of the Office for National Statistics)."""

INPATIENT = ("IMP", "ACUTE", "NONAC", "SS")
"""Encounter classes (v3 ActCode) of a hospital stay."""

RequestedConcept = tuple[Resource, tuple[int | str, ...], CodeableConcept, str | None]
"""A concept that requests something: the resource, the place in it, the concept, and a further text."""


def needs(message: BundleIndex, request: ServiceRequest, services: Catalogue) -> list[dict[str, Any]]:
    """Return one need for each requested service of the catalogue.

    Without any, return one need for information and advice, with all texts and SNOMED CT codes for the triage desk.
    """
    requested = list(_requested_concepts(message, request))
    by_service: dict[str, dict[str, Any]] = {}
    for resource, loc, concept, extra_text in requested:
        for code in codes(concept, SERVICE):
            if code not in services:
                message.add_issue(resource, loc, "value", "is not a code of " + SERVICE)
                continue
            _add(by_service.setdefault(code, {"service": code, "text": [], "snomed": []}), concept, extra_text)
    if not by_service:
        advice = by_service[INFORMATION_ADVICE] = {"service": INFORMATION_ADVICE, "text": [], "snomed": []}
        for _, _, concept, extra_text in requested:
            _add(advice, concept, extra_text)
    return [
        drop_empty({**need, "text": joined(need["text"]), "snomed": _distinct(need["snomed"])})
        for need in by_service.values()
    ]


_REASONS = {reason.value for reason in ReasonCode}


def _add(need: dict[str, Any], concept: CodeableConcept, extra_text: str | None) -> None:
    need["text"] += [concept.text, extra_text]
    need["snomed"] += snomed(concept)


def _requested_concepts(message: BundleIndex, request: ServiceRequest) -> Iterator[RequestedConcept]:
    if request.code:
        yield request, ("code",), request.code, None
    for index, concept in enumerate(request.orderDetail):
        yield request, ("orderDetail", index), concept, None
    for plan in message.find_all(request.basedOn, CarePlan):
        yield from _planned(message, plan)


def _planned(message: BundleIndex, plan: CarePlan) -> Iterator[RequestedConcept]:
    for index, activity in enumerate(plan.activity):
        detail = activity.detail
        if detail:
            yield plan, ("activity", index, "detail", "code"), detail.code or CodeableConcept(), detail.description
        for concept in activity.outcomeCodeableConcept:
            yield plan, ("activity", index, "outcomeCodeableConcept"), concept, None
        task = message.find(activity.reference, Task)
        if task:
            yield task, ("code",), task.code or CodeableConcept(), task.description


def reason(message: BundleIndex, request: ServiceRequest) -> dict[str, Any]:
    """Return the reason: our category, the sender's texts (also of notes and conditions), SNOMED CT codes."""
    category = None
    for index, concept in enumerate(request.reasonCode):
        for code in codes(concept, REASON):
            if code not in _REASONS:
                message.add_issue(request, ("reasonCode", index), "value", "is not a code of " + REASON)
            category = category or code
    concepts = [*request.reasonCode, *_conditions(message, request)]
    texts = [concept.text or (display_text(concept) if snomed(concept) else None) for concept in concepts]
    return drop_empty(
        {
            "code": category,
            "text": joined([*texts, *(note.text for note in request.note)]),
            "snomed": _distinct([coding for concept in concepts for coding in snomed(concept)]),
        }
    )


def _conditions(message: BundleIndex, request: ServiceRequest) -> Iterator[CodeableConcept]:
    addressed = [one for plan in message.find_all(request.basedOn, CarePlan) for one in plan.addresses]
    for condition in message.find_all([*request.reasonReference, *addressed], Condition):
        if condition.code:
            yield condition.code


def joined(texts: list[str | None]) -> str | None:
    """Join the texts as paragraphs, without repeats."""
    return "\n".join(unique([text for text in map(line, texts) if text])) or None


def _distinct(codings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({coding["code"]: coding for coding in reversed(codings)}.values())[::-1]


def named_authority(message: BundleIndex, request: ServiceRequest) -> str | None:
    """Return the housing authority that the person chose: a performer with an ONS code."""
    for reference in request.performer:
        resource = message.find(reference, Organization)
        named: list[FhirIdentifier] = [
            *(resource.identifier if resource else []),
            *([reference.identifier] if reference.identifier else []),
        ]
        for identifier in named:
            if is_system(identifier.system, AUTHORITY) and line(identifier.value):
                return line(identifier.value)
    return None


# ---- hospital -------------------------------------------------------------------------------------------------------


def stay(message: BundleIndex, request: ServiceRequest) -> dict[str, Any]:
    """Return the hospital's part of a referral; empty unless the request's encounter is an inpatient stay."""
    encounter = message.find(request.encounter, Encounter)
    if (
        encounter is None
        or encounter.class_.code not in INPATIENT
        or encounter.status in ("cancelled", "entered-in-error")
    ):
        return {}
    extensions = _extensions(encounter)
    ended = encounter.period.end if encounter.period and encounter.status == "finished" else None
    return drop_empty(
        {
            "hospital": {
                **_where(message, encounter),
                "admitted_on": parse_date(encounter.period.start) if encounter.period else None,
                "pathway": extensions["discharge-pathway"].valueInteger,
                "delay_attributed_to": _date_or_code(extensions["delay-attributed-to"]),
                "trusted_assessment_suitable": extensions["trusted-assessment-suitable"].valueBoolean,
            },
            "ready_for_transfer_on": parse_date(_date_or_code(extensions["ready-for-transfer"])),
            "expected_discharge_on": parse_date(_date_or_code(extensions["expected-discharge"])),
            "discharged_on": parse_date(ended),
        }
    )


def _extensions(encounter: Encounter) -> dict[str, Extension]:
    """Return Lightbulb's extensions by name; one without a value for a name that is not given."""
    base = LIGHTBULB_BASE + "StructureDefinition/"
    given = {e.url.rpartition("/")[2]: e for e in encounter.extension if e.url.startswith(base)}
    return defaultdict(lambda: Extension(url=base), given)


def _date_or_code(extension: Extension) -> str | None:
    return extension.valueDate or extension.valueCode


_PARTS = {"si": "site", "bu": "site", "wa": "ward", "ro": "bed", "bd": "bed"}
"""Parts of a stay by code of http://terminology.hl7.org/CodeSystem/location-physical-type."""

_PHYSICAL = "http://terminology.hl7.org/CodeSystem/location-physical-type"


def _where(message: BundleIndex, encounter: Encounter) -> dict[str, str]:
    where: dict[str, str] = {}
    for one in encounter.location:
        location, depth = message.find(one.location, Location), 0
        if location is None and line(one.location.display):
            where.setdefault("ward", one.location.display or "")
        while location is not None and depth < 5:
            part = _PARTS.get(
                code_in([location.physicalType] if location.physicalType else [], _PHYSICAL) or "", "ward"
            )
            name = line(location.name) or next((i.value for i in location.identifier if i.value), None)
            if name:
                where.setdefault(part, name)
            location, depth = message.find(location.partOf, Location), depth + 1
    return where
