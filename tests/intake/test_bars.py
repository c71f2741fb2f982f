"""A practice's BaRS messages through the whole of intake, on a real database."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.operationoutcome import OperationOutcome
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.requests import Request

from services.intake import limits
from services.intake.http.headers import accepts, first_values
from tests.builders.bars import a_bars_message
from tests.builders.referrals import an_nhs_number
from tests.intake.running import InProcess, Reply, events, published, reference_of, rows, stored_messages

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def issue(reply: Reply) -> tuple[int, str, str]:
    """Status, issue code and BaRS error code of a refusal."""
    first = reply.json()["issue"][0]
    return reply.status, first["code"], first["details"]["coding"][0]["code"]


async def test_a_new_referral_is_answered_with_its_reference_and_becomes_one_event(
    intake: InProcess, engine: AsyncEngine
) -> None:
    correlation = str(uuid4())
    reply = await intake.bars(a_bars_message(), x_request_id=str(uuid4()), x_correlation_id=correlation)
    assert reply.status == 200, reply.json()
    (event,) = await events(engine, reference_of(reply))
    assert event["ce_type"] == "uk.lightbulb.referral.received.v1"
    assert event["ce_correlationid"] == correlation
    assert event["version"] == 1
    assert event["topic"] == "referral.event"
    (kept,) = await rows(engine, "select verdict, response_status, reference from intake.message")
    assert (kept.verdict, kept.response_status, kept.reference) == ("received", 200, event["reference"])


def resources(reply: Reply, kind: str) -> list[dict[str, Any]]:
    """Return the resources of this type in a response message, which is valid FHIR."""
    Bundle.model_validate(reply.json())
    return [entry["resource"] for entry in reply.json()["entry"] if entry["resource"]["resourceType"] == kind]


async def test_the_answer_is_a_valid_response_message_whose_encounter_is_planned(intake: InProcess) -> None:
    message = a_bars_message()
    request_id = str(uuid4()).upper()
    reply = await intake.bars(message, x_request_id=request_id)
    (header,), (encounter,) = resources(reply, "MessageHeader"), resources(reply, "Encounter")
    assert header["eventCoding"]["code"] == "servicerequest-response"
    assert header["response"] == {"identifier": message["id"], "code": "ok"}
    assert encounter["status"] == "planned"
    assert reply.headers["x-request-id"] == request_id
    assert reply.headers["content-type"] == "application/fhir+json"


async def test_the_answer_goes_to_the_endpoint_that_the_message_came_from(intake: InProcess) -> None:
    message = a_bars_message()
    reply = await intake.bars(message)
    (header,) = resources(reply, "MessageHeader")
    assert header["destination"][0]["endpoint"] == message["entry"][0]["resource"]["source"]["endpoint"]
    assert header["source"]["endpoint"] == message["entry"][0]["resource"]["destination"][0]["endpoint"]
    names = {entry["fullUrl"]: entry["resource"].get("name") for entry in reply.json()["entry"]}
    assert names[header["sender"]["reference"]] == "Lightbulb"
    assert names[header["destination"][0]["receiver"]["reference"]] == "Alder Lane Surgery"


async def test_the_answer_holds_the_request_under_our_reference_with_the_identifiers_of_both(intake: InProcess) -> None:
    theirs = {"system": "https://fhir.nhs.uk/Id/UBRN", "value": "000049735000"}
    reply = await intake.bars(a_bars_message(request={"identifier": [theirs]}))
    (request,), (header,) = resources(reply, "ServiceRequest"), resources(reply, "MessageHeader")
    assert (request["id"], request["status"], request["meta"]["versionId"]) == (reference_of(reply), "active", "1")
    assert [one["value"] for one in request["identifier"]] == [reference_of(reply), theirs["value"]]
    (url,) = [entry["fullUrl"] for entry in reply.json()["entry"] if entry["resource"] == request]
    assert header["focus"] == [{"reference": url}]


async def test_the_answer_to_a_cancel_holds_a_revoked_request(intake: InProcess) -> None:
    await intake.bars(a_bars_message(referral_id="r-1"))
    reply = await intake.bars(a_bars_message(referral_id="r-1", reason="update", status="revoked"))
    (request,) = resources(reply, "ServiceRequest")
    assert (request["status"], request["meta"]["versionId"]) == ("revoked", "2")


async def test_the_resources_of_a_referral_keep_their_ids_and_those_of_the_message_do_not(intake: InProcess) -> None:
    one = await intake.bars(a_bars_message(referral_id="r-1"))
    two = await intake.bars(a_bars_message(referral_id="r-1", reason="update", family="Vance-Cole"))
    for kind, is_kept in {
        "Encounter": True,
        "Organization": True,
        "ServiceRequest": True,
        "MessageHeader": False,
    }.items():
        ids = [[resource["id"] for resource in resources(reply, kind)] for reply in (one, two)]
        assert (ids[0] == ids[1]) is is_kept
    assert one.json()["id"] != two.json()["id"]


async def test_what_was_not_read_is_listed_by_place_in_the_answer(intake: InProcess) -> None:
    observation = {
        "resourceType": "Observation",
        "id": "o-1",
        "status": "final",
        "code": {"text": "visit in pairs"},
    }
    message = a_bars_message(more=[observation], request={"patientInstruction": "ring twice"})
    reply = await intake.bars(message)
    (outcome,), (header,) = resources(reply, "OperationOutcome"), resources(reply, "MessageHeader")
    assert header["response"]["details"]["reference"] == f"urn:uuid:{outcome['id']}"
    assert {issue["severity"] for issue in outcome["issue"]} == {"information"}
    places = [place for issue in outcome["issue"] for place in issue["expression"]]
    assert "Bundle.entry[1].resource.patientInstruction" in places
    assert any(place.startswith(f"Bundle.entry[{len(message['entry']) - 1}]") for place in places)
    assert "ring twice" not in reply.body.decode()


async def test_our_encounter_comes_last_if_the_sender_has_one(intake: InProcess) -> None:
    message = json.loads((EXAMPLES / "mrs-v.json").read_text())
    own = next(e for e in message["entry"] if e["resource"]["resourceType"] == "Encounter")
    reply = await intake.bars(message)
    first, second = resources(reply, "Encounter")
    assert (first["id"], first["status"]) == (own["resource"]["id"], own["resource"]["status"])
    assert "subject" not in first
    assert second["status"] == "planned"
    assert second["identifier"][0]["value"] == reference_of(reply)
    assert reply.json()["entry"][-1]["resource"] == second
    assert own["fullUrl"] in [entry["fullUrl"] for entry in reply.json()["entry"]]


async def test_the_original_bytes_are_stored_unchanged(intake: InProcess, engine: AsyncEngine) -> None:
    body = json.dumps(a_bars_message(), indent=3).encode() + b"\n  "
    await intake.bars(body)
    (kept,) = await stored_messages(engine)
    assert kept.body == body


# ---- who may --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sender", [None, "not-a-token", "Basic abc"])
async def test_without_a_valid_credential_nothing_is_parsed_or_stored(
    intake: InProcess, engine: AsyncEngine, sender: str | None
) -> None:
    reply = await intake.bars(b"{ this is no JSON", sender=sender)
    assert issue(reply) == (401, "login", "REC_UNAUTHORIZED")
    assert await rows(engine, "select 1 from intake.message") == []


async def test_a_partner_without_this_format_is_forbidden_before_any_parser_runs(
    intake: InProcess, engine: AsyncEngine
) -> None:
    reply = await intake.bars(b"{ this is no JSON", sender="council-melton")
    assert issue(reply) == (403, "forbidden", "REC_FORBIDDEN")
    assert await rows(engine, "select 1 from intake.message") == []


async def test_a_practice_must_not_act_for_another(intake: InProcess) -> None:
    reply = await intake.bars(a_bars_message(ods="C82992"))
    assert issue(reply) == (403, "forbidden", "REC_FORBIDDEN")
    assert "C82992" not in reply.body.decode()


async def test_first_contact_may_act_for_a_practice_and_the_practice_is_the_referrer(
    intake: InProcess, engine: AsyncEngine
) -> None:
    reply = await intake.bars(a_bars_message(ods="C82992"), sender="first-contact")
    (event,) = await events(engine, reference_of(reply))
    assert event["referral"]["sent_by"]["partner"] == "first-contact"
    assert event["referral"]["referred_by"]["kind"] == "gp"
    assert event["referral"]["referred_by"]["organisation"]["ods"] == "C82992"


async def test_a_message_cannot_change_the_address_of_feedback(intake: InProcess, engine: AsyncEngine) -> None:
    elsewhere = "https://elsewhere.example.com/feedback"
    message = a_bars_message(doctor_telecom=[{"system": "url", "value": elsewhere}])
    message["entry"][0]["resource"]["source"]["endpoint"] = elsewhere
    message["entry"].append(
        {
            "fullUrl": f"urn:uuid:{uuid4()}",
            "resource": {
                "resourceType": "Endpoint",
                "id": "e",
                "status": "active",
                "connectionType": {"code": "hl7-fhir-rest"},
                "payloadType": [{"text": "any"}],
                "address": elsewhere,
            },
        }
    )
    reply = await intake.bars(message)
    (event,) = await events(engine, reference_of(reply))
    assert "elsewhere" not in json.dumps(event)


def target(system: str, value: str) -> str:
    """Return NHSD-Target-Identifier."""
    return base64.b64encode(json.dumps({"system": system, "value": value}).encode()).decode()


# ---- the exchange ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "application/fhir+xml"}, 415),
        ({"accept": "application/fhir+xml"}, 406),
        ({"x_request_id": "not a guid"}, 400),
        ({"x_correlation_id": "9990000018"}, 400),
        ({"nhsd_target_identifier": "not base64!"}, 400),
        ({"nhsd_end_user_organisation": base64.b64encode(b"[1]").decode()}, 400),
        ({"x_request_id": None}, 400),
        ({"x_correlation_id": None}, 400),
        ({"nhsd_target_identifier": target("https://fhir.nhs.uk/Id/dos-service-id", "111111111")}, 400),
        ({"accept": "application/fhir+json; version=9.0.0"}, 406),
        ({"accept": "application/fhir+json; q=0, text/html"}, 406),
        ({"content_type": "application/fhir+json; version=9.0.0"}, 415),
    ],
)
async def test_an_invalid_header_is_rejected_with_an_operation_outcome(
    intake: InProcess, headers: dict[str, str], status: int
) -> None:
    reply = await intake.bars(a_bars_message(), **headers)
    assert reply.status == status
    OperationOutcome.model_validate(reply.json())
    assert "9990000018" not in reply.body.decode() + str(reply.headers)


@pytest.mark.parametrize(
    "headers",
    [
        {"accept": "application/fhir+json; version=1.0.0"},
        {"content_type": "application/fhir+json; charset=utf-8"},
        {"accept": "application/fhir+json; version=1.2.1"},
        {"accept": ""},
        {"nhsd_target_identifier": target("http://fhir.nhs.uk/id/dos-service-id", "2000099999")},
        {"use_context": "a4t2|validation|servicerequest-response|new", "x_unheard_of": "anything"},
    ],
)
async def test_headers_of_real_senders_are_accepted(intake: InProcess, headers: dict[str, str]) -> None:
    assert (await intake.bars(a_bars_message(), **headers)).status == 200


async def test_what_is_missing_in_the_headers_is_named(intake: InProcess) -> None:
    reply = await intake.bars(a_bars_message(), x_request_id=None, x_correlation_id=None)
    assert issue(reply) == (400, "required", "REC_BAD_REQUEST")
    said = [one["diagnostics"] for one in reply.json()["issue"]]
    assert said == ["header x-request-id: is required: a GUID", "header x-correlation-id: is required: a GUID"]


@pytest.mark.parametrize(("version", "status"), [("1.0.0-beta", 200), ("1.1.0", 200), ("3", 200), ("9.0.0", 422)])
async def test_an_unknown_major_version_of_bars_is_refused(intake: InProcess, version: str, status: int) -> None:
    message = a_bars_message()
    message["meta"]["versionId"] = version
    reply = await intake.bars(message)
    assert reply.status == status
    if status == 200:
        assert reply.json()["meta"]["versionId"] == version
    else:
        assert reply.json()["issue"][0]["expression"] == ["Bundle.meta.versionId"]


async def test_two_lines_of_accept_are_read_as_one(intake: InProcess) -> None:
    scope = {"type": "http", "headers": [(b"accept", b"text/html"), (b"accept", b"application/fhir+json")]}
    assert accepts(first_values(Request(scope)), "application/fhir+json")


async def test_a_body_above_the_limit_is_rejected_without_reading_it_whole(
    installation: Any, engine: AsyncEngine
) -> None:
    async with InProcess(installation, engine, max_body_bytes=2_000) as intake:
        reply = await intake.bars(a_bars_message())
    assert reply.status == 413


async def test_a_body_that_never_ends_times_out(
    intake: InProcess, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.1)
    reply = await intake.bars(b"", _body_ends=False)
    assert issue(reply) == (408, "timeout", "REC_TIMEOUT")
    assert reply.headers["retry-after"]
    assert await rows(engine, "select 1 from intake.message") == []


async def test_an_incomplete_body_is_not_a_message(intake: InProcess, engine: AsyncEngine) -> None:
    reply = await intake.bars(b"", _body_breaks_off=True)
    assert reply.status == 400
    assert await rows(engine, "select 1 from intake.message") == []


# ---- duplicates and conflicts ---------------------------------------------------------------------------------------


async def test_the_same_message_again_is_a_duplicate_that_names_the_reference(
    intake: InProcess, engine: AsyncEngine
) -> None:
    message, request_id = a_bars_message(), str(uuid4())
    first = await intake.bars(message, x_request_id=request_id)
    again = await intake.bars(message, x_request_id=request_id)
    assert issue(again) == (409, "duplicate", "REC_CONFLICT")
    assert reference_of(again) == reference_of(first)
    assert len(await events(engine, reference_of(first))) == 1


@pytest.mark.parametrize("known", ["bundle id", "request id"])
@pytest.mark.parametrize("content", ["same", "other"])
async def test_either_known_id_makes_it_a_duplicate_or_a_conflict_by_content(
    intake: InProcess, engine: AsyncEngine, known: str, content: str
) -> None:
    bundle_id, request_id, seed = str(uuid4()), str(uuid4()), str(uuid4())
    await intake.bars(a_bars_message(seed=seed, bundle_id=bundle_id), x_request_id=request_id)
    again = a_bars_message(
        seed=seed,
        bundle_id=bundle_id if known == "bundle id" else str(uuid4()),
        family="Vance" if content == "same" else "Other",
    )
    reply = await intake.bars(again, x_request_id=request_id if known == "request id" else str(uuid4()))
    assert issue(reply) == (409, "duplicate" if content == "same" else "conflict", "REC_CONFLICT")
    assert len(await published(engine)) == 1


async def test_a_new_referral_under_a_known_id_with_other_content_is_a_conflict(intake: InProcess) -> None:
    await intake.bars(a_bars_message(referral_id="r-1"))
    reply = await intake.bars(a_bars_message(referral_id="r-1", family="Other"))
    assert issue(reply) == (409, "conflict", "REC_CONFLICT")


async def test_the_same_ids_from_another_partner_are_another_referral(intake: InProcess) -> None:
    bundle_id = str(uuid4())
    first = await intake.bars(a_bars_message(referral_id="r-1", bundle_id=bundle_id))
    other = a_bars_message(referral_id="r-1", bundle_id=bundle_id, ods="C82993")
    second = await intake.bars(other, sender="gp-castle-view")
    assert second.status == 200
    assert reference_of(second) != reference_of(first)


async def test_a_retry_of_a_rejected_message_is_decided_again(intake: InProcess) -> None:
    bundle_id, seed = str(uuid4()), str(uuid4())
    refused = await intake.bars(a_bars_message(seed=seed, bundle_id=bundle_id, nhs_number="9990000019"))
    assert refused.status == 400
    assert (await intake.bars(a_bars_message(seed=seed, bundle_id=bundle_id))).status == 200


# ---- update, cancel, stale ------------------------------------------------------------------------------------------


async def test_an_update_is_the_next_version_of_the_same_referral_and_person(
    intake: InProcess, engine: AsyncEngine
) -> None:
    first = await intake.bars(a_bars_message(referral_id="r-1", sent_at="2026-11-05T09:00:00Z"))
    update = a_bars_message(
        referral_id="r-1", reason="update", nhs_number=an_nhs_number(), sent_at="2026-11-05T10:00:00Z"
    )
    reply = await intake.bars(update)
    assert reference_of(reply) == reference_of(first)
    one, two = await events(engine, reference_of(first))
    assert (two["ce_type"], two["version"]) == ("uk.lightbulb.referral.updated.v1", 2)
    assert one["key"] == two["key"]


async def test_an_update_of_an_unknown_referral_is_new(intake: InProcess, engine: AsyncEngine) -> None:
    reply = await intake.bars(a_bars_message(reason="update"))
    (event,) = await events(engine, reference_of(reply))
    assert event["ce_type"] == "uk.lightbulb.referral.received.v1"


@pytest.mark.parametrize("reason", ["update", "delete"])
@pytest.mark.parametrize(
    ("status", "why"), [("revoked", "cancelled-by-referrer"), ("entered-in-error", "referred-in-error")]
)
async def test_the_status_makes_a_cancellation_with_any_reason_code(
    intake: InProcess, engine: AsyncEngine, reason: str, status: str, why: str
) -> None:
    first = await intake.bars(a_bars_message(referral_id="r-1"))
    reply = await intake.bars(a_bars_message(referral_id="r-1", reason=reason, status=status))
    assert reply.status == 200
    _, cancelled = await events(engine, reference_of(first))
    assert (cancelled["ce_type"], cancelled["reason"]) == ("uk.lightbulb.referral.cancelled.v1", why)


async def test_a_cancellation_of_an_unknown_referral_is_not_found_and_stores_no_referral(
    intake: InProcess, engine: AsyncEngine
) -> None:
    reply = await intake.bars(a_bars_message(status="revoked", reason="update"))
    assert issue(reply) == (404, "not-found", "REC_NOT_FOUND")
    assert await rows(engine, "select 1 from intake.referral") == []
    (kept,) = await rows(engine, "select verdict from intake.message")
    assert kept.verdict == "unknown"


async def test_a_message_older_than_the_stored_one_is_recorded_and_not_applied(
    intake: InProcess, engine: AsyncEngine
) -> None:
    first = await intake.bars(a_bars_message(referral_id="r-1", sent_at="2026-11-05T10:00:00Z"))
    older = a_bars_message(referral_id="r-1", reason="update", family="Older", sent_at="2026-11-05T09:00:00Z")
    reply = await intake.bars(older)
    assert reply.status == 200
    assert len(await events(engine, reference_of(first))) == 1
    assert [row.verdict for row in await rows(engine, "select verdict from intake.message order by received_at")] == [
        "received",
        "stale",
    ]


async def test_a_refused_consent_is_rejected_with_what_to_do_instead(intake: InProcess) -> None:
    reply = await intake.bars(a_bars_message(consents={"referral": "deny"}))
    assert issue(reply) == (422, "business-rule", "REC_UNPROCESSABLE_ENTITY")
    assert "do not refer" in reply.json()["issue"][0]["diagnostics"]


async def test_a_consent_withdrawn_by_an_update_cancels_the_referral(intake: InProcess, engine: AsyncEngine) -> None:
    first = await intake.bars(a_bars_message(referral_id="r-1"))
    await intake.bars(a_bars_message(referral_id="r-1", reason="update", consents={"referral": "deny"}))
    _, cancelled = await events(engine, reference_of(first))
    assert cancelled["reason"] == "consent-withdrawn"


async def test_an_unrecorded_consent_is_accepted(intake: InProcess, engine: AsyncEngine) -> None:
    reply = await intake.bars(a_bars_message(consents={}))
    (event,) = await events(engine, reference_of(reply))
    assert event["referral"]["consents"]["referral"] == {"answer": "not-recorded"}


# ---- attachments ----------------------------------------------------------------------------------------------------


def a_document(content: bytes) -> dict[str, Any]:
    data = base64.b64encode(content).decode()
    return {
        "resourceType": "DocumentReference",
        "id": str(uuid4()),
        "status": "current",
        "content": [{"attachment": {"contentType": "application/pdf", "data": data, "title": "Assessment"}}],
    }


async def test_an_attachment_stays_in_intake_and_a_hub_fetches_it_by_its_reference(
    intake: InProcess, engine: AsyncEngine
) -> None:
    reply = await intake.bars(a_bars_message(more=[a_document(b"%PDF any")]))
    (event,) = await events(engine, reference_of(reply))
    (named,) = event["referral"]["attachments"]
    assert named["size"] == 8
    fetched = await intake.get(f"/attachments/{named['reference']}", "hub-charnwood")
    assert (fetched.status, fetched.body) == (200, b"%PDF any")
    assert fetched.headers["content-disposition"] == "attachment"
    assert (await intake.get(f"/attachments/{named['reference']}", "gp-alder-lane")).status == 403
    assert (await intake.get(f"/attachments/{named['reference']}")).status == 401
    assert (await intake.get(f"/attachments/{'0' * 32}", "hub-charnwood")).status == 404


async def test_an_update_with_the_same_attachment_names_it_by_the_same_reference(
    intake: InProcess, engine: AsyncEngine
) -> None:
    first = await intake.bars(a_bars_message(referral_id="r-1", more=[a_document(b"one")]))
    changed = a_bars_message(referral_id="r-1", reason="update", more=[a_document(b"one"), a_document(b"two")])
    await intake.bars(changed)
    one, two = (event["referral"]["attachments"] for event in await events(engine, reference_of(first)))
    assert one[0] == two[0]
    assert len(await rows(engine, "select 1 from intake.attachment")) == 2


# ---- together -------------------------------------------------------------------------------------------------------


async def test_thirty_good_and_one_bad_at_once_share_transactions_and_only_the_bad_one_is_rejected(
    intake: InProcess, engine: AsyncEngine
) -> None:
    good = [intake.bars(a_bars_message()) for _ in range(30)]
    bad = intake.bars(a_bars_message(nhs_number="9990000019"))
    replies = await asyncio.gather(*good[:15], bad, *good[15:])
    assert [reply.status for reply in replies] == [*[200] * 15, 400, *[200] * 15]
    transactions = await rows(engine, "select distinct xmin::text from intake.message")
    assert len(transactions) < 5


@pytest.mark.own_database
async def test_one_message_whose_data_break_the_shared_commit_is_rejected_alone(
    intake: InProcess, engine: AsyncEngine
) -> None:
    """The database is made to refuse one id, as it might a value that nobody thought of."""
    async with engine.begin() as tx:
        await tx.exec_driver_sql(
            "alter table intake.message_key add check (position('Culprit' in identifier_name) = 0)"
        )
    messages = [a_bars_message() for _ in range(30)] + [
        a_bars_message(request={"identifier": [{"system": "https://alder.example/ids", "value": "Culprit"}]})
    ]
    replies = await asyncio.gather(*(intake.bars(message) for message in messages))
    assert [reply.status for reply in replies] == [*[200] * 30, 422]
    assert issue(replies[-1]) == (422, "processing", "REC_UNPROCESSABLE_ENTITY")
    assert "Culprit" not in replies[-1].body.decode()
    (kept,) = await rows(engine, "select response_status from intake.message where verdict = 'refused'")
    assert kept.response_status == 422


async def test_versions_have_no_gap_when_updates_arrive_concurrently(intake: InProcess, engine: AsyncEngine) -> None:
    updates = [a_bars_message(referral_id="r-1", reason="update", family=f"Name{number}") for number in range(20)]
    replies = await asyncio.gather(*(intake.bars(message) for message in updates))
    found = await events(engine, reference_of(replies[0]))
    assert [event["version"] for event in found] == list(range(1, 21))
    assert len({event["key"] for event in found}) == 1
