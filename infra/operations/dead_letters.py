"""Show, resubmit and discard dead letters.

Nothing is applied here: a row is marked, and the service that stored it applies it (docs/decisions/0014). All are
safe to repeat.
"""

import asyncio
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.operations import queries, redaction
from infra.operations.audit_log import Operator, record_action
from infra.operations.queries import SERVICES, DeadLetterRow
from services.messaging.dead_letters import decode_headers, lock_groups, unlink
from services.runtime.database import Transaction

# ---- show -----------------------------------------------------------------------------------------------------------


async def show(engine: AsyncEngine, row: DeadLetterRow, personal: Operator | None) -> dict[str, Any]:
    """Return one row with its record, its edits and the actions on it.

    With `personal`, personal data is not masked and the access is recorded.
    """
    async with engine.begin() as tx:
        if personal is not None:
            await record_action(tx, row.service, "show personal", personal, {"ids": [row.id]})
        edits = (await tx.execute(_edits(row.service), {"key": row.person_key, "id": row.id})).all()
        actions = (await tx.execute(_actions(row.service), {"details": json.dumps({"ids": [row.id]})})).all()
    return {
        **row.as_dict(),
        "headers": _headers(row.record.headers, personal),
        "value": _value(row.record.value, personal),
        "edits": [
            {
                "at": edit.at.isoformat(),
                "operator": edit.operator,
                "reason": edit.reason,
                "headers": _headers(decode_headers(edit.headers), personal),
                "value": _value(edit.value, personal),
            }
            for edit in edits
        ],
        "actions": [
            {"at": action.at.isoformat(), "action": action.action, "operator": action.operator, "reason": action.reason}
            for action in actions
        ],
    }


def _edits(service: str) -> TextClause:
    return text(
        f"select * from {service}.dead_letter_edit where person_key = :key and dead_letter_id = :id order by id"  # noqa: S608 - a constant name
    )


def _actions(service: str) -> TextClause:
    return text(f"select * from {service}.operator_action where details @> cast(:details as jsonb) order by id")  # noqa: S608 - a constant name


def _headers(pairs: tuple[tuple[str, bytes], ...], personal: Operator | None) -> dict[str, str]:
    if personal is None:
        return redaction.headers(pairs)
    return {name: (raw or b"").decode("utf-8", "backslashreplace") for name, raw in pairs}


def _value(data: bytes, personal: Operator | None) -> Any:
    if personal is None:
        return redaction.value(data)
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return data.decode("utf-8", "backslashreplace")


# ---- resubmit and discard -------------------------------------------------------------------------------------------

What = Literal["resubmit", "discard", "follows", "stays"]


@dataclass(frozen=True, slots=True)
class PlannedAction:
    """The action on one row: resubmit, discard, follows (applied after others) or stays, and why.

    `behind`: the row that it still waits behind afterwards.
    """

    row: DeadLetterRow
    what: What
    reason: str = ""
    behind: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return {**self.row.as_dict(), "will": self.what, "because": self.reason}


async def plan_resubmit(engine: AsyncEngine, rows: Sequence[DeadLetterRow]) -> list[PlannedAction]:
    """Return the planned action for each row, and for the rows that follow.

    Rows that follow are repeats of these, or wait behind them.
    """
    unresolved, named = await _unresolved(engine, rows), {row.name for row in rows}
    touched = [row for row in rows if row.state == "open"]
    same = {(*_event(row), row.record.value) for row in touched if row.event_id is not None}
    repeats = [row for row in unresolved if row.name not in named and (*_event(row), row.record.value) in same]
    behind = _behind(unresolved, {row.name for row in (*touched, *repeats)})
    planned = [_resubmitting(row, behind.get(row.name)) for row in rows]
    planned += [PlannedAction(row, "follows", "a repeat of one of these") for row in repeats]
    return planned + _following(unresolved, _behind(unresolved, set()), behind, named | {row.name for row in repeats})


def _resubmitting(row: DeadLetterRow, behind: str | None) -> PlannedAction:
    after = f"waits behind {behind}, which is not selected" if behind else ""
    match row.state:
        case "open":
            return PlannedAction(row, "resubmit", after, behind)
        case "resubmitting":
            return PlannedAction(row, "stays", f"already resubmitted{'; ' if behind else ''}{after}", behind)
        case "waiting" if behind is None:
            return PlannedAction(row, "follows", "applied after the record that it waits behind")
        case "waiting":
            return PlannedAction(row, "stays", after, behind)
        case _:
            return PlannedAction(row, "stays", f"already {row.state}")


async def plan_discard(engine: AsyncEngine, rows: Sequence[DeadLetterRow]) -> list[PlannedAction]:
    """Return the rows to be discarded, with their repeats, and the rows that are then applied."""
    unresolved = await _unresolved(engine, rows)
    named = {row.name for row in rows}
    events = {_event(row) for row in rows if row.resolved_at is None and row.event_id is not None}
    repeats = [row for row in unresolved if row.name not in named and _event(row) in events]
    gone = named | {row.name for row in repeats}
    left = [row for row in unresolved if row.name not in gone]
    planned = [_discarding(row) for row in rows] + [
        PlannedAction(row, "discard", "a repeat of one of these") for row in repeats
    ]
    return planned + _following(left, _behind(unresolved, set()), _behind(left, set()), gone)


def _discarding(row: DeadLetterRow) -> PlannedAction:
    return (
        PlannedAction(row, "stays", f"already {row.state}")
        if row.resolved_at is not None
        else PlannedAction(row, "discard")
    )


def _event(row: DeadLetterRow) -> tuple[str, str, str, str | None]:
    """Return the identity of the row's event: the same at every position of the topic."""
    return row.service, row.person_key, row.record.topic, row.event_id


async def _unresolved(engine: AsyncEngine, rows: Sequence[DeadLetterRow]) -> list[DeadLetterRow]:
    """Return all unresolved rows of these rows' persons, in the order in which they would be applied.

    The given rows replace their stored state.
    """
    by_name: dict[str, DeadLetterRow] = {}
    async with engine.connect() as tx:
        for service in SERVICES:
            if keys := sorted({row.person_key for row in rows if row.service == service}):
                where = "resolved_at is null and person_key = any(cast(:keys as text[]))"
                by_name |= {row.name: row for row in await queries.rows_where(tx, service, where, {"keys": keys})}
    by_name |= {row.name: row for row in rows if row.resolved_at is None}
    return sorted(by_name.values(), key=lambda row: (row.service, row.id))


def _behind(rows: Sequence[DeadLetterRow], touched: Collection[str]) -> dict[str, str]:
    """Return the row that each row waits behind once `touched` are marked, as in services/messaging/resubmit.py."""
    held: dict[tuple[str, str, str], str] = {}
    behind: dict[str, str] = {}
    for row in rows:
        groups = [(row.service, row.person_key, group) for group in row.message_groups]
        before = next((held[group] for group in groups if group in held), None)
        if before is not None:
            behind[row.name] = before
        if before is not None or not (row.name in touched or row.state != "open"):
            for group in groups:
                held.setdefault(group, row.name)
    return behind


def _following(
    rows: Sequence[DeadLetterRow], before: Mapping[str, str], after: Mapping[str, str], excluded: Collection[str]
) -> list[PlannedAction]:
    freed = [row for row in rows if row.name in before and row.name not in after and row.name not in excluded]
    return [PlannedAction(row, "follows", "waits behind one of these") for row in freed]


async def act(engine: AsyncEngine, planned: Sequence[PlannedAction], by: Operator) -> list[DeadLetterRow]:
    """Mark and record the planned rows in one transaction; return the rows that changed. A repeat changes none."""
    touched: list[DeadLetterRow] = []
    async with engine.begin() as tx:
        for service in SERVICES:
            for what, statement in (("resubmit", _RESUBMIT), ("discard", _DISCARD)):
                rows = [one.row for one in planned if one.what == what and one.row.service == service]
                await lock_groups(tx, service, (row.person_key for row in rows))
                done = await _mark(tx, statement.format(service=service), rows)
                if what == "discard":
                    await unlink(tx, service, [(row.person_key, row.id) for row in rows if row.id in done])
                touched += [row for row in rows if row.id in done]
                if done:
                    await record_action(tx, service, what, by, {"ids": sorted(done)})
    return touched


async def _mark(tx: Transaction, statement: str, rows: Sequence[DeadLetterRow]) -> set[int]:
    """Run the statement on these rows, and return the ids of those that it changed."""
    return set(await tx.scalars(text(statement), _ids(rows))) if rows else set()


def _ids(rows: Sequence[DeadLetterRow]) -> dict[str, Any]:
    return {"keys": [row.person_key for row in rows], "ids": [row.id for row in rows]}


_LOCKED = """
    with locked as (
        select person_key, id from {service}.dead_letter
        where (person_key, id) in (select * from unnest(cast(:keys as text[]), cast(:ids as bigint[]))) and resolved_at is null
        order by id for update
    )
    update {service}.dead_letter as parked set """
_THESE = """
    from locked where parked.person_key = locked.person_key and parked.id = locked.id"""
_RESUBMIT = (
    f"{_LOCKED} resubmit_at = clock_timestamp() {_THESE} and resubmit_at is null and not waiting returning parked.id"
)
_DISCARD = f"{_LOCKED} resolved_at = clock_timestamp(), resolution = 'discarded' {_THESE} returning parked.id"


# ---- outcome --------------------------------------------------------------------------------------------------------


async def outcome(engine: AsyncEngine, rows: Sequence[DeadLetterRow], seconds: float) -> list[DeadLetterRow]:
    """Return these rows once the services have tried each, or as they are after `seconds`."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        async with engine.connect() as tx:
            ids = {service: [row.id for row in rows if row.service == service] for service in SERVICES}
            now = [
                row
                for name in SERVICES
                for row in await queries.rows_where(tx, name, "id = any(:ids)", {"ids": ids[name]})
            ]
        if all(row.state != "resubmitting" for row in now) or asyncio.get_running_loop().time() > deadline:
            return now
        await asyncio.sleep(0.2)
