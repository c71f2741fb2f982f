"""Who asked: the partner's own organisation, and the professional of PRD whose role is the one who refers."""

import re
from typing import Any

from services.intake.translators.contract import unnamed
from services.intake.translators.hl7v2 import places
from services.intake.translators.hl7v2.mapping import Mapping, fold
from services.intake.translators.hl7v2.person import full_name, phone
from services.intake.translators.hl7v2.segments import Message, Segment
from services.partners import Partner

SYSTEMS = {
    "gmc": "https://fhir.hl7.org.uk/Id/gmc-number",
    "nmc": "https://fhir.hl7.org.uk/Id/nmc-number",
    "gmp": "https://fhir.hl7.org.uk/Id/gmp-number",
    "sds": "https://fhir.nhs.uk/Id/sds-user-id",
}
"""Professional identifiers by type, in small letters; a partner's file may name more."""

_ODS = re.compile(r"[A-Z0-9]{3,10}")


def referred_by(message: Message, mapping: Mapping, partner: Partner) -> dict[str, Any]:
    """The referrer. A message may name another organisation only where the partner speaks for it: feedback goes there."""
    asked = next((one for one in message.all("PRD") if _refers(one, mapping)), None)
    named = _organisation(asked, mapping, partner) if asked else None
    return unnamed(
        {
            "kind": partner.kind,
            "organisation": {"ods": named} if named else partner.organisation.model_dump(exclude_none=True),
            "name": full_name(asked.first(2)) if asked else None,
            "identifier": _identifier(asked, mapping) if asked else None,
            "phone": phone(asked.all(5)) if asked else None,
        }
    )


def _refers(provider: Segment, mapping: Mapping) -> bool:
    return any(mapping.is_one(mapping.referrer.roles, role.text()) for role in provider.all(1))


def _organisation(asked: Segment, mapping: Mapping, partner: Partner) -> str | None:
    if mapping.referrer.organisation is None:
        return None
    _, number, component = places.split(mapping.referrer.organisation)
    said = asked.text(number, component)
    code = said.upper() if said else None
    is_another = code is not None and code != partner.ods and _ODS.fullmatch(code) is not None
    return code if is_another and partner.may_act_for(code) else None


def _identifier(asked: Segment, mapping: Mapping) -> dict[str, Any] | None:
    for one in asked.all(7):
        kind, value = one.text(2), one.text()
        if value:
            system = {**SYSTEMS, **mapping.referrer.systems}.get(fold(kind)) if kind else None
            return unnamed({"system": system, "value": value})
    return None
