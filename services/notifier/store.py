"""The notifier's tables: consumed events and stored feedback.

Due feedback and the results of attempts are in leases.py.
Feedback is delivered in order within each conversation (referral, recipient, channel): a conversation row points to its next
feedback, and only that can be leased. All statements are set-based; rows of several conversations are locked in the order of their keys.
The bytes of a feedback are a content of a packet (services/messaging/packets.py), to which its row points.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import orjson
from sqlalchemy import text

from schemas.events import Event
from services.messaging import outbox, packets
from services.messaging.packets import Content, Place
from services.notifier import feedback_events
from services.notifier.channels import Conversation, Rendered, RenderedFeedback
from services.notifier.circuits import HELD
from services.notifier.compose import Feedback
from services.runtime.database import Transaction

SCHEMA = "notifier"

FAILED = "state = 'failed' and failed_at is not null"
KEPT = "state = 'kept' and channel = 'mailbox' and collected_at is null"
"""SQL conditions for the feedback that failed finally, and that was not fetched yet; an index finds it by the time it was composed."""

UNDELIVERED = "last - next + 1 + coalesce(cardinality(resend), 0)"
"""SQL expression of a row of notifier.conversation: how much feedback waits. Those with any have a `due_since`, by an index."""


# ---- storing ------------------------------------------------------------------------------------------------------


async def record_inputs(tx: Transaction, events: Sequence[Event]) -> set[str]:
    """Mark these events as consumed, and return the ids of those that were not consumed before."""
    result = await tx.execute(
        text("""
            insert into notifier.input (person_key, event_id)
            select person_key, event_id
            from unnest(cast(:keys as text[]), cast(:ids as text[])) as incoming (person_key, event_id)
            order by 1, 2
            on conflict do nothing returning event_id"""),
        {"keys": [event.person_key for event in events], "ids": [event.id for event in events]},
    )
    return set(result.scalars())


async def forget_inputs(tx: Transaction, events: Sequence[Event]) -> None:
    """Delete the marks of `record_inputs`, so that these events can be resubmitted."""
    await tx.execute(
        text("""
            delete from notifier.input as input
            using unnest(cast(:keys as text[]), cast(:ids as text[])) as parked (person_key, event_id)
            where input.person_key = parked.person_key and input.event_id = parked.event_id"""),
        {"keys": [event.person_key for event in events], "ids": [event.id for event in events]},
    )


class Capacity(Protocol):
    """The attempts that this process can make for feedback that a transaction stores."""

    lease: UUID
    seconds: float

    def reserve(self, recipient: str) -> bool:
        """Reserve one attempt. Return False if this process, or this recipient, has no capacity left."""
        ...


class Leased(NamedTuple):
    """A new feedback that was stored with a lease for its first attempt, and its number in the conversation."""

    new: RenderedFeedback
    ordinal: int


class StoredBatch(NamedTuple):
    """What was leased to this process for its first attempt, and whether other feedback waits to be leased."""

    leased: Sequence[Leased]
    waits: bool


async def add(tx: Transaction, composed: Sequence[RenderedFeedback], at: datetime, capacity: Capacity) -> StoredBatch:
    """Store rendered feedback in its order.

    A feedback is leased if it can be attempted now: there is capacity for it, nothing of its conversation waits or failed before it, and
    its endpoint does not fail. Its row is what `leases.acquire` would make of it. Feedback in the mailbox can be fetched at once, so
    its `feedback.sent` is added to the outbox. What was sent or failed before the database was restored is not sent.
    """
    new, finished = await _drop_existing(tx, composed)
    if not new:
        return StoredBatch((), waits=False)
    numbered, leased = await _reserve(tx, new, finished, capacity)
    mailboxed = [one for one in new if one.feedback.recipient.channel == "mailbox"]
    sent = [feedback_events.sent(feedback_events.of_composed(one), at) for one in mailboxed]
    added = await outbox.add(tx, SCHEMA, sent, [content_of(*one) for one in new])
    events = {one.feedback.id: place.packet for one, place in zip(mailboxed, added.messages, strict=True)}
    await _insert(tx, new, numbered, added.contents, events, at)
    if finished:
        await apply_known_outcomes(
            tx, [(one.feedback.person_key, one.feedback.id) for one in new if one.feedback.id in finished]
        )
    return StoredBatch(leased, waits=len(leased) + len(mailboxed) < len(new))


async def _drop_existing(
    tx: Transaction, composed: Sequence[RenderedFeedback]
) -> tuple[list[RenderedFeedback], set[str]]:
    """Return the feedback that is not stored yet (a resubmitted event composes all of its feedback again), and ids with a known outcome."""
    result = await tx.execute(
        text("""
            select feedback_id,
                   exists (select from notifier.feedback as one
                           where one.person_key = incoming.person_key and one.feedback_id = incoming.feedback_id) as stored,
                   exists (select from notifier.known_outcome as one
                           where one.person_key = incoming.person_key and one.feedback_id = incoming.feedback_id) as known
            from unnest(cast(:keys as text[]), cast(:ids as uuid[])) as incoming (person_key, feedback_id)"""),
        {"keys": [one.feedback.person_key for one in composed], "ids": [one.feedback.id for one in composed]},
    )
    rows = result.all()
    existing = {str(row.feedback_id) for row in rows if row.stored}
    known = {str(row.feedback_id) for row in rows if row.known}
    return [one for one in composed if one.feedback.id not in existing], known


async def apply_known_outcomes(tx: Transaction, feedback: Sequence[tuple[str, str]]) -> int:
    """Give waiting feedback (person key, id) the outcome in `notifier.known_outcome`, and advance its conversation.

    Return how many had one.
    """
    result = await tx.execute(
        _APPLY_OUTCOMES, {"keys": [key for key, _ in feedback], "ids": [one for _, one in feedback]}
    )
    changed = [row._mapping for row in result]
    conversations = sorted({tuple(row.values()) for row in changed})
    columns = dict(
        zip(("keys", "references", "recipients", "channels"), zip(*conversations, strict=True), strict=False)
    )
    if conversations:
        await tx.execute(_ADVANCE, {name: list(values) for name, values in columns.items()})
    return len(changed)


_APPLY_OUTCOMES = text("""
    update notifier.feedback as feedback set state = known.outcome, reason = known.reason,
        accepted_at = case known.outcome when 'accepted' then known.at else feedback.accepted_at end,
        failed_at = case known.outcome when 'failed' then known.at else feedback.failed_at end
    from unnest(cast(:keys as text[]), cast(:ids as uuid[])) as given (person_key, feedback_id)
    join notifier.known_outcome as known using (person_key, feedback_id)
    where feedback.person_key = given.person_key and feedback.feedback_id = given.feedback_id
      and feedback.state not in ('accepted', 'failed')
    returning feedback.person_key, feedback.reference, feedback.recipient, feedback.channel""")

_ADVANCE = text("""
    with rest as materialized (
        select held.person_key, held.reference, held.recipient, held.channel, waiting.next, waiting.resend
        from unnest(cast(:keys as text[]), cast(:references as text[]), cast(:recipients as text[]), cast(:channels as text[]))
             as given (person_key, reference, recipient, channel)
        join notifier.conversation as held using (person_key, reference, recipient, channel)
        cross join lateral (
            select (select following.ordinal from (select generate_series(held.next, held.last) as ordinal) as following
                    where (select one.state from notifier.feedback as one
                           where one.person_key = held.person_key and one.reference = held.reference
                             and one.recipient = held.recipient and one.channel = held.channel
                             and one.ordinal = following.ordinal) = 'waiting' limit 1) as next,
                   (select array_agg(again.ordinal order by again.ordinal) from unnest(held.resend) as again (ordinal)
                    where (select one.state from notifier.feedback as one
                           where one.person_key = held.person_key and one.reference = held.reference
                             and one.recipient = held.recipient and one.channel = held.channel
                             and one.ordinal = again.ordinal) = 'waiting') as resend
        ) as waiting
        order by 1, 2, 3, 4 for update of held
    )
    update notifier.conversation as held
    set next = coalesce(rest.next, held.last + 1), resend = rest.resend, reason = null, lease = null,
        attempts = case when rest.next = held.next then held.attempts else 0 end,
        first_attempt_at = case when rest.next = held.next then held.first_attempt_at end,
        due_at = case when coalesce(rest.next, rest.resend[1]) is not null then clock_timestamp() end,
        due_since = case when coalesce(rest.next, rest.resend[1]) is not null then clock_timestamp() end,
        failed_before = coalesce((
            select earlier.state from notifier.feedback as earlier
            where earlier.person_key = held.person_key and earlier.reference = held.reference and earlier.recipient = held.recipient
              and earlier.channel = held.channel and earlier.ordinal = coalesce(rest.next, held.last + 1) - 1) = 'failed', false)
    from rest
    where held.person_key = rest.person_key and held.reference = rest.reference and held.recipient = rest.recipient
      and held.channel = rest.channel""")


def _conversation(feedback: Feedback) -> Conversation:
    recipient = feedback.recipient
    return Conversation(feedback.person_key, feedback.reference, recipient.id, recipient.channel)


async def _reserve(
    tx: Transaction, new: Sequence[RenderedFeedback], finished: set[str], capacity: Capacity
) -> tuple[dict[str, int], list[Leased]]:
    """Lock the conversations, number each feedback, and lease the next one, or make it due, if nothing was due.

    Return the numbers by feedback id, and what was leased. `finished`: ids of feedback with a known outcome, which is not leased.
    """
    by_conversation: defaultdict[Conversation, list[RenderedFeedback]] = defaultdict(list)
    for one in new:
        by_conversation[_conversation(one.feedback)].append(one)
    startable = {
        key for key, group in by_conversation.items() if _can_start(group, finished) and capacity.reserve(key.recipient)
    }
    values = {"lease": capacity.lease, "seconds": capacity.seconds, **_columns(by_conversation, startable)}
    numbered: dict[str, int] = {}
    leased: list[Leased] = []
    for *key, last, is_leased in await tx.execute(_RESERVE, values):
        group = by_conversation[Conversation(*key)]
        first = last - len(group) + 1
        numbered.update({one.feedback.id: first + place for place, one in enumerate(group)})
        leased += [Leased(group[0], first)] if is_leased else []
    return numbered, leased


def _can_start(group: Sequence[RenderedFeedback], finished: set[str]) -> bool:
    """Return whether the first of these feedbacks, of one conversation, can be sent: the channel has it rendered, and it must be sent."""
    return bool(group[0].rendered.body) and all(
        one.feedback.id not in finished and one.feedback.recipient.channel != "mailbox" for one in group
    )


def _columns(
    by_conversation: Mapping[Conversation, Sequence[RenderedFeedback]], startable: set[Conversation]
) -> dict[str, list[Any]]:
    keys = sorted(by_conversation)
    return {
        "keys": [key.person_key for key in keys],
        "references": [key.reference for key in keys],
        "recipients": [key.recipient for key in keys],
        "channels": [key.channel for key in keys],
        "counts": [len(by_conversation[key]) for key in keys],
        "startable": [key in startable for key in keys],
    }


_FREE = "stored.due_at is null and not stored.failed_before"
"""SQL condition: nothing of the stored conversation waits, and the next feedback is sent as it was composed."""

_RESERVE = text(f"""
    insert into notifier.conversation as stored
        (person_key, reference, recipient, channel, last, next, lease, attempts, first_attempt_at, due_at, due_since)
    select person_key, reference, recipient, channel, count, case when channel = 'mailbox' then count + 1 else 1 end,
           case when leased then cast(:lease as uuid) end, cast(leased as integer), case when leased then at end,
           case when leased then at + make_interval(secs => :seconds) when channel <> 'mailbox' then at end,
           case when channel <> 'mailbox' then at end
    from unnest(cast(:keys as text[]), cast(:references as text[]), cast(:recipients as text[]), cast(:channels as text[]),
                cast(:counts as integer[]), cast(:startable as boolean[]))
         as waiting (person_key, reference, recipient, channel, count, startable)
    cross join lateral (
        select startable and not exists (select from notifier.endpoint as held where {HELD}) as leased, clock_timestamp() as at
    ) as start
    order by person_key, reference, recipient, channel
    on conflict (person_key, reference, recipient, channel) do update
    set last = stored.last + excluded.last,
        next = case when stored.channel = 'mailbox' then stored.last + excluded.last + 1 else stored.next end,
        lease = case when {_FREE} then excluded.lease else stored.lease end,
        attempts = case when {_FREE} then excluded.attempts else stored.attempts end,
        first_attempt_at = case when {_FREE} then excluded.first_attempt_at else stored.first_attempt_at end,
        due_at = case when {_FREE} then excluded.due_at else coalesce(stored.due_at, excluded.due_since) end,
        due_since = coalesce(stored.due_since, excluded.due_since)
    returning person_key, reference, recipient, channel, last, coalesce(lease = :lease, false)""")  # noqa: S608 - constants


async def _insert(
    tx: Transaction,
    new: Sequence[RenderedFeedback],
    numbered: Mapping[str, int],
    contents: Sequence[Place],
    events: Mapping[str, int],
    at: datetime,
) -> None:
    feedbacks = [one.feedback for one in new]
    await tx.execute(
        _INSERT,
        {
            "at": at,
            "keys": [f.person_key for f in feedbacks],
            "ids": [f.id for f in feedbacks],
            "references": [f.reference for f in feedbacks],
            "causes": [f.caused_by for f in feedbacks],
            "recipients": [f.recipient.id for f in feedbacks],
            "channels": [f.recipient.channel for f in feedbacks],
            "feedback_types": [f.feedback_type.value for f in feedbacks],
            "ordinals": [numbered[f.id] for f in feedbacks],
            "packets": [place.packet for place in contents],
            "positions": [place.place for place in contents],
            "event_packets": [events.get(f.id) for f in feedbacks],
        },
    )


_INSERT = text("""
    insert into notifier.feedback (person_key, feedback_id, reference, caused_by, recipient, channel, feedback_type, ordinal,
                                   packet, place, event_packet, state, composed_at)
    select *, case when channel = 'mailbox' then 'kept' else 'waiting' end, :at
    from unnest(cast(:keys as text[]), cast(:ids as uuid[]), cast(:references as text[]), cast(:causes as text[]),
                cast(:recipients as text[]), cast(:channels as text[]), cast(:feedback_types as text[]),
                cast(:ordinals as integer[]), cast(:packets as bigint[]), cast(:positions as integer[]),
                cast(:event_packets as bigint[]))
         as new (person_key, feedback_id, reference, caused_by, recipient, channel, feedback_type, ordinal, packet, place,
                 event_packet)""")


# ---- contents ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FeedbackContent:
    """The bytes of a feedback: itself as JSON, and what its channel sends, with what goes next to it."""

    json: bytes
    body: bytes
    ids: Mapping[str, str]
    correlation_id: str
    traceparent: str | None

    @property
    def feedback(self) -> Feedback:
        return Feedback.model_validate_json(self.json)


def content_of(feedback: Feedback, rendered: Rendered, traceparent: str | None) -> Content:
    """Return a feedback and its bytes as the content of a packet."""
    envelope = {"ids": dict(rendered.ids), "correlation_id": feedback.correlation_id, "traceparent": traceparent}
    plain = feedback.model_dump_json(exclude_defaults=True).encode()
    return Content(feedback.person_key, (plain, rendered.body, orjson.dumps(envelope)))


async def contents(tx: Transaction, rows: Iterable[Any]) -> list[FeedbackContent]:
    """Return the contents of rows of notifier.feedback, each with `person_key`, `packet` and `place`, in their order."""
    pointers = [(row.person_key, Place(row.packet, row.place)) for row in rows]
    parts = await packets.contents(tx, SCHEMA, pointers)
    return [_decoded(parts[pointer]) for pointer in pointers]


def _decoded(parts: Sequence[bytes]) -> FeedbackContent:
    plain, body, envelope = parts
    return FeedbackContent(plain, body, **orjson.loads(envelope))


# ---- fetching ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoredFeedback:
    """A stored feedback, with the times of its steps."""

    feedback: Feedback
    steps: Mapping[str, str]


async def fetch(tx: Transaction, reference: str, recipients: Sequence[str], at: datetime) -> list[StoredFeedback]:
    """Return the feedback about a referral for these recipients, in order; mark mailbox feedback as collected."""
    values = {"reference": reference, "recipients": list(recipients)}
    await tx.execute(
        text("""
            update notifier.feedback set state = 'collected', collected_at = :at
            where reference = :reference and recipient = any(cast(:recipients as text[])) and state = 'kept'"""),
        {**values, "at": at},
    )
    result = await tx.execute(
        text(f"""
            select person_key, channel, packet, place, {TIMES} from notifier.feedback
            where reference = :reference and recipient = any(cast(:recipients as text[]))
            order by recipient, channel, ordinal"""),  # noqa: S608 - a constant
        values,
    )
    rows = result.all()
    stored = zip(rows, await contents(tx, rows), strict=True)
    return [StoredFeedback(content.feedback, steps_of(row)) for row, content in stored]


STEPS = ("composed", "first_attempt", "sent", "accepted", "failed", "resent", "collected")
TIMES = ", ".join(f"{step}_at" for step in STEPS)
"""The steps of a feedback, and the columns with their times."""


def steps_of(row: Any) -> dict[str, str]:
    """Return the time of each step of a row of notifier.feedback that has happened. A mailbox has kept what was composed for it."""
    times = {step: getattr(row, f"{step}_at") for step in STEPS}
    if row.channel == "mailbox":
        times["kept"] = row.composed_at
    return {step: at.isoformat() for step, at in times.items() if at is not None}
