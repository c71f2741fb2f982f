"""Leases on feedback that is due, and the outcomes of attempts.

A lease covers one attempt. If its process dies, the lease expires and the same bytes are sent again. Of an endpoint whose circuit is
open one feedback is leased at a time (circuits.py). Most first attempts need no statement here: the transaction that stores a feedback
leases it (store.py). All statements are set-based.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import text

from services.messaging import outbox
from services.notifier import circuits, feedback_events, store
from services.notifier.channels import Conversation, Delivered, DeliveryRequest, Failed, Outcome, Rendered, Retry
from services.notifier.circuits import HELD, Sighting, Turn
from services.notifier.compose import Feedback
from services.notifier.store import SCHEMA, FeedbackContent, Leased
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
    contents = await store.contents(tx, rows)
    of = Counter((row.channel, row.recipient) for row in rows if not row.is_trial)
    more = any(of[row.channel, row.recipient] >= row.share for row in rows if not row.is_trial)
    return Acquired([_lease_of(*one, lease) for one in zip(rows, contents, strict=True)], more)


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
           feedback.ordinal, feedback.feedback_id, feedback.caused_by, feedback.packet, feedback.place
    from claimed join notifier.feedback as feedback
      on feedback.person_key = claimed.person_key and feedback.reference = claimed.reference
     and feedback.recipient = claimed.recipient and feedback.channel = claimed.channel
     and feedback.ordinal = coalesce(claimed.resend[1], claimed.next)""")  # noqa: S608 - a constant


def _lease_of(row: Any, content: FeedbackContent, lease: UUID) -> Lease:
    request = DeliveryRequest(
        feedback_id=str(row.feedback_id),
        reference=row.reference,
        correlation_id=content.correlation_id,
        recipient=row.recipient,
        body=content.body,
        ids=content.ids,
        attempt=row.attempt,
        traceparent=content.traceparent,
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


def of_new(leased: Leased, lease: UUID) -> Lease:
    """Return the lease of a feedback that was stored with it."""
    feedback, rendered, traceparent = leased.new
    recipient = feedback.recipient
    request = DeliveryRequest(
        feedback_id=feedback.id,
        reference=feedback.reference,
        correlation_id=feedback.correlation_id,
        recipient=recipient.id,
        body=rendered.body,
        ids=rendered.ids,
        attempt=1,
        traceparent=traceparent,
    )
    return Lease(
        conversation=Conversation(feedback.person_key, feedback.reference, recipient.id, recipient.channel),
        id=lease,
        request=request,
        caused_by=feedback.caused_by,
        follows_failure=False,
        ordinal=leased.ordinal,
    )


async def since_accepted(tx: Transaction, lease: Lease) -> tuple[Feedback, list[Feedback]]:
    """Return the leased feedback, and the earlier ones that failed for good since the last accepted one."""
    result = await tx.execute(
        text("""
            select feedback_id, person_key, packet, place from notifier.feedback
            where person_key = :key and reference = :reference and recipient = :recipient and channel = :channel
              and (feedback_id = :id or state = 'failed')
              and ordinal <= (select ordinal from notifier.feedback where person_key = :key and feedback_id = :id)
              and ordinal > coalesce(
                    (select ordinal from notifier.feedback where person_key = :key and reference = :reference
                     and recipient = :recipient and channel = :channel and state = 'accepted' order by ordinal desc limit 1), 0)
            order by ordinal"""),
        {**_key(lease), "id": lease.request.feedback_id},
    )
    rows = result.all()
    contents = await store.contents(tx, rows)
    by_id = {str(row.feedback_id): content.feedback for row, content in zip(rows, contents, strict=True)}
    return by_id.pop(lease.request.feedback_id), list(by_id.values())


async def rewrite(tx: Transaction, lease: Lease, feedback: Feedback, rendered: Rendered) -> None:
    """Store the restated content and bytes of a feedback that was never attempted."""
    added = await outbox.add(tx, SCHEMA, [], [store.content_of(feedback, rendered, lease.request.traceparent)])
    await tx.execute(
        text("""
            update notifier.feedback set packet = :packet, place = :place
            where person_key = :key and feedback_id = :id"""),
        {"key": lease.conversation.person_key, "id": feedback.id, **added.contents[0]._asdict()},
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

    @property
    def is_plain(self) -> bool:
        """Whether the feedback has all of it: it was the first one, and succeeded."""
        return self.lease.request.attempt == 1 and isinstance(self.outcome, Delivered) and not self.outcome.repeat

    @property
    def receipt(self) -> str | None:
        return self.outcome.receipt if isinstance(self.outcome, Delivered) else None


class Marked(NamedTuple):
    """What the stored attempts changed: circuits that opened or closed, and whether more feedback of their conversations is due now."""

    turns: list[Turn]
    more: bool


async def mark(tx: Transaction, attempts: Sequence[Attempt]) -> Marked:
    """Store attempts, advance their conversations, and write the events.

    An attempt is dropped if its lease has passed to another process, which stores its own attempt.
    """
    ordered = sorted(attempts, key=lambda attempt: attempt.lease.conversation)  # the order in which rows are locked
    rows = (await tx.execute(_MOVE, _move_columns(ordered))).all()
    moved = [(ordered[row.place - 1], row.first_attempt_at) for row in rows]
    finished = [(attempt, at) for attempt, at in moved if not isinstance(attempt.outcome, Retry)]
    added = await outbox.add(tx, SCHEMA, [_result_event(attempt) for attempt, _ in finished])
    packets = [place.packet for place in added.messages]
    await _finish(tx, [_result(*one, packet) for one, packet in zip(finished, packets, strict=True)])
    await _keep(tx, [attempt for attempt, _ in moved if not attempt.is_plain])
    turns = await circuits.record(tx, [sighting for attempt in attempts if (sighting := _sighting(attempt))])
    return Marked(turns, any(row.is_due for row in rows))


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


def _move_columns(attempts: Sequence[Attempt]) -> dict[str, list[Any]]:
    conversations = [attempt.lease.conversation for attempt in attempts]
    return {
        "keys": [conversation.person_key for conversation in conversations],
        "references": [conversation.reference for conversation in conversations],
        "recipients": [conversation.recipient for conversation in conversations],
        "channels": [conversation.channel for conversation in conversations],
        "leases": [attempt.lease.id for attempt in attempts],
        "ordinals": [attempt.lease.ordinal for attempt in attempts],
        "again": [isinstance(attempt.outcome, Retry) for attempt in attempts],
        "failed": [isinstance(attempt.outcome, Failed) for attempt in attempts],
        "reasons": [getattr(attempt.outcome, "reason", None) for attempt in attempts],
        "pauses": [attempt.pause for attempt in attempts],
    }


_NEXT = "held.next + cast(result.ordinal = held.next as integer)"
_RESEND = "nullif(array_remove(held.resend, result.ordinal), '{}')"
_MORE = f"({_NEXT} <= held.last or {_RESEND} is not null)"
"""SQL expressions: the next feedback after the end of one, what is sent again before it, and whether anything waits then."""

_MOVE = text(f"""
    update notifier.conversation as held
    set lease = null,
        next = case when again then held.next else {_NEXT} end,
        resend = case when again then held.resend else {_RESEND} end,
        attempts = case when again or ordinal <> held.next then held.attempts else 0 end,
        first_attempt_at = case when again or ordinal <> held.next then held.first_attempt_at end,
        reason = case when again then result.reason end,
        failed_before = case when again then held.failed_before
                             when ordinal = held.next then failed
                             else held.failed_before and (failed or ordinal < held.next - 1) end,
        due_at = case when again then clock_timestamp() + make_interval(secs => pause) when {_MORE} then clock_timestamp() end,
        due_since = case when again then held.due_since when {_MORE} then clock_timestamp() end
    from unnest(cast(:keys as text[]), cast(:references as text[]), cast(:recipients as text[]), cast(:channels as text[]),
                cast(:leases as uuid[]), cast(:ordinals as integer[]), cast(:again as boolean[]), cast(:failed as boolean[]),
                cast(:reasons as text[]), cast(:pauses as double precision[])) with ordinality
         as result (person_key, reference, recipient, channel, lease, ordinal, again, failed, reason, pause, place)
    where held.person_key = result.person_key and held.reference = result.reference and held.recipient = result.recipient
      and held.channel = result.channel and held.lease = result.lease
    returning place, case when ordinal = old.next then old.first_attempt_at end as first_attempt_at,
              new.due_at is not null and not again as is_due""")  # noqa: S608 - constants


class _Result(NamedTuple):
    """The end of a feedback: the values of its row that change. Times that are None stay as they are."""

    person_key: str
    feedback_id: str
    state: str
    attempts: int
    receipt: str | None
    reason: str | None
    event_packet: int
    first_attempt_at: datetime | None
    sent_at: datetime | None
    accepted_at: datetime | None
    failed_at: datetime | None


def _result(attempt: Attempt, first_attempt_at: datetime | None, event_packet: int) -> _Result:
    request, reason = attempt.lease.request, attempt.outcome.reason if isinstance(attempt.outcome, Failed) else None
    return _Result(
        person_key=attempt.lease.conversation.person_key,
        feedback_id=request.feedback_id,
        state="accepted" if reason is None else "failed",
        attempts=request.attempt,
        receipt=attempt.receipt,
        reason=reason,
        event_packet=event_packet,
        first_attempt_at=first_attempt_at,
        sent_at=attempt.started_at if reason is None else None,
        accepted_at=attempt.ended_at if reason is None else None,
        failed_at=None if reason is None else attempt.ended_at,
    )


async def _finish(tx: Transaction, results: Sequence[_Result]) -> None:
    if results:
        columns = map(list, zip(*results, strict=True))
        await tx.execute(_FINISH, dict(zip(_Result._fields, columns, strict=True)))


_FINISH = text("""
    update notifier.feedback as feedback
    set state = result.state, attempts = result.attempts, receipt = result.receipt, reason = result.reason,
        event_packet = result.event_packet,
        first_attempt_at = coalesce(result.first_attempt_at, feedback.first_attempt_at),
        sent_at = coalesce(result.sent_at, feedback.sent_at),
        accepted_at = coalesce(result.accepted_at, feedback.accepted_at),
        failed_at = coalesce(result.failed_at, feedback.failed_at)
    from unnest(cast(:person_key as text[]), cast(:feedback_id as uuid[]), cast(:state as text[]), cast(:attempts as integer[]),
                cast(:receipt as text[]), cast(:reason as text[]), cast(:event_packet as bigint[]),
                cast(:first_attempt_at as timestamptz[]), cast(:sent_at as timestamptz[]), cast(:accepted_at as timestamptz[]),
                cast(:failed_at as timestamptz[]))
         as result (person_key, feedback_id, state, attempts, receipt, reason, event_packet, first_attempt_at, sent_at, accepted_at,
                    failed_at)
    where feedback.person_key = result.person_key and feedback.feedback_id = result.feedback_id""")


async def _keep(tx: Transaction, attempts: Sequence[Attempt]) -> None:
    """Store these attempts as rows of their own."""
    if attempts:
        await tx.execute(
            _KEEP,
            {
                "keys": [attempt.lease.conversation.person_key for attempt in attempts],
                "ids": [attempt.lease.request.feedback_id for attempt in attempts],
                "numbers": [attempt.lease.request.attempt for attempt in attempts],
                "started": [attempt.started_at for attempt in attempts],
                "ended": [attempt.ended_at for attempt in attempts],
                "outcomes": [_outcome(attempt.outcome) for attempt in attempts],
                "reasons": [getattr(attempt.outcome, "reason", None) for attempt in attempts],
            },
        )


_KEEP = text("""
    insert into notifier.attempt (person_key, feedback_id, number, started_at, ended_at, outcome, reason)
    select * from unnest(cast(:keys as text[]), cast(:ids as uuid[]), cast(:numbers as integer[]), cast(:started as timestamptz[]),
                         cast(:ended as timestamptz[]), cast(:outcomes as text[]), cast(:reasons as text[]))
    on conflict do nothing""")


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
    rows = (await tx.execute(_GIVE_UP, {"seconds": seconds, "limit": limit})).all()
    contents, at = await store.contents(tx, rows), datetime.now(UTC)
    given_up = [_given_up(*one) for one in zip(rows, contents, strict=True)]
    added = await outbox.add(tx, SCHEMA, [feedback_events.failed(one.identity, at, one.reason) for one in given_up])
    packets = [place.packet for place in added.messages]
    await _finish(tx, [_abandoned(row, packet, at) for row, packet in zip(rows, packets, strict=True)])
    return given_up


def _given_up(row: Any, content: FeedbackContent) -> GivenUp:
    of = Conversation(row.person_key, row.reference, row.recipient, row.channel)
    identity = feedback_events.FeedbackIdentity(
        of, str(row.feedback_id), content.correlation_id, row.caused_by, content.traceparent
    )
    return GivenUp(identity, row.reason, row.attempts)


def _abandoned(row: Any, event_packet: int, at: datetime) -> _Result:
    values = (row.person_key, str(row.feedback_id), "failed", row.attempts, row.receipt, row.reason, event_packet)
    return _Result(*values, row.first_attempt_at, None, None, at)


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
    )
    select feedback.person_key, feedback.reference, feedback.recipient, feedback.channel, feedback.feedback_id, feedback.caused_by,
           feedback.packet, feedback.place, feedback.receipt,
           'gave up: ' || coalesce(waiting.reason, held.reason, 'not attempted') as reason,
           case when waiting.is_next then waiting.attempts else feedback.attempts end as attempts,
           case when waiting.is_next then waiting.first_attempt_at end as first_attempt_at
    from late as waiting join notifier.feedback as feedback
      on feedback.person_key = waiting.person_key and feedback.reference = waiting.reference
     and feedback.recipient = waiting.recipient and feedback.channel = waiting.channel and feedback.ordinal = waiting.ordinal
    left join notifier.endpoint as held on {HELD}""")  # noqa: S608 - a constant


def _result_event(attempt: Attempt) -> outbox.OutboxMessage:
    lease, request = attempt.lease, attempt.lease.request
    about = feedback_events.FeedbackIdentity(
        lease.conversation, request.feedback_id, request.correlation_id, lease.caused_by, request.traceparent
    )
    if isinstance(attempt.outcome, Failed):
        return feedback_events.failed(about, attempt.ended_at, attempt.outcome.reason)
    return feedback_events.sent(about, attempt.ended_at)
