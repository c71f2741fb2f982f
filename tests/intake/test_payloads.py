"""The public samples of NHS England and others, where they are present: each ends in the answer that SOURCES.md tells."""

import asyncio
import re
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.intake.running import InProcess, Reply, events, reference_of

PAYLOADS = Path(__file__).resolve().parents[3] / "shared" / "payloads"
SAMPLES = sorted(PAYLOADS.glob("bars*/*.json"))
FAILING, SYNTHETIC = b"3478526985", b"9990000018"

pytestmark = pytest.mark.skipif(not SAMPLES, reason="the public samples are not on this machine")


def sample(start: str) -> bytes:
    return next(path for path in SAMPLES if path.name.startswith(start)).read_bytes()


BARS_USE_CASE = re.compile(rb'usecases-categories-bars"(.*?)"code": "a[0-9]t[0-9]+"', re.DOTALL)


def for_housing(message: bytes) -> bytes:
    """Return a sample with a synthetic number and our use case in place of BaRS' own."""
    ours = BARS_USE_CASE.sub(rb'usecase"\1"code": "housing"', message.replace(FAILING, SYNTHETIC))
    return ours.replace(b"https://fhir.nhs.uk/CodeSystem/usecase", b"https://lightbulb.example.org/CodeSystem/usecase")


def issues(reply: Reply) -> set[tuple[str, str]]:
    return {(issue["code"], issue["diagnostics"].partition(":")[0]) for issue in reply.json()["issue"]}


@pytest.mark.parametrize("name", ["REFREQ03", "SERVREQ01", "SERVREQ02"])
async def test_a_number_that_fails_its_check_is_rejected_with_its_path(intake: InProcess, name: str) -> None:
    reply = await intake.bars(for_housing(sample(name)).replace(SYNTHETIC, FAILING))
    assert reply.status == 400
    ((code, place),) = issues(reply)
    assert code == "value"
    assert place.endswith("identifier[0].value")
    assert FAILING not in reply.body


@pytest.mark.parametrize("name", ["REFREQ03", "SERVREQ01", "SERVREQ02"])
async def test_a_sample_for_another_service_is_refused_by_its_category(intake: InProcess, name: str) -> None:
    reply = await intake.bars(sample(name).replace(FAILING, SYNTHETIC))
    assert reply.status == 400
    assert ("not-supported", "Bundle.entry[1].resource.category[0]") in issues(reply)


async def test_the_fullest_referral_is_accepted_with_a_synthetic_number(intake: InProcess, engine: AsyncEngine) -> None:
    reply = await intake.bars(for_housing(sample("REFREQ03")))
    (event,) = await events(engine, reference_of(reply))
    (need,) = event["referral"]["needs"]
    assert need["service"] == "information-advice"
    assert "pharmacist" in need["text"]
    assert event["referral"]["registered_practice"]["ods"] == "G82080"


@pytest.mark.parametrize(("name", "why"), [("SERVREQ01", "cancelled-by-referrer"), ("SERVREQ02", "referred-in-error")])
async def test_a_cancellation_ends_the_referral_that_its_id_names(
    intake: InProcess, engine: AsyncEngine, name: str, why: str
) -> None:
    cancel = for_housing(sample(name))
    assert (await intake.bars(cancel)).status == 404
    # The referral of the samples is of 2023, and their cancels are of 2021: the sender's clock must go forward.
    referral = for_housing(sample("REFREQ03")).replace(b"2023-06-26", b"2021-06-26")
    first = await intake.bars(referral)
    assert (await intake.bars(cancel)).status == 200
    assert [event.get("reason") for event in await events(engine, reference_of(first))] == [None, why]


@pytest.mark.parametrize("name", ["process_message-POST-body", "REFRESP01"])
async def test_other_bars_events_are_not_supported(intake: InProcess, name: str) -> None:
    reply = await intake.bars(sample(name).replace(FAILING, SYNTHETIC))
    assert reply.status == 400
    assert issues(reply) == {("not-supported", "Bundle.entry[0].resource.eventCoding.code")}


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name[:30])
async def test_every_sample_gets_an_answer_that_is_not_a_server_error(intake: InProcess, path: Path) -> None:
    reply = await intake.bars(await asyncio.to_thread(path.read_bytes), x_request_id=str(uuid4()))
    assert reply.status in (200, 400, 404)
