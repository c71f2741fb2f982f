"""HTTP of a process from its start to its end: ports, keep-alive, and the end that loses no request."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from services.runtime import process
from services.runtime.process import HttpServers
from services.runtime.settings import Settings


def settings(**more: Any) -> Settings:
    return Settings(
        database="postgresql+asyncpg://unused",
        kafka="unused",
        secret_file="/dev/null",
        **{"http_port": 0, "stop_delay_seconds": 0, **more},
    )


async def well(scope: Any, _: Any, send: Any) -> None:
    """Answer 200 to everything; `/slow` after a while."""
    if scope["path"] == "/slow":
        await asyncio.sleep(0.5)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def port_of(servers: HttpServers) -> int:
    assert servers._http is not None
    while not servers._http.started:
        await asyncio.sleep(0.01)
    return int(servers._http.servers[0].sockets[0].getsockname()[1])


@asynccontextmanager
async def serving(**more: Any) -> AsyncIterator[tuple[HttpServers, int]]:
    async with HttpServers(settings(**more), well) as servers:
        servers.show(well, well)
        yield servers, await port_of(servers)


class Client:
    """A connection that is kept open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, port: int) -> "Client":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def ask(self, path: str = "/") -> None:
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: hub\r\n\r\n".encode())

    async def head(self) -> bytes:
        async with asyncio.timeout(20):
            return (await self.reader.readuntil(b"\r\n\r\n")).lower()

    async def is_closed(self) -> bool:
        async with asyncio.timeout(20):
            return await self.reader.read() == b""


async def test_a_port_that_is_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(process.CannotListen, match=f"HTTP on 127.0.0.1, port {port}: Address already in use"):
            async with HttpServers(settings(http_port=port), well):
                pass


@pytest.mark.parametrize("seconds", [1, 2])
async def test_an_idle_connection_is_closed_after_the_time_that_is_set(seconds: int) -> None:
    async with serving(keep_alive_seconds=seconds) as (_, port):
        client = await Client.connect(port)
        client.ask()
        await client.head()
        began = asyncio.get_running_loop().time()
        assert await client.is_closed()
        assert asyncio.get_running_loop().time() - began > seconds - 0.5


def test_idle_connections_are_kept_longer_than_load_balancers_keep_them() -> None:
    assert settings().keep_alive_seconds > 60


async def test_readiness_is_503_before_the_process_stops_listening() -> None:
    async with serving(stop_delay_seconds=60) as (servers, port):
        kept = await Client.connect(port)
        servers.stopping.set()
        stopped = asyncio.create_task(servers.stopped())
        for path, status in (("/health/ready", b" 503 "), ("/", b" 200 ")):
            client = await Client.connect(port)
            client.ask(path)
            head = await client.head()
            assert status in head
            assert b"connection: close" in head
        kept.ask()
        assert b"connection: close" in await kept.head()
        assert not stopped.done()
        stopped.cancel()


async def test_a_request_in_progress_and_one_that_is_arriving_are_answered_at_the_end() -> None:
    async with serving() as (servers, port):
        slow, arriving, idle = [await Client.connect(port) for _ in range(3)]
        slow.ask("/slow")
        arriving.writer.write(b"GET / HTTP/1.1\r\nHost:")
        await asyncio.sleep(0.1)
        stopping = asyncio.create_task(servers.stop())
        assert await idle.is_closed()
        arriving.writer.write(b" hub\r\n\r\n")
        for client in (slow, arriving):
            assert b" 200 " in await client.head()
            assert await client.is_closed()
        await stopping


async def test_what_two_processes_share_is_not_reset_when_one_of_them_stops() -> None:
    """Connections that are opened without pause, most of which wait in the kernel when their process closes its socket."""
    async with serving(stop_delay_seconds=1) as (_, port):
        answers: list[bytes] = []
        ending = HttpServers(settings(http_port=port, stop_delay_seconds=1), well)
        await ending.__aenter__()
        ending.show(well, well)
        await port_of(ending)

        async def load() -> None:
            while not ended.is_set():
                client = await Client.connect(port)
                client.ask()
                answers.append(await client.head())
                client.writer.close()

        ended = asyncio.Event()
        senders = [asyncio.create_task(load()) for _ in range(40)]
        await asyncio.sleep(0.3)
        await ending.stop()
        ended.set()
        await asyncio.gather(*senders)
        assert len(answers) > 100
        assert all(b" 200 " in answer for answer in answers)
