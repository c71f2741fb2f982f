"""Where one referral is now: its status and hubs, the last thing that happened, and what it waits for. No personal data."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import Row, TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from infra.operations import feedback, reasons
from infra.operations.referral_messages import LATEST, ReferralMessage, ReferralMessages
from services.notifier.circuits import HELD


@dataclass(frozen=True, slots=True)
class ReferralPosition:
    """A referral as it is now. `status`: of the referral; the other statuses and hubs are those of its case."""

    reference: str
    partner: str
    received_at: datetime
    status: str | None = None
    case_id: str | None = None
    case_status: str | None = None
    business_status: str | None = None
    holder: str | None = None
    home_hub: str | None = None
    waits_for: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"received_at": self.received_at.isoformat()}


async def find(connection: AsyncConnection, reference: str, messages: ReferralMessages) -> ReferralPosition | None:
    """Return the position of the referral with this reference and these messages, or None if there is none."""
    row = (await connection.execute(_REFERRAL, {"reference": reference})).first()
    if row is None:
        return None
    fields = ("partner", "received_at", "status", "case_id", "case_status", "business_status", "holder", "home_hub")
    waits = await _waits(connection, reference, row, messages)
    return ReferralPosition(reference, **{name: getattr(row, name) for name in fields}, waits_for=tuple(waits))


_REFERRAL = text("""
    select sent.partner, sent.person_key, sent.first_at as received_at, sent.version as sent_version, known.version as known_version,
           known.status, known.case_id, work.status as case_status, work.business_status, work.holder, work.home_hub
    from intake.referral as sent
    left join router.referral as known on known.reference = sent.reference and known.person_key = sent.person_key
    left join router."case" as work on work.person_key = known.person_key and work.case_id = known.case_id
    where sent.reference = :reference and sent.person_key <> ''""")


async def _waits(connection: AsyncConnection, reference: str, of: Row[Any], messages: ReferralMessages) -> list[str]:
    """Return what the referral waits for, in the order of its path."""
    keys = {"reference": reference, "key": of.person_key, "case": of.case_id, "latest": LATEST}

    async def found(*of: Wait) -> list[str]:
        return [described(row) for statement, described in of for row in await connection.execute(statement, keys)]

    waits = [
        *_unpublished(messages.intake),
        *await found(_IN_ROUTER),
        *_unpublished(messages.router),
        *await found(*_IN_NOTIFIER),
    ]
    if not waits and (of.known_version or 0) < of.sent_version:
        waits.append(f"the router, which has not decided on version {of.sent_version}")
    return [*waits, *_work(of)]


def _work(of: Row[Any]) -> Iterator[str]:
    """Yield what the hub has to do."""
    if of.status == "requested":
        yield f"hub {of.holder or 'none'}, to accept it"
    elif of.status == "on-hold":
        yield f"hub {of.holder or 'none'}, which has it on hold"
    elif of.status in ("accepted", "in-progress"):
        yield f"hub {of.holder or 'none'}, which works on it"


def _unpublished(messages: Iterable[ReferralMessage]) -> Iterator[str]:
    waiting = sorted((one.target, one.created_at) for one in messages if one.published_at is None)
    for target, of_target in groupby(waiting, key=itemgetter(0)):
        since = [created_at for _, created_at in of_target]
        yield f"Kafka: {len(since)} not published on {target}, the oldest since {_time(since[0])}"


def _dead_letter(row: Row[Any]) -> str:
    what = "waits behind an earlier record" if row.waiting else reasons.in_words(row.reason)
    return f"dead letter {row.service}:{row.id}: {what} (lightbulb quarantine show {row.service}:{row.id})"


def _unread(row: Row[Any]) -> str:
    return f"the notifier, which has not read {row.number} event(s), the oldest of {_time(row.since)}"


def _due(row: Row[Any]) -> str:
    paused = max((at for at in (row.due_at, row.next_attempt_at) if at), default=None)
    why = row.endpoint_reason if row.opened_at else row.reason
    tried = f"attempt {row.attempts} failed ({why}), next {_time(paused)}" if row.attempts and why and paused else "due"
    circuit = f"; the endpoint fails since {_time(row.failing_since)}" if row.opened_at else ""
    more = f" and {row.more} more" if row.more else ""
    return f"feedback {row.feedback_type}{more} to {row.recipient} by {row.channel}: {tried}{circuit}"


def _failed(row: Row[Any]) -> str:
    name = feedback.name_of(row.reference, str(row.feedback_id))
    return f"a person: feedback {row.feedback_type} to {row.recipient} failed ({row.reason}); lightbulb feedback show {name}"


def _kept(row: Row[Any]) -> str:
    return f"{row.recipient}, to fetch {row.number} feedback(s), the oldest of {_time(row.since)}"


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"


def _dead_letters(service: str) -> TextClause:
    """Return the statement for unresolved dead letters of the referral, or of a hub's commands for its case."""
    return text(f"""
        select '{service}' as service, parked.id, parked.reason, parked.waiting
        from {service}.dead_letter_group as held
        join {service}.dead_letter as parked on parked.person_key = held.person_key and parked.id = held.dead_letter_id
        where held.person_key in (:key, 'unknown') and parked.resolved_at is null
          and (held.message_group = :reference or held.message_group like '%.command/' || cast(:case as text))
        order by parked.id""")  # noqa: S608 - a constant name


Wait = tuple[TextClause, Callable[[Row[Any]], str]]
"""What a referral may wait for: the statement that finds it, and how it is described."""

_IN_ROUTER: Wait = (_dead_letters("router"), _dead_letter)
_IN_NOTIFIER: tuple[Wait, ...] = (
    (_dead_letters("notifier"), _dead_letter),
    (
        text("""
            select count(*) as number, min(time) as since from (
                select * from router.case_event where person_key = :key order by sequence desc limit :latest
            ) as latest
            where :reference = any("references")
              and not exists (select from notifier.input where person_key = :key and event_id = latest.id)
              and not exists (
                select from notifier.dead_letter as parked
                where parked.person_key = :key and parked.topic = 'case.event' and parked.event_id = latest.id)
            having count(*) > 0"""),
        _unread,
    ),
    (
        text(f"""
            select waiting.recipient, waiting.channel, waiting.attempts, waiting.due_at, waiting.reason,
                   waiting.last - waiting.next as more, feedback.feedback_type,
                   held.reason as endpoint_reason, held.opened_at, held.failing_since, held.next_attempt_at
            from notifier.conversation as waiting
            join notifier.feedback as feedback
              on feedback.reference = waiting.reference and feedback.recipient = waiting.recipient
             and feedback.channel = waiting.channel and feedback.person_key = waiting.person_key
             and feedback.ordinal = coalesce(waiting.resend[1], waiting.next)
            left join notifier.endpoint as held on {HELD}
            where waiting.person_key = :key and waiting.reference = :reference and waiting.due_at is not null
            order by waiting.recipient"""),  # noqa: S608 - a constant
        _due,
    ),
    (
        text("""
            select reference, feedback_id, feedback_type, recipient, reason from notifier.feedback
            as failed where reference = :reference and state = 'failed' and not exists (
                select from notifier.feedback as later
                where later.reference = :reference and later.recipient = failed.recipient and later.channel = failed.channel
                  and later.ordinal > failed.ordinal and later.state = 'accepted')
            order by ordinal"""),
        _failed,
    ),
    (
        text("""
            select recipient, count(*) as number, min(composed_at) as since from notifier.feedback
            where reference = :reference and state = 'kept' group by recipient order by recipient"""),
        _kept,
    ),
)
