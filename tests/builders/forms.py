"""Build forms of synthetic people (999 numbers only)."""

from typing import Any
from uuid import uuid4


def a_form(**changes: Any) -> dict[str, Any]:
    """Return a completed First Contact checklist for a person whom a practice referred."""
    filled: dict[str, Any] = {
        "reference": f"FC-{uuid4()}",
        "referred_by": "gp",
        "practice_ods": "C82991",
        "referrer_name": "Dr Ngozi Okafor",
        "nhs_number": "999 000 0026",
        "nhs_number_status": "verified",
        "given_names": ["Carl"],
        "family_name": "Castle",
        "birth_date": "1950-06-01",
        "address": ["2 Any Street", "Hinckley"],
        "postcode": "le10 0aa",
        "phone": "0116 496 0003",
        "needs": {"grab_rails": True, "bathing": "shower cannot be reached", "benefits": True},
        "consents": {"referral": "yes", "feedback": "yes", "on": "2026-11-04", "by": "First Contact adviser"},
        "referred_on": "2026-11-04",
    }
    changed = filled | changes
    return {name: value for name, value in changed.items() if value is not None}
