"""Decide on the messages of one transaction in memory, against the stored state of their referrals.

No I/O: store.py reads and locks the rows before, and writes the results after.
"""

import base64
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from opentelemetry.trace import INVALID_SPAN, Span

from schemas.case import EndReason
from schemas.events import (
    Event,
    IntakeState,
    ReferralCancellationNotApplied,
    ReferralCancelled,
    ReferralEvent,
    ReferralMergeProposed,
    ReferralReceived,
    ReferralUpdated,
    ReferralUpdateNotApplied,
)
from schemas.model import Reference
from schemas.text import fold
from services.intake import deduplication, identifiers
from services.intake.deduplication import AcceptedMessage, FoundReferral, StoredReferral, Verdict
from services.intake.translators.inbound_message import InboundMessage
from services.intake.translators.translator import (
    TRANSIENT,
    AttachmentContent,
    Issue,
    ReferralName,
    Rejection,
    Translated,
)

SOURCE = "/lightbulb/intake"
REFUSED = "refused"
"""The verdict of a message that a translator refused."""

TAKEN_AS_NEW = Issue("RF1-6", "processing", "updates a referral that is not known: it was taken as a new referral")
"""Warning of an update without its referral."""


@dataclass(frozen=True, slots=True)
class ProtocolResponse:
    """The response to the sender: a status of its protocol, a body, and headers of HTTP that belong to the body."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MessageDecision:
    """The decision on a message: all that composing its response needs."""

    verdict: str
    received_at: datetime
    reference: Reference | None = None
    version: int | None = None
    issues: tuple[Issue, ...] = ()
    withdraws: bool = False
    cancelled: bool = False
    """True if the referral is cancelled now."""

    after_cancel: bool = False
    """True for an update of a cancelled referral."""

    answered_before: ProtocolResponse | None = None
    is_test: bool = False

    @property
    def stored_verdict(self) -> str:
        """The verdict in intake.message: that of a test message is marked."""
        return f"test-{self.verdict}" if self.is_test else self.verdict


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


@dataclass(frozen=True, slots=True)
class NewKeys:
    """The ids of a message that was accepted here, and the names that it is the first to give its referral."""

    partner: str
    of: AcceptedMessage
    ids: tuple[str, ...]
    names: tuple[ReferralName, ...]


@dataclass(slots=True)
class Batch:
    """What one transaction reads and writes.

    `own`: by partner and sender's id, the reference of the referral that a message is about if no name leads to another. `referrals`: by
    partner and reference, also those without a row yet. `names`: by partner and key of a name, the reference of its referral, or None if
    several referrals have the name. `repeats`: by position in `messages`, the id of the message that is repeated there.
    """

    messages: Sequence[PendingMessage]
    own: dict[tuple[str, str], Reference] = dataclasses.field(default_factory=dict)
    referrals: dict[tuple[str, Reference], StoredReferral] = dataclasses.field(default_factory=dict)
    accepted: dict[tuple[str, str], AcceptedMessage] = dataclasses.field(default_factory=dict)
    names: dict[tuple[str, str], Reference | None] = dataclasses.field(default_factory=dict)
    answers: dict[UUID, ProtocolResponse] = dataclasses.field(default_factory=dict)
    repeats: dict[int, UUID | None] = dataclasses.field(default_factory=dict)
    decisions: list[MessageDecision] = dataclasses.field(default_factory=list)
    new_keys: list[NewKeys] = dataclasses.field(default_factory=list)
    shared_urls: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    events: list[Event] = dataclasses.field(default_factory=list)
    documents: list[tuple[PendingMessage, Reference, AttachmentContent]] = dataclasses.field(default_factory=list)


def decide(batch: Batch, secret: bytes, message: PendingMessage) -> None:
    """Classify one message against the stored state and apply it, so that later messages in the batch see its effect."""
    outcome = message.outcome
    if isinstance(outcome, Rejection):
        _refuse(batch, message, outcome)
        return
    found = _find(batch, secret, message, outcome)
    originals = [key for name in outcome.message_ids if (key := batch.accepted.get((message.partner, name)))]
    completed = _completed(outcome, found.referral, is_repeat=bool(originals))
    if completed is None:
        batch.decisions.append(MessageDecision(Verdict.UNRELATED, message.inbound.received_at))
        return
    if isinstance(completed, Rejection):
        _refuse(batch, message, completed)
        return
    verdict = deduplication.classify(completed, found, originals)
    earlier = originals[0] if originals else None
    was_cancelled = found.referral.cancelled
    if completed.subject is not outcome.subject:
        found = dataclasses.replace(found, subject=identifiers.subject_hashes(secret, completed.subject))
    deduplication.apply_verdict(completed, found, verdict)
    if verdict.makes_event:
        _add_event(batch, secret, message, completed, found.referral, verdict, outcome)
    if verdict.is_stored:
        accepted = AcceptedMessage(outcome.content_hash, message.id, found.referral.reference)
        register(batch, message.partner, accepted, outcome.message_ids, _given_names(outcome))
    if verdict is Verdict.REPEAT and not message.stored_in_upload:
        batch.repeats[len(batch.decisions)] = earlier.message_id if earlier else found.referral.message_id
    after_cancel = was_cancelled and verdict is Verdict.UPDATED
    batch.decisions.append(_decision(message, outcome, verdict, found.referral, earlier, after_cancel=after_cancel))


def _refuse(batch: Batch, message: PendingMessage, rejection: Rejection) -> None:
    batch.decisions.append(MessageDecision(REFUSED, message.inbound.received_at, issues=rejection.issues))


def _completed(message: Translated, referral: StoredReferral, *, is_repeat: bool) -> Translated | Rejection | None:
    """Return a message merged with what is held of its referral, if its format says only what has changed.

    Return None if it is about a visit and does not concern the referral.
    """
    if message.visit and (referral.fields is None or referral.cancelled):
        return None
    if is_repeat:
        return dataclasses.replace(message, complete=None) if message.complete else message
    if message.complete is None or referral.fields is None or referral.cancelled:
        return message
    completed = message.complete(referral.fields)
    if completed is None or isinstance(completed, Rejection):
        return completed
    return dataclasses.replace(completed, complete=message.complete)


def _find(batch: Batch, secret: bytes, message: PendingMessage, translated: Translated) -> FoundReferral:
    """Return the referral that a message is about, among those that this transaction has locked or may insert."""
    subject = identifiers.subject_hashes(secret, translated.subject)
    named = [_referral_with(batch, message.partner, name) for name in translated.names]
    own = batch.referrals[message.partner, batch.own[message.partner, translated.referral_id]]
    referral = deduplication.find(translated, subject, named, own)
    assert referral is not None
    used = (one is referral for one, name in zip(named, translated.names, strict=True) if name.kind == "message")
    return FoundReferral(referral, subject, any(used), _lost(batch, message.partner, translated))


def _referral_with(batch: Batch, partner: str, name: ReferralName) -> StoredReferral | None:
    reference = reference_with(batch.names, partner, name)
    return batch.referrals.get((partner, reference)) if reference is not None else None


def reference_with(
    names: Mapping[tuple[str, str], Reference | None], partner: str, name: ReferralName
) -> Reference | None:
    """Return the reference that a name is, or leads to; None if it leads to no referral, or to several."""
    return Reference(name.value) if name.kind == "reference" else names.get((partner, name.key))


def _lost(batch: Batch, partner: str, translated: Translated) -> Verdict | None:
    """Return how a message is refused if no name leads to a referral: it gives an unknown reference or a name of several."""
    if any(name.kind == "reference" for name in translated.names):
        return Verdict.UNKNOWN
    names = filter(translated.is_found_by, translated.names)
    shared = any(batch.names.get((partner, name.key), "") is None for name in names)
    return Verdict.AMBIGUOUS if shared and translated.intent != "new" else None


def _decision(
    message: PendingMessage,
    translated: Translated,
    verdict: Verdict,
    referral: StoredReferral,
    earlier: AcceptedMessage | None,
    *,
    after_cancel: bool,
) -> MessageDecision:
    """Return the decision. A repeat or conflict by message id refers to the referral of the earlier message."""
    named = earlier.reference if earlier else referral.reference
    exists = verdict not in (Verdict.UNKNOWN, Verdict.AMBIGUOUS, Verdict.OTHER_PERSON) and (earlier or referral.version)
    withdraws = translated.intent == "cancel" and translated.cancel_reason is EndReason.CONSENT_WITHDRAWN
    is_taken_as_new = translated.is_queued and translated.intent == "update" and verdict is Verdict.RECEIVED
    return MessageDecision(
        verdict,
        message.inbound.received_at,
        named if exists else None,
        referral.version if exists else None,
        (*translated.warnings, *([TAKEN_AS_NEW] if is_taken_as_new else [])),
        withdraws=withdraws,
        cancelled=referral.cancelled,
        after_cancel=after_cancel,
        is_test=translated.is_test,
    )


def _add_event(
    batch: Batch,
    secret: bytes,
    message: PendingMessage,
    translated: Translated,
    referral: StoredReferral,
    verdict: Verdict,
    delivered: Translated,
) -> None:
    _identify(secret, translated, referral)
    if verdict in (Verdict.RECEIVED, Verdict.UPDATED, Verdict.CANCELLED) and not translated.visit:
        referral.message_id = message.id
    referral.last_at = message.inbound.received_at
    if translated.is_test:
        return
    data = _data(translated, referral.reference, referral.version, verdict)
    batch.events.append(
        Event(
            id=identifiers.event_id(referral.reference, referral.version),
            source=SOURCE,
            time=message.inbound.received_at,
            person_key=referral.person_key,
            correlation_id=translated.correlation_id or str(message.id),
            causation_id=str(message.id),
            data=data.model_copy(update={"intake": _state(delivered, referral)}),
        )
    )
    batch.documents += [(message, referral.reference, document) for document in translated.documents]


def _state(message: Translated, referral: StoredReferral) -> IntakeState:
    """Return what is held of a referral after this message, and the ids and names that the message adds."""
    return IntakeState(
        referral_id=referral.referral_id,
        partner=referral.partner,
        first_intent=referral.first_intent,
        content_hash=referral.content_hash,
        message_hash=message.content_hash,
        subject=referral.subject,
        cancelled=referral.cancelled,
        first_sent_at=referral.first_sent_at,
        sent_at=referral.sent_at,
        message_ids=message.message_ids,
        names=tuple(name.key for name in _given_names(message)),
        sender_reference=referral.sender_reference,
        fields=None if referral.fields is None else base64.b64encode(referral.fields).decode(),
        visit_keys=None if referral.visit_keys is None else tuple(sorted(referral.visit_keys)),
    )


def _identify(secret: bytes, translated: Translated, referral: StoredReferral) -> None:
    """Set the sender's own reference, and at the first version the key of the person, even if the NHS number changes later."""
    if translated.referral:
        referral.sender_reference = fold(translated.referral.message.referral_id)
    if referral.version == 1:
        number = translated.referral.person.nhs_number if translated.referral else None
        referral.person_key = identifiers.person_key(secret, number, referral.partner, referral.referral_id)


def _data(translated: Translated, reference: Reference, version: int, verdict: Verdict) -> ReferralEvent:
    if verdict is Verdict.NOT_APPLIED:
        return ReferralCancellationNotApplied(
            reference=reference,
            version=version,
            reason=translated.cancel_reason,
            death_reported=translated.death_reported,
        )
    if verdict is Verdict.CONTRADICTED:
        return _contradicted(translated, reference, version)
    if verdict is Verdict.MERGE_PROPOSED:
        return ReferralMergeProposed(reference=reference, version=version)
    if translated.referral is None:
        return ReferralCancelled(
            reference=reference,
            version=version,
            reason=translated.cancel_reason,
            discharged_on=translated.discharged_on,
            death_reported=translated.death_reported,
        )
    if version == 1:
        return ReferralReceived(reference=reference, version=version, referral=translated.referral)
    about_visit = translated.visit is not None
    return ReferralUpdated(reference=reference, version=version, referral=translated.referral, about_visit=about_visit)


def _contradicted(translated: Translated, reference: Reference, version: int) -> ReferralUpdateNotApplied:
    death = translated.referral.person.death_reported if translated.referral else translated.death_reported
    return ReferralUpdateNotApplied(reference=reference, version=version, reason="other-person", death_reported=death)


def register(
    batch: Batch, partner: str, accepted: AcceptedMessage, ids: Iterable[str], names: Iterable[ReferralName]
) -> None:
    """Store the ids of an accepted message, and the names that it gives its referral, as far as they are new."""
    new_ids = tuple(one for one in ids if (partner, one) not in batch.accepted)
    batch.accepted.update(((partner, one), accepted) for one in new_ids)
    new_names = tuple(name for name in names if _is_new(batch, partner, name, accepted.reference))
    if new_ids or new_names:
        batch.new_keys.append(NewKeys(partner, accepted, new_ids, new_names))


def _is_new(batch: Batch, partner: str, name: ReferralName, reference: Reference) -> bool:
    """Give a referral a name. Another referral keeps its name, but a transient one finds neither from then on."""
    key = (partner, name.key)
    if key not in batch.names:
        batch.names[key] = reference
        return True
    if name.kind in TRANSIENT and batch.names[key] not in (None, reference):
        batch.names[key] = None
        batch.shared_urls.append(key)
    return False


def _given_names(message: Translated) -> Iterator[ReferralName]:
    """Yield the names that a message gives its referral; ours is known by itself."""
    not_given = ("reference", "location" if message.has_own_id else "entry")
    return (name for name in message.names if name.kind not in not_given)


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
