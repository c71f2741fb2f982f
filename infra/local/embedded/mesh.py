"""The MESH sandbox of NHS England, with mailboxes that are stored in files.

It differs from MESH: any workflow id is accepted, and there is no automatic routing (documentation of mesh-sandbox
1.0.137).
"""

import os
import re
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from infra.local.embedded import ports_and_secrets
from infra.local.embedded.folder_lock import FolderLock
from infra.local.embedded.ports_and_secrets import Report
from infra.local.embedded.process import PortInUse, ProcessCommand, StartFailed
from infra.local.embedded.server_process import ServerProcess

PASSWORD = "password"  # noqa: S105 - the sandbox's password of every mailbox; the shared key protects them
SERVER = Path(__file__).with_name("mesh_server.py")
MAILBOX = re.compile("[A-Z0-9]{1,64}")


@dataclass
class MeshSandbox:
    """A running sandbox. Give a client `url`, a mailbox, `password` and `shared_key`; never log the last two."""

    url: str
    shared_key: str
    server: ServerProcess
    folder_lock: FolderLock
    password: str = PASSWORD
    provider: str = "mesh-sandbox 1.0.137, embedded"

    def stop(self) -> None:
        self.server.stop()
        self.folder_lock.release()


def start(data: Path, mailboxes: list[str], report: Report = lambda _: None) -> MeshSandbox:
    """Start the sandbox on `<data>/mesh`; add the mailboxes to existing ones.

    Raise ValueError for an invalid name.
    """
    for name in mailboxes:
        if not MAILBOX.fullmatch(name):
            raise ValueError(f"{name!r} is not a mailbox name: use capital letters and digits only")
    folder = data.resolve() / "mesh"
    folder_lock = FolderLock(folder)
    try:
        for name in mailboxes:
            (folder / "mailboxes" / name / "in").mkdir(parents=True, exist_ok=True)
        shared_key = ports_and_secrets.secret(folder / "shared_key")
        server = _start_server(folder, shared_key, report)
    except BaseException:
        folder_lock.release()
        raise
    return MeshSandbox(f"http://{server.address}", shared_key, server, folder_lock)


def _start_server(folder: Path, shared_key: str, report: Report) -> ServerProcess:
    """Start the server; try again with another port if another process has taken it."""
    for _ in range(5):
        [port] = ports_and_secrets.ports(folder / "ports.json", ["MESH"], report).values()
        server = _server(port, folder, shared_key)
        try:
            server.start()
            return server
        except PortInUse:
            continue
    raise StartFailed(f"the MESH sandbox found no free port; see {folder / 'mesh.log'}")


def _server(port: int, folder: Path, shared_key: str) -> ServerProcess:
    command = ProcessCommand([sys.executable, SERVER, str(port)], _environment(folder, shared_key), grace=5.0)
    address = f"{ports_and_secrets.HOST}:{port}"
    return ServerProcess("mesh", address, folder, command, lambda _: _answers(address))


def _environment(folder: Path, shared_key: str) -> dict[str, str]:
    return os.environ | {
        "ENV": "local",
        "AUTH_MODE": "full",
        "STORE_MODE": "file",
        "SHARED_KEY": shared_key,
        "MAILBOXES_DATA_DIR": str(folder / "mailboxes"),
    }


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
