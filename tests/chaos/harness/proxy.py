"""A wire between a service and what it talks to, that can be cut, hung, slow, or lose an answer after its effect."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

HOST = "127.0.0.1"
RequestMatcher = Callable[[bytes], bool]
"""Whether these bytes of a client begin a request whose answer is to be lost."""


def is_commit(data: bytes) -> bool:
    """PostgreSQL: a simple query COMMIT."""
    return b"COMMIT" in data


def is_produce_request(data: bytes) -> bool:
    """Kafka: length, API key 0, a version; a client writes each request whole."""
    return len(data) > 12 and data[4:6] == b"\0\0" and data[6] == 0 and data[7] < 16


def is_post(data: bytes) -> bool:
    """HTTP."""
    return data.startswith(b"POST ")


def is_mllp_frame(data: bytes) -> bool:
    """MLLP."""
    return data.startswith(b"\x0b")


@dataclass(eq=False)
class Proxy:
    """Listens on `port` and carries what comes to `to()`. Change its fields while it runs."""

    name: str
    port: int
    to: Callable[[], int]
    delay: float = 0.0
    drops_answers_to: RequestMatcher | None = None
    every: int = 1
    """Of the answers that it may lose, every n-th is lost."""
    ended: int = 0
    """Connections that were cut; the same for writes that had to wait, and answers that were lost."""
    waited: int = 0
    lost: int = 0
    _asked: int = 0
    _refuses: bool = False
    _flows: asyncio.Event = field(default_factory=asyncio.Event)
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    _server: asyncio.Server | None = None

    async def restore(self) -> None:
        """Carry again, at once and everything."""
        self.delay, self.drops_answers_to, self._refuses = 0.0, None, False
        self._flows.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._proxy, HOST, self.port)

    async def cut(self) -> None:
        """Connections end, and none can be made."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.end_connections()

    def refuse(self) -> None:
        """Connections end, and so does each that is made, at once: where they are short, a cut is seen by those that come."""
        self.end_connections()
        self._refuses = True

    def end_connections(self) -> None:
        self.ended += len(self._open) // 2
        for writer in list(self._open):
            writer.transport.abort()

    def hang(self) -> None:
        """Nothing is carried, and nobody is told: as a network that swallows packets."""
        self._flows.clear()

    async def _proxy(self, near: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        if self._refuses:
            self.ended += 1
            near_out.transport.abort()
            return
        try:
            far, far_out = await asyncio.open_connection(HOST, self.to())
        except OSError:
            near_out.transport.abort()
            return
        carried = _ProxiedConnection(self, near_out, far_out)
        self._open |= {near_out, far_out}
        forth = asyncio.create_task(carried.forth(near))
        with contextlib.suppress(ConnectionError):
            await carried.back(far)
        forth.cancel()
        await asyncio.gather(forth, return_exceptions=True)
        for writer in (near_out, far_out):
            self._open.discard(writer)
            writer.transport.abort()

    async def passes(self) -> None:
        """Wait as long as this wire makes its bytes wait."""
        if self.delay or not self._flows.is_set():
            self.waited += 1
            await asyncio.sleep(self.delay)
        await self._flows.wait()

    def drops_answer_to(self, data: bytes) -> bool:
        if self.drops_answers_to is None or not self.drops_answers_to(data):
            return False
        self._asked += 1
        return self._asked % self.every == 0


@dataclass
class _ProxiedConnection:
    """One connection."""

    proxy: Proxy
    near_out: asyncio.StreamWriter
    far_out: asyncio.StreamWriter
    drops_next_answer: bool = False

    async def forth(self, near: asyncio.StreamReader) -> None:
        try:
            while data := await near.read(65536):
                await self.proxy.passes()
                if self.proxy.drops_answer_to(data):
                    self.drops_next_answer = True
                self.far_out.write(data)
                await self.far_out.drain()
            await self.proxy.passes()
            self.far_out.write_eof()  # the client has said all; it may still be answered
        except OSError:
            self.far_out.transport.abort()

    async def back(self, far: asyncio.StreamReader) -> None:
        while data := await far.read(65536):
            if self.drops_next_answer:
                self.proxy.lost += 1
                return  # the effect has happened; both ends lose the connection instead of the answer
            await self.proxy.passes()
            self.near_out.write(data)
            await self.near_out.drain()
