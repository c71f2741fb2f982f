"""How long after a fault all feedback was delivered that was due at its end."""

import asyncio
import contextlib
import time

from tests.chaos import db_probe
from tests.chaos.history import Injected
from tests.chaos.world import World

PATIENCE_SECONDS = 60.0


async def note(world: World, fault: Injected) -> None:
    """Look until it is so; after a minute the drain will say what is wrong. A fault that held none up is noted with next to nothing."""
    assert fault.ended is not None
    backlog = await db_probe.backlog(world.probe)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await db_probe.is_done(world.probe, backlog):
                await asyncio.sleep(0.1)
            fault.told_after = time.monotonic() - fault.ended
