"""Faults that pass: no writes, a table or an address that is away, records that are gone, and servers that come late.

None of them may be held against a record or a message, and a service that can do nothing must say so (I11).
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import yaml
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from tests.chaos.harness import db_probe, quiescence
from tests.chaos.harness.cluster import SERVICES, Cluster
from tests.chaos.harness.history import History
from tests.chaos.harness.injection import Injection
from tests.chaos.harness.service_faults import RollingRestart, send

SAYS_SO_SECONDS = 30.0
"""How long a service may take to say that records are gone, or that it waits for its servers."""


# ---- PostgreSQL -------------------------------------------------------------------------------------------------------


class Refusing(Injection):
    """Faults in which PostgreSQL refuses the services' statements with one SQLSTATE; its errors in their logs are counted."""

    what_it_met = "errors of the database in the services' logs"
    state = "25006"

    def target(self, cluster: Cluster) -> str:
        return "PostgreSQL"

    async def begin(self, cluster: Cluster, history: History) -> None:
        self._before = await asyncio.to_thread(cluster.logged, f"sqlstate {self.state}")

    async def end(self, cluster: Cluster, history: History) -> None:
        self.met = max(0, await asyncio.to_thread(cluster.logged, f"sqlstate {self.state}") - self._before)


class ReadOnly(Refusing):
    """Fail over: for some seconds nothing can be written, then new sessions write, and those that were open stay read-only.

    So it is behind a service name, HAProxy or pgpool after a switch: the old primary has become a standby.
    """

    grace = 3.0

    @property
    def holds(self) -> str | None:
        return ""

    async def begin(self, cluster: Cluster, history: History) -> None:
        await super().begin(cluster, history)
        self._task = asyncio.create_task(self._fail_over(cluster, history))

    async def _fail_over(self, cluster: Cluster, history: History) -> None:
        await db_probe.set_read_only(cluster.probe, True)
        begun = time.monotonic()
        while time.monotonic() < begun + self.grace:
            await asyncio.sleep(0.5)
            names = list(cluster.processes())
            ready = await asyncio.gather(*map(cluster.is_ready, names))
        history.said_ready += [(self.planned.name, name) for name, said in zip(names, ready, strict=True) if said]
        await db_probe.let_new_sessions_write(cluster.probe, True)

    async def end(self, cluster: Cluster, history: History) -> None:
        await asyncio.gather(self._task, return_exceptions=True)
        await db_probe.set_read_only(cluster.probe, False)
        await db_probe.let_new_sessions_write(cluster.probe, False)
        await super().end(cluster, history)


class Flapping(Refusing):
    """Let reads and writes change places many times, as while a pooler finds the primary."""

    SECONDS = 0.15

    async def begin(self, cluster: Cluster, history: History) -> None:
        await super().begin(cluster, history)
        self._task = asyncio.create_task(self._flap(cluster))

    async def _flap(self, cluster: Cluster) -> None:
        while True:
            for is_read_only in (True, False):
                await db_probe.set_read_only(cluster.probe, is_read_only)
                await asyncio.sleep(self.SECONDS)

    async def end(self, cluster: Cluster, history: History) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await db_probe.set_read_only(cluster.probe, False)
        await super().end(cluster, history)


class TableRenamed(Refusing):
    """Rename one table of a service for some seconds, as in a restore or a migration."""

    state = "42P01"
    TABLES = (
        "intake.referral",
        "router.input",
        "notifier.feedback",
        "intake.message",
        "router.person_key",
        "notifier.conversation",
        "intake.packet",
        "router.packet",
        "notifier.input",
        "intake.message_key",
        "router.referral",
        "notifier.packet",
    )

    @property
    def table(self) -> str:
        return self.TABLES[self.planned.aim % len(self.TABLES)]

    def target(self, cluster: Cluster) -> str:
        return self.table

    async def begin(self, cluster: Cluster, history: History) -> None:
        await super().begin(cluster, history)
        await db_probe.rename_table(cluster.probe, self.table)

    async def end(self, cluster: Cluster, history: History) -> None:
        await db_probe.rename_table_back(cluster.probe, self.table)
        await super().end(cluster, history)


# ---- processes that start ---------------------------------------------------------------------------------------------


class ServersAwayAtStart(Injection):
    """Start both processes of a service while neither PostgreSQL nor Kafka can be reached: they wait, and say what they lack."""

    what_it_met = "processes that waited for their servers"

    async def begin(self, cluster: Cluster, history: History) -> None:
        for what in ("postgres", "kafka"):
            for proxy in cluster.proxies_to(what, self.service):
                await proxy.cut()
        self._tracebacks = cluster.logged("Traceback", self.service)
        for name in self._names:
            send(cluster, name, signal.SIGKILL)
        self._killed_at = len(cluster.process_events)

    @property
    def _names(self) -> list[str]:
        return [f"{self.service}-{number}" for number in (1, 2)]

    async def end(self, cluster: Cluster, history: History) -> None:
        waiting = await asyncio.gather(*(_within(SAYS_SO_SECONDS, self._waits, cluster, name) for name in self._names))
        self.met = sum(waiting)
        events = cluster.process_events[self._killed_at :]
        ended = sorted(
            {one.name for one in events if one.is_unexpected and one.name in self._names and one.code != 137}
        )
        if cluster.logged("Traceback", self.service) > self._tracebacks:
            ended.append(f"{self.service} (with a traceback)")
        history.ended_by_themselves += ended
        silent = [name for name, waits in zip(self._names, waiting, strict=True) if not waits]
        history.said_ready += [(self.planned.name, name) for name in silent]
        await cluster.restore()

    async def _waits(self, cluster: Cluster, name: str) -> bool:
        """Return whether a process says that it lives, and that it is not ready."""
        return (await cluster.health(name, "live"))[0] == 200 and (await cluster.health(name, "ready"))[0] == 503

    async def repair(self, cluster: Cluster, history: History) -> None:
        for name in self._names:
            await self.load.until(lambda name=name: cluster.is_ready(name), f"its servers at {name}")  # type: ignore[misc]  # a lambda with a default


async def _within(
    seconds: float, holds: Callable[[Cluster, str], Awaitable[bool]], cluster: Cluster, name: str
) -> bool:
    """Return whether something becomes true of a process in this time."""
    end = time.monotonic() + seconds
    while not await holds(cluster, name):
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.3)
    return True


class AddressMissing(Injection):
    """Restart the notifiers with a deployment.yaml that has no address for the practice's endpoint, and later with the right one."""

    what_it_met = "feedbacks that waited for an address"
    ROWS = 8
    PARTNER = "gp-alder-lane"

    def target(self, cluster: Cluster) -> str:
        return f"the address of {self.PARTNER}"

    async def begin(self, cluster: Cluster, history: History) -> None:
        self._file = cluster.data / "deployment.yaml"
        self._whole = self._file.read_text()
        deployment = yaml.safe_load(self._whole)
        for setting in ("feedback_url", "feedback_token_file"):
            del deployment["partners"][self.PARTNER][setting]
        await self._restart(cluster, history, yaml.safe_dump(deployment))
        before = sum(await db_probe.composed(cluster.probe, self.PARTNER))
        await self.load.send_bars(self.PARTNER, "C82991", self.ROWS, self.planned.name, self.planned.aim)

        async def is_composed() -> bool:
            return sum(await db_probe.composed(cluster.probe, self.PARTNER)) >= before + self.ROWS

        await self.load.until(is_composed, f"feedback to {self.PARTNER}, which has no address")

    async def end(self, cluster: Cluster, history: History) -> None:
        self.met, _ = await db_probe.composed(cluster.probe, self.PARTNER)
        await self._restart(cluster, history, self._whole)

    async def _restart(self, cluster: Cluster, history: History, deployment: str) -> None:
        self._file.write_text(deployment)
        restart = RollingRestart(replace(self.planned, aim=SERVICES.index("notifier")), self.load)
        await restart.begin(cluster, history)
        await restart.end(cluster, history)


# ---- records that are gone ---------------------------------------------------------------------------------------------


class RecordsDeleted(Injection):
    """Delete records before they were read, as a retention does, or a topic that was made anew. An operator's command heals it."""

    what_it_met = "records that were deleted unread"
    TOPIC: Mapping[str, str] = MappingProxyType({"router": "referral.event", "notifier": "case.event"})
    SOURCE: Mapping[str, str] = MappingProxyType({"router": "intake", "notifier": "router"})

    @property
    def service(self) -> str:
        return ("router", "notifier")[self.planned.aim % 2]

    @property
    def topic(self) -> str:
        return self.TOPIC[self.service]

    def target(self, cluster: Cluster) -> str:
        return f"{self.topic}, unread by {self.service}"

    async def begin(self, cluster: Cluster, history: History) -> None:
        self._stopped = [
            pid for number in (1, 2) if (pid := send(cluster, f"{self.service}-{number}", signal.SIGSTOP)) is not None
        ]

    async def end(self, cluster: Cluster, history: History) -> None:
        try:
            await self.load.until(lambda: self._is_published(cluster), f"the publication to {self.topic}")
            await cluster.log.caught_up()
            await self._delete(cluster)
        finally:
            for pid in self._stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    async def _is_published(self, cluster: Cluster) -> bool:
        return await db_probe.unpublished(cluster.probe, self.SOURCE[self.service]) == 0

    async def _delete(self, cluster: Cluster) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=cluster.addresses["kafka"])
        await admin.start()
        try:
            ends = {p: end for p, end in (await cluster.log.ends()).items() if p.topic == self.topic and end}
            self.met = await quiescence.unread(cluster, self.service, ends)
            await admin.delete_records({p: RecordsToDelete(before_offset=end) for p, end in ends.items()})
        finally:
            await admin.close()

    async def repair(self, cluster: Cluster, history: History) -> None:
        if self.met:
            names = [f"{self.service}-{number}" for number in (1, 2)]
            said = await asyncio.gather(*(_within(SAYS_SO_SECONDS, _is_not_ready, cluster, name) for name in names))
            if not any(said):
                history.said_ready += [(self.planned.name, name) for name in names]
        await operate(cluster, history, "reconcile", "--who", "chaos", "--why", "records were deleted")
        for number in (1, 2):
            await _within(SAYS_SO_SECONDS, Cluster.is_ready, cluster, f"{self.service}-{number}")


async def _is_not_ready(cluster: Cluster, name: str) -> bool:
    return (await cluster.health(name, "ready"))[0] == 503


async def operate(cluster: Cluster, history: History, *words: str) -> None:
    """Run a command of the operator's; note (I7) if it fails."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "infra", *words,
        env=cluster.running.environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    if process.returncode:
        last = said.decode(errors="replace").strip().splitlines()[-1:]
        history.notes.append(f"no effect seen of lightbulb {words[0]}: exit code {process.returncode}, {last}")
