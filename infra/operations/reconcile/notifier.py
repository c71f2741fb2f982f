"""Take in what the notifier's database lacks: case events are read again, feedback with a known outcome is not sent."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiokafka import TopicPartition
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.operations.reconcile.kafka import KeptRecord
from schemas.events import FEEDBACK_EVENTS, FeedbackFailed, FeedbackSent
from services.messaging.cloudevents import Undecodable, decode
from services.notifier import store

Outcomes = dict[tuple[str, str], dict[str, Any]]
"""The last outcome of feedback by person key and id."""


async def missing(engine: AsyncEngine, records: Sequence[KeptRecord]) -> list[KeptRecord]:
    """Return the case events that the notifier neither applied nor stored as dead letters."""
    async with engine.connect() as tx:
        places = await tx.scalars(
            text(_MISSING),
            {"keys": [one.key for one in records], "ids": [one.header("ce_id") for one in records]},
        )
        return [records[place - 1] for place in places]


_MISSING = """
    select place from unnest(cast(:keys as text[]), cast(:ids as text[])) with ordinality as given (key, id, place)
    where not exists (select from notifier.input where person_key = given.key and event_id = given.id)
      and not exists (
        select from notifier.dead_letter where person_key = given.key and topic = 'case.event' and event_id = given.id)
    order by place"""


def outcomes(records: Iterable[KeptRecord]) -> Outcomes:
    """Return what these records of `feedback.event` say. The mailbox has no outcome: its feedback is there to be fetched."""
    found: Outcomes = {}
    for one in records:
        try:
            event = decode(one.record, FEEDBACK_EVENTS)
        except Undecodable:
            continue
        data = event.data
        if isinstance(data, FeedbackSent | FeedbackFailed) and data.channel != "mailbox":
            failed = data.reason if isinstance(data, FeedbackFailed) else None
            found[event.person_key, data.feedback_id] = {
                "outcome": "failed" if failed else "accepted",
                "reason": failed,
                "at": event.time,
            }
    return found


async def unknown(engine: AsyncEngine, known: Outcomes) -> Outcomes:
    """Return the outcomes of feedback that waits, or is not stored. An operator may have sent it again after an outcome: then it waits."""
    async with engine.connect() as tx:
        places = await tx.scalars(text(_KNOWN), _columns(known))
        places_known = set(places)
    return {one: outcome for place, (one, outcome) in enumerate(known.items(), start=1) if place not in places_known}


def _columns(known: Outcomes) -> dict[str, list[Any]]:
    return {
        "keys": [key for key, _ in known],
        "ids": [one for _, one in known],
        **{name: [of[name] for of in known.values()] for name in ("outcome", "reason", "at")},
    }


_KNOWN = """
    select place from unnest(cast(:keys as text[]), cast(:ids as uuid[]), cast(:at as timestamptz[]))
        with ordinality as given (person_key, feedback_id, at, place)
    where exists (
            select from notifier.feedback where person_key = given.person_key and feedback_id = given.feedback_id
            and (state <> 'waiting' or resent_at >= given.at))
       or (exists (select from notifier.known_outcome where person_key = given.person_key and feedback_id = given.feedback_id)
           and not exists (
            select from notifier.feedback where person_key = given.person_key and feedback_id = given.feedback_id))"""


async def save_outcomes(engine: AsyncEngine, known: Outcomes) -> None:
    """Store these outcomes, and give them to the feedback that waits; the rest has them when it is composed again."""
    async with engine.begin() as tx:
        await tx.execute(text(_SAVE_OUTCOMES), _columns(known))
        await store.apply_known_outcomes(tx, list(known))


_SAVE_OUTCOMES = """
    insert into notifier.known_outcome (person_key, feedback_id, outcome, reason, at)
    select * from unnest(cast(:keys as text[]), cast(:ids as uuid[]), cast(:outcome as text[]), cast(:reason as text[]),
                         cast(:at as timestamptz[]))
    on conflict (person_key, feedback_id) do update set outcome = excluded.outcome, reason = excluded.reason, at = excluded.at"""


async def set_positions(engine: AsyncEngine, schema: str, offsets: Mapping[TopicPartition, int]) -> None:
    """Set stored positions, also back."""
    async with engine.begin() as tx:
        for partition, offset in offsets.items():
            await tx.execute(text(_POSITION.format(schema=schema)), {**partition._asdict(), "offset": offset})


_POSITION = """
    insert into {schema}.consumer_position (topic, partition, next_offset) values (:topic, :partition, :offset)
    on conflict (topic, partition) do update set next_offset = excluded.next_offset"""


def earliest(records: Iterable[KeptRecord]) -> dict[TopicPartition, int]:
    """Return the first offset of these records in each partition."""
    first: dict[TopicPartition, int] = {}
    for one in records:
        first[one.partition] = min(first.get(one.partition, one.record.offset), one.record.offset)
    return first
