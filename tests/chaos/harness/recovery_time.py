"""Measure how long after a fault all feedback was delivered that was due at its end."""

import asyncio
import contextlib
import time

from tests.chaos.harness import db_probe
from tests.chaos.harness.cluster import Cluster
from tests.chaos.harness.history import InjectedFault

PATIENCE_SECONDS = 60.0


async def measure(cluster: Cluster, fault: InjectedFault) -> None:
    """Store the delivery time of the backlog in `fault`; leave it empty after a minute."""
    assert fault.ended is not None
    backlog = await db_probe.backlog(cluster.probe)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await db_probe.is_done(cluster.probe, backlog):
                await asyncio.sleep(0.1)
            fault.delivered_after = time.monotonic() - fault.ended
