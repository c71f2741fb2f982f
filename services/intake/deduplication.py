"""Which message this is, and which referral: new, a change, a repeat, a conflict. Pure: no database, no clock.

Sources: BaRS Core 1.5, error handling (409 duplicate and conflict); for HL7 v2 and files:
docs/decisions/0009-identify-messages-by-id-and-content.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Literal

Intent = Literal["new", "update", "cancel", "either"]


class Verdict(StrEnum):
    """What becomes of a message that was understood. The first three make an event; they and the next two are ours."""

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


@dataclass(frozen=True, slots=True)
class MessageFingerprint:
    """What is judged of a message: its ids, its content by hash, what it asks, and its sender's own time."""

    message_ids: tuple[str, ...]
    content_hash: str
    intent: Intent
    sent_at: datetime | None


@dataclass(frozen=True, slots=True)
class ReferralVersion:
    """What is held of the referral that the message names: its last applied message. Version 0: nothing."""

    version: int = 0
    content_hash: str = ""
    first_intent: Intent = "new"
    sent_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class AcceptedContent:
    """An accepted message that had one of these ids."""

    content_hash: str


def classify(message: MessageFingerprint, current: ReferralVersion, accepted: Mapping[str, AcceptedContent]) -> Verdict:
    """What the message is. `seen`: accepted messages of this partner by message id.

    An id that was seen before decides first. Then the referral: a cancel for an unknown one is refused, a whole update of an
    unknown one is new, and what its sender made before the message that is held is recorded, not applied.
    """
    before = [accepted[name] for name in message.message_ids if name in accepted]
    if before:
        return _repeated(all(one.content_hash == message.content_hash for one in before))
    if current.version == 0:
        return Verdict.UNKNOWN if message.intent == "cancel" else Verdict.RECEIVED
    same = message.content_hash == current.content_hash
    match message.intent:
        case "new" if current.first_intent == "new" or same:
            return _repeated(same)
        case "either" | "cancel" if same:
            return Verdict.REPEAT
        case _ if _is_older(message.sent_at, current.sent_at):
            return Verdict.STALE
        case "new":
            return Verdict.CONFLICT
        case "cancel":
            return Verdict.CANCELLED
        case _:
            return Verdict.UPDATED


def apply_verdict(message: MessageFingerprint, current: ReferralVersion, verdict: Verdict) -> ReferralVersion:
    """What is held after this verdict."""
    if not verdict.makes_event:
        return current
    first = message.intent if current.version == 0 else current.first_intent
    sent_at = message.sent_at or current.sent_at
    return replace(
        current,
        version=current.version + 1,
        content_hash=message.content_hash,
        first_intent=first,
        sent_at=sent_at,
    )


def _repeated(same_content: bool) -> Verdict:
    return Verdict.REPEAT if same_content else Verdict.CONFLICT


def _is_older(sent_at: datetime | None, than: datetime | None) -> bool:
    return sent_at is not None and than is not None and sent_at < than
