"""The referrer, from requester with its role and organisation; the registered practice, from generalPractitioner."""

import re
from typing import Any

from services.intake.translators.bars_fhir.bundle_index import BundleIndex, display_text, is_system, line
from services.intake.translators.bars_fhir.contact_details import PRIVATE_USES, WORK_USES, full_name, reach
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
from services.intake.translators.translator import drop_empty
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
    practitioner, organisation, holder = _parts(message, request.requester, requester)
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
            "identifier": _identifier(practitioner),
            "phone": _phone(message, requester, practitioner),
        }
    )


def _requester(message: BundleIndex, reference: Reference | None) -> Resource | None:
    kinds: tuple[type[Resource], ...] = (PractitionerRole, Practitioner, Organization, RelatedPerson, Patient)
    return next((resource for kind in kinds if (resource := message.find(reference, kind))), None)


def _parts(
    message: BundleIndex, reference: Reference | None, requester: Resource | None
) -> tuple[Practitioner | None, dict[str, Any], Organization | None]:
    """Return the practitioner, the organisation and its resource, by whichever resource the requester is."""
    role: PractitionerRole | None
    practitioner: Practitioner | None
    match requester:
        case PractitionerRole():
            role, practitioner = requester, message.find(requester.practitioner, Practitioner)
        case Practitioner():
            role, practitioner = _role_of(message, requester), requester
        case Organization():
            return None, organisation(requester), requester
        case _:
            return None, _by_identifier(reference), None
    held = role.organization if role else None
    resource = message.find(held, Organization)
    return practitioner, organisation(resource) if resource else _by_identifier(held), resource


def _role_of(message: BundleIndex, practitioner: Practitioner) -> PractitionerRole | None:
    roles = message.all(PractitionerRole)
    return next((role for role in roles if message.find(role.practitioner, Practitioner) is practitioner), None)


def organisation(resource: Organization) -> dict[str, Any]:
    """Return the canonical organisation of an Organization resource."""
    return drop_empty({"ods": _ods(resource.identifier), "name": line(resource.name)})


def _by_identifier(reference: Reference | None) -> dict[str, Any]:
    """Return an organisation that a reference names by identifier or display, without a resource."""
    if reference is None:
        return {}
    return drop_empty(
        {"ods": _ods([reference.identifier] if reference.identifier else []), "name": line(reference.display)}
    )


def _ods(identifiers: list[FhirIdentifier]) -> str | None:
    for one in identifiers:
        if one.value and any(is_system(one.system, system) for system in ODS):
            return one.value.strip().upper() or None
    return None


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


def _identifier(practitioner: Practitioner | None) -> dict[str, Any] | None:
    identifiers = practitioner.identifier if practitioner else []
    return next(
        (drop_empty({"system": one.system, "value": line(one.value)}) for one in identifiers if line(one.value)), None
    )


def _phone(message: BundleIndex, requester: Resource | None, practitioner: Practitioner | None) -> str | None:
    sources = [requester, practitioner]
    points = [point for source in sources if source is not None for point in getattr(source, "telecom", [])]
    uses = PRIVATE_USES if isinstance(requester, RelatedPerson | Patient) else WORK_USES
    return reach(points, "phone", message.time, uses)


def registered_practice(message: BundleIndex, patient: Patient) -> dict[str, Any] | None:
    """Return the practice in generalPractitioner, by organisation, role or identifier."""
    for reference in patient.generalPractitioner:
        role = message.find(reference, PractitionerRole)
        held = role.organization if role else reference
        resource = message.find(held, Organization)
        practice = organisation(resource) if resource else _by_identifier(held)
        if practice:
            return practice
    return None
