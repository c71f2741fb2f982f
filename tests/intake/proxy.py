"""A wire between intake and PostgreSQL that can be cut: before, or just after, a commit has reached the server."""

import asyncio
import contextlib

from sqlalchemy.engine import make_url


class Wire:
    """Listens on a port of its own and carries what comes to the server of `url`."""

    def __init__(self, url: str) -> None:
        self._to = make_url(url)
        self._open: set[asyncio.StreamWriter] = set()
        self.drops_the_answer_to_commit = False
        self.dropped = 0

    @property
    def url(self) -> str:
        return self._to.set(host="127.0.0.1", port=self.port).render_as_string(hide_password=False)

    async def __aenter__(self) -> "Wire":
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()

    async def cut(self) -> None:
        """The database is away: connections end, and none can be made."""
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()

    async def mend(self) -> None:
        """The database is back."""
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self.port)

    async def _carry(self, near: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        far, far_out = await asyncio.open_connection(self._to.host, self._to.port)
        self._open |= {near_out, far_out}
        forth = asyncio.create_task(self._forth(near, far_out, near_out))
        back = asyncio.create_task(self._back(far, near_out))
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await asyncio.wait({forth, back}, return_when=asyncio.FIRST_COMPLETED)
        for task in (forth, back):
            task.cancel()
        await asyncio.gather(forth, back, return_exceptions=True)
        for writer in (near_out, far_out):
            self._open.discard(writer)
            writer.transport.abort()

    async def _forth(
        self, near: asyncio.StreamReader, far_out: asyncio.StreamWriter, near_out: asyncio.StreamWriter
    ) -> None:
        while data := await near.read(65536):
            far_out.write(data)
            if self.drops_the_answer_to_commit and b"COMMIT" in data:
                self.dropped += 1
                await far_out.drain()
                await asyncio.sleep(0.3)  # the server commits in this time; its answer is never carried
                return
            await far_out.drain()

    async def _back(self, far: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        while data := await far.read(65536):
            if self.drops_the_answer_to_commit and b"COMMIT" in data:
                continue
            near_out.write(data)
            await near_out.drain()
