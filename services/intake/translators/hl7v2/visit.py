"""The hospital stay, from PV1 and PV2."""

from typing import Any

from services.intake.translators.hl7v2 import field_paths
from services.intake.translators.hl7v2.dates import read_date
from services.intake.translators.hl7v2.er7 import Hl7Message
from services.intake.translators.hl7v2.partner_profile import PartnerProfile, fold
from services.intake.translators.hl7v2.person import identifier
from services.intake.translators.translator import drop_empty

CANCELLED = "A11"
"""EVN-1 of the state of a referral whose admission was cancelled (field_state.py)."""

OF_A_STAY = ("hospital", "expected_discharge_on", "ready_for_transfer_on", "discharged_on")
"""Fields of a referral that only a hospital stay has."""


def is_stay(message: Hl7Message, profile: PartnerProfile) -> bool:
    """Return whether PV1-2 is empty or an inpatient class; otherwise no hospital team holds the case.

    A class that is not agreed is a part to be read, and means a stay, so that no hub but the hospital team's learns of it.
    """
    classes = [code for one in message.repetitions("PV1", 2) for code in field_paths.codes(one)]
    if any(profile.is_one(profile.stay_classes, one) for one in classes):
        return True
    if any(profile.is_one(profile.not_stay_classes, one) for one in classes):
        return False
    if one := message.first("PV1", 2):
        one.reading.to_read(one.place, "value", one.prose())
    return True


def stay(message: Hl7Message, profile: PartnerProfile) -> dict[str, Any]:
    """Return visit, location, admission, expected and actual discharge. The site alone does not make a stay."""
    days = {
        "expected_discharge_on": read_date(field_paths.only(message, "PV2", 9), decides=True),
        "discharged_on": read_date(field_paths.only(message, "PV1", 45), decides=True),
    }
    has_visit = any(visit.fields for visit in message.all("PV1"))
    return drop_empty(days) | ({"hospital": _hospital(message, profile)} if has_visit else {})


def _hospital(message: Hl7Message, profile: PartnerProfile) -> dict[str, Any]:
    where = field_paths.only(message, "PV1", 3)
    beds = [part for n in (2, 3) if (part := where.text(n))] if where else []
    return drop_empty(
        {
            "visit": _visit(message, profile),
            "site": site_at(message, profile),
            "ward": where.text() if where else None,
            "bed": ", ".join(beds),
            "admitted_on": read_date(message.first("PV1", 44)),
            "admission_cancelled": message.text("EVN", 1) == CANCELLED or None,
            "moved_to": _moved_to(message, profile),
        }
    )


def _visit(message: Hl7Message, profile: PartnerProfile) -> dict[str, Any] | None:
    """Return the visit number (PV1-19) with the system of its authority."""
    one = field_paths.only(message, "PV1", 19)
    number = one.code() if one else None
    return identifier(one, number, profile) if one and number else None


def _moved_to(message: Hl7Message, profile: PartnerProfile) -> str | None:
    """Return another organisation's hospital that the person was discharged to: the words or code of PV1-37."""
    destinations = map(profile.destination, field_paths.destinations(message, 37, 36))
    if not message.first("PV1", 45) or "another-hospital" not in destinations:
        return None
    where = message.first("PV1", 37)
    return (where and where.text()) or "another hospital"


def site_at(message: Hl7Message, profile: PartnerProfile, place: str = "PV1-3") -> str | None:
    """Return the site of the first part of the field that is agreed, such as the namespace of an authority (HD).

    `place`: the field of the location, PV1-6 for that before a transfer.
    """
    path = profile.site.read_from.replace("PV1-3", place) if profile.site else ""
    parts = list(field_paths.parts(message, path)) if path else []
    meanings = profile.site.meanings if profile.site else {}
    return next((meanings[fold(part)] for part in parts if fold(part) in meanings), next(iter(parts), None))
