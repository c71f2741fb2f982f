from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mesh_client import MeshClient, MeshError
from requests import HTTPError

from infra.local.embedded import mesh
from infra.local.embedded.mesh import MeshSandbox

SENDER, RECIPIENT = "LIGHTBULB1", "GP1"
OTHER = "OTHER1"


def client(server: MeshSandbox, mailbox: str, shared_key: str | None = None) -> MeshClient:
    key = (shared_key or server.shared_key).encode()
    return MeshClient(server.url, mailbox, server.password, shared_key=key, max_retries=0)


def test_a_message_survives_a_restart_at_the_same_address(tmp_path: Path) -> None:
    first = mesh.start(tmp_path, [SENDER, RECIPIENT])
    try:
        with client(first, SENDER) as sender:
            sender.handshake()
            sent = sender.send_message(RECIPIENT, b"feedback", workflow_id="TRIED", local_id="L1")
    finally:
        first.stop()

    second = mesh.start(tmp_path, [SENDER, RECIPIENT])
    try:
        assert (second.url, second.shared_key) == (first.url, first.shared_key)
        with client(second, RECIPIENT) as recipient:
            assert recipient.list_messages() == [sent]
            message = recipient.retrieve_message(sent)
            assert message.read() == b"feedback"
            message.acknowledge()
            assert recipient.list_messages() == []
    finally:
        second.stop()


def test_concurrent_messages_to_a_new_sandbox_are_all_stored(tmp_path: Path) -> None:
    a_full_mailbox(tmp_path, 300)
    server = mesh.start(tmp_path, [SENDER, OTHER])

    def send(_: int) -> str:
        with client(server, SENDER) as sender:
            return str(sender.send_message(OTHER, b"feedback", workflow_id="TRIED"))

    try:
        with ThreadPoolExecutor(12) as threads:
            sent = set(threads.map(send, range(12)))
        with client(server, OTHER) as recipient:
            assert set(recipient.list_messages()) == sent
    finally:
        server.stop()


def a_full_mailbox(folder: Path, messages: int) -> None:
    """So that the sandbox takes long to read what it has kept."""
    server = mesh.start(folder, [SENDER, RECIPIENT])
    with client(server, SENDER) as sender:
        sent = str(sender.send_message(RECIPIENT, b"feedback", workflow_id="TRIED"))
    server.stop()
    inbox = folder / "mesh" / "mailboxes" / RECIPIENT / "in"
    for number in range(messages):
        (inbox / f"{number:032}.json").write_text((inbox / f"{sent}.json").read_text().replace(sent, f"{number:032}"))


def test_requests_without_the_shared_key_or_to_unknown_mailboxes_are_refused(tmp_path: Path) -> None:
    server = mesh.start(tmp_path, [SENDER])
    try:
        with client(server, SENDER, "another key") as stranger, pytest.raises(HTTPError, match="403"):
            stranger.handshake()
        with client(server, SENDER) as sender, pytest.raises(MeshError):
            sender.send_message("NOBODY", b"feedback", workflow_id="TRIED")
    finally:
        server.stop()


@pytest.mark.parametrize("name", ["lower", "", "A/B", "..", "A B"])
def test_an_invalid_mailbox_name_is_refused_before_a_folder_is_created(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is not a mailbox"):
        mesh.start(tmp_path, [name])
    assert list(tmp_path.iterdir()) == []
