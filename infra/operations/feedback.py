"""Find, show and send again feedback that is waiting, failed, accepted or kept.

Nothing is sent here: a feedback is set due again, and the notifier sends the same bytes with the same ids, in order with the others
about that referral to that recipient (docs/decisions/0032). All are safe to repeat.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.operations import redaction
from infra.operations.audit_log import Operator, record_action
from infra.operations.queries import NoSuchRow
from services.notifier import store
from services.notifier.circuits import HELD
from services.runtime.database import Transaction

STATES = ("waiting", "failed", "accepted", "kept", "collected")

RESENT = "resend feedback"
"""The action in the audit log."""


def name_of(reference: str, feedback_id: str) -> str:
    """Return the id of a feedback on the command line: the reference and the beginning of the feedback id."""
    return f"{reference}:{feedback_id[:8]}"


@dataclass(frozen=True, slots=True)
class FeedbackFilters:
    """Filters of feedback; None does not filter. `reason` matches from the beginning; times are those at which it was composed."""

    states: tuple[str, ...] = STATES
    partner: str | None = None
    channel: str | None = None
    reference: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class FeedbackRow:
    """One feedback. `held_by`: what it waits for, if it waits: the earlier feedback, its time, or its endpoint."""

    person_key: str
    feedback_id: str
    reference: str
    recipient: str
    channel: str
    ordinal: int
    feedback_type: str
    state: str
    composed_at: datetime
    attempts: int
    reason: str | None
    held_by: str | None

    @property
    def name(self) -> str:
        return name_of(self.reference, self.feedback_id)

    def as_dict(self) -> dict[str, Any]:
        """Return the feedback as JSON values, without personal data."""
        return {
            "id": self.name,
            "state": self.state,
            "reference": self.reference,
            "recipient": self.recipient,
            "channel": self.channel,
            "feedback_type": self.feedback_type,
            "feedback_id": self.feedback_id,
            "composed_at": self.composed_at.isoformat(),
            "attempts": self.attempts,
            "reason": self.reason,
            "held_by": self.held_by,
        }


class Found(NamedTuple):
    """Feedback, the oldest first, and whether there is more."""

    rows: Sequence[FeedbackRow]
    has_more: bool


# ---- find -----------------------------------------------------------------------------------------------------------


async def find(engine: AsyncEngine, filters: FeedbackFilters, limit: int) -> Found:
    """Return up to `limit` feedbacks that match, the oldest first."""
    async with engine.connect() as tx:
        found = [row for where in _indexed(filters) for row in await _rows(tx, where + _WHERE, filters, limit + 1)]
    ordered = sorted(found, key=lambda row: (row.composed_at, row.reference, row.recipient, row.ordinal))
    return Found(ordered[:limit], len(ordered) > limit)


def _indexed(filters: FeedbackFilters) -> list[str]:
    """Return the conditions by which an index finds the rows: the reference, else one query for each state."""
    if filters.reference is not None:
        return ["feedback.reference = :reference and feedback.state = any(cast(:states as text[]))"]
    return [f"feedback.state = '{state}'{_BY_INDEX.get(state, '')}" for state in filters.states]


_BY_INDEX = {
    "waiting": " and waiting.due_since is not null",
    "failed": " and feedback.failed_at is not null",
    "kept": " and feedback.channel = 'mailbox' and feedback.collected_at is null",
}
"""What is true of the feedback in a state, and of little other feedback: an index has it."""


_WHERE = """
    and (cast(:partner as text) is null or feedback.recipient = :partner)
    and (cast(:channel as text) is null or feedback.channel = :channel)
    and (cast(:since as timestamptz) is null or feedback.composed_at >= :since)
    and (cast(:until as timestamptz) is null or feedback.composed_at < :until)
    and (cast(:reason as text) is null or starts_with(coalesce(feedback.reason, waiting.reason), :reason))"""


async def _rows(tx: Transaction, where: str, filters: FeedbackFilters, limit: int) -> list[FeedbackRow]:
    values = asdict(filters) | {"states": list(filters.states), "limit": limit}
    result = await tx.execute(text(f"{_SELECT} where {where} order by feedback.composed_at limit :limit"), values)
    return [_row(row) for row in result]


def _row(row: Any) -> FeedbackRow:
    return FeedbackRow(
        **{name: getattr(row, name) for name in _SAME},
        feedback_id=str(row.feedback_id),
        attempts=row.tries if row.is_next else row.attempts,
        reason=row.reason or (row.last_reason if row.state == "waiting" and row.is_head else None),
        held_by=_held_by(row) if row.state == "waiting" else None,
    )


_SAME = (
    "person_key", "reference", "recipient", "channel", "ordinal", "feedback_type", "state", "composed_at",
)  # fmt: skip

_SELECT = f"""
    select feedback.person_key, feedback.feedback_id, feedback.reference, feedback.recipient, feedback.channel, feedback.ordinal,
           feedback.feedback_type, feedback.state, feedback.composed_at, feedback.attempts, feedback.reason,
           waiting.attempts as tries, waiting.reason as last_reason, waiting.due_at, waiting.lease is not null as is_leased,
           feedback.state = 'waiting' and waiting.next = feedback.ordinal as is_next,
           coalesce(waiting.resend[1], waiting.next) = feedback.ordinal as is_head,
           held.opened_at, held.reason as failing, held.next_attempt_at
    from notifier.feedback as feedback
    left join notifier.conversation as waiting using (person_key, reference, recipient, channel)
    left join notifier.endpoint as held on {HELD}"""  # noqa: S608 - a constant


def _held_by(row: Any) -> str:
    if not row.is_head:
        return "an earlier feedback on this referral"
    if row.opened_at is not None:
        return f"the endpoint, which has failed since {row.opened_at:%Y-%m-%d %H:%M} ({row.failing})"
    if row.is_leased:
        return "its attempt, which is being made"
    return f"its next attempt at {row.due_at:%Y-%m-%d %H:%M:%S}"


async def named(engine: AsyncEngine, names: Iterable[str]) -> list[FeedbackRow]:
    """Return the feedback with these ids. Raise NoSuchRow."""
    async with engine.connect() as tx:
        return [await _named(tx, name.strip()) for name in dict.fromkeys(names)]


async def _named(tx: Transaction, name: str) -> FeedbackRow:
    reference, _, beginning = name.partition(":")
    if not beginning:
        raise NoSuchRow(f"{name} is not a valid id, such as LB-7K3M-9Q2X-4TDW:1f3a9c2e. {_IDS}")
    filters = FeedbackFilters(reference=reference.upper())
    found = await _rows(tx, _indexed(filters)[0] + _WHERE, filters, 1_000)
    rows = [row for row in found if row.feedback_id.startswith(beginning.lower())]
    if len(rows) != 1:
        raise NoSuchRow(f"{name} names {'several feedbacks' if rows else 'no feedback'}. {_IDS}")
    return rows[0]


_IDS = "`lightbulb feedback list --reference` shows the ids of a referral."


# ---- show -----------------------------------------------------------------------------------------------------------


async def show(engine: AsyncEngine, row: FeedbackRow, personal: Operator | None) -> dict[str, Any]:
    """Return one feedback with its content, steps, attempts and the actions on it.

    With `personal`, personal data is not masked, the bytes that are sent are shown, and the access is recorded.
    """
    of = {"key": row.person_key, "id": row.feedback_id}
    async with engine.begin() as tx:
        if personal is not None:
            await record_action(tx, "notifier", "show personal", personal, {"feedback": [row.feedback_id]})
        stored = (await tx.execute(_STORED, of)).one()
        [content] = await store.contents(tx, [stored])
        attempts = (await tx.execute(_ATTEMPTS, of)).all()
        actions = (await tx.execute(_ACTIONS, {"details": json.dumps({"feedback": [row.feedback_id]})})).all()
    inside = {"content": json.loads(content.json), "ids": content.ids}
    return {
        **row.as_dict(),
        "steps": store.steps_of(stored),
        "receipt": stored.receipt,
        "size": len(content.body),
        **(inside | {"body": _decoded(content.body)} if personal else _masked(inside)),
        "tried": [
            {"at": one.ended_at.isoformat(), "number": one.number, "outcome": one.outcome, "reason": one.reason}
            for one in attempts
        ],
        "actions": [
            {"at": one.at.isoformat(), "action": one.action, "operator": one.operator, "reason": one.reason}
            for one in actions
        ],
    }


def _masked(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: redaction.value(json.dumps(inside).encode()) for name, inside in content.items()}


def _decoded(body: bytes) -> str:
    return body.decode("utf-8", "backslashreplace")


_STORED = text(f"""
    select person_key, channel, packet, place, receipt, {store.TIMES} from notifier.feedback
    where person_key = :key and feedback_id = cast(:id as uuid)""")  # noqa: S608 - a constant

_FIRST_SUCCESS = "accepted.attempts = 1 and accepted.state = 'accepted' and accepted.sent_at is not null"
"""SQL condition: accepted at the first attempt, which has no row of its own but if it was a repeat."""

_ATTEMPTS = text(f"""
    select number, ended_at, outcome, reason from notifier.attempt where person_key = :key and feedback_id = cast(:id as uuid)
    union all
    select 1, accepted_at, 'delivered', null from notifier.feedback as accepted
    where person_key = :key and feedback_id = cast(:id as uuid) and {_FIRST_SUCCESS} and not exists (
        select from notifier.attempt where person_key = :key and feedback_id = cast(:id as uuid))
    order by number desc limit 100""")  # noqa: S608 - a constant

_ACTIONS = text("""
    select at, action, operator, reason from notifier.operator_action where details @> cast(:details as jsonb) order by id limit 100""")


# ---- resend ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PlannedResend:
    """What a resend does with one feedback: resend, or stays; and why."""

    row: FeedbackRow
    what: Literal["resend", "stays"]
    because: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {**self.row.as_dict(), "will": self.what, "because": self.because}


def plan_resend(rows: Sequence[FeedbackRow]) -> list[PlannedResend]:
    """Return the planned action for each feedback."""
    return [_planned(row) for row in rows]


def _planned(row: FeedbackRow) -> PlannedResend:
    match row.state:
        case "failed":
            return PlannedResend(row, "resend")
        case "accepted" if row.channel == "mesh":
            return PlannedResend(row, "resend", "it was accepted; MESH gets it again only if it no longer has it")
        case "accepted":
            return PlannedResend(row, "resend", "it was accepted")
        case "waiting":
            return PlannedResend(row, "stays", f"it is waiting for {row.held_by}")
        case _:
            return PlannedResend(row, "stays", "it is kept for its recipient, who fetches it")


async def resend(engine: AsyncEngine, planned: Sequence[PlannedResend], by: Operator) -> list[FeedbackRow]:
    """Set the planned feedback due again and record it, in one transaction; return what changed. A repeat changes nothing."""
    rows = [one.row for one in planned if one.what == "resend"]
    if not rows:
        return []
    conversations = sorted({(row.person_key, row.reference, row.recipient, row.channel) for row in rows})
    columns = [list(column) for column in zip(*conversations, strict=True)]
    async with engine.begin() as tx:
        # the notifier changes a feedback only with its conversation locked
        await tx.execute(_LOCK, dict(zip(("keys", "references", "recipients", "channels"), columns, strict=True)))
        await tx.execute(_KEEP_FIRST, _keys(rows))
        again = {str(feedback_id) for feedback_id in (await tx.execute(_AGAIN, _keys(rows))).scalars()}
        done = [row for row in rows if row.feedback_id in again]
        if done:
            await tx.execute(_DUE, _keys(done))
            await record_action(tx, "notifier", RESENT, by, {"feedback": sorted(again)})
    return done


def _keys(rows: Sequence[FeedbackRow]) -> dict[str, list[str]]:
    return {"keys": [row.person_key for row in rows], "ids": [row.feedback_id for row in rows]}


_LOCK = text("""
    select from notifier.conversation as held
    join unnest(cast(:keys as text[]), cast(:references as text[]), cast(:recipients as text[]), cast(:channels as text[]))
         as given (person_key, reference, recipient, channel) using (person_key, reference, recipient, channel)
    order by person_key, reference, recipient, channel for update of held""")

_KEEP_FIRST = text(f"""
    insert into notifier.attempt (person_key, feedback_id, number, started_at, ended_at, outcome)
    select person_key, feedback_id, 1, accepted.sent_at, accepted.accepted_at, 'delivered'
    from unnest(cast(:keys as text[]), cast(:ids as uuid[])) as given (person_key, feedback_id)
    join notifier.feedback as accepted using (person_key, feedback_id)
    where {_FIRST_SUCCESS}
    on conflict do nothing""")  # noqa: S608 - a constant

_AGAIN = text("""
    update notifier.feedback as feedback
    set state = 'waiting', reason = null, resent_at = clock_timestamp()
    from unnest(cast(:keys as text[]), cast(:ids as uuid[])) as given (person_key, feedback_id)
    where feedback.person_key = given.person_key and feedback.feedback_id = given.feedback_id
      and feedback.state in ('failed', 'accepted')
    returning feedback.feedback_id""")

_DUE = text("""
    with again as (
        select person_key, reference, recipient, channel, array_agg(ordinal) as ordinals
        from unnest(cast(:keys as text[]), cast(:ids as uuid[])) as given (person_key, feedback_id)
        join notifier.feedback using (person_key, feedback_id)
        group by person_key, reference, recipient, channel
    )
    update notifier.conversation as held
    set resend = (select array_agg(distinct ordinal order by ordinal) from unnest(held.resend || again.ordinals) as every (ordinal)),
        due_at = case when held.lease is not null and held.due_at > clock_timestamp() then held.due_at else clock_timestamp() end,
        due_since = clock_timestamp()
    from again
    where held.person_key = again.person_key and held.reference = again.reference
      and held.recipient = again.recipient and held.channel = again.channel""")
