"""Who asked, and where the person is registered: from requester, its role and organisation, and generalPractitioner."""

import re
from typing import Any

from services.intake.translators.bars_fhir.message import Message, is_system, line, words
from services.intake.translators.bars_fhir.models import (
    Identifier,
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
from services.intake.translators.bars_fhir.person import full_name, reach
from services.intake.translators.contract import unnamed
from services.partners import Partner

ODS = ("https://fhir.nhs.uk/Id/ods-organization-code", "https://fhir.nhs.uk/Id/ods-organisation-code")
"""As UK Core fixes it, and as some published examples spell it."""

_PRACTICE = re.compile(r"^[A-Z][0-9]{5}$")
"""The form of a GP practice's ODS code, such as B81001."""

_FRONT_DOORS = ("first-contact", "customer-service", "other")


def referred_by(message: Message, request: ServiceRequest, header: MessageHeader, partner: Partner) -> dict[str, Any]:
    """The referrer. Where the message names no ODS code, a partner that speaks for itself is the organisation."""
    asked = _requester(message, request.requester)
    practitioner, organisation, holder = _parts(message, request.requester, asked)
    own = partner.acts_for != "any" and not isinstance(asked, Patient | RelatedPerson)
    if organisation.get("ods") is None and own:
        organisation = partner.organisation.model_dump(exclude_none=True)
    if not partner.may_act_for(organisation.get("ods")):
        explanation = "this credential is not authorised to act for the organisation named as the referrer"
        message.fault(holder or request, ("identifier",) if holder else ("requester",), "forbidden", explanation)
    return unnamed(
        {
            "kind": _kind(asked, organisation.get("ods"), partner),
            "organisation": organisation,
            "name": _name(asked, practitioner, request.requester),
            "identifier": _identifier(practitioner),
            "phone": _phone(asked, practitioner),
        }
    )


def _requester(message: Message, reference: Reference | None) -> Resource | None:
    kinds: tuple[type[Resource], ...] = (PractitionerRole, Practitioner, Organization, RelatedPerson, Patient)
    return next((found for kind in kinds if (found := message.find(reference, kind))), None)


def _parts(
    message: Message, reference: Reference | None, asked: Resource | None
) -> tuple[Practitioner | None, dict[str, Any], Organization | None]:
    """The professional, the organisation, and the resource that names it, by whichever of them requester refers to."""
    role: PractitionerRole | None
    practitioner: Practitioner | None
    match asked:
        case PractitionerRole():
            role, practitioner = asked, message.find(asked.practitioner, Practitioner)
        case Practitioner():
            role, practitioner = _role_of(message, asked), asked
        case Organization():
            return None, organisation(asked), asked
        case _:
            return None, _by_identifier(reference), None
    held = role.organization if role else None
    found = message.find(held, Organization)
    return practitioner, organisation(found) if found else _by_identifier(held), found


def _role_of(message: Message, practitioner: Practitioner) -> PractitionerRole | None:
    roles = message.all(PractitionerRole)
    return next((role for role in roles if message.find(role.practitioner, Practitioner) is practitioner), None)


def organisation(found: Organization) -> dict[str, Any]:
    """The canonical organisation of a resource."""
    return unnamed({"ods": _ods(found.identifier), "name": line(found.name)})


def _by_identifier(reference: Reference | None) -> dict[str, Any]:
    """An organisation that a reference names by identifier or words, without a resource."""
    if reference is None:
        return {}
    return unnamed(
        {"ods": _ods([reference.identifier] if reference.identifier else []), "name": line(reference.display)}
    )


def _ods(identifiers: list[Identifier]) -> str | None:
    for one in identifiers:
        if one.value and any(is_system(one.system, system) for system in ODS):
            return one.value.strip().upper() or None
    return None


def _kind(asked: Resource | None, ods: str | None, partner: Partner) -> str:
    """What the referrer is to the person: decides which feedback they hear."""
    match asked:
        case Patient():
            return "self"
        case RelatedPerson():
            spoken = " ".join(filter(None, map(words, asked.relationship))).casefold()
            return "carer" if "carer" in spoken else "family"
        case _ if ods and ods != partner.ods:
            return "gp" if _PRACTICE.match(ods) else "clinician"
        case _ if partner.kind in _FRONT_DOORS and asked is not None:
            return "clinician"
        case _:
            return partner.kind


def _name(asked: Resource | None, practitioner: Practitioner | None, reference: Reference | None) -> str | None:
    if practitioner is not None:
        return full_name(practitioner.name)
    if isinstance(asked, RelatedPerson | Patient):
        return full_name(asked.name)
    return line(reference.display) if reference and asked is None else None


def _identifier(practitioner: Practitioner | None) -> dict[str, Any] | None:
    given = practitioner.identifier if practitioner else []
    return next((unnamed({"system": one.system, "value": line(one.value)}) for one in given if line(one.value)), None)


def _phone(asked: Resource | None, practitioner: Practitioner | None) -> str | None:
    sources = [asked, practitioner]
    points = [point for source in sources if source is not None for point in getattr(source, "telecom", [])]
    return reach(points, "phone")


def registered_practice(message: Message, patient: Patient) -> dict[str, Any] | None:
    """The practice that the patient's generalPractitioner names, by organisation, role or identifier."""
    for reference in patient.generalPractitioner:
        role = message.find(reference, PractitionerRole)
        held = role.organization if role else reference
        found = message.find(held, Organization)
        practice = organisation(found) if found else _by_identifier(held)
        if practice:
            return practice
    return None
