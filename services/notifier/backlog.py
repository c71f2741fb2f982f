"""The backlog of feedback, for metrics and the watchdog. What waits for an endpoint that fails is not due."""

from sqlalchemy import text

from services.notifier.circuits import HELD
from services.notifier.leases import WAITING
from services.notifier.store import FAILED, KEPT, UNDELIVERED
from services.runtime import metrics
from services.runtime.backlog import ROW_COUNT_LIMIT
from services.runtime.database import Transaction

_WAITING = text(f"""
    with recursive {WAITING}
    select (select coalesce(sum({UNDELIVERED}), 0) from (
                select last, next, resend from notifier.conversation where due_since is not null limit :limit) as counted) as waiting,
           (select count(*) from (select from notifier.feedback where {FAILED}
                                  and composed_at > now() - make_interval(secs => :lately) limit :limit) as counted) as failed,
           (select extract(epoch from now() - due_since) from notifier.conversation where due_since is not null
            order by due_since limit 1) as oldest,
           (select count(*) from (select from notifier.feedback where {KEPT}
                                  and composed_at < now() - make_interval(secs => :unfetched) limit :limit)
            as counted) as unfetched,
           (select count(*) from waiting left join notifier.endpoint as held on {HELD}
            where waiting.due_at <= now() and coalesce(held.next_attempt_at <= now(), true)) as due""")  # noqa: S608 - a constant


LATELY = 7 * 86_400.0
"""Failed lately: composed so late that it failed in the last 7 days at the earliest, also if it was given up."""

_FAILING = text("select channel, recipient from notifier.endpoint where opened_at is not null")

_UNADDRESSED = text("select channel, partner from notifier.unaddressed order by partner, channel limit :limit")


async def measure(tx: Transaction, unfetched_after: float = 604_800.0, give_up_after: float = 604_800.0) -> bool:
    """Set the metrics. Return whether any feedback is due and not leased.

    `unfetched_after`: seconds after which feedback in a mailbox counts as unfetched. `give_up_after`: after which what could not be
    delivered fails.
    """
    values = {"limit": ROW_COUNT_LIMIT, "unfetched": unfetched_after, "lately": LATELY + give_up_after}
    row = (await tx.execute(_WAITING, values)).one()
    for state in ("waiting", "failed", "unfetched"):
        metrics.FEEDBACK.labels(state).set(getattr(row, state))
    await _set_endpoints(tx)
    metrics.OLDEST_UNDELIVERED.set(float(row.oldest or 0.0))
    metrics.DUE.set(row.due)
    return bool(row.due)


async def _set_endpoints(tx: Transaction) -> None:
    metrics.ENDPOINT_FAILING.clear()
    for endpoint in await tx.execute(_FAILING):
        metrics.ENDPOINT_FAILING.labels(endpoint.channel, endpoint.recipient).set(1)
    metrics.PARTNER_UNADDRESSED.clear()
    for partner in await tx.execute(_UNADDRESSED, {"limit": ROW_COUNT_LIMIT}):
        metrics.PARTNER_UNADDRESSED.labels(partner.channel, partner.partner).set(1)
