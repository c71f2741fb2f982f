"""Packets: their codec, and where messages and contents are stored."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.messaging import packets
from services.messaging.packets import Content, Message, Packet, Place, shard_of
from services.runtime import compression
from services.runtime.compression import Corrupt, compress, decompress
from tests.messaging.running import unpublished

headers = st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=40)), max_size=4).map(tuple)
bytes_ = st.binary(max_size=3000) | st.binary(max_size=20).map(lambda data: data * 300)
messages = st.lists(st.builds(Message, st.text(max_size=20), st.text(max_size=40), headers, bytes_), max_size=6)
contents = st.lists(st.lists(bytes_, max_size=3).map(tuple), max_size=4)
a_packet = st.builds(Packet, messages, contents)


@given(a_packet)
def test_a_packet_is_decoded_as_it_was_encoded(packet: Packet) -> None:
    assert packets.decode(packets.encode(packet)) == packet


@given(a_packet, st.data())
def test_a_packet_that_was_cut_is_corrupt(packet: Packet, data: st.DataObject) -> None:
    whole = packets.encode(packet)
    with pytest.raises(Corrupt):
        packets.decode(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(a_packet, st.data())
def test_a_packet_of_which_a_byte_was_altered_is_corrupt(packet: Packet, data: st.DataObject) -> None:
    altered = bytearray(packets.encode(packet))
    altered[data.draw(st.integers(0, len(altered) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Corrupt):
        packets.decode(bytes(altered))


@given(st.binary(max_size=100) | st.binary(max_size=100).map(compress))
def test_bytes_that_are_no_packet_are_corrupt(data: bytes) -> None:
    with pytest.raises(Corrupt):
        packets.decode(data)


def test_the_text_of_the_error_holds_no_content() -> None:
    with pytest.raises(Corrupt, match=r"^2408 bytes that are no packet$") as caught:
        packets.decode(compress(b"Malachite" * 267 + b"Malac"))
    assert caught.value.__suppress_context__


def test_a_frame_that_says_it_is_huge_takes_no_memory() -> None:
    huge = compress(bytes(50_000_000))
    assert len(huge) < 10_000
    with pytest.raises(Corrupt, match="exceeds the limit of 1000 bytes"):
        decompress(huge, 1000)


def test_a_frame_with_more_data_than_it_says_is_corrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = compress(bytes(5000))[9:]
    with pytest.raises(Corrupt, match=f"compressed frame of {len(frame)} bytes cannot be read as 4000 bytes"):
        decompress(compression._header(1, 4000, frame) + frame, 10_000)


def test_few_bytes_and_those_that_do_not_get_smaller_are_kept_as_they_are() -> None:
    few, incompressible = b"{}" * 100, os.urandom(5000)
    assert compress(few)[9:] == few
    assert compress(incompressible)[9:] == incompressible
    assert decompress(compress(incompressible), 5000) == incompressible


KEYS = [f"person{number}" for number in range(20)]


def a_message(key: str, value: bytes = b"value", target: str = "topic") -> Message:
    return Message(target, key, (("ce_id", key.encode()),), value)


async def test_messages_and_contents_of_a_shard_share_a_packet_and_are_found_by_their_places(
    engine: AsyncEngine,
) -> None:
    messages = [a_message(key, target=f"topic{number % 3}") for number, key in enumerate(KEYS)]
    contents = [Content(key, (key.encode(), b"more")) for key in KEYS]
    async with engine.begin() as tx:
        added = await packets.write(tx, "tried", messages, contents)
    places = list(zip(KEYS, added.contents, strict=True))
    async with engine.begin() as tx:
        found = await packets.contents(tx, "tried", places)
        stored = await packets.messages(tx, "tried", zip(KEYS, added.messages, strict=True))
        rows = list(await tx.execute(text("select shard, id, messages, targets from tried.packet")))
    assert [found[place] for place in places] == [content.parts for content in contents]
    assert list(stored.values()) == messages
    assert {row.shard for row in rows} == {shard_of(key) for key in KEYS}
    assert len(rows) == len({row.shard for row in rows})
    for row in rows:
        own = [one for one in messages if shard_of(one.person_key) == row.shard]
        assert (row.messages, row.targets) == (len(own), sorted({one.target for one in own}))
    assert {at.packet for at in added.messages} == {at.packet for at in added.contents}


async def test_a_large_transaction_is_split_in_order(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packets, "PACKET_BYTES", 1000)
    async with engine.begin() as tx:
        added = await packets.write(tx, "tried", [a_message("person", str(n).encode() * 300) for n in range(8)])
        stored = await packets.published(tx, "tried")
    assert [(one.packet, one.place) for one in stored] == added.messages
    assert added.messages == sorted(added.messages)
    assert [one.message.value[:1] for one in stored] == [str(n).encode() for n in range(8)]
    assert len({at.packet for at in added.messages}) == 3


async def test_a_packet_without_messages_has_nothing_to_publish(engine: AsyncEngine) -> None:
    async with engine.begin() as tx:
        [place] = (await packets.write(tx, "tried", [], [Content("person", (b"body",))])).contents
        assert await tx.scalar(text("select count(*) from tried.packet where published_at is not null")) == 1
    assert await unpublished(engine) == 0
    assert place.place == 0


async def test_a_place_that_is_not_there_is_an_error(engine: AsyncEngine) -> None:
    async with engine.begin() as tx:
        with pytest.raises(LookupError):
            await packets.contents(tx, "tried", [("person", Place(1, 0))])


async def test_a_content_that_no_packet_can_hold_is_refused(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packets, "LIMIT_BYTES", 1000)
    async with engine.begin() as tx:
        with pytest.raises(packets.TooLarge, match="content of 501 bytes"):
            await packets.write(tx, "tried", [], [Content("person", (b"x" * 501,))])
