"""A stay in hospital: the hospital team holds the case, the home hub follows on, and no other party receives data of the stay."""

from datetime import date
from typing import Any

import pytest

from schemas.case import CaseStatus, EndReason, Finding, HoldReason, Intervention, Pathway, RoutingReason
from schemas.events import Accept, Assess, Assign, Cancel, Complete, Hold, Record, Reject, Start, Transfer
from schemas.referral import Attachment, HospitalStay
from tests.builders.events import TODAY, cancelled, received, updated
from tests.builders.reference_data import AT_CHARNWOOD, CHARNWOOD, IN_THE_CITY
from tests.builders.referrals import (
    FORM,
    GP,
    WARD,
    a_bradgate_referral,
    a_form,
    a_person,
    a_referral,
    a_ward_referral,
    an_address,
)
from tests.router.story import everything, given

HOSPITAL, BRADGATE = "hospital-housing", "hospital-housing-bradgate"
NEED, WARD_NEED = "minor-adaptations", "homelessness"
FOUND = Finding(reference=GP, service=NEED, finding="need-confirmed")
DONE = Intervention(reference=GP, service=NEED, action="rails fitted", provider="Handyperson", on=TODAY)
INAT = (Attachment(reference="a-1", sha256="0" * 64, size=10),)


def discharged(**given: Any) -> Any:
    return updated(WARD, a_ward_referral(discharged_on=TODAY, **given))


# ---- who holds it ---------------------------------------------------------------------------------------------------


def test_the_hospital_team_holds_the_case_and_the_home_hub_follows_on() -> None:
    story = given(received(WARD, a_ward_referral(postcode=AT_CHARNWOOD)))

    (holder,), (follow_on,) = story.sent_to(HOSPITAL), story.sent_to("charnwood")
    assert (holder.role, holder.case.holder, holder.case.worklist) == ("holder", HOSPITAL, "Leicester Royal Infirmary")
    assert (follow_on.role, follow_on.case.holder) == ("follow-on", "elsewhere")


def test_a_stay_moves_an_accepted_case_to_the_hospital_team_and_discharge_returns_it_unchanged() -> None:
    story = given(received(GP, a_referral())).commanded("blaby", Accept).commanded("blaby", Start)
    story.when(received(WARD, a_ward_referral()))
    assert (story.case.holding.hub, story.case.home.hub) == (HOSPITAL, "blaby")

    story.when(discharged())
    assert (story.case.holding.hub, story.case.home.status) == ("blaby", CaseStatus.IN_PROGRESS)


def test_the_following_hub_may_assess_and_record_with_events_for_its_referrers() -> None:
    story = given(received(GP, a_referral()), received(WARD, a_ward_referral()))

    story.commanded("blaby", Assess, findings=(FOUND,))
    assert [told for told, _ in story.concerns(GP)] == ["assessed"]
    story.commanded("blaby", Record, interventions=(DONE,))
    assert [c.interventions for _, c in story.concerns(GP)] == [(DONE,)]
    assert len(story.sent_to(HOSPITAL)) == len(story.sent_to("blaby")) == 1


@pytest.mark.parametrize(
    ("command", "data"),
    [
        (Accept, {}),
        (Hold, {"reason": HoldReason.OTHER}),
        (Start, {}),
        (Complete, {"ended": everything({GP: [NEED]})}),
        (Reject, {"ended": everything({GP: [NEED]}), "reason": EndReason.OTHER}),
        (Cancel, {"ended": everything({GP: [NEED]}), "reason": EndReason.OTHER}),
        (Transfer, {"to_hub": "melton"}),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_the_following_hub_may_neither_move_nor_end_the_case(command: Any, data: dict[str, Any]) -> None:
    story = given(received(GP, a_referral()), received(WARD, a_ward_referral())).commanded("blaby", command, **data)

    assert story.refused is not None
    assert story.refused.reason == "not-permitted"


def test_the_hospital_team_ends_only_the_hospitals_referral() -> None:
    story = given(received(GP, a_referral()), received(WARD, a_ward_referral())).commanded(HOSPITAL, Accept)
    story.commanded(HOSPITAL, Complete, ended=everything({GP: [NEED]}))
    assert story.refused is not None
    assert story.refused.reason == "not-permitted"

    story.commanded(HOSPITAL, Complete, ended=everything({WARD: [WARD_NEED]}))
    assert story.event_names == ["completed", "assigned"]
    assert (story.case.holding.hub, story.referral(GP).is_open) == ("blaby", True)


def test_a_move_to_another_hospital_moves_the_case_even_if_the_first_team_accepted_it() -> None:
    story = given(received(WARD, a_ward_referral())).commanded(HOSPITAL, Accept)
    story.when(updated(WARD, a_ward_referral(hospital=HospitalStay(site="Bradgate Unit"))))

    assert story.case.holding.hub == BRADGATE
    (gone,) = story.sent_to(HOSPITAL)
    assert (gone.role, gone.referrals, gone.case.holder) == ("former", (), "elsewhere")


def test_one_hospital_team_transfers_to_the_other() -> None:
    story = given(received(WARD, a_ward_referral())).commanded(HOSPITAL, Transfer, to_hub=BRADGATE)

    assert story.case.holding.hub == BRADGATE
    assert [event.role for event in story.sent_to(BRADGATE)] == ["holder"]
    assert story.when(updated(WARD, a_ward_referral(discharged_on=TODAY))).case.holding.hub == "blaby"


# ---- the hand-over --------------------------------------------------------------------------------------------------


def test_at_discharge_the_home_hub_gets_the_case_with_the_hospitals_needs_and_without_the_stay() -> None:
    story = given(received(WARD, a_ward_referral())).when(discharged())

    assert (story.case.stay, story.case.holding.hub) == (None, "blaby")
    (event,) = story.sent_to("blaby")
    assert (event.role, event.case.holder) == ("holder", "blaby")
    assert event.referrals[0].open_needs == (WARD_NEED,)
    assert event.referrals[0].referral.hospital is None
    assert event.referrals[0].referral.sent_by.partner == "uhl"
    assert [one.role for one in story.sent_to(HOSPITAL)] == ["holder", "former"]
    assert RoutingReason.HANDED_OVER in story.concerns(WARD)[-1][1].reasons


def test_the_hospital_team_gets_an_event_when_the_home_hub_accepts_after_the_transfer() -> None:
    story = given(received(WARD, a_ward_referral())).commanded(HOSPITAL, Accept).when(discharged())
    story.commanded("blaby", Accept)

    assert [(told, c.home_hub, c.status) for told, c in story.concerns(WARD)] == [("accepted", "blaby", "accepted")]


def test_a_cancel_by_the_hospital_returns_the_case_to_the_home_hub() -> None:
    story = given(received(GP, a_referral()), received(WARD, a_ward_referral()))
    story.when(cancelled(WARD, discharged_on=TODAY))

    assert story.event_names == ["cancelled", "assigned"]
    assert (story.case.holding.hub, story.case.ended) == ("blaby", None)
    (event,) = story.sent_to("blaby")
    assert (event.role, [one.reference for one in event.referrals]) == ("holder", [GP, WARD])
    assert [one.role for one in story.sent_to(HOSPITAL)] == ["holder", "former"]


def test_cancelling_the_only_referral_ends_the_case_and_the_following_hub_receives_only_the_end() -> None:
    story = given(received(WARD, a_ward_referral())).when(cancelled(WARD))

    (event,) = story.sent_to("blaby")
    assert (event.case.status, event.referrals) == (CaseStatus.CANCELLED, ())
    assert (event.ended, event.reason) == ((), EndReason.OTHER)  # type: ignore[attr-defined]


def test_a_person_of_no_fixed_abode_without_a_home_hub_at_discharge_goes_to_triage() -> None:
    nowhere = a_person(address=an_address(None, no_fixed_abode=True))
    story = given(received(WARD, a_ward_referral(person=nowhere))).when(discharged(person=nowhere))

    assert (story.case.holding.hub, story.case.home.pathway) == ("triage", Pathway.TRIAGE)


def test_the_referral_of_a_city_inpatient_that_was_not_accepted_is_returned_at_discharge() -> None:
    story = given(received(WARD, a_ward_referral(postcode=IN_THE_CITY))).when(discharged(postcode=IN_THE_CITY))

    assert story.event_names == ["updated", "rejected"]
    assert story.event("rejected").refer_to == "leicester-city"  # type: ignore[attr-defined]
    assert [event.role for event in story.sent_to("hospital-housing")] == ["holder", "former"]


def test_a_city_inpatient_whom_the_hospital_team_accepted_stays_with_it() -> None:
    story = given(received(WARD, a_ward_referral(postcode=IN_THE_CITY))).commanded(HOSPITAL, Accept)
    story.when(discharged(postcode=IN_THE_CITY))

    assert (story.case.holding.hub, story.case.ended) == (HOSPITAL, None)


def test_the_hospital_team_may_transfer_the_case_before_the_discharge_message() -> None:
    story = given(received(WARD, a_ward_referral())).commanded(HOSPITAL, Transfer, to_hub="charnwood")
    assert (story.case.stay, story.case.home.hub) == (None, "charnwood")
    (event,) = story.sent_to("charnwood")
    assert event.from_hub is None  # type: ignore[attr-defined]
    assert event.decided_by is None

    assert story.when(updated(WARD, a_ward_referral(priority="urgent"))).case.holding.hub == "charnwood"


def test_an_authority_named_in_hospital_gets_the_accepted_case_and_the_gp_is_informed_after_discharge() -> None:
    story = given(received(GP, a_referral())).commanded("blaby", Accept)
    story.when(received(WARD, a_ward_referral(named_authority=CHARNWOOD)))
    assert (story.event_names, story.case.home.hub, story.concerns(GP)) == (["joined", "transferred"], "charnwood", [])

    story.when(discharged(named_authority=CHARNWOOD))
    assert [(told, c.home_hub) for told, c in story.concerns(GP)] == [("assigned", "charnwood")]


# ---- disclosure to hubs ---------------------------------------------------------------------------------------------


def test_during_a_stay_the_following_hub_receives_only_community_referrals() -> None:
    story = given(received(GP, a_referral()), received(WARD, a_ward_referral()))
    story.commanded(HOSPITAL, Accept)
    assert story.sent_to("blaby") == []
    story.when(updated(WARD, a_ward_referral(hospital=HospitalStay(site="Glenfield"))))
    assert story.sent_to("blaby") == []
    story.when(received(FORM, a_form()))

    later = story.sent_to("blaby", ever=True)[1:]
    assert later
    for event in later:
        text = event.model_dump_json()
        assert WARD not in text
        for secret in ("Ward 23", "Infirmary", "Glenfield", HOSPITAL, "inpatient", '"hospital"', "uhl", "RWE", "Nurse"):
            assert secret.replace('"hospital"', "hospital-housing") not in text, secret


def test_attachments_are_sent_only_to_the_holder() -> None:
    story = given(received(GP, a_referral(attachments=INAT)))
    assert story.sent_to("blaby")[0].referrals[0].referral.attachments == INAT

    story.when(received(WARD, a_ward_referral(attachments=INAT)))
    (follow_on,), (holder,) = story.sent_to("blaby"), story.sent_to(HOSPITAL)
    assert [one.referral.attachments for one in follow_on.referrals] == [()]
    assert [one.referral.attachments for one in holder.referrals] == [INAT, INAT]


def test_no_event_outside_the_restricted_team_mentions_the_restricted_unit() -> None:
    story = given(received(GP, a_referral()), received(WARD, a_bradgate_referral()))
    story.commanded(BRADGATE, Accept)
    story.when(received(FORM, a_form()))
    story.when(updated(WARD, a_bradgate_referral(priority="urgent")))
    story.when(updated(WARD, a_bradgate_referral(discharged_on=TODAY), version=3))
    story.commanded("blaby", Accept)
    story.commanded("blaby", Transfer, to_hub="melton")

    heard = [*story.sent_to("blaby", ever=True), *story.sent_to("melton", ever=True)]
    assert story.sent_to("melton")[0].referrals
    for event in heard:
        text = event.model_dump_json().lower()
        for secret in ("bradgate", "ward 23", "rt5", "lpt", "inpatient", "handed-over", "leicestershire partnership"):
            assert secret not in text, (event.TYPE, secret)
    assert story.sent_to(HOSPITAL, ever=True) == []


def test_the_home_hub_receives_only_the_needs_of_a_restricted_stay() -> None:
    story = given(received(WARD, a_bradgate_referral()))
    story.when(updated(WARD, a_bradgate_referral(discharged_on=TODAY)))

    (event,) = story.sent_to("blaby")
    (one,) = event.referrals
    assert one.open_needs == ("arrears-benefits",)
    assert one.referral.person.family_name == "Vickers"
    assert (one.referral.hospital, one.referral.attachments, one.referral.discharged_on) == (None, (), None)


def test_the_general_hospital_team_receives_no_event_of_a_stay_in_the_restricted_unit() -> None:
    earlier = a_bradgate_referral(hospital=HospitalStay(site="Bradgate Unit", admitted_on=date(2026, 11, 1)))
    later = a_ward_referral(hospital=HospitalStay(site="LRI", admitted_on=date(2026, 11, 9)))
    story = given(received(FORM, earlier)).when(received(WARD, later))

    (event,) = story.sent_to(HOSPITAL)
    assert [one.reference for one in event.referrals] == [WARD]
    assert "bradgate" not in event.model_dump_json().lower()


def test_the_following_hub_can_command_only_referrals_that_it_received() -> None:
    story = given(received(GP, a_referral()), received(WARD, a_ward_referral()))
    story.commanded("blaby", Assess, findings=(FOUND.model_copy(update={"reference": WARD}),))

    assert story.refused is not None
    assert story.refused.reason == "unknown-need"


# ---- disclosure to referrers ----------------------------------------------------------------------------------------


def test_the_gp_gets_no_feedback_about_the_work_of_the_hospital_team() -> None:
    story = given(received(GP, a_referral()), received(WARD, a_ward_referral(postcode=AT_CHARNWOOD)))
    for command, data in (
        (Accept, {}),
        (Hold, {"reason": HoldReason.IN_HOSPITAL}),
        (Assign, {"to_hub": "melton"}),
        (Accept, {}),
        (Assess, {"findings": (Finding(reference=WARD, service=WARD_NEED, finding="need-confirmed"),)}),
    ):
        story.commanded(HOSPITAL, command, **data)
        assert story.refused is None, command
        assert story.concerns(GP) == []


def test_the_gp_is_informed_of_the_home_hub_of_its_referral_even_if_the_case_has_another() -> None:
    story = given(received(WARD, a_ward_referral(named_authority=CHARNWOOD))).when(received(GP, a_referral()))

    assert story.case.home.hub == "charnwood"
    assert {(c.home_hub, c.reasons) for _, c in story.concerns(GP)} == {("blaby", (RoutingReason.COMMUNITY_POSTCODE,))}
    assert story.concerns(WARD) == []
