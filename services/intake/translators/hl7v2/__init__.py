"""Message Translator for HL7 v2 referrals of hospital discharge teams, and for ADT (adt.py): REF^I12, I13 and I14, versions 2.2 to 2.8.2.

I12 is new, I13 an update, I14 a cancel. The standard fixes most fields; local conventions are in the partner's reviewed
file, infra/reference_data/hl7v2/<partner>.yaml.

| canonical | source |
|---|---|
| message id, referral id, sent_at | MSH-3, MSH-4, MSH-10 and the content; RF1-6 or the field in the partner's file; MSH-7 |
| person | PID-3 (local ids; NHS number by type or authority), PID-2, PID-4, PID-32, PID-5, PID-7, PID-8, PID-11, PID-13/14, PID-15 |
| registered_practice, contacts | PD1-3; NK1, and the GP of PD1-4 or ROL |
| referred_by | the partner; name, identifier and telephone of the PRD with role RP |
| hospital, expected_discharge_on, discharged_on | PV1-3, PV1-44, PV1-45, PV2-9; the site per the partner's file |
| needs, reason | RF1-3 and RF1-10 by local codes, DG1 and RF1-10 in SNOMED CT, NTE by type, other fields per the partner's file |
| priority, referred_on | RF1-2; RF1-7, else RF1-9, else MSH-7 |
| consents, risk flags, dates and codes of the discharge, named authority | OBX and local fields, per the partner's file |
| attachments | OBX of type ED |
"""

import dataclasses
from collections.abc import Mapping

from services.intake.translators.hl7v2 import adt, field_paths, referral
from services.intake.translators.hl7v2 import header as headers
from services.intake.translators.hl7v2.er7 import FieldSelection
from services.intake.translators.hl7v2.message import message_of
from services.intake.translators.hl7v2.partner_profile import PartnerProfile
from services.intake.translators.hl7v2.profile_validation import load
from services.intake.translators.inbound_message import InboundMessage, Translator
from services.intake.translators.translator import Issue, Rejection, Translated, reject

__all__ = ["PartnerProfile", "load", "translator"]


def translator(profiles: Mapping[str, PartnerProfile]) -> Translator:
    """Return the translator of HL7 v2 messages of all partners that have a file."""
    read = {name: (profile, field_paths.select_fields(profile)) for name, profile in profiles.items()}
    return lambda inbound: _translate(read, inbound)


def _translate(
    profiles: Mapping[str, tuple[PartnerProfile, FieldSelection]], inbound: InboundMessage
) -> Translated | Rejection:
    if inbound.partner.id not in profiles:
        return reject(Issue("MSH", "forbidden", "this partner has no agreed HL7 v2 profile"))
    profile, selection = profiles[inbound.partner.id]
    header = headers.read(inbound.body, profile.encoding)
    if header is None:
        return reject(Issue("MSH", "invalid", "must begin with MSH and its separators, such as MSH|^~\\&|"))
    translated = adt.translated if header.message_code == "ADT" else referral.translated
    read = adt.select_fields(selection) if header.message_code == "ADT" else selection
    message = message_of(inbound, header, profile, read)
    outcome = message if isinstance(message, Rejection) else translated(header, message, profile, selection, inbound)
    return dataclasses.replace(outcome, header=header)
