"""Transient faults are waited for: no record is skipped or dead-lettered, and health and metrics report the unavailable server."""

import asyncio
import json
from collections.abc import Sequence

import pytest
from aiokafka.errors import KafkaConnectionError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.messaging import broker, resubmit
from services.messaging.cloudevents import KafkaRecord
from services.messaging.outbox import OutboxMessage
from services.messaging.relay import Relay
from services.runtime import backlog, database
from services.runtime.backlog import BacklogMonitor
from services.runtime.settings import Settings
from tests.messaging.running import an_event, answer, put, running, unpublished, value

NOWHERE = "postgresql+asyncpg://nobody:none@127.0.0.1:1/none"

STATEMENTS = {
    "serialization": ["do $$ begin raise sqlstate '40001'; end $$"],
    "deadlock": ["do $$ begin raise sqlstate '40P01'; end $$"],
    "statement time-out": ["set local statement_timeout = '5ms'", "select pg_sleep(5)"],
    "no connection left": ["do $$ begin raise sqlstate '53300'; end $$"],
    "disk full": ["do $$ begin raise sqlstate '53100'; end $$"],
    "shut down": ["do $$ begin raise sqlstate '57P01'; end $$"],
}
ERRORS = {
    "time-out": (TimeoutError(), "timeout"),
    "broker away": (KafkaConnectionError(), "kafka"),
    "network": (ConnectionResetError(), "network"),
}


async def _raising(engine: AsyncEngine, name: str) -> None:
    if name in ERRORS:
        raise ERRORS[name][0]
    async with (database.connect(NOWHERE) if name == "database away" else engine).begin() as tx:
        for statement in STATEMENTS[name]:
            await tx.execute(text(statement))


def kind_of(name: str) -> str:
    return ERRORS[name][1] if name in ERRORS else "network" if name == "database away" else "database"


@pytest.mark.parametrize("name", [*STATEMENTS, *ERRORS, "database away"])
async def test_a_batch_is_retried_until_a_transient_fault_ends_and_the_fault_is_counted(
    engine: AsyncEngine, name: str
) -> None:
    """Through what a service does with a batch: in halves for what is wrong with a record, again for what passes."""
    seen: list[int] = []
    faults = iter([name])

    async def act(records: Sequence[KafkaRecord]) -> None:
        if found := next(faults, None):
            await _raising(engine, found)
        seen.extend(record.offset for record in records)

    async def refuse(record: KafkaRecord, reason: str) -> None:
        raise AssertionError(reason)

    before = value("lightbulb_batch_retries_total", error=kind_of(name)) or 0
    records = [KafkaRecord("t", 0, offset, b"k", b"", ()) for offset in range(3)]
    await broker._BatchHandler(lambda some: database.apply_with_bisection(some, act, refuse))._until_received(records)

    assert seen == [0, 1, 2]
    assert value("lightbulb_batch_retries_total", error=kind_of(name)) == before + 1


async def test_resubmission_counts_transient_faults_and_continues_after_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resubmit, "RESUBMIT_SECONDS", 0.001)
    before = value("lightbulb_batch_retries_total", error="network") or 0
    faults, done = iter([ConnectionResetError()]), asyncio.Event()

    async def release() -> int:
        if fault := next(faults, None):
            raise fault
        done.set()
        return 0

    going_on = asyncio.create_task(resubmit.run_resubmitter(release))
    await asyncio.wait_for(done.wait(), 10)
    going_on.cancel()
    assert value("lightbulb_batch_retries_total", error="network") == before + 1


async def test_while_kafka_is_unavailable_rows_wait_and_the_relay_logs_it(engine: AsyncEngine) -> None:
    before = value("lightbulb_outbox_publish_failures_total", error="kafka") or 0
    await put(engine, OutboxMessage("any", an_event()))
    async with running(Relay(engine, "tried", "127.0.0.1:1")), asyncio.timeout(30):
        while (value("lightbulb_outbox_publish_failures_total", error="kafka") or 0) <= before:
            await asyncio.sleep(0.02)
    assert await unpublished(engine) == 1


async def test_health_and_metrics_report_an_unavailable_database(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "POLL_TIMEOUT_SECONDS", 2.0)
    away = database.connect(NOWHERE)
    status, body = await answer("/health/ready", away)
    assert (status, json.loads(body)["unavailable"]) == (503, ["database"])

    looking = BacklogMonitor(Settings(database=NOWHERE, kafka="127.0.0.1:1", secret_file="/dev/null"), "tried")
    assert (await looking.poll()).unreachable == ["database", "kafka"]
    assert value("lightbulb_dependency_up", dependency="database") == 0
    await looking.close()
