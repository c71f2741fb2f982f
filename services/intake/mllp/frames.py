"""Extract MLLP frames from a byte stream: VT, the message, FS, CR (MLLP release 1). No I/O.

Strict for safety: only the bytes between VT and FS are a message, and a VT before MSH inside a frame restarts it. Any other VT, such as
a line break of a word processor, is part of the message. Lenient as senders are: the CR may be missing, or be a line feed or NUL. An FS
that is followed by anything else is part of the message. A frame without a message, such as an acknowledgement of MLLP release 2
(VT ACK FS CR), is skipped.
"""

import re
from dataclasses import dataclass

from services.intake import limits

_MARK = re.compile(
    rb"\x0b(?=(?:\xef\xbb\xbf)?[\r\n\t ]{0,64}MSH[!-/:-@\[-`{-~])"
    rb"|(?P<cut>\x0b(?:\xef\xbb?|(?:\xef\xbb\xbf)?[\r\n\t ]{0,64}(?:M|MS|MSH)?)\Z|\x1c\Z)"
    rb"|\x1c(?:[\r\n\0]|(?=\x0b))"
)
"""The start of a frame, its end, or what may be one of them at the end of the bytes received so far (`cut`)."""

_EMPTY = b"\r\n\t \0\x06\x15\x0b"
"""Bytes that are not a message: blanks, and the acknowledgements ACK and NAK of MLLP release 2."""


class NotMllp(Exception):
    """More than BYTES_OUTSIDE bytes between messages."""


def unframed(body: bytes) -> bytes:
    """Return the message of a body that has one frame or none."""
    return body.strip(b"\r\n\x0b\x1c\0") + b"\r" if b"\x0b" in body[:3] else body


@dataclass(frozen=True, slots=True)
class Frame:
    """One message. Of a message that is too large, `body` is only the beginning."""

    body: bytes
    is_too_large: bool


class Frames:
    """The unread bytes of one connection. `most` is the size of the largest message that is accepted, in bytes."""

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
        """True if a frame lacks only the CR after its FS."""
        return self.has_begun and self._unread == b"\x1c"

    def feed(self, data: bytes) -> None:
        """Add received bytes."""
        self._unread += data

    def take(self, *, nothing_follows: bool = False) -> Frame | None:
        """Return the next complete frame, or None. With `nothing_follows`, an FS ends it without a CR. Raises NotMllp."""
        while True:
            if self._message is None and not self._begin():
                return None
            mark = _MARK.search(self._unread)
            if mark is None:
                self._keep(len(self._unread))
                return None
            marked, is_cut = mark[0], mark["cut"] is not None
            self._keep(mark.start())
            if is_cut and not (nothing_follows and marked == b"\x1c"):
                return None
            if marked == b"\x0b":
                self._begin()
                continue
            del self._unread[: len(marked)]
            if frame := self._close():
                return frame

    def _begin(self) -> bool:
        """Skip the bytes before the next VT, and start a frame there; an incomplete frame is dropped."""
        at = self._unread.find(b"\x0b")
        before = len(self._unread) if at < 0 else at
        self._skip(before)
        del self._unread[: before + (at >= 0)]
        if at >= 0:
            self._message, self._is_too_large = bytearray(), False
        return at >= 0

    def _skip(self, number: int) -> None:
        """Count bytes that are not part of a message."""
        self._outside += number
        if self._outside > limits.BYTES_OUTSIDE:
            raise NotMllp

    def _keep(self, number: int) -> None:
        """Move this number of bytes to the message; of a message that is too large, keep the beginning."""
        assert self._message is not None
        self._message += self._unread[:number]
        del self._unread[:number]
        if self._is_too_large or len(self._message) > self._most:
            self._is_too_large = True
            del self._message[limits.HEADER_BYTES :]

    def _close(self) -> Frame | None:
        """End a frame: return it, or None if it has no message."""
        assert self._message is not None
        frame = Frame(bytes(self._message), self._is_too_large)
        self._message = None
        if not frame.is_too_large and not frame.body.strip(_EMPTY):
            self._skip(len(frame.body) + 2)
            return None
        self._outside = 0
        return frame
