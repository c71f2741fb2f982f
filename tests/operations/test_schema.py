"""`migrate` makes exactly the tables, constraints, indexes and rights that stand in schema.txt, and changes nothing when repeated.

After a change of the migrations, with LIGHTBULB_DATABASE at an empty database: python -m tests.operations.test_schema
Then review the file.
"""

import asyncio
import re
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import make_url, text

from infra.database import roles
from infra.database.migrations import migrate
from services.runtime import database
from services.runtime.database import SERVICE_ROLES
from services.runtime.settings import from_environment
from tests.conftest import execute

FILE = Path(__file__).with_name("schema.txt")

COLUMNS = """
    select format('%s.%s.%s %s%s%s%s', nspname, relname, attname, format_type(atttypid, atttypmod),
        case when attnotnull then ' not null' end, case attidentity when 'a' then ' generated always as identity' end,
        case attgenerated when 's' then ' generated ' else ' default ' end || pg_get_expr(adbin, adrelid))
    from pg_class join pg_namespace on pg_namespace.oid = relnamespace join pg_attribute on attrelid = pg_class.oid
    left join pg_attrdef on adrelid = pg_class.oid and adnum = attnum
    where relkind <> 'i' and relkind <> 'S' and attnum > 0"""
CONSTRAINTS = """
    select format('%s.%s constraint %s: %s', nspname, relname, conname, pg_get_constraintdef(pg_constraint.oid))
    from pg_constraint join pg_class on pg_class.oid = conrelid join pg_namespace on pg_namespace.oid = relnamespace
    where contype <> 'n'"""
INDEXES = """
    select indexdef from pg_indexes join pg_namespace on nspname = schemaname where indexname not in (select conname from pg_constraint)"""
RIGHTS = """
    select format('%s.%s owned by %s: %s %s', nspname, relname, case when relowner = nspowner then 'its schema''s owner'
        else relowner::regrole::text end, relacl, reloptions)
    from pg_class join pg_namespace on pg_namespace.oid = relnamespace
    where (relacl is not null or reloptions is not null or relowner <> nspowner)"""
OTHERS = """
    select format('schema %s %s', nspname, nspacl) from pg_namespace where true"""

OURS = " and nspname !~ '^pg_' and nspname not in ('information_schema', 'public')"


async def described(url: str) -> str:
    """One line for each thing that there is outside PostgreSQL's own schemas."""
    engine = database.connect(url, pool=1)
    try:
        async with engine.begin() as tx:
            queries = (COLUMNS, CONSTRAINTS, INDEXES, RIGHTS, OTHERS)
            lines = [str(line) for query in queries for line in await _lines(tx, query + OURS)]
    finally:
        await engine.dispose()
    return "".join(f"{line}\n" for line in sorted(lines))


async def _lines(tx: database.Transaction, query: str) -> list[str]:
    return list((await tx.exec_driver_sql(query)).scalars())


async def test_an_empty_database_gets_exactly_the_described_schema(new_database: Callable[[], str]) -> None:
    url = new_database()
    await asyncio.to_thread(migrate, url)
    assert (await described(url)).splitlines() == FILE.read_text().splitlines()


async def test_migrating_again_changes_nothing(new_database: Callable[[], str]) -> None:
    url = new_database()
    await asyncio.to_thread(migrate, url)
    before = await described(url)
    await asyncio.to_thread(migrate, url)
    assert await described(url) == before


async def test_each_service_has_a_login_role_with_the_rules_of_the_planner(new_database: Callable[[], str]) -> None:
    url = new_database()
    await asyncio.to_thread(migrate, url)
    await roles.set_passwords(url)
    for service in SERVICE_ROLES:
        engine = database.connect(roles.url_of(url, service), pool=1)
        async with engine.connect() as tx:
            shown = {name: await tx.scalar(text(f"show {name}")) for name in roles.RULES}
            assert await tx.scalar(text(f"select count(*) from {service}.packet")) == 0
        await engine.dispose()
        assert shown == roles.RULES


async def test_a_role_that_may_not_create_roles_is_told_the_statements_for_a_superuser(
    new_database: Callable[[], str],
) -> None:
    url, limited = new_database(), f"limited_{uuid4().hex}"
    await asyncio.to_thread(migrate, url)
    name = make_url(url).database
    execute(url, f"create role {limited} login password 'limited'; drop schema intake, router, notifier cascade")
    execute(
        url,
        f"drop table alembic_version; grant all on database {name} to {limited}; grant all on schema public to {limited}",
    )
    own = make_url(url).set(username=limited, password="limited").render_as_string(hide_password=False)
    try:
        with pytest.raises(roles.RolesMissing) as refused:
            await asyncio.to_thread(migrate, own)
        for statement in re.findall(r"^  (.+);$", str(refused.value), re.M):
            execute(url, statement)
        await asyncio.to_thread(migrate, own)
    finally:
        execute(url, f"drop owned by {limited} cascade; drop role {limited}")
    assert f"grant {limited} to lightbulb_router" in str(refused.value)


if __name__ == "__main__":
    address = from_environment("database")
    assert address is not None
    migrate(address)
    FILE.write_text(asyncio.run(described(address)))
    sys.stdout.write(f"wrote {FILE}\n")
