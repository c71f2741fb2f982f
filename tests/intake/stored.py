"""Rows of intake.referral for tests of decisions."""

from datetime import UTC, datetime
from typing import Any

from schemas.model import PersonKey, Reference
from services.intake.deduplication import StoredReferral


def a_stored_referral(**fields: Any) -> StoredReferral:
    """Build a row; without fields, one of which no message was applied yet."""
    row = {
        "partner": "a partner",
        "referral_id": "a referral",
        "reference": Reference("LB-0000-1111-2222"),
        "person_key": PersonKey("0" * 32),
        "version": 0,
        "first_intent": "new",
        "content_hash": "",
        "subject": "",
        "cancelled": False,
        "first_sent_at": None,
        "sent_at": None,
        "message_id": None,
        "last_at": datetime(2026, 11, 5, 9, 30, tzinfo=UTC),
    }
    return StoredReferral(**row | fields)
