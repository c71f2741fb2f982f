"""Decode what the services store compressed. An own decoder: the checker shares no code with what it checks.

A frame is a kind (0: as it is, 1: zstd), the size of the data and a CRC-32, then the data. A packet is a frame of MessagePack: its
messages (topic, record key, headers, value), and its contents, each a list of byte strings.
"""

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cramjam
import msgspec

HEADER = struct.Struct(">BII")
PLAIN, ZSTD = 0, 1


@dataclass(frozen=True)
class PacketMessage:
    """A record of the outbox."""

    target: str
    person_key: str
    headers: Mapping[str, bytes]
    value: bytes

    @property
    def event_id(self) -> str:
        return self.headers["ce_id"].decode()


@dataclass(frozen=True)
class DecodedPacket:
    """The messages of a packet, in order, and its contents."""

    messages: Sequence[PacketMessage]
    contents: Sequence[Sequence[bytes]]


def decompress(frame: bytes) -> bytes:
    """Return the data of a frame. Raise ValueError if it is altered."""
    kind, size, check = HEADER.unpack_from(frame)
    data = frame[HEADER.size :]
    if kind not in (PLAIN, ZSTD) or zlib.crc32(data, size) != check:
        raise ValueError(f"{len(frame)} bytes are no frame")
    data = bytes(cramjam.zstd.decompress(data)) if kind == ZSTD else data
    if len(data) != size:
        raise ValueError(f"a frame of {size} bytes has {len(data)}")
    return data


def decode(content: bytes) -> DecodedPacket:
    """Return the packet of a row."""
    messages, contents = msgspec.msgpack.decode(decompress(content))
    return DecodedPacket(
        [PacketMessage(target, key, dict(headers), value) for target, key, headers, value in messages], contents
    )
