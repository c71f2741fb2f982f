"""Simulate the systems of all hubs: receive their topics, and send the commands of a plan with the last received version."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from aiokafka.errors import KafkaError

from infra.partner_simulators.hub import (
    FULL,
    HubClient,
    OutgoingCommand,
    OutOfOrder,
    ReceivedHubEvent,
    ScriptStep,
    SimulatedCase,
    apply_event,
    command,
    next_step,
)

SCRIPT = [ScriptStep(word) for word in FULL.split(",")]
TRIAGE = [ScriptStep("assign", "charnwood"), *SCRIPT]
AS_THEY_ARE = {"book", "report-death"}
"""Variants of a command that name its step; `part` sends complete, all others but `next` accept."""


class Hubs:
    """The hubs' systems, which use the hubs' topics only. `received` holds the id of each received event."""

    def __init__(self, kafka: str, hubs: Iterable[str]) -> None:
        self.names = list(hubs)
        self.cases: dict[tuple[str, str], SimulatedCase] = {}
        self.received: set[str] = set()
        self.sequence_gaps = 0
        self._last: dict[str, tuple[SimulatedCase, OutgoingCommand]] = {}
        self._kafka = kafka

    async def start(self) -> None:
        self._client = HubClient(self._kafka, self.names)
        await self._client.__aenter__()
        self.listening = asyncio.create_task(self._listen())

    async def stop(self) -> None:
        self.listening.cancel()
        await asyncio.gather(self.listening, return_exceptions=True)
        await self._client.__aexit__()

    async def _listen(self) -> None:
        while True:
            try:
                for received in await self._client.receive(0.1):
                    self._take(received)
            except KafkaError:
                await asyncio.sleep(0.3)

    def _take(self, received: ReceivedHubEvent) -> None:
        if received.headers["ce_id"] in self.received:
            return
        self.received.add(received.headers["ce_id"])
        if received.kind == "command-refused":
            return
        key = (received.hub, received.data["case_id"])
        case = self.cases.setdefault(
            key, SimulatedCase(received.hub, received.data["case_id"], received.data["person_key"])
        )
        try:
            apply_event(case, received.kind, received.data)
        except OutOfOrder:
            self.sequence_gaps += 1
        case.awaiting = None
        case.correlation_id = received.headers.get("ce_correlationid", "")
        case.event_id = received.headers["ce_id"]

    # ---- commands

    def holding(self, reference: str) -> SimulatedCase | None:
        """Return the case of this referral at the hub that holds it."""
        found = [c for c in self.cases.values() if c.is_held and any(r["reference"] == reference for r in c.referrals)]
        return found[0] if len(found) == 1 else None

    def find_command(self, reference: str, how: str) -> tuple[SimulatedCase, OutgoingCommand] | None:
        """Return the planned command; None if no hub holds the case, or it has no next step."""
        if how == "again":
            return self._last.get(reference)
        case = self.holding(reference)
        if case is None:
            return None
        step: ScriptStep | None = ScriptStep({"part": "complete"}.get(how, how if how in AS_THEY_ARE else "accept"))
        if how == "next":
            step = next_step(case, TRIAGE if case.hub == "triage" else SCRIPT)
        if step is None:
            return None
        return self._changed(reference, how, case, command(case, step, {}))

    def _changed(
        self, reference: str, how: str, case: SimulatedCase, send: OutgoingCommand
    ) -> tuple[SimulatedCase, OutgoingCommand]:
        match how:
            case "ahead":
                data: dict[str, Any] = send.data | {"expected_version": case.version + 7}
                return case, OutgoingCommand(f"{send.id}-ahead", send.name, data)
            case "wrong-hub":
                return replace(case, hub=self._another(case)), OutgoingCommand(
                    f"{send.id}-elsewhere", send.name, send.data
                )
            case "part":
                return case, self._part(reference, case, send)
            case "accept-twice":
                return case, OutgoingCommand(f"{send.id}-twice", send.name, send.data)
            case _:
                if send.name == "complete":
                    case.ending.update(case.open_needs())
                self._last[reference] = case, send
                return case, send

    def _part(self, reference: str, case: SimulatedCase, send: OutgoingCommand) -> OutgoingCommand:
        """Complete one need of this referral alone; everything of the case if the referral has none that is open."""
        of_it = [one for one in send.data["ended"] if one["reference"] == reference]
        ended = [{"reference": reference, "needs": sorted(one["needs"])[:1]} for one in of_it] or send.data["ended"]
        case.ending.update((one["reference"], need) for one in ended for need in one["needs"])
        return OutgoingCommand(f"{send.id}-part", send.name, send.data | {"ended": ended})

    def _another(self, case: SimulatedCase) -> str:
        """Return a hub that has never received the case."""
        return next(name for name in self.names if (name, case.id) not in self.cases)

    async def send(self, case: SimulatedCase, send: OutgoingCommand) -> None:
        """Send until Kafka has acknowledged it; a repetition has the same id."""
        await self._client.deliver((case, send))
