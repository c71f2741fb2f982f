"""Wait for quiescence: all outboxes published, all records read, and all feedback delivered."""

import asyncio
import contextlib
from collections.abc import Mapping

from aiokafka import TopicPartition
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
    ends = await cluster.log.ends()
    return sum(
        [
            await unread(cluster, group, {place: end for place, end in ends.items() if _reads(group, place.topic)})
            for group in GROUPS
        ]
    )


async def unread(cluster: Cluster, group: str, ends: Mapping[TopicPartition, int]) -> int:
    """Return the number of records before these ends that a consumer group has not committed."""
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.addresses["kafka"])
    await admin.start()
    try:
        begins, committed = await cluster.log.begins(), await admin.list_consumer_group_offsets(group)
        at = {one: max(committed[one].offset if one in committed else 0, begins[one]) for one in ends}
        return sum(end - at[one] for one, end in ends.items())
    finally:
        await admin.close()


def _reads(group: str, topic: str) -> bool:
    return topic == "case.event" if group == "notifier" else topic == "referral.event" or topic.endswith(".command")
