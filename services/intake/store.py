"""Store every delivered message with its verdict and response, the identity of every referral, and the events.

The messages of a batch are one transaction (docs/architecture.md, State): lock the referrals, read the accepted messages, decide in
memory, write. No message is answered before the commit; a message that could not be committed is answered 503, and the sender keeps it.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncEngine

from schemas import topics
from schemas.model import Reference
from services.intake import batch, identifiers
from services.intake.batch import Batch, MessageDecision, PendingMessage, ProtocolResponse
from services.intake.deduplication import AcceptedMessage, StoredReferral, Verdict
from services.intake.translators.translator import TRANSIENT, ReferralName, Translated
from services.messaging import outbox
from services.runtime import StartupError, database, metrics, tracing
from services.runtime.database import Transaction

SCHEMA = "intake"


class ConcurrentUpdate(TimeoutError):
    """Another process accepted a message with one of these ids concurrently. Transient: decide again."""


async def record(engine: AsyncEngine, secret: bytes, messages: Sequence[PendingMessage]) -> list[ProtocolResponse]:
    """Decide on these messages and store them in one transaction. Return their responses, in order, after the commit."""
    async with database.transaction(engine, SCHEMA) as tx:
        message_batch, answers = await prepare(tx, secret, messages)
        await write(tx, message_batch, answers)
    for message, decision in zip(messages, message_batch.decisions, strict=True):
        metrics.MESSAGES.labels(message.partner, message.format, decision.stored_verdict).inc()
    return answers


async def prepare(
    tx: Transaction, secret: bytes, messages: Sequence[PendingMessage]
) -> tuple[Batch, list[ProtocolResponse]]:
    """Decide on these messages and compose their responses, without writing anything."""
    message_batch = await _read(tx, secret, messages, _LOCK)
    for message in messages:
        batch.decide(message_batch, secret, message)
    await _read_earlier_answers(tx, message_batch)
    return message_batch, [batch.answer(message_batch, at) for at in range(len(messages))]


ChangedReferrals = dict[tuple[str, str], StoredReferral]
"""Referrals by partner and id, as the messages of a dry run would leave them."""

AcceptedIds = dict[tuple[str, str], dict[tuple[str, str], AcceptedMessage]]
"""Message ids that a dry run would store, by the partner and id of their referral."""


async def judge(
    engine: AsyncEngine,
    secret: bytes,
    messages: Sequence[PendingMessage],
    changed: ChangedReferrals,
    accepted: AcceptedIds,
) -> list[ProtocolResponse]:
    """Decide on rows of an upload as `record` would, in a read-only transaction without locks; new ones get no reference.

    `changed`, `accepted`: what earlier rows of the same dry run would have changed, and their ids; those of these rows are added.
    """
    async with engine.begin() as tx:
        await tx.execute(text("set transaction read only"))
        message_batch = await _read(tx, secret, messages, _PEEK)
    held = message_batch.referrals
    unknown = {row.reference for row in held.values() if not row.version}
    held.update({key: dataclasses.replace(changed[key]) for key in held if key in changed})
    for ids in accepted.values():
        message_batch.accepted.update(ids)
    for message in messages:
        batch.decide(message_batch, secret, message)
        _add_ids(accepted, message, message_batch)
    message_batch.decisions[:] = [
        dataclasses.replace(one, reference=None) if one.reference in unknown else one for one in message_batch.decisions
    ]
    answers = [batch.answer(message_batch, at) for at in range(len(messages))]
    changed.update({key: row for key, row in held.items() if row.changed})
    return answers


def _add_ids(accepted: AcceptedIds, message: PendingMessage, message_batch: Batch) -> None:
    """Add the ids of a message that would be accepted."""
    if not isinstance(message.outcome, Translated):
        return
    keys = [(message.partner, one) for one in message.outcome.message_ids]
    if new := {key: message_batch.new_ids[key] for key in keys if key in message_batch.new_ids}:
        accepted.setdefault((message.partner, message.outcome.referral_id), {}).update(new)


# ---- read -----------------------------------------------------------------------------------------------------------


async def _read(tx: Transaction, secret: bytes, messages: Sequence[PendingMessage], statement: TextClause) -> Batch:
    understood = [(a, a.outcome) for a in messages if isinstance(a.outcome, Translated)]
    asked = {(a.partner, name.key): name for a, t in understood for name in t.names}
    names = await _referral_names(tx, asked) if asked else {}
    named = {key: a.inbound.received_at for a, t in understood for key in _candidates(a.partner, t, names)}
    ids = sorted({(a.partner, name) for a, t in understood for name in t.message_ids})
    referrals = await _referrals(tx, statement, secret, named) if named else {}
    accepted = await _accepted_messages(tx, ids) if ids else {}
    return Batch(messages, referrals, accepted, names)


def _candidates(
    partner: str, translated: Translated, names: dict[tuple[str, str], str | None]
) -> Iterator[tuple[str, str]]:
    """Yield the keys of the referrals that a message may be about: those that its names lead to, else its own."""
    is_new = True
    for name in filter(translated.is_found_by, translated.names):
        if (referral_id := names.get((partner, name.key))) is not None:
            yield partner, referral_id
            is_new = is_new and name.kind in TRANSIENT
    if is_new:
        yield partner, translated.referral_id


async def _referral_names(
    tx: Transaction, asked: Mapping[tuple[str, str], ReferralName]
) -> dict[tuple[str, str], str | None]:
    """Return which names are known, with the id of the referral, or None if a name is of several referrals."""
    rows = await tx.execute(
        _NAMES,
        {
            "partners": [partner for partner, _ in asked],
            "names": [key for _, key in asked],
            "refs": [name.value if name.kind == "reference" else None for name in asked.values()],
        },
    )
    return {(row.partner, row.name): row.referral_id for row in rows}


_NAMES = text("""
    with asked as (
        select * from unnest(cast(:partners as text[]), cast(:names as text[]), cast(:refs as text[]))
            as asked (partner, name, reference))
    select asked.partner, asked.name, referral.referral_id
    from asked join intake.referral_name as known using (partner, name)
    left join intake.referral as referral on referral.partner = known.partner and referral.reference = known.reference
    union all
    select asked.partner, asked.name, referral.referral_id
    from asked join intake.referral as referral using (partner, reference)""")


async def _referrals(
    tx: Transaction, statement: TextClause, secret: bytes, named: Mapping[tuple[str, str], datetime]
) -> dict[tuple[str, str], StoredReferral]:
    """Return these referrals by `_LOCK`, or by `_PEEK`; those that are missing have version 0."""
    new = [(*key, identifiers.reference(secret, *key), named[key]) for key in sorted(named)]
    rows = await tx.execute(statement, {name: [row[at] for row in new] for at, name in enumerate(_LOCKED)})
    return {(row.partner, row.referral_id): row for row in (StoredReferral(*values) for values in rows)}


_LOCKED = ("partners", "referral_ids", "refs", "times")

# Insert the missing referrals, lock all in the order of their keys, and return them, in one statement.
_LOCK = text("""
    insert into intake.referral as referral (partner, referral_id, reference, first_at, last_at)
    select partner, referral_id, reference, at, at
    from unnest(cast(:partners as text[]), cast(:referral_ids as text[]), cast(:refs as text[]),
                cast(:times as timestamptz[]))
         as named (partner, referral_id, reference, at)
    order by partner, referral_id
    on conflict (partner, referral_id) do update set partner = referral.partner
    returning partner, referral_id, reference, person_key, version, first_intent, content_hash, subject, cancelled,
              first_sent_at, sent_at, message_id, last_at, fields""")


# Return the same, but insert and lock nothing.
_PEEK = text("""
    select named.partner, named.referral_id, coalesce(referral.reference, named.reference) as reference,
           coalesce(person_key, '') as person_key, coalesce(version, 0) as version, coalesce(first_intent, 'new') as first_intent,
           coalesce(content_hash, '') as content_hash, coalesce(subject, '') as subject,
           coalesce(cancelled, false) as cancelled, first_sent_at, sent_at, message_id, coalesce(last_at, named.at) as last_at, fields
    from unnest(cast(:partners as text[]), cast(:referral_ids as text[]), cast(:refs as text[]),
                cast(:times as timestamptz[])) as named (partner, referral_id, reference, at)
    left join intake.referral as referral using (partner, referral_id)""")


async def _accepted_messages(tx: Transaction, ids: list[tuple[str, str]]) -> dict[tuple[str, str], AcceptedMessage]:
    rows = await tx.execute(
        text("""
            select key.partner, key.key, key.content_hash, key.message_id, key.reference
            from unnest(cast(:partners as text[]), cast(:keys as text[])) as asked (partner, key)
            join intake.message_key as key using (partner, key)"""),
        {"partners": [partner for partner, _ in ids], "keys": [key for _, key in ids]},
    )
    return {(row.partner, row.key): AcceptedMessage(row.content_hash, row.message_id, row.reference) for row in rows}


# ---- write ----------------------------------------------------------------------------------------------------------


async def _read_earlier_answers(tx: Transaction, message_batch: Batch) -> None:
    """Read the responses to the earlier messages that are repeated here. Those of this batch have no row yet."""
    if not message_batch.repeats:
        return
    rows = await tx.execute(
        text("""
            select id, response_status, response_body from intake.message
            where partner = any(cast(:partners as text[])) and id = any(cast(:ids as uuid[]))"""),
        {
            "partners": list({message.partner for message in message_batch.messages}),
            "ids": list(set(message_batch.repeats.values())),
        },
    )
    message_batch.answers = {row.id: ProtocolResponse(row.response_status, row.response_body) for row in rows}


async def write(tx: Transaction, book: Batch, answers: Sequence[ProtocolResponse]) -> None:
    """Write the messages with their responses, the referrals, the documents and the events."""
    await _save_messages(tx, book, answers)
    await keep_claims(tx, book)
    await _save_referrals(tx, [row for row in book.referrals.values() if row.changed])
    await _save_visit_keys(tx, [row for row in book.referrals.values() if row.visit_keys is not None])
    await _delete_unused(tx, [row for row in book.referrals.values() if row.version == 0 and not row.cancelled])
    await _save_documents(tx, book)
    contexts = {str(arrival.id): tracing.traceparent(arrival.span) for arrival in book.messages}
    events = [
        outbox.OutboxMessage(topics.REFERRAL_EVENT, event, contexts.get(event.causation_id or ""))
        for event in book.events
    ]
    await outbox.add(tx, SCHEMA, events)


async def _save_messages(tx: Transaction, message_batch: Batch, answers: Sequence[ProtocolResponse]) -> None:
    rows = [
        _message_row(message, decision, answer)
        for message, decision, answer in zip(message_batch.messages, message_batch.decisions, answers, strict=True)
        if not (message.stored_in_upload and decision.verdict == Verdict.REPEAT)
        and decision.verdict != Verdict.UNRELATED
    ]
    if not rows:
        return
    await tx.execute(_INSERT_MESSAGES, {name: [row[at] for row in rows] for at, name in enumerate(_MESSAGE)})


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
    "issues": "jsonb",
    "response_status": "integer",
    "response_body": "bytea",
}

_INSERT_MESSAGES = text(f"""
    insert into intake.message ({", ".join(_MESSAGE)})
    select * from unnest({", ".join(f"cast(:{name} as {kind}[])" for name, kind in _MESSAGE.items())})""")  # noqa: S608 - our column names


def _message_row(message: PendingMessage, decision: MessageDecision, answer: ProtocolResponse) -> tuple[Any, ...]:
    translated = message.outcome if isinstance(message.outcome, Translated) else None
    inbound = message.inbound
    return (
        message.partner,
        message.id,
        inbound.received_at,
        message.format,
        inbound.request_id,
        translated.correlation_id if translated else inbound.correlation_id,
        message.media_type,
        inbound.body,
        identifiers.sha256(inbound.body),
        decision.stored_verdict,
        translated.referral_id if translated else None,
        decision.reference,
        decision.version,
        translated.sent_at if translated else None,
        translated.content_hash if translated else None,
        json.dumps([dataclasses.asdict(issue) for issue in decision.issues]) if decision.issues else "[]",
        answer.status,
        answer.body,
    )


async def keep_claims(tx: Transaction, book: Batch) -> None:
    """Insert the message ids and names. Raises ConcurrentUpdate if another process has inserted one of them."""
    if not book.new_ids and not book.new_names:
        return
    claims = sorted(book.new_ids.items())
    names = sorted(book.new_names.items())
    kept = await tx.execute(
        _CLAIM,
        {
            "partners": [partner for (partner, _), _ in claims],
            "keys": [key for (_, key), _ in claims],
            "hashes": [claim.content_hash for _, claim in claims],
            "refs": [claim.reference for _, claim in claims],
            "ids": [claim.message_id for _, claim in claims],
            "of": [partner for (partner, _), _ in names],
            "names": [name for (_, name), _ in names],
            "named": [reference for _, reference in names],
        },
    )
    if kept.scalar_one() != len(claims) + len(names):
        raise ConcurrentUpdate


_CLAIM = text("""
    with key as (
        insert into intake.message_key (partner, key, content_hash, reference, message_id)
        select * from unnest(cast(:partners as text[]), cast(:keys as text[]), cast(:hashes as text[]),
                             cast(:refs as text[]), cast(:ids as uuid[]))
        on conflict do nothing returning 1),
    name as (
        insert into intake.referral_name as held (partner, name, reference)
        select * from unnest(cast(:of as text[]), cast(:names as text[]), cast(:named as text[]))
        on conflict (partner, name) do update set reference = excluded.reference
        where excluded.reference is null or excluded.reference = held.reference returning 1)
    select (select count(*) from key) + (select count(*) from name)""")


async def _save_referrals(tx: Transaction, rows: Sequence[StoredReferral]) -> None:
    if not rows:
        return
    await tx.execute(
        _UPDATE,
        {
            "partners": [row.partner for row in rows],
            "referral_ids": [row.referral_id for row in rows],
            "person_keys": [row.person_key for row in rows],
            "versions": [row.version for row in rows],
            "intents": [row.first_intent for row in rows],
            "hashes": [row.content_hash for row in rows],
            "subjects": [row.subject for row in rows],
            "cancelled": [row.cancelled for row in rows],
            "first_sent": [row.first_sent_at for row in rows],
            "sent": [row.sent_at for row in rows],
            "ids": [row.message_id for row in rows],
            "times": [row.last_at for row in rows],
            "fields": [row.fields for row in rows],
            "named": [row.sender_reference for row in rows],
        },
    )


_UPDATE = text("""
    update intake.referral as referral
    set person_key = now.person_key, version = now.version, first_intent = now.first_intent, content_hash = now.content_hash,
        subject = now.subject, cancelled = now.cancelled, first_sent_at = now.first_sent_at, sent_at = now.sent_at,
        message_id = now.message_id, last_at = now.last_at, fields = now.fields,
        sender_reference = coalesce(now.sender_reference, referral.sender_reference)
    from unnest(cast(:partners as text[]), cast(:referral_ids as text[]), cast(:person_keys as text[]),
                cast(:versions as integer[]), cast(:intents as text[]), cast(:hashes as text[]), cast(:subjects as text[]),
                cast(:cancelled as boolean[]), cast(:first_sent as timestamptz[]), cast(:sent as timestamptz[]),
                cast(:ids as uuid[]), cast(:times as timestamptz[]), cast(:fields as bytea[]), cast(:named as text[]))
         as now (partner, referral_id, person_key, version, first_intent, content_hash, subject, cancelled,
                 first_sent_at, sent_at, message_id, last_at, fields, sender_reference)
    where referral.partner = now.partner and referral.referral_id = now.referral_id""")


async def _save_visit_keys(tx: Transaction, rows: Sequence[StoredReferral]) -> None:
    """Store by which keys ADT finds these referrals: insert the new ones, and delete those that no longer hold."""
    if not rows:
        return
    keys = [(row.partner, key, row.reference) for row in rows for key in sorted(row.visit_keys or ())]
    await tx.execute(
        _VISIT_KEYS,
        {
            "of": [row.partner for row in rows],
            "referrals": [row.reference for row in rows],
            **{name: [row[at] for row in keys] for at, name in enumerate(("partners", "keys", "refs"))},
        },
    )


_VISIT_KEYS = text("""
    with said as (
        select * from unnest(cast(:partners as text[]), cast(:keys as text[]), cast(:refs as text[]))
            as said (partner, key, reference)),
    gone as (
        delete from intake.visit_key as known
        using unnest(cast(:of as text[]), cast(:referrals as text[])) as referral (partner, reference)
        where known.partner = referral.partner and known.reference = referral.reference
          and (known.partner, known.key, known.reference) not in (select partner, key, reference from said))
    insert into intake.visit_key (partner, key, reference) select * from said on conflict do nothing""")


async def _delete_unused(tx: Transaction, rows: Sequence[StoredReferral]) -> None:
    """Delete the rows that were inserted only as locks: no message was accepted for these referrals."""
    if not rows:
        return
    await tx.execute(
        text("""
            delete from intake.referral as referral
            using unnest(cast(:partners as text[]), cast(:referral_ids as text[])) as unknown (partner, referral_id)
            where referral.partner = unknown.partner and referral.referral_id = unknown.referral_id
              and referral.version = 0 and not referral.cancelled"""),
        {"partners": [row.partner for row in rows], "referral_ids": [row.referral_id for row in rows]},
    )


async def _save_documents(tx: Transaction, message_batch: Batch) -> None:
    if not message_batch.documents:
        return
    columns: dict[str, list[Any]] = {
        name: [] for name in ("partners", "refs", "of", "hashes", "types", "contents", "times")
    }
    for message, of, document in {
        document.reference: (a, r, document) for a, r, document in message_batch.documents
    }.values():
        row = (
            message.partner,
            document.reference,
            of,
            document.sha256,
            document.media_type,
            document.content,
            message.inbound.received_at,
        )
        for column, value in zip(columns.values(), row, strict=True):
            column.append(value)
    await tx.execute(_INSERT_DOCUMENTS, columns)


_INSERT_DOCUMENTS = text("""
    insert into intake.attachment (partner, reference, referral_reference, sha256, media_type, content, received_at)
    select * from unnest(cast(:partners as text[]), cast(:refs as text[]), cast(:of as text[]), cast(:hashes as text[]),
                         cast(:types as text[]), cast(:contents as bytea[]), cast(:times as timestamptz[]))
    on conflict do nothing""")


# ---- other ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HeldReferral:
    """A referral with its last applied message, as it was delivered."""

    reference: Reference
    version: int
    cancelled: bool
    last_at: datetime
    format: str
    body: bytes


async def referral(engine: AsyncEngine, partner: str, name: ReferralName) -> HeldReferral | None:
    """Return the referral of this partner that has this name, or None."""
    reference = name.value if name.kind == "reference" else None
    async with engine.connect() as connection:
        rows = await connection.execute(
            _HELD, {"partner": partner, "reference": reference, "name": None if reference else name.key}
        )
        row = rows.first()
    return HeldReferral(**row._mapping) if row else None


_HELD = text("""
    select referral.reference, referral.version, referral.cancelled, referral.last_at, message.format, message.body
    from intake.referral join intake.message on message.partner = referral.partner and message.id = referral.message_id
    where referral.partner = :partner and referral.reference = coalesce(cast(:reference as text), (
        select known.reference from intake.referral_name as known
        where known.partner = :partner and known.name = cast(:name as text)))""")


async def attachment(engine: AsyncEngine, reference: str) -> tuple[str | None, bytes] | None:
    """Return the media type and the bytes of the attachment with this reference, or None."""
    async with engine.connect() as connection:
        rows = await connection.execute(
            text("select media_type, content from intake.attachment where reference = :reference"),
            {"reference": reference},
        )
        row = rows.first()
    return (row.media_type, row.content) if row else None


class AnotherSecret(StartupError):
    """The database was initialised with another secret: person keys and references would differ."""


async def check_secret(engine: AsyncEngine, secret: bytes) -> None:
    """Store the check value of the secret at the first start; later raise AnotherSecret if it differs."""
    async with engine.begin() as tx:
        await tx.execute(
            text("insert into intake.secret_check (value) values (:value) on conflict do nothing"),
            {"value": identifiers.check_value(secret)},
        )
        stored = (await tx.execute(text("select value from intake.secret_check"))).scalar_one()
    if stored != identifiers.check_value(secret):
        raise AnotherSecret("LIGHTBULB_SECRET_FILE does not hold the secret that this database was initialised with")
