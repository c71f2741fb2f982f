"""The MESH sandbox with our mailbox and those of practices, whose inboxes the tests read."""

import asyncio
from dataclasses import dataclass

from mesh_client import MeshClient

from infra.local.embedded.mesh import MeshSandbox as Sandbox
from services.notifier.channels import mesh
from services.notifier.channels.mesh import MeshChannel
from tests.notifier.builders import the_recipients, the_words

OURS, BROOK_STREET, ROUTED = "LIGHTBULB1", "X26ABC2", "PRACTICE9"
MAILBOXES = [OURS, BROOK_STREET, ROUTED]


@dataclass(frozen=True)
class Letter:
    """One message in a practice's inbox."""

    body: bytes
    local_id: str
    subject: str
    workflow_id: str


@dataclass
class Box:
    """A mailbox of a practice."""

    sandbox: Sandbox
    name: str = BROOK_STREET

    async def letters(self) -> list[Letter]:
        """What is in its inbox, oldest first; each is acknowledged, and so taken out."""
        return await asyncio.to_thread(self._letters)

    def _letters(self) -> list[Letter]:
        with MeshClient(
            self.sandbox.url, self.name, self.sandbox.password, shared_key=self.sandbox.shared_key.encode()
        ) as client:
            found = []
            for message_id in client.list_messages():
                message = client.retrieve_message(message_id)
                found.append(
                    Letter(message.read(), message.local_id or "", message.subject or "", message.workflow_id or "")
                )
                message.acknowledge()
            return found


def a_mesh(sandbox: Sandbox, url: str | None = None) -> MeshChannel:
    """Our carrier, at the sandbox or at something in front of it."""
    return MeshChannel(
        lambda: mesh.connect(url or sandbox.url, OURS, sandbox.password, sandbox.shared_key),
        OURS,
        the_recipients().mesh_mailbox,
        the_words().sender_details,
    )
