"""Trace one referral through the records of every service: when, where, what, why. No personal data."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from rich.markup import escape
from rich.table import Table
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.runtime import database

LATEST = 10_000
"""Maximum number of events of a person that are searched for the referral, the latest ones: many may share a key."""


@dataclass(frozen=True, slots=True)
class TraceStep:
    """One step of a referral. `place` is a service, a topic or a channel."""

    at: datetime
    place: str
    what: str
    detail: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"at": self.at.isoformat()}


async def path(url: str, reference: str) -> list[TraceStep]:
    """Return every step of the referral with this reference, in order of time; none if it does not exist."""
    engine = database.connect(url, pool=1)
    try:
        async with engine.connect() as connection:
            steps = [step for read in READERS for step in await read(connection, reference.strip().upper())]
    finally:
        await engine.dispose()
    return sorted(steps, key=lambda step: step.at)


async def _rows(connection: AsyncConnection, reference: str, query: str) -> list[Row[Any]]:
    return list(await connection.execute(text(query), {"reference": reference}))


async def _delivered(connection: AsyncConnection, reference: str) -> list[TraceStep]:
    query = """select received_at, partner, format, verdict, version, response_status, issues from intake.message
        where reference = :reference"""
    rows = await _rows(connection, reference, query)
    return [
        TraceStep(
            row.received_at,
            "intake",
            f"{row.format} from {row.partner}: {row.verdict}" + (f", version {row.version}" if row.version else ""),
            f"answered {row.response_status}" + _warnings(row.issues),
        )
        for row in rows
    ]


def _warnings(issues: list[dict[str, str]]) -> str:
    """Return the place and kind of each part that was accepted with a warning."""
    return "; warnings: " + ", ".join(f"{one['place']} {one['kind']}" for one in issues) if issues else ""


async def _handed_on(connection: AsyncConnection, reference: str) -> list[TraceStep]:
    query = f"""select published_at, target, headers::jsonb ->> 'ce_type' as type
        from (select distinct person_key from intake.referral where reference = :reference) as keys
        cross join lateral (select * from intake.outbox where person_key = keys.person_key order by id desc limit {LATEST}) as latest
        where published_at is not null and convert_from(value, 'UTF8')::jsonb ->> 'reference' = :reference"""  # noqa: S608 - a constant
    rows = await _rows(connection, reference, query)
    return [TraceStep(row.published_at, row.target, _short(row.type)) for row in rows]


async def _decided(connection: AsyncConnection, reference: str) -> list[TraceStep]:
    query = f"""select latest.* from (select person_key from router.referral where reference = :reference) as keys
        cross join lateral (
            select * from router.case_event where person_key = keys.person_key order by sequence desc limit {LATEST}) as latest
        where :reference = any("references")"""  # noqa: S608 - a constant
    rows = await _rows(connection, reference, query)
    return [TraceStep(row.time, f"router, event {row.sequence}", _short(row.type), _position(row)) for row in rows]


def _position(row: Row[Any]) -> str:
    by = f"by {row.decided_by}; " if row.decided_by else ""
    holder = f"holder {row.holder or 'none'}, home hub {row.home_hub or 'undecided'}"
    return f"{by}{row.status} / {row.business_status}; {holder}; {', '.join(row.reasons)} (directory {row.directory_version})"


async def _sent_to_hubs(connection: AsyncConnection, reference: str) -> list[TraceStep]:
    query = f"""select published_at, target, headers::jsonb ->> 'ce_type' as type
        from (select person_key, correlation_id from router.referral where reference = :reference) as told
        cross join lateral (
            select published_at, target, headers from router.outbox where person_key = told.person_key order by id desc limit {LATEST}
        ) as latest
        where published_at is not null and (target like 'hub.%' or target = 'referral.event')
          and headers::jsonb ->> 'ce_correlationid' = told.correlation_id"""  # noqa: S608 - a constant
    rows = await _rows(connection, reference, query)
    return [TraceStep(row.published_at, row.target, _short(row.type)) for row in rows]


async def _feedback_steps(connection: AsyncConnection, reference: str) -> list[TraceStep]:
    query = """select feedback.recipient, feedback.channel, feedback.feedback_type, feedback.reason, feedback.ordinal, step.key, step.value
        from notifier.feedback, jsonb_each_text(feedback.steps) as step where reference = :reference"""
    rows = await _rows(connection, reference, query)
    return [
        TraceStep(
            datetime.fromisoformat(row.value),
            f"notifier, {row.channel}",
            f"{row.feedback_type} to {row.recipient}: {row.key}",
            row.reason or "",
        )
        for row in rows
    ]


async def _attempted(connection: AsyncConnection, reference: str) -> list[TraceStep]:
    query = """select attempt.ended_at, attempt.number, attempt.outcome, attempt.reason, feedback.channel, feedback.feedback_type,
               feedback.recipient
        from notifier.attempt join notifier.feedback using (person_key, feedback_id)
        where feedback.reference = :reference and attempt.outcome <> 'delivered'"""
    rows = await _rows(connection, reference, query)
    return [
        TraceStep(
            row.ended_at,
            f"notifier, {row.channel}",
            f"{row.feedback_type} to {row.recipient}: attempt {row.number}, {row.outcome}",
            row.reason or "",
        )
        for row in rows
    ]


async def _quarantined(connection: AsyncConnection, reference: str) -> list[TraceStep]:
    of_person, by_group = (
        "person_key in (select person_key from keys)",
        "person_key = 'unknown' and resolved_at is null",
    )
    query = " union all ".join(
        f"""select '{service}' as service, parked.* from {service}.dead_letter as parked
            where {where} and :reference = any(message_group || other_groups)"""  # noqa: S608 - constants
        for service in ("router", "notifier")
        for where in (of_person, by_group)
    )
    query = f"""with keys as (
        select person_key from intake.referral where reference = :reference
        union select person_key from router.referral where reference = :reference
    ) {query}"""  # noqa: S608 - constants
    rows = await _rows(connection, reference, query)
    return [
        TraceStep(
            row.first_at,
            f"{row.service} dead letters",
            f"{row.service}:{row.id} " + ("waiting behind an earlier message" if row.waiting else "dead letter"),
            f"{row.reason}; {row.topic} {row.partition}@{row.offset}; {_state(row)}",
        )
        for row in rows
    ]


def _state(row: Row[Any]) -> str:
    if row.resolved_at is not None:
        return f"{row.resolution} {row.resolved_at:%Y-%m-%d %H:%M:%S}"
    return "resubmitting" if row.resubmit_at else "unresolved"


READERS = (_delivered, _handed_on, _decided, _sent_to_hubs, _feedback_steps, _attempted, _quarantined)


def _short(event_type: str) -> str:
    """Return the short name of a type: uk.lightbulb.case.opened.v1 becomes case.opened."""
    return event_type.removeprefix("uk.lightbulb.").rsplit(".", 1)[0]


def table(reference: str, steps: list[TraceStep]) -> Table:
    """Return the steps as a table for a terminal."""
    shown = Table(title=f"The path of {reference}", title_justify="left", box=None, header_style="bold")
    for column in ("time (UTC)", "after", "where", "what", "why"):
        shown.add_column(column, overflow="fold")
    for step in steps:
        after = (step.at - steps[0].at).total_seconds()
        shown.add_row(
            f"{step.at:%Y-%m-%d %H:%M:%S}", f"{after:.3f} s", escape(step.place), escape(step.what), escape(step.detail)
        )
    return shown
