"""Transactional Outbox: events are messages of the transaction that causes them; a relay (relay.py) publishes them afterwards.

Writers lock the person key first, so that the ids of a shard's packets follow the order of each key.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.events import Event
from schemas.topics import MAX_VALUE_BYTES
from services.messaging import packets
from services.messaging.cloudevents import headers_of, value_of
from services.messaging.packets import Added, Content, Message, TooLarge
from services.messaging.packets import shard_of as shard_of
from services.runtime import tracing
from services.runtime.database import Transaction


@dataclass(frozen=True, slots=True)
class OutboxMessage:
    """An event, its topic and its trace context."""

    target: str
    event: Event
    traceparent: str | None = None


async def add(
    tx: Transaction, schema: str, messages: Sequence[OutboxMessage], contents: Sequence[Content] = ()
) -> Added:
    """Write `messages`, to be published in order, and `contents`, for rows to point into. Return where they are.

    Raise TooLarge. The caller holds the locks of the keys.
    """
    records = [_message(message) for message in messages]
    if too_large := [size for record in records if (size := len(record.value)) > MAX_VALUE_BYTES]:
        raise TooLarge(f"event of {max(too_large)} bytes exceeds the limit of {MAX_VALUE_BYTES} bytes")
    return await packets.write(tx, schema, records, contents)


def _message(message: OutboxMessage) -> Message:
    """Return the record, the trace context as its last header: infra/operations/replay_router.py cuts it off to compare them."""
    headers = headers_of(message.event)
    if message.traceparent is not None:
        headers[tracing.HEADER] = message.traceparent
    encoded = tuple((name, value.encode()) for name, value in headers.items())
    return Message(message.target, message.event.person_key, encoded, value_of(message.event))
