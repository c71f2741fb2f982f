"""Run service processes, and restart one or a server that ends unexpectedly, after growing pauses."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from infra.local.embedded.folder_lock import FolderLock
from infra.local.embedded.process import Child, ProcessCommand, StartFailed
from infra.local.embedded.server_process import ServerProcess

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds
WATCH_SECONDS = 0.2
STEADY_AFTER = 60.0  # seconds of running, after which the pauses start again from the first


@dataclass(frozen=True)
class ProcessEvent:
    """An event of a process.

    `what` is "started", "restarted", "stopped" (on request) or "ended" (unexpectedly); then `pause` is the seconds until
    its restart. `code` is its exit code, 128 + n after signal n; `reason`: why it could not be started, with its name.
    """

    name: str
    what: Literal["started", "restarted", "stopped", "ended"]
    code: int | None = None
    pause: float = 0.0
    reason: str = ""

    @property
    def is_unexpected(self) -> bool:
        return self.what == "ended"

    @property
    def is_for_users(self) -> bool:
        """Whether users read it: an unexpected end, and the restart after it."""
        return self.what in ("ended", "restarted")

    def __str__(self) -> str:
        if not self.is_unexpected:
            return f"{self.name} {self.what}"
        return f"{self.reason or f'{self.name} ended with code {self.code}'}; restart in {self.pause:g} s"


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
        what: Literal["started", "restarted"] = "started"
        while not self._stopping.is_set():
            started = time.monotonic()
            code, reason = self._run(what)
            what = "started" if reason else "restarted"
            if self._stopping.is_set():
                self._on_event(ProcessEvent(self.name, "stopped", code))
                return
            if time.monotonic() - started > STEADY_AFTER:
                pause = FIRST_PAUSE
            self._on_event(ProcessEvent(self.name, "ended", code, pause, reason))
            self._stopping.wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _run(self, what: Literal["started", "restarted"]) -> tuple[int | None, str]:
        """Return its exit code; or why it could not be started."""
        try:
            with self._starting:
                if self._stopping.is_set():
                    return None, ""
                self.child = Child(self._folder, self.name, self._command)
        except (StartFailed, OSError) as problem:
            return None, _reason(self.name, problem)
        self._on_event(ProcessEvent(self.name, what))
        code = self.child.wait()
        self.child = None
        return code, ""


class ServerWatch:
    """Starts servers that end unexpectedly, on the same ports, until `end`.

    A server that was stopped or killed through its object is left to its caller. A start that fails is reported and repeated
    without limit: an occupied port or a full disk can be corrected while everything else continues.
    """

    def __init__(self, servers: Mapping[str, ServerProcess], on_event: Callable[[ProcessEvent], None]) -> None:
        self._on_event = on_event
        self._stopping, self._starting = threading.Event(), threading.Lock()
        self._threads = [
            threading.Thread(target=self._watch, args=pair, name=f"watches {pair[0]}", daemon=True)
            for pair in servers.items()
        ]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Start nothing from now on. A start in progress fails when its server is stopped."""
        with self._starting:
            self._stopping.set()

    def join(self) -> None:
        """Return when all threads have ended; call it after the servers were stopped."""
        for thread in self._threads:
            thread.join()

    def _watch(self, name: str, server: ServerProcess) -> None:
        pause, running_since = FIRST_PAUSE, time.monotonic()
        while not self._stopping.wait(WATCH_SECONDS):
            if (code := server.exit_code()) is None:
                continue
            if time.monotonic() - running_since > STEADY_AFTER:
                pause = FIRST_PAUSE
            self._on_event(ProcessEvent(name, "ended", code, pause))
            pause = self._restart(name, server, pause)
            running_since = time.monotonic()

    def _restart(self, name: str, server: ServerProcess, pause: float) -> float:
        """Start the server, after pauses that grow with each failure; return the pause after its next end."""
        while not self._stopping.wait(pause):
            pause = min(pause * 2, LONGEST_PAUSE)
            try:
                self._start(server)
            except (StartFailed, OSError) as problem:
                if not self._stopping.is_set():
                    self._on_event(ProcessEvent(name, "ended", None, pause, _reason(name, problem)))
            else:
                self._on_event(ProcessEvent(name, "restarted"))
                break
        return pause

    def _start(self, server: ServerProcess) -> None:
        with self._starting:
            if not self._stopping.is_set():
                server.spawn()
        server.wait_until_ready()


def _reason(name: str, problem: Exception) -> str:
    line = str(problem).partition("\n")[0].rstrip(":")
    return line if line.startswith(name) or isinstance(problem, StartFailed) else f"{name} could not be started: {line}"
