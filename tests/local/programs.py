"""Small programs, questions about processes, and a download that fails."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from infra.local.embedded.jars import Jar

SLEEPS = [sys.executable, "-c", "import time; time.sleep(600)"]
IGNORES_SIGTERM = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)",
]


def lives(pid: int) -> bool:
    """A zombie does not: nobody may be there to reap it."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def comes_true(what: Callable[[], bool], *, within: float) -> bool:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if what():
            return True
        time.sleep(0.05)
    return what()


def unreachable(jar: Jar, folder: Path) -> Path:
    raise OSError("no network")
