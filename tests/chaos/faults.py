"""The faults: each begins, lasts as long as its seed says, and ends; when all have ended nothing of them is left."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from infra.embedded import postgres
from tests.chaos.history import History, Injected
from tests.chaos.proxy import Asks, Wire, asks_commit, asks_frame, asks_post, asks_produce
from tests.chaos.seed import Fault
from tests.chaos.world import SERVICES, TMPFS_MEGABYTES, World


async def inject(world: World, planned: Sequence[Fault], history: History) -> None:
    """All faults of a seed, each at its time; returns when all have ended."""
    await asyncio.gather(*(_one(world, fault, history) for fault in planned))
    await world.mend()


async def _one(world: World, planned: Fault, history: History) -> None:
    await asyncio.sleep(planned.begins_at)
    fault = MAKE[planned.name](planned)
    noted = Injected(planned.name, fault.about(world), time.monotonic())
    history.faults.append(noted)
    try:
        await fault.begin(world, history)
        await asyncio.sleep(planned.seconds)
    finally:
        await fault.end(world, history)
        noted.ended = time.monotonic()


@dataclass
class Injection:
    """What every fault is: something begins, and ends."""

    planned: Fault

    @property
    def service(self) -> str:
        """The service that it aims at."""
        return SERVICES[self.planned.aim % len(SERVICES)]

    def about(self, world: World) -> str:
        return self.service

    async def begin(self, world: World, history: History) -> None: ...

    async def end(self, world: World, history: History) -> None: ...


# ---- processes --------------------------------------------------------------------------------------------------------


def send(world: World, name: str, number: signal.Signals) -> int | None:
    """A signal to a service's process; its pid, where it runs."""
    child = world.processes().get(name)
    if child is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, number)
            return child.pid
    return None


class OneProcess(Injection):
    """Faults of one process."""

    @property
    def name(self) -> str:
        return f"{self.service}-{1 + self.planned.aim // 3 % 2}"

    def about(self, world: World) -> str:
        return self.name


class Kill(OneProcess):
    """SIGKILL; the supervisor starts it anew."""

    async def begin(self, world: World, history: History) -> None:
        send(world, self.name, signal.SIGKILL)


class KillBoth(Injection):
    """Both processes of a service at once."""

    async def begin(self, world: World, history: History) -> None:
        for number in (1, 2):
            send(world, f"{self.service}-{number}", signal.SIGKILL)


class Stop(OneProcess):
    """SIGSTOP and SIGCONT: a process that the others take for dead, and that knows nothing of it."""

    _pid: int | None = None

    async def begin(self, world: World, history: History) -> None:
        self._pid = send(world, self.name, signal.SIGSTOP)

    async def end(self, world: World, history: History) -> None:
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGCONT)


class LoopBlocked(OneProcess):
    """The event loop does nothing for longer than Kafka's session."""

    async def begin(self, world: World, history: History) -> None:
        send(world, self.name, signal.SIGUSR1)


class RollingRestart(Injection):
    """SIGTERM to a service's processes in turn, the second when the first is back and ready, as a deployment does."""

    async def begin(self, world: World, history: History) -> None:
        self._task = asyncio.create_task(self._in_turn(world))

    async def _in_turn(self, world: World) -> None:
        for number in (1, 2):
            name = f"{self.service}-{number}"
            before = send(world, name, signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(25):
                    while not await self._is_back(world, name, before):
                        await asyncio.sleep(0.2)

    async def _is_back(self, world: World, name: str, before: int | None) -> bool:
        child = world.processes().get(name)
        return child is not None and child.pid != before and await world.is_ready(name)

    async def end(self, world: World, history: History) -> None:
        await self._task


class ClockSkew(Injection):
    """One process of a service runs two minutes ahead (or behind), and is then started anew with the true time."""

    async def begin(self, world: World, history: History) -> None:
        seconds = 120 if self.planned.aim % 2 else -120
        self._file = world.data / f"skew-{self.service}"
        self._file.write_text(str(seconds))
        send(world, f"{self.service}-1", signal.SIGKILL)

    async def end(self, world: World, history: History) -> None:
        self._file.unlink(missing_ok=True)
        for taken in world.data.glob(f"skew-{self.service}.*"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(taken.suffix[1:]), signal.SIGTERM)
            taken.unlink()


# ---- wires ------------------------------------------------------------------------------------------------------------


class OnWires(Injection):
    """Faults of the wires between a service and Kafka or PostgreSQL; `what` is told by the fault's name."""

    @property
    def what(self) -> str:
        return self.planned.name.rpartition("-")[2]

    def about(self, world: World) -> str:
        return f"{self.service} - {self.what}" if self.what in ("kafka", "postgres") else self.what

    def wires(self, world: World) -> list[Wire]:
        return world.wires_of(self.what, self.service if self.what in ("kafka", "postgres") else None)

    async def end(self, world: World, history: History) -> None:
        for wire in self.wires(world):
            await wire.mend()


class Cut(OnWires):
    """Connections end, and none can be made."""

    async def begin(self, world: World, history: History) -> None:
        for wire in self.wires(world):
            await wire.cut()


class Hang(OnWires):
    """Nothing comes through, and nobody is told."""

    async def begin(self, world: World, history: History) -> None:
        for wire in self.wires(world):
            wire.hang()


class Slow(OnWires):
    """Everything takes its time."""

    async def begin(self, world: World, history: History) -> None:
        for wire in self.wires(world):
            wire.delay = 0.05 + self.planned.aim % 10 / 50


class AnswerLost(OnWires):
    """The request has its effect, and its answer is lost with the connection: every second or third."""

    ASKS: Mapping[str, Asks] = {
        "http": asks_post,
        "mllp": asks_frame,
        "fhir": asks_post,
        "mesh": asks_post,
        "commit": asks_commit,
        "produce": asks_produce,
    }
    ON: Mapping[str, str] = {"commit": "postgres", "produce": "kafka"}

    def about(self, world: World) -> str:
        return f"{self.service} {self.what}" if self.what in self.ON else self.what

    def wires(self, world: World) -> list[Wire]:
        on = self.ON.get(self.what)
        return world.wires_of(on, self.service) if on else world.wires_of(self.what)

    async def begin(self, world: World, history: History) -> None:
        for wire in self.wires(world):
            wire.loses, wire.every, wire.lost = self.ASKS[self.what], 2 + self.planned.aim % 2, 0

    async def end(self, world: World, history: History) -> None:
        history.lost_replies += sum(wire.lost for wire in self.wires(world))
        await super().end(world, history)


# ---- Kafka ------------------------------------------------------------------------------------------------------------


class BrokerKilled(Injection):
    """SIGKILL to one broker, and its start some seconds later. With three, the other two go on, and leaders move."""

    def about(self, world: World) -> str:
        return f"broker {1 + self.planned.aim % world.brokers} of {world.brokers}"

    async def begin(self, world: World, history: History) -> None:
        self._broker = world.running.parts.kafka.brokers[self.planned.aim % world.brokers]
        await asyncio.to_thread(self._broker.kill)

    async def end(self, world: World, history: History) -> None:
        await asyncio.to_thread(self._broker.start)


class LeaderMoved(BrokerKilled):
    """A broker is stopped in order, hands its leaders over, and comes back."""

    async def begin(self, world: World, history: History) -> None:
        self._broker = world.running.parts.kafka.brokers[self.planned.aim % world.brokers]
        await asyncio.to_thread(self._broker.stop)


class Poison(Injection):
    """Records that can never succeed, on the topics that services read."""

    def about(self, world: World) -> str:
        return "referral.event, case.event, hub.blaby.command"

    async def begin(self, world: World, history: History) -> None:
        mark = f"poison {time.monotonic_ns()}"
        history.poison.append(mark)
        producer = AIOKafkaProducer(bootstrap_servers=world.addresses["kafka"], enable_idempotence=True)
        with contextlib.suppress(KafkaError):  # the broker is away: then there is none this time
            await producer.start()
            for topic, value in self._records(mark):
                await producer.send_and_wait(topic, value, key=b"f" * 32, headers=[("ce_id", b"poison")])
        await producer.stop()

    def _records(self, mark: str) -> list[tuple[str, bytes]]:
        broken = [b"\xff\xfe not JSON " + mark.encode(), b'{"reference": 7, "mark": "' + mark.encode() + b'"}']
        return [(topic, value) for topic in ("referral.event", "case.event", "hub.blaby.command") for value in broken]


# ---- PostgreSQL -------------------------------------------------------------------------------------------------------


class OfPostgres(Injection):
    """Faults inside the server."""

    def about(self, world: World) -> str:
        return "PostgreSQL"


class PostgresKilled(OfPostgres):
    """SIGKILL to the server, and its start some seconds later: it recovers from its log."""

    async def begin(self, world: World, history: History) -> None:
        await asyncio.to_thread(world.running.parts.postgres.child.kill)

    async def end(self, world: World, history: History) -> None:
        await asyncio.to_thread(start_postgres, world)


def start_postgres(world: World) -> None:
    """On its old port; sessions of the killed server may still be ending."""
    for _ in range(20):
        try:
            folder = world.data.resolve() / "postgres"
            world.running.parts.postgres.child, _ = postgres._start_server(folder, postgres.SETTINGS)
            return
        except postgres.StartFailed:
            time.sleep(0.5)
    raise postgres.StartFailed("PostgreSQL did not start again after it was killed")


END_SESSIONS = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'lightbulb'"


class SessionsEnded(OfPostgres):
    """The server ends every session of the services."""

    async def begin(self, world: World, history: History) -> None:
        await world.sql(END_SESSIONS)


class ErrorsByTrigger(OfPostgres):
    """Serialization failures: every third transaction that writes is told to try again."""

    TABLES = ("intake.message", "router.input", "notifier.input", "notifier.feedback")

    async def begin(self, world: World, history: History) -> None:
        await world.sql("""
            create or replace function chaos_fails() returns trigger language plpgsql as $$
            begin
                if random() < 0.34 then raise exception 'chaos' using errcode = '40001'; end if;
                return null;
            end $$""")
        for table in self.TABLES:
            await world.sql(f"""
                create or replace trigger chaos after insert on {table} for each statement execute function chaos_fails()""")

    async def end(self, world: World, history: History) -> None:
        for table in self.TABLES:
            await world.sql(f"drop trigger if exists chaos on {table}")


class Deadlocks(OfPostgres):
    """Somebody locks rows in the wrong order, again and again, and waits; the services' transactions are the ones that find out."""

    async def begin(self, world: World, history: History) -> None:
        self._task = asyncio.create_task(self._lock(world))

    async def _lock(self, world: World) -> None:
        while True:
            with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection = await world.connection()
                try:
                    await connection.execute("set deadlock_timeout = '20s'; set lock_timeout = '3s'")
                    await self._wrongly(connection)
                finally:
                    await connection.close(timeout=1)
            await asyncio.sleep(0.05)

    async def _wrongly(self, connection: asyncpg.Connection) -> None:
        rows = await connection.fetch("select person_key from router.person_key order by random() limit 12")
        async with connection.transaction():
            for row in sorted((row["person_key"] for row in rows), reverse=True):
                await connection.fetch("select from router.person_key where person_key = $1 for update", row)
                await asyncio.sleep(0.02)

    async def end(self, world: World, history: History) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


class ConnectionsExhausted(OfPostgres):
    """Somebody takes every connection that the server has left."""

    async def begin(self, world: World, history: History) -> None:
        self._taken: list[Any] = []
        await self._take(world)
        if self._taken:
            await self._taken[0].execute(END_SESSIONS)
        await self._take(world)

    async def _take(self, world: World) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            while len(self._taken) < 250:
                self._taken.append(await world.connection())

    async def end(self, world: World, history: History) -> None:
        await asyncio.gather(*(one.close(timeout=2) for one in self._taken), return_exceptions=True)


# ---- disks ------------------------------------------------------------------------------------------------------------


class DiskFull(Injection):
    """The disk of PostgreSQL or Kafka is full (a small tmpfs). A broker halts then, and is started when there is room."""

    @property
    def _name(self) -> str:
        return self.planned.name.rpartition("-")[2]

    def about(self, world: World) -> str:
        return f"{self._name}'s disk"

    async def begin(self, world: World, history: History) -> None:
        self._ballast: Path = world.data / self._name / "ballast"
        await asyncio.to_thread(_fill, self._ballast, TMPFS_MEGABYTES[self._name])

    async def end(self, world: World, history: History) -> None:
        self._ballast.unlink(missing_ok=True)
        if self._name == "kafka":
            for broker in world.running.parts.kafka.brokers:
                await asyncio.to_thread(
                    broker.kill
                )  # halted or about to: it is started anew, as whoever made room would
                await asyncio.to_thread(broker.start)
        elif not world.running.parts.postgres.child.is_running():
            await asyncio.to_thread(start_postgres, world)


def _fill(ballast: Path, megabytes: int) -> None:
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        for size in (1_048_576, 65_536, 4_096):
            with contextlib.suppress(OSError):
                for _ in range(megabytes * 1_048_576 // size):
                    file.write(b"\0" * size)


# ---- the practice's endpoint ------------------------------------------------------------------------------------------


class EndpointMood(Injection):
    """The practice's FHIR endpoint is slow, fails, or takes a message and closes without an answer."""

    def about(self, world: World) -> str:
        return "the practice's endpoint"

    async def begin(self, world: World, history: History) -> None:
        moods: dict[str, Any] = {"endpoint-slow": "slow", "endpoint-fails": "fails", "endpoint-lies": "lies"}
        world.endpoint.mood = moods[self.planned.name]

    async def end(self, world: World, history: History) -> None:
        world.endpoint.mood = "well"


MAKE: Mapping[str, type[Injection]] = {
    "kill": Kill,
    "kill-both": KillBoth,
    "stop": Stop,
    "stop-short": Stop,
    "loop-blocked": LoopBlocked,
    "rolling-restart": RollingRestart,
    "cut-kafka": Cut,
    "cut-postgres": Cut,
    "cut-mesh": Cut,
    "hang-kafka": Hang,
    "hang-postgres": Hang,
    "slow-kafka": Slow,
    "slow-postgres": Slow,
    "answer-lost-http": AnswerLost,
    "answer-lost-mllp": AnswerLost,
    "answer-lost-commit": AnswerLost,
    "answer-lost-produce": AnswerLost,
    "answer-lost-mesh": AnswerLost,
    "answer-lost-fhir": AnswerLost,
    "broker-killed": BrokerKilled,
    "leader-moved": LeaderMoved,
    "poison": Poison,
    "postgres-killed": PostgresKilled,
    "sessions-ended": SessionsEnded,
    "serialization": ErrorsByTrigger,
    "deadlock": Deadlocks,
    "connections-exhausted": ConnectionsExhausted,
    "disk-full-postgres": DiskFull,
    "disk-full-kafka": DiskFull,
    "endpoint-slow": EndpointMood,
    "endpoint-fails": EndpointMood,
    "endpoint-lies": EndpointMood,
    "clock-skew": ClockSkew,
}
