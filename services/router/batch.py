"""One batch of records is one transaction: lock, drop duplicates, read, decide in memory, number, write, and hand over to the outbox.

A record that can never succeed is parked in the same transaction; later ones of its referral, or of its case's commands, wait behind
it. Everything else goes on.
"""

import json
import re
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any, get_args

from sqlalchemy.ext.asyncio import AsyncEngine

from schemas.events import (
    COMMANDS,
    REFERRAL_EVENTS,
    CaseCancelled,
    CaseCompleted,
    CaseEvent,
    CaseRejected,
    Command,
    Event,
    HubCommand,
    ReferralCancelled,
    ReferralReceived,
    ReferralUpdated,
)
from schemas.model import PersonKey
from schemas.topics import CASE_EVENT, REFERRAL_EVENT, commanding_hub, hub_case
from services.directory import Directory
from services.messaging import database, outbox, putting_back, quarantine
from services.messaging.cloudevents import Record, Undecodable, decode, unknown_fields
from services.messaging.database import Transaction
from services.messaging.outbox import Message
from services.messaging.putting_back import Parked
from services.messaging.quarantine import MessageGroup, Parking
from services.messaging.telemetry import log
from services.messaging.tracing import Taken
from services.router import lifecycle, store
from services.router.assignment import postcode_of
from services.router.lifecycle import Decision, Grounds, Happening, Refusal
from services.router.state import KeyState
from services.router.store import SCHEMA, Changed, Input, Locked

SOURCE = "/lightbulb/router"
EVENTS = uuid.UUID("7f0a3f1c-6b7e-5f5e-8f4a-1f6a2f4b9d10")
"""Namespace of our event ids (RFC 9562 UUID version 5): made of the input and the place among what it led to."""

UNKNOWN = PersonKey("unknown")
"""The person key that a record is parked under that names nobody."""

_PERSON_KEY = re.compile(r"[0-9a-f]{32}")
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


class Batches:
    """Applies batches of records of `referral.event` and of the hubs' command topics."""

    def __init__(
        self,
        engine: AsyncEngine,
        directory: Directory,
        committed: Callable[[], None] = lambda: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._engine = engine
        self._directory = directory
        self._committed = committed
        self._clock = clock

    async def receive(self, records: Sequence[Record]) -> None:
        """Apply these records, each once, in order. Raises passing faults only: then nothing of the part that failed is done."""
        try:
            await database.each_or_halves(records, self._apply, self._refuse)
        finally:
            self._committed()

    async def _apply(self, records: Sequence[Record]) -> None:
        with Taken("apply", records) as taken:
            async with self._engine.begin() as tx:
                await _Batch(tx, self._directory, self._clock(), taken).run(records)

    async def _refuse(self, record: Record, reason: str) -> None:
        """The transaction of this record alone failed for good."""
        read = read_record(record)
        async with self._engine.begin() as tx:
            await store.lock(tx, [read.person_key])
            await quarantine.park(tx, SCHEMA, [_parking(read, reason)])

    async def release(self) -> int:
        """Apply what somebody asked to be put back, and what waits behind nothing any more; returns how many were tried."""
        return await putting_back.release(self._engine, SCHEMA, self._apply_again, self._refuse_again, self._committed)

    async def _apply_again(self, rows: Sequence[Parked]) -> None:
        with Taken("apply", [row.record for row in rows]) as taken:
            async with self._engine.begin() as tx:
                await _Batch(tx, self._directory, self._clock(), taken).release(rows)

    async def _refuse_again(self, row: Parked, reason: str) -> None:
        read = read_record(row.record)
        async with self._engine.begin() as tx:
            await store.lock(tx, [read.person_key])
            for still in await putting_back.take(tx, SCHEMA, [row]):
                await putting_back.park_again(tx, SCHEMA, still, _parking(read, reason))


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A record that is nothing of ours, and what is known of it all the same."""

    record: Record
    reason: str
    person_key: PersonKey
    message_group: str


def read_record(record: Record) -> Input | Unreadable:
    """The event or command in a record. A command's person key is the one that it names."""
    try:
        event = decode(record, REFERRAL_EVENTS if record.topic == REFERRAL_EVENT else COMMANDS)
    except Undecodable as fault:
        return _unreadable(record, fault.reason)
    unknown: tuple[str, ...] = ()
    match event.data:
        case Command(person_key=key, case_id=group):
            unknown = unknown_fields(record, type(event.data))
        case ReferralReceived(reference=group) | ReferralUpdated(reference=group) | ReferralCancelled(reference=group):
            key = event.person_key
        case _:
            return _unreadable(record, "ce_type: not for the router")
    if not _PERSON_KEY.fullmatch(key):
        return _unreadable(record, "person_key: 32 hexadecimal digits are expected")
    if b"u0000" in record.value and _NUL.search(record.value):
        return _unreadable(record, "value: holds NUL, which the database cannot keep")
    return Input(record, event, key, group, unknown)


def _unreadable(record: Record, reason: str) -> Unreadable:
    """Keep it where it would have been, as far as its bytes tell: what follows it on its message group waits."""
    told = _leniently(record.value)
    key = told.get("person_key") or (record.key or b"").decode("ascii", "replace")
    message_group = told.get("reference") or told.get("case_id") or f"{record.topic}/{record.partition}/{record.offset}"
    known = isinstance(key, str) and _PERSON_KEY.fullmatch(key)
    return Unreadable(record, reason, PersonKey(str(key)) if known else UNKNOWN, _printable(str(message_group)))


def _leniently(value: bytes) -> dict[str, Any]:
    try:
        told = json.loads(value)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _printable(group: str) -> str:
    """A message group's name can be anything that somebody sent: the database takes no NUL and no half characters."""
    if group.isprintable() and len(group) <= 200:
        return group
    return "".join(letter if letter.isprintable() else "?" for letter in group[:200])


def _parking(read: Input | Unreadable, reason: str, *, waiting: bool = False) -> Parking:
    told = read.event.correlation_id if isinstance(read, Input) else quarantine.correlation_id(read.record)
    correlation_id = _printable(told) if told else None
    log.warning(
        "record_dead_lettered", reason=reason, topic=read.record.topic, waiting=waiting, correlation_id=correlation_id
    )
    return Parking(read.record, read.person_key, (_printable(read.message_group),), reason, correlation_id, waiting)


@dataclass(slots=True)
class _Batch:
    """One transaction's work."""

    tx: Transaction
    directory: Directory
    now: datetime
    taken: Taken
    states: dict[PersonKey, KeyState] = field(default_factory=dict)
    parked: set[MessageGroup] = field(default_factory=set)
    failed: set[MessageGroup] = field(default_factory=set)
    parkings: dict[Record, Parking] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    history: list[tuple[Event, Sequence[str], Sequence[str]]] = field(default_factory=list)

    async def run(self, records: Sequence[Record]) -> None:
        """Apply these records, in order."""
        read = [read_record(record) for record in records]
        locked = await store.lock(self.tx, [one.person_key for one in read])
        standing = await quarantine.standing(self.tx, SCHEMA, locked.last, records)
        self.parked = standing.message_groups
        moved = await quarantine.moved(
            self.tx, SCHEMA, UNKNOWN, [one.record for one in read if one.person_key == UNKNOWN]
        )
        settled = {one.record for one in read if standing.is_settled(one.person_key, one.record)} | moved
        await self._apply([one for one in read if one.record not in settled], locked)
        in_order = [self.parkings[record] for record in dict.fromkeys(records) if record in self.parkings]
        await quarantine.park(self.tx, SCHEMA, in_order)

    async def release(self, rows: Sequence[Parked]) -> None:
        """Apply these parked records: what they are the first of waits behind them still."""
        read = {row.record: read_record(row.record) for row in rows}
        locked = await store.lock(self.tx, [one.person_key for one in read.values()])
        taken = {row.record: row for row in await putting_back.take(self.tx, SCHEMA, rows)}
        standing = await quarantine.standing(self.tx, SCHEMA, locked.last, [])
        self.parked = standing.message_groups - {
            (row.person_key, message_group) for row in taken.values() for message_group in row.message_groups
        }
        await self._apply([read[record] for record in taken], locked)
        for record, parking in self.parkings.items():
            await putting_back.park_again(self.tx, SCHEMA, taken[record], parking)
        done = [row for record, row in taken.items() if record not in self.parkings]
        await putting_back.resolve(self.tx, SCHEMA, done, "applied")

    async def _apply(self, read: Sequence[Input | Unreadable], locked: Locked) -> None:
        inputs = await self._ready(read)
        if not inputs:
            return
        before = dict(locked.last)
        grounds = await self._read(inputs, locked)
        known = dict(self.states)
        for one in inputs:
            await self._decide(one, grounds, locked)
        await self._write(known, locked, before)

    async def _ready(self, read: Sequence[Input | Unreadable]) -> list[Input]:
        """The inputs that are to be applied now: neither a repeat, nor unreadable, nor waiting behind a parked one."""
        candidates = []
        for one in read:
            if isinstance(one, Unreadable):
                self._park(one, one.reason)
                self.parked.add((one.person_key, one.message_group))
            elif _message_group(one) not in self.parked:
                candidates.append(one)
            elif not await store.is_marked(self.tx, one):
                self._park(one, quarantine.WAITING, waiting=True)
        fresh = await store.mark(self.tx, candidates, self.now, self.directory.version)
        first = {one.identity: one for one in reversed(candidates)}
        return [one for one in candidates if one.identity in fresh and first[one.identity] is one]

    def _park(self, read: Input | Unreadable, reason: str, *, waiting: bool = False) -> None:
        self.parkings[read.record] = _parking(read, reason, waiting=waiting)
        self.taken.tell(read.record, outcome="waiting" if waiting else "dead-lettered")

    async def _read(self, inputs: Sequence[Input], locked: Locked) -> Grounds:
        keys = dict.fromkeys(one.person_key for one in inputs)
        self.states = {key: KeyState.empty(key) for key in keys if key in locked.new}
        self.states |= await store.read(self.tx, [key for key in keys if key not in locked.new])
        postcodes = await store.districts(self.tx, self._postcodes(inputs))
        return Grounds(self.directory, postcodes, self.now.date())

    def _postcodes(self, inputs: Sequence[Input]) -> Iterable[str | None]:
        for state in self.states.values():
            yield from (postcode_of(known.referral) for known in state.referrals.values() if known.is_open)
        for one in inputs:
            if isinstance(one.event.data, ReferralReceived | ReferralUpdated):
                yield postcode_of(one.event.data.referral)

    async def _decide(self, one: Input, grounds: Grounds, locked: Locked) -> None:
        """Decide, or park what no decision can be made on: it leaves no mark, and nothing of it is kept."""
        if _message_group(one) in self.failed:
            await store.unmark(self.tx, [one])
            self._park(one, quarantine.WAITING, waiting=True)
            return
        try:
            decision = _decision(self.states[one.person_key], one, grounds)
        except Exception as error:  # whatever it is, it concerns this record alone
            if database.is_transient(error):
                raise
            await store.unmark(self.tx, [one])
            self._park(one, f"decision: {type(error).__name__}")
            self.failed.add(_message_group(one))
            return
        self.states[one.person_key] = decision.state
        self._publish(one, decision, locked)

    def _publish(self, one: Input, decision: Decision, locked: Locked) -> None:
        context = self.taken.context_of(one.record)
        for place, happening in enumerate(decision.happenings):
            if isinstance(happening, Refusal):
                self._tell_refused(one, happening, place, context)
            else:
                self._tell(one, happening, place, locked.next(one.person_key), context)
        conversation = decision.happenings[0].correlation_id if decision.happenings else one.event.correlation_id
        self.taken.tell(one.record, outcome="applied", type=one.event.data.TYPE, correlation_id=conversation)

    def _tell(self, one: Input, happening: Happening, place: int, sequence: int, context: str | None) -> None:
        event = self._event(one, happening, place, CASE_EVENT, happening.data, sequence)
        self.messages.append(Message(CASE_EVENT, event, context))
        self.history.append((event, _references(happening.data), [hub for hub, _ in happening.hubs]))
        for hub, data in happening.hubs:
            target = hub_case(hub)
            self.messages.append(Message(target, self._event(one, happening, place, target, data, sequence), context))

    def _tell_refused(self, one: Input, refusal: Refusal, place: int, context: str | None) -> None:
        """A refusal is no event of the case: it takes no number."""
        target = hub_case(refusal.hub)
        self.messages.append(Message(target, self._event(one, refusal, place, target, refusal.data, None), context))

    def _event(
        self, one: Input, told: Happening | Refusal, place: int, target: str, data: Any, sequence: int | None
    ) -> Event:
        name = f"{one.record.topic}|{one.event.id}|{one.person_key}|{place}|{target}"
        return Event(
            id=str(uuid.uuid5(EVENTS, name)),
            source=SOURCE,
            time=self.now,
            person_key=one.person_key,
            correlation_id=told.correlation_id,
            causation_id=one.event.id,
            sequence=sequence,
            district=data.case.district if isinstance(data, CaseEvent) else None,
            data=data,
        )

    async def _write(self, known: dict[PersonKey, KeyState], locked: Locked, before: dict[PersonKey, int]) -> None:
        changed = Changed()
        for key, state in self.states.items():
            changed.add(known[key], state)
        await store.write(self.tx, changed, self.now, self.directory.triage.id)
        await store.remember(self.tx, self.history)
        await outbox.put(self.tx, SCHEMA, self.messages)
        await store.number(self.tx, locked, before)


def _message_group(one: Input) -> MessageGroup:
    """The message group of an input, as quarantine names it."""
    return one.person_key, _printable(one.message_group)


def _decision(state: KeyState, one: Input, grounds: Grounds) -> Decision:
    data = one.event.data
    if isinstance(data, ReferralReceived | ReferralUpdated | ReferralCancelled):
        return lifecycle.apply(state, data, one.event.correlation_id, grounds)
    assert isinstance(data, get_args(HubCommand))
    return lifecycle.decide(state, data, commanding_hub(one.record.topic), one.event.id, grounds, one.unknown_fields)


def _references(data: CaseEvent) -> list[str]:
    """The referrals that an event is about."""
    concerned = [concern.reference for concern in data.concerns]
    named = [getattr(data, field) for field in _naming(type(data))]
    ended = (
        [one.reference for one in data.ended] if isinstance(data, CaseCompleted | CaseRejected | CaseCancelled) else []
    )
    return list(dict.fromkeys([*concerned, *ended, *filter(None, named)]))


@cache
def _naming(event: type[CaseEvent]) -> tuple[str, ...]:
    """Fields of an event that hold the reference of one referral."""
    return tuple(field for field in ("joined", "updated", "refused") if field in event.model_fields)
