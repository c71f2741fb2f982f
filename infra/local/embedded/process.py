"""A server as a child process that stops when its owner does, however the owner ends."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from services.runtime import StartupError

LARGEST_LOG = 10_000_000
"""Bytes after which a log is rotated, while the server runs and before it starts; one earlier file is kept."""

WATCHER = Path(__file__).with_name("parent_watch.py")


class StartFailed(StartupError):
    """A server could not be started, or ended before it was ready; the message gives reason and log file."""


class PortInUse(StartFailed):
    """Another process listens on the chosen port."""


@dataclass(frozen=True)
class Account:
    """The user and group that a server runs as; None: the current ones."""

    user: int | None = None
    group: int | None = None


@dataclass(frozen=True)
class ProcessCommand:
    """How one server is started and stopped.

    `cwd`: None is the folder of its log. `grace`: seconds after which the server's process group is killed.
    """

    argv: Sequence[str | Path]
    env: Mapping[str, str] = field(default_factory=os.environ.copy)
    account: Account = Account()
    stop_signal: signal.Signals = signal.SIGTERM
    grace: float = 10.0
    cwd: Path | None = None


class Child:
    """A running server in its own process group, with a watcher that stops it when this process ends.

    `<folder>/<name>.log` gets its output and is rotated, `<folder>/<name>.pid` names its process while it runs.
    """

    def __init__(self, folder: Path, name: str, command: ProcessCommand) -> None:
        self.name, self.log, self.grace = name, folder / f"{name}.log", command.grace
        self.stop_requested = False
        _turn_over(self.log)
        self._log_starts_at = self.log.stat().st_size
        self._watcher = subprocess.Popen(
            _watched(command, self.log, folder / f"{name}.pid"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=command.cwd or folder,
            env=command.env,
            start_new_session=True,
        )
        self.pid = self._read_pid()

    def _read_pid(self) -> int:
        assert self._watcher.stdout is not None
        with self._watcher.stdout as answer:
            line = answer.readline().decode().strip()
        if line.isdigit():
            return int(line)
        self.stop()
        raise StartFailed(f"{self.name} could not be started: {line or 'see ' + str(self.log)}")

    def is_running(self) -> bool:
        return self._watcher.poll() is None

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code once it has ended; 128 + n after signal n."""
        code = self._watcher.wait(timeout)
        if code >= 0:
            return code
        with contextlib.suppress(
            ProcessLookupError
        ):  # the watcher was killed; its server would continue, and keep its port
            os.killpg(self.pid, signal.SIGKILL)
        return 128 - code

    def output(self) -> str:
        """Return its output since it was started."""
        with self.log.open("rb") as log:
            if os.fstat(log.fileno()).st_size >= self._log_starts_at:  # not rotated since
                log.seek(self._log_starts_at)
            return log.read().decode(errors="replace")

    def kill(self) -> None:
        """Send SIGKILL at once, for tests of a crash."""
        self.stop_requested = True
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.stop()

    def ask_to_stop(self) -> None:
        """Begin to stop, without waiting."""
        self.stop_requested = True
        assert self._watcher.stdin is not None
        self._watcher.stdin.close()

    def stop(self) -> None:
        """Stop it; return when it has ended or was killed after its grace."""
        self.ask_to_stop()
        self._watcher.wait(self.grace + 10)

    def wait_until(self, ready: Callable[[], bool], *, seconds: float = 60.0) -> None:
        """Return when `ready` returns True.

        If the child ends or takes longer, stop it and raise StartFailed (PortInUse).
        """
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.is_running() or time.monotonic() > deadline:
                reason = "ended" if not self.is_running() else f"was not ready after {seconds:.0f} s"
                self.stop()
                output = self.output()
                if "ddress already in use" in output:
                    raise PortInUse(f"{self.name} ended: its port is in use; see {self.log}")
                raise StartFailed(f"{self.name} {reason}; see the end of {self.log}:\n{output[-2000:].strip()}")
            time.sleep(0.02)


def _watched(command: ProcessCommand, log: Path, pid_file: Path) -> list[str]:
    account = command.account
    as_user = [] if account.user is None else ["--user", str(account.user), "--group", str(account.group)]
    options = ["--stop-signal", str(command.stop_signal.value), "--grace", str(command.grace)]
    files = ["--log", str(log), "--largest-log", str(LARGEST_LOG), "--pid-file", str(pid_file)]
    return [sys.executable, "-I", str(WATCHER), *options, *files, *as_user, "--", *map(str, command.argv)]


def _turn_over(log: Path) -> None:
    """Rotate a large log; keep one earlier file."""
    log.touch(mode=0o600)
    if log.stat().st_size > LARGEST_LOG:
        log.replace(f"{log}.old")
        log.touch(mode=0o600)
