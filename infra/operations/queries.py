"""Find dead letters of every service, by filters or by id."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.operations import reasons, redaction
from services.messaging.cloudevents import KafkaRecord
from services.messaging.dead_letters import decode_headers
from services.runtime.database import Transaction

SERVICES = ("router", "notifier")


@dataclass(frozen=True, slots=True)
class Filters:
    """Filters of rows; None does not filter. `reason` and `message_group` match from the beginning."""

    service: str | None = None
    reason: str | None = None
    topic: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    message_group: str | None = None
    resolved: bool = False
    """Whether resolved rows are included."""


@dataclass(frozen=True, slots=True)
class DeadLetterRow:
    """One dead letter. `name` is the id on the command line: router:17."""

    service: str
    id: int
    person_key: str
    message_groups: tuple[str, ...]
    record: KafkaRecord
    reason: str
    correlation_id: str | None
    waiting: bool
    attempts: int
    first_at: datetime
    last_at: datetime
    resubmit_at: datetime | None
    resolved_at: datetime | None
    resolution: str | None
    event_id: str | None = None

    @property
    def name(self) -> str:
        return f"{self.service}:{self.id}"

    @property
    def place(self) -> str:
        return f"{self.record.topic} {self.record.partition}@{self.record.offset}"

    @property
    def state(self) -> str:
        """The state: applied, discarded, duplicate, resubmitting, waiting (behind another record), or open."""
        if self.resolved_at is not None:
            return self.resolution or "resolved"
        return "waiting" if self.waiting else "resubmitting" if self.resubmit_at else "open"

    def as_dict(self) -> dict[str, Any]:
        """Return the row as JSON values, without personal data."""
        return {
            "id": self.name,
            "state": self.state,
            "reason": self.reason,
            "explanation": reasons.in_words(self.reason),
            "topic": self.record.topic,
            "partition": self.record.partition,
            "offset": self.record.offset,
            "message_groups": [redaction.message_group(group) for group in self.message_groups],
            "correlation_id": redaction.correlation(self.correlation_id),
            "attempts": self.attempts,
            "first_at": self.first_at.isoformat(),
            "last_at": self.last_at.isoformat(),
            "resolved_at": self.resolved_at.isoformat() if self.resolved_at else None,
        }


class NoSuchRow(Exception):
    """An id does not name a row; the text gives the id."""


async def find(engine: AsyncEngine, filters: Filters) -> list[DeadLetterRow]:
    """Return the rows that match the filters, in the order in which each service stored them."""
    async with engine.connect() as tx:
        return [
            row for service in _services(filters) for row in await rows_where(tx, service, _WHERE, _parameters(filters))
        ]


def _services(filters: Filters) -> Sequence[str]:
    return (filters.service,) if filters.service else SERVICES


_WHERE = """
    (:resolved or resolved_at is null)
    and (cast(:reason as text) is null or starts_with(reason, :reason))
    and (cast(:topic as text) is null or topic = :topic)
    and (cast(:since as timestamptz) is null or first_at >= :since)
    and (cast(:until as timestamptz) is null or first_at < :until)
    and (cast(:message_group as text) is null or starts_with(message_group, :message_group)
         or starts_with(message_group, topic || '/' || :message_group) or :message_group = any(other_groups))"""


def _parameters(filters: Filters) -> dict[str, Any]:
    return {
        "resolved": filters.resolved,
        "reason": filters.reason,
        "topic": filters.topic,
        "since": filters.since,
        "until": filters.until,
        "message_group": filters.message_group,
    }


async def rows_where(tx: Transaction, service: str, where: str, parameters: Mapping[str, Any]) -> list[DeadLetterRow]:
    result = await tx.execute(text(f"select * from {service}.dead_letter where {where} order by id"), parameters)  # noqa: S608 - a constant name
    return [
        DeadLetterRow(
            service=service,
            record=KafkaRecord(row.topic, row.partition, row.offset, row.key, row.value, decode_headers(row.headers)),
            message_groups=(row.message_group, *row.other_groups),
            **{name: getattr(row, name) for name in _SAME},
        )
        for row in result
    ]


_SAME = (
    "id", "person_key", "reason", "correlation_id", "waiting", "attempts", "first_at", "last_at", "resubmit_at", "resolved_at",
    "resolution", "event_id",
)  # fmt: skip


async def named(engine: AsyncEngine, names: Iterable[str]) -> list[DeadLetterRow]:
    """Return the rows with these ids. Raise NoSuchRow."""
    async with engine.connect() as tx:
        return [await _named(tx, name) for name in dict.fromkeys(names)]


async def _named(tx: Transaction, name: str) -> DeadLetterRow:
    service, _, number = name.partition(":")
    if service not in SERVICES or not number.isdecimal():
        raise NoSuchRow(f"{name} is not a valid id. Ids look like router:17; `lightbulb quarantine list` shows them.")
    rows = await rows_where(tx, service, "id = :id", {"id": int(number)}) if len(number) < 19 else []
    if not rows:
        raise NoSuchRow(f"{name} is not in quarantine. `lightbulb quarantine list --resolved` includes resolved rows.")
    return rows[0]
