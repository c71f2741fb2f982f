"""Needs, reason, named housing authority and hospital stay of a BaRS message."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import date, datetime
from typing import Any, NamedTuple

from schemas.fhir import LOCAL
from schemas.referral import INFORMATION_ADVICE, ReasonCode
from services.intake.translators import plausibility
from services.intake.translators.bars_fhir import bundle_index
from services.intake.translators.bars_fhir.bundle_index import (
    BundleIndex,
    code_in,
    codes,
    display_text,
    index_of,
    is_system,
    line,
    prose,
    snomed,
)
from services.intake.translators.bars_fhir.in_force import has_ended, holds, in_force, interval
from services.intake.translators.bars_fhir.models import (
    CarePlan,
    CodeableConcept,
    Condition,
    Encounter,
    EncounterLocation,
    Extension,
    Location,
    Organization,
    Period,
    Reference,
    Resource,
    ServiceRequest,
    Task,
)
from services.intake.translators.translator import drop_empty, parse_date, unique
from services.reference.directory import Catalogue

SERVICE = f"{LOCAL}/CodeSystem/service"
REASON = f"{LOCAL}/CodeSystem/reason"
AUTHORITY = "https://statistics.data.gov.uk/id/statistical-geography"
"""ONS codes of local authorities (linked data of the Office for National Statistics)."""

INPATIENT = ("IMP", "ACUTE", "NONAC", "SS")
"""Encounter classes (v3 ActCode) of a hospital stay."""

ELSEWHERE = ("AMB", "EMER", "FLD", "HH", "OBSENC", "PRENC", "VR")
"""The other codes of v3-ActEncounterCode. Any further code could be a stay, and is refused."""

RequestedConcept = tuple[Resource, tuple[int | str, ...], CodeableConcept, str | None]
"""A concept that requests something: the resource, the place in it, the concept, and a further text."""


class Requested(NamedTuple):
    """The concepts that a message requests. `some_left_out`: others have been cancelled or done."""

    concepts: list[RequestedConcept]
    some_left_out: bool


def requested_by(message: BundleIndex, request: ServiceRequest) -> Requested:
    """Return the concepts that a request, its care plans and their tasks request."""
    before = len(message.left_out)
    concepts = list(_requested_concepts(message, request))
    return Requested(concepts, len(message.left_out) > before)


def needs(
    message: BundleIndex, request: ServiceRequest, requested: Requested, services: Catalogue
) -> list[dict[str, Any]]:
    """Return one need for each requested service of the catalogue.

    Without any, return one need for information and advice, with all texts and SNOMED CT codes for the triage desk.
    """
    by_service: dict[str, dict[str, Any]] = {}
    for resource, loc, concept, extra_text in requested.concepts:
        for code in codes(concept, SERVICE):
            if code not in services:
                message.add_issue(resource, loc, "value", "is not a code of " + SERVICE)
                continue
            _add(by_service.setdefault(code, {"service": code, "text": [], "snomed": []}), concept, extra_text)
    _check_unreached(message)
    if not by_service:
        named = any(has_service(concepts) for _, concepts in _possible_requests(message))
        if requested.some_left_out and (named or not requested.concepts):
            message.add_issue(request, (), "business-rule", NOTHING_LEFT)
        elif not named and not message.names_us:
            message.add_issue(request, ("category",), "not-supported", NOT_FOR_US)
        advice = by_service[INFORMATION_ADVICE] = {"service": INFORMATION_ADVICE, "text": [], "snomed": []}
        for _, _, concept, extra_text in requested.concepts:
            _add(advice, concept, extra_text)
    return [
        drop_empty({**need, "text": joined(need["text"]), "snomed": _distinct(need["snomed"])})
        for need in by_service.values()
    ]


NOT_FOR_US = f"must be the use case housing if no code of {SERVICE} says what is requested"
NOTHING_LEFT = "all that was requested has been cancelled or done: set the status of the ServiceRequest to revoked"


def has_service(concepts: Iterable[CodeableConcept | None]) -> bool:
    """Return whether one of the concepts has a code of the service catalogue's system."""
    return any(codes(concept, SERVICE) for concept in concepts)


def _check_unreached(message: BundleIndex) -> None:
    """Refuse services that are requested in a resource to which the request does not lead."""
    for resource, concepts in _possible_requests(message):
        if not message.is_used(resource) and resource.status not in _NOT_REQUESTED and has_service(concepts):
            explanation = "requests a service, but the ServiceRequest in focus does not lead to it"
            message.add_issue(resource, (), "not-supported", explanation)


_NOT_REQUESTED = ("revoked", "cancelled", "completed", "entered-in-error")


def _possible_requests(
    message: BundleIndex,
) -> Iterator[tuple[ServiceRequest | CarePlan | Task, list[CodeableConcept | None]]]:
    for request in message.all(ServiceRequest):
        yield request, [request.code, *request.orderDetail]
    for plan in message.all(CarePlan):
        details = [activity.detail.code for activity in plan.activity if activity.detail]
        yield plan, [*details, *(one for activity in plan.activity for one in activity.outcomeCodeableConcept)]
    for task in message.all(Task):
        yield task, [task.code]


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
    if plan.status == "active" and not holds(plan.period, message.time):
        message.add_issue(plan, ("period",), "not-supported", "must include the time of the message")
    for index, activity in enumerate(plan.activity):
        place = ("activity", index, "detail")
        detail = activity.detail
        if detail and not message.is_read(plan, place, "CarePlan.activity.detail", detail):
            message.left_out.append(message.at(plan, "activity", index))
            continue
        if detail:
            yield plan, (*place, "code"), detail.code or CodeableConcept(), detail.description
        for concept in activity.outcomeCodeableConcept:
            yield plan, ("activity", index, "outcomeCodeableConcept"), concept, None
        task = message.find(activity.reference, Task)
        if task:
            yield task, ("code",), task.code or CodeableConcept(), task.description


def _words_beside_services(message: BundleIndex, requested: Requested) -> Iterator[str | None]:
    """Yield the texts of what is requested in words only, if services are requested too; list the codes as not read."""
    plain = [one for one in requested.concepts if not has_service([one[2]])]
    if len(plain) == len(requested.concepts):
        return
    for resource, loc, concept, extra_text in plain:
        yield from (concept.text, extra_text)
        said = concept.text or extra_text
        if concept.coding or not said:
            message.left_out.append(message.at(resource, *loc, *(["coding"] if said else [])))


def reason(message: BundleIndex, request: ServiceRequest, requested: Requested) -> dict[str, Any]:
    """Return the reason: our category, the sender's texts, SNOMED CT codes.

    The texts are also those of notes and conditions, and of what is requested in words next to coded services.
    """
    category = None
    for index, concept in enumerate(request.reasonCode):
        for code in codes(concept, REASON):
            if code not in _REASONS:
                message.add_issue(request, ("reasonCode", index), "value", "is not a code of " + REASON)
            if category not in (None, code):
                message.left_out.append(message.at(request, "reasonCode", index, "coding"))
            category = category or code
    conditions = list(_conditions(message, request))
    texts = [concept.text or (display_text(concept) if snomed(concept) else None) for concept in request.reasonCode]
    texts += _words_beside_services(message, requested)
    certain = [condition.code for condition in conditions if condition.code and not _status(message, condition)]
    return drop_empty(
        {
            "code": category,
            "text": joined(
                [*texts, *(_told(message, one) for one in conditions), *(note.text for note in request.note)]
            ),
            "snomed": _distinct([coding for concept in [*request.reasonCode, *certain] for coding in snomed(concept)]),
        }
    )


def _conditions(message: BundleIndex, request: ServiceRequest) -> Iterator[Condition]:
    addressed = [one for plan in message.find_all(request.basedOn, CarePlan) for one in plan.addresses]
    return message.find_all([*request.reasonReference, *addressed], Condition)


def _told(message: BundleIndex, condition: Condition) -> str | None:
    """Return a condition's text, with its status if that is anything but present."""
    text = prose(condition.code.text) if condition.code else None
    status = _status(message, condition)
    if condition.code and text is None and (status or snomed(condition.code)):
        text = display_text(condition.code)
    return f"{text} ({status})" if text and status else text


_IN_DOUBT = ("unconfirmed", "differential")
_OVER = ("inactive", "remission", "resolved")


def _status(message: BundleIndex, condition: Condition) -> str | None:
    """Return the word for a condition that is in doubt or over, whose code must not stand alone; None if present."""
    stated = {
        coding.code
        for concept in (condition.verificationStatus, condition.clinicalStatus)
        for coding in (concept.coding if concept else [])
    }
    word = next((code for code in (*_IN_DOUBT, *_OVER) if code in stated), None)
    return word or ("resolved" if _has_abated(message, condition) else None)


def _has_abated(message: BundleIndex, condition: Condition) -> bool:
    started = condition.abatementDateTime or (condition.abatementPeriod and condition.abatementPeriod.start)
    if started:
        found = interval(started)
        return found is None or found[0] <= message.time
    kinds = (condition.abatementPeriod, condition.abatementAge, condition.abatementRange, condition.abatementString)
    return any(value is not None for value in kinds)


def joined(texts: list[str | None]) -> str | None:
    """Join the texts as paragraphs, without repeats."""
    return "\n".join(unique([text for text in map(prose, texts) if text])) or None


def _distinct(codings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({coding["code"]: coding for coding in reversed(codings)}.values())[::-1]


def named_authority(message: BundleIndex, request: ServiceRequest) -> str | None:
    """Return the housing authority that the person chose: a performer with an ONS code."""
    named = unique([code for reference in request.performer for code in authorities(message, reference)])
    if len(named) > 1:
        message.add_issue(request, ("performer",), "invariant", "must name one housing authority")
    return named[0] if named else None


def authorities(message: BundleIndex, reference: Reference) -> Iterator[str]:
    """Yield the ONS codes in force of the authority that a reference names."""
    resource = message.find(reference, Organization)
    named = [*(resource.identifier if resource else []), *([reference.identifier] if reference.identifier else [])]
    for identifier in in_force(named, message.time):
        if is_system(identifier.system, AUTHORITY) and (ons := bundle_index.code(identifier.value)):
            yield ons


# ---- hospital -------------------------------------------------------------------------------------------------------


ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
_CLASSES = (*INPATIENT, *ELSEWHERE)


def stay(message: BundleIndex, request: ServiceRequest) -> dict[str, Any]:
    """Return the hospital's part of a referral; empty unless the request's encounter is an inpatient stay."""
    encounter = message.find(request.encounter, Encounter)
    if encounter and not (is_system(encounter.class_.system, ACT_CODE) and encounter.class_.code in _CLASSES):
        message.add_issue(encounter, ("class",), "value", "is not a code of v3-ActEncounterCode")
    if encounter is None or encounter.class_.code not in INPATIENT or not _is_stay(message, encounter):
        return {}
    extensions = _extensions(encounter)
    began = encounter.period.start if encounter.period else None
    ended = encounter.period.end if encounter.period and encounter.status == "finished" else None
    return drop_empty(
        {
            "hospital": {
                **_where(message, encounter),
                "admitted_on": message.day(encounter, ("period", "start"), "hospital.admitted_on", began),
                "pathway": extensions["discharge-pathway"].valueInteger,
                "delay_attributed_to": _date_or_code(extensions["delay-attributed-to"]),
                "trusted_assessment_suitable": extensions["trusted-assessment-suitable"].valueBoolean,
            },
            **_discharge(message, encounter, ended),
            **_expected(message, encounter, extensions),
        }
    )


def _discharge(message: BundleIndex, encounter: Encounter, ended: str | None) -> dict[str, date | None]:
    """Return the day of discharge, or, if it is in the future, the day on which it is expected."""
    day = message.day(encounter, ("period", "end"), "discharged_on", ended)
    is_expected = day is not None and day > plausibility.today(message.time)
    return {"expected_discharge_on" if is_expected else "discharged_on": day}


def _expected(message: BundleIndex, encounter: Encounter, extensions: dict[str, Extension]) -> dict[str, date | None]:
    """Return the days on which the person is ready to leave, and is expected to."""
    named = {"ready-for-transfer": "ready_for_transfer_on", "expected-discharge": "expected_discharge_on"}
    return {
        place: message.day(encounter, ("extension", index_of(extensions[name], encounter.extension)), place, value)
        for name, place in named.items()
        if (value := _date_or_code(extensions[name]))
    }


def died_in_hospital(message: BundleIndex, request: ServiceRequest) -> bool:
    """Return whether the discharge disposition of the request's encounter states that the person died."""
    encounter = message.find(request.encounter, Encounter)
    return encounter is not None and encounter.status not in NO_STAY and states_death(encounter)


def states_death(encounter: Encounter) -> bool:
    """Return whether the discharge disposition of an encounter is a death."""
    disposition = encounter.hospitalization.dischargeDisposition if encounter.hospitalization else None
    return any(code in codes(disposition, system) for system, code in _DIED)


_DIED = (
    ("http://terminology.hl7.org/CodeSystem/discharge-disposition", "exp"),
    ("https://fhir.hl7.org.uk/CodeSystem/UKCore-DischargeDestinationEngland", "79"),
)
"""Codes of a discharge by death: R4's, and that of the NHS Data Dictionary."""

NO_STAY = ("planned", "cancelled", "entered-in-error")
"""Encounter statuses of a stay that is planned or did not take place."""


def _is_stay(message: BundleIndex, encounter: Encounter) -> bool:
    """Return whether the person is or was in hospital; report a status that does not say it, or that contradicts."""
    if encounter.status in NO_STAY:
        message.left_out.append(message.at(encounter))
        return False
    over = has_ended(encounter.period, message.time)
    if encounter.status == "unknown":
        message.add_issue(encounter, ("status",), "not-supported", "must say whether the person is in hospital")
    elif encounter.status == "finished" and not (encounter.period and parse_date(encounter.period.end)):
        message.add_issue(
            encounter, ("period",), "required", "must have an end that is a whole date: the stay is finished"
        )
    elif encounter.period and not _has_begun(encounter.period, message.time):
        message.add_issue(encounter, ("status",), "invariant", "must be planned: the stay's period has not begun")
    elif encounter.status != "finished" and over:
        message.add_issue(encounter, ("status",), "invariant", "must be finished: the stay's period has ended")
    return True


def _has_begun(period: Period, at: datetime) -> bool:
    begins = interval(period.start)
    return begins is None or begins[0] <= at


def _extensions(encounter: Encounter) -> dict[str, Extension]:
    """Return Lightbulb's extensions by name; one without a value for a name that is not given."""
    base = f"{LOCAL}/StructureDefinition/"
    given = {e.url.rpartition("/")[2]: e for e in encounter.extension if e.url.startswith(base)}
    return defaultdict(lambda: Extension(url=base), given)


def _date_or_code(extension: Extension) -> str | None:
    return extension.valueDate or extension.valueCode


PARTS = {"si": "site", "bu": "site", "wa": "ward", "ro": "bed", "bd": "bed"}
"""Parts of a stay by code of http://terminology.hl7.org/CodeSystem/location-physical-type."""

PHYSICAL_TYPES = "http://terminology.hl7.org/CodeSystem/location-physical-type"


def _where(message: BundleIndex, encounter: Encounter) -> dict[str, str]:
    where: dict[str, str] = {}
    for index, one in _locations(message, encounter):
        location, depth = message.find(one.location, Location), 0
        named = line(one.location.display)
        if location is None and named and where.setdefault("ward", named) != named:
            message.left_out.append(message.at(encounter, "location", index))
        while location is not None and depth < 5:
            part = PARTS.get(
                code_in([location.physicalType] if location.physicalType else [], PHYSICAL_TYPES) or "", "ward"
            )
            identifiers = in_force(location.identifier, message.time)
            name = line(location.name) or next(filter(None, (line(i.value) for i in identifiers)), None)
            if name and where.setdefault(part, name) != name:
                message.left_out.append(message.at(encounter, "location", index))
            location, depth = message.find(location.partOf, Location), depth + 1
    return where


def _locations(message: BundleIndex, encounter: Encounter) -> list[tuple[int, EncounterLocation]]:
    """Return the places, with indexes, at which the person is at the time of the message, or was at the end of a finished stay."""
    left = interval(encounter.period.end) if encounter.period and encounter.status == "finished" else None
    at = left[0] if left else message.time
    elsewhere = ("planned", "reserved") if left else ("planned", "reserved", "completed")
    listed = list(enumerate(encounter.location))
    counting = [(n, one) for n, one in listed if one.status not in elsewhere and holds(one.period, at)]
    message.left_out += [message.at(encounter, "location", n) for n, one in listed if (n, one) not in counting]
    return counting
