"""First Contact's checklist through the whole of intake, on a real database."""

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from services.intake.translators.form import json_schema
from tests.builders.forms import a_form
from tests.intake.running import DIRECTORY, InProcess, Reply, events, reference_of, reviewed, rows


def faults(reply: Reply) -> dict[str, str]:
    return {fault["field"]: fault["kind"] for fault in reply.json()["faults"]}


async def test_each_ticked_need_becomes_a_housing_need_and_the_practice_is_the_referrer(
    intake: InProcess, engine: AsyncEngine
) -> None:
    reply = await intake.form(a_form())
    assert reply.status == 202
    assert (reply.json()["version"], reply.json()["status"]) == (1, "received")
    (event,) = await events(engine, reference_of(reply))
    referral = event["referral"]
    assert {need["service"]: need["text"] for need in referral["needs"]} == {
        "minor-adaptations": "Grab rails or half steps\nHelp with bathing or shower: shower cannot be reached",
        "income-maximisation": "Income and benefits",
    }
    assert referral["sent_by"]["partner"] == "first-contact"
    assert referral["referred_by"]["kind"] == "gp"
    assert referral["referred_by"]["organisation"]["ods"] == "C82991"
    assert referral["person"]["nhs_number"] == "9990000026"
    assert referral["person"]["address"]["postcode"] == "LE10 0AA"


async def test_a_repeat_gets_the_same_answer(intake: InProcess, engine: AsyncEngine) -> None:
    form = a_form()
    first, again = await intake.form(form), await intake.form(form)
    assert (again.status, again.body) == (first.status, first.body)
    assert len(await events(engine, reference_of(first))) == 1


async def test_a_repeat_after_an_update_gets_the_answer_of_the_message_that_it_repeats(intake: InProcess) -> None:
    form = a_form(reference="FC-1", completed_at="2026-11-05T09:00:00Z")
    first = await intake.form(form)
    await intake.form(form | {"phone": "0116 496 0009", "completed_at": "2026-11-05T10:00:00Z"})
    again = await intake.form(form)
    assert (again.status, again.body) == (first.status, first.body)


async def test_a_changed_form_is_an_update(intake: InProcess, engine: AsyncEngine) -> None:
    form = a_form()
    first = await intake.form(form)
    changed = await intake.form(form | {"phone": "0116 496 0009"})
    assert (changed.status, changed.json()["status"], changed.json()["version"]) == (200, "updated", 2)
    assert reference_of(changed) == reference_of(first)
    assert [event["ce_type"].split(".")[3] for event in await events(engine, reference_of(first))] == [
        "received",
        "updated",
    ]


async def test_a_cancelled_form_cancels_the_referral(intake: InProcess, engine: AsyncEngine) -> None:
    form = a_form()
    first = await intake.form(form)
    reply = await intake.form({"reference": form["reference"], "cancelled": True, "cancel_reason": "referred-in-error"})
    assert (reply.status, reply.json()["status"]) == (200, "cancelled")
    _, cancelled = await events(engine, reference_of(first))
    assert cancelled["reason"] == "referred-in-error"


async def test_a_cancellation_that_is_older_than_a_change_is_left_to_a_person(
    intake: InProcess, engine: AsyncEngine
) -> None:
    form = a_form(completed_at="2026-11-05T09:00:00Z")
    first = await intake.form(form)
    await intake.form(form | {"phone": "0116 496 0099", "completed_at": "2026-11-05T11:00:00Z"})
    cancel = {"reference": form["reference"], "cancelled": True, "completed_at": "2026-11-05T10:00:00Z"}
    reply = await intake.form(cancel)
    assert (reply.status, reply.json()["status"]) == (202, "not-applied")
    assert [event["ce_type"].split(".")[3] for event in await events(engine, reference_of(first))] == [
        "received",
        "updated",
        "cancellation-not-applied",
    ]


async def test_a_cancellation_of_an_unknown_form_is_not_found(intake: InProcess) -> None:
    reply = await intake.form({"reference": "never sent", "cancelled": True})
    assert (reply.status, reply.headers["content-type"]) == (404, "application/problem+json")


async def test_a_consent_withdrawn_by_a_changed_form_cancels_the_referral(
    intake: InProcess, engine: AsyncEngine
) -> None:
    form = a_form()
    first = await intake.form(form)
    reply = await intake.form(form | {"consents": {"referral": "no"}})
    assert reply.json()["status"] == "cancelled"
    _, cancelled = await events(engine, reference_of(first))
    assert cancelled["reason"] == "consent-withdrawn"


async def test_every_error_is_reported_at_once_by_its_field_and_never_by_its_value(
    intake: InProcess, engine: AsyncEngine
) -> None:
    wrong = a_form(
        referred_by="gp",
        practice_ods=None,
        nhs_number="999 000 0027",
        birth_date="29/02/1944",
        postcode="nowhere",
        family_name="",
        gender="f",
        needs={"grab_rails": 2, "castle": True},
        consents={"referral": "maybe"},
        favourite_colour="Verdigris",
    )
    reply = await intake.form(wrong)
    assert reply.status == 400
    assert faults(reply) == {
        "practice_ods": "required",
        "nhs_number": "value",
        "birth_date": "value",
        "postcode": "value",
        "family_name": "required",
        "gender": "value",
        "needs.grab_rails": "value",
        "needs.castle": "invalid",
        "consents.referral": "value",
        "favourite_colour": "invalid",
    }
    assert not any(
        value in reply.body for value in (b"9990000027", b"999 000 0027", b"29/02", b"nowhere", b"Verdigris")
    )
    (kept,) = await rows(engine, "select verdict, issues from intake.message")
    assert kept.verdict == "refused"
    assert len(kept.issues) == 10


async def test_a_refused_consent_is_rejected_with_what_to_do_instead(intake: InProcess) -> None:
    reply = await intake.form(a_form(consents={"referral": "no"}))
    assert reply.status == 422
    assert "do not refer" in reply.json()["faults"][0]["explanation"]


async def test_an_unrecorded_consent_is_accepted(intake: InProcess) -> None:
    assert (await intake.form(a_form(consents=None))).status == 202


@pytest.mark.parametrize(
    ("sender", "name", "status"),
    [
        (None, "first-contact-plus", 401),
        ("gp-alder-lane", "first-contact-plus", 403),
        ("first-contact", "no-such-form", 404),
        (None, "no-such-form", 401),
    ],
)
async def test_an_unauthorised_sender_is_rejected_before_the_body_is_read(
    intake: InProcess, engine: AsyncEngine, sender: str | None, name: str, status: int
) -> None:
    reply = await intake.form(b"not json", sender=sender, name=name)
    assert (reply.status, reply.headers["content-type"]) == (status, "application/problem+json")
    assert await rows(engine, "select 1 from intake.message") == []


async def test_the_served_schema_is_that_of_the_form(intake: InProcess) -> None:
    schema = (await intake.get("/forms/first-contact-plus/schema")).json()
    assert schema == json_schema(reviewed(DIRECTORY).forms["first-contact-plus"])


A_DISCHARGE = {
    "referred_by": "hospital-team",
    "referrer_name": "Ngozi Okafor",
    "referrer_phone": "0116 496 0150",
    "site": "bradgate-unit",
    "ward": "Ashby",
    "family_name": "Larkin",
    "birth_date": "1949-12-01",
    "reason": "family-refusing-return",
    "needs": {"homeless": True},
    "consents": {"referral": "yes", "on": "2026-11-04", "by": "Discharge nurse"},
}


async def test_a_discharge_team_sends_a_stay_without_an_address(intake: InProcess, engine: AsyncEngine) -> None:
    told = A_DISCHARGE | {"reference": "DT-1", "pathway": 1, "named_authority": "E07000130"}
    reply = await intake.form(told, sender="lpt", name="hospital-discharge")
    assert reply.status == 202
    (event,) = await events(engine, reference_of(reply))
    assert event["referral"]["hospital"] == {"site": "Bradgate Unit", "ward": "Ashby", "pathway": 1}
    assert event["referral"]["sent_by"]["organisation"]["ods"] == "RT5"
    assert event["referral"]["named_authority"] == "E07000130"
    assert event["referral"]["person"].get("address") is None


@pytest.mark.parametrize("sender", ["first-contact", "customer-service", "lightbulb-website"])
async def test_only_a_hospital_team_may_send_a_stay(intake: InProcess, sender: str) -> None:
    reply = await intake.form(A_DISCHARGE | {"reference": "DT-2"}, sender=sender, name="hospital-discharge")
    assert reply.status == 403


async def test_a_self_referral_requires_the_persons_own_consent(intake: InProcess) -> None:
    asks = {"reference": "W-1", "referred_by": "self", "family_name": "Ives", "phone": "07700 900045"}
    asks |= {"needs": {"warm": True}, "consents": {"referral": "not-recorded"}}
    reply = await intake.form(asks, sender="lightbulb-website", name="self")
    assert (reply.status, faults(reply)) == (400, {"consents.referral": "required"})
    again = await intake.form(asks | {"consents": {"referral": "yes"}}, sender="lightbulb-website", name="self")
    assert again.status == 202
