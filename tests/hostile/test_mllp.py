"""Hostile clients over MLLP: halves of frames, bytes outside them, floods, stalls of TLS, and connections that just stay."""

import asyncio
import contextlib
import socket

import pytest

from tests.builders.hl7v2 import a_ref_i12
from tests.hostile.conftest import MANY
from tests.hostile.victim import SECONDS, Victim, assert_unharmed
from tests.intake.fake_hl7_engine import Engine, acknowledged, framed


async def heard(victim: Victim, sent: bytes, *, ends: bool = False) -> bytes:
    """What comes back for these bytes, until the other side closes."""
    engine = await victim.connect("lpt")
    try:
        await engine.write(sent)
        if ends:
            engine.writer.write_eof()
    except OSError:
        pass  # it has closed
    return await until_closed(engine)


async def until_closed(engine: Engine) -> bytes:
    async with asyncio.timeout(SECONDS):
        try:
            return await engine.reader.read()
        except ConnectionError:
            return b""
        finally:
            engine.writer.transport.abort()


async def test_bytes_that_are_not_a_frame_get_no_answer_and_a_close(victim: Victim) -> None:
    whole = framed(a_ref_i12())
    halves = [b"\x0b", b"\x0bMSH|", whole[:-2], whole[:-2] + b"x", b"\x0b" * 50_000, b"\x0b" + b"x" * 3_000_000]
    strangers = [b"GET / HTTP/1.1\r\n" * 100, b"\x16\x03\x01" * 500, b"x" * 2_000_000, b"\r\n" * 5_000]
    async with assert_unharmed(victim):
        answered = await asyncio.gather(*(heard(victim, sent) for sent in [*halves, *strangers]))
        cut = await asyncio.gather(*(heard(victim, sent, ends=True) for sent in halves))
        last = await heard(victim, whole, ends=True)
    assert set(answered) == {b""}
    assert set(cut) == {b""}
    assert last.count(b"\x1c\r") == 1


async def test_many_idle_clients_do_not_block_others(victim: Victim, many: int) -> None:
    async with assert_unharmed(victim) as others:
        silent = [await victim.connect("uhl") for _ in range(many)]
        for engine in silent[::3]:
            engine.writer.write(b"\x0bMSH|^~")
        served = others.served
        async with asyncio.timeout(SECONDS):
            while others.served < served + 3:
                await asyncio.sleep(0.05)
        assert victim.process.num_fds() < 200
        for engine in silent:
            engine.writer.transport.abort()


@pytest.mark.skipif(not MANY, reason="half a minute; tests/intake/test_mllp.py has it in small")
async def test_a_client_that_reads_no_answers_is_read_up_to_a_limit(victim: Victim) -> None:
    """Its answers fill the wire; then nothing more is read of it, and after a while it is given up."""
    async with assert_unharmed(victim):
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
        deaf.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(deaf, ("127.0.0.1", victim.ports["lpt"]))
        sent, one = 0, framed(a_ref_i12(id="i" * 6_000)) * 5
        async with asyncio.timeout(SECONDS):
            with contextlib.suppress(ConnectionError):  # it was given up
                while sent < 64 * 2**20:
                    await loop.sock_sendall(deaf, one)
                    sent += len(one)
        deaf.close()
    assert sent < 64 * 2**20


async def test_the_largest_messages_at_once_get_one_answer_each(victim: Victim) -> None:
    note = b"NTE|1||" + b"x" * 1_000 + b"\r"
    large = framed(a_ref_i12() + note * ((1_048_000 - 1_000) // len(note)))
    too_large = framed(a_ref_i12() + note * 1_500)
    async with assert_unharmed(victim):
        engines = [await victim.connect("lpt") for _ in range(8)]
        for number, engine in enumerate(engines):
            await engine.write(too_large if number % 2 else large)
        async with asyncio.timeout(SECONDS):
            answers = await asyncio.gather(*(engine.answer() for engine in engines))
        for engine in engines:
            engine.writer.transport.abort()
    assert {acknowledged(answer)[0] for answer in answers[1::2]} == {"AR"}
    assert {acknowledged(answer)[0] for answer in answers[::2]} <= {"AE", "AR"}


async def test_stalled_handshakes_do_not_block_others(victim: Victim) -> None:
    async with assert_unharmed(victim):
        stalled = [await victim.connect("tls") for _ in range(60)]
        for engine in stalled[::2]:
            engine.writer.write(b"\x16\x03\x01\x02\x00\x01")
        one = await victim.connect_tls()
        assert acknowledged(await one.send(a_ref_i12()))[0] == "AA"
        one.writer.transport.abort()
        assert {await until_closed(engine) for engine in stalled} == {b""}
