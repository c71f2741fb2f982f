"""The public samples of NHS England, where they are present: each ends in the answer that its sender should get.

The samples have an NHS number that fails its check, and use cases and destinations of other services. A test that takes one as a
referral for Lightbulb replaces these and nothing else.
"""

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.builders.bars import SERVICE
from tests.intake.running import InProcess, Reply, events, reference_of

PAYLOADS = Path(__file__).resolve().parents[3] / "shared" / "payloads"
SAMPLES = sorted(PAYLOADS.glob("bars*/*.json"))
FAILING, SYNTHETIC = b"3478526985", b"9990000018"
USE_CASES = "https://fhir.nhs.uk/CodeSystem/usecases-categories-bars"
OURS = {"system": "https://lightbulb.example.org/CodeSystem/usecase", "code": "housing"}

pytestmark = pytest.mark.skipif(not SAMPLES, reason="the public samples are not on this machine")

REQUESTS = ["REFREQ03", "SERVREQ01", "SERVREQ02"]


def sample(start: str) -> bytes:
    return next(path for path in SAMPLES if path.name.startswith(start)).read_bytes().replace(FAILING, SYNTHETIC)


def for_us(start: str, **changes: Any) -> dict[str, Any]:
    """Return a sample with our use case and destination; `changes`: of the ServiceRequest, or reason and sent_at."""
    message: dict[str, Any] = json.loads(sample(start))
    header, request = message["entry"][0]["resource"], message["entry"][1]["resource"]
    header["destination"][0]["endpoint"] = SERVICE
    for category in request["category"]:
        category["coding"] = [OURS if one["system"] == USE_CASES else one for one in category["coding"]]
    if reason := changes.pop("reason", None):
        header["reason"]["coding"][0]["code"] = reason
    message["timestamp"] = changes.pop("sent_at", message["timestamp"])
    request.update(changes)
    return message


def issues(reply: Reply) -> set[tuple[str, str]]:
    return {(issue["code"], issue["diagnostics"].partition(":")[0]) for issue in reply.json()["issue"]}


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_number_that_fails_its_check_is_rejected_with_its_path(intake: InProcess, name: str) -> None:
    reply = await intake.bars(json.dumps(for_us(name)).encode().replace(SYNTHETIC, FAILING))
    assert reply.status == 400
    ((code, place),) = issues(reply)
    assert code == "value"
    assert place.endswith("identifier[0].value")
    assert FAILING not in reply.body


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_message_for_another_service_is_refused_at_its_use_case_and_destination(
    intake: InProcess, name: str
) -> None:
    reply = await intake.bars(sample(name))
    assert reply.status == 400
    assert issues(reply) >= {
        ("not-supported", "Bundle.entry[0].resource.destination"),
        ("not-supported", "Bundle.entry[1].resource.category[0]"),
    }


async def test_the_fullest_referral_is_accepted_with_our_use_case(intake: InProcess, engine: AsyncEngine) -> None:
    reply = await intake.bars(for_us("REFREQ03"))
    (event,) = await events(engine, reference_of(reply))
    (need,) = event["referral"]["needs"]
    assert need["service"] == "information-advice"
    assert "pharmacist" in need["text"]
    assert event["referral"]["registered_practice"]["ods"] == "G82080"


@pytest.mark.parametrize(("name", "why"), [("SERVREQ01", "cancelled-by-referrer"), ("SERVREQ02", "referred-in-error")])
async def test_a_cancellation_ends_the_referral_that_it_names(
    intake: InProcess, engine: AsyncEngine, name: str, why: str
) -> None:
    assert (await intake.bars(for_us(name))).status == 404
    first = await intake.bars(for_us("REFREQ03"))
    assert (await intake.bars(for_us(name, id=reference_of(first)))).status == 200
    assert [event.get("reason") for event in await events(engine, reference_of(first))] == [None, why]


async def test_the_samples_own_sequence_is_one_referral(intake: InProcess, engine: AsyncEngine) -> None:
    """The new message has no id, and the updates and the cancel have its fullUrl; the updates keep its Bundle.id."""
    first = await intake.bars(for_us("REFREQ03"))
    for hour, priority in ((12, "urgent"), (13, "routine")):
        update = for_us("REFREQ03", reason="update", priority=priority, sent_at=f"2023-06-26T{hour}:30:00Z")
        assert (await intake.bars(update)).status == 200
    assert (await intake.bars(for_us("SERVREQ01", sent_at="2023-06-26T14:30:00Z"))).status == 200
    kinds = [event["ce_type"].split(".")[-2] for event in await events(engine, reference_of(first))]
    assert kinds == ["received", "updated", "updated", "cancelled"]


@pytest.mark.parametrize("name", ["process_message-POST-body", "REFRESP01"])
async def test_other_bars_events_are_not_supported(intake: InProcess, name: str) -> None:
    reply = await intake.bars(sample(name))
    assert reply.status == 400
    assert issues(reply) == {("not-supported", "Bundle.entry[0].resource.eventCoding.code")}


@pytest.mark.parametrize("name", ["CONS01", "FLA06", "Task-", "400Bad", "409Conf", "service_request-id"])
async def test_a_resource_outside_a_message_is_refused(intake: InProcess, name: str) -> None:
    reply = await intake.bars(sample(name))
    assert reply.status == 400
    assert issues(reply) == {("invalid", "Bundle")}


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name[:30])
async def test_every_sample_as_published_is_refused_by_place(intake: InProcess, path: Path) -> None:
    reply = await intake.bars(await asyncio.to_thread(path.read_bytes), x_request_id=str(uuid4()))
    assert reply.status == 400
    assert all(place.startswith("Bundle") for _, place in issues(reply))
