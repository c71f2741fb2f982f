"""Apply a batch of records in one transaction.

Lock, drop duplicates, load, decide and number in memory, and write what was applied, its messages too.

A record that cannot be read or decided becomes a dead letter in the same transaction; one that fails in the database, in a
transaction of its own. Later records of the same referral, or the same hub's later commands for the same case, wait behind it: a
group never crosses topics. A command that is not valid is refused, and nothing waits for it. A withdrawal of consent waits for nothing,
except a cancel of a referral that is not known yet; what is resubmitted later is then older and changes nothing.
"""

import asyncio
import hashlib
import json
import re
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any, get_args

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from schemas.case import EndReason
from schemas.dates import in_england
from schemas.events import (
    COMMANDS,
    REFERRAL_EVENTS,
    Cancel,
    CaseCancelled,
    CaseCompleted,
    CaseEvent,
    CaseRejected,
    Command,
    CommandRefused,
    Event,
    EventData,
    HubCommand,
    ReferralCancelled,
    ReferralEvent,
    ReferralReceived,
    ReferralUpdated,
)
from schemas.model import CaseId, OnsCode, PersonKey, Reference
from schemas.referral import Referral
from schemas.text import is_storable_json
from schemas.topics import CASE_EVENT, REFERRAL_EVENT, commanding_hub, hub_case
from services.messaging import dead_letter_share, dead_letters, outbox, resubmit
from services.messaging.cloudevents import KafkaRecord, Undecodable, decode, unknown_fields
from services.messaging.dead_letter_share import DeadLetterShare
from services.messaging.dead_letters import DeadLetter, MessageGroup
from services.messaging.outbox import OutboxMessage
from services.messaging.resubmit import ReleasableLetter
from services.reference.directory import Directory
from services.router import loading, store
from services.router.decide import hub_events, lifecycle
from services.router.decide.aggregate import PersonAggregate
from services.router.decide.assignment import postcode_of
from services.router.decide.lifecycle import CaseDecision, DecisionContext, EmittedEvent, EmittedRejection
from services.router.decide.model import NotLoaded
from services.router.store import SCHEMA, Changed, HistoryEntry, Input, InputIdentity, Locked
from services.runtime import database
from services.runtime.database import Transaction
from services.runtime.tracing import RecordSpans

SOURCE = "/lightbulb/router"
EVENTS = uuid.UUID("7f0a3f1c-6b7e-5f5e-8f4a-1f6a2f4b9d10")
"""Namespace of event ids (RFC 9562 UUID version 5), which derive from the input and the index of the event."""

DECISION_SECONDS = 1.0
"""How long one transaction decides, at least on one input; the locks of its person keys are then released."""

UNKNOWN = PersonKey("unknown")
"""Person key of dead letters whose record does not contain one."""

_PERSON_KEY = re.compile(r"[0-9a-f]{32}")


class Batches:
    """Consumer of `referral.event` and of the hubs' command topics."""

    def __init__(
        self,
        engine: AsyncEngine,
        directory: Directory,
        committed: Callable[[], None] = lambda: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        share: float = 1,
    ) -> None:
        self._engine = engine
        self._directory = directory
        self._committed = committed
        self._clock = clock
        self._share = DeadLetterShare(share)

    async def receive(self, records: Sequence[KafkaRecord]) -> frozenset[str]:
        """Apply these records, each once, in order.

        Return the topics of which nothing more was applied, because too many of their records would become dead letters.

        Raises transient faults only; the transaction that failed is then rolled back.
        """
        try:
            paused = await dead_letter_share.apply_within_share(records, self._apply, self._refuse)
            await dead_letter_share.mark_paused(self._engine, SCHEMA, paused)
            return paused
        finally:
            self._committed()

    async def _apply(self, records: Sequence[KafkaRecord]) -> None:
        """Apply these records in one transaction, or in several if decisions on them take long."""
        size = len(records)
        while part := records[:size]:
            with RecordSpans("apply", part) as spans:
                async with database.transaction(self._engine, SCHEMA) as tx:
                    done = await _Batch(tx, self._directory, self._clock(), spans).run(part, self._share)
            self._share.count_checked()
            self._committed()
            records = records[done:]
            size = size if done == len(part) else 2 * done

    async def _refuse(self, record: KafkaRecord, reason: str) -> None:
        """Store a dead letter for a record whose transaction failed permanently."""
        read = read_record(record)
        letter = _dead_letter(read, reason)
        self._share.check([record], [letter])
        async with database.transaction(self._engine, SCHEMA) as tx:
            await store.save_keys(tx, await store.lock(tx, [read.person_key]), [read.person_key])
            await dead_letters.add(tx, SCHEMA, [letter])
        self._share.count_checked()

    async def release(self) -> int:
        """Apply dead letters that were resubmitted or no longer wait; returns how many were tried."""
        return await resubmit.resubmit_ready(
            self._engine, SCHEMA, self._reapply, self._reject_resubmitted, self._committed
        )

    async def _reapply(self, rows: Sequence[ReleasableLetter]) -> None:
        with RecordSpans("apply", [row.record for row in rows]) as spans:
            async with database.transaction(self._engine, SCHEMA) as tx:
                await _Batch(tx, self._directory, self._clock(), spans).release(rows)

    async def _reject_resubmitted(self, row: ReleasableLetter, reason: str) -> None:
        read = read_record(row.record)
        async with database.transaction(self._engine, SCHEMA) as tx:
            await store.save_keys(tx, await store.lock(tx, [read.person_key]), [read.person_key])
            for locked_row in await resubmit.take(tx, SCHEMA, [row]):
                await resubmit.reject_resubmitted(tx, SCHEMA, locked_row, _dead_letter(read, reason))


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Record that cannot be decoded, with the key and group that could be read."""

    record: KafkaRecord
    reason: str
    person_key: PersonKey
    message_group: str


def read_record(record: KafkaRecord) -> Input | Unreadable:
    """Decode the event or command in a record.

    What is not valid on a command topic is refused if its person key can be read; no other record waits for it.
    """
    try:
        if not is_storable_json(record.value):
            raise Undecodable("value: contains NUL, which the database cannot store")
        return _referral_event(record) if record.topic == REFERRAL_EVENT else _command(record)
    except Undecodable as error:
        return _unreadable(record, error.reason) if record.topic == REFERRAL_EVENT else _invalid(record, error)


def _referral_event(record: KafkaRecord) -> Input:
    event = decode(record, REFERRAL_EVENTS)
    assert isinstance(event.data, ReferralEvent)
    if not _PERSON_KEY.fullmatch(event.person_key):
        raise Undecodable("person_key: 32 hexadecimal digits are expected")
    return Input(record, event, event.person_key, event.data.reference)


def _command(record: KafkaRecord) -> Input:
    """Decode a command: its person key is the one in its data, and the record key only chooses the partition."""
    if len(record.value) > COMMAND_BYTES:
        raise Undecodable(f"value: longer than {COMMAND_BYTES} bytes")
    event = decode(replace(record, key=None), COMMANDS)
    assert isinstance(event.data, Command)
    if not _PERSON_KEY.fullmatch(event.data.person_key):
        raise Undecodable("person_key: 32 hexadecimal digits are expected")
    if not _is_id(event.data.case_id):
        raise Undecodable("case_id: not the id of a case")
    group = f"{record.topic}/{event.data.case_id}"
    return Input(record, event, event.data.person_key, group, unknown_fields(record, type(event.data)))


COMMAND_BYTES = 262_144
"""Largest value of a command; one that ends a thousand referrals has 100 KB."""


def _is_id(text: str) -> bool:
    """Return whether a text can be the id of a case: it is short, and the database can store it."""
    return 0 < len(text) <= 100 and text.isprintable()


def _invalid(record: KafkaRecord, error: Undecodable) -> Input | Unreadable:
    """Return the refusal of what is not a valid command; a record without a person key cannot be answered."""
    fields = _json_fields(record.value)
    key = _person_key(fields.get("person_key"), record)
    if key == UNKNOWN:
        return Unreadable(record, error.reason, key, _own_group(record))
    data = _refusal(record, key, fields.get("case_id"), error)
    digest = hashlib.sha256(repr((store.own_headers(record), record.value)).encode()).hexdigest()
    conversation = dead_letters.correlation_id(record) or data.command_id or digest
    event = Event(
        id=f"invalid-{digest}", source=SOURCE, time=_NO_TIME, person_key=key, correlation_id=conversation, data=data
    )
    return Input(record, event, key, _own_group(record))


def _refusal(record: KafkaRecord, key: PersonKey, case: Any, error: Undecodable) -> CommandRefused:
    return CommandRefused(
        case_id=CaseId(case) if isinstance(case, str) and _is_id(case) else None,
        person_key=key,
        command_id=(dead_letters.event_id(record) or "").strip() or None,
        command=next((kind.decode() for name, kind in record.headers if name == "ce_type" and kind in _TYPES), None),
        reason="invalid",
        explanation="The command is not valid: see places. Send it again, corrected; no other command waits for it.",
        places=error.issues,
    )


_TYPES = frozenset(kind.encode() for kind in COMMANDS)
_NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)
"""Time of an input that is a refusal; an input's own time is not used."""


def _unreadable(record: KafkaRecord, reason: str) -> Unreadable:
    """Return the record with its key and group as far as they can be read: later records of the group wait for it."""
    fields = _json_fields(record.value)
    reference = fields.get("reference")
    group = _printable(reference) if isinstance(reference, str) and reference else _own_group(record)
    return Unreadable(record, reason, _person_key(None, record), group)


def _person_key(named: Any, record: KafkaRecord) -> PersonKey:
    """Return the person key in the data of a command, or in the record key, or UNKNOWN."""
    keys = (named, (record.key or b"").decode("ascii", "replace"))
    return next((PersonKey(key) for key in keys if isinstance(key, str) and _PERSON_KEY.fullmatch(key)), UNKNOWN)


def _own_group(record: KafkaRecord) -> str:
    """Return a group of this record alone."""
    return f"{record.topic}/{record.partition}/{record.offset}"


def _json_fields(value: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(value)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _printable(group: str) -> str:
    """Replace characters that the database rejects (NUL, lone surrogates): a group comes from the sender."""
    if group.isprintable() and len(group) <= 200:
        return group
    return "".join(letter if letter.isprintable() else "?" for letter in group[:200])


def _dead_letter(read: Input | Unreadable, reason: str, *, waiting: bool = False) -> DeadLetter:
    raw_correlation = read.event.correlation_id if isinstance(read, Input) else dead_letters.correlation_id(read.record)
    correlation_id = _printable(raw_correlation) if raw_correlation else None
    return DeadLetter(read.record, read.person_key, (_printable(read.message_group),), reason, correlation_id, waiting)


@dataclass(slots=True)
class _Batch:
    """Work of one transaction."""

    tx: Transaction
    directory: Directory
    now: datetime
    spans: RecordSpans
    states: dict[PersonKey, PersonAggregate] = field(default_factory=dict)
    stored: dict[PersonKey, PersonAggregate] = field(default_factory=dict)
    """State as it was loaded."""
    postcodes: dict[str, OnsCode] = field(default_factory=dict)
    blocked: set[MessageGroup] = field(default_factory=set)
    failed: set[MessageGroup] = field(default_factory=set)
    overtaking: set[KafkaRecord] = field(default_factory=set)
    letters: dict[KafkaRecord, DeadLetter] = field(default_factory=dict)
    applied: list[Input] = field(default_factory=list)
    messages: list[OutboxMessage] = field(default_factory=list)
    history: list[HistoryEntry] = field(default_factory=list)

    async def run(self, records: Sequence[KafkaRecord], share: DeadLetterShare) -> int:
        """Apply these records, in order, until DECISION_SECONDS have passed; return how many were applied.

        Raises TooManyDeadLetters.
        """
        read = [read_record(record) for record in records]
        locked = await store.lock(self.tx, [one.person_key for one in read])
        keyed = [(one.person_key, one.record) for one in read]
        status = await dead_letters.status_of(self.tx, SCHEMA, map(_message_group, read), keyed)
        self.blocked = status.message_groups
        moved = await dead_letters.find_relocated(
            self.tx, SCHEMA, UNKNOWN, [one.record for one in read if one.person_key == UNKNOWN]
        )
        closed = {one.record for one in read if status.is_closed(one.person_key, one.record)} | moved
        left = await self._apply([one for one in read if one.record not in closed], locked)
        done = records.index(left[0].record) if left else len(records)
        in_order = [self.letters[record] for record in dict.fromkeys(records[:done]) if record in self.letters]
        share.check(records[:done], in_order)
        await self._write(locked, [one.person_key for one in read[:done]])
        await dead_letters.add(self.tx, SCHEMA, in_order)
        return done

    async def release(self, rows: Sequence[ReleasableLetter]) -> None:
        """Apply these dead letters; records that wait behind them still wait."""
        read = {row.record: read_record(row.record) for row in rows}
        locked = await store.lock(self.tx, [one.person_key for one in read.values()])
        locked_rows = {row.record: row for row in await resubmit.take(self.tx, SCHEMA, rows)}
        status = await dead_letters.status_of(self.tx, SCHEMA, map(_message_group, read.values()), [])
        self.blocked = status.message_groups - {
            (row.person_key, message_group) for row in locked_rows.values() for message_group in row.message_groups
        }
        left = {one.record for one in await self._apply([read[record] for record in locked_rows], locked)}
        await self._write(locked, [one.person_key for record, one in read.items() if record not in left])
        for record, letter in self.letters.items():
            await resubmit.reject_resubmitted(self.tx, SCHEMA, locked_rows[record], letter)
        done = [row for record, row in locked_rows.items() if record not in self.letters and record not in left]
        await resubmit.resolve(self.tx, SCHEMA, done, "applied")

    async def _apply(self, read: Sequence[Input | Unreadable], locked: Locked) -> Sequence[Input]:
        """Decide on these inputs until DECISION_SECONDS have passed; return the others, which are for the next transaction."""
        inputs = await self._ready(read, locked)
        await self._read(inputs, locked)
        decided, until = 0, time.monotonic() + DECISION_SECONDS
        while decided < len(inputs) and (decided == 0 or time.monotonic() < until):
            await self._decide(inputs[decided], locked)
            decided += 1
            await asyncio.sleep(0)  # the event loop answers Kafka and health checks between two decisions
        for one in inputs[decided:]:
            self.spans.set_attributes(one.record, outcome="postponed")
        return inputs[decided:]

    async def _ready(self, read: Sequence[Input | Unreadable], locked: Locked) -> list[Input]:
        """Return the inputs to apply now, without duplicates; store unreadable and waiting ones as dead letters."""
        under_stored_keys = [one for one in read if isinstance(one, Input) and one.person_key in locked.rows]
        applied = await store.applied(self.tx, under_stored_keys)
        inputs: dict[InputIdentity, Input] = {}
        for one in read:
            if isinstance(one, Unreadable):
                self._add_dead_letter(one, one.reason)
                self.blocked.add((one.person_key, one.message_group))
            elif one.identity in applied:
                continue
            elif _message_group(one) not in self.blocked:
                inputs.setdefault(one.identity, one)
            elif _withdraws_consent(one.event.data):
                inputs.setdefault(one.identity, one)
                self.overtaking.add(one.record)
            else:
                self._add_dead_letter(one, dead_letters.WAITING, waiting=True)
        return list(inputs.values())

    def _add_dead_letter(self, read: Input | Unreadable, reason: str, *, waiting: bool = False) -> None:
        self.letters[read.record] = _dead_letter(read, reason, waiting=waiting)
        self.spans.set_attributes(read.record, outcome="waiting" if waiting else "dead-lettered")

    async def _read(self, inputs: Sequence[Input], locked: Locked) -> None:
        keys = dict.fromkeys(one.person_key for one in inputs)
        self.states = {key: PersonAggregate.empty(key) for key in keys if key not in locked.rows}
        self.states |= await loading.load(self.tx, inputs, locked.rows)
        self.stored = dict(self.states)
        messages = [one.event.data for one in inputs]
        sent = [one.referral for one in messages if isinstance(one, ReferralReceived | ReferralUpdated)]
        await self._read_postcodes(self.states.values(), sent)

    async def _read_postcodes(self, states: Iterable[PersonAggregate], sent: Iterable[Referral] = ()) -> None:
        held = [record.referral for state in states for record in state.referrals.values() if record.is_open]
        postcodes = {postcode_of(referral) for referral in (*held, *sent)}
        self.postcodes |= await store.districts(self.tx, postcodes - self.postcodes.keys())

    async def _decide(self, one: Input, locked: Locked) -> None:
        """Decide on an input; store it as a dead letter if the decision fails."""
        if self._waits(one):
            self._add_dead_letter(one, dead_letters.WAITING, waiting=True)
            return
        try:
            decision = await self._decision(one)
        except DBAPIError:  # it ended the transaction
            raise
        except Exception as error:  # any other fault is caused by this record alone
            if database.is_transient(error):
                raise
            self._add_dead_letter(one, f"decision: {type(error).__name__}")
            self.failed.add(_message_group(one))
            return
        self.states[one.person_key] = decision.state
        self.applied.append(one)
        self._publish(one, decision, locked)

    async def _decision(self, one: Input) -> CaseDecision:
        """Return the decision on an input; it is made again with every open referral of a case if it needs them."""
        context, key = DecisionContext(self.directory, self.postcodes, in_england(self.now)), one.person_key
        loaded: set[CaseId] = set()
        while True:
            try:
                return _decision(self.states[key], one, context)
            except NotLoaded as missing:
                if missing.case_id in loaded:
                    raise
                loaded.add(missing.case_id)
                more = await loading.load_open(self.tx, missing.case_id, key)
                self.stored[key], self.states[key] = (
                    state.with_loaded(more) for state in (self.stored[key], self.states[key])
                )
                await self._read_postcodes([self.states[key]])

    def _waits(self, one: Input) -> bool:
        """Return whether an input waits behind a dead letter: a withdrawal of consent only if it cancels an unknown referral.

        An update without consent has the whole referral, which ends at once and is sent to no hub.
        """
        if _message_group(one) not in self.failed and one.record not in self.overtaking:
            return False
        state, data = self.states[one.person_key], one.event.data
        known = data.case_id in state.cases if isinstance(data, Command) else one.message_group in state.referrals
        return not (_withdraws_consent(data) and (known or isinstance(data, ReferralUpdated)))

    def _publish(self, one: Input, decision: CaseDecision, locked: Locked) -> None:
        context = self.spans.context_of(one.record)
        for index, emitted in enumerate(decision.emitted):
            if isinstance(emitted, EmittedRejection):
                self._publish_rejection(one, emitted, index, context)
            else:
                self._publish_event(one, emitted, index, locked.next(one.person_key), context)
        conversation = decision.emitted[0].correlation_id if decision.emitted else one.event.correlation_id
        self.spans.set_attributes(one.record, outcome="applied", type=one.event.data.TYPE, correlation_id=conversation)

    def _publish_event(self, one: Input, emitted: EmittedEvent, index: int, sequence: int, context: str | None) -> None:
        event = self._event(one, emitted.correlation_id, index, CASE_EVENT, emitted.data, sequence)
        hubs = [hub for hub, _ in emitted.hubs]
        self.history.append(HistoryEntry(event, _references(emitted.data), hubs, len(self.messages)))
        self.messages.append(OutboxMessage(CASE_EVENT, event, context))
        for hub, data in emitted.hubs:
            target, conversation = hub_case(hub), emitted.conversations.get(hub, emitted.correlation_id)
            for_hub = self._event(one, conversation, index, target, data, sequence)
            self.messages.append(OutboxMessage(target, for_hub, context))
            for snapshot in hub_events.snapshots(data, for_hub.id, emitted.snapshots.get(hub, ())):
                part = self._event(one, conversation, index, f"{target}|{snapshot.part}", snapshot, None)
                self.messages.append(OutboxMessage(target, part, context))

    def _publish_rejection(self, one: Input, rejection: EmittedRejection, index: int, context: str | None) -> None:
        """Publish a refusal; it is not an event of the case, so it has no sequence number."""
        target = hub_case(rejection.hub)
        self.messages.append(
            OutboxMessage(
                target, self._event(one, rejection.correlation_id, index, target, rejection.data, None), context
            )
        )

    def _event(
        self,
        one: Input,
        correlation_id: str,
        index: int,
        place: str,
        data: Any,
        sequence: int | None,
    ) -> Event:
        """Return an event; its id derives from the input, its index among the input's events, and `place`: topic and part."""
        name = f"{one.record.topic}|{one.event.id}|{one.person_key}|{index}|{place}"
        return Event(
            id=str(uuid.uuid5(EVENTS, name)),
            source=SOURCE,
            time=self.now,
            person_key=one.person_key,
            correlation_id=correlation_id,
            causation_id=data.command_id if isinstance(data, CommandRefused) else one.event.id,
            sequence=sequence,
            district=data.case.district if isinstance(data, CaseEvent) else None,
            data=data,
        )

    async def _write(self, locked: Locked, keys: Iterable[PersonKey]) -> None:
        """Write what was applied; `keys`: those of the records that are not postponed."""
        changed = Changed()
        for key, state in self.states.items():
            changed.add(self.stored[key], state)
        await store.save_keys(self.tx, locked, keys, self.states)
        contents = [store.content_of(one) for one in self.applied]
        added = await outbox.add(self.tx, SCHEMA, self.messages, contents)
        await store.record_inputs(self.tx, self.applied, added.contents, self.now, self.directory.version)
        await store.write(self.tx, changed, self.now, self.directory.triage.id)
        await store.append_history(self.tx, self.history, added.messages)


def _message_group(one: Input | Unreadable) -> MessageGroup:
    """Return the message group of a record, as dead letters name it."""
    return one.person_key, _printable(one.message_group)


def _withdraws_consent(data: EventData) -> bool:
    match data:
        case ReferralCancelled(reason=reason) | Cancel(reason=reason):
            return reason is EndReason.CONSENT_WITHDRAWN
        case ReferralUpdated(referral=referral):
            return referral.consents.referral.answer == "no"
    return False


def _decision(state: PersonAggregate, one: Input, context: DecisionContext) -> CaseDecision:
    data = one.event.data
    if isinstance(data, CommandRefused):
        hub = commanding_hub(one.record.topic)
        return CaseDecision(state, (EmittedRejection(hub, data, one.event.correlation_id),))
    if isinstance(data, ReferralEvent):
        return lifecycle.apply(state, data, one.event.correlation_id, context)
    assert isinstance(data, get_args(HubCommand))
    return lifecycle.decide(state, data, commanding_hub(one.record.topic), one.event.id, context, one.unknown_fields)


def _references(data: CaseEvent) -> list[Reference]:
    """Return the references of the referrals that an event is about."""
    concerned = [context.reference for context in data.referral_contexts]
    named = [getattr(data, field) for field in _reference_fields(type(data))]
    ended = (
        [one.reference for one in data.ended] if isinstance(data, CaseCompleted | CaseRejected | CaseCancelled) else []
    )
    return list(dict.fromkeys([*concerned, *ended, *filter(None, named)]))


@cache
def _reference_fields(event: type[CaseEvent]) -> tuple[str, ...]:
    """Return the fields of an event that hold the reference of one referral."""
    return tuple(field for field in ("joined", "updated", "refused", "about") if field in event.model_fields)
