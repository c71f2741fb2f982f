"""One circuit for each endpoint, in PostgreSQL, so that all processes share it; and the partners without an endpoint.

An endpoint is a recipient's address of a channel, or the one API of MESH for all recipients. It has a row only while it fails. After
OPENS_AFTER failures in a row the circuit opens: then one process at a time makes one attempt, at growing pauses, and the first success
closes it by deleting the row. Attempts that fail for reasons of one feedback do not count. While all failures are of one referral, they
do not hold up others: the next attempt of another one may be made at once, and shows whether the endpoint fails. A requested pause
(Retry-After) holds all feedback to the endpoint, whether or not its circuit is open.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import text

from services.notifier.channels import FIRST_PAUSE, LONGEST_PAUSE, LONGEST_REQUESTED_PAUSE, Conversation
from services.reference.partners import UnaddressedChannel
from services.runtime.database import Transaction

OPENS_AFTER = 5
"""Failures in a row that open a circuit."""

ALL = "*"
"""The recipient of the endpoint that all recipients of a channel share."""

HELD = "held.name = waiting.channel || ' ' || case waiting.channel when 'mesh' then '*' else waiting.recipient end"
"""Join condition: the row `held` of notifier.endpoint for a row `waiting` with channel and recipient."""


class Endpoint(NamedTuple):
    """The endpoint of a channel: of one recipient, or of ALL."""

    channel: str
    recipient: str


def endpoint_of(conversation: Conversation) -> Endpoint:
    """Return the endpoint to which the feedback of a conversation goes."""
    return Endpoint(conversation.channel, ALL if conversation.channel == "mesh" else conversation.recipient)


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one attempt shows of an endpoint: it works (`reason` None), or it fails. `requested`: the pause that it asks for, in seconds.

    `is_trial`: whether it was the one attempt that an open circuit lets through.
    """

    endpoint: Endpoint
    reference: str
    is_trial: bool
    reason: str | None = None
    requested: float | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """A circuit that has just opened (`reason`: of the last failure), or closed (`seconds`: since the first failure)."""

    endpoint: Endpoint
    reason: str | None
    seconds: float


async def record(tx: Transaction, sightings: Sequence[Sighting]) -> list[Turn]:
    """Store what attempts show of their endpoints. Return the circuits that opened or closed.

    An endpoint for which one of these attempts succeeded works.
    """
    turns: list[Turn] = []
    if working := {one.endpoint for one in sightings if one.reason is None}:
        closed = await tx.execute(_CLOSE, {"names": sorted(f"{one.channel} {one.recipient}" for one in working)})
        turns = [Turn(Endpoint(row.channel, row.recipient), None, row.seconds) for row in closed if row.opened_at]
    if failed := [one for one in sightings if one.reason is not None and one.endpoint not in working]:
        turns += await _count(tx, failed)
    return turns


_CLOSE = text("""
    delete from notifier.endpoint where name = any(cast(:names as text[]))
    returning channel, recipient, opened_at, extract(epoch from clock_timestamp() - failing_since)::double precision as seconds""")


async def _count(tx: Transaction, failed: Sequence[Sighting]) -> list[Turn]:
    endpoints = sorted({one.endpoint for one in failed})
    counted = [_counted([one for one in failed if one.endpoint == endpoint]) for endpoint in endpoints]
    values = {name: [one[name] for one in counted] for name in counted[0]}
    limits = {"opens": OPENS_AFTER, "first": FIRST_PAUSE, "longest": LONGEST_PAUSE}
    of = {"channels": [one.channel for one in endpoints], "recipients": [one.recipient for one in endpoints]}
    result = await tx.execute(_COUNT, {**of, **values, **limits})
    return [Turn(Endpoint(row.channel, row.recipient), row.reason, row.seconds) for row in result if row.opened]


def _counted(failed: Sequence[Sighting]) -> dict[str, Any]:
    """Return the values of one endpoint: number of failures, their referral if it is one, trials, reason, requested pause."""
    references = {one.reference for one in failed}
    requested = [min(one.requested, LONGEST_REQUESTED_PAUSE) for one in failed if one.requested is not None]
    return {
        "failures": len(failed),
        "references": references.pop() if len(references) == 1 else None,
        "trials": int(any(one.is_trial for one in failed)),
        "reasons": failed[-1].reason,
        "requested": max(requested, default=None),
    }


_COUNT = text("""
    insert into notifier.endpoint as held
        (channel, recipient, failures, reference, reason, opened_at, trials, next_attempt_at)
    select channel, recipient, failures, reference, reason,
           case when failures >= cast(:opens as integer) then now() end, trials,
           greatest(now() + make_interval(secs => requested),
                    case when failures < cast(:opens as integer) then null
                         when reference is null then now() + make_interval(secs => :first) else now() end)
    from unnest(cast(:channels as text[]), cast(:recipients as text[]), cast(:failures as integer[]), cast(:references as text[]),
                cast(:reasons as text[]), cast(:trials as integer[]), cast(:requested as double precision[]))
         as failed (channel, recipient, failures, reference, reason, trials, requested)
    order by channel, recipient
    on conflict (name) do update
    set failures = held.failures + excluded.failures,
        reference = case when held.reference = excluded.reference then held.reference end,
        reason = excluded.reason,
        opened_at = case when held.failures + excluded.failures >= cast(:opens as integer) then coalesce(held.opened_at, now()) end,
        trials = held.trials + excluded.trials,
        next_attempt_at = greatest(excluded.next_attempt_at, case
            when held.failures + excluded.failures < cast(:opens as integer) then held.next_attempt_at
            when held.reference = excluded.reference then now()
            when held.opened_at is null or excluded.trials > 0
                then now() + make_interval(secs => least(:longest, :first * 2.0 ^ least(held.trials, 20)) * (0.5 + random() / 2))
            else held.next_attempt_at end)
    returning channel, recipient, reason, opened_at = now() as opened,
              extract(epoch from clock_timestamp() - failing_since)::double precision as seconds""")


async def replace_unaddressed(tx: Transaction, missing: Sequence[UnaddressedChannel]) -> None:
    """Replace the list of partners without address or settings. Those that have one again are attempted at once."""
    values = {
        "partners": [one.partner for one in missing],
        "channels": [one.channel for one in missing],
        "reasons": [one.reason for one in missing],
    }
    await tx.execute(_ADDRESSED_NOW, values)
    await tx.execute(_REPLACE_UNADDRESSED, values)


_ADDRESSED_NOW = text("""
    update notifier.endpoint as held set next_attempt_at = now()
    where held.reason in ('no-address', 'no-settings') and not exists (
        select from unnest(cast(:partners as text[]), cast(:channels as text[]), cast(:reasons as text[]))
            as missing (partner, channel, reason)
        where missing.channel = held.channel and held.recipient in (missing.partner, '*'))""")

_REPLACE_UNADDRESSED = text("""
    with missing as (
        select * from unnest(cast(:partners as text[]), cast(:channels as text[]), cast(:reasons as text[]))
            as missing (partner, channel, reason)
    ), addressed as (
        delete from notifier.unaddressed as listed
        where not exists (select from missing where missing.partner = listed.partner and missing.channel = listed.channel)
    )
    insert into notifier.unaddressed as listed (partner, channel, reason) select * from missing
    on conflict (partner, channel) do update set reason = excluded.reason""")
