"""The example client of a hub, on Kafka: started again, it does no harm."""

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from examples.connect import hub as client
from schemas.topics import declared
from services.messaging import broker

GENEROUS_SECONDS = 60
KEY = "0f" * 16


class HubTopics:
    """The topics of a hub, as the router and an observer see them."""

    def __init__(self, kafka: str) -> None:
        self.kafka, self.hub = kafka, "example-" + "".join(letter for letter in uuid.uuid4().hex if letter.isalpha())

    async def publish(self, kind: str, case_id: str, version: int, status: str) -> None:
        one = {"reference": f"LB-{case_id}", "status": status, "open_needs": ["home-safety"], "referral": {}}
        data = {"case_id": case_id, "person_key": KEY, "hub_version": version, "role": "holder"}
        data |= {"case": {"status": status}, "referrals": [one], "others_count": 0}
        event_type = f"uk.lightbulb.case.{kind}.v1"
        headers = {"ce_id": f"{case_id}-{version}", "ce_type": event_type, "ce_correlationid": "any"}
        async with AIOKafkaProducer(bootstrap_servers=self.kafka) as producer:
            await producer.send_and_wait(
                f"hub.{self.hub}.case",
                json.dumps(data).encode(),
                key=KEY.encode(),
                headers=[(name, value.encode()) for name, value in headers.items()],
            )

    async def commands(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the id and data of every command so far."""
        topic, found = f"hub.{self.hub}.command", []
        async with AIOKafkaConsumer(topic, bootstrap_servers=self.kafka, auto_offset_reset="earliest") as consumer:
            ends = await consumer.end_offsets(consumer.assignment())
            while any([await consumer.position(partition) < end for partition, end in ends.items()]):
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    found += [(dict(one.headers)["ce_id"].decode(), json.loads(one.value)) for one in records]
        return found

    async def until_commands(self, number: int) -> None:
        async with asyncio.timeout(GENEROUS_SECONDS):
            while len(await self.commands()) < number:
                await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def started(topics: HubTopics, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[None]:
    """Run the client; it has read to the end of its topic."""
    running = asyncio.create_task(client.main(topics.kafka, topics.hub))
    try:
        async with asyncio.timeout(GENEROUS_SECONDS):
            while "read to the end" not in capsys.readouterr().out:
                assert not running.done()
                await asyncio.sleep(0.05)
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_client_that_is_started_again_accepts_nothing_twice(
    kafka: str, capsys: pytest.CaptureFixture[str]
) -> None:
    topics = HubTopics(kafka)
    await broker.create_topics(kafka, declared([topics.hub]), replication=1)
    for version, (kind, status) in enumerate(
        [("assigned", "requested"), ("accepted", "accepted"), ("held", "on-hold")], start=1
    ):
        await topics.publish(kind, "OLD", version, status)
    async with started(topics, capsys):
        await topics.publish("assigned", "NEW", 1, "requested")
        await topics.until_commands(1)
    async with started(topics, capsys):
        await topics.until_commands(2)  # it has no answer yet
    await topics.publish("accepted", "NEW", 2, "accepted")
    async with started(topics, capsys):
        await topics.publish("assigned", "LAST", 1, "requested")
        await topics.until_commands(3)

    sent = await topics.commands()
    assert [data["case_id"] for _, data in sent] == ["NEW", "NEW", "LAST"]
    assert len({command_id for command_id, _ in sent}) == 2
