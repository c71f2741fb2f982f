"""Only what data can cause is held against a record, by a session that can write; one failing item does not fail the others."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from services.runtime import database
from tests.faulty_database import away_for_a_moment, make_sessions_read_only

Work = Callable[[database.Transaction], Awaitable[None]]


async def failed(engine: AsyncEngine, act: Work) -> BaseException:
    with pytest.raises(Exception) as raised:  # noqa: PT011 - any kind: what it is called is what is tried
        async with database.transaction(engine, "tried") as tx:
            await act(tx)
    return raised.value


async def failing(engine: AsyncEngine, statement: str) -> BaseException:
    async def executing(tx: database.Transaction) -> None:
        await tx.execute(text(statement))

    return await failed(engine, executing)


HELD = {"21", "22", "23", "54"}
WAITED_FOR = (
    "03 08 09 0A 0B 0F 0L 0P 0Z 10 20 24 25 26 27 28 2B 2D 2F 34 38 39 3B 3D 3F 40 42 44 53 55 57 58 72 F0 HV P0 XX"
)
"""SQLSTATE classes of PostgreSQL's list. A new one belongs here unless data can cause it."""


def test_every_error_of_postgresql_is_waited_for_unless_data_can_cause_it() -> None:
    kinds = [kind for kind in vars(asyncpg).values() if isinstance(getattr(kind, "sqlstate", None), str)]
    states = {kind.sqlstate: kind for kind in kinds if kind.sqlstate[:2] not in ("00", "01", "02")}
    assert len(states) > 200
    assert {state[:2] for state in states} <= HELD | set(WAITED_FOR.split())
    for state, kind in states.items():
        assert database.is_transient(_of_statement(kind)) is (state[:2] not in HELD), state
        assert database.is_transient(kind("of a connection")), "no record is at fault if there is no connection"


def _of_statement(kind: Callable[[str], Any]) -> DBAPIError:
    return DBAPIError("select 1", {}, kind("CANARYSON"))


@pytest.mark.parametrize(
    ("statement", "passes", "reason"),
    [
        ("select 1/0", False, "sqlstate 22012"),
        ("select 'CANARYSON'::int", False, "sqlstate 22P02"),
        ("select convert_from('\\x00', 'utf8')", False, "sqlstate 22021"),
        ("select pg_terminate_backend(pg_backend_pid())", True, "sqlstate 08003"),
        ("select * from tried.renamed", True, "sqlstate 42P01"),
        ("do $$ begin raise sqlstate 'XX000'; end $$", True, "sqlstate XX000"),
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
    with pytest.raises(Exception) as raised:  # noqa: PT011 - what it is called is what is tried
        async with engine.begin():
            pass
    assert database.is_transient(raised.value)


async def test_a_refused_connection_is_a_transient_fault(engine: AsyncEngine) -> None:
    away = database.connect(engine.url.set(database="none").render_as_string(hide_password=False))
    error = await failing(away, "select 1")
    assert (database.is_transient(error), database.reason_class(error)) == (True, "sqlstate 3D000")


@pytest.mark.parametrize(("cast", "value"), [("integer", 2**40), ("text", "CANARYSON\udc00")])
async def test_a_value_that_cannot_be_sent_is_held_against_its_record(
    engine: AsyncEngine, cast: str, value: Any
) -> None:
    with pytest.raises(DBAPIError) as raised:
        async with database.transaction(engine, "tried") as tx:
            await tx.execute(text(f"select cast(:value as {cast})"), {"value": value})
    assert not database.is_transient(raised.value)
    assert "CANARYSON" not in database.reason_class(raised.value)


# ---- the session that failed ------------------------------------------------------------------------------------------


async def _bad_data(tx: database.Transaction) -> None:
    await tx.execute(text("select 1/0"))


async def _bad_decision(tx: database.Transaction) -> None:
    raise KeyError


@pytest.mark.parametrize(("fault", "reason"), [(_bad_data, "sqlstate 22012"), (_bad_decision, "KeyError")])
async def test_a_fault_that_meets_a_session_that_cannot_write_is_not_held_against_its_record(
    engine: AsyncEngine, fault: Work, reason: str
) -> None:
    """And all sessions that were opened before are replaced: the next ones write, so that the fault is the record's."""
    await make_sessions_read_only(engine)
    reasons = [database.reason_class(await failed(engine, fault)) for _ in range(4)]
    assert reasons == ["sqlstate 25006", reason, reason, reason]


async def test_a_table_that_is_away_for_a_moment_is_waited_for(engine: AsyncEngine) -> None:
    async with away_for_a_moment(engine, "tried", "packet"):
        error = await failing(engine, "select 1/0")
    assert (database.is_transient(error), database.reason_class(error)) == (True, "sqlstate 42P01")


async def test_a_session_without_its_prepared_statements_is_replaced(engine: AsyncEngine) -> None:
    """As a pooler in transaction mode makes them."""
    statement = "select shard from tried.packet"
    async with engine.begin() as tx:
        await tx.execute(text(statement))
        await tx.exec_driver_sql("deallocate all")
    error = await failing(engine, statement)
    assert (database.is_transient(error), database.reason_class(error)) == (True, "sqlstate 26000")
    async with database.transaction(engine, "tried") as tx:
        await tx.execute(text(statement))


@pytest.mark.parametrize("last", ["select 1", None])
async def test_what_follows_from_the_loss_of_a_session_is_not_held_against_a_record(
    engine: AsyncEngine, last: str | None
) -> None:
    async def losing_its_session(tx: database.Transaction) -> None:
        with pytest.raises(DBAPIError):
            await tx.execute(text("select pg_terminate_backend(pg_backend_pid())"))
        if last:
            await tx.execute(text(last))
        raise KeyError

    assert database.is_transient(await failed(engine, losing_its_session))


# ---- bisection --------------------------------------------------------------------------------------------------------


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
