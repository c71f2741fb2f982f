"""What is asked for and why: needs, reason, the housing authority that the person named, and a hospital stay."""

from collections.abc import Iterator
from typing import Any

from schemas.referral import INFORMATION_ADVICE, ReasonCode
from services.directory import Catalogue
from services.intake.translators.bars_fhir.message import (
    Message,
    code_in,
    codes,
    is_system,
    line,
    snomed,
    words,
)
from services.intake.translators.bars_fhir.models import (
    CarePlan,
    CodeableConcept,
    Condition,
    Encounter,
    Identifier,
    Location,
    Organization,
    Resource,
    ServiceRequest,
    Task,
)
from services.intake.translators.contract import day, once, unnamed

OURS = "https://lightbulb.example.org/"
SERVICE = OURS + "CodeSystem/service"
REASON = OURS + "CodeSystem/reason"
AUTHORITY = "https://statistics.data.gov.uk/id/statistical-geography"
"""ONS codes of local authorities (linked data of the Office for National Statistics)."""

INPATIENT = ("IMP", "ACUTE", "NONAC", "SS")
"""Encounter classes (v3 ActCode) of a stay in hospital."""

Asked = tuple[Resource, tuple[int | str, ...], CodeableConcept, str | None]
"""A concept that asks for something: the resource, the place in it, the concept, and words beside it."""


def needs(message: Message, request: ServiceRequest, services: Catalogue) -> list[dict[str, Any]]:
    """One need for each service of ours that is asked for. A message without any asks for information and advice, and
    its words and codes go with it: what a triage desk would want to read."""
    asked = list(_asked(message, request))
    found: dict[str, dict[str, Any]] = {}
    for resource, loc, concept, beside in asked:
        for code in codes(concept, SERVICE):
            if code not in services:
                message.fault(resource, loc, "value", "is not a code of " + SERVICE)
                continue
            _add(found.setdefault(code, {"service": code, "text": [], "snomed": []}), concept, beside)
    if not found:
        advice = found[INFORMATION_ADVICE] = {"service": INFORMATION_ADVICE, "text": [], "snomed": []}
        for _, _, concept, beside in asked:
            _add(advice, concept, beside)
    return [
        unnamed({**need, "text": joined(need["text"]), "snomed": _distinct(need["snomed"])}) for need in found.values()
    ]


_REASONS = {reason.value for reason in ReasonCode}


def _add(need: dict[str, Any], concept: CodeableConcept, beside: str | None) -> None:
    need["text"] += [concept.text, beside]
    need["snomed"] += snomed(concept)


def _asked(message: Message, request: ServiceRequest) -> Iterator[Asked]:
    if request.code:
        yield request, ("code",), request.code, None
    for index, concept in enumerate(request.orderDetail):
        yield request, ("orderDetail", index), concept, None
    for plan in message.found(request.basedOn, CarePlan):
        yield from _planned(message, plan)


def _planned(message: Message, plan: CarePlan) -> Iterator[Asked]:
    for index, activity in enumerate(plan.activity):
        detail = activity.detail
        if detail:
            yield plan, ("activity", index, "detail", "code"), detail.code or CodeableConcept(), detail.description
        for concept in activity.outcomeCodeableConcept:
            yield plan, ("activity", index, "outcomeCodeableConcept"), concept, None
        task = message.find(activity.reference, Task)
        if task:
            yield task, ("code",), task.code or CodeableConcept(), task.description


def reason(message: Message, request: ServiceRequest) -> dict[str, Any]:
    """Why: our category, the sender's words (also of notes and of the conditions referred to), SNOMED CT codes."""
    found = None
    for index, concept in enumerate(request.reasonCode):
        for code in codes(concept, REASON):
            if code not in _REASONS:
                message.fault(request, ("reasonCode", index), "value", "is not a code of " + REASON)
            found = found or code
    concepts = [*request.reasonCode, *_conditions(message, request)]
    said = [concept.text or (words(concept) if snomed(concept) else None) for concept in concepts]
    return unnamed(
        {
            "code": found,
            "text": joined([*said, *(note.text for note in request.note)]),
            "snomed": _distinct([coding for concept in concepts for coding in snomed(concept)]),
        }
    )


def _conditions(message: Message, request: ServiceRequest) -> Iterator[CodeableConcept]:
    addressed = [one for plan in message.found(request.basedOn, CarePlan) for one in plan.addresses]
    for condition in message.found([*request.reasonReference, *addressed], Condition):
        if condition.code:
            yield condition.code


def joined(texts: list[str | None]) -> str | None:
    """The texts as paragraphs, each one once."""
    return "\n".join(once([text for text in map(line, texts) if text])) or None


def _distinct(codings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({coding["code"]: coding for coding in reversed(codings)}.values())[::-1]


def named_authority(message: Message, request: ServiceRequest) -> str | None:
    """The housing authority that the person chose: a performer that is identified by its ONS code."""
    for reference in request.performer:
        found = message.find(reference, Organization)
        named: list[Identifier] = [
            *(found.identifier if found else []),
            *([reference.identifier] if reference.identifier else []),
        ]
        for identifier in named:
            if is_system(identifier.system, AUTHORITY) and line(identifier.value):
                return line(identifier.value)
    return None


# ---- hospital -------------------------------------------------------------------------------------------------------


def stay(message: Message, request: ServiceRequest) -> dict[str, Any]:
    """The hospital's part of a referral: empty unless the request's encounter is a stay in hospital."""
    encounter = message.find(request.encounter, Encounter)
    if (
        encounter is None
        or encounter.class_.code not in INPATIENT
        or encounter.status in ("cancelled", "entered-in-error")
    ):
        return {}
    told = {e.url.rpartition("/")[2]: e for e in encounter.extension if e.url.startswith(OURS + "StructureDefinition/")}
    values = {name: e.valueDate or e.valueCode for name, e in told.items()}
    ended = encounter.period.end if encounter.period and encounter.status == "finished" else None
    pathway = told["discharge-pathway"].valueInteger if "discharge-pathway" in told else None
    suitable = told["trusted-assessment-suitable"].valueBoolean if "trusted-assessment-suitable" in told else None
    return unnamed(
        {
            "hospital": {
                **_where(message, encounter),
                "admitted_on": day(encounter.period.start) if encounter.period else None,
                "pathway": pathway,
                "delay_attributed_to": values.get("delay-attributed-to"),
                "trusted_assessment_suitable": suitable,
            },
            "ready_for_transfer_on": day(values.get("ready-for-transfer")),
            "expected_discharge_on": day(values.get("expected-discharge")),
            "discharged_on": day(ended),
        }
    )


_PARTS = {"si": "site", "bu": "site", "wa": "ward", "ro": "bed", "bd": "bed"}
"""http://terminology.hl7.org/CodeSystem/location-physical-type, as parts of a stay."""

_PHYSICAL = "http://terminology.hl7.org/CodeSystem/location-physical-type"


def _where(message: Message, encounter: Encounter) -> dict[str, str]:
    where: dict[str, str] = {}
    for one in encounter.location:
        location, seen = message.find(one.location, Location), 0
        if location is None and line(one.location.display):
            where.setdefault("ward", one.location.display or "")
        while location is not None and seen < 5:
            part = _PARTS.get(
                code_in([location.physicalType] if location.physicalType else [], _PHYSICAL) or "", "ward"
            )
            said = line(location.name) or next((i.value for i in location.identifier if i.value), None)
            if said:
                where.setdefault(part, said)
            location, seen = message.find(location.partOf, Location), seen + 1
    return where
