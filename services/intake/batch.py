"""Decide on the messages of one transaction in memory, against the stored state of their referrals.

No I/O: store.py reads and locks the rows before, and writes the results after.
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
from services.intake.deduplication import AcceptedMessage, StoredReferral, Verdict
from services.intake.translators.inbound_message import InboundMessage
from services.intake.translators.translator import AttachmentContent, Issue, Rejection, Translated

SOURCE = "/lightbulb/intake"
REFUSED = "refused"
"""The verdict of a message that a translator refused."""


@dataclass(frozen=True, slots=True)
class ProtocolResponse:
    """The response to the sender: a status of its protocol and a body."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class MessageDecision:
    """The decision on a message: all that composing its response needs."""

    verdict: str
    received_at: datetime
    reference: Reference | None = None
    version: int | None = None
    issues: tuple[Issue, ...] = ()
    withdraws: bool = False
    answered_before: ProtocolResponse | None = None


@dataclass(frozen=True, slots=True)
class PendingMessage:
    """One delivered message after translation, with the function that composes its response from a decision."""

    id: UUID
    inbound: InboundMessage
    format: str
    media_type: str | None
    outcome: Translated | Rejection
    compose: Callable[[MessageDecision], ProtocolResponse]
    stored_in_upload: bool = False
    """True for a row of an upload, which stores its bytes: a duplicate then needs no row in intake.message (docs/decisions/0013)."""

    span: Span = INVALID_SPAN
    """The span of receiving it."""

    @property
    def partner(self) -> str:
        return self.inbound.partner.id


@dataclass(slots=True)
class Batch:
    """What one transaction reads and writes. `repeats`: by position in `messages`, the id of the message that is repeated there."""

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
    """Classify one message against the stored state and apply it, so that later messages in the batch see its effect."""
    outcome, at = message.outcome, message.inbound.received_at
    if isinstance(outcome, Rejection):
        batch.decisions.append(MessageDecision(REFUSED, at, issues=outcome.issues))
        return
    referral = batch.referrals[message.partner, outcome.referral_id]
    originals = [key for name in outcome.message_ids if (key := batch.accepted.get((message.partner, name)))]
    verdict = deduplication.classify(outcome, referral, originals)
    earlier = originals[0] if originals else None
    deduplication.apply_verdict(outcome, referral, verdict)
    if verdict.makes_event:
        _add_event(batch, secret, message, outcome, referral)
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
    """Return the decision. A repeat or conflict by message id refers to the referral of the earlier message."""
    named = earlier.reference if earlier else referral.reference
    exists = verdict is not Verdict.UNKNOWN
    withdraws = translated.intent == "cancel" and translated.cancel_reason is EndReason.CONSENT_WITHDRAWN
    return MessageDecision(
        verdict,
        message.inbound.received_at,
        named if exists else None,
        referral.version if exists else None,
        withdraws=withdraws,
    )


def _add_event(
    batch: Batch, secret: bytes, message: PendingMessage, translated: Translated, referral: StoredReferral
) -> None:
    if referral.version == 1:
        referral.person_key = _person_key(secret, message, translated)
    referral.message_id = message.id
    referral.last_at = message.inbound.received_at
    batch.events.append(
        Event(
            id=identifiers.event_id(referral.reference, referral.version),
            source=SOURCE,
            time=message.inbound.received_at,
            person_key=referral.person_key,
            correlation_id=translated.correlation_id or str(message.id),
            causation_id=str(message.id),
            data=_data(translated, referral.reference, referral.version),
        )
    )
    batch.documents += [(message, referral.reference, document) for document in translated.documents]


def _person_key(secret: bytes, message: PendingMessage, translated: Translated) -> PersonKey:
    """Return the key of the person. It is fixed at the first version, even if the NHS number changes later."""
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
    """Compose the response to the message at this position.

    Call in order of position: a message may repeat an earlier one of the same batch.
    """
    message = batch.messages[at]
    decision = batch.decisions[at]
    if repeated := batch.repeats.get(at):
        decision = dataclasses.replace(decision, answered_before=batch.answers.get(repeated))
    composed = batch.answers[message.id] = message.compose(decision)
    return composed
