"""What reconcile takes in and in which order; by a drill with an installation see test_restore.py."""

import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import TopicPartition
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.operations import reconcile
from infra.operations.reconcile.kafka import KeptRecord, opened
from infra.operations.reconcile.router import Evidence, in_order, mark_published, person_keys
from services.messaging import packets
from services.messaging.cloudevents import KafkaRecord
from services.runtime import database, positions
from services.runtime.positions import Gap
from tests.builders.events import a_record as a_referral_record
from tests.builders.events import cancelled, received
from tests.builders.reference_data import DIRECTORY, FOLDER
from tests.builders.referrals import GP, a_referral
from tests.router.conftest import emptied
from tests.router.stored import apply

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


def test_a_command_is_about_the_person_in_its_data_whatever_the_key_of_its_record() -> None:
    command = a_record("hub.blaby.command", 0, "accept")
    assert person_keys([replace(command, record=replace(command.record, key=b"a case"))]) == {KEY}


@pytest.mark.parametrize(
    ("first", "following", "kept_from", "lost"),
    [(5, 9, 9, 4), (5, 9, 12, 4), (5, 9, 7, 2), (5, 9, 5, 0), (5, 9, 0, 0), (9, 0, 0, 1)],
)
def test_a_command_is_lost_if_kafka_deleted_it_unread(first: int, following: int, kept_from: int, lost: int) -> None:
    gap = Gap(TopicPartition("hub.blaby.command", 0), first, following)
    assert reconcile._before(gap, kept_from) == lost


async def test_commands_that_kafka_no_longer_has_are_counted_by_topic(migrated: str, kafka: str) -> None:
    engine = database.connect(migrated, pool=1)
    await emptied(engine, "router")
    async with opened(kafka) as topics:
        on = reconcile.ReconcileContext(engine, topics, DIRECTORY, FOLDER, lambda *_: None)
        assert await reconcile._lost_commands(on) == {}
        gaps = [Gap(TopicPartition(topic, 0), 5, 9) for topic in ("referral.event", "hub.of-nobody.command")]
        await positions.save(engine, "router", {}, gaps)
        assert await reconcile._lost_commands(on) == {"hub.of-nobody.command": 4}
    await engine.dispose()


async def test_of_a_packet_what_kafka_has_is_published_and_the_rest_waits(engine: AsyncEngine) -> None:
    await apply(engine, a_referral_record(received(GP, a_referral())))
    on_kafka, differs, missing = {"case.event": 0}, {"case.event": 1, "hub.blaby.case": 0}, dict[str, int]()
    waits = [["case.event", "hub.blaby.case"], ["hub.blaby.case"], []]
    for known, differing, left in zip((missing, on_kafka, differs), (0, 0, 0), waits, strict=True):
        assert await mark_published(engine, await checksums(engine, known)) == differing
        assert await waiting(engine) == left

    await apply(engine, a_referral_record(cancelled(GP)))
    assert await mark_published(engine, await checksums(engine, differs)) == 1


async def checksums(engine: AsyncEngine, known: Mapping[str, int]) -> dict[tuple[str, str], int]:
    """Return those of the router's events on these topics, each with something added."""
    async with engine.connect() as tx:
        found = [one.message for one in await packets.published(tx, "router")]
    return {
        (one.target, dict(one.headers)["ce_id"].decode()): zlib.crc32(one.value) + known[one.target]
        for one in found
        if one.target in known
    }


async def waiting(engine: AsyncEngine) -> list[str]:
    async with engine.connect() as tx:
        return [one.message.target for one in await packets.published(tx, "router") if one.published_at is None]


async def test_two_repairs_do_not_run_at_the_same_time(migrated: str) -> None:
    engine = database.connect(migrated, pool=2)
    async with reconcile._alone(engine):
        with pytest.raises(reconcile.ServicesRun, match="Another"):
            async with reconcile._alone(engine):
                pass
    async with reconcile._alone(engine):
        pass
    await engine.dispose()
