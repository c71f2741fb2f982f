"""The router as it runs: two processes on Kafka and PostgreSQL, one of them killed in the middle; and how it refuses to start."""

import asyncio
import json
import os
import signal
import sys
import uuid
from collections import defaultdict
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.local.embedded import ports_and_secrets
from schemas.events import Accept
from schemas.model import Reference
from schemas.topics import REFERRAL_EVENT, declared, hub_case
from services.messaging import broker
from services.messaging.cloudevents import KafkaRecord
from services.router.decide.transition import case_id_of
from services.runtime.watchdog import STALLED
from tests.builders.events import a_command, a_record, received
from tests.builders.reference_data import DIRECTORY
from tests.builders.referrals import a_form, a_referral
from tests.router.running import a_process, publish, until

PEOPLE = 150


@pytest.fixture
async def bootstrap(request: pytest.FixtureRequest) -> str:
    address = os.environ.get("LIGHTBULB_KAFKA") or str(request.getfixturevalue("kafka"))
    await broker.create_topics(address, declared([hub.id for hub in DIRECTORY.hubs]), replication=1)
    return address


@pytest.fixture
def environment(bootstrap: str, migrated: str, tmp_path: Path) -> dict[str, str]:
    ports_and_secrets.secret(tmp_path / "secret")
    return {
        "LIGHTBULB_DATABASE": migrated,
        "LIGHTBULB_KAFKA": bootstrap,
        "LIGHTBULB_SECRET_FILE": str(tmp_path / "secret"),
        "LIGHTBULB_HTTP_PORT": "0",
        "LIGHTBULB_STOP_DELAY_SECONDS": "0",
        "LIGHTBULB_LOG_LEVEL": "DEBUG",
    }


async def everything_on(bootstrap: str, topic: str) -> list[tuple[str, dict[str, bytes], dict[str, object]]]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
        partitions = partitions or [TopicPartition(topic, number) for number in range(12 if "event" in topic else 3)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        total = sum((await consumer.end_offsets(partitions)).values())
        found = []
        while len(found) < total:
            for batch in (await consumer.getmany(timeout_ms=500)).values():
                found += [(one.key.decode(), dict(one.headers), json.loads(one.value)) for one in batch]
        return found
    finally:
        await consumer.stop()


async def test_two_processes_of_which_one_is_killed_apply_all_records_once_and_number_events_without_gap(
    environment: dict[str, str], bootstrap: str, engine: AsyncEngine
) -> None:
    run = uuid.uuid4().hex[:8]
    keys = [uuid.uuid4().hex for _ in range(PEOPLE)]
    opened_by = [Reference(f"LB-{run}-{n}-A") for n in range(PEOPLE)]
    first = [a_record(received(r, a_referral()), id=f"{r}", key=k) for r, k in zip(opened_by, keys, strict=True)]
    second = [
        a_record(received(Reference(f"LB-{run}-{n}-B"), a_form()), id=f"{run}-b-{n}", key=key)
        for n, key in enumerate(keys)
    ]
    accepts = [
        a_command("blaby", Accept, case_id_of(key, by), id=f"{run}-c-{n}", key=key, expected_version=2)  # type: ignore[arg-type]
        for n, (key, by) in enumerate(zip(keys, opened_by, strict=True))
    ]
    applied = f"select count(*) from router.input where id like '%{run}-%'"  # other tests use the topic too
    async with a_process(environment) as one, a_process(environment) as two:
        await publish(bootstrap, first)
        await until(engine, applied.replace("count(*)", "least(count(*), 50)"), 50)
        one.kill()
        await publish(bootstrap, [*first, *second])
        await until(engine, applied, 2 * PEOPLE)
        await publish(bootstrap, [*accepts, *accepts])
        await until(engine, applied, 3 * PEOPLE)
        await until(engine, "select count(*) from router.packet where published_at is null", 0)
        assert two.returncode is None
    async with engine.connect() as connection:
        assert await connection.scalar(text("select count(*) from router.\"case\" where status = 'accepted'")) == PEOPLE
        assert (
            await connection.scalar(
                text(f"select count(*) from router.dead_letter where message_group like '%{run}-%'")
            )
            == 0
        )
    await assert_versions_without_gap(bootstrap, set(keys))


async def assert_versions_without_gap(bootstrap: str, keys: set[str]) -> None:
    """Repeats are allowed (the relay sends at least once), but no gap and no new version out of order."""
    versions: dict[str, list[int]] = defaultdict(list)
    for key, headers, data in await everything_on(bootstrap, hub_case("blaby")):
        if key in keys and b"command-refused" not in headers["ce_type"]:
            version = data["hub_version"]
            assert isinstance(version, int)
            if version not in versions[key]:
                versions[key].append(version)
    assert set(versions) == keys
    assert all(seen == [1, 2, 3] for seen in versions.values())


DIES = """
import os
from services.runtime import process
from services.messaging.relay import Relay
from services.router import app, consumer, store

async def never(self):
    import asyncio
    await asyncio.sleep(3600)

Relay.run = never  # nothing is published by this process
{patch}
process.run("router", app.main)
"""

AFTER_THE_COMMIT = """
apply = consumer.Batches._apply
async def and_die(self, records):
    await apply(self, records)
    os._exit(9)
consumer.Batches._apply = and_die
"""

IN_THE_MIDDLE = """
async def die(*_):
    os._exit(9)
store.append_history = die
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("patch", "kept"), [(AFTER_THE_COMMIT, 1), (IN_THE_MIDDLE, 0)], ids=["committed", "in the middle"]
)
async def test_events_of_a_process_killed_before_publishing_are_published_once_by_the_next(
    environment: dict[str, str], bootstrap: str, engine: AsyncEngine, patch: str, kept: int
) -> None:
    key = uuid.uuid4().hex
    applied = f"select count(*) from router.input where person_key = '{key}'"
    doomed = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        DIES.format(patch=patch),
        env={**os.environ, **environment},
        stderr=asyncio.subprocess.PIPE,
    )
    await publish(bootstrap, [a_record(received(Reference(f"LB-{key}"), a_referral()), id=key, key=key)])
    await asyncio.wait_for(doomed.communicate(), 60)
    assert doomed.returncode == 9
    await until(engine, applied, kept)
    async with a_process(environment):
        await until(engine, applied, 1)
        await until(engine, "select count(*) from router.packet where published_at is null", 0)
    heard = [
        data["hub_version"] for found, _, data in await everything_on(bootstrap, hub_case("blaby")) if found == key
    ]
    assert list(dict.fromkeys(heard)) == [1]
    sequences = [int(h["ce_sequence"]) for found, h, _ in await everything_on(bootstrap, "case.event") if found == key]
    assert sequences == [1]


async def test_a_running_router_applies_resubmitted_records_and_stores_its_directory(
    environment: dict[str, str], bootstrap: str, engine: AsyncEngine
) -> None:
    key = uuid.uuid4().hex
    good = a_record(received(Reference(f"LB-{key}"), a_referral()), id=key, key=key)
    async with a_process(environment), a_process(environment):
        await publish(bootstrap, [KafkaRecord(REFERRAL_EVENT, 0, 0, good.key, b"{}", good.headers)])
        await until(engine, f"select count(*) from router.dead_letter where person_key = '{key}'", 1)
        async with engine.begin() as tx:
            await tx.execute(
                text("""insert into router.dead_letter_edit (person_key, dead_letter_id, headers, value, operator, reason)
                        select person_key, id, headers, :value, 'w', 'y' from router.dead_letter where person_key = :key"""),
                {"key": key, "value": good.value},
            )
            await tx.execute(
                text("update router.dead_letter set resubmit_at = now() where person_key = :key"), {"key": key}
            )
        await until(engine, f"select count(*) from router.case_event where person_key = '{key}'", 1)
    async with engine.connect() as connection:
        kept = set(await connection.scalars(text("select version from router.directory_version")))
    assert DIRECTORY.version in kept


async def test_router_logs_contain_no_personal_data(
    environment: dict[str, str], bootstrap: str, engine: AsyncEngine
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.router.app", env={**os.environ, **environment}, stderr=asyncio.subprocess.PIPE
    )
    key = uuid.uuid4().hex
    poison = a_record(received(Reference(f"LB-{key}"), a_referral()), id=key, key=key)
    broken = KafkaRecord(REFERRAL_EVENT, 0, 0, poison.key, poison.value.replace(b'"1946', b'"x1946'), poison.headers)
    await publish(bootstrap, [poison, broken])
    await until(engine, f"select count(*) from router.dead_letter where person_key = '{key}'", 1, 60)
    process.send_signal(signal.SIGTERM)
    _, logged = await asyncio.wait_for(process.communicate(), 30)

    assert process.returncode == 0
    assert b"record_dead_lettered" in logged
    for secret in (b"Vickers", b"Violet", b"9990000026", b"1946-03-04", b"Any Street"):
        assert secret not in logged


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ({"LIGHTBULB_DATABASE": "mysql://x"}, "LIGHTBULB_DATABASE"),
        ({"LIGHTBULB_DIRECTORY": "/nowhere"}, "hubs.yaml"),
        ({"LIGHTBULB_REPLICATION": "3"}, "replication is 1, declared 3"),
    ],
)
async def test_router_exits_with_1_and_names_the_wrong_setting(
    environment: dict[str, str], changed: dict[str, str], names: str
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.router.app",
        env={**os.environ, **environment, **changed},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await asyncio.wait_for(process.communicate(), 60)

    assert process.returncode == 1
    assert names in said.decode()
    assert "Traceback" not in said.decode()


STANDS_STILL = """
import asyncio
from services.messaging import broker
from services.runtime import process
from services.router import app, consumer

async def never(self, records):
    await asyncio.Event().wait()

consumer.Batches.receive = never
broker.GRACEFUL_SECONDS = 0.1
process.run("router", app.main)
"""


async def test_a_stalled_router_exits_and_logs_which_loop_stalled(
    environment: dict[str, str], bootstrap: str, engine: AsyncEngine
) -> None:
    key = uuid.uuid4().hex
    await publish(bootstrap, [a_record(received(Reference(f"LB-{key}"), a_referral()), id=key, key=key)])
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        STANDS_STILL,
        env={**os.environ, **environment, "LIGHTBULB_STALL_SECONDS": "1"},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await asyncio.wait_for(process.communicate(), 60)

    assert process.returncode == STALLED
    assert b"task_stalled" in said
    assert b'"task": "consumer"' in said
