"""One process of a Kafka cluster: it can be killed and started again on its own."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from infra.local.embedded.process import Child, ProcessCommand


@dataclass
class Broker:
    """`address` is host:port for clients. `child` is None until it is started and once it is stopped."""

    address: str
    folder: Path
    command: ProcessCommand
    is_ready: Callable[[Child], bool]
    child: Child | None = None

    def start(self) -> None:
        """Returns when it serves clients. Raises StartFailed, or PortTaken."""
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
        """As a power cut would end it."""
        if self.child is not None:
            self.child.kill()
            self.child = None
