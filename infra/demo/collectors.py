"""Collect what every recipient received: inbox files, MESH inboxes, mailboxes and the topic case.event."""

import asyncio
import contextlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
from aiokafka import AIOKafkaConsumer
from mesh_client import MeshClient

from infra.demo import letter
from infra.demo.observations import HubObservation, Observations, ReceivedFeedback, ReferralSummary
from schemas import topics
from services.reference.partners import Partner

PAUSE = 0.3
"""Seconds between two polls of the same source."""

STIRRED = 6.0
"""Seconds after an event of a case during which its referrals' mailboxes are polled."""


@dataclass
class JsonLinesReader:
    """The complete lines of a file that another process appends to, each read once."""

    file: Path
    _read: int = 0

    def new(self) -> Iterator[dict[str, Any]]:
        if not self.file.exists():
            return
        with self.file.open("rb") as opened:
            opened.seek(self._read)
            whole, newline, _ = opened.read().rpartition(b"\n")
        self._read += len(whole) + len(newline)
        yield from (json.loads(line) for line in whole.splitlines())


@dataclass
class ObservationCollector:
    """Everything that is polled, and what was observed. `run` polls until it is cancelled."""

    addresses: Mapping[str, Any]
    hub_inbox: Path
    gp_inbox: Path
    gp_partner: str
    partners: Iterable[Partner]
    observations: Observations = field(default_factory=Observations)
    _stirred: dict[str, float] = field(default_factory=dict)

    async def run(self) -> None:
        by_channel: dict[str, list[Partner]] = {"mailbox": [], "mesh": [], "fhir": []}
        for partner in self.partners:
            by_channel[partner.feedback.channel].append(partner)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._inboxes())
            group.create_task(self._case_events())
            group.create_task(self._mailboxes(by_channel["mailbox"]))
            for partner in by_channel["mesh"]:
                group.create_task(self._mesh(partner))

    async def _inboxes(self) -> None:
        hubs, gp = JsonLinesReader(self.hub_inbox), JsonLinesReader(self.gp_inbox)
        while True:
            for line in hubs.new():
                self._hub_line(line)
            for line in gp.new():
                self._gp_line(line)
            await asyncio.sleep(PAUSE)

    def _hub_line(self, line: Mapping[str, Any]) -> None:
        observation = HubObservation(
            hub=line["hub"],
            kind=line["type"],
            case=line["case"],
            at=line["at"],
            role=line.get("role"),
            error=line.get("fault"),
        )
        summaries = {
            one["reference"]: ReferralSummary(one["provisional"], one.get("stay", False), one.get("grant") or {})
            for one in line.get("referrals", [])
        }
        self.observations.hub(observation, line["id"], summaries)

    def _gp_line(self, line: Mapping[str, Any]) -> None:
        if line.get("duplicate"):
            return
        feedback = ReceivedFeedback(
            partner=self.gp_partner,
            id=line["bundle_id"],
            what=line["feedback_type"],
            status=line["status"],
            at=line["at"],
            done=tuple(action or service for service, action in line["completed_actions"]),
            via="FHIR",
            names_person=line["names_person"],
        )
        self.observations.feedback(line["reference"], feedback)

    async def _case_events(self) -> None:
        consumer = AIOKafkaConsumer(
            topics.CASE_EVENT, bootstrap_servers=self.addresses["kafka"], auto_offset_reset="earliest"
        )
        await consumer.start()
        try:
            async for record in consumer:
                self._case_event(json.loads(record.value))
        finally:
            await consumer.stop()

    def _case_event(self, data: Mapping[str, Any]) -> None:
        case = data["case"]
        for context in data.get("referral_contexts", []):
            self.observations.path(context["reference"]).case = data["case_id"]
        for path in self.observations.paths.values():
            if path.case == data["case_id"]:
                self.observations.position(path.reference, data["case_id"], case)
                self._stirred[path.reference] = time.monotonic()

    async def _mailboxes(self, partners: Iterable[Partner]) -> None:
        """Poll every owner's mailbox for referrals with recent events; other partners must get 404."""
        owners = list(partners)
        while True:
            await self._ask(owners, [one for one, since in self._stirred.items() if time.monotonic() - since < STIRRED])
            await asyncio.sleep(PAUSE)

    async def sweep(self) -> None:
        """Poll every mailbox for every reference once, to find feedback for recipients that should not have any."""
        await self._ask(
            [one for one in self.partners if one.feedback.channel == "mailbox"], list(self.observations.paths)
        )

    async def _ask(self, owners: Iterable[Partner], references: Sequence[str]) -> None:
        async with aiohttp.ClientSession(self.addresses["notifier"]) as session:
            for reference in references:
                await asyncio.gather(*(self._mailbox(session, owner, reference) for owner in owners))

    async def _mailbox(self, session: aiohttp.ClientSession, partner: Partner, reference: str) -> None:
        token = self.addresses["partners"][partner.id]["token"]
        headers = {"Authorization": f"Bearer {token}"}
        async with session.get(f"/referrals/{reference}/feedback", headers=headers) as answer:
            entries = await answer.json() if answer.status == 200 else []
        for one in entries:
            self.observations.feedback(reference, _fetched(partner.id, one))

    async def _mesh(self, partner: Partner) -> None:
        with _mesh_client(self.addresses["mesh"], str(partner.feedback.mesh_mailbox)) as client:
            while True:
                for message in await asyncio.to_thread(_letters, client):
                    reference, feedback = _in_letter(partner.id, datetime.now(UTC).isoformat(), message)
                    self.observations.feedback(reference, feedback)
                await asyncio.sleep(PAUSE)


def _fetched(partner: str, one: Mapping[str, Any]) -> ReceivedFeedback:
    done = tuple(act.get("action") or act["service"]["code"] for act in one.get("completed_actions", []))
    full = one["detail"] == "full"
    return ReceivedFeedback(
        partner, one["id"], one.get("feedback_type"), one["status"], one["at"], done, "mailbox", names_person=full
    )


# ---- MESH ----------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _mesh_client(mesh: Mapping[str, str], mailbox: str) -> Iterator[MeshClient]:
    client = MeshClient(mesh["url"], mailbox, mesh["password"], shared_key=mesh["shared_key"].encode(), timeout=10)
    try:
        yield client
    finally:
        client.close()  # type: ignore[no-untyped-call]  # mesh-client ships no types


def _letters(client: MeshClient) -> list[bytes]:
    """Return the messages in the mailbox, and acknowledge them as its owner would."""
    letters = []
    for message_id in client.list_messages():
        message = client.retrieve_message(message_id)
        letters.append(message.read())
        message.acknowledge()  # type: ignore[no-untyped-call]  # as above
    return letters


def _in_letter(partner: str, at: str, message: bytes) -> tuple[str, ReceivedFeedback]:
    read = letter.read(message)
    feedback = ReceivedFeedback(
        partner, read.id, read.feedback_type, read.status, at, read.done, "MESH", read.names_person
    )
    return read.reference, feedback
