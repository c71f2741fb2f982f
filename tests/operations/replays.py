"""Routers at work on the same records, and a replay of what they stored."""

import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.operations import replay_router
from infra.operations.replay import Proof
from schemas.events import (
    Accept,
    Command,
    ConfirmDeath,
    ReferralCancellationNotApplied,
    ReportDeath,
    WithdrawDeathReport,
)
from schemas.model import Reference
from schemas.referral import DeathReport
from services.messaging import packets
from services.messaging.cloudevents import KafkaRecord
from services.messaging.packets import Message
from services.reference.directory import Directory
from services.router.consumer import Batches
from services.router.decide.transition import case_id_of
from services.router.store import ConcurrentInsert
from services.runtime.database import Transaction
from tests.builders.events import NOW, a_command, a_record, cancelled, received, updated
from tests.builders.reference_data import AT_CHARNWOOD, DIRECTORY, FOLDER
from tests.builders.referrals import a_form, a_person, a_referral, a_ward_referral, keys


async def proof(engine: AsyncEngine, folder: Path = FOLDER, **given: Any) -> Proof:
    url = engine.url.render_as_string(hide_password=False)
    return await replay_router.run(url, folder, lambda done, of: None, **given)


async def with_other_messages(tx: Transaction, key: str, change: Callable[[Message], Message]) -> None:
    """Change a person's messages in the router's packets."""
    for row in (await tx.execute(text("select shard, id, content from router.packet"))).all():
        packet = packets.decode(row.content)
        messages = [change(one) if one.person_key == key else one for one in packet.messages]
        changed = packets.encode(packet._replace(messages=messages))
        await tx.execute(
            text("update router.packet set content = :content where shard = :shard and id = :id"),
            {"shard": row.shard, "id": row.id, "content": changed},
        )


class Router:
    """A router whose clock moves with each batch, at random also backwards."""

    def __init__(self, engine: AsyncEngine, directory: Directory = DIRECTORY, seed: int = 1) -> None:
        self._random = random.Random(seed)
        self._batches = Batches(engine, directory, clock=self._clock)
        self._now = NOW
        self.release = self._batches.release

    def _clock(self) -> Any:
        self._now += timedelta(seconds=self._random.uniform(-30, 60))
        return self._now

    async def apply(self, *records: KafkaRecord) -> None:
        while True:
            try:
                return await self._batches.receive(records)
            except ConcurrentInsert:  # another router was first with a new key: the consumer reads the batch again
                pass


def some_records(count: int) -> list[list[KafkaRecord]]:
    """Return for each of `count` persons referrals, updates, cancels and commands in a possible order."""
    found = []
    for number, key in enumerate(keys(count)):
        one, two = Reference(f"LB-A-{number}"), Reference(f"LB-B-{number}")
        case = case_id_of(key, one)  # type: ignore[arg-type]
        found.append(
            [
                a_record(received(one, a_referral()), key=key),
                a_record(received(two, a_ward_referral() if number % 3 else a_form()), key=key),
                a_record(updated(one, a_referral(postcode=AT_CHARNWOOD)), key=key),
                a_command("blaby", Accept, case, key=key, expected_version=number % 4 + 1),
                a_command("charnwood", Accept, case, key=key, expected_version=1),
                a_record(cancelled(two), key=key),
            ][: 3 + number % 4]
            + _afterwards(one, key, number)
        )
    return found


def _afterwards(one: Reference, key: str, number: int) -> list[KafkaRecord]:
    """Return a restriction, a report of a death and a cancel that is not applied, and the commands of home hubs on them."""
    person = a_person(restricted_access=True, death_reported=DeathReport())
    not_applied = ReferralCancellationNotApplied(reference=one, version=9)
    case: Any = case_id_of(key, one)  # type: ignore[arg-type]
    return [
        a_record(updated(one, a_referral(person=person), version=8), key=key),
        a_record(not_applied, key=key),
        *(
            a_command(hub, command, case, key=key, expected_version=version)
            for command in DEATHS[number % 3]
            for hub in ("blaby", "charnwood")
            for version in range(3, 9)
        ),
    ]


DEATHS: list[list[type[Command]]] = [[WithdrawDeathReport, ReportDeath], [ConfirmDeath], [ReportDeath, ConfirmDeath]]


async def work(router: Router, people: list[list[KafkaRecord]], seed: int) -> None:
    """Apply batches of random size that keep each person's order; some of them twice."""
    chance = random.Random(seed)
    left = [list(records) for records in people]
    while left := [records for records in left if records]:
        batch = [records.pop(0) for records in chance.choices(left, k=chance.randint(1, 20)) if records]
        await router.apply(*batch)
        if chance.random() < 0.2:
            await router.apply(*batch)
