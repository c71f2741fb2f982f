"""The notifier as processes on Kafka and PostgreSQL, of which one is killed."""

import asyncio
import os
import signal
import socket
import sys
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession
from aiokafka import AIOKafkaProducer
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.local.embedded import ports_and_secrets
from schemas.events import Event
from schemas.topics import CASE_EVENT, FEEDBACK_EVENT, declared
from services.messaging import broker, dead_letters
from services.messaging.cloudevents import headers_of, value_of
from services.messaging.dead_letters import DeadLetter
from services.reference import partners
from tests.notifier.builders import GP, GP_MAILBOX, a_life, as_records, by_gp
from tests.notifier.gp_system import GpSystem
from tests.notifier.running import until, until_rows

REFERRALS = 60


@pytest.fixture
async def bootstrap(request: pytest.FixtureRequest) -> str:
    address = os.environ.get("LIGHTBULB_KAFKA") or str(request.getfixturevalue("kafka"))
    topics = [topic for topic in declared([]) if topic.name in (CASE_EVENT, FEEDBACK_EVENT)]
    await broker.create_topics(address, topics, replication=1)
    return address


@asynccontextmanager
async def a_process(environment: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.notifier.app", env={**os.environ, **environment}, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.communicate(), 30)


@pytest.fixture
def environment(bootstrap: str, database_url: str, gp: GpSystem, tmp_path: Path) -> dict[str, str]:
    ports_and_secrets.secret(tmp_path / "secret")
    ports_and_secrets.write(tmp_path / "token", "the-gps-token\n")
    (tmp_path / "deployment.yaml").write_text(f"""
partners:
  {GP}: {{feedback_url: "{gp.url}", feedback_token_file: {tmp_path / "token"}}}
  {GP_MAILBOX}: {{token_sha256: ["{partners.hash_of("castle")}"]}}
""")
    return {
        "LIGHTBULB_DATABASE": database_url,
        "LIGHTBULB_KAFKA": bootstrap,
        "LIGHTBULB_SECRET_FILE": str(tmp_path / "secret"),
        "LIGHTBULB_STOP_DELAY_SECONDS": "0",
        "LIGHTBULB_DEPLOYMENT": str(tmp_path / "deployment.yaml"),
        "LIGHTBULB_HTTP_PORT": str(_free_port()),
        "LIGHTBULB_LOG_LEVEL": "DEBUG",
    }


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


async def publish(bootstrap: str, events: Sequence[Event]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    await producer.start()
    for event in events:
        headers = [(name, value.encode()) for name, value in headers_of(event).items()]
        await producer.send_and_wait(CASE_EVENT, value_of(event), key=event.person_key.encode(), headers=headers)
    await producer.stop()


async def test_a_running_notifier_delivers_feedback_about_a_resubmitted_event(
    environment: dict[str, str], engine: AsyncEngine, gp: GpSystem
) -> None:
    [_, assigned, *_] = as_records(a_life(by_gp(reference=f"LB-{uuid.uuid4().hex[:6]}"), "asked-for", uuid.uuid4().hex))
    async with engine.begin() as tx:
        await dead_letters.add(
            tx, "notifier", [DeadLetter(assigned, (assigned.key or b"").decode(), ("LB-1",), "KeyError")]
        )
        await tx.execute(text("update notifier.dead_letter set resubmit_at = now()"))
    async with a_process(environment):
        await until_rows(engine, "select * from notifier.dead_letter where resolution = 'applied'", 1, 60)
        accepted = await until_rows(engine, "select * from notifier.feedback where state = 'accepted'", 1, 60)
    assert len(accepted) == 1


@pytest.mark.slow
async def test_two_processes_of_which_one_is_killed_deliver_all_feedback_once_and_in_order(
    environment: dict[str, str], bootstrap: str, engine: AsyncEngine, gp: GpSystem
) -> None:
    run = uuid.uuid4().hex[:6]
    lives = [
        a_life(by_gp(reference=f"LB-{run}-{number:03}"), f"{run}-{number}", uuid.uuid4().hex)
        for number in range(REFERRALS)
    ]
    first, rest = [event for life in lives for event in life[:2]], [event for life in lives for event in life[2:]]
    ours = f"select * from notifier.feedback where reference like 'LB-{run}-%' and state = 'accepted'"
    async with a_process(environment) as one, a_process(environment) as two:
        await publish(bootstrap, first)
        await until(lambda: len(gp.kept) >= REFERRALS // 3, 60)
        one.kill()
        await publish(bootstrap, rest)
        await until_rows(engine, ours, 2 * REFERRALS, 120)
        assert two.returncode is None
    told = _told_by_referral(gp, run)
    assert len(told) == REFERRALS
    assert all(order == ["home-hub", "completed"] for order in told.values())
    assert gp.faults == []
    assert {headers["authorization"] for headers, _ in gp.received} == {"Bearer the-gps-token"}


def _told_by_referral(gp: GpSystem, run: str) -> dict[str, list[str]]:
    told: dict[str, list[str]] = {}
    for body, what in zip(gp.kept.values(), gp.told, strict=True):
        start = body.find(f"LB-{run}-".encode())
        if start >= 0:
            told.setdefault(body[start : start + 13].decode(), []).append(what)
    return told


async def test_stored_feedback_can_be_fetched_from_either_process_on_one_port(
    environment: dict[str, str], bootstrap: str, engine: AsyncEngine
) -> None:
    reference = f"LB-{uuid.uuid4().hex[:8]}"
    url = f"http://127.0.0.1:{environment['LIGHTBULB_HTTP_PORT']}/referrals/{reference}/feedback"
    async with a_process(environment), a_process(environment), ClientSession() as session:
        await publish(bootstrap, a_life(by_gp(GP_MAILBOX, reference=reference), reference, uuid.uuid4().hex))
        await until_rows(engine, f"select * from notifier.feedback where reference = '{reference}'", 2, 60)
        for _ in range(4):
            async with session.get(url, headers={"Authorization": "Bearer castle", "Connection": "close"}) as answer:
                assert [one["feedback_type"] for one in await answer.json()] == ["home-hub", "completed"]
        await until_rows(engine, "select * from notifier.packet where messages > 0 and published_at is not null", 1, 60)


async def test_notifier_logs_contain_no_personal_data(
    environment: dict[str, str], bootstrap: str, engine: AsyncEngine, gp: GpSystem
) -> None:
    run = uuid.uuid4().hex[:6]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.notifier.app", env={**os.environ, **environment}, stderr=asyncio.subprocess.PIPE
    )
    await publish(bootstrap, a_life(by_gp(reference=f"LB-{run}"), run, uuid.uuid4().hex))
    await until_rows(
        engine, f"select * from notifier.feedback where reference = 'LB-{run}' and state = 'accepted'", 2, 60
    )
    process.send_signal(signal.SIGTERM)
    _, logged = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0
    assert b"notifier_starting" in logged
    for secret in (b"Vantongeren", b"9990000018", b"1946-02-01", b"the-gps-token", b"Asha"):
        assert secret not in logged


async def test_notifier_exits_with_1_and_names_the_missing_setting(environment: dict[str, str]) -> None:
    """Settings that the router has too are tested there."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.notifier.app",
        env={**os.environ, **environment, "LIGHTBULB_MESH_URL": "http://127.0.0.1:9"},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 1
    assert "LIGHTBULB_MESH_URL" in said.decode()
    assert "Traceback" not in said.decode()
