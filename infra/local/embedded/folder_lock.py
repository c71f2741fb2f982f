"""A data folder has one owner at a time; the next owner stops what an earlier one left, and nothing else."""

import contextlib
import fcntl
import json
import os
import signal
from pathlib import Path
from typing import IO

import psutil

from infra.local.embedded.process import StartFailed

SAME_START = 1.0  # seconds; the computer's clock may have been set since


class FolderInUse(StartFailed):
    """Another run uses this data folder now."""


class FolderLock:
    """This process's sole use of a folder until it is released or the process ends. Stops what an earlier owner left."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock: IO[str] = (folder / "lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise FolderInUse(f"another run uses {folder}: stop it first, or give another data folder") from error
        clean_up_earlier(folder)

    def release(self) -> None:
        self._lock.close()


def clean_up_earlier(folder: Path, *, grace: float = 15.0) -> None:
    """Stop what the pid files in `folder` name, where number and start time agree. Only for who holds the Claim."""
    for pid_file in folder.glob("*.pid"):
        with contextlib.suppress(ValueError, KeyError, TypeError):  # not written by us, or damaged: nothing to trust
            _stop_recorded(json.loads(pid_file.read_text()), grace)
        pid_file.unlink(missing_ok=True)


def _stop_recorded(processes: dict[str, dict[str, float]], grace: float) -> None:
    """A watcher that lives is stopping its server already: its owner has gone. A server without one is ours to stop."""
    watcher, server = (
        _living(int(processes[name]["pid"]), processes[name]["started"]) for name in ("watcher", "server")
    )
    if watcher and not _has_ended(watcher, grace):
        watcher.kill()
    if server and not _has_ended(server, 0):
        server.send_signal(signal.Signals(int(processes["server"]["stop_signal"])))
        if not _has_ended(server, grace):
            os.killpg(server.pid, signal.SIGKILL)
            _has_ended(server, grace)


def _living(pid: int, started: float) -> psutil.Process | None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        if abs(process.create_time() - started) < SAME_START:
            return process
    return None


def _has_ended(process: psutil.Process, within: float) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
        if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            process.wait(within)
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
