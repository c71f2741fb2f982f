"""Message Translator for HL7 v2 referrals of hospital discharge teams: REF^I12 (new), I13 (update), I14 (cancel), versions 2.2 to 2.5.1.

The standard fixes where most of it stands; what is local to a partner is in its reviewed file, infra/directory/hl7v2/<partner>.yaml.

| canonical | where it is read |
|---|---|
| message id, referral id, sent_at | MSH-3, MSH-4, MSH-10 and the content; RF1-6 or where the file says; MSH-7 |
| person | PID-3 (NHS number by its type, others as local ids), PID-32, PID-5 (the legal name), PID-7, PID-8, PID-11, PID-13/14, PID-15 |
| registered_practice, contacts | PD1-3; NK1, and the GP of PD1-4 or ROL |
| referred_by | the partner itself; name, identifier and telephone of the PRD whose role is RP |
| hospital, expected_discharge_on, discharged_on | PV1-3, PV1-44, PV1-45, PV2-9; the site by the partner's file |
| needs, reason | RF1-3 and RF1-10 by local codes, DG1 and RF1-10 in SNOMED CT, NTE by type, other fields by the partner's file |
| priority, referred_on | RF1-2; RF1-7, else RF1-9, else MSH-7 |
| consents, risk flags, dates and codes of the discharge, named authority | OBX and fields of the partner's own, by its file |
| attachments | OBX of type ED |
"""

from collections.abc import Mapping as MappingOf

from services.intake.translators.contract import Delivery, Fault, Refusal, Translated, Translator, refuse
from services.intake.translators.hl7v2 import places, referral
from services.intake.translators.hl7v2.checks import load
from services.intake.translators.hl7v2.mapping import Mapping
from services.intake.translators.hl7v2.message import message_of
from services.intake.translators.hl7v2.segments import Wanted

__all__ = ["Mapping", "load", "translator"]


def translator(mappings: MappingOf[str, Mapping]) -> Translator:
    """The translator of every partner that has a file."""
    read = {name: (mapping, places.wanted(mapping)) for name, mapping in mappings.items()}
    return lambda delivery: _translate(read, delivery)


def _translate(mappings: MappingOf[str, tuple[Mapping, Wanted]], delivery: Delivery) -> Translated | Refusal:
    if delivery.partner.id not in mappings:
        return refuse(Fault("MSH", "forbidden", "no mapping of HL7 v2 is agreed with this partner"))
    mapping, wanted = mappings[delivery.partner.id]
    found = message_of(delivery, mapping, wanted)
    if isinstance(found, Refusal):
        return found
    header, message = found
    return referral.translated(header, message, mapping, delivery)
