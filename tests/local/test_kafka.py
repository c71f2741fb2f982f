import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from infra.local.embedded import kafka
from infra.local.embedded.jars import JarsMissing
from infra.local.embedded.kafka import ClusterMismatch, Kafka
from tests.local.programs import unreachable

TOPIC = "tried"


async def create_topic(cluster: Kafka) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(TOPIC, 1, len(cluster.brokers))])
    await admin.close()


async def send(cluster: Kafka, *values: bytes, idempotent: bool = True) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=cluster.bootstrap, acks="all", enable_idempotence=idempotent)
    await producer.start()
    for value in values:
        await producer.send_and_wait(TOPIC, value, partition=0)
    await producer.stop()


async def read(cluster: Kafka, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(bootstrap_servers=cluster.bootstrap, enable_auto_commit=False)
    await consumer.start()
    consumer.assign([TopicPartition(TOPIC, 0)])
    await consumer.seek_to_beginning()
    async with asyncio.timeout(30):
        values = [(await consumer.getone()).value for _ in range(count)]
    await consumer.stop()
    return values


@pytest.mark.slow
async def test_records_survive_a_restart_at_the_same_address(tmp_path: Path) -> None:
    first = kafka.start(tmp_path)
    try:
        assert first.provider == "Apache Kafka 4.3.0, embedded"
        await create_topic(first)
        await send(first, b"kept")
    finally:
        first.stop()
    second = kafka.start(tmp_path)
    try:
        assert second.bootstrap == first.bootstrap
        assert await read(second, 1) == [b"kept"]
    finally:
        second.stop()
    with pytest.raises(ClusterMismatch, match="a cluster of 1 brokers, but 3 were requested"):
        kafka.start(tmp_path, brokers=3)


@pytest.mark.slow
async def test_three_brokers_survive_the_kill_of_one_and_its_return(tmp_path: Path) -> None:
    cluster = kafka.start(tmp_path, brokers=3)
    try:
        await create_topic(cluster)
        await send(cluster, b"before")
        cluster.brokers[0].kill()
        await send(cluster, b"without one")
        cluster.brokers[0].start()
        await send(cluster, b"together")
        assert await read(cluster, 3) == [b"before", b"without one", b"together"]
    finally:
        cluster.stop()


@pytest.fixture
def instead(tmp_path: Path) -> Iterator[Kafka]:
    cluster = kafka.start(tmp_path, ephemeral=True, cache=tmp_path / "empty", fetch=unreachable)
    yield cluster
    cluster.stop()


async def test_tansu_replaces_kafka_with_a_warning_if_the_jars_cannot_be_downloaded(instead: Kafka) -> None:
    assert instead.is_tansu
    assert instead.provider.startswith("Tansu")
    assert instead.notice is not None
    assert "could not be fetched" in instead.notice
    assert "in memory only" in instead.notice
    await create_topic(instead)
    await send(instead, b"for now", idempotent=False)
    assert await read(instead, 1) == [b"for now"]


@pytest.mark.parametrize(("ephemeral", "brokers"), [(False, 1), (True, 3)])
def test_tansu_never_replaces_kafka_if_records_are_to_be_kept(tmp_path: Path, ephemeral: bool, brokers: int) -> None:
    with pytest.raises(JarsMissing, match=r"one of 47 missing jars.*only `--ephemeral` with one broker"):
        kafka.start(tmp_path, brokers=brokers, ephemeral=ephemeral, cache=tmp_path / "empty", fetch=unreachable)


def test_a_cluster_has_one_broker_or_three(tmp_path: Path) -> None:
    with pytest.raises(ClusterMismatch, match="2 brokers were requested"):
        kafka.start(tmp_path, brokers=2)
