"""The backlog of feedback, for metrics and the watchdog. What waits for an endpoint that fails is not due."""

from sqlalchemy import text

from services.notifier.circuits import HELD
from services.notifier.leases import WAITING
from services.runtime import metrics
from services.runtime.backlog import ROW_COUNT_LIMIT
from services.runtime.database import Transaction

_WAITING = text(f"""
    with recursive {WAITING}
    select (select count(*) from (select from notifier.feedback where state = 'waiting' limit :limit) as counted) as waiting,
           (select count(*) from (select from notifier.feedback where state = 'failed'
                                  and composed_at > now() - interval '7 days' limit :limit) as counted) as failed,
           (select extract(epoch from now() - composed_at) from notifier.feedback where state = 'waiting'
            order by composed_at limit 1) as oldest,
           (select count(*) from (select from notifier.feedback where state = 'kept'
                                  and composed_at < now() - make_interval(secs => :unfetched) limit :limit)
            as counted) as unfetched,
           (select count(*) from waiting left join notifier.endpoint as held on {HELD}
            where waiting.due_at <= now() and coalesce(held.next_attempt_at <= now(), true)) as due""")  # noqa: S608 - a constant


_FAILING = text("select channel, recipient from notifier.endpoint where opened_at is not null")


async def measure(tx: Transaction, unfetched_after: float = 604_800.0) -> bool:
    """Set the metrics. Return whether any feedback is due and not leased.

    `unfetched_after`: seconds after which feedback in a mailbox counts as unfetched.
    """
    row = (await tx.execute(_WAITING, {"limit": ROW_COUNT_LIMIT, "unfetched": unfetched_after})).one()
    for state in ("waiting", "failed", "unfetched"):
        metrics.FEEDBACK.labels(state).set(getattr(row, state))
    metrics.ENDPOINT_FAILING.clear()
    for endpoint in await tx.execute(_FAILING):
        metrics.ENDPOINT_FAILING.labels(endpoint.channel, endpoint.recipient).set(1)
    metrics.OLDEST_UNDELIVERED.set(float(row.oldest or 0.0))
    metrics.DUE.set(row.due)
    return bool(row.due)
