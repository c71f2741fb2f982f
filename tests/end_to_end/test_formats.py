"""Every sender in its own format, the whole way: a ward over MLLP, a council by CSV, and a practice, about one person or several."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import aiohttp

from bench.messages import BenchmarkMessage
from infra.partner_simulators.hub import SimulatedCase
from tests.end_to_end.conftest import HubAtWork, Walk
from tests.end_to_end.senders import CITY, WARD, Stay, a_row, by_csv, by_mllp, referred, referred_by_ward, told

WARDS = "hospital-housing"


async def accepted(hub: HubAtWork, case: SimulatedCase) -> None:
    await hub.does(case, "accept")
    await hub.until(lambda _: case.position["status"] == "accepted")


# ---- a practice and a ward on one person ------------------------------------------------------------------------------


def state_of(case: SimulatedCase) -> dict[str, Any]:
    """Where a case stands as its holder has it, without ids: what two orders of arrival must agree on."""
    referrals = [(one["referral"]["message"]["format"], one["status"], one["open_needs"]) for one in case.referrals]
    reasons = sorted(set(case.position["reasons"]))
    position = {name: case.position[name] for name in ("status", "home_hub", "holder", "pathway", "district")}
    return {"role": case.role, "referrals": sorted(referrals), "reasons": reasons} | position


async def test_a_practices_and_a_hospitals_referral_of_one_person_give_the_same_state_in_both_orders(
    walk: Walk, session: aiohttp.ClientSession, hub: HubAtWork, a_message: Callable[[], BenchmarkMessage]
) -> None:
    first, second = a_message(), a_message()
    practice_first = [await referred(walk, session, first)]
    await hub.until(lambda h: h.case_of(practice_first[0]))
    practice_first.append(await referred_by_ward(walk, stay_first := Stay(first)))
    ward_first = [await referred_by_ward(walk, stay_second := Stay(second))]
    await hub.until(lambda h: h.held(ward_first[0], WARDS))
    ward_first.append(await referred(walk, session, second))

    during = [await both_held(hub, WARDS, both) for both in (practice_first, ward_first)]
    assert state_of(during[0]) == state_of(during[1])
    assert during[0].position["holder"] == WARDS
    for case in during:
        await accepted(hub, case)
    for stay in (stay_first, stay_second):
        await told(walk, stay, stay.discharged())
    after = [await both_held(hub, "melton", both) for both in (practice_first, ward_first)]
    assert state_of(after[0]) == state_of(after[1])
    for case in after:
        await accepted(hub, case)
    heard = [await walk.until_feedback(message.correlation_id, "accepted") for message in (first, second)]
    assert [[line["feedback_type"] for line in lines] for lines in heard] == [["home-hub", "accepted"]] * 2
    assert not [word for word in ("hospital", "ward", "stay", "discharge", WARD) if word.lower() in said(heard)]


def said(heard: list[list[dict[str, Any]]]) -> str:
    return json.dumps(heard).lower()


async def both_held(hub: HubAtWork, name: str, references: list[str]) -> SimulatedCase:
    def found(at_work: HubAtWork) -> SimulatedCase | None:
        case = at_work.held(references[0], name)
        return case if case and {one["reference"] for one in case.referrals} >= set(references) else None

    case: SimulatedCase = await hub.until(found)
    return case


# ---- the end of a stay ------------------------------------------------------------------------------------------------


async def test_a_discharge_moves_the_case_to_the_home_hub_and_the_hospital_receives_feedback(
    walk: Walk, session: aiohttp.ClientSession, hub: HubAtWork, a_message: Callable[[], BenchmarkMessage]
) -> None:
    stay = Stay(a_message())
    reference = await referred_by_ward(walk, stay)
    case = await hub.until(lambda h: h.held(reference, WARDS))
    assert case.referrals[0]["referral"]["hospital"]["ward"] == WARD
    assert await told(walk, stay, stay.discharged()) == reference
    home = await hub.until(lambda h: h.held(reference, "melton"))
    assert WARD not in json.dumps(home.referrals)
    await hub.until(lambda h: h.cases[WARDS, home.id].role == "former")
    kept = await walk.fetched(session, "uhl", reference, 3)
    assert [one["status"] for one in kept] == ["requested"] * 3


async def test_a_cancel_by_a_ward_over_mllp_returns_the_case_to_the_home_hub_and_its_report_of_a_death_holds_contact(
    walk: Walk, session: aiohttp.ClientSession, hub: HubAtWork, a_message: Callable[[], BenchmarkMessage]
) -> None:
    message = a_message()
    practice = await referred(walk, session, message)
    await hub.until(lambda h: h.held(practice, "melton"))
    stay = Stay(message)
    ward = await referred_by_ward(walk, stay)
    await hub.until(lambda h: h.held(practice, WARDS))
    await told(walk, stay, replace(stay, died="Y").taken_back())
    home = await hub.until(lambda h: h.held(practice, "melton"))
    assert (home.position["holder"], home.position["status"]) == ("melton", "requested")
    await hub.until(lambda h: h.cases[WARDS, home.id].role == "former")
    await hub.until(lambda h: "task-raised" in h.kinds["melton", home.id])
    assert home.position["check_before_contact"]
    await accepted(hub, home)
    await hub.does(home, "book")
    [refusal] = await hub.until(lambda h: [one for one in h.refusals if one["case_id"] == home.id])
    assert "A death was reported" in refusal["explanation"]
    await hub.does(home, "confirm-death")
    heard = await walk.until_feedback(message.correlation_id, "cancelled")
    assert [line["feedback_type"] for line in heard] == ["home-hub", "accepted", "cancelled"]
    assert [line["reason"] for line in heard].count("died") == 1
    assert not [word for word in ("hospital", "ward", "stay", WARD) if word.lower() in said([heard])]
    assert "died" not in json.dumps(await walk.fetched(session, "uhl", ward))


async def test_an_inpatient_from_the_city_stays_with_the_hospital_team_and_no_county_hub_gets_an_event(
    walk: Walk, hub: HubAtWork, a_message: Callable[[], BenchmarkMessage]
) -> None:
    reference = await referred_by_ward(walk, Stay(a_message(), postcode=CITY))
    case = await hub.until(lambda h: h.held(reference, WARDS))
    await accepted(hub, case)
    assert (case.position["home_hub"], case.position["holder"]) == ("leicester-city", WARDS)
    assert hub.hearing(case.id) == {WARDS}


async def test_a_repeated_hl7_message_gets_the_same_acknowledgement_and_is_applied_once(
    walk: Walk, hub: HubAtWork, a_message: Callable[[], BenchmarkMessage]
) -> None:
    stay = Stay(a_message())
    body = stay.admitted()
    answers = [await by_mllp(walk, "uhl", body) for _ in range(3)]
    assert {(answer.outcome, answer.reference) for answer in answers} == {("accepted", answers[0].reference)}
    assert answers[0].reference
    case = await hub.until(lambda h: h.held(str(answers[0].reference), WARDS))
    other = await by_mllp(walk, "uhl", Stay(a_message(), referral=stay.referral).admitted())
    assert (other.outcome, other.reference) == ("accepted", answers[0].reference)
    # a message that corrects the person updates the person and the referral; the repeats before it update nothing
    await hub.until(lambda h: h.kinds[WARDS, case.id].count("updated") == 2)
    assert hub.kinds[WARDS, case.id] == ["opened", "updated", "updated"]


# ---- a council --------------------------------------------------------------------------------------------------------


async def test_a_councils_row_is_assigned_to_the_hub_of_its_district_and_a_changed_row_is_an_update(
    walk: Walk, session: aiohttp.ClientSession, hub: HubAtWork
) -> None:
    row, other = a_row(), a_row()
    report = (await by_csv(walk, session, row, other)).rows
    assert report
    assert report.counts["received"] == 2
    reference = report.references[row["Case Ref"]]
    case = await hub.until(lambda h: h.held(reference, "blaby"))
    assert case.referrals[0]["referral"]["grant"]["ss127_on"] == "2026-10-30"
    changed = {**row, "Application": "09/11/2026", "Last Changed": "17/11/2026 06:00"}
    again = (await by_csv(walk, session, changed, other)).rows
    assert again
    assert (again.counts["updated"], again.counts["already-held"]) == (1, 1)
    assert again.references[row["Case Ref"]] == reference
    await hub.until(lambda h: "updated" in h.kinds["blaby", case.id])
    assert case.referrals[0]["referral"]["grant"]["application_on"] == "2026-11-09"
