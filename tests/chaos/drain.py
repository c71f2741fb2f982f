"""The drain: when everything that could happen has happened."""

import asyncio
import contextlib

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from tests.chaos import db_probe
from tests.chaos.world import World

DRAIN_SECONDS = 60.0
GROUPS = ("router", "notifier")


async def drained(world: World) -> bool:
    """Wait until nothing is unpublished, unread or due; False where that takes too long."""
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            while not await _is_quiet(world):
                await asyncio.sleep(0.15)
            await world.log.caught_up()
    except TimeoutError:
        return False
    return True


async def _is_quiet(world: World) -> bool:
    """Asked before and after the lag: what was just read may have led to more."""
    for _ in range(2):
        if not await db_probe.is_quiet(world.probe) or await lag(world):
            return False
    return await db_probe.is_quiet(world.probe)


async def lag(world: World) -> int:
    """Records that the groups have not committed yet, over all partitions. Asked again where a broker cannot say."""
    async with asyncio.timeout(DRAIN_SECONDS):
        while True:
            with contextlib.suppress(KafkaError):
                return await _lag(world)
            await asyncio.sleep(0.3)


async def _lag(world: World) -> int:
    admin = AIOKafkaAdminClient(bootstrap_servers=world.addresses["kafka"])
    await admin.start()
    try:
        ends = await world.log.ends()
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
