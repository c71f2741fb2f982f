"""Faults of the services' processes, of the wires between them and their servers, and of a practice's endpoint."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from typing import Any

import psutil

from tests.chaos.history import History
from tests.chaos.injection import Injection
from tests.chaos.proxy import Asks, Wire, asks_commit, asks_frame, asks_post, asks_produce
from tests.chaos.world import World

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

    what_it_met = "processes killed"

    async def begin(self, world: World, history: History) -> None:
        self.met = int(send(world, self.name, signal.SIGKILL) is not None)


class KillBoth(Injection):
    """Both processes of a service at once."""

    what_it_met = "processes killed"

    async def begin(self, world: World, history: History) -> None:
        for number in (1, 2):
            self.met += send(world, f"{self.service}-{number}", signal.SIGKILL) is not None


class Stop(OneProcess):
    """SIGSTOP and SIGCONT: a process that the others take for dead, and that knows nothing of it."""

    what_it_met = "processes still stopped when its time was over"
    _pid: int | None = None

    async def begin(self, world: World, history: History) -> None:
        self._pid = send(world, self.name, signal.SIGSTOP)

    async def end(self, world: World, history: History) -> None:
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
                self.met += psutil.Process(self._pid).status() == psutil.STATUS_STOPPED
                os.kill(self._pid, signal.SIGCONT)


class LoopBlocked(OneProcess):
    """The event loop does nothing for longer than Kafka's session."""

    what_it_met = "processes that answered nobody"

    async def begin(self, world: World, history: History) -> None:
        pid = send(world, self.name, signal.SIGUSR1)
        self._asking = asyncio.create_task(self._answers_nobody(world, pid))

    async def _answers_nobody(self, world: World, pid: int | None) -> bool:
        await asyncio.sleep(0.5)
        try:
            async with asyncio.timeout(3):
                await world.is_ready(self.name)
                return False
        except TimeoutError:
            child = world.processes().get(self.name)
            return child is not None and child.pid == pid

    async def end(self, world: World, history: History) -> None:
        self.met = int(await self._asking)


class RollingRestart(Injection):
    """SIGTERM to a service's processes in turn, the second when the first is back and ready, as a deployment does."""

    what_it_met = "processes that stopped and came back"

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
                    self.met += before is not None

    async def _is_back(self, world: World, name: str, before: int | None) -> bool:
        child = world.processes().get(name)
        return child is not None and child.pid != before and await world.is_ready(name)

    async def end(self, world: World, history: History) -> None:
        await self._task


class ClockSkew(Injection):
    """One process of a service runs two minutes ahead (or behind), and is then started anew with the true time."""

    what_it_met = "processes with a wrong clock"

    async def begin(self, world: World, history: History) -> None:
        seconds = 120 if self.planned.aim % 2 else -120
        self._file = world.data / f"skew-{self.service}"
        self._file.write_text(str(seconds))
        send(world, f"{self.service}-1", signal.SIGKILL)

    async def end(self, world: World, history: History) -> None:
        self._file.unlink(missing_ok=True)
        for taken in world.data.glob(f"skew-{self.service}.*"):
            self.met += 1
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

    counts = ""
    """Which of a wire's counters shows that it did something."""

    async def begin(self, world: World, history: History) -> None:
        self._before = self._count(world)

    async def end(self, world: World, history: History) -> None:
        for wire in self.wires(world):
            await wire.mend()
        self.met = self._count(world) - self._before

    def _count(self, world: World) -> int:
        return sum(getattr(wire, self.counts) for wire in self.wires(world))


class Cut(OnWires):
    """Connections end, and none can be made."""

    what_it_met, counts = "connections cut", "ended"

    async def begin(self, world: World, history: History) -> None:
        await super().begin(world, history)
        for wire in self.wires(world):
            if self.what == "mesh":
                wire.refuse()
            else:
                await wire.cut()


class Hang(OnWires):
    """Nothing comes through, and nobody is told."""

    what_it_met, counts = "writes held up", "waited"

    async def begin(self, world: World, history: History) -> None:
        await super().begin(world, history)
        for wire in self.wires(world):
            wire.hang()


class Slow(OnWires):
    """Everything takes its time."""

    what_it_met, counts = "writes delayed", "waited"

    async def begin(self, world: World, history: History) -> None:
        await super().begin(world, history)
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
    what_it_met, counts = "answers lost", "lost"

    def about(self, world: World) -> str:
        return f"{self.service} {self.what}" if self.what in self.ON else self.what

    def wires(self, world: World) -> list[Wire]:
        on = self.ON.get(self.what)
        return world.wires_of(on, self.service) if on else world.wires_of(self.what)

    async def begin(self, world: World, history: History) -> None:
        await super().begin(world, history)
        for wire in self.wires(world):
            wire.loses, wire.every = self.ASKS[self.what], 2 + self.planned.aim % 2

    async def end(self, world: World, history: History) -> None:
        await super().end(world, history)
        history.lost_replies += self.met


# ---- the practice's endpoint ------------------------------------------------------------------------------------------


class EndpointMood(Injection):
    """The practice's FHIR endpoint is slow, fails, or takes a message and closes without an answer."""

    def about(self, world: World) -> str:
        return "the practice's endpoint"

    what_it_met = "requests that were treated so"

    async def begin(self, world: World, history: History) -> None:
        world.endpoint.misbehaved = 0
        moods: dict[str, Any] = {"endpoint-slow": "slow", "endpoint-fails": "fails", "endpoint-lies": "lies"}
        world.endpoint.mood = moods[self.planned.name]

    async def end(self, world: World, history: History) -> None:
        world.endpoint.mood = "well"
        self.met = world.endpoint.misbehaved
