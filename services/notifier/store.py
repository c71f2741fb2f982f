"""The notifier's tables: consumed events and stored feedback.

Due feedback and the results of attempts are in leases.py.
Feedback is delivered in order within each conversation (referral, recipient, channel): a conversation row points to its next
feedback, and only that can be leased. All statements are set-based; rows of several conversations are locked in the order of their keys.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text

from schemas.events import Event
from services.messaging import outbox
from services.notifier import feedback_events
from services.notifier.channels import Conversation, RenderedFeedback
from services.notifier.compose import Feedback
from services.runtime.database import Transaction

SCHEMA = "notifier"


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


async def add(tx: Transaction, composed: Sequence[RenderedFeedback], at: datetime) -> None:
    """Store rendered feedback in its order.

    Feedback in the mailbox can be fetched at once, so its `feedback.sent` is added to the outbox. What was sent or failed before the
    database was restored is not sent.
    """
    new, known = await _drop_existing(tx, composed)
    if not new:
        return
    ordinals = await _reserve(tx, [one.feedback for one in new])
    await _insert(tx, new, ordinals, at)
    mailboxed = [one for one in new if one.feedback.recipient.channel == "mailbox"]
    await outbox.add(tx, SCHEMA, [feedback_events.sent(feedback_events.of_composed(one), at) for one in mailboxed])
    if known:
        await apply_known_outcomes(
            tx, [(one.feedback.person_key, one.feedback.id) for one in new if one.feedback.id in known]
        )


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
        steps = feedback.steps || jsonb_build_object(known.outcome, known.at)
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


async def _reserve(tx: Transaction, feedbacks: Sequence[Feedback]) -> dict[str, int]:
    """Lock the conversations, number each feedback, and make the next one due if nothing was due.

    Return the number by feedback id.
    """
    by_conversation: defaultdict[Conversation, list[str]] = defaultdict(list)
    for feedback in feedbacks:
        by_conversation[_conversation(feedback)].append(feedback.id)
    result = await tx.execute(_RESERVE, _columns(by_conversation))
    ordinals: dict[str, int] = {}
    for *key, last in result:
        ids = by_conversation[Conversation(*key)]
        ordinals.update({feedback_id: last - len(ids) + 1 + place for place, feedback_id in enumerate(ids)})
    return ordinals


def _columns(by_conversation: Mapping[Conversation, Sequence[str]]) -> dict[str, list[Any]]:
    keys = sorted(by_conversation)
    return {
        "keys": [key.person_key for key in keys],
        "references": [key.reference for key in keys],
        "recipients": [key.recipient for key in keys],
        "channels": [key.channel for key in keys],
        "counts": [len(by_conversation[key]) for key in keys],
    }


_RESERVE = text("""
    insert into notifier.conversation as held (person_key, reference, recipient, channel, last, next, due_at, due_since)
    select person_key, reference, recipient, channel, count,
           case when channel = 'mailbox' then count + 1 else 1 end, due_at, due_at
    from unnest(cast(:keys as text[]), cast(:references as text[]), cast(:recipients as text[]), cast(:channels as text[]),
                cast(:counts as integer[])) as more (person_key, reference, recipient, channel, count)
    cross join lateral (select case when channel <> 'mailbox' then clock_timestamp() end as due_at) as due
    order by person_key, reference, recipient, channel
    on conflict (person_key, reference, recipient, channel) do update
    set last = held.last + excluded.last,
        next = case when held.channel = 'mailbox' then held.last + excluded.last + 1 else held.next end,
        due_at = coalesce(held.due_at, excluded.due_at), due_since = coalesce(held.due_since, excluded.due_since)
    returning person_key, reference, recipient, channel, last""")


async def _insert(tx: Transaction, new: Sequence[RenderedFeedback], ordinals: Mapping[str, int], at: datetime) -> None:
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
            "statuses": [f.status.value for f in feedbacks],
            "ordinals": [ordinals[f.id] for f in feedbacks],
            "correlations": [f.correlation_id for f in feedbacks],
            "contents": [f.model_dump_json(exclude_defaults=True) for f in feedbacks],
            "bodies": [one.rendered.body for one in new],
            "carrier_ids": [json.dumps(dict(one.rendered.ids)) for one in new],
            "traceparents": [one.traceparent for one in new],
        },
    )


_INSERT = text("""
    insert into notifier.feedback (person_key, feedback_id, reference, caused_by, recipient, channel, feedback_type, status,
                                   ordinal, correlation_id, content, body, ids, traceparent, state, steps, composed_at)
    select *, case when channel = 'mailbox' then 'kept' else 'waiting' end,
           jsonb_strip_nulls(jsonb_build_object('composed', cast(:at as timestamptz),
               'kept', case when channel = 'mailbox' then cast(:at as timestamptz) end)),
           :at
    from unnest(cast(:keys as text[]), cast(:ids as uuid[]), cast(:references as text[]), cast(:causes as text[]),
                cast(:recipients as text[]), cast(:channels as text[]), cast(:feedback_types as text[]),
                cast(:statuses as text[]), cast(:ordinals as integer[]), cast(:correlations as text[]),
                cast(:contents as jsonb[]), cast(:bodies as bytea[]), cast(:carrier_ids as jsonb[]),
                cast(:traceparents as text[]))
         as new (person_key, feedback_id, reference, caused_by, recipient, channel, feedback_type, status, ordinal,
                 correlation_id, content, body, ids, traceparent)""")


# ---- fetching ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoredFeedback:
    """A stored feedback, with the times of its steps."""

    feedback: Feedback
    steps: Mapping[str, str]


async def fetch(tx: Transaction, reference: str, recipients: Sequence[str], at: datetime) -> list[StoredFeedback]:
    """Return the feedback about a referral for these recipients, in order; mark mailbox feedback as collected."""
    values = {"reference": reference, "recipients": list(recipients), "at": at}
    await tx.execute(
        text("""
            update notifier.feedback
            set state = 'collected', steps = steps || jsonb_build_object('collected', cast(:at as timestamptz))
            where reference = :reference and recipient = any(cast(:recipients as text[])) and state = 'kept'"""),
        values,
    )
    result = await tx.execute(
        text("""
            select content, steps from notifier.feedback
            where reference = :reference and recipient = any(cast(:recipients as text[]))
            order by recipient, channel, ordinal"""),
        {"reference": reference, "recipients": list(recipients)},
    )
    return [StoredFeedback(Feedback.model_validate(plain(row.content)), plain(row.steps)) for row in result]


def plain(value: Any) -> Any:
    """Return a JSON column decoded, whether or not the driver has decoded it."""
    return json.loads(value) if isinstance(value, str) else value
