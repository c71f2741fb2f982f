"""Plays a plan: each person's inputs in order, each after the effect of the one before is seen; persons side by side; faults beside."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from infra.partner_simulators.hub import OutgoingCommand, SimulatedCase
from tests.chaos import db_probe, faults, told_again
from tests.chaos.drain import drained
from tests.chaos.effects import Effects, first_to_end
from tests.chaos.history import Commanded, History, Message
from tests.chaos.schedule import Fault
from tests.chaos.seed import Do, Person, Plan, Say
from tests.chaos.senders import Identity, Senders, message
from tests.chaos.world import WARDS, World

EFFECT_SECONDS = 60.0
"""How long an effect may take to be seen: longer than all faults of a seed and their recovery."""


@dataclass
class Run:
    """One playing of a plan. `calm`: no faults and no pauses."""

    world: World
    plan: Plan
    identity: Identity
    calm: bool
    patience: float = EFFECT_SECONDS
    history: History = field(default_factory=History)
    references: dict[tuple[int, int], str] = field(default_factory=dict)
    drained: bool = False
    _published: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self._effects = Effects(self.world.connection)
        port = self.world.wires["http"].port
        wards = {ward: self.world.wires[f"mllp-{ward}"].port for ward in WARDS}
        self._senders = Senders(
            f"http://127.0.0.1:{port}", wards, self.world.tokens(), self.history, self.world.session
        )

    async def play(self) -> None:
        """Everything until the drain, or until patience ends; `drained` says which. Raises where what looks or listens has died."""
        self._set_refusals()
        looking = asyncio.create_task(self._effects.look())
        playing = asyncio.create_task(self._play())
        try:
            await first_to_end(playing, [looking, *self.world.watching])
        finally:
            for task in (looking, playing):
                task.cancel()
            await asyncio.gather(looking, playing, return_exceptions=True)
            self._effects.end()

    async def _play(self) -> None:
        late = [] if self.calm else [person for person in self.plan.people if person.number in self.plan.late]
        try:
            await self._together([person for person in self.plan.people if person not in late], self.plan.faults)
            if not self.calm and self.plan.last is not None:
                await self._together(late, [self.plan.last], alone=True)
            began_to_drain = time.monotonic()
            self.drained = await drained(self.world)
        finally:
            await self._end_published()
        self.history.drained = time.monotonic()
        self.history.phases["drain"] = self.history.drained - began_to_drain
        if not self.drained:
            self.history.notes.append("not drained")

    async def _together(self, people: Sequence[Person], planned: Sequence[Fault], alone: bool = False) -> None:
        """These people and these faults, side by side, until all of them are done."""
        begun = time.monotonic()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._inject(planned, alone))
            for person in people:
                group.create_task(self._person(person))
        self.history.phases["alone" if alone else "together"] = time.monotonic() - begun

    async def _inject(self, planned: Sequence[Fault], alone: bool) -> None:
        if not self.calm:
            await faults.inject(self.world, planned, self.history, alone=alone)
        self.history.faults_over = time.monotonic()
        await self._end_published()
        self._published = asyncio.create_task(self._unpublished_after(10.0))
        if alone:
            await told_again.note(self.world, self.history.faults[-1])

    async def _end_published(self) -> None:
        """Nothing more is asked of I4 where everything was drained before, or other faults come."""
        if self._published is not None:
            self._published.cancel()
            [outcome] = await asyncio.gather(self._published, return_exceptions=True)
            if isinstance(outcome, Exception):
                raise outcome

    def _set_refusals(self) -> None:
        for person in self.plan.people:
            for at, referral in enumerate(person.referrals):
                if referral.refuses_first:
                    first = message(self.identity, person, Say(at, "new", 0), 0)
                    self.world.endpoint.refuses.add(first.correlation_id)

    # ---- inputs

    async def _person(self, person: Person) -> None:
        if not self.calm:
            await asyncio.sleep(person.begins_at)
        places = range(len(person.inputs))
        if self.plan.races:
            alone = 1 if person.number % 2 else 0  # of every second person the first message has its effect first
            for place in places[:alone]:
                await self._input(person, place)
            await asyncio.gather(*(self._input(person, place, races=True) for place in places[alone:]))
            return
        for place in places:
            await self._input(person, place)
            await asyncio.sleep(0 if self.calm else person.pause)

    async def _input(self, person: Person, place: int, races: bool = False) -> None:
        given = person.inputs[place]
        waited = self.history.begins(person.number, place)
        try:
            async with asyncio.timeout(self.patience):
                if isinstance(given, Say):
                    await self._say(person, place, given, races)
                else:
                    await self._do(person, place, given, races)
            waited.seen = time.monotonic()
        except TimeoutError:
            self.history.notes.append(f"no effect seen of input {place} of person {person.number}: {given}")

    async def _say(self, person: Person, place: int, say: Say, races: bool) -> None:
        sent: Message = message(self.identity, person, say, place)
        await self._senders.send(sent)
        answer = next(a for a in reversed(self.history.answers) if a.message is sent)
        if answer.reference:
            self.references[person.number, say.referral] = answer.reference
        if answer.is_acknowledged and say.kind in ("new", "update", "cancel") and not races:
            correlation_id, effect = await self._effect(sent)
            await self._effects.of(effect)
            await self._heard_by_hubs(correlation_id)

    async def _effect(self, sent: Message) -> tuple[str, str]:
        """What intake called the conversation, and the name of the effect: of a file's rows, that of the one that is meant."""
        if sent.path and not sent.row:
            return sent.correlation_id, f"c {sent.correlation_id}"
        while not (rows := await db_probe.accepted(self.world.probe, sent.partner, sent.mark)):
            await asyncio.sleep(0.1)
        correlation_id = str(rows[0]["correlation_id"] or rows[0]["id"])
        return correlation_id, f"k {rows[0]['person_key']} {correlation_id}"

    async def _do(self, person: Person, place: int, do: Do, races: bool) -> None:
        made = self._made(person, do)
        if made is None and races:
            made = await self._made_later(person, do)
        if made is None:
            return
        case, send = made
        self.history.commands.append(Commanded(person.number, place, do.how, send.id, case.hub, case.id))
        await self.world.hubs.send(case, send)
        await self._effects.of(f"i {send.id}")
        await self._keys_heard(case.person_key)

    def _made(self, person: Person, do: Do) -> tuple[SimulatedCase, OutgoingCommand] | None:
        reference = self.references.get((person.number, do.referral))
        return self.world.hubs.made(reference, do.how) if reference else None

    async def _made_later(self, person: Person, do: Do) -> tuple[SimulatedCase, OutgoingCommand] | None:
        """Where inputs race, a hub waits a little for a case to come."""
        for _ in range(50):
            await asyncio.sleep(0.1)
            if made := self._made(person, do):
                return made
        return None

    async def _heard_by_hubs(self, correlation_id: str) -> None:
        for person_key in await db_probe.persons_of(self.world.probe, correlation_id):
            await self._keys_heard(person_key)

    async def _keys_heard(self, person_key: str) -> None:
        """Until the hubs have heard everything that was written for them under this key."""
        ids = {row["id"] for row in await db_probe.events_for_hubs(self.world.probe, [person_key])}
        while not ids <= self.world.hubs.heard:
            await asyncio.sleep(0.02)

    # ---- the drain

    async def _unpublished_after(self, seconds: float) -> None:
        """I4: what was written before the faults stopped is published so many seconds later."""
        over = await db_probe.now(self.world.probe)
        await asyncio.sleep(seconds)
        for schema in db_probe.SCHEMAS:
            if rows := await db_probe.unpublished_since(self.world.probe, schema, over):
                self.history.notes.append(f"I4 {rows} rows of {schema}.outbox unpublished after {seconds:.0f} s")
