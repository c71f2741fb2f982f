"""The process itself: no file is left for a connection, and what the kernel writes where it dies."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.hostile.victim import SECONDS, Victim, files_are_back
from tests.intake.running import CHECKOUT


async def test_without_free_file_descriptors_it_survives_pauses_and_serves_again(victim: Victim) -> None:
    """Others may be turned away meanwhile; nothing spins, and nothing dies."""
    await victim.assert_serves()
    before = victim.process.num_fds()
    soft, hard = victim.process.rlimit(psutil.RLIMIT_NOFILE)
    victim.process.rlimit(psutil.RLIMIT_NOFILE, (before + 5, hard))
    try:
        ports = [victim.port, *victim.ports.values()] * 10
        taken = await asyncio.gather(*(_connected(port) for port in ports))
        spent = victim.process.cpu_times().user + victim.process.cpu_times().system
        await asyncio.sleep(1.0)
        spent = victim.process.cpu_times().user + victim.process.cpu_times().system - spent
        assert spent < 0.8, "a second's work of accepting nothing"
        assert victim.started[0].poll() is None
        for writer in filter(None, taken):
            writer.transport.abort()
    finally:
        victim.process.rlimit(psutil.RLIMIT_NOFILE, (soft, hard))
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                await victim.assert_serves()
                break
            except (OSError, EOFError, AssertionError):
                await asyncio.sleep(0.1)
    tls = await victim.connect_tls()
    tls.writer.transport.abort()
    await files_are_back(victim, before)


async def _connected(port: int) -> asyncio.StreamWriter | None:
    try:
        async with asyncio.timeout(2.0):
            return (await asyncio.open_connection("127.0.0.1", port))[1]
    except (OSError, TimeoutError):
        return None


def test_it_may_open_more_files_than_it_accepts_connections(victim: Victim) -> None:
    soft, hard = victim.process.rlimit(psutil.RLIMIT_NOFILE)
    assert soft == min(hard, 65_536)


def test_it_leaves_no_core_file(victim: Victim) -> None:
    """Not in a file, and not to a program that core_pattern names: the limit 1 keeps the kernel from both."""
    told = Path(f"/proc/{victim.process.pid}/limits").read_text()
    (line,) = [line for line in told.splitlines() if line.startswith("Max core file size")]
    assert [int(number) for number in line.split()[4:6]] == [min(1, int(line.split()[5]))] * 2


DIES = """
import os, resource, signal
from services.runtime.resource_limits import apply_limits
if {confined}:
    apply_limits()
person = "9990000018 Verdigris" * 1000
os.kill(os.getpid(), signal.SIGABRT)
"""


@pytest.mark.parametrize("confined", [True, False])
def test_a_process_that_crashes_leaves_a_core_file_unless_this_is_disabled(tmp_path: Path, confined: bool) -> None:
    if not confined and resource.getrlimit(resource.RLIMIT_CORE)[1] == 0 and os.geteuid() != 0:
        pytest.skip("this machine keeps no core files at all")
    largest = (resource.RLIM_INFINITY,) * 2 if os.geteuid() == 0 else (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2
    process = subprocess.Popen(
        [sys.executable, "-c", DIES.format(confined=confined)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, largest),
    )
    _, status = os.waitpid(process.pid, 0)
    process.returncode = status
    assert os.WTERMSIG(status) == signal.SIGABRT
    if not confined and not os.WCOREDUMP(status):
        pytest.skip("this machine keeps no core files at all")
    assert os.WCOREDUMP(status) is not confined
    assert bool(list(tmp_path.iterdir())) is False or not confined
