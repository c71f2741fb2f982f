"""Messages that are stored and not applied, and an overdue discharge: each is a task for one hub, and changes nothing else."""

from typing import Any

import pytest

from schemas.case import TaskKind
from schemas.events import DischargeOverdue, ReferralMergeProposed, ReferralUpdateNotApplied, TaskRaised
from schemas.referral import DeathReport, Referral
from services.router.decide.lifecycle import UnknownReferral
from tests.builders.events import TODAY, cancelled, received, updated
from tests.builders.referrals import FORM, GP, WARD, a_bradgate_referral, a_referral, a_ward_referral
from tests.router.story import Story, given

HOSPITAL, BRADGATE = "hospital-housing", "hospital-housing-bradgate"


def contradicted(reference: str, version: int = 2, **data: Any) -> ReferralUpdateNotApplied:
    data |= {"reference": reference, "version": version, "reason": "other-person"}
    return ReferralUpdateNotApplied.model_validate(data)


def merge_of(reference: str, version: int = 2) -> ReferralMergeProposed:
    return ReferralMergeProposed.model_validate({"reference": reference, "version": version})


def tasks_of(story: Story, hub: str) -> list[tuple[TaskKind, str | None]]:
    return [(event.kind, event.about) for event in story.sent_to(hub) if isinstance(event, TaskRaised)]


@pytest.mark.parametrize("message", [contradicted, merge_of])
def test_a_message_about_who_the_person_is_is_a_task_for_the_hub_that_works_on_the_referral(message: Any) -> None:
    story = given(received(GP, a_referral()), received(WARD, a_bradgate_referral())).when(message(WARD))

    assert story.event_names == ["task-raised"]
    assert tasks_of(story, BRADGATE) == [(TaskKind.CHECK_PERSON, WARD)]
    assert story.sent_to("blaby") == []


@pytest.mark.parametrize("message", [contradicted, merge_of])
def test_after_a_restricted_stay_no_hub_is_asked_and_after_another_the_home_hub_is(message: Any) -> None:
    for ward, asked in ((a_ward_referral, [(TaskKind.CHECK_PERSON, WARD)]), (a_bradgate_referral, [])):
        story = given(received(WARD, ward()), updated(WARD, ward(discharged_on=TODAY))).when(message(WARD, version=3))
        assert tasks_of(story, "blaby") == asked
        assert len(story.state.persons[1].tracing_reasons) == 1


def test_the_holder_is_asked_about_a_referral_whose_stay_is_over_while_another_goes_on() -> None:
    story = given(received(FORM, a_ward_referral()), received(WARD, a_ward_referral()))
    story.when(updated(WARD, a_ward_referral(discharged_on=TODAY)), contradicted(WARD, version=3))

    assert tasks_of(story, HOSPITAL) == [(TaskKind.CHECK_PERSON, WARD)]


@pytest.mark.parametrize(("message", "doubt"), [(contradicted, "contradicted"), (merge_of, "merge-proposed")])
def test_it_is_a_doubt_for_tracing_that_does_not_make_the_person_provisional(message: Any, doubt: str) -> None:
    story = given(received(GP, a_referral()))
    before = story.referral(GP)
    story.when(message(GP))

    (person,) = story.state.persons.values()
    assert (person.tracing_reasons, person.provisional) == ((doubt,), False)
    assert story.referral(GP) == before.model_copy(update={"version": 2})
    assert story.concerns(GP) == []


@pytest.mark.parametrize("message", [contradicted, merge_of])
def test_an_older_one_changes_nothing_and_one_for_an_unknown_referral_waits(message: Any) -> None:
    story = given(received(GP, a_referral())).when(message(GP))

    assert story.when(message(GP)).emitted == []
    with pytest.raises(UnknownReferral):
        story.when(message(FORM))


@pytest.mark.parametrize("message", [contradicted, merge_of])
def test_a_referral_that_has_ended_needs_no_decision(message: Any) -> None:
    assert given(received(GP, a_referral()), cancelled(GP)).when(message(GP, version=3)).emitted == []


def test_an_update_that_is_not_applied_reports_a_death() -> None:
    story = given(received(GP, a_referral())).when(contradicted(GP, death_reported=DeathReport()))

    assert story.event_names == ["contact-held", "task-raised", "task-raised"]


# ---- an overdue discharge -------------------------------------------------------------------------------------------


def overdue(reference: str = WARD) -> DischargeOverdue:
    return DischargeOverdue.model_validate({"reference": reference, "expected_on": TODAY})


def expected(**given_: Any) -> Referral:
    return a_ward_referral(expected_discharge_on=TODAY, **given_)


def test_an_overdue_discharge_is_a_task_for_the_hospital_team() -> None:
    story = given(received(WARD, expected())).when(overdue())

    assert story.event_names == ["task-raised"]
    assert tasks_of(story, HOSPITAL) == [(TaskKind.DISCHARGE_OVERDUE, WARD)]
    assert story.sent_to("blaby") == []


@pytest.mark.parametrize("referral", [expected(discharged_on=TODAY), a_ward_referral(), expected(hospital=None)])
def test_no_discharge_is_overdue_if_the_stay_is_over_or_another_day_is_expected(referral: Referral) -> None:
    assert given(received(WARD, referral)).when(overdue()).emitted == []
