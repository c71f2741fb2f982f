"""Since when records wait on Kafka to be read: their own timestamps, which outlast a restart of the reader."""

import time
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition

FETCH_BYTES = 16_384
"""Bytes that a consumer made for `timestamps` fetches of a partition at once; a larger record comes whole."""


async def timestamps(
    consumer: AIOKafkaConsumer, offsets: Mapping[TopicPartition, int], *, seconds: float
) -> dict[TopicPartition, float]:
    """Return the time (seconds since 1970) of the first record at or after each offset.

    Partitions whose record does not come within `seconds` are left out. The consumer has no group and does no other work.
    """
    found: dict[TopicPartition, float] = {}
    deadline = time.monotonic() + seconds
    consumer.assign(list(offsets))
    try:
        for partition, offset in offsets.items():
            consumer.seek(partition, offset)
        while (left := [one for one in offsets if one not in found]) and time.monotonic() < deadline:
            fetched = await consumer.getmany(*left, timeout_ms=200)
            found |= {partition: records[0].timestamp / 1000 for partition, records in fetched.items() if records}
            consumer.pause(*fetched)
    finally:
        consumer.unsubscribe()
    return found
