"""Classify a message as new, update, cancel, duplicate, stale or conflict (Idempotent Receiver). No I/O, no clock.

Sources: BaRS Core 1.5, error handling (409 duplicate and conflict), payload tables (Bundle.id is retained) and Cancellation; for
HL7 v2 and files: docs/decisions/0009-identify-messages-by-id-and-content.md.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from schemas.case import EndReason
from schemas.model import PersonKey, Reference
from services.intake.translators.translator import TRANSIENT, Intent, ReferralName, Translated


class Verdict(StrEnum):
    """The classification of a translated message. The first six publish an event. UNRELATED concerns no referral and is not stored; the
    five before it are refused.

    `NOT_APPLIED`: a cancel older than an update. `CONTRADICTED`: of another person, in a format in which a refusal stops a queue.
    """

    RECEIVED = "received"
    UPDATED = "updated"
    CANCELLED = "cancelled"
    NOT_APPLIED = "not-applied"
    CONTRADICTED = "contradicted"
    MERGE_PROPOSED = "merge-proposed"
    REPEAT = "duplicate"
    STALE = "stale"
    CONFLICT = "conflict"
    UNKNOWN = "unknown"
    AMBIGUOUS = "ambiguous"
    OTHER_PERSON = "other-person"
    AFTER_CANCEL = "after-cancel"
    UNRELATED = "unrelated"

    @property
    def makes_event(self) -> bool:
        return self in _EVENTS

    @property
    def is_stored(self) -> bool:
        """Whether the message is ours: its ids are stored, so that a retry is a duplicate."""
        return self.makes_event or self is Verdict.STALE


_EVENTS = (
    Verdict.RECEIVED,
    Verdict.UPDATED,
    Verdict.CANCELLED,
    Verdict.NOT_APPLIED,
    Verdict.CONTRADICTED,
    Verdict.MERGE_PROPOSED,
)


NO_PERSON = PersonKey("")
"""The key of a referral of which no message was applied."""


@dataclass(slots=True)
class StoredReferral:
    """A row of intake.referral: a referral and its last applied message. Version 0 means that none was applied.

    `subject`: keyed hashes of the person's number, birth date and family name; empty if nothing was said. `fields`: what the
    messages have said, for `Translated.complete`. A cancelled row of version 0 is the mark of a withdrawal of consent that came before
    its referral; `sent_at` is then the end of the interval in which it was sent.
    """

    partner: str
    referral_id: str
    reference: Reference
    last_at: datetime
    person_key: PersonKey = NO_PERSON
    version: int = 0
    first_intent: Intent = "new"
    content_hash: str = ""
    subject: str = ""
    cancelled: bool = False
    first_sent_at: datetime | None = None
    sent_at: datetime | None = None
    message_id: UUID | None = None
    fields: bytes | None = None
    is_stored: bool = True
    """False if there is no row yet."""

    sender_reference: str | None = None
    """The sender's own reference, folded, if a message of this batch has it."""
    visit_keys: frozenset[str] | None = None
    """Keys of its stay, if this batch read them."""

    changed: bool = False
    """True if this batch changed the row."""


@dataclass(frozen=True, slots=True)
class AcceptedMessage:
    """An accepted message of the same partner, found by one of its ids."""

    content_hash: str
    message_id: UUID
    reference: Reference


@dataclass(frozen=True, slots=True)
class FoundReferral:
    """The referral that a message is about.

    `subject`: hashes of the person in the message. `by_message_id`: its Bundle.id was used for this referral before. `lost`: why the
    message is refused if no referral was found: it gives an unknown reference, or a name of several referrals.
    """

    referral: StoredReferral
    subject: str = ""
    by_message_id: bool = False
    lost: Verdict | None = None


def find(
    message: Translated, subject: str, named: Iterable[StoredReferral | None], own: StoredReferral | None
) -> StoredReferral | None:
    """Return the referral that a message is about: that of its best name, unless the person contradicts it.

    `named`: for each name of the message the referral that has it, if one has. `own`: that of `referral_id`, if none was found.
    """
    pairs = zip(message.names, named, strict=True)
    found = [one for name, one in pairs if one is not None and not _is_another(message, name, one)]
    agreeing = (one for one in found if not contradicts(one.subject, subject))
    return next(agreeing, found[0] if found else own)


def _is_another(message: Translated, name: ReferralName, stored: StoredReferral) -> bool:
    """Return whether a message with an id, or a new one with other content, has only the URL in common with a referral."""
    is_new = message.intent == "new" and message.content_hash != stored.content_hash
    return not message.is_found_by(name) or (name.kind in TRANSIENT and is_new)


def contradicts(held: str, said: str) -> bool:
    """Return whether a message's person is another than the stored one, by their keyed hashes.

    The numbers differ, and birth date or family name too; or there are no two numbers, and both others differ.
    """
    if not held or not said:
        return False
    number, birth, family = map(_differ, held.split(" "), said.split(" "))
    if number is None:
        return birth is True and family is True
    return number and (birth is True or family is True)


def _differ(one: str, other: str) -> bool | None:
    return None if "-" in (one, other) else one != other


def classify(message: Translated, found: FoundReferral, originals: Collection[AcceptedMessage]) -> Verdict:
    """Return the verdict on a message. `originals` are the accepted messages that have one of its ids.

    A known message id decides first, then the person. Then the state of the referral: a cancel of an unknown referral is refused, a
    complete update of an unknown referral is new, and a message older than the last applied one is stored but not applied.
    """
    stored = found.referral
    if originals:
        return _repeated(all(_has_content_of(message, stored, one) for one in originals))
    if stored.version == 0:
        return found.lost or _first(message, stored)
    if message.visit and message.visit.is_merge:
        return Verdict.MERGE_PROPOSED
    if message.complete and stored.cancelled:
        return Verdict.STALE if _is_older(message, stored.sent_at) else Verdict.AFTER_CANCEL
    if contradicts(stored.subject, found.subject):
        return _of_another_person(message)
    return _merged(message, stored) if message.complete else _by_intent(message, found)


def _by_intent(message: Translated, found: FoundReferral) -> Verdict:
    """Decide on a message that is not merged with what is held, by what its sender requests."""
    stored = found.referral
    same = message.content_hash == stored.content_hash
    match message.intent:
        case "new" if stored.first_intent == "new" or same:
            return _repeated(same)
        case "either" | "cancel" if same:
            return Verdict.REPEAT
        case "update" if same and found.by_message_id:
            return Verdict.REPEAT
        case "cancel":
            return _cancelled(message, stored)
        case _ if _is_older(message, stored.sent_at):
            return Verdict.STALE
        case "new":
            return Verdict.CONFLICT
        case _:
            return Verdict.UPDATED


def _first(message: Translated, stored: StoredReferral) -> Verdict:
    """Decide on a message of a referral of which none was applied. What is not certainly later than a withdrawal does not open it."""
    if message.intent == "cancel":
        return Verdict.UNKNOWN
    is_later = stored.sent_at is None or (message.sent_at is not None and message.sent_at >= stored.sent_at)
    return Verdict.RECEIVED if is_later or not stored.cancelled else Verdict.AFTER_CANCEL


def _of_another_person(message: Translated) -> Verdict:
    if message.is_queued:
        return Verdict.CONTRADICTED
    return Verdict.CONFLICT if message.intent == "new" else Verdict.OTHER_PERSON


def _merged(message: Translated, stored: StoredReferral) -> Verdict:
    """Decide on a message that was merged with what is held: an older one may still fill what no later message has said."""
    if message.content_hash != stored.content_hash:
        return Verdict.UPDATED
    return Verdict.STALE if _is_older(message, stored.sent_at) else Verdict.REPEAT


def _has_content_of(message: Translated, stored: StoredReferral, original: AcceptedMessage) -> bool:
    """Return whether a message says what an accepted one said. Cancels differ by their referral: their content does not name it."""
    same_referral = message.intent != "cancel" or original.reference == stored.reference
    return same_referral and original.content_hash == message.content_hash


def _cancelled(message: Translated, stored: StoredReferral) -> Verdict:
    """Decide on a cancel: one that is older than an applied update, by a clock that is not slow, is left to a person."""
    in_order = not _is_older(message, stored.sent_at)
    has_slow_clock = stored.first_intent != "update" and _is_older(message, stored.first_sent_at)
    if in_order or has_slow_clock or message.cancel_reason is EndReason.CONSENT_WITHDRAWN:
        return Verdict.CANCELLED
    return Verdict.STALE if stored.cancelled else Verdict.NOT_APPLIED


def apply_verdict(message: Translated, found: FoundReferral, verdict: Verdict) -> None:
    """Update the stored referral to the message, if the verdict makes an event.

    A message that is not applied takes a version only. A repeated update confirms the content: what is older than it is stale.
    A cancelled referral stays cancelled: an update does not reopen it. A withdrawal of consent before its referral leaves a mark.
    """
    stored = found.referral
    if verdict is Verdict.UNKNOWN and message.is_queued and message.cancel_reason is EndReason.CONSENT_WITHDRAWN:
        stored.cancelled, stored.changed = True, True
        stored.sent_at = _later(stored.sent_at, message.sent_until)
    if verdict in (Verdict.REPEAT, Verdict.STALE) and message.intent != "cancel":
        _confirm(message, stored, verdict)
    if not verdict.makes_event:
        return
    stored.version += 1
    stored.changed = True
    if verdict in (Verdict.NOT_APPLIED, Verdict.CONTRADICTED, Verdict.MERGE_PROPOSED):
        return
    if stored.version == 1:
        stored.first_intent = message.intent
        stored.first_sent_at = message.sent_at
        stored.cancelled, stored.sent_at = False, None
    stored.content_hash = message.content_hash
    stored.sent_at = stored.sent_at if message.visit else _later(stored.sent_at, message.sent_at)
    if message.intent == "cancel":
        stored.visit_keys = None if stored.fields is None else frozenset()
        stored.cancelled, stored.fields = True, None
    else:
        stored.subject = _known(stored.subject, found.subject)
        _keep_fields(message, stored)


def _confirm(message: Translated, stored: StoredReferral, verdict: Verdict) -> None:
    """Keep when the content was said last, if a message changes nothing else."""
    if stored.cancelled or message.content_hash != stored.content_hash:
        return
    if verdict is Verdict.REPEAT and (message.complete or message.intent == "update") and not message.visit:
        latest = _later(stored.sent_at, message.sent_at)
        stored.changed = stored.changed or latest != stored.sent_at
        stored.sent_at = latest
    if message.complete and message.fields != stored.fields:
        stored.changed = True
        _keep_fields(message, stored)


def _keep_fields(message: Translated, stored: StoredReferral) -> None:
    stored.fields = message.fields
    if message.fields is not None:
        stored.visit_keys = message.visit_keys


def _known(held: str, said: str) -> str:
    """Return what is known of the person: what a message leaves out stays, so that the next one is compared with it."""
    if not held or not said:
        return said or held
    return " ".join(old if new == "-" else new for old, new in zip(held.split(" "), said.split(" "), strict=True))


def _repeated(same_content: bool) -> Verdict:
    return Verdict.REPEAT if same_content else Verdict.CONFLICT


def _is_older(message: Translated, than: datetime | None) -> bool:
    """Return whether a message was certainly sent before a time: one in whole seconds is any moment of its second."""
    if message.sent_at is None or than is None:
        return False
    if message.sent_until is not None:
        return message.sent_until <= than
    sent_at = message.sent_at
    return sent_at < than if sent_at.microsecond else sent_at + timedelta(seconds=1) <= than


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    return max(filter(None, (one, other)), default=None)
