"""Feedback that is kept to be fetched: a caller sees what was composed for it, and nothing else."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession
from sqlalchemy.ext.asyncio import AsyncEngine

from schemas.referral import Organisation
from services.notifier.channels.mailbox import recipients_of
from services.notifier.read_api import application
from services.runtime import health, process
from tests.notifier.builders import (
    GP_MAILBOX,
    a_life,
    a_referrer,
    by_first_contact_for_gp,
    by_gp,
    from_ward,
    the_partners,
    the_recipients,
)
from tests.notifier.running import a_notifier, rows

TOKENS = {
    GP_MAILBOX: "token-of-castle-view",
    "uhl": "token-of-uhl",
    "first-contact": "token-of-first-contact",
    "hub-melton": "hub",
}


class Caller:
    """Fetches as a partner."""

    def __init__(self, session: ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def get(self, reference: str, partner: str | None, **headers: str) -> tuple[int, Any]:
        if partner:
            headers["Authorization"] = f"Bearer {TOKENS.get(partner, partner)}"
        async with self._session.get(f"{self._url}/referrals/{reference}/feedback", headers=headers) as answer:
            return answer.status, await answer.json()


@pytest.fixture
async def caller(engine: AsyncEngine) -> AsyncIterator[Caller]:
    listening = process.a_socket("127.0.0.1", 0)
    pages = application(engine, the_partners(tokens=TOKENS), health.routes(engine, "notifier"))
    server = process.server(pages)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    async with ClientSession() as session:
        yield Caller(session, f"http://127.0.0.1:{listening.getsockname()[1]}")
    server.should_exit = True
    await task


@pytest.fixture
async def lives(engine: AsyncEngine) -> tuple[str, str, str]:
    """References of a referral by a practice, by a ward, and by a practice through First Contact."""
    own, ward = by_gp(GP_MAILBOX, reference="LB-OWN"), from_ward(reference="LB-WARD")
    through = by_first_contact_for_gp(GP_MAILBOX, reference="LB-THROUGH")
    async with a_notifier(engine, the_recipients(), delivering=False) as notifier:
        for concern in (own, ward, through):
            await notifier.receive(*a_life(concern, concern.reference))
    return own.reference, ward.reference, through.reference


async def test_a_partner_fetches_its_feedback_in_order(caller: Caller, lives: tuple[str, str, str]) -> None:
    status, body = await caller.get("LB-OWN", GP_MAILBOX)
    assert status == 200
    assert [one["feedback_type"] for one in body] == ["home-hub", "completed"]
    assert body[1]["completed_actions"] == [
        {
            "service": {"code": "minor-adaptations", "text": "Minor adaptations and equipment"},
            "action": "grab rails fitted",
            "provider": "Charnwood Borough Council",
            "date": "2026-11-03",
        }
    ]
    assert body[0]["text"]
    assert set(body[0]["steps"]) == {"composed", "kept", "collected"}


async def test_fetched_feedback_is_recorded_once_as_collected(
    caller: Caller, lives: tuple[str, str, str], engine: AsyncEngine
) -> None:
    query = "select collected_at as at from notifier.feedback where reference = 'LB-OWN'"
    assert [row.at for row in await rows(engine, query)] == [None, None]
    await caller.get("LB-OWN", GP_MAILBOX)
    first = [row.at for row in await rows(engine, query)]
    await caller.get("LB-OWN", GP_MAILBOX)
    assert None not in first
    assert [row.at for row in await rows(engine, query)] == first


async def test_referrer_and_sender_each_fetch_only_their_own_feedback(
    caller: Caller, lives: tuple[str, str, str]
) -> None:
    _, to_gp = await caller.get("LB-THROUGH", GP_MAILBOX)
    _, to_first_contact = await caller.get("LB-THROUGH", "first-contact")
    assert [one["feedback_type"] for one in to_gp] == ["received", "home-hub", "completed"]
    assert [one["feedback_type"] for one in to_first_contact] == ["home-hub", "completed"]
    assert "grab rails" not in str(to_first_contact)


async def test_the_response_to_another_partners_reference_is_the_same_as_to_an_unknown_one(
    caller: Caller, lives: tuple[str, str, str]
) -> None:
    unknown = await caller.get("LB-NO-SUCH", GP_MAILBOX)
    assert unknown[0] == 404
    assert await caller.get("LB-WARD", GP_MAILBOX) == unknown
    assert await caller.get("LB-OWN", "uhl") == unknown
    assert await caller.get("LB-OWN", "hub-melton") == unknown
    assert await caller.get("%00", GP_MAILBOX) == unknown
    assert await caller.get("LB-OWN'--", GP_MAILBOX) == unknown


@pytest.mark.parametrize("header", [None, "Basic x", "Bearer", "Bearer wrong", "bearer  "])
async def test_a_request_without_a_valid_token_is_refused(
    caller: Caller, lives: tuple[str, str, str], header: str | None
) -> None:
    status, body = await caller.get("LB-OWN", None, **({"Authorization": header} if header else {}))
    assert status == 401
    assert "LB-OWN" not in str(body)


async def test_a_new_partner_can_fetch_feedback_that_was_stored_before_it_became_one(
    caller: Caller, engine: AsyncEngine
) -> None:
    outside = by_first_contact_for_gp(
        reference="LB-OUTSIDE", referred_by=a_referrer(ods="Y00001"), registered_practice=Organisation(ods="Y00002")
    )
    async with a_notifier(engine, the_recipients(), delivering=False) as notifier:
        await notifier.receive(*a_life(outside, "outside"))
    kept = await rows(engine, "select distinct recipient, channel from notifier.feedback where recipient like 'ods:%'")
    assert [tuple(row) for row in kept] == [("ods:Y00001", "mailbox")]
    [partner] = [p for p in the_partners() if p.id == GP_MAILBOX]
    assert recipients_of(partner.model_copy(update={"ods": "Y00001"})) == [GP_MAILBOX, "ods:Y00001"]


async def test_health_endpoints_respond(caller: Caller) -> None:
    for path in ("live", "ready"):
        async with caller._session.get(f"{caller._url}/health/{path}") as answer:
            assert answer.status == 200
