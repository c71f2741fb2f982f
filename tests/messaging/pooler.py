"""A connection pooler in transaction mode, which stands in for pgbouncer: no package index has it.

All clients share one backend, which is given to one of them for each transaction. The first client is authenticated by PostgreSQL,
those after it not at all.
"""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator

from sqlalchemy.engine import make_url

SSL_REQUEST = 80877103
PROTOCOL = struct.pack("!i", 196608)
PASSED_ON = ("user", "database", "client_encoding")


class Pooler:
    """Refuses session settings as pgbouncer does by default; if `ignores_settings`, it drops them."""

    def __init__(self, url: str, *, ignores_settings: bool) -> None:
        self._to = make_url(url)
        self._ignores_settings = ignores_settings
        self._turn = asyncio.Lock()
        self._backend: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._greeting = b""

    @property
    def url(self) -> str:
        port = self._server.sockets[0].getsockname()[1]
        return self._to.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        self._server = await asyncio.start_server(self._client, "127.0.0.1", 0)
        try:
            yield self.url
        finally:
            self._server.close()
            if self._backend is not None:
                self._backend[1].transport.abort()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            settings = await _startup(reader, writer)
            refused = sorted(settings.keys() - {*PASSED_ON, "application_name"})
            if refused and not self._ignores_settings:
                text = f"SFATAL\0C08P01\0Munsupported startup parameter: {refused[0]}\0\0".encode()
                writer.write(_message(b"E", text))
                return writer.close()
            async with self._turn:
                await self._greet(reader, writer, settings)
            await self._transactions(reader, writer)
        return writer.close()

    async def _greet(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, settings: dict[str, str]
    ) -> None:
        """Open the backend with the first client, which answers PostgreSQL's question for its password."""
        if self._backend is not None:
            writer.write(self._greeting)
            return
        backend, out = await asyncio.open_connection(self._to.host, self._to.port)
        given = b"".join(f"{name}\0{settings[name]}\0".encode() for name in PASSED_ON if name in settings)
        out.write(struct.pack("!i", len(given) + 9) + PROTOCOL + given + b"\0")
        while True:
            kind, body = await _next(backend)
            writer.write(_message(kind, body))
            code = struct.unpack("!i", body[:4])[0] if kind == b"R" else None
            if code in (10, 11):  # SASL: the client's next message answers it
                out.write(_message(*await _next(reader)))
            elif code is None or code == 0:
                self._greeting += _message(kind, body)
            if kind == b"Z":
                break
        self._backend = backend, out

    async def _transactions(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Give this client the backend from its first message to the ReadyForQuery that is outside a transaction."""
        assert self._backend is not None
        backend, out = self._backend
        asked = asyncio.create_task(_next(reader))
        while (await asked)[0] != b"X":
            async with self._turn:
                unanswered, answer = 0, asyncio.create_task(_next(backend))
                while True:
                    await asyncio.wait({asked, answer}, return_when=asyncio.FIRST_COMPLETED)
                    if asked.done():
                        kind, body = asked.result()
                        out.write(_message(kind, body))
                        unanswered += kind in b"QS"  # simple query and sync: ReadyForQuery answers each
                        asked = asyncio.create_task(_next(reader))
                    else:
                        kind, body = answer.result()
                        writer.write(_message(kind, body))
                        unanswered -= kind == b"Z"
                        if kind == b"Z" and body == b"I" and not unanswered:
                            break
                        answer = asyncio.create_task(_next(backend))


async def _startup(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> dict[str, str]:
    """Return the parameters of a client's startup message; TLS is declined."""
    while True:
        (size,) = struct.unpack("!i", await reader.readexactly(4))
        body = await reader.readexactly(size - 4)
        if struct.unpack("!i", body[:4])[0] != SSL_REQUEST:
            words = body[4:].decode().rstrip("\0").split("\0")
            return dict(zip(words[::2], words[1::2], strict=True))
        writer.write(b"N")


async def _next(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    kind = await reader.readexactly(1)
    (size,) = struct.unpack("!i", await reader.readexactly(4))
    return kind, await reader.readexactly(size - 4)


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body
