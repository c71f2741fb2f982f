"""A service waits at start for what may come, says what it lacks meanwhile, and refuses at once what a person has to change."""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any

import aiohttp
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.local.embedded import ports_and_secrets
from schemas.topics import Topic
from services.messaging import broker
from services.runtime import StartupError, startup
from services.runtime.settings import Settings
from services.runtime.startup import Check, DatabaseRefuses
from tests.messaging.pooler import Pooler


async def lacking(url: str) -> list[str]:
    return await startup._lacking({"database": [partial(startup.check_database, url, "tried")]})


# ---- the database -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"password": "wrong"}, "refuses the user or password"),
        ({"username": "nobody_of_that_name"}, "refuses the user or password"),
        ({"database": "no_such_database"}, "no database of that name"),
    ],
)
async def test_what_waiting_cannot_change_is_refused_at_once(
    engine: AsyncEngine, database: str, changed: dict[str, str], named: str
) -> None:
    url = make_url(database).set(**changed).render_as_string(hide_password=False)  # type: ignore[arg-type]
    with pytest.raises(DatabaseRefuses, match=named) as refused:
        await lacking(url)
    assert "wrong" not in str(refused.value)


async def test_a_schema_that_is_not_there_yet_is_waited_for(database: str) -> None:
    with_schema = await startup._lacking({"database": [partial(startup.check_database, database, "not_migrated")]})
    assert "run `lightbulb migrate`" in with_schema[0]


async def test_a_database_that_can_be_written_is_enough(engine: AsyncEngine, database: str) -> None:
    assert await lacking(database) == []


async def test_a_database_that_is_read_only_is_waited_for(engine: AsyncEngine, database: str) -> None:
    name = make_url(database).database
    async with engine.begin() as tx:
        await tx.execute(text(f"alter database {name} set default_transaction_read_only = on"))
    try:
        assert await lacking(database) == ["database: sqlstate 25006"]
    finally:
        async with engine.begin() as tx:
            await tx.execute(text(f"alter database {name} reset default_transaction_read_only"))
    assert await lacking(database) == []


# ---- poolers ----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def settings_of_the_database(engine: AsyncEngine, database: str) -> AsyncIterator[None]:
    """What a session has even if a pooler drops what the client asks for."""
    name, settings = make_url(database).database, startup.database.session_settings(database)
    async with engine.begin() as tx:
        for setting, value in settings.items():
            await tx.execute(text(f"alter database {name} set {setting} = '{value}'"))
    yield
    async with engine.begin() as tx:
        await tx.execute(text(f"alter database {name} reset all"))


async def test_a_pooler_that_refuses_session_settings_is_refused_by_name(engine: AsyncEngine, database: str) -> None:
    async with Pooler(database, ignores_settings=False).running() as url:
        with pytest.raises(DatabaseRefuses, match="pooler such as pgbouncer that refuses session settings"):
            await lacking(url)


async def test_a_pooler_that_drops_session_settings_is_refused_by_name(engine: AsyncEngine, database: str) -> None:
    async with Pooler(database, ignores_settings=True).running() as url:
        with pytest.raises(DatabaseRefuses, match="pooler such as pgbouncer that does not pass session settings"):
            await lacking(url)


async def test_a_pooler_in_transaction_mode_is_refused_by_name(
    engine: AsyncEngine, database: str, settings_of_the_database: None
) -> None:
    async with Pooler(database, ignores_settings=True).running() as url:
        with pytest.raises(DatabaseRefuses, match="pooler such as pgbouncer in transaction mode: sessions share"):
            await lacking(url)


# ---- the topics -------------------------------------------------------------------------------------------------------


async def test_missing_topics_are_waited_for_and_topics_that_differ_are_refused(bootstrap: str, topic: str) -> None:
    def check(*topics: Topic) -> startup.Checks:
        return {"kafka": [partial(broker.check_topics, bootstrap, topics, replication=1)]}

    assert await startup._lacking(check(Topic(topic, 3))) == []
    found = await startup._lacking(check(Topic(topic, 3), Topic("not.there", 1)))
    assert found == ["kafka: Topics are not as declared: not.there: missing; run `lightbulb migrate`."]
    with pytest.raises(
        broker.TopicsDiffer, match=r"partitions is 3, declared 2\. See docs/operate.md, Topics that differ"
    ):
        await startup._lacking(check(Topic(topic, 2), Topic("not.there", 1)))


# ---- a process --------------------------------------------------------------------------------------------------------


async def get(port: int, path: str) -> tuple[int, Mapping[str, str], str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as response:
        return response.status, response.headers, await response.text()


async def test_every_service_waits_for_its_servers_and_says_what_it_lacks(environment: dict[str, str]) -> None:
    services = ("intake", "router", "notifier")
    ports = ports_and_secrets.free_ports(6)
    async with contextlib.AsyncExitStack() as stack:
        for service, http, apart in zip(services, ports[:3], ports[3:], strict=True):
            told = {
                "LIGHTBULB_HTTP_PORT": str(http),
                "LIGHTBULB_METRICS_PORT": str(apart),
                "LIGHTBULB_STOP_DELAY_SECONDS": "0",
            }
            started = await asyncio.create_subprocess_exec(
                sys.executable, "-m", f"services.{service}.app", env=environment | told, stderr=asyncio.subprocess.PIPE
            )
            stack.push_async_callback(_ends_well, started)
        for service, http, apart in zip(services, ports[:3], ports[3:], strict=True):
            for port in (apart,) if service == "router" else (http, apart):
                await _waits(port)


async def _waits(port: int) -> None:
    lacks: list[str] = []
    async with asyncio.timeout(60):
        while len(lacks) < 2:
            with contextlib.suppress(aiohttp.ClientError):
                status, _, body = await get(port, "/health/ready")
                assert status == 503
                lacks = json.loads(body)["unavailable"]
            await asyncio.sleep(0.1)
    assert [lack.partition(":")[0] for lack in lacks] == ["database", "kafka"]
    assert (await get(port, "/health/live"))[0] == 200
    status, headers, _ = await get(port, "/forms/first-contact-plus")
    assert (status, headers["retry-after"]) == (503, "5")


async def _ends_well(started: asyncio.subprocess.Process) -> None:
    started.send_signal(signal.SIGTERM)
    _, said = await asyncio.wait_for(started.communicate(), 30)
    lines = [json.loads(line) for line in said.splitlines()]
    assert started.returncode == 0
    assert [line["event"] for line in lines].count("waiting_to_start") == 1
    assert not [line for line in lines if line["event"].startswith("client library")]


async def test_a_process_that_shares_its_port_leaves_the_connections_to_the_other_while_it_waits() -> None:
    lacks, [port] = [True], ports_and_secrets.free_ports(1)

    async def check() -> None:
        if lacks:
            raise ConnectionError

    chosen = Settings(
        database="postgresql+asyncpg://unused",
        kafka="unused",
        secret_file="/dev/null",
        http_port=port,
        stop_delay_seconds=0,
    )
    async with startup.ready(chosen, {}) as works:
        works.show(_well, _well)
        async with asyncio.TaskGroup() as group:
            second = group.create_task(_until_ready(chosen, check))
            for _ in range(20):
                assert (await get(port, "/"))[0] == 200
            assert not second.done()
            lacks.clear()


async def _until_ready(chosen: Settings, check: Check) -> None:
    async with startup.ready(chosen, {"database": [check]}):
        pass


async def _well(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def test_it_logs_what_is_lacking_at_once_and_then_once_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(startup, "PAUSE_SECONDS", 0.001)
    said, rounds = [], iter(range(10))
    monkeypatch.setattr(startup.log, "warning", lambda event, **more: said.append((event, more)))

    async def check() -> None:
        if next(rounds, None) is not None:
            raise TimeoutError

    await startup._until_passed({"kafka": [check]}, startup.WaitingPages(5))
    assert said == [("waiting_to_start", {"unavailable": ["kafka: TimeoutError"]})]
    monkeypatch.setattr(startup, "LOG_SECONDS", 0.0)
    rounds = iter(range(3))
    await startup._until_passed({"kafka": [check]}, startup.WaitingPages(5))
    assert len(said) == 4


async def test_an_error_that_nobody_thought_of_is_waited_for_and_a_refusal_is_raised() -> None:
    async def surprises() -> None:
        raise KeyError("a value")

    async def refuses() -> None:
        raise StartupError("why")

    assert await startup._lacking({"database": [surprises]}) == ["database: KeyError"]
    with pytest.raises(StartupError, match="why"):
        await startup._lacking({"database": [surprises], "kafka": [refuses]})


async def test_an_error_at_work_ends_a_process_with_its_kind_and_place_and_without_its_text(
    environment: dict[str, str],
) -> None:
    code = "from services.runtime import process\nasync def main(_):\n    raise KeyError('Vickers')\nprocess.run('router', main)"
    ran = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, env=environment, stderr=asyncio.subprocess.PIPE
    )
    _, said = await asyncio.wait_for(ran.communicate(), 30)
    [line] = [json.loads(line) for line in said.splitlines()]
    assert ran.returncode == 1
    assert (line["event"], line["reason"]) == ("ended_by_error", "KeyError")
    assert "main" in line["at"]
    assert b"Vickers" not in said
