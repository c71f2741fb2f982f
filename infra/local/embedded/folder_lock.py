"""A data folder has one owner at a time; the next owner stops processes that an earlier one left running."""

import contextlib
import fcntl
import json
import os
import signal
from pathlib import Path
from typing import IO

import psutil

from infra.local.embedded.process import StartFailed

SAME_START = 1.0  # seconds of tolerance: the system clock may have been adjusted


class FolderInUse(StartFailed):
    """Another process uses this data folder."""


class FolderLock:
    """Exclusive use of a folder until release or process end. Stops what an earlier owner left running."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock: IO[str] = (folder / "lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise FolderInUse(
                f"Another process uses {folder}: stop it first, or choose another data folder."
            ) from error
        clean_up_earlier(folder)

    def release(self) -> None:
        self._lock.close()


def clean_up_earlier(folder: Path, *, grace: float = 15.0) -> None:
    """Stop the processes in the folder's pid files, if number and start time agree.

    Only for the holder of the FolderLock.
    """
    for pid_file in folder.glob("*.pid"):
        with contextlib.suppress(ValueError, KeyError, TypeError):  # damaged, or not one of our pid files: ignore it
            _stop_recorded(json.loads(pid_file.read_text()), grace)
        pid_file.unlink(missing_ok=True)


def _stop_recorded(processes: dict[str, dict[str, float]], grace: float) -> None:
    """Wait for the watcher, which stops the server because its owner has ended; without a watcher, stop it here."""
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
