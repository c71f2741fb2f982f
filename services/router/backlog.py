"""Cases that hubs have not accepted, for metrics and `lightbulb status`."""

from dataclasses import dataclass

from sqlalchemy import text

from services.runtime import metrics
from services.runtime.backlog import ROW_COUNT_LIMIT
from services.runtime.database import Transaction


@dataclass(frozen=True, slots=True)
class RequestedCases:
    """The cases that a hub holds and has not accepted: the number (at most ROW_COUNT_LIMIT are counted), and the oldest.

    `seconds`: how long that one has been with the hub.
    """

    hub: str
    cases: int
    case_id: str
    seconds: float


async def requested_cases(tx: Transaction) -> list[RequestedCases]:
    """Return the cases that are not accepted, by hub; hubs without any are left out."""
    return [RequestedCases(*row) for row in await tx.execute(_REQUESTED, {"limit": ROW_COUNT_LIMIT})]


_REQUESTED = text("""
    with recursive hub (id) as (
        (select holder from router."case" where requested_since is not null order by holder limit 1)
        union all
        select next.holder from hub cross join lateral (
            select holder from router."case" where requested_since is not null and holder > hub.id order by holder limit 1) as next
    )
    select hub.id, counted.cases, first.case_id,
           cast(extract(epoch from clock_timestamp() - first.requested_since) as double precision) as seconds
    from hub cross join lateral (
        select case_id, requested_since from router."case"
        where requested_since is not null and holder = hub.id order by requested_since limit 1
    ) as first cross join lateral (
        select count(*) as cases from (
            select from router."case" where requested_since is not null and holder = hub.id order by requested_since limit :limit
        ) as limited
    ) as counted""")


async def measure(tx: Transaction) -> bool:
    """Set the metrics. Return False: no work is due because of them."""
    metrics.OLDEST_REQUESTED.clear()
    for one in await requested_cases(tx):
        metrics.OLDEST_REQUESTED.labels(one.hub).set(one.seconds)
    return False
