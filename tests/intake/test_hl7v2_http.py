"""POST /hl7v2: the same message, the same answer, with a status."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from services.runtime import database
from tests.builders.hl7v2 import a_ref_i12
from tests.intake.fake_hl7_engine import TRANSLATE, acknowledged, framed
from tests.intake.proxy import Wire
from tests.intake.running import InProcess, Installation, Reply, rows, stored_messages

MEDIA_TYPE = "application/hl7-v2"


@pytest.fixture
async def intake(installation: Installation, engine: AsyncEngine) -> AsyncIterator[InProcess]:
    async with InProcess(installation, engine, translate=TRANSLATE, max_body_bytes=20_000) as running:
        yield running


async def send(
    intake: InProcess, body: bytes, sender: str | None = "uhl", media_type: str = MEDIA_TYPE, **headers: str
) -> Reply:
    return await intake.post("/hl7v2", body, sender, media_type, headers)


def told(reply: Reply) -> tuple[str, str]:
    return acknowledged(reply.body.decode())


async def test_a_referral_is_answered_by_one_message_in_its_media_type(intake: InProcess, engine: AsyncEngine) -> None:
    for media_type in (MEDIA_TYPE, "application/hl7-v2+er7; charset=utf-8", "x-application/hl7-v2+er7"):
        message = a_ref_i12(id="42", accept="AL", application="AL")
        reply = await send(intake, message, media_type=media_type)
        assert (reply.status, reply.headers["content-type"]) == (200, media_type.partition(";")[0])
        assert told(reply)[0] == "AA"
        assert reply.body.count(b"MSH|") == reply.body.count(b"MSA|AA|42|") == 1
        assert b"\x0b" not in reply.body
        kept = (await stored_messages(engine))[-1]
        assert (kept.body, kept.reference) == (message, told(reply)[1])


async def test_a_frame_around_the_message_is_removed(intake: InProcess, engine: AsyncEngine) -> None:
    message = a_ref_i12()
    for body, verdict in ((framed(message), "received"), (message, "duplicate"), (framed(message)[:-1], "duplicate")):
        assert told(await send(intake, body))[0] == "AA"
        kept = (await stored_messages(engine))[-1]
        assert (kept.verdict, kept.body) == (verdict, message)


async def test_several_messages_in_one_body_are_rejected_together(intake: InProcess, engine: AsyncEngine) -> None:
    for body in (framed(a_ref_i12()) + framed(a_ref_i12()), a_ref_i12() + a_ref_i12()):
        reply = await send(intake, body)
        assert (reply.status, told(reply)[0]) == (400, "AE")
    assert {row.verdict for row in await rows(engine, "select verdict from intake.message")} == {"refused"}


async def test_the_status_follows_the_verdict(intake: InProcess) -> None:
    first = a_ref_i12(referral_id="r-1")
    cancel = {"trigger": "I14", "status": "R"}
    expected = [
        (first, 200, "AA"),
        (first, 200, "AA"),
        (a_ref_i12(referral_id="r-1", note="another story"), 200, "AA"),
        (a_ref_i12(referral_id="r-1", trigger="I13", made_at="20261105110000", note="more"), 200, "AA"),
        (a_ref_i12(referral_id="r-1", made_at="20261105120000", **cancel), 200, "AA"),
        (a_ref_i12(referral_id="r-1", trigger="I13", made_at="20261105130000"), 409, "AE"),
        (a_ref_i12(referral_id="nobody's", **cancel), 404, "AE"),
        (a_ref_i12(without="PID"), 400, "AE"),
        (a_ref_i12(accept="NE", application="NE", without="PID"), 400, "CE"),
        (a_ref_i12(trigger="A01"), 400, "AR"),
        (b"", 400, "AR"),
        (b"\xff\x00", 400, "AR"),
    ]
    for body, status, code in expected:
        reply = await send(intake, body)
        assert (reply.status, told(reply)[0]) == (status, code), body


async def test_http_errors_are_problem_details(intake: InProcess, engine: AsyncEngine) -> None:
    refused = [
        (await send(intake, a_ref_i12(), None), 401),
        (await send(intake, a_ref_i12(), "gp-alder-lane"), 403),
        (await send(intake, a_ref_i12(), "lpt", "text/plain"), 415),
        (await send(intake, a_ref_i12(), accept="image/png"), 406),
        (await send(intake, a_ref_i12(note="x" * 30_000)), 413),
    ]
    for reply, status in refused:
        assert (reply.status, reply.json()["status"]) == (status, status)
        assert reply.headers["content-type"] == "application/problem+json"
    assert await rows(engine, "select 1 from intake.message") == []


async def test_a_database_outage_is_503_without_an_acknowledgement(
    installation: Installation, database_url: str, engine: AsyncEngine
) -> None:
    async with Wire(database_url) as wire:
        through = database.connect(wire.url)
        async with InProcess(installation, through, translate=TRANSLATE) as intake:
            await wire.cut()
            reply = await send(intake, a_ref_i12())
        assert reply.status == 503
        assert reply.headers["retry-after"]
        assert b"MSA" not in reply.body
        await through.dispose()
    assert await rows(engine, "select 1 from intake.message") == []
