"""Frames out of bytes as they come, however the network cuts them."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.intake import limits
from services.intake.mllp.frames import Frame, Frames, NotMllp

GOOD = b"MSH|^~\\&|A\rPID|1\r"
LARGEST = 100


def taken(*pieces: bytes, at_the_end: bool = False) -> list[bytes]:
    """The messages in these pieces of a connection."""
    return [frame.body for frame in all_taken(*pieces, at_the_end=at_the_end)]


def all_taken(*pieces: bytes, at_the_end: bool = False) -> list[Frame]:
    frames = Frames(LARGEST)
    found: list[Frame] = []
    for piece in pieces:
        frames.feed(piece)
        while frame := frames.take():
            found.append(frame)
    while at_the_end and (frame := frames.take(nothing_follows=True)):
        found.append(frame)
    return found


def framed(body: bytes) -> bytes:
    return b"\x0b" + body + b"\x1c\r"


@pytest.mark.parametrize("at", range(len(framed(GOOD)) + 1))
def test_a_frame_is_complete_for_all_packet_borders(at: int) -> None:
    sent = framed(GOOD)
    assert taken(sent[:at], sent[at:]) == [GOOD]
    assert taken(sent[:at]) == ([GOOD] if at == len(sent) else [])


def test_two_messages_in_one_packet_are_two() -> None:
    assert taken(framed(GOOD) + framed(b"two")) == [GOOD, b"two"]


@pytest.mark.parametrize(
    ("pieces", "messages"),
    [
        ([b"\x0bbegun " + framed(GOOD)], [GOOD]),
        ([b"\x0bbegun \x0b\xef\xbb\xbf\r\n " + GOOD + b"\x1c\r"], [b"\xef\xbb\xbf\r\n " + GOOD]),
        ([b"\x0b\x0b\x0b" + framed(GOOD)], [GOOD]),
        ([framed(GOOD + b"NTE|1||one\x0btwo")], [GOOD + b"NTE|1||one\x0btwo"]),
        ([framed(GOOD + b"NTE|1||one\x0bMSH two")], [GOOD + b"NTE|1||one\x0bMSH two"]),
        ([framed(GOOD + b"NTE|1||one\x0b")], [GOOD + b"NTE|1||one\x0b"]),
        ([framed(GOOD)[:-1] + b"\0" + framed(GOOD)], [GOOD, GOOD]),
        ([b"\x0bone\x1c" + framed(GOOD)], [b"one", GOOD]),
        ([b"\x0bone\x1c\n" + framed(GOOD)], [b"one", GOOD]),
        ([b"\x0bone \x1c two\x1c\r"], [b"one \x1c two"]),
        ([b"\x0bone \x1c", b" two\x1c\r"], [b"one \x1c two"]),
        ([b"\x0bone\x1c", b"\r", framed(GOOD)], [b"one", GOOD]),
        ([b"\x0bone\x1c"], []),
        ([b"\r\nnoise \x1c\r", framed(GOOD), b"\r\n", framed(GOOD)], [GOOD, GOOD]),
        ([b"\x0b\x1c\r" + framed(GOOD)], [GOOD]),
        ([framed(GOOD) + framed(b"\x06") + framed(b"\x15") + framed(b"\r\n \0") + framed(GOOD)], [GOOD, GOOD]),
    ],
    ids=[
        "a VT inside before MSH begins anew",
        "blanks and a byte order mark before that MSH",
        "several VT",
        "a VT in words",
        "a VT in words before a word that begins as MSH",
        "a VT at the end of words",
        "a NUL for the CR",
        "no CR before the next",
        "a line feed for the CR",
        "an FS inside",
        "an FS inside, where the network cuts",
        "the CR comes later",
        "no CR, and who knows what follows",
        "bytes outside",
        "an empty one",
        "acknowledgements of MLLP release 2",
    ],
)
def test_the_variants_of_real_senders_are_parsed(pieces: list[bytes], messages: list[bytes]) -> None:
    assert taken(*pieces) == messages


@pytest.mark.parametrize(
    ("sent", "messages"), [(b"\x0bone\x1c", [b"one"]), (b"\x0bhalf", []), (b"\x0bone \x1c half", []), (b"noise", [])]
)
def test_at_the_end_only_the_last_cr_may_be_missing(sent: bytes, messages: list[bytes]) -> None:
    assert taken(sent, at_the_end=True) == messages


def test_only_the_beginning_of_an_oversized_message_is_kept_and_the_next_is_read() -> None:
    large = GOOD + b"x" * 3 * limits.HEADER_BYTES
    sent = framed(large) + framed(GOOD)
    pieces = [sent[at : at + 1_000] for at in range(0, len(sent), 1_000)]
    beginning, good = all_taken(*pieces)
    assert beginning.is_too_large
    assert large.startswith(beginning.body)
    assert GOOD in beginning.body
    assert len(beginning.body) == limits.HEADER_BYTES
    assert good == Frame(GOOD, is_too_large=False)


def test_the_largest_accepted_message_is_as_large_as_the_limit() -> None:
    assert [frame.is_too_large for frame in all_taken(framed(b"x" * LARGEST), framed(b"x" * (LARGEST + 1)))] == [
        False,
        True,
    ]


def test_too_many_bytes_outside_frames_are_not_mllp() -> None:
    allowed = b"x" * limits.BYTES_OUTSIDE
    assert taken(allowed + framed(GOOD) + allowed + framed(GOOD)) == [GOOD, GOOD]
    with pytest.raises(NotMllp):
        taken(*[allowed + framed(GOOD) + allowed, b"x"])
    with pytest.raises(NotMllp):
        taken(b"x" + allowed + framed(GOOD))
    assert taken(framed(b"\x06") * 300 + framed(GOOD) + framed(b"\x06") * 300) == [GOOD]
    with pytest.raises(NotMllp):
        taken(framed(b"\x06") * 400)


PIECES = st.sampled_from(
    [b"\x0b", b"\x1c", b"\r", b"\0", b"\xef\xbb\xbf", b" ", b"MSH", b"M", b"|", b"\x06", framed(GOOD)]
)


@given(st.lists(st.binary(max_size=30) | PIECES, max_size=16))
@settings(max_examples=200, deadline=None)
def test_any_bytes_give_the_same_frames_for_all_packet_borders(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    assert taken(*pieces) == taken(whole) == taken(*(whole[at : at + 1] for at in range(len(whole))))
    assert all(message in whole and message.strip(b"\r\n \0\x06\x15\x0b") for message in taken(whole))
    assert not any(BEGINS.search(message) for message in taken(whole))


BEGINS = re.compile(rb"\x0b(\xef\xbb\xbf)?\s{0,64}MSH[|]")
"""What never stays within a message: the next one."""


@given(words=st.binary(max_size=40), blanks=st.text(" \t\r\n", max_size=64), cut=st.integers(0, 20))
@settings(max_examples=200, deadline=None)
def test_a_message_after_a_frame_that_broke_off_is_read_whole(words: bytes, blanks: str, cut: int) -> None:
    broken = (b"\x0b" + GOOD + words.replace(b"\x1c", b""))[:cut]
    assert taken(broken, b"\x0b" + blanks.encode() + GOOD + b"\x1c\r")[-1].lstrip() == GOOD
