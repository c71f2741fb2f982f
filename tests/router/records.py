"""Kafka records as intake and the hubs make them."""

import itertools
from datetime import UTC, datetime
from typing import Any

from schemas.events import Command, Event, EventData
from schemas.model import PersonKey
from schemas.topics import REFERRAL_EVENT, hub_command
from services.messaging.cloudevents import KafkaRecord, headers_of, value_of
from tests.router.builders import KEY

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
_offsets = itertools.count()


def a_record(data: EventData, *, id: str | None = None, key: str = KEY, topic: str = REFERRAL_EVENT) -> KafkaRecord:
    """A record of any event; its id is its own unless one is given."""
    offset = next(_offsets)
    event = Event(
        id=id or f"event-{offset}",
        source="/lightbulb/tests",
        time=NOW,
        person_key=PersonKey(key),
        correlation_id=f"correlation-{offset}",
        data=data,
    )
    headers = tuple((name, value.encode()) for name, value in headers_of(event).items())
    return KafkaRecord(topic, 0, offset, key.encode(), value_of(event), headers)


def a_command(
    hub: str, command: type[Command], case_id: str, *, id: str | None = None, key: str = KEY, **data: Any
) -> KafkaRecord:
    """A record of a hub's command."""
    given = command(case_id=case_id, person_key=key, **{"expected_version": 1, **data})
    return a_record(given, id=id, key=key, topic=hub_command(hub))


def broken(record: KafkaRecord, value: bytes) -> KafkaRecord:
    """The same record with other bytes."""
    return KafkaRecord(record.topic, record.partition, record.offset, record.key, value, record.headers)
