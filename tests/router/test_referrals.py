"""What a sender's message does: one case for each person, each referral with its own needs, hub and feedback."""

from datetime import date
from typing import Any

import pytest

from schemas.case import BusinessStatus, CaseStatus, EndReason, Pathway, RoutingReason
from schemas.events import Accept, Assign, Complete
from schemas.nhs_number import VerificationStatus
from schemas.referral import Consents, GrantProgress, HousingNeed
from services.reference.directory import Full, UnknownService
from tests.router.builders import (
    AT_BLABY,
    AT_CHARNWOOD,
    AT_MELTON,
    CHARNWOOD,
    DIRECTORY,
    FORM,
    GP,
    IN_THE_CITY,
    NO,
    RUTLAND,
    TODAY,
    WARD,
    YES,
    a_form,
    a_person,
    a_referral,
    a_ward_referral,
    cancelled,
    everything,
    given,
    received,
    updated,
)

NOT_TRACED = VerificationStatus.NOT_TRACED
NEED = "minor-adaptations"


# ---- the service catalogue ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", [received, updated])
def test_a_service_that_is_not_in_the_catalogue_is_not_decided_on(message: Any) -> None:
    with pytest.raises(UnknownService):
        given(message(GP, a_referral(NEED, "stairs")))


# ---- new referrals --------------------------------------------------------------------------------------------------


def test_a_first_referral_opens_a_case_and_its_hub_gets_it() -> None:
    story = given(received(GP, a_referral()))

    assert story.told == ["opened", "assigned"]
    (event,) = story.heard_by("blaby")
    assert (event.hub_version, event.role, event.referrals[0].reference) == (1, "holder", GP)
    assert event.referral_contexts == ()


def test_a_referrer_hears_that_it_was_received_and_which_hub_and_why() -> None:
    story = given(received(GP, a_referral()))

    assert [(told, c.home_hub, c.reasons, c.status) for told, c in story.concerns(GP)] == [
        ("opened", "blaby", (RoutingReason.COMMUNITY_POSTCODE,), "requested"),
        ("assigned", "blaby", (RoutingReason.COMMUNITY_POSTCODE,), "requested"),
    ]


def test_a_second_referral_joins_the_open_case_and_each_referrer_hears_about_its_own() -> None:
    story = given(received(GP, a_referral())).when(received(FORM, a_form()))

    assert story.told == ["joined", "assigned"]
    assert [told for told, _ in story.concerns(FORM)] == ["joined", "assigned"]
    assert story.concerns(GP) == []
    assert story.referral(FORM).case_id == story.referral(GP).case_id
    (joined,) = story.heard_by("blaby")
    assert {one.reference for one in joined.referrals} == {GP, FORM}


def test_after_a_case_has_ended_a_new_referral_opens_a_new_one() -> None:
    story = given(received(GP, a_referral()), cancelled(GP)).when(received(FORM, a_form()))

    assert story.told == ["opened", "assigned"]
    assert story.referral(FORM).case_id != story.referral(GP).case_id


def test_a_referral_that_comes_again_changes_nothing() -> None:
    story = given(received(GP, a_referral()))
    before = story.state

    assert story.when(received(GP, a_referral())).told == []
    assert story.state == before


def test_an_update_of_a_referral_that_never_came_is_taken_as_new() -> None:
    assert given(updated(GP, a_referral(), version=4)).told == ["opened", "assigned"]


def test_until_a_hub_accepts_the_set_of_referrals_decides_and_the_hub_that_loses_the_case_hears_so() -> None:
    story = given(received(GP, a_referral(postcode=AT_BLABY)))
    story.when(received(FORM, a_form(postcode=AT_MELTON, referred_on=date(2026, 1, 1))))

    assert story.case.home.hub == "melton"
    assert [event.role for event in story.heard_by("blaby")] == ["former"]
    assert [event.role for event in story.heard_by("melton")] == ["holder"]
    assert story.heard_by("blaby")[0].referrals == ()


def test_a_case_that_a_hub_accepted_stays_there_and_the_new_referrer_is_told_of_that_hub() -> None:
    story = given(received(GP, a_referral(postcode=AT_BLABY))).commanded("blaby", Accept)
    story.when(received(FORM, a_form(postcode=AT_MELTON, referred_on=date(2026, 1, 1))))

    assert story.case.home.hub == "blaby"
    assert RoutingReason.ALREADY_OPEN in story.event("assigned").case.reasons
    assert [c.home_hub for _, c in story.concerns(FORM)] == ["blaby", "blaby"]
    assert all(RoutingReason.ALREADY_OPEN not in c.reasons for _, c in story.concerns(FORM))


def test_the_authority_that_the_person_names_takes_over_a_case_that_another_hub_accepted() -> None:
    story = given(received(GP, a_referral(postcode=AT_BLABY))).commanded("blaby", Accept)
    story.when(received(FORM, a_form(named_authority=CHARNWOOD)))

    assert story.told == ["joined", "transferred"]
    assert (story.case.home.hub, story.case.home.status) == ("charnwood", CaseStatus.REQUESTED)
    assert [event.role for event in story.heard_by("blaby")] == ["former"]
    assert [event.role for event in story.heard_by("charnwood")] == ["holder"]
    assert [(told, c.home_hub) for told, c in story.concerns(GP)] == [("transferred", "charnwood")]


def test_without_consent_a_named_authority_does_not_take_over() -> None:
    story = given(received(GP, a_referral())).commanded("blaby", Accept)
    story.when(received(FORM, a_form(named_authority=CHARNWOOD, consents=Consents())))

    assert (story.told, story.case.home.hub) == (["joined", "assigned"], "blaby")


def test_outside_the_county_a_case_is_opened_and_rejected_with_where_to_go() -> None:
    story = given(received(GP, a_referral(postcode=IN_THE_CITY)))

    assert story.told == ["opened", "rejected"]
    rejected = story.event("rejected")
    assert (rejected.reason, rejected.refer_to) == (EndReason.OUTSIDE_COUNTY, "leicester-city")  # type: ignore[attr-defined]
    assert (rejected.case.holder, rejected.case.pathway) == (None, Pathway.OUTSIDE)
    assert [(told, c.status, c.home_hub) for told, c in story.concerns(GP)] == [
        ("opened", "requested", "leicester-city"),
        ("rejected", "rejected", "leicester-city"),
    ]
    assert all(not one.hubs for one in story.happenings)  # type: ignore[union-attr]


def test_a_referral_from_outside_does_not_touch_the_persons_other_case() -> None:
    story = given(received(FORM, a_form())).when(received(GP, a_referral(postcode=IN_THE_CITY)))

    assert story.told == ["opened", "rejected"]
    assert not story.state.cases[story.referral(FORM).case_id].ended


def test_a_hub_that_has_the_person_gets_a_referral_from_outside_too() -> None:
    story = given(received(FORM, a_form())).commanded("blaby", Accept)

    assert story.when(received(GP, a_referral(postcode=IN_THE_CITY))).told == ["joined", "assigned"]


def test_only_onward_services_go_to_triage_and_no_hub_is_home_yet() -> None:
    story = given(received(GP, a_referral("blue-badge")))

    (event,) = story.heard_by("triage")
    assert (event.case.home_hub, event.case.holder, event.case.worklist) == (None, "triage", "First Contact Plus")
    assert event.case.business_status is BusinessStatus.TRIAGE
    assert story.concerns(GP)[-1][1].home_hub == "triage"


def test_a_waiting_list_is_stated() -> None:
    declared = (Full.model_validate({"hub": "charnwood", "from": TODAY}),)
    full = DIRECTORY.model_copy(update={"full": declared})
    story = given(received(GP, a_referral(postcode=AT_CHARNWOOD)), directory=full)

    (event,) = story.heard_by("charnwood")
    assert (event.case.pathway, event.case.business_status) == (Pathway.WAITING_LIST, BusinessStatus.WAITING_LIST)
    assert RoutingReason.HUB_FULL_WAITING_LIST in story.concerns(GP)[-1][1].reasons


def test_a_referral_without_needs_has_advice_as_its_open_need() -> None:
    story = given(received(GP, a_referral(needs=())))

    (concern,) = [c for told, c in story.concerns(GP) if told == "assigned"]
    assert (concern.needs, concern.open_needs) == ((), ("information-advice",))


def test_a_referral_without_consent_is_shown_to_no_hub() -> None:
    story = given(received(GP, a_referral(consents=Consents(referral=NO))))

    assert story.told == ["opened", "cancelled"]
    assert all(not one.hubs for one in story.happenings)  # type: ignore[union-attr]


def test_a_grant_stands_where_the_council_says() -> None:
    progress = GrantProgress(category="A", ot_assessment_on=date(2026, 9, 1), ss127_on=date(2026, 10, 1))
    story = given(received(FORM, a_form("disabled-facilities-grant", grant=progress)))

    assert story.case.home.business_status is BusinessStatus.DFG_SS127


# ---- who it is ------------------------------------------------------------------------------------------------------


def test_two_people_with_one_number_are_two_persons_with_two_cases() -> None:
    other = a_person(family_name="Carter", nhs_number_status=NOT_TRACED)
    story = given(received(GP, a_referral())).when(received(FORM, a_form(person=other)))

    assert story.told == ["opened", "assigned"]
    assert len(story.state.cases) == 2
    assert [c.person.provisional for _, c in story.concerns(FORM)] == [True, True]
    assert not story.state.persons[1].provisional


def test_a_known_person_who_becomes_doubtful_is_shown_so_to_its_hub_and_in_later_feedback() -> None:
    unverified = a_referral(person=a_person(nhs_number_status=NOT_TRACED, family_name="Carter"))
    story = given(received(GP, unverified)).when(received(FORM, a_form()))

    assert story.state.persons[1].provisional
    assert not story.state.persons[2].provisional
    (assigned, told) = story.heard_by("blaby")
    assert {one.provisional for one in assigned.referrals} == {False}
    assert {one.provisional for one in told.referrals} == {True}
    story.commanded("blaby", Accept, case=story.state.cases[story.referral(GP).case_id])
    assert story.concerns(GP)[-1][1].person.provisional


def test_somebody_without_a_number_is_provisional() -> None:
    nobody = a_person(nhs_number=None, nhs_number_status=VerificationStatus.NOT_PRESENT)
    story = given(received(GP, a_referral(person=nobody)))

    assert story.state.persons[1].tracing_reasons == ("no-number",)
    assert story.case.home.hub == "blaby"


def test_a_number_that_failed_its_check_is_provisional_and_with_triage() -> None:
    failed = a_person(nhs_number=None, nhs_number_status=VerificationStatus.FAILED_CHECK)
    story = given(received(WARD, a_ward_referral(person=failed)))

    assert story.state.persons[1].tracing_reasons == ("number-failed-check",)
    (event,) = story.heard_by("triage")
    assert (event.role, event.referrals[0].provisional) == ("holder", True)
    assert event.referrals[0].referral.hospital is None, "where the person lies is for the hospital team"


def test_triage_hands_a_doubtful_inpatient_to_the_hospital_team() -> None:
    failed = a_person(nhs_number=None, nhs_number_status=VerificationStatus.FAILED_CHECK)
    story = given(received(WARD, a_ward_referral(person=failed)))
    story.commanded("triage", Assign, to_hub="hospital-housing")

    assert story.case.holding.hub == "hospital-housing"
    assert story.heard_by("hospital-housing")[0].referrals[0].referral.hospital is not None


def test_an_untraced_number_is_routed_normally() -> None:
    story = given(received(GP, a_referral(person=a_person(nhs_number_status=NOT_TRACED))))

    assert (story.case.home.hub, story.state.persons[1].provisional) == ("blaby", False)


def test_a_changed_number_goes_to_the_tracing_queue_and_nothing_moves() -> None:
    story = given(received(GP, a_referral())).when(updated(GP, a_referral(person=a_person(nhs_number="9990000034"))))

    assert story.state.persons[1].tracing_reasons == ("number-changed",)
    assert list(story.state.cases) == [story.referral(GP).case_id]


def test_an_update_that_no_longer_agrees_with_the_others_makes_the_person_doubtful() -> None:
    story = given(received(GP, a_referral()), received(FORM, a_form()))
    story.when(updated(FORM, a_form(person=a_person(birth_date=date(1999, 1, 1)))))

    assert story.state.persons[1].tracing_reasons == ("no-longer-matches",)


# ---- updates --------------------------------------------------------------------------------------------------------


def test_an_update_that_moves_the_address_moves_a_case_that_nobody_accepted() -> None:
    story = given(received(GP, a_referral())).when(updated(GP, a_referral(postcode=AT_CHARNWOOD)))

    assert story.told == ["updated", "assigned"]
    assert story.case.home.hub == "charnwood"
    assert story.concerns(GP)[-1][1].home_hub == "charnwood"
    assert [event.role for event in story.heard_by("blaby")] == ["holder", "former"]


def test_an_update_of_what_the_rules_do_not_read_moves_nothing() -> None:
    full = DIRECTORY.model_copy(update={"full": (Full.model_validate({"hub": "blaby", "from": date(2026, 11, 24)}),)})
    story = given(received(GP, a_referral()), directory=full)
    story.grounds = type(story.grounds)(full, story.grounds.postcodes, date(2026, 11, 25))
    story.when(updated(GP, a_referral(priority="urgent")))

    assert (story.told, story.case.home.hub) == (["updated"], "blaby")


def test_an_update_after_acceptance_does_not_move_the_case() -> None:
    story = given(received(GP, a_referral())).commanded("blaby", Accept)
    story.when(updated(GP, a_referral(postcode=AT_CHARNWOOD)))

    assert (story.told, story.case.home.hub) == (["updated"], "blaby")


def test_an_update_adds_needs_and_never_opens_an_ended_one_again() -> None:
    story = given(received(GP, a_referral(NEED, "hoarding"))).commanded("blaby", Accept)
    story.commanded("blaby", Complete, ended=everything({GP: [NEED]}))
    story.when(updated(GP, a_referral(NEED, "hoarding", "fire-safety")))

    assert story.referral(GP).open_needs == ("hoarding", "fire-safety")
    assert story.referral(GP).ended_needs == {NEED: CaseStatus.COMPLETED}


def test_an_update_that_asks_for_nothing_that_is_open_ends_the_referral() -> None:
    story = given(received(GP, a_referral(NEED, "hoarding"))).commanded("blaby", Accept)
    story.commanded("blaby", Complete, ended=everything({GP: [NEED]}))
    story.when(updated(GP, a_referral(NEED)))

    assert story.told == ["updated", "cancelled"]
    assert story.case.ended is CaseStatus.COMPLETED


def test_an_update_out_of_the_county_returns_that_referral_only() -> None:
    story = given(received(GP, a_referral()), received(FORM, a_form()))
    story.when(updated(GP, a_referral(postcode="LE15 6AA")))

    assert story.told == ["updated", "rejected"]
    assert story.event("rejected").refer_to == "rutland"  # type: ignore[attr-defined]
    assert story.referral(FORM).is_open
    assert DIRECTORY.authority("rutland").code == RUTLAND  # type: ignore[union-attr]


def test_an_update_of_an_ended_referral_is_kept_and_refused() -> None:
    story = given(received(GP, a_referral()), cancelled(GP))
    new = a_referral(needs=(HousingNeed(service="hoarding", text="new"),))
    story.when(updated(GP, new, version=3))

    assert story.told == ["update-refused"]
    assert not story.referral(GP).is_open
    assert story.referral(GP).referral == new
    assert [event.role for event in story.heard_by("blaby")] == ["holder"]
    assert [told for told, _ in story.concerns(GP)] == ["update-refused"]


def test_consent_withdrawn_by_an_update_cancels_the_referral_and_hub_and_referrer_hear() -> None:
    story = given(received(GP, a_referral())).commanded("blaby", Accept)
    story.when(updated(GP, a_referral(consents=Consents(referral=NO, feedback=YES))))

    assert story.told == ["cancelled"]
    assert story.event("cancelled").reason is EndReason.CONSENT_WITHDRAWN  # type: ignore[attr-defined]
    assert len(story.heard_by("blaby")) == len(story.concerns(GP)) == 1


def test_an_older_version_changes_nothing() -> None:
    story = given(received(GP, a_referral()), updated(GP, a_referral(), version=5))

    assert story.when(updated(GP, a_referral(postcode=AT_MELTON), version=4)).told == []


# ---- cancels --------------------------------------------------------------------------------------------------------


def test_a_cancel_ends_its_referral_and_the_case_goes_on_with_the_others() -> None:
    story = given(received(GP, a_referral()), received(FORM, a_form())).when(cancelled(GP))

    assert story.told == ["cancelled"]
    assert (story.referral(GP).status, story.referral(FORM).status) == (CaseStatus.CANCELLED, CaseStatus.REQUESTED)
    assert story.case.ended is None
    assert story.concerns(FORM) == []


def test_the_case_ends_with_its_last_referral() -> None:
    story = given(received(GP, a_referral()), received(FORM, a_form()), cancelled(GP)).when(cancelled(FORM))

    assert story.case.ended is CaseStatus.CANCELLED
    assert story.event("cancelled").case.status is CaseStatus.CANCELLED


def test_a_cancel_that_comes_too_late_is_refused_to_its_referrer() -> None:
    story = given(received(GP, a_referral()), cancelled(GP)).when(cancelled(GP, version=3))

    assert story.told == ["cancellation-refused"]
    assert [told for told, _ in story.concerns(GP)] == ["cancellation-refused"]


def test_a_cancel_can_move_a_case_that_nobody_accepted_to_where_the_others_belong() -> None:
    story = given(
        received(GP, a_referral(postcode=AT_BLABY, referred_on=date(2026, 1, 1))),
        received(FORM, a_form(postcode=AT_CHARNWOOD)),
    ).when(cancelled(GP))

    assert story.told == ["cancelled", "assigned"]
    assert story.case.home.hub == "charnwood"
    assert AT_BLABY != AT_CHARNWOOD
