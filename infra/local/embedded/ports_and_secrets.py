"""Ports and secrets that a data folder keeps between runs."""

import json
import os
import random
import secrets
import socket
from pathlib import Path

# Below the ephemeral port range, so that an outgoing connection cannot take a port between the check and its use.
PORTS = range(20_000, 32_000)
HOST = "127.0.0.1"


def ports(file: Path, count: int) -> list[int]:
    """Return the ports in `file` if they are still free; otherwise new ones, which are stored there."""
    remembered: list[int] = json.loads(file.read_text()) if file.exists() else []
    if len(remembered) == count and all(is_free(port) for port in remembered):
        return remembered
    chosen = free_ports(count)
    write(file, json.dumps(chosen))
    return chosen


def free_ports(count: int) -> list[int]:
    chosen: set[int] = set()
    while len(chosen) < count:
        port = random.SystemRandom().choice(PORTS)
        if is_free(port):
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
