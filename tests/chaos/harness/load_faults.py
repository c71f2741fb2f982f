"""Faults of one key, topic, hub or recipient, each with the load that makes it everybody's trouble if work has no bound."""

import asyncio
import contextlib
import json
import signal
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from types import MappingProxyType

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from infra.partner_simulators.hub import OutgoingCommand, ScriptStep, SimulatedCase, command
from tests.chaos.harness import db_probe, service_faults
from tests.chaos.harness.cluster import SERVICES, Cluster
from tests.chaos.harness.history import History, MalformedCommand, SentCommand
from tests.chaos.harness.injection import Injection
from tests.chaos.harness.load import FIRST_OF_LOAD, many_persons, one_number
from tests.chaos.harness.service_faults import RollingRestart
from tests.chaos.harness.sinks import Endpoint
from tests.chaos.harness.workload import COUNCILS

FAILS_AT_US = "chaos-fails-"
"""Ids of commands that the database refuses, as if our own code were at fault."""

BEHIND_SECONDS = 15.0
"""How long a valid command may take whose case malformed ones have named."""


class OfLoad(Injection):
    """A fault that one key, topic, hub or recipient has: nobody else may wait for its end."""

    ROWS = 0
    """The number of rows of its load, unless the plan has one."""

    _sending: "asyncio.Task[None] | None" = None

    @property
    def rows(self) -> int:
        return self.planned.rows or self.ROWS

    @property
    def holds(self) -> str | None:
        return ""

    @property
    def council(self) -> str:
        return COUNCILS[self.planned.aim % len(COUNCILS)]

    @property
    def mark(self) -> tuple[object, ...]:
        """What makes the references of this load its own."""
        return self.planned.name, self.planned.aim, self.planned.begins_at

    async def begin(self, cluster: Cluster, history: History) -> None:
        self._sending = asyncio.create_task(self.send(cluster))

    async def send(self, cluster: Cluster) -> None:
        """Send the load."""

    async def sent(self) -> None:
        """Wait until the load was answered."""
        if self._sending is not None:
            await self._sending

    async def is_decided(self, cluster: Cluster, references: Sequence[str]) -> bool:
        """Wait until the router has these referrals, and their hubs their events."""
        probe = cluster.probe

        async def decided() -> bool:
            return await db_probe.decided(probe, references) == len(references)

        return await self.load.until(decided, f"{len(references)} rows of {self.planned.name}")

    async def is_applied(self, cluster: Cluster, send: OutgoingCommand, seconds: float) -> bool:
        async def applied() -> bool:
            return bool(await db_probe.effects(cluster.probe, [], [send.id]))

        return await self.load.until(applied, f"{send.name} ({send.id}) of {self.planned.name}", seconds)


# ---- one key ----------------------------------------------------------------------------------------------------------


class HotKey(OfLoad):
    """Send a council's file with one NHS number: one case with many referrals, and as many persons under the same key.

    When all are decided, the holder accepts the case, and transfers it with all of its referrals to another hub.
    """

    ROWS = 400
    TO = "blaby"
    what_it_met = "referrals under one NHS number"

    def target(self, cluster: Cluster) -> str:
        return "one NHS number"

    async def send(self, cluster: Cluster) -> None:
        number = self.load.hot_number(self.planned.aim)
        self._rows = one_number(self.load, number, self.rows, *self.mark)
        await self.load.send_rows("hinckley-bosworth", self._rows, *self.mark)

    async def end(self, cluster: Cluster, history: History) -> None:
        await self.sent()
        references = self.load.answered(self._rows)
        if await self.is_decided(cluster, references):
            self.met = len(references)
            await self._transfer(cluster, history, references[0])

    async def _transfer(self, cluster: Cluster, history: History, reference: str) -> None:
        for step in (ScriptStep("accept"), ScriptStep("transfer", self.TO)):
            case = await self._held(cluster, reference)
            if case is None:
                return
            send = command(case, step, {})
            history.commands.append(SentCommand(FIRST_OF_LOAD, 0, step.name, send.id, case.hub, case.id))
            await cluster.hubs.send(case, send)
            await self.is_applied(cluster, send, BEHIND_SECONDS)
        if await self._held(cluster, reference, at=self.TO):
            await self.load.until(partial(self._is_published, cluster, reference), "the publication of a hot key")

    async def _held(self, cluster: Cluster, reference: str, at: str = "") -> SimulatedCase | None:
        """Return the case at its holder (`at`: only there), when the hubs have received everything about it."""

        async def is_there() -> bool:
            held = cluster.hubs.holding(reference)
            return held is not None and at in ("", held.hub) and await self._has_received(cluster, held)

        if await self.load.until(is_there, "the events of a case with many referrals"):
            return cluster.hubs.holding(reference)
        return None

    async def _is_published(self, cluster: Cluster, reference: str) -> bool:
        held = cluster.hubs.holding(reference)
        return held is not None and await db_probe.unpublished_of(cluster.probe, held.person_key) == 0

    async def _has_received(self, cluster: Cluster, case: SimulatedCase) -> bool:
        events = await db_probe.events_for_hubs(cluster.probe, [case.person_key])
        return {row["id"] for row in events} <= cluster.hubs.received


# ---- one topic --------------------------------------------------------------------------------------------------------


class RefusingTopic(OfLoad):
    """Make Kafka refuse every record for one hub, and send referrals for it, with a change of some; later it takes all, in order."""

    ROWS = 600
    CHANGED = 60
    SETTINGS = ("retention.ms", "max.message.bytes", "min.insync.replicas")
    what_it_met = "records that waited for the topic"
    _declared: Mapping[str, str] = MappingProxyType({})

    @property
    def holds(self) -> str | None:
        return f"hub.{self.council}.case"

    def target(self, cluster: Cluster) -> str:
        return f"hub.{self.council}.case"

    async def begin(self, cluster: Cluster, history: History) -> None:
        with contextlib.suppress(KafkaError, OSError):  # a broker is down: nothing is refused
            self._declared = await self._settings(cluster)
            await self._set(cluster, dict(self._declared) | {"max.message.bytes": "1"})
        await super().begin(cluster, history)

    async def send(self, cluster: Cluster) -> None:
        rows = many_persons(self.load, self.council, self.rows, *self.mark)
        await self.load.send_rows(self.council, rows, *self.mark)
        changed = [replace(row, need=row.need + 1) for row in rows[: self.CHANGED]]
        await self.load.send_rows(self.council, changed, *self.mark, "changed")

    async def end(self, cluster: Cluster, history: History) -> None:
        await self.sent()
        self.met = await db_probe.unpublished_to(cluster.probe, self.target(cluster)) if self._declared else 0
        while self._declared:
            with contextlib.suppress(KafkaError, OSError):
                await self._set(cluster, self._declared)
                return
            await asyncio.sleep(0.3)

    async def _settings(self, cluster: Cluster) -> dict[str, str]:
        """Return the topic's settings, all of which the request that changes one must repeat."""
        async with _admin(cluster) as admin:
            [answer] = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, self.target(cluster))])
            return {entry[0]: entry[1] for entry in answer.resources[0][4] if entry[0] in self.SETTINGS}

    async def _set(self, cluster: Cluster, settings: Mapping[str, str]) -> None:
        async with _admin(cluster) as admin:
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, self.target(cluster), dict(settings))])


@contextlib.asynccontextmanager
async def _admin(cluster: Cluster) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.addresses["kafka"])
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


# ---- one recipient ----------------------------------------------------------------------------------------------------


class SlowRecipient(OfLoad):
    """Make the practice's FHIR endpoint answer after seconds, and send it the feedback of many referrals."""

    ROWS = 240
    SECONDS = 8.0
    what_it_met = "feedbacks due to the recipient when its slowness ended"

    @property
    def holds(self) -> str | None:
        return "gp-alder-lane"

    def target(self, cluster: Cluster) -> str:
        return "the practice's endpoint"

    async def begin(self, cluster: Cluster, history: History) -> None:
        cluster.endpoint.behaviour, cluster.endpoint.slow_seconds = "slow", self.SECONDS
        await super().begin(cluster, history)

    async def send(self, cluster: Cluster) -> None:
        await self.load.send_bars("gp-alder-lane", "C82991", self.rows, *self.mark)

    async def end(self, cluster: Cluster, history: History) -> None:
        await self.sent()
        self.met = await db_probe.due(cluster.probe, "gp-alder-lane")
        cluster.endpoint.behaviour, cluster.endpoint.slow_seconds = "well", Endpoint.slow_seconds


# ---- commands of one hub ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Broken:
    """A record on a hub's command topic that is no valid command. `id` and `key` are None if the record has none."""

    id: str | None
    key: str | None
    value: bytes
    headers: Mapping[str, str]


class MalformedCommands(OfLoad):
    """Send records that are no commands on hubs' topics, about cases that the hub holds and about another hub's.

    Those that name their person are refused, once each; the others become dead letters. Afterwards the holders' commands on the same
    cases are valid. One command of another hub fails in the database, as if our code were at fault: it is a dead letter of its hub's.
    """

    ROWS = 6
    OTHER = "melton"
    what_it_met = "malformed commands that name their person"

    def target(self, cluster: Cluster) -> str:
        return f"hub.{self.holder}.command, hub.{self.OTHER}.command"

    @property
    def holder(self) -> str:
        """The hub that holds the cases: any but the other."""
        return [name for name in COUNCILS if name != self.OTHER][self.planned.aim % (len(COUNCILS) - 1)]

    async def begin(self, cluster: Cluster, history: History) -> None:
        await db_probe.create_refusal_trigger(cluster.probe, FAILS_AT_US)
        rows = many_persons(self.load, self.holder, self.rows, *self.mark)
        await self.load.send_rows(self.holder, rows, *self.mark)
        references = self.load.answered(rows)
        if not await self.is_decided(cluster, references):
            return
        cases = [case for one in references if (case := await self._held(cluster, one)) is not None]
        with contextlib.suppress(KafkaError, OSError):  # a broker is down: the rest is not sent
            async with _producer(cluster) as producer:
                await self._send(producer, cases, history)
        await self._commands_pass(cluster, cases, history)

    async def _held(self, cluster: Cluster, reference: str) -> SimulatedCase | None:
        async def is_there() -> bool:
            return cluster.hubs.holding(reference) is not None

        await self.load.until(is_there, f"the case of {reference} at its hub")
        return cluster.hubs.holding(reference)

    async def _send(self, producer: AIOKafkaProducer, cases: Sequence[SimulatedCase], history: History) -> None:
        for hub in (self.holder, self.OTHER):
            for case in cases:
                for one in broken_commands(case, hub):
                    for _ in range(2 if one.id else 1):  # a repeat has no second answer
                        await _send_record(producer, hub, one)
                    history.malformed.append(MalformedCommand(hub, case.person_key, one.id))
                    self.met += 1
            for one in strangers(mark := f"stranger {uuid.uuid4()}"):
                await _send_record(producer, hub, one)
                history.poison.append(mark)
        await self._fail_at_us(producer, cases[0], history)

    async def _fail_at_us(self, producer: AIOKafkaProducer, case: SimulatedCase, history: History) -> None:
        """Send a valid command of the other hub that the database refuses."""
        send = command(case, ScriptStep("accept"), {})
        failing = f"{FAILS_AT_US}{uuid.uuid4()}"
        value = json.dumps(send.data | {"note": failing}).encode()
        await _send_record(
            producer, self.OTHER, Broken(failing, case.person_key, value, _headers(self.OTHER, "accept", failing))
        )
        history.poison.append(failing)

    async def _commands_pass(self, cluster: Cluster, cases: Sequence[SimulatedCase], history: History) -> None:
        """Let the holder accept its cases: no command may wait behind what was sent before."""
        sends = [(case, command(case, ScriptStep("accept"), {})) for case in cases]
        for case, send in sends:
            history.commands.append(SentCommand(FIRST_OF_LOAD, 0, "accept", send.id, case.hub, case.id))
            await cluster.hubs.send(case, send)
        await asyncio.gather(*(self.is_applied(cluster, send, BEHIND_SECONDS) for _, send in sends))

    async def end(self, cluster: Cluster, history: History) -> None:
        await db_probe.drop_refusal_trigger(cluster.probe)


class Flood(OfLoad):
    """Send many records that name nobody on one hub's topic: the router reads that topic no further, and every other one.

    Afterwards an operator lets them pass: the routers are restarted with a permitted share of 1, and again when all are dead letters.
    """

    ROWS = 150
    what_it_met = "processes that read the topic no further"

    @property
    def topic(self) -> str:
        return f"hub.{self.council}.command"

    @property
    def holds(self) -> str | None:
        return f"hub.{self.council}.case"

    def target(self, cluster: Cluster) -> str:
        return self.topic

    async def begin(self, cluster: Cluster, history: History) -> None:
        self._mark, self._sent = f"flood {uuid.uuid4()}", 0
        history.floods.append(self._mark)
        with contextlib.suppress(KafkaError, OSError):  # a broker is down: the rest is not sent
            async with _producer(cluster) as producer:
                for _ in range(0, self.rows, 2):
                    for one in strangers(self._mark):
                        await _send_record(producer, self.council, one)
                        self._sent += 1
        self._watching = asyncio.create_task(self._watch(cluster, history))

    async def _watch(self, cluster: Cluster, history: History) -> None:
        """Note which topics the router has paused."""
        while True:
            paused = [topic for name in cluster.processes() for topic in await cluster.paused_topics(name)]
            history.paused.update(paused)
            self.met = max(self.met, paused.count(self.topic))
            await asyncio.sleep(0.5)

    async def end(self, cluster: Cluster, history: History) -> None:
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)

    async def repair(self, cluster: Cluster, history: History) -> None:
        share = cluster.data / "dead-letter-share"
        share.write_text("1")
        await self._restart(cluster, history)
        await self.load.until(partial(self._has_passed, cluster), f"the end of the flood of {self.topic}")
        share.unlink()
        for number in (1, 2):
            service_faults.send(cluster, f"router-{number}", signal.SIGTERM)

    async def _has_passed(self, cluster: Cluster) -> bool:
        letters = await db_probe.dead_letters(cluster.probe, "router")
        return sum(self._mark.encode() in row["value"] for row in letters) >= self._sent

    async def _restart(self, cluster: Cluster, history: History) -> None:
        """Restart the routers one after the other."""
        restart = RollingRestart(replace(self.planned, aim=SERVICES.index("router")), self.load)
        await restart.begin(cluster, history)
        await restart.end(cluster, history)


def broken_commands(case: SimulatedCase, hub: str) -> Iterator[Broken]:
    """Yield records of a hub that name the person of a case, in their key or data, and are no valid commands."""
    data = {
        "case_id": case.id,
        "person_key": case.person_key,
        "expected_version": case.version,
        "by_role": "coordinator",
    }

    def broken(name: str, value: object, key: str | None = case.person_key, without: str = "") -> Broken:
        event_id = None if without == "ce_id" else str(uuid.uuid4())
        headers = _headers(hub, name, event_id or "")
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        return Broken(event_id, key, body, {header: text for header, text in headers.items() if header != without})

    yield broken("book", data)
    yield broken("book", data | {"visit_at": "soon"})
    yield broken("accept", data | {"expected_version": "not a number"})
    yield broken("accept", data, without="ce_time")
    yield broken("accept", data, without="ce_id")
    yield broken("frobnicate", data)
    yield broken("accept", data | {"case_id": None}, key=None)
    yield broken("accept", b"\xff\xfe not JSON")
    yield broken("accept", [data])
    yield broken("accept", {"reference": case.referrals[0]["reference"], "person_key": case.person_key})


def strangers(mark: str) -> Iterator[Broken]:
    """Yield records that name nobody."""
    headers = _headers("nobody", "accept", str(uuid.uuid4()))
    yield Broken(None, None, b"\xff\xfe not JSON " + mark.encode(), headers)
    yield Broken(None, "not a person key", json.dumps({"case_id": mark}).encode(), headers)


def _headers(hub: str, name: str, id: str) -> dict[str, str]:
    return {
        "ce_specversion": "1.0",
        "ce_id": id,
        "ce_type": f"uk.lightbulb.case.{name}.v1",
        "ce_source": f"/hub/{hub}",
        "ce_time": datetime.now(UTC).isoformat(),
        "ce_correlationid": str(uuid.uuid4()),
        "content-type": "application/json",
    }


async def _send_record(producer: AIOKafkaProducer, hub: str, one: Broken) -> None:
    headers = [(name, text.encode()) for name, text in one.headers.items()]
    key = None if one.key is None else one.key.encode()
    await producer.send_and_wait(f"hub.{hub}.command", one.value, key=key, headers=headers)


@contextlib.asynccontextmanager
async def _producer(cluster: Cluster) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(bootstrap_servers=cluster.addresses["kafka"], enable_idempotence=True)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()
