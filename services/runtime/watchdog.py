"""Ends a process that has work and gets no further, so that its supervisor starts it anew.

Progress is what was done: offsets committed, rounds of the outbox that published, results recorded. It is judged only while database
and Kafka both answer somebody else's clients (backlog.py): while one is away, everybody backs off and is left alone, and each clock
begins again when it is back. A refusal that a server itself gave (disk full, a lock, a deadlock) shows that the client works: it counts
as progress, for a new process would be refused too.

A blocked event loop judges nothing, so a thread watches the loop; and a timer of the interpreter, which needs no lock that a blocked
loop may hold, watches for the thread.
"""

import asyncio
import contextlib
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from services.runtime import metrics
from services.runtime.backlog import BacklogMonitor, BacklogSnapshot
from services.runtime.logs import log

STALLED = 75
"""Exit code of a process that ended itself because it stood still (sysexits.h, EX_TEMPFAIL: trying again may help)."""

LAST_SECONDS = 15.0
"""How long the rest of a process that stands still may take to stop; what is left is cut off, as a kill would."""

ONE_OF_MANY = 10
"""A lane that stands still while others of its loop move is given so many times longer: it may only be waiting for its turn."""


class Stalled(Exception):
    """A loop of this process stands still."""


ProgressByKey = Mapping[Any, Hashable]
"""By lane of a loop that has work: how far it is there."""


class Progress:
    """Counts what a loop has done. `made()` after each piece, and after each refusal that a server gave."""

    def __init__(self) -> None:
        self.done = 0

    def record(self) -> None:
        self.done += 1


@dataclass(frozen=True, slots=True)
class WatchedTask:
    """One loop to watch. `lanes` says, of one look, where it has work and how far it is there; `times` stretches its patience."""

    name: str
    progress_by_key: Callable[[BacklogSnapshot], ProgressByKey]
    times: int = 1


@dataclass(slots=True)
class StallDetector:
    """For how long the lanes of one loop have had work and not moved. Pure: given the time."""

    last_progress: float | None = None
    since: dict[Hashable, tuple[Hashable, float]] = field(default_factory=dict)

    def update(self, now: float, progress_by_key: ProgressByKey) -> tuple[float, float]:
        """Seconds since any lane moved or was done, and since the stillest did; zeros where nothing waits."""
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
    """`run()` beside the loops: raises Stalled when one stands still, and sees to it that the process then really ends."""

    def __init__(self, monitor: BacklogMonitor, loops: Sequence[WatchedTask], *, seconds: float) -> None:
        self._monitor = monitor
        self._seconds = seconds
        self._loops = [(loop, StallDetector()) for loop in loops]

    async def run(self) -> None:
        """Look and judge until cancelled."""
        try:
            while True:
                snapshot = await self._monitor.poll()
                self.check(snapshot, time.monotonic())
                await asyncio.sleep(min(1.0 if snapshot.unreachable else 5.0, self._seconds / 5))
        finally:
            await self._monitor.close()

    def check(self, snapshot: BacklogSnapshot, now: float) -> None:
        """Raise Stalled where a loop has stood still for too long."""
        for loop, detector in self._loops:
            least, most = detector.update(now, {} if snapshot.unreachable else loop.progress_by_key(snapshot))
            metrics.TASK_STALLED_SECONDS.labels(loop.name).set(most)
            limit = self._seconds * loop.times
            if least >= limit or most >= limit * ONE_OF_MANY:
                log.error("task_stalled", task=loop.name, seconds=round(most), exit_code=STALLED)
                force_exit(LAST_SECONDS)
                raise Stalled(f"{loop.name} has work and has got no further for {most:.0f} s")


def force_exit(seconds: float) -> None:
    """End this process in so many seconds, whatever hangs until then."""
    last = threading.Timer(seconds, os._exit, [STALLED])
    last.daemon = True
    last.start()


# ---- the event loop ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def loop_watched(seconds: float) -> Iterator[None]:
    """End this process with STALLED where its running event loop does nothing for so long; inside a coroutine."""
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
        """Seconds since the loop's last sign, where they are too many; else 0. Where our own last look is long ago, too, the whole
        process was stopped, and the loop has its time again."""
        if now - self._checked_at > 2 * self._step + 1:
            self._last = now
        self._checked_at = now
        return now - self._last if now - self._last > self._seconds else 0.0

    def _end(self, seconds: float) -> None:
        place = _place(sys._current_frames().get(self._main))
        log_thread = threading.Thread(target=_log_blocked, args=(seconds, place), daemon=True)
        log_thread.start()
        log_thread.join(2)  # whoever blocks the loop may hold the log, too
        os._exit(STALLED)


def _log_blocked(seconds: float, place: str) -> None:
    log.error("event_loop_blocked", seconds=round(seconds), at=place, exit_code=STALLED)


def _place(frame: FrameType | None) -> str:
    """Where the main thread is: files, lines and names of code, innermost first; no values."""
    frames: list[str] = []
    while frame is not None and len(frames) < 4:
        frames.append(f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno} {frame.f_code.co_name}")
        frame = frame.f_back
    return " < ".join(frames)
