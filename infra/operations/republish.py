"""Publish a hub's events again from PostgreSQL, for a hub that was away longer than its topic keeps them.

Copies become new rows of the router's outbox, with the same ids and bytes; the running relays publish them. Person
keys are locked while their rows are copied, so later events of a case follow its copies.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.operations.audit_log import Operator, record_action
from schemas.topics import hub_case
from services.runtime.database import Transaction

KEYS = 200
"""Person keys whose events one transaction copies."""


@dataclass(frozen=True, slots=True)
class RepublishSummary:
    """The events to publish again: numbers of events and persons, first and last time."""

    hub: str
    events: int
    persons: int
    first: datetime | None
    last: datetime | None


async def plan(engine: AsyncEngine, hub: str, since: datetime) -> RepublishSummary:
    """Return what would be published again."""
    query = f"select count(*), count(distinct person_key), min(created_at), max(created_at) {_OF_HUB}"
    async with engine.connect() as tx:
        row = (await tx.execute(text(query), _parameters(hub, since))).one()
    return RepublishSummary(hub, *row)


_OF_HUB = "from router.outbox where target = :target and created_at >= :since and republished_from is null"


def _parameters(hub: str, since: datetime) -> dict[str, object]:
    return {"target": hub_case(hub), "since": since}


async def run(engine: AsyncEngine, hub: str, since: datetime, by: Operator) -> RepublishSummary:
    """Copy each event into the outbox, in order for each person; record the action.

    After a kill, repeat it: events that were already copied are published twice with the same ids.
    """
    planned = await plan(engine, hub, since)
    if not planned.events:
        return planned
    async with engine.begin() as tx:
        what = {"hub": hub, "since": since.isoformat(), "events": planned.events}
        await record_action(tx, "router", "republish", by, what)
        keys = list(await tx.scalars(text(f"select distinct person_key {_OF_HUB} order by 1"), _parameters(hub, since)))
    for at in range(0, len(keys), KEYS):
        async with engine.begin() as tx:
            await _copy(tx, keys[at : at + KEYS], _parameters(hub, since))
    return planned


async def _copy(tx: Transaction, keys: Sequence[str], parameters: Mapping[str, object]) -> None:
    await tx.execute(text(_LOCK), {"keys": keys})
    await tx.execute(text(_COPY), {**parameters, "keys": keys})


_LOCK = "select from router.person_key where person_key = any(cast(:keys as text[])) order by person_key for update"
_COPY = f"""
    insert into router.outbox (shard, person_key, target, headers, value, republished_from)
    select shard, person_key, target, headers, value, id {_OF_HUB} and person_key = any(cast(:keys as text[])) order by id"""
