"""What a sender's message does: one case for each person, each referral with its own needs, hub and feedback."""

from datetime import date
from typing import Any

import pytest

from schemas.case import BusinessStatus, CaseStatus, EndReason, Pathway, RoutingReason
from schemas.events import Accept, Assign, Complete
from schemas.nhs_number import VerificationStatus
from schemas.referral import Consents, GrantProgress, HousingNeed
from services.reference.directory import Full, UnknownService
from tests.builders.events import TODAY, cancelled, received, updated
from tests.builders.reference_data import AT_BLABY, AT_CHARNWOOD, AT_MELTON, CHARNWOOD, DIRECTORY, IN_THE_CITY, RUTLAND
from tests.builders.referrals import FORM, GP, NO, WARD, YES, a_form, a_person, a_referral, a_ward_referral
from tests.router.story import everything, given

NOT_TRACED = VerificationStatus.NOT_TRACED
NEED = "minor-adaptations"


# ---- the service catalogue ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", [received, updated])
def test_a_referral_for_a_service_that_is_not_in_the_catalogue_is_undecidable(message: Any) -> None:
    with pytest.raises(UnknownService):
        given(message(GP, a_referral(NEED, "stairs")))


# ---- new referrals --------------------------------------------------------------------------------------------------


def test_a_first_referral_opens_a_case_which_its_hub_receives() -> None:
    story = given(received(GP, a_referral()))

    assert story.event_names == ["opened"]
    (event,) = story.sent_to("blaby")
    assert (event.hub_version, event.role, event.referrals[0].reference) == (1, "holder", GP)
    assert event.referral_contexts == ()


def test_events_give_the_referrer_the_receipt_the_hub_and_the_reason() -> None:
    story = given(received(GP, a_referral()))

    assert [(told, c.home_hub, c.reasons, c.status) for told, c in story.concerns(GP)] == [
        ("opened", "blaby", (RoutingReason.COMMUNITY_POSTCODE,), "requested"),
    ]


def test_a_second_referral_joins_the_open_case_and_each_referrer_receives_its_own_status() -> None:
    story = given(received(GP, a_referral())).when(received(FORM, a_form()))

    assert story.event_names == ["joined", "assigned"]
    assert [told for told, _ in story.concerns(FORM)] == ["joined", "assigned"]
    assert story.concerns(GP) == []
    assert story.referral(FORM).case_id == story.referral(GP).case_id
    (joined,) = story.sent_to("blaby")
    assert [one.reference for one in joined.referrals] == [FORM]
    assert [one.reference for one in joined.others] == [GP]


def test_after_a_case_has_ended_a_new_referral_opens_a_new_one() -> None:
    story = given(received(GP, a_referral()), cancelled(GP)).when(received(FORM, a_form()))

    assert story.event_names == ["opened"]
    assert story.referral(FORM).case_id != story.referral(GP).case_id


def test_a_repeated_referral_changes_nothing() -> None:
    story = given(received(GP, a_referral()))
    before = story.state

    assert story.when(received(GP, a_referral())).event_names == []
    assert story.state == before


def test_an_update_of_an_unknown_referral_is_applied_as_a_new_referral() -> None:
    assert given(updated(GP, a_referral(), version=4)).event_names == ["opened"]


def test_before_acceptance_a_further_referral_can_move_the_case_and_the_former_hub_gets_an_event() -> None:
    story = given(received(GP, a_referral(postcode=AT_BLABY)))
    story.when(received(FORM, a_form(postcode=AT_MELTON, referred_on=date(2026, 1, 1))))

    assert story.case.home.hub == "melton"
    assert [event.role for event in story.sent_to("blaby")] == ["former"]
    assert [event.role for event in story.sent_to("melton")] == ["holder"]
    assert story.sent_to("blaby")[0].referrals == ()


def test_an_accepted_case_stays_with_its_hub_which_the_new_referrer_receives() -> None:
    story = given(received(GP, a_referral(postcode=AT_BLABY))).commanded("blaby", Accept)
    story.when(received(FORM, a_form(postcode=AT_MELTON, referred_on=date(2026, 1, 1))))

    assert story.case.home.hub == "blaby"
    assert RoutingReason.ALREADY_OPEN in story.event("assigned").case.reasons
    assert [c.home_hub for _, c in story.concerns(FORM)] == ["blaby", "blaby"]
    assert all(RoutingReason.ALREADY_OPEN not in c.reasons for _, c in story.concerns(FORM))


def test_the_authority_that_the_person_names_gets_a_case_that_another_hub_accepted() -> None:
    story = given(received(GP, a_referral(postcode=AT_BLABY))).commanded("blaby", Accept)
    story.when(received(FORM, a_form(named_authority=CHARNWOOD)))

    assert story.event_names == ["joined", "transferred"]
    assert (story.case.home.hub, story.case.home.status) == ("charnwood", CaseStatus.REQUESTED)
    assert [event.role for event in story.sent_to("blaby")] == ["former"]
    assert [event.role for event in story.sent_to("charnwood")] == ["holder"]
    assert [(told, c.home_hub) for told, c in story.concerns(GP)] == [("transferred", "charnwood")]


def test_without_consent_a_named_authority_does_not_get_the_case() -> None:
    story = given(received(GP, a_referral())).commanded("blaby", Accept)
    story.when(received(FORM, a_form(named_authority=CHARNWOOD, consents=Consents())))

    assert (story.event_names, story.case.home.hub) == (["joined", "assigned"], "blaby")


def test_a_case_outside_the_county_is_opened_and_rejected_with_the_authority_to_refer_to() -> None:
    story = given(received(GP, a_referral(postcode=IN_THE_CITY)))

    assert story.event_names == ["opened", "rejected"]
    rejected = story.event("rejected")
    assert (rejected.reason, rejected.refer_to) == (EndReason.OUTSIDE_COUNTY, "leicester-city")  # type: ignore[attr-defined]
    assert (story.event("opened").case.holder, rejected.case.holder, rejected.case.pathway) == (
        None,
        None,
        Pathway.OUTSIDE,
    )
    assert [(told, c.status, c.home_hub) for told, c in story.concerns(GP)] == [
        ("opened", "requested", "leicester-city"),
        ("rejected", "rejected", "leicester-city"),
    ]
    assert all(not one.hubs for one in story.emitted)  # type: ignore[union-attr]


def test_a_referral_from_outside_the_county_does_not_change_the_persons_other_case() -> None:
    story = given(received(FORM, a_form())).when(received(GP, a_referral(postcode=IN_THE_CITY)))

    assert story.event_names == ["opened", "rejected"]
    assert not story.state.cases[story.referral(FORM).case_id].ended


def test_a_hub_that_has_the_persons_case_also_gets_a_referral_from_outside_the_county() -> None:
    story = given(received(FORM, a_form())).commanded("blaby", Accept)

    assert story.when(received(GP, a_referral(postcode=IN_THE_CITY))).event_names == ["joined", "assigned"]


def test_a_referral_for_onward_services_only_goes_to_triage_without_a_home_hub() -> None:
    story = given(received(GP, a_referral("blue-badge")))

    (event,) = story.sent_to("triage")
    assert (event.case.home_hub, event.case.holder, event.case.worklist) == (None, "triage", "First Contact Plus")
    assert event.case.business_status is BusinessStatus.TRIAGE
    assert story.concerns(GP)[-1][1].home_hub == "triage"


def test_an_event_states_a_waiting_list() -> None:
    declared = (Full.model_validate({"hub": "charnwood", "from": TODAY}),)
    full = DIRECTORY.model_copy(update={"full": declared})
    story = given(received(GP, a_referral(postcode=AT_CHARNWOOD)), directory=full)

    (event,) = story.sent_to("charnwood")
    assert (event.case.pathway, event.case.business_status) == (Pathway.WAITING_LIST, BusinessStatus.WAITING_LIST)
    assert RoutingReason.HUB_FULL_WAITING_LIST in story.concerns(GP)[-1][1].reasons


def test_the_open_need_of_a_referral_without_needs_is_advice() -> None:
    story = given(received(GP, a_referral(needs=())))

    ((_, concern),) = story.concerns(GP)
    assert (concern.needs, concern.open_needs) == ((), ("information-advice",))


def test_a_referral_without_consent_is_shown_to_no_hub() -> None:
    story = given(received(GP, a_referral(consents=Consents(referral=NO))))

    assert (story.event_names, story.event("opened").case.holder) == (["opened", "cancelled"], None)
    assert all(not one.hubs for one in story.emitted)  # type: ignore[union-attr]


def test_the_stage_of_a_grant_is_the_one_that_the_council_reported() -> None:
    progress = GrantProgress(category="A", ot_assessment_on=date(2026, 9, 1), ss127_on=date(2026, 10, 1))
    story = given(received(FORM, a_form("disabled-facilities-grant", grant=progress)))

    assert story.case.home.business_status is BusinessStatus.DFG_SS127


# ---- who it is ------------------------------------------------------------------------------------------------------


def test_two_persons_with_the_same_number_have_two_cases() -> None:
    other = a_person(family_name="Carter", nhs_number_status=NOT_TRACED)
    story = given(received(GP, a_referral())).when(received(FORM, a_form(person=other)))

    assert story.event_names == ["opened"]
    assert len(story.state.cases) == 2
    assert [c.person.provisional for _, c in story.concerns(FORM)] == [True]
    assert not story.state.persons[1].provisional


def test_a_person_who_becomes_provisional_is_marked_so_for_the_hub_and_in_later_feedback() -> None:
    unverified = a_referral(person=a_person(nhs_number_status=NOT_TRACED, family_name="Carter"))
    story = given(received(GP, unverified)).when(received(FORM, a_form()))

    assert story.state.persons[1].provisional
    assert not story.state.persons[2].provisional
    (assigned, told) = story.sent_to("blaby")
    assert not assigned.case.provisional
    assert told.case.provisional
    story.commanded("blaby", Accept, case=story.state.cases[story.referral(GP).case_id])
    assert story.concerns(GP)[-1][1].person.provisional


def test_a_person_without_a_number_is_provisional() -> None:
    nobody = a_person(nhs_number=None, nhs_number_status=VerificationStatus.NOT_PRESENT)
    story = given(received(GP, a_referral(person=nobody)))

    assert story.state.persons[1].tracing_reasons == ("no-number",)
    assert story.case.home.hub == "blaby"


def test_a_person_whose_number_failed_its_check_is_provisional_and_assigned_to_triage() -> None:
    failed = a_person(nhs_number=None, nhs_number_status=VerificationStatus.FAILED_CHECK)
    story = given(received(WARD, a_ward_referral(person=failed)))

    assert story.state.persons[1].tracing_reasons == ("number-failed-check",)
    (event,) = story.sent_to("triage")
    assert (event.role, event.case.provisional) == ("holder", True)
    assert event.referrals[0].referral.hospital is None, "where the person lies is for the hospital team"


def test_triage_transfers_a_provisional_inpatient_to_the_hospital_team() -> None:
    failed = a_person(nhs_number=None, nhs_number_status=VerificationStatus.FAILED_CHECK)
    story = given(received(WARD, a_ward_referral(person=failed)))
    story.commanded("triage", Assign, to_hub="hospital-housing")

    assert story.case.holding.hub == "hospital-housing"
    assert story.sent_to("hospital-housing")[0].referrals[0].referral.hospital is not None


def test_a_referral_with_an_untraced_number_is_routed_normally() -> None:
    story = given(received(GP, a_referral(person=a_person(nhs_number_status=NOT_TRACED))))

    assert (story.case.home.hub, story.state.persons[1].provisional) == ("blaby", False)


def test_a_changed_number_is_listed_for_tracing_and_the_case_stays() -> None:
    story = given(received(GP, a_referral())).when(updated(GP, a_referral(person=a_person(nhs_number="9990000034"))))

    assert story.state.persons[1].tracing_reasons == ("number-changed",)
    assert list(story.state.cases) == [story.referral(GP).case_id]


def test_an_update_that_disagrees_with_the_other_referrals_makes_the_person_provisional() -> None:
    story = given(received(GP, a_referral()), received(FORM, a_form()))
    story.when(updated(FORM, a_form(person=a_person(birth_date=date(1999, 1, 1)))))

    assert story.state.persons[1].tracing_reasons == ("no-longer-matches",)


# ---- updates --------------------------------------------------------------------------------------------------------


def test_an_update_of_the_address_moves_a_case_that_is_not_accepted() -> None:
    story = given(received(GP, a_referral())).when(updated(GP, a_referral(postcode=AT_CHARNWOOD)))

    assert story.event_names == ["updated", "assigned"]
    assert story.case.home.hub == "charnwood"
    assert story.concerns(GP)[-1][1].home_hub == "charnwood"
    assert [event.role for event in story.sent_to("blaby")] == ["holder", "former"]


def test_an_update_of_a_field_that_the_rules_ignore_does_not_move_the_case() -> None:
    full = DIRECTORY.model_copy(update={"full": (Full.model_validate({"hub": "blaby", "from": date(2026, 11, 24)}),)})
    story = given(received(GP, a_referral()), directory=full)
    story.grounds = type(story.grounds)(full, story.grounds.postcodes, date(2026, 11, 25))
    story.when(updated(GP, a_referral(priority="urgent")))

    assert (story.event_names, story.case.home.hub) == (["updated"], "blaby")


def test_an_update_after_acceptance_does_not_move_the_case() -> None:
    story = given(received(GP, a_referral())).commanded("blaby", Accept)
    story.when(updated(GP, a_referral(postcode=AT_CHARNWOOD)))

    assert (story.event_names, story.case.home.hub) == (["updated"], "blaby")


def test_an_update_adds_needs_and_does_not_reopen_ended_ones() -> None:
    story = given(received(GP, a_referral(NEED, "hoarding"))).commanded("blaby", Accept)
    story.commanded("blaby", Complete, ended=everything({GP: [NEED]}))
    story.when(updated(GP, a_referral(NEED, "hoarding", "fire-safety")))

    assert story.referral(GP).open_needs == ("hoarding", "fire-safety")
    assert story.referral(GP).ended_needs == {NEED: CaseStatus.COMPLETED}


def test_an_update_without_open_needs_ends_the_referral() -> None:
    story = given(received(GP, a_referral(NEED, "hoarding"))).commanded("blaby", Accept)
    story.commanded("blaby", Complete, ended=everything({GP: [NEED]}))
    story.when(updated(GP, a_referral(NEED)))

    assert story.event_names == ["updated", "cancelled"]
    assert story.case.ended is CaseStatus.COMPLETED


def test_an_update_to_an_address_outside_the_county_returns_only_that_referral() -> None:
    story = given(received(GP, a_referral()), received(FORM, a_form()))
    story.when(updated(GP, a_referral(postcode="LE15 6AA")))

    assert story.event_names == ["updated", "rejected"]
    assert story.event("rejected").refer_to == "rutland"  # type: ignore[attr-defined]
    assert story.referral(FORM).is_open
    assert DIRECTORY.authority("rutland").code == RUTLAND  # type: ignore[union-attr]


def test_an_update_of_an_ended_referral_is_stored_and_refused() -> None:
    story = given(received(GP, a_referral()), cancelled(GP))
    new = a_referral(needs=(HousingNeed(service="hoarding", text="new"),))
    story.when(updated(GP, new, version=3))

    assert story.event_names == ["update-refused"]
    assert not story.referral(GP).is_open
    assert story.referral(GP).referral == new
    assert [event.role for event in story.sent_to("blaby")] == ["holder"]
    assert [told for told, _ in story.concerns(GP)] == ["update-refused"]


def test_a_message_about_the_visit_after_the_end_of_a_referral_is_stored_and_nobody_is_informed() -> None:
    story = given(received(WARD, a_ward_referral()), cancelled(WARD))
    new = a_ward_referral(discharged_on=TODAY)
    story.when(updated(WARD, new, version=3).model_copy(update={"about_visit": True}))

    assert story.event_names == []
    assert story.referral(WARD).referral == new
    assert story.referral(WARD).version == 3


def test_consent_withdrawn_by_an_update_cancels_the_referral_with_events_for_hub_and_referrer() -> None:
    story = given(received(GP, a_referral())).commanded("blaby", Accept)
    story.when(updated(GP, a_referral(consents=Consents(referral=NO, feedback=YES))))

    assert story.event_names == ["cancelled"]
    assert story.event("cancelled").reason is EndReason.CONSENT_WITHDRAWN  # type: ignore[attr-defined]
    assert len(story.sent_to("blaby")) == len(story.concerns(GP)) == 1


def test_an_older_version_changes_nothing() -> None:
    story = given(received(GP, a_referral()), updated(GP, a_referral(), version=5))

    assert story.when(updated(GP, a_referral(postcode=AT_MELTON), version=4)).event_names == []


# ---- cancels --------------------------------------------------------------------------------------------------------


def test_a_cancel_ends_its_referral_and_the_case_continues_with_the_others() -> None:
    story = given(received(GP, a_referral()), received(FORM, a_form())).when(cancelled(GP))

    assert story.event_names == ["cancelled"]
    assert (story.referral(GP).status, story.referral(FORM).status) == (CaseStatus.CANCELLED, CaseStatus.REQUESTED)
    assert story.case.ended is None
    assert story.concerns(FORM) == []


def test_the_case_ends_with_its_last_referral() -> None:
    story = given(received(GP, a_referral()), received(FORM, a_form()), cancelled(GP)).when(cancelled(FORM))

    assert story.case.ended is CaseStatus.CANCELLED
    assert story.event("cancelled").case.status is CaseStatus.CANCELLED


def test_a_cancel_of_an_ended_referral_is_refused_to_its_referrer() -> None:
    story = given(received(GP, a_referral()), cancelled(GP)).when(cancelled(GP, version=3))

    assert story.event_names == ["cancellation-refused"]
    assert [told for told, _ in story.concerns(GP)] == ["cancellation-refused"]


def test_a_cancel_can_move_a_case_that_is_not_accepted_to_the_hub_of_the_other_referrals() -> None:
    story = given(
        received(GP, a_referral(postcode=AT_BLABY, referred_on=date(2026, 1, 1))),
        received(FORM, a_form(postcode=AT_CHARNWOOD)),
    ).when(cancelled(GP))

    assert story.event_names == ["cancelled", "assigned"]
    assert story.case.home.hub == "charnwood"
    assert AT_BLABY != AT_CHARNWOOD
