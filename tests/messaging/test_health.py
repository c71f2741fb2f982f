"""Health and metrics report the state of a service without personal data."""

import asyncio
import json
import re

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.messaging import dead_letters
from services.messaging.cloudevents import KafkaRecord
from services.messaging.dead_letters import DeadLetter
from services.messaging.outbox import OutboxMessage
from services.messaging.relay import Relay
from services.runtime import backlog
from services.runtime.backlog import BacklogMonitor
from services.runtime.settings import Settings
from tests.faulty_database import make_sessions_read_only, read_only_server
from tests.messaging.running import an_event, answer, drained, publish, put, running, value


async def test_ready_names_the_unavailable_server(engine: AsyncEngine) -> None:
    assert (await answer("/health/live", engine))[0] == 200
    assert (await answer("/health/ready", engine))[0] == 200
    status, body = await answer("/health/ready", engine, ("kafka",))
    assert (status, json.loads(body)["unavailable"]) == (503, ["kafka"])


async def test_http_responses_are_counted_by_status(engine: AsyncEngine) -> None:
    before = value("lightbulb_http_responses_total", status="503") or 0
    await answer("/health/ready", engine, ("kafka",))
    assert value("lightbulb_http_responses_total", status="503") == before + 1


async def test_one_measurement_has_lag_outbox_and_dead_letters(
    engine: AsyncEngine, database: str, bootstrap: str, topic: str
) -> None:
    settings = Settings(database=database, kafka=bootstrap, secret_file="/dev/null")
    await publish(bootstrap, topic, [b"1", b"2", b"3"])
    await put(engine, OutboxMessage(topic, an_event()), OutboxMessage("no.such.topic", an_event()))
    async with engine.begin() as tx:
        records = [KafkaRecord(topic, 0, offset, b"k", b"v", ()) for offset in range(2)]
        reasons = ["decision: KeyError", "referral.person.birth_date: date_parsing"]
        await dead_letters.add(
            tx,
            "tried",
            [DeadLetter(one, "k", (str(one.offset),), reason) for one, reason in zip(records, reasons, strict=True)],
        )
    looking = BacklogMonitor(settings, "tried", group=f"nobody-{topic}", topics=[topic])
    async with asyncio.timeout(30):
        while (
            seen := await looking.poll()
        ).unreachable:  # a broker that nobody has asked for a group makes its own topic first
            await asyncio.sleep(0.1)
    await looking.close()
    assert seen.publishable == 1, "the other topic does not exist"
    assert value("lightbulb_consumer_lag_records", topic=topic) == 3
    assert 0 < (value("lightbulb_consumer_oldest_age_seconds", topic=topic) or 0) < 60
    assert value("lightbulb_outbox_unpublished") == 2
    assert (value("lightbulb_outbox_oldest_age_seconds") or 0) > 0
    assert (
        value("lightbulb_dead_letters", reason="decision") == value("lightbulb_dead_letters", reason="unreadable") == 1
    )


async def test_an_unavailable_server_is_reported_and_so_is_its_return(
    engine: AsyncEngine, database: str, bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "POLL_TIMEOUT_SECONDS", 2.0)
    nowhere = Settings(database=database, kafka="127.0.0.1:1", secret_file="/dev/null")
    looking = BacklogMonitor(nowhere, "tried")
    assert (await looking.poll()).unreachable == ["kafka"]
    assert value("lightbulb_dependency_up", dependency="kafka") == 0
    assert looking.unmet_conditions() == ["kafka"]
    looking._kafka._bootstrap = bootstrap
    assert (await looking.poll()).unreachable == []
    assert value("lightbulb_dependency_up", dependency="kafka") == 1
    await looking.close()


async def test_the_database_is_there_only_if_it_takes_writes_of_the_sessions_that_work_and_of_a_new_one(
    engine: AsyncEngine, database: str, bootstrap: str
) -> None:
    looking = BacklogMonitor(Settings(database=database, kafka=bootstrap, secret_file="/dev/null"), "tried")
    assert (await looking.poll()).unreachable == []
    async with read_only_server(engine):
        assert (await looking.poll()).unreachable == ["database"]
        await make_sessions_read_only(engine)
        assert [(await answer("/health/ready", engine))[0] for _ in range(2)] == [503, 503]
    assert (await looking.poll()).unreachable == []
    await looking.close()
    assert (await answer("/health/ready", engine))[0] == 200
    await make_sessions_read_only(engine)
    assert [(await answer("/health/ready", engine))[0] for _ in range(2)] == [503, 200], "the sessions are replaced"


async def test_the_relay_counts_acknowledged_records(engine: AsyncEngine, bootstrap: str, topic: str) -> None:
    before = value("lightbulb_outbox_published_total") or 0
    await put(engine, *(OutboxMessage(topic, an_event("person", number)) for number in range(1, 4)))
    async with running(Relay(engine, "tried", bootstrap)):
        await drained(engine)
    assert value("lightbulb_outbox_published_total") == before + 3


async def test_every_metric_has_our_prefix_and_no_label_is_a_key_or_a_reference(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        assert await connection.scalar(text("select 1")) == 1
    _, page = await answer("/metrics", engine)
    samples = [line for line in page.splitlines() if line and not line.startswith("#")]
    assert samples
    assert all(line.startswith("lightbulb_") for line in samples)
    assert not re.search(r"\b[0-9a-f]{32}\b|LB-[0-9A-Z]{4}-|\b\d{10}\b(?!\.)", re.sub(r"\} .*", "}", page))


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("decision: KeyError", "decision"),
        ("compose: ValueError", "compose"),
        (dead_letters.WAITING, "waiting"),
        ("sqlstate 22P05 constraint", "database"),
        ("referral.person.birth_date: date_parsing; headers: x", "unreadable"),
        ("RecursionError", "other"),
    ],
)
def test_reasons_of_dead_letters_have_few_classes(reason: str, kind: str) -> None:
    assert backlog.kind_of(reason) == kind
