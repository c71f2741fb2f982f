"""How long after a fault all feedback was delivered that was due at its end."""

import asyncio
import contextlib
import time

from tests.chaos.history import Injected
from tests.chaos.world import World

PATIENCE_SECONDS = 60.0

NOT_TAKEN_IN = """
    select person_key, id from router.case_event
    where not exists (select from notifier.input where person_key = case_event.person_key and event_id = case_event.id)"""

DUE = """
    select (select count(*) from unnest($1::text[], $2::text[]) as event (person_key, id) where not exists (
                select from notifier.input where person_key = event.person_key and event_id = event.id)) as not_taken_in,
           (select count(*) from notifier.feedback where state = 'waiting'
            and (feedback_id = any($3::uuid[]) or caused_by = any($2::text[]))) as waiting"""


async def note(world: World, fault: Injected) -> None:
    """Look until it is so; after a minute the drain will say what is wrong. A fault that held none up is noted with next to nothing."""
    assert fault.ended is not None
    events = await world.sql(NOT_TAKEN_IN)
    waiting = await world.sql("select feedback_id from notifier.feedback where state = 'waiting'")
    keys, ids = [row["person_key"] for row in events], [row["id"] for row in events]
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_SECONDS):
            while any((await world.sql(DUE, keys, ids, [row["feedback_id"] for row in waiting]))[0].values()):
                await asyncio.sleep(0.1)
            fault.told_after = time.monotonic() - fault.ended
