"""Intake on a real socket, in a thread of its own with a database of its own: what is sent to it, what it answers, what it keeps."""

import asyncio
import dataclasses
import http.client
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.intake.rate_limiter import RateLimiter
from services.runtime import database, process
from tests.intake.running import InProcess, Installation, Reply, install

PATIENCE_SECONDS = 30.0
"""An answer that takes longer never comes: a hang."""

KEPT = "select (select count(*) from intake.message), (select count(*) from intake.upload)"


class Served:
    """Start it with a migrated database; `stop` it. Nobody here sends too fast."""

    def __init__(self, address: str, folder: Path) -> None:
        self.installation: Installation = install(address, folder)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        if not self._ready.wait(PATIENCE_SECONDS):
            raise RuntimeError("intake did not start")
        self.document: Mapping[str, Any] = self.call("GET", "/openapi.json").json()

    async def _serve(self) -> None:
        self._loop, self._engine = asyncio.get_running_loop(), database.connect(self.installation.database)
        async with InProcess(self.installation, self._engine) as self.intake:
            self.intake.app.state.intake = dataclasses.replace(self.intake.intake, rate_limiter=RateLimiter(1_000_000))
            self._server = process.server(self.intake.app)
            opened = process.a_socket("127.0.0.1", 0)
            opened.listen()
            self.port = opened.getsockname()[1]
            self._ready.set()
            await self._server.serve(sockets=[opened])
        await self._engine.dispose()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def call(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Reply:
        """One request on a connection of its own, and its answer. Raises TimeoutError where none comes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        try:
            connection.request(method, path, body, {"Connection": "close", **(headers or {})})
            answer = connection.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def authorization(self, partner: str) -> dict[str, str]:
        """The header that this partner shows."""
        return {"Authorization": f"Bearer {self.installation.tokens[partner]}"}

    def kept(self) -> tuple[int, int]:
        """Messages and files that are kept."""
        messages, files = asyncio.run_coroutine_threadsafe(_one(self._engine, KEPT), self._loop).result(
            PATIENCE_SECONDS
        )
        return messages, files

    def empty(self) -> None:
        """Forget all of it, so that counting stays quick."""
        asyncio.run_coroutine_threadsafe(_empty(self._engine), self._loop).result(PATIENCE_SECONDS)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(PATIENCE_SECONDS)


async def _one(engine: AsyncEngine, query: str) -> Any:
    async with engine.connect() as connection:
        return (await connection.execute(text(query))).one()


async def _empty(engine: AsyncEngine) -> None:
    async with engine.begin() as tx:
        await tx.execute(text("truncate intake.message, intake.referral, intake.upload cascade"))
        await tx.execute(text("delete from intake.packet"))
