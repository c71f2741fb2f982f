"""Trace one referral through the records of every service: where it is now, then when, where, what, why. No personal data."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from infra.operations import reasons, referral_messages, referral_position
from infra.operations.referral_messages import LATEST, ReferralMessage
from infra.operations.referral_position import ReferralPosition
from schemas.topics import CASE_EVENT
from services.notifier import store as feedback_store
from services.runtime import database


@dataclass(frozen=True, slots=True)
class TraceStep:
    """One step of a referral. `place` is a service, a topic or a channel."""

    at: datetime
    place: str
    what: str
    detail: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"at": self.at.isoformat()}


@dataclass(frozen=True, slots=True)
class Trace:
    """The path of one referral: every step in order of time, none if it does not exist; and where it is now."""

    reference: str
    now: ReferralPosition | None
    steps: list[TraceStep]

    def as_dict(self) -> dict[str, Any]:
        return {
            "reference": self.reference,
            "now": self.now.as_dict() if self.now else None,
            "steps": [step.as_dict() for step in self.steps],
        }


async def path(url: str, reference: str) -> Trace:
    """Return the path of the referral with this reference."""
    reference = reference.strip().upper()
    engine = database.connect(url, pool=1)
    try:
        async with engine.connect() as connection:
            messages = await referral_messages.find(connection, reference)
            steps = [
                *await _delivered(connection, reference),
                *_published(messages.intake),
                *await _decided(connection, reference),
                *_published(message for message in messages.router if message.target != CASE_EVENT),
                *[step for read in READERS for step in await read(connection, reference)],
            ]
            now = await referral_position.find(connection, reference, messages)
    finally:
        await engine.dispose()
    # a stable sort: this is the order within a time
    return Trace(reference, now, sorted(steps, key=lambda step: step.at))


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


def _published(messages: Iterable[ReferralMessage]) -> Iterator[TraceStep]:
    for message in messages:
        if message.published_at is not None:
            yield TraceStep(message.published_at, message.target, _short(message.type))


async def _decided(connection: AsyncConnection, reference: str) -> list[TraceStep]:
    query = f"""select latest.* from (select person_key from intake.referral where reference = :reference) as keys
        cross join lateral (
            select * from router.case_event where person_key = keys.person_key order by sequence desc limit {LATEST}) as latest
        where :reference = any("references")"""  # noqa: S608 - a constant
    rows = await _rows(connection, reference, query)
    return [
        TraceStep(row.time, f"router, event {row.sequence}", _short(row.type), _position(row)) for row in reversed(rows)
    ]


def _position(row: Row[Any]) -> str:
    by = f"by {row.decided_by}; " if row.decided_by else ""
    holder = f"holder {row.holder or 'none'}, home hub {row.home_hub or 'undecided'}"
    return f"{by}{row.status} / {row.business_status}; {holder}; {', '.join(row.reasons)} (directory {row.directory_version})"


async def _feedback_steps(connection: AsyncConnection, reference: str) -> list[TraceStep]:
    """Return the steps of feedback in their order; what each attempt found is a step of its own, with its reason."""
    query = f"""select recipient, channel, feedback_type, {feedback_store.TIMES} from notifier.feedback
        where reference = :reference order by ordinal"""  # noqa: S608 - a constant
    rows = await _rows(connection, reference, query)
    steps = [
        TraceStep(
            datetime.fromisoformat(at), f"notifier, {row.channel}", f"{row.feedback_type} to {row.recipient}: {step}"
        )
        for row in rows
        for step, at in feedback_store.steps_of(row).items()
        if step in FEEDBACK_STEPS
    ]
    return sorted(steps, key=lambda step: FEEDBACK_STEPS.index(step.what.rpartition(": ")[2]))


FEEDBACK_STEPS = ("composed", "kept", "sent", "accepted", "resent", "collected")
"""Steps of a feedback, in the order of those with the same time. A failure is the step of its attempt."""


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
    query = f"with keys as (select person_key from intake.referral where reference = :reference) {query}"  # noqa: S608 - constants
    rows = await _rows(connection, reference, query)
    return [
        TraceStep(
            row.first_at,
            f"{row.service} dead letters",
            f"{row.service}:{row.id} " + ("waiting behind an earlier message" if row.waiting else "dead letter"),
            f"{reasons.in_words(row.reason)}; {row.topic} {row.partition}@{row.offset}; {_state(row)}",
        )
        for row in rows
    ]


def _state(row: Row[Any]) -> str:
    if row.resolved_at is not None:
        return f"{row.resolution} {row.resolved_at:%Y-%m-%d %H:%M:%S}"
    return "resubmitting" if row.resubmit_at else "unresolved"


READERS = (_feedback_steps, _attempted, _quarantined)


def _short(event_type: str) -> str:
    """Return the short name of a type: uk.lightbulb.case.opened.v1 becomes case.opened."""
    return event_type.removeprefix("uk.lightbulb.").rsplit(".", 1)[0]


def shown(trace: Trace) -> RenderableType:
    """Return the trace for a terminal of any width: the position, then two lines or more for each step."""
    first = trace.steps[0].at
    return Group(
        Text(f"The path of {trace.reference}\n", style="bold"),
        *((_now(trace), Text()) if trace.now else ()),
        Text("time (UTC)           after         where", style="bold"),
        *(part for step in trace.steps for part in _lines(step, (step.at - first).total_seconds())),
    )


def _now(trace: Trace) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _position_rows(trace):
        table.add_row(name, Text(value))
    return table


def _position_rows(trace: Trace) -> Iterator[tuple[str, str]]:
    now, last = trace.now, trace.steps[-1]
    assert now is not None
    yield "status", now.status or "not decided on yet"
    if now.case_id:
        yield "case", f"{now.case_status}, {now.business_status}; id {now.case_id}"
        yield "hubs", f"holder {now.holder or 'none'}, home hub {now.home_hub or 'undecided'}"
    yield "last", f"{last.at:%Y-%m-%d %H:%M:%S} {last.place}: {last.what}"
    for one in now.waits_for or ("nothing",):
        yield "waits for", one


def _lines(step: TraceStep, after: float) -> tuple[RenderableType, ...]:
    """Return when and where, and below it what and why."""
    what = f"{step.what}; {step.detail}" if step.detail else step.what
    return Text(f"{step.at:%Y-%m-%d %H:%M:%S}  {after:>9.3f} s   {step.place}"), Padding(
        Text(what), (0, 0, 0, 2), expand=False
    )
