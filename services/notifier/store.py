"""The notifier's tables: what was taken in, what is to be told, and what became of every attempt.

Feedback is told in order for each conversation (referral, recipient, channel): a conversation row points at its next feedback, and
only that can be claimed. A claim is a lease: a process that dies gives it back when it ends, and the same bytes go out again.
All statements are set-based; rows of several conversations are locked in the order of their keys.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import text

from schemas.events import Event, FeedbackFailed, FeedbackSent
from schemas.model import PersonKey, Reference
from schemas.topics import FEEDBACK_EVENT
from services.messaging import outbox
from services.messaging.database import Transaction
from services.notifier.channels import Delivered, Failed, Outcome, Parcel, Rendered, Retry
from services.notifier.composing import Composed
from services.notifier.feedback import Feedback

SCHEMA = "notifier"
SOURCE = "/lightbulb/notifier"

Conversation = tuple[str, str, str, str]
"""person_key, reference, recipient, channel."""


# ---- taking in -----------------------------------------------------------------------------------------------------


async def take_in(tx: Transaction, events: Sequence[Event], version: str | None) -> set[str]:
    """Mark these events as taken in; returns the ids of those that are new. A repeat is not among them.

    `version`: what they are composed with (services/notifier/kept.py).
    """
    result = await tx.execute(
        text("""
            insert into notifier.input (person_key, event_id, composed_with)
            select person_key, event_id, cast(:version as text)
            from unnest(cast(:keys as text[]), cast(:ids as text[])) as incoming (person_key, event_id)
            order by 1, 2
            on conflict do nothing returning event_id"""),
        {
            "keys": [event.person_key for event in events],
            "ids": [event.id for event in events],
            "version": version,
        },
    )
    return set(result.scalars())


async def leave_out(tx: Transaction, events: Sequence[Event]) -> None:
    """Take the marks of `take_in` away: these events are parked, and their resubmit must work."""
    await tx.execute(
        text("""
            delete from notifier.input as input
            using unnest(cast(:keys as text[]), cast(:ids as text[])) as parked (person_key, event_id)
            where input.person_key = parked.person_key and input.event_id = parked.event_id"""),
        {"keys": [event.person_key for event in events], "ids": [event.id for event in events]},
    )


async def add(tx: Transaction, composed: Sequence[Composed], at: datetime) -> None:
    """Keep what was composed, in its order. What is kept to be fetched is there at once, and `feedback.sent` says so."""
    new = await _without_known(tx, composed)
    if not new:
        return
    ordinals = await _reserve(tx, [one.feedback for one in new])
    await _insert(tx, new, ordinals, at)
    kept = [one for one in new if one.feedback.recipient.channel == "mailbox"]
    await outbox.put(tx, SCHEMA, [_sent(_told(one), at) for one in kept])


async def _without_known(tx: Transaction, composed: Sequence[Composed]) -> list[Composed]:
    """A resubmitted event composes everything again: what it had led to before is dropped here."""
    result = await tx.execute(
        text("""
            select feedback_id from notifier.feedback
            join unnest(cast(:keys as text[]), cast(:ids as uuid[])) as incoming (person_key, feedback_id)
            using (person_key, feedback_id)"""),
        {"keys": [one.feedback.person_key for one in composed], "ids": [one.feedback.id for one in composed]},
    )
    known = {str(feedback_id) for feedback_id in result.scalars()}
    return [one for one in composed if one.feedback.id not in known]


def _conversation(feedback: Feedback) -> Conversation:
    return feedback.person_key, feedback.reference, feedback.recipient.id, feedback.recipient.channel


async def _reserve(tx: Transaction, feedbacks: Sequence[Feedback]) -> dict[str, int]:
    """Lock the conversations, give each feedback its number, and make the next one due where nothing was."""
    by_conversation: defaultdict[Conversation, list[str]] = defaultdict(list)
    for feedback in feedbacks:
        by_conversation[_conversation(feedback)].append(feedback.id)
    result = await tx.execute(_RESERVE, _columns(by_conversation))
    ordinals: dict[str, int] = {}
    for *key, last in result:
        ids = by_conversation[tuple(key)]
        ordinals.update({feedback_id: last - len(ids) + 1 + place for place, feedback_id in enumerate(ids)})
    return ordinals


def _columns(by_conversation: Mapping[Conversation, Sequence[str]]) -> dict[str, list[Any]]:
    keys = sorted(by_conversation)
    return {
        "keys": [key[0] for key in keys],
        "references": [key[1] for key in keys],
        "recipients": [key[2] for key in keys],
        "channels": [key[3] for key in keys],
        "counts": [len(by_conversation[key]) for key in keys],
    }


_RESERVE = text("""
    insert into notifier.conversation as held (person_key, reference, recipient, channel, last, next, due_at)
    select person_key, reference, recipient, channel, count,
           case when channel = 'mailbox' then count + 1 else 1 end,
           case when channel = 'mailbox' then null else clock_timestamp() end
    from unnest(cast(:keys as text[]), cast(:references as text[]), cast(:recipients as text[]), cast(:channels as text[]),
                cast(:counts as integer[])) as more (person_key, reference, recipient, channel, count)
    order by person_key, reference, recipient, channel
    on conflict (person_key, reference, recipient, channel) do update
    set last = held.last + excluded.last,
        next = case when held.channel = 'mailbox' then held.last + excluded.last + 1 else held.next end,
        due_at = coalesce(held.due_at, excluded.due_at)
    returning person_key, reference, recipient, channel, last""")


async def _insert(tx: Transaction, new: Sequence[Composed], ordinals: Mapping[str, int], at: datetime) -> None:
    told = [one.feedback for one in new]
    await tx.execute(
        _INSERT,
        {
            "at": at,
            "keys": [f.person_key for f in told],
            "ids": [f.id for f in told],
            "references": [f.reference for f in told],
            "causes": [f.caused_by for f in told],
            "recipients": [f.recipient.id for f in told],
            "channels": [f.recipient.channel for f in told],
            "told": [f.told.value for f in told],
            "statuses": [f.status.value for f in told],
            "ordinals": [ordinals[f.id] for f in told],
            "correlations": [f.correlation_id for f in told],
            "said": [f.model_dump_json(exclude_defaults=True) for f in told],
            "bodies": [one.rendered.body for one in new],
            "carrier_ids": [json.dumps(dict(one.rendered.ids)) for one in new],
            "versions": [one.version for one in new],
            "traceparents": [one.traceparent for one in new],
        },
    )


_INSERT = text("""
    insert into notifier.feedback (person_key, feedback_id, reference, caused_by, recipient, channel, told, status,
                                   ordinal, correlation_id, said, body, ids, composed_with, traceparent, state, steps, composed_at)
    select *, case when channel = 'mailbox' then 'accepted' else 'waiting' end,
           jsonb_strip_nulls(jsonb_build_object('composed', cast(:at as timestamptz),
               'accepted', case when channel = 'mailbox' then cast(:at as timestamptz) end)),
           :at
    from unnest(cast(:keys as text[]), cast(:ids as uuid[]), cast(:references as text[]), cast(:causes as text[]),
                cast(:recipients as text[]), cast(:channels as text[]), cast(:told as text[]),
                cast(:statuses as text[]), cast(:ordinals as integer[]), cast(:correlations as text[]),
                cast(:said as jsonb[]), cast(:bodies as bytea[]), cast(:carrier_ids as jsonb[]), cast(:versions as text[]),
                cast(:traceparents as text[]))
         as new (person_key, feedback_id, reference, caused_by, recipient, channel, told, status, ordinal,
                 correlation_id, said, body, ids, composed_with, traceparent)""")


# ---- delivering ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Claimed:
    """The next feedback of a conversation, leased to this process for one attempt."""

    conversation: Conversation
    lease: UUID
    parcel: Parcel
    caused_by: str
    follows_failure: bool
    """An earlier one failed for good, and this was never attempted: it must restate the whole position first."""


async def claim(tx: Transaction, *, limit: int, seconds: float, lease: UUID, busy: Sequence[str]) -> list[Claimed]:
    """Lease up to `limit` feedbacks that are due, oldest first, leaving out recipients in `busy`."""
    result = await tx.execute(_CLAIM, {"limit": limit, "seconds": seconds, "lease": lease, "busy": list(busy)})
    return [_claimed(row, lease) for row in result]


_CLAIM = text("""
    with due as (
        select person_key, reference, recipient, channel from notifier.conversation
        where due_at <= now() and recipient <> all(cast(:busy as text[]))
        order by due_at limit :limit for update skip locked
    ), claimed as (
        update notifier.conversation as held
        set lease = :lease, due_at = clock_timestamp() + make_interval(secs => :seconds), attempts = held.attempts + 1,
            first_attempt_at = coalesce(held.first_attempt_at, clock_timestamp())
        from due
        where held.person_key = due.person_key and held.reference = due.reference
          and held.recipient = due.recipient and held.channel = due.channel
        returning held.*
    )
    select claimed.person_key, claimed.reference, claimed.recipient, claimed.channel, claimed.attempts, claimed.failed_before,
           feedback.feedback_id, feedback.correlation_id, feedback.caused_by, feedback.body, feedback.ids, feedback.traceparent
    from claimed join notifier.feedback as feedback
      on feedback.person_key = claimed.person_key and feedback.reference = claimed.reference
     and feedback.recipient = claimed.recipient and feedback.channel = claimed.channel and feedback.ordinal = claimed.next""")


def _claimed(row: Any, lease: UUID) -> Claimed:
    parcel = Parcel(
        feedback_id=str(row.feedback_id),
        reference=row.reference,
        correlation_id=row.correlation_id,
        recipient=row.recipient,
        body=row.body,
        ids=row.ids if isinstance(row.ids, dict) else json.loads(row.ids),
        attempt=row.attempts,
        traceparent=row.traceparent,
    )
    return Claimed(
        conversation=(row.person_key, row.reference, row.recipient, row.channel),
        lease=lease,
        parcel=parcel,
        caused_by=row.caused_by,
        follows_failure=row.failed_before and row.attempts == 1,
    )


async def since_accepted(tx: Transaction, claimed: Claimed) -> tuple[Feedback, list[Feedback]]:
    """The claimed feedback itself, and those before it that failed for good since the last one that was accepted."""
    result = await tx.execute(
        text("""
            select feedback_id, said from notifier.feedback
            where person_key = :key and reference = :reference and recipient = :recipient and channel = :channel
              and (feedback_id = :id or state = 'failed' and ordinal > coalesce(
                    (select max(ordinal) from notifier.feedback where person_key = :key and reference = :reference
                     and recipient = :recipient and channel = :channel and state = 'accepted'), 0))
            order by ordinal"""),
        {**_key(claimed), "id": claimed.parcel.feedback_id},
    )
    said = [(str(row.feedback_id), Feedback.model_validate(_json(row.said))) for row in result]
    own = next(feedback for feedback_id, feedback in said if feedback_id == claimed.parcel.feedback_id)
    return own, [feedback for feedback_id, feedback in said if feedback_id != claimed.parcel.feedback_id]


async def rewrite(tx: Transaction, claimed: Claimed, feedback: Feedback, rendered: Rendered) -> None:
    """Give a feedback that was never attempted its restated words and bytes."""
    await tx.execute(
        text("""
            update notifier.feedback set said = cast(:said as jsonb), body = :body, ids = cast(:ids as jsonb)
            where person_key = :key and feedback_id = :id"""),
        {
            "key": claimed.conversation[0],
            "id": feedback.id,
            "said": feedback.model_dump_json(exclude_defaults=True),
            "body": rendered.body,
            "ids": json.dumps(dict(rendered.ids)),
        },
    )


def with_bytes(claimed: Claimed, rendered: Rendered) -> Claimed:
    """The same claim on other bytes."""
    return replace(claimed, parcel=replace(claimed.parcel, body=rendered.body, ids=rendered.ids))


def with_context(claimed: Claimed, traceparent: str | None) -> Claimed:
    """The same claim in the context of an attempt."""
    if traceparent == claimed.parcel.traceparent:
        return claimed
    return replace(claimed, parcel=replace(claimed.parcel, traceparent=traceparent))


def _key(claimed: Claimed) -> dict[str, str]:
    return dict(zip(("key", "reference", "recipient", "channel"), claimed.conversation, strict=True))


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class Attempt:
    """What became of one attempt, and when."""

    claimed: Claimed
    outcome: Outcome
    started_at: datetime
    ended_at: datetime
    pause: float = 0.0
    """Seconds until the next attempt, where there is one."""


async def mark(tx: Transaction, attempts: Sequence[Attempt]) -> int:
    """Record attempts, move their conversations on, and write the events. Returns how many events were written.

    An attempt whose lease went to another process in the meantime is dropped: the other's will be recorded.
    """
    result = await tx.execute(_MARK, _marks(attempts))
    marked = {str(feedback_id) for feedback_id in result.scalars()}
    finished = [
        attempt
        for attempt in attempts
        if attempt.claimed.parcel.feedback_id in marked and not isinstance(attempt.outcome, Retry)
    ]
    await outbox.put(tx, SCHEMA, [_result_event(attempt) for attempt in finished])
    return len(finished)


def _marks(attempts: Sequence[Attempt]) -> dict[str, list[Any]]:
    return {
        "keys": [attempt.claimed.conversation[0] for attempt in attempts],
        "references": [attempt.claimed.conversation[1] for attempt in attempts],
        "recipients": [attempt.claimed.conversation[2] for attempt in attempts],
        "channels": [attempt.claimed.conversation[3] for attempt in attempts],
        "leases": [attempt.claimed.lease for attempt in attempts],
        "ids": [attempt.claimed.parcel.feedback_id for attempt in attempts],
        "outcomes": [_outcome(attempt.outcome) for attempt in attempts],
        "reasons": [getattr(attempt.outcome, "reason", None) for attempt in attempts],
        "receipts": [getattr(attempt.outcome, "receipt", None) for attempt in attempts],
        "pauses": [attempt.pause for attempt in attempts],
        "started": [attempt.started_at for attempt in attempts],
        "ended": [attempt.ended_at for attempt in attempts],
    }


def _outcome(outcome: Outcome) -> str:
    match outcome:
        case Delivered(repeat=True):
            return "repeat"
        case Delivered():
            return "delivered"
        case Retry():
            return "retry"
        case Failed():
            return "failed"


_MARK = text("""
    with result as (
        select * from unnest(cast(:keys as text[]), cast(:references as text[]), cast(:recipients as text[]),
                             cast(:channels as text[]), cast(:leases as uuid[]), cast(:ids as uuid[]),
                             cast(:outcomes as text[]), cast(:reasons as text[]), cast(:receipts as text[]),
                             cast(:pauses as double precision[]), cast(:started as timestamptz[]), cast(:ended as timestamptz[]))
             as result (person_key, reference, recipient, channel, lease, feedback_id, outcome, reason, receipt, pause,
                        started_at, ended_at)
    ), locked as (
        select result.*, held.attempts, held.first_attempt_at
        from result join notifier.conversation as held using (person_key, reference, recipient, channel)
        where held.lease = result.lease
        order by person_key, reference, recipient, channel
        for update of held
    ), moved as (
        update notifier.conversation as held
        set lease = null,
            next = held.next + case when locked.outcome = 'retry' then 0 else 1 end,
            attempts = case when locked.outcome = 'retry' then held.attempts else 0 end,
            first_attempt_at = case when locked.outcome = 'retry' then held.first_attempt_at end,
            reason = case when locked.outcome = 'retry' then locked.reason end,
            failed_before = case when locked.outcome = 'retry' then held.failed_before else locked.outcome = 'failed' end,
            due_at = case when locked.outcome = 'retry' then clock_timestamp() + make_interval(secs => locked.pause)
                          when held.next < held.last then clock_timestamp() end
        from locked
        where held.person_key = locked.person_key and held.reference = locked.reference
          and held.recipient = locked.recipient and held.channel = locked.channel
    ), told as (
        update notifier.feedback as feedback
        set state = case when locked.outcome = 'failed' then 'failed' else 'accepted' end,
            attempts = locked.attempts, receipt = locked.receipt, reason = locked.reason,
            steps = feedback.steps || jsonb_build_object('first_attempt', locked.first_attempt_at)
                || case when locked.outcome = 'failed' then jsonb_build_object('failed', locked.ended_at)
                        else jsonb_build_object('sent', locked.started_at, 'accepted', locked.ended_at) end
        from locked
        where feedback.person_key = locked.person_key and feedback.feedback_id = locked.feedback_id
          and locked.outcome <> 'retry'
    ), tried as (
        insert into notifier.attempt (person_key, feedback_id, number, started_at, ended_at, outcome, reason)
        select person_key, feedback_id, attempts, started_at, ended_at, outcome, reason from locked
        on conflict do nothing
    )
    select feedback_id from locked""")


@dataclass(frozen=True, slots=True)
class _About:
    """What the event about a feedback needs of it."""

    person_key: str
    feedback_id: str
    reference: str
    recipient: str
    channel: Any
    correlation_id: str
    caused_by: str
    traceparent: str | None


def _told(one: Composed) -> _About:
    feedback, recipient = one.feedback, one.feedback.recipient
    return _About(
        feedback.person_key,
        feedback.id,
        feedback.reference,
        recipient.id,
        recipient.channel,
        feedback.correlation_id,
        feedback.caused_by,
        one.traceparent,
    )


def _result_event(attempt: Attempt) -> outbox.Message:
    person_key, reference, recipient, channel = attempt.claimed.conversation
    parcel = attempt.claimed.parcel
    about = _About(
        person_key,
        parcel.feedback_id,
        reference,
        recipient,
        channel,
        parcel.correlation_id,
        attempt.claimed.caused_by,
        parcel.traceparent,
    )
    if isinstance(attempt.outcome, Failed):
        return _failed(about, attempt.ended_at, attempt.outcome.reason)
    return _sent(about, attempt.ended_at)


def _sent(about: _About, at: datetime) -> outbox.Message:
    data = FeedbackSent(
        reference=Reference(about.reference),
        feedback_id=about.feedback_id,
        recipient=about.recipient,
        channel=about.channel,
    )
    return outbox.Message(FEEDBACK_EVENT, _event(about, at, data, "sent"), about.traceparent)


def _failed(about: _About, at: datetime, reason: str) -> outbox.Message:
    data = FeedbackFailed(
        reference=Reference(about.reference),
        feedback_id=about.feedback_id,
        recipient=about.recipient,
        channel=about.channel,
        reason=reason,
    )
    return outbox.Message(FEEDBACK_EVENT, _event(about, at, data, "failed"), about.traceparent)


def _event(about: _About, at: datetime, data: FeedbackSent | FeedbackFailed, what: str) -> Event:
    return Event(
        id=str(uuid5(UUID(about.feedback_id), what)),
        source=SOURCE,
        time=at,
        person_key=PersonKey(about.person_key),
        correlation_id=about.correlation_id,
        causation_id=about.caused_by,
        data=data,
    )


# ---- fetching ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kept:
    """A feedback as it is fetched."""

    feedback: Feedback
    steps: Mapping[str, str]


async def fetch(tx: Transaction, reference: str, recipients: Sequence[str], at: datetime) -> list[Kept]:
    """What was composed about this referral for these recipients, in order. What was kept to be fetched is collected by this."""
    values = {"reference": reference, "recipients": list(recipients), "at": at}
    await tx.execute(
        text("""
            update notifier.feedback
            set steps = steps || jsonb_build_object('collected', cast(:at as timestamptz))
            where reference = :reference and recipient = any(cast(:recipients as text[]))
              and channel = 'mailbox' and not jsonb_exists(steps, 'collected')"""),
        values,
    )
    result = await tx.execute(
        text("""
            select said, steps from notifier.feedback
            where reference = :reference and recipient = any(cast(:recipients as text[]))
            order by recipient, channel, ordinal"""),
        {"reference": reference, "recipients": list(recipients)},
    )
    return [Kept(Feedback.model_validate(_json(row.said)), _json(row.steps)) for row in result]
