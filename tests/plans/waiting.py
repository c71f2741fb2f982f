"""What is copied: the rows of one person for each of 100,000, and waiting rows of each kind."""

import asyncio
from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.router import stored_state
from services.router.decide.model import CaseTally, PersonRecord
from tests.plans.work import DEAD, FILLER, HOT, LONG, PARKED, REFUSING, SLOW, TEMPLATE
from tests.plans.world import Rows, copy, read

SCHEMAS = ("intake", "router", "notifier")

OF_PERSON = f"person_key = '{TEMPLATE}'"


def _first(table: str, **changed: str) -> Rows:
    return Rows(table, f"ctid = (select min(ctid) from {table})", changed)


NAMED = {
    "message": ("id",),
    "referral": ("reference",),
    "message_key": ("key", "id_name", "identifier_name", "message_name", "url_name"),
    "visit_key": ("key",),
}
"""Tables of intake with the columns that tell the rows of a partner apart."""

_PERSONS = (
    *(
        _first(f"intake.{table}", **{name: f"i || one.{name}" for name in names if name != "id"})
        for table, names in NAMED.items()
    ),
    *(_first(f"{schema}.packet", shard="i % 8", published_at="now()") for schema in SCHEMAS),
    *(
        Rows(f"router.{table}", OF_PERSON)
        for table in ("person_key", "person", '"case"', "referral", "input", "case_event")
    ),
    *(
        Rows(f"notifier.{table}", OF_PERSON, {"due_at": "null", "due_since": "null"})
        for table in ("input", "conversation", "feedback")
    ),
)
"""The rows of a person and of a referral, in each service."""


def _refusing(schema: str) -> tuple[Rows, Rows]:
    """Return what waits for a topic that refuses: packets that were published otherwise, and rows that hold their first messages."""
    copied = {"shard": "i % 8", "id": "-i"}
    return (
        _first(f"{schema}.packet", **copied, published_at="now()"),
        Rows(f"{schema}.packet_held", f"target = '{REFUSING}'", copied),
    )


DUE = "now() - interval '1 day' + i * interval '1 millisecond'"
PLACE = {"offset": "1000000 + i", "event_id": "'e' || i", "behind": "1000000 + i"}


ANOTHER = {
    "person_no": "case when i <= 2000 then 100 else 1000 end + i",
    "by_name": "md5('n' || i)",
    "by_verification": "null",
    "tracing_reasons": "array['does-not-match']",
}
"""Another person of the same number than all before."""


async def persons(owner: AsyncEngine) -> list[Rows]:
    """Return the rows to copy for each person."""
    return await _read(owner, _PERSONS)


async def kinds(owner: AsyncEngine) -> list[Rows]:
    """Return the kinds of waiting rows. Rows of one person, case, group or conversation keep its ids."""
    hot, dead, long, parked = [await _ids(owner, query) for query in (_HOT, _DEAD, _LONG, _PARKED)]
    rows = [
        *(rows for schema in SCHEMAS for rows in _refusing(schema)),
        # unpublished, as if Kafka were away
        *(_first(f"{schema}.packet", shard="i % 8", published_at="null") for schema in SCHEMAS),
        # due for one recipient, about different referrals; and accepted in one conversation
        Rows("notifier.conversation", f"recipient = '{SLOW}'", {"due_at": DUE, "due_since": DUE}),
        Rows("notifier.feedback", f"recipient = '{SLOW}'"),
        Rows("notifier.feedback", f"recipient = '{LONG}' and state = 'waiting'", {"ordinal": "i", "state": "'accepted'"}, long),
        # of one group
        *(
            Rows(f"{service}.dead_letter", f"person_key = '{PARKED}' and waiting", PLACE, parked)
            for service in ("router", "notifier")
        ),
        # of one person and case
        Rows("router.referral", f"person_key = '{HOT}'", kept=hot),
        Rows("router.input", f"person_key = '{HOT}'", {"id": "'input-' || i"}, hot),
        Rows("router.case_event", f"person_key = '{HOT}' and sequence = 1", {"sequence": "1000 + i"}, hot),
        Rows("router.referral", f"person_key = '{DEAD}'", {"overdue_on": "date '2026-11-05'", "overdue_held": "true"}, dead),
        # different persons of one number
        Rows("router.person", f"person_key = '{FILLER}'", ANOTHER | {"state": await _of_another(owner)}, frozenset({FILLER})),
        *(
            Rows(table, f"person_key = '{FILLER}'", ANOTHER, frozenset({FILLER}))
            for table in ('router."case"', "router.referral")
        ),
        Rows("intake.upload", "state = 'reported'", {"received_at": "now() - i * interval '1 minute'"}),
    ]  # fmt: skip
    return await _read(owner, rows)


async def _of_another(owner: AsyncEngine) -> str:
    """Return the state of the FILLER's person, in doubt, as an SQL constant."""
    async with owner.connect() as tx:
        query = text("select state from router.person where person_key = :key limit 1")
        state = stored_state.decode(PersonRecord, (await tx.execute(query, {"key": FILLER})).scalar_one())
    in_doubt = state.model_copy(update={"tracing_reasons": ("does-not-match",)})
    return f"'\\x{stored_state.encode(in_doubt).hex()}'::bytea"


async def _read(owner: AsyncEngine, rows: Sequence[Rows]) -> list[Rows]:
    async with owner.connect() as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        assert raw is not None
        return [await read(raw, one) for one in rows]


_HOT = f"select case_id from router.referral where person_key = '{HOT}' union select '{HOT}'"
_DEAD = f"select case_id from router.referral where person_key = '{DEAD}' union select '{DEAD}'"
_LONG = f"""
    select unnest(array[person_key, reference]) from notifier.feedback where recipient = '{LONG}' and state = 'waiting'"""
_PARKED = f"""
    select unnest(array[person_key, message_group]) from router.dead_letter where person_key = '{PARKED}'
    union select unnest(array[person_key, message_group]) from notifier.dead_letter where person_key = '{PARKED}'"""


async def _ids(owner: AsyncEngine, query: str) -> frozenset[str]:
    async with owner.connect() as tx:
        return frozenset((await tx.execute(text(query))).scalars())


async def settle(owner: AsyncEngine) -> None:
    """Make the rows that count others agree with the copies."""
    async with owner.begin() as tx:
        for statement in _SETTLED:
            await tx.execute(text(statement))
        await _settle_tally(tx)


async def _settle_tally(tx: AsyncConnection) -> None:
    of_hot = {"key": HOT}
    count = (await tx.execute(text(f"select {_OF_HOT}"))).scalar_one()
    stored = (await tx.execute(text('select tally from router."case" where person_key = :key'), of_hot)).scalar_one()
    tally = stored_state.decode(CaseTally, stored)
    ((category, _), *others) = tally.open
    settled = stored_state.encode(tally.model_copy(update={"open": ((category, count), *others)}))
    await tx.execute(
        text('update router."case" set tally = :tally where person_key = :key'), of_hot | {"tally": settled}
    )


_OF_HOT = f"(select count(*) from router.referral where person_key = '{HOT}' and category is not null)"
_OF_FILLER = f"(select max(person_no) from router.person where person_key = '{FILLER}')"
_SETTLED = (
    f"update router.person_key set last_sequence = greatest(last_sequence, 1000000) where person_key = '{HOT}'",
    f"update router.person set referrals = {_OF_HOT} where person_key = '{HOT}'",
    f"update router.person_key set persons = {_OF_FILLER} where person_key = '{FILLER}'",
)


async def grow(owner: AsyncEngine, rows: Sequence[Rows], first: int, last: int) -> None:
    """Insert copies number `first` to `last` of each row, two tables at a time; gather the statistics of every table."""
    left = list(rows)

    async def work() -> None:
        async with owner.connect() as connection:
            raw = (await connection.get_raw_connection()).driver_connection
            assert raw is not None
            while left:
                await copy(raw, left.pop(0), first, last)

    await asyncio.gather(work(), work())
    async with owner.connect() as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        assert raw is not None
        await raw.execute("vacuum analyze")
