"""A reported death holds contact at every hub with an open referral and ends nothing; only a confirmed one ends referrals."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given as given_any
from hypothesis import settings
from hypothesis import strategies as st

from schemas.case import CaseStatus, EndReason, Finding, HoldReason, Intervention, RoutingReason, TaskKind
from schemas.events import (
    Accept,
    Assess,
    Assign,
    Book,
    Cancel,
    CaseCancelled,
    Complete,
    ConfirmDeath,
    ContactHeld,
    Hold,
    Record,
    ReferralCancellationNotApplied,
    ReferralCancelled,
    Reject,
    ReportDeath,
    Start,
    TaskRaised,
    Transfer,
    WithdrawDeathReport,
)
from schemas.model import Reference
from schemas.referral import DeathReport, Person, Referral
from services.router.decide.lifecycle import EmittedEvent, UnknownReferral
from services.router.decide.tasks import next_weekday
from tests.builders.events import TODAY, cancelled, received, updated
from tests.builders.reference_data import AT_BLABY, AT_CHARNWOOD, IN_THE_CITY
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
from tests.router.story import Story, everything, given

HOSPITAL, BRADGATE = "hospital-housing", "hospital-housing-bradgate"
NEED = "minor-adaptations"
VISIT = datetime(2026, 12, 1, 10, tzinfo=UTC)
DIED_ON = date(2026, 11, 21)
FOUND = Finding(reference=GP, service=NEED, finding="need-confirmed")
RAILS = Intervention(reference=GP, service=NEED, action="grab rails fitted", provider="Handyperson", on=TODAY)


def dead(person: Person | None = None, died_on: date | None = DIED_ON) -> Person:
    return (person or a_person()).model_copy(update={"death_reported": DeathReport(died_on=died_on)})


def reported(reference: str = GP, **given_: Any) -> Any:
    return updated(reference, a_referral(person=dead(), **given_))


def is_held(story: Story, hub: str) -> list[bool]:
    return [event.case.check_before_contact for event in story.sent_to(hub)]


def accepted() -> Story:
    return given(received(GP, a_referral())).commanded("blaby", Accept)


def held() -> Story:
    return accepted().when(reported())


# ---- a report -------------------------------------------------------------------------------------------------------


def test_a_report_in_an_update_holds_contact_and_ends_nothing() -> None:
    story = held()

    assert story.event_names == ["contact-held", "task-raised", "updated"]
    assert is_held(story, "blaby") == [True, True, True]
    assert story.referral(GP).is_open
    assert story.concerns(GP) == [("updated", story.concerns(GP)[0][1])]


def test_a_report_in_a_new_referral_holds_contact_for_the_referrals_that_the_person_had() -> None:
    story = accepted().when(received(FORM, a_form(person=dead())))

    assert "contact-held" in story.event_names
    assert is_held(story, "blaby")[-1]
    assert {story.referral(reference).is_open for reference in (GP, FORM)} == {True}


def test_a_report_by_a_hub_holds_contact_even_if_its_version_is_old() -> None:
    story = accepted().when(received(FORM, a_form())).commanded("blaby", ReportDeath, on=1)

    assert story.event_names == ["contact-held", "task-raised"]
    assert story.event("contact-held").command_id == "command-2"


def test_a_report_reaches_the_hub_that_follows_on_without_who_reported_it() -> None:
    story = given(received(GP, a_referral()), received(WARD, a_bradgate_referral()))
    story.commanded(BRADGATE, ReportDeath)

    (at_home,), (at_hospital, task) = story.sent_to("blaby"), story.sent_to(BRADGATE)
    assert at_home.case.check_before_contact
    assert at_hospital.case.check_before_contact
    assert (at_home.decided_by, at_home.command_id, at_hospital.decided_by) == (None, None, BRADGATE)
    assert isinstance(task, TaskRaised)
    (happening, _) = story.emitted
    assert isinstance(happening, EmittedEvent)
    assert happening.conversations == {"blaby": f"correlation of {GP}", BRADGATE: f"correlation of {GP}"}


def test_the_hub_that_follows_on_reads_the_same_for_every_source_at_the_hospital() -> None:
    def at_hospital() -> Story:
        return given(received(GP, a_referral()), received(WARD, a_bradgate_referral()))

    by_ward = at_hospital().when(updated(WARD, a_bradgate_referral(person=dead())))
    by_team = at_hospital().commanded(BRADGATE, ReportDeath)

    assert by_ward.sent_to("blaby") == by_team.sent_to("blaby")
    assert len(by_team.sent_to("blaby")) == 1


def test_the_holder_is_not_told_which_hub_reported_a_death() -> None:
    story = given(received(GP, a_referral()), received(WARD, a_ward_referral())).commanded("blaby", ReportDeath)

    (at_hospital, _), (at_home,) = story.sent_to(HOSPITAL), story.sent_to("blaby")
    assert (at_hospital.decided_by, at_hospital.command_id) == (None, None)
    assert (at_home.decided_by, at_home.command_id) == ("blaby", "command-1")


def test_a_hub_that_sees_no_open_referral_learns_nothing_of_a_report_until_it_holds_the_case() -> None:
    story = given(received(WARD, a_ward_referral())).commanded(HOSPITAL, ReportDeath)
    assert story.sent_to("blaby") == []
    assert story.commanded("blaby", ReportDeath).refused is not None
    assert story.refused is not None
    assert story.refused.reason == "not-permitted"

    story.commanded(HOSPITAL, Transfer, to_hub="blaby")
    assert is_held(story, "blaby") == [True]


def test_a_home_hub_does_not_read_the_hospitals_report_in_the_referral_that_it_is_handed() -> None:
    for ward, team in ((a_ward_referral, HOSPITAL), (a_bradgate_referral, BRADGATE)):
        story = given(received(WARD, ward(person=dead()))).commanded(team, Transfer, to_hub="blaby")
        (handed,) = story.sent_to("blaby")
        assert handed.case.check_before_contact
        assert "2026-11-21" not in handed.model_dump_json()
        assert "died_on" not in handed.model_dump_json(exclude_none=True)


def test_an_update_of_an_ended_referral_reports_a_death_for_the_open_ones() -> None:
    story = given(received(GP, a_referral()), received(FORM, a_form()), cancelled(GP))
    story.when(updated(GP, a_referral(person=dead()), version=3))

    assert is_held(story, "blaby")[0]


def died(reference: str = GP, version: int = 2, **given_: Any) -> ReferralCancelled:
    return cancelled(reference, version, death_reported=DeathReport(died_on=DIED_ON), **given_)


@pytest.mark.parametrize("reason", [EndReason.CANCELLED_BY_REFERRER, EndReason.CONSENT_WITHDRAWN])
def test_a_cancel_that_reports_a_death_holds_contact_for_the_other_open_referrals(reason: EndReason) -> None:
    story = given(received(GP, a_referral()), received(FORM, a_form())).commanded("blaby", Accept)
    story.when(died(FORM, reason=reason))

    assert story.event_names == ["cancelled", "contact-held", "task-raised"]
    assert is_held(story, "blaby") == [True, True, True]
    assert (story.referral(FORM).is_open, story.referral(GP).is_open) == (False, True)
    assert (story.concerns(GP), [name for name, _ in story.concerns(FORM)]) == ([], ["cancelled"])
    assert story.event("cancelled").reason is reason  # type: ignore[attr-defined]  # it is a CaseCancelled
    assert story.commanded("blaby", Book, visit_at=VISIT).refused is not None


def test_a_cancel_of_a_stay_that_reports_a_death_gives_the_task_to_the_hub_that_now_holds_the_case() -> None:
    story = given(received(GP, a_referral()), received(WARD, a_bradgate_referral())).when(died(WARD))

    assert [data.TYPE.split(".")[-2] for data in story.sent_to("blaby")] == ["assigned", "contact-held", "task-raised"]
    assert is_held(story, "blaby") == [True, True, True]
    assert "2026-11-21" not in "".join(data.model_dump_json() for data in story.sent_to("blaby"))


def test_a_cancel_that_reports_a_death_of_a_person_without_other_referrals_holds_the_next_one() -> None:
    story = accepted().when(died())
    assert story.event_names == ["cancelled"]

    story.when(received(FORM, a_form()))
    assert story.event_names == ["opened", "task-raised"]
    assert is_held(story, "blaby") == [True, True]


def test_a_cancel_of_an_ended_referral_reports_a_death_for_the_open_ones() -> None:
    story = given(received(GP, a_referral()), received(FORM, a_form()), cancelled(GP)).when(died(GP, 3))

    assert story.event_names == ["cancellation-refused", "contact-held", "task-raised"]
    assert is_held(story, "blaby")[-1]


def test_a_cancel_repeats_no_report_that_was_withdrawn() -> None:
    for first in (reported(), died()):
        story = given(received(FORM, a_form()), received(GP, a_referral()), first)
        assert "contact-held" in story.event_names
        story.commanded("blaby", WithdrawDeathReport)
        assert "contact-held" not in story.when(died(GP, 3)).event_names


def test_a_report_about_another_person_under_the_same_key_holds_nothing() -> None:
    story = accepted().when(received(FORM, a_form(person=dead(a_person(birth_date=date(1999, 1, 1))))))

    of_gp = story.state.persons[story.referral(GP).person_no]
    assert story.referral(FORM).person_no != of_gp.person_no
    assert not of_gp.check_before_contact
    assert (
        story.commanded("blaby", Book, visit_at=VISIT, case=story.state.cases[story.referral(GP).case_id]).refused
        is None
    )


def test_a_second_report_adds_no_event() -> None:
    story = held().when(received(FORM, a_form(person=dead())))

    assert story.event_names == ["joined", "assigned"]
    assert is_held(story, "blaby") == [True]


def test_a_new_referral_of_a_person_with_a_hold_is_held_too() -> None:
    story = given(received(WARD, a_ward_referral(person=dead()))).when(received(GP, a_referral()))

    assert is_held(story, "blaby") == [True]


def test_a_new_case_of_a_person_who_was_reported_dead_has_a_task() -> None:
    story = given(received(GP, a_referral()), cancelled(GP), updated(GP, a_referral(person=dead()), version=3))
    story.when(received(FORM, a_form()))

    assert story.event_names == ["opened", "task-raised"]
    assert is_held(story, "blaby") == [True, True]


def test_the_same_statement_in_a_later_update_is_not_a_new_report() -> None:
    story = held().commanded("blaby", WithdrawDeathReport)
    story.when(updated(GP, a_referral("hoarding", person=dead()), version=3))

    assert "contact-held" not in story.event_names
    assert "contact-held" in story.when(updated(GP, a_referral(person=dead(died_on=TODAY)), version=4)).event_names


def test_an_update_without_the_report_does_not_end_the_hold() -> None:
    story = held().when(updated(GP, a_referral(), version=3))

    assert is_held(story, "blaby") == [True]
    assert story.commanded("blaby", Book, visit_at=VISIT).refused is not None


# ---- what a hold prevents -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("command", "data"), [(Book, {"visit_at": VISIT}), (Start, {})])
def test_a_command_that_plans_contact_is_refused_with_what_to_do(command: Any, data: dict[str, Any]) -> None:
    story = held().commanded("blaby", command, **data)

    assert story.refused is not None
    assert story.refused.reason == "impossible"
    assert "confirm-death" in story.refused.explanation
    assert "withdraw-death-report" in story.refused.explanation


@pytest.mark.parametrize(
    ("command", "data"),
    [
        (Hold, {"reason": HoldReason.OTHER}),
        (Assess, {"findings": (FOUND,)}),
        (Record, {"interventions": (RAILS,)}),
        (Record, {"no_contact_on": TODAY}),
        (Complete, {"ended": everything({GP: [NEED]})}),
        (Cancel, {"ended": everything({GP: [NEED]}), "reason": EndReason.PERSON_DECLINED}),
        (Transfer, {"to_hub": "melton"}),
    ],
)
def test_what_was_done_can_be_recorded_and_the_case_moved_or_ended_during_a_hold(
    command: Any, data: dict[str, Any]
) -> None:
    assert held().commanded("blaby", command, **data).refused is None


@pytest.mark.parametrize("command", [Cancel, Reject])
def test_no_other_command_says_that_the_person_has_died(command: Any) -> None:
    for story in (accepted(), held()):
        story.commanded("blaby", command, ended=everything({GP: [NEED]}), reason=EndReason.DIED)
        assert story.refused is not None
        assert "report-death" in story.refused.explanation


# ---- withdrawn ------------------------------------------------------------------------------------------------------


def test_the_holder_withdraws_a_report_of_any_party_and_may_book_again() -> None:
    story = held().commanded("blaby", WithdrawDeathReport)

    assert (story.event_names, is_held(story, "blaby")) == (["contact-hold-ended"], [False])
    assert story.commanded("blaby", Book, visit_at=VISIT).refused is None


def test_a_hub_that_follows_on_withdraws_only_its_own_report() -> None:
    def during_a_stay() -> Story:
        return given(received(GP, a_referral()), received(WARD, a_ward_referral())).commanded("blaby", ReportDeath)

    assert during_a_stay().commanded("blaby", WithdrawDeathReport).event_names == ["contact-hold-ended"]
    both = during_a_stay().when(updated(WARD, a_ward_referral(person=dead()))).commanded("blaby", WithdrawDeathReport)
    assert both.refused is not None
    assert both.refused.reason == "not-permitted"


@pytest.mark.parametrize("command", [ConfirmDeath, WithdrawDeathReport])
def test_without_a_report_there_is_nothing_to_confirm_or_to_withdraw(command: Any) -> None:
    story = accepted().commanded("blaby", command)

    assert story.refused is not None
    assert story.refused.reason == "impossible"


# ---- confirmed ------------------------------------------------------------------------------------------------------


def test_a_confirmed_death_ends_every_open_referral_and_tells_each_referrer_once() -> None:
    story = given(received(GP, a_referral()), received(FORM, a_form()), received(WARD, a_ward_referral()))
    story.commanded(HOSPITAL, ReportDeath)
    assert [story.concerns(reference) for reference in (GP, FORM, WARD)] == [[], [], []]

    story.commanded(HOSPITAL, ConfirmDeath)
    ended = story.event("cancelled")
    assert isinstance(ended, CaseCancelled)
    assert ended.reason is EndReason.DIED
    assert [[name for name, _ in story.concerns(reference)] for reference in (GP, FORM, WARD)] == [["cancelled"]] * 3
    assert (story.case.ended, story.referral(GP).is_open) == (CaseStatus.CANCELLED, False)


def test_a_hub_that_follows_on_may_not_confirm() -> None:
    story = given(received(GP, a_referral()), received(WARD, a_ward_referral())).commanded("blaby", ReportDeath)

    refused = story.commanded("blaby", ConfirmDeath).refused
    assert refused is not None
    assert refused.reason == "not-permitted"


def test_the_other_hub_learns_of_a_confirmed_death_without_who_confirmed_it() -> None:
    story = given(received(GP, a_referral()), received(WARD, a_bradgate_referral())).commanded(BRADGATE, ReportDeath)
    story.commanded(BRADGATE, ConfirmDeath)

    (at_home,) = story.sent_to("blaby")
    assert isinstance(at_home, CaseCancelled)
    assert (at_home.reason, at_home.decided_by, at_home.command_id) == (EndReason.DIED, None, None)
    assert [one.reference for one in at_home.ended] == [GP]


@pytest.mark.parametrize("postcode", [AT_CHARNWOOD, IN_THE_CITY])
def test_a_referral_after_a_confirmed_death_waits_at_triage_with_a_task(postcode: str) -> None:
    story = held().commanded("blaby", ConfirmDeath).when(received(FORM, a_form(postcode=postcode)))

    assert story.event_names == ["opened", "task-raised"]
    case = story.state.cases[story.referral(FORM).case_id]
    assert (case.holding.hub, case.home.reasons) == ("triage", (RoutingReason.TO_BE_CHECKED,))
    assert is_held(story, "triage") == [True, True]

    story.commanded("triage", WithdrawDeathReport, case=case)
    story.commanded("triage", Assign, case=story.state.cases[case.case_id], to_hub="charnwood")
    assert is_held(story, "charnwood") == [False]


def test_a_stay_after_a_confirmed_death_stays_with_the_hospital_team() -> None:
    story = held().commanded("blaby", ConfirmDeath).when(received(WARD, a_bradgate_referral()))

    assert story.state.cases[story.referral(WARD).case_id].holding.hub == BRADGATE
    assert story.sent_to("triage") == []
    assert is_held(story, BRADGATE) == [True, True]


def test_a_death_that_is_confirmed_again_ends_the_new_referral_too() -> None:
    story = held().commanded("blaby", ConfirmDeath).when(received(FORM, a_form()))
    story.commanded("triage", ConfirmDeath)

    assert [name for name, _ in story.concerns(FORM)] == ["cancelled"]


# ---- tasks ----------------------------------------------------------------------------------------------------------


def not_applied(reference: str, version: int = 3, **given_: Any) -> ReferralCancellationNotApplied:
    return ReferralCancellationNotApplied.model_validate({"reference": reference, "version": version, **given_})


def test_a_cancellation_that_is_not_applied_is_a_task_for_the_holder_and_changes_nothing() -> None:
    story = accepted()
    before = story.referral(GP)
    story.when(not_applied(GP))

    (task,) = story.sent_to("blaby")
    assert isinstance(task, TaskRaised)
    assert (task.kind, task.about, task.due) == (TaskKind.CHECK_CANCELLATION, GP, date(2026, 11, 24))
    assert story.concerns(GP) == []
    assert story.referral(GP) == before.model_copy(update={"version": 3})
    assert story.when(not_applied(GP)).emitted == []


def test_a_cancellation_that_is_not_applied_reports_a_death() -> None:
    story = accepted().when(not_applied(GP, death_reported=DeathReport(died_on=DIED_ON)))

    assert story.event_names == ["contact-held", "task-raised", "task-raised"]
    assert is_held(story, "blaby") == [True, True, True]
    assert story.referral(GP).is_open
    assert story.concerns(GP) == []


def test_during_a_stay_the_task_goes_to_the_hub_that_works_on_the_referral() -> None:
    story = given(received(GP, a_referral()), received(WARD, a_bradgate_referral()))

    story.when(not_applied(GP))
    assert (len(story.sent_to("blaby")), story.sent_to(BRADGATE)) == (1, [])
    story.when(not_applied(WARD))
    assert (story.sent_to("blaby"), len(story.sent_to(BRADGATE))) == ([], 1)


def test_a_cancellation_that_is_not_applied_of_an_unknown_referral_waits_for_its_referral() -> None:
    with pytest.raises(UnknownReferral):
        accepted().when(not_applied(FORM))


def test_no_task_is_raised_about_a_referral_that_has_ended() -> None:
    assert accepted().when(cancelled(GP), not_applied(GP)).event_names == ["cancelled"]


@pytest.mark.parametrize(
    ("day", "due"),
    [(date(2026, 11, 23), date(2026, 11, 24)), *((date(2026, 11, d), date(2026, 11, 30)) for d in (27, 28, 29))],
)
def test_a_task_is_due_on_the_next_weekday(day: date, due: date) -> None:
    assert next_weekday(day) == due


# ---- any order of inputs --------------------------------------------------------------------------------------------

REFERRALS: dict[str, Callable[..., Referral]] = {GP: a_referral, FORM: a_form, WARD: a_bradgate_referral}
HUBS = ("blaby", "charnwood", "triage", BRADGATE)
references = st.sampled_from([GP, FORM, WARD])
messages = st.tuples(
    st.just("message"),
    references,
    st.booleans(),
    st.sampled_from([None, TODAY]),
    st.sampled_from([AT_BLABY, AT_CHARNWOOD]),
)
commands = st.one_of(
    st.tuples(st.sampled_from([ReportDeath, ConfirmDeath, WithdrawDeathReport]), st.just({})),
    st.tuples(st.sampled_from([Accept, Start]), st.just({})),
    st.tuples(st.just(Book), st.just({"visit_at": VISIT})),
    st.tuples(st.just(Transfer), st.fixed_dictionaries({"to_hub": st.sampled_from(HUBS)})),
    st.tuples(
        st.just(Cancel),
        st.builds(
            lambda reference, reason: {"ended": everything({reference: [NEED]}), "reason": reason},
            references,
            st.sampled_from([EndReason.DIED, EndReason.OTHER]),
        ),
    ),
)
histories = st.lists(
    st.one_of(messages, st.tuples(st.just("command"), st.sampled_from(HUBS), commands)), min_size=2, max_size=14
)


def play(story: Story, one: Any, version: int) -> None:
    if one[0] == "command":
        command, data = one[2]
        story.commanded(one[1], command, **data)
        return
    _, reference, is_dead, discharged, postcode = one
    person = a_person(address=an_address(postcode))
    given_: dict[str, Any] = {"person": dead(person) if is_dead else person}
    if reference == WARD:
        given_["discharged_on"] = discharged
    send = updated if reference in story.state.referrals else received
    story.when(send(reference, REFERRALS[reference](NEED, **given_), version))


@settings(max_examples=400, deadline=None)
@given_any(histories)
def test_in_any_order_nothing_ends_by_a_report_and_each_referrer_is_told_once(history: list[Any]) -> None:
    story = Story()
    told: list[str] = []
    for version, one in enumerate(history, start=1):
        before = story.state
        play(story, one, version)
        has_died = [one for one in story.emitted if isinstance(one, EmittedEvent) and is_told_dead(one)]
        told += [context.reference for one in has_died for context in one.data.referral_contexts]
        if one[0] == "message" or one[2][0] is not ConfirmDeath:
            assert has_died == []
        elif story.refused is None:
            assert not any(record.is_open for record in story.state.referrals.values())
        if is_command(one, Book, Start) and story.refused is None:
            assert not any(person.check_before_contact for person in before.persons.values())
        assert_hubs_may_read(story)
    assert len(told) == len(set(told))


@settings(max_examples=200, deadline=None)
@given_any(histories, references, st.booleans())
def test_a_death_in_a_cancel_holds_the_other_open_referrals_as_one_in_an_update(
    history: list[Any], reference: Reference, applied: bool
) -> None:
    """Whatever came before, the same hubs have contact on hold as after an update that reports the death and then the cancel."""
    story = Story()
    for version, one in enumerate(history, start=1):
        play(story, one, version)
    record = story.state.referrals.get(reference)
    if record is None or record.referral.person.death_reported is not None:
        return
    was_held = story.state.persons[record.person_no].check_before_contact
    by_update = replace(story, all_emitted=list(story.all_emitted))
    person = record.referral.person.model_copy(update={"death_reported": DeathReport(died_on=DIED_ON)})
    by_update.when(updated(reference, record.referral.model_copy(update={"person": person}), 100))
    if applied:
        by_update.when(cancelled(reference, 101))
    told = [died(reference, 101), not_applied(reference, 101, death_reported=DeathReport(died_on=DIED_ON))]
    story.when(told[0] if applied else told[1])

    assert story.state.persons == by_update.state.persons
    assert not any(is_told_dead(one) for one in story.emitted if isinstance(one, EmittedEvent))
    assert holds(story) == holds(by_update)
    assert_hubs_may_read(story)
    if not was_held:
        informed = {hub for hub in HUBS for data in story.sent_to(hub) if isinstance(data, ContactHeld)}
        assert {hub for (hub, _), is_held in holds(story, record.person_no).items() if is_held} <= informed


def holds(story: Story, person_no: int | None = None) -> dict[tuple[str, str], bool]:
    """Return what the last event of each case said of contact, by hub and case, where the hub sees an open referral.

    `person_no`: only the cases of this person.
    """
    last = {(hub, data.case_id): data for hub in HUBS for data in story.sent_to(hub, ever=True)}
    return {
        (hub, case_id): data.case.check_before_contact
        for (hub, case_id), data in last.items()
        if data.others_count or any(CaseStatus(one.status).is_open for one in data.referrals)
        if person_no in (None, story.state.cases[case_id].person_no)
    }


def is_command(one: Any, *kinds: type) -> bool:
    return one[0] == "command" and one[2][0] in kinds


def is_told_dead(one: EmittedEvent) -> bool:
    return isinstance(one.data, CaseCancelled) and one.data.reason is EndReason.DIED


def assert_hubs_may_read(story: Story) -> None:
    """No hub but the restricted team learns who reported a death, the date of it, or anything of the unit."""
    for happening in story.emitted:
        for hub, data in happening.hubs if isinstance(happening, EmittedEvent) else ():
            text = data.model_dump_json()
            if hub != BRADGATE:
                assert "bradgate" not in text.lower()
                if isinstance(data, ContactHeld) and data.decided_by != hub:
                    assert data.decided_by is None
                ward = [one.referral.person for one in data.referrals if one.reference == WARD]
                assert all(person.death_reported is None for person in ward)
            held_at = story.state.persons[story.state.cases[data.case_id].person_no].check_before_contact
            if data.role == "holder" and data is story.sent_to(hub)[-1]:
                assert data.case.check_before_contact is held_at
