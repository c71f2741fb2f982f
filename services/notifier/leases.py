"""Leases on feedback that is due, and the outcomes of attempts.

A lease covers one attempt. If its process dies, the lease expires and the same bytes are sent again. All statements are set-based.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text

from services.messaging import outbox
from services.notifier import feedback_events
from services.notifier.channels import Conversation, Delivered, DeliveryRequest, Failed, Outcome, Rendered, Retry
from services.notifier.compose import Feedback
from services.notifier.store import SCHEMA, plain
from services.runtime.database import Transaction


@dataclass(frozen=True, slots=True)
class Lease:
    """The next feedback of a conversation, reserved by this process for one attempt."""

    conversation: Conversation
    id: UUID
    request: DeliveryRequest
    caused_by: str
    follows_failure: bool
    """True if the one before failed for good and this was never attempted: it must restate the whole position."""


@dataclass(frozen=True, slots=True)
class Acquired:
    """The leases of one round. `more`: a recipient used its whole share of the round, so more may be due."""

    leases: list[Lease]
    more: bool


async def acquire(tx: Transaction, *, limit: int, seconds: float, lease: UUID, busy: Sequence[str]) -> Acquired:
    """Lease up to `limit` feedbacks that are due, without those for recipients in `busy`.

    Recipients get equal shares, those that have waited longest first; of each recipient the oldest first.
    """
    result = await tx.execute(_ACQUIRE, {"limit": limit, "seconds": seconds, "lease": lease, "busy": list(busy)})
    rows = result.all()
    by_recipient = Counter(row.recipient for row in rows)
    return Acquired(
        [_lease_of(row, lease) for row in rows], any(by_recipient[row.recipient] >= row.share for row in rows)
    )


RECIPIENTS = """recipients (recipient, due_at) as (
        (select recipient, due_at from notifier.conversation where due_at is not null order by recipient, due_at limit 1)
        union all
        select next.recipient, next.due_at from recipients cross join lateral (
            select recipient, due_at from notifier.conversation
            where due_at is not null and recipient > recipients.recipient order by recipient, due_at limit 1
        ) as next
    )"""
"""Common table expression for `with recursive`: each recipient that waits, with its earliest time, by one index search each."""

_ACQUIRE = text(f"""
    with recursive {RECIPIENTS}, open as materialized (
        select recipient from recipients where due_at <= now() and recipient <> all(cast(:busy as text[]))
        order by due_at limit :limit
    ), fair as materialized (
        select greatest(cast(:limit as bigint) / greatest(count(*), 1), 1) as share from open
    ), due as materialized (
        select first.*, fair.share from fair cross join open cross join lateral (
            select person_key, reference, recipient, channel from notifier.conversation
            where recipient = open.recipient and due_at <= now()
            order by due_at limit fair.share for update skip locked
        ) as first
    ), claimed as (
        update notifier.conversation as held
        set lease = :lease, due_at = clock_timestamp() + make_interval(secs => :seconds), attempts = held.attempts + 1,
            first_attempt_at = coalesce(held.first_attempt_at, clock_timestamp())
        from due
        where held.person_key = due.person_key and held.reference = due.reference
          and held.recipient = due.recipient and held.channel = due.channel
        returning held.*, due.share
    )
    select claimed.share,
           claimed.person_key, claimed.reference, claimed.recipient, claimed.channel, claimed.attempts, claimed.failed_before,
           feedback.feedback_id, feedback.correlation_id, feedback.caused_by, feedback.body, feedback.ids, feedback.traceparent
    from claimed join notifier.feedback as feedback
      on feedback.person_key = claimed.person_key and feedback.reference = claimed.reference
     and feedback.recipient = claimed.recipient and feedback.channel = claimed.channel
     and feedback.ordinal = claimed.next""")  # noqa: S608 - a constant


def _lease_of(row: Any, lease: UUID) -> Lease:
    request = DeliveryRequest(
        feedback_id=str(row.feedback_id),
        reference=row.reference,
        correlation_id=row.correlation_id,
        recipient=row.recipient,
        body=row.body,
        ids=row.ids if isinstance(row.ids, dict) else json.loads(row.ids),
        attempt=row.attempts,
        traceparent=row.traceparent,
    )
    return Lease(
        conversation=Conversation(row.person_key, row.reference, row.recipient, row.channel),
        id=lease,
        request=request,
        caused_by=row.caused_by,
        follows_failure=row.failed_before and row.attempts == 1,
    )


async def since_accepted(tx: Transaction, lease: Lease) -> tuple[Feedback, list[Feedback]]:
    """Return the leased feedback, and the earlier ones that failed for good since the last accepted one."""
    result = await tx.execute(
        text("""
            select feedback_id, content from notifier.feedback
            where person_key = :key and reference = :reference and recipient = :recipient and channel = :channel
              and (feedback_id = :id or state = 'failed')
              and ordinal <= (select ordinal from notifier.feedback where person_key = :key and feedback_id = :id)
              and ordinal > coalesce(
                    (select ordinal from notifier.feedback where person_key = :key and reference = :reference
                     and recipient = :recipient and channel = :channel and state = 'accepted' order by ordinal desc limit 1), 0)
            order by ordinal"""),
        {**_key(lease), "id": lease.request.feedback_id},
    )
    feedbacks = [(str(row.feedback_id), Feedback.model_validate(plain(row.content))) for row in result]
    own = next(feedback for feedback_id, feedback in feedbacks if feedback_id == lease.request.feedback_id)
    return own, [feedback for feedback_id, feedback in feedbacks if feedback_id != lease.request.feedback_id]


async def rewrite(tx: Transaction, lease: Lease, feedback: Feedback, rendered: Rendered) -> None:
    """Store the restated content and bytes of a feedback that was never attempted."""
    await tx.execute(
        text("""
            update notifier.feedback set content = cast(:content as jsonb), body = :body, ids = cast(:ids as jsonb)
            where person_key = :key and feedback_id = :id"""),
        {
            "key": lease.conversation.person_key,
            "id": feedback.id,
            "content": feedback.model_dump_json(exclude_defaults=True),
            "body": rendered.body,
            "ids": json.dumps(dict(rendered.ids)),
        },
    )


def with_bytes(lease: Lease, rendered: Rendered) -> Lease:
    """Return the same lease with other bytes."""
    return replace(lease, request=replace(lease.request, body=rendered.body, ids=rendered.ids))


def with_context(lease: Lease, traceparent: str | None) -> Lease:
    """Return the same lease with the trace context of an attempt."""
    if traceparent == lease.request.traceparent:
        return lease
    return replace(lease, request=replace(lease.request, traceparent=traceparent))


def _key(lease: Lease) -> dict[str, str]:
    of = lease.conversation
    return {"key": of.person_key, "reference": of.reference, "recipient": of.recipient, "channel": of.channel}


@dataclass(frozen=True, slots=True)
class Attempt:
    """The outcome of one attempt, and its times."""

    lease: Lease
    outcome: Outcome
    started_at: datetime
    ended_at: datetime
    pause: float = 0.0
    """Seconds until the next attempt, if the outcome is Retry."""


async def mark(tx: Transaction, attempts: Sequence[Attempt]) -> int:
    """Store attempts, advance their conversations, and write the events. Return how many events were written.

    An attempt is dropped if its lease has passed to another process, which stores its own attempt.
    """
    result = await tx.execute(_MARK, _marks(attempts))
    marked = {str(feedback_id) for feedback_id in result.scalars()}
    finished = [
        attempt
        for attempt in attempts
        if attempt.lease.request.feedback_id in marked and not isinstance(attempt.outcome, Retry)
    ]
    await outbox.add(tx, SCHEMA, [_result_event(attempt) for attempt in finished])
    return len(finished)


def _marks(attempts: Sequence[Attempt]) -> dict[str, list[Any]]:
    conversations = [attempt.lease.conversation for attempt in attempts]
    return {
        "keys": [conversation.person_key for conversation in conversations],
        "references": [conversation.reference for conversation in conversations],
        "recipients": [conversation.recipient for conversation in conversations],
        "channels": [conversation.channel for conversation in conversations],
        "leases": [attempt.lease.id for attempt in attempts],
        "ids": [attempt.lease.request.feedback_id for attempt in attempts],
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
            return "duplicate"
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


def _result_event(attempt: Attempt) -> outbox.OutboxMessage:
    lease, request = attempt.lease, attempt.lease.request
    about = feedback_events.FeedbackIdentity(
        lease.conversation, request.feedback_id, request.correlation_id, lease.caused_by, request.traceparent
    )
    if isinstance(attempt.outcome, Failed):
        return feedback_events.failed(about, attempt.ended_at, attempt.outcome.reason)
    return feedback_events.sent(about, attempt.ended_at)
