"""Who may learn what an unread part says: the same random schedules, played with two texts, differ only for the hubs that read it."""

from typing import Any

import pytest
from hypothesis import given as any_of
from hypothesis import settings
from hypothesis import strategies as st

from schemas.events import Accept, Assign, MarkRead, Transfer
from schemas.model import Reference
from schemas.referral import HospitalStay, Referral, UnreadPart
from services.router.decide.lifecycle import EmittedEvent
from tests.builders.events import TODAY, cancelled, received, updated
from tests.builders.hub_views import rebuilt_from
from tests.builders.reference_data import AT_CHARNWOOD, AT_MELTON, IN_THE_CITY
from tests.builders.referrals import GP, a_bradgate_referral, a_referral, a_ward_referral
from tests.router.story import Story

TRIAGE, HOSPITAL, BRADGATE = "triage", "hospital-housing", "hospital-housing-bradgate"
LOCALITIES = {"blaby", "charnwood", "melton"}
HOSPITALS = {HOSPITAL, BRADGATE}
OF_GENERAL, OF_RESTRICTED = Reference("LB-GENE-0000-0004"), Reference("LB-REST-0000-0005")
LISTED = HospitalStay(site="Loughborough Hospital", ward="Sandpiper Ward")

Step = tuple[Any, ...]

steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("message"),
            st.sampled_from([OF_GENERAL, OF_RESTRICTED]),
            st.sampled_from(["none", "stay", "discharged", "listed"]),
            st.sampled_from([(), ("one",), ("one", "two"), ("two",)]),
            st.sampled_from([AT_CHARNWOOD, AT_MELTON, IN_THE_CITY, None]),
        ),
        st.tuples(st.just("practice"), st.sampled_from([AT_CHARNWOOD, AT_MELTON])),
        st.tuples(st.just("cancel"), st.sampled_from([OF_GENERAL, OF_RESTRICTED])),
        st.tuples(
            st.just("command"),
            st.sampled_from([TRIAGE, HOSPITAL, BRADGATE, *sorted(LOCALITIES)]),
            st.sampled_from(
                [
                    (Accept, {}),
                    (Assign, {"to_hub": "melton"}),
                    (Transfer, {"to_hub": "blaby"}),
                    (Transfer, {"to_hub": HOSPITAL}),
                    (MarkRead, {"reference": OF_GENERAL}),
                    (MarkRead, {"reference": OF_RESTRICTED}),
                    (MarkRead, {"reference": OF_GENERAL, "needs": ("handyperson",)}),
                ]
            ),
        ),
    ),
    min_size=1,
    max_size=12,
)


def message(reference: Reference, kind: str, parts: tuple[str, ...], postcode: str | None, text: str) -> Referral:
    """Return a referral of a trust; `text` stands in every part."""
    given: dict[str, Any] = {
        "to_be_read": tuple(UnreadPart(place=f"OBX-5.{p}", kind="value", text=f"{text} {p}") for p in parts)
    }
    if kind == "none":
        given["hospital"] = None
    if kind == "listed":
        given["hospital"] = LISTED
    if kind == "discharged":
        given["discharged_on"] = TODAY
    if reference == OF_RESTRICTED:
        return a_bradgate_referral(**given)
    return a_ward_referral(postcode=postcode, **given)


def played(schedule: list[Step], general: str, restricted: str) -> Story:
    """Play a schedule in which the unread parts of each trust have these texts."""
    story, versions = Story(), dict.fromkeys([GP, OF_GENERAL, OF_RESTRICTED], 0)
    for step in schedule:
        match step:
            case ("message", reference, kind, parts, postcode):
                versions[reference] += 1
                text = restricted if reference == OF_RESTRICTED else general
                event = received if versions[reference] == 1 else updated
                story.when(event(reference, message(reference, kind, parts, postcode, text), versions[reference]))
            case ("practice", postcode):
                versions[GP] += 1
                story.when(updated(GP, a_referral(postcode=postcode), versions[GP]))
            case ("cancel", reference) if versions[reference]:
                versions[reference] += 1
                story.when(cancelled(reference, versions[reference]))
            case ("command", hub, (command, data)):
                story.commanded(hub, command, **data)
    return story


def read_by(story: Story, hub: str) -> list[str]:
    return [event.model_dump_json() for event in story.sent_to(hub, ever=True)]


def heard(story: Story) -> list[str]:
    """Return all that feedback may be composed from."""
    return [
        context.model_dump_json()
        for one in story.all_emitted
        if isinstance(one, EmittedEvent)
        for context in one.data.referral_contexts
    ]


@settings(max_examples=100, deadline=None)
@any_of(steps)
def test_only_hospital_teams_learn_what_a_trust_with_a_restricted_unit_wrote(schedule: list[Step]) -> None:
    one, other = (played(schedule, "same", text) for text in ("first", "second"))

    for hub in {TRIAGE, *LOCALITIES}:
        assert read_by(one, hub) == read_by(other, hub)
    assert heard(one) == heard(other)


@settings(max_examples=100, deadline=None)
@any_of(steps)
def test_before_it_is_read_only_the_restricted_team_learns_it(schedule: list[Step]) -> None:
    unread = [step for step in schedule if step[0] != "command" or step[2][1].get("reference") != OF_RESTRICTED]
    one, other = (played(unread, "same", text) for text in ("first", "second"))

    assert read_by(one, HOSPITAL) == read_by(other, HOSPITAL)


@settings(max_examples=100, deadline=None)
@any_of(steps)
def test_no_home_hub_learns_it_before_it_is_read_unless_it_has_accepted_the_case(schedule: list[Step]) -> None:
    unread = [
        step
        for step in schedule
        if step[0] != "command" or (step[2][0] is not MarkRead and not (step[1] in LOCALITIES and step[2][0] is Accept))
    ]
    not_placed = [step for step in unread if step[0] != "command" or step[2][0] is Accept]
    one, other = (played(not_placed, text, "same") for text in ("first", "second"))

    for hub in LOCALITIES:
        assert read_by(one, hub) == read_by(other, hub)
    assert heard(one) == heard(other)


@settings(max_examples=100, deadline=None)
@any_of(steps)
def test_whoever_is_asked_to_read_sees_the_part_and_may_mark_it_as_read(schedule: list[Step]) -> None:
    story = played(schedule, "general", "restricted")
    for record in story.state.referrals.values():
        case = story.state.cases[record.case_id]
        reader = case.part_of(record).hub
        if not record.is_open or not record.unread or reader is None:
            continue
        seen = rebuilt_from(story.all_emitted)[reader][case.case_id].referrals[record.reference]
        assert seen["referral"]["to_be_read"]
        story.commanded(reader, MarkRead, case=case, reference=record.reference)
        assert story.refused is None, story.refused
        assert story.referral(record.reference).unread == ()


@settings(max_examples=100, deadline=None)
@any_of(steps)
def test_no_locality_hub_holds_a_case_with_an_unread_referral_unless_a_person_placed_it(schedule: list[Step]) -> None:
    story = played(schedule, "general", "restricted")
    for record in story.state.referrals.values():
        part = story.state.cases[record.case_id].part_of(record)
        if record.is_open and record.unread and part.hub in LOCALITIES:
            assert part.assigned_by_person
            assert record.reference != OF_RESTRICTED


@pytest.mark.parametrize("kind", ["none", "stay", "listed"])
def test_the_schedules_reach_what_they_test(kind: str) -> None:
    story = played([("message", OF_RESTRICTED, kind, ("one",), None)], "general", "restricted")
    assert "restricted one" in "".join(read_by(story, BRADGATE))
    story = played([("message", OF_GENERAL, kind, ("one",), None)], "general", "restricted")
    assert "general one" in "".join(read_by(story, TRIAGE))
