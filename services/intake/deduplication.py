"""Classify a message as new, update, cancel, duplicate, stale or conflict (Idempotent Receiver). No I/O, no clock.

Sources: BaRS Core 1.5, error handling (409 duplicate and conflict); for HL7 v2 and files:
docs/decisions/0009-identify-messages-by-id-and-content.md.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from schemas.model import PersonKey, Reference
from services.intake.translators.translator import Intent, Translated


class Verdict(StrEnum):
    """The classification of a translated message. The first three publish an event; the last two are refused."""

    RECEIVED = "received"
    UPDATED = "updated"
    CANCELLED = "cancelled"
    REPEAT = "duplicate"
    STALE = "stale"
    CONFLICT = "conflict"
    UNKNOWN = "unknown"

    @property
    def makes_event(self) -> bool:
        return self in (Verdict.RECEIVED, Verdict.UPDATED, Verdict.CANCELLED)


@dataclass(slots=True)
class StoredReferral:
    """A row of intake.referral: a referral and its last applied message. Version 0 means that none was applied."""

    partner: str
    referral_id: str
    reference: Reference
    person_key: PersonKey
    version: int
    first_intent: Intent
    content_hash: str
    cancelled: bool
    sent_at: datetime | None
    message_id: UUID | None
    last_at: datetime
    changed: bool = False
    """True if this batch changed the row."""


@dataclass(frozen=True, slots=True)
class AcceptedMessage:
    """An accepted message of the same partner, found by one of its ids."""

    content_hash: str
    message_id: UUID
    reference: Reference


def classify(message: Translated, stored: StoredReferral, originals: Collection[AcceptedMessage]) -> Verdict:
    """Return the verdict on a message. `originals` are the accepted messages that have one of its ids.

    A known message id decides first. Then the state of the referral: a cancel of an unknown referral is refused, a complete
    update of an unknown referral is new, and a message older than the last applied one is stored but not applied.
    """
    if originals:
        return _repeated(all(one.content_hash == message.content_hash for one in originals))
    if stored.version == 0:
        return Verdict.UNKNOWN if message.intent == "cancel" else Verdict.RECEIVED
    same = message.content_hash == stored.content_hash
    match message.intent:
        case "new" if stored.first_intent == "new" or same:
            return _repeated(same)
        case "either" | "cancel" if same:
            return Verdict.REPEAT
        case _ if _is_older(message.sent_at, stored.sent_at):
            return Verdict.STALE
        case "new":
            return Verdict.CONFLICT
        case "cancel":
            return Verdict.CANCELLED
        case _:
            return Verdict.UPDATED


def apply_verdict(message: Translated, stored: StoredReferral, verdict: Verdict) -> None:
    """Update the stored referral to the message, if the verdict makes an event."""
    if not verdict.makes_event:
        return
    if stored.version == 0:
        stored.first_intent = message.intent
    stored.version += 1
    stored.content_hash = message.content_hash
    stored.sent_at = message.sent_at or stored.sent_at
    stored.cancelled = message.intent == "cancel"
    stored.changed = True


def _repeated(same_content: bool) -> Verdict:
    return Verdict.REPEAT if same_content else Verdict.CONFLICT


def _is_older(sent_at: datetime | None, than: datetime | None) -> bool:
    return sent_at is not None and than is not None and sent_at < than
