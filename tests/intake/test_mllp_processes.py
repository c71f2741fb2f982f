"""MLLP of intake as it runs: several processes on one port, and a stop by signal."""

import asyncio
import random
import signal
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.local.embedded import ports_and_secrets
from infra.partner_simulators import mllp_client
from schemas import topics
from services.messaging import broker
from tests.builders.hl7v2 import a_ref_i12, a_stay, an_adt
from tests.intake.fake_hl7_engine import Engine, acknowledged, framed, give, until_in_hand
from tests.intake.running import Installation, Processes, events, install, rows


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


async def test_processes_apply_adt_and_updates_in_the_order_of_the_senders_clock(
    with_kafka: Installation, engine: AsyncEngine, processes: list[Processes]
) -> None:
    port, adt_port = ports_and_secrets.free_ports(2)
    give(with_kafka.folder / "deployment.yaml", {"uhl": {"mllp_port": port, "adt_mllp_port": adt_port}})
    both = Processes(with_kafka, 2)
    processes.append(both)
    await both.until_ready()
    (first,) = await mllp_client.exchange("127.0.0.1", port, a_stay(), 20)
    reference = acknowledged(first.decode())[1]
    moves = [an_adt("A02", ward=f"W{minute}", sent_at=f"202611061000{minute:02}") for minute in range(20)]
    ends = [
        an_adt("A03", ward="W19", sent_at="20261107100000", fields={"PV1-36": "51", "PV1-45": "20261107"}),
        an_adt("A13", ward="W19", sent_at="20261108100000"),
        an_adt("A03", ward="W19", sent_at="20261109100000", fields={"PV1-45": "20261109"}),
        an_adt("A31", ward="W19", sent_at="20261109110000", fields={"PID-13": "0116 496 0007"}),
    ]
    updates = [
        a_stay(
            trigger="I13",
            control_id=f"U{minute}",
            sent_at=f"202611060900{minute:02}",
            fields={"PID-13": f"0116 {minute}"},
        )
        for minute in range(10)
    ]
    waiting = [(adt_port, message) for message in (*moves, *ends)] + [(port, message) for message in updates]
    random.Random(13).shuffle(waiting)

    async def engine_of(number: int) -> None:
        for to, message in waiting[number::6]:
            (answer,) = await mllp_client.exchange("127.0.0.1", to, message, 20)
            assert acknowledged(answer.decode())[0] == "AA"

    await asyncio.gather(*map(engine_of, range(6)))
    published = await events(engine, reference)
    assert [event["version"] for event in published] == list(range(1, len(published) + 1))
    now = published[-1]["referral"]
    assert (now["hospital"]["ward"], now["discharged_on"]) == ("W19", "2026-11-09")
    assert now["hospital"].get("moved_to") is None
    assert now["person"]["phone"] == "0116 496 0007"
    verdicts = [row.verdict for row in await rows(engine, "select verdict from intake.message")]
    assert len(verdicts) == 1 + len(waiting)
    assert set(verdicts) <= {"received", "updated", "stale", "duplicate"}
