"""Store every delivered message with its verdict and response, the identity of every referral, and the events.

The messages of a batch are one transaction (docs/architecture.md, State): read the keys, read and lock the referrals, decide in memory,
insert final rows. No message is answered before the commit; a message that could not be committed is answered 503, and the sender keeps it.
"""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncEngine

from schemas import topics
from schemas.model import Reference
from services.intake import batch, identifiers
from services.intake.batch import Batch, MessageDecision, NewKeys, PendingMessage, ProtocolResponse
from services.intake.deduplication import AcceptedMessage, StoredReferral, Verdict
from services.intake.translators.translator import NameKind, ReferralName, Translated
from services.messaging import outbox, packets
from services.messaging.packets import Content, Place
from services.runtime import StartupError, database, metrics, tracing
from services.runtime.database import Transaction

SCHEMA = "intake"

BODY, ANSWER = 0, 1
"""Parts of the content of a packet to which a row of intake.message points."""


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
    message_batch = await _read(tx, secret, messages, _LOCKED_REFERRALS)
    for message in messages:
        batch.decide(message_batch, secret, message)
    await _check_refused(tx, message_batch)
    await _read_earlier_answers(tx, message_batch)
    return message_batch, [batch.answer(message_batch, at) for at in range(len(messages))]


ChangedReferrals = dict[tuple[str, Reference], StoredReferral]
"""Referrals by partner and reference, as the messages of a dry run would leave them."""

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
        message_batch = await _read(tx, secret, messages, _REFERRALS)
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
    if ids := {key: message_batch.accepted[key] for key in keys if key in message_batch.accepted}:
        accepted.setdefault((message.partner, message.outcome.referral_id), {}).update(ids)


# ---- read -----------------------------------------------------------------------------------------------------------

NAME_COLUMNS: dict[NameKind, str] = {
    "id": "id_name",
    "identifier": "identifier_name",
    "message": "message_name",
    "location": "url_name",
    "entry": "url_name",
}
"""The column of intake.message_key for the names of a kind. Each name is unique in it, within its partner."""

_KEY_COLUMNS = ("key", *dict.fromkeys(NAME_COLUMNS.values()))


async def _read(tx: Transaction, secret: bytes, messages: Sequence[PendingMessage], referrals: TextClause) -> Batch:
    """Read the keys that these messages may have in common with earlier ones, then the referrals that they may be about."""
    understood = [(message, one) for message in messages if isinstance(one := message.outcome, Translated)]
    first = {(message.partner, one.referral_id): message for message, one in reversed(understood)}
    own = {key: identifiers.reference(secret, *key) for key in first}
    keys = {key for message, one in understood for key in keys_of(message.partner, one.message_ids, one.names)}
    accepted, names = await read_keys(tx, sorted(keys))
    candidates = {(partner, reference) for (partner, _), reference in own.items()}
    candidates |= set(_named(understood, names))
    held = await _read_referrals(tx, referrals, sorted(candidates))
    for (partner, referral_id), message in first.items():
        new = StoredReferral(
            partner, referral_id, own[partner, referral_id], message.inbound.received_at, is_stored=False
        )
        if held.setdefault((partner, new.reference), new).referral_id != referral_id:
            raise ReferenceInUse
    return Batch(messages, own, held, accepted, names)


class ReferenceInUse(ValueError):
    """Two ids of a sender have the same reference, which is a hash of 60 bits."""


def keys_of(partner: str, ids: Iterable[str], names: Iterable[ReferralName]) -> Iterator[tuple[str, str, str]]:
    """Yield partner, column and value of these ids and names, as `read_keys` reads them. Our reference is not stored as a name."""
    yield from ((partner, "key", value) for value in ids)
    yield from ((partner, NAME_COLUMNS[name.kind], name.key) for name in names if name.kind != "reference")


def _named(
    understood: Sequence[tuple[PendingMessage, Translated]], names: Mapping[tuple[str, str], Reference | None]
) -> Iterator[tuple[str, Reference]]:
    """Yield partner and reference of the referrals that the names of messages are, or lead to."""
    for message, one in understood:
        for name in filter(one.is_found_by, one.names):
            if reference := batch.reference_with(names, message.partner, name):
                yield message.partner, reference


async def read_keys(
    tx: Transaction, keys: Sequence[tuple[str, str, str]]
) -> tuple[dict[tuple[str, str], AcceptedMessage], dict[tuple[str, str], Reference | None]]:
    """Return the accepted messages that have these ids, and the references of the referrals that have these names."""
    accepted: dict[tuple[str, str], AcceptedMessage] = {}
    names: dict[tuple[str, str], Reference | None] = {}
    for row in await tx.execute(_KEYS, _columns(("partners", "columns", "values"), keys)) if keys else ():
        if row.column == "key":
            accepted[row.partner, row.value] = AcceptedMessage(row.content_hash, row.message_id, row.reference)
        else:
            names[row.partner, row.value] = None if row.is_shared else row.reference
    return accepted, names


def _keys_in(column: str) -> str:
    return f"""
        select given.*, known.content_hash, known.message_id, known.reference, given."column" = 'url_name' and url_is_shared as is_shared
        from given join intake.message_key as known on known.partner = given.partner and known.{column} = given.value
        where given."column" = '{column}'"""  # noqa: S608 - our column names


_KEYS = text(f"""
    with given as materialized (
        select * from unnest(cast(:partners as text[]), cast(:columns as text[]), cast(:values as text[]))
            as given (partner, "column", value))
    {" union all ".join(map(_keys_in, _KEY_COLUMNS))}""")  # noqa: S608 - our column names


_REFERRAL = {
    "partner": "text",
    "referral_id": "text",
    "reference": "text",
    "last_at": "timestamptz",
    "person_key": "text",
    "version": "integer",
    "first_intent": "text",
    "content_hash": "text",
    "subject": "text",
    "cancelled": "boolean",
    "first_sent_at": "timestamptz",
    "sent_at": "timestamptz",
    "message_id": "uuid",
    "fields": "bytea",
    "sender_reference": "text",
}
"""Columns of intake.referral, with their types: the first fields of StoredReferral, and its sender_reference, which is not read."""


async def _read_referrals(
    tx: Transaction, statement: TextClause, keys: Sequence[tuple[str, Reference]]
) -> dict[tuple[str, Reference], StoredReferral]:
    rows = await tx.execute(statement, _columns(("partners", "refs"), keys)) if keys else ()
    return {(row.partner, row.reference): StoredReferral(*row) for row in rows}


def _select_referrals(lock: str) -> TextClause:
    """Return the query of referrals by partner and reference; they are locked in the order of their keys."""
    return text(f"""
        select {", ".join(f"referral.{name}" for name in _REFERRAL if name != "sender_reference")}
        from unnest(cast(:partners as text[]), cast(:refs as text[])) as given (partner, reference)
        join intake.referral as referral using (partner, reference)
        order by referral.partner, referral.reference {lock}""")  # noqa: S608 - a constant


_REFERRALS = _select_referrals("")
_LOCKED_REFERRALS = _select_referrals("for update of referral")


async def _check_refused(tx: Transaction, book: Batch) -> None:
    """Raise ConcurrentUpdate if another process has accepted a message that is refused here: its ids were read before the locks."""
    ids = {
        (message.partner, "key", one)
        for message, decision in zip(book.messages, book.decisions, strict=True)
        if isinstance(message.outcome, Translated) and decision.verdict not in _NOT_REFUSED
        for one in message.outcome.message_ids
        if (message.partner, one) not in book.accepted
    }
    accepted, _ = await read_keys(tx, sorted(ids))
    if accepted:
        raise ConcurrentUpdate


_NOT_REFUSED = frozenset(one for one in Verdict if one.is_stored or one in (Verdict.REPEAT, Verdict.UNRELATED))


async def _read_earlier_answers(tx: Transaction, message_batch: Batch) -> None:
    """Read the responses to the earlier messages that are repeated here. Those of this batch have no row yet."""
    if not message_batch.repeats:
        return
    repeats = {
        (message_batch.messages[at].partner, earlier) for at, earlier in message_batch.repeats.items() if earlier
    }
    rows = list(await tx.execute(_EARLIER, _columns(("partners", "ids"), sorted(repeats))))
    stored = await packets.contents(tx, SCHEMA, ((row.partner, Place(row.packet, row.place)) for row in rows))
    message_batch.answers = {
        row.id: ProtocolResponse(row.response_status, stored[row.partner, Place(row.packet, row.place)][ANSWER])
        for row in rows
    }


_EARLIER = text("""
    select message.id, message.partner, message.response_status, message.packet, message.place
    from unnest(cast(:partners as text[]), cast(:ids as uuid[])) as repeated (partner, id)
    join intake.message as message on message.partner = repeated.partner and message.id = repeated.id""")


# ---- write ----------------------------------------------------------------------------------------------------------


async def write(tx: Transaction, book: Batch, answers: Sequence[ProtocolResponse]) -> None:
    """Write the referrals, keys, documents and events, and the messages with their responses.

    Raises ConcurrentUpdate if another transaction was the first with a referral or key. Referrals are first: transactions with the same new
    one wait for each other there, before they could meet at its other keys in another order.
    """
    await _save_referrals(tx, [row for row in book.referrals.values() if row.changed])
    await insert_keys(tx, book)
    await _save_visit_keys(tx, [row for row in book.referrals.values() if row.visit_keys is not None])
    await _save_documents(tx, book)
    await _save_messages(tx, book, answers)


def _columns(names: Iterable[str], rows: Sequence[Sequence[Any]]) -> dict[str, list[Any]]:
    """Return the values of rows by column: parameters for `unnest`."""
    return {name: [row[at] for row in rows] for at, name in enumerate(names)}


def _unnest(columns: Mapping[str, str]) -> str:
    """Return the rows of such parameters, given the type of each column."""
    return f"unnest({', '.join(f'cast(:{name} as {kind}[])' for name, kind in columns.items())})"


async def _write_all(tx: Transaction, statement: TextClause, columns: Mapping[str, Sequence[Any]], number: int) -> None:
    """Write this number of rows. Raises ConcurrentUpdate if another transaction was the first with one of them."""
    if number and (await tx.execute(statement, columns)).rowcount != number:
        raise ConcurrentUpdate


async def _save_referrals(tx: Transaction, rows: Sequence[StoredReferral]) -> None:
    ordered = sorted(rows, key=lambda row: (row.partner, row.reference))
    for statement, is_stored in ((_INSERT_REFERRALS, False), (_UPDATE_REFERRALS, True)):
        own = [row for row in ordered if row.is_stored is is_stored]
        await _write_all(tx, statement, {name: [getattr(row, name) for row in own] for name in _REFERRAL}, len(own))


_INSERT_REFERRALS = text(f"""
    insert into intake.referral ({", ".join(_REFERRAL)}, first_at)
    select *, last_at from {_unnest(_REFERRAL)} as new ({", ".join(_REFERRAL)})
    on conflict do nothing""")  # noqa: S608 - our column names

_UPDATED = [name for name in _REFERRAL if name not in ("partner", "referral_id", "reference", "sender_reference")]

_UPDATE_REFERRALS = text(f"""
    update intake.referral as referral
    set {", ".join(f"{name} = now.{name}" for name in _UPDATED)},
        sender_reference = coalesce(now.sender_reference, referral.sender_reference)
    from {_unnest(_REFERRAL)} as now ({", ".join(_REFERRAL)})
    where referral.partner = now.partner and referral.reference = now.reference""")  # noqa: S608 - our column names


async def insert_keys(tx: Transaction, book: Batch) -> None:
    """Insert the new ids and names, and mark the URLs that several referrals have."""
    rows = sorted((row for new in book.new_keys for row in _key_rows(new)), key=lambda row: row[:2])
    await _write_all(tx, _INSERT_KEYS, _columns(_KEY, rows), len(rows))
    if book.shared_urls:
        await tx.execute(_SHARE_URLS, _columns(("partners", "urls"), sorted(book.shared_urls)))


_KEY = {
    "partner": "text",
    "key": "text",
    "content_hash": "text",
    "message_id": "uuid",
    "reference": "text",
    **dict.fromkeys(_KEY_COLUMNS[1:], "text"),
}


def _key_rows(new: NewKeys) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a message: one, unless it has several names of one kind."""
    names: dict[str, list[str]] = {column: [] for column in _KEY_COLUMNS[1:]}
    for name in new.names:
        names[NAME_COLUMNS[name.kind]].append(name.key)
    for number, (message_id, *one_of_each) in enumerate(zip_longest(new.ids, *names.values())):
        key = message_id or f"names:{new.of.message_id}:{number}"
        yield new.partner, key, new.of.content_hash, new.of.message_id, new.of.reference, *one_of_each


_INSERT_KEYS = text(f"""
    insert into intake.message_key ({", ".join(_KEY)}) select * from {_unnest(_KEY)} on conflict do nothing""")  # noqa: S608 - our column names

_SHARE_URLS = text("""
    update intake.message_key as known set url_is_shared = true
    from unnest(cast(:partners as text[]), cast(:urls as text[])) as shared (partner, url)
    where known.partner = shared.partner and known.url_name = shared.url""")


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
            **_columns(("partners", "keys", "refs"), keys),
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


async def _save_documents(tx: Transaction, message_batch: Batch) -> None:
    if not message_batch.documents:
        return
    unique = {document.reference: (message, of, document) for message, of, document in message_batch.documents}
    rows = [
        (
            message.partner,
            document.reference,
            of,
            document.sha256,
            document.media_type,
            document.content,
            message.inbound.received_at,
        )
        for message, of, document in unique.values()
    ]
    await tx.execute(_INSERT_DOCUMENTS, _columns(_DOCUMENT, rows))


_DOCUMENT = {
    "partner": "text",
    "reference": "text",
    "referral_reference": "text",
    "sha256": "text",
    "media_type": "text",
    "content": "bytea",
    "received_at": "timestamptz",
}

_INSERT_DOCUMENTS = text(f"""
    insert into intake.attachment ({", ".join(_DOCUMENT)}) select * from {_unnest(_DOCUMENT)}
    on conflict do nothing""")  # noqa: S608 - our column names


async def _save_messages(tx: Transaction, book: Batch, answers: Sequence[ProtocolResponse]) -> None:
    """Write the events, and each message with its response; their bytes share the packets of this transaction."""
    contexts = {str(message.id): tracing.traceparent(message.span) for message in book.messages}
    events = [
        outbox.OutboxMessage(topics.REFERRAL_EVENT, event, contexts.get(event.causation_id or ""))
        for event in book.events
    ]
    stored = [
        (message, decision, answer)
        for message, decision, answer in zip(book.messages, book.decisions, answers, strict=True)
        if not (message.stored_in_upload and decision.verdict == Verdict.REPEAT)
        and decision.verdict != Verdict.UNRELATED
    ]
    contents = [Content(message.partner, (message.inbound.body, answer.body)) for message, _, answer in stored]
    added = await outbox.add(tx, SCHEMA, events, contents)
    caused = {event.causation_id: place for event, place in zip(book.events, added.messages, strict=True)}
    rows = [
        _message_row(*one, place, caused.get(str(one[0].id))) for one, place in zip(stored, added.contents, strict=True)
    ]
    if rows:
        await tx.execute(_INSERT_MESSAGES, _columns(_MESSAGE, rows))


_MESSAGE = {
    "partner": "text",
    "id": "uuid",
    "received_at": "timestamptz",
    "format": "text",
    "request_id": "text",
    "correlation_id": "text",
    "media_type": "text",
    "body_sha256": "text",
    "verdict": "text",
    "referral_id": "text",
    "reference": "text",
    "version": "integer",
    "sent_at": "timestamptz",
    "issues": "jsonb",
    "response_status": "integer",
    "packet": "bigint",
    "place": "integer",
    "event_packet": "bigint",
    "event_place": "integer",
}

_INSERT_MESSAGES = text(f"""
    insert into intake.message ({", ".join(_MESSAGE)}) select * from {_unnest(_MESSAGE)}""")  # noqa: S608 - our column names


def _message_row(
    message: PendingMessage, decision: MessageDecision, answer: ProtocolResponse, place: Place, event: Place | None
) -> tuple[Any, ...]:
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
        identifiers.sha256(inbound.body),
        decision.stored_verdict,
        translated.referral_id if translated else None,
        decision.reference,
        decision.version,
        translated.sent_at if translated else None,
        json.dumps([dataclasses.asdict(issue) for issue in decision.issues]) if decision.issues else "[]",
        answer.status,
        *place,
        *(event or (None, None)),
    )


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
    async with engine.connect() as connection:
        _, names = await read_keys(connection, list(keys_of(partner, (), (name,))))
        reference = batch.reference_with(names, partner, name)
        row = (await connection.execute(_HELD, {"partner": partner, "reference": reference})).first()
        if row is None:
            return None
        at = (partner, Place(row.packet, row.place))
        body = (await packets.contents(connection, SCHEMA, [at]))[at][BODY]
    return HeldReferral(row.reference, row.version, row.cancelled, row.last_at, row.format, body)


_HELD = text("""
    select referral.reference, referral.version, referral.cancelled, referral.last_at, message.format, message.packet, message.place
    from intake.referral join intake.message on message.partner = referral.partner and message.id = referral.message_id
    where referral.partner = :partner and referral.reference = :reference""")


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
