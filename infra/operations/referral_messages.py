"""The messages about one referral in the packets of the outboxes. Only packets to which rows of the referral lead are opened."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.messaging import packets
from services.messaging.packets import Message, shard_of

LATEST = 10_000
"""Maximum number of rows of a person that are searched for the referral, the latest ones: many may share a key."""

OPENED = 50
"""Packets that are opened together."""


@dataclass(frozen=True, slots=True)
class ReferralMessage:
    """A message about the referral. `published_at`: None while it waits to be published."""

    target: str
    type: str
    created_at: datetime
    published_at: datetime | None


class ReferralMessages(NamedTuple):
    """Messages about one referral, by the service that wrote them, each in the order of writing."""

    intake: Sequence[ReferralMessage] = ()
    router: Sequence[ReferralMessage] = ()


async def find(connection: AsyncConnection, reference: str) -> ReferralMessages:
    """Return the messages about the referral with this reference."""
    row = (await connection.execute(_REFERRAL, {"reference": reference})).first()
    if row is None:
        return ReferralMessages()
    key, correlation = row.person_key, row.correlation_id
    known = {"reference": reference, "key": key, "correlation": correlation, "latest": LATEST}
    of_intake = list(await connection.scalars(_PACKETS_OF_INTAKE, known))
    of_router = list(await connection.scalars(_PACKETS_OF_ROUTER, known)) if correlation else []
    return ReferralMessages(
        await _in_packets(connection, "intake", key, of_intake, lambda one: _reference(one) == reference),
        await _in_packets(connection, "router", key, of_router, lambda one: _conversation(one) == correlation),
    )


_REFERRAL = text("""
    select sent.person_key, known.correlation_id from intake.referral as sent
    left join router.referral as known on known.person_key = sent.person_key and known.reference = sent.reference
    where sent.reference = :reference""")

_PACKETS_OF_INTAKE = text("""
    select event_packet from intake.message where reference = :reference and event_packet is not null
    order by received_at desc limit :latest""")

_PACKETS_OF_ROUTER = text("""
    select packet from (
        select packet, "references", correlation_id from router.case_event where person_key = :key order by sequence desc limit :latest
    ) as latest
    where :reference = any("references") or correlation_id = :correlation or "references" = '{}'
    union
    (select packet from router.input where person_key = :key and topic >= 'hub.' and topic < 'hub/' limit :latest)""")
"""Of events about the referral, or about all of its case; and of hubs' commands, which hold the answers to them."""


async def _in_packets(
    connection: AsyncConnection, schema: str, key: str, ids: Sequence[int], is_concerned: Callable[[Message], bool]
) -> list[ReferralMessage]:
    """Return the messages of a person for which `is_concerned` holds, in these packets."""
    ordered, found = sorted(set(ids)), []
    for start in range(0, len(ordered), OPENED):
        page = {"shard": shard_of(key), "ids": ordered[start : start + OPENED]}
        for row in await connection.execute(_opened(schema), page):
            found += [
                ReferralMessage(
                    message.target,
                    _header(message, "ce_type"),
                    row.created_at,
                    None if place in row.waiting else row.published_at,
                )
                for place, message in enumerate(packets.decode(row.content).messages)
                if message.person_key == key and is_concerned(message)
            ]
    return found


def _reference(message: Message) -> Any:
    return json.loads(message.value).get("reference")


def _conversation(message: Message) -> str:
    return _header(message, "ce_correlationid")


def _header(message: Message, name: str) -> str:
    return dict(message.headers).get(name, b"").decode()


def _opened(schema: str) -> TextClause:
    """Return the statement for packets of a shard; `waiting`: places of messages that are held."""
    return text(f"""
        select id, content, created_at, published_at, array(
            select unnest(places) from {schema}.packet_held as held
            where held.shard = packet.shard and held.target = any(packet.targets) and held.id = packet.id) as waiting
        from {schema}.packet where shard = :shard and id = any(cast(:ids as bigint[])) order by id""")  # noqa: S608 - a constant name
