"""Ends a process that has work and gets no further, so that its supervisor starts it anew.

Progress is what was done: offsets committed, rounds of the outbox that published, results recorded. It is judged only while database
and Kafka both answer somebody else's clients (sight.py): while one is away, everybody backs off and is left alone, and each clock
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

from services.messaging import metrics
from services.messaging.sight import Seen, Sight
from services.messaging.telemetry import log

STALLED = 75
"""Exit code of a process that ended itself because it stood still (sysexits.h, EX_TEMPFAIL: trying again may help)."""

LAST_SECONDS = 15.0
"""How long the rest of a process that stands still may take to stop; what is left is cut off, as a kill would."""

ONE_OF_MANY = 10
"""A lane that stands still while others of its loop move is given so many times longer: it may only be waiting for its turn."""


class Stalled(Exception):
    """A loop of this process stands still."""


Lanes = Mapping[Any, Hashable]
"""By lane of a loop that has work: how far it is there."""


class Progress:
    """Counts what a loop has done. `made()` after each piece, and after each refusal that a server gave."""

    def __init__(self) -> None:
        self.done = 0

    def made(self) -> None:
        self.done += 1


@dataclass(frozen=True, slots=True)
class Loop:
    """One loop to watch. `lanes` says, of one look, where it has work and how far it is there; `times` stretches its patience."""

    name: str
    lanes: Callable[[Seen], Lanes]
    times: int = 1


@dataclass(slots=True)
class Stillness:
    """For how long the lanes of one loop have had work and not moved. Pure: given the time."""

    moved: float | None = None
    since: dict[Hashable, tuple[Hashable, float]] = field(default_factory=dict)

    def judge(self, now: float, lanes: Lanes) -> tuple[float, float]:
        """Seconds since any lane moved or was done, and since the stillest did; zeros where nothing waits."""
        held = self.since
        done = any(lanes.get(lane, _DONE) != at for lane, (at, _) in held.items())
        if done or not held or self.moved is None:
            self.moved = now
        self.since = {
            lane: held[lane] if lane in held and held[lane][0] == at else (at, now) for lane, at in lanes.items()
        }
        if not lanes:
            return 0.0, 0.0
        return now - self.moved, now - min(since for _, since in self.since.values())


_DONE = object()


class Watchdog:
    """`run()` beside the loops: raises Stalled when one stands still, and sees to it that the process then really ends."""

    def __init__(self, sight: Sight, loops: Sequence[Loop], *, seconds: float) -> None:
        self._sight = sight
        self._seconds = seconds
        self._loops = [(loop, Stillness()) for loop in loops]

    async def run(self) -> None:
        """Look and judge until cancelled."""
        try:
            while True:
                seen = await self._sight.look()
                self.judge(seen, time.monotonic())
                await asyncio.sleep(min(1.0 if seen.away else 5.0, self._seconds / 5))
        finally:
            await self._sight.close()

    def judge(self, seen: Seen, now: float) -> None:
        """Raise Stalled where a loop has stood still for too long."""
        for loop, stillness in self._loops:
            least, most = stillness.judge(now, {} if seen.away else loop.lanes(seen))
            metrics.TASK_STALLED_SECONDS.labels(loop.name).set(most)
            limit = self._seconds * loop.times
            if least >= limit or most >= limit * ONE_OF_MANY:
                log.error("task_stalled", task=loop.name, seconds=round(most), exit_code=STALLED)
                end_at_last(LAST_SECONDS)
                raise Stalled(f"{loop.name} has work and has got no further for {most:.0f} s")


def end_at_last(seconds: float) -> None:
    """End this process in so many seconds, whatever hangs until then."""
    last = threading.Timer(seconds, os._exit, [STALLED])
    last.daemon = True
    last.start()


# ---- the event loop ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def loop_watched(seconds: float) -> Iterator[None]:
    """End this process with STALLED where its running event loop does nothing for so long; inside a coroutine."""
    pulse = _Pulse(seconds)
    pulse.arm()
    beating = asyncio.get_running_loop().create_task(pulse.beat())
    thread = threading.Thread(target=pulse.watch, name="watches the event loop", daemon=True)
    thread.start()
    try:
        yield
    finally:
        beating.cancel()
        pulse.ended.set()
        faulthandler.cancel_dump_traceback_later()


class _Pulse:
    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._step = min(1.0, seconds / 5)
        self._last = self._looked = time.monotonic()
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
        if now - self._looked > 2 * self._step + 1:
            self._last = now
        self._looked = now
        return now - self._last if now - self._last > self._seconds else 0.0

    def _end(self, seconds: float) -> None:
        place = _place(sys._current_frames().get(self._main))
        saying = threading.Thread(target=_say_blocked, args=(seconds, place), daemon=True)
        saying.start()
        saying.join(2)  # whoever blocks the loop may hold the log, too
        os._exit(STALLED)


def _say_blocked(seconds: float, place: str) -> None:
    log.error("event_loop_blocked", seconds=round(seconds), at=place, exit_code=STALLED)


def _place(frame: FrameType | None) -> str:
    """Where the main thread is: files, lines and names of code, innermost first; no values."""
    places: list[str] = []
    while frame is not None and len(places) < 4:
        places.append(f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno} {frame.f_code.co_name}")
        frame = frame.f_back
    return " < ".join(places)
