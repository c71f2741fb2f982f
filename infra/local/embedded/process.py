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

LARGEST_LOG = 10_000_000
WATCHER = Path(__file__).with_name("parent_watch.py")


class StartFailed(Exception):
    """A server could not be started, or ended before it was ready; the message says why and where its log is."""


class PortInUse(StartFailed):
    """Somebody else listens on the port that was chosen."""


@dataclass(frozen=True)
class Account:
    """The user and group that a server runs as; None: ours."""

    user: int | None = None
    group: int | None = None


@dataclass(frozen=True)
class ProcessCommand:
    """How one server is started and stopped.

    `cwd`: its log's folder where None. `grace`, in seconds: after it the server's process group is killed.
    """

    argv: Sequence[str | Path]
    env: Mapping[str, str] = field(default_factory=os.environ.copy)
    account: Account = Account()
    stop_signal: signal.Signals = signal.SIGTERM
    grace: float = 10.0
    cwd: Path | None = None


class Child:
    """A running server in a process group of its own, with a watcher that stops it when this process ends.

    `<folder>/<name>.log` gets its output, `<folder>/<name>.pid` says which process it is while it runs.
    """

    def __init__(self, folder: Path, name: str, command: ProcessCommand) -> None:
        self.name, self.log, self.grace = name, folder / f"{name}.log", command.grace
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
        """The exit code, once it has ended; 128 + n where signal n ended it."""
        return self._watcher.wait(timeout)

    def output(self) -> str:
        """What it wrote since it was started."""
        with self.log.open("rb") as log:
            log.seek(self._log_starts_at)
            return log.read().decode(errors="replace")

    def kill(self) -> None:
        """SIGKILL, without any grace: for tests of what happens then."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.stop()

    def ask_to_stop(self) -> None:
        """Begin to stop, without waiting."""
        assert self._watcher.stdin is not None
        self._watcher.stdin.close()

    def stop(self) -> None:
        """Returns when it has ended: by its own will, or killed after its grace."""
        self.ask_to_stop()
        self._watcher.wait(self.grace + 10)

    def wait_until(self, ready: Callable[[], bool], *, seconds: float = 60.0) -> None:
        """Returns when `ready` says so; stops the child and raises StartFailed (PortTaken) where it ends or takes longer."""
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.is_running() or time.monotonic() > deadline:
                reason = "ended" if not self.is_running() else f"was not ready after {seconds:.0f} s"
                self.stop()
                failure = PortInUse if "ddress already in use" in self.output() else StartFailed
                raise failure(f"{self.name} {reason}; the end of {self.log}:\n{self.output()[-2000:].strip()}")
            time.sleep(0.02)


def _watched(command: ProcessCommand, log: Path, pid_file: Path) -> list[str]:
    account = command.account
    as_user = [] if account.user is None else ["--user", str(account.user), "--group", str(account.group)]
    options = ["--stop-signal", str(command.stop_signal.value), "--grace", str(command.grace)]
    files = ["--log", str(log), "--pid-file", str(pid_file)]
    return [sys.executable, "-I", str(WATCHER), *options, *files, *as_user, "--", *map(str, command.argv)]


def _turn_over(log: Path) -> None:
    """Keep one earlier log, once it has grown."""
    log.touch(mode=0o600)
    if log.stat().st_size > LARGEST_LOG:
        log.replace(log.with_suffix(".log.old"))
        log.touch(mode=0o600)
