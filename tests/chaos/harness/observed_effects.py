"""Observe effects in the router's tables for all inputs that wait for one."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from tests.chaos.harness import db_probe
from tests.chaos.harness.db_probe import Probe


class HarnessFailed(Exception):
    """A background task of the harness has ended: the run shows nothing."""


async def run_while_alive(run: asyncio.Task[None], background_tasks: Sequence[asyncio.Task[None]]) -> None:
    """Return when `run` does; raise HarnessFailed as soon as one of `watching` has ended."""
    done, _ = await asyncio.wait([run, *background_tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in background_tasks:
        if task in done:
            raise HarnessFailed(f"{task.get_coro()} ended") from (None if task.cancelled() else task.exception())
    run.result()


class ObservedEffects:
    """Poll the inputs that the router has applied or dead-lettered, with one query for all that wait.

    Uses its own connection, so that it does not wait for other queries.
    """

    def __init__(self, connect: Callable[[], Awaitable[Any]]) -> None:
        self._probe = Probe(connect)
        self._awaited: dict[str, asyncio.Event] = {}

    def end(self) -> None:
        self._probe.end()

    async def wait_for(self, name: str) -> None:
        """Return when it was applied or dead-lettered: an input by correlation id (`c ...`) or key (`k ...`), or a command (`i ...`)."""
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
