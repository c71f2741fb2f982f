"""The referrer, from requester with its role and organisation; the registered practice, from generalPractitioner."""

import re
from typing import Any

from services.intake.translators.bars_fhir.bundle_index import (
    BundleIndex,
    code,
    display_text,
    index_of,
    is_system,
    line,
)
from services.intake.translators.bars_fhir.contact_details import PRIVATE_USES, WORK_USES, full_name, reach
from services.intake.translators.bars_fhir.in_force import holds, in_force
from services.intake.translators.bars_fhir.models import (
    FhirIdentifier,
    MessageHeader,
    Organization,
    Patient,
    Practitioner,
    PractitionerRole,
    Reference,
    RelatedPerson,
    Resource,
    ServiceRequest,
)
from services.intake.translators.translator import drop_empty, unique
from services.reference.partners import Partner

ODS = ("https://fhir.nhs.uk/Id/ods-organization-code", "https://fhir.nhs.uk/Id/ods-organisation-code")
"""The system of UK Core, and a variant in some published examples."""

_PRACTICE = re.compile(r"^[A-Z][0-9]{5}$")
"""The form of a GP practice's ODS code, such as B81001."""

_INTERMEDIARY_KINDS = ("first-contact", "customer-service", "other")


def referred_by(
    message: BundleIndex, request: ServiceRequest, header: MessageHeader, partner: Partner
) -> dict[str, Any]:
    """Return the referrer. Without an ODS code in the message, a partner that acts for itself is the organisation."""
    requester = _requester(message, request.requester)
    practitioner, organisation, holder = _parts(message, request, requester)
    own = partner.acts_for != "any" and not isinstance(requester, Patient | RelatedPerson)
    if organisation.get("ods") is None and own:
        organisation = partner.organisation.model_dump(exclude_none=True)
    if not partner.may_act_for(organisation.get("ods")):
        explanation = "this credential is not authorised to act for the organisation named as the referrer"
        message.add_issue(holder or request, ("identifier",) if holder else ("requester",), "forbidden", explanation)
    return drop_empty(
        {
            "kind": _kind(requester, organisation.get("ods"), partner),
            "organisation": organisation,
            "name": _name(message, requester, practitioner, request.requester),
            "identifier": _identifier(message, practitioner),
            "phone": _phone(message, requester, practitioner),
        }
    )


def _requester(message: BundleIndex, reference: Reference | None) -> Resource | None:
    kinds: tuple[type[Resource], ...] = (PractitionerRole, Practitioner, Organization, RelatedPerson, Patient)
    requester = next((resource for kind in kinds if (resource := message.find(reference, kind))), None)
    if isinstance(requester, Patient) and requester is not message.patient:
        message.add_issue(requester, (), "not-supported", "must not request something for another patient")
    if isinstance(requester, PractitionerRole | RelatedPerson) and not holds(requester.period, message.time):
        message.add_issue(requester, ("period",), "not-supported", "must include the time of the message")
    return requester


def _parts(
    message: BundleIndex, request: ServiceRequest, requester: Resource | None
) -> tuple[Practitioner | None, dict[str, Any], Organization | None]:
    """Return the practitioner, the organisation and its resource, by whichever resource the requester is."""
    held: Reference | None
    practitioner: Practitioner | None
    match requester:
        case PractitionerRole():
            practitioner, held = message.find(requester.practitioner, Practitioner), requester.organization
        case Practitioner():
            practitioner, held = requester, _held(message, request, requester)
        case Organization():
            return None, organisation(message, requester), requester
        case _:
            return None, _by_identifier(message, request.requester), None
    resource = message.find(held, Organization)
    named = organisation(message, resource) if resource else _by_identifier(message, held)
    return practitioner, named, resource


def _held(message: BundleIndex, request: ServiceRequest, practitioner: Practitioner) -> Reference | None:
    """Return the organisation of the requester's role in force; report several organisations, and ended roles only."""
    roles = _roles_of(message, practitioner)
    current = [role for role in in_force(roles, message.time) if message.counts(role)]
    references = [role.organization for role in current if role.organization]
    if roles and not current:
        explanation = "must have a role that is in force: those in the message have ended, or have not begun"
        message.add_issue(request, ("requester",), "not-supported", explanation)
    if len({_identity(message, one) for one in references}) > 1:
        explanation = "must refer to the PractitionerRole: the Practitioner has roles at several organisations"
        message.add_issue(request, ("requester",), "invariant", explanation)
    return references[0] if references else None


def _roles_of(message: BundleIndex, practitioner: Resource) -> list[PractitionerRole]:
    return [role for role in message.all(PractitionerRole) if message.peek(role.practitioner) is practitioner]


def _identity(message: BundleIndex, reference: Reference) -> tuple[int, str | None, str | None]:
    """Return what identifies an organisation: its resource, else its ODS code or name."""
    resource, named = message.peek(reference), _by_identifier(message, reference)
    return (id(resource), None, None) if resource else (0, named.get("ods"), named.get("name"))


def organisation(message: BundleIndex, resource: Organization) -> dict[str, Any]:
    """Return the canonical organisation of an Organization resource; report several ODS codes that are in force."""
    found = _ods(message, resource.identifier)
    if len(found) > 1:
        message.add_issue(resource, ("identifier",), "invariant", "has two different ODS codes")
    return drop_empty({"ods": found[0] if found else None, "name": line(resource.name)})


def _by_identifier(message: BundleIndex, reference: Reference | None) -> dict[str, Any]:
    """Return an organisation that a reference names by identifier or display, without a resource."""
    if reference is None:
        return {}
    found = _ods(message, [reference.identifier] if reference.identifier else [])
    return drop_empty({"ods": found[0] if found else None, "name": line(reference.display)})


def _ods(message: BundleIndex, identifiers: list[FhirIdentifier]) -> list[str]:
    """Return the different ODS codes that are in force."""
    current = in_force(identifiers, message.time)
    named = [code(one.value) for one in current if any(is_system(one.system, s) for s in ODS)]
    return unique([one.upper() for one in named if one])


def _kind(requester: Resource | None, ods: str | None, partner: Partner) -> str:
    """Return the kind of referrer, which decides the feedback."""
    match requester:
        case Patient():
            return "self"
        case RelatedPerson():
            spoken = " ".join(filter(None, map(display_text, requester.relationship))).casefold()
            return "carer" if "carer" in spoken else "family"
        case _ if ods and ods != partner.ods:
            return "gp" if _PRACTICE.match(ods) else "clinician"
        case _ if partner.kind in _INTERMEDIARY_KINDS and requester is not None:
            return "clinician"
        case _:
            return partner.kind


def _name(
    message: BundleIndex, requester: Resource | None, practitioner: Practitioner | None, reference: Reference | None
) -> str | None:
    if practitioner is not None:
        return full_name(practitioner.name, message.time)
    if isinstance(requester, RelatedPerson | Patient):
        return full_name(requester.name, message.time)
    return line(reference.display) if reference and requester is None else None


def _identifier(message: BundleIndex, practitioner: Practitioner | None) -> dict[str, Any] | None:
    if practitioner is None:
        return None
    for one in in_force(practitioner.identifier, message.time):
        place = ("identifier", index_of(one, practitioner.identifier), "value")
        if value := message.identifier(practitioner, place, one.value):
            return drop_empty({"system": one.system, "value": value})
    return None


def _phone(message: BundleIndex, requester: Resource | None, practitioner: Practitioner | None) -> str | None:
    sources = [requester, practitioner]
    points = [point for source in sources if source is not None for point in getattr(source, "telecom", [])]
    uses = PRIVATE_USES if isinstance(requester, RelatedPerson | Patient) else WORK_USES
    return reach(points, "phone", message.time, uses)


def registered_practice(message: BundleIndex, patient: Patient) -> dict[str, Any] | None:
    """Return the practice in generalPractitioner, by organisation, role or identifier; report two practices."""
    practices = [
        practice | {"at": message.at(patient, "generalPractitioner", index)}
        for index, reference in enumerate(patient.generalPractitioner)
        for held in _organisations_of(message, reference)
        if (practice := _practice(message, held))
    ]
    surgeries = unique([one["ods"] for one in practices if _PRACTICE.match(one.get("ods", ""))])
    if len(surgeries) > 1:
        message.add_issue(patient, ("generalPractitioner",), "invariant", "has two different practices")
    practices.sort(key=lambda practice: (practice.get("ods") not in surgeries, "ods" not in practice))
    message.left_out += [other["at"] for other in practices[1:] if other["at"] != practices[0]["at"]]
    return {name: value for name, value in practices[0].items() if name != "at"} if practices else None


def _organisations_of(message: BundleIndex, reference: Reference) -> list[Reference]:
    """Return the organisations for which a general practitioner works; none if that has ended."""
    named = message.peek(reference)
    if isinstance(named, PractitionerRole | Practitioner):
        roles = [named] if isinstance(named, PractitionerRole) else _roles_of(message, named)
        current = [role for role in in_force(roles, message.time) if message.counts(role)]
        message.left_out += [message.at(role) for role in roles if role not in current]
        return [role.organization for role in current if role.organization]
    return [reference]


def _practice(message: BundleIndex, reference: Reference) -> dict[str, Any]:
    named = message.peek(reference)
    if isinstance(named, Organization) and not in_force([named], message.time):
        message.left_out.append(message.at(named))
        return {}
    resource = message.find(reference, Organization)
    return organisation(message, resource) if resource else _by_identifier(message, reference)
