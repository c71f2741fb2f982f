"""Recipients of feedback: a practice's faulty FHIR endpoint, a MESH mailbox, fetched feedback; and a reader of all topics."""

import asyncio
import contextlib
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import aiohttp
from aiohttp import web
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from mesh_client import MeshClient

REFERENCE = re.compile(r"LB(?:-[0-9A-Z]{4}){3}")


@dataclass(frozen=True)
class ReceivedFeedback:
    """A received feedback. `id` is the notifier's: the request id, the end of the local id, or the fetched id."""

    at: str
    id: str
    reference: str


@dataclass
class Endpoint:
    """The practice's FHIR endpoint. It stores what it accepts, refuses repeats as in BaRS, and answers by `behaviour`."""

    token: Callable[[], str]
    behaviour: Literal["well", "slow", "fails", "lies", "redirects", "not-found"] = "well"
    slow_seconds: float = 2.5
    """After which it answers if it is slow."""
    received_feedback: list[ReceivedFeedback] = field(default_factory=list)
    misdirected: int = 0
    """Feedback at an address that only a message contains."""
    unauthorised: int = 0
    faulty_answers: int = 0
    repeats: int = 0
    """Requests with feedback that it had accepted before."""
    refuses: set[str] = field(default_factory=set)
    """Correlation ids of referrals whose first feedback is rejected permanently."""
    refused: set[str] = field(default_factory=set)
    is_stored: Callable[[str], Awaitable[bool]] | None = None
    """Returns whether PostgreSQL has the feedback with this id; it is asked when one arrives."""
    not_stored: list[ReceivedFeedback] = field(default_factory=list)
    """Feedback that arrived before PostgreSQL had it."""
    at_once: list[ReceivedFeedback] = field(default_factory=list)
    """Feedback that arrived while another attempt with it was not answered."""
    _arrived: Counter[str] = field(default_factory=Counter)
    """The attempts that are not answered."""
    _asking: set[asyncio.Task[None]] = field(default_factory=set)
    _kept: dict[str, bytes] = field(default_factory=dict)
    _seen: Counter[str] = field(default_factory=Counter)

    async def start(self, port: int) -> None:
        application = web.Application(client_max_size=2**22)
        application.router.add_post("/feedback", self._receive)
        application.router.add_post("/elsewhere", self._receive_misdirected)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _receive_misdirected(self, request: web.Request) -> web.Response:
        await request.read()
        self.misdirected += 1
        return web.Response()

    async def _receive(self, request: web.Request) -> web.Response:
        body, request_id = await request.read(), request.headers["X-Request-ID"]
        if request.headers.get("Authorization") != f"Bearer {self.token()}":
            self.unauthorised += 1
            return web.Response(status=401)
        one = ReceivedFeedback("gp-alder-lane", request_id, _reference(body))
        if self._arrived[request_id]:
            self.at_once.append(one)
        self._ask(one)
        self._arrived[request_id] += 1
        try:
            return await self._answer(request, request_id, body)
        finally:
            self._arrived[request_id] -= 1

    def _ask(self, one: ReceivedFeedback) -> None:
        """Ask PostgreSQL for a feedback that arrives, without delaying the answer."""

        async def ask(is_stored: Callable[[str], Awaitable[bool]]) -> None:
            with contextlib.suppress(TimeoutError):  # not known
                if not await is_stored(one.id):
                    self.not_stored.append(one)

        if self.is_stored is not None:
            task = asyncio.create_task(ask(self.is_stored))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    async def _answer(self, request: web.Request, request_id: str, body: bytes) -> web.Response:
        self._seen[request_id] += 1
        match self.behaviour:
            case "slow":
                self.faulty_answers += 1
                await asyncio.sleep(self.slow_seconds)
            case "redirects":  # as a gateway that asks for a login; who follows it is misdirected
                self.faulty_answers += 1
                return web.Response(status=302, headers={"Location": "/elsewhere"})
            case "not-found":
                self.faulty_answers += 1
                return web.Response(status=404)
            case "fails" if self._seen[request_id] % 3:
                self.faulty_answers += 1
                return web.Response(status=503, headers={"Retry-After": "1"})
            case "lies" if self._seen[request_id] % 3:
                self.faulty_answers += 1
                if self._seen[request_id] % 3 == 2:
                    self._accept(request_id, request.headers["X-Correlation-ID"], body)
                assert request.transport is not None
                request.transport.abort()
        return self._accept(request_id, request.headers["X-Correlation-ID"], body)

    def _accept(self, request_id: str, correlation_id: str, body: bytes) -> web.Response:
        if correlation_id in self.refuses or request_id in self.refused:
            self.refuses.discard(correlation_id)
            self.refused.add(request_id)
            return web.Response(status=422, body=_outcome("processing"))
        if request_id in self._kept:
            self.repeats += 1
            same = self._kept[request_id] == body
            return web.Response(status=409, body=_outcome("duplicate" if same else "conflict"))
        self._kept[request_id] = body
        self.received_feedback.append(ReceivedFeedback("gp-alder-lane", request_id, _reference(body)))
        return web.Response()


def _outcome(code: str) -> bytes:
    return json.dumps({"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": code}]}).encode()


def _reference(body: bytes) -> str:
    found = REFERENCE.search(body.decode())
    return found[0] if found else ""


def mesh_messages(url: str, mailbox: str, password: str, shared_key: str) -> list[ReceivedFeedback]:
    """Return all messages of a practice's MESH mailbox, oldest first, and acknowledge them."""
    with MeshClient(url, mailbox, password, shared_key=shared_key.encode()) as client:
        found = []
        for message_id in client.list_messages():
            message = client.retrieve_message(message_id)
            local_id = message.local_id or ""
            found.append(ReceivedFeedback("gp-brook-street", local_id.partition("-")[2], _reference(message.read())))
            message.acknowledge()
        return found


async def fetch_feedback(
    session: aiohttp.ClientSession, url: str, partner: str, token: str, references: Iterable[str]
) -> list[ReceivedFeedback]:
    """Return the feedback that a partner fetches about these referrals, in order."""
    found = []
    for reference in references:
        headers = {"Authorization": f"Bearer {token}"}
        async with session.get(f"{url}/referrals/{reference}/feedback", headers=headers) as answer:
            items = await answer.json() if answer.status == 200 else []
            found += [ReceivedFeedback(partner, one["id"], one["reference"]) for one in items]
    return found


# ---- topics -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """A record of a topic with the fields that the checker needs."""

    topic: str
    partition: int
    offset: int
    key: str
    headers: Mapping[str, str]
    value: bytes

    @property
    def data(self) -> Any:
        return json.loads(self.value)


class Log:
    """Read every topic from its beginning while the installation runs."""

    def __init__(self, kafka: str, topics: Mapping[str, int]) -> None:
        self.entries: list[Entry] = []
        self._partitions = [TopicPartition(topic, number) for topic, count in topics.items() for number in range(count)]
        self._kafka = kafka
        self._consumer: Any = None

    async def start(self) -> None:
        self._consumer = AIOKafkaConsumer(bootstrap_servers=self._kafka, max_poll_records=2_000)
        await self._consumer.start()
        self._consumer.assign(self._partitions)
        await self._consumer.seek_to_beginning(*self._partitions)
        self.reading = asyncio.create_task(self._read())

    async def stop(self) -> None:
        self.reading.cancel()
        await asyncio.gather(self.reading, return_exceptions=True)
        await self._consumer.stop()

    async def _read(self) -> None:
        while True:
            try:
                batches = await self._consumer.getmany(timeout_ms=200)
            except KafkaError:
                await asyncio.sleep(0.3)
                continue
            for records in batches.values():
                self.entries += [_entry(record) for record in records]

    async def caught_up(self) -> None:
        ends = await self.ends()
        while any([await self._consumer.position(partition) < end for partition, end in ends.items()]):
            await asyncio.sleep(0.05)

    async def begins(self) -> dict[TopicPartition, int]:
        """Return the offsets of the partitions' first records; try again while a broker is unavailable."""
        return await self._offsets("beginning_offsets")

    async def ends(self) -> dict[TopicPartition, int]:
        """Return the end offsets of the partitions; try again while a broker is unavailable."""
        return await self._offsets("end_offsets")

    async def _offsets(self, which: str) -> dict[TopicPartition, int]:
        while True:
            with contextlib.suppress(KafkaError):
                offsets: dict[TopicPartition, int] = await getattr(self._consumer, which)(self._partitions)
                return offsets
            await asyncio.sleep(0.3)


def _entry(record: Any) -> Entry:
    headers = {name: value.decode(errors="replace") for name, value in record.headers if value is not None}
    key = (record.key or b"").decode(errors="replace")
    return Entry(record.topic, record.partition, record.offset, key, headers, record.value or b"")
