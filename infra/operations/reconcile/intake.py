"""Rebuild what intake holds of a referral from its events: what the next message of that referral needs.

What events do not have is not rebuilt: the bytes of messages and answers, refused messages, files of councils, and documents.
"""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.operations.reconcile.kafka import KeptRecord
from schemas.events import REFERRAL_EVENTS, AcceptedReferral, Event, IntakeState, ReferralReceived, ReferralUpdated
from services.intake import batch, store
from services.intake.deduplication import AcceptedMessage
from services.intake.store import SCHEMA
from services.intake.translators.translator import ReferralName
from services.messaging import packets
from services.messaging.cloudevents import Undecodable, decode
from services.messaging.packets import Message
from services.runtime.database import Transaction

SOURCE = b"/lightbulb/intake"


def of_intake(records: Iterable[KeptRecord]) -> list[KeptRecord]:
    """Return the records that intake published."""
    return [one for one in records if ("ce_source", SOURCE) in one.record.headers]


async def missing(engine: AsyncEngine, records: Sequence[KeptRecord]) -> list[KeptRecord]:
    """Return the events after the last one that intake holds of their referrals: each message of a referral makes the next version."""
    events = [(one, event) for one in records if (event := _event(one)) is not None]
    async with engine.connect() as tx:
        rows = await tx.execute(text(_VERSIONS), {"named": list({_data(event).reference for _, event in events})})
        known = {row.reference: row.version for row in rows}
    return [one for one, event in events if _data(event).version > known.get(_data(event).reference, 0)]


_VERSIONS = "select reference, version from intake.referral where reference = any(cast(:named as text[]))"


async def rebuild(engine: AsyncEngine, records: Sequence[KeptRecord]) -> list[str]:
    """Store these events as published, and what intake held after them. Return the references whose documents are missing."""
    events = [event for one in records if (event := _event(one)) is not None]
    async with engine.begin() as tx:
        await _add_published(tx, records)
        incomplete = await _without_documents(tx, events)
        for event in events:
            await _store(tx, event, is_complete=_data(event).reference not in incomplete)
    return sorted(incomplete)


def _event(one: KeptRecord) -> Event | None:
    try:
        event = decode(one.record, REFERRAL_EVENTS)
    except Undecodable:
        return None
    return event if isinstance(event.data, AcceptedReferral) and event.data.intake is not None else None


async def _add_published(tx: Transaction, records: Sequence[KeptRecord]) -> None:
    messages = [Message(one.record.topic, one.key, one.record.headers, one.record.value) for one in records]
    added = await packets.write(tx, SCHEMA, messages)
    await tx.execute(text(_PUBLISHED), {"ids": sorted({place.packet for place in added.messages})})


_PUBLISHED = """
    update intake.packet set published_at = clock_timestamp()
    where published_at is null and id = any(cast(:ids as bigint[]))"""


async def _without_documents(tx: Transaction, events: Sequence[Event]) -> set[str]:
    """Return the references of which a document is not stored."""
    documents = {
        document.reference: event.data.reference
        for event in events
        if isinstance(event.data, ReferralReceived | ReferralUpdated)
        for document in event.data.referral.attachments
    }
    stored = await tx.scalars(
        text("select reference from intake.attachment where reference = any(cast(:named as text[]))"),
        {"named": list(documents)},
    )
    return {str(documents[one]) for one in documents.keys() - set(stored)}


async def _store(tx: Transaction, event: Event, *, is_complete: bool) -> None:
    """Store what intake held after an event; a document that is missing is taken again, because its message counts as changed."""
    state = _data(event).intake
    assert state is not None
    values = _values(event, state)
    if not is_complete and state.first_intent != "new":
        values["content_hash"] = ""
    await tx.execute(text(_REFERRAL), values)
    await _store_keys(tx, event, state, with_ids=is_complete)
    if state.visit_keys is not None:
        await tx.execute(text(_FORGET_VISIT_KEYS), values)
        await tx.execute(text(_VISIT_KEYS), values)


async def _store_keys(tx: Transaction, event: Event, state: IntakeState, *, with_ids: bool) -> None:
    """Store the ids of the message, and the names that it gave its referral, as intake did."""
    accepted = AcceptedMessage(state.message_hash, UUID(event.causation_id), _data(event).reference)
    ids, names = state.message_ids if with_ids else (), [ReferralName.of_key(one) for one in state.names]
    book = batch.Batch((), {}, {}, *await store.read_keys(tx, list(store.keys_of(state.partner, ids, names))))
    batch.register(book, state.partner, accepted, ids, names)
    await store.insert_keys(tx, book)


def _data(event: Event) -> Any:
    """Return the data of an event of intake. Each type of them has a reference and a version."""
    return event.data


def _values(event: Event, state: IntakeState) -> dict[str, Any]:
    data = _data(event)
    return {
        **state.model_dump(exclude={"names", "message_ids", "visit_keys", "message_hash"}),
        "reference": data.reference,
        "version": data.version,
        "person_key": event.person_key,
        "at": event.time,
        "message_id": UUID(event.causation_id) if event.causation_id else None,
        "visit_keys": list(state.visit_keys or ()),
    }


_REFERRAL = """
    insert into intake.referral as known (partner, referral_id, reference, person_key, version, first_intent, content_hash, subject,
        cancelled, first_sent_at, sent_at, first_at, last_at, fields, sender_reference)
    values (:partner, :referral_id, :reference, :person_key, :version, :first_intent, :content_hash, :subject, :cancelled,
        :first_sent_at, :sent_at, :at, :at, decode(:fields, 'base64'), :sender_reference)
    on conflict (reference, partner) do update set person_key = excluded.person_key, version = excluded.version,
        first_intent = excluded.first_intent, content_hash = excluded.content_hash, subject = excluded.subject,
        cancelled = excluded.cancelled, first_sent_at = excluded.first_sent_at, sent_at = excluded.sent_at, message_id = null,
        last_at = excluded.last_at, fields = excluded.fields,
        sender_reference = coalesce(excluded.sender_reference, known.sender_reference)
    where known.version < excluded.version"""

_FORGET_VISIT_KEYS = "delete from intake.visit_key where partner = :partner and reference = :reference"

_VISIT_KEYS = """
    insert into intake.visit_key (partner, key, reference)
    select :partner, key, :reference from unnest(cast(:visit_keys as text[])) as given (key) on conflict do nothing"""
