"""Places of a referral that a partner's observations and local fields may fill, and the kind of value of each."""

from typing import Any, Literal

from schemas.referral import Consent, Referral

TargetKind = Literal["text", "prose", "date", "code", "yes-no", "lines", "consent", "flags", "needs", "reason"]

TARGETS: dict[str, TargetKind] = {
    "hospital.site": "text",
    "hospital.ward": "text",
    "hospital.bed": "text",
    "hospital.admitted_on": "date",
    "hospital.pathway": "code",
    "hospital.delay_attributed_to": "code",
    "hospital.trusted_assessment_suitable": "yes-no",
    "hospital.needs_assessment_attached": "yes-no",
    "ready_for_transfer_on": "date",
    "expected_discharge_on": "date",
    "discharged_on": "date",
    "enquired_on": "date",
    "referred_on": "date",
    "named_authority": "code",
    "priority": "code",
    "registered_practice.ods": "text",
    "registered_practice.name": "text",
    "person.language": "text",
    "person.interpreter_needed": "yes-no",
    "person.communication_needs": "lines",
    "person.address.no_fixed_abode": "yes-no",
    "person.address.uprn": "text",
    "person.phone": "text",
    "person.email": "text",
    "person.preferred_contact.method": "text",
    "person.preferred_contact.times": "text",
    "person.preferred_contact.written_format": "text",
    "person.restricted_access": "yes-no",
    "person.death_reported": "yes-no",
    "person.death_reported.died_on": "date",
    "reason.text": "prose",
    "reason.code": "reason",
    "needs": "needs",
    "risk_flags": "flags",
    "consents.referral": "consent",
    "consents.feedback": "consent",
    "consents.evaluation": "consent",
}
"""Kinds by place. `consent`: with the day of OBX-14 and the observer of OBX-16. `flags`: code and text of the value."""

YES_NO = {"y": True, "yes": True, "n": False, "no": False}
"""Default codes of a yes-no place (HL7 table 0136), in lower case."""


def annotation_of(place: str) -> Any:
    """Return the type of a place that has codes; for a consent, the type of its answer."""
    if place.startswith("consents."):
        return Consent.model_fields["answer"].annotation
    model: Any = Referral
    for part in place.split("."):
        field = model.model_fields[part]
        model = next(
            (one for one in getattr(field.annotation, "__args__", ()) if hasattr(one, "model_fields")), field.annotation
        )
    return field.annotation
