"""What one transaction judges, in memory: the messages that came together, what is held of their referrals, what follows.

Pure: the rows come from store.py, which has locked them, and go back to it.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from schemas.case import EndReason
from schemas.events import Event, ReferralCancelled, ReferralEvent, ReferralReceived, ReferralUpdated
from schemas.model import PersonKey, Reference
from services.intake import identity, keys
from services.intake.identity import Held, Incoming, Seen, Verdict, applied
from services.intake.translators.contract import Delivery, Document, Fault, Refusal, Translated
from services.messaging.tracing import NONE, Span

SOURCE = "/lightbulb/intake"
REFUSED = "refused"
"""The verdict of a message that a translator refused."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the sender is told: a status of its protocol and a body."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided of a message: all that composing its answer needs."""

    verdict: str
    received_at: datetime
    reference: Reference | None = None
    version: int | None = None
    faults: tuple[Fault, ...] = ()
    withdraws: bool = False
    answered_before: Answer | None = None


@dataclass(frozen=True, slots=True)
class Arrival:
    """One delivered message: understood or refused by its translator, and how its protocol answers a decision."""

    id: UUID
    delivery: Delivery
    format: str
    media_type: str | None
    outcome: Translated | Refusal
    compose: Callable[[Decision], Answer]
    kept_elsewhere: bool = False
    """A row of an upload, which keeps its bytes: a repeat of what is held needs no row of its own (docs/decisions/0013)."""

    span: Span = NONE
    """Its receiving, in its trace."""

    @property
    def partner(self) -> str:
        return self.delivery.partner.id


@dataclass(slots=True)
class HeldReferral:
    """A locked row of intake.referral, and what this batch makes of it."""

    partner: str
    referral_id: str
    reference: Reference
    person_key: PersonKey
    held: Held
    cancelled: bool
    message_id: UUID | None
    at: datetime
    changed: bool = False


@dataclass(frozen=True, slots=True)
class Accepted:
    """An accepted message by one of its ids."""

    content_hash: str
    message_id: UUID
    reference: Reference


@dataclass(slots=True)
class Ledger:
    """What one transaction reads and writes. `repeats`: by place in `arrivals`, the message that is repeated there."""

    arrivals: Sequence[Arrival]
    referrals: dict[tuple[str, str], HeldReferral]
    seen: dict[tuple[str, str], Accepted]
    answers: dict[UUID, Answer] = dataclasses.field(default_factory=dict)
    repeats: dict[int, UUID | None] = dataclasses.field(default_factory=dict)
    decisions: list[Decision] = dataclasses.field(default_factory=list)
    claimed: dict[tuple[str, str], Accepted] = dataclasses.field(default_factory=dict)
    events: list[Event] = dataclasses.field(default_factory=list)
    documents: list[tuple[Arrival, Reference, Document]] = dataclasses.field(default_factory=list)


def decide(ledger: Ledger, secret: bytes, arrival: Arrival) -> None:
    """Judge one message against what is held, and note what follows from it for those behind it."""
    outcome, at = arrival.outcome, arrival.delivery.received_at
    if isinstance(outcome, Refusal):
        ledger.decisions.append(Decision(REFUSED, at, faults=outcome.faults))
        return
    referral = ledger.referrals[arrival.partner, outcome.referral_id]
    incoming = Incoming(outcome.message_ids, outcome.content_hash, outcome.intent, outcome.sent_at)
    seen = {name: key for name in outcome.message_ids if (key := ledger.seen.get((arrival.partner, name)))}
    verdict = identity.judge(incoming, referral.held, {name: Seen(key.content_hash) for name, key in seen.items()})
    earlier = next(iter(seen.values()), None)
    referral.held = applied(incoming, referral.held, verdict)
    if verdict.makes_event:
        _apply(ledger, secret, arrival, outcome, referral)
    if verdict.makes_event or verdict is Verdict.STALE:
        _claim(ledger, arrival, outcome, referral)
    if verdict is Verdict.REPEAT and not arrival.kept_elsewhere:
        ledger.repeats[len(ledger.decisions)] = earlier.message_id if earlier else referral.message_id
    ledger.decisions.append(_decision(arrival, outcome, verdict, referral, earlier))


def _decision(
    arrival: Arrival, translated: Translated, verdict: Verdict, referral: HeldReferral, earlier: Accepted | None
) -> Decision:
    """A repeat or conflict by message id is about the referral of the earlier message."""
    named = earlier.reference if earlier else referral.reference
    known = verdict is not Verdict.UNKNOWN
    withdraws = translated.intent == "cancel" and translated.cancel_reason is EndReason.CONSENT_WITHDRAWN
    return Decision(
        verdict,
        arrival.delivery.received_at,
        named if known else None,
        referral.held.version if known else None,
        withdraws=withdraws,
    )


def _apply(ledger: Ledger, secret: bytes, arrival: Arrival, translated: Translated, referral: HeldReferral) -> None:
    version = referral.held.version
    if version == 1:
        referral.person_key = _person_key(secret, arrival, translated)
    referral.changed = True
    referral.cancelled = translated.intent == "cancel"
    referral.message_id = arrival.id
    referral.at = arrival.delivery.received_at
    ledger.events.append(
        Event(
            id=keys.event_id(referral.reference, version),
            source=SOURCE,
            time=arrival.delivery.received_at,
            person_key=referral.person_key,
            correlation_id=translated.correlation_id or str(arrival.id),
            causation_id=str(arrival.id),
            data=_data(translated, referral.reference, version),
        )
    )
    ledger.documents += [(arrival, referral.reference, document) for document in translated.documents]


def _person_key(secret: bytes, arrival: Arrival, translated: Translated) -> PersonKey:
    """Fixed when a referral is first accepted, whatever number it holds later."""
    number = translated.referral.person.nhs_number if translated.referral else None
    return keys.person_key(secret, number, arrival.partner, translated.referral_id)


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


def _claim(ledger: Ledger, arrival: Arrival, translated: Translated, referral: HeldReferral) -> None:
    key = Accepted(translated.content_hash, arrival.id, referral.reference)
    for name in translated.message_ids:
        ledger.seen[arrival.partner, name] = ledger.claimed[arrival.partner, name] = key


def answer(ledger: Ledger, at: int) -> Answer:
    """What the sender of the message at this place is told. In order: a repeat may be of one that is answered before it here."""
    arrival = ledger.arrivals[at]
    decision = ledger.decisions[at]
    if repeated := ledger.repeats.get(at):
        decision = dataclasses.replace(decision, answered_before=ledger.answers.get(repeated))
    composed = ledger.answers[arrival.id] = arrival.compose(decision)
    return composed
