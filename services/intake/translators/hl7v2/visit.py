"""The hospital stay, from PV1 and PV2."""

from typing import Any

from services.intake.translators.hl7v2 import field_paths
from services.intake.translators.hl7v2.dates import read_date
from services.intake.translators.hl7v2.er7 import Hl7Message
from services.intake.translators.hl7v2.partner_profile import PartnerProfile, fold
from services.intake.translators.translator import drop_empty

OF_A_STAY = ("hospital", "expected_discharge_on", "ready_for_transfer_on", "discharged_on")
"""Fields of a referral that only a hospital stay has."""


def is_stay(message: Hl7Message, profile: PartnerProfile) -> bool:
    """Return whether PV1-2 is empty or an inpatient class; otherwise no hospital team holds the case."""
    patient_class = message.text("PV1", 2)
    return patient_class is None or profile.is_one(profile.stay_classes, patient_class)


def stay(message: Hl7Message, profile: PartnerProfile) -> dict[str, Any]:
    """Return location, admission, expected and actual discharge. The site alone does not make a stay."""
    where = message.first("PV1", 3)
    beds = [part for n in (2, 3) if (part := where.text(n))] if where else []
    has_visit = any(visit.fields for visit in message.all("PV1"))
    lies = {
        "site": _site(message, profile) if has_visit else None,
        "ward": where.text() if where else None,
        "bed": ", ".join(beds),
        "admitted_on": read_date(message.first("PV1", 44)),
    }
    leaves = {
        "expected_discharge_on": read_date(message.first("PV2", 9)),
        "discharged_on": read_date(message.first("PV1", 45)),
    }
    return drop_empty(leaves) | ({"hospital": drop_empty(lies)} if has_visit else {})


def _site(message: Hl7Message, profile: PartnerProfile) -> str | None:
    code = field_paths.text(message, profile.site.read_from) if profile.site else None
    return profile.site.meanings.get(fold(code), code) if profile.site and code else None
