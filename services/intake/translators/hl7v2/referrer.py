"""The referrer: the partner's organisation, and the professional of the PRD with the referring role."""

import re
from typing import Any

from services.intake.translators.hl7v2 import field_paths
from services.intake.translators.hl7v2.er7 import Hl7Message, Segment
from services.intake.translators.hl7v2.partner_profile import PartnerProfile, fold
from services.intake.translators.hl7v2.person import full_name, phone
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


def referred_by(message: Hl7Message, profile: PartnerProfile, partner: Partner) -> dict[str, Any]:
    """Return the referrer. Another organisation, which gets the feedback, counts only if the partner may act for it."""
    provider = next((one for one in message.all("PRD") if _refers(one, profile)), None)
    named = _organisation(provider, profile, partner) if provider else None
    return drop_empty(
        {
            "kind": partner.kind,
            "organisation": {"ods": named} if named else partner.organisation.model_dump(exclude_none=True),
            "name": full_name(provider.first(2)) if provider else None,
            "identifier": _identifier(provider, profile) if provider else None,
            "phone": phone(provider.all(5)) if provider else None,
        }
    )


def _refers(provider: Segment, profile: PartnerProfile) -> bool:
    return any(profile.is_one(profile.referrer.roles, role.text()) for role in provider.all(1))


def _organisation(provider: Segment, profile: PartnerProfile, partner: Partner) -> str | None:
    if profile.referrer.organisation is None:
        return None
    _, number, component = field_paths.split(profile.referrer.organisation)
    value = provider.text(number, component)
    code = value.upper() if value else None
    is_another = code is not None and code != partner.ods and _ODS.fullmatch(code) is not None
    return code if is_another and partner.may_act_for(code) else None


def _identifier(provider: Segment, profile: PartnerProfile) -> dict[str, Any] | None:
    for one in provider.all(7):
        kind, value = one.text(2), one.text()
        if value:
            system = {**SYSTEMS, **profile.referrer.systems}.get(fold(kind)) if kind else None
            return drop_empty({"system": system, "value": value})
    return None
