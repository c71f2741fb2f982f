"""The drain: when everything that could happen has happened."""

import asyncio
import contextlib

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from tests.chaos.harness import db_probe
from tests.chaos.harness.cluster import Cluster

QUIESCENCE_SECONDS = 60.0
GROUPS = ("router", "notifier")


async def wait_for_quiescence(cluster: Cluster) -> bool:
    """Wait until nothing is unpublished, unread or due; False where that takes too long."""
    try:
        async with asyncio.timeout(QUIESCENCE_SECONDS):
            while not await _is_quiet(cluster):
                await asyncio.sleep(0.15)
            await cluster.log.caught_up()
    except TimeoutError:
        return False
    return True


async def _is_quiet(cluster: Cluster) -> bool:
    """Asked before and after the lag: what was just read may have led to more."""
    for _ in range(2):
        if not await db_probe.is_quiet(cluster.probe) or await lag(cluster):
            return False
    return await db_probe.is_quiet(cluster.probe)


async def lag(cluster: Cluster) -> int:
    """Records that the groups have not committed yet, over all partitions. Asked again where a broker cannot say."""
    async with asyncio.timeout(QUIESCENCE_SECONDS):
        while True:
            with contextlib.suppress(KafkaError):
                return await _lag(cluster)
            await asyncio.sleep(0.3)


async def _lag(cluster: Cluster) -> int:
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.addresses["kafka"])
    await admin.start()
    try:
        ends = await cluster.log.ends()
        total = 0
        for group in GROUPS:
            committed = await admin.list_consumer_group_offsets(group)
            read = {p for p in ends if _reads(group, p.topic)}
            total += sum(ends[p] - max(committed[p].offset, 0) if p in committed else ends[p] for p in read)
        return total
    finally:
        await admin.close()


def _reads(group: str, topic: str) -> bool:
    return topic == "case.event" if group == "notifier" else topic == "referral.event" or topic.endswith(".command")
