"""List what stands in what we read and was not used: it changes nothing, and its sender must know.

| what | used |
|---|---|
| a coding | in a code system that is read at its place (`SYSTEMS`), and if no text is preferred to it (`WORDS`) |
| the text of a concept | not where only codes are read (`CODES`) |
| a reference | its resource; without one, identifier and display where they are read (`NAMED`) |
| names, addresses, telephones, languages | the best one in force (contact_details.py) |
| a date | a whole date (`DATES`) |
| an extension | where it is read, with a value of the type that is read there (`EXTENSIONS`) |
| a security label | of the Patient, if it is one of confidentiality |

What is not read at all, resources that nothing asked for, and what has ended are listed elsewhere (`passed_over`, `left_out`).
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import msgspec

from services.intake.translators.bars_fhir import models, uk_core
from services.intake.translators.bars_fhir.bundle_index import SNOMED, BundleIndex, codes, display_text, is_system, line
from services.intake.translators.bars_fhir.consent import CONSENT, DIRECT_CARE, TERMINOLOGY
from services.intake.translators.bars_fhir.contact_details import (
    NAME_USES,
    PRIVATE_USES,
    WORK_USES,
    address_lines,
    ranked,
    reach,
    uprn,
)
from services.intake.translators.bars_fhir.for_us import BARS_USE_CASES, CATEGORIES, REASONS, USE_CASES
from services.intake.translators.bars_fhir.in_force import in_force
from services.intake.translators.bars_fhir.models import (
    AnyResource,
    CodeableConcept,
    DocumentReference,
    Encounter,
    FhirCoding,
    FhirConsent,
    FhirContactPoint,
    FhirIdentifier,
    Flag,
    HumanName,
    Location,
    MessageHeader,
    Organization,
    Patient,
    PlainExtension,
    Practitioner,
    PractitionerRole,
    Reference,
    RelatedPerson,
    Resource,
    ServiceRequest,
    resource_type,
)
from services.intake.translators.bars_fhir.passed_over import LIGHTBULB as OWN_EXTENSIONS
from services.intake.translators.bars_fhir.passed_over import is_known, struct_in
from services.intake.translators.bars_fhir.person import INTERPRETER, is_confidentiality, is_tag
from services.intake.translators.bars_fhir.referrer import ODS
from services.intake.translators.bars_fhir.request import (
    ACT_CODE,
    AUTHORITY,
    INPATIENT,
    PARTS,
    PHYSICAL_TYPES,
    REASON,
    SERVICE,
    authorities,
    states_death,
)
from services.intake.translators.bars_fhir.supporting_info import FLAGS
from services.intake.translators.translator import parse_date

SYSTEMS: dict[str, tuple[str, ...]] = {
    "MessageHeader.reason": (REASONS,),
    "ServiceRequest.category": (CATEGORIES, BARS_USE_CASES, USE_CASES),
    **dict.fromkeys(("ServiceRequest.code", "ServiceRequest.orderDetail", "Task.code"), (SERVICE, SNOMED)),
    **dict.fromkeys(("CarePlan.activity.detail.code", "CarePlan.activity.outcomeCodeableConcept"), (SERVICE, SNOMED)),
    "ServiceRequest.reasonCode": (REASON, SNOMED),
    "Condition.code": (SNOMED,),
    "Condition.clinicalStatus": (f"{TERMINOLOGY}condition-clinical",),
    "Condition.verificationStatus": (f"{TERMINOLOGY}condition-ver-status",),
    "Consent.category": (CONSENT, DIRECT_CARE),
    "Consent.scope": (f"{TERMINOLOGY}consentscope",),
    "Consent.policyRule": (ACT_CODE,),
    "Consent.provision.actor.role": (f"{TERMINOLOGY}v3-ParticipationType",),
    "Flag.category": (FLAGS,),
    "Location.physicalType": (PHYSICAL_TYPES,),
}
"""The code systems that are read at a place. At other places any coding is read, or refused if it is not understood."""

CODES = (
    *("MessageHeader.reason", "ServiceRequest.category", "Consent.category", "Consent.scope", "Consent.policyRule"),
    *("Flag.category", "Location.physicalType", "Condition.clinicalStatus", "Condition.verificationStatus"),
    "Consent.provision.actor.role",
)
"""Concepts of which only codes are read."""

WORDS = ("Patient.contact.relationship", "RelatedPerson.relationship")
"""Concepts of which the text is read, else the display of a coding, else a code."""

NAMED = (
    *("ServiceRequest.requester", "PractitionerRole.organization", "Patient.generalPractitioner"),
    *("Consent.performer", "Encounter.location.location"),
)
"""References that are read without a resource, by their identifier or display."""

_TEXT, _CONCEPT = ("valueString", "valueCodeableConcept"), ("valueCodeableConcept",)

EXTENSIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "Patient.extension": {
        "interpreter": ("valueBoolean",),
        "communication-need": _TEXT,
        **dict.fromkeys(("nhscommunication", "contactpreference", "deathnotificationstatus"), ("extension",)),
    },
    "Patient.extension.extension": {
        **dict.fromkeys(("preferred", "interpreterRequired"), ("valueBoolean",)),
        **dict.fromkeys(("language", "deathNotificationStatus", "PreferredContactMethod"), _CONCEPT),
        "PreferredWrittenCommunicationFormat": _CONCEPT,
        "PreferredContactTimes": ("valueString", "valueTiming"),
    },
    "Patient.identifier.extension": {"nhsnumberverificationstatus": _CONCEPT},
    "Patient.address.extension": {"addresskey": ("extension",)},
    "Patient.address.extension.extension": {"type": ("valueCoding",), "value": ("valueString",)},
    "Patient.contact.extension": {"contactrank": ("valuePositiveInt",)},
    "Encounter.extension": {
        **dict.fromkeys(
            ("expected-discharge", "ready-for-transfer", "delay-attributed-to"), ("valueDate", "valueCode")
        ),
        "discharge-pathway": ("valueInteger",),
        "trusted-assessment-suitable": ("valueBoolean",),
    },
}
"""The extensions that are read at a place, with the types of value of which one is read."""

DATES: dict[str, tuple[tuple[str, ...], ...]] = {
    "ServiceRequest": (("authoredOn",),),
    "Patient": (("deceasedDateTime",),),
    "Consent": (("dateTime",),),
    "Encounter": (("period", "start"),),
}
"""Elements of which the day is carried: a year or a month has none."""

Loc = tuple[int | str, ...]


def places(message: BundleIndex) -> Iterator[str]:
    """Yield the FHIRPath of what was not used in the resources that were, but for what was left out as a whole, and of labels."""
    of_message = message.bundle.meta.security if message.bundle.meta else []
    yield from (f"Bundle.meta.security[{index}]" for index in range(len(of_message)))
    whole = tuple(f"{one}{end}" for one in message.left_out for end in ".[")
    for resource in message.every():
        if message.is_used(resource) or isinstance(resource, MessageHeader):
            below, labels = _below(resource, (), resource_type(type(resource))), _labels(resource)
            found = [*below, *labels, *_partial_dates(resource), *_not_chosen(message, resource)]
            yield from (at for loc in found if not (at := message.at(resource, *loc)).startswith(whole))


def of_cancel(message: BundleIndex, request: ServiceRequest) -> Iterator[str]:
    """Yield what a cancel says beyond ending the referral and a death, which no event carries: notes, a restriction."""
    if request.note:
        yield message.at(request, "note")
    if message.patient and message.patient.meta:
        for index in range(len(message.patient.meta.security)):
            yield message.at(message.patient, "meta", "security", index)


# ---- codes and references --------------------------------------------------------------------------------------------


def _below(value: Any, loc: Loc, path: str) -> Iterator[Loc]:
    match value:
        case Reference():
            yield from _of_reference(value, loc, path)
        case CodeableConcept():
            yield from _of_concept(value, loc, path)
        case PlainExtension() if is_known(value.url) and not _is_read_extension(value, path):
            yield loc
        case _:
            for attribute, name in _fields(type(value)):  # type: ignore[arg-type]  # a class is hashable
                for inside, one in _structs(getattr(value, attribute), (*loc, name)):
                    yield from _below(one, inside, f"{path}.{name}")


def _is_read_extension(extension: PlainExtension, path: str) -> bool:
    """Return whether an extension is read at a place and has a value that is; how a telephone is used is read at each."""
    if ".telecom." in path:
        return uk_core.name_of(extension.url) == "othercontactsystem" and extension.valueCoding is not None
    short = extension.url.rpartition("/")[2] if extension.url.startswith(OWN_EXTENSIONS) else extension.url
    name = "interpreter" if is_system(extension.url, INTERPRETER) else uk_core.name_of(extension.url) or short
    values = EXTENSIONS.get(path, {}).get(name, ())
    read = [value for value in values if getattr(extension, value, None) not in (None, [])]
    return bool(read) and (read != ["valueDate"] or parse_date(extension.valueDate) is not None)


def _structs(value: Any, loc: Loc) -> Iterator[tuple[Loc, Any]]:
    items = enumerate(value) if isinstance(value, list) else ((None, value),)
    for index, one in items:
        if isinstance(one, msgspec.Struct) and not isinstance(one, Resource):
            yield (loc if index is None else (*loc, index)), one


@cache
def _fields(kind: type[Any]) -> tuple[tuple[str, str], ...]:
    """Return attribute and FHIR name of the elements of a struct that we read and that hold a concept or a reference."""
    read = next(one for one in kind.__mro__ if one.__module__ == models.__name__)
    listed = msgspec.structs.fields(read)
    return tuple((one.name, one.encode_name) for one in listed if _leads_to_code(struct_in(one.type), frozenset()))


def _leads_to_code(kind: Any, within: frozenset[Any]) -> bool:
    """Return whether a struct is a concept or a reference, or holds one; `within`: the structs that hold it."""
    if kind is None or kind is AnyResource or kind in within:
        return False
    inside = (struct_in(one.type) for one in msgspec.structs.fields(kind))
    return issubclass(kind, Reference | CodeableConcept) or any(_leads_to_code(one, within | {kind}) for one in inside)


def _of_reference(reference: Reference, loc: Loc, path: str) -> Iterator[Loc]:
    identifier = reference.identifier
    if path == "ServiceRequest.performer" and identifier and is_system(identifier.system, AUTHORITY):
        return
    if reference.reference is not None:
        yield from [(*loc, "identifier")] if identifier else []
    elif path not in NAMED:
        yield loc


def _of_concept(concept: CodeableConcept, loc: Loc, path: str) -> Iterator[Loc]:
    path = path.replace(".provision.provision", ".provision")
    if path in SYSTEMS:
        yield from _other_codings(concept, loc, lambda coding: _is_read(coding, path))
    elif path in WORDS:
        read = (lambda coding: coding.code == "ONESELF") if display_text(concept) else _is_first_of(concept)
        yield from _other_codings(concept, loc, read)
    elif path == "Patient.communication.language":
        yield from _of_language(concept, loc)
    elif path.endswith(".valueCodeableConcept"):
        yield from _of_extension(concept, loc)
    if path in CODES and concept.text is not None:
        yield (*loc, "text")


def _of_language(concept: CodeableConcept, loc: Loc) -> Iterator[Loc]:
    """Yield the text and all codings but the first tag; without a tag the codes, if there are words."""
    tags = [coding for coding in concept.coding if is_tag(coding)]
    if tags:
        yield from [(*loc, "text")] if concept.text else []
        yield from _other_codings(concept, loc, lambda coding: coding is tags[0])
    elif display_text(concept):
        yield from ((*loc, "coding", index, "code") for index in range(len(concept.coding)))


def _of_extension(concept: CodeableConcept, loc: Loc) -> Iterator[Loc]:
    """Yield the other codings and the text if a coding of UK Core counts, else the codings if the text does."""
    ours = [coding for coding in concept.coding if uk_core.name_of(coding.system)]
    if ours and concept.text:
        yield (*loc, "text")
    if ours or concept.text:
        yield from _other_codings(concept, loc, lambda coding: coding in ours)


def _other_codings(concept: CodeableConcept, loc: Loc, is_read: Callable[[FhirCoding], bool]) -> Iterator[Loc]:
    return ((*loc, "coding", index) for index, one in enumerate(concept.coding) if not is_read(one))


def _is_first_of(concept: CodeableConcept) -> Callable[[FhirCoding], bool]:
    return lambda coding: coding is concept.coding[0]


def _is_read(coding: FhirCoding, path: str) -> bool:
    known = path != "Location.physicalType" or coding.code in PARTS
    return known and coding.code is not None and any(is_system(coding.system, system) for system in SYSTEMS[path])


def _labels(resource: Resource) -> Iterator[Loc]:
    """Yield the security labels that restrict nothing: those of confidentiality do, of the Patient."""
    for index, one in enumerate(resource.meta.security if resource.meta else []):
        if not isinstance(resource, Patient) or one.code is None or not is_confidentiality(one):
            yield "meta", "security", index


def _partial_dates(resource: Resource) -> Iterator[Loc]:
    for path in DATES.get(resource_type(type(resource)), ()):
        value: Any = resource
        for name in path:
            value = getattr(value, name, None)
        if value is not None and parse_date(value) is None:
            yield path


# ---- what was not chosen ---------------------------------------------------------------------------------------------


def _not_chosen(message: BundleIndex, resource: Resource) -> Iterator[Loc]:
    match resource:
        case MessageHeader():
            sender = message.peek(resource.sender)
            yield from (("destination", later + 1) for later in range(len(resource.destination) - 1))
            yield from [("sender",)] if resource.sender and not (sender and message.is_used(sender)) else []
        case ServiceRequest():
            yield from _of_performers(message, resource)
        case Patient():
            yield from _of_patient(resource)
        case Practitioner() | RelatedPerson():
            yield from _of_referrer(message, resource)
        case PractitionerRole():
            yield from _other_points(resource.telecom, reach(resource.telecom, "phone", message.time, WORK_USES))
        case Organization():
            yield from [("telecom",)] if resource.telecom else []
            is_authority = any(is_system(one.system, AUTHORITY) for one in resource.identifier)
            yield from [("name",)] if is_authority and resource.name else []
            yield from _of_identifiers(resource.identifier)
        case FhirConsent():
            yield from (("performer", later + 1) for later in range(len(resource.performer) - 1))
        case Flag() if any(codes(concept, FLAGS) for concept in resource.category):
            yield from (("code", "coding", index) for index, one in enumerate(resource.code.coding))
        case Encounter():
            yield from _of_encounter(resource)
        case Location() if line(resource.name) and resource.identifier:
            yield ("identifier",)
        case DocumentReference():
            yield from _of_document(resource)


def _of_performers(message: BundleIndex, request: ServiceRequest) -> Iterator[Loc]:
    """Yield the organisations that are asked, other than housing authorities."""
    for index, performer in enumerate(request.performer):
        is_organization = isinstance(message.peek(performer), Organization) or performer.identifier is not None
        if is_organization and not any(authorities(message, performer)):
            yield "performer", index


def _of_encounter(encounter: Encounter) -> Iterator[Loc]:
    """Yield what is read of a stay only, and a discharge other than by death."""
    if encounter.class_.code not in INPATIENT:
        yield from ((name,) for name in ("period", "location", "extension") if getattr(encounter, name))
    if encounter.hospitalization and not states_death(encounter):
        yield ("hospitalization",)


def _of_referrer(message: BundleIndex, person: Practitioner | RelatedPerson) -> Iterator[Loc]:
    """Yield all but the best name and telephone, and the first identifier of a professional."""
    best = ranked(person.name, message.time, NAME_USES)[:1]
    yield from (("name", index) for index, one in enumerate(person.name) if one not in best)
    yield from _words_of_names(person.name, ())
    uses = WORK_USES if isinstance(person, Practitioner) else PRIVATE_USES
    yield from _other_points(person.telecom, reach(person.telecom, "phone", message.time, uses))
    if isinstance(person, Practitioner):
        first = [one for one in in_force(person.identifier, message.time) if line(one.value)][:1]
        yield from (("identifier", index) for index, one in enumerate(person.identifier) if one not in first)


def _of_patient(patient: Patient) -> Iterator[Loc]:
    """Yield what person.py does not list: death notices of a death that is stated, texts of names."""
    yield from _words_of_names(patient.name, ())
    if patient.deceasedBoolean or patient.deceasedDateTime:
        notices = list(uk_core.extensions(patient.extension, "DeathNotificationStatus"))
        yield from (("extension", n) for n, one in enumerate(patient.extension) if one in notices)
    for index, address in enumerate(patient.address):
        keys = [n for n, one in enumerate(address.extension) if uk_core.name_of(one.url) == "addresskey"]
        yield from (("address", index, "extension", n) for n in keys if not uprn(address))
        if line(address.text) not in (None, *address_lines(address)):
            yield ("address", index, "text")
    for index, contact in enumerate(patient.contact):
        yield from _words_of_names([contact.name] if contact.name else [], ("contact", index))


def _other_points(points: list[FhirContactPoint], read: str | None, loc: Loc = ()) -> Iterator[Loc]:
    return ((*loc, "telecom", index) for index, one in enumerate(points) if line(one.value) != read)


def _words_of_names(names: list[HumanName], loc: Loc) -> Iterator[Loc]:
    """Yield the texts of names that are read by their parts."""
    for index, name in enumerate(names):
        if name.text and (name.family or name.given):
            yield (*loc, "name", "text") if loc else ("name", index, "text")


def _of_identifiers(identifiers: list[FhirIdentifier]) -> Iterator[Loc]:
    """Yield the identifiers of an organisation that are not its code in a system that is read, or say it again."""
    known: set[str] = set()
    for index, one in enumerate(identifiers):
        is_read = any(is_system(one.system, system) for system in (*ODS, AUTHORITY))
        if not is_read or not one.value or one.value in known:
            yield ("identifier", index)
        known.add(one.value or "")


def _of_document(document: DocumentReference) -> Iterator[Loc]:
    titles = [content.attachment.title for content in document.content]
    if document.description and all(titles):
        yield ("description",)
    for index, content in enumerate(document.content):
        if content.attachment.data and content.attachment.url:
            yield ("content", index, "attachment", "url")
        elif content.attachment.contentType and not content.attachment.data:
            yield ("content", index, "attachment", "contentType")
