"""MLLP frames out of any bytes in any pieces: what comes out never depends on the pieces, and what is held is bounded."""

import re
from collections.abc import Iterator, Sequence

from services.intake import limits
from services.intake.mllp import frames
from services.intake.mllp.frames import Frame, Frames, NotMllp
from tests.fuzz.judge import assert_that

MOST = 512
"""The largest message of these frames, so that too large ones are within reach."""

_BEGINS = re.compile(rb"\x0b[\r\n\t ]{0,64}MSH[!-/]")


def assert_holds(data: bytes) -> None:
    """The first byte says in what pieces the rest comes."""
    size, stream = 1 + data[0] % 61 if data else 1, data[1:]
    whole, in_pieces = taken(stream, len(stream) or 1), taken(stream, size)
    assert_that(whole == in_pieces, "other pieces, other frames")
    for frame in whole[0]:
        assert_that(_BEGINS.search(frame.body) is None, "a beginning within a message")
        assert_that(frame.body.strip(b"\x06\x15\0\r\n\t \x0b"), "a frame without a message")
        assert_that(frame.is_too_large or frame.body in stream, "a message that was not sent")
        assert_that(len(frame.body) <= max(MOST, limits.HEADER_BYTES), "a message larger than is taken")
        assert_that(frames.unframed(b"\x0b" + frame.body + b"\x1c\r"), "nothing left of a frame")


def taken(stream: bytes, size: int) -> tuple[list[Frame], bool]:
    """The frames in these bytes, as they come in pieces of this size; and whether it was MLLP to the end."""
    read, found = Frames(MOST), list[Frame]()
    try:
        for piece in pieces(stream, size):
            read.feed(piece)
            while (frame := read.take()) is not None:
                found.append(frame)
            held = len(read._unread) + len(read._message or b"")
            assert_that(
                held <= len(piece) + max(MOST, limits.HEADER_BYTES) + limits.BYTES_OUTSIDE, f"{held} bytes are held"
            )
        if (frame := read.take(nothing_follows=True)) is not None:
            found.append(frame)
    except NotMllp:
        return found, False
    return found, True


def pieces(stream: bytes, size: int) -> Iterator[bytes]:
    """The stream in pieces of one size."""
    return (stream[at : at + size] for at in range(0, len(stream), size))


def seeds() -> Sequence[bytes]:
    """Frames good and bad."""
    one = b"\x0bMSH|^~\\&|A|B\rPID|1\r\x1c\r"
    return [
        bytes([number]) + stream
        for number, stream in enumerate(
            (
                one,
                one + one,
                b"\r\n" + one + b"\n" + one[:-1] + one,
                b"\x0bhalf" + one,
                b"\x0ba\x1cb\x1c\x1c\r",
                b"\x0b\x1c\r",
                b"\x0b\x06\x1c\r" * 300 + one[:-1] + b"\0" + one,
                one[:-4] + b"\x0b\xef\xbb\xbf\r\n \x0bMSH words" + one[-2:] + b"\x0bMSH-" + one,
                b"\x0b" + b"x" * (MOST + 1) + b"\x1c\r" + one,
                b"x" * (limits.BYTES_OUTSIDE + 1) + one,
                one[:-1],
                one[:-2],
            )
        )
    ]
