"""What intake holds of a referral is rebuilt from its events alone: the next message of each format finds it as it was."""

import base64
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.operations.reconcile import intake as rebuilding
from infra.operations.reconcile.kafka import KeptRecord
from services.messaging.cloudevents import KafkaRecord
from tests.builders.bars import a_bars_message
from tests.builders.csv import a_file
from tests.builders.forms import a_form
from tests.builders.hl7v2 import a_stay, an_adt
from tests.conftest import emptying
from tests.contract.translators.adapters import HL7V2
from tests.intake.council_client import upload
from tests.intake.running import InProcess, Installation, Reply, events, published, reference_of, rows

LETTER = {"title": "A letter", "media_type": "text/plain", "content": base64.b64encode(b"Dear colleague").decode()}

HELD = {
    "referrals": """
        select partner, referral_id, reference, person_key, version, first_intent, content_hash, subject, cancelled, first_sent_at, sent_at,
               last_at, fields, sender_reference from intake.referral order by reference""",
    "keys": "select * from intake.message_key order by partner, key",
    "stays": "select partner, key, reference from intake.visit_key order by 1, 2",
}


@pytest.fixture
async def intake(installation: Installation, engine: AsyncEngine) -> AsyncIterator[InProcess]:
    async with InProcess(installation, engine, translate=HL7V2) as running:
        yield running


async def held(engine: AsyncEngine) -> dict[str, list[Any]]:
    found = {name: list(map(tuple, await rows(engine, query))) for name, query in HELD.items()}
    return {**found, "events": sorted(one.message for one in await published(engine))}


async def on_kafka(engine: AsyncEngine) -> list[KeptRecord]:
    """The outbox as Kafka holds it."""
    return [
        KeptRecord(
            KafkaRecord(
                "referral.event", 0, offset, one.message.person_key.encode(), one.message.value, one.message.headers
            ),
            one.created_at.timestamp(),
        )
        for offset, one in enumerate(await published(engine))
    ]


async def lost(engine: AsyncEngine) -> None:
    async with engine.begin() as tx:
        await tx.execute(text(emptying("intake")))


async def hl7(intake: InProcess, message: bytes) -> Reply:
    return await intake.post("/hl7v2", message, "uhl", "application/hl7-v2", {})


async def test_referrals_of_every_format_are_rebuilt_and_their_next_messages_continue_them(
    intake: InProcess, engine: AsyncEngine
) -> None:
    first, again = a_bars_message(seed="one", bundle_id=str(uuid4())), str(uuid4())
    reference = reference_of(await intake.bars(first, x_request_id=again))
    await intake.bars(a_bars_message(seed="one", reason="update", family="Vance-Cole", sent_at="2026-11-05T10:00:00Z"))
    form = a_form()
    assert (await intake.form(form)).status == 202
    assert (await hl7(intake, a_stay())).status == 200
    await hl7(intake, an_adt("A03", fields={"PV1-45": "20261107"}))
    council = a_file("blaby")
    assert (await upload(intake, "blaby", council)).status == 200
    before, records = await held(engine), await on_kafka(engine)
    assert len(before["stays"]) > 0
    assert len(records) > 5

    await lost(engine)
    missing = await rebuilding.missing(engine, rebuilding.of_intake(records))
    assert missing == records
    for one in (missing[:4], missing[4:]):
        assert await rebuilding.rebuild(engine, one) == []
    assert await held(engine) == before
    assert await rebuilding.missing(engine, records) == []

    await intake.bars(first, x_request_id=again)  # repeats change nothing
    assert (await intake.form(form)).status in (200, 202)
    await upload(intake, "blaby", council)
    assert (await held(engine))["referrals"] == before["referrals"]
    await intake.bars(a_bars_message(seed="one", reason="update", family="Vance", sent_at="2026-11-05T11:00:00Z"))
    assert [event["version"] for event in await events(engine, reference)] == [1, 2, 3]
    await hl7(intake, an_adt("A08", fields={"PV1-45": "20261108"}))
    assert len(await rows(engine, "select reference from intake.referral where version > 1")) >= 2


async def test_a_referral_whose_documents_are_lost_is_named_and_its_repeat_brings_them_again(
    intake: InProcess, engine: AsyncEngine
) -> None:
    form = a_form(attachments=[LETTER])
    reference = (await intake.form(form)).json()["reference"]
    records = await on_kafka(engine)
    await lost(engine)
    assert await rebuilding.rebuild(engine, records) == [reference]
    assert (await intake.form(form)).json()["status"] == "updated"
    assert len(await rows(engine, "select reference from intake.attachment")) == 1
    assert [event["version"] for event in await events(engine, reference)] == [1, 2]
