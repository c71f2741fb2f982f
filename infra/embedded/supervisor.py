"""Runs our service processes side by side, and starts again one that ends by itself, after growing pauses."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from infra.embedded.claim import Claim
from infra.embedded.process import Child, Command, StartFailed

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds
STEADY_AFTER = 60.0  # seconds of running, after which the pauses begin again with the first


@dataclass(frozen=True)
class Happened:
    """What became of a process.

    `what` is "started", "stopped" (it was asked to) or "ended" (by itself); then `pause` is the seconds until its next start.
    `code` is its exit code, 128 + n for signal n, where it ran; `reason` says why it could not be started.
    """

    name: str
    what: Literal["started", "stopped", "ended"]
    code: int | None = None
    pause: float = 0.0
    reason: str = ""

    @property
    def is_unexpected(self) -> bool:
        return self.what == "ended"

    def __str__(self) -> str:
        if not self.is_unexpected:
            return f"{self.name} {self.what}"
        return f"{self.name} {self.reason or f'ended with code {self.code}'}; starting it again in {self.pause:g} s"


class Supervisor:
    """Processes that are kept running until `stop`. Each writes to `<log_folder>/<name>.log`.

    `happened` is told what becomes of them, from other threads. They end when this process ends, however it ends.
    """

    def __init__(self, log_folder: Path, happened: Callable[[Happened], None] = lambda _: None) -> None:
        self._folder, self._happened = log_folder.resolve(), happened
        self._claim = Claim(self._folder)
        self._kept: list[_Kept] = []

    def add(self, name: str, argv: Sequence[str | Path], env: Mapping[str, str], *, grace: float = 20.0) -> None:
        """Start a process with exactly this environment; `grace` is what it gets between SIGTERM and SIGKILL, in seconds."""
        self._kept.append(_Kept(self._folder, name, Command(argv, env, grace=grace, cwd=Path.cwd()), self._happened))

    @property
    def children(self) -> dict[str, Child]:
        """Those that run now, by name."""
        return {kept.name: kept.child for kept in self._kept if kept.child is not None}

    def stop(self) -> None:
        """SIGTERM to all, the last first; each has its grace. Returns when every one has ended."""
        for kept in reversed(self._kept):
            kept.ask_to_stop()
        for kept in reversed(self._kept):
            kept.join()
        self._kept.clear()
        self._claim.release()


class _Kept:
    """One process, and the thread that starts it and starts it again."""

    def __init__(self, folder: Path, name: str, command: Command, happened: Callable[[Happened], None]) -> None:
        self.name = name
        self.child: Child | None = None
        self._folder, self._command, self._happened = folder, command, happened
        self._stopping, self._starting = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._keep, name=f"keeps {name}", daemon=True)
        self._thread.start()

    def ask_to_stop(self) -> None:
        with self._starting:  # so that none is started after it
            self._stopping.set()
            if self.child is not None:
                self.child.ask_to_stop()

    def join(self) -> None:
        self._thread.join()

    def _keep(self) -> None:
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            started = time.monotonic()
            code, reason = self._run()
            if self._stopping.is_set():
                self._happened(Happened(self.name, "stopped", code))
                return
            if time.monotonic() - started > STEADY_AFTER:
                pause = FIRST_PAUSE
            self._happened(Happened(self.name, "ended", code, pause, reason))
            self._stopping.wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _run(self) -> tuple[int | None, str]:
        """Its exit code; or why it could not be started."""
        try:
            with self._starting:
                if self._stopping.is_set():
                    return None, ""
                self.child = Child(self._folder, self.name, self._command)
        except (StartFailed, OSError) as problem:
            return None, str(problem)
        self._happened(Happened(self.name, "started"))
        code = self.child.wait()
        self.child = None
        return code, ""
