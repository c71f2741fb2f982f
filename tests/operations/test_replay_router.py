"""A replay rebuilds what stands, whatever made it: batches, two processes, edits, clocks, directories, postcodes; and says what differs."""

import asyncio
import random
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.operations import corrections, queries, replay_router
from infra.operations.audit_log import Operator
from infra.operations.queries import Filters
from infra.operations.replay import CannotReplay, Proof
from schemas.events import Accept
from schemas.model import Reference
from services.messaging.cloudevents import KafkaRecord
from services.reference import directory as directories
from services.reference.directory import Directory
from services.router import directory_versions
from services.router.consumer import Batches
from services.router.decide import lifecycle
from services.router.decide.transition import case_id_of
from services.runtime.settings import CHECKOUT
from tests.operations.test_dead_letters import resubmit
from tests.router.builders import (
    AT_CHARNWOOD,
    DIRECTORY,
    GP,
    a_form,
    a_referral,
    a_ward_referral,
    cancelled,
    received,
    updated,
)
from tests.router.records import NOW, a_command, a_record, broken
from tests.router.test_consumer import keys

FOLDER = CHECKOUT / "infra" / "reference_data"


async def proof(engine: AsyncEngine, folder: Path = FOLDER, **given: Any) -> Proof:
    url = engine.url.render_as_string(hide_password=False)
    return await replay_router.run(url, folder, lambda done, of: None, **given)


class Router:
    """A router whose clock goes on with each batch, by chance also backwards."""

    def __init__(self, engine: AsyncEngine, directory: Directory = DIRECTORY, seed: int = 1) -> None:
        self._random = random.Random(seed)
        self._batches = Batches(engine, directory, clock=self._clock)
        self._now = NOW
        self.release = self._batches.release

    def _clock(self) -> Any:
        self._now += timedelta(seconds=self._random.uniform(-30, 60))
        return self._now

    async def apply(self, *records: KafkaRecord) -> None:
        await self._batches.receive(records)


def some_records(count: int) -> list[list[KafkaRecord]]:
    """For each of `count` people: referrals, updates, cancels and commands, in an order in which they could come."""
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
        )
    return found


async def work(router: Router, people: list[list[KafkaRecord]], seed: int) -> None:
    """Batches of any size, in any mixture that keeps each person's order; some of them twice."""
    chance = random.Random(seed)
    left = [list(records) for records in people]
    while left := [records for records in left if records]:
        batch = [records.pop(0) for records in chance.choices(left, k=chance.randint(1, 20)) if records]
        await router.apply(*batch)
        if chance.random() < 0.2:
            await router.apply(*batch)


async def test_what_two_processes_applied_is_rebuilt_the_same(engine: AsyncEngine) -> None:
    people = some_records(16)
    await asyncio.gather(*(work(Router(engine, seed=seed), people, seed) for seed in (1, 2)))
    found = await proof(engine)

    assert found.is_equal, found.differing
    async with engine.connect() as connection:
        applied = await connection.scalar(text("select count(*) from router.input"))
        left = await connection.scalar(text("select count(*) from pg_namespace where nspname = 'replay_router'"))
    assert (found.inputs, found.keys, left) == (applied, 16, 0)


async def test_edits_and_what_went_back_later_are_replayed_as_they_were_applied(engine: AsyncEngine) -> None:
    router, good = Router(engine), a_record(received(GP, a_referral()))
    await router.apply(broken(good, b'{"reference": "LB-GP00-0000-0001"}'), a_record(updated(GP, a_form())))
    [row, _] = await queries.find(engine, Filters())
    await resubmit(engine, [await corrections.edit(engine, row, good.value, {}, Operator("w", "y"))])
    await router.release()

    assert (await proof(engine)).is_equal
    async with engine.connect() as connection:
        assert await connection.scalar(text("select count(*) from router.case_event")) == 3


CHANGES = {
    "person": "update router.person set provisional = not provisional",
    "case": "update router.\"case\" set holder = 'melton'",
    "referral": "update router.referral set version = version + 1",
    "case_event": "update router.case_event set data = data || 'x'::bytea",
    "sequence": "update router.person_key set last_sequence = 99",
    "outbox": "update router.outbox set target = 'hub.melton.case'",
}


async def test_a_key_that_differs_is_named_with_its_table(engine: AsyncEngine) -> None:
    people = keys(len(CHANGES) + 2)
    await Router(engine).apply(*(a_record(received(Reference(f"LB-{key}"), a_referral()), key=key) for key in people))
    async with engine.begin() as tx:
        for key, change in zip(people, CHANGES.values(), strict=False):
            await tx.execute(text(f"{change} where person_key = '{key}'"))
        await tx.execute(text(f"delete from router.case_event where person_key = '{people[-2]}'"))

    differing = (await proof(engine)).differing
    assert differing == tuple((key, (table,)) for key, table in zip(people, [*CHANGES, "case_event"], strict=False))


@pytest.fixture
def other_folder(tmp_path: Path) -> Path:
    """A directory in which Blaby is full."""
    folder = tmp_path / "directory"
    shutil.copytree(FOLDER, folder)
    (folder / "capacity.yaml").write_text("full:\n  - hub: blaby\n    from: 2026-01-01\n")
    return folder


async def test_each_input_is_decided_with_the_directory_of_its_time(engine: AsyncEngine, other_folder: Path) -> None:
    other = directories.load(other_folder)
    one, two = keys(2)
    await directory_versions.store_directory(engine, other_folder, other.version)
    await Router(engine, other).apply(a_record(received(Reference("LB-1"), a_referral()), key=one))
    await Router(engine).apply(a_record(received(Reference("LB-2"), a_referral()), key=two))
    async with engine.connect() as connection:
        reasons = (await connection.scalars(text('select reasons from router."case" order by person_key'))).all()

    assert reasons[0] != reasons[1]
    assert (await proof(engine)).is_equal


async def test_a_directory_that_is_not_kept_is_asked_for_by_its_version(
    engine: AsyncEngine, other_folder: Path
) -> None:
    other = directories.load(other_folder)
    await Router(engine, other).apply(a_record(received(GP, a_referral())))
    with pytest.raises(CannotReplay, match=other.version):
        await proof(engine)
    assert (await proof(engine, other_folder)).is_equal


async def test_files_that_changed_since_are_not_kept_under_the_version(engine: AsyncEngine, other_folder: Path) -> None:
    with pytest.raises(directory_versions.DirectoryVersionMissing):
        await directory_versions.store_directory(engine, other_folder, DIRECTORY.version)


async def test_a_postcode_that_changed_its_district_counts_as_it_was(engine: AsyncEngine) -> None:
    await Router(engine).apply(a_record(received(GP, a_referral())))
    async with engine.begin() as tx:
        await tx.execute(text("update router.postcode set district = 'E07000130' where postcode = 'LE86AA'"))
        await tx.execute(
            text("insert into router.postcode_history values ('LE86AA', :at, 'E07000129')"),
            {"at": NOW + timedelta(days=1)},
        )
    later = Batches(engine, DIRECTORY, clock=lambda: NOW + timedelta(days=2))
    await later.receive([a_record(received(Reference("LB-2"), a_referral()), key=keys(1)[0])])
    async with engine.connect() as connection:
        homes = (await connection.scalars(text('select home_hub from router."case" order by opened_at'))).all()

    assert homes == ["blaby", "charnwood"]
    assert (await proof(engine)).is_equal


async def test_what_comes_meanwhile_is_replayed_too(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = keys(2)
    await Router(engine).apply(a_record(received(Reference("LB-1"), a_referral()), key=first))
    groups, late = replay_router.batches, [a_record(received(Reference("LB-2"), a_referral()), key=second)]

    async def and_something_comes(tx: Any) -> Any:
        async for group in groups(tx):
            yield group
        while late:
            await Router(engine, seed=9).apply(late.pop(), a_record(cancelled(Reference("LB-1")), key=first))

    monkeypatch.setattr(replay_router, "batches", and_something_comes)
    found = await proof(engine)

    assert (found.is_equal, found.inputs, found.keys, found.left_out) == (True, 3, 2, 0)


async def test_a_batch_is_never_split_by_what_another_process_applied_meanwhile(engine: AsyncEngine) -> None:
    """Two batches whose inputs lie between each other's, as one statement of each makes them."""
    one, two = keys(30)[:15], keys(30)[15:]
    for people in (one, two):
        await Router(engine, seed=len(people) + int(people is two)).apply(
            *(a_record(received(Reference(f"LB-{key}"), a_referral()), key=key) for key in people)
        )
    async with engine.begin() as tx:
        await tx.execute(text("alter table router.input alter column position drop identity"))
        await tx.execute(
            text("""update router.input set position = mixed.place from (
            select person_key as key, row_number() over (order by right(person_key, 1), person_key) as place from router.input) as mixed
            where mixed.key = person_key""")
        )
        await tx.execute(text("alter table router.input alter column position add generated always as identity"))
    async with engine.connect() as tx:
        found = [len(group.records) async for group in replay_router.batches(await _ready(tx))]

    assert found == [15, 15]


async def _ready(tx: Any) -> Any:
    await tx.execute(text("create schema replay_router"))
    for table in ("input", "dead_letter"):
        await tx.execute(text(f"create table replay_router.{table} (like router.{table})"))
    return tx


async def test_what_cannot_be_decided_in_the_replay_is_a_difference(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await Router(engine).apply(a_record(received(GP, a_referral())))

    def failing(*_: Any) -> Any:
        raise KeyError

    monkeypatch.setattr(lifecycle, "apply", failing)
    found = await proof(engine)

    assert (found.is_equal, found.left_out) == (False, 0)
