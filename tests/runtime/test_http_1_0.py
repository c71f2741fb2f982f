"""A client of HTTP/1.0 gets a streamed response without chunks, ended by the connection; one of HTTP/1.1 gets chunks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from services.runtime import process

PIECES = (b"one,", b"two,", b"three")
WHOLE = b"".join(PIECES)


async def streams(scope: Any, _: Any, send: Any) -> None:
    """`/` streams; `/whole` states its length; `/breaks-off` fails after two pieces."""
    named = [(b"content-length", str(len(WHOLE)).encode())] if scope["path"] == "/whole" else []
    await send({"type": "http.response.start", "status": 200, "headers": named})
    for piece in PIECES[:2]:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    if scope["path"] == "/breaks-off":
        await asyncio.sleep(0.2)  # what was sent before a reset may be discarded
        raise OSError
    await send({"type": "http.response.body", "body": PIECES[2], "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


@asynccontextmanager
async def served() -> AsyncIterator[int]:
    """A server of this application; its port."""
    opened = process.a_socket("127.0.0.1", 0)
    server = process.server(streams)
    serving = asyncio.create_task(server.serve(sockets=[opened]))
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield opened.getsockname()[1]
    finally:
        server.should_exit = True
        await serving


async def asked(port: int, line: str, *, headers: str = "") -> tuple[bytes, bytes]:
    """Head and body of the answer to one request, until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{line}\r\nHost: hub\r\n{headers}\r\n".encode())
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        async with asyncio.timeout(10):
            return head.lower(), await reader.read()
    finally:
        writer.close()


async def test_an_http_1_0_client_gets_the_bytes_and_then_the_end() -> None:
    async with served() as port:
        for headers in ("", "Connection: keep-alive\r\n"):
            head, body = await asked(port, "GET / HTTP/1.0", headers=headers)
            assert body == WHOLE
            assert b"transfer-encoding" not in head
            assert b"connection: close" in head


async def test_a_response_with_a_length_keeps_it() -> None:
    async with served() as port:
        head, body = await asked(port, "GET /whole HTTP/1.0")
    assert (b"content-length: 13" in head, body) == (True, WHOLE)


async def test_an_http_1_1_client_gets_chunks() -> None:
    async with served() as port:
        head, body = await asked(port, "GET / HTTP/1.1", headers="Connection: close\r\n")
    assert b"transfer-encoding: chunked" in head
    assert body == b"4\r\none,\r\n4\r\ntwo,\r\n5\r\nthree\r\n0\r\n\r\n"


async def test_a_response_that_breaks_off_is_reset_so_that_it_does_not_look_complete() -> None:
    async with served() as port:
        with pytest.raises(ConnectionResetError):
            await asked(port, "GET /breaks-off HTTP/1.0")


async def test_uvicorn_alone_would_send_chunks_to_an_http_1_0_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason for our own code; when this fails, it can go."""
    monkeypatch.setattr("services.runtime.http_limits._without_chunks", lambda _, app: app)
    async with served() as port:
        head, _ = await asked(port, "GET / HTTP/1.0")
    assert b"transfer-encoding: chunked" in head
