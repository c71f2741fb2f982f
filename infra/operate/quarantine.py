"""What is in quarantine, and what people do about it: put back, edit and put back, or discard for good.

Nothing is applied here: a row is asked for, and the service that parked it applies it (docs/decisions/0014). Both are safe to repeat.
"""

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.operate import masked
from schemas.events import CASE_EVENTS, CaseEvent
from services.messaging import cloudevents
from services.messaging.cloudevents import Record, Undecodable
from services.messaging.database import Transaction
from services.messaging.quarantine import headers_kept, headers_of
from services.router.batch import Unreadable, read_record

SERVICES = ("router", "notifier")
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Filters:
    """Which rows; what is none is not asked about. `reason` and `chain` match from the beginning."""

    service: str | None = None
    reason: str | None = None
    topic: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    chain: str | None = None
    resolved: bool = False
    """Those that are resolved as well."""


@dataclass(frozen=True, slots=True)
class Row:
    """One parked record. `name` is what people call it: router:17."""

    service: str
    id: int
    person_key: str
    chains: tuple[str, ...]
    record: Record
    reason: str
    correlation_id: str | None
    waiting: bool
    attempts: int
    first_at: datetime
    last_at: datetime
    resubmit_at: datetime | None
    resolved_at: datetime | None
    resolution: str | None

    @property
    def name(self) -> str:
        return f"{self.service}:{self.id}"

    @property
    def place(self) -> str:
        return f"{self.record.topic} {self.record.partition}@{self.record.offset}"

    @property
    def state(self) -> str:
        """applied, discarded, asked (to be put back), waits (behind another), or parked."""
        if self.resolved_at is not None:
            return self.resolution or "resolved"
        return "waits" if self.waiting else "asked" if self.resubmit_at else "parked"

    def as_dict(self) -> dict[str, Any]:
        """For programs; no personal data."""
        return {
            "id": self.name,
            "state": self.state,
            "reason": self.reason,
            "topic": self.record.topic,
            "partition": self.record.partition,
            "offset": self.record.offset,
            "chains": [masked.chain(chain) for chain in self.chains],
            "correlation_id": self.correlation_id,
            "attempts": self.attempts,
            "first_at": self.first_at.isoformat(),
            "last_at": self.last_at.isoformat(),
            "resolved_at": self.resolved_at.isoformat() if self.resolved_at else None,
        }


class NoSuchRow(Exception):
    """An id that names no row; the text says which."""


async def find(engine: AsyncEngine, filters: Filters) -> list[Row]:
    """The rows that the filters let through, in the order in which each service parked them."""
    async with engine.connect() as tx:
        return [row for service in _services(filters) for row in await _rows(tx, service, _WHERE, _given(filters))]


def _services(filters: Filters) -> Sequence[str]:
    return (filters.service,) if filters.service else SERVICES


_WHERE = """
    (:resolved or resolved_at is null)
    and (cast(:reason as text) is null or starts_with(reason, :reason))
    and (cast(:topic as text) is null or topic = :topic)
    and (cast(:since as timestamptz) is null or first_at >= :since)
    and (cast(:until as timestamptz) is null or first_at < :until)
    and (cast(:chain as text) is null or starts_with(chain, :chain) or :chain = any(also))"""


def _given(filters: Filters) -> dict[str, Any]:
    return {
        "resolved": filters.resolved,
        "reason": filters.reason,
        "topic": filters.topic,
        "since": filters.since,
        "until": filters.until,
        "chain": filters.chain,
    }


async def _rows(tx: Transaction, service: str, where: str, given: Mapping[str, Any]) -> list[Row]:
    found = await tx.execute(text(f"select * from {service}.quarantine where {where} order by id"), given)  # noqa: S608 - a name of ours
    return [
        Row(
            service=service,
            record=Record(row.topic, row.partition, row.offset, row.key, row.value, headers_of(row.headers)),
            chains=(row.chain, *row.also),
            **{name: getattr(row, name) for name in _SAME},
        )
        for row in found
    ]


_SAME = (
    "id", "person_key", "reason", "correlation_id", "waiting", "attempts", "first_at", "last_at", "resubmit_at", "resolved_at",
    "resolution",
)  # fmt: skip


async def named(engine: AsyncEngine, names: Iterable[str]) -> list[Row]:
    """The rows of these names; raises NoSuchRow."""
    async with engine.connect() as tx:
        return [await _named(tx, name) for name in dict.fromkeys(names)]


async def _named(tx: Transaction, name: str) -> Row:
    service, _, number = name.partition(":")
    if service not in SERVICES or not number.isdecimal():
        raise NoSuchRow(f"{name} is no id of a row. Ids look like router:17; `lightbulb quarantine list` shows them.")
    found = await _rows(tx, service, "id = :id", {"id": int(number)})
    if not found:
        raise NoSuchRow(f"{name} is not in quarantine. `lightbulb quarantine list --resolved` shows all that ever was.")
    return found[0]


# ---- looking --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class By:
    """Who does it, and why."""

    who: str
    why: str | None = None


async def show(engine: AsyncEngine, row: Row, personal: By | None) -> dict[str, Any]:
    """One row with its record, its edits and what was done about it. Personal data only to `personal`, and that is recorded."""
    async with engine.begin() as tx:
        if personal is not None:
            await record_action(tx, row.service, "show personal", personal, {"ids": [row.id]})
        edits = (await tx.execute(_edits(row.service), {"key": row.person_key, "id": row.id})).all()
        actions = (await tx.execute(_actions(row.service), {"what": json.dumps({"ids": [row.id]})})).all()
    return {
        **row.as_dict(),
        "headers": _headers(row.record.headers, personal),
        "value": _value(row.record.value, personal),
        "edits": [
            {
                "at": edit.at.isoformat(),
                "who": edit.who,
                "why": edit.why,
                "headers": _headers(headers_of(edit.headers), personal),
                "value": _value(edit.value, personal),
            }
            for edit in edits
        ],
        "actions": [
            {"at": action.at.isoformat(), "action": action.action, "who": action.who, "why": action.why}
            for action in actions
        ],
    }


def _edits(service: str) -> TextClause:
    return text(
        f"select * from {service}.quarantine_edit where person_key = :key and quarantine_id = :id order by id"  # noqa: S608 - a name of ours
    )


def _actions(service: str) -> TextClause:
    return text(f"select * from {service}.operator_action where what @> cast(:what as jsonb) order by id")  # noqa: S608 - a name of ours


def _headers(pairs: tuple[tuple[str, bytes], ...], personal: By | None) -> dict[str, str]:
    if personal is None:
        return masked.headers(pairs)
    return {name: (told or b"").decode("utf-8", "backslashreplace") for name, told in pairs}


def _value(data: bytes, personal: By | None) -> Any:
    if personal is None:
        return masked.value(data)
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return data.decode("utf-8", "backslashreplace")


async def record_action(tx: Transaction, service: str, action: str, by: By, what: Mapping[str, Any]) -> None:
    """Keep who did what, and why. `what` names rows and hubs, never a person."""
    await tx.execute(
        text(f"insert into {service}.operator_action (action, who, why, what) values (:action, :who, :why, cast(:what as jsonb))"),  # noqa: S608 - a name of ours
        {"action": action, "who": by.who, "why": by.why, "what": json.dumps(what)},
    )  # fmt: skip


# ---- acting ---------------------------------------------------------------------------------------------------------

What = Literal["resubmit", "discard", "follows", "stays"]


@dataclass(frozen=True, slots=True)
class Planned:
    """What becomes of one row: it is touched (resubmit, discard), follows by itself, or stays as it is, and why."""

    row: Row
    what: What
    why: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {**self.row.as_dict(), "will": self.what, "because": self.why}


async def plan_resubmit(engine: AsyncEngine, rows: Sequence[Row]) -> list[Planned]:
    """The rows that would be put back, those that follow them because they wait behind, and those that stay."""
    planned = [_resubmitting(row) for row in rows]
    touched = [one.row for one in planned if one.what == "resubmit"]
    return planned + await _following(engine, touched, {row.name for row in rows})


def _resubmitting(row: Row) -> Planned:
    if row.resolved_at is not None:
        return Planned(row, "stays", f"{row.state} already")
    if row.waiting:
        return Planned(row, "follows", "goes by itself after what it waits behind")
    return Planned(row, "stays", "asked for already") if row.resubmit_at else Planned(row, "resubmit")


async def plan_discard(engine: AsyncEngine, rows: Sequence[Row]) -> list[Planned]:
    """The rows that would be discarded, with their repeats, and those that then go."""
    repeats = await _repeats(engine, rows)
    planned = [_discarding(row) for row in rows] + [
        Planned(row, "discard", "a repeat of one of these") for row in repeats
    ]
    touched = [one.row for one in planned if one.what == "discard"]
    return planned + await _following(engine, touched, {one.row.name for one in planned})


def _discarding(row: Row) -> Planned:
    return Planned(row, "stays", f"{row.state} already") if row.resolved_at is not None else Planned(row, "discard")


async def _repeats(engine: AsyncEngine, rows: Sequence[Row]) -> list[Row]:
    """The same event at another place: discarding one of them means both."""
    return await _beside(
        engine,
        rows,
        """one.topic = other.topic and one.event_id = other.event_id and one.resolved_at is null
           and other.resolved_at is null""",
    )


async def _following(engine: AsyncEngine, rows: Sequence[Row], besides: set[str]) -> list[Planned]:
    behind = await _beside(
        engine,
        rows,
        "other.id > one.id and other.waiting and other.resolved_at is null and (one.chain || one.also) && (other.chain || other.also)",
    )
    return [Planned(row, "follows", "waits behind one of these") for row in behind if row.name not in besides]


async def _beside(engine: AsyncEngine, rows: Sequence[Row], related: str) -> list[Row]:
    """Other rows of the same persons that are `related` to one of these."""
    found: list[Row] = []
    async with engine.connect() as tx:
        for service in SERVICES:
            given = _ids([row for row in rows if row.service == service])
            if given["ids"]:
                found += await _rows(tx, service, _BESIDE.format(service=service, related=related), given)
    return found


_BESIDE = """
    id <> all(cast(:ids as bigint[])) and exists (
        select from {service}.quarantine as one join {service}.quarantine as other using (person_key)
        where (one.person_key, one.id) in (select * from unnest(cast(:keys as text[]), cast(:ids as bigint[])))
          and (other.person_key, other.id) = (quarantine.person_key, quarantine.id) and {related})"""


async def act(engine: AsyncEngine, planned: Sequence[Planned], by: By) -> list[Row]:
    """Do what is planned, in one transaction, and record it. Returns the rows that were touched: a repeat touches none."""
    touched: list[Row] = []
    async with engine.begin() as tx:
        for service in SERVICES:
            for what, statement in (("resubmit", _RESUBMIT), ("discard", _DISCARD)):
                rows = [one.row for one in planned if one.what == what and one.row.service == service]
                done = (
                    set((await tx.execute(text(statement.format(service=service)), _ids(rows))).scalars())
                    if rows
                    else ()
                )
                touched += [row for row in rows if row.id in done]
                if done:
                    await record_action(tx, service, what, by, {"ids": sorted(done)})
    return touched


def _ids(rows: Sequence[Row]) -> dict[str, Any]:
    return {"keys": [row.person_key for row in rows], "ids": [row.id for row in rows]}


_LOCKED = """
    with locked as (
        select person_key, id from {service}.quarantine
        where (person_key, id) in (select * from unnest(cast(:keys as text[]), cast(:ids as bigint[]))) and resolved_at is null
        order by person_key, id for update
    )
    update {service}.quarantine as parked set """
_THESE = """
    from locked where parked.person_key = locked.person_key and parked.id = locked.id"""
_RESUBMIT = (
    f"{_LOCKED} resubmit_at = clock_timestamp() {_THESE} and resubmit_at is null and not waiting returning parked.id"
)
_DISCARD = f"{_LOCKED} resolved_at = clock_timestamp(), resolution = 'discarded' {_THESE} returning parked.id"


# ---- editing --------------------------------------------------------------------------------------------------------


class EditRefused(Exception):
    """An edit that cannot be applied; the text says where it is wrong, never what it says."""


async def edit(
    engine: AsyncEngine, row: Row, value: bytes, headers: Mapping[str, str], by: By, *, dry_run: bool = False
) -> Row:
    """Keep an edit beside the original, with who and why; returns the row as it waits then. Raises EditRefused.

    A row that named nobody, or no chain, waits where the edited record belongs.
    """
    record = replace(row.record, value=value, headers=_merged(row.record.headers, headers))
    person_key, chains = belongs(row, record)
    if dry_run:
        return replace(row, person_key=person_key, chains=chains or row.chains)
    async with engine.begin() as tx:
        await _move(tx, row, person_key, chains)
        await tx.execute(
            text(f"""insert into {row.service}.quarantine_edit (person_key, quarantine_id, headers, value, who, why)
                     values (:key, :id, :headers, :value, :who, :why)"""),  # noqa: S608 - a name of ours
            {
                "key": person_key,
                "id": row.id,
                "headers": headers_kept(record.headers),
                "value": value,
                "who": by.who,
                "why": by.why,
            },
        )
        await record_action(tx, row.service, "edit", by, {"ids": [row.id]})
    return replace(row, person_key=person_key, chains=chains or row.chains)


def _merged(original: tuple[tuple[str, bytes], ...], given: Mapping[str, str]) -> tuple[tuple[str, bytes], ...]:
    kept = [(name, value) for name, value in original if name not in given]
    return (*kept, *((name, value.encode()) for name, value in given.items()))


def belongs(row: Row, record: Record) -> tuple[str, tuple[str, ...]]:
    """(person_key, chains) of an edited record; raises EditRefused where it cannot be read, or is another person's."""
    person_key, chains = _read(row.service, record)
    if person_key != row.person_key and row.person_key != UNKNOWN:
        raise EditRefused(f"{row.name}: the edit names another person key; a record stays with the person it came for")
    return person_key, chains


def _read(service: str, record: Record) -> tuple[str, tuple[str, ...]]:
    if service == "router":
        read = read_record(record)
        if isinstance(read, Unreadable):
            raise EditRefused(f"the edit cannot be read: {read.reason}")
        return read.person_key, (read.chain,)
    try:
        event = cloudevents.decode(record, CASE_EVENTS)
    except Undecodable as fault:
        raise EditRefused(f"the edit cannot be read: {fault.reason}") from None
    assert isinstance(event.data, CaseEvent)
    return event.person_key, tuple(dict.fromkeys(concern.reference for concern in event.data.concerns))


async def _move(tx: Transaction, row: Row, person_key: str, chains: tuple[str, ...]) -> None:
    given = {"new": person_key, "key": row.person_key, "id": row.id}
    moved = await tx.scalar(
        text(f"""update {row.service}.quarantine set person_key = :new, chain = :chain, also = :also
                 where person_key = :key and id = :id and resolved_at is null returning id"""),  # noqa: S608 - a name of ours
        {**given, "chain": (chains or row.chains)[0], "also": list((chains or row.chains)[1:])},
    )
    if moved is None:
        raise EditRefused(f"{row.name} was resolved meanwhile; nothing was kept")
    await tx.execute(
        text(f"update {row.service}.quarantine_edit set person_key = :new where person_key = :key and quarantine_id = :id"),  # noqa: S608 - a name of ours
        given,
    )  # fmt: skip


# ---- what came of it ------------------------------------------------------------------------------------------------


async def outcome(engine: AsyncEngine, rows: Sequence[Row], seconds: float) -> list[Row]:
    """These rows once the services have tried each, or as they are when the time is over."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        async with engine.connect() as tx:
            ids = {service: [row.id for row in rows if row.service == service] for service in SERVICES}
            now = [row for name in SERVICES for row in await _rows(tx, name, "id = any(:ids)", {"ids": ids[name]})]
        if all(row.state != "asked" for row in now) or asyncio.get_running_loop().time() > deadline:
            return now
        await asyncio.sleep(0.2)
