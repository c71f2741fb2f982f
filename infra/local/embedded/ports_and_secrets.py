"""Ports and secrets that a data folder keeps between runs."""

import contextlib
import json
import os
import random
import secrets
import socket
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from infra.local.embedded.process import StartFailed

# Below the ephemeral port range, so that an outgoing connection cannot take a port between the check and its use.
PORTS = range(20_000, 32_000)
HOST = "127.0.0.1"


Report = Callable[[str], None]
"""Called with a line that users read."""


def ports(file: Path, names: Sequence[str], report: Report = lambda _: None) -> dict[str, int]:
    """Return a port for each name: that in `file` if it is free, else another one, which is reported and stored there."""
    remembered = _remembered(file)
    free = iter(free_ports(len(names), excluded=set(remembered.values())))
    chosen: dict[str, int] = {}
    for name in names:
        port = remembered.get(name)
        chosen[name] = port if port is not None and is_free(port) else next(free)
        if port not in (None, chosen[name]):
            report(f"port {port} of {name} is in use by another process: {name} is on port {chosen[name]} now")
    if remembered != remembered | chosen:
        write(file, json.dumps(remembered | chosen))
    return chosen


def _remembered(file: Path) -> dict[str, int]:
    """Return the ports in the file; none if it is not there or damaged."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        stored = json.loads(file.read_text())
        return {str(name): int(port) for name, port in stored.items()} if isinstance(stored, dict) else {}
    return {}


def free_ports(count: int, excluded: Collection[int] = ()) -> list[int]:
    chosen: set[int] = set()
    while len(chosen) < count:
        port = random.SystemRandom().choice(PORTS)
        if port not in excluded and is_free(port):
            chosen.add(port)
    return list(chosen)


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def read_json(file: Path) -> Any:
    """Return the content of a file that an installation wrote. Raise StartFailed if it is damaged."""
    try:
        return json.loads(file.read_text())
    except ValueError:
        raise StartFailed(
            f"{file} is damaged: it is not JSON. Restore it, or delete it: the next start makes a new one."
        ) from None


def secret(file: Path) -> str:
    """Return the secret in `file`, created at its first use; readable by its owner only."""
    if not file.exists():
        write(file, secrets.token_urlsafe(32))
    return file.read_text()


def write(file: Path, text: str) -> None:
    """Write the file atomically, readable by its owner only."""
    unfinished = file.with_name(file.name + ".unfinished")
    unfinished.unlink(missing_ok=True)
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(text)
    unfinished.replace(file)
