"""`lightbulb quarantine resubmit` and `lightbulb republish` on running parts: two routers, Kafka, PostgreSQL, a hub that listens."""

import asyncio
import json
import os
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.local.embedded import ports_and_secrets
from schemas.model import Reference
from schemas.topics import CASE_EVENT, declared, hub_case
from services.messaging import broker, packets
from services.router.app import GROUP
from tests.builders.events import a_record, broken, cancelled, received, updated
from tests.builders.reference_data import AT_CHARNWOOD, AT_MELTON, DIRECTORY
from tests.builders.referrals import a_form, a_referral
from tests.operations.command_line import run
from tests.router.running import a_process, publish, until
from tests.router.stored import rows


@pytest.fixture
async def bootstrap(request: pytest.FixtureRequest) -> str:
    address = os.environ.get("LIGHTBULB_KAFKA") or str(request.getfixturevalue("kafka"))
    topics = declared([hub.id for hub in DIRECTORY.hubs])
    await broker.create_topics(address, topics, replication=1)
    await _pass_over_what_others_left(
        address, [TopicPartition(one.name, n) for one in topics for n in range(one.partitions)]
    )
    return address


async def _pass_over_what_others_left(bootstrap: str, partitions: Sequence[TopicPartition]) -> None:
    """Commit the end offsets for the router's group: all tests of a run share Kafka and the group."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=GROUP, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign(partitions)
        await consumer.commit(await consumer.end_offsets(partitions))
    finally:
        await consumer.stop()


@pytest.fixture
def environment(
    bootstrap: str, migrated: str, engine: AsyncEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    monkeypatch.setenv("LIGHTBULB_DATABASE", migrated)
    ports_and_secrets.secret(tmp_path / "secret")
    return {
        "LIGHTBULB_DATABASE": migrated,
        "LIGHTBULB_KAFKA": bootstrap,
        "LIGHTBULB_SECRET_FILE": str(tmp_path / "secret"),
        "LIGHTBULB_HTTP_PORT": "0",
        "LIGHTBULB_STOP_DELAY_SECONDS": "0",
    }


@asynccontextmanager
async def two_routers(environment: dict[str, str]) -> AsyncIterator[None]:
    async with a_process(environment), a_process(environment):
        yield


async def lightbulb(*words: str) -> dict[str, Any]:
    """Return the JSON output of a command; it must exit with 0."""
    told = await asyncio.to_thread(run, *words, "--json")
    assert told.exit_code == 0, told.output
    found: dict[str, Any] = json.loads(told.stdout)
    return found


async def heard(bootstrap: str, topic: str, keys: Sequence[str]) -> list[Any]:
    """What is on a topic now about these person keys, in the order of each."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(12 if topic == CASE_EVENT else 3)]
        consumer.assign(partitions)  # no seek: a reset to the end that is under way may come after it
        ends = await consumer.end_offsets(partitions)
        found: list[Any] = []
        while any([await consumer.position(one) < ends[one] for one in partitions]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += [record for record in records if record.key.decode() in keys]
        return found
    finally:
        await consumer.stop()


def ids(records: Sequence[Any], key: str) -> list[str]:
    return [dict(record.headers)["ce_id"].decode() for record in records if record.key.decode() == key]


async def told(engine: AsyncEngine, hub: str, key: str) -> list[str]:
    """Return the ids of a hub's events about a person, in order, without repeats."""
    async with engine.connect() as tx:
        found = await packets.published(tx, "router", hub_case(hub))
    return [
        dict(one.message.headers)["ce_id"].decode()
        for one in found
        if one.message.person_key == key and not one.republished
    ]


async def all_is_published(engine: AsyncEngine) -> None:
    await until(engine, "select count(*) from router.packet where published_at is null", 0)
    await until(engine, "select count(*) from router.packet_held", 0)


async def test_a_corrected_poison_record_and_waiting_records_reach_the_hub_once_and_in_order(
    environment: dict[str, str], bootstrap: str, engine: AsyncEngine, tmp_path: Path
) -> None:
    key, other = uuid.uuid4().hex, uuid.uuid4().hex
    poor, fine = Reference(f"LB-{key[:8]}-A"), Reference(f"LB-{key[:8]}-B")
    good = a_record(received(poor, a_referral()), id=f"{key}-1", key=key)
    poison = broken(good, good.value.replace(b'"version":1', b'"version":"one"'))
    sent = [
        poison,
        a_record(updated(poor, a_referral(needs=a_form().needs)), id=f"{key}-2", key=key),
        a_record(received(fine, a_form()), id=f"{key}-3", key=key),
        a_record(received(Reference(f"LB-{other[:8]}"), a_referral()), id=f"{other}-1", key=other),
        a_record(cancelled(poor, version=3), id=f"{key}-4", key=key),
    ]
    (tmp_path / "edit.json").write_bytes(good.value)
    async with two_routers(environment):
        await publish(bootstrap, sent)
        await until(engine, "select count(*) from router.dead_letter", 3)
        await until(engine, "select count(*) from router.referral", 2)
        listed = json.loads((await asyncio.to_thread(run, "quarantine", "list", "--json")).stdout)
        assert [row["state"] for row in listed] == ["open", "waiting", "waiting"]

        edit = ("--edit", str(tmp_path / "edit.json"), "--who", "A. Operator", "--why", "a version in words")
        came = await lightbulb("quarantine", "resubmit", listed[0]["id"], *edit, "--wait", "60")
        assert [row["state"] for row in came["now"]] == ["applied"]
        await until(engine, "select count(*) from router.dead_letter where resolved_at is null", 0)
        last = a_record(received(Reference(f"LB-{key[:8]}-C"), a_form()), id=f"{key}-5", key=key)
        await publish(bootstrap, [*sent, last])  # as a group reads again that had not committed
        again = await lightbulb("quarantine", "resubmit", listed[0]["id"])
        assert [one["because"] for one in again["planned"]] == ["already applied"]
        await until(engine, "select count(*) from router.referral", 4)
        await all_is_published(engine)

    applied = await rows(engine, f"select id from router.input where person_key = '{key}' order by position")
    assert [name for (name,) in applied] == [f"{key}-{number}" for number in (3, 1, 2, 4, 5)]
    records = await heard(bootstrap, hub_case("blaby"), [key, other])
    for person in (key, other):
        once = await told(engine, "blaby", person)
        assert len(set(once)) == len(once)
        assert list(dict.fromkeys(ids(records, person))) == once
    versions = [json.loads(r.value)["hub_version"] for r in records if r.key.decode() == key]
    assert list(dict.fromkeys(versions)) == list(range(1, max(versions) + 1))


async def test_events_deleted_from_a_hubs_topic_are_republished_to_that_hub_only(
    environment: dict[str, str], bootstrap: str, engine: AsyncEngine
) -> None:
    here, there = [uuid.uuid4().hex for _ in range(3)], uuid.uuid4().hex
    first = [a_record(received(_reference(key), a_referral(postcode=AT_MELTON)), key=key) for key in here]
    second = [
        a_record(updated(_reference(key), a_referral(postcode=AT_MELTON, needs=a_form().needs)), key=key)
        for key in here
    ]
    async with two_routers(environment):
        await publish(bootstrap, first)
        await publish(
            bootstrap, [*second, a_record(received(_reference(there), a_referral(postcode=AT_CHARNWOOD)), key=there)]
        )
        await until(engine, "select count(*) from router.input", 7)
        await all_is_published(engine)
        before = {key: await told(engine, "melton", key) for key in here}
        await _retention_passes(bootstrap, hub_case("melton"))
        assert await heard(bootstrap, hub_case("melton"), here) == []
        elsewhere = {topic: await _ends(bootstrap, topic) for topic in (hub_case("charnwood"), CASE_EVENT)}

        asked = ("republish", "--hub", "melton", "--since", "2026-01-01")
        assert (await lightbulb(*asked, "--dry-run"))["events"] == sum(map(len, before.values()))
        assert await heard(bootstrap, hub_case("melton"), here) == []
        await lightbulb(*asked, "--who", "A. Operator", "--why", "melton was away for two months")
        await all_is_published(engine)
        again = await heard(bootstrap, hub_case("melton"), here)
        assert {key: list(dict.fromkeys(ids(again, key))) for key in here} == before
        assert all(len(found) == 2 for found in before.values())
        assert {topic: await _ends(bootstrap, topic) for topic in elsewhere} == elsewhere

        await publish(bootstrap, [a_record(cancelled(_reference(here[0]), version=3), key=here[0])])
        await until(engine, "select count(*) from router.input", 8)
        await all_is_published(engine)
    after = list(dict.fromkeys(ids(await heard(bootstrap, hub_case("melton"), here), here[0])))
    assert after[:2] == before[here[0]]
    assert len(after) == 3


def _reference(key: str) -> Reference:
    return Reference(f"LB-{key[:12]}")


async def _ends(bootstrap: str, topic: str) -> list[int]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(12 if topic == CASE_EVENT else 3)]
        found = await consumer.end_offsets(partitions)
        return [found[one] for one in partitions]
    finally:
        await consumer.stop()


async def _retention_passes(bootstrap: str, topic: str) -> None:
    """Kafka deletes what is older than the topic keeps; here at once."""
    ends = await _ends(bootstrap, topic)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_records(
            {TopicPartition(topic, number): RecordsToDelete(before_offset=end) for number, end in enumerate(ends)}
        )
    finally:
        await admin.close()
