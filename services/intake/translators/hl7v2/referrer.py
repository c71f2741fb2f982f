"""The referrer: the partner's organisation, and the professional of the PRD with the referring role."""

import re
from datetime import date, datetime
from typing import Any

from services.intake.translators.hl7v2 import field_paths
from services.intake.translators.hl7v2.contact_details import full_name, phone
from services.intake.translators.hl7v2.dates import day_of_message, is_in_force, read_dates
from services.intake.translators.hl7v2.er7 import Hl7Message, Segment
from services.intake.translators.hl7v2.partner_profile import PartnerProfile, fold
from services.intake.translators.translator import drop_empty
from services.reference.partners import Partner

SYSTEMS = {
    "gmc": "https://fhir.hl7.org.uk/Id/gmc-number",
    "nmc": "https://fhir.hl7.org.uk/Id/nmc-number",
    "gmp": "https://fhir.hl7.org.uk/Id/gmp-number",
    "sds": "https://fhir.nhs.uk/Id/sds-user-id",
}
"""Systems of professional identifiers by type, in lower case; a partner's file may add more."""

_ODS = re.compile(r"[A-Z0-9]{3,10}")


def referred_by(
    message: Hl7Message, profile: PartnerProfile, partner: Partner, received_at: datetime
) -> dict[str, Any]:
    """Return the referrer. Another organisation, which gets the feedback, counts only if the partner may act for it."""
    day = day_of_message(message, received_at)
    provider = next((one for one in message.all("PRD") if _refers(one, profile, day)), None)
    named = _organisation(provider, profile, partner) if provider else None
    return drop_empty(
        {
            "kind": partner.kind,
            "organisation": {"ods": named} if named else partner.organisation.model_dump(exclude_none=True),
            "name": full_name(provider.first(2)) if provider else None,
            "identifier": _identifier(provider, profile) if provider else None,
            "phone": phone(provider.all(5), day) if provider else None,
        }
    )


def _refers(provider: Segment, profile: PartnerProfile, day: date) -> bool:
    """Return whether a provider has the role of a referrer, by either code, in force."""
    roles = (code for role in provider.all(1) for code in field_paths.codes(role))
    in_force = is_in_force(read_dates(provider.first(8), provider.first(9)), day)
    return in_force and any(profile.is_one(profile.referrer.roles, role) for role in roles)


def _organisation(provider: Segment, profile: PartnerProfile, partner: Partner) -> str | None:
    if profile.referrer.organisation is None:
        return None
    _, number, component = field_paths.split(profile.referrer.organisation)
    parts = (part.upper() for one in provider.all(number) for part in one.subcomponents(component))
    codes = (code for code in parts if _ODS.fullmatch(code))
    return next((code for code in codes if code != partner.ods and partner.may_act_for(code)), None)


def _identifier(provider: Segment, profile: PartnerProfile) -> dict[str, Any] | None:
    for one in provider.all(7):
        kind, value = one.text(2), one.code()
        if value:
            system = {**SYSTEMS, **profile.referrer.systems}.get(fold(kind)) if kind else None
            return drop_empty({"system": system, "value": value})
    return None
