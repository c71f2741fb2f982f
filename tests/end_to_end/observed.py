"""What a walk left behind: the records of a topic, and personal data in anything that was written."""

from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from bench.messages import BenchmarkMessage
from tests.end_to_end.conftest import Walk
from tests.end_to_end.senders import nhs_number, resource


async def everything_on(walk: Walk, topic: str) -> list[Any]:
    consumer = AIOKafkaConsumer(bootstrap_servers=walk.running.addresses["kafka"])
    await consumer.start()
    try:
        await consumer._client.force_metadata_update()
        numbers = consumer._client.cluster.partitions_for_topic(topic) or set(
            range(12 if topic.endswith(".event") else 3)
        )
        partitions = [TopicPartition(topic, number) for number in numbers]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        total = sum((await consumer.end_offsets(partitions)).values())
        records: list[Any] = []
        while len(records) < total:
            for batch in (await consumer.getmany(timeout_ms=500)).values():
                records += batch
        return records
    finally:
        await consumer.stop()


def people_of(sent: list[BenchmarkMessage], written: str) -> list[str]:
    """Whatever of these people's data stands in what was written."""
    data: set[str] = set()
    for message in sent:
        patient = resource(message, "Patient")
        name = patient["name"][0]
        data |= {name["family"], *name["given"], nhs_number(message), patient["birthDate"]}
        data |= {patient["address"][0]["postalCode"], *patient["address"][0]["line"]}
    return sorted(one for one in data if one in written)
