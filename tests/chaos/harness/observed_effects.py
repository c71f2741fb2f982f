"""Sees effects for all who wait for one; where what sees them dies, nobody waits in vain."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from tests.chaos.harness import db_probe
from tests.chaos.harness.db_probe import Probe


class HarnessFailed(Exception):
    """Something of ours that looks or listens has ended: what was seen since shows nothing."""


async def run_while_alive(run: asyncio.Task[None], background_tasks: Sequence[asyncio.Task[None]]) -> None:
    """Return when `playing` does. Raises at once where one of `watching` has ended before, instead of waiting for it in vain."""
    done, _ = await asyncio.wait([run, *background_tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in background_tasks:
        if task in done:
            raise HarnessFailed(f"{task.get_coro()} ended") from (None if task.cancelled() else task.exception())
    run.result()


class ObservedEffects:
    """Looks at what the router has applied or parked, for all who wait for something of it: one query for everybody.

    On a connection of its own, so that it waits for nobody.
    """

    def __init__(self, connect: Callable[[], Awaitable[Any]]) -> None:
        self._probe = Probe(connect)
        self._awaited: dict[str, asyncio.Event] = {}

    def end(self) -> None:
        self._probe.end()

    async def wait_for(self, name: str) -> None:
        """Return when it was applied or parked: the input of a correlation id (`c ...`), under a key (`k ...`); a command (`i ...`)."""
        event = self._awaited.setdefault(name, asyncio.Event())
        await event.wait()

    async def poll(self) -> None:
        while True:
            await asyncio.sleep(0.04)
            if not self._awaited:
                continue
            names = list(self._awaited)
            correlations = [name.split()[-1] for name in names if name[0] in "ck"]
            ids = [name[2:] for name in names if name.startswith("i ")]
            for name in await db_probe.effects(self._probe, correlations, ids):
                if event := self._awaited.pop(name, None):
                    event.set()
