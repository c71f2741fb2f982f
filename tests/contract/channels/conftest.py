"""Each carrier with what it talks to, and a server between them that misbehaves on request."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from uuid import uuid4

import pytest

from infra.local.embedded.mesh import MeshSandbox as Sandbox
from schemas.events import CaseCompleted
from services.notifier.channels import Channel, DeliveryRequest, mesh
from services.notifier.channels import fhir_endpoint as fhir
from services.notifier.channels.bars_message import bundle_id, message
from services.notifier.channels.fhir_endpoint import EndpointAddress, FhirEndpoint
from services.notifier.channels.mailbox import Mailbox
from services.notifier.compose import Feedback, compose
from tests.notifier.between import Between, Trouble
from tests.notifier.builders import GP, GP_MESH, a_case_event, an_intervention, by_gp, ended, the_recipients, the_words
from tests.notifier.gp_system import GpSystem, outcome
from tests.notifier.mesh_box import Box, a_mesh
from tests.notifier.sandbox import sandbox

__all__ = ["sandbox"]
WORDS = the_words()
REFUSED = {
    "fhir": Trouble(status=422, body=outcome("invalid")),
    "mesh": Trouble(
        status=417, body=b'{"detail": [{"event": "SEND", "code": "12", "msg": "Unregistered to address"}]}'
    ),
}


@dataclass
class Carrier:
    """A carrier under test."""

    name: str
    channel: Channel
    between: Between
    arrived: Callable[[], Awaitable[list[bytes]]]
    """What has arrived since the last call."""

    feedback: Feedback = field(init=False)

    def __post_init__(self) -> None:
        self.feedback = a_feedback(GP_MESH if self.name == "mesh" else GP, str(uuid4()))

    def parcel(self, attempt: int = 1) -> DeliveryRequest:
        rendered = self.channel.render(self.feedback)
        said = self.feedback
        return DeliveryRequest(
            said.id, said.reference, said.correlation_id, said.recipient.id, rendered.body, rendered.ids, attempt
        )

    def refuses(self) -> None:
        self.between.trouble(REFUSED[self.name])


def a_feedback(partner: str, event_id: str = "event") -> Feedback:
    concern = by_gp(partner, status="completed", open_needs=(), interventions=(an_intervention(),))
    [feedback] = compose(
        a_case_event(CaseCompleted, concern, id=event_id, ended=ended(concern)), the_recipients(), WORDS
    )
    return feedback


@pytest.fixture(params=["fhir", "mesh"])
async def carrier(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Carrier]:
    """Every carrier that sends."""
    monkeypatch.setattr(fhir, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(mesh, "ANSWER_SECONDS", 1.0)
    if request.param == "fhir":
        async with GpSystem() as gp, Between(gp.url.removesuffix("/fhir")) as between:
            endpoint = FhirEndpoint(
                lambda partner: EndpointAddress(f"{between.url}/fhir", "token"), WORDS.sender_details
            )
            yield Carrier("fhir", endpoint, between, _since(gp))
            await endpoint.close()
    else:
        running: Sandbox = request.getfixturevalue("sandbox")
        async with Between(running.url) as between:
            sending = a_mesh(running, between.url)
            box = Box(running)
            await box.letters()
            yield Carrier("mesh", sending, between, lambda: _bodies(box))
            await asyncio.to_thread(sending.close)


@pytest.fixture(params=["fhir", "mesh", "mailbox"])
def renders(request: pytest.FixtureRequest) -> Callable[[Feedback], tuple[bytes, dict[str, str]]]:
    """What each carrier makes of a feedback; no connection is needed."""
    channels: dict[str, Callable[[], object]] = {"mailbox": Mailbox, "mesh": _mesh_to_nowhere}

    def render(feedback: Feedback) -> tuple[bytes, dict[str, str]]:
        if request.param == "fhir":
            return message(feedback, WORDS.sender_details), {"bundle_id": bundle_id(feedback)}
        rendered = channels[request.param]().render(feedback)  # type: ignore[attr-defined]
        return rendered.body, dict(rendered.ids)

    return render


def _mesh_to_nowhere() -> mesh.MeshChannel:
    return mesh.MeshChannel(lambda: None, "OURS", lambda partner: None, WORDS.sender_details)  # type: ignore[arg-type]


def _since(gp: GpSystem) -> Callable[[], Awaitable[list[bytes]]]:
    seen = 0

    async def arrived() -> list[bytes]:
        nonlocal seen
        new = list(gp.kept.values())[seen:]
        seen = len(gp.kept)
        assert gp.faults == []
        return new

    return arrived


async def _bodies(box: Box) -> list[bytes]:
    return [letter.body for letter in await box.letters()]
