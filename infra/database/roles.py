"""A login role for each service, and the planner's rules of these roles.

The rules make plans that do not depend on statistics: a plan that is made while a table is empty is kept, and must still be right when
the table has grown. They are set on the roles, not in sessions, so that a database administrator can see and change them.
"""

from collections.abc import AsyncIterator

from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from services.runtime import database
from services.runtime.database import SERVICE_ROLES

RULES = {
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
    # nested loops of index scans only
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_memoize": "off",
    "enable_material": "off",
    "max_parallel_workers_per_gather": "0",
    # a plan costs what it reads in rows: of an empty table, too, all rows cost more than a few searches
    "seq_page_cost": "0",
    "random_page_cost": "0",
    "cpu_tuple_cost": "1",
    "cpu_index_tuple_cost": "1",
    "cpu_operator_cost": "0",
}
"""Settings of each role. Statements of the services read a few rows by an index, in a few nested loops."""


class RolesMissing(Exception):
    """The migrating role may not make the roles of the services. The message gives the statements that a superuser runs."""


async def ensure(connection: AsyncConnection) -> None:
    """Create the roles of the services as members of the current role, and set their rules; change nothing that is there.

    They have no password: the installation gives them one. Raises RolesMissing.
    """
    for attempt in (1, 2):
        missing = [statement async for statement in _missing(connection)]
        try:
            async with connection.begin_nested():
                for statement in missing:
                    await connection.execute(text(statement))
            return
        except DBAPIError as error:
            if database.sqlstate(error) == _INSUFFICIENT_PRIVILEGE:
                raise RolesMissing(_explanation(missing)) from None
            if attempt == 2:  # the first time, another database of the server may have made them concurrently
                raise


_INSUFFICIENT_PRIVILEGE = "42501"


async def _missing(connection: AsyncConnection) -> AsyncIterator[str]:
    rows = await connection.execute(_ROLES, {"names": list(SERVICE_ROLES.values())})
    found = {row.rolname: row for row in rows}
    owner = await connection.scalar(text("select quote_ident(current_user)"))
    for role in SERVICE_ROLES.values():
        if role not in found:
            yield f"create role {role} login"
        if role not in found or not found[role].is_member:
            yield f"grant {owner} to {role}"
        settings = found[role].rolconfig or () if role in found else ()
        for name, value in RULES.items():
            if f"{name}={value}" not in settings:
                yield f"alter role {role} set {name} = {value}"


_ROLES = text("""
    select rolname, rolconfig, pg_has_role(oid, current_user, 'usage') as is_member from pg_roles
    where rolname = any(cast(:names as text[]))""")


def _explanation(missing: list[str]) -> str:
    return (
        "The role that migrates may not create the roles of the services. A superuser runs these statements once; then repeat"
        " `lightbulb migrate`:\n" + "".join(f"  {statement};\n" for statement in missing)
    )


async def set_passwords(url: str) -> None:
    """Give the roles the password of `url`, which names a superuser: for an embedded server."""
    password = str(make_url(url).password)
    engine = database.connect(url, pool=1)
    try:
        async with engine.begin() as tx:
            quoted = await tx.scalar(text("select quote_literal(:password)"), {"password": password})
            for role in SERVICE_ROLES.values():
                await tx.execute(text(f"alter role {role} password {quoted}"))
    finally:
        await engine.dispose()


def url_of(url: str, service: str) -> str:
    """Return `url` with the role of this service as the user."""
    return make_url(url).set(username=SERVICE_ROLES[service]).render_as_string(hide_password=False)
