"""What may go wrong between the sender and the commit: each ends with one referral, or none and a sender who knows."""

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer
from sqlalchemy.ext.asyncio import AsyncEngine

from schemas import topics
from services.intake import limits, store
from services.messaging import broker
from services.runtime import database
from tests.builders.bars import a_bars_message
from tests.builders.forms import a_form
from tests.faulty_database import away_for_a_moment, make_sessions_read_only
from tests.intake.fake_hl7_engine import until_in_hand
from tests.intake.proxy import Wire
from tests.intake.running import (
    CHECKOUT,
    InProcess,
    Installation,
    Processes,
    events,
    install,
    published,
    reference_of,
    rows,
)


@pytest.fixture
async def with_kafka(database_url: str, tmp_path: Path, kafka: str) -> Installation:
    await broker.create_topics(kafka, topics.declared(()), replication=1)
    return install(database_url, tmp_path, kafka=kafka)


async def test_a_database_outage_is_503_immediately_and_nothing_is_stored(
    installation: Installation, database_url: str, engine: AsyncEngine
) -> None:
    async with Wire(database_url) as wire:
        through = database.connect(wire.url)
        async with InProcess(installation, through) as intake:
            assert (await intake.bars(a_bars_message())).status == 200
            await wire.cut()
            began = time.monotonic()
            message, form = a_bars_message(), a_form()
            for reply in await asyncio.gather(intake.bars(message), intake.form(form)):
                assert reply.status == 503
                assert reply.headers["retry-after"]
            assert time.monotonic() - began < 5
            assert (await intake.get("/health/ready")).status == 503
            assert (await intake.get("/health/live")).status == 200
            await wire.mend()
            assert len(await rows(engine, "select 1 from intake.message")) == 1
            assert (await _sent_until_taken(intake, message)) == 200
        await through.dispose()


async def _sent_until_taken(intake: InProcess, message: object) -> int:
    for _ in range(20):
        reply = await intake.bars(message)
        if reply.status != 503:
            return reply.status
    return 503


async def test_a_database_that_refuses_for_a_moment_is_503_and_nothing_is_refused(
    intake: InProcess, engine: AsyncEngine
) -> None:
    """A table that is renamed, then sessions that are read-only: the message is accepted as soon as both have passed."""
    message, form = a_bars_message(), a_form()
    async with away_for_a_moment(engine, "intake", "referral"):
        refused = await asyncio.gather(intake.bars(message), intake.form(form))
    await make_sessions_read_only(engine)
    refused.append(await intake.bars(message))
    assert [(reply.status, "retry-after" in reply.headers) for reply in refused] == [(503, True)] * 3
    assert (await intake.get("/health/ready")).status == 200, "the sessions were replaced"
    taken = await asyncio.gather(intake.bars(message), intake.form(form))
    assert [reply.status for reply in taken] == [200, 202]


async def test_a_race_that_is_lost_in_every_attempt_is_503_and_refuses_nothing(
    intake: InProcess, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def loses(*_: object) -> None:
        attempts.append(1)
        raise store.ConcurrentUpdate

    attempts: list[int] = []
    with monkeypatch.context() as patched:
        patched.setattr(store, "insert_keys", loses)
        assert (await intake.bars(a_bars_message())).status == 503
    assert len(attempts) == limits.COMMIT_ATTEMPTS
    assert await rows(engine, "select 1 from intake.message") == []


async def test_a_commit_whose_answer_is_lost_is_503_and_the_retry_is_a_duplicate_with_the_reference(
    installation: Installation, database_url: str, engine: AsyncEngine
) -> None:
    async with Wire(database_url) as wire:
        through = database.connect(wire.url)
        async with InProcess(installation, through) as intake:
            wire.drops_the_answer_to_commit = True
            message = a_bars_message()
            assert (await intake.bars(message)).status == 503
            assert wire.dropped == 1
            wire.drops_the_answer_to_commit = False
            reply = await intake.bars(message)
            assert reply.status == 409
            assert reply.json()["issue"][0]["code"] == "duplicate"
            assert len(await events(engine, reference_of(reply))) == 1
        await through.dispose()


async def test_a_database_that_does_not_answer_times_out_at_the_limit(intake: InProcess, engine: AsyncEngine) -> None:
    async with engine.begin() as holder:
        await holder.exec_driver_sql("lock table intake.referral in access exclusive mode")
        began = time.monotonic()
        reply = await intake.bars(a_bars_message())
    assert reply.status == 408
    assert reply.headers["retry-after"]
    assert time.monotonic() - began < 7


async def test_after_a_crash_between_commit_and_answer_the_retry_gets_the_reference(
    with_kafka: Installation, engine: AsyncEngine, processes: list[Processes]
) -> None:
    doomed = Processes(with_kafka, 0)
    processes.append(doomed)
    doomed.start(PYTHONPATH=str(CHECKOUT / "tests" / "intake" / "killed_after_commit"))
    await doomed.until_ready()
    message, request_id = a_bars_message(), str(uuid4())
    with pytest.raises(Exception, match=r"[Dd]isconnected|reset|payload"):
        await doomed.bars(message, x_request_id=request_id)
    (kept,) = await rows(engine, "select reference from intake.message")
    doomed.start()
    await doomed.until_ready()
    reply = await doomed.bars(message, x_request_id=request_id)
    assert reply.status == 409
    assert reference_of(reply) == kept.reference
    assert len(await published(engine)) == 1


async def test_two_processes_share_a_port_and_give_one_referral_one_reference_and_consecutive_versions(
    with_kafka: Installation, engine: AsyncEngine, processes: list[Processes]
) -> None:
    both = Processes(with_kafka, 2)
    processes.append(both)
    await both.until_ready()
    updates = [a_bars_message(referral_id="r-1", reason="update", family=f"Name{number}") for number in range(40)]
    repeats = [a_bars_message(seed="one", bundle_id="b-1", referral_id="r-2") for _ in range(20)]
    replies = await asyncio.gather(*(both.bars(message) for message in [*updates, *repeats]))
    assert len({reference_of(reply) for reply in replies[:40]}) == 1
    found = await events(engine, reference_of(replies[0]))
    assert [event["version"] for event in found] == list(range(1, 41))
    assert len({event["key"] for event in found}) == 1
    assert sorted(reply.status for reply in replies[40:]) == [200, *[409] * 19]
    assert both.log.read_text().count('"http_listening"') == 2


async def test_accepted_messages_arrive_on_kafka_once_and_in_order(
    with_kafka: Installation, engine: AsyncEngine, processes: list[Processes]
) -> None:
    both = Processes(with_kafka, 2)
    processes.append(both)
    await both.until_ready()
    first = await both.bars(a_bars_message(referral_id="k-1", sent_at="2026-11-05T09:00:00Z"))
    for number in range(5):
        sent_at = f"2026-11-05T10:0{number}:00Z"
        await both.bars(a_bars_message(referral_id="k-1", reason="update", family=f"N{number}", sent_at=sent_at))
    read = await _read(with_kafka.kafka, reference_of(first), 6)
    assert [version for version, _ in read] == [1, 2, 3, 4, 5, 6]
    (held,) = await rows(engine, "select person_key from intake.referral")
    assert {key for _, key in read} == {held.person_key}


async def _read(kafka: str, reference: str, number: int) -> list[tuple[int, str]]:
    """Version and key of this referral's records."""
    consumer = AIOKafkaConsumer(topics.REFERRAL_EVENT, bootstrap_servers=kafka, auto_offset_reset="earliest")
    await consumer.start()
    found: list[tuple[int, str]] = []
    try:
        async with asyncio.timeout(20):
            while len(found) < number:
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    read = [(json.loads(record.value), record.key.decode()) for record in records]
                    found += [(data["version"], key) for data, key in read if data["reference"] == reference]
    finally:
        await consumer.stop()
    return found


async def test_a_service_that_starts_before_its_database_waits_for_it(
    with_kafka: Installation, processes: list[Processes]
) -> None:
    async with Wire(with_kafka.database) as wire:
        await wire.cut()
        one = Processes(replace(with_kafka, database=wire.url), 1)
        processes.append(one)
        async with asyncio.timeout(60):
            while b"waiting_to_start" not in one.log.read_bytes():
                await asyncio.sleep(0.05)
        assert (await one.bars(a_bars_message())).status == 503
        await wire.mend()
        await one.until_ready()
        assert (await one.bars(a_bars_message())).status == 200
    assert "Traceback" not in one.log.read_text()


async def test_a_service_with_another_secret_does_not_start(
    with_kafka: Installation, engine: AsyncEngine, processes: list[Processes]
) -> None:
    await store.check_secret(engine, b"the secret that the database was made with")
    other = Processes(with_kafka, 1)
    processes.append(other)
    assert await asyncio.to_thread(other.started[0].wait, 30) == 1
    assert "LIGHTBULB_SECRET_FILE" in other.log.read_text()


async def test_a_graceful_stop_answers_the_messages_in_flight_and_says_before_that_it_is_not_ready(
    with_kafka: Installation, engine: AsyncEngine, processes: list[Processes]
) -> None:
    one = Processes(with_kafka, 0)
    processes.append(one)
    one.start(LIGHTBULB_STOP_DELAY_SECONDS="1.5")
    await one.until_ready()
    async with engine.begin() as holder:
        await holder.exec_driver_sql("lock table intake.message in access exclusive mode")
        sending = [asyncio.create_task(one.bars(a_bars_message())) for _ in range(20)]
        await until_in_hand(engine)
        stopping = asyncio.create_task(asyncio.to_thread(one.stop))
        async with asyncio.timeout(10):
            while await one.is_ready():
                await asyncio.sleep(0.05)
        sending.append(asyncio.create_task(one.bars(a_bars_message())))
    replies = await asyncio.gather(*sending)
    await stopping
    assert one.started[0].returncode == 0
    assert 200 in {reply.status for reply in replies} <= {200, 503}
    kept = await rows(engine, "select 1 from intake.message where verdict = 'received'")
    assert len(kept) >= sum(reply.status == 200 for reply in replies)


CANARIES = ("Verdigris", "9990000018", "9990000019", "0116 496 7777", "Malachite")


@pytest.mark.own_database
async def test_logs_at_debug_hold_no_personal_data(
    with_kafka: Installation, engine: AsyncEngine, processes: list[Processes]
) -> None:
    async with engine.begin() as tx:
        await tx.exec_driver_sql(
            "alter table intake.message_key add check (position('Malachite' in identifier_name) = 0)"
        )
    one = Processes(with_kafka, 0)
    processes.append(one)
    one.start(LIGHTBULB_LOG_LEVEL="DEBUG")
    await one.until_ready()
    patient = {"telecom": [{"system": "phone", "value": "0116 496 7777"}]}
    good = a_bars_message(family="Verdigris", patient=patient)
    sent = [
        good,
        good,
        a_bars_message(
            family="Malachite", request={"identifier": [{"system": "https://alder.example/ids", "value": "Malachite"}]}
        ),
        a_bars_message(family="Verdigris", nhs_number="9990000019"),
        a_bars_message(family="Verdigris", status="revoked"),
        b'{"resourceType": "Bundle", "Verdigris',
    ]
    statuses = [(await one.bars(message)).status for message in sent]
    statuses.append((await one.form(a_form(family_name="Verdigris", nhs_number="9990000019"))).status)
    assert statuses == [200, 409, 422, 400, 404, 400, 400]
    one.stop()
    said = one.log.read_text()
    assert "message_persist_failed" in said
    assert not [canary for canary in CANARIES if canary in said]
