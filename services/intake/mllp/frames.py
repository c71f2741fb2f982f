"""MLLP frames out of bytes as they come: VT, the message, FS, CR (HL7 Minimal Lower Layer Protocol, release 1). No sockets here.

Strict where safety needs it: only what stands between VT and FS is a message, and a VT inside begins anew, since its sender did. Lenient
where senders are: the CR may be missing, or be a line feed. An FS with anything else behind it ends nothing: it is part of the message.
"""

import re
from dataclasses import dataclass

from services.intake import limits

_MARK = re.compile(rb"\x0b|\x1c(?:[\r\n]|(?=\x0b)|\Z)")
"""A beginning, an end, or what may be an end once it is known what follows."""


class NotMllp(Exception):
    """More bytes outside frames than are passed over."""


def unframed(body: bytes) -> bytes:
    """A message that may stand in one frame, or in none, where something else tells where it ends."""
    return body.strip(b"\r\n\x0b\x1c") + b"\r" if b"\x0b" in body[:3] else body


@dataclass(frozen=True, slots=True)
class Frame:
    """One whole message. Of one that is larger than is taken only its beginning is here."""

    body: bytes
    is_too_large: bool


class Frames:
    """What has come on one connection and was not taken yet. `most`: the largest message that is taken, in bytes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._unread = bytearray()
        self._outside = 0
        self._message: bytearray | None = None
        self._is_too_large = False

    @property
    def has_begun(self) -> bool:
        """True inside a frame."""
        return self._message is not None

    @property
    def is_at_end(self) -> bool:
        """True where all that a frame lacks is the CR behind its FS."""
        return self.has_begun and self._unread == b"\x1c"

    def feed(self, data: bytes) -> None:
        """Bytes that came."""
        self._unread += data

    def take(self, *, nothing_follows: bool = False) -> Frame | None:
        """The next whole frame, if it has come. `nothing_follows`: an FS ends it without what belongs behind. Raises NotMllp."""
        while True:
            if self._message is None and not self._begin():
                return None
            mark = _MARK.search(self._unread)
            if mark is None:
                self._keep(len(self._unread))
                return None
            marked = mark[0]
            self._keep(mark.start())
            if marked == b"\x0b":
                self._begin()
            elif self._unread == b"\x1c" and not nothing_follows:
                return None
            else:
                del self._unread[: len(marked)]
                return self._close()

    def _begin(self) -> bool:
        """Pass over what stands before the next VT, and begin a frame there, whatever was begun before."""
        at = self._unread.find(b"\x0b")
        before = self._unread if at < 0 else self._unread[:at]
        self._outside += len(before)
        if self._outside > limits.BYTES_OUTSIDE:
            raise NotMllp
        del self._unread[: len(before) + (at >= 0)]
        if at >= 0:
            self._message, self._is_too_large, self._outside = bytearray(), False, 0
        return at >= 0

    def _keep(self, number: int) -> None:
        """So many bytes belong to the message; of one that is too large, its beginning is enough."""
        assert self._message is not None
        self._message += self._unread[:number]
        del self._unread[:number]
        if self._is_too_large or len(self._message) > self._most:
            self._is_too_large = True
            del self._message[limits.HEADER_BYTES :]

    def _close(self) -> Frame:
        assert self._message is not None
        frame = Frame(bytes(self._message), self._is_too_large)
        self._message = None
        return frame
