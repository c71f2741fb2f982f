"""Passing faults are told from those that will never succeed, and one culprit never fails the others."""

from collections.abc import Sequence

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.runtime import database


async def failing(engine: AsyncEngine, statement: str) -> BaseException:
    with pytest.raises(Exception) as failed:  # noqa: PT011 - any kind: what it is called is what is tried
        async with engine.begin() as tx:
            await tx.execute(text(statement))
    return failed.value


@pytest.mark.parametrize(
    ("statement", "passes", "reason"),
    [
        ("select 1/0", False, "sqlstate 22012"),
        ("select 'CANARYSON'::int", False, "sqlstate 22P02"),
        ("select convert_from('\\x00', 'utf8')", False, "sqlstate 22021"),
        ("select pg_terminate_backend(pg_backend_pid())", True, "sqlstate 08003"),
    ],
)
async def test_transient_and_permanent_database_errors_are_distinguished(
    engine: AsyncEngine, statement: str, passes: bool, reason: str
) -> None:
    error = await failing(engine, statement)
    assert "CANARYSON" not in database.reason_class(error)
    assert database.is_transient(error) is passes
    assert database.reason_class(error) == reason


async def test_the_error_of_a_violated_constraint_names_it_without_values(engine: AsyncEngine) -> None:
    async with engine.begin() as tx:
        await tx.execute(text("create table tried.person (name text constraint only_once unique)"))
        await tx.execute(text("insert into tried.person values ('CANARYSON')"))
    error = await failing(engine, "insert into tried.person values ('CANARYSON')")
    assert database.reason_class(error) == "sqlstate 23505 only_once"


async def test_an_unavailable_database_is_a_transient_fault() -> None:
    engine = database.connect("postgresql+asyncpg://nobody:none@127.0.0.1:9/none")
    with pytest.raises(Exception) as failed:  # noqa: PT011 - what it is called is what is tried
        async with engine.begin():
            pass
    assert database.is_transient(failed.value)


@pytest.mark.parametrize("culprits", [set(), {0}, {6}, {2, 3}, set(range(7))])
async def test_only_the_failing_items_are_refused_and_order_is_kept(culprits: set[int]) -> None:
    done: list[int] = []
    refused: list[int] = []

    async def act(records: Sequence[int]) -> None:
        if culprits & set(records):
            raise ValueError
        done.extend(records)

    async def refuse(record: int, reason: str) -> None:
        assert reason == "ValueError"
        refused.append(record)

    await database.apply_with_bisection(range(7), act, refuse)
    assert done == [number for number in range(7) if number not in culprits]
    assert refused == sorted(culprits)


async def test_a_transient_fault_refuses_no_item() -> None:
    async def act(records: Sequence[int]) -> None:
        raise ConnectionError

    async def refuse(record: int, reason: str) -> None:
        raise AssertionError

    with pytest.raises(ConnectionError):
        await database.apply_with_bisection([1, 2], act, refuse)
