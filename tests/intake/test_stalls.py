"""Commits that get no further end the process if a new one could write; a quiet time does not."""

import asyncio

import pytest
from sqlalchemy import text

from services.intake import group_commit, limits, store
from services.runtime import watchdog
from services.runtime.backlog import BacklogSnapshot
from services.runtime.watchdog import Stalled, Watchdog
from tests.builders.bars import a_bars_message
from tests.intake.running import InProcess

WELL = BacklogSnapshot(database=True, kafka=True)


@pytest.fixture(autouse=True)
def this_process_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "force_exit", lambda seconds: None)
    monkeypatch.setattr(limits, "COMMIT_SECONDS", 0.1)


def watching(intake: InProcess) -> Watchdog:
    dog = Watchdog(None, [intake.batching.loop()], seconds=60)  # type: ignore[arg-type]
    dog.check(WELL, 0)
    return dog


async def never(*_: object) -> None:
    await asyncio.Event().wait()


async def test_repeated_commits_without_a_result_are_said_by_readiness_and_end_the_process(
    intake: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "record", never)
    assert (await intake.get("/health/ready")).status == 200
    for _ in range(group_commit.FAILING):
        assert (await intake.bars(a_bars_message())).status == 503
    assert (await intake.get("/health/ready")).json()["unavailable"] == ["commits: the latest ones failed"]
    dog = watching(intake)
    with pytest.raises(Stalled, match="committer"):
        dog.check(WELL, 60)


async def test_a_few_failures_long_ago_do_not_end_the_process(
    intake: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "record", never)
    monkeypatch.setattr(group_commit, "RECENTLY", 0.0)
    for _ in range(group_commit.FAILING):
        assert (await intake.bars(a_bars_message())).status == 503
    dog = watching(intake)
    dog.check(WELL, 600)


async def test_a_commit_that_never_ends_is_work_in_progress(intake: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "record", never)
    monkeypatch.setattr(limits, "COMMIT_SECONDS", 3600.0)
    sending = asyncio.create_task(intake.bars(a_bars_message()))
    while not intake.batching._in_flight:
        await asyncio.sleep(0.01)
    dog = watching(intake)
    with pytest.raises(Stalled, match="committer"):
        dog.check(WELL, 60)
    for task in (intake._task, sending):
        task.cancel()
    await asyncio.gather(intake._task, sending, return_exceptions=True)
    intake._task = asyncio.create_task(asyncio.sleep(0))


async def test_a_database_that_refuses_every_commit_ends_the_process_only_if_a_new_one_could_write(
    intake: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def disk_is_full(*_: object) -> None:
        async with intake.engine.begin() as tx:
            await tx.execute(text("do $$ begin raise exception 'full' using errcode = '53100'; end $$"))

    monkeypatch.setattr(store, "record", disk_is_full)
    monkeypatch.setattr(limits, "COMMIT_SECONDS", 10.0)
    dog, nobody_writes = watching(intake), BacklogSnapshot(kafka=True)
    for now in range(30, 300, 30):
        assert (await intake.bars(a_bars_message())).status == 503
        dog.check(nobody_writes, now)
    dog.check(WELL, 300)
    with pytest.raises(Stalled, match="committer"):
        dog.check(WELL, 360)
