"""Send three messages through all services in one process, on real Kafka and PostgreSQL, and record what each enters."""

import asyncio
import io
import json
import random
import re
import secrets
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import yaml
from aiohttp import web
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from infra.local.embedded import ports_and_secrets
from infra.partner_simulators import send
from infra.partner_simulators.gp_system import SimulatedGpSystem
from infra.partner_simulators.hub import HubClient, ScriptStep, SimulatedCase, apply_event, command
from schemas.nhs_number import is_valid
from schemas.topics import Topic
from services.intake import app as intake
from services.messaging import resubmit
from services.notifier import app as notifier
from services.reference import partners
from services.router import app as router
from services.runtime.settings import CHECKOUT, Settings
from tests.traced_way.call_recorder import CallRecorder, Function

REFERRAL = "BaRS referral, until the practice's FHIR endpoint accepts the feedback"
FRAME = "HL7 v2 frame, until the event is on the hub's topic"
COMMAND = "Hub command, until the practice's FHIR endpoint accepts the feedback"
JOURNEYS = (REFERRAL, FRAME, COMMAND)

PRACTICE, TRUST = "gp-alder-lane", "uhl"
HUB_OF = {PRACTICE: "charnwood", TRUST: "hospital-housing"}
EXAMPLE_OF = {PRACTICE: CHECKOUT / "examples" / "mrs-v.json", TRUST: CHECKOUT / "examples" / "mr-b.hl7"}

RUNS = 3
"""Only what every run enters is counted: a retry in one of them is not."""

IDLE_SECONDS = 1.5 * resubmit.RESUBMIT_SECONDS
"""Longer than the longest interval at which a background loop polls: each polls once within it."""

SETTLE_SECONDS = 0.3
"""How long nothing new is entered before a message counts as done: batches have ended, connections are closed."""

LIMIT_SECONDS = 60
"""How long each step may take."""

NOT_COUNTED = ("infra/", "services/runtime/watchdog.py", "services/runtime/backlog.py")
"""Callers that are not counted: the simulated partners, which read partners.yaml with our code, and the watchdog."""

UNFINISHED = """
    select (select count(*) from intake.packet where published_at is null) + (select count(*) from intake.packet_held)
         + (select count(*) from router.packet where published_at is null) + (select count(*) from router.packet_held)
         + (select count(*) from notifier.packet where published_at is null) + (select count(*) from notifier.packet_held)
         + (select count(*) from notifier.feedback where state = 'waiting')
         + (select count(*) from router.case_event where id not in (select event_id from notifier.input))"""

LAST_REFERENCE = "select reference from intake.message order by received_at desc limit 1"


async def trace(settings: Settings, topics: Sequence[Topic], folder: Path) -> dict[str, set[Function]]:
    """Return what each message enters, by journey, without what the services enter when they are idle.

    `settings`: of a prepared database and Kafka. `topics`: their present records are skipped.
    """
    with CallRecorder() as recorder:
        async with _installation(settings, topics, folder) as installation:
            journeys = _Journeys(recorder, installation)
            await journeys.run(copied=True)  # connections, caches and lazy imports
            await journeys.record_idle()
            runs = [await journeys.run(copied=number < RUNS) for number in range(1, RUNS + 1)]
    return {journey: set.intersection(*(run[journey] for run in runs)) for journey in JOURNEYS}


@dataclass
class _Installation:
    """Running services, and the partners around them. `inbox`: JSON lines of the practice's system."""

    folder: Path
    addresses: dict[str, Any]
    database: "asyncpg.Connection[Any]"
    inbox: io.StringIO
    hub_client: HubClient
    cases: dict[tuple[str, str], SimulatedCase] = field(default_factory=dict)

    async def send(self, partner: str, *, copied: bool) -> str:
        """Send the partner's example, or a copy about another person; return our reference."""
        example = EXAMPLE_OF[partner]
        file = self.folder / f"{uuid.uuid4()}{example.suffix}"
        file.write_bytes(copy_of(example.read_bytes()) if copied else example.read_bytes())
        async with asyncio.timeout(LIMIT_SECONDS):
            [result] = await send.send([file], partner, self.addresses)
            while result.outcome == "unavailable":  # intake answers within 5 seconds, which a loaded machine may miss
                [result] = await send.send([file], partner, self.addresses)
        assert result.accepted, result
        return str(await self.database.fetchval(LAST_REFERENCE))

    async def practice_receives(self, reference: str, feedback_type: str) -> None:
        """Wait until the practice's system accepted this feedback."""

        async def received() -> bool:
            lines = [json.loads(line) for line in self.inbox.getvalue().splitlines()]
            return (reference, feedback_type) in {(line.get("reference"), line.get("feedback_type")) for line in lines}

        await _until(received)

    async def hub_receives(self, reference: str, hub: str) -> SimulatedCase:
        """Wait until the hub holds the case of a referral, and return the case."""

        async def received() -> bool:
            for event in await self.hub_client.receive(0.01):
                case = SimulatedCase(event.hub, event.data["case_id"], event.data["person_key"])
                case = self.cases.setdefault((case.hub, case.id), case)
                apply_event(case, event.kind, event.data)
                case.correlation_id, case.event_id = event.headers["ce_correlationid"], event.headers["ce_id"]
            return bool(self._held(reference, hub))

        await _until(received)
        return self._held(reference, hub)[0]

    def _held(self, reference: str, hub: str) -> list[SimulatedCase]:
        held = [case for case in self.cases.values() if case.hub == hub and case.is_held]
        return [case for case in held if reference in {referral["reference"] for referral in case.referrals}]

    async def is_idle(self) -> bool:
        """Return whether every outbox is published, and all feedback composed and accepted."""
        return not await self.database.fetchval(UNFINISHED)


class _Journeys:
    def __init__(self, recorder: CallRecorder, installation: _Installation) -> None:
        self._recorder = recorder
        self._installation = installation
        self._idle: frozenset[Function] = frozenset()

    async def record_idle(self) -> None:
        """Record what the services enter without a message."""
        with self._recorder.recording() as entered:
            await _until_unchanged(entered, IDLE_SECONDS)
        self._idle = frozenset(entered)

    async def run(self, *, copied: bool) -> dict[str, set[Function]]:
        """Send each message once, one after the other."""
        installation = self._installation
        async with self._recorded() as referral:
            reference = await installation.send(PRACTICE, copied=copied)
            await installation.practice_receives(reference, "home-hub")
        case = await installation.hub_receives(reference, HUB_OF[PRACTICE])
        async with self._recorded("services/notifier/") as frame:
            inpatient = await installation.send(TRUST, copied=copied)
            await installation.hub_receives(inpatient, HUB_OF[TRUST])
        async with self._recorded() as hub_command:
            await installation.hub_client.deliver((case, command(case, ScriptStep("accept"), {})))
            await installation.practice_receives(reference, "accepted")
        return {REFERRAL: referral, FRAME: frame, COMMAND: hub_command}

    @asynccontextmanager
    async def _recorded(self, *left_out: str) -> AsyncIterator[set[Function]]:
        with self._recorder.recording(known=self._idle, left_out=(*NOT_COUNTED, *left_out)) as entered:
            yield entered
            await _until(self._installation.is_idle)
            await _until_unchanged(entered, SETTLE_SECONDS)


_OWN = re.compile(
    rb"(?P<uuid>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})|(?P<number>\b999\d{7}\b)|(?P<id>UHL0000417|UHL-DTR-8841|S0551200)"
)


def copy_of(message: bytes) -> bytes:
    """Return the same message with other ids, about a person with another NHS number."""
    replacements: dict[bytes, bytes] = {}

    def replace(found: "re.Match[bytes]") -> bytes:
        new = {"uuid": str(uuid.uuid4()), "number": _an_nhs_number(), "id": secrets.token_hex(5)}[found.lastgroup or ""]
        return replacements.setdefault(found[0], new.encode())

    return _OWN.sub(replace, message)


def _an_nhs_number() -> str:
    candidates = (f"999{digits:07}" for digits in count(random.randrange(9_000_000)))
    return next(candidate for candidate in candidates if is_valid(candidate))


# ---- the installation ------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _installation(settings: Settings, topics: Sequence[Topic], folder: Path) -> AsyncIterator[_Installation]:
    for group in (router.GROUP, notifier.GROUP):
        await _skip_records(settings.kafka, group, topics)
    async with _practice_system() as (inbox, feedback_url):
        access = _access(folder, feedback_url)
        deployed = settings.model_copy(update={"deployment": folder / "deployment.yaml"})
        async with _services(deployed) as intake_url, HubClient(settings.kafka, HUB_OF.values()) as hub_client:
            database = await asyncpg.connect(settings.database.replace("+asyncpg", ""))
            try:
                yield _Installation(folder, {"intake": intake_url, **access}, database, inbox, hub_client)
            finally:
                await database.close()


async def _skip_records(kafka: str, group: str, topics: Sequence[Topic]) -> None:
    """Commit the end of these topics for a group: their records are of other tests. Wait until the group has no members."""
    partitions = [TopicPartition(topic.name, number) for topic in topics for number in range(topic.partitions)]
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign(partitions)

        async def committed() -> bool:
            try:
                await consumer.commit(await consumer.end_offsets(partitions))
                return True
            except KafkaError:
                return False

        await _until(committed)
    finally:
        await consumer.stop()


@asynccontextmanager
async def _practice_system() -> AsyncIterator[tuple[io.StringIO, str]]:
    """Run a practice's system that accepts every feedback; yield its inbox and address."""
    inbox = io.StringIO()
    application = web.Application()
    application.router.add_post("/", SimulatedGpSystem(PRACTICE, inbox, fail_first=0).receive)
    runner = web.AppRunner(application, shutdown_timeout=0.2)
    await runner.setup()
    [port] = ports_and_secrets.free_ports(1)
    await web.TCPSite(runner, ports_and_secrets.HOST, port).start()
    try:
        yield inbox, f"http://{ports_and_secrets.HOST}:{port}/"
    finally:
        await runner.cleanup()


def _access(folder: Path, feedback_url: str) -> dict[str, Any]:
    """Write deployment.yaml; return the addresses and credentials that the partners use."""
    [port] = ports_and_secrets.free_ports(1)
    tokens = {name: partners.new_token() for name in (PRACTICE, TRUST)}
    access: dict[str, dict[str, Any]] = {name: {"token_sha256": [digest]} for name, (_, digest) in tokens.items()}
    ports_and_secrets.write(folder / "feedback-token", PRACTICE)
    access[PRACTICE] |= {"feedback_url": feedback_url, "feedback_token_file": str(folder / "feedback-token")}
    access[TRUST] |= {"mllp_port": port}
    (folder / "deployment.yaml").write_text(yaml.safe_dump({"partners": access}))
    return {
        "mllp": {TRUST: f"{ports_and_secrets.HOST}:{port}"},
        "partners": {name: {"token": token} for name, (token, _) in tokens.items()},
    }


@asynccontextmanager
async def _services(settings: Settings) -> AsyncIterator[str]:
    """Run the three services until the block ends, and yield the address of intake. One that fails ends the block."""
    ports = ports_and_secrets.free_ports(3)
    urls = [f"http://{settings.http_host}:{port}" for port in ports]
    async with asyncio.TaskGroup() as group:
        services = (intake.serve, router.main, notifier.main)
        each = [settings.model_copy(update={"http_port": port}) for port in ports]
        running = [group.create_task(main(own)) for main, own in zip(services, each, strict=True)]
        try:
            await asyncio.gather(*map(_ready, urls))
            yield urls[0]
        finally:
            for task in running:
                task.cancel()


async def _ready(url: str) -> None:
    async with aiohttp.ClientSession() as session:

        async def ready() -> bool:
            try:
                async with session.get(f"{url}/health/ready") as response:
                    return response.status == 200
            except aiohttp.ClientError:
                return False

        await _until(ready)


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(LIMIT_SECONDS):
        while not await condition():
            await asyncio.sleep(0.02)


async def _until_unchanged(entered: Collection[Function], seconds: float) -> None:
    """Wait until nothing was added to the set for this time."""
    size = -1
    while size != len(entered):
        size = len(entered)
        await asyncio.sleep(seconds)
