"""Ends a process that has work but makes no progress, so that its supervisor restarts it.

Progress is completed work: committed offsets, published outbox rows, saved results. It is checked only while separate clients
(backlog.py) can write to the database in a new session and reach Kafka: otherwise a new process would do no better, so that tasks back
off, and every timer restarts when both are back. An error of PostgreSQL does not count as progress: a new session may do better.

A blocked event loop cannot run this check, so a thread watches the loop. If a lock that the loop holds blocks the thread too, a timer
of the interpreter (faulthandler), which needs no such lock, ends the process.
"""

import asyncio
import contextlib
import faulthandler
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from services.runtime import metrics
from services.runtime.backlog import BacklogMonitor, BacklogSnapshot
from services.runtime.logs import log

STALLED = 75
"""Exit code of a process that ended itself because it made no progress (sysexits.h, EX_TEMPFAIL)."""

LAST_SECONDS = 15.0
"""Time for a stalled process to stop before it is ended without cleanup."""

ONE_OF_MANY = 10
"""Factor for a key that makes no progress while other keys of its task do: it may only be waiting for its turn."""


class Stalled(Exception):
    """A task of this process makes no progress."""


ProgressByKey = Mapping[Any, Hashable]
"""Progress of each key (such as a partition) with work; any value that changes with each step."""


class Progress:
    """Counts the progress of a task: `record()` after each piece of work."""

    def __init__(self) -> None:
        self.done = 0

    def record(self) -> None:
        self.done += 1


@dataclass(frozen=True, slots=True)
class WatchedTask:
    """A task to watch.

    `progress_by_key` returns the progress of each key with work in a snapshot; `times` multiplies the time limit.
    """

    name: str
    progress_by_key: Callable[[BacklogSnapshot], ProgressByKey]
    times: int = 1


@dataclass(slots=True)
class StallDetector:
    """Measures how long the keys of one task have had work without progress. It reads no clock."""

    last_progress: float | None = None
    since: dict[Hashable, tuple[Hashable, float]] = field(default_factory=dict)

    def update(self, now: float, progress_by_key: ProgressByKey) -> tuple[float, float]:
        """Return the seconds since any key made progress and since the slowest key did; zeros without work."""
        held = self.since
        done = any(progress_by_key.get(key, _DONE) != at for key, (at, _) in held.items())
        if done or not held or self.last_progress is None:
            self.last_progress = now
        self.since = {
            key: held[key] if key in held and held[key][0] == at else (at, now) for key, at in progress_by_key.items()
        }
        if not progress_by_key:
            return 0.0, 0.0
        return now - self.last_progress, now - min(since for _, since in self.since.values())


_DONE = object()


class Watchdog:
    """Runs concurrently with the tasks: raises Stalled if one makes no progress, and ensures that the process ends."""

    def __init__(self, monitor: BacklogMonitor, loops: Sequence[WatchedTask], *, seconds: float) -> None:
        self._monitor = monitor
        self._seconds = seconds
        self._loops = [(loop, StallDetector()) for loop in loops]

    async def run(self) -> None:
        """Check periodically until cancelled."""
        try:
            while True:
                snapshot = await self._monitor.poll()
                self.check(snapshot, time.monotonic())
                await asyncio.sleep(min(1.0 if snapshot.unreachable else 5.0, self._seconds / 5))
        finally:
            await self._monitor.close()

    def check(self, snapshot: BacklogSnapshot, now: float) -> None:
        """Raise Stalled if a task has made no progress for too long."""
        for loop, detector in self._loops:
            least, most = detector.update(now, {} if snapshot.unreachable else loop.progress_by_key(snapshot))
            metrics.TASK_STALLED_SECONDS.labels(loop.name).set(most)
            limit = self._seconds * loop.times
            if least >= limit or most >= limit * ONE_OF_MANY:
                log.error("task_stalled", task=loop.name, seconds=round(most), exit_code=STALLED)
                force_exit(LAST_SECONDS)
                raise Stalled(f"{loop.name} has work but has made no progress for {most:.0f} s")


def force_exit(seconds: float) -> None:
    """End this process after this time, even if a thread or task still hangs."""
    last = threading.Timer(seconds, os._exit, [STALLED])
    last.daemon = True
    last.start()


# ---- the event loop ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def loop_watched(seconds: float) -> Iterator[None]:
    """End this process with STALLED if the running event loop is blocked for this time. Enter it in a coroutine."""
    heartbeat = _LoopHeartbeat(seconds)
    heartbeat.arm()
    beating = asyncio.get_running_loop().create_task(heartbeat.beat())
    thread = threading.Thread(target=heartbeat.watch, name="watches the event loop", daemon=True)
    thread.start()
    try:
        yield
    finally:
        beating.cancel()
        heartbeat.ended.set()
        faulthandler.cancel_dump_traceback_later()


class _LoopHeartbeat:
    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._step = min(1.0, seconds / 5)
        self._last = self._checked_at = time.monotonic()
        self._main = threading.get_ident()
        self.ended = threading.Event()

    async def beat(self) -> None:
        while True:
            self._last = time.monotonic()
            self.arm()
            await asyncio.sleep(self._step)

    def arm(self) -> None:
        faulthandler.dump_traceback_later(self._seconds * 1.5 + 1, exit=True, file=sys.__stderr__ or 2)

    def watch(self) -> None:
        while not self.ended.wait(self._step):
            if blocked := self.blocked_for(time.monotonic()):
                self._end(blocked)

    def blocked_for(self, now: float) -> float:
        """Return the seconds since the loop's last heartbeat if they exceed the limit, otherwise 0.

        If this check itself was delayed, the whole process was suspended, and the loop's time restarts.
        """
        if now - self._checked_at > 2 * self._step + 1:
            self._last = now
        self._checked_at = now
        return now - self._last if now - self._last > self._seconds else 0.0

    def _end(self, seconds: float) -> None:
        place = _place(sys._current_frames().get(self._main))
        log_thread = threading.Thread(target=_log_blocked, args=(seconds, place), daemon=True)
        log_thread.start()
        log_thread.join(2)  # the blocking code may hold the lock of the log
        os._exit(STALLED)


def _log_blocked(seconds: float, place: str) -> None:
    log.error("event_loop_blocked", seconds=round(seconds), at=place, exit_code=STALLED)


def _place(frame: FrameType | None) -> str:
    """Return the position of the main thread: files, lines and names of code, innermost first; no values."""
    frames: list[str] = []
    while frame is not None and len(frames) < 4:
        frames.append(f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno} {frame.f_code.co_name}")
        frame = frame.f_back
    return " < ".join(frames)


def raised_at(error: BaseException) -> str:
    """Return where an error was raised: files, lines and names of code, innermost first; no values."""
    frames = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__)][-4:]
    return " < ".join(
        f"{os.path.basename(f.f_code.co_filename)}:{line} {f.f_code.co_name}" for f, line in reversed(frames)
    )
