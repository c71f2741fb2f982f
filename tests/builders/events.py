"""Events about referrals, hubs' commands, and the Kafka records that contain them."""

import dataclasses
import itertools
from datetime import UTC, date, datetime
from typing import Any

from schemas.events import Command, Event, EventData, ReferralCancelled, ReferralReceived, ReferralUpdated
from schemas.model import PersonKey, Reference
from schemas.referral import Referral
from schemas.topics import REFERRAL_EVENT, hub_command
from services.messaging.cloudevents import KafkaRecord, headers_of, value_of

KEY = PersonKey("0f" * 16)
TODAY = date(2026, 11, 23)
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
_numbers = itertools.count()


def received(reference: Reference, referral: Referral, version: int = 1) -> ReferralReceived:
    return ReferralReceived(reference=reference, version=version, referral=referral)


def updated(reference: Reference, referral: Referral, version: int = 2) -> ReferralUpdated:
    return ReferralUpdated(reference=reference, version=version, referral=referral)


def cancelled(reference: Reference, version: int = 2, **given: Any) -> ReferralCancelled:
    return ReferralCancelled(reference=reference, version=version, **given)


def an_event(data: EventData, *, id: str | None = None, key: str = KEY, **given: Any) -> Event:
    """Return an event with any data; its id is unique unless one is given."""
    number = next(_numbers)
    attributes = {"source": "/lightbulb/tests", "time": NOW, "correlation_id": f"correlation-{number}", **given}
    return Event(id=id or f"event-{number}", person_key=PersonKey(key), data=data, **attributes)


def in_record(event: Event, topic: str) -> KafkaRecord:
    """Return the Kafka record of an event, at an offset that no other record has."""
    headers = tuple((name, value.encode()) for name, value in headers_of(event).items())
    return KafkaRecord(topic, 0, next(_numbers), event.person_key.encode(), value_of(event), headers)


def a_record(data: EventData, *, id: str | None = None, key: str = KEY, topic: str = REFERRAL_EVENT) -> KafkaRecord:
    """Return a Kafka record of any event."""
    return in_record(an_event(data, id=id, key=key), topic)


def a_command(
    hub: str, command: type[Command], case_id: str, *, id: str | None = None, key: str = KEY, **data: Any
) -> KafkaRecord:
    """A record of a hub's command."""
    given = command(case_id=case_id, person_key=key, **{"expected_version": 1, **data})
    return a_record(given, id=id, key=key, topic=hub_command(hub))


def broken(record: KafkaRecord, value: bytes) -> KafkaRecord:
    """The same record with other bytes."""
    return KafkaRecord(record.topic, record.partition, record.offset, record.key, value, record.headers)


def with_header(record: KafkaRecord, name: str, value: bytes) -> KafkaRecord:
    return dataclasses.replace(record, headers=tuple((n, value if n == name else v) for n, v in record.headers))
