"""Feedback reaches a referrer's system in order, however often it must be tried."""

from sqlalchemy.ext.asyncio import AsyncEngine

from tests.notifier.builders import GP, a_life, by_gp, the_recipients
from tests.notifier.gp_system import GpSystem
from tests.notifier.running import a_notifier, rows, until_rows

ACCEPTED = "select * from notifier.feedback where state = 'accepted' order by ordinal"


async def test_an_assigned_case_is_told_to_the_gps_system(engine: AsyncEngine, gp: GpSystem) -> None:
    async with a_notifier(engine, the_recipients({GP: gp.url})) as notifier:
        await notifier.hears(*a_life(by_gp(), "life"))
        accepted = await until_rows(engine, ACCEPTED, 2)
    assert gp.told == ["home-hub", "completed"]
    assert [row.told for row in accepted] == gp.told
    assert set(accepted[0].steps) == {"composed", "first_attempt", "sent", "accepted"}
    assert [row.target for row in await rows(engine, "select target from notifier.outbox")] == ["feedback.event"] * 2
