"""After a restore: PostgreSQL put back to an older copy taken under load, or Kafka's data gone, and `lightbulb reconcile`."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.messages import BenchmarkMessage, messages
from infra.cli.terminal import CommandError
from infra.database import roles
from infra.local import installation
from infra.local.embedded import ports_and_secrets
from infra.local.installation import Installation, Plan
from infra.partner_simulators.hub import HubClient
from schemas.topics import declared
from services.messaging import packets
from services.messaging.packets import Place
from services.runtime import database
from tests.end_to_end.conftest import FHIR_JSON, HUBS, PRACTICE, HubAtWork
from tests.operations import database_copy
from tests.operations.command_line import run
from tests.router.stored import rows

pytestmark = pytest.mark.slow

STATE = {
    "referrals of intake": """
        select reference, partner, referral_id, person_key, version, content_hash, subject, cancelled, sent_at from intake.referral""",
    "names": "select partner, id_name, identifier_name, message_name, url_name, url_is_shared, reference from intake.message_key",
    "cases": 'select person_key, case_id, status, business_status, holder, home_hub, state from router."case"',
    "referrals": "select person_key, reference, case_id, status, version, state from router.referral",
    "keys": "select person_key, last_sequence from router.person_key",
}

HISTORY = "select person_key, sequence, id, packet, place from router.case_event"
FEEDBACK = "select person_key, feedback_id, recipient, ordinal, state, packet, place from notifier.feedback"

WAITS = " + ".join(
    f"(select count(*) from {schema}.packet where published_at is null) + (select count(*) from {schema}.packet_held)"
    for schema in ("intake", "router", "notifier")
)
"""How many packets wait to be published, and parts of packets."""


@dataclass
class Practice:
    """A practice's FHIR endpoint: what it was told, by the bytes' conversation and the request's id."""

    told: list[tuple[str, bytes]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        self.told.append((request.headers["X-Request-Id"], await request.read()))
        return web.Response(status=200)


@dataclass
class Drill:
    """An installation with its data in a folder: its services stop and start, and its servers stay."""

    plan: Plan
    running: Installation
    practice: Practice
    references: list[str] = field(default_factory=list)
    sent: list[BenchmarkMessage] = field(default_factory=list)

    @property
    def postgres(self) -> str:
        return str(self.running.addresses["postgres"])

    async def state(self) -> dict[str, list[Any]]:
        engine = database.connect(self.postgres, pool=1)
        try:
            found = {name: sorted(map(str, await rows(engine, query))) for name, query in STATE.items()}
            return found | await _pointed_at(engine)
        finally:
            await engine.dispose()

    async def hub_events(self) -> int:
        """Return how many events the router has published to hubs."""
        engine = database.connect(self.postgres, pool=1)
        try:
            async with engine.connect() as tx:
                found = [one.message for one in await packets.published(tx, "router")]
            return len({one.headers for one in found if one.target.startswith("hub.")})
        finally:
            await engine.dispose()

    async def count(self, query: str) -> int:
        engine = database.connect(self.postgres, pool=1)
        try:
            return int((await rows(engine, query))[0][0])
        finally:
            await engine.dispose()

    async def refer(self, count: int) -> None:
        """Send new referrals of new persons, one after the other."""
        async with aiohttp.ClientSession() as session:
            for message in messages(count, f"drill {uuid.uuid4()}"):
                status, answer = await self.post(session, message)
                assert status == 200, answer
                self.sent.append(message)

    async def post(self, session: aiohttp.ClientSession, message: BenchmarkMessage) -> tuple[int, str]:
        headers = {
            "Authorization": f"Bearer {self.running.addresses['partners'][PRACTICE]['token']}",
            "Content-Type": FHIR_JSON,
            "X-Request-Id": message.request_id,
            "X-Correlation-Id": message.correlation_id,
        }
        url = self.running.addresses["intake"] + "/fhir/$process-message"
        async with session.post(url, data=message.body, headers=headers) as answer:
            return answer.status, await answer.text()

    async def settled(self) -> None:
        """Wait until all that was accepted is decided, published and told."""
        left = f"""
            select {WAITS}
                 + (select count(*) from notifier.feedback where state = 'waiting')
                 + (select count(*) from intake.referral where reference not in (select reference from router.referral))
                 + (select count(*) from router.case_event where id not in (select event_id from notifier.input))"""
        async with asyncio.timeout(120):
            while await self.count(left):
                await asyncio.sleep(0.2)

    async def worked_on(self) -> None:
        """Wait until hubs' commands are applied: they accept every case and start it."""
        async with asyncio.timeout(120):
            while await self.count("select count(*) from router.\"case\" where status <> 'in-progress'"):
                await asyncio.sleep(0.3)
        await self.settled()

    def stop_services(self) -> None:
        self.running.supervisor.stop()

    def start_again(self) -> None:
        """Start everything with the same data."""
        self.running.parts.stop()
        self.running = installation.start(self.plan)

    async def on_hub_topics(self) -> set[tuple[str, ...]]:
        """Return each event on hubs' topics: hub, id, case and version."""
        heard, empty = set(), 0
        async with HubClient(self.running.addresses["kafka"], HUBS) as client:
            while empty < 5:
                found = await client.receive(0.3)
                empty = 0 if found else empty + 1
                heard |= {
                    (one.hub, one.headers["ce_id"], one.data["case_id"], str(one.data.get("hub_version")))
                    for one in found
                }
        return heard


async def _pointed_at(engine: AsyncEngine) -> dict[str, list[Any]]:
    """Return the history and the feedback with the bytes that each row points at."""
    async with engine.connect() as tx:
        history = {(one.person_key, Place(one.packet, one.place)): one for one in await tx.execute(text(HISTORY))}
        told = {(one.person_key, Place(one.packet, one.place)): one for one in await tx.execute(text(FEEDBACK))}
        events = await packets.messages(tx, "router", history)
        bytes_of = await packets.contents(tx, "notifier", told)
    return {
        "history": sorted(str((*one[:3], events[place].value)) for place, one in history.items()),
        "feedback": sorted(str((*one[:5], bytes_of[place])) for place, one in told.items()),
    }


@contextlib.asynccontextmanager
async def a_practice(port: int) -> AsyncIterator[Practice]:
    practice, app = Practice(), web.Application()
    app.router.add_post("/{path:.*}", practice.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, ports_and_secrets.HOST, port).start()
    try:
        yield practice
    finally:
        await runner.cleanup()


@pytest.fixture
async def drill() -> AsyncIterator[Drill]:
    [port] = ports_and_secrets.free_ports(1)
    plan = Plan(installation.temporary_folder(), feedback_urls={PRACTICE: f"http://{ports_and_secrets.HOST}:{port}/"})
    async with a_practice(port) as practice:
        one = Drill(plan, await asyncio.to_thread(installation.start, plan), practice)
        try:
            yield one
        finally:
            await asyncio.to_thread(one.running.stop)
            shutil.rmtree(plan.data, ignore_errors=True)


@contextlib.asynccontextmanager
async def hubs_at_work(one: Drill) -> AsyncIterator[HubAtWork]:
    """Hubs that accept every case that they hold, and start work on it."""
    async with HubClient(one.running.addresses["kafka"], HUBS) as client:
        hub = HubAtWork(client)
        working = asyncio.create_task(_work(hub, client))
        try:
            yield hub
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)


async def _work(hub: HubAtWork, client: HubClient) -> None:
    done: set[tuple[tuple[str, str], str]] = set()
    while True:
        for heard in await client.receive(0.2):
            hub._take(heard)
        for key, case in list(hub.cases.items()):
            for step, after in (("accept", "opened"), ("start", "accepted")):
                if case.role == "holder" and after in hub.kinds.get(key, []) and (key, step) not in done:
                    done.add((key, step))
                    await hub.does(case, step)


def reconcile(one: Drill, *words: str) -> tuple[int, dict[str, Any]]:
    os.environ |= {"LIGHTBULB_DATABASE": one.postgres, "LIGHTBULB_KAFKA": one.running.addresses["kafka"]}
    try:
        told = run("reconcile", *words, "--who", "A. Operator", "--why", "a drill", "--json")
    finally:
        del os.environ["LIGHTBULB_DATABASE"], os.environ["LIGHTBULB_KAFKA"]
    if isinstance(told.exception, CommandError):
        return 1, {"refused": str(told.exception)}
    return told.exit_code, json.loads(told.stdout)


async def test_after_an_older_database_is_restored_nothing_is_lost_and_nothing_is_told_twice(drill: Drill) -> None:
    async with hubs_at_work(drill):
        await drill.refer(10)
        await drill.settled()
        sending = asyncio.create_task(drill.refer(40))
        async with asyncio.timeout(60):
            while len(drill.sent) < 15:
                await asyncio.sleep(0.05)
        copy = await database_copy.take(drill.postgres)  # while they are accepted and decided
        await sending
        await drill.worked_on()
    before, told = await drill.state(), Counter(drill.practice.told)
    on_topics = await drill.on_hub_topics()
    await asyncio.to_thread(drill.stop_services)
    await database_copy.put_back(drill.postgres, copy)
    assert await drill.state() != before

    router = database.connect(roles.url_of(drill.postgres, "router"), pool=1)
    async with router.connect():
        code, found = await asyncio.to_thread(reconcile, drill)
    await router.dispose()
    assert (code, "Stop all services first: router" in found["refused"]) == (1, True)
    code, found = await asyncio.to_thread(reconcile, drill, "--dry-run")
    assert (code, found["referral_events"] > 0, found["router_inputs"] > 0) == (1, True, True)
    code, done = await asyncio.to_thread(reconcile, drill)
    assert (code, done["differing"], done["without_documents"]) == (0, 0, [])
    code, again = await asyncio.to_thread(reconcile, drill, "--dry-run")
    assert (again["referral_events"], again["router_inputs"]) == (0, 0)

    await asyncio.to_thread(drill.start_again)
    await drill.settled()
    after = await drill.state()
    assert after == before
    assert Counter(drill.practice.told) == told
    assert await drill.on_hub_topics() == on_topics
    code, _ = await asyncio.to_thread(reconcile, drill, "--dry-run")
    assert code == 0

    async with aiohttp.ClientSession() as session:
        status, _ = await drill.post(session, drill.sent[-1])  # as a sender that repeats what it is not sure of
    assert status in (200, 409)
    assert (await drill.state())["referrals of intake"] == before["referrals of intake"]


async def test_after_kafkas_records_are_gone_everything_is_decided_and_hubs_topics_have_every_event(
    drill: Drill,
) -> None:
    async with hubs_at_work(drill):
        await drill.refer(5)
        await drill.settled()
        await drill.worked_on()
    router = drill.running.supervisor.children["router"].pid
    os.kill(router, signal.SIGSTOP)
    try:
        await drill.refer(5)
        async with asyncio.timeout(60):
            while await drill.count(f"select {WAITS}"):
                await asyncio.sleep(0.1)
        await _delete_everything(drill)
    finally:
        os.kill(router, signal.SIGCONT)
    async with asyncio.timeout(60):
        while not await drill.count("select count(*) from router.records_gone where resolved_at is null"):
            await asyncio.sleep(0.2)
    code, done = await asyncio.to_thread(reconcile, drill)  # while the services run
    assert (code, done["lost_commands"], done["gaps_resolved"] > 0) == (0, {}, True)
    assert 1 <= done["published_again"]["referral.event"] <= 5, "the router may have fetched some before it stopped"
    await drill.settled()
    assert len(await drill.on_hub_topics()) == await drill.hub_events()
    assert await drill.count("select count(*) from router.records_gone where resolved_at is null") == 0


async def _delete_everything(one: Drill) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=one.running.addresses["kafka"])
    await admin.start()
    try:
        partitions = [TopicPartition(each.name, n) for each in declared(HUBS) for n in range(each.partitions)]
        await admin.delete_records(dict.fromkeys(partitions, RecordsToDelete(before_offset=-1)))
    finally:
        await admin.close()
