"""The life of a stay: it ends by a statement of the hospital or of its team, never by silence, and each end has its own effect."""

from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given as any_of
from hypothesis import settings
from hypothesis import strategies as st

from schemas.case import BusinessStatus, CaseStatus, RoutingReason, TaskKind
from schemas.events import Accept, ConfirmDeath, ReportDeath, TaskRaised, Transfer, WithdrawDeathReport
from schemas.referral import DeathReport, HospitalStay, Identifier, MessageIdentity, Organisation, Referral, Sender
from services.router.decide import stays
from services.router.decide.stays import StayState
from tests.builders.events import TODAY, cancelled, received, updated
from tests.builders.reference_data import IN_THE_CITY
from tests.builders.referrals import (
    FORM,
    GP,
    WARD,
    a_bradgate_referral,
    a_person,
    a_referral,
    a_ward_referral,
)
from tests.router.story import Story, given

HOSPITAL, BRADGATE = "hospital-housing", "hospital-housing-bradgate"
SECOND = FORM
YESTERDAY, TOMORROW = TODAY - timedelta(days=1), TODAY + timedelta(days=1)
TEAMS = [(a_ward_referral, HOSPITAL), (a_bradgate_referral, BRADGATE)]


def a_visit(number: str) -> Identifier:
    return Identifier(system="urn:trust", value=number)


def a_stay(site: str = "LRI", **given_: Any) -> HospitalStay:
    return HospitalStay(site=site, ward="Ward 23", admitted_on=date(2026, 11, 18), **given_)


def moved(**given_: Any) -> Referral:
    return a_ward_referral(hospital=a_stay(moved_to="Kettering General Hospital"), discharged_on=TODAY, **given_)


def by_kettering(**given_: Any) -> Referral:
    """Return a referral of the other trust, to which the person was moved."""
    trust = Sender(partner="kettering", organisation=Organisation(ods="RNQ", name="Kettering General Hospital"))
    stay = HospitalStay(site="Glenfield", admitted_on=TODAY)
    return a_ward_referral(**{"sent_by": trust, "hospital": stay, **given_})


def dead() -> Any:
    return a_person(death_reported=DeathReport(died_on=YESTERDAY))


def place(story: Story) -> tuple[str | None, bool]:
    """Return who holds the case, and whether the ward's referral is one of a stay."""
    return story.state.cases[story.referral(WARD).case_id].holding.hub, story.referral(WARD).in_stay


# ---- what a message says --------------------------------------------------------------------------------------------

STATES = [
    (a_referral(), StayState.NONE),
    (a_ward_referral(), StayState.IN_HOSPITAL),
    (a_ward_referral(expected_discharge_on=TODAY), StayState.IN_HOSPITAL),
    (a_ward_referral(discharged_on=TODAY), StayState.DISCHARGED),
    (moved(), StayState.MOVED),
    (a_ward_referral(hospital=a_stay(moved_to="Kettering")), StayState.IN_HOSPITAL),
    (a_ward_referral(hospital=a_stay(admission_cancelled=True)), StayState.ADMISSION_CANCELLED),
    (a_ward_referral(hospital=a_stay(admission_cancelled=True), discharged_on=TODAY), StayState.ADMISSION_CANCELLED),
]


@pytest.mark.parametrize(("referral", "state"), STATES)
def test_a_referral_says_one_state_of_its_stay(referral: Referral, state: StayState) -> None:
    assert stays.state_of(referral) is state


def test_a_discharge_in_the_future_is_expected_and_one_of_today_is_done() -> None:
    future = stays.as_of(a_ward_referral(discharged_on=TOMORROW), TODAY)

    assert (future.discharged_on, future.expected_discharge_on) == (None, TOMORROW)
    assert stays.as_of(a_ward_referral(discharged_on=TODAY), TODAY).discharged_on == TODAY


def test_an_expected_discharge_hands_nothing_over_until_the_day_has_come_and_the_hospital_says_so() -> None:
    message = a_ward_referral(discharged_on=TOMORROW)
    story = given(received(WARD, a_ward_referral())).when(updated(WARD, message))
    assert place(story) == (HOSPITAL, True)
    assert story.sent_to("blaby") == []
    assert story.sent_to(HOSPITAL)[-1].referrals[0].referral.expected_discharge_on == TOMORROW

    later = Story(state=story.state, grounds=given(on=TOMORROW).grounds)
    assert place(later.when(updated(WARD, message, version=3))) == ("blaby", False)


# ---- silence --------------------------------------------------------------------------------------------------------

FORMATS: list[Any] = ["bars-fhir", "hl7v2", "form", "council-csv"]
SILENT = [None, HospitalStay()]


@pytest.mark.parametrize(("ward", "team"), TEAMS)
@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("stay", SILENT, ids=["no stay", "an empty stay"])
def test_silence_of_any_format_leaves_the_stay_as_it_was(ward: Any, team: str, source: Any, stay: Any) -> None:
    first = ward(expected_discharge_on=TOMORROW, ready_for_transfer_on=TODAY)
    message = MessageIdentity(format=source, message_id="m-2", referral_id="r-2")
    silent = ward(hospital=stay, message=message, priority="urgent")
    story = given(received(GP, a_referral()), received(WARD, first)).when(updated(WARD, silent))

    assert place(story) == (team, True)
    kept = story.referral(WARD).referral
    assert (kept.hospital, kept.expected_discharge_on, kept.ready_for_transfer_on) == (first.hospital, TOMORROW, TODAY)
    assert kept.priority == "urgent"
    assert story.sent_to("blaby") == []


@pytest.mark.parametrize("stay", SILENT, ids=["no stay", "an empty stay"])
def test_silence_after_a_discharge_does_not_bring_the_patient_back(stay: Any) -> None:
    story = given(received(WARD, a_ward_referral()), updated(WARD, a_ward_referral(discharged_on=TODAY)))
    story.when(updated(WARD, a_ward_referral(hospital=stay, priority="urgent"), version=3))

    assert place(story) == ("blaby", False)
    assert story.referral(WARD).referral.discharged_on == TODAY


def test_a_discharge_without_other_details_of_the_stay_ends_it() -> None:
    story = given(received(WARD, a_ward_referral())).when(
        updated(WARD, a_ward_referral(hospital=None, discharged_on=TODAY))
    )

    assert place(story) == ("blaby", False)


def test_a_discharge_that_is_taken_back_brings_the_patient_back() -> None:
    story = given(received(WARD, a_ward_referral()), updated(WARD, a_ward_referral(discharged_on=TODAY)))
    story.when(updated(WARD, a_ward_referral(), version=3))

    assert place(story) == (HOSPITAL, True)


@pytest.mark.parametrize(("ward", "team"), TEAMS)
def test_the_cancel_of_another_referral_ends_no_stay(ward: Any, team: str) -> None:
    story = given(received(GP, a_referral()), received(SECOND, ward()), received(WARD, ward()))
    story.when(cancelled(GP, discharged_on=TODAY), cancelled(SECOND, discharged_on=TODAY))

    assert place(story) == (team, True)


silences = st.builds(
    lambda hospital, expected, priority, source: {
        "hospital": hospital,
        "expected_discharge_on": expected,
        "priority": priority,
        "message": MessageIdentity(format=source, message_id="m", referral_id="r"),
    },
    st.sampled_from(SILENT),
    st.sampled_from([None, TODAY, TOMORROW]),
    st.sampled_from(["routine", "urgent"]),
    st.sampled_from(FORMATS),
)


@settings(max_examples=150, deadline=None)
@any_of(st.sampled_from(TEAMS), st.lists(silences, min_size=1, max_size=6), st.booleans())
def test_no_sequence_of_silent_messages_ends_a_stay_or_reaches_the_home_hub(
    team: tuple[Any, str], messages: list[dict[str, Any]], is_accepted: bool
) -> None:
    ward, hub = team
    story = given(received(WARD, ward()))
    if is_accepted:
        story.commanded(hub, Accept)
    for version, message in enumerate(messages, start=2):
        story.when(updated(WARD, ward(**message), version=version))
        assert place(story) == (hub, True)
        assert story.sent_to("blaby") == []


# ---- visits ---------------------------------------------------------------------------------------------------------


def in_visit(number: str | None, **given_: Any) -> Referral:
    return a_ward_referral(hospital=a_stay(visit=a_visit(number) if number else None), **given_)


def test_the_discharge_of_another_visit_ends_nothing_and_the_team_is_asked() -> None:
    story = given(received(WARD, in_visit("V2"))).when(updated(WARD, in_visit("V1", discharged_on=TODAY)))

    assert place(story) == (HOSPITAL, True)
    assert story.referral(WARD).referral.hospital == in_visit("V2").hospital
    assert asked(story) == [TaskKind.DISCHARGE_OVERDUE]


def asked(story: Story) -> list[TaskKind]:
    """Return the tasks that the last call gives to the hospital team."""
    return [event.kind for event in story.sent_to(HOSPITAL) if isinstance(event, TaskRaised)]


def test_the_team_is_asked_once_about_the_discharge_of_each_other_visit() -> None:
    story = given(received(WARD, in_visit("V3"))).when(updated(WARD, in_visit("V1", discharged_on=TODAY)))

    story.when(updated(WARD, in_visit("V1", discharged_on=TODAY, priority="urgent"), version=3))
    assert (story.event_names, asked(story)) == (["updated"], [])
    story.when(updated(WARD, in_visit("V2", discharged_on=TODAY), version=4))
    assert asked(story) == [TaskKind.DISCHARGE_OVERDUE]


@pytest.mark.parametrize(("held", "said"), [("V1", "V1"), ("V1", None), (None, "V1"), (None, None)])
def test_a_discharge_of_the_same_or_of_no_stated_visit_ends_the_stay(held: str | None, said: str | None) -> None:
    story = given(received(WARD, in_visit(held))).when(updated(WARD, in_visit(said, discharged_on=TODAY)))

    assert place(story) == ("blaby", False)


def by_pas(number: str, admitted: date | None, **given_: Any) -> Referral:
    """Return a referral whose visit number is of another system of the trust."""
    visit = Identifier(system="urn:pas", value=number)
    return a_ward_referral(hospital=HospitalStay(site="LRI", visit=visit, admitted_on=admitted), **given_)


@pytest.mark.parametrize(
    ("number", "admitted", "ends"),
    [
        ("V555", date(2026, 11, 18), True),
        ("V1", None, True),
        ("V555", date(2026, 11, 20), False),
        ("V555", None, False),
    ],
)
def test_the_numbers_of_two_systems_are_of_one_visit_if_the_day_of_admission_is_the_same(
    number: str, admitted: date | None, ends: bool
) -> None:
    story = given(received(WARD, a_ward_referral(hospital=a_stay(visit=a_visit("V1")))))
    story.when(updated(WARD, by_pas(number, admitted, discharged_on=YESTERDAY)))
    assert story.referral(WARD).in_stay is not ends


def test_another_visit_begins_a_stay_after_the_team_has_handed_over_and_the_same_one_does_not() -> None:
    story = given(received(WARD, in_visit("V1"))).commanded(HOSPITAL, Transfer, to_hub="blaby")
    assert place(story.when(updated(WARD, in_visit("V1", priority="urgent")))) == ("blaby", False)

    story.when(updated(WARD, in_visit("V2"), version=3))
    assert place(story) == (HOSPITAL, True)
    assert place(story.when(updated(WARD, in_visit("V2", discharged_on=TODAY), version=4))) == ("blaby", False)


@pytest.mark.parametrize(("admitted", "in_stay"), [(TODAY, True), (YESTERDAY, False), (None, False)])
def test_an_earlier_visits_discharge_that_is_repeated_with_a_later_visit_does_not_end_it(
    admitted: date | None, in_stay: bool
) -> None:
    story = given(received(WARD, in_visit("V1")), updated(WARD, in_visit("V1", discharged_on=YESTERDAY)))
    again = HospitalStay(site="LRI", visit=a_visit("V2"), admitted_on=admitted)
    story.when(updated(WARD, a_ward_referral(hospital=again, discharged_on=YESTERDAY), version=3))

    assert story.referral(WARD).in_stay is in_stay


def test_two_referrals_of_one_visit_hand_over_when_both_say_the_discharge() -> None:
    story = given(received(WARD, in_visit("V1")), received(SECOND, in_visit("V1")))
    story.when(updated(WARD, in_visit("V1", discharged_on=TODAY)))
    assert story.case.holding.hub == HOSPITAL
    assert story.sent_to("blaby") == []

    story.when(updated(SECOND, in_visit("V1", discharged_on=TODAY)))
    (event,) = story.sent_to("blaby")
    assert (event.role, len(event.referrals)) == ("holder", 2)


# ---- moves ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_accepted", [False, True])
def test_a_move_within_the_teams_hospitals_changes_the_worklist(is_accepted: bool) -> None:
    story = given(received(WARD, a_ward_referral()))
    if is_accepted:
        story.commanded(HOSPITAL, Accept)
    story.when(updated(WARD, a_ward_referral(hospital=a_stay("Glenfield"))))

    assert place(story) == (HOSPITAL, True)
    assert str(story.sent_to(HOSPITAL)[-1].case.worklist).startswith("Glenfield")
    assert story.sent_to("blaby") == []


@pytest.mark.parametrize("is_accepted", [False, True])
def test_a_discharge_to_another_trusts_hospital_leaves_the_case_with_the_team(is_accepted: bool) -> None:
    story = given(received(GP, a_referral()), received(WARD, a_ward_referral()))
    if is_accepted:
        story.commanded(HOSPITAL, Accept)
    story.when(updated(WARD, moved()))

    assert place(story) == (HOSPITAL, True)
    assert story.sent_to(HOSPITAL)[-1].case.business_status is BusinessStatus.MOVED
    assert story.sent_to("blaby") == []
    assert story.concerns(GP) == []


def test_a_move_that_is_taken_back_shows_the_progress_of_the_work_again() -> None:
    story = given(received(WARD, a_ward_referral()), updated(WARD, moved()), updated(WARD, a_ward_referral(), 3))

    assert place(story) == (HOSPITAL, True)
    assert story.sent_to(HOSPITAL)[-1].case.business_status is BusinessStatus.AWAITING_HUB


def test_a_referral_may_say_the_move_in_its_first_message() -> None:
    story = given(received(WARD, moved()))

    assert place(story) == (HOSPITAL, True)
    assert {event.case.business_status for event in story.sent_to(HOSPITAL)} == {BusinessStatus.MOVED}


def test_the_team_ends_the_stay_of_a_person_who_was_moved_by_handing_over() -> None:
    story = given(received(WARD, a_ward_referral()), updated(WARD, moved()))
    story.commanded(HOSPITAL, Transfer, to_hub="blaby")
    assert place(story) == ("blaby", False)
    assert story.sent_to("blaby")[-1].case.business_status is BusinessStatus.AWAITING_HUB

    story.when(updated(WARD, moved(priority="urgent"), version=3))
    assert place(story) == ("blaby", False)


@pytest.mark.parametrize("is_accepted", [False, True])
@pytest.mark.parametrize("order", [("moved", "referred"), ("referred", "moved")])
def test_the_new_trusts_referral_takes_the_case_in_either_order(is_accepted: bool, order: tuple[str, str]) -> None:
    bradgate = a_bradgate_referral(hospital=HospitalStay(site="Bradgate Unit"))
    story = given(received(WARD, a_ward_referral()))
    if is_accepted:
        story.commanded(HOSPITAL, Accept)
    messages = {"moved": updated(WARD, moved()), "referred": received(SECOND, bradgate)}
    story.when(*(messages[one] for one in order))

    assert story.case.holding.hub == BRADGATE
    assert (story.referral(WARD).in_stay, story.referral(SECOND).in_stay) == (False, True)
    assert story.case.holding.progress is BusinessStatus.AWAITING_HUB
    assert story.sent_to(HOSPITAL)[-1].role == "former"
    assert story.sent_to("blaby") == []


def test_the_new_trusts_team_gets_the_case_even_if_the_first_team_accepted_after_its_referral() -> None:
    earlier = a_bradgate_referral(hospital=HospitalStay(site="Bradgate Unit", admitted_on=date(2026, 11, 1)))
    story = given(received(WARD, a_ward_referral()), received(SECOND, earlier)).commanded(HOSPITAL, Accept)
    assert (story.refused, place(story)) == (None, (HOSPITAL, True))

    story.when(updated(WARD, moved()))
    assert place(story) == (BRADGATE, False)


def test_the_first_trusts_repeated_word_of_the_move_does_not_take_the_case_back() -> None:
    story = given(received(WARD, a_ward_referral()), updated(WARD, moved()), received(SECOND, by_kettering()))
    story.when(updated(WARD, moved(priority="urgent"), version=3))
    assert (story.case.holding.hub, story.referral(WARD).in_stay) == (HOSPITAL, False)

    story.when(updated(SECOND, by_kettering(discharged_on=TODAY)))
    assert (story.case.stay, story.case.holding.hub) == (None, "blaby")
    story.when(updated(WARD, moved(), version=4))
    assert (story.case.stay, story.case.holding.hub) == (None, "blaby")


def test_a_second_referral_of_the_same_visit_is_not_the_word_of_another_trust() -> None:
    to_kettering = a_stay(visit=a_visit("V1"), moved_to="Kettering")
    story = given(received(WARD, in_visit("V1")))
    story.when(updated(WARD, a_ward_referral(hospital=to_kettering, discharged_on=TODAY)))
    story.when(received(SECOND, in_visit("V1")))

    assert story.referral(WARD).in_stay
    assert story.case.holding.progress is BusinessStatus.AWAITING_HUB


# ---- a cancelled admission ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ward", "team"), TEAMS)
def test_after_a_cancelled_admission_the_home_hub_gets_the_case_and_nobody_hears_of_a_discharge(
    ward: Any, team: str
) -> None:
    dates = {"expected_discharge_on": TOMORROW, "ready_for_transfer_on": TODAY}
    first = ward(**dates)
    assert first.hospital is not None
    no_stay = first.hospital.model_copy(update={"admission_cancelled": True})
    story = given(received(GP, a_referral()), received(WARD, first)).commanded(team, Accept)
    story.when(updated(WARD, ward(hospital=no_stay, **dates)))

    assert place(story) == ("blaby", False)
    assert story.referral(WARD).status is CaseStatus.REQUESTED
    (event,) = story.sent_to("blaby")
    assert [one.reference for one in event.referrals] == [GP, WARD]
    text = event.model_dump_json()
    for secret in ("handed-over", "inpatient", str(TOMORROW), '"admission_cancelled"'):
        assert secret not in text
    assert [event.role for event in story.sent_to(team)] == ["holder", "former"]
    told = [reason for _, context in story.concerns(WARD) for reason in context.reasons]
    assert not {RoutingReason.HANDED_OVER, RoutingReason.INPATIENT} & set(told)


def test_after_a_cancelled_admission_a_city_patient_is_returned() -> None:
    cancelled_stay = a_stay(admission_cancelled=True)
    story = given(received(WARD, a_ward_referral(postcode=IN_THE_CITY)))
    story.when(updated(WARD, a_ward_referral(postcode=IN_THE_CITY, hospital=cancelled_stay)))

    assert story.event_names == ["updated", "rejected"]


# ---- a reported death -----------------------------------------------------------------------------------------------

ENDS: list[dict[str, Any]] = [{"discharged_on": TODAY}, {"hospital": a_stay(admission_cancelled=True)}]


@pytest.mark.parametrize("end", ENDS, ids=["discharge", "cancelled admission"])
@pytest.mark.parametrize("messages", ["one", "death first"])
def test_a_reported_death_comes_before_the_end_of_the_stay(end: dict[str, Any], messages: str) -> None:
    story = given(received(WARD, a_ward_referral()))
    if messages == "death first":
        story.when(updated(WARD, a_ward_referral(person=dead())))
    story.when(updated(WARD, a_ward_referral(person=dead(), **end), version=3))
    assert place(story) == (HOSPITAL, True)
    assert story.sent_to("blaby", ever=True)[1:] == []

    story.when(updated(WARD, a_ward_referral(person=dead(), priority="urgent", **end), version=4))
    assert place(story) == (HOSPITAL, True)
    story.commanded(HOSPITAL, WithdrawDeathReport)
    assert place(story) == ("blaby", False)
    assert [event.role for event in story.sent_to("blaby")] == ["holder"]


def test_a_death_that_a_hub_reported_holds_the_discharge_and_its_confirmation_ends_all() -> None:
    story = given(received(GP, a_referral()), received(WARD, a_ward_referral())).commanded(HOSPITAL, ReportDeath)
    story.when(updated(WARD, a_ward_referral(discharged_on=TODAY)))
    assert place(story) == (HOSPITAL, True)

    story.commanded(HOSPITAL, ConfirmDeath)
    assert story.case.ended is CaseStatus.CANCELLED
    assert not any(record.is_open for record in story.state.referrals.values())


def test_a_first_message_of_a_patient_who_died_in_hospital_stays_with_the_team() -> None:
    story = given(received(WARD, a_ward_referral(person=dead(), discharged_on=TODAY)))
    assert place(story) == (HOSPITAL, True)

    assert place(story.commanded(HOSPITAL, WithdrawDeathReport)) == ("blaby", False)


def test_after_a_confirmed_death_a_discharge_is_not_held_back() -> None:
    story = given(received(GP, a_referral())).commanded("blaby", ReportDeath).commanded("blaby", ConfirmDeath)
    story.when(received(WARD, a_ward_referral(discharged_on=TODAY)), received(SECOND, a_ward_referral()))
    assert (story.referral(WARD).in_stay, story.referral(SECOND).in_stay) == (False, True)

    story.when(updated(SECOND, a_ward_referral(discharged_on=TODAY)))
    assert not story.referral(SECOND).in_stay


def test_after_the_withdrawal_a_city_patient_whom_the_team_accepted_stays_with_it() -> None:
    city = {"postcode": IN_THE_CITY}
    story = given(received(WARD, a_ward_referral(**city))).commanded(HOSPITAL, Accept).commanded(HOSPITAL, ReportDeath)
    story.when(updated(WARD, a_ward_referral(**city, discharged_on=TODAY)))

    assert place(story.commanded(HOSPITAL, WithdrawDeathReport)) == (HOSPITAL, True)


# ---- any order ------------------------------------------------------------------------------------------------------

WORDS: list[dict[str, Any]] = [
    {},
    {"hospital": None},
    {"discharged_on": TODAY},
    {"discharged_on": TOMORROW},
    {"hospital": a_stay(moved_to="Kettering"), "discharged_on": TODAY},
    {"hospital": a_stay(admission_cancelled=True)},
]


@settings(max_examples=200, deadline=None)
@any_of(st.lists(st.sampled_from(WORDS), min_size=1, max_size=5), st.booleans())
def test_the_last_word_of_the_hospital_decides_whatever_came_before(
    words: list[dict[str, Any]], is_accepted: bool
) -> None:
    """Silence counts for nothing: the state is that of the last message that says something of the stay."""
    story, said = given(received(WARD, a_ward_referral())), WORDS[0]
    if is_accepted:
        story.commanded(HOSPITAL, Accept)
    for version, word in enumerate(words, start=2):
        story.when(updated(WARD, a_ward_referral(**word), version=version))
        said = word if word != {"hospital": None} else said
    is_over = said in (WORDS[2], WORDS[5])

    assert place(story) == (("blaby", False) if is_over else (HOSPITAL, True))
