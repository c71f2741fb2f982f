"""Compress bytes in the client, so that PostgreSQL stores them as they are: what it has itself (pglz) is slow.

zstd at level 1, measured on messages to intake, microseconds of one core and bytes stored for each message of 5,969 bytes:

| messages together | zstd 1 | zstd 3 | lz4 |
|---|---|---|---|
| 1 | 22 + 13 us, 2,176 B | 104 + 13 us, 2,139 B | 5 + 1 us, 3,079 B |
| 32 | 4.0 + 1.4 us, 658 B | 9.1 + 2.2 us, 831 B | 2.3 + 0.4 us, 1,414 B |
| 128 | 4.6 + 1.2 us, 606 B | 8.4 + 1.5 us, 720 B | 3.6 + 0.4 us, 1,394 B |

(to compress + to decompress). lz4 saves 2 us and stores and logs 800 bytes more; level 3 is slower and no smaller.
"""

import struct
import zlib

import cramjam

SMALLEST = 1_024
"""Fewer bytes are kept as they are: compressing them would save little."""

LEVEL = 1

_HEADER = struct.Struct(">BII")  # kind; size before compression; CRC-32 of what follows, begun with the size
_PLAIN, _ZSTD = 0, 1


class Corrupt(ValueError):
    """Bytes that `compress` did not make, or that were cut or altered since. The text holds sizes only."""


def compress(data: bytes) -> bytes:
    """Return a frame of `data`: nine bytes, then `data`, compressed if it has SMALLEST bytes and gets smaller."""
    if len(data) >= SMALLEST and len(frame := bytes(cramjam.zstd.compress(data, LEVEL))) < len(data):
        return _header(_ZSTD, len(data), frame) + frame
    return _header(_PLAIN, len(data), data) + data


def _header(kind: int, size: int, frame: bytes) -> bytes:
    return _HEADER.pack(kind, size, zlib.crc32(frame, size))


def decompress(frame: bytes, limit: int) -> bytes:
    """Return the data of a frame. Raise Corrupt, also if it has more than `limit` bytes: no memory is taken for those."""
    if len(frame) < _HEADER.size:
        raise Corrupt(f"frame of {len(frame)} bytes")
    kind, size, check = _HEADER.unpack_from(frame)
    data = frame[_HEADER.size :]
    if size > limit:
        raise Corrupt(f"frame of {size} bytes exceeds the limit of {limit} bytes")
    if zlib.crc32(data, size) != check:
        raise Corrupt(f"altered frame of {len(frame)} bytes")
    if kind == _ZSTD:
        data = _from_zstd(data, size)
    if kind not in (_PLAIN, _ZSTD) or len(data) != size:
        raise Corrupt(f"frame of {len(frame)} bytes, not of {size} bytes of data")
    return data


def _from_zstd(data: bytes, size: int) -> bytes:
    room = bytearray(size)
    try:
        written = cramjam.zstd.decompress_into(data, room)
    except cramjam.DecompressionError:
        raise Corrupt(f"compressed frame of {len(data)} bytes cannot be read as {size} bytes") from None
    return bytes(room[:written])
