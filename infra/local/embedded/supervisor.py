"""Run service processes, and restart one that ends unexpectedly, after growing pauses."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from infra.local.embedded.folder_lock import FolderLock
from infra.local.embedded.process import Child, ProcessCommand, StartFailed

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds
STEADY_AFTER = 60.0  # seconds of running, after which the pauses start again from the first


@dataclass(frozen=True)
class ProcessEvent:
    """An event of a process.

    `what` is "started", "stopped" (on request) or "ended" (unexpectedly); then `pause` is the seconds until its
    restart. `code` is its exit code, 128 + n after signal n; `reason`: why it could not be started.
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
        return f"{self.name} {self.reason or f'ended with code {self.code}'}; restart in {self.pause:g} s"


class Supervisor:
    """Processes that are kept running until `stop`. Each writes to `<log_folder>/<name>.log`.

    `on_event` is called for each event, from other threads. The processes end when this process ends.
    """

    def __init__(self, log_folder: Path, on_event: Callable[[ProcessEvent], None] = lambda _: None) -> None:
        self._folder, self._on_event = log_folder.resolve(), on_event
        self._folder_lock = FolderLock(self._folder)
        self._processes: list[_SupervisedProcess] = []

    def add(self, name: str, argv: Sequence[str | Path], env: Mapping[str, str], *, grace: float = 20.0) -> None:
        """Start a process with exactly this environment; `grace` is the seconds between SIGTERM and SIGKILL."""
        self._processes.append(
            _SupervisedProcess(
                self._folder, name, ProcessCommand(argv, env, grace=grace, cwd=Path.cwd()), self._on_event
            )
        )

    @property
    def children(self) -> dict[str, Child]:
        """The running processes, by name."""
        return {process.name: process.child for process in self._processes if process.child is not None}

    def stop(self) -> None:
        """Send SIGTERM to all, the last first; return when every one has ended. Each has its grace."""
        for process in reversed(self._processes):
            process.ask_to_stop()
        for process in reversed(self._processes):
            process.join()
        self._processes.clear()
        self._folder_lock.release()


class _SupervisedProcess:
    """One process, and the thread that starts and restarts it."""

    def __init__(
        self, folder: Path, name: str, command: ProcessCommand, on_event: Callable[[ProcessEvent], None]
    ) -> None:
        self.name = name
        self.child: Child | None = None
        self._folder, self._command, self._on_event = folder, command, on_event
        self._stopping, self._starting = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._keep, name=f"keeps {name}", daemon=True)
        self._thread.start()

    def ask_to_stop(self) -> None:
        with self._starting:  # so that no start follows
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
                self._on_event(ProcessEvent(self.name, "stopped", code))
                return
            if time.monotonic() - started > STEADY_AFTER:
                pause = FIRST_PAUSE
            self._on_event(ProcessEvent(self.name, "ended", code, pause, reason))
            self._stopping.wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _run(self) -> tuple[int | None, str]:
        """Return its exit code; or why it could not be started."""
        try:
            with self._starting:
                if self._stopping.is_set():
                    return None, ""
                self.child = Child(self._folder, self.name, self._command)
        except (StartFailed, OSError) as problem:
            return None, str(problem)
        self._on_event(ProcessEvent(self.name, "started"))
        code = self.child.wait()
        self.child = None
        return code, ""
