"""One embedded server, which can be killed, stopped and started separately on its port."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from infra.local.embedded.folder_lock import clean_up_earlier
from infra.local.embedded.process import Child, ProcessCommand


@dataclass
class ServerProcess:
    """A server: `name` is that of its log, `address` is host:port for clients. `child` is None unless it was started."""

    name: str
    address: str
    folder: Path
    command: ProcessCommand
    is_ready: Callable[[Child], bool]
    child: Child | None = None

    def start(self) -> None:
        """Start the server; return when it serves clients. Raise StartFailed or PortInUse."""
        self.spawn()
        self.wait_until_ready()

    def spawn(self) -> None:
        """Start the process; stop one that its watcher left running. Only for the owner of the folder."""
        clean_up_earlier(self.folder)
        self.child = Child(self.folder, self.name, self.command)

    def wait_until_ready(self) -> None:
        """Return when the server serves clients. Raise StartFailed or PortInUse if it ends or is stopped before."""
        if (child := self.child) is not None:
            child.wait_until(lambda: self.is_ready(child), seconds=120)

    def exit_code(self) -> int | None:
        """Return the exit code of a process that ended without a request to stop or kill it; else None."""
        child = self.child
        ended = child is not None and not child.stop_requested and not child.is_running()
        return child.wait() if child is not None and ended else None

    def ask_to_stop(self) -> None:
        if self.child is not None:
            self.child.ask_to_stop()

    def stop(self) -> None:
        if self.child is not None:
            self.child.stop()
            self.child = None

    def kill(self) -> None:
        """Kill the process as a power cut would."""
        if self.child is not None:
            self.child.kill()
            self.child = None
