"""What a sender reads of the FHIR endpoint: its own referrals, and what the server states of itself."""

import base64
import json
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.capabilitystatement import CapabilityStatement
from fhir.resources.R4B.codesystem import CodeSystem
from fhir.resources.R4B.operationoutcome import OperationOutcome
from fhir.resources.R4B.servicerequest import ServiceRequest

from schemas.case import EndReason
from services.intake import limits, store
from tests.builders.bars import SERVICE, a_bars_message
from tests.builders.hl7v2 import a_ref_i12
from tests.intake.running import InProcess, Reply, reference_of

UBRN = {"system": "https://fhir.nhs.uk/Id/UBRN", "value": "000049735000"}
GP = "gp-alder-lane"


async def read(intake: InProcess, path: str, sender: str | None = GP, **headers: str) -> Reply:
    """Read below /fhir; the query is part of the path."""
    return await intake.call("GET", f"/fhir/{path}", b"", sender, {k.replace("_", "-"): v for k, v in headers.items()})


# ---- own referrals --------------------------------------------------------------------------------------------------


async def test_a_sender_reads_its_own_request_by_our_reference(intake: InProcess) -> None:
    message = a_bars_message(referral_id="r-1", request={"identifier": [UBRN]})
    reference = reference_of(await intake.bars(message))
    reply = await read(intake, f"ServiceRequest/{reference}")
    request = reply.json()
    ServiceRequest.model_validate(request)
    sent = message["entry"][1]["resource"]
    assert (request["id"], request["status"], request["orderDetail"]) == (reference, "active", sent["orderDetail"])
    assert [one["value"] for one in request["identifier"]] == [reference, UBRN["value"]]
    assert (reply.headers["etag"], request["meta"]["versionId"]) == ('W/"1"', "1")


async def test_the_sender_reads_by_its_own_id_and_sees_the_last_version(intake: InProcess) -> None:
    message = a_bars_message(referral_id="r-1")
    own_id = message["entry"][1]["resource"]["id"]
    reference = reference_of(await intake.bars(message))
    await intake.bars(a_bars_message(referral_id="r-1", reason="update", needs={"home-safety": "rugs"}))
    reply = await read(intake, f"ServiceRequest/{own_id.upper()}")
    assert reply.json()["id"] == reference
    assert reply.json()["orderDetail"][0]["text"] == "rugs"
    assert reply.headers["etag"] == 'W/"2"'


@pytest.mark.parametrize(("status", "shown"), [("revoked", "revoked"), ("entered-in-error", "entered-in-error")])
async def test_a_cancelled_referral_is_shown_as_such(intake: InProcess, status: str, shown: str) -> None:
    reference = reference_of(await intake.bars(a_bars_message(referral_id="r-1")))
    await intake.bars(a_bars_message(referral_id="r-1", reason="update", status=status))
    assert (await read(intake, f"ServiceRequest/{reference}")).json()["status"] == shown


async def test_a_referral_that_ended_by_withdrawn_consent_is_revoked(intake: InProcess) -> None:
    reference = reference_of(await intake.bars(a_bars_message(referral_id="r-1")))
    await intake.bars(a_bars_message(referral_id="r-1", reason="update", consents={"referral": "deny"}))
    assert (await read(intake, f"ServiceRequest/{reference}")).json()["status"] == "revoked"


async def test_anothers_referral_and_an_unknown_one_are_answered_alike(intake: InProcess) -> None:
    reference = reference_of(await intake.bars(a_bars_message()))
    others = await read(intake, f"ServiceRequest/{reference}", "gp-castle-view")
    unknown = await read(intake, "ServiceRequest/LB-0000-0000-0000")
    assert (others.status, others.body) == (unknown.status, unknown.body)
    assert unknown.status == 404
    OperationOutcome.model_validate(unknown.json())


async def test_a_referral_in_another_format_is_no_service_request(intake: InProcess) -> None:
    reply = await intake.post("/hl7v2", a_ref_i12(), "uhl", "application/hl7-v2")
    reference = next(word for word in reply.body.decode().replace("|", " ").split() if word.startswith("LB-"))
    assert (await read(intake, f"ServiceRequest/{reference}", "uhl")).status == 404


async def test_an_intermediary_reads_the_ids_of_the_organisation_that_it_names(intake: InProcess) -> None:
    message = a_bars_message(referral_id="r-1", ods="C82992")
    own_id = message["entry"][1]["resource"]["id"]
    reference = reference_of(await intake.bars(message, sender="first-contact"))
    path = f"ServiceRequest/{own_id}"
    named = await read(intake, path, "first-contact", nhsd_end_user_organisation=organisation("C82992"))
    assert named.json()["id"] == reference
    assert (await read(intake, path, "first-contact")).status == 404
    other = await read(intake, path, "first-contact", nhsd_end_user_organisation=organisation("C82993"))
    assert other.status == 404


def organisation(ods: str) -> str:
    system = "https://fhir.nhs.uk/Id/ods-organization-code"
    content = {"resourceType": "Organization", "identifier": [{"system": system, "value": ods}]}
    return base64.b64encode(json.dumps(content).encode()).decode()


@pytest.mark.parametrize("found", [True, False])
async def test_a_referral_is_searched_by_an_identifier(intake: InProcess, found: bool) -> None:
    reference = reference_of(await intake.bars(a_bars_message(request={"identifier": [UBRN]})))
    value = UBRN["value"] if found else "000000000000"
    reply = await intake.search("/fhir/ServiceRequest", f"identifier={quote(UBRN['system'] + '|' + value)}", GP)
    bundle = Bundle.model_validate(reply.json())
    assert bundle.total == (1 if found else 0)
    assert [entry["resource"]["id"] for entry in reply.json().get("entry", [])] == ([reference] if found else [])


NOT_ONE_NAME = ("_id=a&_id=b", "_id=a,b", "identifier=049735000000", "identifier=a|b&identifier=c|d")


@pytest.mark.parametrize("query", ["", "patient:identifier=x|9990000018", "identifier=a|b&_count=1", *NOT_ONE_NAME])
async def test_other_searches_are_not_implemented(intake: InProcess, query: str) -> None:
    reply = await intake.search("/fhir/ServiceRequest", query, GP)
    assert (reply.status, reply.json()["issue"][0]["details"]["coding"][0]["code"]) == (501, "REC_NOT_IMPLEMENTED")


@pytest.mark.parametrize("query", ["_id=%00", "identifier=a%7C%00"])
async def test_a_name_that_no_referral_can_have_is_not_found(intake: InProcess, query: str) -> None:
    reply = await intake.search("/fhir/ServiceRequest", query, GP)
    assert (reply.status, reply.json()["total"]) == (200, 0)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "POST"])
async def test_a_referral_is_changed_by_messages_only(intake: InProcess, method: str) -> None:
    reply = await intake.call(method, "/fhir/ServiceRequest/x", b"{}", GP, {})
    assert reply.status == 501


# ---- access ---------------------------------------------------------------------------------------------------------

PATHS = ["ServiceRequest/x", "ServiceRequest", "MessageDefinition", "MessageDefinition/x", "CodeSystem", "CodeSystem/x"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("sender", "status"), [(None, 401), ("council-melton", 403)])
async def test_reads_need_the_credential_of_a_fhir_sender(
    intake: InProcess, path: str, sender: str | None, status: int
) -> None:
    reply = await read(intake, path, sender)
    assert reply.status == status
    OperationOutcome.model_validate(reply.json())


async def test_reads_are_within_the_rate_of_the_sender(intake: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BURST_SECONDS", 0.0)
    assert (await read(intake, "CodeSystem")).status == 429


async def test_a_failing_database_is_said_to_be_unavailable(intake: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "referral", None)
    assert (await read(intake, "ServiceRequest/x")).status == 503


@pytest.mark.parametrize(
    ("method", "path", "sender", "headers"),
    [
        ("GET", "metadata", None, {}),
        ("GET", "ServiceRequest/x", None, {}),
        ("GET", "ServiceRequest/x", GP, {}),
        ("GET", "Task/x", GP, {}),
        ("OPTIONS", "$process-message", GP, {}),
        ("POST", "$process-message", None, {}),
        ("POST", "$process-message", GP, {"content-type": "text/plain"}),
        ("POST", "$process-message", GP, {"content-type": "application/fhir+json", "accept": "text/html"}),
        ("POST", "$process-message", GP, {"content-type": "application/fhir+json"}),
    ],
)
async def test_every_answer_repeats_the_transaction_ids(
    intake: InProcess, method: str, path: str, sender: str | None, headers: dict[str, str]
) -> None:
    ids = {"x-request-id": str(uuid4()), "x-correlation-id": str(uuid4())}
    reply = await intake.call(method, f"/fhir/{path}", b"{}", sender, headers | ids)
    assert {name: reply.headers.get(name) for name in ids} == ids


# ---- definitions ----------------------------------------------------------------------------------------------------


async def test_metadata_declares_messages_reads_and_the_guide(intake: InProcess) -> None:
    reply = await read(intake, "metadata", None)
    CapabilityStatement.model_validate(reply.json())
    statement = reply.json()
    served = {one["type"]: [each["code"] for each in one["interaction"]] for one in statement["rest"][0]["resource"]}
    assert served["ServiceRequest"] == ["read", "search-type"]
    assert {"version", "software", "implementationGuide"} <= statement.keys()
    assert [one["mode"] for one in statement["messaging"][0]["supportedMessage"]] == ["receiver", "receiver"]


@pytest.mark.parametrize(
    ("context", "total"), [(None, 2), (SERVICE, 2), ("https://fhir.nhs.uk/Id/dos-service-id|111111111", 0)]
)
async def test_the_message_definitions_of_a_service_are_found_by_context(
    intake: InProcess, context: str | None, total: int
) -> None:
    reply = await intake.search("/fhir/MessageDefinition", f"context={quote(context)}" if context else "", GP)
    assert Bundle.model_validate(reply.json()).total == total


async def test_one_message_definition_is_read_by_its_id(intake: InProcess) -> None:
    name = "bars-message-servicerequest-request-referral"
    assert (await read(intake, f"MessageDefinition/{name}")).json()["url"].endswith(f"/{name}")
    assert (await read(intake, "MessageDefinition/other")).status == 404


async def test_each_code_system_is_read_by_its_id(intake: InProcess) -> None:
    found = (await read(intake, "CodeSystem")).json()
    Bundle.model_validate(found)
    ids = [entry["resource"]["id"] for entry in found["entry"]]
    assert {"service", "reason", "consent", "usecase", "end-reason"} <= set(ids)
    for name in ids:
        one: dict[str, Any] = (await read(intake, f"CodeSystem/{name}")).json()
        CodeSystem.model_validate(one)
        assert one["count"] == len(one["concept"])
    codes = [concept["code"] for concept in (await read(intake, "CodeSystem/end-reason")).json()["concept"]]
    assert codes == [str(reason) for reason in EndReason]
    assert (await read(intake, "CodeSystem/other")).status == 404


async def test_a_code_system_is_found_by_its_url(intake: InProcess) -> None:
    url = "https://lightbulb.example.org/CodeSystem/service"
    reply = await intake.search("/fhir/CodeSystem", f"url={quote(url)}", GP)
    assert [entry["resource"]["url"] for entry in reply.json()["entry"]] == [url]
