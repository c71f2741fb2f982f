"""One real intake process, those who use it as they should, and what must be true of it whatever others do meanwhile."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import psutil

from services.intake import limits
from tests.builders.bars import a_bars_message
from tests.builders.hl7v2 import a_ref_i12
from tests.intake.certificates import Keys
from tests.intake.fake_hl7_engine import Engine, acknowledged, give
from tests.intake.running import CHECKOUT, Installation, Processes

SECONDS = 30.0
"""Nothing that is asked of it takes so long, unless it hangs; a loaded machine is slow."""

MEGABYTES = 96
"""How much more memory it may have after an attack than before."""

SHORT = {
    "HEAD_SECONDS": 2.0,
    "BODY_SECONDS": 2.0,
    "PART_SECONDS": 1.5,
    "FRAME_SECONDS": 2.5,
    "WRITE_SECONDS": 1.0,
    "HANDSHAKE_SECONDS": 2.0,
}


class Victim(Processes):
    """Intake with HTTP, two MLLP ports and MLLP over TLS; `shorter`: limits that are not as usual."""

    def __init__(self, installation: Installation, keys: Keys, ports: list[int], shorter: dict[str, Any]) -> None:
        self.ports = dict(zip(("uhl", "lpt", "tls"), ports, strict=True))
        self.keys = keys
        self._limits = shorter
        access = {name: {"mllp_port": self.ports[name]} for name in ("uhl", "lpt")}
        access["uhl"]["certificate_sha256"] = [keys.of["uhl"][2]]  # type: ignore[assignment]
        give(installation.folder / "deployment.yaml", access)
        super().__init__(installation)

    def start(self, **settings: str) -> "subprocess.Popen[bytes]":
        told = {f"LIGHTBULB_{name.upper()}": str(value) for name, value in self.keys.settings.items()}
        told["LIGHTBULB_MLLP_TLS_PORT"] = str(self.ports["tls"])
        told["LIGHTBULB_TEST_LIMITS"] = json.dumps(self._limits)
        environment = self.installation.environment(self.port) | told | settings
        command = [sys.executable, "-m", "tests.hostile.with_limits"]
        with self.log.open("ab") as log:
            process = subprocess.Popen(command, env=environment, stderr=log, stdout=log, cwd=CHECKOUT)
        self.started.append(process)
        return process

    @property
    def process(self) -> psutil.Process:
        return psutil.Process(self.started[0].pid)

    @property
    def most(self) -> int:
        """Connections that it takes over HTTP."""
        return int(self._limits.get("HTTP_CONNECTIONS", limits.HTTP_CONNECTIONS))

    def connections(self) -> int:
        """Those that it has over HTTP."""
        has = self.process.net_connections("tcp")
        return len([one for one in has if one.laddr.port == self.port and one.status == psutil.CONN_ESTABLISHED])

    async def assert_serves(self) -> None:
        """One good message each way, on connections of their own."""
        reply = await self.bars(a_bars_message())
        assert reply.status == 200, reply.status
        connection = await self.connect("uhl")
        assert acknowledged(await connection.send(a_ref_i12()))[0] == "AA"
        connection.close()

    async def connect(self, port: str, **more: Any) -> Engine:
        return Engine(*await asyncio.open_connection("127.0.0.1", self.ports[port], **more))

    async def connect_tls(self) -> Engine:
        return await self.connect("tls", ssl=self.keys.context("uhl"))


@dataclass
class Meanwhile:
    """What others saw while it lasted."""

    served: int = 0
    failed: list[str] = field(default_factory=list)


@asynccontextmanager
async def assert_unharmed(victim: Victim) -> AsyncIterator[Meanwhile]:
    """Others are served while this lasts and after it; then memory and files are as before, and it is the same process."""
    await victim.assert_serves()
    memory, files = victim.process.memory_info().rss, victim.process.num_fds()
    seen, over = Meanwhile(), asyncio.Event()
    others = asyncio.create_task(_others(victim, seen, over))
    try:
        yield seen
    finally:
        over.set()
        await others
    await victim.assert_serves()
    assert not seen.failed, seen.failed[:3]
    assert seen.served >= 1
    await files_are_back(victim, files)
    grown = (victim.process.memory_info().rss - memory) // 2**20
    assert grown <= MEGABYTES, f"{grown} MiB more"
    assert victim.started[0].poll() is None
    assert "request_failed" not in victim.log.read_text()


async def _others(victim: Victim, seen: Meanwhile, over: asyncio.Event) -> None:
    while not over.is_set() or not seen.served:
        try:
            async with asyncio.timeout(SECONDS):
                await victim.assert_serves()
            seen.served += 1
        except Exception as error:
            seen.failed.append(f"{type(error).__name__} {error}")
            if over.is_set():
                return
        await asyncio.sleep(0.05)


async def files_are_back(victim: Victim, before: int) -> None:
    """As many open files and connections as before, but for a few of the database's pool."""
    async with asyncio.timeout(SECONDS):
        while victim.process.num_fds() > before + 12:
            await asyncio.sleep(0.05)
