"""Asks PostgreSQL past every wire: patiently while it is away, and never twice on a connection that something went wrong on."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import asyncpg

PATIENCE_SECONDS = 60.0
OURS = (asyncpg.SyntaxOrAccessError, asyncpg.DataError, asyncpg.exceptions.DataError)
"""A query that is wrong is wrong again. Everything else passes when the server is back."""


@dataclass
class Asking:
    """One connection, made when it is needed, for one question at a time; whoever must not wait for others has one of its own.

    Whatever goes wrong while it is used ends it: a server that is killed in the middle of an answer leaves asyncpg half way
    (InternalClientError, which is no PostgresError), and so does a question that is cancelled.
    """

    connect: Callable[[], Awaitable[Any]]
    _connection: Any = None
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def ask(self, query: str, *values: object) -> list[Any]:
        """The rows; for as long as the server is away, again."""
        async with asyncio.timeout(PATIENCE_SECONDS), self._asking:
            while True:
                try:
                    return await self._once(query, *values)
                except OURS:
                    raise
                except Exception:
                    await asyncio.sleep(0.2)

    async def _once(self, query: str, *values: object) -> list[Any]:
        try:
            if self._connection is None or self._connection.is_closed():
                self._connection = await self.connect()
            return list(await self._connection.fetch(query, *values))
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
