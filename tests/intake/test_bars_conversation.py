"""Several BaRS messages about one referral: by which names it is found, what a repeat is, and what is older or about another person."""

import asyncio
import json
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.builders.referrals import an_nhs_number
from tests.intake.conversations import Message, fault, named, sent
from tests.intake.running import InProcess, Installation, Reply, events, reference_of, rows

ODS = "https://fhir.nhs.uk/Id/ods-organization-code"
UBRN = {"system": "https://fhir.nhs.uk/Id/UBRN", "value": "000049735000"}
OURS = "https://lightbulb.example.org/Id/referral-reference"
TIMES = [f"2026-11-05T{hour:02d}:00:00Z" for hour in range(24)]


async def kinds(engine: AsyncEngine, reply: Reply) -> list[str]:
    """Return what was published of the referral in an answer: received, updated, cancelled."""
    return [event["ce_type"].split(".")[-2] for event in await events(engine, reference_of(reply))]


# ---- names ----------------------------------------------------------------------------------------------------------


async def test_bars_own_sequence_keeps_the_bundle_id_and_is_one_referral(
    intake: InProcess, engine: AsyncEngine
) -> None:
    bundle, url = str(uuid4()), f"urn:uuid:{uuid4()}"
    first = await sent(intake, named(url=url, bundle=bundle, sent_at=TIMES[9]))
    for hour, family in ((10, "Vance-Cole"), (11, "Vance"), (12, "Vance-Cole")):
        update = named(id=str(uuid4()), url=url, bundle=bundle, reason="update", family=family, sent_at=TIMES[hour])
        assert (await sent(intake, update)).status == 200
    await sent(intake, named(url=url, bundle=bundle, reason="update", status="revoked", sent_at=TIMES[13]))
    assert await kinds(engine, first) == ["received", "updated", "updated", "updated", "cancelled"]


@pytest.mark.parametrize("name", ["id", "identifier", "bundle", "url"])
async def test_an_update_and_a_cancel_are_found_by_any_name_of_the_new_referral(
    intake: InProcess, engine: AsyncEngine, name: str
) -> None:
    value: Any = {"identifier": UBRN, "url": f"urn:uuid:{uuid4()}"}.get(name, str(uuid4()))
    first = await sent(intake, named(**{name: value}, sent_at=TIMES[9]))
    await sent(intake, named(**{name: value}, reason="update", family="Vance-Cole", sent_at=TIMES[10]))
    last = await sent(intake, named(**{name: value}, reason="delete", status="entered-in-error", sent_at=TIMES[11]))
    assert last.status == 200
    assert await kinds(engine, first) == ["received", "updated", "cancelled"]


@pytest.mark.parametrize("place", ["id", "identifier"])
async def test_a_referral_is_found_by_our_reference(intake: InProcess, engine: AsyncEngine, place: str) -> None:
    first = await sent(intake, named(sent_at=TIMES[9]))
    reference = reference_of(first)
    value: Any = reference if place == "id" else {"system": OURS, "value": reference}
    cancel = named(**{place: value}, reason="update", status="revoked", sent_at=TIMES[10])
    assert (await sent(intake, cancel)).status == 200
    assert await kinds(engine, first) == ["received", "cancelled"]


async def test_a_uuid_is_the_same_name_in_capitals(intake: InProcess, engine: AsyncEngine) -> None:
    request_id = str(uuid4())
    first = await sent(intake, named(id=request_id))
    await sent(intake, named(id=request_id.upper(), reason="update", status="revoked"))
    assert await kinds(engine, first) == ["received", "cancelled"]


@pytest.mark.parametrize("reason", ["new", "update"])
async def test_a_reference_that_was_never_given_finds_nothing_and_makes_no_referral(
    intake: InProcess, engine: AsyncEngine, reason: str
) -> None:
    assert fault(await sent(intake, named(id="LB-0000-0000-0000", reason=reason))) == (404, "not-found")
    assert await rows(engine, "select 1 from intake.referral") == []


async def test_our_reference_finds_nothing_for_another_partner(intake: InProcess, engine: AsyncEngine) -> None:
    first = await sent(intake, named())
    cancel = named(id=reference_of(first), reason="update", status="revoked", ods="C82993")
    assert fault(await sent(intake, cancel, "gp-castle-view")) == (404, "not-found")
    assert await kinds(engine, first) == ["received"]


async def test_of_two_names_of_two_referrals_the_better_one_wins(intake: InProcess, engine: AsyncEngine) -> None:
    one = await sent(intake, named(id="r-1", seed="one"))
    two = await sent(intake, named(id="r-2", seed="two", bundle=(bundle := str(uuid4()))))
    await sent(intake, named(id="r-1", bundle=bundle, reason="update", family="Vance-Cole"))
    assert (await kinds(engine, one), await kinds(engine, two)) == (["received", "updated"], ["received"])


async def test_the_same_ids_of_two_practices_are_two_referrals_of_one_partner(
    intake: InProcess, engine: AsyncEngine
) -> None:
    one = await sent(intake, named(id="10017", ods="C82991", family="Vance"), "first-contact")
    other_person = {"nhs_number": an_nhs_number(), "family": "Other"}
    two = await sent(intake, named(id="10017", ods="C82993", **other_person), "first-contact")
    assert reference_of(one) != reference_of(two)
    cancel = named(id="10017", ods="C82993", reason="update", status="revoked", **other_person)
    await sent(intake, cancel, "first-contact")
    assert (await kinds(engine, one), await kinds(engine, two)) == (["received"], ["received", "cancelled"])


async def test_messages_that_share_one_name_are_one_referral_though_two_processes_receive_them_at_once(
    installation: Installation, engine: AsyncEngine
) -> None:
    """Each has an id of its own, so that both processes begin with other rows, and meet at Bundle.id only."""
    bundle = str(uuid4())
    updates = [named(id=f"r-{number}", bundle=bundle, reason="update", family=f"Name{number}") for number in range(12)]
    async with InProcess(installation, engine) as one, InProcess(installation, engine) as other:
        replies = await asyncio.gather(*(sent((one, other)[at % 2], update) for at, update in enumerate(updates)))
    assert {reply.status for reply in replies} == {200}
    assert len({reference_of(reply) for reply in replies}) == 1
    assert [event["version"] for event in await events(engine, reference_of(replies[0]))] == list(range(1, 13))
    (held,) = await rows(engine, "select version from intake.referral")
    assert held.version == 12


# ---- the transient fullUrl ------------------------------------------------------------------------------------------

URL = "urn:uuid:236bb75d-90ef-461f-b71e-fde7f899802c"


def of(person: int, **more: Any) -> Message:
    return named(url=URL, nhs_number=("9990000018", "9990000026")[person], family=("Vance", "Moss")[person], **more)


async def test_a_constant_full_url_joins_no_two_referrals(intake: InProcess, engine: AsyncEngine) -> None:
    one, two = await sent(intake, of(0)), await sent(intake, of(1))
    assert (one.status, two.status) == (200, 200)
    assert reference_of(one) != reference_of(two)


async def test_an_update_that_has_only_a_full_url_of_two_referrals_is_refused(
    intake: InProcess, engine: AsyncEngine
) -> None:
    one = await sent(intake, of(0))
    await sent(intake, of(1))
    assert fault(await sent(intake, of(0, reason="update"))) == (409, "multiple-matches")
    better = await sent(intake, of(0, reason="update", id=reference_of(one), patient={"gender": "other"}))
    assert await kinds(engine, better) == ["received", "updated"]


async def test_the_same_new_referral_under_the_same_full_url_is_a_duplicate(intake: InProcess) -> None:
    first = await sent(intake, of(0))
    again = await sent(intake, of(0))
    assert fault(again) == (409, "duplicate")
    assert reference_of(again) == reference_of(first)


async def test_a_full_url_names_nothing_if_the_sender_has_an_id(intake: InProcess, engine: AsyncEngine) -> None:
    one = await sent(intake, of(0, id="r-1"))
    await sent(intake, of(1, id="r-2"))
    await sent(intake, of(0, id="r-1", reason="update", patient={"gender": "other"}))
    assert await kinds(engine, one) == ["received", "updated"]


async def test_an_update_without_an_id_is_found_by_the_full_url_of_a_request_with_one(
    intake: InProcess, engine: AsyncEngine
) -> None:
    one = await sent(intake, of(0, id="r-1"))
    assert (await sent(intake, of(0, reason="update", patient={"gender": "other"}))).status == 200
    assert await kinds(engine, one) == ["received", "updated"]


async def test_an_update_without_an_id_is_refused_if_requests_with_two_ids_had_its_full_url(intake: InProcess) -> None:
    assert [(await sent(intake, of(person, id=f"r-{person}"))).status for person in (0, 1)] == [200, 200]
    assert fault(await sent(intake, of(0, reason="update"))) == (409, "multiple-matches")


# ---- repeats --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "changes", "answer"),
    [
        ("new", {}, (409, "duplicate")),
        ("new", {"family": "Other"}, (409, "conflict")),
        ("update", {}, (409, "duplicate")),
    ],
)
async def test_a_known_bundle_id_with_another_request_id_is_decided_by_content_and_reason(
    intake: InProcess, reason: str, changes: dict[str, Any], answer: tuple[int, str]
) -> None:
    bundle = str(uuid4())
    await sent(intake, named(bundle=bundle))
    assert fault(await sent(intake, named(bundle=bundle, reason=reason, **changes))) == answer


@pytest.mark.parametrize(("changes", "kind"), [({}, "duplicate"), ({"family": "Other"}, "conflict")])
async def test_a_known_request_id_decides_before_the_reason(
    intake: InProcess, changes: dict[str, Any], kind: str
) -> None:
    message, request_id = named(id="r-1"), str(uuid4())
    await sent(intake, message, request_id=request_id)
    again = named(id="r-1", reason="update", **changes)
    assert fault(await sent(intake, again, request_id=request_id)) == (409, kind)


async def test_a_retry_of_a_refused_message_is_judged_afresh(intake: InProcess) -> None:
    bundle, request_id = str(uuid4()), str(uuid4())
    refused = await sent(intake, named(bundle=bundle, nhs_number="9990000019"), request_id=request_id)
    assert refused.status == 400
    assert (await sent(intake, named(bundle=bundle), request_id=request_id)).status == 200


# ---- the person -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["active", "revoked"])
async def test_a_message_that_names_another_person_is_refused_and_changes_nothing(
    intake: InProcess, engine: AsyncEngine, status: str
) -> None:
    first = await sent(intake, named(id="r-1"))
    other = named(id="r-1", reason="update", status=status, nhs_number="9990000026", family="Other")
    reply = await sent(intake, other)
    assert fault(reply) == (422, "business-rule")
    assert "Other" not in reply.body.decode()
    assert await kinds(engine, first) == ["received"]
    assert [row.verdict for row in await rows(engine, "select verdict from intake.message order by id")] == [
        "received",
        "other-person",
    ]


async def test_a_cancel_needs_no_patient(intake: InProcess, engine: AsyncEngine) -> None:
    first = await sent(intake, named(id="r-1"))
    cancel = named(id="r-1", reason="update", status="revoked", consents={})
    cancel["entry"] = [
        e for e in cancel["entry"] if e["resource"]["resourceType"] in ("MessageHeader", "ServiceRequest")
    ]
    request = cancel["entry"][1]["resource"]
    del request["requester"]
    request["subject"] = {"display": "the same person"}
    del cancel["entry"][0]["resource"]["sender"]
    assert (await sent(intake, cancel)).status == 200
    assert await kinds(engine, first) == ["received", "cancelled"]


async def test_a_corrected_number_of_the_same_person_is_an_update(intake: InProcess, engine: AsyncEngine) -> None:
    first = await sent(intake, named(id="r-1"))
    await sent(intake, named(id="r-1", reason="update", nhs_number="9990000026"))
    assert await kinds(engine, first) == ["received", "updated"]


# ---- order ----------------------------------------------------------------------------------------------------------


def at(hour: int, **more: Any) -> Message:
    return named(id="r-1", sent_at=TIMES[hour], **more)


async def test_a_cancel_with_a_slow_clock_applies(intake: InProcess, engine: AsyncEngine) -> None:
    first = await sent(intake, at(9))
    assert (await sent(intake, at(8, reason="update", status="revoked"))).status == 200
    assert await kinds(engine, first) == ["received", "cancelled"]


async def test_a_cancel_that_is_older_than_an_update_is_left_to_a_person(
    intake: InProcess, engine: AsyncEngine
) -> None:
    first = await sent(intake, at(9))
    await sent(intake, at(11, reason="update", family="Vance-Cole"))
    died = {"deceasedDateTime": "2026-11-04"}
    reply = await sent(intake, at(10, reason="update", status="revoked", patient=died))
    assert reply.status == 202
    (issue,) = reply.json()["issue"]
    assert issue["severity"] == "warning"
    assert "not applied" in issue["diagnostics"]
    assert await kinds(engine, first) == ["received", "updated", "cancellation-not-applied"]
    assert (await events(engine, reference_of(first)))[-1]["death_reported"] == {"died_on": "2026-11-04"}
    (held,) = await rows(engine, "select version, cancelled from intake.referral")
    assert (held.version, held.cancelled) == (3, False)


async def test_a_retry_of_a_cancel_that_was_not_applied_says_so_again(intake: InProcess) -> None:
    await sent(intake, at(9))
    await sent(intake, at(11, reason="update", family="Vance-Cole"))
    cancel, request_id = at(10, reason="update", status="revoked"), str(uuid4())
    await sent(intake, cancel, request_id=request_id)
    again = await sent(intake, cancel, request_id=request_id)
    assert fault(again) == (409, "duplicate")
    assert "not applied" in again.json()["issue"][0]["diagnostics"]


async def test_a_withdrawal_of_consent_applies_whatever_its_time(intake: InProcess, engine: AsyncEngine) -> None:
    first = await sent(intake, at(9))
    await sent(intake, at(11, reason="update", family="Vance-Cole"))
    died = {"deceasedBoolean": True}
    await sent(intake, at(10, reason="update", consents={"referral": "deny"}, patient=died))
    assert (await kinds(engine, first))[-1] == "cancelled"
    data = (await events(engine, reference_of(first)))[-1]
    assert (data["reason"], data["death_reported"]) == ("consent-withdrawn", {})


async def test_an_update_of_the_past_is_said_to_be_superseded(intake: InProcess, engine: AsyncEngine) -> None:
    first = await sent(intake, at(11))
    reply = await sent(intake, at(10, reason="update", family="Vance-Cole"))
    assert reply.status == 200
    assert "newer" in json.dumps(notes(reply))
    assert await kinds(engine, first) == ["received"]


async def test_an_update_after_a_cancel_is_answered_as_such(intake: InProcess, engine: AsyncEngine) -> None:
    first = await sent(intake, at(9))
    await sent(intake, at(10, reason="update", status="revoked"))
    for hour, family in ((11, "Vance-Cole"), (12, "Vance")):
        reply = await sent(intake, at(hour, reason="update", family=family))
        assert "cancelled before" in json.dumps(notes(reply))
        assert _part(reply, "ServiceRequest")["status"] == "revoked"
    assert await kinds(engine, first) == ["received", "cancelled", "updated", "updated"]
    read = await intake.get(f"/fhir/ServiceRequest/{reference_of(first)}", "gp-alder-lane")
    assert read.json()["status"] == "revoked"


def _part(reply: Reply, kind: str) -> dict[str, Any]:
    found = [entry["resource"] for entry in reply.json()["entry"] if entry["resource"]["resourceType"] == kind]
    return found[0]


async def test_a_message_of_the_future_is_refused_by_place(intake: InProcess) -> None:
    reply = await sent(intake, named(sent_at="2031-01-01T00:00:00Z"))
    assert fault(reply) == (400, "value")
    assert reply.json()["issue"][0]["expression"] == ["Bundle.timestamp"]


def notes(reply: Reply) -> list[dict[str, Any]]:
    """Return the issues of the OperationOutcome in a response message."""
    outcomes = [e["resource"] for e in reply.json()["entry"] if e["resource"]["resourceType"] == "OperationOutcome"]
    return [issue for outcome in outcomes for issue in outcome["issue"]]
