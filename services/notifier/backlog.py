"""The backlog of feedback, for metrics and the watchdog."""

from sqlalchemy import text

from services.runtime import metrics
from services.runtime.database import Transaction

_WAITING = text("""
    select (select count(*) from notifier.feedback where state = 'waiting') as waiting,
           (select count(*) from notifier.feedback where state = 'failed') as failed,
           (select extract(epoch from clock_timestamp() - min(composed_at)) from notifier.feedback where state = 'waiting') as oldest,
           (select count(*) from notifier.conversation where due_at <= clock_timestamp()) as due""")


async def measure(tx: Transaction) -> bool:
    """Set the metrics. Return whether any feedback is due and not leased."""
    row = (await tx.execute(_WAITING)).one()
    metrics.FEEDBACK.labels("waiting").set(row.waiting)
    metrics.FEEDBACK.labels("failed").set(row.failed)
    metrics.OLDEST_UNDELIVERED.set(float(row.oldest or 0.0))
    metrics.DUE.set(row.due)
    return bool(row.due)
