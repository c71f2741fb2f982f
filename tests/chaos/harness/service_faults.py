"""Faults of the services' processes, of the connections to their servers, and of a practice's endpoint."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from typing import Any

import psutil

from tests.chaos.harness.cluster import Cluster
from tests.chaos.harness.history import History
from tests.chaos.harness.injection import Injection
from tests.chaos.harness.proxy import Proxy, RequestMatcher, is_commit, is_mllp_frame, is_post, is_produce_request

# ---- processes --------------------------------------------------------------------------------------------------------


def send(cluster: Cluster, name: str, number: signal.Signals) -> int | None:
    """Send a signal to a service's process; return its pid if it runs."""
    child = cluster.processes().get(name)
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

    def target(self, cluster: Cluster) -> str:
        return self.name


class Kill(OneProcess):
    """Kill a process; the supervisor starts it again."""

    what_it_met = "processes killed"

    async def begin(self, cluster: Cluster, history: History) -> None:
        self.met = int(send(cluster, self.name, signal.SIGKILL) is not None)


class KillBoth(Injection):
    """Kill both processes of a service at once."""

    what_it_met = "processes killed"

    async def begin(self, cluster: Cluster, history: History) -> None:
        for number in (1, 2):
            self.met += send(cluster, f"{self.service}-{number}", signal.SIGKILL) is not None


class Stop(OneProcess):
    """Stop a process (SIGSTOP) until Kafka and PostgreSQL consider it dead, and let it continue (SIGCONT)."""

    what_it_met = "processes still stopped when its time was over"
    _pid: int | None = None

    async def begin(self, cluster: Cluster, history: History) -> None:
        self._pid = send(cluster, self.name, signal.SIGSTOP)

    async def end(self, cluster: Cluster, history: History) -> None:
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
                self.met += psutil.Process(self._pid).status() == psutil.STATUS_STOPPED
                os.kill(self._pid, signal.SIGCONT)


class LoopBlocked(OneProcess):
    """Block the event loop for longer than Kafka's session timeout."""

    what_it_met = "processes without an answer"

    async def begin(self, cluster: Cluster, history: History) -> None:
        pid = send(cluster, self.name, signal.SIGUSR1)
        self._is_silent = asyncio.create_task(self._does_not_answer(cluster, pid))

    async def _does_not_answer(self, cluster: Cluster, pid: int | None) -> bool:
        await asyncio.sleep(0.5)
        try:
            async with asyncio.timeout(3):
                await cluster.is_ready(self.name)
                return False
        except TimeoutError:
            child = cluster.processes().get(self.name)
            return child is not None and child.pid == pid

    async def end(self, cluster: Cluster, history: History) -> None:
        self.met = int(await self._is_silent)


class RollingRestart(Injection):
    """Restart the processes of a service in turn as in a deployment: the second when the first is ready again."""

    what_it_met = "processes that stopped and came back"

    async def begin(self, cluster: Cluster, history: History) -> None:
        self._task = asyncio.create_task(self._in_turn(cluster))

    async def _in_turn(self, cluster: Cluster) -> None:
        for number in (1, 2):
            name = f"{self.service}-{number}"
            before = send(cluster, name, signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(25):
                    while not await self._is_back(cluster, name, before):
                        await asyncio.sleep(0.2)
                    self.met += before is not None

    async def _is_back(self, cluster: Cluster, name: str, before: int | None) -> bool:
        child = cluster.processes().get(name)
        return child is not None and child.pid != before and await cluster.is_ready(name)

    async def end(self, cluster: Cluster, history: History) -> None:
        await self._task


class ClockSkew(Injection):
    """Run one process of a service two minutes ahead (or behind), and start it again with the true time."""

    what_it_met = "processes with a wrong clock"

    async def begin(self, cluster: Cluster, history: History) -> None:
        seconds = 120 if self.planned.aim % 2 else -120
        self._file = cluster.data / f"skew-{self.service}"
        self._file.write_text(str(seconds))
        send(cluster, f"{self.service}-1", signal.SIGKILL)

    async def end(self, cluster: Cluster, history: History) -> None:
        self._file.unlink(missing_ok=True)
        for taken in cluster.data.glob(f"skew-{self.service}.*"):
            self.met += 1
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(taken.suffix[1:]), signal.SIGTERM)
            taken.unlink()


# ---- connections ------------------------------------------------------------------------------------------------------------


class ProxyFault(Injection):
    """Faults of the connections between a service and a server; the fault's name ends with the server."""

    @property
    def what(self) -> str:
        return self.planned.name.rpartition("-")[2]

    def target(self, cluster: Cluster) -> str:
        return f"{self.service} - {self.what}" if self.what in ("kafka", "postgres") else self.what

    def proxies(self, cluster: Cluster) -> list[Proxy]:
        return cluster.proxies_to(self.what, self.service if self.what in ("kafka", "postgres") else None)

    counts = ""
    """The counter of a proxy that shows an effect."""

    async def begin(self, cluster: Cluster, history: History) -> None:
        self._before = self._count(cluster)

    async def end(self, cluster: Cluster, history: History) -> None:
        for proxy in self.proxies(cluster):
            await proxy.restore()
        self.met = self._count(cluster) - self._before

    def _count(self, cluster: Cluster) -> int:
        return sum(getattr(proxy, self.counts) for proxy in self.proxies(cluster))


class Cut(ProxyFault):
    """Close all connections, and accept no new ones."""

    what_it_met, counts = "connections cut", "ended"

    async def begin(self, cluster: Cluster, history: History) -> None:
        await super().begin(cluster, history)
        for proxy in self.proxies(cluster):
            if self.what == "mesh":
                proxy.refuse()
            else:
                await proxy.cut()


class Hang(ProxyFault):
    """Forward nothing, without closing connections."""

    what_it_met, counts = "writes held up", "waited"

    async def begin(self, cluster: Cluster, history: History) -> None:
        await super().begin(cluster, history)
        for proxy in self.proxies(cluster):
            proxy.hang()


class Slow(ProxyFault):
    """Delay all bytes."""

    what_it_met, counts = "writes delayed", "waited"

    async def begin(self, cluster: Cluster, history: History) -> None:
        await super().begin(cluster, history)
        for proxy in self.proxies(cluster):
            proxy.delay = 0.05 + self.planned.aim % 10 / 50


class AnswerLost(ProxyFault):
    """Drop every second or third answer with its connection, after the effect of the request."""

    REQUESTS: Mapping[str, RequestMatcher] = {
        "http": is_post,
        "mllp": is_mllp_frame,
        "fhir": is_post,
        "mesh": is_post,
        "commit": is_commit,
        "produce": is_produce_request,
    }
    ON: Mapping[str, str] = {"commit": "postgres", "produce": "kafka"}
    what_it_met, counts = "answers lost", "lost"

    def target(self, cluster: Cluster) -> str:
        return f"{self.service} {self.what}" if self.what in self.ON else self.what

    def proxies(self, cluster: Cluster) -> list[Proxy]:
        on = self.ON.get(self.what)
        return cluster.proxies_to(on, self.service) if on else cluster.proxies_to(self.what)

    async def begin(self, cluster: Cluster, history: History) -> None:
        await super().begin(cluster, history)
        for proxy in self.proxies(cluster):
            proxy.drops_answers_to, proxy.every = self.REQUESTS[self.what], 2 + self.planned.aim % 2

    async def end(self, cluster: Cluster, history: History) -> None:
        await super().end(cluster, history)
        history.lost_replies += self.met


# ---- the practice's endpoint ------------------------------------------------------------------------------------------


class EndpointFault(Injection):
    """Make the practice's FHIR endpoint slow, fail, redirect, know nobody, or close the connection without an answer."""

    def target(self, cluster: Cluster) -> str:
        return "the practice's endpoint"

    what_it_met = "requests that were treated so"

    async def begin(self, cluster: Cluster, history: History) -> None:
        cluster.endpoint.faulty_answers = 0
        mood: Any = self.planned.name.removeprefix("endpoint-")
        cluster.endpoint.behaviour = mood
        if self.planned.rows:
            await self.load.send_bars("gp-alder-lane", "C82991", self.planned.rows, self.planned.name)

    async def end(self, cluster: Cluster, history: History) -> None:
        cluster.endpoint.behaviour = "well"
        self.met = cluster.endpoint.faulty_answers
