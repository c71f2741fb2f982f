"""Sees effects for all who wait for one; where what sees them dies, nobody waits in vain."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from tests.chaos.asking import Asking


class CheckerFailed(Exception):
    """Something of ours that looks or listens has ended: what was seen since shows nothing."""


async def first_to_end(playing: asyncio.Task[None], watching: Sequence[asyncio.Task[None]]) -> None:
    """Return when `playing` does. Raises at once where one of `watching` has ended before, instead of waiting for it in vain."""
    done, _ = await asyncio.wait([playing, *watching], return_when=asyncio.FIRST_COMPLETED)
    for task in watching:
        if task in done:
            raise CheckerFailed(f"{task.get_coro()} ended") from (None if task.cancelled() else task.exception())
    playing.result()


class Effects:
    """Looks at what the router has applied or parked, for all who wait for something of it: one query for everybody.

    On a connection of its own, so that it waits for nobody.
    """

    def __init__(self, connect: Callable[[], Awaitable[Any]]) -> None:
        self._asking = Asking(connect)
        self._awaited: dict[str, asyncio.Event] = {}

    def end(self) -> None:
        self._asking.end()

    async def of(self, name: str) -> None:
        """Return when it was applied or parked: the input of a correlation id (`c ...`), under a key (`k ...`); a command (`i ...`)."""
        event = self._awaited.setdefault(name, asyncio.Event())
        await event.wait()

    async def look(self) -> None:
        while True:
            await asyncio.sleep(0.04)
            if not self._awaited:
                continue
            names = list(self._awaited)
            correlations = [name.split()[-1] for name in names if name[0] in "ck"]
            ids = [name[2:] for name in names if name.startswith("i ")]
            for row in await self._asking.ask(_APPLIED, correlations, ids):
                if event := self._awaited.pop(row["name"], None):
                    event.set()


_APPLIED = """
    with conversation as (
        select person_key, correlation_id from router.input
        where topic = 'referral.event' and correlation_id = any($1::text[])
        union all select person_key, correlation_id from router.dead_letter
        where topic = 'referral.event' and correlation_id = any($1::text[]))
    select 'c ' || correlation_id as name from conversation
    union all select 'k ' || person_key || ' ' || correlation_id from conversation
    union all select 'i ' || id from router.input where id = any($2::text[]) and topic like 'hub.%'"""
