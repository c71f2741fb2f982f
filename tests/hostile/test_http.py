"""Hostile clients over HTTP: who lies about a request, stalls, floods, or just stays."""

import asyncio
import contextlib
import gzip
import re
import socket
from uuid import uuid4

from services.intake import limits
from tests.builders.bars import a_bars_message, as_bytes
from tests.hostile.victim import SECONDS, Victim, assert_unharmed

HUNG = b" and no end"


async def said(port: int, *parts: bytes, pause: float = 0.02, ends: bool = False) -> bytes:
    """What comes back for these parts, until the other side closes. `ends`: this side closes its direction first."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answered = bytearray()
    listening = asyncio.create_task(_heard(reader, answered))
    try:
        async with asyncio.timeout(SECONDS):
            with contextlib.suppress(OSError):  # it has closed: what it said before counts
                for part in parts:
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(pause)
                if ends:
                    writer.write_eof()
            await listening
    except TimeoutError:
        answered += HUNG
    finally:
        listening.cancel()
        writer.transport.abort()
    return bytes(answered)


async def _heard(reader: asyncio.StreamReader, answered: bytearray) -> None:
    try:
        while piece := await reader.read(65_536):
            answered += piece
    except ConnectionError:
        pass


def statuses(answered: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", answered) if found != b"100"]


def post(victim: Victim, *more: bytes, body: bytes = b"", length: bytes | None = None, path: bytes = b"") -> bytes:
    """A request of a practice; `more`: header lines."""
    token = victim.installation.tokens["gp-alder-lane"].encode()
    lines = [
        b"POST %s HTTP/1.1" % (path or b"/fhir/$process-message"),
        b"Host: hub.example",
        b"Authorization: Bearer " + token,
        b"Content-Type: application/fhir+json",
        b"X-Request-Id: %s" % str(uuid4()).encode(),
        b"X-Correlation-Id: %s" % str(uuid4()).encode(),
        *([] if length == b"" else [b"Content-Length: " + (length or b"%d" % len(body))]),
        *more,
    ]
    return b"\r\n".join([*lines, b"", body])


def good() -> bytes:
    """A referral that nobody sent before, of a fixed length."""
    return as_bytes(a_bars_message())


CLOSE = b"Connection: close"
CHUNKED = b"Transfer-Encoding: chunked"


def liars(victim: Victim) -> dict[str, tuple[list[bytes], set[int]]]:
    """What they send, and the only status that they may be told; with none, the connection may also just be closed."""
    in_chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(good()), good())
    known = good()
    return {
        "two lengths": ([post(victim, b"Content-Length: 5", body=b"{}")], {400}),
        "a length and chunks": ([post(victim, CHUNKED, body=b"0\r\n\r\n")], {400}),
        "chunks twice": ([post(victim, CHUNKED, b"Transfer-Encoding: identity", length=b"", body=b"0\r\n\r\n")], {400}),
        "a negative length": ([post(victim, length=b"-1")], {400}),
        "a length in words": ([post(victim, length=b"many")], {400}),
        "a length that has no end": ([post(victim, CLOSE, length=b"9" * 30)], {400, 413}),
        "a length that is too large": ([post(victim, CLOSE, length=b"2000000")], {413}),
        "a length that is too short": ([post(victim, CLOSE, length=b"10", body=good())], {400}),
        "chunks that are none": ([post(victim, CHUNKED, length=b"", body=b"zz\r\nhi\r\n")], {400}),
        "a chunk that has no end": ([post(victim, CHUNKED, CLOSE, length=b"", body=b"fffffffffffffffff\r\nhi")], {400}),
        "long chunk extensions": (
            [post(victim, CHUNKED, length=b"", body=b"2;" + b"a=b;" * 20_000 + b"\r\n{}\r\n0\r\n\r\n")],
            {400},
        ),
        "a chunk extension": (
            [post(victim, CHUNKED, CLOSE, length=b"", body=in_chunks.replace(b"\r\n", b";a\r\n", 1))],
            {200},
        ),
        "trailers": (
            [post(victim, CHUNKED, CLOSE, length=b"", body=in_chunks[:-2] + b"A: b\r\n" * 100_000 + b"\r\n")],
            {400},
        ),
        "many headers": ([post(victim, *[b"A: b"] * 200)], {431}),
        "a large header": ([post(victim, b"A: " + b"x" * 40_000)], {431}),
        "a header without an end": ([b"GET / HTTP/1.1\r\nA: ", *[b"x" * 8_000] * 20], {431}),
        "a long address": ([post(victim, path=b"/" + b"a" * 9_000)], {414}),
        "NUL in a header": ([post(victim, b"A: b\x00c")], {400}),
        "a folded header": ([post(victim, CLOSE, b"A: b\r\n c")], {400}),
        "a blank before the colon": ([post(victim, b"Content-Length : 3")], {400}),
        "garbage": ([b"\x00\xff" * 500], {400}),
        "a TLS handshake": ([b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200], {400}),
        "HTTP/2": ([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], {400}),
        "HTTP/0.9": ([b"GET /\r\n"], {400, 408}),
        "MLLP": ([b"\x0bMSH|^~\\&|\r\x1c\r"], {400}),
        "a proxy's request": ([b"CONNECT hub:443 HTTP/1.1\r\n\r\n"], {400}),
        "another protocol": (
            [post(victim, b"Connection: Upgrade, close", b"Upgrade: websocket", body=good())],
            {200, 400},
        ),
        "an expectation": ([post(victim, CLOSE, b"Expect: 100-continue", length=b"%d" % len(known)), known], {200}),
        "another expectation": ([post(victim, CLOSE, b"Expect: the-unexpected", body=good())], {200, 417}),
        "compressed": ([post(victim, CLOSE, b"Content-Encoding: gzip", body=gzip.compress(b" " * 10**7))], {415}),
        "compressed on the way": (
            [post(victim, b"Transfer-Encoding: gzip, chunked", length=b"", body=in_chunks)],
            {400},
        ),
        "a whole one, and half closed": ([post(victim, body=good())], {200}),
        "half a body, and half closed": ([post(victim, body=good())[:-20]], set()),
    }


async def test_a_malformed_request_gets_one_answer_or_a_close_and_never_a_server_error(victim: Victim) -> None:
    async with assert_unharmed(victim):
        told = liars(victim)
        answered = await asyncio.gather(
            *(said(victim.port, *parts, ends="half closed" in name) for name, (parts, _) in told.items())
        )
    for (name, (_, allowed)), answer in zip(told.items(), answered, strict=True):
        got = statuses(answer)
        assert not answer.endswith(HUNG), name
        assert len(got) <= 1, (name, got)
        assert set(got) <= (allowed or {400}), (name, got)
    assert statuses(answered[list(told).index("a whole one, and half closed")]) == [200]


async def test_a_stalled_client_is_disconnected(victim: Victim) -> None:
    """Each in turn says nothing, half a head, a head that trickles, half a body, a body that trickles."""
    file = post(victim, path=b"/councils/blaby/referrals", length=b"100000").replace(b"fhir+json", b"csv")
    file = file.replace(b"application/csv", b"text/csv").replace(
        victim.installation.tokens["gp-alder-lane"].encode(), victim.installation.tokens["council-blaby"].encode()
    )
    ways: list[tuple[list[bytes], list[int]]] = [
        ([], []),
        ([b"\r\n"], [408]),
        ([b"POST /fhir/$pro"], [408]),
        ([post(victim, body=good())[:200]], [408]),
        ([bytes([byte]) for byte in b"GET /health/live HTTP/1.1\r\nA: bcdefghijklmnopqrstuvw"], [408]),
        ([post(victim, body=good())[:-10]], [408]),
        ([post(victim, length=b"100"), *[b" "] * 90], [408]),
        ([file, b"a,b"], [408]),
    ]
    async with assert_unharmed(victim):
        answered = await asyncio.gather(
            *(said(victim.port, *parts, pause=0.05 if len(parts) < 40 else 0.1) for parts, _ in ways)
        )
    assert [statuses(answer) for answer in answered] == [allowed for _, allowed in ways]
    assert not any(answer.endswith(HUNG) for answer in answered)


async def test_many_idle_clients_do_not_block_others(victim: Victim, many: int) -> None:
    async with assert_unharmed(victim) as others:
        silent = [await asyncio.open_connection("127.0.0.1", victim.port) for _ in range(many)]
        for _, writer in silent[::3]:
            writer.write(b"POST /fhir/$process-message HTTP/1.1\r\nContent-")
        served = others.served
        async with asyncio.timeout(SECONDS):
            while others.served < served + 3:
                await asyncio.sleep(0.05)
        assert victim.connections() <= min(many, victim.most) + 5
        for _, writer in silent:
            writer.transport.abort()


async def test_pipelined_requests_are_answered_in_order_and_up_to_a_limit(victim: Victim) -> None:
    one = b"GET /health/live HTTP/1.1\r\n\r\n"
    whole = post(victim, body=as_bytes(a_bars_message()))
    async with assert_unharmed(victim):
        few = await said(victim.port, one * 3 + one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        endless = await said(victim.port, *[one * 2_000] * 20, pause=0)
        before_garbage = await said(victim.port, whole + b"GARBAGE\r\n\r\n")
    assert statuses(few) == [200] * 4
    assert set(statuses(endless)) <= {200}
    assert len(statuses(endless)) <= 2 * limits.PIPELINED
    assert statuses(before_garbage) == [200]


async def test_a_client_that_reads_no_answers_is_answered_up_to_a_limit(victim: Victim) -> None:
    one = b"GET /fhir/metadata HTTP/1.1\r\n\r\n"
    sent = 0
    async with assert_unharmed(victim):
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
        deaf.setblocking(False)
        await asyncio.get_running_loop().sock_connect(deaf, ("127.0.0.1", victim.port))
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(3.0):
                while True:
                    await asyncio.get_running_loop().sock_sendall(deaf, one * 500)
                    sent += 500
        deaf.close()
    assert sent < 200_000


async def test_concurrent_large_bodies_are_accepted_or_get_retry_after(victim: Victim, many: int) -> None:
    body = b'{"resourceType": "Bundle", "x": "' + b"x" * 1_000_000 + b'"}'
    async with assert_unharmed(victim):
        answered = await asyncio.gather(*(said(victim.port, post(victim, CLOSE, body=body)) for _ in range(many // 10)))
    assert {status for answer in answered for status in statuses(answer)} <= {400, 408, 503}
    assert all(len(statuses(answer)) == 1 for answer in answered)
