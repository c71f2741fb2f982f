"""Run a plan: the inputs of a person in order, each after the effect of the previous one was observed; persons and faults in parallel."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from infra.partner_simulators.hub import OutgoingCommand, SimulatedCase
from tests.chaos.harness import db_probe, faults, recovery_time
from tests.chaos.harness.cluster import WARDS, Cluster
from tests.chaos.harness.history import History, Message, SentCommand
from tests.chaos.harness.load import Load
from tests.chaos.harness.observed_effects import ObservedEffects, run_while_alive
from tests.chaos.harness.plan import InjectCommand, Person, Plan, SendMessage
from tests.chaos.harness.quiescence import wait_for_quiescence
from tests.chaos.harness.schedule import PlannedFault
from tests.chaos.harness.senders import Identity, Senders, message


@dataclass
class PlanRun:
    """One run of a plan. A baseline run has no faults and no pauses."""

    cluster: Cluster
    plan: Plan
    identity: Identity
    is_baseline: bool
    history: History = field(default_factory=History)
    references: dict[tuple[int, int], str] = field(default_factory=dict)
    is_quiescent: bool = False
    _publish_check: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self._effects = ObservedEffects(self.cluster.connection)
        port = self.cluster.proxies["http"].port
        wards = {ward: self.cluster.proxies[f"mllp-{ward}"].port for ward in WARDS}
        self._senders = Senders(
            f"http://127.0.0.1:{port}", wards, self.cluster.tokens(), self.history, self.cluster.session
        )

    async def run(self) -> None:
        """Run until the installation is quiescent or the time limit is reached. Raise HarnessFailed if a background task ends."""
        self._set_refusals()
        await db_probe.begin(self.cluster.probe)
        polling = asyncio.create_task(self._effects.poll())
        running = asyncio.create_task(self._run())
        try:
            await run_while_alive(running, [polling, *self.cluster.background_tasks])
        finally:
            for task in (polling, running):
                task.cancel()
            await asyncio.gather(polling, running, return_exceptions=True)
            self._effects.end()

    async def _run(self) -> None:
        late = [] if self.is_baseline else [person for person in self.plan.persons if person.number in self.plan.late]
        try:
            await self._run_concurrently(
                [person for person in self.plan.persons if person not in late], self.plan.faults
            )
            if not self.is_baseline and self.plan.last is not None:
                await self._run_concurrently(late, [self.plan.last], alone=True)
            waiting_since = time.monotonic()
            self.is_quiescent = await wait_for_quiescence(self.cluster, self.plan.quiescence_seconds)
        finally:
            await self._end_publish_check()
        self.history.quiescent_at = time.monotonic()
        self.history.phases["quiescence"] = self.history.quiescent_at - waiting_since
        if not self.is_quiescent:
            self.history.notes.append("not quiescent")

    async def _run_concurrently(
        self, persons: Sequence[Person], planned: Sequence[PlannedFault], alone: bool = False
    ) -> None:
        """Run the inputs of these persons and these faults in parallel, until all are done."""
        begun = time.monotonic()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._inject(planned, alone))
            for person in persons:
                group.create_task(self._person(person))
        self.history.phases["alone" if alone else "together"] = time.monotonic() - begun

    async def _inject(self, planned: Sequence[PlannedFault], alone: bool) -> None:
        if not self.is_baseline:
            load = Load(self.identity, self._senders)
            await faults.inject(self.cluster, planned, self.history, load, alone=alone)
        self.history.faults_over = time.monotonic()
        await self._end_publish_check()
        self._publish_check = asyncio.create_task(self._check_published_after(10.0))
        if alone:
            await recovery_time.measure(self.cluster, self.history.faults[-1])

    async def _end_publish_check(self) -> None:
        """End the check of I4, which does not apply after quiescence or during other faults."""
        if self._publish_check is not None:
            self._publish_check.cancel()
            [outcome] = await asyncio.gather(self._publish_check, return_exceptions=True)
            if isinstance(outcome, Exception):
                raise outcome

    def _set_refusals(self) -> None:
        for person in self.plan.persons:
            for at, referral in enumerate(person.referrals):
                if referral.refuses_first:
                    first = message(self.identity, person, SendMessage(at, "new", 0), 0)
                    self.cluster.endpoint.refuses.add(first.correlation_id)

    # ---- inputs

    async def _person(self, person: Person) -> None:
        if not self.is_baseline:
            await asyncio.sleep(person.begins_at)
        places = range(len(person.inputs))
        if self.plan.races:
            alone = 1 if person.number % 2 else 0  # every second person's first message has its effect first
            for place in places[:alone]:
                await self._input(person, place)
            await asyncio.gather(*(self._input(person, place, races=True) for place in places[alone:]))
            return
        for place in places:
            await self._input(person, place)
            await asyncio.sleep(0 if self.is_baseline else person.pause)

    async def _input(self, person: Person, place: int, races: bool = False) -> None:
        given = person.inputs[place]
        waited = self.history.begins(person.number, place)
        try:
            async with asyncio.timeout(self.plan.effect_seconds):
                if isinstance(given, SendMessage):
                    await self._send_message(person, place, given, races)
                else:
                    await self._inject_command(person, place, given, races)
            waited.seen = time.monotonic()
        except TimeoutError:
            self.history.notes.append(f"no effect seen of input {place} of person {person.number}: {given}")

    async def _send_message(self, person: Person, place: int, send: SendMessage, races: bool) -> None:
        sent: Message = message(self.identity, person, send, place)
        await self._senders.send(sent)
        answer = next(a for a in reversed(self.history.answers) if a.message is sent)
        if answer.reference:
            self.references[person.number, send.referral] = answer.reference
        if answer.is_acknowledged and not races:
            await self._wait_for_effect(sent, person.referrals[send.referral].format)

    async def _wait_for_effect(self, sent: Message, way_format: str) -> None:
        if sent.kind in ("new", "update", "cancel"):
            correlation_id, effect = await self._effect(sent)
        elif way_format == "hl7" and (
            stored := await db_probe.applied(self.cluster.probe, sent.correlation_id, sent.mark)
        ):
            correlation_id, effect = stored, f"c {stored}"
        else:
            return
        await self._effects.wait_for(effect)
        await self._wait_for_hubs(correlation_id)

    async def _effect(self, sent: Message) -> tuple[str, str]:
        """Return the correlation id and the name of the effect. A file has several; those of the row that is meant are returned."""
        if sent.path and not sent.row:
            return sent.correlation_id, f"c {sent.correlation_id}"
        while not (rows := await db_probe.accepted(self.cluster.probe, sent.partner, sent.mark)):
            await asyncio.sleep(0.1)
        correlation_id = str(rows[0]["correlation_id"] or rows[0]["id"])
        return correlation_id, f"k {rows[0]['person_key']} {correlation_id}"

    async def _inject_command(self, person: Person, place: int, inject: InjectCommand, races: bool) -> None:
        found = self._find_command(person, inject)
        if found is None and races:
            found = await self._wait_for_command(person, inject)
        if found is None:
            return
        case, send = found
        self.history.commands.append(SentCommand(person.number, place, inject.how, send.id, case.hub, case.id))
        await self.cluster.hubs.send(case, send)
        await self._effects.wait_for(f"i {send.id}")
        await self._wait_for_hub_events(case.person_key)

    def _find_command(self, person: Person, inject: InjectCommand) -> tuple[SimulatedCase, OutgoingCommand] | None:
        reference = self.references.get((person.number, inject.referral))
        return self.cluster.hubs.find_command(reference, inject.how) if reference else None

    async def _wait_for_command(
        self, person: Person, inject: InjectCommand
    ) -> tuple[SimulatedCase, OutgoingCommand] | None:
        """Wait up to five seconds for the hub to receive the case (races only)."""
        for _ in range(50):
            await asyncio.sleep(0.1)
            if found := self._find_command(person, inject):
                return found
        return None

    async def _wait_for_hubs(self, correlation_id: str) -> None:
        for person_key in await db_probe.persons_of(self.cluster.probe, correlation_id):
            await self._wait_for_hub_events(person_key)

    async def _wait_for_hub_events(self, person_key: str) -> None:
        """Wait until the hubs have received all events for them about this person."""
        ids = {row["id"] for row in await db_probe.events_for_hubs(self.cluster.probe, [person_key])}
        while not ids <= self.cluster.hubs.received:
            await asyncio.sleep(0.02)

    # ---- quiescence

    async def _check_published_after(self, seconds: float) -> None:
        """Check I4: messages that were written before the faults ended are published after these seconds."""
        over = await db_probe.now(self.cluster.probe)
        await asyncio.sleep(seconds)
        for schema in db_probe.SCHEMAS:
            if waiting := await db_probe.unpublished_since(self.cluster.probe, schema, over):
                self.history.notes.append(f"I4 {waiting} messages of {schema} unpublished after {seconds:.0f} s")
