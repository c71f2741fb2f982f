"""The backlog of feedback, for metrics and the watchdog."""

from sqlalchemy import text

from services.notifier.leases import RECIPIENTS
from services.runtime import metrics
from services.runtime.backlog import ROW_COUNT_LIMIT
from services.runtime.database import Transaction

_WAITING = text(f"""
    with recursive {RECIPIENTS}
    select (select count(*) from (select from notifier.feedback where state = 'waiting' limit :limit) as counted) as waiting,
           (select count(*) from (select from notifier.feedback where state = 'failed'
                                  and composed_at > clock_timestamp() - interval '7 days' limit :limit) as counted) as failed,
           (select extract(epoch from clock_timestamp() - composed_at) from notifier.feedback where state = 'waiting'
            order by composed_at limit 1) as oldest,
           (select count(*) from recipients where due_at <= clock_timestamp()) as due""")  # noqa: S608 - a constant


async def measure(tx: Transaction) -> bool:
    """Set the metrics. Return whether any feedback is due and not leased."""
    row = (await tx.execute(_WAITING, {"limit": ROW_COUNT_LIMIT})).one()
    metrics.FEEDBACK.labels("waiting").set(row.waiting)
    metrics.FEEDBACK.labels("failed").set(row.failed)
    metrics.OLDEST_UNDELIVERED.set(float(row.oldest or 0.0))
    metrics.DUE.set(row.due)
    return bool(row.due)
