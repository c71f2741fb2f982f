"""A replay rebuilds the stored state from batches, two processes, edits, clocks, directories and postcodes, and reports differences."""

import asyncio
import dataclasses
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
from infra.operations.replay import CannotReplay
from schemas.events import Accept, DischargeOverdue
from schemas.model import Reference
from services.reference import directory as directories
from services.router import directory_versions, stored_state
from services.router.consumer import Batches
from services.router.decide import lifecycle
from services.router.overdue import OverdueDischarges
from services.runtime import compression
from services.runtime.compression import compress, decompress
from services.runtime.database import Transaction
from tests.builders.events import NOW, a_command, a_record, broken, cancelled, received, updated, with_header
from tests.builders.reference_data import DIRECTORY, FOLDER
from tests.builders.referrals import GP, WARD, a_form, a_referral, a_ward_referral, keys
from tests.operations.operator_actions import resubmit
from tests.operations.replays import Router, proof, some_records, with_other_messages, work


async def test_a_replay_rebuilds_what_two_processes_stored(engine: AsyncEngine) -> None:
    people = some_records(16)
    await asyncio.gather(*(work(Router(engine, seed=seed), people, seed) for seed in (1, 2)))
    found = await proof(engine)

    assert found.is_equal, found.differing
    async with engine.connect() as connection:
        applied = await connection.scalar(text("select count(*) from router.input"))
        left = await connection.scalar(text("select count(*) from pg_namespace where nspname = 'replay_router'"))
        types = (
            await connection.scalars(text("select distinct split_part(type, '.', 4) from router.case_event"))
        ).all()
    assert (found.inputs, found.keys, left) == (applied, 16, 0)
    assert {"contact-held", "contact-hold-ended", "task-raised", "accepted", "cancelled"} <= set(types)


async def test_edited_and_resubmitted_records_are_replayed_as_they_were_applied(engine: AsyncEngine) -> None:
    router, good = Router(engine), a_record(received(GP, a_referral()))
    await router.apply(broken(good, b'{"reference": "LB-GP00-0000-0001"}'), a_record(updated(GP, a_form())))
    [row, _] = await queries.find(engine, Filters())
    await resubmit(engine, [await corrections.edit(engine, row, good.value, {}, Operator("w", "y"))])
    await router.release()

    assert (await proof(engine)).is_equal
    async with engine.connect() as connection:
        assert await connection.scalar(text("select count(*) from router.case_event")) == 2


async def test_refused_records_are_replayed_as_they_were_answered(engine: AsyncEngine) -> None:
    router, key = Router(engine), keys(1)[0]
    good = a_command("blaby", Accept, "a-case", key=key)
    faults = [broken(good, b"\xff"), with_header(good, "ce_time", b"\xff"), dataclasses.replace(good, headers=())]
    await router.apply(*faults, dataclasses.replace(broken(good, good.value[:-1] + b',"by_role":0}'), key=None))
    found = await proof(engine)

    assert found.is_equal, found.differing
    assert found.inputs == 4


async def test_a_replay_repeats_the_task_of_an_overdue_discharge_and_publishes_nothing_to_the_router(
    engine: AsyncEngine,
) -> None:
    expected = NOW.date() - timedelta(days=9)
    router, key = Router(engine), keys(1)[0]
    await router.apply(a_record(received(WARD, a_ward_referral(expected_discharge_on=expected)), key=key))
    assert await OverdueDischarges(engine, seconds=600, clock=lambda: NOW).publish_due() == 1
    assert (await proof(engine)).is_equal

    await router.apply(a_record(DischargeOverdue(reference=WARD, expected_on=expected), key=key))
    found = await proof(engine)
    assert found.is_equal, found.differing
    async with engine.connect() as connection:
        tasks = await connection.scalar(text("select count(*) from router.case_event where type like '%task-raised%'"))
    assert (found.inputs, tasks) == (2, 1)


CHANGES = {
    "person": "update router.person set provisional = not provisional",
    "case": "update router.\"case\" set holder = 'melton'",
    "referral": "update router.referral set version = version + 1",
    "case_event": "update router.case_event set place = place + 1",
    "sequence": "update router.person_key set last_sequence = 99",
}


async def test_a_difference_is_reported_with_its_key_and_table(engine: AsyncEngine) -> None:
    people = keys(len(CHANGES) + 5)
    await Router(engine).apply(*(a_record(received(Reference(f"LB-{key}"), a_referral()), key=key) for key in people))
    async with engine.begin() as tx:
        for key, change in zip(people, CHANGES.values(), strict=False):
            await tx.execute(text(f"{change} where person_key = '{key}'"))
        *_, state, message, lacking, without, _ = people
        await with_another_state(tx, state)
        await with_other_messages(tx, message, lambda one: one._replace(target=one.target.replace("blaby", "melton")))
        await tx.execute(text(f"delete from router.case_event where person_key = '{lacking}'"))
        await tx.execute(text(f"update router.case_event set packet = 0 where person_key = '{without}'"))

    differing = (await proof(engine)).differing
    tables = [*CHANGES, "referral", "message", "case_event", "case_event"]
    assert differing == tuple((key, (table,)) for key, table in zip(people, tables, strict=False))


async def with_another_state(tx: Transaction, key: str) -> None:
    """Change a value in the compressed state of a person's referral."""
    query = text("select state from router.referral where person_key = :key")
    state = decompress(await tx.scalar(query, {"key": key}), stored_state.STATE_BYTES)
    assert b'"correlation_id":"' in state
    changed = compress(state.replace(b'"correlation_id":"', b'"correlation_id":"x'))
    await tx.execute(
        text("update router.referral set state = :state where person_key = :key"), {"state": changed, "key": key}
    )


async def test_the_same_state_in_other_compressed_bytes_is_equal(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await Router(engine).apply(a_record(received(GP, a_referral())))
    async with engine.connect() as tx:
        before = await tx.scalar(text("select state from router.referral"))
    monkeypatch.setattr(compression, "LEVEL", 15)
    found = await proof(engine, keep=True)
    async with engine.begin() as tx:
        replayed = await tx.scalar(text("select state from replay_router.referral"))
        await tx.execute(text("drop schema replay_router cascade"))

    assert replayed != before
    assert found.is_equal, found.differing


@pytest.fixture
def other_folder(tmp_path: Path) -> Path:
    """A directory in which Blaby is full."""
    folder = tmp_path / "directory"
    shutil.copytree(FOLDER, folder)
    (folder / "capacity.yaml").write_text("full:\n  - hub: blaby\n    from: 2026-01-01\n")
    return folder


async def test_each_input_is_replayed_with_the_directory_of_its_time(engine: AsyncEngine, other_folder: Path) -> None:
    other = directories.load(other_folder)
    one, two = keys(2)
    await directory_versions.store_directory(engine, other_folder, other.version)
    await Router(engine, other).apply(a_record(received(Reference("LB-1"), a_referral()), key=one))
    await Router(engine).apply(a_record(received(Reference("LB-2"), a_referral()), key=two))
    async with engine.connect() as connection:
        reasons = (await connection.scalars(text('select reasons from router."case" order by person_key'))).all()

    assert reasons[0] != reasons[1]
    assert (await proof(engine)).is_equal


async def test_the_error_for_a_missing_directory_names_its_version(engine: AsyncEngine, other_folder: Path) -> None:
    other = directories.load(other_folder)
    await Router(engine, other).apply(a_record(received(GP, a_referral())))
    with pytest.raises(CannotReplay, match=other.version):
        await proof(engine)
    assert (await proof(engine, other_folder)).is_equal


async def test_files_that_have_changed_are_not_stored_under_the_old_version(
    engine: AsyncEngine, other_folder: Path
) -> None:
    with pytest.raises(directory_versions.DirectoryVersionMissing):
        await directory_versions.store_directory(engine, other_folder, DIRECTORY.version)


async def test_a_postcode_whose_district_changed_is_replayed_with_its_former_district(engine: AsyncEngine) -> None:
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


async def test_inputs_that_arrive_during_a_replay_are_replayed(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
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


async def test_a_replay_never_splits_a_batch_at_a_concurrent_one(engine: AsyncEngine) -> None:
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
        found = [len(group.inputs) async for group in replay_router.batches(await _ready(tx))]

    assert found == [15, 15]


async def _ready(tx: Any) -> Any:
    await tx.execute(text("create schema replay_router"))
    for table in ("input", "dead_letter"):
        await tx.execute(text(f"create table replay_router.{table} (like router.{table})"))
    return tx


async def test_an_input_that_the_replay_cannot_decide_is_a_difference(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await Router(engine).apply(a_record(received(GP, a_referral())))

    def failing(*_: Any) -> Any:
        raise KeyError

    monkeypatch.setattr(lifecycle, "apply", failing)
    found = await proof(engine)

    assert (found.is_equal, found.left_out) == (False, 0)
