"""MLLP of intake as it runs: several processes on one port, and a stop by signal."""

import asyncio
import signal
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.local.embedded import ports_and_secrets
from infra.partner_simulators import mllp_client
from schemas import topics
from services.messaging import broker
from tests.builders.hl7v2 import a_ref_i12
from tests.intake.fake_hl7_engine import Engine, acknowledged, framed, give, until_in_hand
from tests.intake.running import Installation, Processes, install, rows


@pytest.fixture
async def with_kafka(database_url: str, tmp_path: Path, kafka: str) -> Installation:
    await broker.create_topics(kafka, topics.declared(()), replication=1)
    return install(database_url, tmp_path, kafka=kafka)


async def test_processes_share_a_port_and_answer_messages_in_flight_when_stopped(
    with_kafka: Installation, engine: AsyncEngine, processes: list[Processes]
) -> None:
    (port,) = ports_and_secrets.free_ports(1)
    give(with_kafka.folder / "deployment.yaml", {"uhl": {"mllp_port": port}})
    both = Processes(with_kafka, 2)
    processes.append(both)
    await both.until_ready()
    for accept, application, number in (("", "", 1), ("AL", "AL", 2), ("NE", "NE", 0)):
        answered_to = await mllp_client.exchange(
            "127.0.0.1", port, a_ref_i12(accept=accept, application=application), 20
        )
        assert len(answered_to) == number
    connections = [Engine(*await asyncio.open_connection("127.0.0.1", port)) for _ in range(12)]
    answers = await asyncio.gather(*(one.send(a_ref_i12()) for one in connections))
    assert {acknowledged(answer)[0] for answer in answers} == {"AA"}
    assert both.log.read_text().count('"mllp_listening"') == 2
    async with engine.begin() as holder:
        await holder.exec_driver_sql("lock table intake.message in access exclusive mode")
        for one in connections:
            await one.write(framed(a_ref_i12()))
        await until_in_hand(engine)
        for process in both.started:
            process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.3)
    answered = [frame for one in connections if (frame := await one.rest())]
    assert [await asyncio.to_thread(process.wait, 20) for process in both.started] == [0, 0]
    assert answered
    assert all(b"\rMSA|AA|" in frame and frame.endswith(b"\x1c\r") for frame in answered)
    assert len(await rows(engine, "select 1 from intake.message")) == 3 + 12 + len(answered)
