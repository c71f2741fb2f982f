"""What intake keeps: every delivered message with its verdict and answer, the identity of every referral, and the events.

Messages that arrive together are one transaction, by the design's recipe: lock the referrals, read what was seen, judge in
memory, write. Nothing is answered before it has committed; what failed to commit is answered 503 and was never ours.
"""

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from schemas import topics
from schemas.case import EndReason
from schemas.events import Event, ReferralCancelled, ReferralReceived, ReferralUpdated
from schemas.model import PersonKey, Reference
from services.intake import keys
from services.intake.identity import Held, Incoming, Seen, Verdict, applied, judge
from services.intake.translators.contract import Delivery, Document, Fault, Refusal, Translated
from services.messaging import outbox
from services.messaging.database import Transaction

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

    @property
    def partner(self) -> str:
        return self.delivery.partner.id


class Overtaken(TimeoutError):
    """Another process accepted a message with one of these ids in this moment: judge again. A passing fault."""


@dataclass(slots=True)
class _Referral:
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
class _Key:
    """An accepted message by one of its ids."""

    content_hash: str
    message_id: UUID
    reference: Reference


@dataclass(slots=True)
class _Batch:
    """What one transaction reads and writes."""

    arrivals: Sequence[Arrival]
    referrals: dict[tuple[str, str], _Referral]
    seen: dict[tuple[str, str], _Key]
    answers: dict[UUID, Answer] = dataclasses.field(default_factory=dict)
    repeats: dict[int, UUID | None] = dataclasses.field(default_factory=dict)
    decisions: list[Decision] = dataclasses.field(default_factory=list)
    claimed: dict[tuple[str, str], _Key] = dataclasses.field(default_factory=dict)
    events: list[Event] = dataclasses.field(default_factory=list)
    documents: list[tuple[Arrival, Reference, Document]] = dataclasses.field(default_factory=list)


async def record(engine: AsyncEngine, secret: bytes, arrivals: Sequence[Arrival]) -> list[Answer]:
    """Judge and keep these messages in one transaction; their answers, in order, once it has committed."""
    async with engine.begin() as tx:
        batch = await _read(tx, secret, arrivals)
        for arrival in arrivals:
            _decide(batch, secret, arrival)
        await _answers_before(tx, batch)
        answers = [_answer(batch, arrival, at) for at, arrival in enumerate(arrivals)]
        await _write(tx, batch, answers)
    return answers


# ---- read -----------------------------------------------------------------------------------------------------------


async def _read(tx: Transaction, secret: bytes, arrivals: Sequence[Arrival]) -> _Batch:
    understood = [(a, a.outcome) for a in arrivals if isinstance(a.outcome, Translated)]
    named = {(a.partner, t.referral_id): a.delivery.received_at for a, t in understood}
    ids = sorted({(a.partner, name) for a, t in understood for name in t.message_ids})
    referrals = await _lock(tx, secret, named) if named else {}
    seen = await _seen(tx, ids) if ids else {}
    return _Batch(arrivals, referrals, seen)


async def _lock(
    tx: Transaction, secret: bytes, named: dict[tuple[str, str], datetime]
) -> dict[tuple[str, str], _Referral]:
    """Insert the referrals that are missing, lock all in the order of their keys, and read them: one statement."""
    new = [(*key, keys.reference(secret, *key), named[key]) for key in sorted(named)]
    rows = await tx.execute(_LOCK, {name: [row[at] for row in new] for at, name in enumerate(_LOCKED)})
    return {
        (row.partner, row.referral_id): _Referral(
            row.partner,
            row.referral_id,
            row.reference,
            row.person_key,
            Held(row.version, row.content_hash, row.first_intent, row.sent_at),
            row.cancelled,
            row.message_id,
            row.last_at,
        )
        for row in rows
    }


_LOCKED = ("partners", "referral_ids", "refs", "times")

_LOCK = text("""
    insert into intake.referral as referral (partner, referral_id, reference, first_at, last_at)
    select partner, referral_id, reference, at, at
    from unnest(cast(:partners as text[]), cast(:referral_ids as text[]), cast(:refs as text[]),
                cast(:times as timestamptz[]))
         as named (partner, referral_id, reference, at)
    order by partner, referral_id
    on conflict (partner, referral_id) do update set partner = referral.partner
    returning partner, referral_id, reference, person_key, version, first_intent, content_hash, cancelled, sent_at,
              message_id, last_at""")


async def _seen(tx: Transaction, ids: list[tuple[str, str]]) -> dict[tuple[str, str], _Key]:
    rows = await tx.execute(
        text("""
            select key.partner, key.key, key.content_hash, key.message_id, key.reference
            from unnest(cast(:partners as text[]), cast(:keys as text[])) as asked (partner, key)
            join intake.message_key as key using (partner, key)"""),
        {"partners": [partner for partner, _ in ids], "keys": [key for _, key in ids]},
    )
    return {(row.partner, row.key): _Key(row.content_hash, row.message_id, row.reference) for row in rows}


# ---- decide ---------------------------------------------------------------------------------------------------------


def _decide(batch: _Batch, secret: bytes, arrival: Arrival) -> None:
    """Judge one message against what is held, and note what follows from it for those behind it."""
    outcome, at = arrival.outcome, arrival.delivery.received_at
    if isinstance(outcome, Refusal):
        batch.decisions.append(Decision(REFUSED, at, faults=outcome.faults))
        return
    referral = batch.referrals[arrival.partner, outcome.referral_id]
    incoming = Incoming(outcome.message_ids, outcome.content_hash, outcome.intent, outcome.sent_at)
    seen = {name: key for name in outcome.message_ids if (key := batch.seen.get((arrival.partner, name)))}
    verdict = judge(incoming, referral.held, {name: Seen(key.content_hash) for name, key in seen.items()})
    earlier = next(iter(seen.values()), None)
    referral.held = applied(incoming, referral.held, verdict)
    if verdict.makes_event:
        _apply(batch, secret, arrival, outcome, referral)
    if verdict.makes_event or verdict is Verdict.STALE:
        _claim(batch, arrival, outcome, referral)
    if verdict is Verdict.REPEAT:
        batch.repeats[len(batch.decisions)] = earlier.message_id if earlier else referral.message_id
    batch.decisions.append(_decision(arrival, outcome, verdict, referral, earlier))


def _decision(
    arrival: Arrival, translated: Translated, verdict: Verdict, referral: _Referral, earlier: _Key | None
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


def _apply(batch: _Batch, secret: bytes, arrival: Arrival, translated: Translated, referral: _Referral) -> None:
    version = referral.held.version
    if version == 1:
        referral.person_key = _person_key(secret, arrival, translated)
    referral.changed = True
    referral.cancelled = translated.intent == "cancel"
    referral.message_id = arrival.id
    referral.at = arrival.delivery.received_at
    batch.events.append(
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
    batch.documents += [(arrival, referral.reference, document) for document in translated.documents]


def _person_key(secret: bytes, arrival: Arrival, translated: Translated) -> PersonKey:
    """Fixed when a referral is first accepted, whatever number it holds later."""
    number = translated.referral.person.nhs_number if translated.referral else None
    return keys.person_key(secret, number, arrival.partner, translated.referral_id)


def _data(translated: Translated, reference: Reference, version: int) -> Any:
    if translated.referral is None:
        return ReferralCancelled(
            reference=reference,
            version=version,
            reason=translated.cancel_reason,
            discharged_on=translated.discharged_on,
        )
    kind = ReferralReceived if version == 1 else ReferralUpdated
    return kind(reference=reference, version=version, referral=translated.referral)


def _claim(batch: _Batch, arrival: Arrival, translated: Translated, referral: _Referral) -> None:
    key = _Key(translated.content_hash, arrival.id, referral.reference)
    for name in translated.message_ids:
        batch.seen[arrival.partner, name] = batch.claimed[arrival.partner, name] = key


# ---- answer and write -----------------------------------------------------------------------------------------------


async def _answers_before(tx: Transaction, batch: _Batch) -> None:
    """Read what was answered to the messages that are repeated here, unless they are in this very batch."""
    if not batch.repeats:
        return
    rows = await tx.execute(
        text("""
            select id, answer_status, answer_body from intake.message
            where partner = any(cast(:partners as text[])) and id = any(cast(:ids as uuid[]))"""),
        {"partners": list({arrival.partner for arrival in batch.arrivals}), "ids": list(set(batch.repeats.values()))},
    )
    batch.answers = {row.id: Answer(row.answer_status, row.answer_body) for row in rows}


def _answer(batch: _Batch, arrival: Arrival, at: int) -> Answer:
    decision = batch.decisions[at]
    if repeated := batch.repeats.get(at):
        decision = dataclasses.replace(decision, answered_before=batch.answers.get(repeated))
    answer = batch.answers[arrival.id] = arrival.compose(decision)
    return answer


async def _write(tx: Transaction, batch: _Batch, answers: Sequence[Answer]) -> None:
    await _keep_messages(tx, batch, answers)
    await _keep_claims(tx, batch)
    await _keep_referrals(tx, [row for row in batch.referrals.values() if row.changed])
    await _forget(tx, [row for row in batch.referrals.values() if row.held.version == 0])
    await _keep_documents(tx, batch)
    await outbox.put(tx, "intake", [outbox.Message(topics.REFERRAL_EVENT, event) for event in batch.events])


async def _keep_messages(tx: Transaction, batch: _Batch, answers: Sequence[Answer]) -> None:
    rows = [_message_row(*one) for one in zip(batch.arrivals, batch.decisions, answers, strict=True)]
    await tx.execute(_KEEP_MESSAGES, {name: [row[at] for row in rows] for at, name in enumerate(_MESSAGE)})


_MESSAGE = {
    "partner": "text",
    "id": "uuid",
    "received_at": "timestamptz",
    "format": "text",
    "request_id": "text",
    "correlation_id": "text",
    "media_type": "text",
    "body": "bytea",
    "body_sha256": "text",
    "verdict": "text",
    "referral_id": "text",
    "reference": "text",
    "version": "integer",
    "sent_at": "timestamptz",
    "content_hash": "text",
    "faults": "jsonb",
    "answer_status": "integer",
    "answer_body": "bytea",
}

_KEEP_MESSAGES = text(f"""
    insert into intake.message ({", ".join(_MESSAGE)})
    select * from unnest({", ".join(f"cast(:{name} as {kind}[])" for name, kind in _MESSAGE.items())})""")  # noqa: S608


def _message_row(arrival: Arrival, decision: Decision, answer: Answer) -> tuple[Any, ...]:
    translated = arrival.outcome if isinstance(arrival.outcome, Translated) else None
    delivery = arrival.delivery
    return (
        arrival.partner,
        arrival.id,
        delivery.received_at,
        arrival.format,
        delivery.request_id,
        translated.correlation_id if translated else delivery.correlation_id,
        arrival.media_type,
        delivery.body,
        keys.sha256(delivery.body),
        decision.verdict,
        translated.referral_id if translated else None,
        decision.reference,
        decision.version,
        translated.sent_at if translated else None,
        translated.content_hash if translated else None,
        json.dumps([dataclasses.asdict(fault) for fault in decision.faults]),
        answer.status,
        answer.body,
    )


async def _keep_claims(tx: Transaction, batch: _Batch) -> None:
    """Claim the message ids; where another process has one by now, everything here must be judged again."""
    if not batch.claimed:
        return
    claims = sorted(batch.claimed.items())
    kept = await tx.execute(
        text("""
            insert into intake.message_key (partner, key, content_hash, reference, message_id)
            select * from unnest(cast(:partners as text[]), cast(:keys as text[]), cast(:hashes as text[]),
                                 cast(:refs as text[]), cast(:ids as uuid[]))
            on conflict do nothing"""),
        {
            "partners": [partner for (partner, _), _ in claims],
            "keys": [key for (_, key), _ in claims],
            "hashes": [claim.content_hash for _, claim in claims],
            "refs": [claim.reference for _, claim in claims],
            "ids": [claim.message_id for _, claim in claims],
        },
    )
    if kept.rowcount != len(claims):
        raise Overtaken


async def _keep_referrals(tx: Transaction, rows: Sequence[_Referral]) -> None:
    if not rows:
        return
    await tx.execute(
        text("""
            update intake.referral as referral
            set person_key = now.person_key, version = now.version, first_intent = now.first_intent, content_hash = now.content_hash,
                cancelled = now.cancelled, sent_at = now.sent_at, message_id = now.message_id, last_at = now.last_at
            from unnest(cast(:partners as text[]), cast(:referral_ids as text[]), cast(:person_keys as text[]),
                        cast(:versions as integer[]), cast(:intents as text[]), cast(:hashes as text[]), cast(:cancelled as boolean[]),
                        cast(:sent as timestamptz[]), cast(:ids as uuid[]), cast(:times as timestamptz[]))
                 as now (partner, referral_id, person_key, version, first_intent, content_hash, cancelled, sent_at,
                         message_id, last_at)
            where referral.partner = now.partner and referral.referral_id = now.referral_id"""),
        {
            "partners": [row.partner for row in rows],
            "referral_ids": [row.referral_id for row in rows],
            "person_keys": [row.person_key for row in rows],
            "versions": [row.held.version for row in rows],
            "intents": [row.held.first_intent for row in rows],
            "hashes": [row.held.content_hash for row in rows],
            "cancelled": [row.cancelled for row in rows],
            "sent": [row.held.sent_at for row in rows],
            "ids": [row.message_id for row in rows],
            "times": [row.at for row in rows],
        },
    )


async def _forget(tx: Transaction, rows: Sequence[_Referral]) -> None:
    """A referral that was only asked to be cancelled was never held: its row was the lock."""
    if not rows:
        return
    await tx.execute(
        text("""
            delete from intake.referral as referral
            using unnest(cast(:partners as text[]), cast(:referral_ids as text[])) as unknown (partner, referral_id)
            where referral.partner = unknown.partner and referral.referral_id = unknown.referral_id
              and referral.version = 0"""),
        {"partners": [row.partner for row in rows], "referral_ids": [row.referral_id for row in rows]},
    )


async def _keep_documents(tx: Transaction, batch: _Batch) -> None:
    if not batch.documents:
        return
    columns: dict[str, list[Any]] = {
        name: [] for name in ("partners", "refs", "of", "hashes", "types", "contents", "times")
    }
    for arrival, of, document in {document.reference: (a, r, document) for a, r, document in batch.documents}.values():
        row = (
            arrival.partner,
            document.reference,
            of,
            document.sha256,
            document.media_type,
            document.content,
            arrival.delivery.received_at,
        )
        for column, value in zip(columns.values(), row, strict=True):
            column.append(value)
    await tx.execute(_KEEP_DOCUMENTS, columns)


_KEEP_DOCUMENTS = text("""
    insert into intake.attachment (partner, reference, of_referral, sha256, media_type, content, received_at)
    select * from unnest(cast(:partners as text[]), cast(:refs as text[]), cast(:of as text[]), cast(:hashes as text[]),
                         cast(:types as text[]), cast(:contents as bytea[]), cast(:times as timestamptz[]))
    on conflict do nothing""")


# ---- beside ---------------------------------------------------------------------------------------------------------


async def attachment(engine: AsyncEngine, reference: str) -> tuple[str | None, bytes] | None:
    """Media type and bytes of the attachment with this reference."""
    async with engine.connect() as connection:
        rows = await connection.execute(
            text("select media_type, content from intake.attachment where reference = :reference"),
            {"reference": reference},
        )
        row = rows.first()
    return (row.media_type, row.content) if row else None


class AnotherSecret(Exception):
    """The database was made with another secret: person keys and references would differ."""


async def check_secret(engine: AsyncEngine, secret: bytes) -> None:
    """Keep the check value of the secret at the first start; raise AnotherSecret where it is not the one of the first."""
    async with engine.begin() as tx:
        await tx.execute(
            text("insert into intake.secret_check (value) values (:value) on conflict do nothing"),
            {"value": keys.check_value(secret)},
        )
        kept = (await tx.execute(text("select value from intake.secret_check"))).scalar_one()
    if kept != keys.check_value(secret):
        raise AnotherSecret("LIGHTBULB_SECRET_FILE is not the secret that this database was made with")
