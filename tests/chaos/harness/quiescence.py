"""Wait for quiescence: all outboxes published, all records read, and all feedback delivered."""

import asyncio
import contextlib

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from tests.chaos.harness import db_probe
from tests.chaos.harness.cluster import Cluster

LAG_SECONDS = 60.0
GROUPS = ("router", "notifier")


async def wait_for_quiescence(cluster: Cluster, seconds: float) -> bool:
    """Wait until nothing is unpublished, unread or due; return False after the time limit."""
    try:
        async with asyncio.timeout(seconds):
            while not await _is_quiet(cluster):
                await asyncio.sleep(0.15)
            await cluster.log.caught_up()
    except TimeoutError:
        return False
    return True


async def _is_quiet(cluster: Cluster) -> bool:
    """Check the tables before and after the lag, since records just read may have led to more."""
    for _ in range(2):
        if not await db_probe.is_quiet(cluster.probe) or await lag(cluster):
            return False
    return await db_probe.is_quiet(cluster.probe)


async def lag(cluster: Cluster) -> int:
    """Return the number of records that the consumer groups have not committed. Try again while a broker is unavailable."""
    async with asyncio.timeout(LAG_SECONDS):
        while True:
            with contextlib.suppress(KafkaError):
                return await _lag(cluster)
            await asyncio.sleep(0.3)


async def _lag(cluster: Cluster) -> int:
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.addresses["kafka"])
    await admin.start()
    try:
        begins, ends = await cluster.log.begins(), await cluster.log.ends()
        total = 0
        for group in GROUPS:
            committed = await admin.list_consumer_group_offsets(group)
            read = {p for p in ends if _reads(group, p.topic)}
            total += sum(ends[p] - max(committed[p].offset if p in committed else 0, begins[p]) for p in read)
        return total
    finally:
        await admin.close()


def _reads(group: str, topic: str) -> bool:
    return topic == "case.event" if group == "notifier" else topic == "referral.event" or topic.endswith(".command")
