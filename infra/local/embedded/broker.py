"""One process of a Kafka cluster, which can be killed and started separately."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from infra.local.embedded.process import Child, ProcessCommand


@dataclass
class Broker:
    """`address` is host:port for clients. `child` is None unless it runs."""

    address: str
    folder: Path
    command: ProcessCommand
    is_ready: Callable[[Child], bool]
    child: Child | None = None

    def start(self) -> None:
        """Start the broker; return when it serves clients. Raise StartFailed or PortInUse."""
        self.child = Child(self.folder, "broker", self.command)
        self.child.wait_until(lambda: self.child is not None and self.is_ready(self.child), seconds=120)

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
