"""A referral with parts that no rule understands waits for a person, who marks it as read; then it is routed."""

from itertools import permutations
from typing import Any

import pytest

from schemas.case import BusinessStatus, CaseStatus, Pathway, RoutingReason, TaskKind
from schemas.events import Accept, Assign, MarkRead, Reject, TaskRaised, Transfer
from schemas.referral import HospitalStay, Organisation, Referral, Referrer, Sender, UnreadPart
from services.notifier import compose
from services.router.decide.assignment import Request, assign
from services.router.decide.lifecycle import EmittedEvent
from tests.builders.events import TODAY, an_event, cancelled, received, updated
from tests.builders.reference_data import AT_CHARNWOOD, DIRECTORY, IN_THE_CITY, POSTCODES
from tests.builders.referrals import (
    FORM,
    GP,
    PART,
    WARD,
    a_bradgate_referral,
    a_referral,
    a_ward_referral,
)
from tests.notifier.builders import the_recipients, the_words
from tests.router.story import Story, everything, given

TRIAGE, HOSPITAL, BRADGATE = "triage", "hospital-housing", "hospital-housing-bradgate"
OTHER = UnreadPart(place="OBX-5", kind="code-invalid", text="Cannot manage the stairs")


def of_the_trust(*services: str, **given_: Any) -> Referral:
    """Return a referral by a hospital of a person who is not in hospital, with a part to be read."""
    return a_ward_referral(*services, **{"hospital": None, "to_be_read": (PART,), **given_})


def of_a_ward(*services: str, **given_: Any) -> Referral:
    return a_ward_referral(*services, **{"to_be_read": (PART,), **given_})


def of_the_unit(*services: str, **given_: Any) -> Referral:
    return a_bradgate_referral(*services, **{"to_be_read": (PART,), **given_})


def listed(**given_: Any) -> Referral:
    """Return a stay on a listed ward of the trust with the restricted unit."""
    return of_the_unit(hospital=HospitalStay(site="Loughborough Hospital", ward="Sandpiper Ward"), **given_)


def asked(story: Story, hub: str) -> list[str | None]:
    """Return the referrals that a hub was asked to read by the last call."""
    events = story.sent_to(hub)
    return [e.about for e in events if isinstance(e, TaskRaised) and e.kind is TaskKind.READ_MESSAGE]


def parts_sent(story: Story, hub: str) -> list[UnreadPart]:
    return [
        part for event in story.sent_to(hub, ever=True) for one in event.referrals for part in one.referral.to_be_read
    ]


# ---- who reads ------------------------------------------------------------------------------------------------------

WHO_READS = {
    "a hospital's referral of a person at home": (of_the_trust(), TRIAGE, "First Contact Plus", Pathway.TRIAGE),
    "a stay": (of_a_ward(), TRIAGE, "First Contact Plus", Pathway.TRIAGE),
    "a discharge": (of_a_ward(discharged_on=TODAY), TRIAGE, "First Contact Plus", Pathway.TRIAGE),
    "a person from the city": (of_the_trust(postcode=IN_THE_CITY), TRIAGE, "First Contact Plus", Pathway.TRIAGE),
    "an onward need": (of_the_trust("blue-badge"), TRIAGE, "First Contact Plus", Pathway.TRIAGE),
    "a stay at the restricted unit": (of_the_unit(), BRADGATE, None, Pathway.HOSPITAL),
    "a listed ward of its trust": (listed(), BRADGATE, None, Pathway.HOSPITAL),
    "a person at home, by its trust": (of_the_unit(hospital=None), BRADGATE, None, Pathway.HOSPITAL),
    "a discharge by its trust": (of_the_unit(discharged_on=TODAY), BRADGATE, None, Pathway.HOSPITAL),
}


@pytest.mark.parametrize(("referral", "hub", "desk", "pathway"), WHO_READS.values(), ids=WHO_READS)
def test_the_desk_of_its_way_in_or_the_restricted_team_alone_reads(
    referral: Referral, hub: str, desk: str | None, pathway: Pathway
) -> None:
    story = given(received(WARD, referral))

    position = story.event("opened").case
    assert (position.holder, position.worklist, position.pathway) == (hub, desk, pathway)
    assert RoutingReason.TO_BE_READ in position.reasons
    assert (position.business_status is BusinessStatus.TRIAGE) is (hub == TRIAGE)
    assert {to for one in story.all_emitted for to, _ in one.hubs} == {hub}  # type: ignore[union-attr]
    assert asked(story, hub) == [WARD]
    assert parts_sent(story, hub)


def test_the_desk_is_that_of_the_referral_to_be_read() -> None:
    by_the_centre = Sender(partner="customer-service", organisation=Organisation(name="Customer Service Centre"))
    first = of_the_trust(sent_by=by_the_centre, referred_by=Referrer(kind="self"), to_be_read=())
    request = [Request.of(GP, first), Request.of(WARD, of_the_trust())]

    for order in permutations(request):
        found = assign(order, DIRECTORY, POSTCODES, TODAY)
        assert (found.holder, found.worklist) == (TRIAGE, "First Contact Plus")


def test_no_home_hub_is_named_to_its_referrer_until_it_is_read() -> None:
    story = given(received(WARD, of_the_trust()))

    assert [(name, one.home_hub, one.reasons) for name, one in story.concerns(WARD)] == [("opened", None, ())]
    story.commanded(TRIAGE, MarkRead, reference=WARD)
    assert [(name, one.home_hub) for name, one in story.concerns(WARD)] == [("updated", "blaby"), ("assigned", "blaby")]


def test_its_referrer_is_sent_received_and_the_home_hub_after_it_was_read() -> None:
    story = given(received(WARD, of_the_trust()))
    assert fed_back(story) == ["received"]

    story.commanded(TRIAGE, MarkRead, reference=WARD)
    assert fed_back(story) == ["home-hub"]
    assert fed_back(story.commanded("blaby", Accept)) == ["accepted"]


def fed_back(story: Story) -> list[str]:
    """Return the types of the feedback that the last call causes."""
    recipients, texts = the_recipients(), the_words()
    events = [an_event(one.data) for one in story.emitted if isinstance(one, EmittedEvent)]
    return [str(one.feedback_type) for event in events for one in compose.compose(event, recipients, texts)]


# ---- mark-read ------------------------------------------------------------------------------------------------------

RELEASED = {
    "to the home hub": (of_the_trust(), TRIAGE, "blaby", Pathway.HOUSING_MOT),
    "to the hospital team": (of_a_ward(), TRIAGE, HOSPITAL, Pathway.HOSPITAL),
    "to the home hub after a discharge": (of_a_ward(discharged_on=TODAY), TRIAGE, "blaby", Pathway.HOUSING_MOT),
    "to the restricted unit": (of_the_unit(), BRADGATE, BRADGATE, Pathway.HOSPITAL),
    "to the team of a listed ward": (listed(), BRADGATE, HOSPITAL, Pathway.HOSPITAL),
    "from the restricted team to the home hub": (of_the_unit(hospital=None), BRADGATE, "blaby", Pathway.HOUSING_MOT),
}


@pytest.mark.parametrize(("referral", "by", "holder", "pathway"), RELEASED.values(), ids=RELEASED)
def test_a_referral_that_is_read_is_routed_by_the_rules(
    referral: Referral, by: str, holder: str, pathway: Pathway
) -> None:
    story = given(received(WARD, referral)).commanded(by, MarkRead, reference=WARD)

    assert story.refused is None
    assert (story.case.holding.hub, story.case.holding.pathway) == (holder, pathway)
    assert RoutingReason.TO_BE_READ not in story.case.holding.reasons
    assert story.sent_to(by)[-1].role == ("holder" if by == holder else "former")


def test_a_person_from_the_city_is_returned_only_when_it_is_read() -> None:
    story = given(received(WARD, of_the_trust(postcode=IN_THE_CITY)))
    assert story.referral(WARD).is_open

    story.commanded(TRIAGE, MarkRead, reference=WARD)
    assert story.event("rejected").refer_to == "leicester-city"  # type: ignore[attr-defined]


def test_the_home_hub_receives_the_needs_as_corrected_and_what_the_sender_wrote() -> None:
    story = given(received(WARD, of_the_trust("home-safety")))
    story.commanded(TRIAGE, MarkRead, reference=WARD, needs=("home-safety", "disabled-facilities-grant"))

    (one,) = story.sent_to("blaby")[-1].referrals
    assert one.open_needs == ("home-safety", "disabled-facilities-grant")
    assert [need.service for need in one.referral.needs] == ["home-safety", "disabled-facilities-grant"]
    assert one.referral.to_be_read == (PART,)


def test_corrected_needs_decide_the_routing() -> None:
    story = given(received(WARD, of_the_trust())).commanded(TRIAGE, MarkRead, reference=WARD, needs=("blue-badge",))

    assert (story.case.home.hub, story.case.home.reasons[-1]) == (TRIAGE, RoutingReason.ONWARD_ONLY)


@pytest.mark.parametrize(
    ("again", "open_needs"),
    [
        (of_the_trust("home-safety"), ("handyperson",)),
        (of_the_trust("home-safety", to_be_read=()), ("handyperson",)),
        (of_the_trust("home-safety", "hoarding"), ("hoarding", "handyperson")),
        (of_the_trust("hoarding", to_be_read=()), ("hoarding",)),
    ],
)
def test_a_correction_stays_while_the_sender_states_the_same_needs_or_the_same_part(
    again: Referral, open_needs: tuple[str, ...]
) -> None:
    story = given(received(WARD, of_the_trust("home-safety")))
    story.commanded(TRIAGE, MarkRead, reference=WARD, needs=("handyperson",)).when(updated(WARD, again))

    assert story.referral(WARD).open_needs == open_needs
    assert story.case.home.hub == "blaby"


def test_a_second_correction_replaces_the_first() -> None:
    story = given(received(WARD, of_the_trust("home-safety")))
    story.commanded(TRIAGE, MarkRead, reference=WARD, needs=("handyperson",))
    story.when(updated(WARD, of_the_trust("home-safety", to_be_read=(PART, OTHER))))
    story.commanded(TRIAGE, MarkRead, reference=WARD, needs=("home-safety", "hoarding"))

    story.when(updated(WARD, of_the_trust("home-safety", to_be_read=(OTHER,)), version=3))
    assert story.referral(WARD).open_needs == ("home-safety", "hoarding")


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ({"reference": GP}, "impossible"),
        ({"reference": FORM}, "unknown-need"),
        ({"reference": WARD, "needs": ("stair-lifts",)}, "unknown-service"),
        ({"reference": WARD, "on": 9}, "impossible"),
    ],
)
def test_a_command_that_does_not_fit_is_refused_in_words(command: dict[str, Any], reason: str) -> None:
    story = given(received(GP, a_referral()), received(WARD, of_the_trust()))
    before = story.state
    story.commanded(TRIAGE, MarkRead, **command)

    assert story.refused is not None
    assert story.refused.reason == reason
    assert len(story.refused.explanation) > 20
    assert story.state is before


def test_only_the_hub_that_has_the_case_can_mark_it_as_read() -> None:
    story = given(received(WARD, of_the_trust()))
    assert story.commanded("blaby", MarkRead, reference=WARD).refused.reason == "unknown-case"  # type: ignore[union-attr]

    story.when(updated(WARD, of_the_trust(to_be_read=(PART, OTHER))))
    assert story.commanded(TRIAGE, MarkRead, reference=WARD).refused is None
    assert story.commanded("blaby", MarkRead, reference=WARD).refused.reason == "impossible"  # type: ignore[union-attr]


def test_needs_that_have_all_ended_are_refused() -> None:
    story = given(received(WARD, of_the_trust("home-safety", "hoarding")))
    story.commanded(TRIAGE, Reject, ended=everything({WARD: ["hoarding"]}), reason="not-eligible")
    story.commanded(TRIAGE, MarkRead, reference=WARD, needs=("hoarding",))

    assert story.refused is not None
    assert story.refused.reason == "unknown-need"


@pytest.mark.parametrize("command", [(Accept, {}), (Assign, {"to_hub": "melton"}), (Transfer, {"to_hub": "melton"})])
def test_nothing_is_accepted_or_moved_before_it_is_read(command: tuple[Any, dict[str, Any]]) -> None:
    story = given(received(WARD, of_the_trust()))
    story.commanded(TRIAGE, command[0], **command[1])

    assert story.refused is not None
    assert "mark-read" in story.refused.explanation


# ---- updates --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["RF1-2", "RF1[2]-2", "RF1-2(3)"])
def test_an_update_with_the_same_part_does_not_go_back_and_one_with_another_part_does(place: str) -> None:
    story = given(received(WARD, of_the_trust())).commanded(TRIAGE, MarkRead, reference=WARD)
    same = PART.model_copy(update={"place": place})

    story.when(updated(WARD, of_the_trust(to_be_read=(same,), priority="urgent")))
    assert (story.case.home.hub, story.event_names) == ("blaby", ["updated"])
    story.when(updated(WARD, of_the_trust(to_be_read=(same, OTHER)), version=3))
    assert (story.case.home.hub, asked(story, TRIAGE)) == (TRIAGE, [WARD])
    assert OTHER not in parts_sent(story, "blaby")


def test_a_second_part_like_one_that_was_read_is_read_too() -> None:
    """Such as another document that cannot be decoded."""
    document = UnreadPart(place="OBX-5.5", kind="value")
    story = given(received(WARD, of_the_trust(to_be_read=(document,)))).commanded(TRIAGE, MarkRead, reference=WARD)

    second = UnreadPart(place="OBX[2]-5.5", kind="value")
    story.when(updated(WARD, of_the_trust(to_be_read=(document, second))))
    assert (story.case.home.hub, asked(story, TRIAGE)) == (TRIAGE, [WARD])
    story.commanded(TRIAGE, MarkRead, reference=WARD).when(updated(WARD, of_the_trust(to_be_read=(second,)), version=3))
    assert story.case.home.hub == "blaby"


def test_an_update_without_the_part_is_routed_without_a_person() -> None:
    story = given(received(WARD, of_the_trust())).when(updated(WARD, of_the_trust(to_be_read=())))

    assert (story.case.home.hub, story.case.home.pathway) == ("blaby", Pathway.HOUSING_MOT)


def test_a_case_that_no_hub_has_accepted_goes_to_triage_with_the_referral_that_joins_it() -> None:
    story = given(received(GP, a_referral())).when(received(WARD, of_the_trust(postcode=AT_CHARNWOOD)))

    assert (story.case.home.hub, story.case.stay) == (TRIAGE, None)
    assert story.concerns(GP) == []
    story.commanded(TRIAGE, MarkRead, reference=WARD)
    assert story.case.home.hub == "blaby"


def test_an_accepted_case_does_not_move_and_its_holder_reads() -> None:
    story = given(received(GP, a_referral())).commanded("blaby", Accept)
    story.when(received(WARD, of_the_trust(postcode=AT_CHARNWOOD)))

    assert (story.case.home.hub, asked(story, "blaby"), story.sent_to(TRIAGE)) == ("blaby", [WARD], [])
    assert PART in parts_sent(story, "blaby")
    story.commanded("blaby", MarkRead, reference=WARD, needs=("handyperson",))
    assert (story.case.home.hub, story.referral(WARD).open_needs) == ("blaby", ("handyperson",))
    assert story.commanded("blaby", Accept).refused is None


def test_the_authority_that_the_person_named_gets_an_accepted_case_when_the_referral_is_read() -> None:
    story = given(received(GP, a_referral())).commanded("blaby", Accept)
    story.when(received(WARD, of_the_trust(named_authority="E07000130")))
    assert (story.case.home.hub, story.referral(WARD).home_hub) == ("blaby", None)

    story.commanded("blaby", MarkRead, reference=WARD)
    assert (story.case.home.hub, story.referral(WARD).home_hub, story.event_names[-1]) == (
        "charnwood",
        "charnwood",
        "transferred",
    )
    assert story.referral(GP).home_hub == "charnwood"


def test_a_referral_that_joins_an_accepted_case_is_told_its_hub_when_it_is_read() -> None:
    story = given(received(GP, a_referral())).commanded("blaby", Accept)
    story.when(received(WARD, of_the_trust(postcode=AT_CHARNWOOD)))
    assert {one.home_hub for _, one in story.concerns(WARD)} == {None}

    story.commanded("blaby", MarkRead, reference=WARD)
    assert [one.home_hub for name, one in story.concerns(WARD) if name == "assigned"] == ["blaby"]


def test_an_update_of_an_accepted_referral_is_a_task_and_ends_with_it() -> None:
    story = given(received(WARD, of_the_trust(to_be_read=()))).commanded("blaby", Accept)
    story.when(updated(WARD, of_the_trust()))

    assert (story.case.home.hub, story.case.home.status, asked(story, "blaby")) == (
        "blaby",
        CaseStatus.ACCEPTED,
        [WARD],
    )
    assert asked(story.when(updated(WARD, of_the_trust(priority="urgent"), version=3)), "blaby") == []
    assert asked(story.when(cancelled(WARD, version=4)), "blaby") == []


def test_a_stay_that_the_team_has_accepted_is_handed_over_when_the_team_has_read() -> None:
    story = given(received(WARD, a_ward_referral())).commanded(HOSPITAL, Accept)
    story.when(updated(WARD, of_a_ward(discharged_on=TODAY)))

    assert (story.case.holding.hub, asked(story, HOSPITAL)) == (HOSPITAL, [WARD])
    assert parts_sent(story, "blaby") == []
    story.commanded(HOSPITAL, MarkRead, reference=WARD)
    assert (story.case.holding.hub, story.case.stay) == ("blaby", None)


def test_a_stay_joins_an_accepted_case_with_the_hospital_team_which_reads() -> None:
    story = given(received(GP, a_referral())).commanded("blaby", Accept).when(received(WARD, of_a_ward()))

    assert (story.case.holding.hub, story.case.home.hub) == (HOSPITAL, "blaby")
    assert (asked(story, HOSPITAL), asked(story, "blaby"), parts_sent(story, "blaby")) == ([WARD], [], [])


def test_during_a_stay_triage_reads_what_is_not_of_the_stay_and_sees_nothing_of_it() -> None:
    story = given(received(WARD, a_bradgate_referral())).when(received(FORM, of_the_trust()))

    assert (story.case.holding.hub, story.case.home.hub) == (BRADGATE, TRIAGE)
    assert asked(story, TRIAGE) == [FORM]
    assert {one.reference for event in story.sent_to(TRIAGE, ever=True) for one in event.referrals} == {FORM}
    story.commanded(TRIAGE, MarkRead, reference=FORM)
    assert (story.case.holding.hub, story.case.home.hub) == (BRADGATE, "blaby")


def test_after_a_hand_over_the_holder_sees_what_it_has_to_read_and_nothing_that_was_read_during_the_stay() -> None:
    story = given(received(WARD, of_a_ward())).commanded(TRIAGE, MarkRead, reference=WARD)
    story.when(updated(WARD, of_a_ward(discharged_on=TODAY))).commanded("blaby", Accept)
    assert (story.case.holding.hub, parts_sent(story, "blaby")) == ("blaby", [])

    story.when(updated(WARD, of_a_ward(discharged_on=TODAY, to_be_read=(OTHER,)), version=3))
    assert (asked(story, "blaby"), set(parts_sent(story, "blaby"))) == ([WARD], {OTHER})


# ---- the restricted unit --------------------------------------------------------------------------------------------


def test_what_the_units_trust_sends_for_an_accepted_case_is_read_by_the_restricted_team() -> None:
    story = given(received(GP, a_referral())).commanded("blaby", Accept)
    story.when(received(WARD, of_the_unit(hospital=None)))

    assert (story.case.holding.hub, story.case.home.hub, asked(story, BRADGATE)) == (BRADGATE, "blaby", [WARD])
    story.commanded(BRADGATE, MarkRead, reference=WARD)
    assert (story.case.holding.hub, story.case.home.status) == ("blaby", CaseStatus.ACCEPTED)
    assert parts_sent(story, "blaby") == []
    assert "BRADGATE" not in repr(story.sent_to("blaby", ever=True)).upper()


@pytest.mark.parametrize("accepted", [True, False])
def test_after_the_hand_over_of_a_restricted_stay_its_team_reads_and_the_home_hub_is_not_asked(accepted: bool) -> None:
    story = given(received(WARD, a_bradgate_referral()), updated(WARD, a_bradgate_referral(discharged_on=TODAY)))
    if accepted:
        story.commanded("blaby", Accept)
    story.when(updated(WARD, of_the_unit(discharged_on=TODAY), version=3))

    assert (story.case.holding.hub, asked(story, BRADGATE), asked(story, "blaby")) == (BRADGATE, [WARD], [])
    story.commanded(BRADGATE, MarkRead, reference=WARD)
    assert (story.case.holding.hub, story.case.home.accepted) == ("blaby", accepted)
    assert parts_sent(story, "blaby") == []


def test_a_stay_that_the_restricted_team_transferred_stays_transferred_when_it_has_read() -> None:
    story = given(received(WARD, a_bradgate_referral())).commanded(BRADGATE, Transfer, to_hub="melton")
    story.when(updated(WARD, of_the_unit()))
    assert story.case.holding.hub == BRADGATE

    story.commanded(BRADGATE, MarkRead, reference=WARD)
    assert (story.case.holding.hub, story.case.stay) == ("melton", None)
