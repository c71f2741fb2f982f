"""Packets: the bytes of one transaction and shard in one compressed row, to which narrow rows point.

A packet has messages, which the relay publishes in order, and contents, which are not published: bytes that rows of other tables point
into by `packet bigint, place integer` (Place). The shard of a row is `shard_of` its key, so that (shard, packet) is the primary key of
`{schema}.packet`. What is to be published and was refused, or waits behind it, is in `{schema}.packet_held` (relay.py): a row names
places of messages and has no bytes of its own, so history is in `packet` only.

A message waits to be published while its packet has no `published_at`, or while `packet_held` has a row of its (shard, target, id) whose
`places` contain its place.
"""

import zlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec
from sqlalchemy import TextClause, text

from services.runtime.backlog import SHARDS as SHARDS
from services.runtime.compression import Corrupt, compress, decompress
from services.runtime.database import Transaction

PACKET_BYTES = 512 * 1024
"""A packet with this many bytes, before compression, is closed, and the next one of its shard begins."""

LIMIT_BYTES = 128 * 1024 * 1024
"""No packet has more bytes before compression; one that says so is corrupt."""


class TooLarge(ValueError):
    """An event or content exceeds its size limit. The text holds sizes only."""


class Place(NamedTuple):
    """Where bytes are: the id of a packet, and the index among its messages, or among its contents."""

    packet: int
    place: int


class Content(NamedTuple):
    """Bytes that narrow rows point into. `key` chooses the shard: the person key of these rows, in intake the partner."""

    key: str
    parts: tuple[bytes, ...]


class Message(NamedTuple):
    """A Kafka record to publish on the topic `target`: the record key, the headers in order, the value."""

    target: str
    person_key: str
    headers: tuple[tuple[str, bytes], ...]
    value: bytes


class Packet(NamedTuple):
    """What one row stores. Decoded, both are lists."""

    messages: Sequence[Message]
    contents: Sequence[tuple[bytes, ...]]


class Added(NamedTuple):
    """Where `write` put messages and contents, each in the order given."""

    messages: list[Place]
    contents: list[Place]


class StoredMessage(NamedTuple):
    """A message of the outbox. `published_at`: when the packet was marked; None while the message waits to be published."""

    shard: int
    packet: int
    place: int
    message: Message
    created_at: datetime
    published_at: datetime | None
    republished: bool


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Packet)


def encode(packet: Packet) -> bytes:
    """Return a packet as the bytes of its row: MessagePack of both lists, compressed as one frame."""
    return compress(_ENCODER.encode(packet))


def decode(content: bytes) -> Packet:
    """Return the packet of a row. Raise Corrupt, whose text holds sizes only."""
    data = decompress(content, LIMIT_BYTES)
    try:
        return _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):  # their texts may hold values
        raise Corrupt(f"{len(data)} bytes that are no packet") from None


def shard_of(key: str) -> int:
    """Return the shard of a key; one relay at a time publishes a shard."""
    return zlib.crc32(key.encode()) % SHARDS


# ---- write -----------------------------------------------------------------------------------------------------------


class _Draft:
    """A packet that is being filled."""

    def __init__(self, shard: int) -> None:
        self.shard = shard
        self.messages: list[Message] = []
        self.contents: list[tuple[bytes, ...]] = []
        self.size = 0
        self.id = 0

    @property
    def targets(self) -> str:
        return " ".join(sorted({message.target for message in self.messages}))


class _Drafts:
    """The packets of one transaction: those of a shard are filled one after the other."""

    def __init__(self) -> None:
        self.all: list[_Draft] = []
        self._open: dict[int, _Draft] = {}

    def add_message(self, message: Message) -> tuple[_Draft, int]:
        draft = self._draft(message.person_key, len(message.value))
        draft.messages.append(message)
        return draft, len(draft.messages) - 1

    def add_content(self, content: Content) -> tuple[_Draft, int]:
        draft = self._draft(content.key, sum(map(len, content.parts)))
        draft.contents.append(content.parts)
        return draft, len(draft.contents) - 1

    def _draft(self, key: str, size: int) -> _Draft:
        """Return the open packet of the key's shard; a new one if this one would become too large."""
        if size > LIMIT_BYTES // 2:
            raise TooLarge(f"content of {size} bytes exceeds the limit of {LIMIT_BYTES // 2} bytes")
        shard = shard_of(key)
        draft = self._open.get(shard)
        if draft is None or draft.size + size > PACKET_BYTES:
            draft = self._open[shard] = _Draft(shard)
            self.all.append(draft)
        draft.size += size
        return draft


async def write(
    tx: Transaction,
    schema: str,
    messages: Sequence[Message],
    contents: Sequence[Content] = (),
    *,
    republished: bool = False,
) -> Added:
    """Store messages, to be published in order, and contents. Raise TooLarge. The caller holds the locks of the keys.

    `republished`: these messages repeat earlier ones (`lightbulb republish`). A packet without messages is born published.
    """
    drafts = _Drafts()
    of_messages = [drafts.add_message(message) for message in messages]
    of_contents = [drafts.add_content(content) for content in contents]
    if drafts.all:
        await _insert(tx, schema, drafts.all, republished)
    return Added(
        [Place(draft.id, place) for draft, place in of_messages],
        [Place(draft.id, place) for draft, place in of_contents],
    )


async def _insert(tx: Transaction, schema: str, drafts: Sequence[_Draft], republished: bool) -> None:
    """Insert the rows, and set the ids of the drafts: in a shard they follow the order of the drafts."""
    columns = {
        "shards": [draft.shard for draft in drafts],
        "messages": [len(draft.messages) for draft in drafts],
        "targets": [draft.targets for draft in drafts],
        "contents": [encode(Packet(draft.messages, draft.contents)) for draft in drafts],
        "republished": republished,
    }
    ids = sorted(tuple(row) for row in await tx.execute(_insert_statement(schema), columns))
    for draft, (_, packet) in zip(sorted(drafts, key=lambda draft: draft.shard), ids, strict=True):
        draft.id = packet


def _insert_statement(schema: str) -> TextClause:
    return text(f"""
        insert into {schema}.packet (shard, messages, targets, content, republished, published_at)
        select shard, messages, string_to_array(targets, ' '), content, :republished,
               case when messages = 0 then clock_timestamp() end
        from unnest(cast(:shards as smallint[]), cast(:messages as integer[]), cast(:targets as text[]),
                    cast(:contents as bytea[]))
             with ordinality as packet (shard, messages, targets, content, position)
        order by position
        returning shard, id""")  # noqa: S608 - schema names are constants


# ---- read ------------------------------------------------------------------------------------------------------------


async def read(tx: Transaction, schema: str, ids: Iterable[tuple[int, int]]) -> dict[tuple[int, int], Packet]:
    """Return packets by (shard, id), without those that are not there. Raise Corrupt."""
    return {at: decode(content) for at, content in await _encoded(tx, schema, ids)}


async def _encoded(tx: Transaction, schema: str, ids: Iterable[tuple[int, int]]) -> list[tuple[tuple[int, int], bytes]]:
    """Return the rows of packets by (shard, id)."""
    wanted = sorted(set(ids))
    if not wanted:
        return []
    rows = await tx.execute(_by_id(schema), {"shards": [one[0] for one in wanted], "ids": [one[1] for one in wanted]})
    return [((shard, packet), content) for shard, packet, content in rows]


def _by_id(schema: str) -> TextClause:
    return text(f"""
        select packet.shard, packet.id, packet.content
        from unnest(cast(:shards as smallint[]), cast(:ids as bigint[])) as keys (shard, id)
        join {schema}.packet on packet.shard = keys.shard and packet.id = keys.id""")  # noqa: S608 - schema names are constants


async def contents(
    tx: Transaction, schema: str, pairs: Iterable[tuple[str, Place]]
) -> dict[tuple[str, Place], tuple[bytes, ...]]:
    """Return contents by key and place. Raise Corrupt, and LookupError if a place is not there.

    Packets are decoded one at a time: each may be PACKET_BYTES, of which few are wanted.
    """
    wanted: dict[tuple[int, int], list[tuple[str, Place]]] = {}
    for key, at in pairs:
        wanted.setdefault((shard_of(key), at.packet), []).append((key, at))
    contents_by_place: dict[tuple[str, Place], tuple[bytes, ...]] = {}
    for row, content in await _encoded(tx, schema, wanted):
        packet = decode(content)
        contents_by_place.update((one, packet.contents[one[1].place]) for one in wanted[row])
    if len(contents_by_place) < len({one for listed in wanted.values() for one in listed}):
        raise LookupError("packets are missing")
    return contents_by_place


async def messages(
    tx: Transaction, schema: str, pairs: Iterable[tuple[str, Place]]
) -> dict[tuple[str, Place], Message]:
    """Return messages by person key and place. Raise Corrupt, and LookupError if a place is not there."""
    pairs = list(pairs)
    stored = await read(tx, schema, ((shard_of(key), at.packet) for key, at in pairs))
    return {(key, at): stored[shard_of(key), at.packet].messages[at.place] for key, at in pairs}


async def published(tx: Transaction, schema: str, target: str | None = None) -> list[StoredMessage]:
    """Return every message of the outbox in order of packet and place, also what waits. For tests and tools: it reads all."""
    stored = []
    for row in await tx.execute(_all_packets(schema)):
        for place, message in enumerate(decode(row.content).messages):
            if target in (None, message.target):
                published_at = None if place in row.held else row.published_at
                stored.append(
                    StoredMessage(row.shard, row.id, place, message, row.created_at, published_at, row.republished)
                )
    return stored


def _all_packets(schema: str) -> TextClause:
    return text(f"""
        select shard, id, content, created_at, published_at, republished, array(
            select unnest(places) from {schema}.packet_held as held where held.shard = packet.shard and held.id = packet.id
        ) as held
        from {schema}.packet where messages > 0 order by id""")  # noqa: S608 - schema names are constants
