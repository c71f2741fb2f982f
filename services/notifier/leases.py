"""Leases on feedback that is due, and the outcomes of attempts.

A lease covers one attempt. If its process dies, the lease expires and the same bytes are sent again. Of an endpoint whose circuit is
open one feedback is leased at a time (circuits.py). All statements are set-based.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text

from services.messaging import outbox
from services.notifier import circuits, feedback_events
from services.notifier.channels import Conversation, Delivered, DeliveryRequest, Failed, Outcome, Rendered, Retry
from services.notifier.circuits import HELD, Sighting, Turn
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
    ordinal: int
    """Its number in the conversation."""
    is_trial: bool = False
    """True if the circuit of its endpoint is open: no other attempt is made before its outcome is stored."""


@dataclass(frozen=True, slots=True)
class Acquired:
    """The leases of one round. `more`: a recipient used its whole share of the round, so more may be due."""

    leases: list[Lease]
    more: bool


async def acquire(tx: Transaction, *, limit: int, seconds: float, lease: UUID, busy: Sequence[str]) -> Acquired:
    """Lease up to `limit` feedbacks that are due, without those for recipients in `busy` and for endpoints that fail.

    Recipients get equal shares, those that have waited longest first; of each recipient the oldest first.
    """
    result = await tx.execute(_ACQUIRE, {"limit": limit, "seconds": seconds, "lease": lease, "busy": list(busy)})
    rows = result.all()
    of = Counter((row.channel, row.recipient) for row in rows if not row.is_trial)
    more = any(of[row.channel, row.recipient] >= row.share for row in rows if not row.is_trial)
    return Acquired([_lease_of(row, lease) for row in rows], more)


WAITING = """carrier (channel) as materialized (
        select channel from (values ('fhir'), ('mesh')) as sending (channel)
        where not exists (select from notifier.endpoint where name = sending.channel || ' *' and next_attempt_at > now())
    ), waiting (channel, recipient, due_at) as (
        select first.* from carrier cross join lateral (
            select channel, recipient, due_at from notifier.conversation
            where due_at is not null and channel = carrier.channel order by recipient, due_at limit 1
        ) as first
        union all
        select next.* from waiting cross join lateral (
            select channel, recipient, due_at from notifier.conversation
            where due_at is not null and channel = waiting.channel and recipient > waiting.recipient order by recipient, due_at limit 1
        ) as next
    )"""
"""Common table expression for `with recursive`: each channel and recipient that waits, with its earliest time, by one index search each.

A channel whose only endpoint gets nothing now is left out.
"""

_ACQUIRE = text(f"""
    with recursive {WAITING}, ready as materialized (
        select waiting.*, held.name, held.opened_at is not null as is_open
        from waiting left join notifier.endpoint as held on {HELD}
        where waiting.due_at <= now() and waiting.recipient <> all(cast(:busy as text[]))
          and coalesce(held.next_attempt_at <= now(), true)
    ), trial as materialized (
        select name from notifier.endpoint where opened_at is not null and next_attempt_at <= now()
        for update skip locked
    ), turn as materialized (
        select channel, recipient, due_at, false as is_trial, name from ready where not is_open
        union all (
            select distinct on (name) channel, recipient, due_at, true, name from ready join trial using (name)
            where is_open order by name, due_at
        )
        order by due_at limit :limit
    ), fair as materialized (
        select greatest(cast(:limit as bigint) / greatest(count(*), 1), 1) as share from turn
    ), due as materialized (
        select first.*, turn.is_trial, turn.name, fair.share from fair cross join turn cross join lateral (
            select person_key, reference, recipient, channel from notifier.conversation
            where channel = turn.channel and recipient = turn.recipient and due_at <= now()
            order by due_at limit case when turn.is_trial then 1 else fair.share end for update skip locked
        ) as first
    ), claimed as (
        update notifier.conversation as held
        set lease = :lease, due_at = clock_timestamp() + make_interval(secs => :seconds),
            attempts = held.attempts + case when held.resend is null then 1 else 0 end,
            first_attempt_at = case when held.resend is null then coalesce(held.first_attempt_at, clock_timestamp())
                                    else held.first_attempt_at end
        from due
        where held.person_key = due.person_key and held.reference = due.reference
          and held.recipient = due.recipient and held.channel = due.channel
        returning held.*, due.is_trial, due.share, due.name
    ), tried as (
        update notifier.endpoint set next_attempt_at = clock_timestamp() + make_interval(secs => :seconds)
        where name = any(array(select name from claimed where is_trial))
    ), again as (
        update notifier.feedback as feedback set attempts = feedback.attempts + 1
        from claimed
        where claimed.resend is not null and feedback.person_key = claimed.person_key and feedback.reference = claimed.reference
          and feedback.recipient = claimed.recipient and feedback.channel = claimed.channel
          and feedback.ordinal = claimed.resend[1]
    )
    select claimed.share, claimed.is_trial, claimed.person_key, claimed.reference, claimed.recipient, claimed.channel,
           claimed.failed_before, case when claimed.resend is null then claimed.attempts else feedback.attempts + 1 end as attempt,
           feedback.ordinal, feedback.feedback_id, feedback.correlation_id, feedback.caused_by, feedback.body, feedback.ids,
           feedback.traceparent
    from claimed join notifier.feedback as feedback
      on feedback.person_key = claimed.person_key and feedback.reference = claimed.reference
     and feedback.recipient = claimed.recipient and feedback.channel = claimed.channel
     and feedback.ordinal = coalesce(claimed.resend[1], claimed.next)""")  # noqa: S608 - a constant


def _lease_of(row: Any, lease: UUID) -> Lease:
    request = DeliveryRequest(
        feedback_id=str(row.feedback_id),
        reference=row.reference,
        correlation_id=row.correlation_id,
        recipient=row.recipient,
        body=row.body,
        ids=row.ids if isinstance(row.ids, dict) else json.loads(row.ids),
        attempt=row.attempt,
        traceparent=row.traceparent,
    )
    return Lease(
        conversation=Conversation(row.person_key, row.reference, row.recipient, row.channel),
        id=lease,
        request=request,
        caused_by=row.caused_by,
        follows_failure=row.failed_before and row.attempt == 1,
        ordinal=row.ordinal,
        is_trial=row.is_trial,
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


async def mark(tx: Transaction, attempts: Sequence[Attempt]) -> list[Turn]:
    """Store attempts, advance their conversations, write the events, and return the circuits that opened or closed.

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
    return await circuits.record(tx, [sighting for attempt in attempts if (sighting := _sighting(attempt))])


def _sighting(attempt: Attempt) -> Sighting | None:
    """Return what an attempt shows of its endpoint, or None if it was retried for another reason."""
    of, lease = attempt.lease.conversation, attempt.lease
    endpoint = circuits.endpoint_of(of)
    match attempt.outcome:
        case Retry(reason, requested, endpoint=True):
            return Sighting(endpoint, of.reference, lease.is_trial, reason, requested)
        case Retry():
            return None
        case _:
            return Sighting(endpoint, of.reference, lease.is_trial)


def _marks(attempts: Sequence[Attempt]) -> dict[str, list[Any]]:
    conversations = [attempt.lease.conversation for attempt in attempts]
    return {
        "keys": [conversation.person_key for conversation in conversations],
        "references": [conversation.reference for conversation in conversations],
        "recipients": [conversation.recipient for conversation in conversations],
        "channels": [conversation.channel for conversation in conversations],
        "leases": [attempt.lease.id for attempt in attempts],
        "ids": [attempt.lease.request.feedback_id for attempt in attempts],
        "ordinals": [attempt.lease.ordinal for attempt in attempts],
        "numbers": [attempt.lease.request.attempt for attempt in attempts],
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
                             cast(:channels as text[]), cast(:leases as uuid[]), cast(:ids as uuid[]), cast(:ordinals as integer[]),
                             cast(:numbers as integer[]), cast(:outcomes as text[]), cast(:reasons as text[]),
                             cast(:receipts as text[]), cast(:pauses as double precision[]), cast(:started as timestamptz[]),
                             cast(:ended as timestamptz[]))
             as result (person_key, reference, recipient, channel, lease, feedback_id, ordinal, number, outcome, reason, receipt,
                        pause, started_at, ended_at)
    ), locked as (
        select result.*, result.outcome = 'retry' as again, result.ordinal = held.next as is_next,
               case when result.ordinal = held.next then held.first_attempt_at end as first_attempt_at,
               held.next + case when result.ordinal = held.next then 1 else 0 end as next_then,
               nullif(array_remove(held.resend, result.ordinal), '{}') as resend_then
        from result join notifier.conversation as held using (person_key, reference, recipient, channel)
        where held.lease = result.lease
        order by person_key, reference, recipient, channel
        for update of held
    ), moved as (
        update notifier.conversation as held
        set lease = null,
            next = case when locked.again then held.next else locked.next_then end,
            resend = case when locked.again then held.resend else locked.resend_then end,
            attempts = case when locked.again or not locked.is_next then held.attempts else 0 end,
            first_attempt_at = case when locked.again or not locked.is_next then held.first_attempt_at end,
            reason = case when locked.again then locked.reason end,
            failed_before = case when locked.again then held.failed_before
                                 when locked.is_next then locked.outcome = 'failed'
                                 else held.failed_before and (locked.outcome = 'failed' or locked.ordinal < held.next - 1) end,
            due_at = case when locked.again then clock_timestamp() + make_interval(secs => locked.pause)
                          when locked.resend_then is not null or locked.next_then <= held.last then clock_timestamp() end,
            due_since = case when locked.again then held.due_since
                             when locked.resend_then is not null or locked.next_then <= held.last then clock_timestamp() end
        from locked
        where held.person_key = locked.person_key and held.reference = locked.reference
          and held.recipient = locked.recipient and held.channel = locked.channel
    ), told as (
        update notifier.feedback as feedback
        set state = case when locked.outcome = 'failed' then 'failed' else 'accepted' end,
            attempts = locked.number, receipt = locked.receipt, reason = locked.reason,
            steps = feedback.steps || jsonb_strip_nulls(jsonb_build_object('first_attempt', locked.first_attempt_at))
                || case when locked.outcome = 'failed' then jsonb_build_object('failed', locked.ended_at)
                        else jsonb_build_object('sent', locked.started_at, 'accepted', locked.ended_at) end
        from locked
        where feedback.person_key = locked.person_key and feedback.feedback_id = locked.feedback_id
          and not locked.again
    ), tried as (
        insert into notifier.attempt (person_key, feedback_id, number, started_at, ended_at, outcome, reason)
        select person_key, feedback_id, number, started_at, ended_at, outcome, reason from locked
        on conflict do nothing
    )
    select feedback_id from locked""")


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A feedback that failed finally because it could not be delivered for too long."""

    identity: feedback_events.FeedbackIdentity
    reason: str
    attempts: int

    def log_fields(self) -> dict[str, str | int]:
        """Return its fields for the log."""
        of = self.identity
        return {
            "reference": of.conversation.reference,
            "feedback_id": of.feedback_id,
            "recipient": of.conversation.recipient,
            "correlation_id": of.correlation_id,
            "attempt": self.attempts,
        }


async def give_up(tx: Transaction, *, seconds: float, limit: int) -> list[GivenUp]:
    """Fail finally up to `limit` feedbacks that have been due for this long; write their events.

    Only what waits for its next attempt, or for its endpoint's, fails: if no process was running, attempts are made first.
    """
    result = await tx.execute(_GIVE_UP, {"seconds": seconds, "limit": limit})
    given_up, at = [_given_up(row) for row in result], datetime.now(UTC)
    await outbox.add(tx, SCHEMA, [feedback_events.failed(one.identity, at, one.reason) for one in given_up])
    return given_up


def _given_up(row: Any) -> GivenUp:
    of = Conversation(row.person_key, row.reference, row.recipient, row.channel)
    identity = feedback_events.FeedbackIdentity(
        of, str(row.feedback_id), row.correlation_id, row.caused_by, row.traceparent
    )
    return GivenUp(identity, row.reason, row.attempts)


_GIVE_UP = text(f"""
    with oldest as materialized (
        select person_key, reference, recipient, channel from notifier.conversation
        where due_since < now() - make_interval(secs => :seconds) order by due_since limit :limit
    ), late as materialized (
        select waiting.*, resend is null as is_next, coalesce(resend[1], next) as ordinal,
               next + case when resend is null then 1 else 0 end as next_then, nullif(resend[2:], '{{}}') as resend_then
        from oldest join notifier.conversation as waiting using (person_key, reference, recipient, channel)
        left join notifier.endpoint as held on {HELD}
        where due_since < now() - make_interval(secs => :seconds) and due_at is not null and (lease is null or due_at < now())
          and (due_at > now() or held.next_attempt_at > now())
        for update of waiting skip locked
    ), moved as (
        update notifier.conversation as held
        set lease = null,
            next = late.next_then,
            resend = late.resend_then,
            attempts = case when late.is_next then 0 else held.attempts end,
            first_attempt_at = case when not late.is_next then held.first_attempt_at end,
            reason = null,
            failed_before = held.failed_before or late.is_next,
            due_at = case when late.resend_then is not null or late.next_then <= held.last then clock_timestamp() end,
            due_since = case when late.resend_then is not null or late.next_then <= held.last then clock_timestamp() end
        from late
        where held.person_key = late.person_key and held.reference = late.reference
          and held.recipient = late.recipient and held.channel = late.channel
    ), reasons as (
        select waiting.*, 'gave up: ' || coalesce(waiting.reason, held.reason, 'not attempted') as why
        from late as waiting left join notifier.endpoint as held on {HELD}
    )
    update notifier.feedback as feedback
    set state = 'failed', reason = why, attempts = case when reasons.is_next then reasons.attempts else feedback.attempts end,
        steps = feedback.steps || jsonb_strip_nulls(jsonb_build_object('failed', clock_timestamp(),
            'first_attempt', case when reasons.is_next then reasons.first_attempt_at end))
    from reasons
    where feedback.person_key = reasons.person_key and feedback.reference = reasons.reference
      and feedback.recipient = reasons.recipient and feedback.channel = reasons.channel and feedback.ordinal = reasons.ordinal
    returning feedback.person_key, feedback.reference, feedback.recipient, feedback.channel, feedback.feedback_id,
              feedback.correlation_id, feedback.caused_by, feedback.traceparent, feedback.reason, feedback.attempts""")  # noqa: S608 - a constant


def _result_event(attempt: Attempt) -> outbox.OutboxMessage:
    lease, request = attempt.lease, attempt.lease.request
    about = feedback_events.FeedbackIdentity(
        lease.conversation, request.feedback_id, request.correlation_id, lease.caused_by, request.traceparent
    )
    if isinstance(attempt.outcome, Failed):
        return feedback_events.failed(about, attempt.ended_at, attempt.outcome.reason)
    return feedback_events.sent(about, attempt.ended_at)
