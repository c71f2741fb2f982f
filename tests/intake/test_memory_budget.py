"""Memory has bounds whoever sends: bodies and files in hand are counted, and nothing that is compressed is unpacked."""

import asyncio
import gzip

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from services.intake import limits
from services.intake.group_commit import Unavailable
from services.intake.memory_budget import MemoryBudget
from tests.builders.bars import a_bars_message, as_bytes
from tests.builders.csv import a_file
from tests.builders.forms import a_form
from tests.builders.hl7v2 import a_ref_i12
from tests.intake.running import InProcess, Reply, rows

LARGE = 10 * 1024 * 1024


def test_concurrent_bodies_share_a_memory_budget_and_release_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BODIES_BYTES", 100)
    room = MemoryBudget()
    with room.reserve_body() as first:
        first(60)
        with room.reserve_body() as second:
            second(40)
            with pytest.raises(Unavailable):
                second(1)
        assert room.bytes_left == 40
    assert room.bytes_left == 100


async def test_a_body_over_the_budget_gets_retry_after_and_is_accepted_later(
    intake: InProcess, engine: AsyncEngine
) -> None:
    body = as_bytes(a_bars_message())
    intake.intake.memory_budget.bytes_left = len(body) - 1
    reply = await intake.bars(body)
    assert (reply.status, reply.headers["retry-after"]) == (503, str(limits.RETRY_SECONDS))
    assert intake.intake.memory_budget.bytes_left == len(body) - 1
    intake.intake.memory_budget.bytes_left = len(body)
    assert (await intake.bars(body)).status == 200
    assert intake.intake.memory_budget.bytes_left == len(body)
    assert len(await rows(engine, "select 1 from intake.message")) == 1


async def test_concurrent_files_over_the_budget_get_retry_after(intake: InProcess) -> None:
    intake.intake.memory_budget.files_left = 1
    sent = {"content-type": "text/csv", "-body-ends": ""}
    path, partner = "/councils/blaby/referrals", intake.intake.councils["blaby"].partner
    first = asyncio.create_task(intake.call("POST", path, a_file("blaby"), partner, sent))
    while intake.intake.memory_budget.files_left:
        await asyncio.sleep(0.01)
    second = await intake.call("POST", path, a_file("blaby"), partner, {"content-type": "text/csv"})
    assert (second.status, second.headers["retry-after"]) == (503, str(limits.RETRY_SECONDS))
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert intake.intake.memory_budget.files_left == 1
    assert (await intake.call("POST", path, a_file("blaby"), partner, {"content-type": "text/csv"})).status == 200


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, identity", "unheard-of"])
async def test_a_compressed_body_is_rejected(intake: InProcess, engine: AsyncEngine, coding: str) -> None:
    bomb = gzip.compress(b"{" + b" " * LARGE)
    ways = [
        ("/fhir/$process-message", "gp-alder-lane", "application/fhir+json"),
        ("/forms/first-contact-plus", "first-contact", "application/json"),
        ("/hl7v2", "uhl", "application/hl7-v2"),
        ("/councils/blaby/referrals", intake.intake.councils["blaby"].partner, "text/csv"),
    ]
    for path, partner, media_type in ways:
        reply = await intake.call("POST", path, bomb, partner, {"content-type": media_type, "content-encoding": coding})
        assert (reply.status, reply.headers["accept-encoding"]) == (415, "identity"), path
    assert not await rows(engine, "select 1 from intake.message union all select 1 from intake.upload")


async def test_a_body_with_identity_encoding_is_accepted(intake: InProcess) -> None:
    async def send(path: str, body: bytes, partner: str, media_type: str) -> Reply:
        headers = {"content-type": media_type, "content-encoding": "Identity"}
        return await intake.call("POST", path, body, partner, headers)

    form = await send("/forms/first-contact-plus", as_bytes(a_form()), "first-contact", "application/json")
    assert form.status == 202
    assert (await send("/hl7v2", a_ref_i12(), "uhl", "application/hl7-v2")).status < 500
