"""The three services in one process, a batch at a time: from translated messages to recorded deliveries."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web
from aiokafka import AIOKafkaConsumer, TopicPartition
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.messages import BenchmarkMessage
from bench.peer import run as peer
from infra.database import roles
from infra.local.embedded import ports_and_secrets
from schemas.topics import CASE_EVENT, FEEDBACK_EVENT, REFERRAL_EVENT, declared
from services.intake import accept, identifiers, store
from services.intake.http import messages as http
from services.intake.translators import bars_fhir
from services.intake.translators.inbound_message import InboundMessage
from services.messaging import relay
from services.messaging.cloudevents import KafkaRecord
from services.messaging.relay import Relay
from services.notifier import app as notifier
from services.notifier import delivery, templates
from services.notifier.consumer import CaseEventConsumer, FeedbackComposer
from services.notifier.delivery import Deliverer
from services.notifier.recipients import PartnerRecipients
from services.reference import directory, partners
from services.router import consumer, directory_versions
from services.router.consumer import Batches
from services.runtime import database
from services.runtime.positions import Positions
from services.runtime.settings import Settings
from tests.counts import servers
from tests.counts.servers import SCHEMAS, Servers

BATCH = 256
LIMIT_SECONDS = 120.0
"""How long one step may take on a slow machine."""

NEVER = 86_400.0


def ignore_time() -> None:
    """Switch off what depends on the speed of the machine: polls, and parts of a batch that the router decides for too long."""
    relay.POLL_SECONDS = delivery.POLL_SECONDS = delivery.GIVE_UP_POLL_SECONDS = NEVER
    consumer.DECISION_SECONDS = NEVER


@dataclass
class Counted:
    """What was counted while batches passed: statements by service and text, bytes of the log of PostgreSQL by step."""

    statements: Counter[tuple[str, str]] = field(default_factory=Counter)
    wal: Counter[str] = field(default_factory=Counter)

    def watch(self, engine: AsyncEngine, service: str) -> AsyncEngine:
        """Count the statements of this engine; SQLAlchemy sends BEGIN and COMMIT otherwise."""

        @event.listens_for(engine.sync_engine, "before_cursor_execute")
        def _(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            self.statements[service, re.sub(r"\s+", " ", statement).strip()] += 1

        return engine


@dataclass(frozen=True)
class Installed:
    """Settings of an installation whose practice gets its feedback at a sink, and what the sink received."""

    settings: Settings
    received: list[bytes]


@asynccontextmanager
async def installed(on: Servers, folder: Path) -> AsyncIterator[Installed]:
    """Yield an installation, with the sink running."""
    received: list[bytes] = []

    async def accepted(request: web.Request) -> web.Response:
        received.append(await request.read())
        return web.Response()

    application = web.Application()
    application.router.add_post("/feedback", accepted)
    runner = web.AppRunner(application)
    await runner.setup()
    [port] = ports_and_secrets.free_ports(1)
    await web.TCPSite(runner, ports_and_secrets.HOST, port).start()
    benchmark = peer.Benchmark(0, f"http://{ports_and_secrets.HOST}:{port}/feedback", on.kafka, on.database, "full", {})
    try:
        files = await asyncio.to_thread(peer.write_files, folder, benchmark)
        yield Installed(peer.settings(files, benchmark, "intake", http_port=0, metrics_port=1), received)
    finally:
        await runner.cleanup()


class Services:
    """The services on `engines`, one for each role; `running` are their relays and the deliverer."""

    def __init__(self, on: Servers, given: Installed, counted: Counted, connection: Any) -> None:
        self._on, self._given, self._counted, self._connection = on, given, counted, connection
        self._settings = given.settings
        self.engines = {
            name: counted.watch(database.connect(roles.url_of(on.database, name)), name) for name in SCHEMAS
        }
        self._relays = {name: Relay(self.engines[name], name, on.kafka) for name in SCHEMAS}
        self._partners = partners.load(self._settings.directory, self._settings.deployment)
        self._hubs = directory.load(self._settings.directory)
        self._running: list[asyncio.Task[None]] = []
        self._readers: dict[str, AIOKafkaConsumer] = {}

    async def start(self, stack: AsyncExitStack) -> None:
        """Start what runs beside the batches; it ends with `stack`."""
        for engine in self.engines.values():
            stack.push_async_callback(engine.dispose)
        for topic in (REFERRAL_EVENT, CASE_EVENT, FEEDBACK_EVENT):
            self._readers[topic] = await _reader(self._on.kafka, topic)
            stack.push_async_callback(self._readers[topic].stop)
        await directory_versions.store_directory(self.engines["router"], self._settings.directory, self._hubs.version)
        self._start_intake()
        self._start_router()
        await self._start_notifier(stack)
        self._running = [asyncio.create_task(one.run()) for one in (*self._relays.values(), self._deliverer)]
        stack.push_async_callback(self._stop)

    def _start_intake(self) -> None:
        catalogue = directory.catalogue(self._settings.directory)
        ids = self._settings.service_ids
        self._protocol = http.of_bars(bars_fhir.translator(catalogue, ids), ids)
        self._secret = self._settings.secret()
        practice = self._partners.by_id(peer.PRACTICE)
        assert practice is not None
        self._practice = practice

    def _start_router(self) -> None:
        engine = self.engines["router"]
        self._batches = Batches(engine, self._hubs, committed=self._relays["router"].wake)
        self._read_by_router = Positions(engine, "router")

    async def _start_notifier(self, stack: AsyncExitStack) -> None:
        engine, committed = self.engines["notifier"], self._relays["notifier"].wake
        recipients = PartnerRecipients(self._partners, mesh=False)
        texts = templates.load(self._settings.directory, self._hubs)
        channels = await stack.enter_async_context(notifier.create_channels(self._settings, recipients, texts))
        self._deliverer = Deliverer(engine, channels, texts, recorded=committed)
        composer = FeedbackComposer(recipients, texts, channels)
        self._consumer = CaseEventConsumer(engine, composer, committed, reserving=self._deliverer.reserving)
        self._read_by_notifier = Positions(engine, "notifier")

    async def _stop(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    # -- a batch

    async def pass_on(self, messages: Sequence[BenchmarkMessage]) -> None:
        """Take in these messages, each about a new person, and wait until the result of each one's feedback is published."""
        told = await self._end(FEEDBACK_EVENT) + len(messages)
        await self._step("intake", self._take_in(messages))
        await self._step("intake, relay", self._published("intake"))
        await self._step("router", self._receive(REFERRAL_EVENT, self._read_by_router, self._batches.receive))
        await self._step("router, relay", self._published("router"))
        await self._step("notifier", self._receive(CASE_EVENT, self._read_by_notifier, self._consumer.receive))
        await self._step("notifier, delivery and relay", self._told(told))

    async def _step(self, name: str, work: Awaitable[None]) -> None:
        began = await servers.wal_position(self._connection)
        async with asyncio.timeout(LIMIT_SECONDS):
            await work
        self._counted.wal[name] += await servers.wal_position(self._connection) - began

    async def _take_in(self, messages: Sequence[BenchmarkMessage]) -> None:
        answers = await store.record(self.engines["intake"], self._secret, [self._translated(one) for one in messages])
        assert {answer.status for answer in answers} == {200}, answers[0]
        self._relays["intake"].wake()

    def _translated(self, one: BenchmarkMessage) -> Any:
        key = identifiers.attachment_key(self._secret)
        sent = InboundMessage(self._practice, one.body, datetime.now(UTC), key, one.request_id, one.correlation_id)
        return accept.translate(self._protocol, sent, "application/fhir+json")

    async def _receive(
        self, topic: str, positions: Positions, receive: Callable[[Sequence[KafkaRecord]], Awaitable[Any]]
    ) -> None:
        """Give everything new on a topic to a consumer, in batches."""
        reader, records = self._readers[topic], list[KafkaRecord]()
        ends = await reader.end_offsets(reader.assignment())
        while any([await reader.position(one) < end for one, end in ends.items()]):
            for found in (await reader.getmany(timeout_ms=100)).values():
                records += [
                    KafkaRecord(one.topic, one.partition, one.offset, one.key, one.value, tuple(one.headers))
                    for one in found
                ]
        for at in range(0, len(records), BATCH):
            assert not await positions.keep(records[at : at + BATCH], receive)

    async def _published(self, schema: str) -> None:
        await self._until(lambda: self._is_published(schema))

    async def _is_published(self, schema: str) -> bool:
        return await servers.waiting(self._connection, schema) == 0

    async def _told(self, number: int) -> None:
        async def told() -> bool:
            return await self._end(FEEDBACK_EVENT) >= number and await self._is_published("notifier")

        await self._until(told)

    async def _until(self, done: Callable[[], Awaitable[bool]]) -> None:
        while not await done():
            for task in self._running:
                if task.done():
                    task.result()
            await asyncio.sleep(0.01)

    async def _end(self, topic: str) -> int:
        """Return how many records a topic has had."""
        reader = self._readers[topic]
        return sum((await reader.end_offsets(reader.assignment())).values())


async def _reader(kafka: str, topic: str) -> AIOKafkaConsumer:
    """Return a consumer of what comes on this topic from now on."""
    reader = AIOKafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False, auto_offset_reset="latest")
    await reader.start()
    partitions = next(one.partitions for one in declared([]) if one.name == topic)
    reader.assign([TopicPartition(topic, number) for number in range(partitions)])
    await reader.seek_to_end()
    return reader
