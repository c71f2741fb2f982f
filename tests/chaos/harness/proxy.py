"""A TCP proxy between a service and a server that can cut, hang or delay connections, or drop an answer after the request's effect."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

HOST = "127.0.0.1"
RequestMatcher = Callable[[bytes], bool]
"""Return True if these bytes of a client begin a request whose answer is to be dropped."""


def is_commit(data: bytes) -> bool:
    """Match a simple query COMMIT of PostgreSQL."""
    return b"COMMIT" in data


def is_produce_request(data: bytes) -> bool:
    """Match a produce request of Kafka: length, API key 0, a version. A client writes each request at once."""
    return len(data) > 12 and data[4:6] == b"\0\0" and data[6] == 0 and data[7] < 16


def is_post(data: bytes) -> bool:
    """Match an HTTP POST."""
    return data.startswith(b"POST ")


def is_mllp_frame(data: bytes) -> bool:
    """Match an MLLP frame."""
    return data.startswith(b"\x0b")


@dataclass(eq=False)
class Proxy:
    """Listen on `port` and forward connections to the port `to()`. Its fields can change while it runs."""

    name: str
    port: int
    to: Callable[[], int]
    delay: float = 0.0
    drops_answers_to: RequestMatcher | None = None
    every: int = 1
    """Drop every n-th of the matching answers."""
    ended: int = 0
    """The number of connections cut; below, of writes delayed, and of answers dropped."""
    waited: int = 0
    lost: int = 0
    _asked: int = 0
    _refuses: bool = False
    _flows: asyncio.Event = field(default_factory=asyncio.Event)
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    _server: asyncio.Server | None = None

    async def restore(self) -> None:
        """Forward all connections normally again."""
        self.delay, self.drops_answers_to, self._refuses = 0.0, None, False
        self._flows.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._proxy, HOST, self.port)

    async def cut(self) -> None:
        """Close all connections, and accept no new ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.end_connections()

    def refuse(self) -> None:
        """Close all connections, and each new one at once. For short connections this is observable, a cut is not."""
        self.end_connections()
        self._refuses = True

    def end_connections(self) -> None:
        self.ended += len(self._open) // 2
        for writer in list(self._open):
            writer.transport.abort()

    def hang(self) -> None:
        """Forward nothing, without closing connections, as a network that drops packets."""
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
        """Wait for the delay, or until the proxy no longer hangs."""
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
    """One forwarded connection."""

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
            self.far_out.write_eof()  # the client has sent everything; an answer may follow
        except OSError:
            self.far_out.transport.abort()

    async def back(self, far: asyncio.StreamReader) -> None:
        while data := await far.read(65536):
            if self.drops_next_answer:
                self.proxy.lost += 1
                return  # the effect has happened; both sides lose the connection instead of receiving the answer
            await self.proxy.passes()
            self.near_out.write(data)
            await self.near_out.drain()
