"""What one transaction judges, in memory: the messages that came together, what is held of their referrals, what follows.

Pure: the rows come from store.py, which has locked them, and go back to it.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from opentelemetry.trace import INVALID_SPAN, Span

from schemas.case import EndReason
from schemas.events import Event, ReferralCancelled, ReferralEvent, ReferralReceived, ReferralUpdated
from schemas.model import PersonKey, Reference
from services.intake import deduplication, identifiers
from services.intake.deduplication import AcceptedContent, MessageFingerprint, ReferralVersion, Verdict, apply_verdict
from services.intake.translators.translator import AttachmentContent, InboundMessage, Issue, Rejection, Translated

SOURCE = "/lightbulb/intake"
REFUSED = "refused"
"""The verdict of a message that a translator refused."""


@dataclass(frozen=True, slots=True)
class ProtocolResponse:
    """What the sender is told: a status of its protocol and a body."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class MessageDecision:
    """What was decided of a message: all that composing its answer needs."""

    verdict: str
    received_at: datetime
    reference: Reference | None = None
    version: int | None = None
    issues: tuple[Issue, ...] = ()
    withdraws: bool = False
    answered_before: ProtocolResponse | None = None


@dataclass(frozen=True, slots=True)
class PendingMessage:
    """One delivered message: understood or refused by its translator, and how its protocol answers a decision."""

    id: UUID
    inbound: InboundMessage
    format: str
    media_type: str | None
    outcome: Translated | Rejection
    compose: Callable[[MessageDecision], ProtocolResponse]
    stored_in_upload: bool = False
    """A row of an upload, which keeps its bytes: a repeat of what is held needs no row of its own (docs/decisions/0013)."""

    span: Span = INVALID_SPAN
    """Its receiving, in its trace."""

    @property
    def partner(self) -> str:
        return self.inbound.partner.id


@dataclass(slots=True)
class StoredReferral:
    """A locked row of intake.referral, and what this batch makes of it."""

    partner: str
    referral_id: str
    reference: Reference
    person_key: PersonKey
    current: ReferralVersion
    cancelled: bool
    message_id: UUID | None
    at: datetime
    changed: bool = False


@dataclass(frozen=True, slots=True)
class AcceptedMessage:
    """An accepted message by one of its ids."""

    content_hash: str
    message_id: UUID
    reference: Reference


@dataclass(slots=True)
class Batch:
    """What one transaction reads and writes. `repeats`: by place in `arrivals`, the message that is repeated there."""

    messages: Sequence[PendingMessage]
    referrals: dict[tuple[str, str], StoredReferral]
    accepted: dict[tuple[str, str], AcceptedMessage]
    answers: dict[UUID, ProtocolResponse] = dataclasses.field(default_factory=dict)
    repeats: dict[int, UUID | None] = dataclasses.field(default_factory=dict)
    decisions: list[MessageDecision] = dataclasses.field(default_factory=list)
    new_ids: dict[tuple[str, str], AcceptedMessage] = dataclasses.field(default_factory=dict)
    events: list[Event] = dataclasses.field(default_factory=list)
    documents: list[tuple[PendingMessage, Reference, AttachmentContent]] = dataclasses.field(default_factory=list)


def decide(batch: Batch, secret: bytes, message: PendingMessage) -> None:
    """Judge one message against what is held, and note what follows from it for those behind it."""
    outcome, at = message.outcome, message.inbound.received_at
    if isinstance(outcome, Rejection):
        batch.decisions.append(MessageDecision(REFUSED, at, issues=outcome.issues))
        return
    referral = batch.referrals[message.partner, outcome.referral_id]
    fingerprint = MessageFingerprint(outcome.message_ids, outcome.content_hash, outcome.intent, outcome.sent_at)
    originals = {name: key for name in outcome.message_ids if (key := batch.accepted.get((message.partner, name)))}
    verdict = deduplication.classify(
        fingerprint, referral.current, {name: AcceptedContent(key.content_hash) for name, key in originals.items()}
    )
    earlier = next(iter(originals.values()), None)
    referral.current = apply_verdict(fingerprint, referral.current, verdict)
    if verdict.makes_event:
        _apply(batch, secret, message, outcome, referral)
    if verdict.makes_event or verdict is Verdict.STALE:
        _register_ids(batch, message, outcome, referral)
    if verdict is Verdict.REPEAT and not message.stored_in_upload:
        batch.repeats[len(batch.decisions)] = earlier.message_id if earlier else referral.message_id
    batch.decisions.append(_decision(message, outcome, verdict, referral, earlier))


def _decision(
    message: PendingMessage,
    translated: Translated,
    verdict: Verdict,
    referral: StoredReferral,
    earlier: AcceptedMessage | None,
) -> MessageDecision:
    """A repeat or conflict by message id is about the referral of the earlier message."""
    named = earlier.reference if earlier else referral.reference
    exists = verdict is not Verdict.UNKNOWN
    withdraws = translated.intent == "cancel" and translated.cancel_reason is EndReason.CONSENT_WITHDRAWN
    return MessageDecision(
        verdict,
        message.inbound.received_at,
        named if exists else None,
        referral.current.version if exists else None,
        withdraws=withdraws,
    )


def _apply(
    batch: Batch, secret: bytes, message: PendingMessage, translated: Translated, referral: StoredReferral
) -> None:
    version = referral.current.version
    if version == 1:
        referral.person_key = _person_key(secret, message, translated)
    referral.changed = True
    referral.cancelled = translated.intent == "cancel"
    referral.message_id = message.id
    referral.at = message.inbound.received_at
    batch.events.append(
        Event(
            id=identifiers.event_id(referral.reference, version),
            source=SOURCE,
            time=message.inbound.received_at,
            person_key=referral.person_key,
            correlation_id=translated.correlation_id or str(message.id),
            causation_id=str(message.id),
            data=_data(translated, referral.reference, version),
        )
    )
    batch.documents += [(message, referral.reference, document) for document in translated.documents]


def _person_key(secret: bytes, message: PendingMessage, translated: Translated) -> PersonKey:
    """Fixed when a referral is first accepted, whatever number it holds later."""
    number = translated.referral.person.nhs_number if translated.referral else None
    return identifiers.person_key(secret, number, message.partner, translated.referral_id)


def _data(translated: Translated, reference: Reference, version: int) -> ReferralEvent:
    if translated.referral is None:
        return ReferralCancelled(
            reference=reference,
            version=version,
            reason=translated.cancel_reason,
            discharged_on=translated.discharged_on,
        )
    kind = ReferralReceived if version == 1 else ReferralUpdated
    return kind(reference=reference, version=version, referral=translated.referral)


def _register_ids(batch: Batch, message: PendingMessage, translated: Translated, referral: StoredReferral) -> None:
    key = AcceptedMessage(translated.content_hash, message.id, referral.reference)
    for name in translated.message_ids:
        batch.accepted[message.partner, name] = batch.new_ids[message.partner, name] = key


def answer(batch: Batch, at: int) -> ProtocolResponse:
    """What the sender of the message at this place is told. In order: a repeat may be of one that is answered before it here."""
    message = batch.messages[at]
    decision = batch.decisions[at]
    if repeated := batch.repeats.get(at):
        decision = dataclasses.replace(decision, answered_before=batch.answers.get(repeated))
    composed = batch.answers[message.id] = message.compose(decision)
    return composed
