"""Classify a message as new, update, cancel, duplicate, stale or conflict (Idempotent Receiver). No I/O, no clock.

Sources: BaRS Core 1.5, error handling (409 duplicate and conflict); for HL7 v2 and files docs/decisions/0009-identity-of-messages.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Literal

Intent = Literal["new", "update", "cancel", "either"]


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


@dataclass(frozen=True, slots=True)
class MessageFingerprint:
    """The parts of a message that are compared: its ids, the hash of its content, its intent and the sender's time."""

    message_ids: tuple[str, ...]
    content_hash: str
    intent: Intent
    sent_at: datetime | None


@dataclass(frozen=True, slots=True)
class ReferralVersion:
    """The last applied message of a referral. Version 0 means that none was applied."""

    version: int = 0
    content_hash: str = ""
    first_intent: Intent = "new"
    sent_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class AcceptedContent:
    """The content of an accepted message that has one of the message's ids."""

    content_hash: str


def classify(message: MessageFingerprint, current: ReferralVersion, accepted: Mapping[str, AcceptedContent]) -> Verdict:
    """Return the verdict on a message. `accepted` are accepted messages of the same partner by message id.

    A known message id decides first. Then the state of the referral: a cancel of an unknown referral is refused, a complete
    update of an unknown referral is new, and a message older than the last applied one is stored but not applied.
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
    """Return the version of the referral after this verdict."""
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
