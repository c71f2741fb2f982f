"""The order in which the router applies again what it had applied: that of what it published, not that of Kafka."""

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from infra.operations.reconcile.kafka import KeptRecord
from infra.operations.reconcile.router import Evidence, in_order
from services.messaging.cloudevents import KafkaRecord

KEY = "a" * 32
NOON = datetime(2026, 11, 5, 12, tzinfo=UTC)


def a_record(topic: str, offset: int, id: str, at: float = math.nan, **headers: Any) -> KeptRecord:
    """A record of the person; `at`: seconds after noon of its timestamp."""
    headers = {"ce_id": id, "ce_type": "x", **headers}
    pairs = tuple((name, str(value).encode()) for name, value in headers.items())
    value = json.dumps({"person_key": KEY, "id": id}).encode()
    return KeptRecord(KafkaRecord(topic, 0, offset, KEY.encode(), value, pairs), NOON.timestamp() + at)


def an_event(topic: str, offset: int, cause: str, seconds: float, sequence: int | None = None) -> KeptRecord:
    more = {} if sequence is None else {"ce_sequence": sequence}
    at = (NOON + timedelta(seconds=seconds)).isoformat()
    return a_record(topic, offset, str(uuid4()), ce_causationid=cause, ce_time=at, **more)


def test_inputs_are_applied_in_the_order_of_the_sequence_and_in_the_batches_of_before() -> None:
    evidence = Evidence(frozenset({KEY}))
    evidence.add(
        [
            an_event("case.event", n, cause, at, n + 1)
            for n, (cause, at) in enumerate((("received", 1.0), ("accept", 5.0), ("updated", 5.0), ("start", 9.0)))
        ]
    )
    evidence.add(
        [
            an_event("hub.blaby.case", n, cause, at, sequence)
            for n, (cause, at, sequence) in enumerate(
                (("received", 1.0, 1), ("accept", 5.0, 2), ("stale", 6.0, None), ("start", 9.0, 4))
            )
        ]
    )
    inputs = [
        a_record("hub.blaby.command", 0, "accept", 4.0),
        a_record("hub.blaby.command", 1, "stale", 5.5),
        a_record("hub.blaby.command", 2, "start", 8.0),
        a_record("referral.event", 0, "received", 0.5),
        a_record("referral.event", 1, "unchanged", 3.0),
        a_record("referral.event", 2, "updated", 4.5),
        a_record("referral.event", 3, "new", 20.0),
    ]
    batches = [(at, [one.header("ce_id") for one in records]) for at, records in in_order(inputs, evidence)]
    assert [name for _, names in batches for name in names] == [
        "received",
        "unchanged",
        "accept",
        "stale",
        "updated",
        "start",
        "new",
    ]
    assert batches[0] == (NOON + timedelta(seconds=1), ["received"])
    assert [at for at, _ in batches] == sorted(at for at, _ in batches)
